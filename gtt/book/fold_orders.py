"""How facts change an order's record. Whatever comes late, twice or out of order changes nothing that is known better:
filled quantities only grow, final states stay, older tellings lose against newer ones. Pure."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from brokers.venue import VenueOrder
from gtt.book import facts, fold_accounts
from gtt.book.book import Book, Call, OrderRecord, Terms
from gtt.book.facts import What
from gtt.book.orders_table import TOLD, WRITTEN_OFF, Happening, after
from gtt.book.touched import Touched
from gtt.risk.exposure import scale_of
from market.charges import plus
from schemas.orders import FINAL, Order, OrderStatus

_PRICE: Final = Decimal("0.000001")
_RETRY_CANCEL_MS: Final = 3_000  # taken, and not done by then: asked for again
_ENDS_FOR_A_REASON: Final = (OrderStatus.CANCELLED, OrderStatus.REJECTED)
_WORKING: Final = (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING)


def approved(book: Book, fact: facts.Approved, done: list[Touched]) -> None:
    for order in fact.orders:
        record = OrderRecord(
            order=order,
            origin=fact.origin,
            reduces=fact.reduces,
            protection=fact.protection,
            reference=fact.reference,
        )
        book.orders[order.order_id] = record
        _touch(book, record, done)


def adopted(book: Book, fact: facts.Adopted, done: list[Touched]) -> None:
    record = OrderRecord(order=fact.order, foreign=True, words=fact.order.status.value)
    book.orders[fact.order.order_id] = record
    _touch(book, record, done)


def cancel_asked(book: Book, fact: facts.CancelAsked, done: list[Touched]) -> None:
    record = book.orders[fact.order_id]
    if record.live:
        record.cancel, record.change, record.cancel_taken = fact.by, None, False
        _change(book, record, fact.ts, done, pending=What.CANCEL.value)


def change_asked(book: Book, fact: facts.ChangeAsked, done: list[Touched]) -> None:
    record = book.orders[fact.order_id]
    if record.live and not record.cancel:
        terms = fact.model_dump(include=set(Terms.model_fields))
        record.change = Terms(**terms)
        if fact.chase:
            record.chases += 1
            record.working_ts = fact.ts
        _change(book, record, fact.ts, done, pending=What.MODIFY.value)


def ended(book: Book, fact: facts.Ended, done: list[Touched]) -> None:
    record = book.orders[fact.order_id]
    cancelled = fact.status is OrderStatus.CANCELLED
    happening = Happening.DAY_OVER if cancelled else Happening.GIVEN_UP
    if _step(book, record, happening, fact.ts, done, reason=fact.reason):
        record.written_off = not cancelled


def linked(book: Book, fact: facts.Linked, done: list[Touched]) -> None:
    record = book.orders[fact.order_id]
    record.foreign, record.reduces = False, fact.reduces
    if fact.strategy and record.traded_quantity:
        units = record.order.side.sign * record.traded_quantity
        value = record.traded_value * scale_of(record.order.instrument)
        cash = -record.order.side.sign * value - record.order.charges.total
        fold_accounts.attribute(book, record.order, fact.strategy, units, cash)
    _change(book, record, fact.ts, done, gtt_id=fact.gtt_id, strategy=fact.strategy)


# Calls


def call(book: Book, fact: Any, done: list[Touched]) -> None:
    record = book.orders[fact.order_id]
    if fact.what is What.PLACE:
        _PLACED[type(fact)](book, record, fact, done)
    else:
        _CHANGED[type(fact)](book, record, fact, done)


def _leaves(record: OrderRecord, fact: facts.Sending) -> None:
    record.attempt = fact.attempt
    record.call = Call(what=fact.what, attempt=fact.attempt, sent_ts=fact.ts)


def _place_sent(book: Book, record: OrderRecord, fact: facts.Sending, done: list[Touched]) -> None:
    if _step(book, record, Happening.SENT, fact.ts, done):
        _leaves(record, fact)


def _place_answered(book: Book, record: OrderRecord, fact: facts.Answered, done: list[Touched]) -> None:
    record.call = None
    if fact.venue_id and not record.order.venue_order_id:
        record.order = record.order.model_copy(update={"venue_order_id": fact.venue_id})
    _step(book, record, Happening.ANSWERED, fact.ts, done)


def _place_turned_down(book: Book, record: OrderRecord, fact: facts.TurnedDown, done: list[Touched]) -> None:
    record.call = None
    _step(book, record, Happening.TURNED_DOWN, fact.ts, done, reason=_in_words(fact))


def _place_not_sent(book: Book, record: OrderRecord, fact: facts.NotSent, done: list[Touched]) -> None:
    record.call, record.not_before_ts = None, fact.again_ts
    record.retries += 1
    _step(book, record, Happening.NOT_SENT, fact.ts, done, reason=fact.reason)


def _place_lost(book: Book, record: OrderRecord, fact: facts.Lost, done: list[Touched]) -> None:
    unknown = record.order.status in (OrderStatus.SENDING, OrderStatus.UNKNOWN)
    held = record.call
    record.call = None
    if unknown and held is not None:
        record.call = held.model_copy(update={"lost": True, "arrival_ts": fact.arrival_ts})
    _step(book, record, Happening.LOST, fact.ts, done, reason=fact.reason if unknown else None)


def _place_denied(book: Book, record: OrderRecord, fact: facts.Denied, done: list[Touched]) -> None:
    if _step(book, record, Happening.DENIED, fact.ts, done, reason="the venue does not know it"):
        record.call = None


def _change_sent(book: Book, record: OrderRecord, fact: facts.Sending, done: list[Touched]) -> None:
    _leaves(record, fact)
    _touch(book, record, done)


def _change_answered(book: Book, record: OrderRecord, fact: facts.Answered, done: list[Touched]) -> None:
    record.call = None
    if fact.what is What.CANCEL:
        record.not_before_ts, record.cancel_taken = fact.ts + _RETRY_CANCEL_MS, True
    else:
        record.change = None
        _change(book, record, fact.ts, done, pending="", reason="")


def _change_turned_down(book: Book, record: OrderRecord, fact: facts.TurnedDown, done: list[Touched]) -> None:
    record.call = None
    if fact.what is What.CANCEL:
        record.cancel = ""
    else:
        record.change = None
    if record.live:
        _change(book, record, fact.ts, done, pending="", reason=_in_words(fact))


def _change_open(book: Book, record: OrderRecord, fact: Any, done: list[Touched]) -> None:
    """Not sent, lost or denied: a cancellation and whole new terms can be asked for again, whatever became of it."""
    record.call = None
    record.not_before_ts = getattr(fact, "again_ts", fact.ts)
    _touch(book, record, done)


_PLACED: Final[Mapping[type, Callable[[Book, OrderRecord, Any, list[Touched]], None]]] = {
    facts.Sending: _place_sent,
    facts.Answered: _place_answered,
    facts.TurnedDown: _place_turned_down,
    facts.NotSent: _place_not_sent,
    facts.Lost: _place_lost,
    facts.Denied: _place_denied,
}
_CHANGED: Final[Mapping[type, Callable[[Book, OrderRecord, Any, list[Touched]], None]]] = {
    facts.Sending: _change_sent,
    facts.Answered: _change_answered,
    facts.TurnedDown: _change_turned_down,
    facts.NotSent: _change_open,
    facts.Lost: _change_open,
    facts.Denied: _change_open,
}


def _in_words(fact: facts.TurnedDown) -> str:
    return f"{fact.code}: {fact.words}" if fact.code else fact.words


# What the venue tells


def seen(book: Book, fact: facts.Seen, done: list[Touched]) -> None:
    record, told = book.orders[fact.order_id], fact.state
    older = is_older(record, told)
    updates = _grown(record.order, told)
    if not older:
        record.seen_ts, record.version, record.words = max(told.ts, record.seen_ts), told.version, told.words
        updates |= _terms(record.order, told)
        _settle_wishes(record, told, updates)
    if not record.order.venue_order_id:
        updates["venue_order_id"] = told.venue_order_id
    record.call = None if record.call is not None and record.call.what is What.PLACE else record.call
    if told.filled_quantity > told.quantity or told.filled_quantity > record.order.quantity:
        message = f"order {fact.order_id}: the venue tells {told.filled_quantity} filled of {record.order.quantity}"
        done.append(Touched("alert", message, {"order_id": fact.order_id}))
    if older and told.status not in FINAL:
        _change(book, record, fact.ts, done, **updates)
        return
    reason = told.reason or None
    if not _step(book, record, TOLD[told.status], fact.ts, done, reason=reason, **updates) and updates:
        _change(book, record, fact.ts, done, **updates)
    record.written_off = False
    if record.order.status in _WORKING and not record.working_ts:
        record.working_ts = fact.ts


def is_older(record: OrderRecord, told: VenueOrder) -> bool:
    """Whether something newer is known already."""
    return bool(told.ts and told.ts < record.seen_ts) or told.version < record.version


def _grown(order: Order, told: VenueOrder) -> dict[str, Any]:
    """Filled quantities only grow. A complete order is filled, whatever the telling has forgotten to say."""
    filled = told.filled_quantity
    if told.status is OrderStatus.COMPLETE:
        filled = max(filled, told.quantity)
    if filled <= order.filled_quantity:
        return {}
    return {"filled_quantity": filled, "average_price": told.average_price.quantize(_PRICE)}


def _terms(order: Order, told: VenueOrder) -> dict[str, Any]:
    """As modified at the venue. Its numbers for what never was on the book are of no interest."""
    if told.status is OrderStatus.REJECTED or (order.status in FINAL and told.status is not order.status):
        return {}
    new = {"quantity": told.quantity, "price": told.price, "trigger_price": told.trigger_price}
    new |= {"order_type": told.order_type, "validity": told.validity}
    return {name: value for name, value in new.items() if getattr(order, name) != value}


def _settle_wishes(record: OrderRecord, told: VenueOrder, updates: dict[str, Any]) -> None:
    if told.not_cancelled and record.cancel and record.call is None:
        record.cancel = ""
        updates |= {"pending": "", "reason": told.reason or "the venue did not cancel it"}
    if told.not_modified and record.call is None:
        record.change = None
        updates |= {"pending": "", "reason": told.reason or "the venue did not modify it"}


def filled(book: Book, fact: facts.Filled, done: list[Touched]) -> None:
    fill = fact.fill
    if fill.fill_id in book.fills:
        return
    book.fills[fill.fill_id] = fill
    done.append(Touched("fill", fill.fill_id, fill))
    record = book.orders.get(fill.order_id)
    if record is not None:
        _told_by_trade(book, record, fact, done)
    fold_accounts.filled(book, fill, done)


def _told_by_trade(book: Book, record: OrderRecord, fact: facts.Filled, done: list[Touched]) -> None:
    fill = fact.fill
    record.trades.append(fill.trade_id)
    record.traded_quantity += fill.quantity
    record.traded_value += fill.price * fill.quantity
    updates: dict[str, Any] = {"charges": plus(record.order.charges, fill.charges)}
    if record.traded_quantity >= record.order.filled_quantity:
        average = (record.traded_value / record.traded_quantity).quantize(_PRICE)
        updates |= {"filled_quantity": record.traded_quantity, "average_price": average}
    if record.traded_quantity >= record.order.quantity and record.order.status is not OrderStatus.COMPLETE:
        if record.call is not None and record.call.what is What.PLACE:
            record.call = None
        if _step(book, record, Happening.FILLED, fact.ts, done, **updates):
            return
    _change(book, record, fact.ts, done, **updates)


# How a record changes


def _step(book: Book, record: OrderRecord, happening: Happening, ts: int, done: list[Touched], **updates: Any) -> bool:
    """Take the step that the table has for it; False: it has none, and nothing changed."""
    order = record.order
    status = after(record.state, happening)
    if status is None:
        message = f"order {order.order_id}: {happening.value}, though it is {record.state}"
        done.append(Touched("alert", message, {"order_id": order.order_id, "illegal": True}))
        return False
    if record.state == WRITTEN_OFF:
        message = f"order {order.order_id} has reached the venue, though it had been given up"
        done.append(Touched("alert", message, {"order_id": order.order_id}))
        record.written_off = False
    if updates.get("reason") is None:
        updates.pop("reason", None)
        if status not in _ENDS_FOR_A_REASON and status != order.status and not order.pending:
            updates["reason"] = ""  # what was said of the state before
    if status in FINAL:
        record.cancel, record.change = "", None
        record.call = None if record.call is not None and record.call.what is not What.PLACE else record.call
        updates["pending"] = ""
    _change(book, record, ts, done, status=OrderStatus(status), **updates)
    return True


def _change(book: Book, record: OrderRecord, ts: int, done: list[Touched], **updates: Any) -> None:
    new = {name: value for name, value in updates.items() if getattr(record.order, name) != value}
    if new:
        record.order = record.order.model_copy(update={**new, "ts": ts})
    _touch(book, record, done, changed=bool(new))


def _touch(book: Book, record: OrderRecord, done: list[Touched], changed: bool = True) -> None:
    book.index(record)
    if changed:
        done.append(Touched("order", record.order.order_id))
