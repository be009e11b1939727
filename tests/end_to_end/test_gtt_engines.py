"""Our engine and the venue's, side by side at one simulated exchange: the same body and the same prices, the same end.

Prices move in steps that a protection of 5 percent covers: beyond, they differ by choice (docs/gtt.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gtt.engine import machine
from gtt.engine.state import Actions, Alert, CancelChild, ChangeChild, GttState, Hit, PlaceChild, Terms, Watch
from schemas.gtt import Engine, GttBody, Leg
from schemas.orders import Order as OurOrder
from schemas.orders import OrderStatus, OrderType, TradingMode, Validity
from sim.exchange import Exchange
from sim.gtt_body import placement
from sim.orders import ModifyBody, Order, PlaceBody, Status
from sim.settings import SimSettings
from sim.trading import Told
from tests.end_to_end.pipeline import START
from tests.sim.prints import trade_at

_TICK = Decimal("0.05")
_STATUS = {
    Status.COMPLETE: OrderStatus.COMPLETE, Status.CANCELLED: OrderStatus.CANCELLED,
    Status.REJECTED: OrderStatus.REJECTED, Status.OPEN: OrderStatus.OPEN,
}  # fmt: skip


@cache
def market() -> Exchange:
    """One for all examples: each has an end at which nothing of it is left."""
    return Exchange(SimSettings(port=0, instruments=30, clock="manual", start=START, rate_limits=None, funds=10**12))


@dataclass
class Ours:
    """Our machine, whose orders go to the exchange."""

    exchange: Exchange
    body: GttBody
    last: float
    state: GttState = field(init=False)
    placed: dict[str, str] = field(default_factory=dict)  # the exchange's id -> ours
    early: dict[str, Order] = field(default_factory=dict)

    def begin(self) -> None:
        self.state, actions = machine.accept(
            self.body, gtt_id="GTT-1", intent_id="one", mode=TradingMode.LIVE, engine=Engine.OURS, note="",
            segment="NSE_FO", trading_symbol="", now_ms=self.exchange.now_ms(), expires_us=2**60, terms=Terms(),
            last=Decimal(str(self.last)),
        )  # fmt: skip
        self.act(actions)

    def traded(self, price: Decimal) -> None:
        fresh = {each.leg for each in machine.watches(self.state)}  # a target that is armed by this trade waits
        for _ in range(10):
            met = [
                each.leg
                for each in machine.watches(self.state)
                if each.leg in fresh and (_under(price, each.low) or _over(price, each.high))
            ]
            if not met:
                return
            self.step(Hit(met[0], price, self.exchange.now_ms()))

    def step(self, event: machine.Event) -> None:
        self.state, actions = machine.step(self.state, event)
        self.act(actions)

    def act(self, actions: Actions) -> None:
        for action in actions:
            match action:
                case PlaceChild():
                    self.place(action)
                case CancelChild(order_id):
                    self.exchange.trading.cancel(self.at_venue(order_id), at_ms=self.exchange.now_ms())
                case ChangeChild(order_id, _, price, _):
                    body = ModifyBody(order_id=self.at_venue(order_id), order_type="LIMIT", validity="DAY", price=price)
                    self.exchange.trading.modify(body, at_ms=self.exchange.now_ms())
                case Watch() | Alert() | machine.Done():
                    pass
                case _:
                    raise AssertionError(action)

    def place(self, action: PlaceChild) -> None:
        body = PlaceBody(
            instrument_token=self.body.instrument_token, transaction_type=action.side.value, quantity=action.quantity,
            product="I", order_type="LIMIT", price=action.price, tag=action.order_id,
        )  # fmt: skip
        (order,) = self.exchange.trading.place(body, at_ms=self.exchange.now_ms())
        self.placed[order.order_id] = action.order_id
        assert order.status is not Status.REJECTED, order.status_message
        self.told(self.exchange.trading.order(order.order_id))

    def at_venue(self, order_id: str) -> str:
        return next(theirs for theirs, ours in self.placed.items() if ours == order_id)

    def told(self, told: Told | None) -> None:
        if not isinstance(told, Order) or told.order_id not in self.placed or told.status not in _STATUS:
            return
        child = self.state.child(self.placed[told.order_id])
        if child is None:
            return
        order = OurOrder(
            order_id=child.order_id, intent_id=child.intent_id, instrument=self.body.instrument_token, side=child.side,
            quantity=told.quantity, filled_quantity=told.filled_quantity, average_price=told.average_price,
            price=told.price, order_type=OrderType.LIMIT, product=self.body.product, validity=Validity.DAY,
            status=_STATUS[told.status], mode=TradingMode.LIVE, ts=self.exchange.now_ms(),
        )  # fmt: skip
        self.step(machine.Child(order, self.exchange.now_ms()))


def _under(price: Decimal, low: Decimal | None) -> bool:
    return low is not None and price <= low


def _over(price: Decimal, high: Decimal | None) -> bool:
    return high is not None and price >= high


@contextmanager
def listening(ours: Ours) -> Iterator[None]:
    listeners = ours.exchange.trading._listeners
    listeners.append(ours.told)
    try:
        yield
    finally:
        listeners.remove(ours.told)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Around 100. Exits on either side of the entry, a trailing gap of at least the least one. Prices move by fours of
    ticks, and stops lie between them: ours trails from the price of the fill, the venue's from the last trade, which is
    a tick beside it."""
    up = draw(st.booleans())
    sign = 1 if up else -1
    near, far = 4 * draw(st.integers(5, 30)), draw(st.integers(20, 120))
    rules: list[dict[str, Any]] = [
        {"strategy": "ENTRY", "trigger_type": draw(st.sampled_from(["ABOVE", "BELOW", "IMMEDIATE"])),
         "trigger_price": 100.0, "market_protection": 5}
    ]  # fmt: skip
    exits = draw(st.sampled_from(["both", "target", "stop"]))
    if exits != "stop":
        price = round(100 + sign * far * 0.05, 2)
        leg = {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": price, "market_protection": 5}
        rules.append(leg)
    if exits != "target":
        price = round(100 - sign * near * 0.05, 2)
        stop = {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": price, "market_protection": 5}
        gap = draw(st.none() | st.integers(10, 35).map(lambda fours: round((4 * fours + 2) * 0.05, 2)))
        rules.append(stop if gap is None else {**stop, "trailing_gap": gap})
    side = "BUY" if up else "SELL"
    return {"type": "MULTIPLE", "quantity": 0, "product": "I", "transaction_type": side, "rules": rules}


@settings(max_examples=150, deadline=None)
@given(bodies(), st.lists(st.integers(-3, 3), min_size=5, max_size=40))
def test_the_same_body_and_the_same_prices_end_the_same(body: dict[str, Any], steps: list[int]) -> None:
    exchange = market()
    pair = [each for each in exchange.market.listing.instruments if each.is_option][:2]
    mine, theirs = (each.key for each in pair)
    for key in (mine, theirs):
        trade_at(exchange, key, 99.9, quantity=100_000)
    body = {**body, "quantity": pair[0].lot_size}
    before = _held(exchange)
    ours = Ours(exchange, GttBody.model_validate({**body, "instrument_token": mine}), 99.9)
    with listening(ours):
        ours.begin()
        venue = exchange.gtts.place(placement({**body, "instrument_token": theirs}), exchange.now_ms())
        try:
            _walked(exchange, ours, (mine, theirs), venue.gtt_order_id, steps)
        finally:
            if ours.state.gtt.live:
                ours.step(machine.Cancel("the end", exchange.now_ms()))
            if exchange.gtts.ever[venue.gtt_order_id].is_live:
                exchange.gtts.cancel(venue.gtt_order_id, exchange.now_ms())
    after = _held(exchange)
    assert after.get(mine, 0) - before.get(mine, 0) == after.get(theirs, 0) - before.get(theirs, 0)


def _walked(exchange: Exchange, ours: Ours, keys: tuple[str, str], number: str, steps: list[int]) -> None:
    ticks = 1998
    for step in [0, *steps]:
        ticks += 4 * step
        price = round(ticks * 0.05, 2)
        for _ in range(2):  # the venue's stop begins to trail with the trade after the fill
            for key in reversed(keys):
                trade_at(exchange, key, price, quantity=100_000)
            ours.traded(Decimal(str(price)))
        mine, theirs = _seen(ours), _theirs(exchange, number)
        assert {leg: status for leg, (status, _) in mine.items()} == {leg: s for leg, (s, _) in theirs.items()}, price
        waiting = {leg: at for leg, (status, at) in theirs.items() if status == "PENDING"}
        assert all(abs(mine[leg][1] - at) <= _TICK for leg, at in waiting.items()), (price, mine, theirs)


def _held(exchange: Exchange) -> dict[str, int]:
    return {each.instrument.key: each.quantity for each in exchange.trading.positions()}


def _seen(ours: Ours) -> dict[Leg, tuple[str, Decimal]]:
    return {rule.strategy: (rule.status.value, rule.trigger_price) for rule in ours.state.gtt.rules}


def _theirs(exchange: Exchange, number: str) -> dict[Leg, tuple[str, Decimal]]:
    rules = exchange.gtts.ever[number].rules
    return {rule.leg: (rule.status.value, rule.terms.trigger_price) for rule in rules}
