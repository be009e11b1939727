"""The stories of a day as lines to read, as objects for programs, and as rows of a table. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gtt.book import facts
from gtt.book.facts import Fact
from schemas.orders import Order
from teji.audit_orders_stories import GttStory, OrderStory, Step, Stories, Unresolved, charges_of, totals

_IST: Final = timedelta(hours=5, minutes=30)
_QUIET: Final = ("passed", "exempt")

COLUMNS: Final = (
    *("time", "ts", "n", "account", "step", "intent_id", "order_id", "venue_order_id", "gtt_id", "strategy"),
    *("instrument", "side", "quantity", "price", "trigger_price", "status", "words", "data"),
)


def clock(ts: int) -> str:
    return f"{datetime.fromtimestamp(ts / 1000, UTC) + _IST:%H:%M:%S.%f}"[:-3]


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# What a fact says


def said(fact: Fact) -> str:
    """In one line, without what is in its name."""
    return _SAYS[type(fact)](fact) if type(fact) in _SAYS else ""


def _approved(fact: facts.Approved) -> str:
    checks = [each for each in fact.checks if each.get("verdict") not in _QUIET]
    asked = sum(each.get("verdict") != "exempt" for each in fact.checks)
    slices = f", {len(fact.orders)} slices" if len(fact.orders) > 1 else ""
    return f"{asked} rules asked{slices}{_list_of(checks)}"


def _list_of(checks: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"; {check_line(each)}" for each in checks)


def check_line(check: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in check.get("values", {}).items())
    return f"{check.get('rule')} {check.get('verdict')}" + (f" ({values})" if values else "")


def _refused(fact: facts.Refused) -> str:
    told = fact.refusal
    what = f"{told.side.value} {told.quantity} {told.instrument}: " if told.side else ""
    return f"{what}{told.reason} [{told.rule}]"


def _request(fact: facts.Sending) -> str:
    shown = {name: value for name, value in sorted(fact.request.items()) if value not in (None, "", 0, "0")}
    told = " ".join(f"{name}={value}" for name, value in shown.items() if not isinstance(value, dict | list))
    return f"{fact.what.value} #{fact.attempt} {told}"


def _seen(fact: facts.Seen) -> str:
    told = fact.state
    filled = f", {told.filled_quantity} filled at {_plain(told.average_price)}" if told.filled_quantity else ""
    reason = f": {told.reason}" if told.reason else ""
    return f"{told.words or told.status.value}{filled} ({fact.source or 'venue'}){reason}"


def _filled(fact: facts.Filled) -> str:
    fill = fact.fill
    return f"{fill.quantity} at {_plain(fill.price)}, trade {fill.trade_id}, charges {_plain(fill.charges.total)}"


def _gtt(fact: facts.GttAccepted | facts.GttChanged) -> str:
    gtt = fact.state.gtt
    rules = ", ".join(
        f"{rule.strategy.value} {rule.status.value} at {_plain(rule.trigger_price)}" for rule in gtt.rules
    )
    why = f" ({fact.why})" if isinstance(fact, facts.GttChanged) and fact.why else ""
    return f"{gtt.entered} entered, {gtt.exited} exited; {rules}{why}"


def _change(fact: facts.ChangeAsked) -> str:
    stop = f" trigger {_plain(fact.trigger_price)}" if fact.trigger_price else ""
    return f"{fact.order_type.value} {fact.quantity} at {_plain(fact.price)}{stop}, by {fact.by}"


_SAYS: Final[dict[type, Callable[[Any], str]]] = {
    facts.Approved: _approved,
    facts.Refused: _refused,
    facts.CancelAsked: lambda fact: f"by {fact.by}",
    facts.ChangeAsked: _change,
    facts.Sending: _request,
    facts.Answered: lambda fact: f"{fact.what.value} #{fact.attempt} {fact.venue_id} in {fact.took_ms} ms",
    facts.TurnedDown: lambda fact: f"{fact.what.value} #{fact.attempt} {fact.code}: {fact.words}",
    facts.NotSent: lambda fact: f"{fact.what.value} #{fact.attempt} {fact.reason}",
    facts.Lost: lambda fact: f"{fact.what.value} #{fact.attempt} {fact.reason}",
    facts.Denied: lambda fact: f"{fact.what.value} #{fact.attempt} by {', '.join(fact.books)}",
    facts.Found: lambda fact: fact.venue_gtt_id,
    facts.Seen: _seen,
    facts.Filled: _filled,
    facts.Adopted: lambda fact: f"{fact.order.venue_order_id}, {fact.order.intent_id}",
    facts.Ended: lambda fact: f"{fact.status.value}: {fact.reason}",
    facts.GttAccepted: _gtt,
    facts.GttChanged: _gtt,
    facts.GttAsked: lambda fact: f"{fact.what.value}, by {fact.by}",
    facts.Halted: lambda fact: fact.why,
    facts.Breached: lambda fact: fact.reason,
    facts.StrategySwitched: lambda fact: f"{fact.strategy} to {fact.mode.value}, by {fact.by or 'nobody'}",
    facts.PositionSeen: lambda fact: f"{fact.instrument} {fact.product.value}: {fact.quantity}, not {fact.before}",
    facts.FlattenAsked: lambda fact: f"{fact.instrument} {fact.product.value}, by {fact.by}",
    facts.FlattenDone: lambda fact: f"{fact.instrument} {fact.product.value}, by {fact.by}",
    facts.Alerted: lambda fact: fact.message,
}


# For people


def in_words(
    stories: Stories, on: date, mode: str, open_ends: Sequence[Unresolved], shown: int, *, whole: bool
) -> Iterator[str]:
    """`shown`: how many orders, the last ones; 0: all. `whole`: every rule of every check."""
    yield f"{on:%A, %d %B %Y}, {mode or 'all accounts'}"
    why = {each.of: each.why for each in open_ends}
    orders = list(stories.orders.items())
    left = orders[: -shown or None] if shown else []
    if left:
        yield f"\n{len(left)} orders before these: --list 0 shows them, --json too"
    for order_id, story in orders[-shown:] if shown else orders:
        yield from _order_lines(story, why.get(order_id, ""), whole)
    for gtt_id, gtt in stories.gtts.items():
        yield from _gtt_lines(gtt, why.get(gtt_id, ""))
    if stories.refused:
        yield "\nRefused"
        refused = stories.refused[-shown:] if shown else stories.refused
        yield from (line for step in refused for line in _refused_lines(step, whole))
        if len(refused) < len(stories.refused):
            yield f"  and {len(stories.refused) - len(refused)} before these"
    if stories.notes:
        yield "\nBesides"
        yield from (_line(step) for step in stories.notes)
    yield ""
    yield from _total_lines(stories)
    yield from _unresolved_lines(open_ends)


def _order_lines(story: OrderStory, why: str, whole: bool) -> Iterator[str]:
    order = story.record.order
    yield f"\n{title(order)}"
    yield f"  {order.intent_id}" + (f", GTT {order.gtt_id}" if order.gtt_id else "") + _at_venue(order)
    for step in story.steps:
        yield _line(step)
        if whole and isinstance(step.fact, facts.Approved):
            yield from (f"{'':16}{check_line(each)}" for each in step.fact.checks)
    if story.fills:
        yield f"{'':16}charges {_charge_words(charges_of(story.fills).model_dump())}"
    if why:
        yield f"  UNRESOLVED: {why}"


def title(order: Order) -> str:
    price = f" {_plain(order.price)}" if order.price else ""
    trigger = f" trigger {_plain(order.trigger_price)}" if order.trigger_price else ""
    done = f", {order.filled_quantity} at {_plain(order.average_price)}" if order.filled_quantity else ""
    who = f", {order.strategy}" if order.strategy else ""
    return (
        f"{order.order_id}  {order.mode.value}{who}  {order.side.value} {order.quantity} {order.instrument} "
        f"{order.product.value} {order.order_type.value}{price}{trigger}  {order.status.value}{done}"
    )


def _at_venue(order: Order) -> str:
    return f", {order.venue} {order.venue_order_id}" if order.venue_order_id else ""


def _line(step: Step) -> str:
    return f"  {clock(step.fact.ts)}  {step.fact.kind.replace('_', ' '):<12} {said(step.fact)}".rstrip()


def _gtt_lines(story: GttStory, why: str) -> Iterator[str]:
    gtt = story.gtt
    if gtt is None and not story.steps:
        return  # of another day; its orders are above
    about = f"  {gtt.mode.value}  {gtt.transaction_type.value} {gtt.quantity} {gtt.instrument}" if gtt else ""
    yield f"\n{story.gtt_id}{about}" + (f", watched by {gtt.engine.value}" if gtt else "")
    yield from (_line(step) for step in story.steps)
    if story.orders:
        yield f"{'':16}orders {', '.join(story.orders)}"
    if why:
        yield f"  UNRESOLVED: {why}"


def _refused_lines(step: Step, whole: bool) -> Iterator[str]:
    fact = step.fact
    if isinstance(fact, facts.Refused):
        yield f"  {clock(fact.ts)}  {fact.refusal.intent_id}  {said(fact)}"
        if whole:
            yield from (f"{'':16}{check_line(each)}" for each in fact.checks)


def _total_lines(stories: Stories) -> Iterator[str]:
    found = totals(stories)
    for name in ("orders", "refused"):
        told = ", ".join(f"{count} {what}" for what, count in found[name].items())
        yield f"{sum(found[name].values()):>10}  {name}" + (f": {told}" if told else "")
    yield f"{found['gtts']:>10}  GTTs"
    yield f"{found['requests']:>10}  requests to the venue"
    yield f"{found['fills']:>10}  fills: bought for {found['bought']:.2f}, sold for {found['sold']:.2f}"
    yield f"{found['charges']['total']:>10.2f}  charges: {_charge_words(found['charges'])}"


def _charge_words(charges: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{name} {value:.2f}" for name, value in charges.items() if value and name != "total")
    return f"{charges['total']:.2f}" + (f" ({parts})" if parts else "")


def _unresolved_lines(open_ends: Sequence[Unresolved]) -> Iterator[str]:
    yield f"{len(open_ends):>10}  unresolved"
    for each in open_ends:
        yield f"{'':12}{each.of}{f' ({each.mode.value})' if each.mode else ''}: {each.why}"


# For programs


def as_dict(stories: Stories, on: date, mode: str, open_ends: Sequence[Unresolved]) -> dict[str, Any]:
    return {
        "date": on.isoformat(),
        "mode": mode or None,
        "right": not open_ends,
        "totals": totals(stories),
        "unresolved": [
            {"of": each.of, "mode": each.mode.value if each.mode else None, "why": each.why} for each in open_ends
        ],
        "orders": [_order_dict(story) for story in stories.orders.values()],
        "gtts": [_gtt_dict(story) for story in stories.gtts.values()],
        "refused": [_step_dict(step) for step in stories.refused],
        "notes": [_step_dict(step) for step in stories.notes],
        "strays": [_step_dict(step) for steps in stories.strays.values() for step in steps],
    }


def _order_dict(story: OrderStory) -> dict[str, Any]:
    decision = story.decision
    return {
        "order": story.record.order.model_dump(mode="json"),
        "origin": story.record.origin.value if decision else None,
        "reduces": story.record.reduces,
        "checks": list(decision.checks) if decision else [],
        "steps": [_step_dict(step) for step in story.steps if not isinstance(step.fact, facts.Approved)],
        "fills": [fill.model_dump(mode="json") for fill in story.fills],
        "charges": charges_of(story.fills).model_dump(mode="json"),
    }


def _gtt_dict(story: GttStory) -> dict[str, Any]:
    return {
        "gtt_id": story.gtt_id,
        "gtt": story.gtt.model_dump(mode="json") if story.gtt else None,
        "checks": list(story.accepted.checks) if story.accepted else [],
        "steps": [_step_dict(step) for step in story.steps],
        "orders": story.orders,
    }


def _step_dict(step: Step) -> dict[str, Any]:
    return {"n": step.n, **step.fact.model_dump(mode="json")}


def rows(stories: Stories) -> Iterator[dict[str, str]]:
    """One a fact, in the order of the journal; a slice's decision once."""
    steps = {step.n: (step, None) for step in [*stories.refused, *stories.notes]}
    told: dict[int, tuple[Step, Order | None]] = dict(steps)
    for gtt in stories.gtts.values():
        told.update((step.n, (step, None)) for step in gtt.steps)
    for stray in stories.strays.values():
        told.update((step.n, (step, None)) for step in stray)
    for story in stories.orders.values():
        for step in story.steps:
            told.setdefault(step.n, (step, story.record.order))
    for n in sorted(told):
        yield _row(*told[n])


def _row(step: Step, order: Order | None) -> dict[str, str]:
    fact, subject = step.fact, step.fact.subject
    row = dict.fromkeys(COLUMNS, "")
    row |= {"n": str(step.n), "ts": str(fact.ts), "time": clock(fact.ts), "step": fact.kind, "words": said(fact)}
    row |= {"account": fact.account.value if fact.account else "", "data": json.dumps(fact.model_dump(mode="json"))}
    row |= {name: getattr(subject, name) for name in ("intent_id", "order_id", "gtt_id", "strategy", "instrument")}
    if order is not None:
        row |= {
            "intent_id": order.intent_id,
            "order_id": order.order_id,
            "venue_order_id": order.venue_order_id,
            "gtt_id": order.gtt_id,
            "strategy": order.strategy,
            "instrument": order.instrument,
            "side": order.side.value,
            "quantity": str(order.quantity),
            "price": _plain(order.price),
            "trigger_price": _plain(order.trigger_price),
            "status": order.status.value,
        }
    return {name: _harmless(value) for name, value in row.items()}


def _harmless(text: str) -> str:
    """No cell that a spreadsheet would compute."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
