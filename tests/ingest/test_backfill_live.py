"""History asked for over HTTP, and what of it gets into the streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

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
        for bar in self.told():
            found.setdefault(bar["instrument"], []).append((bar["ts"] - OPENED) // MINUTE)
        return found

    def told(self) -> list[dict[str, Any]]:
        """The minutes of history that are to be published so far."""
        found: list[dict[str, Any]] = []
        box = self.collector.outboxes[0]
        while box:
            for output in box.take().outputs:
                found += orjson.loads(bytes(output.fields.get(b"bars", b"[]")))  # type: ignore[arg-type]
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
async def house(enabled: bool = True, windows: tuple[tuple[float, int], ...] = ()) -> AsyncIterator[House]:
    async with scripted() as venue, http_client() as client:
        collector = Collector(1, 1 << 30, lambda _: SessionClass.ORDINARY)
        collector.outbox(0).resume(Published(0), False, 0.0)
        rest = Rest(client, venue.url, lambda: "token", Budget(windows, clock.monotonic_s))
        backfill = Backfill(Plan({A: 1, B: 0}.__getitem__, lambda _: 60 * MINUTE, hours, 5), rest, collector, enabled)
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


# Finished days

YESTERDAY = date(2026, 3, 11)
DAY = 1440 * MINUTE
NEXT_SIX = START_MS + DAY - 195 * MINUTE  # 06:00 of the next day


def finished(key: str, first: date = YESTERDAY, last: date = YESTERDAY) -> str:
    return f"/v3/historical-candle/{path_part(key)}/minutes/1/{last}/{first}"


def rows(*minutes: tuple[int, int], oi: int = 0) -> Answer:
    """Candles of yesterday: minutes after 09:15, and their volumes; open interest grows by `oi` a minute."""
    told = [
        [f"2026-03-11T{9 + (15 + n) // 60:02}:{(15 + n) % 60:02}:00+05:30", 1, 2, 1, 2, volume, oi * n]
        for n, volume in minutes
    ]
    return success({"candles": told[::-1]})


async def test_a_hole_of_yesterday_is_told_as_one_and_for_good() -> None:
    async with house() as of:
        of.venue.on(finished(A), rows(*((n, 7) for n in range(375)), oi=10))
        of.venue.on(path(A), candles(0, 0))
        of.backfill.ended([A], OPENED + 370 * MINUTE)
        of.backfill.started([A])
        of.frame(NEXT_SIX)
        await of.until(lambda: bool(of.venue.requests) and bool(of.collector.outboxes[0]))
        told = of.told()
        assert [(bar["ts"] - OPENED) // MINUTE for bar in told] == [370, 371, 372, 373, 374]
        assert {(bar["fills"], bar["final"]) for bar in told} == {(True, True)}
        assert [bar["oi_before"] for bar in told] == [10.0 * n for n in range(369, 374)]
        assert of.backfill.filled_to() >= NEXT_SIX
        assert [request.path for request in of.venue.requests] == [finished(A)]


async def test_the_next_morning_only_what_the_venue_has_corrected_is_told_again() -> None:
    async with house() as of:
        of.venue.on(path(A), candles(0, 75))
        of.backfill.started([A])
        of.frame()
        await of.asked(1)
        assert len(of.told()) == 60
        of.venue.on(finished(A), rows(*((n, n + (n in (20, 30))) for n in range(375))))
        of.frame(NEXT_SIX)
        await of.until(lambda: finished(A) in [request.path for request in of.venue.requests])
        await of.until(lambda: of.backfill.final_to() == NEXT_SIX - 360 * MINUTE)
        told = of.told()
        found = [((bar["ts"] - OPENED) // MINUTE, bar["volume"], bar["fills"], bar["final"]) for bar in told]
        the_minute_of_the_start = (75, 75, True, True)  # it was not over when it was asked for
        assert found == [(20, 21, False, True), (30, 31, False, True), the_minute_of_the_start]


async def test_a_process_that_was_not_there_passes_everything_on_the_aggregator_knows() -> None:
    async with house() as of:
        of.venue.on(finished(A), rows(*((n, 7) for n in range(375))))
        of.backfill.resumed([A], OPENED - 555 * MINUTE)
        of.backfill.ended([A], OPENED + 400 * MINUTE)
        of.backfill.started([A])
        of.frame(NEXT_SIX)
        await of.until(lambda: bool(of.venue.requests) and bool(of.collector.outboxes[0]))
        told = of.told()
        assert len(told) == 375
        assert {(bar["fills"], bar["final"]) for bar in told} == {(False, True)}


async def test_what_is_missed_is_asked_for_though_no_frame_has_told_the_time_yet() -> None:
    async with house() as of:
        of.venue.on(path(A), candles())
        assert of.backfill.ask([A], OPENED, OPENED + 5 * MINUTE) == 1
        assert of.backfill.filled_to() == 0
        of.frame()
        await of.asked(1)
        assert of.learnt() == {A: [0, 1, 2, 3, 4]}


async def test_the_most_urgent_is_chosen_when_there_is_room_for_a_call() -> None:
    """Two wait while the budget is used up; the one that comes last is the most urgent."""
    async with house(windows=((0.3, 1),)) as of:
        for key in (A, B):
            of.venue.on(path(key), candles())
        of.backfill.ask([A], OPENED, OPENED + MINUTE)
        of.frame()
        await of.asked(1)
        assert of.backfill.ask([A], OPENED + MINUTE, OPENED + 2 * MINUTE) == 1
        assert of.backfill.ask([B], OPENED, OPENED + MINUTE) == 1
        assert of.backfill.waiting([A, B]) == 2
        await of.until(lambda: len(of.venue.requests) == 3)
        assert [request.path for request in of.venue.requests] == [path(A), path(B), path(A)]
