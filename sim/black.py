"""Black-76 on the forward, over whole arrays: European options, as all Indian index options are.

Units are the venue's: theta per calendar day, vega per volatility point, rho per point of the interest rate.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

YEAR_S: Final = 365 * 86_400.0
#: An option is never priced closer to its end than this: at zero the Greeks divide by it.
FLOOR_YEARS: Final = 60.0 / YEAR_S

_SQRT_2PI: Final = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True, slots=True)
class Greeks:
    delta: F64
    theta: F64
    gamma: F64
    vega: F64
    rho: F64


def price(forward: F64, strike: F64, years: F64, vol: F64, rate: float, call: Bools) -> F64:
    years = np.maximum(years, FLOOR_YEARS)
    deviation = vol * np.sqrt(years)
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    discount = np.exp(-rate * years)
    value = discount * (forward * normal_cdf(d1) - strike * normal_cdf(d1 - deviation))
    return np.where(call, value, value - discount * (forward - strike))


def greeks(forward: F64, strike: F64, years: F64, vol: F64, rate: float, call: Bools) -> Greeks:
    years = np.maximum(years, FLOOR_YEARS)
    root = np.sqrt(years)
    deviation = vol * root
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    discount = np.exp(-rate * years)
    density = np.exp(-0.5 * d1 * d1) / _SQRT_2PI
    first = normal_cdf(d1)
    value = discount * (forward * first - strike * normal_cdf(d1 - deviation))
    value = np.where(call, value, value - discount * (forward - strike))
    decay = -forward * discount * density * vol / (2 * root) + rate * value
    return Greeks(
        delta=discount * np.where(call, first, first - 1.0),
        theta=decay / 365.0,
        gamma=discount * density / (forward * deviation),
        vega=discount * forward * density * root / 100.0,
        rho=-years * value / 100.0,
    )


def normal_cdf(x: F64) -> F64:
    """The standard normal distribution, to 1e-7: Abramowitz and Stegun 26.2.17, on both sides of zero."""
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.2316419 * size)
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * size * size) / _SQRT_2PI * series
    return np.where(x >= 0, 1.0 - tail, tail)
