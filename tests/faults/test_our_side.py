"""Faults behind the socket: a consumer that does not read, a Redis that goes away."""

import asyncio
import contextlib
from pathlib import Path

import aggregator.worker
from bus import embedded, metrics
from schemas import streams
from tests.conftest import settings_in
from tests.faults.scene import scene
from tests.ingest import live

LEASE_S = 1.0
BUFFER_MAX_BYTES = 1 << 20


async def test_stalled_consumer(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await line.run(25)
        await line.until(line.caught_up, "all of it is read")
        await line.stop("aggregator")
        dropped, bars = metrics.DROPPED_FRAMES._value.get(), len(await line.bars())
        before = await line.bus.redis.xlen(streams.ticks(0))
        highest = 0.0
        for _ in range(8):
            await line.run(10)
            highest = max(highest, metrics.BUFFER_BYTES.labels("0")._value.get())
        assert await live.feed_is(line, "live")  # the feed has nothing to do with it
        assert await line.bus.redis.xlen(streams.ticks(0)) > before  # the stream keeps what nobody reads yet
        assert highest < BUFFER_MAX_BYTES
        assert metrics.DROPPED_FRAMES._value.get() == dropped
        assert len(await line.bars()) == bars
        incomplete = await line.incomplete_first()
        line.start("aggregator", aggregator.worker.run, "again")
        await line.until(line.caught_up, "it has caught up", LEASE_S + 20)
        await line.comes_right()
        assert await line.incomplete_first() == incomplete  # nothing was lost, so nothing had to be filled
        assert not await line.gaps()


async def test_redis_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(embedded.servers(settings_in(home), postgres=False)).redis_url
        async with scene(url, home) as line:
            await line.run(25)
            dropped, connections = metrics.DROPPED_FRAMES._value.get(), set(line.market.hub.connections)
            await asyncio.to_thread(first_life.close)  # the last user leaves: Redis stops
            await line.run(60)
            assert metrics.BUFFER_BYTES.labels("0")._value.get() > 0  # what arrives is kept meanwhile
            with embedded.servers(settings_in(home), postgres=False) as again:
                assert again.redis_url == url
                await line.until(line.caught_up, "what was kept has been published and read", LEASE_S + 20)
                await line.comes_right()
                assert set(line.market.hub.connections) == connections
                assert metrics.DROPPED_FRAMES._value.get() == dropped
                for name in list(line.tasks):
                    await line.stop(name)
