"""Which stream entry holds which bar: per instrument, sorted by minute, without an object per bar. Pure.

22 bytes a bar: a session of 5,000 instruments takes 41 MB, and a bar is found without looking at any other.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gateway.positions import Position


@dataclass(slots=True)
class _Column:
    """One instrument's bars, by start of minute; the arrays run in step."""

    ts: "array[int]" = field(default_factory=lambda: array("q"))
    ms: "array[int]" = field(default_factory=lambda: array("Q"))
    seq: "array[int]" = field(default_factory=lambda: array("I"))
    rev: "array[int]" = field(default_factory=lambda: array("H"))


_SEQ_MAX: Final = (1 << 32) - 1
_REV_MAX: Final = (1 << 16) - 1


class BarIndex:
    """For each minute the entry with the highest revision; of equal ones the later entry."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self.newest: tuple[int, Position] | None = None  # the newest minute of all, and the entry that told it first

    def __len__(self) -> int:
        return sum(len(column.ts) for column in self._columns.values())

    def __contains__(self, instrument: object) -> bool:
        return instrument in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def add(self, instrument: str, ts: int, position: Position, rev: int) -> bool:
        """Note a bar. Says whether it is now the newest of its instrument."""
        if position.seq > _SEQ_MAX:
            raise ValueError(f"entry {position.entry} has a number no stream reaches")
        if self.newest is None or ts > self.newest[0]:
            self.newest = ts, position
        column = self._columns.setdefault(instrument, _Column())
        rev = min(rev, _REV_MAX)
        at = len(column.ts) if not column.ts or ts > column.ts[-1] else bisect_left(column.ts, ts)
        if at == len(column.ts) or column.ts[at] != ts:
            for values, value in zip(_parts(column), (ts, position.ms, position.seq, rev), strict=True):
                values.insert(at, value)
        elif rev >= column.rev[at]:
            column.ms[at], column.seq[at], column.rev[at] = position.ms, position.seq, rev
        else:
            return False
        return at == len(column.ts) - 1

    def find(self, instrument: str, from_ts: int, to_ts: int, limit: int, *, last: bool) -> list[tuple[int, Position]]:
        """(ts, entry) of the first, or last, `limit` bars in [from_ts, to_ts), oldest first."""
        column = self._columns.get(instrument)
        if column is None:
            return []
        start, end = bisect_left(column.ts, from_ts), bisect_left(column.ts, to_ts)
        if last:
            start = max(start, end - limit)
        else:
            end = min(end, start + limit)
        return [(column.ts[at], Position(column.ms[at], column.seq[at])) for at in range(start, end)]

    def forget_before(self, ms: int) -> int:
        """Drop the bars whose entries are older than `ms`, as trimming did; says how many."""
        dropped = 0
        for instrument, column in list(self._columns.items()):
            old = np.flatnonzero(np.frombuffer(column.ms, np.uint64) < ms).tolist()
            dropped += len(old)
            if len(old) == len(column.ms):
                del self._columns[instrument]
            elif old:
                gone = set(old)
                keep = [at for at in range(len(column.ms)) if at not in gone]
                kept = [array(values.typecode, (values[at] for at in keep)) for values in _parts(column)]
                self._columns[instrument] = _Column(*kept)
        return dropped


def _parts(column: _Column) -> "tuple[array[int], array[int], array[int], array[int]]":
    return column.ts, column.ms, column.seq, column.rev
