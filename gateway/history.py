"""Bars of an instrument: today's from Redis, older ones from Postgres, the highest revision of each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bus import postgres
from bus.connection import Bus
from bus.postgres import Pool
from bus.reader import entries_of
from gateway.frames import rev_of
from gateway.index import BarIndex
from gateway.positions import of_entry
from schemas import streams
from schemas.bars import Bar
from schemas.errors import Unavailable

_FETCHED_AT_ONCE: Final = 500
_POSTGRES_S: Final = 5.0

_WALLS: Final = {
    "bid_wall": ("bid_wall_price", "bid_wall_qty"),
    "ask_wall": ("ask_wall_price", "ask_wall_qty"),
}
_STORED: Final = tuple(name for name in Bar.model_fields if name not in ("instrument", "model"))
_COLUMNS: Final = tuple(column for name in _STORED for column in _WALLS.get(name, (name,)))
_SELECT: Final = (
    "SELECT {columns} FROM bars WHERE instrument_id = $1 AND ts >= $2 AND ts < $3 ORDER BY ts {order} LIMIT $4"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Bars that start in [from_ms, to_ms): the first `limit` of them, or the last."""

    from_ms: int
    to_ms: int
    limit: int
    last: bool


@dataclass(frozen=True, slots=True)
class Found:
    bars: list[bytes]  # the JSON of each, oldest first
    next_ms: int | None  # where the next page starts (or, of a span that counts from its end, the previous one ends)
    warning: str  # why something may be missing; empty: nothing is


class History:
    def __init__(
        self, bus: Bus, pool: Pool, index: BarIndex, *, counted: asyncio.Event, migrated: asyncio.Event, shards: int
    ) -> None:
        """`counted`: the index holds all of today's bars. `migrated`: Postgres has our tables."""
        self._bus = bus
        self._pool = pool
        self._index = index
        self._counted = counted
        self._migrated = migrated
        self._shards = shards

    async def find(self, instrument: str, span: Span) -> Found:
        """Raises Unavailable when not even today's bars can be read."""
        if not self._counted.is_set():
            raise Unavailable("today's bars are still being counted")
        wanted = Span(span.from_ms, span.to_ms, span.limit + 1, span.last)
        warning = ""
        cold: dict[int, tuple[int, bytes]] = {}
        hot = await self._hot(instrument, wanted)
        try:
            cold = await self._cold(instrument, wanted)
        except Unavailable as error:
            warning = f"older bars are missing: {error}"
        merged = cold
        for ts, (rev, bar) in hot.items():
            if ts not in merged or merged[ts][0] <= rev:
                merged[ts] = (rev, bar)
        stamps = sorted(merged)
        kept = stamps[-span.limit :] if span.last else stamps[: span.limit]
        more = len(stamps) > span.limit
        edge = None if not more else kept[0] if span.last else kept[-1] + 1
        return Found([merged[ts][1] for ts in kept], edge, warning)

    async def _hot(self, instrument: str, span: Span) -> dict[int, tuple[int, bytes]]:
        stream = streams.candles(streams.shard_of(instrument, self._shards))
        places = self._index.find(instrument, span.from_ms, span.to_ms, span.limit, last=span.last)
        bars: dict[int, tuple[int, bytes]] = {}
        for start in range(0, len(places), _FETCHED_AT_ONCE):
            page = places[start : start + _FETCHED_AT_ONCE]
            replies = await self._bus.packet(*[("XRANGE", stream, entry.entry, entry.entry) for _, entry in page])
            for (ts, entry), reply in zip(page, map(entries_of, replies), strict=True):
                if reply and of_entry(reply[0][0]) == entry:  # else it was trimmed a moment ago
                    bar = reply[0][1][b"data"]
                    bars[ts] = (rev_of(bar), bar)
        return bars

    async def _cold(self, instrument: str, span: Span) -> dict[int, tuple[int, bytes]]:
        if not self._migrated.is_set():
            raise Unavailable("Postgres has not answered since this gateway started")
        query = _SELECT.format(columns=", ".join(_COLUMNS), order="DESC" if span.last else "ASC")
        async with postgres.connection(self._pool, _POSTGRES_S) as connection:
            rows: Sequence[Any] = await connection.fetch(
                query, streams.instrument_id(instrument), span.from_ms, span.to_ms, span.limit
            )
        return {row["ts"]: (row["rev"], _bar(instrument, row)) for row in rows}


def _bar(instrument: str, row: Any) -> bytes:
    """A row in the shape, and the order, that a bar has in Redis."""
    bar: dict[str, Any] = {"instrument": instrument}
    for name in _STORED:
        if name in _WALLS:
            price, qty = (row[column] for column in _WALLS[name])
            bar[name] = None if price is None else {"price": price, "qty": qty}
        else:
            bar[name] = row[name]
    bar["model"] = None
    return orjson.dumps(bar)
