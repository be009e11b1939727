"""How far behind this process's readers are, for `/metrics`: asked now and then, beside the work and not in it."""

import asyncio
import contextlib
from typing import Final

from bus import metrics
from bus.connection import Bus
from bus.wait import pause
from schemas.errors import Unavailable

EVERY_S: Final = 2.0


async def watch(bus: Bus, stop: asyncio.Event, every_s: float = EVERY_S) -> None:
    """Until `stop`. A stream that is no longer read here loses its series: another process reports it now."""
    shown: set[tuple[str, str]] = set()
    while not stop.is_set():
        with contextlib.suppress(Unavailable):  # the readers say so themselves
            shown = await sample(bus, shown)
        await pause(stop, every_s)


async def sample(bus: Bus, shown: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Set the gauges of all open inboxes, remove those of closed ones. Returns which are shown now."""
    reading = sorted(bus.reading)
    found = await bus.script("lag", [stream for stream, _ in reading], [group for _, group in reading])
    for place, labels in enumerate(reading):
        metrics.LAG_MS.labels(*labels).set(found[2 * place])
        metrics.PENDING.labels(*labels).set(found[2 * place + 1])
    for labels in shown - set(reading):
        metrics.LAG_MS.remove(*labels)
        metrics.PENDING.remove(*labels)
    return set(reading)
