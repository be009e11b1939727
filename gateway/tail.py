"""Reads a feed's streams: one reader for everybody who is up to date, XRANGE for those who come from behind.

No consumer group: nothing is acknowledged, each reader keeps its own place. While Redis is away the place is kept; what
is written meanwhile is read when it is back.
"""

import asyncio
from typing import Final

import structlog

from bus import clock, metrics
from bus.connection import Bus, translated
from bus.reader import Entries, Read, Reader, entries_of
from gateway.frames import Ticks
from gateway.hub import Cursor, Feed
from gateway.orderframes import Orders
from gateway.positions import ORIGIN, WHOLE, Position, Vector, of_entry
from schemas import streams
from schemas.errors import Unavailable
from schemas.orders import EntryKind

log = structlog.get_logger("gateway")

_BLOCK_MS: Final = 2_000
_RETRY_S: Final = 0.25
#: Events that wait for more before they are handed out; beyond this, connections get a turn to write.
_FLUSH_BYTES: Final = 128 << 10
#: A reader that was up to date this recently has lost nothing to trimming: nothing is kept for less than a minute.
_TRUST_S: Final = 20.0
#: Quotes are stored up to a second after their ticks: a newcomer's quotes and this much of the ticks overlap.
_QUOTE_LAG_MS: Final = 5_000
#: The chains of a minute leave within seconds of one another, and again where a shard was late.
_CHAINS_MS: Final = 180_000


class Tail:
    """The one reader of a feed in this process."""

    def __init__(self, bus: Bus, feed: Feed, *, count: int, from_last: int | None, wanted: bool = True) -> None:
        """`count` entries of each stream a read; starts `from_last` entries before the end, None: at the beginning, or
        where the newest chains are.
        """
        self.feed = feed
        self.ready = asyncio.Event()  # what was there at the start has been read
        self._bus = bus
        self._reader = Reader(bus)
        self._count = count
        self._from_last = from_last
        self._wanted = asyncio.Event()
        if wanted:
            self._wanted.set()
        self._moved = asyncio.Event()
        self._current_at = float("-inf")

    async def run(self) -> None:
        """Read until cancelled."""
        await self._wanted.wait()
        started = False
        try:
            while True:
                try:
                    if not started:
                        self.feed.start_at(await self._start())
                        started = True
                    await self._read()
                except Unavailable as error:
                    log.warning("waiting", feed=self.feed.name, reason=str(error))
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self._reader.close()

    def want(self) -> None:
        """Somebody listens: start reading, unless that happened before."""
        self._wanted.set()

    async def moved(self) -> None:
        """Until more has been read."""
        await self._moved.wait()

    # The beginning

    async def _start(self) -> Vector:
        if self._from_last is None:
            return tuple([await self._beginning(stream) for stream in self.feed.streams])
        if isinstance(self.feed.codec, Ticks):
            await self._load_quotes(self.feed.codec)
        if isinstance(self.feed.codec, Orders):
            await self._load_books(self.feed.codec)
        return tuple([await self._before_last(stream, self._from_last) for stream in self.feed.streams])

    async def _beginning(self, stream: str) -> Position:
        """Of chains, half a megabyte each, only the newest are wanted: those of the last minutes."""
        if streams.family(stream) != "chain":
            return ORIGIN
        last = await self._before_last(stream, 1)
        return Position(max(last.ms - _CHAINS_MS, 0), 0) if last != ORIGIN else ORIGIN

    async def _before_last(self, stream: str, entries: int) -> Position:
        with translated():
            last = await self._bus.redis.xrevrange(stream, count=max(entries, 1))
            mark = await self._bus.redis.get(streams.trimmed(stream))
        if not last:
            return of_entry(mark) if mark else ORIGIN
        oldest = of_entry(last[-1][0])
        if isinstance(self.feed.codec, Ticks):
            return Position(max(oldest.ms - _QUOTE_LAG_MS, 0), 0)
        # Just before the oldest of them, so that it is read too.
        return Position(oldest.ms, oldest.seq - 1) if oldest.seq else Position(oldest.ms - 1, 0)

    async def _load_quotes(self, codec: Ticks) -> None:
        for stream in self.feed.streams:
            shard = stream.removeprefix("ticks")
            with translated():
                quotes = await self._bus.redis.hgetall(f"quotes{shard}")
            for key, quote in quotes.items():
                codec.load(key.decode(), quote)

    async def _load_books(self, codec: Orders) -> None:
        """How things stand; what is read of the stream after that is newer, or ends there too."""
        books = (
            (EntryKind.ORDER, streams.BOOK_ORDERS),
            (EntryKind.GTT, streams.BOOK_GTTS),
            (EntryKind.POSITION, streams.BOOK_POSITIONS),
        )
        for kind, book in books:
            with translated():
                held = await self._bus.redis.hvals(book)
            for data in held:
                codec.load(kind, data)

    # Reading on

    async def _read(self) -> None:
        trusted = clock.monotonic_s() - self._current_at < _TRUST_S
        reads = await self._next(marks=not trusted)
        bunched = max((len(read.entries) for read in reads), default=0)
        number = {stream: at for at, stream in enumerate(self.feed.streams)}
        for read in reads:
            self._look_at_mark(number[read.stream], read)
            await self._absorb(number[read.stream], read.entries)
        self._flush()
        if bunched < self._count:
            self._current_at = clock.monotonic_s()
            self.ready.set()

    async def _next(self, *, marks: bool) -> list[Read]:
        """At the start, and after a pause, also what has been trimmed meanwhile."""
        places = {stream: at.entry for stream, at in zip(self.feed.streams, self.feed.vector, strict=True)}
        block_ms = _BLOCK_MS if self.ready.is_set() or not marks else None
        return await self._reader.read(places, count=self._count, block_ms=block_ms, marks=marks)

    def _look_at_mark(self, number: int, read: Read) -> None:
        if read.mark is not None and of_entry(read.mark) > self.feed.vector[number]:
            if self.ready.is_set():
                metrics.MISSED_GAPS.labels(self.feed.streams[number]).inc()
            self.feed.missed(number, of_entry(read.mark))

    async def _absorb(self, stream: int, entries: Entries) -> None:
        metrics.READ_ENTRIES.labels("gateway").inc(len(entries))
        for entry_id, fields in entries:
            try:
                waiting = self.feed.absorb(stream, entry_id, fields)
            except ValueError as error:
                log.warning("entry passed over", stream=self.feed.streams[stream], id=entry_id.decode(), why=str(error))
                continue
            if waiting > _FLUSH_BYTES:
                self._flush()
                await asyncio.sleep(0)

    def _flush(self) -> None:
        self.feed.flush()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # Those who come from behind

    async def after(self, cursor: Cursor, count: int) -> bytes:
        """The next events of a reader, from the streams. Trimming cannot slip in: entries and mark are read as one."""
        replies: list[tuple[Entries, bytes | None]] = []
        for stream, at in zip(self.feed.streams, cursor.vector, strict=True):
            first = f"({at.entry}" if at.part == WHOLE else at.entry
            found, mark = await self._bus.packet(
                ("XRANGE", stream, first, "+", "COUNT", count), ("GET", streams.trimmed(stream))
            )
            replies.append((entries_of(found), mark))
        parts: list[bytes] = []
        for number, (entries, mark) in enumerate(replies):
            if mark is not None and of_entry(mark) > cursor.vector[number]:
                parts.append(cursor.gap(number, of_entry(mark)))
            parts += [_events(cursor, number, entry_id, fields) for entry_id, fields in entries]
        return b"".join(parts)

    async def ends(self) -> Vector:
        """The newest position there can be in each stream: what claims to have seen more has another Redis in mind."""
        ends: list[Position] = []
        for stream in self.feed.streams:
            found, mark = await self._bus.packet(
                ("XREVRANGE", stream, "+", "-", "COUNT", 1), ("GET", streams.trimmed(stream))
            )
            last = entries_of(found)
            ends.append(max(of_entry(last[0][0]) if last else ORIGIN, of_entry(mark) if mark else ORIGIN))
        return tuple(ends)


def _events(cursor: Cursor, stream: int, entry_id: bytes, fields: dict[bytes, bytes]) -> bytes:
    try:
        return cursor.entry(stream, of_entry(entry_id), fields)
    except ValueError:
        return b""  # the feed's own reader says so in the log
