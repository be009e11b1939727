"""Who owns a shard. One process at a time folds a worker's shard; a dead one's shards move within the lease's life.

A lease is a key that expires, holding `token:owner`. The token only grows. Every commit checks the value inside its
own transaction (`commit.lua`), so a process that was paused past its lease cannot write any more, whatever it
believes.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from bus import clock, metrics
from bus.connection import Bus, translated
from schemas import streams
from schemas.errors import LeaseLost, Unavailable

log = structlog.get_logger("lease")

WORKERS: Final = "workers"  # hash: "name:instance" -> heartbeat, JSON
_HEARTBEAT_LIFE_MS: Final = 10_000
_BACKOFF_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Lease:
    worker: str
    shard: int
    value: str  # token:owner

    @property
    def key(self) -> str:
        return streams.lease(self.worker, self.shard)

    @property
    def token(self) -> int:
        return int(self.value.split(":", 1)[0])


async def acquire(bus: Bus, worker: str, shard: int, life_s: float) -> Lease | None:
    keys = [streams.lease(worker, shard), streams.fence(worker, shard)]
    value = await bus.script("lease", keys, [bus.instance, int(life_s * 1000)])
    return Lease(worker, shard, value.decode()) if value is not None else None


async def renew(bus: Bus, lease: Lease, life_s: float) -> bool:
    return bool(await bus.script("renew", [lease.key], [lease.value, int(life_s * 1000)]))


async def release(bus: Bus, lease: Lease) -> None:
    await bus.script("renew", [lease.key], [lease.value, 0])


async def announce(bus: Bus, worker: str, details: dict[str, Any]) -> None:
    """Tell the others that this process lives; `doctor` and the fair share of shards read it."""
    body = {**details, "until": clock.now_ms() + _HEARTBEAT_LIFE_MS}
    with translated():
        await bus.redis.hset(WORKERS, f"{worker}:{bus.instance}", orjson.dumps(body).decode())


async def withdraw(bus: Bus, worker: str) -> None:
    with translated():
        await bus.redis.hdel(WORKERS, f"{worker}:{bus.instance}")


async def living(bus: Bus, worker: str = "") -> dict[str, dict[str, Any]]:
    """Processes whose heartbeat is fresh, by `name:instance`; the stale ones are swept out."""
    now = clock.now_ms()
    alive: dict[str, dict[str, Any]] = {}
    with translated():
        for name, body in (await bus.redis.hgetall(WORKERS)).items():
            details = orjson.loads(body)
            if details["until"] < now:
                await bus.redis.hdel(WORKERS, name.decode())
            elif name.decode().startswith(f"{worker}:" if worker else ""):
                alive[name.decode()] = details
    return alive


ShardJob = Callable[[Lease, asyncio.Event], Awaitable[None]]


class Keeper:
    """Holds this process's fair share of a worker's shards, and runs `job` on each while it is held."""

    def __init__(self, bus: Bus, worker: str, shards: int, life_s: float, job: ShardJob) -> None:
        self._bus = bus
        self._worker = worker
        self._shards = shards
        self._life_s = life_s
        self._job = job
        self._running: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}

    @property
    def held(self) -> list[int]:
        return sorted(self._running)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                with contextlib.suppress(Unavailable):  # the jobs say so themselves
                    await self._balance()
                await _wait(stop, self._life_s / 3)
        finally:
            await asyncio.gather(*(self._end(shard) for shard in list(self._running)))

    async def _balance(self) -> None:
        for shard, (task, _) in list(self._running.items()):
            if task.done():
                del self._running[shard]
                task.result()  # a bug in the job ends the process
        others = len(await living(self._bus, self._worker)) or 1
        share = math.ceil(self._shards / others)
        for shard in self.held[share:]:
            await self._end(shard)
        for shard in range(self._shards):
            if len(self._running) >= share:
                break
            if shard not in self._running:
                await self._try(shard)
        metrics.SHARDS_HELD.labels(self._worker).set(len(self._running))

    async def _try(self, shard: int) -> None:
        lease = await acquire(self._bus, self._worker, shard, self._life_s)
        if lease is not None:
            over = asyncio.Event()
            self._running[shard] = (asyncio.create_task(self._work(lease, over)), over)

    async def _end(self, shard: int) -> None:
        task, over = self._running.pop(shard)
        over.set()
        await task

    async def _work(self, lease: Lease, over: asyncio.Event) -> None:
        """Run the job under a lease until it ends; after an outage take a new lease and start over from the state."""
        tries = 0
        held: Lease | None = lease
        while held is not None and not over.is_set():
            log.info("shard taken", shard=held.shard, fence=held.token)
            renewal = asyncio.create_task(self._renew(held, over))
            try:
                await self._job(held, over)
                tries = 0
            except LeaseLost:
                log.warning("shard lost to another process", shard=held.shard)
                return
            except Unavailable as error:
                tries += 1
                log.warning("waiting", shard=held.shard, reason=str(error))
            finally:
                renewal.cancel()
                await asyncio.gather(renewal, return_exceptions=True)
                if over.is_set():
                    with contextlib.suppress(Unavailable):
                        await release(self._bus, held)
            if not over.is_set():
                await _wait(over, min(_BACKOFF_MAX_S, 0.1 * 2 ** min(tries, 6)))
                held = await self._again(held.shard, over)

    async def _again(self, shard: int, over: asyncio.Event) -> Lease | None:
        while not over.is_set():
            try:
                return await acquire(self._bus, self._worker, shard, self._life_s)
            except Unavailable:
                await _wait(over, 0.5)
        return None

    async def _renew(self, lease: Lease, over: asyncio.Event) -> None:
        """Keep the lease. That it is lost shows at the next commit, which is refused."""
        while not over.is_set():
            await asyncio.sleep(self._life_s / 3)
            with contextlib.suppress(Unavailable):
                if not await renew(self._bus, lease, self._life_s):
                    return


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
