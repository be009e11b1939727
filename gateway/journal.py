"""Reads the order worker's journal: days that its books do not hold any more, and what happened to an order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any, Final

import orjson

from bus import postgres
from bus.postgres import Pool
from gateway import oldorders
from schemas.errors import Rejected, Unavailable

_POSTGRES_S: Final = 5.0
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 330 * 60_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
#: An order may wait this long between its decision and the first that happens to it: for the budget, for the venue.
_WAIT_MS: Final = 3_600_000
#: Facts of one answer.
_MOST: Final = 200_000

_COLUMNS: Final = "n, ts, account, kind, data"
_OF_DAY: Final = f"SELECT {_COLUMNS} FROM journal WHERE ts >= $1 AND ts < $2 AND kind = ANY($3) ORDER BY n LIMIT $4"  # noqa: S608
_OF_ORDER: Final = f"SELECT {_COLUMNS} FROM journal WHERE order_id = $1 ORDER BY n LIMIT $2"  # noqa: S608
_DECISION: Final = (
    f"SELECT {_COLUMNS} FROM journal WHERE kind = 'approved' AND ts > $1 AND ts <= $2"  # noqa: S608
    " AND data -> 'orders' @> jsonb_build_array(jsonb_build_object('order_id', $3::text)) ORDER BY n LIMIT 1"
)
_OF_GTT: Final = (
    f"SELECT {_COLUMNS} FROM journal WHERE gtt_id = $1 AND kind IN ('gtt_accepted', 'gtt_changed')"  # noqa: S608
    " ORDER BY n DESC LIMIT 1"
)


class Journal:
    def __init__(self, pool: Pool, migrated: asyncio.Event) -> None:
        self._pool = pool
        self._migrated = migrated

    async def orders(self, day: date) -> list[dict[str, Any]]:
        """The orders that were decided on a day, as they stood at its end."""
        facts = await self._day(day, oldorders.KINDS)
        return oldorders.orders(facts)

    async def fills(self, day: date) -> list[dict[str, Any]]:
        return [fact["fill"] for fact in await self._day(day, ("filled",))]

    async def of_order(self, order_id: str) -> list[dict[str, Any]]:
        """Everything that is written about an order, its decision first. Empty: nothing is."""
        async with self._stored() as connection:
            rows = [_fact(row) for row in await connection.fetch(_OF_ORDER, order_id, _MOST)]
            if rows and rows[0]["kind"] not in ("approved", "adopted"):  # a slice: its decision goes by another's id
                first_ms = rows[0]["ts"]
                row = await connection.fetchrow(_DECISION, first_ms - _WAIT_MS, first_ms, order_id)
                rows = [*([_fact(row)] if row else []), *rows]
        return rows

    async def gtt(self, gtt_id: str) -> dict[str, Any] | None:
        """As it stood last."""
        async with self._stored() as connection:
            row = await connection.fetchrow(_OF_GTT, gtt_id)
        return None if row is None else _fact(row)["state"]["gtt"]

    async def _day(self, day: date, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        start_ms = (day.toordinal() - _EPOCH) * _DAY_MS - _IST_MS
        async with self._stored() as connection:
            rows = await connection.fetch(_OF_DAY, start_ms, start_ms + _DAY_MS, list(kinds), _MOST + 1)
        if len(rows) > _MOST:
            raise Rejected(f"the journal of {day} is longer than one answer can be: use `teji audit orders`")
        return [_fact(row) for row in rows]

    @contextlib.asynccontextmanager
    async def _stored(self) -> AsyncIterator[Any]:
        if not self._migrated.is_set():
            raise Unavailable("Postgres has not answered since this gateway started")
        async with postgres.connection(self._pool, _POSTGRES_S) as connection:
            yield connection


def _fact(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as one object: its columns before what it says itself."""
    told: dict[str, Any] = orjson.loads(row["data"])
    return {"n": row["n"], "ts": row["ts"], "account": row["account"], "kind": row["kind"], **told}
