"""Reads the tick streams of all shards: the board first, which says who is concerned, then the paper venues.

Nothing here waits for anything but Redis. What happened while nobody looked is read again from the place up to which
the journal knows it: a crossing in the meantime fires, marked late.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import structlog

from bus import clock, metrics
from bus.connection import Bus
from bus.inbox import order
from bus.reader import Reader
from bus.wait import pause
from gtt.desk.desk import Desk
from gtt.engine.board import Board
from gtt.publishing import NAME
from gtt.scene import MarketScene
from schemas import streams, ticks
from schemas.errors import Unavailable
from schemas.ticks import FeedMark, TickBatch

log = structlog.get_logger("ticks")

_COUNT: Final = 200
_BLOCK_MS: Final = 500
_RETRY_S: Final = 0.2
_LATE_MS: Final = 3_000  # older than that when it is read: it happened while nobody looked


@runtime_checkable
class Fed(Protocol):
    """A venue that fills from ticks."""

    def feed(self, batch: TickBatch) -> None: ...


class Ticking:
    def __init__(
        self,
        bus: Bus,
        desk: Desk,
        scene: MarketScene,
        board: Board,
        fed: Sequence[Fed],
        wake: asyncio.Event,
        shards: int,
        places: dict[str, str],
    ) -> None:
        self._bus = bus
        self._reader = Reader(bus)
        self._desk = desk
        self._scene = scene
        self._board = board
        self._fed = fed
        self._wake = wake
        self._read_to = {streams.ticks(shard): places.get(streams.ticks(shard), "") for shard in range(shards)}
        desk.here.caught_up = False
        self._began_ms = clock.now_ms()
        # What was read before a GTT took its last step it has seen; as the journal has it, before anything happens now.
        self._stepped = {gtt_id: record.state.gtt.ts for gtt_id, record in desk.book.gtts.items()}
        self.written_down: dict[str, str] = dict(places)  # up to here all that ticks moved is in facts

    def write_down(self) -> None:
        """The desk has just made facts of everything that ticks moved; but not of crossings that wait."""
        if self._desk.here.crossings:
            return
        self.written_down = {stream: place for stream, place in self._read_to.items() if place}

    async def run(self, over: asyncio.Event) -> None:
        try:
            while not over.is_set():
                try:
                    await self._begin()
                    await self._read()
                except Unavailable as error:
                    log.warning("waiting", reason=str(error))
                    await pause(over, _RETRY_S)
        finally:
            await self._reader.close()

    async def _begin(self) -> None:
        """Where nothing was read before: from the newest entry on, which tells the time."""
        for stream, place in self._read_to.items():
            if not place:
                last = await self._bus.last_entry(stream)
                self._read_to[stream] = "0-0" if last is None else last[0]
                if last is not None:
                    self._one(stream, last[1], last[0])

    async def _read(self) -> None:
        full = False
        for read in await self._reader.read(self._read_to, count=_COUNT, block_ms=_BLOCK_MS, marks=True):
            place = self._read_to[read.stream]
            if read.mark is not None and place != "0-0" and order(read.mark.decode()) > order(place):
                metrics.MISSED_GAPS.labels(read.stream).inc()
                log.warning("ticks were trimmed before they were read", stream=read.stream)
            for raw_id, fields in read.entries:
                entry_id = raw_id.decode()
                self._one(read.stream, fields, entry_id)
                self._read_to[read.stream] = entry_id
            if len(read.entries) == _COUNT:
                full = True
                await asyncio.sleep(0)
        self._desk.here.caught_up |= not full

    def _one(self, stream: str, fields: dict[bytes, bytes], entry_id: str) -> None:
        try:
            batch = ticks.unpack(fields)
        except ValueError as error:  # the aggregator sets it aside
            log.warning("an entry that cannot be read", stream=stream, entry=entry_id, reason=str(error))
            return
        now_ms = clock.now_ms()
        self._scene.saw(batch, now_ms)
        if batch.feed == FeedMark.DOWN:
            self._desk.here.following.interrupted(now_ms)
        if len(batch.rec):
            metrics.TICKS.labels(NAME).inc(len(batch.rec))
            late = now_ms - order(entry_id)[0] > _LATE_MS
            crossed = False
            for crossing in self._board.update(batch.rec):
                if self._is_past(crossing.gtt_id, order(entry_id)[0]):
                    continue
                self._desk.crossed(now_ms, crossing, batch.rx, late)
                crossed = True
            if crossed:
                self._wake.set()
        for venue in self._fed:
            venue.feed(batch)

    def _is_past(self, gtt_id: str, told_ms: int) -> bool:
        """A tick that is read again, of before the GTT was as it is: before its entry was filled, its stop moved."""
        return told_ms < self._began_ms and told_ms < self._stepped.get(gtt_id, 0)
