"""Orders: asked for by people, answered by a venue, told by a venue. Pure."""

from typing import Any, Final

from brokers.venue import NewOrder, VenueOrder, VenueTrade
from gtt.book import facts
from gtt.book.book import OrderRecord
from gtt.book.facts import What
from gtt.book.fold_orders import is_older
from gtt.desk import checking
from gtt.desk.effects import Ask, Asked, Down, Gone, Nothing, Outcome, Took, Write
from gtt.desk.here import Asking, Here
from gtt.risk import risk
from gtt.risk.exposure import scale_of
from gtt.risk.types import Origin, Proposal
from market import charges, sessions
from schemas.commands import OrderModify, OrderPlace
from schemas.errors import Rejected
from schemas.money import ZERO, Charges
from schemas.orders import FINAL, Fill, Order, OrderStatus, TradingMode, order_id_of

_OURS: Final = "tj"  # how the ids of schemas.orders.order_id_of begin
_TRADES_MS: Final = 250  # the trades behind a fill that only the order tells are asked for after so long
_ASK_FIRST_MS: Final = 250
_ASK_MAX_MS: Final = 8_000


# Asked for by people


def placed(here: Here, command: OrderPlace, intent_id: str, command_id: str, mode: TradingMode) -> checking.Verdict:
    proposal = proposal_of(here, command, intent_id, mode)
    return checking.decide(here, proposal, command=command_id)


def proposal_of(here: Here, command: OrderPlace, intent_id: str, mode: TradingMode) -> Proposal:
    units = checking.units_of(here, mode, command.instrument_token, command.product)
    return Proposal(
        intent_id=intent_id,
        instrument=command.instrument_token,
        side=command.transaction_type,
        quantity=command.quantity,
        product=command.product,
        order_type=command.order_type,
        price=command.price,
        trigger_price=command.trigger_price,
        validity=command.validity,
        protection=command.market_protection,
        mode=mode,
        strategy=command.strategy,
        origin=Origin.MANUAL,
        reduces=units.closes(command.transaction_type, command.quantity),
    )


def modified(here: Here, record: OrderRecord, command: OrderModify, by: str) -> tuple[str, str]:
    """Ask for new terms; (rule, reason) where they are refused. The new terms are checked like a new order's."""
    order = record.order
    if not record.live or record.cancel:
        return "status", f"the order is {order.status.value}" + (" and being cancelled" if record.live else "")
    if order.gtt_id:
        return "gtt", f"this order belongs to {order.gtt_id}: change the GTT"
    quantity = order.quantity if command.quantity is None else command.quantity
    if quantity <= order.filled_quantity:
        return "quantity", f"{order.filled_quantity} units are filled already: cancel the rest instead"
    terms = Proposal(
        intent_id=f"{by}:check",
        instrument=order.instrument,
        side=order.side,
        quantity=quantity,
        product=order.product,
        order_type=command.order_type or order.order_type,
        price=order.price if command.price is None else command.price,
        trigger_price=order.trigger_price if command.trigger_price is None else command.trigger_price,
        validity=command.validity or order.validity,
        mode=order.mode,
        strategy=order.strategy,
        origin=Origin.MANUAL,
        reduces=record.reduces,
    )
    said = checking.examine_change(here, terms, record)
    if isinstance(said, risk.Refused):
        return said.rule, said.reason
    if len(said.slices) > 1:
        return "freeze", "that is more than the exchange takes in one order: place a second one"
    here.emit(
        facts.ChangeAsked(
            ts=here.now_ms,
            account=order.mode,
            order_id=order.order_id,
            by=by,
            quantity=quantity,
            order_type=said.order_type,
            price=said.price,
            trigger_price=said.trigger_price,
            validity=said.validity,
        )
    )
    return "", ""


def cancelled(here: Here, record: OrderRecord, by: str) -> None:
    """Ask for it; what never left simply ends."""
    order = record.order
    if not record.live or record.cancel:
        return
    if order.status is OrderStatus.CHECKED:
        ended(here, record, OrderStatus.CANCELLED, f"cancelled before it was sent, by {by}")
        return
    here.emit(facts.CancelAsked(ts=here.now_ms, account=order.mode, order_id=order.order_id, by=by))


def ended(here: Here, record: OrderRecord, status: OrderStatus, reason: str) -> None:
    order = record.order
    here.emit(facts.Ended(ts=here.now_ms, account=order.mode, order_id=order.order_id, status=status, reason=reason))


# Answered by a venue


def called(here: Here, write: Write, outcome: Outcome) -> None:
    """What became of a call. An answer that came too late to matter is left out."""
    record = here.book.orders.get(write.order_id)
    if record is None or record.attempt != write.attempt:
        return
    about: dict[str, Any] = {"ts": here.now_ms, "account": write.mode, "what": write.what, "attempt": write.attempt}
    about["order_id"] = write.order_id
    match outcome:
        case Took(venue_id, took_ms):
            here.emit(facts.Answered(**about, venue_id=venue_id, took_ms=took_ms))
            if write.what is What.PLACE and venue_id and record.order.venue_order_id != venue_id:
                _twice(here, record, venue_id)
        case Down(code, words) if write.what is What.PLACE and record.order.status is not OrderStatus.SENDING:
            here.alert(f"order {write.order_id}: turned down ({code}: {words}), though it is there", write.mode)
        case Down(code, words):
            here.emit(facts.TurnedDown(**about, code=code, words=words))
            if write.what is not What.PLACE:
                ask_soon(here, record)
        case Nothing(reason, again_s) if write.what is not What.PLACE or record.order.status is OrderStatus.SENDING:
            here.emit(facts.NotSent(**about, reason=reason, again_ts=here.now_ms + int(again_s * 1000)))
        case Nothing(reason):
            here.alert(f"order {write.order_id}: not sent ({reason}), though it is there", write.mode)
        case Gone(reason):
            here.emit(facts.Lost(**about, reason=reason, arrival_ts=here.now_ms))
            ask_soon(here, record)


def ask_soon(here: Here, record: OrderRecord) -> None:
    here.asking.setdefault(record.order.order_id, Asking(next_ts=here.now_ms))


def ask(here: Here) -> None:
    """Questions that are due: at once, and again after 0.25, 0.5, 1, 2, 4, 8 seconds for as long as it takes."""
    for order_id, asking in list(here.asking.items()):
        record = here.book.orders.get(order_id)
        if record is None or not record.live or not _is_doubtful(record, asking):
            del here.asking[order_id]
        elif not asking.asked and asking.next_ts <= here.now_ms:
            asking.asked = True
            asking.next_ts = here.now_ms + min(_ASK_MAX_MS, _ASK_FIRST_MS << min(asking.tries, 10))
            asking.tries += 1
            here.want(Ask(record.order.mode, order_id, tag=not record.foreign))


def _is_doubtful(record: OrderRecord, asking: Asking) -> bool:
    return record.order.status is OrderStatus.UNKNOWN or asking.tries == 0 or asking.asked


def asked(here: Here, answer: Asked) -> None:
    """What the books say about an order. Denied by all of them for long enough, it never arrived."""
    asking = here.asking.get(answer.order_id)
    if asking is not None:
        asking.asked = False
    record = here.book.orders.get(answer.order_id)
    if record is None:
        return
    for told in {one.venue_order_id: one for one in (*(answer.book or ()), *(answer.tagged or ()))}.values():
        if told.tag == answer.order_id or told.venue_order_id == record.order.venue_order_id:
            told_order(here, answer.mode, told, "asked")
    if record.order.status is not OrderStatus.UNKNOWN or record.call is None:
        return
    certain = answer.tagged is not None and answer.book is not None
    sure_ts = record.call.arrival_ts + int(here.settings.teji_unknown_s * 1000)
    if certain and answer.asked_ts >= sure_ts:
        about: dict[str, Any] = {"order_id": answer.order_id, "what": What.PLACE, "attempt": record.call.attempt}
        here.emit(facts.Denied(ts=here.now_ms, account=answer.mode, books=("tag", "order book"), **about))


# Told by a venue


def told_order(here: Here, mode: TradingMode, told: VenueOrder, source: str) -> None:
    record = here.book.at_venue(mode, told.venue_order_id)
    if record is None:
        record = here.book.orders.get(told.tag) if told.tag else None
        if record is not None and record.order.mode is not mode:
            record = None
        if record is not None and record.order.venue_order_id not in ("", told.venue_order_id):
            record = _second(here, record, told)
    if record is None:
        record = _stranger(here, mode, told)
    if not has_news(record, told):
        return
    here.emit(facts.Seen(ts=here.now_ms, account=mode, order_id=record.order.order_id, state=told, source=source))
    if record.untold and not here.runtime[mode].trades_ts:
        here.runtime[mode].trades_ts = here.now_ms + _TRADES_MS


def has_news(record: OrderRecord, told: VenueOrder) -> bool:
    order = record.order
    if told.filled_quantity > order.filled_quantity or not order.venue_order_id:
        return True
    if order.status in FINAL and not record.written_off:
        changed = told.price not in (ZERO, order.price) and told.status is OrderStatus.COMPLETE
        changed = changed and not is_older(record, told)
        return told.status in FINAL and (told.status is not order.status or changed)
    if is_older(record, told):
        return told.status in FINAL
    same = (told.status, told.quantity, told.price, told.trigger_price, told.order_type, told.words)
    known = (order.status, order.quantity, order.price, order.trigger_price, order.order_type, record.words)
    return same != known or told.not_modified or told.not_cancelled


def _stranger(here: Here, mode: TradingMode, told: VenueOrder) -> OrderRecord:
    """An order that we did not send: shown, and left alone."""
    if told.tag.startswith(_OURS):
        here.alert(
            f"order {told.venue_order_id} has our tag {told.tag}, and nobody here knows it",
            mode,
            once=told.venue_order_id,
        )
    return _adopt(here, mode, told, f"venue:{mode.value}:{told.venue_order_id}")


def _second(here: Here, record: OrderRecord, told: VenueOrder) -> OrderRecord:
    """Two orders at the venue under one tag: the one that came later goes."""
    first = record.order.venue_order_id
    here.alert(
        f"order {record.order.order_id} is at the venue twice: {first} and {told.venue_order_id}",
        record.order.mode,
        order_id=record.order.order_id,
    )
    double = _adopt(here, record.order.mode, told, f"double:{record.order.order_id}:{told.venue_order_id}")
    if double.live:
        cancelled(here, double, "it is there twice")
    return double


def _twice(here: Here, record: OrderRecord, venue_id: str) -> None:
    here.alert(
        f"order {record.order.order_id} is at the venue twice: {record.order.venue_order_id} and {venue_id}",
        record.order.mode,
        order_id=record.order.order_id,
    )
    here.look_soon(record.order.mode)


def _adopt(here: Here, mode: TradingMode, told: VenueOrder, intent_id: str) -> OrderRecord:
    order = Order(
        order_id=order_id_of(intent_id),
        venue_order_id=told.venue_order_id,
        intent_id=intent_id,
        instrument=told.instrument,
        side=told.side,
        quantity=told.quantity,
        price=told.price,
        trigger_price=told.trigger_price,
        order_type=told.order_type,
        product=told.product,
        validity=told.validity,
        status=OrderStatus.IN_FLIGHT,
        reason=told.reason,
        mode=mode,
        venue=here.venues[mode].venue,
        created_ts=told.ts or here.now_ms,
        ts=here.now_ms,
    )
    here.emit(facts.Adopted(ts=here.now_ms, account=mode, order=order))
    return here.book.orders[order.order_id]


def told_trade(here: Here, mode: TradingMode, trade: VenueTrade) -> bool:
    """A fill; False: of an order that is not known yet."""
    record = here.book.at_venue(mode, trade.venue_order_id)
    if record is None:
        return False
    order = record.order
    fill_id = f"{order.order_id}:{trade.trade_id}"
    if trade.trade_id in record.trades or fill_id in here.book.fills:
        return True
    fill = Fill(
        fill_id=fill_id,
        trade_id=trade.trade_id,
        order_id=order.order_id,
        venue_order_id=trade.venue_order_id,
        gtt_id=order.gtt_id,
        instrument=order.instrument,
        side=order.side,
        quantity=trade.quantity,
        price=trade.price,
        product=order.product,
        charges=_charges(here, record, trade),
        mode=mode,
        strategy=order.strategy,
        venue=order.venue,
        ts=trade.ts,
    )
    here.emit(facts.Filled(ts=here.now_ms, account=mode, fill=fill))
    return True


def _charges(here: Here, record: OrderRecord, trade: VenueTrade) -> Charges:
    """What this fill adds to its order. Where nobody knows the rates, nothing, and a person is told."""
    order = record.order
    instrument = here.scene.instrument(order.instrument)
    try:
        if instrument is None:
            raise Rejected(f"{order.instrument} is not known")
        scale = scale_of(instrument.key)
        before = charges.Traded(
            kind=charges.kind_of(instrument, order.product),
            side=order.side,
            quantity=record.traded_quantity,
            turnover=record.traded_value * scale,
            on=sessions.trading_date(trade.ts),
            plan=here.settings.teji_brokerage.value,
        )
        return charges.of_fill(before, before.plus(trade.quantity, trade.price, scale))
    except (Rejected, KeyError) as error:
        here.alert(f"no charges for a fill of {order.instrument}: {error}", order.mode, once=order.instrument)
        return Charges()


def request_of(order: Order) -> NewOrder:
    return NewOrder(
        order_id=order.order_id,
        instrument=order.instrument,
        side=order.side,
        quantity=order.quantity,
        product=order.product,
        order_type=order.order_type,
        price=order.price,
        trigger_price=order.trigger_price,
        validity=order.validity,
    )
