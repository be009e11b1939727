"""Our own IV and Greeks of the options whose bars leave, from what the market quoted as their minute ended. Pure.

    price    the middle of bid and ask where they are close enough (see quoted.py); else the close of the bar
    forward  of the same underlying and expiry, from what this shard knows: the future, where it is quoted or was
             traded within the minute; else parity over the strikes that have both prices; else none
    time     from the minute's end to the contract's last trade

What the feed did not cover as the minute ended is not used: an old quote is no quote. Why a shard is content with its
own part of the strikes is in docs/decisions/0006.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.moments import Moment
from aggregator.quoted import quoted
from aggregator.state import MINUTE_MS, KindCode
from market import black76
from market.black76 import Flag
from market.forward import ForwardSource, forward
from schemas.bars import ForwardFrom, PriceFrom

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]

#: The names of `own_flag`. The first: there is no model. The last: what the market quoted was not seen, as the feed did
#: not cover the minute's end or the option's first trade of the minute arrived after the minute had left.
FLAGS: Final = ("", *(flag.name.lower() for flag in Flag), "unseen")
NO_MODEL: Final = 0
OK: Final = 1 + int(Flag.OK)
UNSEEN: Final = len(FLAGS) - 1
#: The names of `price_from` and `forward_from`.
PRICES: Final = (None, PriceFrom.MID.value, PriceFrom.LAST.value)
FORWARDS: Final = (ForwardFrom.NONE.value, ForwardFrom.FUTURE.value, ForwardFrom.PARITY.value)

_MID: Final = 1
_LAST: Final = 2
_FROM: Final = {ForwardSource.NONE: 0, ForwardSource.FUTURE: 1, ForwardSource.PARITY: 2}
_GREEKS: Final = ("iv", "delta", "gamma", "theta", "vega", "rho")


def price(bars: Rows, options: npt.NDArray[np.int64], moment: Moment | None, rows: Rows, rate: float) -> None:
    """Fill in the model of `bars`, all of one minute and leaving for the first time; `options` are their rows.

    `moment` is what was seen of which rows as the minute ended.
    """
    bars["own_flag"], bars["price_from"], bars["forward_from"] = UNSEEN, 0, 0
    for name in ("own_price", "forward", *(f"own_{name}" for name in _GREEKS)):
        bars[name] = np.nan
    if moment is None or not len(moment.rows):
        return
    terms = rows[moment.rows]
    there = moment.covered_at_end(terms)
    at = np.minimum(np.searchsorted(moment.rows, options), len(moment.rows) - 1)
    known = (moment.rows[at] == options) & there[at]
    at, some = at[known], bars[known]
    seen = moment.seen[at]
    some["own_price"], is_mid = quoted(seen["bid"], seen["ask"], some["close"])
    some["price_from"] = np.where(is_mid, _MID, _LAST)
    some["forward"], some["forward_from"] = _forwards(moment, terms, there, at, rate)
    _solve(some, terms[at], moment.minute + MINUTE_MS, rate)
    bars[known] = some


def price_again(bars: Rows, terms: Rows, minute: int, rate: float) -> None:
    """A revision keeps what the market quoted as the minute ended; where that was the last trade, it may be another."""
    stale = (bars["price_from"] == _LAST) & (bars["own_price"] != bars["close"])
    if stale.any():
        some = bars[stale]
        some["own_price"] = some["close"]
        _solve(some, terms[stale], minute + MINUTE_MS, rate)
        bars[stale] = some


def _solve(bars: Rows, terms: Rows, end_ms: int, rate: float) -> None:
    years = _years(end_ms, terms["last_trade"])
    solved = black76.solve(bars["own_price"], bars["forward"], terms["strike"], years, terms["call"] == 1, rate)
    for name in _GREEKS:
        bars[f"own_{name}"] = solved[name]
    bars["own_flag"] = 1 + solved["flag"]


def _years(end_ms: int, last_trade: npt.NDArray[np.int64]) -> Floats:
    """NaN where nobody told when the contract ends."""
    return np.where(last_trade > 0, black76.years(end_ms, last_trade), np.nan)


def _forwards(
    moment: Moment, terms: Rows, there: Bools, wanted: npt.NDArray[np.int64], rate: float
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Forward and its source for the instruments at `wanted`. One look at each expiry."""
    seen, end_ms = moment.seen, moment.minute + MINUTE_MS
    traded = (seen["ltt"] >= moment.minute) & (seen["ltt"] < end_ms)
    told, is_mid = quoted(seen["bid"], seen["ask"], np.where(traded, seen["ltp"], np.nan))
    told = np.where(there, told, np.nan)
    spread = np.where(is_mid, seen["ask"] - seen["bid"], np.nan)
    family = _families(terms)
    order = np.lexsort((seen["id"], family))  # by id within: whatever came first, the same choice among equals
    starts = np.searchsorted(family[order], np.arange(family.max() + 2))
    value, source = np.full(len(seen), np.nan), np.zeros(len(seen), np.uint8)
    for one in np.unique(family[wanted]).tolist():
        members = order[starts[one] : starts[one + 1]]
        value[members], source[members] = _forward(terms[members], told[members], spread[members], end_ms, rate)
    return value[wanted], source[wanted]


def _families(terms: Rows) -> npt.NDArray[np.int64]:
    """A number for each (underlying, expiry)."""
    _, underlying = np.unique(terms["underlying"], return_inverse=True)
    dates, expiry = np.unique(terms["expiry"], return_inverse=True)
    _, family = np.unique(underlying * len(dates) + expiry, return_inverse=True)
    return np.asarray(family, np.int64)


def _forward(terms: Rows, told: Floats, spread: Floats, end_ms: int, rate: float) -> tuple[float, int]:
    futures = told[(terms["kind"] == KindCode.FUTURE) & ~np.isnan(told)]
    if len(futures):
        return float(futures[0]), _FROM[ForwardSource.FUTURE]
    options = np.flatnonzero((terms["kind"] == KindCode.OPTION) & ~np.isnan(told))
    is_call = terms["call"][options] == 1
    calls, puts = options[is_call], options[~is_call]
    strikes, one, other = np.intersect1d(terms["strike"][calls], terms["strike"][puts], return_indices=True)
    years = float(_years(end_ms, terms["last_trade"][:1])[0])
    if not len(strikes) or np.isnan(years):
        return np.nan, _FROM[ForwardSource.NONE]
    call, put = calls[one], puts[other]
    found = forward(np.nan, strikes, told[call], told[put], rate, years, spread[call] + spread[put])
    return found.value, _FROM[found.source]
