"""Minute candles of the live day, and their resampling: pure.

The market adds every price at which it traded and every unit of volume, so a candle is what a client builds that saw
every trade. A conflating feed hides none of them: within one conflation interval an instrument trades at one price, and
no interval reaches over the end of a minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from sim.hours import MINUTE_MS, day_of, midnight_ms

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: ts, open, high, low, close, volume, oi
Row = tuple[int, float, float, float, float, int, int]


@dataclass(frozen=True, slots=True)
class Minutes:
    """One-minute candles, oldest first. `ts` is the start; `oi` is as of the end."""

    ts: I64
    open: F64
    high: F64
    low: F64
    close: F64
    volume: I64
    oi: I64

    def __len__(self) -> int:
        return len(self.ts)

    def before(self, end_ms: int) -> "Minutes":
        keep = slice(0, int(np.searchsorted(self.ts, end_ms)))
        return Minutes(*(getattr(self, name)[keep] for name in self.__slots__))


_NO_TIMES = np.empty(0, np.int64)
_NO_PRICES = np.empty(0)
NO_MINUTES = Minutes(_NO_TIMES, _NO_PRICES, _NO_PRICES, _NO_PRICES, _NO_PRICES, _NO_TIMES, _NO_TIMES)


class LiveMinutes:
    """The candle in which each instrument last traded, and all the finished ones of this day."""

    def __init__(self, count: int, since_ms: int) -> None:
        self.since_ms = since_ms
        self.ts = np.zeros(count, np.int64)
        self.open = np.zeros(count)
        self.high = np.zeros(count)
        self.low = np.zeros(count)
        self.close = np.zeros(count)
        self.volume = np.zeros(count, np.int64)
        self._rows = np.empty(0, np.int64)
        self._done = NO_MINUTES  # beside `_rows`, which are sorted
        self._recent: list[tuple[I64, Minutes]] = []

    def add(self, start_ms: int, rows: I64, price: F64, volume: I64) -> None:
        """Trades of one interval, each instrument's at one price. `rows` are distinct."""
        fresh = self.ts[rows] != start_ms
        self.ts[rows] = start_ms
        self.open[rows] = np.where(fresh, price, self.open[rows])
        self.high[rows] = np.where(fresh, price, np.maximum(self.high[rows], price))
        self.low[rows] = np.where(fresh, price, np.minimum(self.low[rows], price))
        self.close[rows] = price
        self.volume[rows] = np.where(fresh, 0, self.volume[rows]) + volume

    def finish(self, start_ms: int, oi: I64) -> None:
        """A minute has ended: keep its candles."""
        rows = np.flatnonzero(self.ts == start_ms)
        if len(rows):
            self._recent.append((rows, self._candles(rows, oi)))

    def of(self, row: int, oi: int) -> list[Row]:
        """The candles of one instrument, oldest first, the forming one included."""
        self._merge()
        place = slice(*np.searchsorted(self._rows, (row, row + 1)).tolist())
        found = rows_of(Minutes(*(getattr(self._done, name)[place] for name in Minutes.__slots__)))
        finished = found[-1][0] if found else self.since_ms - 1
        if self.ts[row] > finished:
            found += rows_of(self._candles(np.array([row]), np.full(row + 1, oi)))
        return found

    def _merge(self) -> None:
        """Sort what has come since by instrument. At most once a minute, and only where somebody asks."""
        if not self._recent:
            return
        blocks = [(self._rows, self._done), *self._recent]
        rows = np.concatenate([rows for rows, _ in blocks])
        order = np.argsort(rows, kind="stable")
        columns = (np.concatenate([getattr(each, name) for _, each in blocks])[order] for name in Minutes.__slots__)
        self._rows, self._done, self._recent = rows[order], Minutes(*columns), []

    def _candles(self, rows: I64, oi: I64) -> Minutes:
        prices = (self.open[rows], self.high[rows], self.low[rows], self.close[rows])
        return Minutes(self.ts[rows], *prices, self.volume[rows], oi[rows])


def rows_of(minutes: Minutes) -> list[Row]:
    return list(zip(*(getattr(minutes, name).tolist() for name in Minutes.__slots__), strict=True))


@dataclass(frozen=True, slots=True)
class Width:
    """How long a candle is: so many minutes counted from the session's open, or calendar units."""

    unit: str  # minutes, days, weeks, months
    count: int

    def start(self, ts_ms: int, open_ms: int) -> int:
        if self.unit == "minutes":
            width_ms = self.count * MINUTE_MS
            return open_ms + (ts_ms - open_ms) // width_ms * width_ms
        on = day_of(ts_ms)
        if self.unit == "weeks":
            on -= timedelta(days=on.weekday())
        elif self.unit == "months":
            on = on.replace(day=1)
        return midnight_ms(on)


def resampled(rows: Sequence[Row], width: Width, open_ms: int) -> list[Row]:
    """Wider candles, oldest first. `open_ms`: the session's open, to which intraday candles are aligned."""
    wider: list[Row] = []
    for row in rows:
        start_ms = width.start(row[0], open_ms)
        if wider and wider[-1][0] == start_ms:
            last = wider[-1]
            merged = (start_ms, last[1], max(last[2], row[2]), min(last[3], row[3]), row[4], last[5] + row[5], row[6])
            wider[-1] = merged
        else:
            wider.append((start_ms, *row[1:]))
    return wider
