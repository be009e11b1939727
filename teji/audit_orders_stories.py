"""The journal of a day as stories: of each order from intent to charges, of refusals, GTTs, and what else happened.

Where an order stands is said by the same fold that the order worker uses. A story is unresolved where nobody knows how
it ends, or why it began. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gtt.book import facts
from gtt.book.book import Book, OrderRecord
from gtt.book.facts import Fact, What
from gtt.book.fold import apply
from market.charges import plus
from schemas.gtt import Gtt
from schemas.money import Charges
from schemas.orders import Fill, OrderStatus, TradingMode

#: What is on its way this long is not on its way any more.
PATIENCE_MS: Final = 60_000

_OF_ORDERS: Final = (
    *(facts.CancelAsked, facts.ChangeAsked, facts.Seen, facts.Ended),
    *(facts.Sending, facts.Answered, facts.TurnedDown, facts.NotSent, facts.Lost, facts.Denied),
)
_OF_GTTS: Final = (facts.GttAccepted, facts.GttChanged, facts.GttAsked, facts.GttSeen, facts.Found)
_ENDS_A_CALL: Final = (facts.Answered, facts.TurnedDown, facts.NotSent, facts.Denied, facts.Found)
_NOTED: Final = (
    *(facts.Halted, facts.Resumed, facts.Breached, facts.StrategySwitched, facts.PositionSeen, facts.Alerted),
    *(facts.FlattenAsked, facts.FlattenDone),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A fact, by its number in the journal."""

    n: int
    fact: Fact


@dataclass(slots=True)
class OrderStory:
    record: OrderRecord
    decision: facts.Approved | None  # none: the order is not ours
    steps: list[Step] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)


@dataclass(slots=True)
class GttStory:
    gtt_id: str
    accepted: facts.GttAccepted | None = None
    gtt: Gtt | None = None
    steps: list[Step] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    open_call: facts.Sending | facts.Lost | None = None

    def add(self, step: Step) -> None:
        self.steps.append(step)
        fact = step.fact
        if isinstance(fact, facts.GttAccepted):
            self.accepted, self.gtt = fact, fact.state.gtt
        elif isinstance(fact, facts.GttChanged):
            self.gtt = fact.state.gtt
        elif isinstance(fact, facts.Sending | facts.Lost):
            self.open_call = fact
        elif isinstance(fact, _ENDS_A_CALL):
            self.open_call = None


@dataclass(frozen=True, slots=True)
class Unresolved:
    """`of`: the order's or GTT's id, or the instrument of a position."""

    of: str
    mode: TradingMode | None
    why: str


class Stories:
    """Fed with facts in the order of their numbers, no fact twice."""

    def __init__(self) -> None:
        self._book = Book()
        self.orders: dict[str, OrderStory] = {}
        self.gtts: dict[str, GttStory] = {}
        self.refused: list[Step] = []
        self.notes: list[Step] = []
        self.strays: dict[str, list[Step]] = {}  # by order: no decision about it was read

    def add(self, n: int, fact: Fact) -> None:
        step = Step(n, fact)
        if isinstance(fact, facts.Approved):
            self._decided(step, fact)
        elif isinstance(fact, facts.Adopted):
            apply(self._book, n, fact)
            record = self._book.orders[fact.order.order_id]
            self.orders[fact.order.order_id] = OrderStory(record, None, [step])
        elif isinstance(fact, facts.Refused):
            self.refused.append(step)
        elif isinstance(fact, facts.Filled):
            self._filled(step, fact)
        elif isinstance(fact, _OF_GTTS) or (isinstance(fact, _OF_ORDERS) and fact.subject.gtt_id):
            gtt_id = fact.subject.gtt_id
            self.gtts.setdefault(gtt_id, GttStory(gtt_id)).add(step)
        elif isinstance(fact, _OF_ORDERS):
            self._happened(step, fact.subject.order_id)
        elif isinstance(fact, _NOTED):
            self.notes.append(step)

    def _decided(self, step: Step, fact: facts.Approved) -> None:
        apply(self._book, step.n, fact)
        for order in fact.orders:
            self.orders[order.order_id] = OrderStory(self._book.orders[order.order_id], fact, [step])
            if order.gtt_id:
                self.gtts.setdefault(order.gtt_id, GttStory(order.gtt_id)).orders.append(order.order_id)

    def _happened(self, step: Step, order_id: str) -> None:
        story = self.orders.get(order_id)
        if story is None:
            self.strays.setdefault(order_id, []).append(step)
            return
        apply(self._book, step.n, step.fact)
        story.steps.append(step)

    def _filled(self, step: Step, fact: facts.Filled) -> None:
        story = self.orders.get(fact.fill.order_id)
        if story is not None and all(fill.fill_id != fact.fill.fill_id for fill in story.fills):
            story.fills.append(fact.fill)
        self._happened(step, fact.fill.order_id)

    def keep(self, wanted: str) -> None:
        """Only what has that id: of an order (ours or the venue's), a GTT, an intent."""
        self.orders = {
            order_id: story
            for order_id, story in self.orders.items()
            if wanted in (order_id, story.record.order.venue_order_id, *_ids(story.record))
        }
        self.gtts = {
            gtt_id: story
            for gtt_id, story in self.gtts.items()
            if wanted in (gtt_id, story.accepted.intent_id if story.accepted else "", *story.orders)
            or (story.gtt is not None and story.gtt.venue_gtt_order_id == wanted)
        }
        self.refused = [step for step in self.refused if wanted in _refused_ids(step)]
        self.strays = {order_id: steps for order_id, steps in self.strays.items() if order_id == wanted}
        self.notes = []

    @property
    def is_empty(self) -> bool:
        return not (self.orders or self.gtts or self.refused or self.strays)


def _ids(record: OrderRecord) -> tuple[str, str]:
    return record.order.intent_id, record.order.gtt_id


def _refused_ids(step: Step) -> tuple[str, ...]:
    fact = step.fact
    return (fact.refusal.intent_id, fact.gtt_id) if isinstance(fact, facts.Refused) else ()


# What is not resolved


def unresolved(stories: Stories, now_ms: int, end_ms: int) -> list[Unresolved]:
    """`end_ms`: when the day ended, or will."""
    found = [
        Unresolved(order_id, story.record.order.mode, why)
        for order_id, story in stories.orders.items()
        if (why := _open_end(story, now_ms, end_ms))
    ]
    found += [
        Unresolved(gtt_id, story.gtt.mode if story.gtt else None, why)
        for gtt_id, story in stories.gtts.items()
        if (why := _gtt_open_end(story, now_ms))
    ]
    found += [
        Unresolved(order_id, steps[0].fact.account, "something happened to it, and nobody has decided about it")
        for order_id, steps in stories.strays.items()
    ]
    found += [
        Unresolved(fact.instrument, fact.account, f"the venue held {fact.quantity} units, our fills made {fact.before}")
        for step in stories.notes
        if isinstance(fact := step.fact, facts.PositionSeen) and fact.quantity != fact.before
    ]
    return found


def _open_end(story: OrderStory, now_ms: int, end_ms: int) -> str:
    record, order = story.record, story.record.order
    waited_ms = now_ms - story.steps[-1].fact.ts
    if record.foreign and (why := _UNEXPLAINED.get(order.intent_id.partition(":")[0])):
        return why
    if record.traded_quantity > order.quantity:
        return f"{record.traded_quantity} units were filled of {order.quantity}"
    if waited_ms >= PATIENCE_MS:
        if order.status in _NO_ANSWER:
            return _NO_ANSWER[order.status]
        if record.untold:
            return f"the venue says that {order.filled_quantity} are filled, its trades tell {record.traded_quantity}"
        if record.live and record.call is not None:
            return f"nobody knows what became of the request to {record.call.what.value} it"
    if record.live and now_ms >= end_ms + PATIENCE_MS:
        return f"the day is over, and it is {order.status.value} as far as anybody knows"
    return ""


#: By how the intent of an adopted order begins. One of a GTT that the venue watches is explained by it.
_UNEXPLAINED: Final = {
    "venue": "an order at the venue that no intent of ours explains",
    "double": "an order that is at the venue twice",
}
_NO_ANSWER: Final[Mapping[OrderStatus, str]] = {
    OrderStatus.CHECKED: "it was approved, and neither sent nor given up",
    OrderStatus.SENDING: "it was about to be sent, and nothing is known since",
    OrderStatus.UNKNOWN: "no answer came, and nobody has found out whether it arrived",
    OrderStatus.IN_FLIGHT: "the venue took it, and has told nothing of it since",
}


def _gtt_open_end(story: GttStory, now_ms: int) -> str:
    if story.accepted is None and not story.gtt:
        return "" if story.orders and not story.steps else "something happened to it, and nobody has accepted it"
    call = story.open_call
    if call is not None and now_ms - call.ts >= PATIENCE_MS:
        return f"nobody knows what became of the request to {_GTT_WORDS.get(call.what, call.what.value)} it"
    return ""


_GTT_WORDS: Final = {What.PLACE_GTT: "place", What.MODIFY_GTT: "modify", What.CANCEL_GTT: "cancel"}


# Totals


def totals(stories: Stories) -> dict[str, Any]:
    fills = [fill for story in stories.orders.values() for fill in story.fills]
    sides = {"bought": 1, "sold": -1}
    steps = [step for story in stories.orders.values() for step in story.steps]
    steps += [step for story in stories.gtts.values() for step in story.steps]
    return {
        "orders": _counted(story.record.order.status.value for story in stories.orders.values()),
        "refused": _counted(step.fact.refusal.rule for step in stories.refused if isinstance(step.fact, facts.Refused)),
        "gtts": len(stories.gtts),
        "requests": sum(isinstance(step.fact, facts.Sending) for step in steps),
        "fills": len(fills),
        **{
            name: float(sum(fill.quantity * fill.price for fill in fills if fill.side.sign == sign))
            for name, sign in sides.items()
        },
        "charges": charges_of(fills).model_dump(mode="json"),
    }


def charges_of(fills: Iterable[Fill]) -> Charges:
    total = Charges()
    for fill in fills:
        total = plus(total, fill.charges)
    return total


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
