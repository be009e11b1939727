"""What the chain remembers across minutes and days: open interest, and the volatility at the end of each day. Pure.

A change of open interest is against the last that was known of the previous trading day, where the feed told it up to
that day's end; else against the first that was seen today. The venue's feed tells neither.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator import analytics
from aggregator.state import DAY_MS, IST_MS, MINUTE_MS

#: The trading day before a date in a segment, and when its last session ended; None where nobody knows.
DayBefore = Callable[[str, date], tuple[date, int] | None]

Floats = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: What was known this long before the end of a day counts as its last: the feed of a quiet option may end early.
CLOSE_SLACK_MS: Final = 5 * MINUTE_MS
#: A contract of which nothing was seen for so long is forgotten.
FORGET_DAYS: Final = 15

#: Open interest of one contract. Days are IST day numbers since 1970; 0: none yet.
OI: Final = np.dtype(
    [
        ("id", "<i8"),
        ("contract", "<i8"),  # whose it is: the venue gives the numbers of expired contracts to others
        ("day", "<i8"),  # of the newest value
        ("to_ms", "<i8"),  # the newest value holds up to here
        ("oi", "<f8"),
        ("first_oi", "<f8"),  # of that day
        ("first_price", "<f8"),
        ("before_oi", "<f8"),  # at the end of the trading day before; NaN: not known
    ]
)

IV_DAY: Final = np.dtype([("day", "<i8"), ("iv", "<f8")])

_EPOCH: Final = date(1970, 1, 1)


def day_number(ts_ms: int) -> int:
    """Of the IST day."""
    return (ts_ms + IST_MS) // DAY_MS


def date_of(day: int) -> date:
    return _EPOCH + timedelta(days=day)


class OpenInterest:
    def __init__(self, day_before: DayBefore) -> None:
        self._day_before = day_before
        self._rows = np.zeros(0, OI)
        self._places: dict[int, int] = {}

    def places(self, ids: Sequence[int], contracts: Sequence[int]) -> I64:
        """The row of each contract; an instrument that stands for another contract than before starts anew."""
        new = [(one, of) for one, of in zip(ids, contracts, strict=True) if one not in self._places]
        if new:
            rows = np.zeros(len(new), OI)
            rows["id"], rows["contract"] = zip(*new, strict=True)
            self._places |= {one: len(self._rows) + n for n, (one, _) in enumerate(new)}
            self._rows = np.concatenate([self._rows, rows])
        found = np.array([self._places[one] for one in ids], np.int64)
        other = found[self._rows["contract"][found] != np.array(contracts, np.int64)]
        if len(other):
            given = dict(zip(ids, contracts, strict=True))
            for place in other.tolist():
                name = int(self._rows[place]["id"])
                self._rows[place] = 0
                self._rows[place]["id"], self._rows[place]["contract"] = name, given[name]
        return found

    def see(self, places: I64, keys: Sequence[str], ts: int, oi: Floats, price: Floats, to_ms: I64) -> None:
        """Open interest of rows in the minute at `ts`; `to_ms`: up to when the feed vouches for it."""
        day = day_number(ts)
        opening = np.flatnonzero(~np.isnan(oi) & (self._rows["day"][places] < day))
        if len(opening):
            segments = [keys[i].partition("|")[0] for i in opening.tolist()]
            self._begin(places[opening], segments, day, oi[opening], price[opening])
        known = ~np.isnan(oi)
        places, oi, to_ms = places[known], oi[known], to_ms[known]
        newer = (self._rows["day"][places] == day) & (to_ms >= self._rows["to_ms"][places])
        self._rows["oi"][places[newer]] = oi[newer]
        self._rows["to_ms"][places[newer]] = to_ms[newer]

    def _begin(self, places: I64, segments: Sequence[str], day: int, oi: Floats, price: Floats) -> None:
        """A new day of these rows."""
        rows = self._rows[places]
        before = np.full(len(rows), np.nan)
        names = np.array(segments)
        for segment in sorted(set(segments)):
            found = self._day_before(segment, date_of(day))
            if found is not None:
                last, end_ms = found
                told = (rows["day"] == (last - _EPOCH).days) & (rows["to_ms"] >= end_ms - CLOSE_SLACK_MS)
                before = np.where(told & (names == segment), rows["oi"], before)
        rows["before_oi"], rows["first_oi"], rows["first_price"], rows["day"] = before, oi, price, day
        rows["to_ms"] = 0
        self._rows[places] = rows

    def base(self, places: I64) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """What changes are against: open interest; the price then, where it was seen; whether it is the day before."""
        rows = self._rows[places]
        is_before = ~np.isnan(rows["before_oi"]) & (rows["day"] > 0)
        seen = rows["day"] > 0
        oi = np.where(is_before, rows["before_oi"], np.where(seen, rows["first_oi"], np.nan))
        return oi, np.where(seen, rows["first_price"], np.nan), is_before

    def forget(self, day: int) -> None:
        """Let go of contracts of long ago."""
        keep = (self._rows["day"] == 0) | (self._rows["day"] >= day - FORGET_DAYS)
        if not keep.all():
            self._take(self._rows[keep])

    def _take(self, rows: npt.NDArray[Any]) -> None:
        self._rows = rows
        self._places = {one: place for place, one in enumerate(rows["id"].tolist())}

    def dump(self) -> bytes:
        return self._rows.tobytes()

    def load(self, raw: bytes) -> None:
        self._take(np.frombuffer(raw, OI).copy())


class Volatility:
    """The 30-day volatility of each underlying: the newest of the day under way, and the last of each day before."""

    def __init__(self) -> None:
        self._days: dict[str, npt.NDArray[Any]] = {}
        self._now: dict[str, tuple[int, float]] = {}  # start of its minute, value

    def see(self, underlying: str, ts: int, iv: float) -> None:
        at_ms, before = self._now.get(underlying, (0, np.nan))
        if np.isnan(iv) or ts < at_ms:
            return
        if at_ms and day_number(ts) > day_number(at_ms):
            self.seed(underlying, {day_number(at_ms): before})
        self._now[underlying] = (ts, iv)

    def seed(self, underlying: str, days: Mapping[int, float]) -> None:
        """Closing values by IST day number, from wherever they are kept. A day that is known already stays."""
        known: dict[int, float] = dict(days)
        known.update(self._days.get(underlying, np.zeros(0, IV_DAY)).tolist())
        self._days[underlying] = np.array(sorted(known.items())[-analytics.IV_DAYS_MAX :], IV_DAY)

    def before(self, underlying: str, ts: int) -> list[float]:
        """Closing values of the days before the one of `ts`."""
        found = dict(self._days.get(underlying, np.zeros(0, IV_DAY)).tolist())
        at_ms, iv = self._now.get(underlying, (0, np.nan))
        if at_ms:  # its day may be over, and this the first minute of the next
            found.setdefault(day_number(at_ms), iv)
        return [value for day, value in sorted(found.items()) if day < day_number(ts)][-analytics.IV_DAYS_MAX :]

    def dump(self) -> tuple[dict[str, Any], bytes]:
        names = sorted(self._days.keys() | self._now.keys())
        days = [self._days.get(name, np.zeros(0, IV_DAY)) for name in names]
        head = {"names": names, "days": [len(one) for one in days], "now": [self._now.get(name) for name in names]}
        return head, b"".join(one.tobytes() for one in days)

    def load(self, head: Mapping[str, Any], raw: bytes) -> None:
        whole, start = np.frombuffer(raw, IV_DAY), 0
        for name, count, now in zip(head["names"], head["days"], head["now"], strict=True):
            self._days[name] = whole[start : start + count].copy()
            start += count
            if now is not None:
                self._now[name] = (now[0], now[1])
