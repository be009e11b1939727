"""The shell of the aggregator, on a real Redis: terms, panels, commits, crashes, what was missed."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
import pytest
from prometheus_client import REGISTRY

from aggregator import worker
from aggregator.bars import BarBuilder
from aggregator.worker import NAME, Shard
from bus.connection import Bus
from schemas import panel, streams, ticks
from schemas.terms import Terms
from schemas.ticks import FeedMark
from tests.aggregator.power import Cut, PowerCut
from tests.aggregator.reference import MINUTE
from tests.aggregator.test_bars import T0, always
from tests.aggregator.test_own_greeks import CALL, FUTURE, PUT, RATE, SPOT, TERMS, add, quoted, told, traded
from tests.aggregator.ticks import packed, unpacked

TICKS, BARS, STATE = streams.ticks(0), streams.candles(0), streams.state(NAME, 0)
POSITION: Final = streams.position(NAME, TICKS, STATE)
Fields = Mapping[bytes, Any]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is asked to stop does so at once."""
    monkeypatch.setattr(worker, "_READ_BLOCK_MS", 20)


def mark(ts: int, feed: bytes) -> Fields:
    return ticks.pack_mark(ts, ts * 1_000_000, feed=feed)


def minutes() -> list[Fields]:
    """Three minutes: trades and quotes of all, one without anything, a late trade."""
    entries: list[Fields] = [
        packed([traded(SPOT, T0 - 70_000, 100.0, None, base=True), traded(FUTURE, T0 - 70_000, 101.0, base=True)]),
        packed([traded(CALL, T0 - 69_000, 3.0, base=True), traded(PUT, T0 - 68_000, 2.0, base=True)]),
        packed([quoted(FUTURE, T0 + 1000, 101.0, 101.2, vtt=100), traded(CALL, T0 + 2000, 3.0, 175)]),
        packed([traded(PUT, T0 + 3000, 2.0, 175), traded(CALL, T0 + MINUTE - 1, 3.2, 250)]),
        mark(T0 + MINUTE + 1000, FeedMark.LIVE),
        mark(T0 + MINUTE + 2000, FeedMark.LIVE),
        packed([traded(PUT, T0 + MINUTE + 3000, 2.4, 250) | {"ltt": T0 + 59_000}]),
    ]
    entries += [mark(T0 + MINUTE + s * 1000, FeedMark.LIVE) for s in range(4, 130, 9)]
    return entries


async def begin(bus: Bus, entries: list[Fields]) -> None:
    await bus.redis.flushall()
    terms = {key: Terms(**about).model_dump_json() for key, about in TERMS.items()}
    await bus.redis.hset(streams.terms(0), mapping=terms)
    for fields in entries:
        await bus.redis.xadd(TICKS, fields)


async def run(bus: Bus, until: Callable[[], Any], shards: int = 1, cut: tuple[int, bool] = (0, False)) -> None:
    """One life of the shard, up to a power cut or a fact."""
    builder = BarBuilder(always, asks=True, shards=shards, rate=RATE)
    over = asyncio.Event()
    life = asyncio.create_task(Shard(bus, Cut(bus, *cut), 0, builder).run(over))
    try:
        async with asyncio.timeout(30):
            while not life.done() and not await until():
                await asyncio.wait([life], timeout=0.01)
    finally:
        over.set()
        await life


def caught_up(bus: Bus) -> Callable[[], Any]:
    async def so() -> bool:
        last = await bus.last_entry(TICKS)
        assert last is not None
        return await bus.get(POSITION) == last[0].encode()

    return so


async def left(bus: Bus, shards: int) -> list[Any]:
    """As `told` has it."""
    bars = [fields[b"data"] for _, fields in await bus.redis.xrange(BARS)]
    entries = [(to, fields) for to in range(shards) for _, fields in await bus.redis.xrange(streams.panel(to))]
    found = [(to, panel.unpack(fields)) for to, fields in entries]
    parts = [(to, each.ts, each.keys, each.rec.tobytes()) for to, each in found]
    assert {each.shard for _, each in found} == {0}
    return [*bars, *sorted(parts, key=lambda part: (part[1], part[0]))]


def undisturbed(entries: list[Fields], shards: int) -> list[Any]:
    builder = BarBuilder(always, asks=True, shards=shards, rate=RATE)
    return told([add(builder, unpacked(dict(fields))) for fields in entries])


@pytest.mark.parametrize("shards", [1, 3])
async def test_bars_and_panels_that_leave_are_those_of_the_fold(redis_url: str, shards: int) -> None:
    entries = minutes()
    async with Bus.open(redis_url) as bus:
        await begin(bus, entries)
        await run(bus, caught_up(bus), shards)
        found = await left(bus, shards)
    assert found == undisturbed(entries, shards)
    models = [orjson.loads(each)["model"] for each in found if isinstance(each, bytes)]
    assert {each["flag"] for each in models if each} == {"ok"}
    assert sum(isinstance(each, tuple) for each in found) == 4 * shards


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("shards", [1, 3])
async def test_a_power_cut_at_any_commit_changes_no_byte(
    redis_url: str, shards: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_READ_ENTRIES_MAX", 2)
    monkeypatch.setattr(worker, "_READ_ENTRIES_FIRST", 2)
    monkeypatch.setattr(worker, "_COMMIT_S", 0.0)
    monkeypatch.setattr(worker, "_COMMIT_BYTES_PER_S", 1e15)  # a commit for every read
    entries = minutes()
    expected = undisturbed(entries, shards)
    async with Bus.open(redis_url) as bus:
        for at in range(1, len(entries) // 2 + 1):
            await begin(bus, entries)
            with pytest.raises(PowerCut):
                await run(bus, caught_up(bus), shards, (at, after))
            await run(bus, caught_up(bus), shards)
            assert await left(bus, shards) == expected, at


async def test_terms_that_come_later_or_cannot_be_read_break_nothing(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, minutes())
        await bus.redis.delete(streams.terms(0))
        await bus.redis.hset(streams.terms(0), CALL, b'{"kind": "something else"}')
        await run(bus, caught_up(bus))
        models = [orjson.loads(fields[b"data"])["model"] for _, fields in await bus.redis.xrange(BARS)]
        assert models
        assert not any(models)
        later = T0 + 3_600_000
        await bus.redis.hset(streams.terms(0), CALL, Terms(**TERMS[CALL]).model_dump_json())
        await bus.redis.xadd(TICKS, packed([traded(CALL, later, 3.0, 300, bid=3.0, ask=3.1)]))
        await bus.redis.xadd(TICKS, mark(later + MINUTE + 2000, FeedMark.LIVE))
        await run(bus, caught_up(bus))
        ((_, last),) = await bus.redis.xrevrange(BARS, count=1)
    assert orjson.loads(last[b"data"])["model"]["price_from"] == "mid"


async def gaps(bus: Bus) -> list[dict[str, Any]]:
    found = [orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(streams.EVENTS)]
    return [event["data"] for event in found if event["kind"] == "gap"]


async def test_trimmed_entries_are_told_with_the_venue_time_that_is_missing(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, [packed([traded(CALL, T0 + 1000, 3.0, base=True)])])
        await run(bus, caught_up(bus))
        lost = (await bus.redis.xadd(TICKS, mark(T0 + 2000, FeedMark.LIVE))).decode()
        await bus.redis.xdel(TICKS, lost)
        await bus.redis.set(streams.trimmed(TICKS), lost)
        await bus.redis.xadd(TICKS, mark(T0 + 9000, FeedMark.LIVE))
        await run(bus, caught_up(bus))
        (gap,) = await gaps(bus)
    assert (gap["from_ts"], gap["to_ts"]) == (T0 + 1000, T0 + 9000)
    assert (gap["shard"], gap["instruments"], gap["last"]) == (0, None, lost)


async def test_a_memory_of_another_version_is_told_with_what_is_missing_and_a_new_one_begun(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await begin(bus, [packed([traded(CALL, T0 + 1000, 3.0, base=True)])])
        await bus.redis.set(STATE, b"of another version")
        await run(bus, caught_up(bus))
        events = [orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(streams.EVENTS)]
        (gap,) = await gaps(bus)
        assert await bus.get(STATE) != b"of another version"
        await run(bus, caught_up(bus))
        assert len(await gaps(bus)) == 1  # told once
    assert [event["kind"] for event in events] == ["alert", "gap"]
    assert "without its memory" in events[0]["message"]
    assert (gap["to_ts"], gap["instruments"]) == (T0 + 1000, None)
    assert gap["from_ts"] < T0


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_the_distance_from_the_venues_greeks_is_measured_by_minute(redis_url: str) -> None:
    before = counted("teji_own_greeks_total", flag="ok"), counted("teji_own_greeks_total", flag="below_intrinsic")
    venue = {"delta": 0.5, "iv": 0.2}
    async with Bus.open(redis_url) as bus:
        start = [traded(key, T0 - 70_000, 3.0, base=True) for key in (FUTURE, CALL, PUT)]
        trades = [traded(FUTURE, T0 + 500, 101.0, 175), traded(CALL, T0 + 2000, 3.0, 175, **venue)]
        trades += [traded(PUT, T0 + 2000, 2.0, 175, **venue)]
        await begin(bus, [packed(start), packed(trades), mark(T0 + MINUTE + 2000, FeedMark.LIVE)])
        await run(bus, caught_up(bus))
        bars = [orjson.loads(fields[b"data"]) for _, fields in await bus.redis.xrange(BARS)]
    models = [bar["model"] for bar in bars if bar["ts"] == T0 and bar["model"]]
    assert counted("teji_own_greeks_total", flag="ok") - before[0] == 2
    assert counted("teji_greeks_compared", shard="0") == 2
    for value in ("iv", "delta"):
        away = sorted(abs(model[value] - venue[value]) for model in models)
        assert counted("teji_greeks_drift", shard="0", value=value, stat="median") == pytest.approx(sum(away) / 2)
        assert away[0] <= counted("teji_greeks_drift", shard="0", value=value, stat="p95") <= away[1]
