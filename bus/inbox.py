"""Read, fold, commit: the three steps of every worker.

    async with Inbox.open(...) as inbox:          # snapshot of the state, group in place
        batch = await inbox.read(...)             # first what was delivered but never committed, then what is new
        ...                                       # the core turns the batch into outputs
        await inbox.commit(outputs, snapshot)     # outputs + state + acknowledgement, all or nothing

Whatever was read since the last commit belongs to the next one. A crash in between delivers it again, to whoever
holds the shard's lease then: the consumer's name belongs to the shard, not to the process, so nothing is stranded
under a dead process's name. An error of Redis leaves open what happened; the caller opens a new inbox and finds out.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis import exceptions as redis_errors

from bus import metrics
from bus.connection import Bus, translated
from bus.lease import Lease
from schemas import streams
from schemas.errors import Unavailable

Value = bytes | str | int | float

_ACKS_PER_CALL: Final = 1000  # Lua unpacks them onto its stack
_FIELDS_PER_HSET: Final = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    stream: str
    id: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Missed:
    """Entries after `after` and up to `last` were trimmed away before this group read them."""

    stream: str
    after: str
    last: str


@dataclass(frozen=True, slots=True)
class Output:
    """An entry to append to a stream."""

    stream: str
    fields: Mapping[Any, Value]


@dataclass(slots=True)
class Batch:
    entries: list[Entry] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries or self.missed)


class Writer:
    """The one-transaction commit, for workers with and without an input stream."""

    def __init__(
        self, bus: Bus, lease: Lease | None, retention_ms: Mapping[str, int], trim_every_s: float = 1.0
    ) -> None:
        self.bus = bus
        self.lease = lease
        self._retention_ms = retention_ms
        self._trim_every_s = trim_every_s
        self._trimmed_at: dict[str, float] = {}

    async def write(
        self,
        outputs: Sequence[Output] = (),
        *,
        now_s: float,
        hashes: Mapping[str, Mapping[Any, Value]] | None = None,
        state: tuple[str, bytes] | None = None,
        acks: Sequence[tuple[str, str, Sequence[str]]] = (),
        sequence: tuple[str, int] | None = None,
    ) -> list[str]:
        """Append, set and acknowledge at once; nothing happens where the lease is gone (raises LeaseLost).

        With `sequence` (key, number) a commit whose number was committed before does nothing and returns no ids:
        the way to try again after a reply got lost.
        """
        plan = _Plan()
        if self.lease is not None:
            plan.head("lease", self.lease.key, self.lease.value)
        if sequence is not None:
            plan.head("sequence", *sequence)
        for output in outputs:
            plan.item("add", output.stream, [part for pair in output.fields.items() for part in pair])
        for key, fields in (hashes or {}).items():
            flat = [part for pair in fields.items() for part in pair]
            for start in range(0, len(flat), _FIELDS_PER_HSET):
                plan.item("hash", key, flat[start : start + _FIELDS_PER_HSET])
        if state is not None:
            plan.head("state", *state)
        for stream, group, ids in acks:
            for start in range(0, len(ids), _ACKS_PER_CALL):
                plan.ack(stream, group, ids[start : start + _ACKS_PER_CALL])
        for stream in self._due_for_trimming({output.stream for output in outputs}, now_s):
            plan.trim(stream, self._retention_ms.get(streams.family(stream), streams.retention_ms(stream)))
        reply = await self.bus.script("commit", plan.keys, plan.args())
        return [entry.decode() for entry in reply]

    def _due_for_trimming(self, written: set[str], now_s: float) -> list[str]:
        due = [s for s in sorted(written) if now_s - self._trimmed_at.get(s, -1e9) >= self._trim_every_s]
        for stream in due:
            self._trimmed_at[stream] = now_s
        return due


class _Plan:
    """Builds the plan and the values of `commit.lua`, in the order in which it consumes them."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._number: dict[str, int] = {}
        self._plan: dict[str, Any] = {"add": [], "hash": [], "ack": [], "trim": []}
        self._values: list[Value] = []

    def _key(self, key: str) -> int:
        if key not in self._number:
            self.keys.append(key)
            self._number[key] = len(self.keys)
        return self._number[key]

    def head(self, what: str, key: str, value: Value) -> None:
        self._plan[what] = self._key(key)
        self._values.append(value)

    def item(self, what: str, key: str, values: Sequence[Value]) -> None:
        self._plan[what].append([self._key(key), len(values)])
        self._values += values

    def ack(self, stream: str, group: str, ids: Sequence[str]) -> None:
        self._plan["ack"].append([self._key(stream), len(ids)])
        self._values += [group, *ids]

    def trim(self, stream: str, keep_ms: int) -> None:
        self._plan["trim"].append([self._key(stream), self._key(streams.trimmed(stream)), keep_ms])

    def args(self) -> list[Value]:
        return [orjson.dumps(self._plan), *self._values]


class Inbox:
    """A consumer group's view of its input streams, and the state of its fold."""

    def __init__(self, writer: Writer, group: str, consumer: str, inputs: Sequence[str], state_key: str) -> None:
        self._writer = writer
        self._bus = writer.bus
        self._group = group
        self._consumer = consumer
        self._inputs = list(inputs)
        self._state_key = state_key
        self._delivered: dict[str, list[str]] = {stream: [] for stream in inputs}
        self._last: dict[str, str] = {}  # highest id delivered to the group
        self._pending_after: dict[str, str] = dict.fromkeys(inputs, "0")  # streams whose backlog is still coming
        self.snapshot: bytes | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, writer: Writer, *, group: str, consumer: str, inputs: Sequence[str], state_key: str
    ) -> AsyncIterator["Inbox"]:
        inbox = cls(writer, group, consumer, inputs, state_key)
        with translated():
            for stream in inputs:
                await inbox._ensure_group(stream)
            inbox.snapshot = await writer.bus.redis.get(state_key)
        yield inbox

    async def _ensure_group(self, stream: str) -> None:
        redis = self._bus.redis
        with contextlib.suppress(redis_errors.ResponseError):  # BUSYGROUP: it exists
            await redis.xgroup_create(stream, self._group, id="0", mkstream=True)
        for info in await redis.xinfo_groups(stream):
            if info["name"] == self._group.encode():
                self._last[stream] = info["last-delivered-id"].decode()

    async def read(self, *, count: int, block_ms: int) -> Batch:
        """Up to `count` entries of each stream, oldest first. Waits for at most `block_ms`; empty: caught up."""
        batch = Batch()
        with translated():
            if self._pending_after:
                await self._read_pending(batch, count)
                if batch:
                    return batch
            await self._read_new(batch, count, block_ms)
        metrics.READ_ENTRIES.labels(self._group).inc(len(batch.entries))
        if batch.entries:
            metrics.BATCH_ENTRIES.labels(self._group).observe(len(batch.entries))
        return batch

    async def _read_pending(self, batch: Batch, count: int) -> None:
        for stream, after in list(self._pending_after.items()):
            for entry_id, fields in await self._group_read({stream: after}, count, None):
                self._pending_after[stream] = entry_id
                self._delivered[stream].append(entry_id)
                if fields:
                    batch.entries.append(Entry(stream, entry_id, fields))
                else:  # delivered once, trimmed before it was committed
                    batch.missed.append(Missed(stream, entry_id, entry_id))
            if self._pending_after[stream] == after:
                del self._pending_after[stream]

    async def _read_new(self, batch: Batch, count: int, block_ms: int) -> None:
        reply = await self._group_read(dict.fromkeys(self._inputs, ">"), count, block_ms, with_stream=True)
        for stream, entry_id, fields in reply:
            self._delivered[stream].append(entry_id)
            batch.entries.append(Entry(stream, entry_id, fields))
        for stream in {entry.stream for entry in batch.entries}:
            await self._notice_missed(batch, stream)

    async def _notice_missed(self, batch: Batch, stream: str) -> None:
        """Trimming leaves the highest id it deleted; if that is beyond what we had read, we missed entries."""
        mark = await self._bus.redis.get(streams.trimmed(stream))
        last = self._last.get(stream, "0-0")
        if mark is not None and order(mark.decode()) > order(last) and last != "0-0":
            batch.missed.append(Missed(stream, last, mark.decode()))
        self._last[stream] = next(e.id for e in reversed(batch.entries) if e.stream == stream)

    async def _group_read(
        self, wanted: dict[str, str], count: int, block_ms: int | None, with_stream: bool = False
    ) -> Any:
        try:
            reply = await self._bus.redis.xreadgroup(
                self._group,
                self._consumer,
                wanted,
                count=count,
                block=block_ms,
            )
        except redis_errors.ResponseError as error:
            if str(error).startswith("NOGROUP"):
                raise Unavailable("the consumer group is gone (was Redis flushed?): start over") from None
            raise
        if with_stream:
            return [(name.decode(), eid.decode(), fields) for name, entries in reply for eid, fields in entries]
        return [(eid.decode(), fields) for _, entries in reply for eid, fields in entries]

    def reject(self, entry: Entry, why: str) -> Output:
        """An output that sets a hopeless entry aside, for the next commit."""
        metrics.DEAD_ENTRIES.labels(entry.stream).inc()
        return Output(
            streams.dead(entry.stream), {**entry.fields, b"why": why, b"worker": self._group, b"id": entry.id}
        )

    @property
    def uncommitted(self) -> int:
        """Entries read since the last commit."""
        return sum(map(len, self._delivered.values()))

    async def commit(self, outputs: Sequence[Output] = (), *, snapshot: bytes | None = None, now_s: float) -> list[str]:
        """Outputs, the new state and the acknowledgement of everything read so far: all or nothing."""
        acks = [(stream, self._group, ids) for stream, ids in self._delivered.items() if ids]
        state = None if snapshot is None else (self._state_key, snapshot)
        written = await self._writer.write(outputs, now_s=now_s, state=state, acks=acks)
        self._delivered = {stream: [] for stream in self._inputs}
        metrics.COMMITS.labels(self._group).inc()
        return written


def order(entry_id: str) -> tuple[int, int]:
    """Stream ids compare as pairs of numbers, not as text."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)
