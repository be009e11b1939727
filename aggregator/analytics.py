"""The measures of an option chain, each by one formula. Pure: arrays in, numbers out.

They are market usage, not law; where usage differs, the docstring says which one this is. `docs/chain.md` tells them
to the trader. A chain here is two `Side`s over the same ascending strikes; what a strike lacks is NaN there. NaN is
also the answer where an input is missing or a denominator is not positive.

K strike, C and P prices of call and put, OI open interest in units, V volume, F forward, S price of the underlying for
exposures, T years, r rate, s volatility a year.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.chain import Action

Floats = npt.NDArray[np.float64]
NAN: Final = math.nan

#: Of the straddle. The straddle is the mean move that its price pays for; usage takes a little less.
EXPECTED_MOVE_FACTOR: Final = 0.85
#: `action`: below these parts of price and open interest nothing has moved.
PRICE_MOVED: Final = 0.001
OI_MOVED: Final = 0.01
_ABOUT: Final = 1 - 1e-9  # 100.10 against 100.00 has moved by 0.1 %, whatever the binary fractions say
_PAIN_DECIMALS: Final = 4  # of rupees: equal pain has to compare as equal
SKEW_DELTA: Final = 0.25
CONSTANT_YEARS: Final = 30 / 365
#: Closing values that IV rank and percentile look back on, and how many there must be at least.
IV_DAYS_MAX: Final = 252
IV_DAYS_MIN: Final = 20
ONE_PERCENT: Final = 0.01
VOL_POINT: Final = 0.01
DAYS_A_YEAR: Final = 365.0

_ACTIONS: Final = np.array(
    [
        Action.NEUTRAL,
        Action.LONG_BUILDUP,
        Action.SHORT_BUILDUP,
        Action.SHORT_COVERING,
        Action.LONG_UNWINDING,
        None,
    ],
    object,
)


@dataclass(frozen=True, slots=True)
class Side:
    """The calls, or the puts, of a chain: an array per value, one place per strike. Or both, in rows."""

    price: Floats
    iv: Floats
    delta: Floats
    gamma: Floats
    oi: Floats
    oi_change: Floats
    volume: Floats


# Ratios


def totals(values: Floats) -> Floats:
    """Sums along the last axis of what is known; NaN where nothing is."""
    unknown = np.isnan(values)
    return np.where(unknown.all(axis=-1), NAN, np.where(unknown, 0.0, values).sum(axis=-1))


def ratio(puts: float, calls: float) -> float:
    """PCR = puts / calls, of open interest, volume or change of open interest; none where calls <= 0."""
    return puts / calls if calls > 0 else NAN


def pcr_by_strike(calls: Floats, puts: Floats) -> Floats:
    """PCR(K) = OI_p(K) / OI_c(K)."""
    out = np.full(len(calls), NAN)
    np.divide(puts, calls, out=out, where=calls > 0)
    return out


# Strikes that stand out


def pain(strikes: Floats, call_oi: Floats, put_oi: Floats) -> Floats:
    """pain(K*) = sum over K of OI_c max(K* - K, 0) + OI_p max(K - K*, 0); none where there is no open interest."""
    calls, puts = np.where(call_oi > 0, call_oi, 0.0), np.where(put_oi > 0, put_oi, 0.0)
    n_calls, n_puts = calls.cumsum(), puts.cumsum()
    if not n_calls[-1] + n_puts[-1] > 0:
        return np.full(len(strikes), NAN)
    value_calls, value_puts = (calls * strikes).cumsum(), (puts * strikes).cumsum()
    below = strikes * n_calls - value_calls
    above = value_puts[-1] - value_puts - strikes * (n_puts[-1] - n_puts)
    pains: Floats = (below + above).round(_PAIN_DECIMALS)
    return pains


def max_pain(strikes: Floats, pains: Floats, forward: float) -> float:
    """argmin over K of pain(K); of equals the one nearest F, then the lower."""
    if not (len(pains) and np.isfinite(pains).all()):
        return NAN
    least = strikes[pains == pains.min()]
    return float(least[0] if math.isnan(forward) else least[np.argmin(np.abs(least - forward))])


def call_wall(strikes: Floats, oi: Floats, forward: float) -> float:
    """argmax over K >= F of OI_c, or of its change; of equals the one nearest F. None where nothing is above zero."""
    return _wall(strikes, np.where(strikes >= forward, oi, NAN))


def put_wall(strikes: Floats, oi: Floats, forward: float) -> float:
    """argmax over K <= F of OI_p, or of its change; of equals the one nearest F. None where nothing is above zero."""
    return _wall(strikes[::-1], np.where(strikes <= forward, oi, NAN)[::-1])


def _wall(strikes: Floats, sizes: Floats) -> float:
    """The first of the largest."""
    sizes = np.where(sizes > 0, sizes, 0.0)
    return float(strikes[np.argmax(sizes)]) if sizes.any() else NAN


def atm(strikes: Floats, forward: float) -> int:
    """Place of argmin |K - F|, of two the lower; -1 without a forward."""
    if math.isnan(forward) or not len(strikes):
        return -1
    return int(np.argmin(np.abs(strikes - forward)))


# Prices


def synthetic(strikes: Floats, calls: Floats, puts: Floats, rate: float, years: float) -> Floats:
    """K + e^(rT) (C - P)."""
    return strikes + math.exp(rate * years) * (calls - puts)


def parity_residual(strikes: Floats, calls: Floats, puts: Floats, forward: float, rate: float, years: float) -> Floats:
    """C - P - e^(-rT) (F - K): 0 where call, put and forward agree."""
    return calls - puts - math.exp(-rate * years) * (forward - strikes)


def basis_yearly(forward: float, spot: float, years: float) -> float:
    """(F / S - 1) / T; none at the end of the contract."""
    return (forward / spot - 1.0) / years if spot > 0 and years > 0 else NAN


def one_sigma(forward: float, vol: float, years: float) -> float:
    """F s sqrt(T)."""
    return forward * vol * math.sqrt(years)


# Exposures. Dealers are taken to be long the calls and short the puts; see docs/chain.md for how doubtful that is here.


def gex(side: Side, spot: float) -> Floats:
    """gamma OI S^2 0.01 at each strike of a side: rupees of delta for a move of 1 %."""
    return side.gamma * side.oi * (spot * spot * ONE_PERCENT)


def dex(side: Side, spot: float) -> Floats:
    """delta OI S: rupees of delta."""
    return side.delta * side.oi * spot


def vanna_charm(
    side: Side, strikes: Floats, forward: float, spot: float, years: float, rate: float
) -> tuple[Floats, Floats]:
    """vanna OI S 0.01 and charm OI S / 365: rupees of delta for a point of volatility, and for a calendar day.

    vanna = d delta / d s = -e^(-rT) n(d1) d2 / s; charm = -d delta / d T = r delta + e^(-rT) n(d1) d2 / (2 T).
    """
    if not (years > 0 and forward > 0):
        nothing = np.full(side.iv.shape, NAN)
        return nothing, nothing
    vol = np.where(side.iv > 0, side.iv, NAN)
    deviation = vol * math.sqrt(years)
    d1 = np.log(forward / strikes) / deviation + 0.5 * deviation
    common = np.exp(-0.5 * d1 * d1 - rate * years) / math.sqrt(2 * math.pi) * (d1 - deviation)
    vanna = -common / vol
    charm = rate * side.delta + common / (2 * years)
    sized = side.oi * spot
    return vanna * sized * VOL_POINT, charm * sized / DAYS_A_YEAR


def signed(calls: Floats, puts: Floats) -> Floats:
    """The sign rule: calls +, puts -; at each strike of what is known."""
    no_call, no_put = np.isnan(calls), np.isnan(puts)
    net = np.where(no_call, 0.0, calls) - np.where(no_put, 0.0, puts)
    net[no_call & no_put] = NAN
    return net


def counted_pct(both: Side) -> float:
    """100 OI of the options that have Greeks / OI of all: how much of the chain the exposures speak of."""
    oi = np.where(both.oi > 0, both.oi, 0.0)
    return 100.0 * ratio(float(oi.sum(where=~np.isnan(both.gamma))), float(oi.sum()))


def zero_level(strikes: Floats, net: Floats, forward: float) -> float:
    """K where the sum of `net` from the lowest strike up crosses zero, on a straight line between two strikes; of
    several crossings the one nearest F."""
    sums = np.where(np.isnan(net), 0.0, net).cumsum()
    some = sums != 0
    strikes, sums = strikes[some], sums[some]
    above = sums > 0
    at = np.flatnonzero(above[:-1] != above[1:])
    if not at.size:
        return NAN
    crossings = strikes[at] + (strikes[at + 1] - strikes[at]) * sums[at] / (sums[at] - sums[at + 1])
    return float(crossings[0] if math.isnan(forward) else crossings[np.argmin(np.abs(crossings - forward))])


# The smile


def smile(strikes: Floats, calls: Floats, puts: Floats, forward: float) -> Floats:
    """The put's volatility below F, the call's above, the mean of both at F: the sides out of the money."""
    out = np.where(strikes < forward, puts, np.where(strikes > forward, calls, 0.5 * (calls + puts)))
    return out if not math.isnan(forward) else np.full(len(strikes), NAN)


def mean_of_known(one: float, other: float) -> float:
    """(one + other) / 2, or the one that is known."""
    if math.isnan(one) or math.isnan(other):
        return other if math.isnan(one) else one
    return 0.5 * (one + other)


def call_iv_at(strikes: Floats, side: Side, forward: float, delta: float = SKEW_DELTA) -> float:
    """s of the call of that delta: from F up, on a straight line between the first two that have it between them."""
    out = strikes >= forward
    return _iv_at(side.delta[out], side.iv[out], delta)


def put_iv_at(strikes: Floats, side: Side, forward: float, delta: float = SKEW_DELTA) -> float:
    """s of the put of that delta, its sign left out: from F down, on a straight line between the first two."""
    out = strikes <= forward
    return _iv_at(-side.delta[out][::-1], side.iv[out][::-1], delta)


def _iv_at(deltas: Floats, vols: Floats, wanted: float) -> float:
    known = ~np.isnan(deltas)
    deltas, vols = deltas[known], vols[known]
    at = np.flatnonzero((deltas[:-1] >= wanted) & (deltas[1:] <= wanted))
    if not at.size:
        return NAN
    i = int(at[0])
    width = deltas[i] - deltas[i + 1]
    part = (deltas[i] - wanted) / width if width > 0 else 0.0
    return float(vols[i] + part * (vols[i + 1] - vols[i]))


# What price and open interest say together


def action(price: Floats, price_before: Floats, oi: Floats, oi_before: Floats) -> list[Action | None]:
    """Long build-up: price and OI up; short build-up: down, up; short covering: up, down; long unwinding: down, down.

    Neutral where the price moved by less than PRICE_MOVED of what it was, or OI by less than OI_MOVED. Open interest
    that was zero has moved if it is not zero now. None where one of the four is not known.
    """
    d_price, d_oi = price - price_before, oi - oi_before
    known = ~np.isnan(d_price) & ~np.isnan(d_oi) & (price_before > 0)
    price_moved = np.abs(d_price) >= _ABOUT * PRICE_MOVED * price_before
    moved = price_moved & (np.abs(d_oi) >= _ABOUT * OI_MOVED * oi_before) & (d_oi != 0)
    kind = 1 + (d_price < 0) + 2 * (d_oi < 0)
    found: list[Action | None] = _ACTIONS[np.where(known, np.where(moved, kind, 0), -1)].tolist()
    return found


# Of an underlying: over its expiries, futures and days


def constant_iv(terms: Sequence[tuple[float, float]], years: float = CONSTANT_YEARS) -> float:
    """sqrt(w / T) with w = s^2 T on a straight line in T between the nearest expiries on both sides; (T, s) pairs."""
    known = sorted((t, iv) for t, iv in terms if t > 0 and not math.isnan(iv))
    near = [one for one in known if one[0] <= years]
    far = [one for one in known if one[0] >= years]
    if not (near and far):
        return NAN
    (t1, iv1), (t2, iv2) = near[-1], far[0]
    if t1 == t2:
        return iv1
    w1, w2 = iv1 * iv1 * t1, iv2 * iv2 * t2
    return math.sqrt((w1 + (w2 - w1) * (years - t1) / (t2 - t1)) / years)


def iv_rank(iv: float, days: Sequence[float]) -> float:
    """100 (s - min) / (max - min), least and most of the days before, kept within 0 and 100."""
    if math.isnan(iv) or len(days) < IV_DAYS_MIN:
        return NAN
    least, most = min(days), max(days)
    return 100.0 * min(max((iv - least) / (most - least), 0.0), 1.0) if most > least else NAN


def iv_percentile(iv: float, days: Sequence[float]) -> float:
    """100 (days before with a lower s) / (days before)."""
    if math.isnan(iv) or len(days) < IV_DAYS_MIN:
        return NAN
    return 100.0 * sum(day < iv for day in days) / len(days)


def rollover_pct(near_oi: float, next_oi: float) -> float:
    """100 OI_next / (OI_near + OI_next) of the two nearest futures."""
    return 100.0 * ratio(next_oi, near_oi + next_oi)
