"""The shell of longer bars: hands what leaves a shard to the fold, and after a restart what its streams hold.

The reading goes on beside the ticks. Until it has ended no longer bar leaves; then those leave that were due meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date
from typing import Any, Final

import numpy.typing as npt
import orjson
import structlog

from aggregator.bars import Hours, Produced
from aggregator.intervals import Long, Longer
from bus import metrics
from bus.connection import Bus, pairs
from bus.inbox import Output
from market import sessions
from market.intervals import Print
from schemas import streams
from schemas.errors import Misconfigured
from schemas.events import EventKind
from schemas.ticks import SessionClass

log = structlog.get_logger("aggregator")

_PAGE: Final = 500
_HELD_MAX: Final = 8  # lots of longer bars that wait for a commit
_ORIGIN: Final = "0-0"


def phases(key: str, session: SessionClass, on: date) -> Sequence[sessions.Interval]:
    """The phases of a date; none where the calendar does not cover it."""
    try:
        return sessions.day(sessions.segment_of(key), session, on)
    except Misconfigured as error:
        log.error("no phases of the day", reason=str(error))
        return ()


@contextlib.contextmanager
def _passing_over(entry_id: str) -> Iterator[None]:
    """What others have written into our streams must not end this process each time it starts."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        log.warning("entry passed over", id=entry_id, reason=repr(error))


class LongShard:
    def __init__(self, bus: Bus, number: int, hours: Hours) -> None:
        self._bus = bus
        self._number = number
        self._longer = Longer(hours, phases)
        self._held: asyncio.Queue[list[Long]] = asyncio.Queue(_HELD_MAX)
        self._events_end = _ORIGIN

    async def open(self) -> None:
        """Before the first tick: prints up to here are remembered, later ones are handed in."""
        last = await self._bus.last_entry(streams.EVENTS)
        self._events_end = last[0] if last else _ORIGIN

    def know(self, keys: Sequence[str], rows: npt.NDArray[Any]) -> None:
        self._longer.know(keys, rows)

    def add(self, produced: Produced) -> list[Output]:
        """What leaves with what an entry made leave."""
        return self._outputs(self._longer.add(produced.bars, produced.prints, produced.closed_ms))

    def held(self) -> list[Output]:
        """What was due while the streams were read."""
        found: list[Long] = []
        while not self._held.empty():
            found += self._held.get_nowait()
        return self._outputs(found)

    def _outputs(self, bars: Sequence[Long]) -> list[Output]:
        metrics.BARS.labels("longer").inc(len(bars))
        stream = streams.intervals(self._number)
        return [
            Output(
                stream,
                {"instrument": bar.instrument, "interval": bar.interval.value, "ts": bar.ts, "data": bar.data},
            )
            for bar in bars
        ]

    async def remember(self, closed_ms: Callable[[], int]) -> None:
        """Read what the streams hold of the session."""
        async for entry_id, fields in self._entries(streams.candles(self._number), _ORIGIN, "+"):
            with _passing_over(entry_id):
                self._longer.remember(fields[b"data"])
        if self._events_end != _ORIGIN:
            ms = int(self._events_end.partition("-")[0]) - streams.RETENTION_MS["candles"]
            async for entry_id, fields in self._entries(streams.EVENTS, f"{max(ms, 0)}-0", self._events_end):
                with _passing_over(entry_id):
                    self._remember_print(fields)
        async for entry_id, fields in self._entries(streams.intervals(self._number), _ORIGIN, "+"):
            with _passing_over(entry_id):
                self._longer.told(fields[b"data"])
        for bars in self._longer.settle(closed_ms()):
            if bars:
                await self._held.put(bars)
            await asyncio.sleep(0)

    def _remember_print(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"kind") != EventKind.PRINT.encode():
            return
        event = orjson.loads(fields[b"data"])
        trade = event["data"]
        if self._longer.knows(trade["instrument"]):  # else it is another shard's
            self._longer.remember_print(trade["instrument"], Print(event["ts"], trade["price"], trade["volume"]))

    async def _entries(self, stream: str, after: str, end: str) -> AsyncIterator[tuple[str, dict[bytes, bytes]]]:
        while True:
            (page,) = await self._bus.packet(("XRANGE", stream, f"({after}", end, "COUNT", _PAGE))
            for entry_id, flat in page:
                yield entry_id.decode(), pairs(flat)
            if len(page) < _PAGE:
                return
            after = page[-1][0].decode()
