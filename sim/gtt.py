"""A GTT order of the venue as a machine: what it waits for, what it sends, what becomes of it. Pure.

It never changes: each step gives another `Gtt` and the actions that follow, which somebody else carries out and tells
back with `told` or `refused`. The venue documents rule states by name only; how they follow one another is our reading
of it, written down in `NEXT` and in docs/simulator.md:

- SINGLE is finished when its order is at the exchange. What the order does then, the order book tells.
- MULTIPLE enters first. Its exits are INACTIVE until then, and armed (PENDING) for what the entry has filled.
- An exit that fires cancels the other one at once, whether or not its own order ever fills.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

from market.instruments import Instrument
from schemas.gtt import GttType, Leg, RuleStatus, TriggerType
from schemas.orders import Side
from sim import orders
from sim.orders import Order

NEXT: Final[Mapping[RuleStatus, frozenset[RuleStatus]]] = {
    RuleStatus.SCHEDULED: frozenset({RuleStatus.TRIGGERED, RuleStatus.CANCELLED, RuleStatus.EXPIRED}),
    RuleStatus.INACTIVE: frozenset({RuleStatus.PENDING, RuleStatus.CANCELLED, RuleStatus.EXPIRED}),
    RuleStatus.PENDING: frozenset({RuleStatus.TRIGGERED, RuleStatus.CANCELLED, RuleStatus.EXPIRED}),
    RuleStatus.TRIGGERED: frozenset(
        {RuleStatus.OPEN, RuleStatus.COMPLETED, RuleStatus.FAILED, RuleStatus.CANCELLED, RuleStatus.EXPIRED}
    ),
    RuleStatus.OPEN: frozenset({RuleStatus.COMPLETED, RuleStatus.FAILED, RuleStatus.CANCELLED, RuleStatus.EXPIRED}),
}
#: Something may still become of a rule in these.
LIVE: Final = frozenset(NEXT)
_FIRED: Final = frozenset({RuleStatus.TRIGGERED, RuleStatus.OPEN, RuleStatus.COMPLETED, RuleStatus.FAILED})

_SENT: Final = frozenset({orders.Status.OPEN, orders.Status.TRIGGER_PENDING, *orders.AFTER_MARKET})
_CANCELLED: Final = frozenset({orders.Status.CANCELLED, orders.Status.AFTER_MARKET_CANCELLED})


class IllegalStep(Exception):
    """A rule was to go where the table has no way: a bug."""


class NotLive(Exception):
    """Nothing can become of this GTT any more, or not that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A rule as it is asked for."""

    strategy: Leg
    trigger_type: TriggerType
    trigger_price: Decimal
    trailing_gap: Decimal | None = None
    market_protection: Decimal | None = None  # percent; -1: the venue's table


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    terms: Terms
    side: Side
    status: RuleStatus
    message: str = ""
    order_id: str | None = None
    filled: int = 0  # units of its order

    @property
    def leg(self) -> Leg:
        return self.terms.strategy

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def sign(self) -> int:
        """1: fires at and above its price, -1: at and below."""
        if self.leg is Leg.ENTRY:
            return 1 if self.terms.trigger_type is TriggerType.ABOVE else -1
        return -self.side.sign if self.leg is Leg.TARGET else self.side.sign

    def became(self, status: RuleStatus, message: str = "", **changes: Any) -> "Rule":
        if status is self.status:
            return replace(self, **changes)
        if status not in NEXT.get(self.status, ()):
            raise IllegalStep(f"{self.leg} from {self.status} to {status}")
        return replace(self, status=status, message=message or self.message, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gtt:
    gtt_order_id: str
    type: GttType
    instrument: Instrument
    product: str
    side: Side  # of the entry
    quantity: int
    created_us: int
    expires_us: int
    rules: tuple[Rule, ...]
    arms_on_fill: bool = False  # exits guard every part of the entry, not only the whole

    @property
    def is_live(self) -> bool:
        return any(rule.is_live for rule in self.rules)

    @property
    def entry(self) -> Rule:
        return self.rule(Leg.ENTRY)

    @property
    def exits(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.leg is not Leg.ENTRY)

    def rule(self, leg: Leg) -> Rule:
        return next(rule for rule in self.rules if rule.leg is leg)

    def of_order(self, order_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.order_id == order_id), None)

    def watched(self) -> list[Rule]:
        """The rules that wait for a price."""
        return [rule for rule in self.rules if rule.status in (RuleStatus.SCHEDULED, RuleStatus.PENDING)]

    def with_rules(self, *changed: Rule) -> "Gtt":
        by_leg = {rule.leg: rule for rule in changed}
        return replace(self, rules=tuple(by_leg.get(rule.leg, rule) for rule in self.rules))


@dataclass(frozen=True, slots=True)
class PlaceChild:
    """Send the order of a rule."""

    leg: Leg
    quantity: int


@dataclass(frozen=True, slots=True)
class CancelChild:
    order_id: str


@dataclass(frozen=True, slots=True)
class RepriceChild:
    leg: Leg
    order_id: str


Action = PlaceChild | CancelChild | RepriceChild
Step = tuple[Gtt, list[Action]]


def rules_of(terms: tuple[Terms, ...], side: Side) -> tuple[Rule, ...]:
    """The rules of a GTT that has sent nothing yet."""
    return tuple(
        Rule(terms=each, side=side, status=RuleStatus.SCHEDULED)
        if each.strategy is Leg.ENTRY
        else Rule(terms=each, side=side.other, status=RuleStatus.INACTIVE)
        for each in terms
    )


def started(gtt: Gtt) -> Step:
    """What a new or rewritten GTT does by itself: an IMMEDIATE entry does not wait."""
    entry = gtt.entry
    if entry.status is RuleStatus.SCHEDULED and entry.terms.trigger_type is TriggerType.IMMEDIATE:
        return fired(gtt, Leg.ENTRY)
    return gtt, []


def fired(gtt: Gtt, leg: Leg) -> Step:
    """The market is where a rule waits for it."""
    rule = gtt.rule(leg).became(RuleStatus.TRIGGERED)
    if leg is Leg.ENTRY:
        return gtt.with_rules(rule), [PlaceChild(leg, gtt.quantity)]
    siblings = [each.became(RuleStatus.CANCELLED) for each in gtt.exits if each.leg is not leg and each.is_live]
    gtt = gtt.with_rules(rule, *siblings)
    if gtt.entry.is_live and gtt.entry.order_id:  # part of it may still enter: first that ends, then we leave
        return gtt, [CancelChild(gtt.entry.order_id)]
    return gtt, [PlaceChild(leg, gtt.entry.filled)]


def trailed(gtt: Gtt, leg: Leg, trigger_price: Decimal) -> Gtt:
    """The stop has followed the market."""
    rule = gtt.rule(leg)
    return gtt.with_rules(replace(rule, terms=replace(rule.terms, trigger_price=trigger_price)))


def placed(gtt: Gtt, leg: Leg, order: Order) -> Step:
    """The order of a rule has a number. It may be finished already."""
    return told(gtt.with_rules(replace(gtt.rule(leg), order_id=order.order_id)), order)


def refused(gtt: Gtt, leg: Leg, message: str) -> Step:
    """The order of a rule was not accepted: the rule has failed, and with it the others."""
    gtt = gtt.with_rules(gtt.rule(leg).became(RuleStatus.FAILED, message))
    return _without_exits(gtt), []


def told(gtt: Gtt, order: Order) -> Step:
    """The order of a rule is where `order` says."""
    rule = gtt.of_order(order.order_id)
    if rule is None:
        return gtt, []
    rule = replace(rule, filled=max(rule.filled, order.filled_quantity))
    gtt = gtt.with_rules(rule)
    if not rule.is_live:
        return gtt, []
    if order.status is orders.Status.REJECTED:
        return refused(gtt, rule.leg, order.status_message)
    gtt = gtt.with_rules(_followed(gtt, rule, order))
    return _after_entry(gtt) if rule.leg is Leg.ENTRY else (gtt, [])


def _followed(gtt: Gtt, rule: Rule, order: Order) -> Rule:
    if order.status is orders.Status.COMPLETE:
        return rule.became(RuleStatus.COMPLETED)
    if order.status in _CANCELLED:
        return rule.became(RuleStatus.CANCELLED, order.status_message or "the order was cancelled")
    if order.status in _SENT and rule.status is RuleStatus.TRIGGERED:
        return rule.became(RuleStatus.COMPLETED if gtt.type is GttType.SINGLE else RuleStatus.OPEN)
    return rule


def _after_entry(gtt: Gtt) -> Step:
    """What the state of the entry means for the exits."""
    entry = gtt.entry
    if _arms(gtt):
        gtt = gtt.with_rules(
            *(each.became(RuleStatus.PENDING) for each in gtt.exits if each.status is RuleStatus.INACTIVE)
        )
    elif not entry.is_live:
        return _without_exits(gtt), []
    if entry.is_live:
        return gtt, []
    waiting = [each for each in gtt.exits if each.status is RuleStatus.TRIGGERED and each.order_id is None]
    return gtt, [PlaceChild(each.leg, entry.filled) for each in waiting]


def _arms(gtt: Gtt) -> bool:
    """Whether there is something to leave again."""
    return gtt.entry.status is RuleStatus.COMPLETED or (gtt.arms_on_fill and gtt.entry.filled > 0)


def _without_exits(gtt: Gtt) -> Gtt:
    return gtt.with_rules(*(each.became(RuleStatus.CANCELLED) for each in gtt.exits if each.is_live))


def ended(gtt: Gtt, status: RuleStatus) -> Step:
    """Cancelled by its user, or expired: its orders at the exchange are cancelled too, a position stays."""
    if not gtt.is_live:
        raise NotLive(gtt.gtt_order_id)
    live = [rule for rule in gtt.rules if rule.is_live]
    cancels: list[Action] = [CancelChild(rule.order_id) for rule in live if rule.order_id]
    return gtt.with_rules(*(rule.became(status) for rule in live)), cancels


def rewritten(gtt: Gtt, kind: GttType, quantity: int, terms: tuple[Terms, ...]) -> Step:
    """Modified before anything was sent: all of it is new."""
    return started(replace(gtt, type=kind, quantity=quantity, rules=rules_of(terms, gtt.side)))


def amended(gtt: Gtt, terms: tuple[Terms, ...]) -> Step:
    """Modified with the entry at the exchange, or filled: its price while it is open, and the exits."""
    if not gtt.is_live or any(rule.status in _FIRED for rule in gtt.exits):
        raise NotLive(gtt.gtt_order_id)
    entry, actions = gtt.entry, list[Action]()
    asked = next(each for each in terms if each.strategy is Leg.ENTRY)
    if entry.is_live and entry.order_id:
        actions = [RepriceChild(Leg.ENTRY, entry.order_id)] if _priced(asked) != _priced(entry.terms) else []
        entry = replace(entry, terms=asked)
    status = RuleStatus.PENDING if _arms(gtt) else RuleStatus.INACTIVE
    exits = (Rule(terms=each, side=gtt.side.other, status=status) for each in terms if each.strategy is not Leg.ENTRY)
    return replace(gtt, rules=(entry, *exits)), actions


def _priced(terms: Terms) -> tuple[Decimal, Decimal | None]:
    return terms.trigger_price, terms.market_protection


def is_open(gtt: Gtt) -> bool:
    """Whether its entry has been sent: then its quantity stands."""
    return gtt.entry.status is not RuleStatus.SCHEDULED


def trailing_stop(rule: Rule, ltp: Decimal, tick: Decimal) -> Decimal:
    """Where the stop of a rule belongs at a price, on the far side of the tick. It never goes back."""
    assert rule.terms.trailing_gap is not None
    if rule.side is Side.SELL:
        return max(rule.terms.trigger_price, on_tick(ltp - rule.terms.trailing_gap, tick, up=False))
    return min(rule.terms.trigger_price, on_tick(ltp + rule.terms.trailing_gap, tick, up=True))


def on_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    steps = (price / tick).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR)
    return steps * tick


def detail(gtt: Gtt) -> dict[str, Any]:
    """A GTT as REST tells it."""
    return {"trading_symbol": gtt.instrument.trading_symbol} | update(gtt)


def update(gtt: Gtt) -> dict[str, Any]:
    """A GTT as the portfolio stream tells it: there it has no symbol."""
    return {
        "type": gtt.type.value,
        "exchange": gtt.instrument.segment,
        "instrument_token": gtt.instrument.key,
        "quantity": gtt.quantity,
        "product": gtt.product,
        "gtt_order_id": gtt.gtt_order_id,
        "created_at": gtt.created_us,
        "expires_at": gtt.expires_us,
        "rules": [_told_rule(rule) for rule in gtt.rules],
    }


def _told_rule(rule: Rule) -> dict[str, Any]:
    gap = rule.terms.trailing_gap
    return {
        "strategy": rule.leg.value,
        "status": rule.status.value,
        "message": rule.message,
        "trigger_type": rule.terms.trigger_type.value,
        "trigger_price": float(rule.terms.trigger_price),
        "transaction_type": rule.side.value,
        "order_id": rule.order_id,
        "trailing_gap": None if gap is None else float(gap),
    }
