"""A GTT under our engine as it stands, what may happen to it, and what it asks for. Pure.

The journal keeps the whole `GttState` after each step, so everything in it comes back from JSON.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import Rejected
from schemas.gtt import Gtt, GttChange, Leg, RuleStatus
from schemas.money import ZERO, Money
from schemas.orders import FINAL, Order, OrderStatus, OrderType, Product, Side

#: After these nothing happens to a rule any more.
FINAL_RULE: Final = frozenset({RuleStatus.COMPLETED, RuleStatus.FAILED, RuleStatus.CANCELLED, RuleStatus.EXPIRED})
EXITS: Final = (Leg.STOPLOSS, Leg.TARGET)

#: An order may be this far from the price, percent: the most that the venue takes.
WIDEST: Final = Decimal(25)


class NotAccepted(Rejected):
    """A GTT that is not taken, with the venue's code where it has one for this."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{code}: {words}" if code else words)
        self.code = code
        self.words = words


class AutoBand(BaseModel):
    """A row of the automatic protection: the percentage for prices below `below`; none: for all others."""

    model_config = ConfigDict(frozen=True)

    below: Money | None = None
    percent: Money


class Terms(BaseModel):
    """What has to be known of the instrument and of the venue that takes the orders."""

    model_config = ConfigDict(frozen=True)

    tick: Money = Decimal("0.05")
    lot: int = Field(1, ge=1)
    freeze: int = 0  # most units of one order; 0: no limit
    auto: tuple[AutoBand, ...] = (AutoBand(percent=Decimal(5)),)  # what a market_protection of -1 stands for
    trailing_share: Money = Decimal("0.1")  # least trailing gap, as a part of |last price - stop|
    chase_ms: int = Field(1_000, ge=50)  # a stop's order that is not filled by then is moved after the price


class ChildState(BaseModel):
    """An order of a GTT, as far as the GTT has to know."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    intent_id: str
    leg: Leg  # whose price it has: a target's order that a stop has taken over is the stop's
    attempt: int
    side: Side
    quantity: int
    price: Money
    filled: int = 0
    average_price: Money = ZERO
    status: OrderStatus = OrderStatus.CHECKED
    widened: int = 0  # how often its protection was widened
    wanted: Money | None = None  # the price it is to have; asked for where `asked_ts` is set
    leaving: bool = False  # it is to be cancelled
    fixed: bool = False  # the venue would not change it
    asked_ts: int = 0  # epoch ms; 0: nothing is asked
    asked: int = 0  # how often for the same

    @property
    def live(self) -> bool:
        return self.status not in FINAL

    @property
    def rest(self) -> int:
        """Units that may still be filled."""
        return self.quantity - self.filled if self.live else 0


class GttState(BaseModel):
    model_config = ConfigDict(frozen=True)

    gtt: Gtt  # as the user sees it
    terms: Terms = Terms()
    children: tuple[ChildState, ...] = ()
    attempts: int = 0  # children so far, those included that are forgotten
    last: Money | None = None  # newest price that we were told
    best: Money | None = None  # most favourable price since the exits were armed, for a trailing stop
    elsewhere: int = 0  # units of the position that other orders have closed
    exited_by: Leg | None = None  # of the newest fill that closed something
    refusals: int = 0  # of exit orders, in a row
    retry_ts: int = 0  # epoch ms; no exit order before
    chase_ts: int = 0  # epoch ms; then its stop order is looked at
    closing: str = ""  # by whom it is being cancelled
    keep_exits: bool = False  # of that: what was filled keeps its exits
    lapsed: bool = False  # its validity is over; only exits of what was entered live on
    exits_until_us: int = 0  # epoch us; end of the position's own product; 0: none
    ended: bool = False  # that has come
    due_ts: int = 0  # when it wants a `Timer`, epoch ms; 0: never. Worked out by each step: thousands are looked at

    @property
    def held(self) -> int:
        """Units that are to be protected."""
        return self.gtt.entered - self.gtt.exited - self.elsewhere

    @property
    def exit_side(self) -> Side:
        return self.gtt.transaction_type.other

    def child(self, order_id: str) -> ChildState | None:
        return next((child for child in self.children if child.order_id == order_id), None)


# What may happen. `ts_ms` is the order worker's time.


@dataclass(frozen=True, slots=True)
class Hit:
    """A trade at `price` crossed a bound that was watched (see `Watch`); of a trailing stop it may be the far one."""

    leg: Leg
    price: Decimal
    ts_ms: int
    late: bool = False  # it happened while nobody looked
    gap: bool = False  # the first price after a pause of the feed
    last: Decimal | None = None  # the price now, where it is another one


@dataclass(frozen=True, slots=True)
class Trailed:
    """The price has been as favourable as `best`."""

    best: Decimal
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Child:
    """An order of it as it stands now."""

    order: Order
    ts_ms: int = 0  # 0: that of the order


@dataclass(frozen=True, slots=True)
class ChildRefused:
    """What was asked for an order did not happen. `final`: it never will, e.g. no such position, a contract expired;
    for an exit that ends the protection, so only where that is certain."""

    order_id: str
    reason: str
    final: bool
    ts_ms: int
    what: Literal["place", "change", "cancel"] = "place"
    again_ts: int = 0  # epoch ms; not before


@dataclass(frozen=True, slots=True)
class Modify:
    change: GttChange
    ts_ms: int
    last: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """`keep_exits`: only the entry; what it filled stays protected."""

    by: str
    ts_ms: int
    keep_exits: bool = False


@dataclass(frozen=True, slots=True)
class Expire:
    """Its validity is over, by the market's clock, which may be another one than the order worker's. Without a
    `market_ms`: as of the moment at which it expires."""

    ts_ms: int
    market_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Timer:
    """`due_ts` of the state has come. `last`: the price now, and the prices that the exchange takes today."""

    ts_ms: int
    last: Decimal | None = None
    band: tuple[Decimal, Decimal] | None = None


@dataclass(frozen=True, slots=True)
class Reattach:
    """After a restart. `missing`: children that there is no order of."""

    missing: frozenset[str]
    ts_ms: int
    last: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ClosedElsewhere:
    """Other orders have closed so much of the position: flattening, squaring off, a person."""

    quantity: int
    by: str
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Guarded:
    """Of a GTT without ENTRY: the position that it guards has grown to `quantity` in all."""

    quantity: int
    ts_ms: int


Event = Hit | Trailed | Child | ChildRefused | Modify | Cancel | Expire | Timer | Reattach | ClosedElsewhere | Guarded


# What it asks for.


@dataclass(frozen=True, slots=True)
class PlaceChild:
    order_id: str  # schemas.orders.order_id_of(intent_id)
    intent_id: str  # gtt:<gtt id>:<leg>:<attempt>
    leg: Leg
    attempt: int
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    price: Decimal  # the limit, protection included, in whole ticks
    trigger_price: Decimal
    protection: Decimal | None  # percent that is in the price
    reduces: bool


@dataclass(frozen=True, slots=True)
class CancelChild:
    order_id: str


@dataclass(frozen=True, slots=True)
class ChangeChild:
    order_id: str
    quantity: int
    price: Decimal
    trigger_price: Decimal


@dataclass(frozen=True, slots=True)
class Watched:
    """A trade at or under `low`, or at or above `high`, is to be told; none: there is no such bound. `fresh`: only one
    from now on; the price that is known may be one from before."""

    leg: Leg
    low: Decimal | None
    high: Decimal | None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """All that is watched for this GTT from now on; what is not named any more is not."""

    on: tuple[Watched, ...]


@dataclass(frozen=True, slots=True)
class Odd:
    """The event does not fit. Nothing was changed by it."""

    why: str


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """The change that was asked for is not made; in the venue's words where it has some."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A person should look."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing of it can happen any more."""


Action = PlaceChild | CancelChild | ChangeChild | Watch | Odd | TurnedDown | Alert | Done
Actions = tuple[Action, ...]
