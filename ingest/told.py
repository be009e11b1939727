"""What history has told of today so far, to see in the final candles what the venue has corrected. Pure.

A digest of 4 bytes a minute: 6 KB an instrument and day. It is not kept beyond the process: minutes that another one
may have been told count as changed, and the aggregator, which knows where its bars come from, has the last word.
"""

import struct
import zlib
from array import array
from collections.abc import Iterable
from typing import Final

from ingest.plan import DAY_MS, MINUTE_MS, midnight
from schemas.bars import HistoryBar

_MINUTES: Final = DAY_MS // MINUTE_MS
_VALUES: Final = struct.Struct("<4dqd")


class Told:
    def __init__(self) -> None:
        self._days: dict[tuple[str, int], array[int]] = {}  # (instrument, midnight) -> digests, 0: not told
        self._resumed: set[str] = set()
        self._since: dict[str, int] = {}

    def resumed(self, keys: Iterable[str]) -> None:
        """Another process may have been told about these, up to their start here."""
        self._resumed.update(keys)

    def start(self, key: str, now_ms: int) -> None:
        """From now on this process knows what the instrument is told."""
        if key in self._resumed:
            self._resumed.discard(key)
            self._since[key] = now_ms

    def note(self, bars: Iterable[HistoryBar]) -> None:
        for bar in bars:
            day = midnight(bar.ts)
            digests = self._days.get((bar.instrument, day))
            if digests is None:
                digests = self._days[bar.instrument, day] = array("I", bytes(4 * _MINUTES))
            digests[(bar.ts - day) // MINUTE_MS] = _digest(bar)

    def differs(self, bar: HistoryBar) -> bool:
        """Whether this minute was told otherwise, or may have been told to somebody else."""
        day = midnight(bar.ts)
        digests = self._days.get((bar.instrument, day))
        if digests is not None and (before := digests[(bar.ts - day) // MINUTE_MS]):
            return before != _digest(bar)
        return bar.ts < self._since.get(bar.instrument, 0)

    def settle(self, key: str, days: Iterable[int]) -> None:
        """These days are final."""
        for day in days:
            self._days.pop((key, day), None)

    def drop(self, keys: Iterable[str]) -> None:
        gone = set(keys)
        for where in [where for where in self._days if where[0] in gone]:
            del self._days[where]
        self._resumed -= gone
        for key in gone:
            self._since.pop(key, None)


def _digest(bar: HistoryBar) -> int:
    values = _VALUES.pack(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.oi or 0.0)
    return zlib.crc32(values) or 1
