"""The cold store on a real Postgres: what was in the streams is in the tables, once, whatever happens in between."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson
import pytest

from bus import embedded, postgres
from bus.connection import Bus
from bus.embedded import Servers
from bus.life import Worker
from bus.settings import Settings
from gateway import cold
from gateway.coldrows import BarReader
from schemas import streams
from schemas.bars import Bar, ForwardFrom, OptionModel, PriceFrom, Source, Wall
from schemas.events import Event, EventKind
from tests.conftest import settings_in
from tests.gateway.house import CALL, NIFTY, bar, bar_fields, running, universe, until

MINUTE = 60_000
START = 1_700_000_040_000


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    async with postgres.open_pool(url) as pool:
        await postgres.migrate(pool)
        yield pool


async def stored(pool: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch("SELECT * FROM bars ORDER BY instrument_id, ts")]


MODEL = OptionModel(
    iv=0.14, delta=0.51, gamma=None, theta=-5.5, vega=12.5, rho=1.5, price=100.1, price_from=PriceFrom.MID,
    forward=25_010.5, forward_from=ForwardFrom.PARITY, flag="below_intrinsic",
)  # fmt: skip


def full(key: str, ts: int, rev: int = 1) -> Bar:
    return bar(
        key, ts, 100.25, rev, oi=1.5, oi_diff=-2.0, vwap=3.25, iv=0.133, delta=0.5, gamma=0.01, theta=-5.0, vega=12.0,
        rho=1.0, bid_wall=Wall(price=99.5, qty=75), ask_wall=Wall(price=101.0, qty=150), tbq=1e6, tsq=2e6,
        source=Source.MIXED, complete=False, model=MODEL,
    )  # fmt: skip


def rows(bars: Sequence[Bar]) -> Any:
    found, hopeless = BarReader().read([{b"data": one.model_dump_json().encode()} for one in bars])
    assert not hopeless
    return found


async def test_a_bar_comes_out_of_postgres_as_it_went_in(postgres_url: str) -> None:
    async with database(postgres_url) as pool:
        await cold.store_bars(pool, rows([full(CALL, START)]))
        (row,) = await stored(pool)
    one = full(CALL, START)
    expected = one.model_dump(exclude={"instrument", "bid_wall", "ask_wall", "model"})
    expected |= {f"model_{name}": value for name, value in MODEL.model_dump(mode="json").items()}
    expected |= {"instrument_id": streams.instrument_id(CALL), "source": "mixed"}
    expected |= {"bid_wall_price": 99.5, "bid_wall_qty": 75, "ask_wall_price": 101.0, "ask_wall_qty": 150}
    assert row == expected


async def test_what_nobody_told_us_is_null_in_postgres(postgres_url: str) -> None:
    async with database(postgres_url) as pool:
        await cold.store_bars(pool, rows([bar(NIFTY, START)]))
        (row,) = await stored(pool)
    told = {"instrument_id", "ts", "open", "high", "low", "close", "volume", "ticks", "source", "complete", "rev"}
    assert {name for name, value in row.items() if value is None} == row.keys() - told


async def test_the_highest_revision_wins_in_any_order(postgres_url: str) -> None:
    bars = [bar(NIFTY, START, float(rev), rev) for rev in (2, 4, 1, 3)]
    async with database(postgres_url) as pool:
        for one in bars:
            await cold.store_bars(pool, rows([one]))
        await cold.store_bars(pool, rows(bars))
        found = await stored(pool)
    assert [(row["rev"], row["close"]) for row in found] == [(4, 4.0)]


async def test_a_replay_changes_nothing(postgres_url: str) -> None:
    bars = rows([full(key, START + minute * MINUTE) for key in (NIFTY, CALL) for minute in range(50)])
    async with database(postgres_url) as pool:
        assert await cold.store_bars(pool, bars) == 100
        before = await stored(pool)
        assert await cold.store_bars(pool, bars) == 0
        assert await stored(pool) == before


# The consumer


@asynccontextmanager
async def keeping(settings: Settings) -> AsyncIterator[Bus]:
    """One process's share of the cold store."""
    async with Bus.open(settings.redis_url) as bus, postgres.open_pool(settings.postgres_url) as pool:
        worker = Worker("gateway", settings, bus, Servers(settings.redis_url, settings.postgres_url), 0)
        migrated, stop = asyncio.Event(), asyncio.Event()
        await postgres.migrate(pool)
        migrated.set()
        task = asyncio.create_task(cold.Store(worker, pool, migrated).run(stop))
        try:
            yield bus
        finally:
            stop.set()
            await task


async def count(url: str, table: str = "bars") -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()


async def settled(bus: Bus, stream: str) -> bool:
    """Everything in the stream was read by the cold store and acknowledged."""
    groups = [group for group in await bus.redis.xinfo_groups(stream) if group["name"] == b"cold"]
    last = await bus.last_entry(stream)
    return (
        bool(groups)
        and groups[0]["pending"] == 0
        and last is not None
        and groups[0]["last-delivered-id"] == last[0].encode()
    )


async def test_bars_and_events_of_the_streams_reach_postgres(settings: Settings) -> None:
    event = Event(kind=EventKind.ALERT, ts=5, worker="test", message="₹ look", data={"a": [1, None]})
    async with keeping(settings) as bus:
        for minute in range(30):
            await bus.redis.xadd(streams.candles(0), bar_fields(bar(NIFTY, START + minute * MINUTE)))
        entry = await bus.redis.xadd(streams.EVENTS, {"kind": "alert", "data": event.model_dump_json()})
        await until(lambda: settled(bus, streams.candles(0)))
        await until(lambda: settled(bus, streams.EVENTS))
        async with database(settings.postgres_url) as pool:
            assert [row["ts"] for row in await stored(pool)] == [START + minute * MINUTE for minute in range(30)]
            (row,) = await pool.fetch("SELECT * FROM events")
    assert dict(row) | {"data": orjson.loads(row["data"])} == {"id": entry.decode(), **event.model_dump(mode="json")}


GOOD = bar(NIFTY, START).model_dump_json()
BAD = {
    "no JSON": {"data": "{"},
    "no data": {"ts": "1"},
    "a field missing": {"data": '{"instrument":"A|1"}'},
    "a price that is text": {"data": GOOD.replace('"close":1.0', '"close":"x"')},
    "a price without bounds": {"data": GOOD.replace('"close":1.0', '"close":1e999')},
    "a price that is no number": {"data": GOOD.replace('"oi":null', '"oi":NaN')},
    "a volume beyond 64 bits": {"data": bar(NIFTY, START, volume=1 << 63).model_dump_json()},
    "a negative time": {"data": bar(NIFTY, -1).model_dump_json()},
    "a revision beyond 32 bits": {"data": bar(NIFTY, START, rev=1 << 31).model_dump_json()},
}


@pytest.mark.parametrize("name", BAD)
async def test_a_malformed_bar_is_set_aside_and_the_others_are_stored(settings: Settings, name: str) -> None:
    async with keeping(settings) as bus:
        stream = streams.candles(0)
        await bus.redis.xadd(stream, bar_fields(bar(NIFTY, START)))
        await bus.redis.xadd(stream, BAD[name])
        await bus.redis.xadd(stream, bar_fields(bar(NIFTY, START + MINUTE)))
        await until(lambda: settled(bus, stream))
        ((_, dead),) = await bus.redis.xrange(streams.dead(stream))
    assert await count(settings.postgres_url) == 2
    assert dead[b"worker"] == b"cold"
    assert dead[b"why"]


@pytest.mark.parametrize("message", ["\x00", "a\x00b"])
async def test_an_event_that_postgres_cannot_hold_is_set_aside(settings: Settings, message: str) -> None:
    bad = Event(kind=EventKind.ALERT, ts=1, worker="test", message=message)
    worse = Event(kind=EventKind.ALERT, ts=1, worker="test", message="", data={"x": message})
    async with keeping(settings) as bus:
        for event in (bad, worse, bad.model_copy(update={"message": "fine"})):
            await bus.redis.xadd(streams.EVENTS, {"kind": "alert", "data": event.model_dump_json()})
        await until(lambda: settled(bus, streams.EVENTS))
        assert await bus.redis.xlen(streams.dead(streams.EVENTS)) == 2
    assert await count(settings.postgres_url, "events") == 1


async def test_bars_trimmed_before_they_were_stored_are_told_as_a_gap(settings: Settings) -> None:
    stream = streams.candles(0)
    async with keeping(settings) as bus:
        await bus.redis.xadd(stream, bar_fields(bar(NIFTY, START)), id="1000-0")
        await until(lambda: settled(bus, stream))
    async with Bus.open(settings.redis_url) as bus:
        await bus.redis.set(streams.trimmed(stream), "2000-0")  # as commit.lua leaves it
        await bus.redis.xadd(stream, bar_fields(bar(NIFTY, START + MINUTE)), id="3000-0")
    async with keeping(settings) as bus:
        await until(lambda: settled(bus, stream))
        await until(lambda: gaps(bus))
        (fields,) = await gaps(bus)
    event = orjson.loads(fields[b"data"])
    assert (event["kind"], event["data"]["after"], event["data"]["to"]) == ("gap", "1000-0", "2000-0")


async def gaps(bus: Bus) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in await bus.redis.xrange(streams.EVENTS) if fields[b"kind"] == b"gap"]


async def test_two_stores_share_the_shards_and_lose_nothing(settings: Settings) -> None:
    settings = settings.model_copy(update={"teji_shards": 4, "teji_lease_s": 0.5})
    keys = [f"NSE_FO|{number}" for number in range(40)]
    async with keeping(settings) as bus:
        async with keeping(settings) as other:
            await until(lambda: _shared_by(bus, {bus.instance: 2, other.instance: 2}))
            for minute in range(50):
                for key in keys:
                    stream = streams.candles(streams.shard_of(key, 4))
                    await other.redis.xadd(stream, bar_fields(bar(key, START + minute * MINUTE)))
        for shard in range(4):
            await until(partial(settled, bus, streams.candles(shard)))
        assert await _shared_by(bus, {bus.instance: 4})
    assert await count(settings.postgres_url) == len(keys) * 50


async def _shared_by(bus: Bus, expected: dict[str, int]) -> bool:
    values = [await bus.get(streams.lease("cold", shard)) for shard in range(4)]
    owners = Counter(value.decode().partition(":")[2] for value in values if value is not None)
    return owners == expected


async def test_bars_wait_for_a_postgres_that_is_away_and_none_is_lost_or_doubled(
    redis_url: str, tmp_path: Path
) -> None:
    home = settings_in(tmp_path / "pg", redis_url="redis://unused")
    with embedded.servers(home) as servers:
        settings = settings_in(tmp_path / "home", redis_url=redis_url, database_url=servers.postgres_url)
        async with database(servers.postgres_url):
            pass
    async with Bus.open(redis_url) as bus:
        await bus.redis.xadd(streams.candles(0), bar_fields(bar(NIFTY, START)))
        async with postgres.open_pool(settings.postgres_url) as pool:
            stop, migrated = asyncio.Event(), asyncio.Event()
            migrated.set()
            worker = Worker("gateway", settings, bus, Servers(redis_url, settings.postgres_url), 0)
            task = asyncio.create_task(cold.Store(worker, pool, migrated).run(stop))
            await until(lambda: _pending(bus, 1))
            for round_ in range(2):
                with embedded.servers(home):
                    await until(lambda: settled(bus, streams.candles(0)))
                    assert await count(settings.postgres_url) == 1 + 20 * round_
                for minute in range(20):
                    ts = START + (1 + 20 * round_ + minute) * MINUTE
                    await bus.redis.xadd(streams.candles(0), bar_fields(bar(NIFTY, ts)))
            with embedded.servers(home):
                await until(lambda: settled(bus, streams.candles(0)))
                assert await count(settings.postgres_url) == 41
            stop.set()
            await task


async def _pending(bus: Bus, least: int) -> bool:
    if not await bus.redis.exists(streams.candles(0)):
        return False
    return any(group["pending"] >= least for group in await bus.redis.xinfo_groups(streams.candles(0)))


async def test_a_store_that_dies_between_postgres_and_redis_doubles_nothing(settings: Settings) -> None:
    """Stored, not acknowledged: the next one reads it again and changes nothing."""
    stream = streams.candles(0)
    async with Bus.open(settings.redis_url) as bus, database(settings.postgres_url) as pool:
        for minute in range(10):
            await bus.redis.xadd(stream, bar_fields(bar(NIFTY, START + minute * MINUTE)))
        await bus.redis.xgroup_create(stream, "cold", id="0")
        ((_, entries),) = await bus.redis.xreadgroup("cold", "cold-0", {stream: ">"}, count=7)
        await cold.store_bars(pool, rows([Bar.model_validate_json(fields[b"data"]) for _, fields in entries]))
    async with keeping(settings) as bus:
        await until(lambda: settled(bus, stream))
    assert await count(settings.postgres_url) == 10


async def test_the_instruments_of_the_list_are_in_postgres(settings: Settings) -> None:
    async with running(settings, universe()):
        await until(lambda: _has_tables(settings.postgres_url))
        await until(lambda: _count_is(settings.postgres_url, "instruments", len(universe())))
    connection = await asyncpg.connect(settings.postgres_url)
    row = await connection.fetchrow("SELECT * FROM instruments WHERE id = $1", streams.instrument_id(CALL))
    await connection.close()
    assert row is not None
    assert (row["key"], row["segment"], orjson.loads(row["details"])["strike"]) == (CALL, "NSE_FO", 25_000.0)


async def _has_tables(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT to_regclass('instruments')") is not None
    finally:
        await connection.close()


async def _count_is(url: str, table: str, rows: int) -> bool:
    return await count(url, table) == rows


def test_sorting_keeps_of_each_minute_the_highest_revision() -> None:
    bars = [bar(NIFTY, START + MINUTE), bar(NIFTY, START, rev=2), bar(NIFTY, START, rev=3), bar(CALL, START)]
    found = rows(bars)
    assert len(found) == 3
    order = list(zip(found["instrument_id"].tolist(), found["ts"].tolist(), strict=True))
    assert order == sorted(order)
    assert found["rev"][(found["ts"] == START) & (found["instrument_id"] == streams.instrument_id(NIFTY))] == [3]
    assert math.isnan(found["oi"][0])
    assert np.isfinite(found["close"]).all()
