"""What was known of every instrument when the last process ended: the hashes `quotes:{k}`, so that the first decision
after a start has prices. Each has its own time, so old ones are known to be old."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from bus import clock
from bus.connection import Bus, pairs
from bus.inbox import order
from bus.reader import entries_of
from gtt.engine.board import Board
from market import sessions
from schemas import streams, ticks
from schemas.streams import instrument_id
from schemas.ticks import TICK, Block

log = structlog.get_logger("seeding")

_QUOTES_MS: Final = 2_000  # quotes are refreshed every second
_DEPTH: Final = ("bid", "bid_qty", "ask", "ask_qty")


async def seed(bus: Bus, shards: int, board: Board, places: Mapping[str, str] | None = None) -> dict[str, int]:
    """Put today's quotes on the board; venue time by instrument. They may be a moment old: the ticks of that moment
    follow, up to `places`, from where they are read again."""
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
    for shard in range(shards):
        if place := (places or {}).get(streams.ticks(shard)):
            await _moment_before(bus, streams.ticks(shard), place, board)
    log.info("prices", known=len(today), old=len(found) - len(today))
    return {quote["instrument"]: quote["ts"] for quote in today}


async def _moment_before(bus: Bus, stream: str, place: str, board: Board) -> None:
    (reply,) = await bus.packet(("XRANGE", stream, str(max(order(place)[0] - _QUOTES_MS, 0)), place))
    for _, fields in entries_of(reply):
        try:
            board.seed(ticks.unpack(fields).rec)
        except ValueError:  # the aggregator sets it aside
            continue


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
