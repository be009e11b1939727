"""Real processes, none longer than they have to be."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teji import child as module
from teji.child import BACKOFF_MAX_S, LIVED_WELL_S, Child, Program, backoff_s, ended, lines

PATIENT = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('up', flush=True)\n"
WAITS = PATIENT + "time.sleep(60)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"


class Seen:
    """What a child said, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.deaths: list[str] = []
        self._news = asyncio.Event()

    def line(self, _: str, text: str) -> None:
        self.lines.append(text)
        self._news.set()

    def death(self, text: str) -> None:
        self.deaths.append(text)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(code: str, folder: Path) -> AsyncIterator[tuple[Child, Seen, "asyncio.Task[None]"]]:
    seen = Seen()
    child = Child(Program("worker", [sys.executable, "-c", code], {}, folder), seen.line, seen.death)
    task = asyncio.create_task(child.run())
    try:
        yield child, seen, task
    finally:
        child.terminate()
        child.kill()
        await task


async def test_its_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(3): print('line', n, flush=True)\nsys.stderr.write('no end')"
    async with running(code, tmp_path) as (_, seen, _):
        await seen.until(lambda: len(seen.deaths) == 1)
        assert seen.lines == ["line 0", "line 1", "line 2", "no end"]


async def test_a_dead_one_is_started_again_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.001)
    async with running("raise SystemExit(3)", tmp_path) as (child, seen, _):
        await seen.until(lambda: child.starts >= 3)
        assert seen.deaths[0] == "worker ended with code 3; starting it again in 0.001 s"
        assert seen.deaths[1].endswith("in 0.002 s")


async def test_one_that_a_signal_ended_is_said_to_be(tmp_path: Path) -> None:
    async with running(WAITS, tmp_path) as (child, seen, _):
        await seen.until(lambda: bool(seen.lines))
        child.kill()
        await seen.until(lambda: bool(seen.deaths))
        assert "was ended by SIGKILL" in seen.deaths[0]


async def test_one_that_is_asked_to_finish_does_and_stays_dead(tmp_path: Path) -> None:
    async with running(WAITS, tmp_path) as (child, seen, task):
        await seen.until(lambda: bool(seen.lines))
        child.terminate()
        await asyncio.wait_for(task, 30)
        assert child.pid is None
        assert (child.starts, seen.deaths) == (1, [])


async def test_one_that_waits_to_be_started_again_stops_at_once(tmp_path: Path) -> None:
    async with running("raise SystemExit(1)", tmp_path) as (child, seen, task):
        await seen.until(lambda: bool(seen.deaths))
        child.terminate()
        await asyncio.wait_for(task, 30)
        assert child.starts == 1


async def test_a_deaf_one_is_killed(tmp_path: Path) -> None:
    async with running(DEAF, tmp_path) as (child, seen, task):
        await seen.until(lambda: bool(seen.lines))
        child.terminate()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        child.kill()
        await asyncio.wait_for(task, 30)


async def test_ctrl_c_for_the_supervisors_group_does_not_reach_it(tmp_path: Path) -> None:
    code = "import os\nprint(os.getpgid(0) == os.getpid())"
    async with running(code, tmp_path) as (_, seen, _):
        await seen.until(lambda: bool(seen.lines))
        assert seen.lines == ["True"]


async def test_its_input_is_open_as_long_as_the_supervisor_lives(tmp_path: Path) -> None:
    code = "import select, sys\nprint(select.select([sys.stdin], [], [], 0.2)[0])"
    async with running(code, tmp_path) as (_, seen, _):
        await seen.until(lambda: bool(seen.lines))
        assert seen.lines == ["[]"]


@given(st.lists(st.floats(0, LIVED_WELL_S - 1), min_size=8, max_size=20))
def test_the_wait_doubles_up_to_its_limit_while_it_keeps_dying(lives: list[float]) -> None:
    waits = [0.0]
    for lived_s in lives:
        waits.append(backoff_s(waits[-1], lived_s))
    assert waits[1:8] == [0.5, 1, 2, 4, 8, 16, 30]
    assert all(wait == BACKOFF_MAX_S for wait in waits[8:])


def test_who_lived_well_starts_over_quickly() -> None:
    assert backoff_s(30.0, LIVED_WELL_S) == 0.5


def test_an_end_is_told_in_words() -> None:
    assert ended(0) == "ended with code 0"
    assert ended(-signal.SIGKILL) == "was ended by SIGKILL"


@given(st.binary(max_size=400), st.integers(1, 50))
async def test_lines_do_not_depend_on_how_the_bytes_arrive(content: bytes, size: int) -> None:
    async def read(pieces: list[bytes]) -> list[str]:
        stream = asyncio.StreamReader()
        for piece in pieces:
            stream.feed_data(piece)
        stream.feed_eof()
        return [line async for line in lines(stream)]

    whole = await read([content] if content else [])
    assert whole == await read([content[at : at + size] for at in range(0, len(content), size)])
    assert "\n".join(whole).count("\n") <= content.count(b"\n")


async def test_a_line_without_an_end_takes_no_memory_without_end() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"x" * 1_000_000)
    stream.feed_eof()
    found = [line async for line in lines(stream)]
    assert sum(map(len, found)) == 1_000_000
    assert max(map(len, found)) <= 3 * (1 << 16)
