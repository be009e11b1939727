"""The stage of a replay: a Redis of its own, the real commit and the real aggregator, fed by a player.

Nothing here reads a clock for the pipeline. The aggregator asks Redis for the time only to notice that ingest has gone
silent; in a replay that is on the tape, and its clock stands still.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aggregator.worker
from bus import clock
from bus.connection import Bus
from bus.embedded import Servers
from bus.inbox import Output, order
from bus.life import Worker
from bus.settings import Settings
from ingest.tape.player import Begin, End, Publish, Run, Step, Uncertain
from schemas import streams

#: What a replay gives, in the order in which it is hashed.
FAMILIES: Final = {"candles": streams.candles, "chain": streams.chain}
#: Who makes it, one behind the other, and what each of them reads.
READERS: Final = {"candles": ("aggregator",), "chain": ("aggregator", "chain")}
SOURCES: Final = {"aggregator": streams.ticks, "chain": streams.panel}

_AHEAD_BYTES: Final = 192 << 20  # of entries that the aggregator has yet to commit, which it does once a second
_CHUNK_BYTES: Final = 8 << 20
_KEPT: Final = 200_000  # entries of an output stream
_PAGE: Final = 1_000
_LOOK_S: Final = 0.002
_STUCK_S: Final = 60.0
_SEQUENCE: Final = "replay"


class StillBus(Bus):
    """No time passes but what the entries tell."""

    async def now_ms(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Item:
    """A bar or a chain that came out."""

    family: str
    shard: int
    ts: int
    name: str  # whose it is
    data: bytes
    id: str = ""  # of the stream's entry


@dataclass(slots=True)
class Digest:
    """Counts, and a hash over all that came out: by kind, by shard, in order."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAMILIES, 0))
    _hashes: dict[tuple[str, int], "hashlib._Hash"] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        self.counts[item.family] += 1
        hashed = self._hashes.setdefault((item.family, item.shard), hashlib.sha256())
        hashed.update(len(item.data).to_bytes(4, "little"))
        hashed.update(item.data)

    @property
    def text(self) -> str:
        whole = hashlib.sha256()
        for (family, shard), one in sorted(self._hashes.items()):
            whole.update(f"{family} {shard} {one.hexdigest()}\n".encode())
        return whole.hexdigest()


@dataclass(slots=True)
class _Shard:
    newest: str = ""  # id of the newest entry of ours
    chunk_bytes: int = 0  # since the newest chunk ended
    chunks: deque[str] = field(default_factory=deque)  # where each of them ended
    read: dict[str, str] = field(default_factory=dict)  # by output stream, up to here


class Stage:
    """Takes the steps of a player. `begun` hears where a shard's stream begins, `came` each thing that comes out, in
    order, and `over` when no more of a shard will come, or nobody can vouch for it."""

    def __init__(
        self,
        url: str,
        bus: StillBus,
        settings: Settings,
        *,
        begun: Callable[[Begin], Awaitable[None]],
        came: Callable[[Item], Awaitable[None]],
        over: Callable[[int, str], Awaitable[None]],
    ) -> None:
        self.entries = 0
        self._worker = Worker("aggregator", settings, bus, Servers(url, ""), 0)
        self._bus = bus
        self._writer = self._worker.writer(None)
        self._begun, self._came, self._over = begun, came, over
        self._shards: dict[int, _Shard] = {}
        self._numbers: dict[int, int] = {}
        self._running: tuple[asyncio.Task[None], asyncio.Event] | None = None

    async def take(self, step: Step) -> None:
        match step:
            case Begin():
                await self._begin(step)
            case Publish():
                await self._publish(step.shard, step.outputs)
            case Run():
                await self._bus.packet(*step.commands)
            case End(shard, why):
                await self._caught_up(shard)
                await self._over(shard, why)
                del self._shards[shard]
            case Uncertain(shard, why):
                await self._caught_up(shard)
                await self._over(shard, why)

    # The aggregator

    async def stop(self) -> None:
        if self._running is not None:
            task, stop = self._running
            stop.set()
            await task
            self._running = None

    def _start(self) -> None:
        if self._running is None:
            stop = asyncio.Event()
            self._running = asyncio.create_task(_awaited(aggregator.worker.run(self._worker, stop))), stop

    def check(self) -> None:
        """Raise what has ended the aggregator."""
        if self._running is not None and self._running[0].done():
            self._running[0].result()
            raise RuntimeError("the aggregator has ended in the middle of a replay")

    # Streams

    async def _begin(self, step: Begin) -> None:
        for shard in self._shards:
            await self._caught_up(shard)
        await self.stop()
        (keys,) = await self._bus.packet(("KEYS", f"*{{{step.shard}}}*"))
        if keys:
            await self._bus.packet(("DEL", *keys))
        if step.commands:
            await self._bus.packet(*step.commands)
        self._shards[step.shard] = _Shard(read={stream(step.shard): "0-0" for stream in FAMILIES.values()})
        await self._begun(step)

    async def _publish(self, number: int, outputs: Sequence[Output]) -> None:
        self._start()
        shard = self._shards[number]
        self._numbers[number] = self._numbers.get(number, 0) + 1
        sequence = (streams.sequence(_SEQUENCE, number), self._numbers[number])
        ids = await self._writer.write(outputs, now_s=clock.monotonic_s(), sequence=sequence)
        ours = [i for i, output in zip(ids, outputs, strict=True) if output.stream == streams.ticks(number)]
        self.entries += len(ours)
        shard.newest = ours[-1] if ours else shard.newest
        shard.chunk_bytes += sum(
            len(value) for output in outputs for value in output.fields.values() if isinstance(value, bytes)
        )
        if shard.chunk_bytes >= _CHUNK_BYTES:
            shard.chunks.append(shard.newest)
            shard.chunk_bytes = 0
            await self._keep_step(number, shard)

    async def _keep_step(self, number: int, shard: _Shard) -> None:
        """Not further ahead of the aggregator than the scratch Redis should hold; what it has read can go."""
        if len(shard.chunks) * _CHUNK_BYTES > _AHEAD_BYTES:
            oldest = shard.chunks.popleft()
            await self._until_read(number, "aggregator", streams.ticks(number), oldest)
            await self._bus.packet(("XTRIM", streams.ticks(number), "MINID", oldest))
        await self.collect()

    async def _caught_up(self, number: int) -> None:
        """Until all entries are folded; what has come out by then is handed on."""
        shard = self._shards[number]
        if shard.newest:
            await self._until_read(number, "aggregator", streams.ticks(number), shard.newest)
            last = await self._bus.last_entry(streams.panel(number))
            if last is not None and await self._has_group("chain", streams.panel(number)):
                await self._until_read(number, "chain", streams.panel(number), last[0])
        await self.collect()

    async def _until_read(self, number: int, group: str, stream: str, newest: str) -> None:
        key = streams.position(group, stream, streams.state(group, number))
        moved_s, before = clock.monotonic_s(), b""
        while True:
            position = await self._bus.get(key) or b"0-0"
            if order(position.decode()) >= order(newest):
                return
            self.check()
            now_s = clock.monotonic_s()
            if position != before:
                moved_s, before = now_s, position
            elif now_s - moved_s > _STUCK_S:
                raise RuntimeError(f"{group} does not read {stream} any more: it stands at {position.decode()}")
            await asyncio.sleep(_LOOK_S)

    async def _has_group(self, group: str, stream: str) -> bool:
        (groups,) = await self._bus.packet(("XINFO", "GROUPS", stream))
        return any(group.encode() in flat for flat in groups)

    async def collect(self) -> None:
        """Hand on what has come out."""
        for number, shard in self._shards.items():
            for family, stream_of in FAMILIES.items():
                stream = stream_of(number)
                while await self._page(number, shard, family, stream):
                    pass

    async def _page(self, number: int, shard: _Shard, family: str, stream: str) -> bool:
        (found,) = await self._bus.packet(("XRANGE", stream, f"({shard.read[stream]}", "+", "COUNT", _PAGE))
        for entry_id, flat in found:
            await self._came(item(family, number, entry_id.decode(), flat))
        if found:
            shard.read[stream] = found[-1][0].decode()
            await self._bus.packet(("XTRIM", stream, "MAXLEN", "~", _KEPT))
        return len(found) == _PAGE


def item(family: str, shard: int, entry_id: str, flat: Sequence[bytes]) -> Item:
    """An entry of an output stream."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    whose = (b"instrument",) if family == "candles" else (b"underlying", b"expiry")
    name = " ".join(fields[one].decode() for one in whose)
    return Item(family, shard, int(fields[b"ts"]), name, fields[b"data"], entry_id)


async def _awaited(job: Awaitable[None]) -> None:
    await job
