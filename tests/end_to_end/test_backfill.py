"""Minutes that the feed did not show, filled from the venue's history over real sockets: bars end up as its candles."""

import asyncio
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

import aggregator.bars
import aggregator.worker
from brokers.upstox import history
from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import Budget, Rest, http_client
from bus.embedded import Servers
from ingest import merge, plan
from proto import decode
from schemas import streams
from schemas.bars import HistoryBar
from schemas.commands import FeedBackfill
from sim.faults import FaultRequest
from sim.hours import day_of, midnight_ms
from teji.audit import Options, audited
from tests.end_to_end.pipeline import MINUTE, START, Pipeline, final, log_in, pipeline, start_all
from tests.ingest.live import command

YESTERDAY, TODAY = date(2026, 11, 18), date(2026, 11, 19)
pytestmark = pytest.mark.timeout(240)  # a loaded machine compiles kernels for a minute


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Before the first test counts its seconds."""
    decode.warm()
    merge.warm()
    aggregator.bars.warm()


#: Few instruments, few frames: what is proven here is what happens between them.
LEAN: dict[str, Any] = {"instruments": 30, "conflation_ms": 5_000}
FILLED: dict[str, Any] = {"teji_backfill": True, "teji_warmup_min": 20}
Candles = dict[tuple[str, int], HistoryBar]
Bars = dict[tuple[str, int], dict[str, Any]]


async def run_market(line: Pipeline, minutes: float, step_ms: int = 5_000) -> None:
    """Let market time pass, and the workers with it."""
    for _ in range(int(minutes * MINUTE / step_ms)):
        await line.market.advance(step_ms)
        await asyncio.sleep(0.002)


async def candles(line: Pipeline, *days: date) -> Candles:
    """What the venue tells of these days, by its own two calls."""
    found: Candles = {}
    async with http_client() as client:
        rest = Rest(client, line.market.url, TokenStore(line.settings).current, Budget((), lambda: 0.0))
        for each in line.market.market.listing.instruments:
            for on in days:
                now = on == day_of(line.market.now_ms())
                told = await (history.intraday(rest, each.key) if now else history.finished(rest, each.key, on, on))
                found |= {(each.key, bar.ts): bar for bar in told}
    return found


async def bars(line: Pipeline) -> Bars:
    return final(await line.bars())


def differences(ours: Bars, theirs: Candles, since: int, until: int, known: set[str]) -> list[Any]:
    """Minutes in [since, until) that are not the same on both sides, or of which ours is not whole. Only of these
    instruments: the venue lists other strikes on another day, and no longer tells anything of the old ones."""
    keys = {where for where in (*ours, *theirs) if since <= where[1] < until and where[0] in known}
    found: list[Any] = []
    for where in sorted(keys):
        bar, told = ours.get(where), theirs.get(where)
        if bar is None or told is None or not bar["complete"] or differ(bar, told):
            found.append((where, bar, told))
    return found


def differ(bar: dict[str, Any], told: HistoryBar) -> bool:
    return any(bar[name] != getattr(told, name) for name in ("open", "high", "low", "close", "volume"))


def listed(line: Pipeline) -> set[str]:
    return {each.key for each in line.market.market.listing.instruments}


async def become_equal(
    line: Pipeline, days: tuple[date, ...], since: int, until: int, before: set[str] | None = None
) -> Bars:
    """Until our bars are the venue's candles, of what is listed now and was `before`. Time goes on slowly meanwhile."""
    theirs = await candles(line, *days)
    both = listed(line) & (listed(line) if before is None else before)
    assert len(both) > 15
    left: list[Any] = []

    async def equal() -> bool:
        await line.market.advance(300)
        await asyncio.sleep(0.2)
        left[:] = differences(await bars(line), theirs, since, until, both)
        return not left

    try:
        await line.until(equal, "equal", 90)
    except AssertionError as error:
        raise AssertionError(f"{len(left)} minutes differ, for instance {left[:3]}") from error
    return await bars(line)


async def test_a_network_gap_across_midnight_is_filled_on_both_sides_and_the_audit_sees_nothing_but_a_planted_error(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    start = START.replace(hour=23, minute=51)
    sim = {**LEAN, "start": start, "always_open": True}
    async with pipeline(redis_url, tmp_path / "home", sim, teji_calendar="always", **FILLED) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        before = listed(line)
        await run_market(line, 4)
        line.market.order_fault(FaultRequest(offline=True))
        await line.until(lambda: not line.market.hub.connections, "cut off")
        await run_market(line, 10)
        line.market.order_fault(FaultRequest(offline=False))
        await line.until(lambda: line.market.hub.connections, "connected again")
        await run_market(line, 3)

        midnight = midnight_ms(TODAY)
        ours = await become_equal(line, (YESTERDAY, TODAY), midnight - 8 * MINUTE, midnight + 6 * MINUTE, before)
        gap = {ts: bar for (key, ts), bar in ours.items() if key == "NSE_INDEX|Nifty 50"}
        assert {gap[midnight + n * MINUTE]["source"] for n in range(-4, 4)} == {"backfill"}
        assert {gap[midnight + n * MINUTE]["source"] for n in (-7, -6)} == {"live"}
        assert gap[midnight - 5 * MINUTE]["source"] in ("mixed", "backfill")  # the last that was seen, if it was
        assert len({(bar["instrument"], bar["ts"], bar["rev"]) for bar in await line.bars()}) == len(await line.bars())

        options = Options(instruments=tuple(sorted(before & listed(line))))
        places = Servers(redis_url, postgres_url)  # an empty Postgres: today's bars are in Redis
        report = await audited(line.settings, places, line.market.url, options)
        assert (report.is_right, report.candles) == (True, "intraday"), report.as_dict()
        assert report.found.equal > 15 * 4
        planted = next(bar for bar in ours.values() if bar["ts"] == midnight + MINUTE)
        wrong = orjson.dumps({**planted, "high": planted["high"] + 1, "rev": planted["rev"] + 1})
        where = planted["instrument"], planted["ts"]
        await line.bus.redis.xadd(streams.candles(0), {"instrument": where[0], "ts": where[1], "data": wrong})
        report = await audited(line.settings, places, line.market.url, options)
        (found,) = report.found.mismatches
        assert (found.instrument, found.ts, found.fields) == (*where, ("high",))


async def test_a_system_that_was_down_since_yesterday_afternoon_has_all_of_it_in_the_morning(
    redis_url: str, tmp_path: Path
) -> None:
    sim = {**LEAN, "start": START.replace(hour=14, minute=0)}
    async with pipeline(redis_url, tmp_path / "home", sim, **FILLED) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        since, before = line.market.now_ms() + 2 * MINUTE, listed(line)
        await run_market(line, 4)
        await line.until(line.ticking, "ticks arrive")
        await line.stop("ingest")
        await line.stop("aggregator")
        tomorrow = START.replace(hour=10, minute=0) + timedelta(days=1)
        await line.market.advance(int(tomorrow.timestamp() * 1000) - line.market.now_ms())
        await log_in(line.settings)  # the token died at 03:30
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected again")
        await run_market(line, 3)

        until = int(tomorrow.timestamp() * 1000) + MINUTE
        ours = await become_equal(line, (YESTERDAY, TODAY), since, until, before)
        days = {day_of(ts) for _, ts in ours}
        assert days == {YESTERDAY, TODAY}
        nifty = [ts for key, ts in ours if key == "NSE_INDEX|Nifty 50" and day_of(ts) == YESTERDAY]
        assert max(nifty) == int(START.replace(hour=15, minute=29).timestamp() * 1000)


async def test_what_history_told_on_the_day_is_corrected_the_next_morning_and_what_was_live_stays(
    redis_url: str, tmp_path: Path
) -> None:
    sim = {**LEAN, "start": START.replace(hour=15, minute=0), "corrections": 0.25}
    async with pipeline(redis_url, tmp_path / "home", sim, **FILLED) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 5)
        closed = line.market.now_ms() - 2 * MINUTE
        since = int(START.replace(hour=14, minute=40).timestamp() * 1000)  # options have a warm-up of 20 minutes
        await become_equal(line, (YESTERDAY,), since + 10 * MINUTE, closed)
        before = await bars(line)

        six = int((START.replace(hour=6, minute=1) + timedelta(days=1)).timestamp() * 1000)
        await line.market.advance(six - line.market.now_ms())
        await log_in(line.settings)
        await line.until(lambda: line.market.hub.connections, "connected again")
        theirs = await candles(line, YESTERDAY)
        expected = {
            where
            for where, bar in before.items()
            if bar["source"] != "live" and where in theirs
            if differ(bar, theirs[where])
        }
        assert len(expected) > 50

        async def corrected() -> bool:
            await line.market.advance(300)
            ours = await bars(line)
            return not [where for where in expected if differ(ours[where], theirs[where])]

        await line.until(corrected, "what history had told is corrected")
        after = await bars(line)
        changed = {where for where in before if after[where] != before[where]}
        assert changed == expected
        assert all(after[where]["rev"] > before[where]["rev"] for where in changed)
        assert {after[where]["source"] for where in changed} <= {"backfill", "mixed"}


async def test_ticks_that_were_trimmed_unread_are_asked_of_history(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", LEAN, **FILLED) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        since = line.market.now_ms() + MINUTE
        await run_market(line, 2.5)
        await line.until(line.caught_up, "read")
        await line.stop("aggregator")
        await run_market(line, 2)
        last = (await line.bus.redis.xrevrange(streams.ticks(0), count=1))[0][0]
        await line.bus.redis.xtrim(streams.ticks(0), minid=last, approximate=False)
        before = f"{int(last.split(b'-')[0]) - 1}-0"
        await line.bus.redis.set(streams.trimmed(streams.ticks(0)), before)
        line.start("aggregator", aggregator.worker.run)
        await run_market(line, 8)
        until = line.market.now_ms() - 2 * MINUTE
        traded = {key for key, ts in await bars(line) if ts >= until - MINUTE}
        assert len(traded) > 10
        await become_equal(line, (YESTERDAY,), since - since % MINUTE, until)


async def test_minutes_are_filled_on_demand_and_only_those_that_lack(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", LEAN, **FILLED) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 3)
        nifty = "NSE_INDEX|Nifty 50"
        monday = int(START.replace(day=16, hour=10, minute=0).timestamp() * 1000)
        asked = FeedBackfill(from_ms=monday, to_ms=monday + 5 * MINUTE, instruments=[nifty])
        assert (await command(line, asked))["asked_for"] == 1

        async def filled() -> bool:
            return len([ts for key, ts in await bars(line) if key == nifty and ts < monday + 10 * MINUTE]) == 5

        await line.until(filled, "five minutes of Monday")
        assert {bar["rev"] for (_, ts), bar in (await bars(line)).items() if ts < monday + 10 * MINUTE} == {0}
        refused = await command(line, FeedBackfill(from_ms=monday, to_ms=monday + 40 * plan.DAY_MS))
        assert not refused["ok"]
        assert "31 days" in refused["message"]
        night = int(START.replace(hour=3).timestamp() * 1000)
        assert (await command(line, FeedBackfill(from_ms=night, to_ms=night + MINUTE)))["asked_for"] == 0


async def test_the_feeds_state_says_how_much_history_is_to_come_and_when_it_is_there(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", LEAN, **FILLED) as line:
        line.market.order_fault(FaultRequest(refuse_rest=503, times=3))
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 0.5)
        await line.until(_said(line, lambda waiting: waiting > 20), "history waits", 30)
        await run_market(line, 1)
        await line.until(_said(line, lambda waiting: waiting == 0), "nothing waits any more", 60)


def _said(line: Pipeline, true: Callable[[int], bool]) -> Callable[[], Any]:
    async def said() -> bool:
        entries = await line.bus.redis.xrevrange(streams.EVENTS, count=50)
        feed = [orjson.loads(fields[b"data"])["data"] for _, fields in entries if fields[b"kind"] == b"feed"]
        return bool(feed) and true(feed[0]["history_waiting"])

    return said


def test_the_day_of_these_tests_is_an_ordinary_one() -> None:
    assert datetime(2026, 11, 18, tzinfo=START.tzinfo).date() == YESTERDAY == START.date()
