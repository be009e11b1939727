"""Who owns a shard. One process at a time folds a worker's shard; a dead one's shards move within the lease's life.

A lease is a key that expires, holding `token:owner`. The token only grows. Every commit checks the value inside its
own transaction (`commit.lua`), so a process that was paused past its lease cannot write any more, whatever it
believes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog

from bus import clock, metrics
from bus.connection import Bus, pairs
from bus.wait import pause
from schemas import streams
from schemas.errors import LeaseLost, Unavailable
from schemas.events import Event, EventKind

log = structlog.get_logger("lease")

WORKERS: Final = "workers"  # hash: "name:instance" -> heartbeat, JSON
HEARTBEAT_LIFE_MS: Final = 10_000
_FORGET_MS: Final = 300_000  # who was silent for so long is taken off the list
_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_LIVED_WELL_S: Final = 10.0  # after so long the next failure counts as the first
_RETRY_S: Final = 0.5
_MOVED_PART: Final = 4  # of what is held, so much is given away at once: the rest goes on meanwhile


@dataclass(frozen=True, slots=True)
class Lease:
    worker: str
    shard: int
    value: str  # token:owner
    before: str = field(default="", compare=False)  # whose the shard was; empty: nobody's

    @property
    def key(self) -> str:
        return streams.lease(self.worker, self.shard)

    @property
    def token(self) -> int:
        return int(self.value.split(":", 1)[0])


async def acquire(bus: Bus, worker: str, shard: int, life_s: float) -> Lease | None:
    keys = [streams.lease(worker, shard), streams.fence(worker, shard), streams.holder(worker, shard)]
    taken = await bus.script("lease", keys, [bus.instance, int(life_s * 1000)])
    return Lease(worker, shard, *(part.decode() for part in taken)) if taken is not None else None


async def renew(bus: Bus, lease: Lease, life_s: float) -> bool:
    return bool(await bus.script("renew", [lease.key], [lease.value, int(life_s * 1000)]))


async def release(bus: Bus, lease: Lease) -> None:
    await bus.script("renew", [lease.key], [lease.value, 0])


async def announce(bus: Bus, worker: str, details: dict[str, Any]) -> None:
    """Tell the others that this process lives; `doctor` and `/health` read it."""
    body = orjson.dumps({**details, "until": await bus.now_ms() + HEARTBEAT_LIFE_MS})
    await bus.packet(("HSET", WORKERS, f"{worker}:{bus.instance}", body))


async def withdraw(bus: Bus, worker: str) -> None:
    await bus.packet(("HDEL", WORKERS, f"{worker}:{bus.instance}"))


async def living(bus: Bus, worker: str = "") -> dict[str, dict[str, Any]]:
    """Processes whose heartbeat is fresh, by `name:instance`."""
    now = await bus.now_ms()
    wanted = f"{worker}:" if worker else ""
    found = (await heard_of(bus, now)).items()
    return {name: about for name, about in found if about["until"] >= now and name.startswith(wanted)}


async def heard_of(bus: Bus, now_ms: int) -> dict[str, dict[str, Any]]:
    """The living, and those that have ended without a word, or hang, since a few minutes. Older ones are swept out."""
    (flat,) = await bus.packet(("HGETALL", WORKERS))
    found = {name.decode(): orjson.loads(body) for name, body in pairs(flat).items()}
    forgotten = [name for name, details in found.items() if details["until"] < now_ms - _FORGET_MS]
    if forgotten:
        await bus.packet(("HDEL", WORKERS, *forgotten))
    return {name: about for name, about in found.items() if name not in forgotten}


async def enrol(bus: Bus, worker: str, life_s: float, held: int) -> dict[str, int]:
    """Take part in sharing out a worker's shards, for as long as a lease lasts. Who does, and how many they hold."""
    reply = await bus.script("members", [streams.members(worker)], [bus.instance, int(life_s * 1000), held])
    return {name.decode(): int(count) for name, count in zip(reply[::2], reply[1::2], strict=True)}


def quota(held: Mapping[str, int], me: str, shards: int) -> int:
    """How many shards this process should hold, when `held` says how many each member holds now.

    The quotas of all members add up to the shards and differ by at most one. Those who hold most keep the larger
    ones, so that nobody gives up a shard without need.
    """
    each, more = divmod(shards, len(held))
    ranking = sorted(held, key=lambda name: (-held[name], name))
    return each + (ranking.index(me) < more)


ShardJob = Callable[[Lease, asyncio.Event], Awaitable[None]]


@dataclass(slots=True)
class _Shard:
    task: asyncio.Task[None]
    over: asyncio.Event  # set: finish what is under way, and give the shard back


class Keeper:
    """Holds this process's fair share of a worker's shards, and runs `job` on each while it is held."""

    def __init__(self, bus: Bus, worker: str, shards: int, life_s: float, job: ShardJob) -> None:
        self._bus = bus
        self._worker = worker
        self._shards = shards
        self._life_s = life_s
        self._job = job
        self._running: dict[int, _Shard] = {}
        self._settled = True  # everybody had time to enrol

    @property
    def held(self) -> list[int]:
        """The shards that are worked on, without those that are being given back."""
        return sorted(number for number, shard in self._running.items() if not shard.over.is_set())

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._notice_ended()
                try:
                    async with asyncio.timeout(self._life_s):
                        await self._balance()
                except (Unavailable, TimeoutError):  # the jobs say so themselves
                    self._settled = False
                tasks = [shard.task for shard in self._running.values()]
                await asyncio.wait([stopping, *tasks], timeout=self._life_s / 3, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await self._end()

    def _notice_ended(self) -> None:
        for number, shard in list(self._running.items()):
            if shard.task.done():
                del self._running[number]
                shard.task.result()  # a bug in the job ends the process

    async def _balance(self) -> None:
        members = await enrol(self._bus, self._worker, self._life_s, len(self.held))
        share = quota(members, self._bus.instance, self._shards)
        held = self.held
        for number in held[share:][: max(1, len(held) // _MOVED_PART)]:
            self._running[number].over.set()
        if self._settled:
            await self._take(share)
        # After an outage everybody's membership has lapsed: whoever comes back first is not alone.
        self._settled = True
        metrics.SHARDS_HELD.labels(self._worker).set(len(self._running))

    async def _take(self, share: int) -> None:
        if len(self.held) >= share:
            return
        names = [streams.lease(self._worker, number) for number in range(self._shards)]
        values = await self._bus.packet(*[("GET", name) for name in names])
        ours = self._bus.instance.encode()
        for number, value in enumerate(values):
            if len(self.held) >= share:
                return
            if number in self._running or (value is not None and value.partition(b":")[2] != ours):
                continue
            if lease := await acquire(self._bus, self._worker, number, self._life_s):
                over = asyncio.Event()
                self._running[number] = _Shard(asyncio.create_task(self._work(lease, over)), over)

    async def _end(self) -> None:
        """Let every job finish what it has under way; leave."""
        for shard in self._running.values():
            shard.over.set()
        ended = await asyncio.gather(*(shard.task for shard in self._running.values()), return_exceptions=True)
        self._running.clear()
        metrics.SHARDS_HELD.labels(self._worker).set(0)
        async with self._at_most_a_life():
            await enrol(self._bus, self._worker, 0, 0)
        for bug in ended:
            if isinstance(bug, Exception):
                raise bug

    async def _work(self, lease: Lease, over: asyncio.Event) -> None:
        """Run the job until it is over; after an outage take a new lease and start over from the state."""
        tries = 0
        held: Lease | None = lease
        while held is not None:
            said = {"worker": self._worker, "shard": held.shard}
            log.info("shard taken", **said, fence=held.token, before=held.before or None)
            began_s = clock.monotonic_s()
            try:
                with self._counted(held):
                    await self._under(held, over)
            except LeaseLost as error:
                log.warning("shard lost", **said, fence=held.token, reason=str(error))
                return
            except Unavailable as error:
                log.warning("waiting", **said, reason=str(error))
            if over.is_set():
                return
            tries = tries + 1 if clock.monotonic_s() - began_s < _LIVED_WELL_S else 0
            await pause(over, min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(tries, 10)))
            held = await self._again(held.shard, over)

    async def _under(self, lease: Lease, over: asyncio.Event) -> None:
        """The job, and beside it the renewal of its lease, up to the last commit. Then the lease is given back."""
        again = False
        try:
            async with self._renewed(lease):
                await self._tell(lease)
                await self._job(lease, over)
        except Unavailable:
            again = not over.is_set()  # we take it again: nobody else needs to move in for that moment
            raise
        finally:
            if not again:
                async with self._at_most_a_life():
                    await release(self._bus, lease)

    @contextlib.contextmanager
    def _counted(self, lease: Lease) -> Iterator[None]:
        """Metrics: since when the shard is ours, and how it came and went."""
        changes = metrics.LEASE_CHANGES
        changes.labels(self._worker, "taken").inc()
        metrics.SHARD_SINCE_S.labels(self._worker, str(lease.shard)).set(clock.now_ms() / 1000)
        try:
            yield
        except LeaseLost:
            changes.labels(self._worker, "lost").inc()
            raise
        except Unavailable:
            changes.labels(self._worker, "interrupted").inc()
            raise
        else:
            changes.labels(self._worker, "returned").inc()
        finally:
            metrics.SHARD_SINCE_S.remove(self._worker, str(lease.shard))

    async def _tell(self, lease: Lease) -> None:
        """An event, when the shard was somebody else's before: whose it was, whose it is."""
        if lease.before in ("", self._bus.instance):
            return
        me = self._bus.instance
        data = {"shard": lease.shard, "fence": lease.token, "instance": me, "before": lease.before}
        message = f"{self._worker}: shard {lease.shard} has moved from {lease.before} to {me}"
        event = Event(kind=EventKind.LEASE, ts=clock.now_ms(), worker=self._worker, message=message, data=data)
        await self._bus.packet(("XADD", streams.EVENTS, "*", "kind", event.kind.value, "data", event.model_dump_json()))

    @contextlib.asynccontextmanager
    async def _at_most_a_life(self) -> AsyncIterator[None]:
        """To give something back on the way out. After a lease's life it has run out by itself."""
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(self._life_s):
                yield

    @contextlib.asynccontextmanager
    async def _renewed(self, lease: Lease) -> AsyncIterator[None]:
        """Keeps the lease. Where it turns out to be lost, what goes on inside is cancelled, and LeaseLost raised."""
        try:
            async with asyncio.timeout(None) as until_lost:
                renewal = asyncio.create_task(self._renew(lease, until_lost))
                try:
                    yield
                finally:
                    renewal.cancel()
                    (ended,) = await asyncio.gather(renewal, return_exceptions=True)
                if isinstance(ended, Exception):
                    raise ended
        except TimeoutError as error:
            if until_lost.expired():
                raise LeaseLost("the lease ran out, or another process has taken it") from error
            raise

    async def _renew(self, lease: Lease, until_lost: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(self._life_s / 3)
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(self._life_s / 3):
                    renewed = await renew(self._bus, lease, self._life_s)
                if not renewed:
                    until_lost.reschedule(asyncio.get_running_loop().time())
                    return

    async def _again(self, shard: int, over: asyncio.Event) -> Lease | None:
        while not over.is_set():
            try:
                return await acquire(self._bus, self._worker, shard, self._life_s)
            except Unavailable:
                await pause(over, _RETRY_S)
        return None
