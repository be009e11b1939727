"""The fan-out of one feed: every entry is made into events once, and its bytes are shared by all who want them. Pure.

A feed is read by one task (`tail.py`), which calls `absorb` per entry and then `flush`. Readers with the same filter
form an audience; an entry finds its audiences by dictionary, and each audience's events are joined once per flush, so
that a burst costs each connection one write.

Nobody's slowness is anybody else's. A sink that has no room is let go at its last position and catches up by itself
from the stream, as one that reconnects does. A reader that stands at any position the ring still covers joins at once:
what it lacks is replayed from memory in the same turn of the loop, so nothing can slip in between.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from gateway.frames import Codec, Fields, Wanted
from gateway.positions import ORIGIN, WHOLE, Position, Vector, of_entry, text_of

_RING_BYTES: Final = 4 << 20
_RING_LEAST: Final = 16  # entries kept however large they are, so that a reader right behind the head can join


class Sink(Protocol):
    """Whoever writes to one connection."""

    def deliver(self, data: bytes, chunk: bytes, /) -> bool:
        """Take whole events, plain and framed as an HTTP chunk. False: no room, nothing was taken."""

    def let_go(self, position: Vector) -> None:
        """The feed delivers no more. Everything up to `position` was delivered."""


class Join(Enum):
    JOINED = "joined"
    BEHIND = "behind"  # what comes next for this reader has left the ring: read it from the stream
    AHEAD = "ahead"  # this reader has seen what the feed has not read yet: wait for it


class _Audience:
    """Everybody with the same filter."""

    __slots__ = ("parts", "sinks", "size", "wanted")

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self.wanted = wanted
        self.sinks: set[Sink] = set()
        self.parts: list[bytes] = []
        self.size = 0


class Cursor:
    """Makes the bytes of one reader's events and knows where it stands: what a joined audience gets for all at once."""

    def __init__(self, streams: Sequence[str], codec: Codec, vector: Vector, wanted: Wanted) -> None:
        self._streams = streams
        self._codec = codec
        self._wanted = wanted
        self._at = list(vector)

    @property
    def vector(self) -> Vector:
        return tuple(self._at)

    def behind(self, stream: int, entry: Position) -> bool:
        return self._at[stream] < entry

    def entry(self, stream: int, entry: Position, fields: Fields) -> bytes:
        """The events of an entry that this reader has not seen. Raises ValueError for an entry that is not ours."""
        seen = self._at[stream]
        skip = seen.part if seen[:2] == entry[:2] else 0
        self._at[stream] = entry
        frames = self._codec.frames(fields, self._wanted)
        before, after = _around(self._at, stream)
        return b"".join(
            event_id(before, entry, frame.part, after) + frame.body for frame in frames if frame.part > skip
        )

    def gap(self, stream: int, to: Position) -> bytes:
        """Everything up to `to` is gone: say so, and go on from there."""
        after, self._at[stream] = self._at[stream], to
        return gap_event(self._streams[stream], after, to, "trimmed", text_of(self._at))


def gap_event(stream: str, after: Position, to: Position, reason: str, at: str = "") -> bytes:
    """`gap`: the events after `after` and up to `to` will not be told."""
    head = f"id: {at}\n" if at else ""
    data = f'{{"stream":"{stream}","after":"{after}","to":"{to}","reason":"{reason}","ts":{to.ms}}}'
    return f"{head}event: gap\ndata: {data}\n\n".encode()


def event_id(before: bytes, entry: Position, part: int, after: bytes) -> bytes:
    return b"id: %b%b%b\n" % (before, str(Position(entry.ms, entry.seq, part)).encode(), after)


def _around(vector: Sequence[Position], stream: int) -> tuple[bytes, bytes]:
    """The text before and behind one stream's position in an `id`."""
    if len(vector) == 1:
        return b"", b""
    rest = list(vector[stream + 1 :])
    while rest and rest[-1] == ORIGIN:
        rest.pop()
    return "".join(f"{at}," for at in vector[:stream]).encode(), "".join(f",{at}" for at in rest).encode()


class Feed:
    """One SSE path: its streams, what was read of them lately, and who listens."""

    def __init__(self, name: str, streams: Sequence[str], codec: Codec) -> None:
        self.name = name
        self.streams = tuple(streams)
        self.codec = codec
        self._heads: list[Position] = [ORIGIN] * len(self.streams)
        self._flushed: Vector = tuple(self._heads)
        self._floor: list[Position] = list(self._heads)
        self._ring: deque[tuple[int, Position, Fields, int]] = deque()
        self._ring_bytes = 0
        self._audiences: dict[frozenset[str] | None, _Audience] = {}
        self._by_key: dict[str, list[_Audience]] = {}
        self._touched: dict[_Audience, None] = {}
        self._of: dict[Sink, _Audience] = {}

    @property
    def vector(self) -> Vector:
        """How far this feed has been read."""
        return tuple(self._heads)

    @property
    def listeners(self) -> int:
        return len(self._of)

    def start_at(self, vector: Vector) -> None:
        """Nothing before this will be read."""
        self._heads = list(vector)
        self._floor = list(vector)
        self._flushed = vector

    # What the reading task calls

    def absorb(self, stream: int, entry_id: bytes, fields: Fields) -> int:
        """Take an entry in; returns the bytes waiting for `flush`. Raises ValueError for one that is not ours."""
        entry = of_entry(entry_id)
        self._heads[stream] = entry
        self.codec.remember(entry, fields)
        self._keep(stream, entry, fields)
        if not self._audiences:
            return 0
        everyone = self._audiences.get(None)
        frames = self.codec.frames(fields, None if everyone else self._by_key)
        before, after = _around(self._heads, stream)
        waiting = 0
        for frame in frames:
            data = event_id(before, entry, frame.part, after) + frame.body
            for audience in self._by_key.get(frame.key, ()):
                waiting = max(waiting, self._add(audience, data))
            if everyone:
                waiting = max(waiting, self._add(everyone, data))
        return waiting

    def missed(self, stream: int, to: Position) -> None:
        """This feed itself came too late for the entries up to `to`: everybody is told."""
        after, self._heads[stream] = self._heads[stream], to
        self._floor[stream] = max(self._floor[stream], to)
        data = gap_event(self.streams[stream], after, to, "trimmed", text_of(self._heads))
        for audience in self._audiences.values():
            self._add(audience, data)

    def flush(self) -> None:
        """Hand out what the entries since the last flush came to."""
        touched, self._touched = self._touched, {}
        for audience in touched:
            data = b"".join(audience.parts)
            audience.parts.clear()
            audience.size = 0
            self._deliver(audience, data)
        self._flushed = tuple(self._heads)

    def comment(self, sinks: Sequence[Sink], data: bytes) -> None:
        """Send something that is no event to some of the listeners."""
        chunk = http_chunk(data)
        for sink in sinks:
            if sink in self._of and not sink.deliver(data, chunk):
                self._let_go(sink, self._flushed)

    def _add(self, audience: _Audience, data: bytes) -> int:
        audience.parts.append(data)
        audience.size += len(data)
        self._touched[audience] = None
        return audience.size

    def _deliver(self, audience: _Audience, data: bytes) -> None:
        chunk = http_chunk(data)
        for sink in [sink for sink in audience.sinks if not sink.deliver(data, chunk)]:
            self._let_go(sink, self._flushed)

    def _keep(self, stream: int, entry: Position, fields: Fields) -> None:
        size = sum(map(len, fields.values()))
        self._ring.append((stream, entry, fields, size))
        self._ring_bytes += size
        while self._ring_bytes > _RING_BYTES and len(self._ring) > _RING_LEAST:
            oldest, floor, _, size = self._ring.popleft()
            self._floor[oldest] = floor
            self._ring_bytes -= size

    # What a connection calls

    def join(self, sink: Sink, wanted: frozenset[str] | None, vector: Vector) -> tuple[Join, bytes]:
        """Listen from `vector` on. The bytes are what the sink has to send before anything that is delivered."""
        if any(at < floor for at, floor in zip(vector, self._floor, strict=True)):
            return Join.BEHIND, b""
        if any(at > head for at, head in zip(vector, self._heads, strict=True)):
            return Join.AHEAD, b""
        self.flush()  # what waits for the others is in the ring for this one
        cursor = Cursor(self.streams, self.codec, vector, wanted)
        missing = [
            cursor.entry(stream, entry, fields)
            for stream, entry, fields, _ in self._ring
            if cursor.behind(stream, entry)
        ]
        self._enter(sink, wanted)
        return Join.JOINED, b"".join(missing)

    def join_fresh(self, sink: Sink, wanted: frozenset[str] | None) -> bytes:
        """Listen from now on. The bytes are the snapshot: the state as of the position that its last event carries.

        An interrupted snapshot has told no position yet, so that the next connection gets a whole one. The entries
        of a log are told under their own ids instead: from those any reader can go on.
        """
        self.flush()
        shown = self.codec.snapshot(wanted)
        here = b"id: %b\n" % text_of(self._heads).encode()
        self._enter(sink, wanted)
        if not shown:
            return here + b"\n"
        parts = [event_id(b"", at, WHOLE, b"") + event if at else event for event, at in shown]
        if shown[-1].position is None:
            parts[-1] = here + parts[-1]
        return b"".join(parts)

    def leave(self, sink: Sink) -> None:
        audience = self._of.pop(sink, None)
        if audience is None:
            return
        audience.sinks.discard(sink)
        if audience.sinks:
            return
        del self._audiences[audience.wanted]
        self._touched.pop(audience, None)
        for key in audience.wanted or ():
            self._by_key[key].remove(audience)
            if not self._by_key[key]:
                del self._by_key[key]

    def close(self) -> list[Sink]:
        """Let everybody go, and say who that was."""
        self.flush()
        everybody = list(self._of)
        for sink in everybody:
            self._let_go(sink, self._flushed)
        return everybody

    def _let_go(self, sink: Sink, position: Vector) -> None:
        self.leave(sink)
        sink.let_go(position)

    def _enter(self, sink: Sink, wanted: frozenset[str] | None) -> None:
        audience = self._audiences.get(wanted)
        if audience is None:
            audience = self._audiences[wanted] = _Audience(wanted)
            for key in wanted or ():
                self._by_key.setdefault(key, []).append(audience)
        audience.sinks.add(sink)
        self._of[sink] = audience


def http_chunk(data: bytes) -> bytes:
    """`data` as a chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
