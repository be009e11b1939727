"""The compiled inner loop of the board: tick records into last prices, until one crosses a bound of its instrument.

It returns at the first record that does, so that whoever waits can set new bounds before the next one is looked at.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numba import njit

from proto.decode import layout
from schemas.ticks import Block

#: `layout()` of the tick record that this file was written for: compiled code has it built in.
_WRITTEN_FOR: Final = 0x5F66F30E

if layout() != _WRITTEN_FOR:
    raise ImportError(f"the tick record has changed: adapt {__name__}, then set its _WRITTEN_FOR to 0x{layout():X}")

#: An instrument: what is known of it, and the nearest prices that anybody waits for.
ROW: Final = np.dtype(
    [
        ("id", "<i8"),
        ("low", "<f8"),  # a trade here or under is told; -inf: none
        ("high", "<f8"),
        ("ltp", "<f8"),  # 0: no trade known
        ("ltt", "<i8"),
        ("cp", "<f8"),
        ("bid", "<f8"),
        ("bid_qty", "<i8"),
        ("ask", "<f8"),
        ("ask_qty", "<i8"),
        ("ts", "<i8"),
        ("flags", "<u4"),
        ("seeded", "<u4"),  # not told by a tick: older ones than it, which are read again, count
    ]
)

DONE: Final = 0
CROSSED: Final = 1
FULL: Final = 2  # no room for another instrument

_LTPC: Final = int(Block.LTPC)

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast(F, njit(cache=True, nogil=True)(function))


@_compiled
def find(slots: Any, rows: Any, wanted: int) -> int:
    """Where in `slots` an id is, or the empty place for it. A power of two of slots, half of them free."""
    mask = slots.size - 1
    at = (wanted ^ (wanted >> 32)) & mask
    while slots[at] >= 0 and rows[slots[at]].id != wanted:
        at = (at + 1) & mask
    return int(at)


@_compiled
def index(slots: Any, rows: Any, used: int) -> None:
    slots[:] = -1
    for row in range(used):
        slots[find(slots, rows, rows[row].id)] = row


@_compiled
def take(rec: Any, first: int, slots: Any, rows: Any, used: int) -> tuple[int, int, int, int]:
    """Take in `rec[first:]`. Returns (next record, why it stopped, row of the last record, rows used).

    A trade is a record that carries one. An older state than the one that is known is none: it neither crosses nor
    changes anything.
    """
    for i in range(first, rec.size):
        tick = rec[i]
        at = find(slots, rows, tick.id)
        r = slots[at]
        if r < 0:
            if used == rows.size:
                return i, FULL, -1, used
            r = used
            used += 1
            slots[at] = r
            rows[r].id = tick.id
            rows[r].low = -np.inf
            rows[r].high = np.inf
            rows[r].ltp = 0.0
            rows[r].ltt = 0
            rows[r].ts = 0
            rows[r].seeded = 0
        row = rows[r]
        if tick.ts < row.ts and row.seeded == 0:
            continue
        row.seeded = 0
        row.ts = tick.ts
        row.flags = tick.flags
        row.bid = tick.bid
        row.bid_qty = tick.bid_qty
        row.ask = tick.ask
        row.ask_qty = tick.ask_qty
        row.cp = tick.cp
        if (tick.flags & _LTPC) != 0 and tick.ltp > 0.0:
            row.ltp = tick.ltp
            row.ltt = tick.ltt
            if tick.ltp <= row.low or tick.ltp >= row.high:
                return i + 1, CROSSED, r, used
    return rec.size, DONE, -1, used
