"""What the exchange and the broker's risk desk turn down, in words, and what protects a market order. Pure.

The API has accepted the request by then: the order exists, and becomes `rejected`, or `not modified`.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from market.instruments import Instrument
from sim.orders import IOC, LIMIT, MARKET, STOP, STOP_MARKET, ZERO, Order
from sim.phases import Stage

AUTOMATIC: Final = Decimal(-1)

#: (from premium or price, percent) of the automatic protection, cheapest first. Of options the venue has told only what
#: is below 10 rupees; the rest is ours.
_OPTION_PERCENT: Final = ((0, "15"), (5, "10"), (10, "5"), (50, "3"), (500, "2"))
_OTHER_PERCENT: Final = ((0, "3"), (50, "2"), (500, "1"), (10_000, "0.5"))


@dataclass(frozen=True, slots=True)
class Quote:
    """What the exchange knows of an instrument at the moment."""

    last: Decimal
    low: Decimal  # the band
    high: Decimal


def tick_of(instrument: Instrument) -> Decimal:
    return Decimal(str(instrument.tick_size))


def protection_percent(instrument: Instrument, price: Decimal, asked: Decimal) -> Decimal:
    """How far from the price a protected market order may trade."""
    if asked != AUTOMATIC:
        return asked
    table = _OPTION_PERCENT if instrument.is_option else _OTHER_PERCENT
    return Decimal(next(percent for least, percent in reversed(table) if price >= least))


def protected_limit(instrument: Instrument, quote: Quote, price: Decimal, asked: Decimal, *, is_buy: bool) -> Decimal:
    """The limit that a market order gets: a percentage away from a price, on the grid, inside the band."""
    tick, reach = tick_of(instrument), price * protection_percent(instrument, price, asked) / 100
    if is_buy:
        limit = ((price + reach) / tick).to_integral_value(ROUND_CEILING) * tick
    else:
        limit = ((price - reach) / tick).to_integral_value(ROUND_FLOOR) * tick
    return min(max(limit, quote.low), quote.high)


def limit_of(order: Order, quote: Quote) -> Decimal:
    """What an order may trade at. A protected stop is limited from its trigger on."""
    if order.order_type in (LIMIT, STOP):
        return order.price
    start = order.trigger_price if order.order_type == STOP_MARKET else quote.last
    return protected_limit(order.instrument, quote, start, order.market_protection, is_buy=order.is_buy)


def is_triggered(order: Order, last: Decimal) -> bool:
    return last >= order.trigger_price if order.is_buy else last <= order.trigger_price


def refusal(order: Order, quote: Quote, stage: Stage, *, late_stops: bool) -> str:
    """Why the order cannot stand; empty: it can."""
    return _form(order) or _prices(order, quote, late_stops=late_stops) or session_refusal(order, stage)


def _form(order: Order) -> str:
    instrument, quantity = order.instrument, order.quantity
    if quantity % instrument.lot_size:
        return f"Order quantity {quantity} is not a multiple of the lot size {instrument.lot_size}"
    if instrument.freeze_quantity and quantity > instrument.freeze_quantity:
        return f"Order quantity {quantity} exceeds the freeze quantity {instrument.freeze_quantity}"
    if order.product == "MTF" and instrument.is_derivative:
        return "Product MTF is not allowed for this instrument"
    if order.disclosed_quantity and instrument.is_derivative:
        return "Disclosed quantity is not allowed in this segment"
    return ""


def _prices(order: Order, quote: Quote, *, late_stops: bool) -> str:
    priced = order.order_type in (LIMIT, STOP)
    stops = order.order_type in (STOP, STOP_MARKET)
    asked = ([order.price] if priced else []) + ([order.trigger_price] if stops else [])
    tick = tick_of(order.instrument)
    for price in asked:
        if price <= ZERO or price % tick:
            return f"Price {price} is not a multiple of the tick size {tick}"
        if not quote.low <= price <= quote.high:
            return f"Price {price} is outside the circuit limits {quote.low} to {quote.high}"
    if order.order_type == STOP and (order.price - order.trigger_price) * (1 if order.is_buy else -1) < 0:
        side = "above the limit price of a buy" if order.is_buy else "below the limit price of a sell"
        return f"Trigger price {order.trigger_price} is {side} stop order"
    if stops and not late_stops and is_triggered(order, quote.last):
        return f"Trigger price {order.trigger_price} has been passed by the last price {quote.last}"
    return ""


def session_refusal(order: Order, stage: Stage) -> str:
    """Why the order has no place in this stage of a session."""
    if stage is Stage.FROZEN:
        return "The exchange accepts no orders in this phase of the session"
    if not stage.is_auction:
        return ""
    if order.order_type in (STOP, STOP_MARKET) or order.validity == IOC or order.disclosed_quantity:
        return "Stop, IOC and disclosed quantity orders are not accepted in an auction"
    if order.order_type == MARKET and stage is Stage.LIMITS_ONLY:
        return "Market orders are not accepted in this phase of the auction"
    return ""
