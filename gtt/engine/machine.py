"""The life of a GTT under our engine: `accept` starts one, `step` takes it on. Pure.

A step takes an event in, then settles: what the orders have come to, what is held and has to be armed, the exit that is
under way, what is over. So whatever comes in whichever order, the same rules decide. The statuses of rules move along
gtt_table.NEXT only. docs/gtt.md says what a user sees.

- `entered - exited` is held. Exits count for what is held, from the first unit of the entry's fill on.
- The exits are watched, and send their orders when their price is there (gtt_exits.py).
- Cancelling a GTT that holds something cancels the whole of it, as at the venue, and says so. Where the fill comes
  after the cancel was asked for, its exits stay: nobody knew of it.
- Expiry ends what has not been entered. What has been keeps its exits until the position's own product ends.
"""

from dataclasses import replace
from decimal import Decimal

from gtt.engine.change import check_trailing, modify
from gtt.engine.draft import REASK_MS, Draft
from gtt.engine.entry import arm, enter, hit_entry, settle_entry, trail
from gtt.engine.exits import chase, hit_exit, stop_price, work
from gtt.engine.orders import refused_child, told_child, without_order
from gtt.engine.prices import next_better
from gtt.engine.state import (
    Action,
    Actions,
    Alert,
    AutoBand,
    Cancel,
    CancelChild,
    ChangeChild,
    Child,
    ChildRefused,
    ChildState,
    ClosedElsewhere,
    Done,
    Event,
    Expire,
    GttState,
    Guarded,
    Hit,
    Modify,
    NotAccepted,
    Odd,
    PlaceChild,
    Reattach,
    Terms,
    Timer,
    Trailed,
    TurnedDown,
    Watch,
    Watched,
)
from gtt.engine.table import Illegal, RuleEvent
from schemas.gtt import Engine, Gtt, GttBody, GttType, Leg, Rule, RuleState, RuleStatus, TriggerType
from schemas.orders import Product, TradingMode, gtt_id_of

__all__ = [
    "Action",
    "Actions",
    "Alert",
    "AutoBand",
    "Cancel",
    "CancelChild",
    "ChangeChild",
    "Child",
    "ChildRefused",
    "ChildState",
    "ClosedElsewhere",
    "Done",
    "Event",
    "Expire",
    "GttState",
    "Guarded",
    "Hit",
    "Modify",
    "NotAccepted",
    "Odd",
    "PlaceChild",
    "Reattach",
    "Terms",
    "Timer",
    "Trailed",
    "TurnedDown",
    "Watch",
    "Watched",
    "accept",
    "due_ts",
    "ends_us",
    "expiry_us",
    "only_trailed",
    "protect_rest",
    "step",
    "watches",
]


_DAY_US = 86_400_000_000
_IST_US = 19_800_000_000
_YEAR_DAYS = 365
_CHANGES_MAX = 2  # times that an exit's change is asked for


def expiry_us(product: Product, now_ms: int) -> int:
    """As at the venue: 23:59:59 IST, of today for intraday, of the last of 365 days for what is carried."""
    days = 0 if product is Product.INTRADAY else _YEAR_DAYS
    today = (now_ms * 1000 + _IST_US) // _DAY_US
    return (today + days + 1) * _DAY_US - _IST_US - 1_000_000


def accept(
    body: GttBody,
    *,
    gtt_id: str,
    intent_id: str,
    mode: TradingMode,
    engine: Engine,
    note: str,
    segment: str,
    trading_symbol: str,
    now_ms: int,
    expires_us: int,
    terms: Terms,
    last: Decimal | None = None,
) -> tuple[GttState, Actions]:
    """A GTT begins. Raises NotAccepted. One that the venue runs (`engine` VENUE) is only written down."""
    if engine is not Engine.VENUE:
        check_trailing(body.rules, terms, last)
    gtt = Gtt(
        gtt_order_id=gtt_id, type=body.type, exchange=segment, quantity=body.quantity, product=body.product,
        trading_symbol=trading_symbol, instrument_token=body.instrument_token, instrument=body.instrument_token,
        transaction_type=body.transaction_type, created_at=now_ms * 1000, expires_at=expires_us,
        rules=tuple(_first_state(body, rule) for rule in body.rules), intent_id=intent_id, mode=mode, engine=engine,
        strategy=body.strategy, live=True, note=note, ts=now_ms,
    )  # fmt: skip
    state = GttState(gtt=gtt, terms=terms, last=last, exits_until_us=_exits_until(body, expires_us))
    if engine is Engine.VENUE:
        return state, ()
    draft = Draft(state, now_ms)
    entry = draft.rule(Leg.ENTRY)
    if entry is None:
        draft.put_gtt(entered=body.quantity)
    elif entry.trigger_type is TriggerType.IMMEDIATE:
        enter(draft)
    _settle(draft)
    return _ended(state, draft, ())


def _first_state(body: GttBody, rule: Rule) -> RuleState:
    is_entry = rule.strategy is Leg.ENTRY
    return RuleState(
        strategy=rule.strategy, status=RuleStatus.SCHEDULED if is_entry else RuleStatus.INACTIVE,
        trigger_type=rule.trigger_type, trigger_price=rule.trigger_price,
        transaction_type=body.transaction_type if is_entry else body.transaction_type.other,
        trailing_gap=rule.trailing_gap, market_protection=rule.market_protection,
    )  # fmt: skip


def _exits_until(body: GttBody, expires_us: int) -> int:
    """An intraday position ends with its day. One that is carried does not; but who guards one that was there before
    says so for as long as the GTT is valid."""
    if body.product is Product.INTRADAY:
        return ((expires_us + _IST_US) // _DAY_US + 1) * _DAY_US - _IST_US - 1_000_000
    return 0 if body.rule(Leg.ENTRY) else expires_us


def step(state: GttState, event: Event) -> tuple[GttState, Actions]:
    """What becomes of it. An event that does not fit changes nothing and is told as `Odd`."""
    ts_ms = event.ts_ms or (event.order.ts if isinstance(event, Child) else 0)
    draft = Draft(state, max(state.gtt.ts, ts_ms))
    if state.gtt.engine is Engine.VENUE:
        return state, (Odd("it is the venue that runs this GTT"),)
    try:
        if not state.gtt.live:
            _over(draft, event)
        else:
            _take(draft, event)
        _settle(draft)
    except Illegal as odd:
        return state, (Odd(f"{type(event).__name__}: {odd}"),)
    except NotAccepted as refused:
        return state, (TurnedDown(refused.code, refused.words),)
    before = () if isinstance(event, Reattach) else watches(state)
    return _ended(state, draft, before)


def _over(draft: Draft, event: Event) -> None:
    """Of a GTT that is over: late news of its orders are none."""
    match event:
        case Child():
            told_child(draft, event)
        case Modify() | Cancel():
            raise NotAccepted("UDAPI100010", f"{draft.state.gtt.gtt_order_id} is finished")
        case Timer() | Reattach() | Expire() | ChildRefused():
            pass
        case _:
            raise Illegal("the GTT is finished")


def _take(draft: Draft, event: Event) -> None:
    match event:
        case Hit():
            draft.put(last=event.price if event.last is None else event.last)
            (hit_entry if event.leg is Leg.ENTRY else hit_exit)(draft, event)
        case Trailed():
            draft.put(last=event.best)
            trail(draft, event.best)
        case Child():
            told_child(draft, event)
        case ChildRefused():
            refused_child(draft, event)
        case Modify():
            modify(draft, event)
        case Cancel():
            _cancel(draft, event)
        case Expire():
            _expire(draft, event)
        case Timer():
            _timer(draft, event)
        case Reattach():
            if event.last is not None:
                draft.put(last=event.last)
            for child in draft.state.children:
                draft.put_child(child, asked_ts=0)
            without_order(draft, event.missing)
        case ClosedElsewhere():
            closed = min(event.quantity, max(draft.held, 0))
            draft.put(elsewhere=draft.state.elsewhere + closed)
        case Guarded():
            if draft.rule(Leg.ENTRY) is not None:
                raise Illegal("this GTT guards what its own entry has bought")
            quantity = max(event.quantity, draft.state.gtt.entered)
            draft.put_gtt(entered=quantity, quantity=quantity)


def _cancel(draft: Draft, event: Cancel) -> None:
    if draft.state.closing and (event.keep_exits or not draft.state.keep_exits):
        return  # what has been cancelled does not come back
    keep_exits = event.keep_exits or (draft.held <= 0 and draft.rule(Leg.ENTRY) is not None)
    draft.put(closing=event.by or "somebody", keep_exits=keep_exits)


def _expire(draft: Draft, event: Expire) -> None:
    gtt, until_us = draft.state.gtt, draft.state.exits_until_us
    now_us = gtt.expires_at if event.market_ms is None else event.market_ms * 1000
    draft.put(lapsed=draft.state.lapsed or now_us >= gtt.expires_at)
    draft.put(ended=draft.state.ended or 0 < until_us <= now_us)


def _timer(draft: Draft, event: Timer) -> None:
    state = draft.state
    if event.last is not None:
        draft.put(last=event.last)
    draft.band = event.band
    if draft.ts_ms >= state.retry_ts:
        draft.put(retry_ts=0)
    chase(draft)
    for child in draft.state.children:
        if child.live and child.asked_ts and draft.ts_ms >= child.asked_ts + REASK_MS:
            _ask_again(draft, child)


def _ask_again(draft: Draft, child: ChildState) -> None:
    """For what has not come true. An exit that is not changed for long is cancelled instead, and follows anew."""
    child = draft.put_child(child, asked_ts=0)
    if child.wanted is None:
        return
    if child.asked >= _CHANGES_MAX and child.leg is not Leg.ENTRY:
        draft.leave(child)
    elif child.leg is Leg.TARGET and draft.works() is Leg.STOPLOSS:
        draft.put_child(child, wanted=stop_price(draft, 0)[0])


def _settle(draft: Draft) -> None:
    settle_entry(draft)
    arm(draft)
    _leave(draft)
    work(draft)
    _finish(draft)
    draft.ask()


def _leave(draft: Draft) -> None:
    """What has been cancelled or has expired: its orders go, and what only waits ends at once."""
    state = draft.state
    whole = _whole(draft)
    if whole is not None:
        event, why = whole
        for child in draft.state.children:
            draft.leave(child)
        for rule in state.gtt.rules:
            if not any(child.live and child.leg is rule.strategy for child in draft.state.children):
                _end_exit_or_entry(draft, rule.strategy, event, why)
    elif state.closing or state.lapsed:
        for child in draft.entries():
            draft.leave(child)
        if draft.is_in(Leg.ENTRY, RuleStatus.SCHEDULED):
            event = RuleEvent.CANCELLED if state.closing else RuleEvent.EXPIRED
            draft.move(Leg.ENTRY, event, f"cancelled by {state.closing}" if state.closing else "")


def _whole(draft: Draft) -> tuple[RuleEvent, str] | None:
    """How all of it ends, where it does."""
    state = draft.state
    if state.closing and not state.keep_exits:
        return RuleEvent.CANCELLED, f"cancelled by {state.closing}"
    if state.ended:
        return RuleEvent.EXPIRED, ""
    return None


def _end_exit_or_entry(draft: Draft, leg: Leg, event: RuleEvent, why: str) -> None:
    done = leg is not Leg.ENTRY and draft.held <= 0 and leg is draft.state.exited_by
    if done and draft.is_in(leg, RuleStatus.TRIGGERED, RuleStatus.OPEN):
        draft.move(leg, RuleEvent.FILLED)
    draft.end(leg, event, why)


def _finish(draft: Draft) -> None:
    """What is over."""
    state = draft.state
    if draft.is_over(Leg.ENTRY) and not draft.entering() and not draft.exits() and draft.held <= 0:
        closed = state.exited_by
        if closed and draft.is_in(closed, RuleStatus.TRIGGERED, RuleStatus.OPEN):
            draft.move(closed, RuleEvent.FILLED)
        event, why = RuleEvent.CANCELLED, "nothing is held" if state.gtt.entered else "nothing was entered"
        if state.gtt.entered and closed:
            why = f"the {closed.value} was filled"
        elif state.lapsed and not state.gtt.entered:
            event, why = RuleEvent.EXPIRED, ""
        for leg in (Leg.TARGET, Leg.STOPLOSS):
            draft.end(leg, event, why)
    rules = draft.state.gtt.rules
    alive = any(child.live for child in draft.state.children)
    if not state.gtt.live or alive or not all(draft.is_over(rule.strategy) for rule in rules):
        return
    draft.put_gtt(live=False)
    draft.put(retry_ts=0, chase_ts=0)
    if draft.held > 0 and any(rule.strategy is not Leg.ENTRY for rule in rules):
        draft.act(Alert(f"{draft.held} units of {state.gtt.instrument} are held without an exit now"))
    elif draft.held < 0:
        draft.act(Alert(f"{-draft.held} units of {state.gtt.instrument} more were closed than were held"))
    draft.act(Done())


def _ended(state: GttState, draft: Draft, before: tuple[Watched, ...]) -> tuple[GttState, Actions]:
    if draft.state != state:
        draft.put_gtt(ts=draft.ts_ms)
    draft.put(due_ts=_due_ts(draft.state))
    now = watches(draft.state)
    if now != before:
        if _is_armed(state, draft.state):
            now = tuple(replace(each, fresh=each.leg is Leg.TARGET) for each in now)
        draft.actions.insert(0, Watch(now))
    return draft.state, tuple(draft.actions)


def _is_armed(before: GttState, after: GttState) -> bool:
    """Whether a fill has armed the target just now. The news of a fill may overtake the price it happened at: a profit
    is not taken at a price from before there was a position. A stop does not wait."""
    was, now = before.gtt.rule(Leg.TARGET), after.gtt.rule(Leg.TARGET)
    inactive = was is not None and was.status is RuleStatus.INACTIVE and before.gtt.rule(Leg.ENTRY) is not None
    return inactive and now is not None and now.status is RuleStatus.PENDING


def watches(state: GttState) -> tuple[Watched, ...]:
    """All that is to be watched for it as it stands."""
    gtt = state.gtt
    if not gtt.live or gtt.engine is Engine.VENUE:
        return ()
    found = []
    for rule in gtt.rules:
        price = rule.trigger_price
        if rule.strategy is Leg.ENTRY:
            if rule.status is RuleStatus.SCHEDULED and rule.trigger_type is TriggerType.ABOVE:
                found.append(Watched(Leg.ENTRY, None, price))
            elif rule.status is RuleStatus.SCHEDULED and rule.trigger_type is TriggerType.BELOW:
                found.append(Watched(Leg.ENTRY, price, None))
        elif rule.status is RuleStatus.PENDING and state.held > 0:
            if rule.strategy is Leg.STOPLOSS:
                found.append(_bounds(state, price, _moves_on(state, rule), rule.strategy))
            elif not state.retry_ts and not _stop_works(state):
                found.append(_bounds(state, None, price, rule.strategy))
    return tuple(found)


def _bounds(state: GttState, loss: Decimal | None, profit: Decimal | None, leg: Leg) -> Watched:
    """For a long position loss is below, for a short one above."""
    return Watched(leg, loss, profit) if state.gtt.transaction_type.sign > 0 else Watched(leg, profit, loss)


def _moves_on(state: GttState, stop: RuleState) -> Decimal | None:
    if stop.trailing_gap is None:
        return None
    sign = state.gtt.transaction_type.sign
    return next_better(sign, stop.trigger_price, stop.trailing_gap, state.terms.tick)


def _stop_works(state: GttState) -> bool:
    stop = state.gtt.rule(Leg.STOPLOSS)
    return stop is not None and stop.status in (RuleStatus.TRIGGERED, RuleStatus.OPEN)


def due_ts(state: GttState) -> int:
    """When it wants a `Timer`, epoch ms; 0: never."""
    return state.due_ts


def ends_us(state: GttState) -> int:
    """When it wants an `Expire`, epoch us by the market's clock; 0: never."""
    if not state.gtt.live or state.gtt.engine is Engine.VENUE:
        return 0
    if not state.lapsed:
        return state.gtt.expires_at
    return 0 if state.ended else state.exits_until_us


def only_trailed(before: GttState, after: GttState) -> bool:
    """Whether nothing but the place of the trailing stop is another: ticks tell that again."""
    stop = after.gtt.rule(Leg.STOPLOSS)
    if stop is None:
        return False
    rules = tuple(
        rule.model_copy(update={"trigger_price": stop.trigger_price}) if rule.strategy is Leg.STOPLOSS else rule
        for rule in before.gtt.rules
    )
    moved = before.gtt.model_copy(update={"rules": rules, "ts": after.gtt.ts})
    return after == before.model_copy(update={"gtt": moved, "best": after.best, "last": after.last})


def _due_ts(state: GttState) -> int:
    gtt = state.gtt
    if not gtt.live or gtt.engine is Engine.VENUE:
        return 0
    times = [state.retry_ts, state.chase_ts]
    times += [child.asked_ts + REASK_MS for child in state.children if child.live and child.asked_ts]
    return min((ts for ts in times if ts), default=0)


def protect_rest(
    gtt: Gtt, *, filled: int, now_ms: int, terms: Terms, last: Decimal | None = None
) -> tuple[GttState, Actions]:
    """For a GTT that the venue runs and whose entry is partly filled: one of ours, without ENTRY, that guards those
    units until the venue does. Its growth is told by `Guarded`, its end by `Cancel`."""
    rules = tuple(
        Rule(
            strategy=rule.strategy, trigger_type=rule.trigger_type, trigger_price=rule.trigger_price,
            trailing_gap=rule.trailing_gap, market_protection=rule.market_protection,
        )
        for rule in gtt.rules if rule.strategy is not Leg.ENTRY
    )  # fmt: skip
    if not rules:
        raise NotAccepted("", f"{gtt.gtt_order_id} has no exits that could guard anything")
    body = GttBody(
        type=GttType.SINGLE if len(rules) == 1 else GttType.MULTIPLE, quantity=filled, rules=rules,
        product=gtt.product, instrument_token=gtt.instrument_token, transaction_type=gtt.transaction_type,
        strategy=gtt.strategy,
    )  # fmt: skip
    intent_id = f"gtt:{gtt.gtt_order_id}:REST:1"
    lenient = terms.model_copy(update={"trailing_share": Decimal(0)})  # the venue has taken these rules already
    return accept(
        body, gtt_id=gtt_id_of(intent_id), intent_id=intent_id, mode=gtt.mode, engine=Engine.OURS,
        note=f"guards what {gtt.gtt_order_id} has entered, until the venue does", segment=gtt.exchange,
        trading_symbol=gtt.trading_symbol, now_ms=now_ms, expires_us=gtt.expires_at, terms=lenient, last=last,
    )  # fmt: skip
