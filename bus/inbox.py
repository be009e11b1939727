"""Read, fold, commit: the three steps of every worker.

    async with Inbox.open(...) as inbox:          # snapshot of the state, group in place
        batch = await inbox.read(...)             # whatever came after the last commit
        ...                                       # the core turns the batch into outputs
        await inbox.commit(outputs, snapshot)     # outputs + state + acknowledgement, all or nothing

Whatever was read since the last commit belongs to the next one. After a crash it is delivered again, to whoever holds
the shard's lease then: opening an inbox makes the group anew where its last commit was. What the group itself believes
to have delivered plays no part: nothing is stranded under a dead process's name, and a Redis that forgot a part of it
changes nothing. An error of Redis leaves open what happened; the caller opens a new inbox and finds out.

Only the owner of the shard's lease reads in its group. But a process that was paused for longer than its lease lasts
reads on for a moment when it wakes up, and what it takes the new owner would never see. So every read also asks how
much is pending: if that is not what was delivered here, the owner starts over, and finds everything in its order. So
it does when it is given what it has had before: then the other has made the group anew.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis import exceptions as redis_errors

from bus import metrics
from bus.cluster import slot_of
from bus.connection import Bus, Word, pairs
from bus.lease import Lease
from bus.outside import Outside
from bus.reader import Reader
from bus.sizes import Sizes
from schemas import streams
from schemas.errors import Unavailable

Value = Word

#: Of one entry, names and values counted. Lua unpacks them onto its stack, which holds 8000.
_VALUES_MAX: Final = 7000
_FIELDS_PER_HSET: Final = 2000
_BLOCK_MAX_MS: Final = 5_000  # well below the time after which a connection counts as dead
_ORIGIN: Final = "0-0"


@dataclass(frozen=True, slots=True)
class Entry:
    stream: str
    id: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Missed:
    """Entries after `after` and up to `last` were trimmed away before this group committed them."""

    stream: str
    after: str
    last: str


@dataclass(frozen=True, slots=True)
class Output:
    """An entry to append to a stream; under an id of old where it is put back into a stream that lost it."""

    stream: str
    fields: Mapping[Any, Value]
    id: str = "*"


@dataclass(slots=True)
class Batch:
    entries: list[Entry] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries or self.missed)


class Writer:
    """The one-transaction commit, for workers with and without an input stream."""

    def __init__(
        self,
        bus: Bus,
        lease: Lease | None,
        retention_ms: Mapping[str, int],
        trim_every_s: float = 1.0,
        limits_bytes: Mapping[str, int] | None = None,
    ) -> None:
        """`retention_ms` and `limits_bytes` are by family: a stream is kept for so long, and within so many bytes."""
        self.bus = bus
        self.lease = lease
        self._retention_ms = {**streams.RETENTION_MS, **retention_ms}
        self._limits_bytes = limits_bytes or {}
        self._sizes: dict[str, Sizes] = {}
        self._trim_every_s = trim_every_s
        self._trimmed_at: dict[str, float] = {}
        self._outside = None if bus.cluster is None or lease is None else Outside(bus, lease)

    async def write(
        self,
        outputs: Sequence[Output] = (),
        *,
        now_s: float,
        hashes: Mapping[str, Mapping[Any, Value]] | None = None,
        state: tuple[str, bytes] | None = None,
        acks: Sequence[tuple[str, str, Sequence[str]]] = (),
        positions: Mapping[str, str] | None = None,
        sequence: tuple[str, int] | None = None,
    ) -> list[str]:
        """Append, set and acknowledge at once; nothing happens where the lease is gone (raises LeaseLost).

        With `sequence` (key, number) a commit whose number was committed before does nothing and returns no ids:
        the way to try again after a reply got lost. The key then holds the number, and the id of the newest entry that
        is not in the append-only file (`Published`). An entry with an id of its own is left out where it is there or
        something newer is; its id is returned as empty. `acks` are (stream, group, ids), `positions` key and id.

        On a cluster "at once" holds for the slot of the lease, in which everything but some outputs and
        acknowledgements has to be. Those outputs are written before, those acknowledgements after.
        """
        plan = _Plan()
        if self.lease is not None:
            plan.head("lease", self.lease.key, self.lease.value)
        if sequence is not None:
            plan.head("sequence", *sequence)
        for key, fields in (hashes or {}).items():
            plan.hash(key, fields)
        if state is not None:
            plan.set(*state)
        for key, entry_id in (positions or {}).items():
            plan.set(key, entry_id)
        if self.bus.cluster is None:
            return await self._commit(plan, outputs, acks, now_s)
        return await self._commit_apart(plan, outputs, acks, now_s)

    async def _commit(
        self, plan: "_Plan", outputs: Sequence[Output], acks: Sequence[tuple[str, str, Sequence[str]]], now_s: float
    ) -> list[str]:
        for output in outputs:
            plan.add(output)
        for stream, group, ids in acks:
            plan.ack(stream, group, ids)
        written = {output.stream for output in outputs}
        bounded = {stream: await self._sizes_of(stream) for stream in written if self._is_bounded(stream)}
        for stream in self._due_for_trimming(written, now_s):
            too_many = bounded[stream].too_many() if stream in bounded else ""
            plan.trim(stream, self._retention_ms[streams.family(stream)], too_many)
        reply = await self.bus.script("commit", plan.keys, plan.args())
        for output, entry_id in zip(outputs, reply, strict=False):  # none where the number was committed before
            if output.stream in bounded and entry_id:
                bounded[output.stream].add(entry_id.decode(), _size(output.fields))
        for stream, count in Counter(output.stream for output in outputs[: len(reply)]).items():
            metrics.WRITTEN_ENTRIES.labels(stream).inc(count)
        return [entry.decode() for entry in reply]

    def _is_bounded(self, stream: str) -> bool:
        return streams.family(stream) in self._limits_bytes

    async def _sizes_of(self, stream: str) -> Sizes:
        """What the stream holds from before our time counts as one part."""
        if (known := self._sizes.get(stream)) is not None:
            return known
        sizes = self._sizes[stream] = Sizes(self._limits_bytes[streams.family(stream)])
        used, last = await self.bus.packet(("MEMORY", "USAGE", stream), ("XREVRANGE", stream, "+", "-", "COUNT", 1))
        if last:
            sizes.add(last[0][0].decode(), int(used))
        return sizes

    # On a cluster

    async def _commit_apart(
        self, plan: "_Plan", outputs: Sequence[Output], acks: Sequence[tuple[str, str, Sequence[str]]], now_s: float
    ) -> list[str]:
        home = slot_of(plan.keys[0] if plan.keys else outputs[0].stream if outputs else acks[0][0])
        there = [output for output in outputs if slot_of(output.stream) != home]
        here = [output for output in outputs if slot_of(output.stream) == home]
        ids_there = await self._write_there(there, now_s)
        ids_here = await self._commit(plan, here, [ack for ack in acks if slot_of(ack[0]) == home], now_s)
        if self._outside is not None:
            self._outside.settle()
        if late := [ack for ack in acks if slot_of(ack[0]) != home]:  # positions say already how far this group is
            await self.bus.packet(*[("XACK", stream, group, *ids) for stream, group, ids in late])
        if len(ids_here) < len(here):
            return []  # this number was committed before
        from_there, from_here = iter(ids_there), iter(ids_here)
        return [next(from_here if slot_of(output.stream) == home else from_there) for output in outputs]

    async def _write_there(self, outputs: Sequence[Output], now_s: float) -> list[str]:
        if not outputs:
            return []
        if self._outside is None:  # nothing that could be done again by somebody else
            return [(await self._commit(_Plan(), [output], (), now_s))[0] for output in outputs]
        ids = await self._outside.write(outputs)
        for stream, count in Counter(output.stream for output in outputs).items():
            metrics.WRITTEN_ENTRIES.labels(stream).inc(count)
        for stream in self._due_for_trimming({output.stream for output in outputs}, now_s):
            plan = _Plan()
            plan.trim(stream, self._retention_ms[streams.family(stream)], "")
            await self.bus.script("commit", plan.keys, plan.args())
        return ids

    def _due_for_trimming(self, written: set[str], now_s: float) -> list[str]:
        due = [s for s in sorted(written) if now_s - self._trimmed_at.get(s, -1e9) >= self._trim_every_s]
        for stream in due:
            self._trimmed_at[stream] = now_s
        return due


class _Plan:
    """Builds the plan and the values of `commit.lua`, which consumes them kind by kind."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._number: dict[str, int] = {}
        self._plan: dict[str, Any] = {"add": [], "hash": [], "set": [], "ack": [], "trim": []}
        # By what consumes them, in that order.
        self._heads: list[Value] = []
        self._adds: list[Value] = []
        self._hashes: list[Value] = []
        self._sets: list[Value] = []
        self._acks: list[Value] = []

    def _key(self, key: str) -> int:
        number = self._number.get(key)
        if number is None:
            self.keys.append(key)
            number = self._number[key] = len(self.keys)
        return number

    def head(self, what: str, key: str, value: Value) -> None:
        self._plan[what] = self._key(key)
        self._heads.append(value)

    def add(self, output: Output) -> None:
        before = len(self._adds)
        for pair in output.fields.items():
            self._adds += pair
        count = len(self._adds) - before
        if not 0 < count <= _VALUES_MAX:
            raise ValueError(f"an entry for {output.stream} with {count // 2} fields: 1 to {_VALUES_MAX // 2} can be")
        quiet = streams.family(output.stream) in streams.NOT_IN_THE_LOG
        self._plan["add"].append((self._key(output.stream), count, quiet, output.id))

    def hash(self, key: str, fields: Mapping[Any, Value]) -> None:
        flat = [part for pair in fields.items() for part in pair]
        for start in range(0, len(flat), 2 * _FIELDS_PER_HSET):
            part = flat[start : start + 2 * _FIELDS_PER_HSET]
            self._plan["hash"].append((self._key(key), len(part)))
            self._hashes += part

    def set(self, key: str, value: Value) -> None:
        self._plan["set"].append(self._key(key))
        self._sets.append(value)

    def ack(self, stream: str, group: str, ids: Sequence[str]) -> None:
        self._plan["ack"].append((self._key(stream), len(ids)))
        self._acks += (group, *ids)

    def trim(self, stream: str, keep_ms: int, too_many: str) -> None:
        self._plan["trim"].append((self._key(stream), self._key(streams.trimmed(stream)), keep_ms, too_many))

    def args(self) -> list[Value]:
        return [orjson.dumps(self._plan), *self._heads, *self._adds, *self._hashes, *self._sets, *self._acks]


class Inbox:
    """A consumer group's view of its input streams, and the state of its fold."""

    def __init__(self, writer: Writer, group: str, consumer: str, inputs: Sequence[str], state_key: str) -> None:
        self._writer = writer
        self._bus = writer.bus
        self._group = group
        self._consumer = consumer
        self._inputs = list(inputs)
        self._state_key = state_key
        self._apart = self._bus.apart(self._inputs)
        self._bell = Reader(self._bus)
        self._delivered: dict[str, list[str]] = {stream: [] for stream in inputs}
        self._committed: dict[str, str] = {}  # up to here everything was committed, or said to be missed
        self._last: dict[str, str] = {}  # up to here everything was delivered here, or is known to be gone
        self._count_read = metrics.READ_ENTRIES.labels(group).inc
        self._observe_batch = metrics.BATCH_ENTRIES.labels(group).observe
        self.snapshot: bytes | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, writer: Writer, *, group: str, consumer: str, inputs: Sequence[str], state_key: str
    ) -> AsyncIterator["Inbox"]:
        inbox = cls(writer, group, consumer, inputs, state_key)
        for stream in inputs:
            await inbox._ensure_group(stream)
        inbox.snapshot = await writer.bus.get(state_key)
        reading = {(stream, group) for stream in inputs}
        writer.bus.reading |= reading
        try:
            yield inbox
        finally:
            writer.bus.reading -= reading
            await inbox._bell.close()

    async def _ensure_group(self, stream: str) -> None:
        """A new group starts at the oldest entry there is: what was trimmed before its time, it has not missed. An old
        one starts after its last commit, which is written down besides."""
        key = streams.position(self._group, stream, self._state_key)
        mark = await self._bus.get(streams.trimmed(stream))
        _, position = await self._bus.packet(("SET", key, mark or _ORIGIN, "NX"), ("GET", key))
        self._committed[stream] = self._last[stream] = position.decode()
        create = ("XGROUP", "CREATE", stream, self._group, position, "MKSTREAM")
        try:
            await self._bus.packet(create)
        except redis_errors.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            await self._bus.packet(("XGROUP", "DESTROY", stream, self._group), create)

    # Reading

    async def read(self, *, count: int, block_ms: int) -> Batch:
        """Up to `count` entries of each stream, oldest first. Waits for at most `block_ms`; empty: caught up."""
        batch = Batch()
        await self._read_new(batch, count, block_ms)
        if batch.entries:
            self._count_read(len(batch.entries))
            self._observe_batch(len(batch.entries))
        return batch

    async def _read_new(self, batch: Batch, count: int, block_ms: int) -> None:
        """All streams at once. Where they are in several slots, none may keep the others waiting: whoever has nothing
        waits with a read that takes nothing."""
        if len(self._apart) == 1:
            await self._take(batch, self._inputs, count, block_ms)
            return
        await self._take_all(batch, count)
        block_ms = min(block_ms, _BLOCK_MAX_MS)
        if not batch and block_ms > 0 and await self._bell.read(self._last, count=1, block_ms=block_ms):
            await self._take_all(batch, count)

    async def _take_all(self, batch: Batch, count: int) -> None:
        for inputs in self._apart:
            await self._take(batch, inputs, count, 0)

    async def _take(self, batch: Batch, inputs: Sequence[str], count: int, block_ms: int) -> None:
        """New entries, the marks that trimming leaves, and what is pending now: one packet, nothing comes between."""
        block = ("BLOCK", min(block_ms, _BLOCK_MAX_MS)) if block_ms > 0 else ()
        wanted = (*inputs, *[">"] * len(inputs))
        reply, *others = await self._bus.packet(
            ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, *block, "STREAMS", *wanted),
            *[("GET", streams.trimmed(stream)) for stream in inputs],
            *[("XPENDING", stream, self._group) for stream in inputs],
        )
        marks, pending = others[: len(inputs)], others[len(inputs) :]
        for stream, mark in zip(inputs, marks, strict=True):
            self._notice_missed(batch, stream, mark)
        for name, entries in reply or ():
            stream = name.decode()
            ids = [entry_id.decode() for entry_id, _ in entries]
            if order(ids[0]) <= order(self._last[stream]):
                raise Unavailable(f"somebody else has made group {self._group} of {stream} anew: starting over")
            batch.entries += [Entry(stream, one, pairs(flat)) for one, (_, flat) in zip(ids, entries, strict=True)]
            self._delivered[stream] += ids
            self._last[stream] = max(self._last[stream], ids[-1], key=order)
        for stream, (in_all, *_) in zip(inputs, pending, strict=True):
            if in_all != len(self._delivered[stream]):
                raise Unavailable(f"somebody else has read {stream} in group {self._group}: starting over")

    def _notice_missed(self, batch: Batch, stream: str, mark: bytes | None) -> None:
        """A mark is the highest id that trimming has deleted; beyond what we had read, we missed entries."""
        last = self._last[stream]
        if mark is not None and order(mark.decode()) > order(last):
            batch.missed.append(Missed(stream, last, mark.decode()))
            self._last[stream] = mark.decode()

    # Committing

    def reject(self, entry: Entry, why: str) -> Output:
        """An output that sets a hopeless entry aside, for the next commit."""
        metrics.DEAD_ENTRIES.labels(entry.stream).inc()
        about = {b"entry": entry.id, b"why": why, b"worker": self._group}
        return Output(streams.dead(entry.stream), {**entry.fields, **about})

    @property
    def uncommitted(self) -> int:
        """Entries read since the last commit."""
        return sum(map(len, self._delivered.values()))

    async def commit(self, outputs: Sequence[Output] = (), *, snapshot: bytes | None = None, now_s: float) -> list[str]:
        """Outputs, the new state and the acknowledgement of everything read so far: all or nothing."""
        acks = [(stream, self._group, ids) for stream, ids in self._delivered.items() if ids]
        moved = {stream: last for stream, last in self._last.items() if last != self._committed[stream]}
        written = await self._writer.write(
            outputs,
            now_s=now_s,
            state=None if snapshot is None else (self._state_key, snapshot),
            positions={streams.position(self._group, stream, self._state_key): last for stream, last in moved.items()},
            acks=acks,
        )
        self._delivered = {stream: [] for stream in self._inputs}
        self._committed |= moved
        metrics.COMMITS.labels(self._group).inc()
        return written


def order(entry_id: str) -> tuple[int, int]:
    """Stream ids compare as pairs of numbers, not as text."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def _size(fields: Mapping[Any, Value]) -> int:
    return sum(len(value) for value in fields.values() if isinstance(value, bytes | str))


@dataclass(frozen=True, slots=True)
class Published:
    """What a sequence key holds: the number of the last commit, and its newest entry of a stream outside the log."""

    number: int = 0
    newest: str = _ORIGIN

    @classmethod
    def load(cls, value: bytes | None) -> "Published":
        number, _, newest = (value or b"0").decode().partition(" ")
        return cls(int(number), newest or _ORIGIN)
