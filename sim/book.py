"""Market depth as a function: how much waits at a price is a hash of the instrument, the price and a slow counter.

So a level keeps its quantity while the touch moves towards it, some levels change at each update and most do not, and
depth costs nothing until somebody looks at it. Round prices hold walls.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sim.columns import Columns
from sim.noise import mix, unit

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_STICKINESS: Final = 6  # updates that a level usually survives
_WALL: Final = 7.0  # how much more waits at a round price
_TOTAL_LEVELS: Final = 160  # what the whole book holds, in average levels


@dataclass(frozen=True, slots=True)
class Depth:
    """Rows are instruments, columns levels, best first. A side that has run out of prices has zeros."""

    bid_qty: I64
    bid: F64
    ask_qty: I64
    ask: F64


def depth(columns: Columns, rows: I64, bid: F64, ask: F64, epoch: I64, levels: int) -> Depth:
    away = np.arange(levels) * _gap(columns, rows)[:, None]
    tick = columns.tick[rows][:, None]
    bid_steps = np.rint(bid / columns.tick[rows]).astype(np.int64)[:, None] - away
    ask_steps = np.rint(ask / columns.tick[rows]).astype(np.int64)[:, None] + away
    bids, asks = bid_steps > 0, np.broadcast_to((ask > 0)[:, None], ask_steps.shape)
    return Depth(
        bid_qty=np.where(bids, _waiting(columns, rows, bid_steps, epoch), 0),
        bid=np.where(bids, np.round(bid_steps * tick, 2), 0.0),
        ask_qty=np.where(asks, _waiting(columns, rows, ask_steps, epoch), 0),
        ask=np.where(asks, np.round(ask_steps * tick, 2), 0.0),
    )


def totals(columns: Columns, rows: I64, epoch: I64) -> tuple[I64, I64]:
    """All that waits to buy and to sell, seen levels and unseen."""
    slow = mix(columns.hash[rows] ^ (epoch // _STICKINESS).astype(np.uint64))
    lean = unit(slow) - 0.5
    base = _TOTAL_LEVELS * columns.mean_lots[rows] * 6
    lot = columns.lot[rows]
    return (np.rint(base * (1 + lean)).astype(np.int64) * lot, np.rint(base * (1 - lean)).astype(np.int64) * lot)


def _gap(columns: Columns, rows: I64) -> I64:
    """Ticks between levels: quiet books have holes."""
    return np.where(columns.base_rate[rows] > 2.0, 1, 1 + (columns.hash[rows] % np.uint64(3)).astype(np.int64))


def _waiting(columns: Columns, rows: I64, steps: I64, epoch: I64) -> I64:
    own = columns.hash[rows][:, None]
    place = mix(own ^ steps.astype(np.uint64))
    age = ((epoch[:, None].astype(np.uint64) + (place % np.uint64(_STICKINESS))) // np.uint64(_STICKINESS)).astype(
        np.uint64
    )
    scatter = unit(mix(place ^ (age << np.uint64(40))))
    size = columns.mean_lots[rows][:, None] * (1.0 + 9.0 * scatter * scatter)
    price = np.rint(steps * columns.tick[rows][:, None] * 100).astype(np.int64)
    size = np.where(price % _round_paise(columns, rows) == 0, size * _WALL, size)
    return np.maximum(1, np.rint(size)).astype(np.int64) * columns.lot[rows][:, None]


def _round_paise(columns: Columns, rows: I64) -> I64:
    """What counts as a round price: 100 rupees for a future, 10 for a share, 5 for an option."""
    paise = np.where(columns.future[rows], 10_000, np.where(columns.option[rows], 500, 1_000))
    return paise[:, None]
