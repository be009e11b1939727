"""The shell of the chain, on a real Redis: commits, crashes, silence, what cannot be read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import orjson
import pytest

from aggregator import chain_worker
from aggregator.chain import PATIENCE_MS
from aggregator.chain_worker import NAME, ChainShard, day_before
from bus.connection import Bus
from bus.settings import Calendar
from schemas import streams
from schemas.chain import Chain
from schemas.panel import Panel, pack
from tests.aggregator.chains import DAY, MINUTE, OPEN_MS, TS, Market, panel
from tests.aggregator.power import Cut, PowerCut
from tests.aggregator.test_chain import spread_out

PANELS, CHAINS, STATE = streams.panel(0), streams.chain(0), streams.state(NAME, 0)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is asked to stop does so at once."""
    monkeypatch.setattr(chain_worker, "_READ_BLOCK_MS", 20)


@contextlib.asynccontextmanager
async def opened(url: str, market: Market, shards: int) -> AsyncIterator[Bus]:
    """A Redis that knows the terms, wherever an instrument may live."""
    async with Bus.open(url) as bus:
        for shard in range(shards):
            terms = {key: of.model_dump_json() for key, of in market.terms.items()}
            await bus.redis.hset(streams.terms(shard), mapping=terms)
        yield bus


async def tell(bus: Bus, one: Panel, at_ms: int | str) -> None:
    await bus.redis.xadd(PANELS, pack(one.ts, one.shard, one.keys, one.rec), id=at_ms if at_ms == "*" else f"{at_ms}-0")


async def run(
    bus: Bus, market: Market, shards: int, until: Callable[[], Any], cut: tuple[int, bool] = (0, False)
) -> None:
    """One life of the shard, up to a power cut or a fact."""
    shard = ChainShard(
        bus, Cut(bus, *cut, untrimmed=(CHAINS, streams.EVENTS, streams.dead(PANELS))), 0, market.builder(shards)
    )
    over = asyncio.Event()
    life = asyncio.create_task(shard.run(over))
    try:
        async with asyncio.timeout(30):
            while not life.done() and not await until():
                await asyncio.wait([life], timeout=0.01)
    finally:
        over.set()
        await life


async def left(bus: Bus) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in await bus.redis.xrange(CHAINS)]


def caught_up(bus: Bus, chains: int) -> Callable[[], Any]:
    async def so() -> bool:
        position = await bus.get(streams.position(NAME, PANELS, STATE))
        last = await bus.last_entry(PANELS)
        assert last is not None
        return position == last[0].encode() and await bus.redis.xlen(CHAINS) >= chains

    return so


def history() -> tuple[Market, list[tuple[Panel, int]], int]:
    """Four minutes of three shards: whole, one silent, one late, repeated; when Redis took them; how many chains."""
    market, told = spread_out()
    taken: list[tuple[Panel, int]] = []
    at_ms = 1_000
    for number, shards in enumerate([(0, 1, 2), (0, 2), (2, 1, 1, 0), (1, 0, 2)]):
        at_ms += MINUTE
        for shard in shards:
            at_ms += 1
            taken.append((panel(told[shard], TS + number * MINUTE, shard), at_ms))
    late = at_ms + PATIENCE_MS
    return market, [*taken, (panel(told[1], TS + MINUTE, 1), late)], 5


async def test_what_leaves_is_what_the_fold_makes(redis_url: str) -> None:
    market, taken, count = history()
    builder = market.builder(3)
    expected = [made for one, at_ms in taken for made in market.add(builder, one, at_ms)]
    assert [(made.ts, made.rev) for made in expected] == [
        (TS, 0), (TS + MINUTE, 0), (TS + 2 * MINUTE, 0), (TS + 3 * MINUTE, 0), (TS + MINUTE, 1)
    ]  # fmt: skip
    async with opened(redis_url, market, 3) as bus:
        for one, at_ms in taken:
            await tell(bus, one, at_ms)
        await run(bus, market, 3, caught_up(bus, count))
        entries = await left(bus)
    assert [fields[b"data"] for fields in entries] == [made.data for made in expected]
    assert set(entries[0]) == {b"underlying", b"expiry", b"ts", b"data"}
    chain = Chain.model_validate_json(entries[0][b"data"])
    assert entries[0][b"underlying"].decode() == chain.underlying
    assert entries[0][b"expiry"].decode() == chain.expiry.isoformat()
    assert int(entries[0][b"ts"]) == chain.ts


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
async def test_a_power_cut_at_any_commit_changes_no_byte(
    redis_url: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_worker, "_READ_ENTRIES_MAX", 1)
    monkeypatch.setattr(chain_worker, "_COMMIT_S", 0.0)  # a commit for every panel
    market, taken, count = history()
    builder = market.builder(3)
    expected = [made.data for one, at_ms in taken for made in market.add(builder, one, at_ms)]
    async with opened(redis_url, market, 3) as bus:
        for at in range(1, len(taken) + 1):
            await bus.redis.delete(PANELS, CHAINS, STATE, streams.position(NAME, PANELS, STATE))
            for one, at_ms in taken:
                await tell(bus, one, at_ms)
            with pytest.raises(PowerCut):
                await run(bus, market, 3, caught_up(bus, count + 1), (at, after))
            await run(bus, market, 3, caught_up(bus, count))
            assert [fields[b"data"] for fields in await left(bus)] == expected, at


async def test_a_shard_that_stays_silent_is_left_out_by_the_clock_of_redis(redis_url: str) -> None:
    market, told = spread_out(2)
    async with opened(redis_url, market, 2) as bus:
        taken_ms = await bus.now_ms() - PATIENCE_MS + 700
        await tell(bus, panel(told[0]), taken_ms)
        await run(bus, market, 2, caught_up(bus, 1))
        ((entry_id, fields),) = await bus.redis.xrange(CHAINS)
        assert int(entry_id.partition(b"-")[0]) >= taken_ms + PATIENCE_MS
        chain = Chain.model_validate_json(fields[b"data"])
        assert (chain.complete, chain.silent_shards) == (False, [1])
        await tell(bus, panel(told[1], shard=1), "*")
        await run(bus, market, 2, caught_up(bus, 2))
        chain = Chain.model_validate_json((await left(bus))[-1][b"data"])
        assert (chain.rev, chain.complete, chain.silent_shards) == (1, True, [])


async def test_what_is_no_panel_is_set_aside_and_the_rest_goes_on(redis_url: str) -> None:
    market, told = spread_out(1)
    async with opened(redis_url, market, 1) as bus:
        await bus.redis.xadd(PANELS, {"ts": "yesterday"}, id="1-1")
        await tell(bus, panel(told[0], shard=4), 2)
        await tell(bus, panel(told[0]), 3)
        await run(bus, market, 1, caught_up(bus, 1))
        why = [fields[b"why"].decode() for _, fields in await bus.redis.xrange(streams.dead(PANELS))]
        assert len(await left(bus)) == 1
    assert len(why) == 2
    assert "TEJI_SHARDS" in why[1]


async def test_a_memory_that_cannot_be_read_is_told_and_a_new_one_begun(redis_url: str) -> None:
    market, told = spread_out(1)
    async with opened(redis_url, market, 1) as bus:
        await bus.redis.set(STATE, b"of another program")
        await tell(bus, panel(told[0]), 3)
        await run(bus, market, 1, caught_up(bus, 1))
        ((_, fields),) = await bus.redis.xrange(streams.EVENTS)
    event = orjson.loads(fields[b"data"])
    assert (event["kind"], event["worker"]) == ("alert", "chain")
    assert "without its memory" in event["message"]


async def test_panels_that_were_trimmed_unread_are_told_as_a_gap(redis_url: str) -> None:
    market, told = spread_out(1)
    async with opened(redis_url, market, 1) as bus:
        await tell(bus, panel(told[0]), 1)
        await run(bus, market, 1, caught_up(bus, 1))
        await bus.redis.set(streams.trimmed(PANELS), "7-0")
        await tell(bus, panel(told[0], TS + 2 * MINUTE), 8)
        await run(bus, market, 1, caught_up(bus, 2))
        ((_, fields),) = await bus.redis.xrange(streams.EVENTS)
    event = orjson.loads(fields[b"data"])
    assert (event["kind"], event["data"]["last"]) == ("gap", "7-0")


async def test_terms_are_looked_up_anew_each_day(redis_url: str) -> None:
    market = Market()
    key = market.option(100.0, "call", key="NSE_FO|7")
    async with opened(redis_url, market, 1) as bus:
        await tell(bus, panel({key: {"ltp": 1.0, "oi": 75.0}}), 1)
        await run(bus, market, 1, caught_up(bus, 1))
        market.option(105.0, "put", key=key)
        await bus.redis.hset(streams.terms(0), key, market.terms[key].model_dump_json())
        await tell(bus, panel({key: {"ltp": 1.0, "oi": 75.0}}, TS + DAY), 2)
        await run(bus, market, 1, caught_up(bus, 2))
        strikes = [orjson.loads(fields[b"data"])["strikes"][0] for fields in await left(bus)]
    assert [(row["strike"], row["call"] is None) for row in strikes] == [(100.0, False), (105.0, True)]


def test_the_day_before_is_the_calendars() -> None:
    before = day_before(Calendar.EXCHANGE)
    assert before("NSE_FO", date(2026, 11, 18)) == (date(2026, 11, 17), OPEN_MS - DAY + 385 * MINUTE)
    assert before("NSE_FO", date(2026, 11, 11)) == (date(2026, 11, 9), OPEN_MS - 9 * DAY + 385 * MINUTE)
    assert before("NSE_FO", date(2031, 1, 1)) is None
    assert before("NO_SUCH", date(2026, 11, 18)) is None
    midnight = OPEN_MS - (9 * 60 + 15) * MINUTE
    assert day_before(Calendar.ALWAYS)("NSE_FO", date(2026, 11, 18)) == (date(2026, 11, 17), midnight)
