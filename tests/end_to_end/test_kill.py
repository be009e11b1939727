"""kill -9, at any moment."""

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import pytest

import ingest.worker
from aggregator.bars import BarBuilder, Produced
from aggregator.worker import hours
from bus.connection import Bus
from schemas import streams, ticks
from schemas.terms import Terms
from tests.end_to_end.pipeline import Pipeline, pipeline
from tests.end_to_end.processes import processes

_PLAY_S: Final = 12.0
TICKS, BARS = streams.ticks(0), streams.candles(0)


async def recorded(line: Pipeline, minutes: int) -> list[dict[bytes, bytes]]:
    """A stream of tick entries as ingest writes it."""
    line.start("ingest", ingest.worker.run)
    await line.until(lambda: line.market.hub.connections, "connected")
    for _ in range(minutes * 12):
        await line.market.advance(5_000)
        await asyncio.sleep(0.01)  # ingest publishes: many entries, not one
    last = line.market.now_ms() - 1000

    async def all_published() -> bool:
        entry = await line.bus.last_entry(TICKS)
        return entry is not None and int(entry[1][b"ts"]) >= last

    await line.until(all_published, "everything is published")
    await line.stop("ingest")
    return [fields for _, fields in await line.bus.redis.xrange(TICKS)]


def undisturbed(entries: list[dict[bytes, bytes]], terms: dict[bytes, bytes], rate: float) -> list[Produced]:
    """What the fold makes of the entries in one go."""
    builder = BarBuilder(hours, asks=True, rate=rate)
    known = {key.decode(): Terms.model_validate_json(body) for key, body in terms.items()}
    found: list[Produced] = []
    for batch in map(ticks.unpack, entries):
        produced = builder.add(batch)
        while produced.wanted:
            builder.know({key: known.get(key) for key in produced.wanted}, batch.ts)
            produced = builder.go_on()
        found.append(produced)
    return found


async def panels(bus: Bus) -> list[tuple[int, bytes]]:
    return [(int(fields[b"ts"]), fields[b"rec"]) for _, fields in await bus.redis.xrange(streams.panel(0))]


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_stream_of_bars_survives_kills_of_the_aggregator_byte_for_byte(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        entries = await recorded(line, minutes=6)
        terms = await line.bus.redis.hgetall(streams.terms(0))
        made = undisturbed(entries, terms, line.settings.teji_rate)
        expected = [bar.data for each in made for bar in each.bars]
        moments = [(part.ts, part.rec.tobytes()) for each in made for part in each.panels]
        assert len(expected) > 150
        assert any(b'"flag":"ok"' in data for data in expected)
        assert len(moments) >= 5
        await line.bus.redis.flushall()
        await line.bus.redis.hset(streams.terms(0), mapping=terms)
        env = {"REDIS_URL": redis_url, "TEJI_HOME": str(tmp_path / "home"), "TEJI_LEASE_S": "0.5"}
        async with processes(env, tmp_path, "aggregator") as running:
            done = asyncio.Event()
            await asyncio.gather(play(line.bus, entries, done), kill(running["aggregator"], random.Random(seed), done))

            async def published() -> bool:
                running["aggregator"].check()
                return bool(await line.bus.redis.xlen(BARS) >= len(expected))

            await line.until(published, "all bars")
        assert running["aggregator"].kills >= 3
        assert [fields[b"data"] for _, fields in await line.bus.redis.xrange(BARS)] == expected
        assert (await panels(line.bus))[: len(moments)] == moments


async def play(bus: Bus, entries: list[dict[bytes, bytes]], done: asyncio.Event) -> None:
    """Slow enough for several lives of the reader."""
    for fields in entries:
        await bus.redis.xadd(TICKS, fields)
        await asyncio.sleep(_PLAY_S / len(entries))
    done.set()


async def kill(process: Any, rng: random.Random, done: asyncio.Event) -> None:
    """At random moments, until the stream has been played."""
    while not done.is_set():
        await asyncio.sleep(rng.uniform(1.0, 3.0))
        await asyncio.to_thread(process.kill)
