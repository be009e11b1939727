"""Orders, fills, positions and refusals: entries of `orders`, the SSE events of the same names, what REST tells.

An entry has the fields `id` (of the journal, so that a reader drops a repetition), `kind` and `data`.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.money import ZERO, Charges, Money

#: Units, of what is asked for: a whole number, not a text that looks like one.
Quantity = Annotated[int, Field(strict=True, gt=0, le=10_000_000)]


class TradingMode(StrEnum):
    """Each mode is an account of its own: its orders, positions, profit and limits are not those of another."""

    PAPER = "paper"
    SHADOW = "shadow"
    LIVE = "live"


class StrategyMode(StrEnum):
    OFF = "off"
    PAPER = "paper"
    SHADOW = "shadow"
    LIVE = "live"


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def other(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class Product(StrEnum):
    """The venue's letters."""

    INTRADAY = "I"
    DELIVERY = "D"  # for contracts: carried overnight
    MTF = "MTF"


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    SL = "SL"
    SL_M = "SL-M"


class Validity(StrEnum):
    DAY = "DAY"
    IOC = "IOC"


class OrderStatus(StrEnum):
    CHECKED = "checked"  # approved and written down; nothing has left
    SENDING = "sending"  # the request has left, or is about to
    UNKNOWN = "unknown"  # no answer came: being asked about, and not sent again while it is
    IN_FLIGHT = "in flight"  # the venue has it, and has not put it on the book yet
    OPEN = "open"
    TRIGGER_PENDING = "trigger pending"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # by the venue


#: After these nothing happens to an order any more.
FINAL: Final = frozenset({OrderStatus.COMPLETE, OrderStatus.CANCELLED, OrderStatus.REJECTED})


class EntryKind(StrEnum):
    """`kind` of an entry of `orders`."""

    ORDER = "order"
    GTT = "gtt"
    FILL = "fill"
    POSITION = "position"
    REFUSED = "refused"


class Order(BaseModel):
    """An order as it stands. Statuses are the venue's words where the venue has one."""

    model_config = ConfigDict(frozen=True)

    order_id: str  # ours, and the tag that the venue keeps: `order_id_of`
    venue_order_id: str = ""
    gtt_id: str = ""
    intent_id: str  # what asked for it: `command:<id>`, `signal:<id>`, `gtt:<id>:<leg>:<n>`
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int = 0
    average_price: Money = ZERO
    price: Money = ZERO
    trigger_price: Money = ZERO
    order_type: OrderType
    product: Product
    validity: Validity = Validity.DAY
    status: OrderStatus
    pending: str = ""  # `modify` or `cancel`: asked of the venue, not answered yet
    reason: str = ""
    mode: TradingMode
    strategy: str = ""  # empty: a person
    venue: str = ""
    charges: Charges = Charges()
    created_ts: int = 0  # epoch ms
    ts: int  # epoch ms


class Fill(BaseModel):
    model_config = ConfigDict(frozen=True)

    fill_id: str  # order id and the venue's trade id
    trade_id: str
    order_id: str
    venue_order_id: str
    gtt_id: str = ""
    instrument: str
    side: Side
    quantity: int
    price: Money
    product: Product
    charges: Charges
    mode: TradingMode
    strategy: str = ""
    venue: str
    ts: int  # epoch ms, the exchange's


class Position(BaseModel):
    """Of an instrument and product in one account, as the venue tells it; profit at the last price we know."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    product: Product
    mode: TradingMode
    venue: str
    quantity: int  # negative: short
    average_price: Money = ZERO
    buy_quantity: int = 0
    buy_value: Money = ZERO
    sell_quantity: int = 0
    sell_value: Money = ZERO
    last_price: Money | None = None
    realised: Money = ZERO
    unrealised: Money | None = None  # null: no price known
    charges: Money = ZERO
    strategies: dict[str, int] = {}  # units by the strategy that holds them; the empty name: people
    ts: int  # epoch ms


class Refusal(BaseModel):
    """What our own checks turned down: nothing of it left."""

    model_config = ConfigDict(frozen=True)

    intent_id: str
    rule: str  # which check, see gtt/risk/risk.py
    reason: str  # in plain words
    instrument: str = ""
    side: Side | None = None
    quantity: int = 0
    mode: TradingMode | None = None
    strategy: str = ""
    ts: int  # epoch ms


_ID_CHARS: Final = 18


def order_id_of(intent_id: str, number: int = 0) -> str:
    """The id of an intent's order (or of its n-th slice or attempt): the same whoever asks, whenever.

    20 small letters and digits: a tag that every Indian venue accepts.
    """
    digest = hashlib.sha256(f"{intent_id}#{number}".encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    letters = ""
    for _ in range(_ID_CHARS):
        value, rest = divmod(value, 36)
        letters += "0123456789abcdefghijklmnopqrstuvwxyz"[rest]
    return f"tj{letters}"


def gtt_id_of(intent_id: str) -> str:
    return f"GTT-{order_id_of(intent_id)}"
