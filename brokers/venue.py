"""What the order worker asks of a venue, whichever it is; a small protocol, and errors that say what to do next.

A write ends in one of four ways: it returns (the venue took the request, which is not yet a state on its book), or
`Refused` (it did not, and never will), `NotSent` (it did not; the same thing may be sent again), `Lost` (nobody knows:
ask, never send again before that is known).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any, Final, Protocol

from schemas.errors import Rejected, Unavailable
from schemas.gtt import GttType, RuleState
from schemas.money import ZERO
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity

#: By when a write has to have left, by the monotonic clock: whoever decided it sets this around the call. What has not
#: handed over its first byte by then is `NotSent`.
LEAVE_BY_S: ContextVar[float] = ContextVar("leave_by_s", default=inf)


class Refused(Rejected):
    """The venue understood and turned the request down, with its code and its words."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message
        self.status = status


class NotSent(Unavailable):
    """It is certain that the venue did nothing: no line, no login, too many requests, outside its hours."""

    def __init__(self, reason: str, *, again_s: float = 1.0) -> None:
        super().__init__(reason)
        self.again_s = again_s  # not before


class Lost(Unavailable):
    """The request left, and no usable answer came."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue can do. What it cannot, our engine does or the risk check refuses, with the reason in words."""

    venue: str
    market_orders: bool  # plain ones; else they become protected limit orders
    stop_orders: bool  # SL at the exchange
    ioc: bool
    modify: bool
    gtt: bool
    gtt_exit_only: bool  # a GTT without ENTRY
    gtt_trailing_share: Decimal  # least trailing gap, as a part of |last price - stop|
    tag_max: int  # characters of our id that it keeps; 0: none
    push_orders: bool  # tells of changes by itself
    margin_check: bool
    segments_off: frozenset[str]  # no orders by API
    products: frozenset[Product]
    budget: tuple[tuple[float, int], ...]  # (seconds, writes) windows of all writes together


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A request to place. One order: slices are ours, each with an id of its own."""

    order_id: str  # goes along as the tag
    instrument: str
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    validity: Validity
    market_protection: Decimal | None = None


@dataclass(frozen=True, slots=True)
class OrderChange:
    """A request to modify: the whole new terms."""

    order_id: str
    venue_order_id: str
    quantity: int
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    validity: Validity


@dataclass(frozen=True, slots=True)
class NewGtt:
    gtt_id: str
    type: GttType
    instrument: str
    side: Side  # of the ENTRY
    quantity: int
    product: Product
    rules: tuple[RuleState, ...]


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as a venue tells it. Later tellings may come first: `gtt/` compares before it believes."""

    venue_order_id: str
    tag: str  # empty: not ours, or not told
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int
    average_price: Decimal
    price: Decimal
    trigger_price: Decimal
    order_type: OrderType
    product: Product
    validity: Validity
    status: OrderStatus
    words: str  # the venue's own status
    reason: str = ""
    ts: int = 0  # epoch ms, the venue's; 0: not told
    version: int = 0  # counts modifications where the venue does
    not_modified: bool = False  # the last modification, or cancellation, was turned down
    not_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class VenueTrade:
    trade_id: str
    venue_order_id: str
    instrument: str
    side: Side
    quantity: int
    price: Decimal
    product: Product
    ts: int  # epoch ms


@dataclass(frozen=True, slots=True)
class VenuePosition:
    instrument: str
    product: Product
    quantity: int
    average_price: Decimal
    buy_quantity: int
    buy_value: Decimal
    sell_quantity: int
    sell_value: Decimal
    last_price: Decimal | None = None
    realised: Decimal | None = None


@dataclass(frozen=True, slots=True)
class VenueHolding:
    instrument: str
    isin: str
    quantity: int
    average_price: Decimal
    last_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Funds:
    """Rupees. `details` is what the venue said, for people."""

    available: Decimal
    used: Decimal = ZERO
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VenueGtt:
    venue_gtt_id: str
    type: GttType
    instrument: str
    side: Side
    quantity: int
    product: Product
    rules: tuple[RuleState, ...]  # `order_id` of a rule is the venue's here
    created_us: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream of updates is up. What happened before, nobody will tell again: look at the books."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    reason: str
    needs_login: bool = False


Update = VenueOrder | VenueTrade | VenueGtt | VenuePosition | Connected | Disconnected

#: What every venue's stream starts with, and starts again with after each interruption.
CONNECTED: Final = Connected()


class Venue(Protocol):
    """All reads raise Unavailable, all writes the three errors above."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def place(self, order: NewOrder) -> str:
        """The venue's order id."""
        ...

    async def modify(self, change: OrderChange) -> None: ...

    async def cancel(self, venue_order_id: str) -> None: ...

    async def orders(self) -> Sequence[VenueOrder]:
        """Today's book, of all origins."""
        ...

    async def tagged(self, tag: str) -> Sequence[VenueOrder]:
        """The last state of each order with that tag; empty: there is none."""
        ...

    async def trades(self) -> Sequence[VenueTrade]: ...

    async def positions(self) -> Sequence[VenuePosition]: ...

    async def holdings(self) -> Sequence[VenueHolding]: ...

    async def funds(self) -> Funds: ...

    async def margin(self, orders: Sequence[NewOrder]) -> Decimal:
        """What these need together, hedges counted. Only where `capabilities.margin_check`."""
        ...

    async def place_gtt(self, gtt: NewGtt) -> str:
        """The venue's GTT id. Only where `capabilities.gtt`, like the next three."""
        ...

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None: ...

    async def cancel_gtt(self, venue_gtt_id: str) -> None: ...

    async def gtts(self) -> Sequence[VenueGtt]:
        """The live ones. One that is missing may be completed."""
        ...

    def updates(self) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
        """What the venue tells by itself, for as long as the context is open; reconnects by itself."""
        ...
