"""History asked for over HTTP, and what of it gets into the streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import date

import orjson
import pytest

import ingest.backfill
import ingest.plan
from bench.frames import START_MS, keys
from brokers.upstox.rest import Budget, Rest, http_client, path_part
from bus import clock
from bus.inbox import Published
from ingest.backfill import Backfill
from ingest.collector import Collector
from ingest.plan import Plan
from market import sessions
from proto import feed_pb2 as pb
from schemas.ticks import SessionClass
from tests.brokers.scripted import Answer, Scripted, scripted, success

MINUTE = 60_000
A, B = keys(2)
OPENED = START_MS  # 09:15
NOW = START_MS + 75 * MINUTE + 10_000


def path(key: str) -> str:
    return f"/v3/historical-candle/intraday/{path_part(key)}/minutes/1"


def candles(first: int = 0, last: int = 75) -> Answer:
    """09:15 plus so many minutes, newest first, as the venue sends them."""
    rows = [
        [f"2026-03-11T{9 + (15 + n) // 60:02}:{(15 + n) % 60:02}:00+05:30", 1, 2, 1, 2, n, 0]
        for n in range(first, last)
    ]
    return success({"candles": rows[::-1]})


@dataclass
class House:
    venue: Scripted
    collector: Collector
    backfill: Backfill

    def frame(self, ts: int = NOW) -> None:
        """A frame arrives: it tells the time."""
        frame = pb.FeedResponse(type=pb.Type.market_info, currentTs=ts)
        self.collector.take(frame.SerializeToString(), self.collector.frame_ns + 1, clock.monotonic_s())
        self.collector.flush()

    def learnt(self) -> dict[str, list[int]]:
        """Instrument -> minutes after 09:15, from what is to be published so far."""
        found: dict[str, list[int]] = {}
        box = self.collector.outboxes[0]
        while box:
            for output in box.take().outputs:
                for bar in orjson.loads(bytes(output.fields.get(b"bars", b"[]"))):  # type: ignore[arg-type]
                    found.setdefault(bar["instrument"], []).append((bar["ts"] - OPENED) // MINUTE)
            box.done(0.0)
        return found

    async def asked(self, count: int) -> None:
        """So many requests have been made, and the last one answered."""
        await self.until(lambda: len(self.venue.requests) >= count and bool(self.collector.outboxes[0]))

    async def started(self, ts: int) -> None:
        """A frame has told the time, and that has been noticed."""
        self.frame(ts)
        await self.until(lambda: self.backfill.filled_to() > 0)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110 - what another task does
                await asyncio.sleep(0.005)


def hours(key: str, on: date) -> Sequence[tuple[int, int]]:
    return sessions.continuous(sessions.segment_of(key), SessionClass.ORDINARY, on)


@contextlib.asynccontextmanager
async def house(enabled: bool = True) -> AsyncIterator[House]:
    async with scripted() as venue, http_client() as client:
        collector = Collector(1, 1 << 30, lambda _: SessionClass.ORDINARY)
        collector.outbox(0).resume(Published(0), False, 0.0)
        rest = Rest(client, venue.url, lambda: "token", Budget((), lambda: 0.0))
        backfill = Backfill(Plan(lambda _: 0, lambda _: 60 * MINUTE, hours, 5), rest, collector, enabled)
        stop = asyncio.Event()
        running = asyncio.create_task(backfill.run(stop))
        try:
            yield House(venue, collector, backfill)
        finally:
            stop.set()
            await running


async def test_a_start_is_timed_by_the_first_frame_and_fetches_the_warm_up() -> None:
    async with house() as of:
        of.venue.on(path(A), candles())
        of.frame(NOW - 30 * MINUTE)  # before it was asked for
        of.backfill.started([A])
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert of.venue.requests == []
        assert of.backfill.filled_to() == 0

        of.frame()
        await of.asked(1)
        assert of.learnt() == {A: list(range(15, 75))}
        assert of.backfill.filled_to() == OPENED + 75 * MINUTE  # the minute under way is still to come


async def test_minutes_that_the_venue_does_not_have_yet_are_not_invented() -> None:
    async with house() as of:
        of.venue.on(path(A), candles(70, 76))  # the last one is under way
        of.backfill.started([A])
        of.frame()
        await of.asked(1)
        assert of.learnt() == {A: [70, 71, 72, 73, 74]}


@pytest.mark.parametrize(
    "bad", [Answer(400, b"{}"), Answer(200, b"<html>"), success({"candles": [[1]]}), success(None)]
)
async def test_an_instrument_whose_history_is_refused_is_passed_over(bad: Answer) -> None:
    async with house() as of:
        of.venue.on(path(A), bad)
        of.venue.on(path(B), candles())
        of.backfill.started([A, B])
        of.frame()
        await of.asked(2)
        assert of.learnt().keys() == {B}
        assert [request.path for request in of.venue.requests].count(path(A)) == 1


@pytest.mark.parametrize("busy", [Answer(429), Answer(403, b"<html>"), Answer(503), Answer(401), Answer(hang_up=True)])
async def test_a_venue_that_is_busy_is_asked_again_later(monkeypatch: pytest.MonkeyPatch, busy: Answer) -> None:
    for name in ("_REFUSED_S", "_UNREACHED_S"):
        monkeypatch.setattr(ingest.backfill, name, 0.01)
    monkeypatch.setattr(ingest.plan, "_RETRY_MS", 10)
    async with house() as of:
        of.venue.on(path(A), busy, busy, candles())
        of.backfill.started([A])
        of.frame()
        await of.asked(3)
        assert len(of.learnt()[A]) == 60


async def test_what_was_covered_until_the_break_is_not_asked_for_again() -> None:
    async with house() as of:
        of.venue.on(path(A), candles(0, 77))
        of.backfill.ended([A], NOW - 10 * MINUTE)
        of.backfill.started([A])
        await of.started(NOW)
        of.frame(NOW + 55_000)
        await of.asked(1)
        assert of.learnt() == {A: list(range(65, 76))}


async def test_a_connection_that_breaks_before_its_first_frame_has_covered_nothing() -> None:
    async with house() as of:
        of.frame(NOW - 20 * MINUTE)
        of.backfill.ended([A], NOW - 20 * MINUTE)
        of.backfill.started([A])
        of.backfill.ended([A], NOW)  # by the clock of other connections
        assert of.backfill.filled_to() == 0
        of.backfill.started([A])
        of.venue.on(path(A), candles(0, 77))
        await of.started(NOW)
        of.frame(NOW + 55_000)
        await of.asked(1)
        assert of.learnt() == {A: list(range(55, 76))}


async def test_switched_off_it_asks_nothing_and_remembers_nothing() -> None:
    async with house(enabled=False) as of:
        of.backfill.started([A])
        of.frame()
        of.backfill.ended([A], NOW)
        assert of.backfill.filled_to() == 0
        assert of.venue.requests == []
        assert vars(of.backfill)["_starting"] == {}


async def test_what_nobody_wants_any_more_is_not_asked_for() -> None:
    async with house() as of:
        of.venue.on(path(B), candles())
        of.backfill.started([A, B])
        of.backfill.drop([A])
        of.frame()
        await of.asked(1)
        of.backfill.drop([B])
        assert of.learnt().keys() == {B}
        assert [request.path for request in of.venue.requests] == [path(B)]
