"""How many sockets to the venue this process may have open.

The venue allows a user a few, whatever the number of our processes. So sockets are shared out like shards, by leases: a
process opens as many as it holds, and gives one up only when it is closed. A process without any takes no shards: it
stands by until one of the others is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from bus.connection import Bus
from bus.lease import Keeper, Lease
from bus.life import until_done
from bus.settings import Settings
from bus.wait import pause
from schemas import streams
from schemas.errors import Unavailable

log = structlog.get_logger("ingest")

NAME: Final = "ingest-socket"
_SOON_S: Final = 1.0


async def is_anothers(bus: Bus, worker: str, number: int) -> bool:
    """Whether another process is known to hold this lease. While Redis is away nobody knows."""
    try:
        held = await bus.get(streams.lease(worker, number))
    except Unavailable:
        return False
    return held is not None and held.decode().split(":", 1)[1] != bus.instance


class Sockets:
    """`allow` is told how many there are to use; it returns when no more than those are open."""

    def __init__(self, bus: Bus, settings: Settings, allow: Callable[[int], Awaitable[None]]) -> None:
        self._bus = bus
        self._allow = allow
        self._ours: set[int] = set()
        self._some, self._none = asyncio.Event(), asyncio.Event()
        self._keeper = Keeper(bus, NAME, settings.feed_sockets, settings.teji_lease_s, self._hold)

    async def run(self, stop: asyncio.Event) -> None:
        await self._keeper.run(stop)

    async def _hold(self, lease: Lease, over: asyncio.Event) -> None:
        await self._set(self._ours | {lease.shard})
        await over.wait()
        await self._set(self._ours - {lease.shard})

    async def _set(self, ours: set[int]) -> None:
        self._ours = ours
        (self._some if ours else self._none).set()
        (self._none if ours else self._some).clear()
        await self._allow(len(ours))

    async def look(self) -> None:
        """A lease that ran out while Redis was away is usually ours again at once; where it is not, follow suit."""
        for number in list(self._ours):
            if await is_anothers(self._bus, NAME, number):
                await self._set(self._ours - {number})

    async def while_any(self, job: Callable[[asyncio.Event], Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
        """Run `job` as long as there are sockets for it, and again when there are."""
        while not stop.is_set():
            if not await pause(self._some, _SOON_S) and not stop.is_set():
                log.info("standing by until there is a socket to the venue for us")
            await _either(self._some, stop)
            over = asyncio.Event()
            if not stop.is_set():
                await until_done(job(over), self._tell_when_none(over, stop))

    async def _tell_when_none(self, over: asyncio.Event, stop: asyncio.Event) -> None:
        await _either(self._none, stop)
        over.set()


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    waits = [asyncio.create_task(one.wait()), asyncio.create_task(other.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
