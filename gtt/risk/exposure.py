"""What a unit of an instrument takes of the capital, and numbers in words. Pure.

A share and a bought option take their price. A future and a written option take a margin, which only the venue and the
clearing house know: what is told here for those is a flat estimate on the high side, and says so.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from market.instruments import Instrument
from schemas.money import ZERO
from schemas.orders import Side

_INDEX_MARGIN: Final = Decimal("0.12")  # of the notional value
_SHARE_MARGIN: Final = Decimal("0.25")
_CURRENCY_MARGIN: Final = Decimal("0.05")
_EXPIRY_DAY: Final = Decimal("0.02")  # more for written index options on their last day
_CURRENCY: Final = ("NCD_FO", "BCD_FO")
_CURRENCY_UNITS: Final = 1000  # of the currency, for each unit of quantity
_SHARES: Final = ("NSE_FO", "BSE_FO")


@dataclass(frozen=True, slots=True)
class Unit:
    """Of one unit of quantity, rupees. `scale`: what a move of one in the price is worth."""

    exposure: Decimal
    estimated: bool
    scale: int = 1


def unit(
    instrument: Instrument, side: Side, price: Decimal, *, underlying_price: Decimal | None, on: date
) -> Unit | None:
    """None where nobody tells how much of the commodity a lot is."""
    if not instrument.is_derivative:
        return Unit(price, estimated=False)
    if instrument.segment not in (*_SHARES, *_CURRENCY):
        return None
    scale = scale_of(instrument.key)
    if instrument.is_option and side is Side.BUY:
        return Unit(price * scale, estimated=scale != 1, scale=scale)
    if not instrument.is_option:
        return Unit(price * scale * _rate(instrument, on), estimated=True, scale=scale)
    strike = Decimal(repr(instrument.strike)) if instrument.strike else ZERO
    of_underlying = (underlying_price or strike) * _rate(instrument, on)
    return Unit((of_underlying + price) * scale, estimated=True, scale=scale)


def scale_of(key: str) -> int:
    """Rupees by which a unit of quantity changes its worth when the price moves by one."""
    return _CURRENCY_UNITS if key.partition("|")[0] in _CURRENCY else 1


def _rate(instrument: Instrument, on: date) -> Decimal:
    if instrument.segment in _CURRENCY:
        return _CURRENCY_MARGIN
    if not instrument.is_on_index:
        return _SHARE_MARGIN
    last_day = instrument.is_option and instrument.expiry == on
    return _INDEX_MARGIN + (_EXPIRY_DAY if last_day else ZERO)


def rupees(amount: Decimal) -> str:
    """`Rs 10,00,000`, as it is written in India; paise where there are some."""
    sign = "-" if amount < 0 else ""
    whole, _, paise = f"{abs(amount):.2f}".partition(".")
    head, tail = whole[:-3], whole[-3:]
    groups: list[str] = []
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return f"{sign}Rs {','.join([*groups, tail])}{'' if paise == '00' else '.' + paise}"


def percent_of(part: Decimal) -> str:
    """A part of one, as percent: `2 %`."""
    return f"{plain(part * 100)} %"


def plain(number: Decimal) -> str:
    """Without exponent and trailing zeros; four decimals say enough."""
    text = f"{round(number, 4):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
