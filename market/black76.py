"""Black-76 on the forward of an expiry: implied volatility, price and Greeks of European options, over whole arrays.

Units are the venue's: theta per calendar day, vega per volatility point, rho per point of the interest rate (the
forward held). `iv` is a fraction: 0.15 is 15 %. Delta and gamma are to the forward.

A record whose flag is not OK has NaN in every number: nothing here is a start value, and nothing is 0 that is unknown.
"""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

#: What `solve` and `greeks` return for each option.
OPTION: Final = np.dtype(
    [
        ("iv", "<f8"),
        ("price", "<f8"),  # the model's, at this iv
        ("delta", "<f8"),
        ("gamma", "<f8"),
        ("theta", "<f8"),
        ("vega", "<f8"),
        ("rho", "<f8"),
        ("flag", "<i8"),
    ]
)

YEAR_MS: Final = 365 * 86_400_000
#: An option that still trades is never priced closer to its end than this: at zero the Greeks divide by it.
FLOOR_MS: Final = 60_000
#: The price determines the volatility where one unit in its last place moves the volatility by no more than this.
DETERMINED: Final = 1e-9


class Flag(IntEnum):
    """Why a record has no numbers. Where several apply, the first in the order of `_flag` is told."""

    OK = 0
    NO_PRICE = 1  # NaN, infinite, zero or negative; for `value` and `greeks` the same of the volatility
    BELOW_INTRINSIC = 2  # at or below the discounted intrinsic value: no volatility is low enough
    ABOVE_BOUND = 3  # a call at or above the discounted forward, a put at or above the discounted strike
    UNDETERMINED = 4  # within the bounds, but the double price does not determine the volatility (DETERMINED)
    EXPIRED = 5  # at or after the last trade
    NO_FORWARD = 6  # NaN, infinite, zero or negative
    NO_TERMS = 7  # a strike, a time or a rate that is no number to calculate with


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Numbers = npt.ArrayLike
F = TypeVar("F", bound=Callable[..., Any])


def solve(
    price: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers
) -> npt.NDArray[Any]:
    """Volatility, model price and Greeks from prices: OPTION records. Arguments broadcast against each other."""
    args, out = _arrays(price, forward, strike, years, rate, is_call)
    _solve_all(*args)
    return out


def implied(
    price: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Volatility and flag alone, for whoever needs no Greeks."""
    args, out = _arrays(price, forward, strike, years, rate, is_call)
    _solve_all(*args)
    return out["iv"].copy(), out["flag"].copy()


def value(vol: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers) -> Floats:
    """The price at a known volatility; NaN where `greeks` would have a flag."""
    return cast(Floats, greeks(vol, forward, strike, years, is_call, rate)["price"].copy())


def greeks(
    vol: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers
) -> npt.NDArray[Any]:
    """Price and Greeks at a known volatility: OPTION records."""
    args, out = _arrays(vol, forward, strike, years, rate, is_call)
    _greeks_all(*args)
    return out


def years(now_ms: Numbers, last_trade_ms: Numbers) -> Floats:
    """Time to the contract's last trade: ACT/365, never less than FLOOR_MS while it trades, 0 at its end and after."""
    left = np.asarray(last_trade_ms, np.float64) - np.asarray(now_ms, np.float64)
    return np.where(left > 0, np.maximum(left, FLOOR_MS), 0.0 * left) / YEAR_MS


def _arrays(first: Numbers, forward: Numbers, strike: Numbers, time: Numbers, rate: Numbers, is_call: Numbers) -> Any:
    """What a kernel takes: flat arrays of one length, and the records to write into. These also in their shape."""
    given = [np.asarray(one, np.float64) for one in (first, forward, strike, time, rate)]
    whole = np.broadcast_arrays(*given, np.asarray(is_call, np.bool_))
    flat = np.empty(whole[0].size, OPTION)
    return (*(np.array(one).ravel() for one in whole), flat), flat.reshape(whole[0].shape)


def _compiled(function: F) -> F:
    """Compile on the first call and keep the machine code. A division by zero gives what IEEE 754 says."""
    return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))


_OK: Final = int(Flag.OK)
_NO_PRICE: Final = int(Flag.NO_PRICE)
_BELOW: Final = int(Flag.BELOW_INTRINSIC)
_ABOVE: Final = int(Flag.ABOVE_BOUND)
_UNDETERMINED: Final = int(Flag.UNDETERMINED)
_EXPIRED: Final = int(Flag.EXPIRED)
_NO_FORWARD: Final = int(Flag.NO_FORWARD)
_NO_TERMS: Final = int(Flag.NO_TERMS)

_MAX: Final = 1.7976931348623157e308


@_compiled
def _flag(first: float, forward: float, strike: float, time: float, rate: float) -> int:
    if not (0.0 < strike <= _MAX and -_MAX <= time <= _MAX and -_MAX <= rate <= _MAX):
        return _NO_TERMS
    if time <= 0.0:
        return _EXPIRED
    if not 0.0 < forward <= _MAX:
        return _NO_FORWARD
    if not 0.0 < first <= _MAX:
        return _NO_PRICE
    return _OK


@_compiled
def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@_compiled
def _price(forward: float, strike: float, deviation: float, is_call: bool) -> float:
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    if is_call:
        return forward * _cdf(d1) - strike * _cdf(d1 - deviation)
    return strike * _cdf(deviation - d1) - forward * _cdf(-d1)


@_compiled
def _deviation(price: float, forward: float, strike: float, is_call: bool) -> float:
    """Volatility times the root of time, by halving; the price is undiscounted and within its bounds."""
    low, high = 0.0, 100.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _price(forward, strike, middle, is_call) < price:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@_compiled
def _fill(row: Any, forward: float, strike: float, time: float, rate: float, is_call: bool, vol: float) -> None:
    root = math.sqrt(time)
    deviation = vol * root
    discount = math.exp(-rate * time)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    density = math.exp(-0.5 * d1 * d1) * 0.3989422804014327
    row.iv = vol
    row.price = discount * _price(forward, strike, deviation, is_call)
    row.delta = discount * (_cdf(d1) if is_call else -_cdf(-d1))
    row.gamma = discount * density / (forward * deviation)
    row.theta = (-discount * forward * density * vol / (2.0 * root) + rate * row.price) / 365.0
    row.vega = discount * forward * density * root / 100.0
    row.rho = -time * row.price / 100.0


@_compiled
def _unknown(row: Any, flag: int) -> None:
    row.iv = row.price = row.delta = row.gamma = row.theta = row.vega = row.rho = math.nan
    row.flag = flag


@_compiled
def _solve_all(
    price: Floats, forward: Floats, strike: Floats, time: Floats, rate: Floats, is_call: Bools, out: Any
) -> None:
    for i in range(price.size):
        flag = _flag(price[i], forward[i], strike[i], time[i], rate[i])
        if flag == _OK:
            discount = math.exp(-rate[i] * time[i])
            whole = price[i] / discount
            bound = forward[i] if is_call[i] else strike[i]
            gain = forward[i] - strike[i] if is_call[i] else strike[i] - forward[i]
            if whole <= gain:
                flag = _BELOW
            elif whole >= bound:
                flag = _ABOVE
        if flag == _OK:
            deviation = _deviation(whole, forward[i], strike[i], is_call[i])
            out[i].iv = deviation / math.sqrt(time[i])
            _fill(out[i], forward[i], strike[i], time[i], rate[i], is_call[i], out[i].iv)
            if not price[i] * 2.220446049250313e-16 <= DETERMINED * out[i].vega * 100.0:
                flag = _UNDETERMINED
        if flag == _OK:
            out[i].flag = _OK
        else:
            _unknown(out[i], flag)


@_compiled
def _greeks_all(
    vol: Floats, forward: Floats, strike: Floats, time: Floats, rate: Floats, is_call: Bools, out: Any
) -> None:
    for i in range(vol.size):
        flag = _flag(vol[i], forward[i], strike[i], time[i], rate[i])
        if flag == _OK:
            _fill(out[i], forward[i], strike[i], time[i], rate[i], is_call[i], vol[i])
            out[i].flag = _OK
        else:
            _unknown(out[i], flag)


def warm() -> None:
    """Compile the kernels."""
    solve(10.0, 100.0, 100.0, 0.1, True, 0.05)
    greeks(0.2, 100.0, 100.0, 0.1, True, 0.05)
