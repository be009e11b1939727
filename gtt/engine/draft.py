"""A GTT while a step works on it: changed piece by piece, frozen at the end. Pure."""

from decimal import Decimal
from typing import Any, Final

from gtt.engine.state import EXITS, FINAL_RULE, Action, CancelChild, ChangeChild, ChildState, GttState, PlaceChild
from gtt.engine.table import RuleEvent, after
from schemas.gtt import Leg, RuleState, RuleStatus
from schemas.money import ZERO
from schemas.orders import OrderStatus, OrderType, order_id_of

#: Orders that are over are remembered up to this many; their fills are in `entered` and `exited`.
_CHILDREN_MAX: Final = 24
#: What was asked of an order and has not come true is asked again after this long.
REASK_MS: Final = 5_000
#: An order that can be changed.
_ON_THE_BOOK: Final = frozenset({OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING})


class Draft:
    def __init__(self, state: GttState, ts_ms: int) -> None:
        self.state = state
        self.ts_ms = ts_ms
        self.actions: list[Action] = []
        self.band: tuple[Decimal, Decimal] | None = None

    # Reading

    @property
    def held(self) -> int:
        return self.state.held

    @property
    def sign(self) -> int:
        """Of the position."""
        return self.state.gtt.transaction_type.sign

    def rule(self, leg: Leg) -> RuleState | None:
        return self.state.gtt.rule(leg)

    def is_in(self, leg: Leg, *statuses: RuleStatus) -> bool:
        rule = self.rule(leg)
        return rule is not None and rule.status in statuses

    def is_over(self, leg: Leg) -> bool:
        """It does not exist, or not any more."""
        rule = self.rule(leg)
        return rule is None or rule.status in FINAL_RULE

    def entries(self) -> list[ChildState]:
        return [child for child in self.state.children if child.leg is Leg.ENTRY]

    def exits(self) -> list[ChildState]:
        """Those that may still be filled."""
        return [child for child in self.state.children if child.leg is not Leg.ENTRY and child.live]

    def entering(self) -> bool:
        return any(child.live for child in self.entries())

    def works(self) -> Leg | None:
        """The exit that is under way; a stop goes before a target."""
        under_way = (RuleStatus.TRIGGERED, RuleStatus.OPEN)
        return next((leg for leg in EXITS if self.is_in(leg, *under_way)), None)

    # Changing

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def put(self, **fields: Any) -> None:
        self.state = self.state.model_copy(update=fields)

    def put_gtt(self, **fields: Any) -> None:
        self.put(gtt=self.state.gtt.model_copy(update=fields))

    def put_rule(self, leg: Leg, **fields: Any) -> None:
        rules = self.state.gtt.rules
        self.put_gtt(rules=tuple(r.model_copy(update=fields) if r.strategy is leg else r for r in rules))

    def move(self, leg: Leg, event: RuleEvent, message: str | None = None) -> None:
        """Along the table. Raises Illegal."""
        rule = self.rule(leg)
        if rule is None:
            return
        fields: dict[str, Any] = {"status": after(rule.status, event)}
        if message is not None:
            fields["message"] = message
        self.put_rule(leg, **fields)

    def end(self, leg: Leg, event: RuleEvent, message: str) -> None:
        """Where it has not ended."""
        if not self.is_over(leg):
            self.move(leg, event, message)

    def put_child(self, child: ChildState, **fields: Any) -> ChildState:
        new = child.model_copy(update=fields)
        self.put(children=tuple(new if c.order_id == new.order_id else c for c in self.state.children))
        return new

    def place(self, leg: Leg, quantity: int, price: Decimal, protection: Decimal | None, widened: int = 0) -> None:
        """Orders for so many units: more than one where the exchange takes no such order."""
        terms = self.state.terms
        most = max(terms.lot, terms.freeze // terms.lot * terms.lot) if terms.freeze else quantity
        gtt = self.state.gtt
        side = gtt.transaction_type if leg is Leg.ENTRY else self.state.exit_side
        while quantity > 0:
            attempt = self.state.attempts + 1
            intent_id = f"gtt:{gtt.gtt_order_id}:{leg.value}:{attempt}"
            child = ChildState(
                order_id=order_id_of(intent_id), intent_id=intent_id, leg=leg, attempt=attempt, side=side,
                quantity=min(quantity, most), price=price, widened=widened,
            )  # fmt: skip
            self.put(children=(*_kept(self.state.children), child), attempts=attempt)
            self.put_rule(leg, order_id=child.order_id)
            self.act(self.placing(child, protection))
            quantity -= child.quantity

    def placing(self, child: ChildState, protection: Decimal | None) -> PlaceChild:
        return PlaceChild(
            order_id=child.order_id, intent_id=child.intent_id, leg=child.leg, attempt=child.attempt, side=child.side,
            quantity=child.quantity, product=self.state.gtt.product, order_type=OrderType.LIMIT, price=child.price,
            trigger_price=ZERO, protection=protection, reduces=child.side is not self.state.gtt.transaction_type,
        )  # fmt: skip

    def leave(self, child: ChildState) -> None:
        """It is to be cancelled."""
        if child.live and not child.leaving:
            self.put_child(child, leaving=True, wanted=None, asked_ts=0, asked=0)

    def want(self, child: ChildState, price: Decimal, **fields: Any) -> None:
        """It is to have another price."""
        if child.live and not child.leaving and price != (child.price if child.wanted is None else child.wanted):
            self.put_child(child, wanted=price, asked_ts=0, asked=0, **fields)

    def ask(self) -> None:
        """For what is to happen to orders and has not been asked for."""
        for child in self.state.children:
            if not child.live or child.asked_ts:
                continue
            if child.leaving:
                self.act(CancelChild(child.order_id))
            elif child.wanted is not None and child.wanted != child.price and child.status in _ON_THE_BOOK:
                self.act(ChangeChild(child.order_id, child.quantity, child.wanted, ZERO))
            else:
                continue
            self.put_child(child, asked_ts=self.ts_ms, asked=child.asked + 1)


def _kept(children: tuple[ChildState, ...]) -> tuple[ChildState, ...]:
    if len(children) < _CHILDREN_MAX:
        return children
    over = [child.order_id for child in children if not child.live][: len(children) - _CHILDREN_MAX + 1]
    return tuple(child for child in children if child.order_id not in over)
