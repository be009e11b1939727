"""A GTT that the venue runs, as ours: its tellings merged into what we know, found again where its answer was lost.
Pure.

A telling may be old: the stream promises no order. So a rule only moves forward in `RANK`; what has ended stays ended;
a trailing stop only gets tighter. A telling that was asked for, from the list, says how things are now: its prices and
its set of rules are believed as they stand.

Of a rule whose order we know, the order says more than the venue's word for the rule: a SINGLE is COMPLETED there once
its order is placed, and here once it is filled.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from brokers.venue import VenueGtt
from gtt.engine.state import EXITS, FINAL_RULE
from schemas.gtt import Gtt, Leg, RuleState, RuleStatus, TriggerType
from schemas.orders import Order, OrderStatus, OrderType

RANK: Final[Mapping[RuleStatus, int]] = {
    RuleStatus.SCHEDULED: 0,
    RuleStatus.INACTIVE: 0,
    RuleStatus.PENDING: 1,
    RuleStatus.TRIGGERED: 2,
    RuleStatus.OPEN: 3,
    **dict.fromkeys(FINAL_RULE, 4),
}

#: Of an order that is at the exchange, or was.
_BY_ORDER: Final[Mapping[OrderStatus, RuleStatus]] = {
    OrderStatus.OPEN: RuleStatus.OPEN,
    OrderStatus.TRIGGER_PENDING: RuleStatus.OPEN,
    OrderStatus.COMPLETE: RuleStatus.COMPLETED,
    OrderStatus.REJECTED: RuleStatus.FAILED,
    OrderStatus.CANCELLED: RuleStatus.CANCELLED,
}

#: Between our clock and the venue's.
SKEW_MS: Final = 5_000
_GONE: Final = "no more among the venue's live GTTs"


@dataclass(frozen=True, slots=True)
class Orders:
    """Where to look orders up: by the venue's id, and by ours. None: not known (yet)."""

    at_venue: Callable[[str], Order | None]
    ours: Callable[[str], Order | None]


def merge(gtt: Gtt, told: VenueGtt, orders: Orders, *, listed: bool) -> Gtt:
    """What we know after a telling. `listed`: it was asked for, so it is how things are now."""
    rules = tuple(_merged(rule, told, orders, listed=listed) for rule in gtt.rules)
    changed: dict[str, Any] = {"expires_at": told.expires_us or gtt.expires_at}
    if listed:
        known = {rule.strategy for rule in rules}
        rules += tuple(_new(rule, orders) for rule in told.rules if rule.strategy not in known)
        changed |= {"quantity": told.quantity, "type": told.type}
    return by_orders(gtt.model_copy(update={**changed, "rules": rules}), orders)


def _merged(rule: RuleState, told: VenueGtt, orders: Orders, *, listed: bool) -> RuleState:
    theirs = next((one for one in told.rules if one.strategy is rule.strategy), None)
    if rule.status in FINAL_RULE:
        theirs_id = theirs.order_id if theirs is not None and not rule.order_id else None
        order = orders.at_venue(theirs_id) if theirs_id else None
        return rule.model_copy(update={"order_id": order.order_id}) if order else rule
    if theirs is None:  # changed away, where the telling is one of now
        gone = {"status": RuleStatus.CANCELLED, "message": "taken away by a change"}
        return rule.model_copy(update=gone) if listed else rule
    fields: dict[str, Any] = {}
    order = orders.at_venue(theirs.order_id) if theirs.order_id else None
    if order is not None:
        fields["order_id"] = order.order_id
    status = theirs.status
    if status is RuleStatus.COMPLETED and theirs.order_id and order is None and not listed:
        status = RuleStatus.OPEN  # what its order has come to is still to be read
    if RANK[status] > RANK[rule.status]:
        fields |= {"status": status, "message": theirs.message}
    if listed:
        names = ("trigger_price", "trigger_type", "trailing_gap")
        fields |= {name: getattr(theirs, name) for name in names}
    elif rule.trailing_gap is not None:
        tighter = min if rule.transaction_type.sign > 0 else max  # one that sells moves up
        fields["trigger_price"] = tighter(rule.trigger_price, theirs.trigger_price)
    return _by_order(rule.model_copy(update=fields), order)


def _new(theirs: RuleState, orders: Orders) -> RuleState:
    order = orders.at_venue(theirs.order_id) if theirs.order_id else None
    return theirs.model_copy(update={"order_id": order.order_id if order else None})


def by_orders(gtt: Gtt, orders: Orders) -> Gtt:
    """What its orders say of it; also after news of one of them."""
    found = {rule.strategy: orders.ours(rule.order_id) for rule in gtt.rules if rule.order_id}
    rules = tuple(
        rule if rule.status in FINAL_RULE else _by_order(rule, found.get(rule.strategy)) for rule in gtt.rules
    )
    filled = {leg: order.filled_quantity for leg, order in found.items() if order is not None}
    return gtt.model_copy(
        update={
            "rules": rules,
            "entered": max(gtt.entered, filled.get(Leg.ENTRY, 0)),
            "exited": max(gtt.exited, sum(filled.get(leg, 0) for leg in EXITS)),
            "live": any(rule.status not in FINAL_RULE for rule in rules),
        }
    )


def _by_order(rule: RuleState, order: Order | None) -> RuleState:
    """A known order decides, from when it is at the exchange on."""
    if order is None:
        return rule
    status = _BY_ORDER.get(order.status, RuleStatus.TRIGGERED)
    if RANK[status] < RANK[rule.status] < RANK[RuleStatus.COMPLETED]:
        return rule
    return rule.model_copy(update={"status": status, "message": order.reason or rule.message})


def absent(gtt: Gtt, orders: Orders, *, now_ms: int) -> Gtt:
    """It is not among the venue's live ones, which hide what is finished: how it ended its orders say. One that is
    still at the exchange keeps it alive here; a rule without an order did nothing."""
    gtt = by_orders(gtt, orders)
    status = RuleStatus.EXPIRED if now_ms * 1000 >= gtt.expires_at else RuleStatus.CANCELLED
    rules = tuple(
        rule
        if rule.status in FINAL_RULE or (rule.order_id and orders.ours(rule.order_id))
        else rule.model_copy(update={"status": status, "message": rule.message or _GONE})
        for rule in gtt.rules
    )
    return gtt.model_copy(update={"rules": rules, "live": any(rule.status not in FINAL_RULE for rule in rules)})


def leg_of(gtt: Gtt, order: Order) -> Leg | None:
    """Which exit an order is of: a stop is one there too; else the one whose trigger is nearer to its limit."""
    exits = [rule for rule in gtt.rules if rule.strategy is not Leg.ENTRY]
    if order.order_type in (OrderType.SL, OrderType.SL_M):
        exits = [rule for rule in exits if rule.strategy is Leg.STOPLOSS]
    return min(exits, key=lambda rule: abs(rule.trigger_price - order.price)).strategy if exits else None


def unguarded(gtt: Gtt) -> int:
    """Units that its entry has filled while the venue's exits still wait for the rest: `machine.protect_rest`."""
    exits = [rule for rule in gtt.rules if rule.strategy is not Leg.ENTRY]
    if gtt.entered >= gtt.quantity:
        return 0  # the venue arms them at this moment
    if not exits or any(rule.status is not RuleStatus.INACTIVE for rule in exits):
        return 0
    return max(0, gtt.entered - gtt.exited)


def fitting(gtt: Gtt, told: Iterable[VenueGtt], *, sent_ms: int, claimed: Collection[str]) -> list[VenueGtt]:
    """Of the venue's GTTs those that may be this one, whose answer was lost: by what it is, made since it was sent, and
    not known as another one of ours. The oldest first."""
    found = [one for one in told if one.venue_gtt_id not in claimed and _fits(gtt, one, sent_ms)]
    return sorted(found, key=lambda one: (one.created_us, one.venue_gtt_id))


def _fits(gtt: Gtt, told: VenueGtt, sent_ms: int) -> bool:
    if told.created_us // 1000 < sent_ms - SKEW_MS:
        return False
    theirs = (told.instrument, told.side, told.quantity, told.product, told.type)
    if theirs != (gtt.instrument, gtt.transaction_type, gtt.quantity, gtt.product, gtt.type):
        return False
    rules = {rule.strategy: rule for rule in told.rules}
    return len(rules) == len(gtt.rules) and all(
        rule.strategy in rules and _same(rule, rules[rule.strategy]) for rule in gtt.rules
    )


def _same(ours: RuleState, theirs: RuleState) -> bool:
    """A trailing stop may have moved on meanwhile. An entry that has fired may be told as IMMEDIATE."""
    if ours.trailing_gap != theirs.trailing_gap:
        return False
    if ours.strategy is Leg.ENTRY and theirs.trigger_type not in (ours.trigger_type, TriggerType.IMMEDIATE):
        return False
    ahead = (theirs.trigger_price - ours.trigger_price) * -ours.transaction_type.sign
    return ahead == 0 or (ours.trailing_gap is not None and ahead > 0)
