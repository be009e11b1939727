"""Longer bars over history: of Redis and of Postgres, by pages, and what they may not claim."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus import postgres
from bus.settings import Calendar, Settings
from gateway import cold
from gateway.coldrows import BarReader, WatchedRow, event_row
from market import intervals, sessions
from market.intervals import LONGER, MINUTE_MS
from schemas import streams
from schemas.bars import Bar
from schemas.events import Event, EventKind
from schemas.intervals import Interval, LongBar
from schemas.ticks import SessionClass
from tests.conftest import settings_in
from tests.gateway.house import CALL, SHARE, House, bar_fields, running, universe, until
from tests.market.naive import bar, naive

API = "/api/v1/candles"
DAYS = (date(2025, 10, 14), date(2025, 10, 15))


def hours(on: date, key: str = CALL) -> tuple[tuple[int, int], ...]:
    return sessions.continuous(sessions.segment_of(key), SessionClass.ORDINARY, on)


def minutes(on: date, often: float = 0.6, key: str = CALL) -> list[dict[str, Any]]:
    """Some of a day's minutes."""
    chance = random.Random(on.toordinal())
    wanted = intervals.minutes_of(intervals.day(hours(on, key)), hours(on, key))
    bars = []
    for ts in wanted:
        known = {"oi": chance.choice([None, 75.0]), "oi_diff": 0.0, "iv": 0.25, "bid_wall": {"price": 9.5, "qty": 75}}
        volume = chance.choice([0, 75])
        price, rev = chance.randrange(1900, 2000) / 20, chance.choice([0, 0, 2])
        if chance.random() < often:
            bars.append(bar(ts, price, volume=volume, vwap=98.0, ticks=3, rev=rev, **known))
    return bars


def as_bar(one: dict[str, Any], key: str = CALL) -> Bar:
    return Bar.model_validate({"instrument": key, **one})


async def put_cold(settings: Settings, bars: Sequence[Bar], **more: Any) -> None:
    async with postgres.open_pool(settings.postgres_url) as pool:
        await postgres.migrate(pool)
        rows, hopeless = BarReader().read([{b"data": one.model_dump_json().encode()} for one in bars])
        assert not hopeless
        await cold.store_bars(pool, rows)
        await cold.store_watched(pool, more.get("watched", []))
        await cold.store_events(pool, more.get("events", []))


async def told(house: House, interval: str, key: str = CALL, /, **params: Any) -> dict[str, Any]:
    answer = await house.http.get(API, params={"instrument": key, "interval": interval, **params})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["interval"] == interval
    return body


@asynccontextmanager
async def open_house(settings: Settings, hot: Sequence[Bar] = ()) -> AsyncIterator[House]:
    async with running(settings, universe()) as house:
        for at, one in enumerate(hot, 1):
            await house.bus.redis.xadd(streams.candles(0), bar_fields(one), id=f"{at}-0")

        async def counted() -> bool:
            answer = await house.http.get(API, params={"instrument": CALL, "limit": 5_000})
            listed = (await house.http.get("/api/v1/instruments")).status_code == 200
            return listed and answer.status_code == 200 and len(answer.json()["candles"]) >= len(hot)

        await until(counted)
        yield house


def plain(one: dict[str, Any], *but: str) -> dict[str, Any]:
    rounded = {name: float(f"{value:.12g}") if isinstance(value, float) else value for name, value in one.items()}
    return {name: value for name, value in rounded.items() if name not in ("instrument", "close_from", *but)}


def expected(bars: dict[date, list[dict[str, Any]]], interval: Interval) -> list[dict[str, Any]]:
    return [plain(one, "complete") for on, some in bars.items() for one in naive(some, interval, hours(on))]


async def test_minutes_of_redis_and_postgres_become_the_bars_of_the_definition(settings: Settings) -> None:
    bars = {on: minutes(on) for on in DAYS}
    older, newer = bars.values()
    stale = [as_bar({**one, "rev": 0, "close": 1.0}) for one in newer[150:200]]
    middle = [as_bar({**one, "rev": 3}) for one in newer[150:]]
    await put_cold(settings, [as_bar(one) for one in (*older, *newer[:150])] + stale)
    bars[DAYS[1]] = newer[:150] + [one.model_dump(mode="json", exclude={"instrument"}) for one in middle]
    async with open_house(settings, middle) as house:
        for interval in LONGER:
            found = await told(house, interval.value)
            assert [plain(one, "complete") for one in found["candles"]] == expected(bars, interval)
            for one in found["candles"]:
                LongBar.model_validate(one)
            assert (found["next"], found["warning"]) == (None, None)


@pytest.mark.parametrize("interval", ["3m", "60m", "1d"])
async def test_pages_forward_and_backward_cover_every_bar_once(settings: Settings, interval: str) -> None:
    bars = {on: minutes(on, 0.3) for on in DAYS}
    await put_cold(settings, [as_bar(one) for some in bars.values() for one in some])
    async with open_house(settings) as house:
        everything = [one["ts"] for one in (await told(house, interval, limit=5_000))["candles"]]
        forward: list[int] = []
        start: int | None = intervals.midnight(hours(DAYS[0])[0][0])
        while start is not None:
            page = await told(house, interval, limit=7 if interval != "1d" else 1, **{"from": start})
            forward += [one["ts"] for one in page["candles"]]
            start = page["next"]
        backward: list[int] = []
        end: int | None = hours(DAYS[1])[0][1]
        while end is not None:
            page = await told(house, interval, limit=7 if interval != "1d" else 1, to=end)
            backward = [one["ts"] for one in page["candles"]] + backward
            end = page["next"]
    assert forward == backward == everything == [one["ts"] for one in expected(bars, Interval(interval))]


async def test_a_bar_from_the_middle_of_a_page_is_whole(settings: Settings) -> None:
    on = DAYS[0]
    await put_cold(settings, [as_bar(one) for one in minutes(on, 1.0)])
    start = hours(on)[0][0]
    async with open_house(settings) as house:
        found = await told(house, "60m", limit=1, **{"from": start + MINUTE_MS})
        assert [(one["ts"], one["minutes"]) for one in found["candles"]] == [(start + 60 * MINUTE_MS, 60)]
        found = await told(house, "60m", to=start + MINUTE_MS)
        assert [(one["ts"], one["minutes"]) for one in found["candles"]] == [(start, 60)]


async def test_only_bars_that_have_ended_are_told(settings: Settings) -> None:
    """By the venue's time, which the newest minute tells: here one that has come a moment ago."""
    start = hours(DAYS[0])[0][0]
    some = [as_bar(bar(start + n * MINUTE_MS)) for n in range(7)]
    async with running(settings, universe()) as house:
        for one in some:
            await house.bus.redis.xadd(streams.candles(0), bar_fields(one))

        async def ended() -> bool:
            answer = await house.http.get(API, params={"instrument": CALL, "interval": "3m"})
            return answer.status_code == 200 and len(answer.json()["candles"]) == 2

        await until(ended)
        assert [one["minutes"] for one in (await told(house, "3m"))["candles"]] == [3, 3]
        assert [one["minutes"] for one in (await told(house, "5m"))["candles"]] == [5]
        assert (await told(house, "15m"))["candles"] == []


# Complete


async def test_a_bar_that_lacks_a_minute_is_complete_only_where_the_feed_watched_it(settings: Settings) -> None:
    start = hours(DAYS[0])[0][0]
    some = [as_bar(bar(start + n * MINUTE_MS)) for n in (0, 1, 2, 3, 5, 6, 7, 8)]
    watched = WatchedRow(streams.instrument_id(CALL), 3, start + 3 * MINUTE_MS, rev=1)
    older = WatchedRow(streams.instrument_id(CALL), 5, start, rev=2)  # a minute was revised since
    await put_cold(settings, some, watched=[watched, older])
    async with open_house(settings) as house:
        assert [one["complete"] for one in (await told(house, "3m"))["candles"]] == [True, True, True]
        assert [one["complete"] for one in (await told(house, "5m"))["candles"]] == [False, False]


async def test_what_the_stream_says_was_watched_reaches_postgres(settings: Settings) -> None:
    start = hours(DAYS[0])[0][0]
    one = naive([bar(start, ticks=2)], Interval.M3, hours(DAYS[0]))[0] | {"instrument": CALL}
    fields = {"instrument": CALL, "interval": "3m", "ts": start, "data": orjson.dumps(one)}
    await put_cold(settings, [as_bar(bar(start))])
    async with open_house(settings) as house:
        assert not (await told(house, "3m"))["candles"][0]["complete"]
        await house.bus.redis.xadd(streams.intervals(0), fields)

        async def complete() -> bool:
            return bool((await told(house, "3m"))["candles"][0]["complete"])

        await until(complete)


# Days


async def test_a_day_counts_the_prints(settings: Settings) -> None:
    (start, end), *_ = hours(DAYS[0], SHARE)
    some = [as_bar(bar(start + n * MINUTE_MS, volume=10, vwap=100.0), SHARE) for n in range(3)]

    def trade(ts: int, price: float, volume: int) -> Any:
        data = {"instrument": SHARE, "price": price, "volume": volume}
        event = Event(kind=EventKind.PRINT, ts=ts, worker="aggregator", message="a trade", data=data)
        return event_row(f"{ts}-0", {b"data": event.model_dump_json().encode()})

    prints = [trade(start - 7 * MINUTE_MS, 98.0, 5), trade(end + 15 * MINUTE_MS, 101.0, 7)]
    alone = trade(hours(DAYS[1], SHARE)[0][0] - 7 * MINUTE_MS, 99.0, 4)
    await put_cold(settings, some, events=[*prints, alone])
    async with open_house(settings) as house:
        first, second = (await told(house, "1d", SHARE))["candles"]
        (hour,) = (await told(house, "60m", SHARE))["candles"]
    assert (first["open"], first["high"], first["close"], first["volume"]) == (98.0, 101.0, 100.0, 42)
    assert (first["close_from"], first["minutes"], first["rev"]) == ("continuous", 3, 4)
    assert (second["open"], second["minutes"], second["close_from"]) == (99.0, 0, "auction")
    assert (hour["open"], hour["volume"], hour["close_from"]) == (100.0, 30, None)


# What cannot be told


async def test_a_year_without_a_calendar_is_a_problem(settings: Settings) -> None:
    await put_cold(settings, [as_bar(bar(1_500_000_000_000 // MINUTE_MS * MINUTE_MS))])
    async with open_house(settings) as house:
        answer = await house.http.get(API, params={"instrument": CALL, "interval": "5m"})
        assert answer.status_code == 422
        assert "no market calendar for 2017" in answer.json()["detail"]


async def test_while_postgres_is_away_longer_bars_are_those_of_redis_with_a_warning(
    redis_url: str, tmp_path: Path
) -> None:
    gone = settings_in(tmp_path / "home", redis_url=redis_url, database_url="postgresql://nobody@127.0.0.1:1/none")
    start = hours(DAYS[0])[0][0]
    async with open_house(gone, [as_bar(bar(start + n * MINUTE_MS)) for n in range(3)]) as house:
        found = await told(house, "3m")
        assert [one["minutes"] for one in found["candles"]] == [3]
        assert "older bars are missing" in found["warning"]


async def test_a_demo_that_never_closes_counts_from_midnight(settings: Settings) -> None:
    always = settings.model_copy(update={"teji_calendar": Calendar.ALWAYS})
    night = intervals.midnight(hours(DAYS[0])[0][0]) + 90 * MINUTE_MS
    await put_cold(settings, [as_bar(bar(night))])
    async with open_house(always) as house:
        assert [one["ts"] for one in (await told(house, "60m"))["candles"]] == [night - 30 * MINUTE_MS]
