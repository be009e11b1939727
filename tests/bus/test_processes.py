"""Several processes of one worker: shards spread, move when one dies, and nothing is folded twice or by two."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bus.connection import Bus
from schemas import streams
from tests.bus.facts import until
from tests.bus.processes import Process, toy
from tests.bus.toy import NAME, undisturbed

SHARDS = 6
LIFE_S = 0.5
#: Processes are scheduled late on a machine that is busy with other tests.
SLACK_S = 1.5


class Crew:
    """Toy workers on one Redis, fed all the while."""

    def __init__(self, bus: Bus, redis_url: str, folder: Path) -> None:
        self.bus = bus
        self.running: list[Process] = []
        self.written: dict[int, list[dict[bytes, bytes]]] = {shard: [] for shard in range(SHARDS)}
        self._redis_url = redis_url
        self._folder = folder
        self._started = 0

    def start(self) -> Process:
        self._started += 1
        log = self._folder / f"toy-{self._started}.log"
        process = toy(log, self._redis_url, TEJI_SHARDS=str(SHARDS), TEJI_LEASE_S=str(LIFE_S))
        self.running.append(process)
        return process

    async def feed(self, enough: asyncio.Event) -> None:
        number = 0
        while not enough.is_set():
            for shard in range(SHARDS):
                fields = {b"key": b"%d" % (number % 3), b"value": b"%d" % number}
                self.written[shard].append(fields)
                await self.bus.redis.xadd(streams.ticks(shard), fields)
            number += 1
            await asyncio.sleep(0.004)

    async def holders(self) -> dict[int, str]:
        values = await self.bus.redis.mget([streams.lease(NAME, shard) for shard in range(SHARDS)])
        return {shard: value.decode().split(":", 1)[1] for shard, value in enumerate(values) if value}

    def of(self, process: Process) -> str:
        """A part of the name that this process holds leases under."""
        return f"-{process.pid}-"

    async def spread(self, *counts: int) -> float:
        async def true() -> bool:
            assert all(process.alive() for process in self.running), [p.text[-1000:] for p in self.running]
            return sorted(Counter((await self.holders()).values()).values()) == sorted(counts)

        return await until(true, f"shards spread {counts}", 30)

    async def nobody_but_others_holds(self, gone: Process) -> float:
        async def true() -> bool:
            holders = await self.holders()
            return len(holders) == SHARDS and not any(self.of(gone) in name for name in holders.values())

        return await until(true, "others hold its shards", 30)

    async def every_shard_moves(self) -> None:
        before = {shard: await self.bus.redis.xlen(streams.candles(shard)) for shard in range(SHARDS)}

        async def true() -> bool:
            return all([await self.bus.redis.xlen(streams.candles(shard)) > count for shard, count in before.items()])

        await until(true, "every shard is folded by somebody", 30)

    async def all_folded(self) -> None:
        for shard in range(SHARDS):
            wanted = undisturbed(self.written[shard])

            async def true(stream: str = streams.candles(shard), count: int = len(wanted)) -> bool:
                return bool(await self.bus.redis.xlen(stream) >= count)

            await until(true, f"shard {shard} is folded", 30)
            assert [fields for _, fields in await self.bus.redis.xrange(streams.candles(shard))] == wanted


@asynccontextmanager
async def crew(bus: Bus, redis_url: str, folder: Path) -> AsyncIterator[Crew]:
    crew = Crew(bus, redis_url, folder)
    enough = asyncio.Event()
    feeding = asyncio.create_task(crew.feed(enough))
    try:
        yield crew
        enough.set()
        await feeding
        await crew.all_folded()
    finally:
        enough.set()
        await feeding
        for process in crew.running:
            process.kill()


async def test_shards_move_when_a_process_is_killed_joins_or_is_asked_to_go(
    bus: Bus, redis_url: str, tmp_path: Path
) -> None:
    async with crew(bus, redis_url, tmp_path) as toys:
        first, second, third = toys.start(), toys.start(), toys.start()
        await toys.spread(2, 2, 2)

        toys.running.remove(first)
        first.kill()
        assert await toys.nobody_but_others_holds(first) < LIFE_S * 4 / 3 + SLACK_S
        await toys.spread(3, 3)

        toys.start()
        await toys.spread(2, 2, 2)

        toys.running.remove(second)
        second.send(signal.SIGTERM)
        assert await asyncio.to_thread(second.ended) == 0
        assert await toys.nobody_but_others_holds(second) < LIFE_S / 3 + SLACK_S
        assert third.alive()


async def test_a_process_that_was_paused_past_its_lease_does_no_harm(bus: Bus, redis_url: str, tmp_path: Path) -> None:
    async with crew(bus, redis_url, tmp_path) as toys:
        first, _ = toys.start(), toys.start()
        await toys.spread(3, 3)
        for _ in range(3):
            first.send(signal.SIGSTOP)
            await toys.nobody_but_others_holds(first)
            await toys.every_shard_moves()
            first.send(signal.SIGCONT)
            await toys.spread(3, 3)
