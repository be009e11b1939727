"""Reads a feed's streams: one XREAD for everybody who is up to date, XRANGE for those who come from behind.

No consumer group: nothing is acknowledged, each reader keeps its own place. While Redis is away the place is kept; what
is written meanwhile is read when it is back.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from bus import clock, metrics
from bus.connection import Bus, translated
from gateway.frames import Ticks
from gateway.hub import Cursor, Feed
from gateway.positions import ORIGIN, WHOLE, Position, Vector, of_entry
from schemas import streams
from schemas.errors import Unavailable

log = structlog.get_logger("gateway")

_BLOCK_MS: Final = 2_000
_RETRY_S: Final = 0.25
#: Events that wait for more before they are handed out; beyond this, connections get a turn to write.
_FLUSH_BYTES: Final = 128 << 10
#: A reader that was up to date this recently has lost nothing to trimming: nothing is kept for less than a minute.
_TRUST_S: Final = 20.0
#: Quotes are stored up to a second after their ticks: a newcomer's quotes and this much of the ticks overlap.
_QUOTE_LAG_MS: Final = 5_000

Entries = list[tuple[bytes, dict[bytes, bytes]]]


class Tail:
    """The one reader of a feed in this process."""

    def __init__(self, bus: Bus, feed: Feed, *, count: int, from_last: int | None, wanted: bool = True) -> None:
        """`count` entries of each stream a read; starts `from_last` entries before the end, None: at the beginning."""
        self.feed = feed
        self.ready = asyncio.Event()  # what was there at the start has been read
        self._bus = bus
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
        while True:
            try:
                if not started:
                    self.feed.start_at(await self._start())
                    started = True
                await self._read()
            except Unavailable as error:
                log.warning("waiting", feed=self.feed.name, reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def want(self) -> None:
        """Somebody listens: start reading, unless that happened before."""
        self._wanted.set()

    async def moved(self) -> None:
        """Until more has been read."""
        await self._moved.wait()

    # The beginning

    async def _start(self) -> Vector:
        if self._from_last is None:
            return (ORIGIN,) * len(self.feed.streams)
        if isinstance(self.feed.codec, Ticks):
            await self._load_quotes(self.feed.codec)
        return tuple([await self._before_last(stream, self._from_last) for stream in self.feed.streams])

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

    # Reading on

    async def _read(self) -> None:
        trusted = clock.monotonic_s() - self._current_at < _TRUST_S
        reply = await (self._xread() if trusted else self._xread_after_marks())
        bunched = max((len(entries) for _, entries in reply), default=0)
        number = {stream: at for at, stream in enumerate(self.feed.streams)}
        for name, entries in reply:
            await self._absorb(number[name.decode()], entries)
        self._flush()
        if bunched < self._count:
            self._current_at = clock.monotonic_s()
            self.ready.set()

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

    async def _xread(self) -> Sequence[tuple[bytes, Entries]]:
        with translated():
            reply: Sequence[tuple[bytes, Entries]] = await self._bus.redis.xread(
                self._places(), count=self._count, block=_BLOCK_MS
            )
        return reply

    async def _xread_after_marks(self) -> Sequence[tuple[bytes, Entries]]:
        """At the start, and after a pause: look first what has been trimmed. One packet's commands run in one go."""
        pipe: Any = self._bus.redis.pipeline(transaction=False)
        for stream in self.feed.streams:
            pipe.get(streams.trimmed(stream))
        pipe.xread(self._places(), count=self._count, block=_BLOCK_MS if self.ready.is_set() else None)
        with translated():
            *marks, reply = await pipe.execute()
        for number, (mark, at) in enumerate(zip(marks, self.feed.vector, strict=True)):
            if mark is not None and of_entry(mark) > at:
                if self.ready.is_set():
                    metrics.MISSED_GAPS.labels(self.feed.streams[number]).inc()
                self.feed.missed(number, of_entry(mark))
        return list(reply)

    def _places(self) -> dict[str, str]:
        return {stream: at.entry for stream, at in zip(self.feed.streams, self.feed.vector, strict=True)}

    # Those who come from behind

    async def after(self, cursor: Cursor, count: int) -> bytes:
        """The next events of a reader, from the streams. Trimming cannot slip in: entries and mark are read as one."""
        replies: list[tuple[Entries, bytes | None]] = []
        for stream, at in zip(self.feed.streams, cursor.vector, strict=True):
            pipe: Any = self._bus.redis.pipeline(transaction=True)
            pipe.xrange(stream, min=f"({at.entry}" if at.part == WHOLE else at.entry, count=count)
            pipe.get(streams.trimmed(stream))
            with translated():
                entries, mark = await pipe.execute()
            replies.append((entries, mark))
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
            with translated():
                last = await self._bus.redis.xrevrange(stream, count=1)
                mark = await self._bus.redis.get(streams.trimmed(stream))
            ends.append(max(of_entry(last[0][0]) if last else ORIGIN, of_entry(mark) if mark else ORIGIN))
        return tuple(ends)


def _events(cursor: Cursor, stream: int, entry_id: bytes, fields: dict[bytes, bytes]) -> bytes:
    try:
        return cursor.entry(stream, of_entry(entry_id), fields)
    except ValueError:
        return b""  # the feed's own reader says so in the log
