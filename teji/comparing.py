"""Compares what a replay gives with what was published at the time, one by one, byte for byte.

What was published is read from the streams, from the entry on that was the newest when the tape began: then everything
must be equal, revisions and order included. A session that the streams do not hold any more is read from Postgres: then
the last revision of every bar must be, for the minutes that lie wholly on the tape.

A chain is made of all shards. Where there are several, it is compared for the minutes in which the tape has all of
them, by its last revision: how often it was published before depends on how long a shard kept the others waiting.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from bus.connection import Bus
from bus.inbox import Published, order
from bus.postgres import Pool
from bus.postgres import translated as postgres_translated
from ingest.tape.player import Begin, Publish
from schemas import streams
from schemas.events import EventKind
from schemas.streams import instrument_id
from teji.playing import FAMILIES, READERS, SOURCES, Digest, Item, item

_PAGE: Final = 1_000
_SHOWN: Final = 10
_MINUTE_MS: Final = 60_000
_WALLS: Final = ("bid_wall", "ask_wall")


@dataclass(frozen=True, slots=True)
class Difference:
    family: str
    shard: int
    live: bytes | None  # None: there is none
    replay: bytes | None

    def text(self) -> str:
        """Where they differ, for a person."""
        live, replay = (orjson.loads(side) if side is not None else {} for side in (self.live, self.replay))
        known = live or replay
        what = f"{known.get('instrument') or known.get('underlying')} at {known['ts']}, rev {known.get('rev')}"
        if not live:
            return f"{what}: only the replay has it"
        if not replay:
            return f"{what}: the replay lacks it"
        fields = [name for name in {**live, **replay} if live.get(name) != replay.get(name)]
        said = "; ".join(f"{name} was {_short(live.get(name))}, is {_short(replay.get(name))}" for name in fields[:5])
        return f"{what}: {said or 'the bytes differ'}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(slots=True)
class Verdict:
    live: Digest = field(default_factory=Digest)
    replay: Digest = field(default_factory=Digest)
    differences: list[Difference] = field(default_factory=list)  # the first ones
    different: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return sum(self.replay.counts.values())

    @property
    def equal(self) -> bool:
        return not self.different and self.live.text == self.replay.text

    def differ(self, one: Difference) -> None:
        self.different += 1
        if len(self.differences) < _SHOWN:
            self.differences.append(one)


class Comparison:
    """The ears of a stage."""

    def __init__(
        self, bus: Bus, find_pool: Callable[[], Awaitable[Pool | None]], scratch: Path, shards: int, grace_ms: int
    ) -> None:
        self.verdict = Verdict()
        self._bus = bus
        self._find_pool = find_pool
        self._pool: Pool | None = None
        self._shards = shards
        self._grace_ms = grace_ms
        self._playing: set[int] = set()
        self._began: dict[int, str] = {}  # by shard: the newest bar's id when the tape began
        self._chain_from_ms: int | None = None  # where there are several shards: while all of them play
        self._live: dict[tuple[str, int], AsyncIterator[Item]] = {}
        self._over: set[int] = set()  # shards that nobody vouches for any more
        self._cold: set[int] = set()  # shards that Postgres is asked about
        self._spool = sqlite3.connect(scratch / "replayed.sqlite3", isolation_level=None)
        self._spool.execute("PRAGMA synchronous = OFF")
        self._spool.execute("CREATE TABLE bars (instrument, ts, rev, data, PRIMARY KEY (instrument, ts))")
        self._spool.execute("CREATE TABLE chains (shard, name, ts, side, data, PRIMARY KEY (shard, name, ts, side))")
        self._spool.execute("BEGIN")
        self.venue_ms: dict[int, int] = {}  # by shard: how far the replay has come

    async def begun(self, step: Begin) -> None:
        self._over.discard(step.shard)
        self._playing.add(step.shard)
        self._began[step.shard] = step.ends.get(streams.candles(step.shard), "0-0")
        if len(self._playing) == self._shards:
            self._chain_from_ms = _next_minute(max(self.venue_ms.values(), default=0)) + _MINUTE_MS
        for family, stream_of in FAMILIES.items():
            if family == "chain" and self._shards > 1 and (family, step.shard) in self._live:
                continue  # read from where the tape began, at the end
            stream = stream_of(step.shard)
            after = step.ends.get(stream, "0-0")
            if await self._is_kept(stream, after):
                self._live[family, step.shard] = self._entries(family, step.shard, stream, after)
            elif family == "candles" and await self._has_pool():
                self._cold.add(step.shard)
                self.verdict.notes.append(f"{stream} does not go back so far: compared with Postgres")
            else:
                self.verdict.notes.append(f"{stream} does not go back so far: not compared")

    async def _has_pool(self) -> bool:
        self._pool = self._pool or await self._find_pool()
        return self._pool is not None

    async def _is_kept(self, stream: str, after: str) -> bool:
        """Whether the stream has everything after that entry."""
        (mark,) = await self._bus.packet(("GET", streams.trimmed(stream)))
        last = await self._bus.last_entry(stream)
        if last is None and after == "0-0":
            return streams.family(stream) != "candles"  # nothing was ever published; of bars that is not likely
        if last is None or order(last[0]) < order(after):
            return False  # another Redis, or an emptied one
        return mark is None or order(mark.decode()) <= order(after)

    async def _entries(self, family: str, shard: int, stream: str, after: str) -> AsyncIterator[Item]:
        while True:
            (found,) = await self._bus.packet(("XRANGE", stream, f"({after}", "+", "COUNT", _PAGE))
            for entry_id, flat in found:
                after = entry_id.decode()
                yield item(family, shard, after, flat)
            if not found:
                return

    def published(self, step: Publish) -> None:
        for output in step.outputs:
            if output.stream == streams.ticks(step.shard):
                ts = output.fields.get(b"ts", 0)
                self.venue_ms[step.shard] = max(self.venue_ms.get(step.shard, 0), int(ts))

    async def came(self, one: Item) -> None:
        if one.shard in self._over:
            return
        if one.family == "candles" and one.shard in self._cold:
            rev = orjson.loads(one.data)["rev"]
            self._spool.execute("INSERT OR REPLACE INTO bars VALUES (?, ?, ?, ?)", (one.name, one.ts, rev, one.data))
        elif one.family == "chain" and self._shards > 1:
            if self._chain_from_ms is not None and one.ts >= self._chain_from_ms:
                self._keep_chain(one, "replay")
        elif (live := self._live.get((one.family, one.shard))) is not None:
            told = await anext(live, None)
            differs = told is None or told.data != one.data
            if (told is None and await self._is_behind(one)) or (differs and await self._has_lost(one, told)):
                return
            self.verdict.replay.add(one)
            if told is not None:
                self.verdict.live.add(told)
            if differs:
                self.verdict.differ(Difference(one.family, one.shard, told.data if told else None, one.data))

    async def _is_behind(self, one: Item) -> bool:
        """Whether the live system has entries that it has yet to fold: what is lacking may still come."""
        late = [name for name in READERS[one.family] if await self._reads_late(name, one.shard)]
        if not late:
            return False
        del self._live[one.family, one.shard]
        self.verdict.notes.append(
            f"{FAMILIES[one.family](one.shard)} is compared up to {one.name} at {one.ts}: "
            f"the live {late[0]} has not folded what comes then (it is behind, or was stopped)"
        )
        return True

    async def _has_lost(self, one: Item, told: Item | None) -> bool:
        """Whether the live aggregator had lost ticks by then, as it does when Redis crashes: it has said so."""
        until = order(told.id)[0] if told else "+"
        (found,) = await self._bus.packet(("XRANGE", streams.EVENTS, self._began.get(one.shard, "-"), until))
        for entry_id, flat in found:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            event = orjson.loads(fields[b"data"]) if fields.get(b"kind") == EventKind.GAP.encode() else {}
            lost = event.get("data", {}).get("stream") in (streams.ticks(one.shard), streams.panel(one.shard))
            if lost:
                self._live.pop(("candles", one.shard), None)
                self._live.pop(("chain", one.shard), None)
                self.verdict.notes.append(
                    f"shard {one.shard} is compared up to {one.name} at {one.ts}: the live {event['worker']} had lost "
                    f"entries, says the event {entry_id.decode()} ({event['message']})"
                )
                return True
        return False

    async def _reads_late(self, reader: str, shard: int) -> bool:
        source = SOURCES[reader](shard)
        position = await self._bus.get(streams.position(reader, source, streams.state(reader, shard)))
        last = await self._bus.last_entry(source)
        newest = last[0] if last else "0-0"
        if SOURCES[reader] is streams.ticks:  # they do not outlive the server; what ingest published last does
            published = Published.load(await self._bus.get(streams.sequence("ingest", shard)))
            newest = max(newest, published.newest, key=order)
        return order((position or b"0-0").decode()) < order(newest)

    def _keep_chain(self, one: Item, side: str) -> None:
        row = (one.shard, one.name, one.ts, side, one.data)
        self._spool.execute("INSERT OR REPLACE INTO chains VALUES (?, ?, ?, ?, ?)", row)

    async def over(self, shard: int, why: str) -> None:
        """No more of the shard. What was published beyond, about minutes that had closed by then, the replay lacks."""
        if shard in self._over:
            return
        self._over.add(shard)
        live = self._live.pop(("candles", shard), None)
        if live is not None and (told := await anext(live, None)) is not None:
            bar = orjson.loads(told.data)
            closed = told.ts + _MINUTE_MS + self._grace_ms <= self.venue_ms.get(shard, 0)
            if closed and bar["rev"] == 0 and bar["source"] == "live":
                self.verdict.differ(Difference("candles", shard, told.data, None))
        self._playing.discard(shard)
        self._chain_from_ms = None
        if self._shards == 1:
            self._live.pop(("chain", shard), None)
        if why:
            self.verdict.notes.append(f"shard {shard} is compared up to here: {why}")

    async def finish(self) -> None:
        await self._chains()
        await self._postgres()

    async def _chains(self) -> None:
        """Of several shards: the last revision of each minute that the replay has."""
        for (family, _), live in self._live.items():
            if family == "chain":
                async for one in live:
                    self._keep_chain(one, "live")
        rows = self._spool.execute(
            "SELECT r.shard, r.ts, r.name, l.data, r.data FROM chains r LEFT JOIN chains l"
            " ON (l.shard, l.name, l.ts, l.side) = (r.shard, r.name, r.ts, 'live') WHERE r.side = 'replay'"
            " ORDER BY r.shard, r.ts, r.name"
        )
        for shard, ts, name, live_data, data in rows.fetchall():
            sides = [None if side is None else _unrevised(side) for side in (live_data, data)]
            for digest, side in zip((self.verdict.live, self.verdict.replay), sides, strict=True):
                if side is not None:
                    digest.add(Item("chain", shard, ts, name, side))
            if sides[0] != sides[1]:
                self.verdict.differ(Difference("chain", shard, *sides))

    # Postgres

    async def _postgres(self) -> None:
        if self._pool is None or not self._cold:
            return
        first = self._spool.execute("SELECT min(ts) FROM bars").fetchone()[0]
        if first is None:
            return
        whole = first + _MINUTE_MS  # the minute in which the tape began is not wholly on it
        last = min(self.venue_ms.values(), default=0) - _MINUTE_MS - self._grace_ms
        for (ts,) in self._spool.execute("SELECT DISTINCT ts FROM bars ORDER BY ts").fetchall():
            if whole <= ts <= last:
                await self._minute(ts)

    async def _minute(self, ts: int) -> None:
        assert self._pool is not None
        with postgres_translated():
            async with self._pool.acquire() as connection:
                rows = {row["instrument_id"]: dict(row) for row in await connection.fetch(
                    "SELECT * FROM bars WHERE ts = $1", ts
                )}  # fmt: skip
        cursor = self._spool.execute("SELECT instrument, rev, data FROM bars WHERE ts = ? ORDER BY instrument", (ts,))
        for name, rev, data in cursor.fetchall():
            replayed = Item("candles", 0, ts, name, data)
            row = rows.get(instrument_id(name))
            if row is not None and row["rev"] > rev:
                continue  # something was learnt about it after the tape
            self.verdict.replay.add(replayed)
            stored = None if row is None else _as_stored(orjson.loads(data), row)
            if stored is not None:
                self.verdict.live.add(Item("candles", 0, ts, name, stored))
            if stored != data:
                self.verdict.differ(Difference("candles", 0, stored, data))

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._spool.close()


def _next_minute(ts: int) -> int:
    return ts // _MINUTE_MS * _MINUTE_MS + _MINUTE_MS


def _unrevised(data: bytes) -> bytes:
    return orjson.dumps({name: value for name, value in orjson.loads(data).items() if name != "rev"})


def _as_stored(bar: dict[str, Any], row: Mapping[str, Any]) -> bytes:
    """The bar, with what Postgres has in its columns."""
    for name, value in bar.items():
        if name in _WALLS:
            price, qty = row[f"{name}_price"], row[f"{name}_qty"]
            bar[name] = None if price is None else {"price": price, "qty": qty}
        elif name in row:
            stored = row[name]
            bar[name] = orjson.loads(stored) if isinstance(value, dict) and isinstance(stored, str) else stored
    return orjson.dumps(bar)
