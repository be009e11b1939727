"""Longer bars of a shard on a real Redis: in the commit of their minutes, and whole after a power cut at any commit."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any

import orjson
import pytest

from aggregator import long_worker, worker
from bus.connection import Bus
from market import sessions
from market.intervals import LONGER
from schemas import streams
from schemas.intervals import LongBar
from schemas.ticks import FeedMark, SessionClass
from tests.aggregator.power import PowerCut
from tests.aggregator.reference import MINUTE
from tests.aggregator.test_own_greeks import CALL, FUTURE, SPOT, traded
from tests.aggregator.test_shell import Fields, begin, caught_up, mark, run
from tests.aggregator.ticks import packed
from tests.market.naive import naive

START = 1_795_000_000_000 // (15 * MINUTE) * 15 * MINUTE
BARS, LONG = streams.candles(0), streams.intervals(0)


def never_closed(*about: Any) -> Sequence[tuple[int, int]]:
    on: date = about[-1]
    return sessions.continuous("NSE_FO", SessionClass.ALWAYS_OPEN, on)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_READ_BLOCK_MS", 20)
    monkeypatch.setattr(worker, "_READ_ENTRIES_MAX", 3)
    monkeypatch.setattr(long_worker, "_PAGE", 4)
    monkeypatch.setattr(worker, "hours", never_closed)


def quarter_of_an_hour() -> list[Fields]:
    """Trades in most minutes, one of them late; then a minute of quiet, so that all has left."""
    entries: list[Fields] = [
        packed([traded(key, START - 5_000, price, base=True)]) for key, price in ((FUTURE, 101.0), (CALL, 3.0))
    ]
    entries.append(packed([traded(SPOT, START - 5_000, 100.0, None, base=True)]))
    for n in range(16):
        ts = START + n * MINUTE
        entries.append(packed([traded(FUTURE, ts + 1_000, 101.0 + n, 1_000 + 75 * n)]))
        if n % 3:
            entries.append(packed([traded(CALL, ts + 2_000, 3.0 + n, 1_000 + 75 * n)]))
        if n == 7:
            entries.append(packed([traded(FUTURE, ts + 4_000, 99.0, 1_000 + 75 * n + 5) | {"ltt": ts - 3_000}]))
        entries.append(mark(ts + 30_000, FeedMark.LIVE))
    return [*entries, mark(START + 16 * MINUTE + 5_000, FeedMark.LIVE)]


async def long_bars(bus: Bus) -> list[dict[str, Any]]:
    found = [orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(LONG)]
    for one in found:
        LongBar.model_validate(one)
    return found


def newest(bars: Sequence[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {
        (one["instrument"], one.get("interval"), one["ts"]): one for one in sorted(bars, key=lambda one: one["rev"])
    }


async def due(bus: Bus) -> list[dict[str, Any]]:
    """What the bars beside them come to, of those that have ended."""
    minutes = newest([orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(BARS)])
    hours = never_closed(sessions.trading_date(START))
    bars: list[dict[str, Any]] = []
    for key in (FUTURE, CALL, SPOT):
        mine = [one for (of, _, _), one in sorted(minutes.items(), key=lambda item: item[0][2]) if of == key]
        for interval in LONGER[:-1]:
            length = int(interval.value[:-1]) * MINUTE
            ended = [one for one in naive(mine, interval, hours) if one["ts"] + length <= START + 16 * MINUTE]
            bars += [one | {"instrument": key} for one in ended]
    return plain(bars)


def plain(bars: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """In order, without what the naive reading does not know, floats to twelve digits."""
    found = [
        {name: float(f"{value:.12g}") if isinstance(value, float) else value for name, value in one.items()}
        for one in bars
    ]
    return sorted(
        ({name: value for name, value in one.items() if name != "complete"} for one in found),
        key=lambda one: (one["instrument"], one["interval"], one["ts"]),
    )


async def all_is_there(bus: Bus) -> bool:
    """All ticks have been read, and all that is due has been told."""
    expected = await due(bus)
    found = plain(list(newest(await long_bars(bus)).values()))
    return bool(await caught_up(bus)()) and len(expected) > 0 and found == expected


async def test_longer_bars_are_the_definition_of_the_bars_beside_them(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, quarter_of_an_hour())
        await run(bus, caught_up(bus))
        await run(bus, partial(all_is_there, bus))
        found = await long_bars(bus)
    assert {one["interval"] for one in found} >= {"3m", "5m", "15m"}
    assert any(one["rev"] > one["minutes"] - 1 for one in found)  # the late trade came through


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
async def test_a_power_cut_at_any_commit_loses_and_doubles_no_longer_bar(redis_url: str, after: bool) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, quarter_of_an_hour())
        for at in range(1, 40):
            with suppress(PowerCut):
                await run(bus, caught_up(bus), cut=(1 + at % 3, after))
        await run(bus, caught_up(bus))
        await run(bus, partial(all_is_there, bus))
        times = Counter((one["instrument"], one["interval"], one["ts"], one["rev"]) for one in await long_bars(bus))
    assert not [one for one, count in times.items() if count > 1]


async def test_what_is_none_of_ours_in_a_stream_ends_nobody(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, quarter_of_an_hour())
        for stream in (BARS, LONG, streams.EVENTS):
            await bus.redis.xadd(stream, {"kind": "print", "data": "{}"})
            await bus.redis.xadd(stream, {"kind": "print"})

        async def read_and_told() -> bool:
            return bool(await caught_up(bus)()) and int(await bus.redis.xlen(LONG)) > 2

        await run(bus, read_and_told)


async def test_what_was_never_told_is_told_by_the_next_process(redis_url: str) -> None:
    """A session that began with a Teji that made no longer bars."""
    async with Bus.open(redis_url) as bus:
        await begin(bus, quarter_of_an_hour())
        await run(bus, partial(all_is_there, bus))
        before = newest(await long_bars(bus))
        await bus.redis.delete(LONG)
        await bus.redis.xadd(streams.ticks(0), mark(START + 16 * MINUTE + 6_000, FeedMark.LIVE))

        async def told() -> bool:
            return int(await bus.redis.xlen(LONG)) == len(before)

        await run(bus, told)
        assert newest(await long_bars(bus)) == before
