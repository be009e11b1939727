"""Servers that go away, workers that die, work that is shared."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import orjson

import aggregator.worker
import ingest.worker
from bus import embedded
from schemas import streams
from tests.conftest import settings_in
from tests.end_to_end.pipeline import MINUTE, Pipeline, final, pipeline, reference_bars, start_all, unrevised
from tests.end_to_end.processes import processes


async def run_market(line: Pipeline, seconds: int) -> None:
    """Let market time pass, and the workers with it."""
    for _ in range(seconds // 5):
        await line.market.advance(5_000)
        await asyncio.sleep(0.005)


async def all_bars(line: Pipeline, shards: int = 1) -> list[dict[str, Any]]:
    return [bar for shard in range(shards) for bar in await line.bars(shard)]


def last_closed(line: Pipeline) -> int:
    return (line.market.now_ms() - 2000) // MINUTE * MINUTE - MINUTE


async def test_redis_restarted_under_load_costs_no_bar_and_doubles_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(embedded.servers(settings_in(home), postgres=False)).redis_url
        async with pipeline(url, home) as line:
            start_all(line)
            await line.until(lambda: line.market.hub.connections, "connected")
            await run_market(line, 100)
            await asyncio.to_thread(first_life.close)  # the last user leaves: Redis stops
            await run_market(line, 30)
            with embedded.servers(settings_in(home), postgres=False) as again:
                assert again.redis_url == url
                await run_market(line, 80)
                closed = last_closed(line)
                await line.until(lambda: line.minute_closed(closed), "the last minute left")
                await line.until(line.caught_up, "all ticks are folded")
                bars = await all_bars(line)
                for name in list(line.tasks):
                    await line.stop(name)
        theirs = reference_bars(line.market.sent, line.market.now_ms())
    ours = final(bars)
    assert unrevised(ours) == unrevised({where: theirs[where] for where in ours})
    assert {where for where in theirs if where[1] <= closed} == set(ours)
    assert len({(bar["instrument"], bar["ts"], bar["rev"]) for bar in bars}) == len(bars)


async def test_minutes_end_without_ingest_and_say_that_they_are_not_whole(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 175)  # twenty seconds before a minute's end... and then nobody tells the time
        await line.stop("ingest")
        minute = line.market.now_ms() // MINUTE * MINUTE
        left_s = (minute + MINUTE - line.market.now_ms()) / 1000 + 2
        assert left_s < 12
        await line.until(lambda: line.minute_closed(minute), "the minute left by the stopwatch", left_s + 15)
        cut = [bar for bar in await line.bars() if bar["ts"] == minute]
        assert cut
        assert not any(bar["complete"] for bar in cut)
        assert any(bar["complete"] for bar in await line.bars())


async def test_four_shards_and_two_aggregators_share_the_work_and_double_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=4) as line:
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: line.market.hub.connections, "connected")
        env = {"REDIS_URL": redis_url, "TEJI_HOME": str(tmp_path / "home"), "TEJI_LEASE_S": "1", "TEJI_SHARDS": "4"}
        (tmp_path / "other").mkdir()
        async with processes(env, tmp_path, "aggregator") as one, processes(env, tmp_path / "other", "aggregator"):
            await line.until(lambda: shared_by(line, 2), "two processes have two shards each")
            await run_market(line, 100)
            await asyncio.to_thread(one["aggregator"].kill)
            await run_market(line, 120)
            closed = last_closed(line)
            await line.until(lambda: every_shard_closed(line, closed), "every shard's last minute left", 30)
            bars = await all_bars(line, 4)
        theirs = reference_bars(line.market.sent, line.market.now_ms())
    ours = final([bar for bar in bars if bar["ts"] <= closed])
    assert unrevised(ours) == unrevised({where: bar for where, bar in theirs.items() if where[1] <= closed})
    assert len({(bar["instrument"], bar["ts"], bar["rev"]) for bar in bars}) == len(bars)


async def shared_by(line: Pipeline, owners: int) -> bool:
    values = [await line.bus.redis.get(streams.lease("aggregator", shard)) for shard in range(4)]
    held = [value.decode().split(":", 1)[1] for value in values if value]
    return len(held) == 4 and len(set(held)) == owners and all(held.count(owner) == 4 // owners for owner in held)


async def every_shard_closed(line: Pipeline, ts: int) -> bool:
    for shard in range(4):
        last = await line.bus.redis.xrevrange(streams.candles(shard), count=1)
        if not last or int(last[0][1][b"ts"]) < ts:
            return False
    return True


async def test_a_hopeless_entry_is_set_aside_and_the_others_go_on(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 30)
        redis = line.bus.redis
        await redis.xadd(streams.ticks(0), {"ts": "not a number", "n": 1})
        await redis.xadd(streams.ticks(0), {"nothing": "of ours"})
        await run_market(line, 60)
        closed = last_closed(line)
        await line.until(lambda: line.minute_closed(closed), "bars go on")
        dead = await redis.xrange(streams.dead(streams.ticks(0)))
        assert [fields[b"worker"] for _, fields in dead] == [b"aggregator"] * 2
        assert all(fields[b"why"] for _, fields in dead)


async def test_ticks_trimmed_before_they_were_read_are_an_event_and_make_bars_incomplete(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await run_market(line, 65)
        await line.until(line.caught_up, "read")
        await line.stop("aggregator")
        await run_market(line, 65)
        await line.until(lambda: long_enough(line), "entries to lose")
        last = (await line.bus.redis.xrevrange(streams.ticks(0), count=1))[0][0]
        await line.bus.redis.xtrim(streams.ticks(0), minid=last, approximate=False)
        await line.bus.redis.set(streams.trimmed(streams.ticks(0)), f"{int(last.split(b'-')[0]) - 1}-0")
        line.start("aggregator", aggregator.worker.run)
        await run_market(line, 65)
        closed = last_closed(line)
        await line.until(lambda: line.minute_closed(closed), "bars go on")
        events = await line.bus.redis.xrange(streams.EVENTS)
        gaps = [orjson.loads(fields[b"data"]) for _, fields in events if fields[b"kind"] == b"gap"]
        assert gaps
        assert gaps[0]["data"]["stream"] == streams.ticks(0)
        lost = [bar for bar in final(await line.bars()).values() if not bar["complete"]]
        assert lost


async def long_enough(line: Pipeline) -> bool:
    return bool(await line.bus.redis.xlen(streams.ticks(0)) > 50)
