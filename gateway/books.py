"""The order worker's books, as it keeps them in Redis: orders, GTTs, positions, accounts, strategies."""

from collections.abc import Callable
from typing import Any

import orjson

from bus.connection import translated
from gateway.context import Gateway
from schemas import streams

Row = dict[str, Any]
Filter = Callable[[Row], bool]


async def rows(here: Gateway, book: str, keep: Filter = bool) -> list[Row]:
    """What a book holds, oldest first."""
    with translated():
        values = await here.bus.redis.hvals(book)
    found = [row for value in values if keep(row := orjson.loads(value))]
    return sorted(found, key=_place)


def _place(row: Row) -> tuple[int, str]:
    made = row.get("created_ts") or row.get("created_at") or row.get("ts") or 0
    name = row.get("order_id") or row.get("gtt_order_id") or row.get("instrument") or row.get("mode") or ""
    return int(made), str(name)


async def one(here: Gateway, book: str, identity: str, venue_field: str) -> Row | None:
    """By our id, or by the venue's."""
    with translated():
        value = await here.bus.redis.hget(book, identity)
    if value is not None:
        row: Row = orjson.loads(value)
        return row
    found = await rows(here, book, lambda row: row.get(venue_field) == identity)
    return found[0] if found else None


def matching(**wanted: Any) -> Filter:
    """Rows whose fields have these values; None stands for any."""
    asked = {name: value for name, value in wanted.items() if value is not None}
    return lambda row: all(row.get(name) == value for name, value in asked.items())


async def accounts(here: Gateway, mode: str | None = None) -> list[Row]:
    """Paper first, live last."""
    order = ("paper", "shadow", "live")
    found = await rows(here, streams.BOOK_ACCOUNTS, matching(mode=mode))
    return sorted(found, key=lambda row: order.index(row["mode"]) if row["mode"] in order else len(order))
