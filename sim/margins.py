"""What the broker blocks for an order and for a position: simple, and honest about direction. Pure.

A bought option costs its premium; a sold one, and any future, a share of what the contract stands for; shares for
delivery their price, for the day a part of it.
"""

from decimal import Decimal
from typing import Final

from market.instruments import Instrument
from sim.orders import ZERO, rounded

SPAN_SHARE: Final = Decimal("0.095")  # of the contract's value
EXPOSURE_SHARE: Final = Decimal("0.02")
INTRADAY_SHARE: Final = Decimal("0.20")
MTF_SHARE: Final = Decimal("0.35")


def required(instrument: Instrument, product: str, quantity: int, price: Decimal, underlying: Decimal) -> Decimal:
    """Rupees for holding so many units, negative for short, opened at a price."""
    units = abs(quantity)
    if instrument.is_option and quantity > 0:
        return rounded(units * price)
    if instrument.is_derivative:
        worth = underlying if instrument.is_option else price
        return rounded(units * worth * (SPAN_SHARE + EXPOSURE_SHARE))
    if product == "I":
        return rounded(units * price * INTRADAY_SHARE)
    if product == "MTF":
        return rounded(units * price * MTF_SHARE)
    return rounded(units * price) if quantity > 0 else ZERO
