"""The shell: one port, clocks that run by themselves, start and stop."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proto import feed_pb2 as pb
from schemas.errors import Misconfigured
from sim.clock import FastClock, ManualClock, ist, make
from sim.server import running, serve
from sim.settings import SimSettings
from tests.sim.simtools import NIFTY, feed, keys_of, served, settings, trader

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sim",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_the_process_says_where_it_is_and_ends_when_asked_to() -> None:
    async with process("--port", "0", "--instruments", "30") as started:
        assert started.stderr is not None
        async with asyncio.timeout(60):
            line = (await started.stderr.readline()).decode()
        assert "simulated exchange at http://127.0.0.1:" in line
        url = line.split(" at ")[1].split(",")[0]
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(f"{url}/v2/market/holidays")).status_code == 200
        started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await started.wait() == 0


async def test_a_port_in_use_is_one_sentence_and_exit_code_1() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        async with process("--port", port, "--instruments", "30") as started:
            async with asyncio.timeout(60):
                _, stderr = await started.communicate()
            assert started.returncode == 1
            assert stderr.decode().count("\n") == 1
            assert f"cannot listen on 127.0.0.1:{port}" in stderr.decode()


async def test_help_names_the_settings() -> None:
    async with process("--help") as started:
        stdout, _ = await started.communicate()
        assert started.returncode == 0
        assert {"--port", "--seed", "--clock", "--speed", "--conflation-ms"} <= set(stdout.decode().split())


async def test_serve_runs_until_it_is_stopped() -> None:
    stop, port = asyncio.Event(), free_port()
    serving = asyncio.create_task(serve(SimSettings(port=port, instruments=30), stop))
    async with httpx.AsyncClient(trust_env=False, verify=False) as client, asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/v2/market/holidays")
                break
    stop.set()
    await serving


async def test_two_exchanges_live_side_by_side() -> None:
    async with served() as one, served(seed=8) as two:
        assert one.url != two.url
        assert one.market.ltp.tolist() != two.market.ltp.tolist()


async def test_a_taken_port_is_misconfigured() -> None:
    async with served() as exchange:
        port = int(exchange.url.rpartition(":")[2])
        with pytest.raises(Misconfigured, match="cannot listen"):
            async with running(settings(port=port)):
                pass


@pytest.mark.parametrize("clock", ["open", "fast"])
async def test_a_running_clock_feeds_without_help(clock: str) -> None:
    start = "2026-11-20T11:00" if clock == "fast" else None
    async with (
        running(SimSettings(port=0, instruments=60, clock=clock, speed=50, start=start)) as exchange,
        trader(exchange) as client,
        feed(client) as opened,
    ):
        await opened.subscribe(keys_of(exchange))
        async with asyncio.timeout(60):
            frames = await opened.taken(5)
        times = [each.currentTs for each in frames]
        assert times == sorted(set(times))
        assert all((after - before) % 300 == 0 for before, after in itertools.pairwise(times))
        assert all(each.type == pb.Type.live_feed for each in frames)


async def test_a_market_that_fails_takes_its_user_along() -> None:
    async def used() -> None:
        async with running(SimSettings(port=0, instruments=30)) as exchange:
            exchange.market.next_end_ms = lambda: 1 // 0  # type: ignore[method-assign]
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await used()


async def test_an_error_of_the_user_is_the_users() -> None:
    with pytest.raises(KeyError):
        async with served():
            raise KeyError


async def test_only_a_manual_clock_is_moved_by_hand() -> None:
    async with running(SimSettings(port=0, instruments=30)) as exchange:
        with pytest.raises(TypeError):
            await exchange.advance(1)


async def test_small_steps_and_a_large_one_send_the_same_frames() -> None:
    sent = []
    for steps in (1, 60):
        async with served() as exchange, trader(exchange) as client, feed(client) as opened:
            await opened.subscribe([NIFTY])
            for _ in range(steps):
                await exchange.advance(6_000 // steps)
            sent.append([each.data for each in exchange.sent])
    assert sent[0] == sent[1]


def test_a_fast_clock_starts_where_it_is_told() -> None:
    clock = FastClock(1_795_167_000_000, 20)
    assert 0 <= clock.now_ms() - 1_795_167_000_000 < 20 * 60_000


def test_a_manual_clock_does_not_run_backwards() -> None:
    clock = ManualClock(10)
    clock.move_to(12)
    with pytest.raises(ValueError, match="backwards"):
        clock.move_to(11)


def test_a_start_without_a_zone_is_indian_time() -> None:
    assert (
        ist(make(SimSettings(clock="manual", start="2026-11-20T09:15")).now_ms()).isoformat()
        == "2026-11-20T09:15:00+05:30"
    )
    zoned = SimSettings(clock="manual", start="2026-11-20T03:45:00Z")
    assert ist(make(zoned).now_ms()).isoformat() == "2026-11-20T09:15:00+05:30"
