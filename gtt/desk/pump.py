"""What leaves now. Wishes are kept in the book: orders that are checked, cancellations and changes that are asked for,
GTTs for a venue. Here they become calls, as far as the budget of order writes goes: exits first, then cancellations,
then changes, entries last. A call is a `sending` fact before it is an effect. Pure.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from brokers.venue import OrderChange
from gtt.book import facts
from gtt.book.book import GttRecord, OrderRecord
from gtt.book.facts import What
from gtt.desk import gtts as desk_gtts
from gtt.desk import orders as desk_orders
from gtt.desk.effects import Write
from gtt.desk.here import Here
from gtt.desk.orders import request_of
from schemas.gtt import RuleStatus
from schemas.orders import OrderStatus, TradingMode

_AT_ONCE: Final = 16  # calls under way, of one account
_ENTRIES_AT_ONCE: Final = 8


class _Wish(NamedTuple):
    rank: int
    since: int
    what: What
    record: OrderRecord | GttRecord


def pump(here: Here) -> None:
    for mode in here.venues:
        _give_up(here, mode)
        wishes = sorted(_wishes(here, mode), key=lambda wish: (wish.rank, wish.since))
        if wishes:
            _send(here, mode, wishes)


def _give_up(here: Here, mode: TradingMode) -> None:
    """Entries that are too old, or that a halt has overtaken, do not leave any more."""
    for record in list(here.book.live(mode)):
        if record.order.status is not OrderStatus.CHECKED:
            continue
        if record.cancel:
            desk_orders.ended(here, record, OrderStatus.CANCELLED, f"cancelled before it was sent, by {record.cancel}")
        elif not record.reduces and (why := _too_late(here, record)):
            desk_orders.ended(here, record, OrderStatus.REJECTED, why)
    for gtt in here.book.called_gtts():
        if gtt.state.gtt.mode is not mode or gtt.asked is None or gtt.call is not None or not gtt.state.gtt.live:
            continue
        if gtt.asked is What.CANCEL_GTT and not gtt.state.gtt.venue_gtt_order_id:
            desk_gtts.ended(here, gtt, RuleStatus.CANCELLED, "cancelled; it never reached the venue")
        elif gtt.asked is What.PLACE_GTT and _is_old(here, gtt):
            desk_gtts.ended(here, gtt, RuleStatus.FAILED, f"it never reached the venue: {gtt.words or 'no answer'}")


def _too_late(here: Here, record: OrderRecord) -> str:
    limit_s = here.scene.limits(record.order.strategy).intent_s
    if here.now_ms - record.order.created_ts > limit_s * 1000:
        why = f" ({record.order.reason})" if record.order.reason else ""
        return f"it never reached the venue: not sent within {limit_s:g} s{why}"
    if here.book.halted:
        return f"not sent: trading is halted ({here.book.halted})"
    return ""


def _is_old(here: Here, gtt: GttRecord) -> bool:
    limit_s = here.scene.limits(gtt.state.gtt.strategy).intent_s
    return here.now_ms - gtt.state.gtt.created_at // 1000 > limit_s * 1000


# Wishes


def _wishes(here: Here, mode: TradingMode) -> Iterator[_Wish]:
    for record in here.book.live(mode):
        if record.call is None and record.not_before_ts <= here.now_ms and (what := _wanted(record)):
            yield _Wish(_rank(what, record.reduces), record.order.created_ts, what, record)
    for gtt in here.book.called_gtts():
        told = gtt.state.gtt
        if gtt.asked is None or told.mode is not mode or gtt.call is not None or gtt.not_before_ts > here.now_ms:
            continue
        if not told.live:
            continue
        if gtt.asked is What.PLACE_GTT or told.venue_gtt_order_id:
            yield _Wish(_rank(gtt.asked, False), told.created_at // 1000, gtt.asked, gtt)


def _wanted(record: OrderRecord) -> What | None:
    if record.order.status is OrderStatus.CHECKED:
        return What.PLACE
    if not record.order.venue_order_id or not record.live or record.order.status is OrderStatus.UNKNOWN:
        return None
    if record.cancel:
        return What.CANCEL
    return What.MODIFY if record.change is not None else None


def _rank(what: What, reduces: bool) -> int:
    if reduces:
        return 0
    return {What.CANCEL: 1, What.CANCEL_GTT: 1, What.MODIFY: 2, What.MODIFY_GTT: 2}.get(what, 3)


# Leaving


def _send(here: Here, mode: TradingMode, wishes: list[_Wish]) -> None:
    under_way = sum(record.call is not None and not record.call.lost for record in here.book.live(mode))
    under_way += sum(
        gtt.call is not None and not gtt.call.lost for gtt in here.book.called_gtts() if gtt.state.gtt.mode is mode
    )
    budget = here.runtime[mode].budget
    for wish in wishes:
        entry = wish.rank > 2
        if under_way >= (_ENTRIES_AT_ONCE if entry else _AT_ONCE):
            return
        if not budget.take(here.now_ms, reducing=not entry):
            if entry:
                continue  # in order: what comes next are entries as well
            return
        write = _write_of(here, mode, wish)
        here.emit(_sending(here, write))
        here.want(write)
        under_way += 1


def _write_of(here: Here, mode: TradingMode, wish: _Wish) -> Write:
    record = wish.record
    about: dict[str, Any] = {"mode": mode, "what": wish.what, "attempt": record.attempt + 1}
    about |= {"decided_ts": here.now_ms, "reduces": wish.rank < 2, "not_after_ts": 0, "tick_ns": here.tick_ns}
    if isinstance(record, GttRecord):
        gtt = record.state.gtt
        return Write(**about, gtt_id=gtt.gtt_order_id, venue_id=gtt.venue_gtt_order_id, gtt=record.request)
    order = record.order
    about |= {"order_id": order.order_id, "venue_id": order.venue_order_id}
    if wish.what is What.PLACE:
        if not record.reduces:
            about["not_after_ts"] = order.created_ts + int(here.scene.limits(order.strategy).intent_s * 1000)
        return Write(**about, order=request_of(order))
    if wish.what is What.MODIFY:
        return Write(**about, change=_change_of(record))
    return Write(**about)


def _change_of(record: OrderRecord) -> OrderChange:
    terms = record.change
    assert terms is not None
    return OrderChange(
        order_id=record.order.order_id,
        venue_order_id=record.order.venue_order_id,
        quantity=terms.quantity,
        order_type=terms.order_type,
        price=terms.price,
        trigger_price=terms.trigger_price,
        validity=terms.validity,
    )


def _sending(here: Here, write: Write) -> facts.Sending:
    request = write.order or write.change or write.gtt
    if request is None:
        told: dict[str, Any] = {"venue_id": write.venue_id}
    elif write.gtt is not None:
        told = {**asdict(write.gtt), "rules": [rule.model_dump(mode="json") for rule in write.gtt.rules]}
    else:
        told = asdict(request)
    return facts.Sending(
        ts=here.now_ms,
        account=write.mode,
        what=write.what,
        attempt=write.attempt,
        order_id=write.order_id,
        gtt_id=write.gtt_id,
        request=told,
        reduces=write.reduces,
    )


def next_ts(here: Here, mode: TradingMode) -> int:
    """When something that waits may leave; 0: nothing waits."""
    wishes = [record.not_before_ts for record in here.book.live(mode) if record.call is None and _wanted(record)]
    return max(here.now_ms + 1, min(wishes)) if wishes else 0
