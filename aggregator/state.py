"""The state of the fold: plain arrays, so that the compiled kernel works on them and a snapshot is their bytes."""

from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from schemas.ticks import LEVEL, NARROW_LEVEL, TICK, Block, Kind

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
        ("own_iv", "<f8"),  # ours from here on, as of the minute's end
        ("own_delta", "<f8"),
        ("own_gamma", "<f8"),
        ("own_theta", "<f8"),
        ("own_vega", "<f8"),
        ("own_rho", "<f8"),
        ("own_price", "<f8"),  # that the above come from
        ("forward", "<f8"),
        ("own_flag", "<u1"),  # see aggregator.greeks; 0: there is no model
        ("price_from", "<u1"),
        ("forward_from", "<u1"),
        ("source", "<u1"),
        ("rev", "<i4"),  # how often it was published
        ("covered", "<u1"),  # Covered
        ("dirty", "<u1"),  # changed since it was published
        ("spare", "<u2"),
        ("spare2", "<u4"),
    ]
)

#: What is known of one instrument.
ROW: Final = np.dtype(
    [
        ("id", "<i8"),
        ("ask_from", "<i8"),  # venue time from which its terms have to be asked for (again)
        ("seen", "<u1"),
        ("vtt_known", "<u1"),
        ("kind", "<u1"),  # KindCode
        ("call", "<u1"),
        ("late", "<u4"),  # trades that came after their minute had left the ring
        ("ts", "<i8"),  # venue time of the newest update
        ("ltp", "<f8"),
        ("ltt", "<i8"),
        ("vtt", "<i8"),
        ("day", "<i8"),  # IST day number of the last trade
        ("covered_from", "<i8"),  # the feed has covered the instrument from here
        ("covered_to", "<i8"),  # to here; NEVER while it does
        ("was_from", "<i8"),  # the stretch before that which was a minute long or longer
        ("was_to", "<i8"),
        ("cp", "<f8"),  # of the newest update, like the following
        ("oi", "<f8"),
        ("iv", "<f8"),
        ("delta", "<f8"),
        ("theta", "<f8"),
        ("gamma", "<f8"),
        ("vega", "<f8"),
        ("rho", "<f8"),
        ("bid", "<f8"),
        ("bid_qty", "<i8"),
        ("ask", "<f8"),
        ("ask_qty", "<i8"),
        ("gone", "<i8"),  # minute of the newest bar that has left the ring, and the open interest at its end
        ("gone_oi", "<f8"),
        ("bid_wall", "<f8"),
        ("bid_wall_qty", "<i8"),
        ("ask_wall", "<f8"),
        ("ask_wall_qty", "<i8"),
        ("underlying", "<i8"),  # id of its key; 0 without terms
        ("strike", "<f8"),
        ("last_trade", "<i8"),  # epoch ms; 0 where nobody told
        ("expiry", "<i4"),  # its date as an ordinal; 0 for what does not expire
        ("session", "<u1"),
        ("spare", "<u1"),
        ("spare2", "<u2"),
        ("day_from", "<i8"),  # the IST day, epoch ms, for which the hours below hold
        ("day_to", "<i8"),
        ("open1", "<i8"),  # continuous trading, epoch ms; up to two intervals a day
        ("close1", "<i8"),
        ("open2", "<i8"),
        ("close2", "<i8"),
    ]
)

#: A trade outside the continuous session.
PRINT: Final = np.dtype([("row", "<i8"), ("ltt", "<i8"), ("price", "<f8"), ("volume", "<i8")])


class Covered:
    """Whether the feed covered a bar's whole minute."""

    OPEN: Final = 0  # not decided yet
    YES: Final = 1
    NO: Final = 2
    PROVISIONAL: Final = 3  # it did not; the venue's history has told it, and may tell it otherwise tomorrow


class SourceCode:
    LIVE: Final = 0
    BACKFILL: Final = 1
    MIXED: Final = 2


class KindCode:
    """What the terms say an instrument is."""

    NONE: Final = 0  # no terms
    OPTION: Final = 1
    FUTURE: Final = 2
    SPOT: Final = 3


#: Values of a row that nobody has told at first.
TOLD: Final = (
    *("ltp", "cp", "oi", "iv", "delta", "theta", "gamma", "vega", "rho", "bid", "ask"),
    *("gone_oi", "bid_wall", "ask_wall", "strike"),
)


def layout() -> int:
    """A number that changes with what compiled code has built in of this file and of the tick record."""
    meanings = [(one.name, int(one)) for one in (*Block, *Kind)]
    codes = [sorted((name, code) for name, code in vars(of).items() if name.isupper()) for of in (Covered, SourceCode)]
    constants = (MINUTE_MS, DAY_MS, IST_MS, RING, int(NEVER), SEEN, ANEW)
    records = (TICK.descr, LEVEL.descr, NARROW_LEVEL.descr, BAR.descr, ROW.descr, PRINT.descr)
    return crc32(repr((records, meanings, codes, constants)).encode())


def empty_bars(rows: int) -> npt.NDArray[Any]:
    bars = np.zeros((rows, RING), BAR)
    bars["minute"] = -1
    return bars
