"""Black-76 on the forward of an expiry: implied volatility, price and Greeks of European options, over whole arrays.

Units are the venue's: theta per calendar day, vega per volatility point, rho per point of the interest rate (the
forward held). `iv` is a fraction: 0.15 is 15 %. Delta and gamma are to the forward. docs/greeks.md is the guide.

A record whose flag is not OK has NaN in every number: nothing here is a start value, and nothing is 0 that is unknown.

A textbook solver fails in three ways, and the file is built around them:

* In the money a price is mostly intrinsic value, and subtracting that leaves rounding noise. Here the difference is
  taken with twice the digits, and where nothing is left in the price itself the flag says so (DETERMINED).
* Φ(d1) and Φ(d2) cancel: at the money, where they are nearly the same, and far out, where both are tiny. Here the
  price is its own derivative times a difference of Mills ratios, which neither overflows nor underflows, and cancels no
  more than the volatility can bear. For short times that difference is a series.
* Newton's method crawls where the price is flat in the volatility, which is nearly everywhere. Here it is the price's
  logarithm, or that of what lacks to the bound, that is solved for, by steps of fourth order. Two are enough from the
  starts below for any option of a market; a bracket guards the rest. (The idea of such transformations is P. Jäckel's,
  "Let's be rational", 2015.)
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
    """Why a record has no numbers. `_known` and `_deviation` say which comes first."""

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
    shape, arrays = _arrays(price, forward, strike, years, rate, is_call)
    out = np.empty(arrays[0].size, OPTION)
    _solve_all(*arrays, out)
    return out.reshape(shape)


def implied(
    price: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Volatility and flag alone, the same as those of `solve`."""
    shape, arrays = _arrays(price, forward, strike, years, rate, is_call)
    vol, flag = np.empty(arrays[0].size), np.empty(arrays[0].size, np.int64)
    _implied_all(*arrays, vol, flag)
    return vol.reshape(shape), flag.reshape(shape)


def greeks(
    vol: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers
) -> npt.NDArray[Any]:
    """Price and Greeks at a known volatility: OPTION records."""
    shape, arrays = _arrays(vol, forward, strike, years, rate, is_call)
    out = np.empty(arrays[0].size, OPTION)
    _greeks_all(*arrays, out)
    return out.reshape(shape)


def value(vol: Numbers, forward: Numbers, strike: Numbers, years: Numbers, is_call: Numbers, rate: Numbers) -> Floats:
    """The price at a known volatility; NaN where `greeks` would have a flag."""
    return cast(Floats, greeks(vol, forward, strike, years, is_call, rate)["price"].copy())


def years(now_ms: Numbers, last_trade_ms: Numbers) -> Floats:
    """Time to the contract's last trade: ACT/365, never less than FLOOR_MS while it trades, 0 at its end and after."""
    left = np.asarray(last_trade_ms, np.float64) - np.asarray(now_ms, np.float64)
    return np.where(left > 0, np.maximum(left, FLOOR_MS), np.where(np.isnan(left), np.nan, 0.0)) / YEAR_MS


def _arrays(
    first: Numbers, forward: Numbers, strike: Numbers, time: Numbers, rate: Numbers, is_call: Numbers
) -> tuple[tuple[int, ...], tuple[Floats, Floats, Floats, Floats, Floats, Bools]]:
    """The shape to give back, and what a kernel takes: arrays of that many elements in one row."""
    given = [np.asarray(one, np.float64) for one in (first, forward, strike, time, rate)]
    *numbers, calls = np.broadcast_arrays(*given, np.asarray(is_call, np.bool_))
    first, forward, strike, time, rate = (np.array(one).ravel() for one in numbers)
    return calls.shape, (first, forward, strike, time, rate, np.array(calls).ravel())


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

#: Forwards, strikes and deviations beyond are no numbers of a market, and their products would leave a double.
_SMALL: Final = 1e-100
_LARGE: Final = 1e100
_FINITE: Final = 1.7976931348623157e308
_EXPONENT: Final = 100.0  # of the discount factor
_SQRT_2PI: Final = 2.5066282746310002
_LOG_SQRT_2PI: Final = 0.9189385332046727
_EPSILON: Final = 2.0**-52
_DENORMAL: Final = 5e-324
_DEEP: Final = 1e-290  # a quotient below may have lost digits

_FAR: Final = 50.0  # no double is the price of an option with z beyond
_STEPS_MAX: Final = 60  # of which any option of a market takes two
_ROUNDING: Final = 1e-13
_CLOSE: Final = 1e-5  # a step of this size leaves an error of its fourth power
_SERIES: Final = 0.2  # below this t the seven terms of `_ratio` are exact to a double


# Numbers in two parts, high + low, for the one subtraction that would cancel: price minus intrinsic value.


@_compiled
def _sum(a: float, b: float) -> tuple[float, float]:
    """a + b exactly (Knuth)."""
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


@_compiled
def _product(a: float, b: float) -> tuple[float, float]:
    """a * b exactly (Dekker, Veltkamp)."""
    high = a * b
    split = 134217729.0 * a
    a1 = split - (split - a)
    split = 134217729.0 * b
    b1 = split - (split - b)
    a2, b2 = a - a1, b - b1
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


@_compiled
def _discount(rate: float, time: float) -> tuple[float, float]:
    """exp(-rate * time) to some 60 bits: the series of a small part of the exponent, squared back."""
    whole, rest = _product(-rate, time)
    m, squarings = whole, 0
    while abs(m) > 0.03:
        m *= 0.5
        squarings += 1
    tail = m * m * (1 / 2 + m * (1 / 6 + m * (1 / 24 + m * (1 / 120 + m * (1 / 720 + m * (1 / 5040 + m / 40320))))))
    part, low = _sum(m, tail)
    high, lost = _sum(1.0, part)
    high, low = _sum(high, lost + low)
    for _ in range(squarings):
        square, error = _product(high, high)
        high, low = _sum(square, error + 2.0 * high * low)
    return high, low + high * rest


@_compiled
def _minus(price: float, discount: float, lower: float, a: float, b: float) -> float:
    """price - discount * (a - b), rounded once: what is left may be the last bits of the price."""
    gap, gap_lower = _sum(a, -b)
    high, low = _product(discount, gap)
    low += discount * gap_lower + lower * gap
    left, lost = _sum(price, -high)
    return left + (lost - low)


# The normal distribution, as its Mills ratio.


@_compiled
def _mills(z: float) -> float:
    """(1 - Φ(z)) / φ(z) for z >= 0, to 1e-15.

    One rational function, fitted with 50 digits to 2e-18 on [0, 60]. Beyond, where the density is 0 in a double, its
    value at 60 serves.
    """
    z = min(z, 60.0)
    above = 6.397788798732248e-07
    above = above * z + 1.9524179117212224e-05
    above = above * z + 0.0002934204112484027
    above = above * z + 0.002821595415108157
    above = above * z + 0.01908032566127732
    above = above * z + 0.09440898916449644
    above = above * z + 0.3456270608877534
    above = above * z + 0.9254370559512611
    above = above * z + 1.7418381381461399
    above = above * z + 2.0997164589544712
    above = above * z + 1.2533141373155003
    below = 6.397788798732001e-07
    below = below * z + 1.952417911721946e-05
    below = below * z + 0.000294060190127336
    below = below * z + 0.0028411195942979906
    below = below * z + 0.0193724665110046
    below = below * z + 0.09719153636109397
    below = below * z + 0.36412693962320003
    below = below * z + 1.0143981800303021
    below = below * z + 2.0521899718332377
    below = below * z + 2.863126544348038
    below = below * z + 2.4732159054663017
    below = below * z + 1.0
    return above / below


@_compiled
def _density(z: float, t: float) -> float:
    """The derivative of the normalised price by s."""
    return math.exp(-0.5 * (z * z + t * t)) / _SQRT_2PI


@_compiled
def _ratio(z: float, t: float) -> float:
    """Normalised price over its derivative: Y(t - z) - Y(-t - z) with Y = Φ/φ, for small t or z >= t.

    For small t the difference is a series in the odd derivatives of Y at -z, which follow from Y' = 1 - zY. Up to
    three digits cancel far from the money; there the price falls so steeply that the volatility loses none.
    """
    if not (t < _SERIES and z * t < 3.0):
        return _mills(z - t) - _mills(z + t)
    y = _mills(z)
    y1 = 1.0 - z * y
    y2 = y - z * y1
    y3 = 2.0 * y1 - z * y2
    y4 = 3.0 * y2 - z * y3
    y5 = 4.0 * y3 - z * y4
    y6 = 5.0 * y4 - z * y5
    y7 = 6.0 * y5 - z * y6
    tt = t * t
    inner = y5 / 120.0 + tt * y7 / 5040.0
    if t > 0.01:
        y8 = 7.0 * y6 - z * y7
        y9 = 8.0 * y7 - z * y8
        y10 = 9.0 * y8 - z * y9
        y11 = 10.0 * y9 - z * y10
        y12 = 11.0 * y10 - z * y11
        y13 = 12.0 * y11 - z * y12
        inner += tt * tt * (y9 / 362880.0 + tt * (y11 / 39916800.0 + tt * y13 / 6227020800.0))
    return 2.0 * t * (y1 + tt * (y3 / 6.0 + tt * inner))


# The solver, on the normalised price of the option that is out of the money, b = price / (discount * sqrt(F K)), as a
# function of s = volatility * sqrt(time). With x = |ln(F/K)|, z = x/s and t = s/2,
#
#     b = exp(-zt) Φ(t - z) - exp(zt) Φ(-t - z),    b' = exp(-(z² + t²) / 2) / sqrt(2π).


@_compiled
def _step(newton: float, second: float, third: float) -> float:
    """Householder's step of fourth order; `second` and `third` are f''/f' and f'''/f'."""
    above = 1.0 + 0.5 * newton * second
    below = 1.0 + newton * (second + newton * third / 6.0)
    if above > 0.0 and below > 0.0:
        return newton * min(max(above / below, 0.2), 5.0)
    return newton


@_compiled
def _within(s: float, step: float, low: float, high: float) -> float:
    """The step, or where it leads out of the bracket one to its middle. Rounding is not leading out."""
    out = max(low - (s + step), (s + step) - high)
    if out <= _ROUNDING * s:
        return step
    return (0.5 * (low + high) if high < math.inf else 2.0 * s) - s


@_compiled
def _low(wanted: float, x: float) -> tuple[float, float]:
    """s where b lies below its point of inflection, from ln b: solve for 1/ln b, which is nearly linear in s²."""
    low, high, ratio = x / _FAR, math.sqrt(2.0 * x), 0.0
    s = min(_low_start(wanted, x), high)
    for _ in range(_STEPS_MAX):
        z, t = x / s, 0.5 * s
        ratio = _ratio(z, t)
        have = math.log(ratio) - 0.5 * (z * z + t * t) - _LOG_SQRT_2PI
        if have < wanted:
            low = s
        else:
            high = s
        q = (z * z - t * t) / s  # b''/b'
        q1 = -3.0 * (z / s) * (z / s) - 0.25  # and its derivative
        u = 1.0 / ratio  # of ln b
        newton = have * (wanted - have) / wanted * ratio
        second = q - u - 2.0 * u / have
        u1 = u * (q - u)
        third = second * second + q1 - u1 - 2.0 * (u1 / have - u * u / (have * have))
        step = _step(newton, second, third)
        step = _within(s, step, low, high)
        s += step
        if abs(step) <= _CLOSE * s:
            break
    return s, ratio


@_compiled
def _low_start(wanted: float, x: float) -> float:
    """s as if prices were normal and not lognormal: then b/x is a function of z alone, here inverted to 0.7 %.

    The two fits meet at z = 1.5. The truth is e^(-s²/8) away at most, and s below the bend is not large.
    """
    u = math.log(x) - wanted
    if u < 3.9354:
        q = math.exp(-u)
        return x * (0.53182492 + q * (12.640469 + q * 22.424949)) / (1.0 + 8.8884998 * q)
    return x / math.sqrt((0.024184361 + u * (u * 0.26644673 - 0.18433963)) / (1.0 + 0.13438862 * u))


@_compiled
def _high(b: float, rest: float, x: float, top: float, bend: float) -> tuple[float, float]:
    """s where b lies above its point of inflection: solve for ln(top - b), which is nearly linear in s²."""
    low, high, density = math.sqrt(2.0 * x), math.inf, 0.0
    y0 = -math.log1p(-bend / top)
    over = -math.log(rest / top) if b > 0.5 * top else -math.log1p(-b / top)
    over = max(over - y0, 0.0)
    slope = 2.0 * low * _SQRT_2PI * (1.0 - bend / top)
    # s² by -ln(1 - b/top): its value and slope at the bend, 2π times the square at the money, a slope of 8 far up
    s = math.sqrt(low * low + over * (slope + 6.283185307179586 * over) / (1.0 + 0.7853981633974483 * over))
    for _ in range(_STEPS_MAX):
        z, t = x / s, 0.5 * s
        density = _density(z, t)
        if t < _SERIES:
            have = density * _ratio(z, t)
            left = top - have
            off = math.log1p((b - have) / rest)
        else:
            left = density * (_mills(t - z) + _mills(t + z))
            off = math.log(left / rest)
        if off > 0.0:
            low = s
        else:
            high = s
        q = (z * z - t * t) / s
        q1 = -3.0 * (z / s) * (z / s) - 0.25
        u = density / left
        second = q + u
        third = second * second + q1 + u * (q + u)
        step = _step(off / u, second, third)
        step = _within(s, step, low, high)
        s += step
        if abs(step) <= _CLOSE * s:
            break
    return s, b / density


@_compiled
def _distance(forward: float, strike: float) -> float:
    """|ln(F/K)|, exact to the last bits at the money too."""
    big, small = max(forward, strike), min(forward, strike)
    gap = (big - small) / small
    return math.log1p(gap) if gap < 1.0 else math.log(big / small)


@_compiled
def _deviation(
    price: float, forward: float, strike: float, is_call: bool, root: float, discount: float, lower: float
) -> tuple[int, float]:
    """Flag and s. In the money the time value is that of the other option, by parity."""
    big, small = max(forward, strike), min(forward, strike)
    left = price
    if is_call == (forward > strike) and big > small:
        left = _minus(price, discount, lower, big, small)
        if not left > 0.0:
            return _BELOW, math.nan
    scale = math.sqrt(forward) * math.sqrt(strike)
    per = discount * scale
    b, top = left / per, small / scale
    rest = top - b
    if b > 0.5 * top:
        rest = -_minus(price, discount, lower, forward if is_call else strike, 0.0) / per
        if not rest > 0.0:
            return _ABOVE, math.nan
    x = _distance(forward, strike)
    bend = top * (0.5 - _mills(math.sqrt(2.0 * x)) / _SQRT_2PI) if x > 0.0 else 0.0
    if b < bend:
        s, ratio = _low(math.log(left) - math.log(per) if b < _DEEP else math.log(b), x)
    else:
        s, ratio = _high(b, rest, x, top, bend)
    if s >= _SMALL and _determined(price, left, 1.1 * ratio, root):
        return _OK, s
    z, t = x / s, 0.5 * s  # close to the limit it has to be the ratio at s, not the one at the step before
    ratio = _ratio(z, t) if b < bend or t < _SERIES else b / _density(z, t)
    return _OK if s >= _SMALL and _determined(price, left, ratio, root) else _UNDETERMINED, s


@_compiled
def _determined(price: float, left: float, ratio: float, root: float) -> bool:
    """Whether the last place of the price moves the volatility by no more than DETERMINED."""
    last_place = max(math.ldexp(_EPSILON, math.frexp(price)[1] - 1), _DENORMAL)
    return last_place / left * ratio <= DETERMINED * root


@_compiled
def _known(first: float, forward: float, strike: float, time: float, rate: float) -> int:
    """Whether there is anything to calculate with."""
    if not (_SMALL <= strike <= _LARGE and abs(time) <= _LARGE and abs(rate * time) <= _EXPONENT):
        return _NO_TERMS
    if time <= 0.0:
        return _EXPIRED
    if not _SMALL <= forward <= _LARGE:
        return _NO_FORWARD
    if not 0.0 < first <= _FINITE:
        return _NO_PRICE
    return _OK


@_compiled
def _fill(
    row: Any, s: float, forward: float, strike: float, is_call: bool, time: float, rate: float, discount: float
) -> None:
    """All numbers of an option at s."""
    small, scale, root = min(forward, strike), math.sqrt(forward) * math.sqrt(strike), math.sqrt(time)
    x, top = _distance(forward, strike), small / scale
    z, t = x / s, 0.5 * s
    density = _density(z, t)
    far = density * top * _mills(z + t)  # Φ(-t - z)
    near = density / top * _mills(abs(z - t))  # Φ(t - z), or what it lacks to 1
    if z < t:
        near = 1.0 - near
    if density == 0.0:
        b = top if z < t else 0.0
    elif z >= t or t < _SERIES:
        b = density * _ratio(z, t)
    else:
        b = top * near - far / top
    otm = (forward <= strike) == is_call
    row.iv = s / root
    row.price = discount * (scale * b + (0.0 if otm else abs(forward - strike)))
    if forward <= strike:
        row.delta = discount * (near if is_call else near - 1.0)
    else:
        row.delta = discount * (1.0 - far if is_call else -far)
    slope = discount * scale * density
    row.gamma = density / s * scale / forward / forward * discount
    row.theta = (rate * row.price - 0.5 * slope * row.iv / root) / 365.0
    row.vega = slope * root / 100.0
    row.rho = -time * row.price / 100.0
    row.flag = _OK


@_compiled
def _unknown(row: Any, flag: int) -> None:
    row.iv = row.price = row.delta = row.gamma = row.theta = row.vega = row.rho = math.nan
    row.flag = flag


@_compiled
def _solve_all(
    price: Floats, forward: Floats, strike: Floats, time: Floats, rate: Floats, is_call: Bools, out: Any
) -> None:
    then, at, discount, lower = math.nan, math.nan, 1.0, 0.0
    for i in range(price.size):
        s = math.nan
        flag = _known(price[i], forward[i], strike[i], time[i], rate[i])
        if flag == _OK:
            if time[i] != then or rate[i] != at:  # the options of an expiry come together
                then, at = time[i], rate[i]
                discount, lower = _discount(at, then)
            flag, s = _deviation(price[i], forward[i], strike[i], is_call[i], math.sqrt(then), discount, lower)
        if flag == _OK:
            _fill(out[i], s, forward[i], strike[i], is_call[i], then, at, discount)
        else:
            _unknown(out[i], flag)


@_compiled
def _implied_all(
    price: Floats, forward: Floats, strike: Floats, time: Floats, rate: Floats, is_call: Bools, vol: Floats, flags: Any
) -> None:
    then, at, discount, lower = math.nan, math.nan, 1.0, 0.0
    for i in range(price.size):
        vol[i] = math.nan
        flag = _known(price[i], forward[i], strike[i], time[i], rate[i])
        if flag == _OK:
            if time[i] != then or rate[i] != at:
                then, at = time[i], rate[i]
                discount, lower = _discount(at, then)
            root = math.sqrt(then)
            flag, s = _deviation(price[i], forward[i], strike[i], is_call[i], root, discount, lower)
            if flag == _OK:
                vol[i] = s / root
        flags[i] = flag


@_compiled
def _greeks_all(
    vol: Floats, forward: Floats, strike: Floats, time: Floats, rate: Floats, is_call: Bools, out: Any
) -> None:
    for i in range(vol.size):
        flag = _known(vol[i], forward[i], strike[i], time[i], rate[i])
        s = vol[i] * math.sqrt(time[i])
        if flag == _OK and not _SMALL <= s <= _LARGE:
            flag = _NO_PRICE
        if flag == _OK:
            discount = math.exp(-rate[i] * time[i])
            _fill(out[i], s, forward[i], strike[i], is_call[i], time[i], rate[i], discount)
            out[i].iv = vol[i]
        else:
            _unknown(out[i], flag)


def warm() -> None:
    """Compile the kernels."""
    solve(10.0, 100.0, 100.0, 0.1, True, 0.05)
    implied(10.0, 100.0, 100.0, 0.1, True, 0.05)
    greeks(0.2, 100.0, 100.0, 0.1, True, 0.05)
