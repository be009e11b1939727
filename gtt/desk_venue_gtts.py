"""GTTs that the venue watches: asked for, answered, told, and mirrored in ours. They have no tag, so one whose answer
was lost is looked for on the venue's book by what it is. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from brokers.venue import VenueGtt
from gtt import desk_gtts, facts
from gtt.book import GttRecord
from gtt.effects import AskGtts, Down, Gone, Nothing, Outcome, Took, Write
from gtt.facts import What
from gtt.gtt_state import FINAL_RULE
from gtt.here import Here
from schemas.gtt import Gtt, Leg, RuleState, RuleStatus
from schemas.orders import TradingMode

_SKEW_MS: Final = 5_000  # between our clock and the venue's
_ASK_MS: Final = 500


def called(here: Here, write: Write, outcome: Outcome) -> None:
    record = here.book.gtts.get(write.gtt_id)
    if record is None or record.attempt != write.attempt or record.call is None:
        return
    about: dict[str, Any] = {"ts": here.now_ms, "account": write.mode, "what": write.what, "attempt": write.attempt}
    about["gtt_id"] = write.gtt_id
    match outcome:
        case Took(venue_id, took_ms):
            here.emit(facts.Answered(**about, venue_id=venue_id, took_ms=took_ms))
            here.runtime[write.mode].gtts_ts = here.now_ms
        case Down(code, words):
            here.emit(facts.TurnedDown(**about, code=code, words=words))
            if write.what is What.PLACE_GTT:
                desk_gtts.ended(here, record, RuleStatus.FAILED, f"{code}: {words}" if code else words)
            here.runtime[write.mode].gtts_ts = here.now_ms
        case Nothing(reason, again_s):
            here.emit(facts.NotSent(**about, reason=reason, again_ts=here.now_ms + int(again_s * 1000)))
        case Gone(reason):
            here.emit(facts.Lost(**about, reason=reason, arrival_ts=here.now_ms))
            here.runtime[write.mode].gtts_ts = here.now_ms


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


def listed(here: Here, mode: TradingMode, told: Sequence[VenueGtt], asked_ts: int) -> None:
    """The venue's live GTTs as they were read from `asked_ts` on."""
    _look_for_lost(here, mode, told, asked_ts)
    by_id = {one.venue_gtt_id: one for one in told}
    for record in list(here.book.gtts.values()):
        gtt = record.state.gtt
        if record.ours or gtt.mode is not mode or not gtt.live or not gtt.venue_gtt_order_id:
            continue
        one = by_id.get(gtt.venue_gtt_order_id)
        if one is not None:
            seen(here, mode, one)
        elif gtt.created_at // 1000 < asked_ts - _SKEW_MS:
            _absent(here, record)


def seen(here: Here, mode: TradingMode, told: VenueGtt) -> None:
    """One telling, of the stream or the list."""
    record = here.book.gtt(told.venue_gtt_id)
    if record is None or record.ours or record.state.gtt.mode is not mode:
        return
    gtt = _merged(here, record, told)
    if gtt != record.state.gtt:
        _keep(here, record, gtt, "told by the venue")


def order_changed(here: Here, order_id: str) -> None:
    """How far a GTT of the venue has got, its orders say."""
    order = here.book.orders[order_id].order if order_id in here.book.orders else None
    record = here.book.gtts.get(order.gtt_id) if order is not None and order.gtt_id else None
    if record is None or record.ours:
        return
    gtt = record.state.gtt
    entered = max(gtt.entered, _filled(here, gtt.rules, Leg.ENTRY))
    exited = max(gtt.exited, _filled(here, gtt.rules, Leg.TARGET, Leg.STOPLOSS))
    if (entered, exited) != (gtt.entered, gtt.exited):
        _keep(here, record, gtt.model_copy(update={"entered": entered, "exited": exited}), "its order")


def _keep(here: Here, record: GttRecord, gtt: Gtt, why: str) -> None:
    state = record.state.model_copy(update={"gtt": gtt.model_copy(update={"ts": here.now_ms})})
    here.emit(facts.GttChanged(ts=here.now_ms, account=gtt.mode, gtt_id=gtt.gtt_order_id, state=state, why=why))


def _merged(here: Here, record: GttRecord, told: VenueGtt) -> Gtt:
    """What is final stays, what is told late changes nothing."""
    gtt = record.state.gtt
    rules = tuple(_rule(here, gtt, rule, told) for rule in gtt.rules)
    live = any(rule.status not in FINAL_RULE for rule in rules)
    entered, exited = _filled(here, rules, Leg.ENTRY), _filled(here, rules, Leg.TARGET, Leg.STOPLOSS)
    changed: dict[str, Any] = {"rules": rules, "live": live, "expires_at": told.expires_us or gtt.expires_at}
    changed |= {"entered": max(gtt.entered, entered), "exited": max(gtt.exited, exited)}
    if live:
        changed["quantity"] = told.quantity
    return gtt.model_copy(update=changed)


def _rule(here: Here, gtt: Gtt, rule: RuleState, told: VenueGtt) -> RuleState:
    theirs = next((one for one in told.rules if one.strategy is rule.strategy), None)
    if theirs is None or rule.status in FINAL_RULE:
        return rule
    order_id = rule.order_id
    if theirs.order_id:
        known = here.book.at_venue(gtt.mode, theirs.order_id)
        order_id = known.order.order_id if known is not None else rule.order_id
        if known is not None and known.order.gtt_id != gtt.gtt_order_id:
            _link(here, gtt, known.order.order_id, rule.strategy)
        if known is None:
            here.look_soon(gtt.mode)
    return theirs.model_copy(update={"order_id": order_id, "transaction_type": rule.transaction_type})


def _link(here: Here, gtt: Gtt, order_id: str, leg: Leg) -> None:
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


def _filled(here: Here, rules: Sequence[RuleState], *legs: Leg) -> int:
    orders = (here.book.orders.get(rule.order_id) for rule in rules if rule.strategy in legs and rule.order_id)
    return sum(record.order.filled_quantity for record in orders if record is not None)


def _absent(here: Here, record: GttRecord) -> None:
    """Not among the venue's live ones: it is over. How, its orders say, as far as they are known."""
    gtt = record.state.gtt
    if record.call is not None:
        return
    entry = gtt.rule(Leg.ENTRY)
    filled = entry is not None and entry.order_id in here.book.orders
    status = RuleStatus.COMPLETED if filled else RuleStatus.CANCELLED
    desk_gtts.ended(here, record, status, "no more among the venue's live GTTs")


def _look_for_lost(here: Here, mode: TradingMode, told: Sequence[VenueGtt], asked_ts: int) -> None:
    """By what it is: instrument, side, quantity, rules, made after it was sent, and not claimed by another of ours."""
    claimed = {record.state.gtt.venue_gtt_order_id for record in here.book.gtts.values()}
    for record in list(here.book.gtts.values()):
        gtt, call = record.state.gtt, record.call
        if gtt.mode is not mode or call is None or not call.lost:
            continue
        about: dict[str, Any] = {"ts": here.now_ms, "account": mode, "gtt_id": gtt.gtt_order_id}
        if call.what is not What.PLACE_GTT:  # a change or a cancellation can be asked for again
            here.emit(facts.Denied(**about, what=call.what, attempt=call.attempt, books=("gtts",)))
            continue
        fitting = [one for one in told if one.venue_gtt_id not in claimed and _fits(gtt, one, call.sent_ts)]
        if fitting:
            found = min(fitting, key=lambda one: one.created_us)
            claimed.add(found.venue_gtt_id)
            here.emit(facts.Found(**about, venue_gtt_id=found.venue_gtt_id))
            if len(fitting) > 1:
                here.alert(
                    f"{gtt.gtt_order_id}: {len(fitting)} GTTs at the venue fit it", mode, gtt_id=gtt.gtt_order_id
                )
        elif asked_ts >= call.arrival_ts + int(here.settings.teji_unknown_s * 1000):
            here.emit(facts.Denied(**about, what=call.what, attempt=call.attempt, books=("gtts",)))
        else:
            here.runtime[mode].gtts_ts = here.now_ms + _ASK_MS


def _fits(gtt: Gtt, told: VenueGtt, sent_ts: int) -> bool:
    same = (told.instrument, told.side, told.quantity, told.product, told.type)
    ours = (gtt.instrument, gtt.transaction_type, gtt.quantity, gtt.product, gtt.type)
    prices = {rule.strategy: rule.trigger_price for rule in gtt.rules if rule.trailing_gap is None}
    theirs = {rule.strategy: rule.trigger_price for rule in told.rules if rule.trailing_gap is None}
    return same == ours and prices == theirs and told.created_us // 1000 >= sent_ts - _SKEW_MS
