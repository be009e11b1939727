"""Last prices, and whose trigger was crossed, against the same in plain Python."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtt.engine.board import Board, Crossing, warm
from schemas.gtt import Leg
from schemas.streams import instrument_id
from schemas.ticks import TICK, Block

KEYS = ("NSE_FO|1", "NSE_FO|2", "NSE_EQ|INE002A01018")
TS = 1_794_973_500_000


@dataclass
class Tick:
    key: str
    price: float
    ts: int = TS
    flags: int = int(Block.LTPC)


def batch(*ticks: Tick) -> Any:
    rec = np.zeros(len(ticks), TICK)
    for row, tick in zip(rec, ticks, strict=True):
        row["id"], row["ts"], row["flags"] = instrument_id(tick.key), tick.ts, tick.flags
        row["ltp"], row["ltt"] = tick.price, tick.ts
        row["bid"], row["ask"], row["cp"] = tick.price - 0.05, np.nan, 0
    return np.frombuffer(rec.tobytes(), TICK)


def crossings(board: Board, *ticks: Tick) -> list[tuple[str, Leg, Decimal]]:
    return [(c.gtt_id, c.leg, c.price) for c in board.update(batch(*ticks))]


@dataclass
class Reference:
    """Every tick looks at every trigger."""

    last: dict[str, Tick] = field(default_factory=dict)
    watched: dict[tuple[str, Leg], tuple[str, Decimal | None, Decimal | None]] = field(default_factory=dict)

    def update(self, ticks: list[Tick]) -> Iterator[Crossing]:
        for tick in ticks:
            before = self.last.get(tick.key)
            if before is not None and tick.ts < before.ts:
                continue
            is_trade = tick.flags & Block.LTPC and tick.price > 0
            self.last[tick.key] = tick if is_trade or before is None else Tick(tick.key, before.price, tick.ts)
            if not is_trade:
                if before is None:
                    self.last[tick.key] = Tick(tick.key, 0.0, tick.ts)
                continue
            price = Decimal(str(tick.price))
            gap = bool(tick.flags & (Block.BASE | Block.SNAPSHOT))
            for gtt_id, leg in self.concerned(tick.key, price):
                if (gtt_id, leg) in self.watched:
                    _, low, high = self.watched[gtt_id, leg]
                    if (low is not None and price <= low) or (high is not None and price >= high):
                        yield Crossing(gtt_id, leg, tick.key, price, tick.ts, gap)

    def concerned(self, key: str, price: Decimal) -> list[tuple[str, Leg]]:
        lows, highs = [], []
        for (gtt_id, leg), (its, low, high) in self.watched.items():
            if its == key and low is not None and price <= low:
                lows.append((low, gtt_id, leg))
            if its == key and high is not None and price >= high:
                highs.append((high, gtt_id, leg))
        return [(gtt_id, leg) for _, gtt_id, leg in [*sorted(lows, reverse=True), *sorted(highs)]]


PRICES = st.integers(0, 12).map(lambda n: n * 0.05 + 100 if n else 0.0)
FLAGS = st.sampled_from([0, Block.DEPTH, Block.LTPC, Block.LTPC | Block.DEPTH, Block.LTPC | Block.BASE]).map(int)
TICKS = st.lists(st.builds(Tick, st.sampled_from(KEYS), PRICES, st.integers(TS, TS + 5), FLAGS), max_size=12)
BOUND = st.one_of(st.none(), st.integers(1, 12).map(lambda n: Decimal(2000 + n) / 20))
CHANGES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(Leg), st.sampled_from(KEYS), BOUND, BOUND, st.booleans()),
    max_size=6,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(CHANGES, TICKS), max_size=5), st.lists(st.one_of(st.none(), BOUND), max_size=8))
def test_the_board_tells_what_a_look_at_every_trigger_would(
    rounds: list[tuple[list[Any], list[Tick]]], anew: list[Any]
) -> None:
    """Also where somebody watches something else on hearing of a crossing."""
    board, reference = Board(), Reference()
    for changes, ticks in rounds:
        for gtt_id, leg, key, low, high, away in changes:
            if away:
                board.unwatch(gtt_id, leg)
                reference.watched.pop((gtt_id, leg), None)
            else:
                board.watch(gtt_id, leg, key, low, high)
                reference.watched[gtt_id, leg] = (key, low, high)
        found = _told(board, board.update(batch(*ticks)), list(anew))
        expected = _told(reference, reference.update(ticks), list(anew))
        assert found == expected
    for key, tick in reference.last.items():
        quote = board.quote(key)
        assert quote is not None
        assert (quote.ltp or 0.0, quote.ts_ms) == (tick.price, tick.ts)


def _told(whose: Board | Reference, told: Iterator[Crossing], anew: list[Any]) -> list[Crossing]:
    """Reads it to its end; at each crossing its bounds may be replaced, or go."""
    found = []
    for crossing in told:
        found.append(crossing)
        if not anew:
            continue
        low = anew.pop()
        if isinstance(whose, Board):
            whose.watch(crossing.gtt_id, crossing.leg, crossing.instrument, low, None)
        else:
            whose.watched[crossing.gtt_id, crossing.leg] = (crossing.instrument, low, None)
    return found


def test_a_spike_inside_a_batch_is_seen_and_the_first_crossing_comes_first() -> None:
    board = Board()
    board.watch("stop", Leg.STOPLOSS, KEYS[0], Decimal("99"), None)
    board.watch("target", Leg.TARGET, KEYS[0], None, Decimal("101"))
    ticks = [Tick(KEYS[0], 100.0), Tick(KEYS[0], 98.9), Tick(KEYS[0], 100.0), Tick(KEYS[0], 101.0)]
    assert crossings(board, *ticks) == [
        ("stop", Leg.STOPLOSS, Decimal("98.9")),
        ("target", Leg.TARGET, Decimal("101.0")),
    ]


def test_a_bound_that_is_set_on_a_crossing_counts_for_the_next_tick_of_the_batch() -> None:
    board = Board()
    board.watch("g", Leg.STOPLOSS, KEYS[0], Decimal("99"), Decimal("101"))
    found = []
    for crossing in board.update(batch(Tick(KEYS[0], 102.0), Tick(KEYS[0], 100.5), Tick(KEYS[0], 102.0))):
        found.append(crossing.price)
        board.watch("g", Leg.STOPLOSS, KEYS[0], Decimal("101"), Decimal("103"))  # the stop has trailed on
    assert found == [Decimal("102.0"), Decimal("100.5")]


def test_an_update_without_a_trade_crosses_nothing() -> None:
    board = Board()
    board.watch("g", Leg.ENTRY, KEYS[0], None, Decimal("100"))
    assert crossings(board, Tick(KEYS[0], 200.0, flags=int(Block.DEPTH)), Tick(KEYS[1], 200.0)) == []


def test_the_first_price_after_a_pause_of_the_feed_is_a_gap() -> None:
    board = Board()
    board.watch("g", Leg.ENTRY, KEYS[0], None, Decimal("100"))
    flags = int(Block.LTPC | Block.BASE | Block.SNAPSHOT)
    (crossing,) = board.update(batch(Tick(KEYS[0], 130.0, flags=flags)))
    assert crossing.gap
    assert crossing.price == 130


def test_who_watches_for_a_price_that_is_there_hears_at_once() -> None:
    board = Board()
    assert crossings(board, Tick(KEYS[0], 100.05)) == []
    crossing = board.watch("g", Leg.STOPLOSS, KEYS[0], Decimal("100.05"), None)
    assert crossing is not None
    assert crossing.price == Decimal("100.05")
    assert board.watch("g", Leg.STOPLOSS, KEYS[0], Decimal("100"), None) is None


def test_an_older_state_neither_crosses_nor_becomes_the_last() -> None:
    board = Board()
    board.watch("g", Leg.STOPLOSS, KEYS[0], Decimal("99"), None)
    assert crossings(board, Tick(KEYS[0], 100.0, TS + 5), Tick(KEYS[0], 98.0, TS)) == []
    quote = board.quote(KEYS[0])
    assert quote is not None
    assert (quote.price, quote.bid, quote.ask, quote.cp) == (Decimal("100.0"), 99.95, None, None)


def test_what_is_unwatched_is_not_told() -> None:
    board = Board()
    for leg in (Leg.TARGET, Leg.STOPLOSS):
        board.watch("g", leg, KEYS[0], Decimal("100"), None)
    board.unwatch("g", Leg.TARGET)
    board.unwatch("unknown")
    assert board.watched("g") == {Leg.STOPLOSS}
    assert [leg for _, leg, _ in crossings(board, Tick(KEYS[0], 99.0))] == [Leg.STOPLOSS]
    board.unwatch("g")
    assert crossings(board, Tick(KEYS[0], 98.0)) == []


def test_more_instruments_than_the_first_rows_have_room_for() -> None:
    board = Board()
    board.watch("g", Leg.ENTRY, "NSE_FO|2999", None, Decimal("2999"))
    ticks = [Tick(f"NSE_FO|{n}", float(n)) for n in range(1, 3000)]
    assert crossings(board, *ticks) == [("g", Leg.ENTRY, Decimal("2999.0"))]
    assert all((q := board.quote(f"NSE_FO|{n}")) is not None and q.ltp == n for n in range(1, 3000))
    assert board.quote("NSE_FO|9999") is None


def test_thousands_of_waiting_ones_cost_a_batch_nothing() -> None:
    """Machine time for ticks that cross nothing, with twenty thousand triggers and with none."""
    warm()
    ticks = batch(*(Tick(f"NSE_FO|{n}", 100.0) for n in range(500)))

    def best_s(board: Board) -> float:
        times = []
        for _ in range(30):
            start = time.thread_time()
            for _ in range(20):
                assert list(board.update(ticks)) == []
            times.append(time.thread_time() - start)
        return min(times)

    empty, full = Board(), Board()
    for n in range(20_000):
        full.watch(f"GTT-{n}", Leg.ENTRY, f"NSE_FO|{n % 500}", Decimal(50 - n % 40), Decimal(150 + n % 40))
    idle = best_s(empty)
    assert best_s(full) < 3 * idle + 0.001
    assert best_s(full) / 20 < 0.002  # 500 ticks in under 2 ms, on any machine


@pytest.mark.parametrize("at_once", [1, 7])
def test_thousands_of_triggers_on_one_instrument_are_told_only_as_the_price_reaches_them(at_once: int) -> None:
    board = Board()
    for n in range(5000):
        board.watch(f"GTT-{n:04}", Leg.ENTRY, KEYS[0], None, Decimal(1000 + n // at_once))
    for n in range(3):
        hit = crossings(board, Tick(KEYS[0], 1000.0 + n))
        assert [one[0] for one in hit] == [f"GTT-{n * at_once + i:04}" for i in range(at_once)]
        for gtt_id, _, _ in hit:
            board.unwatch(gtt_id)
