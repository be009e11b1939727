"""After a start the board knows the prices of today, and what was crossed meanwhile is told all the same."""

from decimal import Decimal
from typing import Any

import orjson
import pytest

from bus import clock
from bus.connection import Bus
from gtt.engine.board import Board
from gtt.seeding import records, seed
from schemas import streams
from schemas.gtt import Leg
from schemas.ticks import pack_mark
from tests.gtt.test_board import Tick, batch, crossings

KEY, OTHER, OLD = "NSE_EQ|A", "NSE_FO|7", "NSE_EQ|OLD"
DAY_MS = 86_400_000


def a_quote(key: str, ltp: float | None, ts: int) -> dict[str, Any]:
    return {"instrument": key, "ts": ts, "ltp": ltp, "ltt": ts - 500, "cp": 99.0, "bid": 100.0, "ask": None}


async def test_todays_quotes_of_all_shards_are_on_the_board_with_their_own_times(redis_url: str) -> None:
    now_ms = clock.now_ms()
    board = Board()
    async with Bus.open(redis_url) as bus:
        for shard, quote in enumerate((a_quote(KEY, 100.5, now_ms - 1), a_quote(OTHER, 7.5, now_ms - 2))):
            await bus.packet(("HSET", streams.quotes(shard), quote["instrument"], orjson.dumps(quote)))
        old, none = a_quote(OLD, 5.0, now_ms - 2 * DAY_MS), a_quote("NSE_EQ|NONE", None, now_ms)
        await bus.packet(("HSET", streams.quotes(0), OLD, orjson.dumps(old), "NSE_EQ|NONE", orjson.dumps(none)))
        assert await seed(bus, 2, board) == {KEY: now_ms - 1, OTHER: now_ms - 2}
    known = board.quote(KEY)
    assert known is not None
    assert (known.price, known.ts_ms, known.ltt_ms) == (Decimal("100.5"), now_ms - 1, now_ms - 501)
    assert (known.bid, known.ask, known.cp) == (100.0, None, 99.0)
    assert board.quote(OLD) is board.quote("NSE_EQ|NONE") is None


async def test_today_is_the_feeds_day_where_that_is_another_one(redis_url: str) -> None:
    """A replay: its ticks of long ago come now."""
    long_ago_ms = clock.now_ms() - 100 * DAY_MS
    board = Board()
    async with Bus.open(redis_url) as bus:
        quote = a_quote(KEY, 100.5, long_ago_ms - 1)
        await bus.packet(("HSET", streams.quotes(0), KEY, orjson.dumps(quote)))
        mark = pack_mark(long_ago_ms, 0, feed=b"live")
        await bus.packet(("XADD", streams.ticks(0), "*", *(part for pair in mark.items() for part in pair)))
        assert await seed(bus, 1, board) == {KEY: long_ago_ms - 1}


def test_what_was_crossed_before_the_last_price_is_told_when_its_tick_is_read_again() -> None:
    board = Board()
    board.seed(records([a_quote(KEY, 100.0, 2_000)]))
    assert board.watch("g", Leg.STOPLOSS, KEY, Decimal(95), None) is None
    assert crossings(board, Tick(KEY, 99.0, 1_000), Tick(KEY, 94.0, 1_500), Tick(KEY, 100.0, 2_000)) == [
        ("g", Leg.STOPLOSS, Decimal("94.0"))
    ]
    assert crossings(board, Tick(KEY, 94.0, 1_999)) == []  # an older state, now that ticks tell the time


def test_a_price_that_is_beyond_already_is_told_at_once() -> None:
    board = Board()
    board.seed(records([a_quote(KEY, 94.0, 2_000)]))
    crossing = board.watch("g", Leg.STOPLOSS, KEY, Decimal(95), None)
    assert crossing is not None
    assert crossing.price == 94


def test_prices_come_before_anybody_waits() -> None:
    board = Board()
    board.watch("g", Leg.STOPLOSS, KEY, Decimal(95), None)
    with pytest.raises(RuntimeError, match="before somebody waits"):
        board.seed(batch(Tick(KEY, 94.0)))
