"""Which minutes have left as bars, and which of those history may still change: a bit each per minute of a day. Pure.

Two days are remembered by instrument, the newest two that had a bar: today and the trading day before it, whatever lay
between. A minute of an older day is forgotten: nobody here can say whether it had a bar.

A bar that was published before is published again under a revision above all that its day had (`top`): the revision
of a single minute that has left the ring of `bars.py` is not remembered.
"""

import zlib
from enum import Enum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.state import DAY_MS, IST_MS, MINUTE_MS

_DAYS: Final = 2
_BYTES: Final = DAY_MS // MINUTE_MS // 8
_NEVER: Final = -1

#: A day of one instrument: its IST day number, the highest revision, and two bits a minute.
DAY: Final = np.dtype([("day", "<i8"), ("top", "<i4"), ("have", "<u1", (_BYTES,)), ("open", "<u1", (_BYTES,))])


class Known(Enum):
    """What is remembered of a minute."""

    ABSENT = "absent"  # no bar has left
    OPEN = "open"  # one that the feed did not cover, or that history has told provisionally
    SETTLED = "settled"
    FORGOTTEN = "forgotten"


class Published:
    """Rows are those of `bars.py`."""

    def __init__(self, rows: int) -> None:
        self._days = _nothing(rows)
        self._packed: bytes | None = None
        self._packed_rows = 0

    def grow(self, rows: int) -> None:
        self._days = np.concatenate([self._days, _nothing(rows - len(self._days))])

    def mark(self, rows: npt.NDArray[np.int64], minute: int, revs: Any, is_open: Any) -> None:
        """Bars of one minute leave; `rows` are distinct, `revs` and `is_open` of the same length or one for all."""
        day, of_day = divmod((minute + IST_MS) // MINUTE_MS, DAY_MS // MINUTE_MS)
        days = self._days["day"][rows]
        slots = np.where(days[:, 0] == day, 0, np.where(days[:, 1] == day, 1, days.argmin(axis=1)))
        held = days[np.arange(len(rows)), slots]
        fresh = held < day
        self._days[rows[fresh], slots[fresh]] = _begun(day)
        kept = held <= day  # the others are of a day that is forgotten
        at, bit = of_day // 8, 1 << of_day % 8
        where = rows[kept], slots[kept], at
        shut = self._days["open"][where] & (0xFF ^ bit)
        self._days["have"][where] |= bit
        self._days["open"][where] = shut | np.where(np.broadcast_to(is_open, rows.shape)[kept], bit, 0)
        tops = np.broadcast_to(revs, rows.shape)[kept]
        self._days["top"][where[:2]] = np.maximum(self._days["top"][where[:2]], tops)
        self._packed = None

    def known(self, row: int, minute: int) -> Known:
        day, of_day = divmod((minute + IST_MS) // MINUTE_MS, DAY_MS // MINUTE_MS)
        slot = self._slot(row, day)
        if slot is None:
            return Known.ABSENT if day > self._days["day"][row].min() else Known.FORGOTTEN
        at, shift = of_day // 8, of_day % 8
        if not self._days["have"][row, slot, at] >> shift & 1:
            return Known.ABSENT
        return Known.OPEN if self._days["open"][row, slot, at] >> shift & 1 else Known.SETTLED

    def settle(self, row: int, minute: int) -> None:
        """History has the last word, and it is what was published."""
        day, of_day = divmod((minute + IST_MS) // MINUTE_MS, DAY_MS // MINUTE_MS)
        if (slot := self._slot(row, day)) is not None:
            self._packed = None
            self._days["open"][row, slot, of_day // 8] &= 0xFF ^ 1 << of_day % 8

    def next_rev(self, row: int, minute: int) -> int:
        """A revision above that of every bar that the minute's day had."""
        slot = self._slot(row, (minute + IST_MS) // DAY_MS)
        return 0 if slot is None else int(self._days["top"][row, slot]) + 1

    def _slot(self, row: int, day: int) -> int | None:
        days = self._days["day"][row]
        return 0 if days[0] == day else 1 if days[1] == day else None

    # Memory: most of it stays as it is from one minute to the next, so it is packed apart from the rest

    def snapshot(self, rows: int) -> bytes:
        if self._packed is None or self._packed_rows != rows:
            self._packed, self._packed_rows = zlib.compress(self._days[:rows].tobytes(), level=1), rows
        return self._packed

    def restore(self, snapshot: bytes, rows: int, room: int) -> None:
        """Raises ValueError where it is none of ours."""
        try:
            raw = zlib.decompress(snapshot)
        except zlib.error as error:
            raise ValueError(f"not a memory of published minutes: {error}") from None
        self._days = _nothing(room)
        self._days[:rows] = np.frombuffer(raw, DAY).reshape(rows, _DAYS)
        self._packed = None


def _begun(day: int) -> Any:
    one = np.zeros(1, DAY)[0]
    one["day"] = day
    return one


def _nothing(rows: int) -> npt.NDArray[Any]:
    days = np.zeros((rows, _DAYS), DAY)
    days["day"] = _NEVER
    return days
