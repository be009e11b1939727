"""What was seen of all instruments with terms as a minute ended: its panel, and what own Greeks come from. Pure.

A moment is taken when venue time crosses the minute's end, and told when the minute's bars leave, the grace later. Only
then it is known what the feed covered: that it was down before the end may be said after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.state import MINUTE_MS, KindCode
from schemas.panel import PANEL

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]

#: Of the minutes that venue time skips at once, the newest that are told: the streams of panels keep no more.
SKIPPED_MAX: Final = 15

_SAME: Final = tuple(name for name in PANEL.names or () if name != "covered")


@dataclass(frozen=True, slots=True)
class PanelPart:
    """The part of a minute's panel that goes to the underlyings of shard `to`."""

    to: int
    ts: int
    keys: tuple[str, ...]
    rec: Rows


@dataclass(frozen=True, slots=True)
class Moment:
    minute: int  # its start; the moment is its end
    rows: Ints  # ascending
    seen: Rows  # PANEL records of those rows, without `covered`

    def covered_at_end(self, rows: Rows) -> Bools:
        """Whether the feed covered these rows (the moment's) as the minute ended."""
        return _covers(rows, self.minute + MINUTE_MS, self.minute + MINUTE_MS)

    def parts(self, rows: Rows, keys: Sequence[str], rank: Ints, shards: int) -> list[PanelPart]:
        """One part for each shard of underlyings, empty ones too; `rank` orders all rows by their keys."""
        chosen = rows[self.rows]
        rec = self.seen.copy()
        rec["covered"] = _covers(chosen, self.minute, self.minute + MINUTE_MS)
        to = (chosen["underlying"].view(np.uint64) % np.uint64(shards)).astype(np.int64)  # as streams.shard_of
        order = np.argsort(rank[self.rows])
        parts = []
        for shard in range(shards):
            its = order[to[order] == shard]
            names = tuple(keys[row] for row in self.rows[its].tolist())
            parts.append(PanelPart(shard, self.minute, names, rec[its]))
        return parts


def skipped(rows: Rows, first: int, last: int) -> list[Moment]:
    """The moments of the minutes from `first` to `last` that venue time has left at once.

    Nothing arrived in those after the first: they are told where the feed says that it covered them all the same.
    """
    minutes = [first, *range(max(first + MINUTE_MS, last - (SKIPPED_MAX - 1) * MINUTE_MS), last + 1, MINUTE_MS)]
    quiet = {minute: bool(_covers(rows, minute, minute + MINUTE_MS).any()) for minute in minutes[1:]}
    taken = (take(rows, minute) for minute in minutes if quiet.get(minute, True))
    return [moment for moment in taken if moment is not None]


def take(rows: Rows, minute: int) -> Moment | None:
    """None outside all sessions. Else the rows of every underlying of which something trades: its options still do
    when it rests itself."""
    trading = _trades(rows, minute)
    if not trading.any():
        return None
    alive = (rows["last_trade"] == 0) | (rows["last_trade"] > minute)
    told = (rows["kind"] != KindCode.NONE) & (rows["seen"] != 0) & alive
    told &= np.isin(rows["underlying"], np.unique(rows["underlying"][told & trading]))
    at = np.flatnonzero(told)
    chosen = rows[at]
    seen = np.zeros(len(at), PANEL)
    for name in _SAME:
        seen[name] = chosen[name]
    return Moment(minute, at, seen)


def nothing(minute: int) -> Moment:
    """To say that there is nothing to say."""
    return Moment(minute, np.empty(0, np.int64), np.empty(0, PANEL))


def _trades(rows: Rows, minute: int) -> Bools:
    """Whether a part of the minute belongs to the row's continuous session, as far as its hours are known."""
    end = minute + MINUTE_MS
    return ((rows["open1"] < end) & (minute < rows["close1"])) | ((rows["open2"] < end) & (minute < rows["close2"]))


def _covers(rows: Rows, start: int, end: int) -> Bools:
    now = (rows["covered_from"] <= start) & (end <= rows["covered_to"])
    return now | ((rows["was_from"] <= start) & (end <= rows["was_to"]))
