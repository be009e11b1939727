"""Chains of an underlying: the newest from the stream's memory, older ones and series of measures from Postgres."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import orjson

from bus import postgres
from bus.postgres import Pool
from gateway.frames import Chains as Newest
from gateway.frames import rev_in
from schemas.errors import Unavailable

_POSTGRES_S: Final = 5.0
#: Chains that stopped this long before the newest one have expired.
_PRESENT_MS: Final = 5 * 60_000


@dataclass(frozen=True, slots=True)
class Found:
    expiry: date
    ts: int
    rev: int
    data: bytes  # JSON


@dataclass(frozen=True, slots=True)
class Series:
    points: list[tuple[Any, ...]]  # ts, complete, the measures
    next_ms: int | None


class Chains:
    def __init__(self, pool: Pool, newest: Newest, *, counted: asyncio.Event, migrated: asyncio.Event) -> None:
        """`counted`: the stream has been read. `migrated`: Postgres has our tables."""
        self._pool = pool
        self._newest = newest
        self._counted = counted
        self._migrated = migrated

    async def find(self, underlying: str, expiry: date | None, to_ms: int) -> Found | None:
        """The newest chain whose minute starts at `to_ms` or before. Raises Unavailable where nobody can say."""
        chosen = expiry or await self.nearest(underlying, to_ms)
        if chosen is None:
            return None
        hot = self._hot(underlying).get(chosen)
        if hot is not None and hot.ts <= to_ms:
            return hot
        query = (
            "SELECT ts, rev, data::text AS data FROM chains WHERE underlying = $1 AND expiry = $2 AND ts <= $3"
            " ORDER BY ts DESC LIMIT 1"
        )
        async with self._stored() as connection:
            row = await connection.fetchrow(query, underlying, chosen, to_ms)
        return None if row is None else Found(chosen, row["ts"], row["rev"], row["data"].encode())

    async def nearest(self, underlying: str, to_ms: int) -> date | None:
        """The first of the expiries that had chains at that time."""
        hot = self._hot(underlying)
        newest = max((chain.ts for chain in hot.values()), default=None)
        if newest is not None and newest <= to_ms:
            return min(day for day, chain in hot.items() if chain.ts > newest - _PRESENT_MS)
        query = (
            "SELECT min(expiry) FROM chains WHERE underlying = $1 AND ts <= $2 AND ts > $3 +"
            " (SELECT max(ts) FROM chains WHERE underlying = $1 AND ts <= $2)"
        )
        async with self._stored() as connection:
            found: date | None = await connection.fetchval(query, underlying, to_ms, -_PRESENT_MS)
        return found

    async def expiries(self, underlying: str) -> list[date]:
        """All that have chains, whether they have expired or not."""
        days = set(self._hot(underlying))
        query = "SELECT DISTINCT expiry FROM chains WHERE underlying = $1"
        try:
            async with self._stored() as connection:
                days |= {row["expiry"] for row in await connection.fetch(query, underlying)}
        except Unavailable:
            if not days:
                raise
        return sorted(days)

    async def series(
        self, underlying: str, expiry: date, names: Sequence[str], from_ms: int, to_ms: int, limit: int, *, last: bool
    ) -> Series:
        """Measures of the minutes in [from_ms, to_ms): the first `limit` of them, or the last. `names` are columns."""
        query = (
            f"SELECT ts, complete, {', '.join(names)} FROM chains"  # noqa: S608 - names of columns
            f" WHERE underlying = $1 AND expiry = $2 AND ts >= $3 AND ts < $4 ORDER BY ts {'DESC' if last else 'ASC'}"
            " LIMIT $5"
        )
        async with self._stored() as connection:
            rows = await connection.fetch(query, underlying, expiry, from_ms, to_ms, limit + 1)
        points = {row["ts"]: tuple(row) for row in rows}
        hot = self._hot(underlying).get(expiry)
        if hot is not None and from_ms <= hot.ts < to_ms and (last or len(rows) <= limit):
            chain = orjson.loads(hot.data)  # Postgres has it a moment later
            points[hot.ts] = (hot.ts, chain.get("complete"), *(chain.get(name) for name in names))
        stamps = sorted(points)
        kept = stamps[-limit:] if last else stamps[:limit]
        more = len(stamps) > limit
        edge = None if not more else kept[0] if last else kept[-1] + 1
        return Series([points[ts] for ts in kept], edge)

    def _hot(self, underlying: str) -> dict[date, Found]:
        if not self._counted.is_set():
            raise Unavailable("today's chains are still being read")
        found = self._newest.find(underlying)
        return {
            date.fromisoformat(day): Found(date.fromisoformat(day), chain.ts, rev_in(chain.data), chain.data)
            for day, chain in found.items()
        }

    @contextlib.asynccontextmanager
    async def _stored(self) -> AsyncIterator[Any]:
        if not self._migrated.is_set():
            raise Unavailable("Postgres has not answered since this gateway started")
        async with postgres.connection(self._pool, _POSTGRES_S) as connection:
            yield connection
