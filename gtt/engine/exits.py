"""The exits of a GTT: one cancels the other, and what is held is never without one. Pure.

Nothing of an exit rests at the exchange until its price is there: so TARGET and STOPLOSS cannot both be filled. When
the target's order rests there unfilled and the price comes down to the stop, the stop takes that very order over, by
changing its price: one order, so never two fills, and no moment without. Where the venue does not change it, it is
cancelled, and the stop's own order goes out with the news that it is gone.

At any time the units that exit orders may still fill are at most those that are held.
"""

from decimal import Decimal
from typing import Final

from gtt.engine.draft import Draft
from gtt.engine.entry import told, trail
from gtt.engine.prices import at_trigger, limit, width
from gtt.engine.state import Alert, ChildState, Hit
from gtt.engine.table import Illegal, RuleEvent
from schemas.gtt import Leg, RuleStatus
from schemas.orders import OrderStatus

_BACKOFF_FIRST_MS: Final = 250
_BACKOFF_MAX_MS: Final = 30_000
#: So many exit orders refused in a row, and a person is called.
ALERT_AFTER: Final = 3


def hit_exit(draft: Draft, hit: Hit) -> None:
    rule = draft.rule(hit.leg)
    if rule is None or rule.status is not RuleStatus.PENDING or draft.held <= 0:
        raise Illegal(f"the {hit.leg.value} waits for no price")
    beyond = (hit.price - rule.trigger_price) * draft.sign  # on the side of profit
    if hit.leg is Leg.STOPLOSS and beyond > 0 and rule.trailing_gap is not None:
        trail(draft, hit.price)
    elif (beyond < 0) if hit.leg is Leg.TARGET else (beyond > 0):
        raise Illegal(f"{hit.price} is not at the {hit.leg.value} of {rule.trigger_price}")
    elif hit.leg is Leg.TARGET and (draft.works() or draft.state.retry_ts):
        raise Illegal("another exit is under way")
    else:
        draft.move(hit.leg, RuleEvent.HIT, told(hit))
        if hit.leg is Leg.STOPLOSS:
            draft.put(retry_ts=0, refusals=0)


def work(draft: Draft) -> None:
    """Takes the exit that is under way on: orders for all that is held, at its price."""
    leg = draft.works()
    if leg is None or (draft.state.closing and not draft.state.keep_exits):
        return
    for child in draft.entries():
        draft.leave(child)  # no more of what is being closed
    if leg is Leg.STOPLOSS:
        _take_over(draft)
    _not_more_than_held(draft)
    missing = draft.held - sum(child.rest for child in draft.exits())
    if missing > 0 and not draft.state.retry_ts:
        _place(draft, leg, missing)
    if draft.is_in(leg, RuleStatus.TRIGGERED) and any(
        child.leg is leg and child.status in (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING) for child in draft.exits()
    ):
        draft.move(leg, RuleEvent.LIVE)
    stops = [child for child in draft.exits() if child.leg is Leg.STOPLOSS]
    if stops and not draft.state.chase_ts:
        draft.put(chase_ts=draft.ts_ms + draft.state.terms.chase_ms)
    elif not stops:
        draft.put(chase_ts=0)


def _take_over(draft: Draft) -> None:
    """A stop has been hit while orders of the target rest."""
    for child in draft.exits():
        if child.leg is not Leg.TARGET:
            continue
        if child.fixed or child.status is OrderStatus.CHECKED:
            draft.leave(child)
        elif child.wanted is None:
            draft.want(child, stop_price(draft, 0)[0])
    if draft.held > 0 and not any(child.leg is Leg.TARGET for child in draft.exits()):
        draft.end(Leg.TARGET, RuleEvent.CANCELLED, "the STOPLOSS was hit")


def _not_more_than_held(draft: Draft) -> None:
    """What others have closed is not closed again."""
    staying = [child for child in draft.exits() if not child.leaving]
    surplus = sum(child.rest for child in staying) - draft.held
    for child in reversed(staying):
        if surplus > 0:
            draft.leave(child)
            surplus -= child.rest


def _place(draft: Draft, leg: Leg, quantity: int) -> None:
    rule = draft.rule(leg)
    if rule is None:
        return
    if leg is Leg.STOPLOSS:
        price, percent = stop_price(draft, 0)
    else:
        price, percent = at_trigger(rule, draft.state.exit_side, draft.state.terms)
    draft.place(leg, quantity, price, percent)


def stop_price(draft: Draft, widened: int) -> tuple[Decimal, Decimal]:
    """Limit and percent, from the price of now."""
    state, rule = draft.state, draft.rule(Leg.STOPLOSS)
    if rule is None:
        raise Illegal("there is no STOPLOSS")
    now = state.last if state.last is not None else rule.trigger_price
    percent = width(rule, now, state.terms, widened)
    price = limit(state.exit_side, now, percent, state.terms.tick)
    if draft.band is not None:
        price = min(max(price, draft.band[0]), draft.band[1])
    return price, percent


def chase(draft: Draft) -> None:
    """Stop orders that are not filled: the limit moves after the price, with more protection each time. Only ever
    further, so that an order never gets worse at being filled."""
    state = draft.state
    if not state.chase_ts or draft.ts_ms < state.chase_ts:
        return
    draft.put(chase_ts=0)
    rule = draft.rule(Leg.STOPLOSS)
    if rule is None or not draft.is_in(Leg.STOPLOSS, RuleStatus.TRIGGERED, RuleStatus.OPEN):
        return
    for child in draft.exits():
        if child.leg is not Leg.STOPLOSS or child.leaving or child.wanted is not None:
            continue
        if child.status not in (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING):
            continue
        price, _ = stop_price(draft, child.widened + 1)
        if (price - child.price) * child.side.sign <= 0:
            continue
        if child.fixed:
            draft.leave(child)
        else:
            draft.want(child, price, widened=child.widened + 1)


def lost(draft: Draft, child: ChildState, reason: str, again_ts: int = 0) -> None:
    """An exit's order is over without having filled all, and not because we wanted it."""
    leg = child.leg
    draft.put_rule(leg, message=reason)
    if leg is Leg.TARGET and draft.works() is Leg.STOPLOSS:
        return  # it was being taken over: the stop's own order goes out now
    refusals = draft.state.refusals + 1
    wait_ms = min(_BACKOFF_MAX_MS, _BACKOFF_FIRST_MS * 2 ** min(refusals - 1, 20))
    draft.put(refusals=refusals, retry_ts=max(draft.ts_ms + wait_ms, again_ts))
    if refusals == ALERT_AFTER:
        what = f"{refusals} exit orders in a row have failed, the last one: {reason}"
        draft.act(Alert(f"{what}. {draft.held} units are held; it goes on trying"))
    if not draft.is_in(leg, RuleStatus.TRIGGERED, RuleStatus.OPEN):
        return
    if leg is Leg.STOPLOSS:
        draft.move(leg, RuleEvent.AGAIN)
    elif not any(other.leg is Leg.TARGET for other in draft.exits()):
        draft.move(leg, RuleEvent.REARMED)


def taken_over(draft: Draft, child: ChildState) -> ChildState:
    """The venue has given the target's order the stop's price."""
    child = draft.put_child(child, leg=Leg.STOPLOSS)
    draft.put_rule(Leg.STOPLOSS, order_id=child.order_id)
    return child
