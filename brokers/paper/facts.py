"""What happens at a paper venue: the rows of `paper_log`. The book is a fold of them, and of nothing else. Pure."""

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from market.charges import Kind
from schemas.money import Charges
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity


class How(StrEnum):
    """Why a fill is believed. All but the first two are estimates, and the order's reason says so."""

    SHOWN = "shown"  # taken from the depth that the feed showed
    PRINTED = "printed"  # the market traded at or through the price of an order that waited
    CROSSED = "crossed"  # the market showed the other side at the price of an order that waited
    BEYOND = "beyond"  # more than the levels showed, less than the feed's total: with slippage
    LAST = "last"  # the feed has no depth: at the last price


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)

    seq: int  # numbers the facts of an account without gaps
    ts: int  # venue time, epoch ms


class _OfOrder(_Fact):
    venue_order_id: str
    tag: str


class Terms(BaseModel):
    """What the book needs to know of an instrument, kept with the order: a restart needs no instrument list."""

    model_config = ConfigDict(frozen=True)

    kind: Kind  # its rates
    tick: Decimal
    isin: str = ""
    expiry: date | None = None
    strike: Decimal | None = None
    is_call: bool | None = None
    on_index: bool = False


class Held(BaseModel):
    """An open position, or a holding."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    product: Product
    terms: Terms
    quantity: int  # negative: short
    cost: Decimal  # of the open units: price times units, of the quantity's sign


class Settled(BaseModel):
    """A contract that ended while somebody held it: closed at the last price that the feed had, an estimate."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    quantity: int
    price: Decimal


class Opened(_Fact):
    """A day begins with what the days before have left. Nothing older is read at a start."""

    kind: Literal["opened"] = "opened"
    day: date
    cash: Decimal  # what the account has earned and paid, with what it began with
    positions: tuple[Held, ...] = ()
    holdings: tuple[Held, ...] = ()
    settled: tuple[Settled, ...] = ()


class Placed(_OfOrder):
    kind: Literal["placed"] = "placed"
    instrument: str
    side: Side
    quantity: int
    product: Product
    order_type: OrderType  # never MARKET: those have become protected LIMIT orders
    price: Decimal
    trigger_price: Decimal
    validity: Validity
    protection: Decimal | None = None  # percent: the limit of an SL-M, once it is triggered
    terms: Terms
    match_ms: int  # it can be filled from then on
    hours: tuple[tuple[int, int], ...]  # in these, [start, end) ms; with the last of them the order ends


class Changed(_OfOrder):
    """The whole new terms."""

    kind: Literal["changed"] = "changed"
    quantity: int
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    validity: Validity
    match_ms: int


class Triggered(_OfOrder):
    kind: Literal["triggered"] = "triggered"
    last_price: Decimal
    price: Decimal  # the limit from now on


class Filled(_OfOrder):
    kind: Literal["filled"] = "filled"
    trade_id: str
    quantity: int
    price: Decimal
    how: How
    level: Decimal | None = None  # whose shown quantity it took
    charges: Charges = Charges()


class Ended(_OfOrder):
    kind: Literal["ended"] = "ended"
    status: OrderStatus  # cancelled or rejected
    reason: str


Fact = Opened | Placed | Changed | Triggered | Filled | Ended

_FACT: Final[TypeAdapter[Fact]] = TypeAdapter(Annotated[Fact, Field(discriminator="kind")])


def read(data: str | bytes) -> Fact:
    return _FACT.validate_json(data)


def value_of(fact: Filled) -> Decimal:
    return fact.price * fact.quantity
