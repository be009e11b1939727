"""The whole pipeline on a real Redis Cluster of three nodes: two of each worker, the gateway, a kill, SSE."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import orjson

from bus import lease
from bus.cluster import slot_of
from schemas import streams
from tests.bus.facts import until
from tests.bus.nodes import Nodes
from tests.end_to_end.pipeline import MINUTE
from tests.gateway.house import Client, connect
from tests.scale.fleet import Fleet, fleet

SHARDS: Final = 4


async def test_bars_are_the_venues_and_reach_the_browser_while_workers_are_killed(
    redis_cluster: Nodes, postgres_url: str, tmp_path: Path
) -> None:
    owners = [redis_cluster.owner(slot_of(streams.ticks(shard))) for shard in range(SHARDS)]
    assert len(set(owners)) == 3  # each node has a part of the work
    async with fleet(redis_cluster.url, tmp_path, SHARDS, DATABASE_URL=postgres_url) as ships:
        ships.start("ingest", 2)
        ships.start("aggregator", 2)
        ships.start("gateway")
        await ships.until_shared("ingest", 2, 2)
        await ships.until_shared("aggregator", 2, 2)
        await ships.until_ticking()
        async with listening(ships) as told:
            first = ships.market.now_ms() // MINUTE * MINUTE + MINUTE
            for worker in ("ingest", "aggregator"):
                (killed, *_) = await ships.busy(worker)
                ships.kill(worker, killed)
                await ships.until_without(worker, [killed])
            last = max(ships.market.now_ms() // MINUTE * MINUTE + MINUTE, first + 2 * MINUTE)  # a machine may be fast
            assert await ships.equals_the_venue(first, last) > 20
            await until(lambda: all_were_told(ships, told, first, last), "a browser has them all", 20)
        assert len(told) == len(set(told))
        moved = {(event["worker"], event["data"]["before"]) for event in await ships.events("lease")}
        assert {worker for worker, _ in moved} >= {"ingest", "aggregator"}


Told = list[tuple[str, int, int]]  # instrument, minute, revision


@contextlib.asynccontextmanager
async def listening(ships: Fleet) -> AsyncIterator[Told]:
    """A client of the candles' stream, over all shards and so over all nodes."""
    url = await page(ships)
    told: Told = []

    async def listen(client: Client) -> None:
        while True:
            message = await client.message()
            if message.event == "candle":
                bar = orjson.loads(message.data)
                told.append((bar["instrument"], bar["ts"], bar["rev"]))

    client = await connect(url, "candles")
    task = asyncio.create_task(listen(client))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def page(ships: Fleet) -> str:
    """Where the gateway listens, once it finds everything in order."""
    (process,) = ships.running["gateway"]

    async def there() -> str:
        ships.check()
        said = [orjson.loads(line) for line in process.text.splitlines() if '"listening"' in line]
        if not said or not await lease.living(ships.bus, "gateway"):
            return ""
        async with httpx.AsyncClient(trust_env=False) as client:
            health = (await client.get(f"{said[0]['url']}/health")).json()
        return str(said[0]["url"]) if health["redis"]["ok"] and health["postgres"]["ok"] else ""

    await until(there, "the gateway is healthy", 60)
    return await there()


async def all_were_told(ships: Fleet, told: Told, first: int, last: int) -> bool:
    known = set(told)
    bars = [(bar["instrument"], bar["ts"], bar["rev"]) for bar in await ships.bars()]
    return all(bar in known for bar in bars if first <= bar[1] < last)
