"""What something is worth by its quote and its last trade, as a minute ends. Pure."""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: A bid and an ask further apart than this part of their middle say nothing about the price,
SPREAD_MAX: Final = 0.25
#: unless this is all there is between them, in rupees: the cheapest options cannot be quoted more narrowly.
SPREAD_SMALL: Final = 0.15

_DECIMALS: Final = 5  # half a tick of the finest currency contract; the rest is binary dust


def quoted(bid: Floats, ask: Floats, last: Floats) -> tuple[Floats, Bools]:
    """The middle of bid and ask where both are there and close enough, else the last trade, else NaN; which it is."""
    spread = ask - bid
    mid = (0.5 * (bid + ask)).round(_DECIMALS)
    is_mid = (bid > 0) & (spread >= 0) & (spread <= np.maximum(SPREAD_MAX * mid, SPREAD_SMALL + 1e-9))
    return np.where(is_mid, mid, np.where(last > 0, last, np.nan)), is_mid
