"""What things are worth when nobody errs: the one pricing rule of the live market, of history and of last closes.

A share is worth its path. A future stands above its index by the cost of carry. An option follows Black-76 on the
forward of its own expiry, with India VIX as the volatility at the money and a smile that is steeper towards puts.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from sim import black

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RATE: Final = 0.0525  # a year, to discount
CARRY: Final = 0.055  # a year, of a future over its index
YEAR_MS: Final = 365 * 86_400_000.0

_SKEW: Final = -0.055
_SMILE: Final = 0.028
_WINGS: Final = 5.0  # standard deviations from the money beyond which the smile stays flat
_SMILE_FLOOR_YEARS: Final = 2 / 365  # or the last hours would bend the smile without limit


def years_to(end_ms: F64, now_ms: float | F64) -> F64:
    return np.maximum((end_ms - now_ms) / YEAR_MS, black.FLOOR_YEARS)


def forward(spot: F64, years: F64) -> F64:
    return spot * np.exp(CARRY * years)


def volatility(forward: F64, strike: F64, years: F64, at_the_money: F64) -> F64:
    """The smile. Volatilities are fractions a year."""
    width = at_the_money * np.sqrt(np.maximum(years, _SMILE_FLOOR_YEARS))
    distance = np.clip(np.log(strike / forward) / width, -_WINGS, _WINGS)
    return at_the_money * (1.0 + _SKEW * distance + _SMILE * distance * distance)


def option(forward: F64, strike: F64, years: F64, at_the_money: F64, call: Bools) -> F64:
    vol = volatility(forward, strike, years, at_the_money)
    return black.price(forward, strike, years, vol, RATE, call)


def half_spread(price: F64, tick: F64, trade_rate: F64) -> F64:
    """Half the distance of bid and ask: what hardly trades is quoted widely."""
    eager = np.minimum(trade_rate / 8.0, 1.0) ** 0.25
    return np.maximum(0.5 * tick, price * (0.00003 + 0.004 * (1.0 - eager) ** 2.5))
