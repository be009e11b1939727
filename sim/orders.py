"""An order as the venue tells it: its words, its fields, the trades it made. Pure.

An order never changes: each step of its life is another `Order` with the same id, and its history is the list of them.
Prices are rupees as decimals.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any, Final

from market.instruments import Instrument

ZERO: Final = Decimal(0)
_PAISA: Final = Decimal("0.01")
_IST: Final = timezone(timedelta(hours=5, minutes=30))

BUY: Final = "BUY"
SELL: Final = "SELL"
MARKET: Final = "MARKET"
LIMIT: Final = "LIMIT"
STOP: Final = "SL"
STOP_MARKET: Final = "SL-M"
DAY: Final = "DAY"
IOC: Final = "IOC"

_PROTECTED: Final = {MARKET: LIMIT, STOP_MARKET: STOP}

#: What order replies call the segments.
EXCHANGES: Final = {
    "NSE_EQ": "NSE",
    "NSE_FO": "NFO",
    "NCD_FO": "CDS",
    "BSE_EQ": "BSE",
    "BSE_FO": "BFO",
    "BCD_FO": "BCD",
    "MCX_FO": "MCX",
    "NSE_COM": "NSCOM",
}


class Status(StrEnum):
    """The venue's words."""

    RECEIVED = "put order req received"
    VALIDATING = "validation pending"
    OPENING = "open pending"
    OPEN = "open"
    TRIGGER_PENDING = "trigger pending"
    MODIFY_PENDING = "modify pending"
    MODIFY_VALIDATING = "modify validation pending"
    MODIFIED = "modified"
    NOT_MODIFIED = "not modified"
    CANCEL_PENDING = "cancel pending"
    CANCELLED = "cancelled"
    NOT_CANCELLED = "not cancelled"
    COMPLETE = "complete"
    REJECTED = "rejected"
    AFTER_MARKET = "after market order req received"
    AFTER_MARKET_MODIFIED = "modify after market order req received"
    AFTER_MARKET_CANCELLED = "cancelled after market order"


#: After these nothing happens to an order any more.
FINAL: Final = frozenset({Status.COMPLETE, Status.CANCELLED, Status.REJECTED, Status.AFTER_MARKET_CANCELLED})
#: Waiting for a session to begin.
AFTER_MARKET: Final = frozenset({Status.AFTER_MARKET, Status.AFTER_MARKET_MODIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceBody:
    """A request to place that has passed the checks of its form. `market_protection`: percent, -1 is automatic."""

    instrument_token: str
    transaction_type: str
    quantity: int
    product: str
    order_type: str
    validity: str = DAY
    price: Decimal = ZERO
    trigger_price: Decimal = ZERO
    disclosed_quantity: int = 0
    is_amo: bool = False
    tag: str | None = None
    slice: bool = False
    market_protection: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifyBody:
    """What is None stays as it is."""

    order_id: str
    order_type: str
    validity: str
    price: Decimal = ZERO
    trigger_price: Decimal = ZERO
    quantity: int | None = None
    disclosed_quantity: int | None = None
    market_protection: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A part of an order met somebody at a price."""

    trade_id: str
    order_id: str
    quantity: int
    price: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One state of an order. `limit_price` is what it may trade at: of a protected market order, its band."""

    order_id: str
    user_id: str
    instrument: Instrument
    transaction_type: str
    quantity: int
    product: str
    order_type: str
    validity: str
    price: Decimal
    trigger_price: Decimal
    disclosed_quantity: int
    tag: str | None
    market_protection: Decimal
    limit_price: Decimal
    status: Status
    source: str  # who asked: api, gtt, ...
    placed_ms: int
    at_ms: int
    status_message: str = ""
    filled_quantity: int = 0
    value: Decimal = ZERO  # of what is filled
    exchange_order_id: str = ""
    exchange_ms: int = 0
    request: int = 1  # counts modifications and cancellations
    is_amo: bool = False
    parent_order_id: str | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_buy(self) -> bool:
        return self.transaction_type == BUY

    @property
    def pending_quantity(self) -> int:
        """What may still trade."""
        return 0 if self.is_final else self.quantity - self.filled_quantity

    @property
    def average_price(self) -> Decimal:
        return rounded(self.value / self.filled_quantity) if self.filled_quantity else ZERO

    @property
    def waits_for_trigger(self) -> bool:
        return self.order_type in (STOP, STOP_MARKET) and self.status is Status.TRIGGER_PENDING

    def became(self, status: Status, at_ms: int, message: str = "", **changes: Any) -> "Order":
        return replace(self, status=status, at_ms=at_ms, status_message=message, **changes)


def payload(order: Order) -> dict[str, Any]:
    """An order as REST and the portfolio stream tell it, each fact in its old spelling too."""
    instrument = order.instrument
    order_type, price = order.order_type, order.price
    if order.exchange_order_id and order_type in _PROTECTED:  # at the exchange it is a limit order
        order_type, price = _PROTECTED[order_type], order.limit_price
    return {
        "user_id": order.user_id,
        "userId": order.user_id,
        "exchange": EXCHANGES.get(instrument.segment, instrument.exchange),
        "instrument_token": instrument.key,
        "instrument_key": instrument.key,
        "trading_symbol": instrument.trading_symbol,
        "tradingsymbol": instrument.trading_symbol,
        "product": order.product,
        "order_type": order_type,
        "average_price": float(order.average_price),
        "price": float(price),
        "trigger_price": float(order.trigger_price),
        "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity,
        "pending_quantity": order.pending_quantity,
        "filled_quantity": order.filled_quantity,
        "transaction_type": order.transaction_type,
        "order_ref_id": f"udapi-{order.order_id}",
        "exchange_order_id": order.exchange_order_id,
        "parent_order_id": order.parent_order_id,
        "validity": order.validity,
        "status": order.status.value,
        "status_message": order.status_message,
        "status_message_raw": order.status_message or None,
        "is_amo": order.is_amo,
        "variety": "AMO" if order.is_amo else "SIMPLE",
        "tag": order.tag,
        "exchange_timestamp": timestamp(order.exchange_ms) if order.exchange_ms else None,
        "order_timestamp": timestamp(order.at_ms),
        "order_id": order.order_id,
        "order_request_id": str(order.request),
        "guid": None,
        "placed_by": order.user_id,
    }


def trade_payload(order: Order, trade: Trade) -> dict[str, Any]:
    instrument = order.instrument
    return {
        "exchange": EXCHANGES.get(instrument.segment, instrument.exchange),
        "product": order.product,
        "trading_symbol": instrument.trading_symbol,
        "tradingsymbol": instrument.trading_symbol,
        "instrument_token": instrument.key,
        "order_type": order.order_type,
        "transaction_type": order.transaction_type,
        "quantity": trade.quantity,
        "average_price": float(trade.price),
        "order_id": order.order_id,
        "exchange_order_id": order.exchange_order_id,
        "trade_id": trade.trade_id,
        "order_ref_id": f"udapi-{order.order_id}",
        "order_timestamp": timestamp(order.placed_ms),
        "exchange_timestamp": timestamp(trade.at_ms),
    }


def timestamp(ts_ms: int) -> str:
    """Indian time without a zone, as the venue writes it."""
    return datetime.fromtimestamp(ts_ms // 1_000, _IST).strftime("%Y-%m-%d %H:%M:%S")


def rounded(value: Decimal) -> Decimal:
    """To whole paise."""
    return value.quantize(_PAISA, ROUND_HALF_UP)


def decimal(value: float) -> Decimal:
    """A price of the market, which keeps them as floats on a grid of paise."""
    return Decimal(f"{value:.2f}")
