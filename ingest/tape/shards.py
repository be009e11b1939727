"""The part of the tape that belongs to a shard: what Redis has of it when the tape begins, and whether what we have
recorded since is all that is in its stream.

It nearly is. But when ingest is silent for some seconds (it was paused, Redis was away) the aggregator writes marks of
its own into the stream. They are told from the ids: between two entries of ours that are seconds apart somebody else's
may lie, so we look.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bus.connection import Bus
from bus.inbox import order
from ingest.outbox import Write
from ingest.tape.recorder import Recorder, Stretch
from schemas import streams

_SILENT_MS: Final = 900  # others write after three seconds; Redis's clock may be set meanwhile
_BACKLOG_MAX: Final = 5_000  # entries that a reader has yet to fold; with more a cut waits
_FOREIGN_MAX: Final = 1_000
_NONE: Final = "0-0"

#: The folds whose memory a replay begins with, and what they read.
READERS: Final = (("aggregator", streams.ticks), ("chain", streams.panel))
#: What they write: where a replay's own begins in each.
WRITTEN: Final = (streams.candles, streams.chain, streams.intervals)


class ShardTape:
    """`taken` and `wrote` surround each write of the shard's outbox; `cut` is called when nothing waits in it."""

    def __init__(self, recorder: Recorder, bus: Bus, number: int) -> None:
        self._recorder = recorder
        self._bus = bus
        self._number = number
        self._stream = streams.ticks(number)

    def taken(self, write: Write) -> None:
        """It is about to be written, perhaps not for the first time."""
        stretch = self._recorder.stretches.get(self._number)
        if stretch is not None and write.number > stretch.newest:
            stretch.newest = write.number
            stretch.before[write.number] = stretch.entries
            stretch.entries += self._count(write)

    async def wrote(self, write: Write, ids: Sequence[str]) -> None:
        """Redis has confirmed it; without ids where it had it before."""
        stretch = self._recorder.stretches.get(self._number)
        if stretch is None or write.number not in stretch.before:
            return
        before = stretch.before[write.number]
        ours = [its_id for its_id, output in zip(ids, write.outputs, strict=False) if output.stream == self._stream]
        if ours and ours[0] and order(ours[0])[0] - order(stretch.last_id)[0] >= _SILENT_MS:
            await self._look(stretch, before, ours[0])
        if ours and ours[-1]:
            stretch.last_id = ours[-1]
        stretch.committed = max(stretch.committed, before + self._count(write))
        for number in [number for number in stretch.before if number < write.number]:
            del stretch.before[number]

    def _count(self, write: Write) -> int:
        return sum(output.stream == self._stream for output in write.outputs)

    async def _look(self, stretch: Stretch, before: int, first: str) -> None:
        """What lies between the newest entry that we know and the `first` of a write, which comes after `before`."""
        (found,) = await self._bus.packet(
            ("XRANGE", self._stream, f"({stretch.last_id}", f"({first}", "COUNT", _FOREIGN_MAX)
        )
        entries = [(entry_id.decode(), flat) for entry_id, flat in found]
        ours_after = sum(not _is_foreign(flat) for _, flat in entries)  # a write whose reply was lost
        for _, flat in entries:
            if _is_foreign(flat):
                self._recorder.foreign(self._number, stretch, before - ours_after, flat)
            else:
                ours_after -= 1

    # Where the tape begins

    @property
    def wants_cut(self) -> bool:
        return self._recorder.wants_cut(self._number)

    async def cut(self) -> None:
        """Now the outbox is empty: Redis has all that was packed, and what is not packed comes after."""
        number = self._recorder.cut(self._number)
        found = None
        try:
            found = await self._held()
        finally:
            if found is None:
                self._recorder.uncut(self._number)
        if found is None or self._recorder.wants_cut(self._number):  # it was let go, or the disk has failed meanwhile
            return
        last_id, ends, commands = found
        self._recorder.prelude(self._number, number, ends, commands)
        self._recorder.stretches.setdefault(self._number, Stretch(number, last_id))

    async def _held(self) -> tuple[str, Mapping[str, str], list[list[bytes]]] | None:
        """The newest id of our stream, of those that its readers write, and the commands that make what Redis holds.

        None where a reader is far behind: a cut at every start of one would be as large as the stream.
        """
        readers = [(name, source(self._number), streams.state(name, self._number)) for name, source in READERS]
        places = [("GET", streams.position(name, source, state)) for name, source, state in readers]
        written = [stream(self._number) for stream in WRITTEN]
        tables = [streams.instruments(self._number), streams.terms(self._number)]
        before = await self._bus.packet(*places)
        found = await self._bus.packet(
            *places,
            *[("GET", state) for _, _, state in readers],
            *[
                ("XRANGE", source, f"({place.decode()}" if place else "-", "+", "COUNT", _BACKLOG_MAX)
                for (_, source, _), place in zip(readers, before, strict=True)
            ],
            *[("XREVRANGE", stream, "+", "-", "COUNT", 1) for stream in (self._stream, *written)],
            *[("HGETALL", table) for table in tables],
        )
        return self._commands(readers, written, tables, iter(found))

    def _commands(
        self, readers: list[tuple[str, str, str]], written: list[str], tables: list[str], found: Any
    ) -> tuple[str, Mapping[str, str], list[list[bytes]]] | None:
        positions = [next(found) or _NONE.encode() for _ in readers]
        states = [next(found) for _ in readers]
        backlogs = [next(found) for _ in readers]
        ends = [next(found) for _ in (self._stream, *written)]
        commands: list[list[bytes]] = []
        for (_, source, state), position, snapshot, backlog in zip(readers, positions, states, backlogs, strict=True):
            if len(backlog) >= _BACKLOG_MAX:
                return None
            if snapshot is not None:
                commands.append([b"SET", state.encode(), snapshot])
            commands += [
                [b"XADD", source.encode(), b"*", *flat]
                for entry_id, flat in backlog
                if order(entry_id.decode()) > order(position.decode())
            ]
        for table in tables:
            if flat := next(found):
                commands.append([b"HSET", table.encode(), *flat])
        last, *others = [entries[0][0].decode() if entries else _NONE for entries in ends]
        return last, dict(zip(written, others, strict=True)), commands


def _is_foreign(flat: Sequence[bytes]) -> bool:
    """Ours have been received; a mark of the aggregator's says that it was not."""
    return b"rx" in flat and flat[list(flat).index(b"rx") + 1] == b"0"
