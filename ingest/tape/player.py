"""Plays a tape: records go into a collector as they once did, what comes out are the same stream entries. Pure.

The collector and the outboxes are the ones that ingest runs. Time is what the records say; frames are packed into
entries where they were packed then, so that not only bars but the entries themselves are the same bytes. What others
had put into the stream is put there again.

A player answers each record with steps for whoever has the Redis. It has to be told `ahead` what comes later on the
tape than it is needed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bus.inbox import Output, Published
from ingest.collector import Collector
from ingest.tape import format as form
from ingest.tape.format import AHEAD, Flag, Kind, Record
from ingest.tape.reader import Hole
from schemas import streams
from schemas.bars import HistoryBar
from schemas.ticks import SessionClass

_NO_LIMIT_BYTES: Final = 1 << 50
_AT_ONCE: Final = 256  # records, after which what has gathered is handed out

Commands = list[list[bytes]]


@dataclass(frozen=True, slots=True)
class Begin:
    """A shard's stream begins: Redis has to hold what these commands make, and nothing else of the shard."""

    shard: int
    commands: Commands
    ends: dict[str, str]  # newest id of each stream that the readers of ours wrote, when it was recorded


@dataclass(frozen=True, slots=True)
class Publish:
    shard: int
    outputs: list[Output]


@dataclass(frozen=True, slots=True)
class Run:
    """Commands on what lies beside the streams."""

    commands: Commands


@dataclass(frozen=True, slots=True)
class End:
    """No more of this shard, until it begins again. `why` is empty where that is as it should be."""

    shard: int
    why: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """From here on the shard's stream is another than it was: something cannot be read."""

    shard: int
    why: str


Step = Begin | Publish | Run | End | Uncertain


@dataclass(slots=True)
class Ahead:
    """What a player has to know before it comes to it."""

    preludes: dict[int, tuple[dict[str, str], Commands]] = field(default_factory=dict)  # by cut
    foreign: dict[int, dict[int, list[list[bytes]]]] = field(default_factory=dict)  # by stretch, by entries before
    committed: dict[int, int] = field(default_factory=dict)  # by stretch
    whole: bool = False  # the tape was closed in order
    gaps: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[Record | Hole]) -> "Ahead":
        """From the records of the kinds AHEAD (others are passed over)."""
        found = cls()
        for record in records:
            if isinstance(record, Record):
                found._note(record)
        return found

    def _note(self, record: Record) -> None:
        self.whole = record.kind is Kind.END
        if record.kind is Kind.PRELUDE:
            (head,), *commands = form.commands(record.payload)
            told = form.told(head)
            self.preludes[told["cut"]] = told["ends"], commands
        elif record.kind is Kind.FOREIGN:
            (head,), fields = form.commands(record.payload)
            told = form.told(head)
            self.foreign.setdefault(told["stretch"], {}).setdefault(told["before"], []).append(fields)
        elif record.kind is Kind.COMMITTED:
            self.committed[record.json["stretch"]] = record.json["entries"]
        elif record.kind is Kind.GAP:
            self.gaps.append(record.json)


@dataclass(slots=True)
class _Playing:
    stretch: int
    entries: int  # of ours so far
    limit: int  # after so many nobody knows what was published
    certain: bool = True


class Player:
    """`only_committed`: hand out only what is known to have been published at the time, as a comparison needs it."""

    def __init__(self, shards: int, ahead: Ahead, *, only_committed: bool = False) -> None:
        self.frames = 0
        self.from_ns = self.to_ns = 0
        self._shards = shards
        self._ahead = ahead
        self._only_committed = only_committed
        self._sessions: dict[str, SessionClass] = {}
        self._collector = self._new()
        self._begun = False
        self._since = 0
        self._followed: set[str] = set()
        self._playing: dict[int, _Playing] = {}

    def _new(self) -> Collector:
        return Collector(self._shards, _NO_LIMIT_BYTES, self._sessions.__getitem__)

    @property
    def venue_ms(self) -> int:
        return self._collector.clock.ts

    def play(self, record: Record | Hole) -> Iterator[Step]:
        if isinstance(record, Hole):
            yield from self._hole(record)
            return
        if record.flags & Flag.FLUSHED:
            self._collector.flush()
        elif record.flags & Flag.DRAINED:
            self._collector.drain()
        if record.kind is Kind.CHECKPOINT:
            yield from self._checkpoint(record)
        elif self._begun:
            yield from self._one(record)
        self._since += 1
        if self._since >= _AT_ONCE:
            yield from self.gathered()

    def _one(self, record: Record) -> Iterator[Step]:
        match record.kind:
            case Kind.FRAME:
                self._collector.take(record.payload, record.rx_ns, record.now_s)
                self.frames += 1
                self.from_ns = self.from_ns or record.rx_ns
                self.to_ns = record.rx_ns
            case Kind.CUT:
                yield from self._cut(record)
            case Kind.LET_GO:
                self._collector.flush()
                yield from self._end(record.shard, "")
            case Kind.HASHES:
                yield Run(list(form.commands(record.payload)))
            case Kind.GAP:
                for shard in list(self._playing):
                    yield from self._end(shard, f"a gap in the tape: {record.json['why']}")
            case _:
                self._tell(record)

    def _tell(self, record: Record) -> None:
        collector = self._collector
        match record.kind:
            case Kind.FOLLOW:
                self._sessions |= {key: SessionClass(session) for key, session in record.json}
                collector.follow([key for key, _ in record.json])
                self._followed |= {key for key, _ in record.json}
            case Kind.FORGET:
                collector.forget(record.json)
                self._followed -= set(record.json)
            case Kind.BASE:
                collector.mark_base(record.json)
            case Kind.DOWN:
                collector.down(record.json["keys"], record.json["ts"])
            case Kind.BEAT_UP | Kind.BEAT_AWAY:
                collector.beat(record.shard, record.kind is Kind.BEAT_UP, record.now_s, record.rx_ns)
            case Kind.LEARN:
                collector.learn([HistoryBar(**bar) for bar in record.json], record.now_s, record.rx_ns)

    # Where it begins and ends

    def _checkpoint(self, record: Record) -> Iterator[Step]:
        goes_on = record.shard == 1 and all(playing.certain for playing in self._playing.values())
        if self._begun and goes_on and self._playing:
            return
        for shard in list(self._playing):
            yield from self._end(shard, "the tape begins anew")
        self._collector = self._new()
        self._followed = set(self._collector.recall(record.payload))
        self._begun = True

    def _cut(self, record: Record) -> Iterator[Step]:
        about = record.json
        if record.shard in self._playing or about["cut"] not in self._ahead.preludes:
            return
        ends, commands = self._ahead.preludes[about["cut"]]
        limit = self._ahead.committed.get(about["stretch"], 0) if self._only_committed else 1 << 62
        self._playing[record.shard] = _Playing(about["stretch"], about["entries"], limit)
        self._collector.outbox(record.shard).resume(Published(), False, 0.0)
        yield Begin(record.shard, commands, ends)

    def _end(self, shard: int, why: str) -> Iterator[Step]:
        if shard not in self._playing:
            return
        yield from self._publish(shard)
        del self._playing[shard]
        self._collector.let_go(shard)
        yield End(shard, why)

    def _hole(self, hole: Hole) -> Iterator[Step]:
        """For every instrument the feed was away, and starts anew behind the hole."""
        if not self._begun:
            return
        yield from self.gathered()
        for shard, playing in self._playing.items():
            playing.certain = False
            yield Uncertain(shard, hole.why)
        self._collector.down(None, self._collector.frame_ts)
        self._collector.mark_base(self._followed)

    def finish(self) -> Iterator[Step]:
        """The tape is over."""
        if not self._ahead.whole:  # it ends in the middle; what had been packed is all that is known
            self._collector.flush()
        for shard in list(self._playing):
            yield from self._end(shard, "")

    # What comes out

    def gathered(self) -> Iterator[Step]:
        """Whatever waits in the outboxes."""
        self._since = 0
        for shard in self._playing:
            yield from self._publish(shard)

    def _publish(self, shard: int) -> Iterator[Publish]:
        box, playing = self._collector.outboxes[shard], self._playing[shard]
        while box:
            write = box.take()
            box.done(0.0)
            outputs: list[Output] = []
            for output in write.outputs:
                outputs += self._placed(shard, playing, output)
            if outputs:
                yield Publish(shard, outputs)

    def _placed(self, shard: int, playing: _Playing, output: Output) -> Iterator[Output]:
        """The entry, behind what others had put before it."""
        if output.stream != streams.ticks(shard):
            yield output
            return
        if playing.entries >= playing.limit:
            return
        for flat in self._ahead.foreign.get(playing.stretch, {}).get(playing.entries, ()):
            yield Output(output.stream, dict(zip(flat[::2], flat[1::2], strict=True)))
        playing.entries += 1
        yield output


__all__ = ["AHEAD", "Ahead", "Begin", "End", "Player", "Publish", "Run", "Step", "Uncertain"]
