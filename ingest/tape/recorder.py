"""What ingest talks to: turns what happens into records, and keeps a tape going through everything a disk can do.

A tape belongs to one process and one session. Each segment of it begins with a checkpoint (the collector's state) and,
as soon as a shard has published all it had, a cut: what Redis held of the shard at that moment. So a replay can begin
at every segment, and goes on across them.

When the disk is full or too slow, frames are left out and counted, the feed goes on. As soon as there is room again the
tape does, with a record of the gap, a checkpoint and cuts; what a person sees is an alert and a `gap` event.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from bus import clock, metrics
from ingest.tape import format as form
from ingest.tape.format import Flag, Kind
from ingest.tape.writer import QUEUE_MAX_BYTES, Writer
from schemas.bars import HistoryBar
from schemas.events import EventKind
from schemas.ticks import SessionClass

if TYPE_CHECKING:
    from ingest.collector import Collector

log = structlog.get_logger("tape")

SEGMENT_BYTES: Final = 256 << 20
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class News:
    """For `events`."""

    kind: EventKind
    message: str
    data: dict[str, Any]


@dataclass(slots=True)
class _Loss:
    why: str
    from_ns: int
    frames: int = 0


@dataclass(slots=True)
class Stretch:
    """A shard's stream from a cut on, for as long as nothing of it is missing on the tape: entries are counted."""

    number: int  # of its first cut
    last_id: str  # newest entry that is known, ours or not
    entries: int = 0  # of ours, in writes that were made
    committed: int = 0  # of those, known to be in Redis
    told: int = 0  # and written down as such
    newest: int = 0  # number of the newest write
    before: dict[int, int] = field(default_factory=dict)  # by write: entries before it


class Recorder:
    """One per process. While it records, the collector has it as its `tape`."""

    def __init__(
        self,
        collector: "Collector",
        root: Path,
        about: Mapping[str, Any],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        block_bytes: int = form.BLOCK_RAW_BYTES,
        now_ns: Callable[[], int] = clock.now_ns,
    ) -> None:
        self.news: list[News] = []
        self.folder: Path | None = None
        self.stretches: dict[int, Stretch] = {}  # by shard; without one it has yet to be cut
        self._collector = collector
        self._root = root
        self._about = about
        self._segment_bytes = segment_bytes
        self._queue_max_bytes = queue_max_bytes
        self._block_bytes = block_bytes
        self._now_ns = now_ns
        self._writer: Writer | None = None
        self._ending: list[Writer] = []
        self._session: date | None = None
        self._guessed = False  # nobody knew the venue's date when the tape began
        self._flags = 0
        self._put_frames = 0  # handed to the present writer
        self._loss: _Loss | None = None
        self._retry_s = 0.0
        self._cut: set[int] = set()  # shards that this segment has a cut of
        self._cuts = 0
        self._latest: Writer | None = None  # of the present tape, or the one before
        self._before = (0, 0, 0)  # what earlier writers of this tape have written: frames, raw bytes, stored bytes
        self._counted_bytes = self._counted_frames = 0

    # The life of a tape

    @property
    def on(self) -> bool:
        return self._writer is not None

    @property
    def losing(self) -> str:
        """Why nothing is recorded at the moment, though it should be."""
        return self._loss.why if self._loss else ""

    @property
    def written(self) -> tuple[int, int, int]:
        """Frames on this tape, the bytes of its records, and those on the disk without what is in the tail."""
        if self._latest is None:
            return self._before
        frames, raw_bytes, stored_bytes = self._before
        latest = self._latest
        return frames + latest.frames, raw_bytes + latest.raw_bytes, stored_bytes + latest.stored_bytes

    def begin(self, session: date, started: str) -> None:
        """A tape of its own for this session. `started` names it among those of the day."""
        self.folder = self._root / session.isoformat() / started
        self._session, self._guessed = session, not self._collector.clock.ts
        self._put_frames, self._before, self._loss = 0, (0, 0, 0), None
        self._counted_bytes = self._counted_frames = 0
        self._writer = self._new_writer(self.folder, 0)
        self._collector.tape = self
        self._start_over()
        log.info("recording", tape=str(self.folder))

    def _new_writer(self, folder: Path, first: int) -> Writer:
        self._latest = Writer(
            folder, self._about, first=first, queue_max_bytes=self._queue_max_bytes, block_bytes=self._block_bytes
        )
        return self._latest

    def _start_over(self) -> None:
        """Nothing that was counted before holds: a replay begins here."""
        self.stretches.clear()
        self._checkpoint(goes_on=False)

    def _checkpoint(self, *, goes_on: bool) -> None:
        self._collector.flush()
        self._cut.clear()
        self._put(Kind.CHECKPOINT, self._collector.memory(), shard=int(goes_on))

    def end(self) -> None:
        """The tape is whole as it is."""
        if self._writer is None:
            return
        self._collector.flush()
        self._tell_committed()
        self._put(Kind.END)
        self._writer.finish()
        self._ending.append(self._writer)
        self._collector.tape = None
        self._writer = None
        log.info("recorded", tape=str(self.folder))

    def join(self) -> None:
        """Until what was recorded is on the disk. Blocks."""
        for writer in self._ending:
            writer.join()
        self._ending.clear()

    def tend(self, now_s: float, session: date, started: str) -> None:
        """What has to be looked after about once a second."""
        known = self._collector.clock.ts > 0  # as for `session`: frames that wait may tell the time any moment
        self._ending = [writer for writer in self._ending if writer.alive]
        writer = self._writer
        if writer is None:
            return
        self._count(writer)
        if not writer.alive:
            self._lose(f"the tape cannot be written: {writer.failure or 'its thread has ended'}")
            self._try_again(writer, now_s)
        elif self._loss is not None:
            if writer.waiting_bytes < self._queue_max_bytes // 4:
                self._go_on()
        elif session != self._session and self._guessed:
            self.folder = self._root / session.isoformat() / writer.folder.name
            self._session, self._guessed = session, False
            writer.move(self.folder)
        elif session != self._session:
            self.end()
            self.begin(session, started)
        elif writer.segment_bytes >= self._segment_bytes:
            writer.rotate()
            self._checkpoint(goes_on=True)
        self._guessed = self._guessed and not (known and session == self._session)
        self._tell_committed()

    def _count(self, writer: Writer) -> None:
        frames, _, stored_bytes = self.written
        metrics.TAPE_BYTES.inc(stored_bytes - self._counted_bytes)
        metrics.TAPE_FRAMES.inc(frames - self._counted_frames)
        metrics.TAPE_WAITING_BYTES.set(writer.waiting_bytes)
        self._counted_bytes, self._counted_frames = stored_bytes, frames

    # What is lost

    def _lose(self, why: str) -> None:
        if self._loss is None:
            self._loss = _Loss(why, self._now_ns())
            self.stretches.clear()
            log.error("the tape has a gap", reason=why)
            metrics.TAPE_GAPS.inc()
            self.news.append(News(EventKind.ALERT, f"{why}; the feed goes on without it", {"tape": str(self.folder)}))

    def _try_again(self, dead: Writer, now_s: float) -> None:
        """A new segment beside those that there are."""
        if now_s - self._retry_s < _RETRY_S:
            return
        self._retry_s = now_s
        self._before = self.written
        lost = self._put_frames - dead.frames  # handed over, never written
        if self._loss is not None and lost:
            self._loss.frames += lost
            self._loss.from_ns = dead.newest_ns or self._loss.from_ns
        self._put_frames = 0
        metrics.TAPE_LOST_FRAMES.inc(lost)
        assert self.folder is not None
        self._writer = self._new_writer(self.folder, dead.next)

    def _go_on(self) -> None:
        loss, self._loss = self._loss, None
        if loss is None:
            return
        to_ns = self._now_ns()
        data = {"why": loss.why, "frames": loss.frames, "from_ns": loss.from_ns, "to_ns": to_ns}
        self._put(Kind.GAP, orjson.dumps(data))
        self._start_over()
        if self._loss is not None:  # too early
            self._loss.frames, self._loss.from_ns = self._loss.frames + loss.frames, loss.from_ns
            return
        seconds = (to_ns - loss.from_ns) / 1e9
        message = f"the tape lacks {loss.frames} frames of {seconds:.1f} s: {loss.why}"
        self.news.append(News(EventKind.GAP, message, {**data, "tape": str(self.folder)}))
        log.warning("the tape goes on", frames_missing=loss.frames, seconds=round(seconds, 1))

    # What the collector tells

    def _put(
        self, kind: Kind, payload: Any = b"", rx_ns: int = 0, now_s: float = 0.0, connection: int = 0, shard: int = 0
    ) -> None:
        if self._loss is not None or self._writer is None:
            return
        if self._writer.put(form.pack(kind, payload, rx_ns, now_s, connection, shard, self._flags)):
            self._flags = 0
        else:
            self._lose(f"the tape cannot be written: {self._writer.failure or 'the disk is too slow'}")

    def drained(self) -> None:
        """What had gathered was decoded: a replay does so at the same place, since time is observed there."""
        self._flags |= Flag.DRAINED

    def flushed(self) -> None:
        """It was packed into entries."""
        self._flags |= Flag.FLUSHED

    def frame(self, frame: bytes, rx_ns: int, now_s: float, connection: int) -> None:
        self._put(Kind.FRAME, frame, rx_ns, now_s, connection)
        if self._loss is None:
            self._put_frames += 1
        else:
            self._loss.frames += 1
            metrics.TAPE_LOST_FRAMES.inc()

    def follow(self, wanted: Iterable[tuple[str, SessionClass]]) -> None:
        self._put(Kind.FOLLOW, orjson.dumps([(key, int(session)) for key, session in wanted]))

    def forget(self, keys: Iterable[str]) -> None:
        self._put(Kind.FORGET, orjson.dumps(list(keys)))

    def base(self, keys: Iterable[str]) -> None:
        self._put(Kind.BASE, orjson.dumps(list(keys)))

    def down(self, keys: Iterable[str] | None, ts: int) -> None:
        self._put(Kind.DOWN, orjson.dumps({"keys": None if keys is None else list(keys), "ts": ts}))

    def beat(self, shard: int, up: bool, now_s: float, rx_ns: int) -> None:
        self._put(Kind.BEAT_UP if up else Kind.BEAT_AWAY, b"", rx_ns, now_s, shard=shard)

    def learn(self, bars: Iterable[HistoryBar], now_s: float, rx_ns: int) -> None:
        self._put(Kind.LEARN, orjson.dumps([bar.model_dump() for bar in bars]), rx_ns, now_s)

    def let_go(self, shard: int) -> None:
        self._put(Kind.LET_GO, shard=shard)
        self.stretches.pop(shard, None)
        self._cut.discard(shard)

    # What the shards tell, see `ingest.tape.shards`

    def wants_cut(self, shard: int) -> bool:
        return self._writer is not None and self._loss is None and shard not in self._cut

    def cut(self, shard: int) -> int:
        """The shard has published all that was packed. Its number."""
        self._cuts += 1
        self._cut.add(shard)
        stretch = self.stretches.get(shard) or Stretch(self._cuts, "")
        data = {"cut": self._cuts, "stretch": stretch.number, "entries": stretch.entries}
        self._put(Kind.CUT, orjson.dumps(data), shard=shard)
        return self._cuts

    def uncut(self, shard: int) -> None:
        """What Redis held could not be read: another time."""
        self._cut.discard(shard)

    def prelude(self, shard: int, cut: int, ends: Mapping[str, str], commands: list[list[bytes]]) -> None:
        head = orjson.dumps({"cut": cut, "ends": dict(ends)})
        self._put(Kind.PRELUDE, form.pack_commands([[head], *commands]), shard=shard)

    def hashes(self, shard: int, hashes: Mapping[str, Mapping[Any, Any]]) -> None:
        commands = [
            [b"HSET", key.encode(), *(form.word(part) for pair in fields.items() for part in pair)]
            for key, fields in hashes.items()
            if fields
        ]
        if commands:
            self._put(Kind.HASHES, form.pack_commands(commands), shard=shard)

    def foreign(self, shard: int, stretch: Stretch, before: int, fields: list[bytes]) -> None:
        head = orjson.dumps({"stretch": stretch.number, "before": before})
        self._put(Kind.FOREIGN, form.pack_commands([[head], fields]), shard=shard)

    def _tell_committed(self) -> None:
        for shard, stretch in self.stretches.items():
            if stretch.committed > stretch.told:
                stretch.told = stretch.committed
                data = {"stretch": stretch.number, "entries": stretch.committed}
                self._put(Kind.COMMITTED, orjson.dumps(data), shard=shard)
