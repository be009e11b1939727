"""`teji audit bars`: it finds what was planted and nothing else, asks the venue once, and says what it did."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.upstox import history, instruments
from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import Budget, Rest, http_client
from bus import postgres
from bus.connection import Bus
from bus.embedded import Servers
from bus.settings import Settings
from gateway import cold
from gateway.coldrows import BarReader
from schemas import streams
from schemas.bars import Bar, HistoryBar, Source
from schemas.errors import Misconfigured, Unavailable
from sim.exchange import Exchange
from sim.faults import FaultRequest
from teji import audit
from teji.audit import Options, Report
from teji.comparison import Comparison, Kind, Stored, Tolerance
from tests.end_to_end.pipeline import exchange, log_in, settings_for
from tests.teji.commands import teji

YESTERDAY = date(2026, 11, 17)
TODAY = date(2026, 11, 18)
NIFTY = "NSE_INDEX|Nifty 50"
RELIANCE = "NSE_EQ|INE002A01018"
MINUTE = 60_000


# The comparison alone


def candle(ts: int, **more: Any) -> HistoryBar:
    told = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5, "oi": 100.0}
    return HistoryBar(instrument="NSE_FO|1", ts=ts * MINUTE, **{**told, **more})


def bar(ts: int, **more: Any) -> Stored:
    held = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5, "oi": 100.0, "source": "live"}
    return Stored(ts=ts * MINUTE, **{**held, "complete": True, "rev": 0, **more})


def compared(
    ours: list[Stored], theirs: list[HistoryBar], tolerance: Tolerance | None = None, open_to: int = 1 << 40
) -> Comparison:
    found = Comparison()
    held = {each.ts: each for each in ours}
    found.add("NSE_FO|1", held, theirs, lambda ts: ts < open_to * MINUTE, tolerance or Tolerance())
    return found


def _by_field(found: Comparison) -> dict[str, int]:
    return {name: count for name, count in found.by_field.items() if count}


def test_equal_is_to_the_last_paisa_whatever_its_binary_fractions() -> None:
    assert compared([bar(1, open=0.1 + 0.2)], [candle(1, open=0.3)]).equal == 1
    found = compared([bar(1, open=100.05)], [candle(1, open=100.00)])
    assert (found.equal, found.differing, _by_field(found)) == (0, 1, {"open": 1})


def test_tolerances_are_the_largest_difference_that_is_none() -> None:
    of = Tolerance(price=0.05, volume=3)
    assert compared([bar(1, close=11.05, volume=8)], [candle(1)], of).is_right
    assert _by_field(compared([bar(1, close=11.10, volume=9)], [candle(1)], of)) == {"close": 1, "volume": 1}


def test_open_interest_is_counted_apart_and_is_no_mismatch() -> None:
    found = compared([bar(1, oi=99.0), bar(2, oi=None)], [candle(1), candle(2)])
    assert (found.equal, found.oi_compared, found.oi_differing, found.is_right) == (2, 1, 1, True)


def test_a_bar_that_says_itself_that_it_is_incomplete_is_told_apart() -> None:
    found = compared([bar(1, complete=False), bar(2, complete=False, volume=4)], [candle(1), candle(2)])
    assert (found.incomplete, found.incomplete_differing, found.differing) == (2, 1, 0)
    assert [each.kind for each in found.mismatches] == [Kind.INCOMPLETE]
    assert not found.is_right


def test_what_one_side_lacks_is_named_with_what_the_other_has() -> None:
    found = compared([bar(2), bar(3)], [candle(1), candle(2), candle(4)])
    assert [(each.kind, each.ts // MINUTE) for each in found.mismatches] == [
        (Kind.MISSING, 1),
        (Kind.EXTRA, 3),
        (Kind.MISSING, 4),
    ]
    assert (found.missing, found.missing_before_first, found.extra) == (2, 1, 1)


def test_candles_outside_continuous_trading_are_no_holes_of_ours() -> None:
    found = compared([bar(1)], [candle(1), candle(5, volume=70)], open_to=5)
    assert (found.is_right, found.outside, found.outside_volume) == (True, 1, 70)


def test_holes_are_spans_with_the_instruments_that_share_them() -> None:
    found = Comparison()
    for key in ("NSE_FO|1", "NSE_FO|2"):
        found.add(key, {}, [candle(1), candle(2), candle(4)], lambda _: True, Tolerance())
    both = ["NSE_FO|1", "NSE_FO|2"]
    assert found.holes() == {(MINUTE, 3 * MINUTE): both, (4 * MINUTE, 5 * MINUTE): both}


@given(
    st.lists(st.integers(0, 374), unique=True, max_size=375),
    st.dictionaries(st.integers(0, 374), st.sampled_from(["open", "high", "low", "close", "volume", "gone", "more"])),
)
def test_what_was_planted_is_found_and_nothing_else(traded: list[int], planted: dict[int, str]) -> None:
    theirs = [candle(ts) for ts in sorted(traded)]
    ours = {ts: bar(ts) for ts in traded}
    expected: set[tuple[Kind, int, tuple[str, ...]]] = set()
    for ts, what in planted.items():
        if what == "gone" and ts in ours:
            del ours[ts]
            expected.add((Kind.MISSING, ts, ()))
        elif what == "more" and ts not in ours:
            ours[ts] = bar(ts)
            expected.add((Kind.EXTRA, ts, ()))
        elif what in ("open", "high", "low", "close", "volume") and ts in traded:
            ours[ts] = bar(ts, **{what: 4})
            expected.add((Kind.DIFFERS, ts, (what,)))
    found = compared(list(ours.values()), theirs)
    assert {(each.kind, each.ts // MINUTE, each.fields) for each in found.mismatches} == expected
    assert found.equal == found.compared - found.differing
    assert found.is_right is not bool(expected)


# The command, on a real Postgres, a real Redis and the simulated exchange


@dataclass
class Place:
    market: Exchange
    settings: Settings
    url: str
    pool: Any

    async def audit(self, **options: Any) -> Report:
        places = Servers(self.settings.redis_url, self.url)
        return await audit.audited(self.settings, places, self.market.url, Options(**options))

    async def store(self, bars: list[HistoryBar], **more: Any) -> None:
        await cold.store_bars(self.pool, BarReader().rows([_whole(each, **more) for each in bars]))

    async def execute(self, sql: str, *values: Any) -> None:
        await self.pool.execute(sql, *values)


def _whole(told: HistoryBar, **more: Any) -> Bar:
    known = {name: getattr(told, name) for name in ("instrument", "ts", "open", "high", "low", "close", "volume", "oi")}
    rest = dict.fromkeys(name for name in Bar.model_fields if name not in known)
    return Bar.model_validate({**rest, **known, "ticks": 1, "source": Source.LIVE, "complete": True, "rev": 0, **more})


@asynccontextmanager
async def place(redis_url: str, postgres_url: str, home: Path) -> AsyncIterator[Place]:
    """An exchange on a Wednesday morning, and Postgres with the whole of Tuesday of two instruments."""
    async with exchange() as market, postgres.open_pool(postgres_url, size=2) as pool:
        settings = settings_for(market, redis_url, home, database_url=postgres_url)
        await log_in(settings)
        await postgres.migrate(pool)
        await cold.store_instruments(pool, await instruments.fetch(settings, market.now_ms()))
        of = Place(market, settings, postgres_url, pool)
        async with Bus.open(redis_url) as bus, http_client() as client:
            await bus.redis.xadd(streams.ticks(0), {"ts": market.now_ms(), "n": 0})
            rest = Rest(client, market.url, TokenStore(settings).current, Budget((), lambda: 0.0))
            for key in (NIFTY, RELIANCE):
                await of.store(await history.finished(rest, key, YESTERDAY, YESTERDAY))
        yield of


async def test_a_planted_error_is_found_and_nothing_else(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        right = await of.audit(on=YESTERDAY)
        assert right.is_right, right.as_dict()
        assert right.found.instruments == 2
        assert right.found.equal == 375 + 360  # the share leaves for the closing auction at 15:15
        assert right.candles == "historical"

        reliance = streams.instrument_id(RELIANCE)
        first = await of.pool.fetchval("SELECT min(ts) FROM bars WHERE instrument_id = $1", reliance)
        wrong, gone = first + 50 * MINUTE, first + 70 * MINUTE
        await of.execute("UPDATE bars SET high = high + 0.1 WHERE instrument_id = $1 AND ts = $2", reliance, wrong)
        await of.execute("DELETE FROM bars WHERE instrument_id = $1 AND ts = $2", reliance, gone)
        report = await of.audit(on=YESTERDAY)
        told = {(each.kind, each.instrument, each.ts, each.fields) for each in report.found.mismatches}
        assert told == {(Kind.DIFFERS, RELIANCE, wrong, ("high",)), (Kind.MISSING, RELIANCE, gone, ())}
        assert not report.is_right
        words = audit.in_words(report, 10)
        assert "1  differ (high 1)" in words
        assert "ours" in words
        assert json.loads(json.dumps(report.as_dict()))["mismatches"][0]["kind"] in ("differs", "missing")


async def test_final_candles_are_asked_for_once_and_an_audit_that_was_cut_short_goes_on(
    redis_url: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AWAY_S", 0.01)
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        asked: list[str] = []

        async def noted(rest: Rest, key: str, first: date, last: date) -> list[HistoryBar]:
            asked.append(key)
            if len(asked) == 2:
                of.market.order_fault(FaultRequest(refuse_rest=503, times=100))
            return await told(rest, key, first, last)

        told = history.finished
        monkeypatch.setattr(history, "finished", noted)
        with pytest.raises(Unavailable, match="goes on from there"):
            await of.audit(on=YESTERDAY)
        of.market.faults.refusals["rest"].clear()
        before = len(asked)
        assert (await of.audit(on=YESTERDAY)).is_right
        assert len(asked) == before + 1
        assert (await of.audit(on=YESTERDAY)).is_right
        assert len(asked) == before + 1
        assert (await of.audit(on=YESTERDAY, refresh=True)).is_right
        assert len(asked) == before + 3


async def test_a_candle_file_that_was_cut_short_is_asked_for_again(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        await of.audit(on=YESTERDAY)
        files = sorted((tmp_path / "home" / "audit" / "2026-11-17").iterdir())
        assert len(files) == 2
        files[0].write_bytes(files[0].read_bytes()[:100])
        assert (await of.audit(on=YESTERDAY)).is_right


async def test_today_is_compared_with_intraday_candles_up_to_the_last_minute_that_is_over(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of, Bus.open(redis_url) as bus:
        token = TokenStore(of.settings).current()
        async with http_client() as client:
            rest = Rest(client, of.market.url, lambda: token, Budget((), lambda: 0.0))
            bars = await history.intraday(rest, NIFTY)
        await bus.redis.hset(streams.instruments(0), str(streams.instrument_id(NIFTY)), NIFTY)
        for number, each in enumerate(bars[:-1]):  # the last one is still forming
            if number != 3:
                data = _whole(each, volume=each.volume).model_dump_json()
                await bus.redis.xadd(streams.candles(0), {"instrument": NIFTY, "ts": each.ts, "data": data})
        report = await of.audit()
        assert (report.on, report.candles) == (TODAY, "intraday")
        assert [(each.kind, each.ts) for each in report.found.mismatches] == [(Kind.MISSING, bars[3].ts)]
        assert report.found.equal >= 5


async def test_repair_asks_ingest_for_exactly_the_missing_minutes(
    redis_url: str,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "_REPLY_S", 0.1)  # nobody is there to answer
    async with place(redis_url, postgres_url, tmp_path / "home") as of, Bus.open(redis_url) as bus:
        first = await of.pool.fetchval("SELECT min(ts) FROM bars WHERE instrument_id=$1", streams.instrument_id(NIFTY))
        span = first + 10 * MINUTE, first + 15 * MINUTE
        await of.execute("DELETE FROM bars WHERE ts >= $1 AND ts < $2", *span)
        report = await of.audit(on=YESTERDAY, repair=True)
        assert report.asked_for == 10
        commands = [orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(streams.COMMANDS)]
        assert [(each["from_ms"], each["to_ms"], sorted(each["instruments"])) for each in commands] == [
            (*span, [RELIANCE, NIFTY])
        ]
        assert "ingest takes the request up when it runs" in capsys.readouterr().err


async def test_what_an_option_lacks_from_before_it_was_followed_is_no_mismatch_and_what_it_lacks_later_is(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of, http_client() as client:
        rest = Rest(client, of.market.url, TokenStore(of.settings).current, Budget((), lambda: 0.0))
        option = next(each.key for each in of.market.market.listing.instruments if each.is_option)
        told = await history.finished(rest, option, YESTERDAY, YESTERDAY)
        noon = told[0].ts - told[0].ts % (30 * MINUTE) + 180 * MINUTE  # the feed came up at about 12:00
        await of.execute("UPDATE bars SET source = 'backfill' WHERE ts < $1", noon)
        missing = next(bar for bar in told if bar.ts > noon)
        warm = [bar for bar in told if bar.ts >= noon - 120 * MINUTE and bar.ts != missing.ts]
        await of.store(warm)
        report = await of.audit(on=YESTERDAY)
        assert [(each.kind, each.instrument, each.ts) for each in report.found.mismatches] == [
            (Kind.MISSING, option, missing.ts)
        ]
        assert report.found.before_followed == len(told) - len(warm) - 1


async def test_an_instrument_that_the_venue_does_not_know_is_named(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        report = await of.audit(on=YESTERDAY, instruments=("NSE_FO|999999", NIFTY))
        assert list(report.refused) == ["NSE_FO|999999"]
        assert report.found.equal == 375
        assert not report.is_right


async def test_a_day_in_the_future_and_an_empty_postgres_are_answered_in_a_sentence(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        with pytest.raises(audit.WrongUsage, match="the venue's date is 2026-11-18"):
            await of.audit(on=date(2026, 11, 19))
        await of.execute("DROP TABLE bars")
        with pytest.raises(Misconfigured, match="teji up"):
            await of.audit(on=YESTERDAY)


async def test_prints_count_beside_the_candles_outside_continuous_trading(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with place(redis_url, postgres_url, tmp_path / "home") as of:
        ts = await of.pool.fetchval("SELECT max(ts) FROM bars") + 5 * MINUTE
        data = orjson.dumps({"instrument": RELIANCE, "price": 1.0, "volume": 250}).decode()
        row = ("1-0", ts, "print", "aggregator", "a trade", data)
        await of.execute("INSERT INTO events (id, ts, kind, worker, message, data) VALUES ($1,$2,$3,$4,$5,$6)", *row)
        report = await of.audit(on=YESTERDAY)
        assert (report.prints, report.prints_volume) == (1, 250)
        assert report.is_right


async def test_the_command_ends_with_0_1_or_2(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with place(redis_url, postgres_url, tmp_path / ".teji") as of:
        more = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": postgres_url,
            "UPSTOX_API_URL": of.market.url,
            "TEJI_METRICS_PORT": "0",
        }
        run = asyncio.to_thread
        done = await run(teji, tmp_path, "audit", "bars", "--date", "2026-11-17", **more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "735  equal" in done.stdout
        await of.execute(
            "UPDATE bars SET volume = volume + 1 WHERE instrument_id = $1", streams.instrument_id(RELIANCE)
        )
        done = await run(teji, tmp_path, "audit", "bars", "--date", "2026-11-17", "--json", **more)
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout)["by_field"]["volume"] == 360
        done = await run(teji, tmp_path, "audit", "bars", "--date", "2026-11-17", "--volume-tolerance", "1", **more)
        assert done.returncode == 0, done.stdout
        done = await run(teji, tmp_path, "audit", "bars", "--date", "2027-01-01", **more)
        assert done.returncode == 2
        assert "in the future" in done.stderr
