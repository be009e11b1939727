"""What the paper venue turns down, in the real venue's words: requests that are wrong, and orders that cannot stand.

A wrong request gets an error code and leaves no order. What the exchange or the broker's risk desk objects to was
accepted first: it becomes an order that is `rejected`. Pure.
"""

from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from brokers.paper.facts import Terms
from brokers.paper.seen import SCALE, View
from brokers.venue import NewOrder, Refused
from market import sessions
from market.charges import UnknownCharges, kind_of, of_order
from market.instruments import Instrument, class_of
from market.sessions import Phase
from schemas.errors import Misconfigured, Rejected
from schemas.money import ZERO
from schemas.orders import OrderType, Side

#: No orders by API here; and their quantities count lots.
SEGMENTS_OFF: Final = frozenset({"MCX_FO", "NSE_COM"})
TAG_MAX: Final = 40
STOPS: Final = (OrderType.SL, OrderType.SL_M)
_MARKETS: Final = (OrderType.MARKET, OrderType.SL_M)
_AUTOMATIC: Final = Decimal(-1)
_PROTECTION_MAX: Final = Decimal(25)
_HUNDRED: Final = Decimal(100)
#: (from price, percent), the venue's table as far as it is documented; the rows of options from 10 on are ours.
_OPTION_PERCENT: Final = ((0, "15"), (5, "10"), (10, "5"), (50, "3"), (500, "2"))
_OTHER_PERCENT: Final = ((0, "3"), (50, "2"), (500, "1"), (10_000, "0.5"))

#: Bands. The day's own are not in the feed: shares get the widest that any share has, around the close before.
_BAND: Final = Decimal("0.20")
_OPTION_BAND: Final = Decimal("0.40")  # around the last price, of premiums above the next line
_OPTION_CHEAP: Final = Decimal(50)
_OPTION_BAND_RUPEES: Final = Decimal(20)


def checked(order: NewOrder, instrument: Instrument | None, on: date, plan: str) -> Terms:
    """What the book needs of the instrument; or Refused, as the venue's gate does."""
    if instrument is None or instrument.is_index:
        raise Refused("UDAPI100011", f"invalid instrument key: {order.instrument}", 400)
    if instrument.segment in SEGMENTS_OFF:
        raise Refused("UDAPI1161", f"orders in {instrument.segment} are not allowed by API", 400)
    if order.quantity <= 0:
        raise Refused("UDAPI1052", "quantity must be above zero", 400)
    if order.order_type in (OrderType.LIMIT, OrderType.SL) and order.price <= 0:
        raise Refused("UDAPI1043", "price is required for this order type", 400)
    if order.order_type in STOPS and order.trigger_price <= 0:
        raise Refused("UDAPI100036", "trigger_price is required for this order type", 400)
    if len(order.order_id) > TAG_MAX:
        raise Refused("UDAPI1119", f"tag is longer than {TAG_MAX}", 400)
    _check_protection(order)
    try:
        kind = kind_of(instrument, order.product)
        of_order(kind, order.side, 0, ZERO, on, plan)
    except UnknownCharges as error:
        raise Refused("UDAPI100036", f"instrument_token: {error}", 400) from None
    return Terms(
        kind=kind,
        tick=exact(instrument.tick_size),
        isin=instrument.isin or "",
        expiry=instrument.expiry,
        strike=None if instrument.strike is None else exact(instrument.strike),
        is_call=instrument.instrument_type == "CE" if instrument.is_option else None,
        on_index=instrument.is_on_index,
    )


def _check_protection(order: NewOrder) -> None:
    asked = order.market_protection
    if order.order_type not in _MARKETS:
        return
    if not asked:
        raise Refused("UDAPI1158", "market orders are not allowed by API without market_protection", 400)
    if asked != _AUTOMATIC and not 0 < asked <= _PROTECTION_MAX:
        raise Refused("UDAPI1176", f"market_protection has to be -1, or above 0 and at most {_PROTECTION_MAX}", 400)


def hours(instrument: Instrument, now_ms: int, *, always: bool) -> tuple[tuple[int, int], ...]:
    """Continuous trading that an order of now can meet. Refused where the market is closed.

    An order of the pre-open waits for continuous trading: auctions are not played.
    """
    on = sessions.trading_date(now_ms)
    try:
        of_class = class_of(instrument, on, always=always)
        phase = sessions.phase_at(instrument.segment, of_class, now_ms)
        spans = sessions.continuous(instrument.segment, of_class, on)
    except (Rejected, Misconfigured) as error:
        raise Refused("UDAPI100057", f"market closed: {error}", 400) from None
    left = tuple(span for span in spans if now_ms < span[1])
    if phase not in (Phase.CONTINUOUS, Phase.PRE_OPEN) or not left:
        raise Refused("UDAPI100057", f"market closed: {instrument.segment} takes no orders now", 400)
    return left


def protected(
    order_type: OrderType, side: Side, price: Decimal, terms: Terms, protection: Decimal | None, base: Decimal | None
) -> tuple[OrderType, Decimal]:
    """Order type and limit that a market order has in truth."""
    if order_type is not OrderType.MARKET:
        return order_type, price
    if base is None:
        raise Refused("UDAPI100036", "no price is known to protect a market order from", 400)
    return OrderType.LIMIT, protected_limit(side, base, terms, protection)


def protected_limit(side: Side, base: Decimal, terms: Terms, protection: Decimal | None) -> Decimal:
    percent = protection if protection and protection != _AUTOMATIC else _automatic(terms, base)
    return on_grid(base * (1 + side.sign * percent / _HUNDRED), terms.tick, side)


def _automatic(terms: Terms, price: Decimal) -> Decimal:
    table = _OTHER_PERCENT if terms.strike is None else _OPTION_PERCENT
    return Decimal(next(percent for least, percent in reversed(table) if price >= least))


def on_grid(price: Decimal, tick: Decimal, side: Side) -> Decimal:
    """The next price away from the market: up for a buy, down for a sell, and never below one tick."""
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    return max((price / tick).to_integral_value(rounding) * tick, tick)


def objection(
    order_type: OrderType,
    side: Side,
    quantity: int,
    price: Decimal,
    trigger_price: Decimal,
    instrument: Instrument,
    seen: View | None,
) -> str:
    """Why exchange or risk desk will not have it; empty: it stands."""
    if quantity % instrument.lot_size:
        return f"Order quantity {quantity} is not a multiple of the lot size {instrument.lot_size}"
    if instrument.freeze_quantity and quantity > instrument.freeze_quantity:
        return f"Order quantity {quantity} exceeds the freeze quantity {instrument.freeze_quantity}"
    tick = exact(instrument.tick_size)
    band = _band(instrument, seen)
    prices = [price] if order_type is not OrderType.SL_M else []
    prices += [trigger_price] if order_type in STOPS else []
    for each in prices:
        if each <= 0 or each % tick:
            return f"Price {each} is not a multiple of the tick size {tick}"
        if band and not band[0] <= each <= band[1]:
            return f"Price {each} is outside the circuit limits {band[0]} to {band[1]}"
    if order_type is OrderType.SL and (price - trigger_price) * side.sign < 0:
        words = "above the limit price of a buy" if side is Side.BUY else "below the limit price of a sell"
        return f"Trigger price {trigger_price} is {words} stop order"
    return ""


def _band(instrument: Instrument, seen: View | None) -> tuple[Decimal, Decimal] | None:
    """None where nothing is known to measure from."""
    base = None if seen is None else seen.last if instrument.is_option else seen.close
    if base is None:
        return None
    middle, tick = Decimal(base) / SCALE, exact(instrument.tick_size)
    if not instrument.is_option:
        away = middle * _BAND
    else:
        away = middle * _OPTION_BAND if middle > _OPTION_CHEAP else _OPTION_BAND_RUPEES
    return on_grid(middle - away, tick, Side.BUY), on_grid(middle + away, tick, Side.SELL)


def exact(number: float) -> Decimal:
    """What the decimal digits of a venue's file say."""
    return Decimal(repr(number)).normalize() + 0
