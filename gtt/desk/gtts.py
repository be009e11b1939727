"""GTTs: who watches them, their steps under our engine, and what their machine asks for. Pure.

A step that only moves a trailing stop is kept in memory and written down a few times a second: after a crash the ticks
behind it are read again.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from brokers.venue import Capabilities, NewGtt
from gtt.book import facts
from gtt.book.book import GttRecord
from gtt.book.facts import What
from gtt.desk import checking
from gtt.desk import orders as desk_orders
from gtt.desk.here import Here
from gtt.engine import machine
from gtt.engine import state as gtt_state
from gtt.engine.board import Crossing
from gtt.engine.hours import waits_ms
from gtt.engine.state import GttState
from gtt.risk import risk
from gtt.risk.protect import TABLE
from gtt.risk.sizing import tick_of
from gtt.risk.types import Origin, Proposal
from market.instruments import Instrument
from schemas.gtt import Engine, GttBody, GttChange, Leg, RuleState, RuleStatus
from schemas.money import ZERO
from schemas.orders import Order, OrderStatus, OrderType, Product, TradingMode, gtt_id_of

_AGAIN_MS: Final = 1_000  # an exit that our own check turned down is tried again after so long


# A new one


def accepted(
    here: Here,
    body: GttBody,
    *,
    intent_id: str,
    mode: TradingMode,
    command: str = "",
    checks: tuple[dict[str, Any], ...] = (),
) -> checking.Verdict:
    """Take on a GTT, or refuse it; `orders` of the verdict has its id."""
    proposal = _whole(body, intent_id, mode)
    entry = body.rule(Leg.ENTRY)
    instrument = here.scene.instrument(body.instrument_token)
    if refusal := _refusal(here, body, mode, instrument):
        return checking.refuse(here, proposal, *refusal, command=command)
    assert instrument is not None
    if entry is not None and not checks:
        said = checking.examine_ahead(here, proposal)
        if isinstance(said, risk.Refused):
            return checking.refuse(here, proposal, said.rule, said.reason, said.checks, command=command)
        checks = checking.written(said.checks)
    engine, note = engine_for(body, here.settings.teji_gtt_engine, here.venues[mode], instrument.freeze_quantity)
    gtt_id = gtt_id_of(intent_id)
    try:
        state, actions = machine.accept(
            body,
            gtt_id=gtt_id,
            intent_id=intent_id,
            mode=mode,
            engine=engine,
            note=note,
            segment=instrument.segment,
            trading_symbol=instrument.trading_symbol,
            now_ms=here.now_ms,
            expires_us=machine.expiry_us(body.product, here.market_ms),
            terms=terms_of(instrument, here.venues[mode]),
            last=here.price(body.instrument_token),
        )
    except gtt_state.NotAccepted as error:
        return checking.refuse(here, proposal, error.code or "gtt", error.words, command=command)
    about: dict[str, Any] = {"ts": here.now_ms, "account": mode, "gtt_id": gtt_id}
    here.emit(facts.GttAccepted(**about, intent_id=intent_id, state=state, checks=checks, command=command))
    if engine is Engine.VENUE:
        here.emit(facts.GttAsked(**about, what=What.PLACE_GTT, by=intent_id, request=request_of(state)))
    else:
        act(here, gtt_id, actions)
    return checking.Verdict((gtt_id,))


def _whole(body: GttBody, intent_id: str, mode: TradingMode) -> Proposal:
    """The GTT as one proposal, for the words of a refusal."""
    entry, stop = body.rule(Leg.ENTRY), body.rule(Leg.STOPLOSS)
    return Proposal(
        intent_id=intent_id,
        instrument=body.instrument_token,
        side=body.transaction_type,
        quantity=body.quantity,
        product=body.product,
        order_type=OrderType.LIMIT,
        price=entry.trigger_price if entry else ZERO,
        mode=mode,
        strategy=body.strategy,
        origin=Origin.GTT,
        reduces=entry is None,
        stop=stop.trigger_price if stop else None,
    )


def _refusal(here: Here, body: GttBody, mode: TradingMode, instrument: Instrument | None) -> tuple[str, str] | None:
    """What can be said before any trigger is reached; all other rules are asked when an order is to leave."""
    entry = body.rule(Leg.ENTRY)
    if instrument is None:
        return "instrument", f"{body.instrument_token} is not known to the venue"
    if instrument.is_index:
        return "instrument", f"{instrument.trading_symbol} is an index: its futures and options trade, it does not"
    if body.quantity % instrument.lot_size:
        return "lot", f"{body.quantity} units are no whole lots of {instrument.lot_size}"
    if instrument.segment in here.venues[mode].segments_off:
        return "venue", f"{here.venues[mode].venue} takes no orders of {instrument.segment} by API"
    if entry is None:
        sign = body.transaction_type.sign  # of the position that it guards
        held = checking.units_of(here, mode, body.instrument_token, body.product).net * sign
        if held < body.quantity:
            return "position", f"{max(held, 0)} units are held: {body.quantity} cannot be guarded"
    return None


def engine_for(body: GttBody, setting: Engine, can: Capabilities, freeze: int = 0) -> tuple[Engine, str]:
    """Who watches, and why it is us. `freeze`: most units of one order; 0: no limit."""
    wanted = body.engine if body.engine is not Engine.AUTO else setting
    if wanted is Engine.OURS:
        return Engine.OURS, "our engine watches, as asked for"
    if not can.gtt:
        return Engine.OURS, f"our engine watches: {can.venue} has no GTT"
    if body.rule(Leg.ENTRY) is None and not can.gtt_exit_only:
        return Engine.OURS, f"our engine watches: at {can.venue} a GTT begins with an ENTRY"
    if 0 < freeze < body.quantity:
        return Engine.OURS, f"our engine watches: {body.quantity} units are more than one order takes, {freeze}"
    return Engine.VENUE, ""


def terms_of(instrument: Instrument, can: Capabilities) -> gtt_state.Terms:
    rows = TABLE["option" if instrument.is_option else "share, future"]
    if instrument.segment in ("NCD_FO", "BCD_FO"):
        rows = TABLE["currency"]
    return gtt_state.Terms(
        tick=tick_of(instrument),
        lot=instrument.lot_size,
        freeze=instrument.freeze_quantity,
        auto=tuple(gtt_state.AutoBand(below=row.below, percent=row.percent) for row in rows),
        trailing_share=can.gtt_trailing_share or Decimal("0.1"),
    )


def request_of(state: GttState) -> NewGtt:
    gtt = state.gtt
    return NewGtt(
        gtt_id=gtt.gtt_order_id,
        type=gtt.type,
        instrument=gtt.instrument,
        side=gtt.transaction_type,
        quantity=gtt.quantity,
        product=gtt.product,
        rules=gtt.rules,
    )


# Steps


def state_of(here: Here, gtt_id: str) -> GttState | None:
    moved = here.trailing.get(gtt_id)
    if moved is not None:
        return moved
    record = here.book.gtts.get(gtt_id)
    return record.state if record is not None else None


def step(here: Here, gtt_id: str, event: gtt_state.Event, why: str = "") -> gtt_state.Actions:
    """One step under our engine, and everything that it asks for."""
    before = state_of(here, gtt_id)
    if before is None or before.gtt.mode not in here.venues:  # of an account that is not traded now
        return ()
    state, actions = machine.step(before, event)
    if state != before:
        if machine.only_trailed(before, state) and all(isinstance(action, gtt_state.Watch) for action in actions):
            here.trailing[gtt_id] = state
        else:
            here.trailing.pop(gtt_id, None)
            gtt = state.gtt.model_copy(update={"ts": here.now_ms})
            state = state.model_copy(update={"gtt": gtt})
            here.emit(facts.GttChanged(ts=here.now_ms, account=gtt.mode, gtt_id=gtt_id, state=state, why=why))
    act(here, gtt_id, actions)
    return actions


def write_down(here: Here) -> None:
    """The trailing stops that have moved, as they stand now."""
    for gtt_id, state in here.trailing.items():
        here.emit(facts.GttChanged(ts=here.now_ms, account=state.gtt.mode, gtt_id=gtt_id, state=state, why="trailed"))
    here.trailing.clear()


def crossed(here: Here, crossing: Crossing, late: bool) -> None:
    """Outside of continuous trading nothing fires; the first trade in it tells of its price again. An entry waits while
    the books are being compared: it would be refused, and its price may be gone when they are."""
    if _closed_ms(here, crossing.instrument):
        return
    state = state_of(here, crossing.gtt_id)
    runtime = here.runtime.get(state.gtt.mode) if state is not None else None
    if runtime is not None and runtime.reconciling and crossing.leg is Leg.ENTRY:
        here.crossings.setdefault(crossing.gtt_id, crossing)
        return
    hit = gtt_state.Hit(
        leg=crossing.leg,
        price=crossing.price,
        ts_ms=here.now_ms,
        late=late,
        gap=crossing.gap,
        last=here.price(crossing.instrument),
    )
    step(here, crossing.gtt_id, hit, "hit")


def compared(here: Here, mode: TradingMode) -> None:
    """The entries that waited for that."""
    for gtt_id, crossing in list(here.crossings.items()):
        state = state_of(here, gtt_id)
        if state is None or state.gtt.mode is mode:
            del here.crossings[gtt_id]
            entry = state.gtt.rule(Leg.ENTRY) if state is not None else None
            if entry is not None and entry.status is RuleStatus.SCHEDULED:
                crossed(here, crossing, late=True)


def _closed_ms(here: Here, key: str) -> int:
    """Until the instrument trades; 0: it does."""
    return waits_ms(key, here.scene.instrument(key), here.market_ms, always=here.scene.always_open)


def order_changed(here: Here, order_id: str) -> None:
    """A GTT of ours is told of its orders."""
    record = here.book.orders.get(order_id)
    if record is None or not record.order.gtt_id:
        return
    gtt = here.book.gtts.get(record.order.gtt_id)
    if gtt is None or not gtt.ours or not _concerns(state_of(here, record.order.gtt_id), record.order):
        return
    step(here, record.order.gtt_id, gtt_state.Child(record.order, here.now_ms), "its order")


def _concerns(state: GttState | None, order: Order) -> bool:
    child = state.child(order.order_id) if state is not None else None
    if child is None:
        return False
    same = (child.status, child.filled, child.price, child.quantity)
    return same != (order.status, order.filled_quantity, order.price, order.quantity) or bool(child.asked_ts)


def due(here: Here, *, market_known: bool) -> None:
    """Timers and ends of validity, of all GTTs that live. Validity ends by the market's clock: until the feed has told
    it, after a start, nothing expires."""
    book = here.book
    for record in book.ended_gtts(here.market_ms) if market_known else ():
        event = gtt_state.Expire(here.now_ms, here.market_ms)
        step(here, record.state.gtt.gtt_order_id, event, "its validity is over")
        book.index_gtt(record)
    for record in book.due_gtts(here.now_ms):
        key = record.state.gtt.instrument
        timer = gtt_state.Timer(here.now_ms, here.price(key), here.scene.band(key))
        step(here, record.state.gtt.gtt_order_id, timer, "its time has come")
        book.index_gtt(record)


def reattached(here: Here) -> None:
    """After a start: every live GTT of ours watches again, and hears which of its orders there are."""
    for gtt_id, record in list(here.book.gtts.items()):
        if not record.ours or not record.state.gtt.live:
            continue
        children = record.state.children
        missing = frozenset(child.order_id for child in children if child.order_id not in here.book.orders)
        step(here, gtt_id, gtt_state.Reattach(missing, here.now_ms), "the order worker has started")
        for child in children:
            order_changed(here, child.order_id)
        watch(here, gtt_id)


def watch(here: Here, gtt_id: str) -> None:
    state = state_of(here, gtt_id)
    if state is not None:
        _watched(here, gtt_id, gtt_state.Watch(machine.watches(state)))


# What the machine asks for


def act(here: Here, gtt_id: str, actions: gtt_state.Actions) -> None:
    for action in actions:
        _ACTS[type(action)](here, gtt_id, action)


def _place(here: Here, gtt_id: str, action: gtt_state.PlaceChild) -> None:
    record = here.book.gtts[gtt_id]
    gtt = record.state.gtt
    if action.intent_id in here.book.intents:
        return  # decided before
    proposal = Proposal(
        intent_id=action.intent_id,
        instrument=gtt.instrument,
        side=action.side,
        quantity=action.quantity,
        product=action.product,
        order_type=action.order_type,
        price=action.price,
        trigger_price=action.trigger_price,
        protection=action.protection,
        mode=gtt.mode,
        strategy=gtt.strategy,
        origin=Origin.EXIT if action.reduces else Origin.GTT,
        reduces=action.reduces,
        stop=_stop_of(record),
    )
    verdict = checking.decide(here, proposal, gtt_id=gtt_id, command=record.command)
    if verdict.ok:
        return
    again_ts = here.now_ms + max(_AGAIN_MS, _closed_ms(here, gtt.instrument)) if action.reduces else 0
    refused = gtt_state.ChildRefused(
        action.order_id, verdict.reason, not action.reduces, here.now_ms, again_ts=again_ts
    )
    step(here, gtt_id, refused, f"refused: {verdict.rule}")
    _nothing_left(here, gtt_id, action)


def _nothing_left(here: Here, gtt_id: str, action: gtt_state.PlaceChild) -> None:
    """An exit was turned down because there is no such position any more."""
    state = state_of(here, gtt_id)
    if not action.reduces or state is None or state.held <= 0:
        return
    gtt = state.gtt
    units = checking.units_of(here, gtt.mode, gtt.instrument, gtt.product)
    if units.net * action.side.sign >= 0:
        step(here, gtt_id, gtt_state.ClosedElsewhere(state.held, "others", here.now_ms), "its position is gone")


def _stop_of(record: GttRecord) -> Decimal | None:
    rule = record.state.gtt.rule(Leg.STOPLOSS)
    return rule.trigger_price if rule is not None else None


def _cancel(here: Here, gtt_id: str, action: gtt_state.CancelChild) -> None:
    record = here.book.orders.get(action.order_id)
    if record is not None:
        desk_orders.cancelled(here, record, gtt_id)


def _change(here: Here, gtt_id: str, action: gtt_state.ChangeChild) -> None:
    record = here.book.orders.get(action.order_id)
    if record is None or not record.live:
        return
    order = record.order
    here.emit(
        facts.ChangeAsked(
            ts=here.now_ms,
            account=order.mode,
            order_id=order.order_id,
            by=gtt_id,
            quantity=action.quantity,
            order_type=order.order_type,
            price=action.price,
            trigger_price=action.trigger_price,
            validity=order.validity,
        )
    )


def _watched(here: Here, gtt_id: str, action: gtt_state.Watch) -> None:
    """Beyond a bound already, it fires. Not after a start: until ticks are read again the board has what was known some
    time before, and perhaps before the GTT was as it is."""
    gtt = here.book.gtts[gtt_id].state.gtt
    fresh = {each.leg for each in action.on if each.fresh}
    for crossing in here.scene.watch(gtt_id, gtt.instrument, action.on):
        if crossing.leg not in fresh and here.caught_up:
            crossed(here, crossing, late=False)


def _odd(here: Here, gtt_id: str, action: gtt_state.Odd) -> None:
    here.alert(f"{gtt_id}: {action.why}", here.book.gtts[gtt_id].state.gtt.mode, gtt_id=gtt_id)


def _alert(here: Here, gtt_id: str, action: gtt_state.Alert) -> None:
    here.alert(action.message, here.book.gtts[gtt_id].state.gtt.mode, gtt_id=gtt_id)


def _done(here: Here, gtt_id: str, _: gtt_state.Done) -> None:
    here.scene.watch(gtt_id, here.book.gtts[gtt_id].state.gtt.instrument, ())


def _nothing(_: Here, __: str, ___: gtt_state.TurnedDown) -> None:
    """Whoever asked for the change tells."""


_ACTS: Final[Mapping[type, Callable[[Here, str, Any], None]]] = {
    gtt_state.PlaceChild: _place,
    gtt_state.CancelChild: _cancel,
    gtt_state.ChangeChild: _change,
    gtt_state.Watch: _watched,
    gtt_state.Odd: _odd,
    gtt_state.TurnedDown: _nothing,
    gtt_state.Alert: _alert,
    gtt_state.Done: _done,
}


# Asked for by people


def modified(here: Here, record: GttRecord, change: GttChange, by: str) -> tuple[str, str]:
    """(rule, reason) where it is refused."""
    gtt = record.state.gtt
    if not gtt.live:
        return "status", "nothing of this GTT is left to change"
    last = here.price(gtt.instrument)
    if record.ours:
        event = gtt_state.Modify(change, here.now_ms, last)
        for action in step(here, gtt.gtt_order_id, event, by):
            if isinstance(action, gtt_state.TurnedDown):
                return action.code or "gtt", action.words
        return "", ""
    if not gtt.venue_gtt_order_id:
        return "status", "the venue has not answered yet that it has this GTT"
    wanted = _rules(record, change)
    request = NewGtt(
        gtt_id=gtt.gtt_order_id,
        type=change.type,
        instrument=gtt.instrument,
        side=gtt.transaction_type,
        quantity=change.quantity,
        product=gtt.product,
        rules=wanted,
    )
    _ask_venue(here, record, What.MODIFY_GTT, by, request)
    return "", ""


def _rules(record: GttRecord, change: GttChange) -> tuple[RuleState, ...]:
    """The rules of a change as the venue's object has them."""
    side = record.state.gtt.transaction_type
    return tuple(
        RuleState(
            strategy=rule.strategy,
            status=RuleStatus.SCHEDULED,
            trigger_type=rule.trigger_type,
            trigger_price=rule.trigger_price,
            transaction_type=side if rule.strategy is Leg.ENTRY else side.other,
            trailing_gap=rule.trailing_gap,
            market_protection=rule.market_protection,
        )
        for rule in change.rules
    )


def cancelled(here: Here, record: GttRecord, by: str, *, keep_exits: bool = False) -> None:
    gtt = record.state.gtt
    if not gtt.live:
        return
    if record.ours:
        step(here, gtt.gtt_order_id, gtt_state.Cancel(by, here.now_ms, keep_exits), by)
    elif record.asked is What.PLACE_GTT and record.call is None:
        _never_sent(here, record)
    else:
        state = record.state.model_copy(update={"closing": by})
        here.emit(facts.GttChanged(ts=here.now_ms, account=gtt.mode, gtt_id=gtt.gtt_order_id, state=state, why=by))
        _ask_venue(here, record, What.CANCEL_GTT, by, None)


def _ask_venue(here: Here, record: GttRecord, what: What, by: str, request: NewGtt | None) -> None:
    gtt = record.state.gtt
    about: dict[str, Any] = {"ts": here.now_ms, "account": gtt.mode, "gtt_id": gtt.gtt_order_id}
    here.emit(facts.GttAsked(**about, what=what, by=by, request=request))


def _never_sent(here: Here, record: GttRecord) -> None:
    ended(here, record, RuleStatus.CANCELLED, "cancelled before it was sent")


def ended(here: Here, record: GttRecord, status: RuleStatus, message: str) -> None:
    """A GTT of the venue that never was there, or is no more."""
    over = (RuleStatus.COMPLETED, RuleStatus.FAILED, RuleStatus.CANCELLED, RuleStatus.EXPIRED)
    gtt = record.state.gtt
    rules = tuple(
        rule if rule.status in over else rule.model_copy(update={"status": status, "message": message})
        for rule in gtt.rules
    )
    gtt = gtt.model_copy(update={"rules": rules, "live": False, "ts": here.now_ms})
    state = record.state.model_copy(update={"gtt": gtt})
    here.emit(facts.GttChanged(ts=here.now_ms, account=gtt.mode, gtt_id=gtt.gtt_order_id, state=state, why=message))


def is_decided(here: Here, gtt_id: str) -> bool:
    """Whether whoever placed or changed it can be told what came of it."""
    record = here.book.gtts.get(gtt_id)
    if record is None:
        return True
    if not record.ours:
        return record.asked is None or not record.state.gtt.live
    waiting = (OrderStatus.CHECKED, OrderStatus.SENDING)
    children = (here.book.orders.get(child.order_id) for child in record.state.children)
    return not any(child is not None and child.order.status in waiting for child in children)


def guarded(here: Here, mode: TradingMode, key: str, product: Product, sign: int) -> int:
    """Units of a long (1) or short (-1) position that our GTTs hold."""
    return sum(state.held for _, state in _guards(here, mode, key, product, sign))


def closed_elsewhere(here: Here, mode: TradingMode, key: str, product: Product, units: int, sign: int) -> None:
    """Orders that are none of theirs have closed so much: our GTTs guard no more than is left, the oldest first."""
    for gtt_id, state in list(_guards(here, mode, key, product, sign)):
        took = min(units, state.held)
        if took > 0:
            units -= took
            step(here, gtt_id, gtt_state.ClosedElsewhere(took, "others", here.now_ms), "others closed its position")


def _guards(here: Here, mode: TradingMode, key: str, product: Product, sign: int) -> Iterator[tuple[str, GttState]]:
    for record in here.book.live_gtts(key):
        gtt_id = record.state.gtt.gtt_order_id
        state = state_of(here, gtt_id)
        if state is None or not record.ours or not state.gtt.live or state.held <= 0:
            continue
        gtt = state.gtt
        same = (gtt.mode, gtt.instrument, gtt.product) == (mode, key, product)
        if same and gtt.transaction_type.sign == sign:
            yield gtt_id, state
