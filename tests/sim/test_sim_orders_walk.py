"""Random days of a trader: whatever is asked and whatever fails, the books agree with each other."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import order_body
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.orders import FINAL, ZERO, ModifyBody, Order, PlaceBody, Status
from tests.sim.ordertools import body, option
from tests.sim.simtools import RELIANCE
from tests.sim.simtools import settings as chosen

S = Status
_ALIVE = {S.OPEN, S.TRIGGER_PENDING, S.OPENING}
#: What may follow what.
NEXT: dict[Status, set[Status]] = {
    S.RECEIVED: {S.VALIDATING},
    S.VALIDATING: {S.OPENING, S.REJECTED},
    S.OPENING: {S.OPEN, S.TRIGGER_PENDING, S.MODIFY_PENDING, S.CANCEL_PENDING, S.CANCELLED},
    S.OPEN: {S.OPEN, S.COMPLETE, S.MODIFY_PENDING, S.CANCEL_PENDING, S.CANCELLED},
    S.TRIGGER_PENDING: {S.OPEN, S.MODIFY_PENDING, S.CANCEL_PENDING, S.CANCELLED},
    S.MODIFY_PENDING: {S.MODIFY_VALIDATING},
    S.MODIFY_VALIDATING: {S.MODIFIED, S.NOT_MODIFIED},
    S.MODIFIED: {S.OPEN, S.TRIGGER_PENDING},
    S.NOT_MODIFIED: _ALIVE,
    S.CANCEL_PENDING: {S.CANCELLED, S.NOT_CANCELLED},
    S.NOT_CANCELLED: _ALIVE,
}

SIDES = st.sampled_from(["BUY", "SELL"])
AWAY = st.integers(-12, 12)  # ticks from the last price
LOTS = st.integers(1, 40)
DEEDS = st.one_of(
    st.tuples(st.just("place"), st.booleans(), SIDES, st.sampled_from(["LIMIT", "SL", "MARKET", "SL-M"]), AWAY, LOTS),
    st.tuples(st.just("ioc"), st.booleans(), SIDES, st.just("LIMIT"), AWAY, LOTS),
    st.tuples(st.just("modify"), st.integers(0, 9), st.sampled_from(["LIMIT", "SL", "MARKET"]), AWAY, LOTS),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from([300, 3_000, 20_000])),
    st.tuples(
        st.just("fault"),
        st.sampled_from(
            [
                {"partial_fills": 1},
                {"partial_fills": 0},
                {"no_fills": True},
                {"no_fills": False},
                {"order_reject": 1},
                {"order_pending_ms": 2_000},
                {"order_pending_ms": 0},
            ]
        ),
    ),
)


class Day:
    def __init__(self, deeds: list[tuple[Any, ...]]) -> None:
        self.exchange = Exchange(chosen(instruments=30, funds=5_000_000))
        self.trading = self.exchange.trading
        self.now_ms = self.exchange.now_ms()
        self.told: list[Order] = []
        self.trading.listen(self._hear)
        self.ids: list[str] = []
        for name, *given_ in deeds:
            try:
                getattr(self, f"_{name}")(*given_)
            except ApiError as error:
                if error.code not in ("UDAPI100040", "UDAPI100041"):
                    raise

    def _hear(self, told: object) -> None:
        if isinstance(told, Order):
            self.told.append(told)

    def _prices(self, key: str, away: int) -> tuple[Decimal, Decimal]:
        """A price on the grid near the last one, and one a tick below it for triggers."""
        tick = Decimal(
            str(self.exchange.market.listing.instruments[self.exchange.market.listing.row_of[key]].tick_size)
        )
        price = max(self.trading.last(key) // tick + away, Decimal(2)) * tick
        return price, price - tick

    def _place(self, shares: bool, side: str, kind: str, away: int, lots: int, validity: str = "DAY") -> None:
        instrument = self.trading.instrument(RELIANCE if shares else option(self.exchange).key)
        price, below = self._prices(instrument.key, away)
        asked = PlaceBody(
            instrument_token=instrument.key,
            transaction_type=side,
            quantity=lots * instrument.lot_size,
            product="I",
            order_type=kind,
            validity=validity,
            price=price if kind in ("LIMIT", "SL") else ZERO,
            trigger_price=(below if side == "BUY" else price) if kind in ("SL", "SL-M") else ZERO,
            market_protection=Decimal(-1),
        )
        self.ids += [each.order_id for each in self.trading.place(asked, at_ms=self.now_ms)]

    def _ioc(self, shares: bool, side: str, kind: str, away: int, lots: int) -> None:
        self._place(shares, side, kind, away, lots, "IOC")

    def _modify(self, place: int, kind: str, away: int, lots: int) -> None:
        if not self.ids:
            return
        order = self.trading.ledger.ever[self.ids[place % len(self.ids)]][-1]
        price, below = self._prices(order.instrument.key, away)
        change = ModifyBody(
            order_id=order.order_id,
            order_type=kind,
            validity="DAY",
            price=price if kind != "MARKET" else ZERO,
            trigger_price=(below if order.is_buy else price) if kind == "SL" else ZERO,
            quantity=lots * order.instrument.lot_size,
        )
        self.trading.modify(change, at_ms=self.now_ms)

    def _cancel(self, place: int) -> None:
        if self.ids:
            self.trading.cancel(self.ids[place % len(self.ids)], at_ms=self.now_ms)

    def _wait(self, ms: int) -> None:
        self.now_ms += ms
        for update in self.exchange.market.advance(self.now_ms):
            self.trading.step(update)

    def _fault(self, fault: dict[str, Any]) -> None:
        self.exchange.faults.order(FaultRequest(**fault))


@settings(max_examples=30, deadline=None)
@given(st.lists(DEEDS, min_size=3, max_size=25))
def test_the_books_agree_whatever_is_asked(deeds: list[tuple[Any, ...]]) -> None:
    day = Day(deeds)
    ledger = day.trading.ledger
    held: dict[str, int] = {}
    for order_id, states in ledger.ever.items():
        last, trades = states[-1], ledger.trades.get(order_id, [])
        assert states[0].status is S.RECEIVED
        for before, after in pairwise(states):
            assert after.status in NEXT[before.status], (before.status, after.status)
            assert after.filled_quantity >= before.filled_quantity
            assert after.at_ms >= before.at_ms
            assert after.request >= before.request
        assert sum(each.quantity for each in trades) == last.filled_quantity <= last.quantity
        assert sum((each.quantity * each.price for each in trades), ZERO) == last.value
        assert (last.status is S.COMPLETE) == (last.filled_quantity == last.quantity)
        assert (order_id in ledger.live) == (last.status not in FINAL)
        assert [each for each in day.told if each.order_id == order_id] == states
        sign = 1 if last.is_buy else -1
        held[last.instrument.key] = held.get(last.instrument.key, 0) + sign * last.filled_quantity
    positions = {each.instrument.key: each.quantity for each in day.trading.positions()}
    assert {key: held[key] for key in positions} == positions
    assert not any(held[key] for key in held.keys() - positions.keys())
    floor = day.trading.floor
    waiting = {each.order_id: each.quantity for each in floor.waiting()}
    stops = set(floor.stops())
    way = {each for _, each in day.trading._on_the_way if each in ledger.live}
    assert waiting.keys() | stops | way == ledger.live.keys()
    assert not waiting.keys() & stops
    assert waiting == {each: ledger.live[each].pending_quantity for each in waiting}


@settings(max_examples=15, deadline=None)
@given(st.lists(DEEDS, min_size=3, max_size=25))
def test_every_trade_is_within_the_limit_that_was_in_force(deeds: list[tuple[Any, ...]]) -> None:
    ledger = Day(deeds).trading.ledger
    for order_id, states in ledger.ever.items():
        prices = [each.price for each in ledger.trades.get(order_id, [])]
        fills = [after for before, after in pairwise(states) if after.filled_quantity > before.filled_quantity]
        assert len(fills) == len(prices)
        for order, price in zip(fills, prices, strict=True):
            assert price <= order.limit_price if order.is_buy else price >= order.limit_price


@settings(max_examples=15, deadline=None)
@given(st.lists(DEEDS, min_size=3, max_size=25))
def test_money_is_neither_made_nor_lost(deeds: list[tuple[Any, ...]]) -> None:
    day = Day(deeds)
    flows = ZERO
    for states in day.trading.ledger.ever.values():
        flows += -states[-1].value if states[-1].is_buy else states[-1].value
    worth = sum((each.quantity * day.trading.last(each.instrument.key) for each in day.trading.positions()), ZERO)
    profit = sum(
        (each.realised + each.unrealised(day.trading.last(each.instrument.key)) for each in day.trading.positions()),
        ZERO,
    )
    assert abs(flows + worth - profit) < Decimal("0.000001")
    before = day.trading.portfolio.cash
    day.trading.portfolio.next_day(day.trading.last, {})
    assert abs(day.trading.portfolio.cash - before - profit) <= Decimal("0.03")
    assert day.trading.positions() == []


def test_the_market_is_the_same_whoever_trades_in_it() -> None:
    deeds = [("place", True, "BUY", "LIMIT", 12, 40), ("place", False, "SELL", "MARKET", 0, 20), ("wait", 60_000)]
    busy, quiet = Day(deeds), Day([("wait", 60_000)])
    assert busy.trading.ledger.trades
    for name in ("ltp", "ltt", "ltq", "vtt", "bid", "ask", "epoch", "oi"):
        assert np.array_equal(getattr(busy.exchange.market, name), getattr(quiet.exchange.market, name))


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=50), st.lists(st.integers(), max_size=2)
)


FIELDS = (*body(), "tag", "slice", "market_protection", "order_id")


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_any_body_is_either_read_or_refused_with_a_name(wrong: dict[str, Any]) -> None:
    refusals = set()
    for read in (lambda asked: order_body.placement(asked, 0), order_body.change):
        try:
            quantity = read(body(order_id="261120000000001") | wrong).quantity
        except ApiError as error:
            refusals.add((error.status, error.property_path))
        else:
            assert quantity is None or quantity > 0
    assert refusals <= {(400, name) for name in FIELDS}
