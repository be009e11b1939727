"""Between the sockets and the outboxes: frames are decoded and merged as they arrive, and leave in batches.

How many frames share a stream entry adapts by itself: while one publication is under way frames gather, and the next
takes all of them. An idle pipeline adds no delay, a busy one wastes no round trips.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from bus import metrics
from bus.inbox import Output
from ingest.clock import VenueClock
from ingest.merge import Merger
from ingest.outbox import Outbox
from ingest.quotes import Quotes
from proto.decode import Appended, BufferFull, FrameKind, TickBuffer, market_info
from proto.feed_pb2 import MarketStatus
from schemas import streams, ticks
from schemas.bars import HistoryBar
from schemas.errors import BadFrame
from schemas.streams import instrument_id
from schemas.ticks import LEVEL, FeedMark, SessionClass

log = structlog.get_logger("collector")

_ROWS: Final = 2048
_LEVELS: Final = 20_480
_NO_DEPTH: Final = np.empty(0, LEVEL)
_DEAD_FRAME_MAX_BYTES: Final = 64 * 1024
_DEAD_PER_S: Final = 20  # more are only counted

#: Times that a frame can have, 2001 to 2100: one that were believed would carry venue time away with it.
_TIME_MIN_MS: Final = 1_000_000_000_000
_TIME_MAX_MS: Final = 4_102_444_800_000


class Collector:
    """One per process. `wake` is called when there is something to publish, `overflowed` with the times between which
    frames were dropped, once they no longer are."""

    def __init__(self, shards: int, limit_bytes: int, session_of: Callable[[str], SessionClass]) -> None:
        self.clock = VenueClock()
        self.outboxes: dict[int, Outbox] = {}
        self.statuses: dict[str, str] = {}  # segment -> the venue's market status
        self.wake: Callable[[], None] = lambda: None
        self.overflowed: Callable[[int, int], None] = lambda *_: None
        self.gaps: list[dict[str, int]] = []  # overflows that are over, to be reported
        self.full = False  # no room for frames
        self.congested = False  # Redis takes less than the feed brings
        self.frame_ts = 0  # venue time of the last frame taken
        self.frame_ns = 0  # and when we received it
        self._shards = shards
        self._limit_bytes = limit_bytes
        self._session_of = session_of
        self._buffer = TickBuffer(_ROWS, _LEVELS)
        self._unwanted: list[int] = []  # rows of the buffer that are not to be published
        self._merger = Merger()
        self.quotes = Quotes(self._merger.take_changed, shards)
        self._key_of: dict[int, str] = {}
        self._counts = dict.fromkeys(FrameKind, 0)  # since the last `count`
        self._bytes = self._rows = self._unasked = self._malformed = 0
        self._dead_s, self._dead = 0.0, 0  # set aside in the second that began then
        self._dropped_frames = 0
        self._dropped_from_ts = 0
        self._dropped_to_s = 0.0

    def count(self) -> None:
        """Hand what was counted to the metrics; counting there costs more than decoding."""
        for kind, frames in self._counts.items():
            metrics.FRAMES.labels(kind.name.lower()).inc(frames)
        metrics.FRAMES.labels("malformed").inc(self._malformed)
        metrics.FRAME_BYTES.inc(self._bytes)
        metrics.TICKS.labels("ingest").inc(self._rows)
        if self._malformed:
            log.warning("malformed frames", frames=self._malformed)
        if self._unasked:
            log.info("the venue sends what nobody asks for (any more)", updates=self._unasked)
        self._counts = dict.fromkeys(FrameKind, 0)
        self._bytes = self._rows = self._unasked = self._malformed = 0

    # Instruments and shards

    def outbox(self, shard: int) -> Outbox:
        """The shard's outbox. While it exists the shard is ours: its ticks are kept."""
        if shard not in self.outboxes:
            self.outboxes[shard] = Outbox(self._limit_bytes)
        return self.outboxes[shard]

    def let_go(self, shard: int) -> None:
        self.flush()
        self.outboxes.pop(shard, None)
        self.quotes.let_go(shard)
        metrics.BUFFER_BYTES.labels(str(shard)).set(0)
        self.weigh()

    def follow(self, keys: Iterable[str]) -> None:
        """Know these instruments; hours are looked up anew, they change with the date."""
        wanted = [(key, self._session_of(key)) for key in keys]
        self._merger.register(wanted)
        self._key_of.update((instrument_id(key), key) for key, _ in wanted)

    def forget(self, keys: Iterable[str]) -> None:
        self.flush()
        self._merger.forget(keys)

    def mark_base(self, keys: Iterable[str]) -> None:
        """The feed starts anew for these; they have to be followed."""
        self._merger.mark_base(keys)

    def price(self, key: str) -> float:
        """The last price of an instrument that is followed; 0 where it has none."""
        last = self._merger.last
        found = last["ltp"][last["id"] == instrument_id(key)]
        return float(found[0]) if len(found) and found[0] > 0 else 0.0

    def unseen(self, keys: Iterable[str]) -> set[str]:
        """Of these, the instruments that have sent nothing since their base was marked."""
        return set(self._merger.never_seen()) & set(keys)

    def weigh(self) -> None:
        """Look at the outboxes again; done when they change, not for every frame."""
        self.congested = any(box.congested for box in self.outboxes.values())
        self.full = any(box.full for box in self.outboxes.values())
        if self._dropped_frames and not self.full:
            self._overflow_ends()

    # Frames

    def take(self, frame: Any, rx_ns: int, now_s: float) -> FrameKind | None:
        """A frame has arrived. None: it was malformed, or there was no room."""
        if self.full:
            self._drop(now_s)
            return None
        try:
            added = self._append(frame, rx_ns)
        except BadFrame as error:
            self._set_aside(error, now_s)
            return None
        if not _TIME_MIN_MS < added.ts < _TIME_MAX_MS:
            self._unwanted += range(added.first_row, added.first_row + added.rows)
            self._set_aside(BadFrame(f"an impossible time ({added.ts})", bytes(frame)), now_s)
            return None
        self.clock.observe(added.ts, now_s)
        self.frame_ts, self.frame_ns = added.ts, rx_ns
        if added.kind is FrameKind.MARKET_INFO:
            self._phases(frame)
        elif added.rows:
            self._merge(added)
            self._rows += added.rows
            self.wake()
        self._counts[added.kind] += 1
        self._bytes += len(frame)
        return added.kind

    def _append(self, frame: Any, rx_ns: int) -> Appended:
        try:
            return self._buffer.append(frame, rx_ns)
        except BufferFull:
            self.flush()
            return self._buffer.append(frame, rx_ns)

    def _merge(self, added: Appended) -> None:
        unknown = self._merger.merge(self._buffer.rec, added.first_row, added.rows)
        if len(unknown):  # what we have not asked for, or no longer
            self._unwanted += unknown.tolist()
            self._unasked += len(unknown)

    def _phases(self, frame: Any) -> None:
        info = market_info(frame)
        for segment, status in info.segmentStatus.items():
            self.statuses[segment] = MarketStatus.Name(status) if status in MarketStatus.values() else str(status)
        self.wake()

    def _set_aside(self, error: BadFrame, now_s: float) -> None:
        """A malformed frame is kept for whoever wants to know why, unless there are too many to keep."""
        self._malformed += 1
        if now_s - self._dead_s >= 1.0:
            self._dead_s, self._dead = now_s, 0
        self._dead += 1
        shard = min(self.outboxes, default=None)
        if shard is None or self._dead > _DEAD_PER_S:
            return
        stream = streams.dead(streams.ticks(shard))
        metrics.DEAD_ENTRIES.labels(streams.ticks(shard)).inc()
        body = bytes(error.frame[:_DEAD_FRAME_MAX_BYTES])
        fields: dict[bytes, bytes | str] = {b"frame": body, b"why": str(error), b"worker": b"ingest"}
        self.outboxes[shard].put(Output(stream, fields))
        self.weigh()
        self.wake()

    # No room: Redis is away for longer than the buffer lasts

    def _drop(self, now_s: float) -> None:
        if not self._dropped_frames:
            self._dropped_from_ts = self.frame_ts
            log.error("no room for frames: Redis is away too long")
        self._dropped_frames += 1
        self._dropped_to_s = now_s
        metrics.DROPPED_FRAMES.inc()

    def _overflow_ends(self) -> None:
        """What was dropped is a hole like any other: it is marked, reported, and every instrument starts anew."""
        from_ts, to_ts = self._dropped_from_ts, self.clock.at(self._dropped_to_s)
        self.gaps.append({"frames": self._dropped_frames, "from_ts": from_ts, "to_ts": to_ts})
        self._dropped_frames = 0
        self.down(None, from_ts)
        self.mark_base(self._merger.keys)
        self.overflowed(from_ts, to_ts)

    # Batches

    def flush(self) -> None:
        """Move what has gathered into the outboxes."""
        if not self._buffer.n_rows:
            return
        rec, depth = self._buffer.rec, self._buffer.depth
        if self._unwanted:
            rec, depth = _without(self._unwanted, rec, depth)
            self._unwanted = []
        if len(rec):
            self._split(rec, depth)
            metrics.FEED_DELAY_S.observe(max(0.0, self.frame_ns / 1e9 - self.frame_ts / 1e3))
        self._buffer.clear()
        self.weigh()

    def _split(self, rec: Any, depth: Any) -> None:
        if self._shards == 1:
            self._pack(0, rec, depth)
            return
        of_row = (rec["id"].astype(np.uint64) % np.uint64(self._shards)).astype(np.int64)
        of_level = np.repeat(of_row, rec["levels"])
        for shard in np.unique(of_row).tolist():
            self._pack(shard, rec[of_row == shard], depth[of_level == shard] if len(depth) else _NO_DEPTH)

    def _pack(self, shard: int, rec: Any, depth: Any) -> None:
        if shard not in self.outboxes:
            return  # not ours (any more)
        keys = ",".join(map(self._key_of.__getitem__, dict.fromkeys(rec["id"].tolist())))
        fields = ticks.pack(int(rec["ts"].max()), self.frame_ns, keys, rec, depth)
        self.outboxes[shard].put(Output(streams.ticks(shard), fields))

    def down(self, keys: Iterable[str] | None, ts: int) -> None:
        """The feed told nothing after `ts` (about these instruments; None: about any)."""
        self.flush()
        by_shard: dict[int, list[str]] = {}
        for key in keys or ():
            by_shard.setdefault(streams.shard_of(key, self._shards), []).append(key)
        for shard, box in self.outboxes.items():
            if keys is None or shard in by_shard:
                mark = ticks.pack_mark(ts, self.frame_ns, feed=FeedMark.DOWN, keys=by_shard.get(shard, ()))
                box.put(Output(streams.ticks(shard), mark))
        self.wake()

    def beat(self, shard: int, up: bool, now_s: float, rx_ns: int) -> None:
        """Nothing else to say: the feed is up and quiet, or still away. Venue time goes on either way."""
        if (venue_ms := self.clock.at(now_s)) and shard in self.outboxes:
            mark = ticks.pack_mark(venue_ms, rx_ns, feed=FeedMark.LIVE if up else FeedMark.AWAY)
            self.outboxes[shard].put(Output(streams.ticks(shard), mark))

    def learn(self, bars: Iterable[HistoryBar], now_s: float, rx_ns: int) -> None:
        """Minutes from the venue's history, into the stream: the aggregator decides what they change."""
        by_shard: dict[int, list[dict[str, Any]]] = {}
        for bar in bars:
            by_shard.setdefault(streams.shard_of(bar.instrument, self._shards), []).append(bar.model_dump())
        self.flush()
        for shard, found in by_shard.items():
            if shard in self.outboxes:
                mark = ticks.pack_mark(self.clock.at(now_s), rx_ns, bars=orjson.dumps(found))
                self.outboxes[shard].put(Output(streams.ticks(shard), mark))
        self.wake()

    def registry(self, shard: int, keys: Iterable[str]) -> Mapping[Any, str]:
        return {str(instrument_id(key)): key for key in keys if streams.shard_of(key, self._shards) == shard}


def _without(rows: Iterable[int], rec: npt.NDArray[Any], depth: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Copies that lack some rows, and the levels that belong to those."""
    kept = np.ones(len(rec), bool)
    kept[list(rows)] = False
    return rec[kept], depth[np.repeat(kept, rec["levels"])]
