"""Orders that a GTT of the venue has placed, found on the book: they have no tag, and whoever was away when they were
told of has only what they are to go by. Pure.
"""

from typing import Final

from gtt.book import facts
from gtt.desk.here import Here
from gtt.engine import venue_gtts
from gtt.engine.state import FINAL_RULE
from schemas.gtt import Gtt, Leg
from schemas.orders import Order, Product, Side, TradingMode

_UNLINKED_MAX: Final = 1_000

_What = tuple[TradingMode, str, Side, int, Product]


def link(here: Here, gtt: Gtt, order_id: str, leg: Leg) -> None:
    here.emit(
        facts.Linked(
            ts=here.now_ms,
            account=gtt.mode,
            order_id=order_id,
            gtt_id=gtt.gtt_order_id,
            strategy=gtt.strategy,
            reduces=leg is not Leg.ENTRY,
        )
    )


def remember(here: Here, gtt: Gtt, venue_order_id: str, leg: Leg) -> None:
    """A rule has an order that is not on our book yet."""
    unlinked = here.runtime[gtt.mode].unlinked
    unlinked[venue_order_id] = (gtt.gtt_order_id, leg)
    while len(unlinked) > _UNLINKED_MAX:
        del unlinked[next(iter(unlinked))]


def known_now(here: Here, order: Order) -> Gtt | None:
    """An order has come onto our book: the GTT that it was told to be of, with it."""
    runtime = here.runtime.get(order.mode)
    gtt_id, leg = runtime.unlinked.pop(order.venue_order_id, ("", Leg.ENTRY)) if runtime else ("", Leg.ENTRY)
    record = here.book.gtts.get(gtt_id)
    if record is None:
        return None
    link(here, record.state.gtt, order.order_id, leg)
    return _with(record.state.gtt, leg, order)


def with_its_orders(here: Here, gtt: Gtt) -> Gtt:
    """Of one that is over: the orders of rules that nobody told us of."""
    entry = gtt.rule(Leg.ENTRY)
    if entry is not None and not entry.order_id and entry.status not in FINAL_RULE:
        wanted = (gtt.mode, gtt.instrument, gtt.transaction_type, gtt.quantity, gtt.product)
        gtt = _found(here, gtt, unasked(here, wanted, gtt.created_at // 1000 - venue_gtts.SKEW_MS)[:1])
    known = any(rule.order_id for rule in gtt.rules if rule.strategy is not Leg.ENTRY)
    if known or gtt.entered <= 0:
        return gtt
    wanted = (gtt.mode, gtt.instrument, gtt.transaction_type.other, gtt.entered, gtt.product)
    return _found(here, gtt, unasked(here, wanted, gtt.created_at // 1000 - venue_gtts.SKEW_MS)[:1])


def _found(here: Here, gtt: Gtt, orders: list[Order]) -> Gtt:
    for order in orders:
        leg = Leg.ENTRY if order.side is gtt.transaction_type else venue_gtts.leg_of(gtt, order)
        if leg is not None:
            link(here, gtt, order.order_id, leg)
            gtt = _with(gtt, leg, order)
            filled = "entered" if leg is Leg.ENTRY else "exited"
            gtt = gtt.model_copy(update={filled: max(getattr(gtt, filled), order.filled_quantity)})
    return gtt


def unasked(here: Here, wanted: _What, since_ts: int) -> list[Order]:
    """Orders of the venue's account that neither we nor a GTT that we know of has asked for, and that we have heard of
    since then: by our own clock, for the venue's may be another."""
    found = (held.order for held in here.book.orders.values() if held.foreign and not held.order.gtt_id)
    return [order for order in found if order.ts >= since_ts and _what(order) == wanted]


def _what(order: Order) -> _What:
    return order.mode, order.instrument, order.side, order.quantity, order.product


def _with(gtt: Gtt, leg: Leg, order: Order) -> Gtt:
    found = {"order_id": order.order_id}
    rules = tuple(rule.model_copy(update=found) if rule.strategy is leg else rule for rule in gtt.rules)
    return gtt.model_copy(update={"rules": rules})
