"""A venue and an order desk around one GTT, in plain Python. They do what a test tells them."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from gtt.engine.machine import (
    Action,
    Alert,
    AutoBand,
    CancelChild,
    ChangeChild,
    Child,
    ChildRefused,
    Done,
    Event,
    Expire,
    GttState,
    Hit,
    Odd,
    PlaceChild,
    Reattach,
    Terms,
    Timer,
    TurnedDown,
    Watch,
    Watched,
    accept,
    due_ts,
    ends_us,
    expiry_us,
    step,
    watches,
)
from schemas.gtt import Engine, GttBody, Leg, RuleStatus
from schemas.orders import FINAL, Order, OrderStatus, OrderType, Side, TradingMode

KEY = "NSE_FO|61755"
NOW = 1_794_973_500_000
TERMS = Terms(auto=(AutoBand(percent=Decimal(5)),), lot=25)


def body(*rules: dict[str, Any], quantity: int = 75, side: str = "BUY", product: str = "I", **more: Any) -> GttBody:
    return GttBody.model_validate(
        {
            "type": "SINGLE" if len(rules) == 1 else "MULTIPLE", "quantity": quantity, "product": product,
            "instrument_token": KEY, "transaction_type": side, "rules": rules, **more,
        }
    )  # fmt: skip


def entry(price: str = "120", how: str = "ABOVE", **more: Any) -> dict[str, Any]:
    return {"strategy": "ENTRY", "trigger_type": how, "trigger_price": price, **more}


def target(price: str = "150", **more: Any) -> dict[str, Any]:
    return {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": price, **more}


def stop(price: str = "108", **more: Any) -> dict[str, Any]:
    return {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": price, **more}


def begin(asked: GttBody, *, terms: Terms = TERMS, last: str | None = None) -> tuple[GttState, tuple[Action, ...]]:
    return accept(
        asked, gtt_id="GTT-1", intent_id="command:1", mode=TradingMode.PAPER, engine=Engine.OURS, note="",
        segment="NSE_FO", trading_symbol="NIFTY", now_ms=NOW, expires_us=expiry_us(asked.product, NOW), terms=terms,
        last=None if last is None else Decimal(last),
    )  # fmt: skip


@dataclass
class World:
    asked: GttBody
    terms: Terms = TERMS
    last: str | None = None
    now_ms: int = NOW
    by_itself: bool = True  # what is asked for reaches the venue at once, and stands on its book
    orders: dict[str, Order] = field(default_factory=dict)  # at the venue
    outbox: list[PlaceChild | CancelChild | ChangeChild] = field(default_factory=list)
    told: list[Action] = field(default_factory=list)  # since the last look
    on: tuple[Watched, ...] = ()
    alerts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.price = None if self.last is None else Decimal(self.last)
        self.state, actions = begin(self.asked, terms=self.terms, last=self.last)
        self._act(actions)

    # The desk

    def event(self, event: Event) -> tuple[Action, ...]:
        before = self.state
        self.state, actions = step(self.state, event)
        if any(isinstance(action, Odd | TurnedDown) for action in actions):
            assert self.state == before
        self._act(actions)
        return actions

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            self.told.append(action)
            if isinstance(action, Watch):
                self.on = action.on
            elif isinstance(action, Alert):
                self.alerts.append(action.message)
            elif isinstance(action, PlaceChild | CancelChild | ChangeChild):
                self.outbox.append(action)
        assert tuple(replace(each, fresh=False) for each in self.on) == watches(self.state)
        assert not self.state.gtt.live or not any(isinstance(action, Done) for action in actions)
        if self.by_itself:
            while self.outbox:
                self.deliver()

    def trade(self, *prices: str | Decimal, **more: Any) -> None:
        """Prices as the board tells of them: bounds that are new count for the same price, too."""
        for price in prices:
            self.price = Decimal(price)
            self.now_ms += 1
            for _ in range(4):  # trailed on, then hit: no more can come of one price
                watched = next((one for one in self.on if _beyond(one, self.price)), None)
                if watched is None:
                    break
                self.event(Hit(watched.leg, self.price, self.now_ms, **more))

    def wait(self, ms: int | None = None) -> None:
        """Until something is due, or so long."""
        due = due_ts(self.state)
        self.now_ms = max(self.now_ms, due) if ms is None else self.now_ms + ms
        if due and due <= self.now_ms:
            self.event(Timer(self.now_ms, self.price))

    def expire(self) -> None:
        """The market's clock reaches the next end; ours is another."""
        self.event(Expire(self.now_ms, -(-ends_us(self.state) // 1000)))

    def crash(self) -> None:
        """What was not done yet is forgotten; what was written down is there."""
        self.outbox.clear()
        self.state = GttState.model_validate_json(self.state.model_dump_json())
        missing = {child.order_id for child in self.state.children if child.live} - self.orders.keys()
        self.on = watches(self.state)
        self.event(Reattach(frozenset(missing), self.now_ms, self.price))
        for order in list(self.orders.values()):
            self.event(Child(order, self.now_ms))

    # The venue

    def deliver(self) -> None:
        """The oldest thing that was asked for arrives."""
        action = self.outbox.pop(0)
        order = self.orders.get(action.order_id)
        if isinstance(action, PlaceChild):
            if order is None:
                self._new(action)
        elif order is None or order.status in FINAL:
            if order is not None:
                self.event(ChildRefused(action.order_id, "it is over", True, self.now_ms, "cancel"))
        elif isinstance(action, CancelChild):
            self.tell(order, status=OrderStatus.CANCELLED)
        else:
            self.tell(order, price=action.price, quantity=action.quantity)

    def _new(self, action: PlaceChild) -> None:
        assert action.quantity > 0
        assert action.price % self.terms.tick == 0
        order = Order(
            order_id=action.order_id, intent_id=action.intent_id, instrument=KEY, side=action.side,
            quantity=action.quantity, price=action.price, order_type=OrderType.LIMIT, product=action.product,
            status=OrderStatus.OPEN, mode=TradingMode.PAPER, ts=self.now_ms,
        )  # fmt: skip
        self.orders[order.order_id] = order
        self.tell(order)

    def tell(self, order: Order, **fields: Any) -> None:
        order = order.model_copy(update={"ts": self.now_ms, **fields})
        self.orders[order.order_id] = order
        self.event(Child(order))

    def fill(self, order: Order, units: int | None = None, price: str | None = None) -> None:
        units = order.quantity - order.filled_quantity if units is None else units
        filled = order.filled_quantity + units
        status = OrderStatus.COMPLETE if filled >= order.quantity else OrderStatus.OPEN
        self.tell(order, filled_quantity=filled, status=status, average_price=Decimal(price) if price else order.price)

    def reject(self, order: Order, reason: str = "no funds") -> None:
        self.tell(order, status=OrderStatus.REJECTED, reason=reason)

    def live(self, side: Side | None = None) -> list[Order]:
        return [o for o in self.orders.values() if o.status not in FINAL and side in (None, o.side)]

    @property
    def only(self) -> Order:
        (order,) = self.live()
        return order

    # Looking

    def status(self, leg: Leg) -> RuleStatus | None:
        rule = self.state.gtt.rule(leg)
        return rule.status if rule else None

    @property
    def statuses(self) -> str:
        return " ".join(rule.status.value for rule in self.state.gtt.rules)

    def take(self) -> list[Action]:
        told, self.told = self.told, []
        return told


def _beyond(watched: Watched, price: Decimal) -> bool:
    low, high = watched.low, watched.high
    return (low is not None and price <= low) or (high is not None and price >= high)
