"""What its orders tell a GTT. Pure."""

from decimal import Decimal
from typing import Any

from gtt.engine.draft import Draft
from gtt.engine.exits import lost, stop_price, taken_over
from gtt.engine.state import Alert, Child, ChildRefused, ChildState
from gtt.engine.table import Illegal, RuleEvent
from schemas.gtt import Leg, RuleStatus
from schemas.orders import Order, OrderStatus

_HALF_A_PAISA = Decimal("0.005")  # averages are rounded
#: Where nothing is at the exchange yet, as far as is known.
_NOT_THERE = (OrderStatus.CHECKED, OrderStatus.SENDING, OrderStatus.UNKNOWN)


def told_child(draft: Draft, event: Child) -> None:
    """An order as it stands. What is known better stays: fills only grow, what is over stays over."""
    order = event.order
    before = draft.state.child(order.order_id)
    if before is None:
        raise Illegal(f"{order.order_id} is no order of this GTT")
    child = _merged(draft, before, order)
    new = child.filled - before.filled
    if new:
        _filled(draft, child, new)
    if not before.live and new:
        draft.act(Alert(f"the order {child.order_id} was over, and {new} more units of it were filled"))
    ended_by_others = before.live and not child.live and child.filled < child.quantity and not child.leaving
    if not ended_by_others:
        return
    reason = order.reason or f"its order was {child.status.value}"
    if child.leg is Leg.ENTRY:
        draft.put_rule(Leg.ENTRY, message=reason)
    else:
        lost(draft, child, reason)


def _merged(draft: Draft, before: ChildState, order: Order) -> ChildState:
    fields: dict[str, Any] = {}
    if order.filled_quantity > before.filled:
        fields = {"filled": order.filled_quantity, "average_price": order.average_price}
    if before.live:
        fields |= {"status": order.status, "quantity": order.quantity}
        if order.price > 0 and order.pending != "modify":
            fields["price"] = order.price
        if before.wanted is not None and _is_beyond(before, order):
            fields["price"] = before.wanted  # it was changed, though nobody has said so yet
    child = draft.put_child(before, **fields)
    if child.wanted is not None and child.price == child.wanted:
        child = draft.put_child(child, wanted=None, asked_ts=0)
        if child.leg is Leg.TARGET and draft.works() is Leg.STOPLOSS:
            child = taken_over(draft, child)
    return child


def _is_beyond(before: ChildState, order: Order) -> bool:
    """Whether its new fills are at a price that its limit forbids."""
    new = order.filled_quantity - before.filled
    if new <= 0 or not order.average_price:
        return False
    value = order.average_price * order.filled_quantity - before.average_price * before.filled
    return (value / new - before.price) * before.side.sign > _HALF_A_PAISA


def _filled(draft: Draft, child: ChildState, new: int) -> None:
    gtt = draft.state.gtt
    if child.leg is Leg.ENTRY:
        draft.put_gtt(entered=gtt.entered + new)
        if draft.state.last is None:
            draft.put(last=child.average_price or child.price)
    else:
        draft.put_gtt(exited=gtt.exited + new)
        draft.put(exited_by=child.leg, refusals=0)


def refused_child(draft: Draft, event: ChildRefused) -> None:
    """What was asked for an order did not happen."""
    child = draft.state.child(event.order_id)
    if child is None:
        raise Illegal(f"{event.order_id} is no order of this GTT")
    if not child.live:
        return
    if event.what != "place":
        _not_done(draft, child, event)
        return
    if child.status not in _NOT_THERE:
        raise Illegal(f"the order {child.order_id} is {child.status.value}, and was refused: {event.reason}")
    child = draft.put_child(child, status=OrderStatus.REJECTED)
    if child.leg is Leg.ENTRY:
        draft.put_rule(Leg.ENTRY, message=event.reason)
    elif not event.final:
        if not child.leaving:
            lost(draft, child, event.reason, event.again_ts)
    elif draft.is_in(child.leg, RuleStatus.TRIGGERED, RuleStatus.OPEN):
        draft.move(child.leg, RuleEvent.REFUSED, event.reason)
        if child.leg is Leg.STOPLOSS:
            draft.end(Leg.TARGET, RuleEvent.CANCELLED, f"the STOPLOSS was refused: {event.reason}")


def _not_done(draft: Draft, child: ChildState, event: ChildRefused) -> None:
    """It was not changed, or not cancelled. That is asked for again, until the order is over or cannot be changed: then
    an exit is cancelled instead, and follows anew."""
    if not (event.final and event.what == "change"):
        draft.put_child(child, asked_ts=draft.ts_ms)
        return
    child = draft.put_child(child, fixed=True, wanted=None, asked_ts=0)
    if child.leg is not Leg.ENTRY:
        draft.leave(child)
        return
    what = f"the price of its order stays {child.price.normalize():f}: {event.reason}"
    draft.put_rule(Leg.ENTRY, message=what)
    draft.act(Alert(f"the ENTRY was changed, but {what}"))


def without_order(draft: Draft, missing: frozenset[str]) -> None:
    """After a restart there is no order of these. What is still wanted is asked for again, under the same id."""
    for child in draft.state.children:
        if not child.live or child.order_id not in missing:
            continue
        if child.leaving:
            draft.put_child(child, status=OrderStatus.CANCELLED)
            continue
        if child.leg is Leg.STOPLOSS:
            child = draft.put_child(child, price=stop_price(draft, child.widened)[0])
        draft.act(draft.placing(child, None))
