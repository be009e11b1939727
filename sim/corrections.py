"""What the venue corrects overnight: a share of a finished day's minutes differ from what intraday had told. Pure.

A real venue's do, and nobody says why. Which ones, and how, follows from seed, instrument and minute.
"""

from collections.abc import Sequence

import numpy as np

from market.instruments import Instrument
from sim.candles import Row
from sim.noise import mix, name_hash, unit


def corrected(rows: Sequence[Row], instrument: Instrument, seed: int, share: float) -> list[Row]:
    """These minutes as they are told from the next day on: a few more lots, or a high that is a tick higher."""
    if not share or not rows:
        return list(rows)
    minutes = np.array([row[0] for row in rows], np.uint64)
    draws = unit(mix(minutes ^ np.uint64(name_hash(f"{seed}:{instrument.key}"))))
    return [
        _other(row, instrument, draw / share) if draw < share else row
        for row, draw in zip(rows, draws.tolist(), strict=True)
    ]


def _other(row: Row, instrument: Instrument, choice: float) -> Row:
    ts, first, high, low, close, volume, oi = row
    if choice < 0.5 and not instrument.is_index:
        return ts, first, high, low, close, volume + 2 * instrument.lot_size, oi
    return ts, first, round(high + instrument.tick_size, 2), low, close, volume, oi
