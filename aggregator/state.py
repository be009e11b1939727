"""The state of the fold: plain arrays, so that the compiled kernel works on them and a snapshot is their bytes."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
IST_MS: Final = 19_800_000  # +05:30, all year

#: Minutes that an instrument's bars stay open to revision: the one under way and the three before it.
RING: Final = 4

#: "Up to now": the end of a coverage that is still going on.
NEVER: Final = np.iinfo(np.int64).max

#: Values of `seen` in a row, which is 0 until the first update. With ANEW the next update sets a base.
SEEN: Final = 1
ANEW: Final = 2

#: A minute of one instrument. `minute` is -1 in a slot that was never used.
BAR: Final = np.dtype(
    [
        ("minute", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<i8"),
        ("value", "<f8"),  # sum of price times volume
        ("ticks", "<i8"),
        ("oi", "<f8"),
        ("iv", "<f8"),
        ("delta", "<f8"),
        ("gamma", "<f8"),
        ("theta", "<f8"),
        ("vega", "<f8"),
        ("rho", "<f8"),
        ("tbq", "<f8"),
        ("tsq", "<f8"),
        ("bid_wall", "<f8"),
        ("bid_wall_qty", "<i8"),
        ("ask_wall", "<f8"),
        ("ask_wall_qty", "<i8"),
        ("rev", "<i4"),  # how often it was published
        ("source", "<u1"),
        ("covered", "<u1"),  # Covered
        ("dirty", "<u1"),  # changed since it was published
        ("spare", "<u1"),
    ]
)

#: What is known of one instrument.
ROW: Final = np.dtype(
    [
        ("id", "<i8"),
        ("seen", "<u1"),
        ("vtt_known", "<u1"),
        ("spare", "<u2"),
        ("late", "<u4"),  # trades that came after their minute had left the ring
        ("ts", "<i8"),  # venue time of the newest update
        ("ltp", "<f8"),
        ("ltt", "<i8"),
        ("vtt", "<i8"),
        ("day", "<i8"),  # IST day number of the last trade
        ("covered_from", "<i8"),  # the feed has covered the instrument from here
        ("covered_to", "<i8"),  # to here; NEVER while it does
        ("gone", "<i8"),  # minute of the newest bar that has left the ring, and the open interest at its end
        ("gone_oi", "<f8"),
        ("bid_wall", "<f8"),
        ("bid_wall_qty", "<i8"),
        ("ask_wall", "<f8"),
        ("ask_wall_qty", "<i8"),
        ("session", "<u1"),
        ("spare2", "<u1", (7,)),
        ("day_from", "<i8"),  # the IST day, epoch ms, for which the hours below hold
        ("day_to", "<i8"),
        ("open1", "<i8"),  # continuous trading, epoch ms; up to two intervals a day
        ("close1", "<i8"),
        ("open2", "<i8"),
        ("close2", "<i8"),
        ("have_day", "<i8"),  # IST day number for which `have` holds
        ("have", "<u1", (180,)),  # a bit per minute of the day: a bar was published
    ]
)

#: A trade outside the continuous session.
PRINT: Final = np.dtype([("row", "<i8"), ("ltt", "<i8"), ("price", "<f8"), ("volume", "<i8")])


class Covered:
    """Whether the feed covered a bar's whole minute."""

    OPEN: Final = 0  # not decided yet
    YES: Final = 1
    NO: Final = 2


class SourceCode:
    LIVE: Final = 0
    BACKFILL: Final = 1
    MIXED: Final = 2


def empty_bars(rows: int) -> npt.NDArray[Any]:
    bars = np.zeros((rows, RING), BAR)
    bars["minute"] = -1
    return bars
