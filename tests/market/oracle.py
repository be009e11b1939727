"""Black-76 with 80 digits: what the compiled kernel is held against."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mpmath
import numpy as np
import numpy.typing as npt

from market.black76 import DETERMINED, Flag

_CONTEXT: Final = mpmath.MPContext()
_CONTEXT.dps = 80


@dataclass(frozen=True, slots=True)
class Case:
    """An option at a known volatility. All numbers are doubles and taken as exact."""

    forward: float
    strike: float
    years: float
    vol: float
    rate: float
    is_call: bool


@dataclass(frozen=True, slots=True)
class Truth:
    price: float  # the exact one, rounded once
    flag: Flag  # what has to be said about that double
    uncertainty: float  # how far one unit in its last place moves the volatility


def price(numbers: Sequence[Any], is_call: bool) -> Any:
    """Of forward, strike, years, volatility and rate."""
    forward, strike, years, vol, rate = map(_CONTEXT.mpf, numbers)
    deviation = vol * _CONTEXT.sqrt(years)
    d1 = _CONTEXT.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    discount = _CONTEXT.exp(-rate * years)
    if is_call:
        return discount * (forward * _cdf(d1) - strike * _cdf(d2))
    return discount * (strike * _cdf(-d2) - forward * _cdf(-d1))


def vega(case: Case) -> Any:
    """The price's derivative by the volatility as a fraction."""
    years, vol = _CONTEXT.mpf(case.years), _CONTEXT.mpf(case.vol)
    d1 = _CONTEXT.log(_CONTEXT.mpf(case.forward) / case.strike) / (vol * _CONTEXT.sqrt(years))
    d1 += vol * _CONTEXT.sqrt(years) / 2
    density = _CONTEXT.exp(-d1 * d1 / 2) / _CONTEXT.sqrt(2 * _CONTEXT.pi)
    return _CONTEXT.exp(-_CONTEXT.mpf(case.rate) * years) * case.forward * density * _CONTEXT.sqrt(years)


def truth(case: Case) -> Truth:
    rounded = float(price(_numbers(case), case.is_call))
    slope = vega(case)
    uncertainty = float(_CONTEXT.mpf(float(np.spacing(rounded))) / slope) if slope else np.inf
    return Truth(rounded, _flag(case, rounded, uncertainty), uncertainty)


def _flag(case: Case, rounded: float, uncertainty: float) -> Flag:
    discount = _CONTEXT.exp(-_CONTEXT.mpf(case.rate) * case.years)
    gain = _CONTEXT.mpf(case.forward) - case.strike
    if not rounded > 0:
        return Flag.NO_PRICE
    if rounded <= discount * (gain if case.is_call else -gain):
        return Flag.BELOW_INTRINSIC
    if rounded >= discount * (case.forward if case.is_call else case.strike):
        return Flag.ABOVE_BOUND
    return Flag.OK if uncertainty <= DETERMINED else Flag.UNDETERMINED


def greeks(case: Case) -> dict[str, float]:
    """Derivatives of the price itself, taken numerically with 80 digits, in the kernel's units."""
    at = _numbers(case)

    def derivative(place: int, order: int = 1) -> Any:
        def moved(value: Any) -> Any:
            return price([*at[:place], value, *at[place + 1 :]], case.is_call)

        # relative to the size of the argument, so that a minute to expiry is a large number of steps away
        unit = _CONTEXT.mpf(at[place]) or _CONTEXT.mpf(1)
        return _CONTEXT.diff(lambda part: moved(part * unit), at[place] / unit, order) / unit**order

    return {
        "price": float(price(at, case.is_call)),
        "delta": float(derivative(0)),
        "gamma": float(derivative(0, 2)),
        "theta": float(-derivative(2) / 365),
        "vega": float(derivative(3) / 100),
        "rho": float(derivative(4) / 100),
    }


def discount_error(rate: float, years: float, high: float, low: float) -> float:
    """How far high + low is from exp(-rate * years), as a part of it."""
    exact = _CONTEXT.exp(-_CONTEXT.mpf(rate) * _CONTEXT.mpf(years))
    return float(abs((_CONTEXT.mpf(high) + _CONTEXT.mpf(low)) / exact - 1))


def columns(cases: Iterable[Case]) -> tuple[npt.NDArray[Any], ...]:
    """Forward, strike, years, vol, rate, is_call of all of them, as the kernel takes them."""
    cases = list(cases)
    return *np.array([_numbers(one) for one in cases], np.float64).reshape(-1, 5).T, np.array(
        [one.is_call for one in cases], np.bool_
    )


def _numbers(case: Case) -> list[float]:
    return [case.forward, case.strike, case.years, case.vol, case.rate]


def _cdf(x: Any) -> Any:
    return _CONTEXT.erfc(-x / _CONTEXT.sqrt(2)) / 2
