"""Calls leave soon after their decision, or not at all: one that slept does not send what another has sent since."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import pytest

from brokers.venue import LEAVE_BY_S, Lost, NewOrder, NotSent, Refused
from bus import clock
from gtt.book.facts import What
from gtt.calls import Calls, Moment
from gtt.desk.effects import Down, Gone, Nothing, Outcome, Took, Write
from schemas.orders import OrderType, Product, Side, TradingMode, Validity
from tests.gtt.fake import KEY, World

PAPER = TradingMode.PAPER
ORDER = NewOrder("tj1", KEY, Side.BUY, 1, Product.INTRADAY, OrderType.LIMIT, Decimal(1), Decimal(0), Validity.DAY)
ROOT = Path(__file__).resolve().parents[2]
LEAVE_S = 2.0
_PAUSE_S = 0.35


def a_write(what: What = What.PLACE, **more: Any) -> Write:
    about: dict[str, Any] = {"order_id": "tj1", "venue_id": "V1", "order": ORDER}
    return Write(PAPER, what, 1, **{"reduces": False, "decided_ts": 0, "not_after_ts": 0, **about, **more})


class Venue:
    """`says`: an error, or how long it takes."""

    def __init__(self, says: Exception | float = 0.0) -> None:
        self.says = says
        self.asked: list[str] = []
        self.leave_by_s = inf

    async def _answer(self, what: str) -> str:
        self.asked.append(what)
        self.leave_by_s = LEAVE_BY_S.get()
        if isinstance(self.says, Exception):
            raise self.says
        await asyncio.sleep(self.says)
        return "V1"

    async def place(self, order: NewOrder) -> str:
        return await self._answer(f"place {order.order_id}")

    async def cancel(self, venue_order_id: str) -> None:
        await self._answer(f"cancel {venue_order_id}")


class Told:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def called(self, _: Write, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def failed(self, bug: BaseException) -> None:
        raise bug

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


async def outcome_of(venue: Venue, write: Write, decided: Moment, *, timeout_s: float = 5.0) -> Outcome:
    told = Told()
    calls = Calls({PAPER: venue}, timeout_s, told, leave_s=LEAVE_S)  # type: ignore[dict-item]
    calls.perform([write], decided)
    await calls.settled(10)
    (outcome,) = told.outcomes
    return outcome


def ago(monotonic_s: float, ms: int) -> Moment:
    return Moment(clock.monotonic_s() - monotonic_s, clock.now_ms() - ms)


@pytest.mark.parametrize("what", [What.PLACE, What.CANCEL])
@pytest.mark.parametrize("reduces", [True, False])
async def test_what_was_decided_just_now_leaves_and_knows_until_when_it_may(what: What, reduces: bool) -> None:
    venue, decided = Venue(), Moment.now()
    assert isinstance(await outcome_of(venue, a_write(what, reduces=reduces), decided), Took)
    assert len(venue.asked) == 1
    assert venue.leave_by_s == decided.monotonic_s + LEAVE_S
    assert LEAVE_BY_S.get() == inf  # of that call alone


@pytest.mark.parametrize("what", [What.PLACE, What.CANCEL])
@pytest.mark.parametrize("reduces", [True, False])
@pytest.mark.parametrize("slept", [(LEAVE_S + 0.1, 0), (0.0, int(LEAVE_S * 1000) + 100)])
async def test_what_was_decided_too_long_ago_by_either_clock_does_not_leave(
    what: What, reduces: bool, slept: tuple[float, int]
) -> None:
    venue = Venue()
    outcome = await outcome_of(venue, a_write(what, reduces=reduces), ago(*slept))
    assert isinstance(outcome, Nothing)
    assert outcome.again_s == 0
    assert not venue.asked


async def test_an_entry_that_is_too_old_by_its_own_terms_does_not_leave() -> None:
    venue = Venue()
    assert isinstance(await outcome_of(venue, a_write(not_after_ts=clock.now_ms() - 1), Moment.now()), Nothing)
    assert not venue.asked


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (Refused("E", "no"), Down("E", "no")),
        (NotSent("away", again_s=2), Nothing("away", 2)),
        (Lost("gone"), Gone("gone")),
    ],
)
async def test_each_ending_is_told_as_what_it_is(says: Exception, outcome: Outcome) -> None:
    assert await outcome_of(Venue(says), a_write(), Moment.now()) == outcome


async def test_without_an_answer_nobody_knows() -> None:
    outcome = await outcome_of(Venue(30.0), a_write(), Moment.now(), timeout_s=-0.95)
    assert isinstance(outcome, Gone)


def test_what_did_not_leave_is_decided_anew_and_leaves_once(tmp_path: Path) -> None:
    late = [True]
    world = World(tmp_path)
    arrive = world._arrive
    world._arrive = lambda write: Nothing("late", 0.0) if late and late.pop() else arrive(write)  # type: ignore[method-assign]
    world.go(300)
    world.buy("a", 5)
    world.go(500)
    assert len(world.exchange.placed) == 1
    world.settled()


# A process that is paused


@contextlib.asynccontextmanager
async def a_venue(requests: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"status":"success","data":{"order_ids":["V1"]}}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_process_that_was_paused_after_its_decision_sends_nothing_when_it_wakes() -> None:
    requests: list[bytes] = []
    async with a_venue(requests) as port, asyncio.timeout(30):
        said = await _paused(port)
    assert said == ["Nothing", "Took"] * 2  # paused for longer than 0.3 s, and than 60 s
    assert len(requests) == 2


async def _paused(port: int) -> list[str]:
    """What the process says became of its requests. Each time it stops, it is left so for a while."""
    program = [str(ROOT / "tests/gtt/paused_main.py"), str(port)]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *program, stdout=PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    said: list[str] = []
    assert child.stdout is not None
    async for line in child.stdout:
        if line == b"stopped\n":
            await asyncio.sleep(_PAUSE_S)  # what is tested is that this time passes
            child.send_signal(signal.SIGCONT)
        elif line.startswith(b"so: "):
            said.append(line.decode().split()[1])
    assert await child.wait() == 0
    return said
