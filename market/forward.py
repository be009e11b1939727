"""The forward of an expiry: what Black-76 is written on. Pure.

Where the expiry has a future, its price is the forward. Where it has none (weekly expiries) or the future does not
trade, put-call parity gives one for every strike that has both prices: K + e^(rT)(C - P). Near the money these are the
sharpest, but one of them may rest on a last price that is minutes old. So several strikes vote: a weighted median, then
the weighted mean of those that lie close to it. Spot is never used: an index rests while its shares are in the closing
auction, and carries no dividends.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Strikes that vote: those with the smallest |C - P|.
STRIKES_MAX: Final = 7
#: A strike further from the median than this many median deviations has no part in the mean.
OUTLIER: Final = 4.0
#: Strikes that disagree by more than this part of the forward tell nothing.
RESIDUAL_MAX: Final = 0.01


class ForwardSource(StrEnum):
    FUTURE = "future"
    PARITY = "parity"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Forward:
    value: float  # NaN where the source is none
    source: ForwardSource
    strikes: int  # that made the value
    residual: float  # median distance of the voting strikes' forwards from the value, in price; NaN without votes


def forward(
    future: float,
    strikes: npt.ArrayLike,
    calls: npt.ArrayLike,
    puts: npt.ArrayLike,
    rate: float,
    years: float,
    spreads: npt.ArrayLike | None = None,
) -> Forward:
    """The forward of one expiry. Unknown prices are NaN. `future` is NaN where none is quoted or traded.

    `spreads` is bid-ask of call and put together: the narrower it is, the more a strike's vote weighs.
    The residual is told for a future too: how far the options are from it.
    """
    votes, weights = _votes(
        np.asarray(strikes, np.float64),
        np.asarray(calls, np.float64),
        np.asarray(puts, np.float64),
        np.exp(rate * years),
        None if spreads is None else np.asarray(spreads, np.float64),
    )
    if np.isfinite(future) and future > 0:
        return Forward(float(future), ForwardSource.FUTURE, 0, _residual(votes, float(future)))
    if not votes.size:
        return Forward(np.nan, ForwardSource.NONE, 0, np.nan)
    middle = _median(votes, weights)
    away = np.abs(votes - middle)
    close = away <= OUTLIER * float(np.median(away))
    value = float(np.average(votes[close], weights=weights[close]))
    residual = _residual(votes, value)
    if not (value > 0 and residual <= RESIDUAL_MAX * value):
        return Forward(np.nan, ForwardSource.NONE, 0, residual)
    return Forward(value, ForwardSource.PARITY, int(close.sum()), residual)


def _votes(
    strikes: Floats, calls: Floats, puts: Floats, growth: float, spreads: Floats | None
) -> tuple[Floats, Floats]:
    """The forwards that the strikes nearest to the money imply, and their weights."""
    known = np.isfinite(strikes) & np.isfinite(calls) & np.isfinite(puts) & (strikes > 0) & (calls > 0) & (puts > 0)
    strikes, gap = strikes[known], calls[known] - puts[known]
    nearest = np.argsort(np.abs(gap), kind="stable")[:STRIKES_MAX]
    votes = strikes[nearest] + growth * gap[nearest]
    weights = np.ones(votes.size)
    if spreads is not None and votes.size:
        width = spreads[known][nearest]
        width = np.where(np.isfinite(width) & (width > 0), width, np.nan)
        if not np.isnan(width).all():
            weights = float(np.nanmin(width)) / np.where(np.isnan(width), float(np.nanmax(width)), width)
    return votes, weights


def _median(votes: Floats, weights: Floats) -> float:
    """Where half of the weight lies on either side; the middle between two where it falls between them."""
    order = np.argsort(votes, kind="stable")
    votes, reached = votes[order], np.cumsum(weights[order])
    half = 0.5 * float(reached[-1])
    at = int(np.searchsorted(reached, half))
    if reached[at] == half and at + 1 < votes.size:
        return 0.5 * float(votes[at] + votes[at + 1])
    return float(votes[at])


def _residual(votes: Floats, value: float) -> float:
    return float(np.median(np.abs(votes - value))) if votes.size else np.nan
