"""What the order worker knows, one frozen fact after the other: rows of the journal.

Everything it believes is a fold over these (gtt/book/book.py). A fact is written down before anything that follows
from it leaves. Pure.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from brokers.venue import Funds, NewGtt, VenueGtt, VenueHolding, VenueOrder
from gtt.engine.state import GttState
from gtt.risk.types import Origin
from schemas.money import ZERO, Money
from schemas.orders import Fill, Order, OrderStatus, OrderType, Product, Refusal, StrategyMode, TradingMode, Validity


class What(StrEnum):
    """A write that a venue can be asked for."""

    PLACE = "place"
    MODIFY = "modify"
    CANCEL = "cancel"
    PLACE_GTT = "place_gtt"
    MODIFY_GTT = "modify_gtt"
    CANCEL_GTT = "cancel_gtt"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a fact is about: columns of the journal."""

    intent_id: str = ""
    order_id: str = ""
    gtt_id: str = ""
    instrument: str = ""
    strategy: str = ""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ts: int  # epoch ms
    account: TradingMode | None = None  # none: of all

    @property
    def subject(self) -> Subject:
        return Subject()


class _OfOrder(_Fact):
    order_id: str

    @property
    def subject(self) -> Subject:
        return Subject(order_id=self.order_id)


class _OfGtt(_Fact):
    gtt_id: str

    @property
    def subject(self) -> Subject:
        return Subject(gtt_id=self.gtt_id)


# Decisions


class Approved(_Fact):
    """An intent passed the checks: its orders, all slices together, each to be sent by and by."""

    kind: Literal["approved"] = "approved"
    intent_id: str
    origin: Origin
    orders: tuple[Order, ...] = Field(min_length=1)
    reduces: bool
    protection: Decimal | None = None  # percent; of a market order, which these limit orders stand for
    reference: Money | None = None  # the last price, when it was decided
    checks: tuple[dict[str, Any], ...] = ()
    command: str = ""  # who waits for the answer

    @property
    def subject(self) -> Subject:
        first = self.orders[0]
        return Subject(self.intent_id, first.order_id, first.gtt_id, first.instrument, first.strategy)


class Refused(_Fact):
    """An intent did not pass. Nothing of it ever leaves."""

    kind: Literal["refused"] = "refused"
    refusal: Refusal
    gtt_id: str = ""
    checks: tuple[dict[str, Any], ...] = ()
    command: str = ""

    @property
    def subject(self) -> Subject:
        told = self.refusal
        return Subject(told.intent_id, "", self.gtt_id, told.instrument, told.strategy)


class CancelAsked(_OfOrder):
    kind: Literal["cancel_asked"] = "cancel_asked"
    by: str  # an intent, or why


class ChangeAsked(_OfOrder):
    """The whole new terms."""

    kind: Literal["change_asked"] = "change_asked"
    by: str
    quantity: int
    order_type: OrderType
    price: Money
    trigger_price: Money
    validity: Validity
    chase: bool = False  # a protected order runs after the price


class Commanded(_Fact):
    """What a command came to; its answer follows once the orders it named have theirs."""

    kind: Literal["commanded"] = "commanded"
    command: str
    what: str  # kind of the command
    by: str = ""
    ok: bool = True
    rule: str = ""
    reason: str = ""
    orders: tuple[str, ...] = ()
    gtts: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    strategy: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(intent_id=f"command:{self.command}")


class Replied(_Fact):
    """The command has its answer, told from how things stand then."""

    kind: Literal["replied"] = "replied"
    command: str
    ok: bool
    rule: str = ""
    reason: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(intent_id=f"command:{self.command}")


# Calls of the venue, by order or by GTT (exactly one of the two ids is set)


class _Call(_Fact):
    what: What
    attempt: int
    order_id: str = ""
    gtt_id: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(order_id=self.order_id, gtt_id=self.gtt_id)


class Sending(_Call):
    """Written before it leaves. `request` is what leaves."""

    kind: Literal["sending"] = "sending"
    request: dict[str, Any]
    reduces: bool = False


class Answered(_Call):
    """The venue took it. Not yet a state on its book."""

    kind: Literal["answered"] = "answered"
    venue_id: str = ""
    took_ms: int = 0


class TurnedDown(_Call):
    kind: Literal["turned_down"] = "turned_down"
    code: str
    words: str


class NotSent(_Call):
    """The venue did nothing; again, but not before `again_ts`."""

    kind: Literal["not_sent"] = "not_sent"
    reason: str
    again_ts: int


class Lost(_Call):
    """Nobody knows. It is asked about from now on. `arrival_ts`: after that it cannot arrive any more."""

    kind: Literal["lost"] = "lost"
    reason: str
    arrival_ts: int


class Denied(_Call):
    """The venue does not know it: what was sent never arrived."""

    kind: Literal["denied"] = "denied"
    books: tuple[str, ...]  # that were asked


class Found(_OfGtt):
    """A GTT whose answer was lost is on the venue's book."""

    kind: Literal["found"] = "found"
    venue_gtt_id: str


# What the venue tells


class Seen(_OfOrder):
    kind: Literal["seen"] = "seen"
    state: VenueOrder
    source: str = ""  # stream, book, tag


class Filled(_Fact):
    kind: Literal["filled"] = "filled"
    fill: Fill

    @property
    def subject(self) -> Subject:
        fill = self.fill
        return Subject("", fill.order_id, fill.gtt_id, fill.instrument, fill.strategy)


class Adopted(_Fact):
    """An order at the venue that we did not send."""

    kind: Literal["adopted"] = "adopted"
    order: Order

    @property
    def subject(self) -> Subject:
        return Subject(self.order.intent_id, self.order.order_id, "", self.order.instrument, "")


class Linked(_OfOrder):
    """An order that nobody knew is one of a GTT that the venue watches."""

    kind: Literal["linked"] = "linked"
    gtt_id: str
    strategy: str = ""
    reduces: bool

    @property
    def subject(self) -> Subject:
        return Subject("", self.order_id, self.gtt_id, "", self.strategy)


class Ended(_OfOrder):
    """By us, without the venue: nothing of it was ever there, or is any more."""

    kind: Literal["ended"] = "ended"
    status: OrderStatus
    reason: str


class FlattenAsked(_Fact):
    """Nothing is to be left of it: what works there is cancelled, what is held is sold or bought back."""

    kind: Literal["flatten_asked"] = "flatten_asked"
    by: str  # an intent
    instrument: str
    product: Product
    strategy: str | None = None  # only what this one holds

    @property
    def subject(self) -> Subject:
        return Subject(self.by, instrument=self.instrument, strategy=self.strategy or "")


class FlattenDone(_Fact):
    kind: Literal["flatten_done"] = "flatten_done"
    by: str
    instrument: str
    product: Product

    @property
    def subject(self) -> Subject:
        return Subject(self.by, instrument=self.instrument)


class PositionSeen(_Fact):
    """The venue has another position than our fills add up to, and is right."""

    kind: Literal["position_seen"] = "position_seen"
    instrument: str
    product: Product
    quantity: int
    average_price: Decimal = ZERO
    before: int = 0  # what we believed

    @property
    def subject(self) -> Subject:
        return Subject(instrument=self.instrument)


class FundsSeen(_Fact):
    kind: Literal["funds_seen"] = "funds_seen"
    funds: Funds
    holdings: tuple[VenueHolding, ...] = ()


# GTTs


class GttAccepted(_OfGtt):
    kind: Literal["gtt_accepted"] = "gtt_accepted"
    intent_id: str
    state: GttState
    checks: tuple[dict[str, Any], ...] = ()
    command: str = ""

    @property
    def subject(self) -> Subject:
        gtt = self.state.gtt
        return Subject(self.intent_id, "", self.gtt_id, gtt.instrument, gtt.strategy)


class GttChanged(_OfGtt):
    """As it stands after a step of its machine."""

    kind: Literal["gtt_changed"] = "gtt_changed"
    state: GttState
    why: str = ""

    @property
    def subject(self) -> Subject:
        gtt = self.state.gtt
        return Subject("", "", self.gtt_id, gtt.instrument, gtt.strategy)


class GttAsked(_OfGtt):
    """A venue-run GTT is to be changed or cancelled there."""

    kind: Literal["gtt_asked"] = "gtt_asked"
    what: What
    by: str
    request: NewGtt | None = None


class GttSeen(_OfGtt):
    """A venue's telling of a GTT, kept as it came."""

    kind: Literal["gtt_seen"] = "gtt_seen"
    told: VenueGtt


# The account, the day, people


class Halted(_Fact):
    kind: Literal["halted"] = "halted"
    why: str


class Resumed(_Fact):
    kind: Literal["resumed"] = "resumed"


class StrategySwitched(_Fact):
    kind: Literal["strategy_set"] = "strategy_set"
    strategy: str
    mode: StrategyMode
    by: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(strategy=self.strategy)


class DayOpened(_Fact):
    kind: Literal["day_opened"] = "day_opened"
    day: str  # trading date, YYYY-MM-DD
    equity: Decimal
    own: dict[str, Decimal] = {}  # by strategy


class Marked(_Fact):
    """How much the account is worth at the last prices; kept now and then, for the highest there was."""

    kind: Literal["marked"] = "marked"
    equity: Decimal
    peak: Decimal


class Breached(_Fact):
    """A limit of the whole account is broken: no entries any more today, whoever resumes."""

    kind: Literal["breached"] = "breached"
    day: str
    reason: str


class Alerted(_Fact):
    """A person should look."""

    kind: Literal["alert"] = "alert"
    message: str
    order_id: str = ""
    gtt_id: str = ""
    data: dict[str, Any] = {}

    @property
    def subject(self) -> Subject:
        return Subject(order_id=self.order_id, gtt_id=self.gtt_id)


Fact = Annotated[
    Approved
    | Refused
    | CancelAsked
    | ChangeAsked
    | Commanded
    | Replied
    | Sending
    | Answered
    | TurnedDown
    | NotSent
    | Lost
    | Denied
    | Found
    | Seen
    | Filled
    | Adopted
    | Ended
    | Linked
    | FlattenAsked
    | FlattenDone
    | PositionSeen
    | FundsSeen
    | GttAccepted
    | GttChanged
    | GttAsked
    | GttSeen
    | Halted
    | Resumed
    | StrategySwitched
    | DayOpened
    | Marked
    | Breached
    | Alerted,
    Field(discriminator="kind"),
]
FACT: Final[TypeAdapter[Fact]] = TypeAdapter(Fact)
