"""The entry of a GTT: its orders, and what they make of its rules. Pure."""

from decimal import Decimal

from gtt.engine.draft import Draft
from gtt.engine.prices import at_trigger, follows
from gtt.engine.state import EXITS, Hit
from gtt.engine.table import Illegal, RuleEvent
from schemas.gtt import Leg, RuleState, RuleStatus, TriggerType
from schemas.money import ZERO
from schemas.orders import OrderStatus

_AT_THE_EXCHANGE = (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING, OrderStatus.COMPLETE)


def is_there(rule: RuleState, price: Decimal) -> bool:
    """Whether the price is where an ENTRY waits for it."""
    if rule.trigger_type is TriggerType.ABOVE:
        return price >= rule.trigger_price
    if rule.trigger_type is TriggerType.BELOW:
        return price <= rule.trigger_price
    return True


def enter(draft: Draft, message: str = "") -> None:
    """Its condition is met: the order goes out, limit the trigger and its protection, wherever the price is now."""
    rule = draft.rule(Leg.ENTRY)
    if rule is None:
        return
    draft.move(Leg.ENTRY, RuleEvent.HIT, message)
    gtt = draft.state.gtt
    price, percent = at_trigger(rule, gtt.transaction_type, draft.state.terms)
    draft.place(Leg.ENTRY, gtt.quantity, price, percent)


def hit_entry(draft: Draft, hit: Hit) -> None:
    rule = draft.rule(Leg.ENTRY)
    if rule is None or rule.status is not RuleStatus.SCHEDULED:
        raise Illegal("the ENTRY waits for no price")
    if not is_there(rule, hit.price):
        raise Illegal(f"{hit.price} is not {rule.trigger_type.value} {rule.trigger_price}")
    enter(draft, told(hit))


def told(hit: Hit) -> str:
    """For people: which price it was, and whether it came in a way that surprises."""
    how = [word for word, so in (("seen late", hit.late), ("after a pause of the feed", hit.gap)) if so]
    return ", ".join([f"the price was {hit.price.normalize():f}", *how])


def settle_entry(draft: Draft) -> None:
    """What its orders have come to."""
    children = draft.entries()
    if not children or draft.is_over(Leg.ENTRY):
        return
    gtt = draft.state.gtt
    if draft.is_in(Leg.ENTRY, RuleStatus.TRIGGERED) and any(
        child.filled or child.status in _AT_THE_EXCHANGE for child in children
    ):
        draft.move(Leg.ENTRY, RuleEvent.LIVE)
    if draft.entering():
        return
    if gtt.entered >= gtt.quantity:
        draft.move(Leg.ENTRY, RuleEvent.FILLED)
        return
    rule = draft.rule(Leg.ENTRY)
    why = rule.message if rule else ""
    if gtt.entered:
        why = f"{gtt.entered} of {gtt.quantity} units were entered" + (f": {why}" if why else "")
    asked = draft.state.closing or draft.state.lapsed or gtt.entered or draft.works()
    rejected = any(child.status is OrderStatus.REJECTED for child in children)
    if draft.state.lapsed and not draft.state.closing:
        draft.move(Leg.ENTRY, RuleEvent.EXPIRED, why)
    elif rejected and not asked:
        draft.move(Leg.ENTRY, RuleEvent.REFUSED, why)
    else:
        draft.move(Leg.ENTRY, RuleEvent.CANCELLED, why)


def arm(draft: Draft) -> None:
    """As soon as anything is held, the exits wait for their prices, for as much as is held."""
    if draft.held <= 0:
        return
    for leg in EXITS:
        if draft.is_in(leg, RuleStatus.INACTIVE):
            draft.move(leg, RuleEvent.ARMED)
            if leg is Leg.STOPLOSS:
                trail(draft, _bought_at(draft))


def _bought_at(draft: Draft) -> Decimal | None:
    """The first price that a trailing stop knows: that of the fill. The last trade may be one from before the entry."""
    bought = [child for child in draft.entries() if child.filled and child.average_price]
    if not bought:
        return draft.state.last
    value = sum((child.average_price * child.filled for child in bought), ZERO)
    return round(value / sum(child.filled for child in bought), 4)


def trail(draft: Draft, price: Decimal | None) -> None:
    """A trailing stop follows the best price since it was armed."""
    rule = draft.rule(Leg.STOPLOSS)
    if price is None or rule is None or rule.trailing_gap is None or rule.status is not RuleStatus.PENDING:
        return
    best = draft.state.best
    if best is not None and (price - best) * draft.sign <= 0:
        return
    draft.put(best=price)
    tick = draft.state.terms.tick
    stop = follows(draft.sign, rule.trigger_price, price, rule.trailing_gap, tick)
    if stop != rule.trigger_price:
        draft.put_rule(Leg.STOPLOSS, trigger_price=stop)
