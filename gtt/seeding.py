"""What was known of every instrument when the last process ended: the hashes `quotes:{k}`, so that the first decision
after a start has prices. Each has its own time, so old ones are known to be old."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from bus import clock
from bus.connection import Bus, pairs
from bus.inbox import order
from gtt.board import Board
from market import sessions
from schemas import streams
from schemas.streams import instrument_id
from schemas.ticks import TICK, Block

log = structlog.get_logger("seeding")

_DEPTH: Final = ("bid", "bid_qty", "ask", "ask_qty")


async def seed(bus: Bus, shards: int, board: Board) -> dict[str, int]:
    """Put today's quotes on the board; venue time by instrument."""
    found: list[dict[str, Any]] = []
    lag_ms: int | None = None
    for shard in range(shards):
        (flat,) = await bus.packet(("HGETALL", streams.quotes(shard)))
        found += _read(pairs(flat).values())
        last = await bus.last_entry(streams.ticks(shard))
        if last is not None:
            behind_ms = order(last[0])[0] - int(last[1][b"ts"])
            lag_ms = behind_ms if lag_ms is None else min(lag_ms, behind_ms)
    market_ms = clock.now_ms() - (lag_ms or 0)
    today = [quote for quote in found if sessions.trading_date(quote["ts"]) == sessions.trading_date(market_ms)]
    board.seed(records(today))
    log.info("prices", known=len(today), old=len(found) - len(today))
    return {quote["instrument"]: quote["ts"] for quote in today}


def _read(values: Iterable[bytes]) -> list[dict[str, Any]]:
    """Those with a price."""
    quotes = (orjson.loads(value) for value in values)
    return [quote for quote in quotes if quote.get("ltp") and quote.get("ts")]


def records(quotes: list[dict[str, Any]]) -> npt.NDArray[Any]:
    """As tick records, in the order of their times."""
    rec = np.zeros(len(quotes), TICK)
    for row, quote in zip(rec, sorted(quotes, key=lambda each: each["ts"]), strict=True):
        row["id"], row["ts"] = instrument_id(quote["instrument"]), quote["ts"]
        row["flags"] = int(Block.LTPC | Block.DEPTH)
        for name in ("ltp", "ltt", "cp", *_DEPTH):
            row[name] = quote.get(name) or 0
    return rec
