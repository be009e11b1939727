"""Bars of an instrument: today's from Redis, older ones from Postgres, the highest revision of each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from bus import postgres
from bus.connection import Bus
from bus.postgres import Pool
from bus.reader import entries_of
from gateway.frames import rev_of
from gateway.index import BarIndex
from gateway.positions import of_entry
from market import intervals
from market.intervals import MINUTE, MINUTE_MS, SOURCES, Print
from schemas import streams
from schemas.bars import Bar, OptionModel
from schemas.errors import Unavailable

_FETCHED_AT_ONCE: Final = 500
_POSTGRES_S: Final = 5.0

_WALLS: Final = {
    "bid_wall": ("bid_wall_price", "bid_wall_qty"),
    "ask_wall": ("ask_wall_price", "ask_wall_qty"),
}
_MODEL: Final = {name: f"model_{name}" for name in OptionModel.model_fields}
_STORED: Final = tuple(name for name in Bar.model_fields if name not in ("instrument", "model"))
_COLUMNS: Final = (*(column for name in _STORED for column in _WALLS.get(name, (name,))), *_MODEL.values())
_SELECT: Final = (
    "SELECT {columns} FROM bars WHERE instrument_id = $1 AND ts >= $2 AND ts < $3 ORDER BY ts {order} LIMIT $4"
)


_PRINTS_MOST: Final = 100_000
_NAMES: Final = ", ".join(f"'{source.value}'" for source in SOURCES)

#: How Postgres sends a column of MINUTE; numpy reads the bytes as they come.
_SENT: Final = {
    "ts": "int8send(ts)",
    "volume": "int8send(volume)",
    "ticks": "int4send(ticks)",
    "rev": "int4send(rev)",
    "source": f"int2send((array_position(ARRAY[{_NAMES}], source) - 1)::smallint)",
    "complete": "boolsend(complete)",
    **{name: f"float8send({name})" for name in ("open", "high", "low", "close")},
    **{name: f"float8send(coalesce({name}, 'NaN'))" for name in ("vwap", "oi", "oi_diff")},
}
_MINUTES: Final = """
SELECT {columns} FROM (
    SELECT * FROM bars WHERE instrument_id = $1 AND ts >= $2 AND ts < $3 ORDER BY ts {{order}} LIMIT $4
) AS part
""".format(  # noqa: S608 - names of columns
    columns=", ".join(f"string_agg({_SENT[name]}, ''::bytea) AS {name}" for name in MINUTE.names or ())
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


@dataclass(frozen=True, slots=True)
class Minutes:
    minutes: npt.NDArray[Any]  # MINUTE records, one a minute, in order
    hot: dict[int, bytes]  # the JSON of those that were found in Redis
    warning: str


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

    # For longer bars

    async def minutes(self, instrument: str, span: Span) -> Minutes:
        """What longer bars are made of, without the rows of Postgres that they end with (`rows`)."""
        if not self._counted.is_set():
            raise Unavailable("today's bars are still being counted")
        warning = ""
        hot = {ts: bar for ts, (_, bar) in (await self._hot(instrument, span)).items()}
        found = np.array([intervals.minute(orjson.loads(bar)) for bar in hot.values()], MINUTE)
        try:
            found = np.concatenate([await self._cold_minutes(instrument, span), found])
        except Unavailable as error:
            warning = f"older bars are missing: {error}"
        found = found[np.lexsort((found["rev"], found["ts"]))]  # of equal revisions the hot one stays behind
        newest = np.append(found["ts"][1:] != found["ts"][:-1], True)[: len(found)]
        found = found[newest][-span.limit :] if span.last else found[newest][: span.limit]
        return Minutes(found, hot, warning)

    async def _cold_minutes(self, instrument: str, span: Span) -> npt.NDArray[Any]:
        query = _MINUTES.format(order="DESC" if span.last else "ASC")
        async with self._stored() as connection:
            row = await connection.fetchrow(
                query, streams.instrument_id(instrument), span.from_ms, span.to_ms, span.limit
            )
        found = np.zeros(len(row["ts"] or b"") // 8, MINUTE)
        for name in MINUTE.names or ():
            found[name] = np.frombuffer(row[name] or b"", MINUTE[name].newbyteorder(">"))
        return found

    async def rows(self, instrument: str, stamps: Sequence[int]) -> dict[int, bytes]:
        """The bars of some minutes of Postgres, as JSON; none while it is away."""
        if not stamps:
            return {}
        query = f"SELECT {', '.join(_COLUMNS)} FROM bars WHERE instrument_id = $1 AND ts = ANY($2::bigint[])"  # noqa: S608
        with contextlib.suppress(Unavailable):
            async with self._stored() as connection:
                rows = await connection.fetch(query, streams.instrument_id(instrument), stamps)
            return {row["ts"]: _bar(instrument, row) for row in rows}
        return {}

    async def watched(self, instrument: str, minutes: int, first: int, last: int) -> dict[int, int]:
        """Start and revision of longer bars that were published as complete although they may lack minutes."""
        query = "SELECT ts, rev FROM watched WHERE instrument_id = $1 AND minutes = $2 AND ts BETWEEN $3 AND $4"
        with contextlib.suppress(Unavailable):
            async with self._stored() as connection:
                rows = await connection.fetch(query, streams.instrument_id(instrument), minutes, first, last)
            return {row["ts"]: row["rev"] for row in rows}
        return {}

    async def prints(self, instrument: str, from_ms: int, to_ms: int) -> list[Print]:
        """Trades outside the continuous session; none while Postgres is away."""
        query = (
            "SELECT ts, data FROM events WHERE kind = 'print' AND data ->> 'instrument' = $1 AND ts >= $2 AND ts < $3"
            " ORDER BY ts LIMIT $4"
        )
        with contextlib.suppress(Unavailable):
            async with self._stored() as connection:
                rows = await connection.fetch(query, instrument, from_ms, to_ms, _PRINTS_MOST)
            told = [(row["ts"], orjson.loads(row["data"])) for row in rows]
            return [Print(ts, data["price"], data["volume"]) for ts, data in told]
        return []

    def venue_ms(self, now_ms: int) -> int:
        """The venue's time, as far as its bars tell: where the newest minute ended, and what has passed since."""
        if self._index.newest is None:
            return now_ms
        ts, position = self._index.newest
        return ts + MINUTE_MS + max(0, now_ms - position.ms)

    @contextlib.asynccontextmanager
    async def _stored(self) -> AsyncIterator[Any]:
        if not self._migrated.is_set():
            raise Unavailable("Postgres has not answered since this gateway started")
        async with postgres.connection(self._pool, _POSTGRES_S) as connection:
            yield connection

    # Minutes

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
        query = _SELECT.format(columns=", ".join(_COLUMNS), order="DESC" if span.last else "ASC")
        async with self._stored() as connection:
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
    is_modelled = row["model_flag"] is not None
    bar["model"] = {name: row[column] for name, column in _MODEL.items()} if is_modelled else None
    return orjson.dumps(bar)
