"""What the desk wants done outside, once the facts behind it are in the journal; and what comes back of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from brokers.venue import (
    Funds,
    NewGtt,
    NewOrder,
    OrderChange,
    VenueGtt,
    VenueHolding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from gtt.book.facts import What
from schemas.orders import TradingMode


@dataclass(frozen=True, slots=True)
class Write:
    """A call that changes something at a venue. Either `order_id` or `gtt_id` is set."""

    mode: TradingMode
    what: What
    attempt: int
    reduces: bool
    decided_ts: int  # epoch ms
    not_after_ts: int  # epoch ms: later it is not sent any more; 0: always
    order_id: str = ""
    gtt_id: str = ""
    venue_id: str = ""
    order: NewOrder | None = None
    change: OrderChange | None = None
    gtt: NewGtt | None = None
    tick_ns: int = 0  # receipt of the tick that caused it


@dataclass(frozen=True, slots=True)
class Ask:
    """What has become of an order: by its tag, by its id, in the order book."""

    mode: TradingMode
    order_id: str
    tag: bool = True


@dataclass(frozen=True, slots=True)
class AskGtts:
    mode: TradingMode


@dataclass(frozen=True, slots=True)
class AskTrades:
    mode: TradingMode


@dataclass(frozen=True, slots=True)
class Look:
    """Compare all books of an account."""

    mode: TradingMode


@dataclass(frozen=True, slots=True)
class AskMargin:
    """What these orders need together, before an intent is decided."""

    mode: TradingMode
    intent_id: str
    order: NewOrder


@dataclass(frozen=True, slots=True)
class SetHalt:
    why: str


Effect = Write | Ask | AskGtts | AskTrades | Look | AskMargin | SetHalt


# Outcomes


@dataclass(frozen=True, slots=True)
class Took:
    """The venue took a write."""

    venue_id: str = ""
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class Down:
    """It turned it down."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """It is certain that nothing happened there."""

    reason: str
    again_s: float


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody knows."""

    reason: str


Outcome = Took | Down | Nothing | Gone


@dataclass(frozen=True, slots=True)
class Asked:
    """`tagged`, `book` none: that one could not be read."""

    mode: TradingMode
    order_id: str
    asked_ts: int  # when the asking began
    tagged: Sequence[VenueOrder] | None
    book: Sequence[VenueOrder] | None


@dataclass(frozen=True, slots=True)
class Books:
    """All of an account at the venue, as read from `asked_ts` on."""

    mode: TradingMode
    asked_ts: int
    orders: Sequence[VenueOrder]
    trades: Sequence[VenueTrade]
    positions: Sequence[VenuePosition]
    gtts: Sequence[VenueGtt] | None
    funds: Funds | None
    holdings: Sequence[VenueHolding]
