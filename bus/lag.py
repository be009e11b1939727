"""How far behind this process's readers are, for `/metrics`: asked now and then, beside the work and not in it."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from bus import metrics
from bus.connection import Bus
from bus.wait import pause
from schemas.errors import Unavailable

EVERY_S: Final = 2.0

Reading = tuple[str, str]  # stream, group


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
    for labels, (lag_ms, pending) in (await measured(bus, reading)).items():
        metrics.LAG_MS.labels(*labels).set(lag_ms)
        metrics.PENDING.labels(*labels).set(pending)
    for labels in shown - set(reading):
        metrics.LAG_MS.remove(*labels)
        metrics.PENDING.remove(*labels)
    return set(reading)


async def measured(bus: Bus, reading: Sequence[Reading]) -> dict[Reading, tuple[int, int]]:
    """Lag in ms and entries pending, of a group on a stream."""
    groups: dict[str, list[str]] = {}
    for stream, group in reading:
        groups.setdefault(stream, []).append(group)
    found: dict[Reading, tuple[int, int]] = {}
    for part in bus.apart(list(groups)):
        pairs = [(stream, group) for stream in part for group in groups[stream]]
        flat = await bus.script("lag", [stream for stream, _ in pairs], [group for _, group in pairs])
        found |= zip(pairs, zip(flat[::2], flat[1::2], strict=True), strict=True)
    return found
