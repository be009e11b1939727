"""A GTT is modified: which changes are taken in which state, and how the new rules come into force at once. Pure."""

from collections.abc import Sequence
from decimal import Decimal

from pydantic import ValidationError

from gtt.engine.draft import Draft
from gtt.engine.entry import enter, trail
from gtt.engine.prices import at_trigger
from gtt.engine.state import EXITS, FINAL_RULE, Modify, NotAccepted, Terms
from schemas.gtt import GttBody, GttChange, GttType, Leg, Rule, RuleState, RuleStatus, TriggerType
from schemas.orders import Side

LOCKED = "UDAPI1150"  # an open GTT
TRAILING = "UDAPI1151"
NO_ENTRY = "UDAPI1141"
UNKNOWN = "UDAPI100010"


def check_trailing(rules: Sequence[Rule], terms: Terms, last: Decimal | None) -> None:
    """The least trailing gap, from the last price; where that is not known, from the trigger of the ENTRY."""
    stop = next((rule for rule in rules if rule.strategy is Leg.STOPLOSS), None)
    if stop is None or stop.trailing_gap is None:
        return
    if last is None:
        last = next((rule.trigger_price for rule in rules if rule.strategy is Leg.ENTRY), None)
    if last is None:
        return
    least = abs(last - stop.trigger_price) * terms.trailing_share
    if stop.trailing_gap < least:
        share = f"{terms.trailing_share * 100:.0f} %"
        raise NotAccepted(
            TRAILING,
            f"trailing_gap {stop.trailing_gap.normalize():f} is under {share} of the distance between the price "
            f"{last.normalize():f} and the stop: at least {least.normalize():f}",
        )


def modify(draft: Draft, event: Modify) -> None:
    """Raises NotAccepted, and nothing has changed."""
    change = event.change
    last = event.last if event.last is not None else draft.state.last
    _check(draft, change)
    check_trailing(change.rules, draft.state.terms, last)
    if event.last is not None:
        draft.put(last=event.last)
    _apply(draft, change)
    entry = draft.rule(Leg.ENTRY)
    if entry and entry.status is RuleStatus.SCHEDULED and entry.trigger_type is TriggerType.IMMEDIATE:
        enter(draft, "changed to IMMEDIATE")
    _reprice(draft)


def _check(draft: Draft, change: GttChange) -> None:
    state = draft.state
    if not state.gtt.live:
        raise NotAccepted(UNKNOWN, f"{state.gtt.gtt_order_id} is finished")
    whole = state.ended or (state.closing and not state.keep_exits)
    if whole or ((state.closing or state.lapsed) and not draft.is_over(Leg.ENTRY)):
        raise NotAccepted(UNKNOWN, f"{state.gtt.gtt_order_id} is being cancelled or has expired")
    new, old = change.rule(Leg.ENTRY), draft.rule(Leg.ENTRY)
    if (new is None) is not (old is None):
        raise NotAccepted(NO_ENTRY, "the ENTRY rule stays what it is: with it or without it, for good")
    if old is not None and new is not None and old.status is not RuleStatus.SCHEDULED:
        if change.quantity != state.gtt.quantity:
            raise NotAccepted(LOCKED, "the quantity of an open GTT cannot be changed")
        if new.trigger_type is not TriggerType.IMMEDIATE:
            raise NotAccepted(LOCKED, "in an open GTT the trigger_type of ENTRY is IMMEDIATE")
        if old.status in FINAL_RULE and new.trigger_price != old.trigger_price:
            raise NotAccepted(LOCKED, "the ENTRY is over: its trigger_price cannot be changed")
    if old is None and change.quantity != state.gtt.quantity and draft.works():
        raise NotAccepted(LOCKED, "the quantity cannot be changed while an exit is under way")
    if old is None and change.quantity <= state.gtt.exited + state.elsewhere:
        raise NotAccepted(LOCKED, f"{state.gtt.exited + state.elsewhere} units are closed already")
    if draft.works() is Leg.STOPLOSS and any(_differs(draft.rule(leg), change.rule(leg)) for leg in EXITS):
        raise NotAccepted(LOCKED, "the STOPLOSS was hit: the exits cannot be changed any more")
    _check_order(draft, change)


def _differs(old: RuleState | None, new: Rule | None) -> bool:
    if old is None:
        return new is not None
    if new is None:
        return old.status not in FINAL_RULE  # one that is over need not be sent again
    wanted = (new.trigger_price, new.trailing_gap, new.market_protection)
    return wanted != (old.trigger_price, old.trailing_gap, old.market_protection)


def _check_order(draft: Draft, change: GttChange) -> None:
    """Profit on one side, loss on the other. Once something is held the exits count alone: a stop may have passed the
    entry's price."""
    gtt = draft.state.gtt
    rules = change.rules
    if draft.is_over(Leg.ENTRY) or gtt.entered:
        rules = tuple(rule for rule in rules if rule.strategy is not Leg.ENTRY)
    if not rules:
        return
    try:
        GttBody(
            type=GttType.SINGLE if len(rules) == 1 else GttType.MULTIPLE, quantity=change.quantity, rules=rules,
            product=gtt.product, instrument_token=gtt.instrument_token, transaction_type=gtt.transaction_type,
        )  # fmt: skip
    except ValidationError as error:
        raise NotAccepted("", error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _apply(draft: Draft, change: GttChange) -> None:
    """The new rules in the places of the old ones: what is watched changes in one step."""
    gtt = draft.state.gtt
    rules = tuple(_state_of(draft, rule) for rule in change.rules)
    draft.put_gtt(type=change.type, quantity=change.quantity, rules=rules)
    if draft.rule(Leg.ENTRY) is None:
        draft.put_gtt(entered=change.quantity)
    _trail_on(draft, gtt.rule(Leg.STOPLOSS))
    if draft.rule(Leg.TARGET) is None:
        for child in draft.exits():
            if child.leg is Leg.TARGET:
                draft.leave(child)


def _trail_on(draft: Draft, before: RuleState | None) -> None:
    """A trailing stop that is sent again with the same gap, because something else is changed, does not go back."""
    stop = draft.rule(Leg.STOPLOSS)
    if stop is None or stop.trailing_gap is None:
        return
    if before and before.trailing_gap == stop.trailing_gap and before.status not in FINAL_RULE:
        tighter = max if draft.sign > 0 else min
        draft.put_rule(Leg.STOPLOSS, trigger_price=tighter(before.trigger_price, stop.trigger_price))
    else:
        draft.put(best=None)
        trail(draft, draft.state.last)


def _state_of(draft: Draft, rule: Rule) -> RuleState:
    old = draft.rule(rule.strategy)
    gtt = draft.state.gtt
    if rule.strategy is Leg.ENTRY:
        status = old.status if old else RuleStatus.SCHEDULED
    elif old and (old.status not in FINAL_RULE or draft.works() is Leg.STOPLOSS):
        status = old.status
    else:
        status = RuleStatus.PENDING if draft.held > 0 else RuleStatus.INACTIVE
    return RuleState(
        strategy=rule.strategy, status=status, trigger_type=rule.trigger_type, trigger_price=rule.trigger_price,
        transaction_type=gtt.transaction_type if rule.strategy is Leg.ENTRY else draft.state.exit_side,
        message=old.message if old else "", order_id=old.order_id if old else None, trailing_gap=rule.trailing_gap,
        market_protection=rule.market_protection,
    )  # fmt: skip


def _reprice(draft: Draft) -> None:
    """Orders of the entry and of the target that rest move to the new prices."""
    for leg in (Leg.ENTRY, Leg.TARGET):
        rule = draft.rule(leg)
        if rule is None or rule.status in FINAL_RULE or draft.works() is Leg.STOPLOSS:
            continue
        side: Side = rule.transaction_type
        price, _ = at_trigger(rule, side, draft.state.terms)
        for child in draft.state.children:
            if child.leg is leg and child.live:
                draft.want(child, price)
