"""Between the sockets and the outboxes: frames gather, are decoded and merged together, and leave in batches.

How many frames share a stream entry adapts by itself: while one publication is under way frames gather, and the next
takes all of them. An idle pipeline adds no delay, a busy one wastes no round trips. Decoding waits for that, too, as a
call into compiled code takes as long as a small frame. So `take` only keeps a frame and `drain` looks at what is kept;
whatever asks or changes what is known of the feed drains first.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

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
from proto.decode import FrameKind, Frames, TickBuffer, market_info
from proto.feed_pb2 import MarketStatus, StatusInfo
from schemas import streams, ticks
from schemas.bars import HistoryBar
from schemas.errors import BadFrame
from schemas.events import Auction
from schemas.streams import instrument_id
from schemas.ticks import LEVEL, FeedMark, SessionClass

if TYPE_CHECKING:
    from ingest.tape.recorder import Recorder

log = structlog.get_logger("collector")

_ROWS: Final = 2048
_LEVELS: Final = 20_480
_KEPT_MAX_BYTES: Final = 1 << 20  # of frames that are not decoded yet
_KEPT_MAX: Final = 2048
_IMPOSSIBLE_TIME: Final = -100  # beside the decoder's reasons to refuse a frame
_NO_DEPTH: Final = np.empty(0, LEVEL)
_DEAD_FRAME_MAX_BYTES: Final = 64 * 1024
_DEAD_PER_S: Final = 20  # more are only counted

#: Times that a frame can have, 2001 to 2100: one that were believed would carry venue time away with it.
_TIME_MIN_MS: Final = 1_000_000_000_000
_TIME_MAX_MS: Final = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What some frames of one connection were about, once they are decoded. Malformed ones do not count."""

    ts: int  # venue time of the newest
    data: bool  # ticks were among them
    live: bool  # and not only the state of what had just been subscribed


class Listener(Protocol):
    """Whom frames came from: a connection."""

    number: int

    def heard(self, heard: Heard) -> None: ...


class Collector:
    """One per process. `wake` is called when there is something to publish, `overflowed` with the times between which
    frames were dropped, once they no longer are."""

    def __init__(self, shards: int, limit_bytes: int, session_of: Callable[[str], SessionClass]) -> None:
        self.clock = VenueClock()
        self.outboxes: dict[int, Outbox] = {}
        self.statuses: dict[str, str] = {}  # segment -> the venue's market status
        self.pre_open: dict[str, Auction] = {}  # segment -> what the venue says of its call auction
        self.closing_auction: dict[str, Auction] = {}
        self.wake: Callable[[], None] = lambda: None
        self.overflowed: Callable[[int, int], None] = lambda *_: None
        self.gaps: list[dict[str, int]] = []  # overflows that are over, to be reported
        self.tape: Recorder | None = None  # hears of everything that enters, while it records
        self.full = False  # no room for frames
        self.congested = False  # Redis takes less than the feed brings
        self.frame_ts = 0  # venue time of the last frame taken
        self.frame_ns = 0  # and when we received it
        self._shards = shards
        self._limit_bytes = limit_bytes
        self._session_of = session_of
        self._frames: list[bytes] = []  # kept, with when and whence they came
        self._frames_ns: list[int] = []
        self._frames_of: list[Listener | None] = []
        self._frames_bytes = 0
        self._frames_s = 0.0  # when the newest came
        self._buffer = TickBuffer(_ROWS, _LEVELS)
        self._whose = np.empty(_ROWS, np.int32)  # by row of the buffer: the place of its instrument, -1: none of ours
        self._unwanted = 0  # rows of the buffer that are not to be published
        self._merger = Merger()
        self.quotes = Quotes(self._take_changed, shards)
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
        if self.tape is not None:
            self.tape.let_go(shard)
        self.outboxes.pop(shard, None)
        self.quotes.let_go(shard)
        metrics.BUFFER_BYTES.labels(str(shard)).set(0)
        self.weigh()

    def follow(self, keys: Iterable[str]) -> None:
        """Know these instruments; hours are looked up anew, they change with the date."""
        self.flush()  # places of instruments are about to change
        wanted = [(key, self._session_of(key)) for key in keys]
        if self.tape is not None:
            self.tape.follow(wanted)
        self._merger.register(wanted)

    def forget(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.flush()
        if self.tape is not None:
            self.tape.forget(keys)
        self._merger.forget(keys)

    def mark_base(self, keys: Iterable[str]) -> None:
        """The feed starts anew for these; they have to be followed."""
        keys = list(keys)
        self.drain()
        if self.tape is not None:
            self.tape.base(keys)
        self._merger.mark_base(keys)

    def take_overtaken(self) -> dict[str, int]:
        """Instruments of which an older state came after a newer one, and the time of the oldest trade so lost."""
        self.drain()
        return self._merger.take_overtaken()

    def price(self, key: str) -> float:
        """The last price of an instrument that is followed; 0 where it has none."""
        last = self._merger.last
        found = last["ltp"][last["id"] == instrument_id(key)]
        return float(found[0]) if len(found) and found[0] > 0 else 0.0

    def told(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """What is followed, the venue time of the last update of each (0: none), and whether it is still unseen."""
        self.drain()
        keys, never = self._merger.keys, set(self._merger.never_seen())
        return keys, self._merger.last["ts"].copy(), np.array([key in never for key in keys], bool)

    def unseen(self, keys: Iterable[str]) -> set[str]:
        """Of these, the instruments that have sent nothing since their base was marked."""
        self.drain()
        return set(self._merger.never_seen()) & set(keys)

    def weigh(self) -> None:
        """Look at the outboxes again; done when they change, not for every frame."""
        self.congested = any(box.congested for box in self.outboxes.values())
        self.full = any(box.full for box in self.outboxes.values())
        if self._dropped_frames and not self.full:
            self._overflow_ends()

    # Frames

    def take(self, frame: bytes, rx_ns: int, now_s: float, listener: Listener | None = None) -> None:
        """A frame has arrived; it is looked at soon."""
        if self.full:
            self._drop(now_s)
            return
        self._frames.append(frame)
        self._frames_ns.append(rx_ns)
        self._frames_of.append(listener)
        self._frames_bytes += len(frame)
        self._frames_s = now_s
        if self.tape is not None:
            self.tape.frame(frame, rx_ns, now_s, 0 if listener is None else listener.number)
        if len(self._frames) == 1:
            self.wake()
        elif self._frames_bytes >= _KEPT_MAX_BYTES or len(self._frames) >= _KEPT_MAX:
            self.drain()

    def drain(self) -> None:
        """Decode and merge what has been kept."""
        if not self._frames:
            return
        frames, listeners = Frames(self._frames, self._frames_ns), self._frames_of
        self._frames, self._frames_ns, self._frames_of = [], [], []
        if self.tape is not None:
            self.tape.drained()
        self._frames_bytes = 0
        done = 0
        while done < len(frames):
            first, done = done, self._buffer.append_many(frames, done)
            self._judge(frames, first, done)
            self._merge(frames, first, done)
            if done < len(frames):
                self._pack_rows()
        good = frames.status == 0
        for number in np.flatnonzero(~good).tolist():
            self._set_aside(_error(frames, number), self._frames_s)
        if good.any():
            self._look(frames, good)
            self._tell(frames, listeners, good)

    def _judge(self, frames: Frames, first: int, end: int) -> None:
        """A malformed frame has left no rows. One with an impossible time has; nobody gets to see them."""
        ts, status = frames.ts[first:end], frames.status[first:end]
        status[(status == 0) & ((ts <= _TIME_MIN_MS) | (ts >= _TIME_MAX_MS))] = _IMPOSSIBLE_TIME

    def _merge(self, frames: Frames, first: int, end: int) -> None:
        rec = self._buffer.rec
        if len(rec) > len(self._whose):
            self._whose = np.resize(self._whose, 2 * len(rec))
        parts = [(first, end)]
        if (frames.status[first:end] < 0).any():
            parts = [(number, number + 1) for number in range(first, end) if frames.rows[number]]
        for one, other in parts:
            first_row = int(frames.first_row[one]) if one < other else 0
            rows = int(frames.rows[one:other].sum())
            if frames.status[one] < 0:
                self._whose[first_row : first_row + rows] = -1
                self._unwanted += rows
            elif unknown := self._merger.merge(rec, first_row, rows, self._whose):
                self._unwanted += unknown  # what we have not asked for, or no longer
                self._unasked += unknown

    def _look(self, frames: Frames, good: npt.NDArray[np.bool_]) -> None:
        """Count, and take over what the frames say of time and of the market."""
        newest = int(np.flatnonzero(good)[-1])
        self.clock.observe(int(frames.ts[good].max()), self._frames_s)
        self.frame_ts, self.frame_ns = int(frames.ts[newest]), int(frames.rx_ns[newest])
        for kind, count in zip(FrameKind, np.bincount(frames.kind[good], minlength=3).tolist(), strict=True):
            self._counts[kind] += count
        for number in np.flatnonzero(good & (frames.kind == FrameKind.MARKET_INFO)).tolist():
            self._phases(frames.bodies[number])
        self._rows += int(frames.rows[good].sum())
        self._bytes += len(frames.raw)

    def _tell(self, frames: Frames, listeners: list[Listener | None], good: npt.NDArray[np.bool_]) -> None:
        each = set(listeners)
        for listener in each - {None}:
            theirs = good if len(each) == 1 else good & [other is listener for other in listeners]
            if listener is not None and theirs.any():
                kinds = set(frames.kind[theirs].tolist())
                newest = int(frames.ts[theirs][-1])
                listener.heard(Heard(newest, bool(kinds - {FrameKind.MARKET_INFO}), FrameKind.LIVE in kinds))

    def _phases(self, frame: bytes) -> None:
        info = market_info(frame)
        for segment, status in info.segmentStatus.items():
            self.statuses[segment] = MarketStatus.Name(status) if status in MarketStatus.values() else str(status)
        self.pre_open = _auctions(info.preOpenSessionStatus)
        self.closing_auction = _auctions(info.casMarketStatus)
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

    def _take_changed(self) -> tuple[list[str], npt.NDArray[Any]]:
        self.drain()
        return self._merger.take_changed()

    # Batches

    def flush(self) -> None:
        """Move what has gathered into the outboxes."""
        self.drain()
        self._pack_rows()

    def _pack_rows(self) -> None:
        if not self._buffer.n_rows:
            return
        if self.tape is not None:
            self.tape.flushed()
        rec, depth, whose = self._buffer.rec, self._buffer.depth, self._whose[: self._buffer.n_rows]
        if self._unwanted:
            kept = whose >= 0
            rec, depth, whose = rec[kept], depth[np.repeat(kept, rec["levels"])], whose[kept]
            self._unwanted = 0
        if len(rec):
            self._split(rec, depth, whose)
            metrics.FEED_DELAY_S.observe(max(0.0, self.frame_ns / 1e9 - self.frame_ts / 1e3))
        self._buffer.clear()
        self.weigh()

    def _split(self, rec: Any, depth: Any, whose: Any) -> None:
        if self._shards == 1:
            self._pack(0, rec, depth, whose)
            return
        of_row = (rec["id"].astype(np.uint64) % np.uint64(self._shards)).astype(np.int64)
        of_level = np.repeat(of_row, rec["levels"])
        for shard in np.unique(of_row).tolist():
            theirs = of_row == shard
            self._pack(shard, rec[theirs], depth[of_level == shard] if len(depth) else _NO_DEPTH, whose[theirs])

    def _pack(self, shard: int, rec: Any, depth: Any, whose: Any) -> None:
        if shard not in self.outboxes:
            return  # not ours (any more)
        fields = ticks.pack(int(rec["ts"].max()), self.frame_ns, self._merger.names(whose), rec, depth)
        self.outboxes[shard].put(Output(streams.ticks(shard), fields))

    def down(self, keys: Iterable[str] | None, ts: int) -> None:
        """The feed told nothing after `ts` (about these instruments; None: about any)."""
        keys = None if keys is None else list(keys)
        self.flush()
        if self.tape is not None:
            self.tape.down(keys, ts)
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
        if self.tape is not None:
            self.tape.beat(shard, up, now_s, rx_ns)
        self.flush()
        if (venue_ms := self.clock.at(now_s)) and shard in self.outboxes:
            mark = ticks.pack_mark(venue_ms, rx_ns, feed=FeedMark.LIVE if up else FeedMark.AWAY)
            self.outboxes[shard].put(Output(streams.ticks(shard), mark))

    def learn(self, bars: Iterable[HistoryBar], now_s: float, rx_ns: int) -> None:
        """Minutes from the venue's history, into the stream: the aggregator decides what they change."""
        bars = list(bars)
        by_shard: dict[int, list[dict[str, Any]]] = {}
        for bar in bars:
            by_shard.setdefault(streams.shard_of(bar.instrument, self._shards), []).append(bar.model_dump())
        self.flush()
        if self.tape is not None:
            self.tape.learn(bars, now_s, rx_ns)
        for shard, found in by_shard.items():
            if shard in self.outboxes:
                mark = ticks.pack_mark(self.clock.at(now_s), rx_ns, bars=orjson.dumps(found))
                self.outboxes[shard].put(Output(streams.ticks(shard), mark))
        self.wake()

    # For the tape

    def memory(self) -> bytes:
        """What is known of the feed; with what comes after it, everything that a replay needs."""
        self.flush()
        keys, last, marks = self._merger.memory()
        head = orjson.dumps(
            {
                "clock": [self.clock.ts, self.clock.seen_s],
                "frame": [self.frame_ts, self.frame_ns],
                "statuses": self.statuses,
                "keys": keys,
            }
        )
        return len(head).to_bytes(4, "little") + head + last + marks

    def recall(self, memory: bytes) -> list[str]:
        """Go on from `memory`; returns the instruments that are followed."""
        end = 4 + int.from_bytes(memory[:4], "little")
        head = orjson.loads(memory[4:end])
        self.clock.ts, self.clock.seen_s = head["clock"]
        self.frame_ts, self.frame_ns = head["frame"]
        self.statuses = head["statuses"]
        keys: list[str] = head["keys"]
        self._merger.recall(keys, memory[end:])
        return keys

    def registry(self, shard: int, keys: Iterable[str]) -> Mapping[Any, str]:
        return {str(instrument_id(key)): key for key in keys if streams.shard_of(key, self._shards) == shard}


def _auctions(told: Mapping[str, StatusInfo]) -> dict[str, Auction]:
    return {segment: Auction(status=each.status, since=each.updatedTime) for segment, each in told.items()}


def _error(frames: Frames, number: int) -> BadFrame:
    if frames.status[number] != _IMPOSSIBLE_TIME:
        return frames.error(number)
    return BadFrame(f"an impossible time ({frames.ts[number]})", frames.bodies[number])
