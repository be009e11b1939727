"""GTTs that the venue watches: asked for, answered, told, and mirrored in ours (gtt/engine/venue_gtts.py).

They have no tag, so one whose answer was lost is looked for on the venue's book by what it is. While its exits wait for
the rest of a partly filled entry, one of ours guards what was filled. Pure.
"""

from collections.abc import Sequence
from typing import Any, Final

from brokers.venue import NewGtt, VenueGtt
from gtt.book import facts
from gtt.book.book import GttRecord
from gtt.book.facts import What
from gtt.desk import found as desk_found
from gtt.desk import gtts as desk_gtts
from gtt.desk.effects import AskGtts, Down, Gone, Nothing, Outcome, Took, Write
from gtt.desk.here import Here
from gtt.engine import machine, venue_gtts
from gtt.engine import state as gtt_state
from gtt.engine.change import UNKNOWN
from gtt.engine.state import GttState
from schemas.gtt import Gtt, Leg, RuleStatus
from schemas.orders import Order, TradingMode, gtt_id_of

_ASK_MS: Final = 500
_STRANGERS_MAX: Final = 200
_AFTER_MS: Final = 300  # a call: the stream tells sooner, where it does


# Calls


def called(here: Here, write: Write, outcome: Outcome) -> None:
    record = here.book.gtts.get(write.gtt_id)
    if record is None or record.attempt != write.attempt or record.call is None:
        return
    about: dict[str, Any] = {"ts": here.now_ms, "account": write.mode, "what": write.what, "attempt": write.attempt}
    about["gtt_id"] = write.gtt_id
    runtime = here.runtime[write.mode]
    match outcome:
        case Took(venue_id, took_ms):
            here.emit(facts.Answered(**about, venue_id=venue_id, took_ms=took_ms))
            if write.what is What.PLACE_GTT:
                _told_before(here, record)
            if write.what is What.MODIFY_GTT and write.gtt is not None:
                _keep(here, record, _as_asked(record.state.gtt, write.gtt), "changed at the venue")
            runtime.gtts_ts = here.now_ms + _AFTER_MS
        case Down(code, _) if code == UNKNOWN and write.what is What.CANCEL_GTT and record.cancel_lost:
            here.emit(facts.Answered(**about))  # it is gone: by our own word, whose answer was lost
            runtime.gtts_ts = here.now_ms
        case Down(code, words):
            here.emit(facts.TurnedDown(**about, code=code, words=words))
            if write.what is What.PLACE_GTT:
                desk_gtts.ended(here, record, RuleStatus.FAILED, f"{code}: {words}" if code else words)
            runtime.gtts_ts = here.now_ms
        case Nothing(reason, again_s):
            here.emit(facts.NotSent(**about, reason=reason, again_ts=here.now_ms + int(again_s * 1000)))
        case Gone(reason):
            here.emit(facts.Lost(**about, reason=reason, arrival_ts=here.now_ms))
            runtime.gtts_ts = here.now_ms


def _as_asked(gtt: Gtt, request: NewGtt) -> Gtt:
    """The terms of a change that the venue took; how its rules stand, it tells in a moment."""
    wanted = {rule.strategy: rule for rule in request.rules}
    names = ("trigger_price", "trigger_type", "trailing_gap", "market_protection")
    rules = [
        rule.model_copy(update={name: getattr(wanted[rule.strategy], name) for name in names})
        if rule.strategy in wanted and rule.status not in gtt_state.FINAL_RULE
        else rule
        for rule in gtt.rules
    ]
    return gtt.model_copy(update={"rules": tuple(rules), "quantity": request.quantity, "type": request.type})


def started(here: Here) -> None:
    """After a start: calls that were under way are lost, and looked for on the venue's book."""
    for record in list(here.book.gtts.values()):
        gtt, call = record.state.gtt, record.call
        if call is None or gtt.mode not in here.venues:
            continue
        if not call.lost:
            here.emit(
                facts.Lost(
                    ts=here.now_ms,
                    account=gtt.mode,
                    what=call.what,
                    attempt=call.attempt,
                    gtt_id=gtt.gtt_order_id,
                    reason="the order worker was restarted",
                    arrival_ts=here.now_ms,
                )
            )
        here.runtime[gtt.mode].gtts_ts = here.now_ms


def ask(here: Here) -> None:
    """Look at the venue's GTTs where something about them is not known."""
    for mode, runtime in here.runtime.items():
        if runtime.gtts_ts and runtime.gtts_ts <= here.now_ms and not runtime.asking_gtts:
            runtime.asking_gtts, runtime.gtts_ts = True, 0
            here.want(AskGtts(mode))


# Tellings


def listed(
    here: Here, mode: TradingMode, told: Sequence[VenueGtt], asked_ts: int, *, with_orders: bool = False
) -> None:
    """The venue's live GTTs as they were read from `asked_ts` on. `with_orders`: the order book was read before."""
    _look_for_lost(here, mode, told, asked_ts)
    by_id = {one.venue_gtt_id: one for one in told}
    for record in list(here.book.gtts.values()):
        gtt = record.state.gtt
        if record.ours or gtt.mode is not mode or not gtt.live or not gtt.venue_gtt_order_id:
            continue
        one = by_id.get(gtt.venue_gtt_order_id)
        if one is not None:
            _take(here, record, one, listed=True)
        elif max(record.known_ts, gtt.created_at // 1000) < asked_ts - venue_gtts.SKEW_MS and record.call is None:
            _not_listed(here, record, with_orders)
        else:  # it may have been made while the list was: the next one will say
            here.runtime[mode].gtts_ts = here.runtime[mode].gtts_ts or here.now_ms + venue_gtts.SKEW_MS


def _not_listed(here: Here, record: GttRecord, with_orders: bool) -> None:
    """It is over: how it ended, its orders say. They have to be known first."""
    gtt = record.state.gtt
    runtime = here.runtime[gtt.mode]
    if runtime.reconciling and not with_orders:
        runtime.gtts_ts = here.now_ms + _ASK_MS
        return
    gtt = desk_found.with_its_orders(here, gtt)
    _keep(here, record, venue_gtts.absent(gtt, _orders(here, gtt.mode), now_ms=here.market_ms), "not listed")


def seen(here: Here, mode: TradingMode, told: VenueGtt) -> None:
    """One telling of the stream."""
    record = here.book.gtt(told.venue_gtt_id)
    if record is None:
        _keep_in_mind(here, mode, told)
    elif not record.ours and record.state.gtt.mode is mode:
        _take(here, record, told, listed=False)


def _keep_in_mind(here: Here, mode: TradingMode, told: VenueGtt) -> None:
    """The stream may be before the answer to the call, and of a GTT that is over at once nothing else tells."""
    placing = (record.call for record in here.book.called_gtts() if record.state.gtt.mode is mode)
    strangers = here.runtime[mode].strangers
    if not any(call is not None and call.what is What.PLACE_GTT for call in placing):
        strangers.clear()  # somebody else's
        return
    strangers.setdefault(told.venue_gtt_id, []).append(told)
    while len(strangers) > _STRANGERS_MAX:
        del strangers[next(iter(strangers))]


def _told_before(here: Here, record: GttRecord) -> None:
    """A GTT has got its id: what the stream has said of it."""
    for told in here.runtime[record.state.gtt.mode].strangers.pop(record.state.gtt.venue_gtt_order_id, ()):
        _take(here, record, told, listed=False)


def _take(here: Here, record: GttRecord, told: VenueGtt, *, listed: bool) -> None:
    gtt = record.state.gtt
    for rule in told.rules:
        if not rule.order_id:
            continue
        known = here.book.at_venue(gtt.mode, rule.order_id)
        if known is None:
            here.look_soon(gtt.mode)
            desk_found.remember(here, gtt, rule.order_id, rule.strategy)
        elif known.order.gtt_id != gtt.gtt_order_id:
            desk_found.link(here, gtt, known.order.order_id, rule.strategy)
    _keep(here, record, venue_gtts.merge(gtt, told, _orders(here, gtt.mode), listed=listed), "told by the venue")


def order_changed(here: Here, order_id: str) -> None:
    """How far a GTT of the venue has got, its orders say."""
    held = here.book.orders.get(order_id)
    gtt = None
    if held is not None and held.foreign and not held.order.gtt_id:
        gtt = desk_found.known_now(here, held.order)
    record = here.book.gtts.get(held.order.gtt_id) if held is not None and held.order.gtt_id else None
    if record is None:
        return
    if record.ours:
        _guard_works(here, record)
    else:
        gtt = gtt or record.state.gtt
        _keep(here, record, venue_gtts.by_orders(gtt, _orders(here, gtt.mode)), "its order")


def _orders(here: Here, mode: TradingMode) -> venue_gtts.Orders:
    def at_venue(venue_id: str) -> Order | None:
        record = here.book.at_venue(mode, venue_id)
        return record.order if record is not None else None

    def ours(order_id: str) -> Order | None:
        record = here.book.orders.get(order_id)
        return record.order if record is not None else None

    return venue_gtts.Orders(at_venue, ours)


def _keep(here: Here, record: GttRecord, gtt: Gtt, why: str) -> None:
    if gtt == record.state.gtt:
        return
    before = record.state.gtt
    state = record.state.model_copy(update={"gtt": gtt.model_copy(update={"ts": here.now_ms})})
    here.emit(facts.GttChanged(ts=here.now_ms, account=gtt.mode, gtt_id=gtt.gtt_order_id, state=state, why=why))
    _guard(here, state)
    if not gtt.live and (before.live or gtt.entered > before.entered):
        _say_what_is_left(here, gtt)


# Guards of what the venue does not protect yet


def _guard_id(gtt: Gtt) -> str:
    return gtt_id_of(f"gtt:{gtt.gtt_order_id}:REST:1")


def _guard(here: Here, state: GttState) -> None:
    """Its guard begins, grows and ends with what the venue leaves. One that has begun to close goes on until all is
    closed. One whose GTT ended with a part entered, and was not cancelled by anybody, stays."""
    gtt, guard = state.gtt, here.book.gtts.get(_guard_id(state.gtt))
    units = venue_gtts.unguarded(gtt)
    if guard is None:
        if units and gtt.live:
            _begin_guard(here, gtt, units)
    elif not guard.state.gtt.live:
        return
    elif _works(guard):
        _grow(here, guard, gtt.entered)
    elif gtt.live and not units:
        desk_gtts.cancelled(here, guard, f"the venue: it guards {gtt.gtt_order_id} itself now")
    elif not gtt.live and (state.closing or gtt.entered >= gtt.quantity or gtt.entered <= gtt.exited):
        desk_gtts.cancelled(here, guard, state.closing or f"the venue: {gtt.gtt_order_id} is over")
    else:
        _grow(here, guard, gtt.entered - gtt.exited)


def _works(guard: GttRecord) -> bool:
    under_way = (RuleStatus.TRIGGERED, RuleStatus.OPEN, RuleStatus.COMPLETED)
    return any(rule.status in under_way for rule in guard.state.gtt.rules)


def _grow(here: Here, guard: GttRecord, units: int) -> None:
    if units > guard.state.gtt.quantity:
        gtt_id = guard.state.gtt.gtt_order_id
        desk_gtts.step(here, gtt_id, gtt_state.Guarded(units, here.now_ms), "more is to be guarded")


def _guard_works(here: Here, guard: GttRecord) -> None:
    """Of what a guard closes no more is to be entered: its GTT goes, and with it the order of the entry."""
    _, _, rest = guard.state.gtt.intent_id.partition("gtt:")
    parent = here.book.gtts.get(rest.removesuffix(":REST:1")) if rest.endswith(":REST:1") else None
    if parent is None or not parent.state.gtt.live or parent.asked is What.CANCEL_GTT or not _works(guard):
        return
    desk_gtts.cancelled(here, parent, f"its guard {guard.state.gtt.gtt_order_id}")


def _say_what_is_left(here: Here, gtt: Gtt) -> None:
    """A GTT of the venue has ended, or of one that had, more is known."""
    guard = here.book.gtts.get(_guard_id(gtt))
    left = gtt.entered - gtt.exited - (guard.state.gtt.exited if guard else 0)
    exits = any(rule.strategy is not Leg.ENTRY for rule in gtt.rules)
    if left > 0 and exits and (guard is None or not guard.state.gtt.live):
        words = f"{left} units of {gtt.instrument} are held without an exit now"
        here.alert(words, gtt.mode, gtt_id=gtt.gtt_order_id)


def _begin_guard(here: Here, gtt: Gtt, units: int) -> None:
    instrument = here.scene.instrument(gtt.instrument)
    if instrument is None:
        here.alert(f"{gtt.gtt_order_id}: {units} units are not guarded: {gtt.instrument} is not known", gtt.mode)
        return
    state, actions = machine.protect_rest(
        gtt,
        filled=units,
        now_ms=here.now_ms,
        terms=desk_gtts.terms_of(instrument, here.venues[gtt.mode]),
        last=here.price(gtt.instrument),
    )
    guard = state.gtt
    here.emit(
        facts.GttAccepted(
            ts=here.now_ms, account=gtt.mode, gtt_id=guard.gtt_order_id, intent_id=guard.intent_id, state=state
        )
    )
    desk_gtts.act(here, guard.gtt_order_id, actions)


# What was lost


def _look_for_lost(here: Here, mode: TradingMode, told: Sequence[VenueGtt], asked_ts: int) -> None:
    claimed = {record.state.gtt.venue_gtt_order_id for record in here.book.gtts.values()}
    listed = {one.venue_gtt_id for one in told}
    of_stream = [each[-1] for name, each in here.runtime[mode].strangers.items() if name not in listed]
    for record in list(here.book.gtts.values()):
        gtt, call = record.state.gtt, record.call
        if gtt.mode is not mode or call is None or not call.lost:
            continue
        about: dict[str, Any] = {"ts": here.now_ms, "account": mode, "gtt_id": gtt.gtt_order_id}
        if call.what is not What.PLACE_GTT:  # a change or a cancellation can be asked for again
            here.emit(facts.Denied(**about, what=call.what, attempt=call.attempt, books=("gtts",)))
            continue
        sent_ms = call.sent_ts - here.now_ms + here.market_ms  # by the venue's clock
        found = venue_gtts.fitting(gtt, [*told, *of_stream], sent_ms=sent_ms, claimed=claimed)
        if found:
            claimed.add(found[0].venue_gtt_id)
            here.emit(facts.Found(**about, venue_gtt_id=found[0].venue_gtt_id))
            _told_before(here, record)
            if len(found) > 1:
                here.alert(f"{gtt.gtt_order_id}: {len(found)} GTTs at the venue fit it", mode, gtt_id=gtt.gtt_order_id)
        elif asked_ts >= call.arrival_ts + int(here.settings.teji_unknown_s * 1000):
            if not _has_an_order(here, record, call.sent_ts):
                here.emit(facts.Denied(**about, what=call.what, attempt=call.attempt, books=("gtts",)))
        else:
            here.runtime[mode].gtts_ts = here.now_ms + _ASK_MS


def _has_an_order(here: Here, record: GttRecord, sent_ts: int) -> bool:
    """A SINGLE is gone from the venue's list as soon as its order is at the exchange: that order, which nobody else
    has asked for, is all that tells of it. Then it was placed, and is not placed again."""
    gtt = record.state.gtt
    wanted = (gtt.mode, gtt.instrument, gtt.transaction_type, gtt.quantity, gtt.product)
    for order in desk_found.unasked(here, wanted, sent_ts - venue_gtts.SKEW_MS):
        here.emit(facts.Found(ts=here.now_ms, account=gtt.mode, gtt_id=gtt.gtt_order_id, venue_gtt_id=""))
        desk_found.link(here, gtt, order.order_id, Leg.ENTRY)
        gtt = record.state.gtt
        entry = {"order_id": order.order_id}
        rules = tuple(r.model_copy(update=entry) if r.strategy is Leg.ENTRY else r for r in gtt.rules)
        by_orders = venue_gtts.by_orders(gtt.model_copy(update={"rules": rules}), _orders(here, gtt.mode))
        _keep(here, record, by_orders, "found by its order")
        return True
    return False
