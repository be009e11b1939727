"""Which instruments the feed says nothing about though it should. Pure: time and states come in, keys come out.

The venue acknowledges no subscription, so what it has passed over shows only by never being seen: such an instrument is
asked for again, once, and then reported. An instrument that used to tick and has stopped is told from one that ticks
rarely by its own past: it is reported when it is silent for `silent_s`, and for several times its longest pause so far,
while its peers tick. Peers are the instruments with the same trading hours. Only time in which it could have ticked
counts: its connection is live, its segment open. `silent_s` is venue time, `unseen_s` is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_PAUSES: Final = 8  # times its longest one
_KNOWN_AFTER: Final = 10  # pauses; before that nobody knows its ways
_PEERS: Final = 0.25  # of those whose ways are known, at least

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sight:
    """How every instrument looks now, by row."""

    keys: Sequence[str]
    ts: npt.NDArray[np.int64]  # venue time of its last update, 0: none
    unseen: Bools  # it has sent nothing since it was asked for
    able: Bools  # it could tick: its connection is live, its segment open
    peers: npt.NDArray[np.int64]  # the number of its group


@dataclass(frozen=True, slots=True)
class Found:
    """Instruments, in order of their keys."""

    never_seen: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    ask_again: tuple[str, ...] = ()  # to be done once, now


def _rows() -> npt.NDArray[Any]:
    return np.empty(0, _ROW)


#: What is remembered of an instrument.
_ROW: Final = np.dtype(
    [
        ("ts", "<i8"),  # of its last update when we looked last
        ("from_ms", "<i8"),  # venue time since when it could have ticked
        ("longest_ms", "<i8"),  # pause
        ("pauses", "<i8"),
        ("unseen_s", "<f8"),  # since when it could have been seen
        ("asked", "?"),  # again
    ]
)


@dataclass(slots=True)
class Health:
    unseen_s: float
    silent_s: float
    _keys: tuple[str, ...] = ()
    _rows: npt.NDArray[Any] = field(default_factory=_rows)

    def look(self, sight: Sight, now_ms: int, now_s: float) -> Found:
        """Called about once a second."""
        self._keep(sight, now_ms, now_s)
        rows = self._rows
        rows["from_ms"][~sight.able] = now_ms
        self._learn(sight)
        never, again = self._never_seen(sight, now_s)
        silent = self._silent(sight, now_ms)
        names = np.array(self._keys, object)
        return Found(*(tuple(sorted(names[each])) for each in (never & ~silent, silent, again)))

    def _keep(self, sight: Sight, now_ms: int, now_s: float) -> None:
        """Instruments come and go."""
        keys = tuple(sight.keys)
        if keys == self._keys:
            return
        fresh = np.zeros(len(keys), _ROW)
        fresh["from_ms"], fresh["unseen_s"], fresh["ts"] = now_ms, now_s, sight.ts
        row_of = {key: row for row, key in enumerate(self._keys)}
        for row, key in enumerate(keys):
            if key in row_of:
                fresh[row] = self._rows[row_of[key]]
        self._keys, self._rows = keys, fresh

    def _learn(self, sight: Sight) -> None:
        rows = self._rows
        ticked = sight.ts > rows["ts"]
        pause = sight.ts - np.maximum(rows["ts"], rows["from_ms"])
        counts = ticked & sight.able & (pause > 0)
        rows["longest_ms"][counts] = np.maximum(rows["longest_ms"], pause)[counts]
        rows["pauses"][counts] += 1
        rows["ts"] = sight.ts

    def _never_seen(self, sight: Sight, now_s: float) -> tuple[Bools, Bools]:
        rows = self._rows
        rows["unseen_s"][~sight.unseen | (~sight.able & ~rows["asked"])] = now_s
        rows["asked"][~sight.unseen] = False
        late = sight.unseen & (now_s - rows["unseen_s"] >= self.unseen_s)
        again = late & ~rows["asked"] & sight.able
        rows["asked"][again] = True
        rows["unseen_s"][again] = now_s
        return late & rows["asked"] & ~again, again

    def _silent(self, sight: Sight, now_ms: int) -> Bools:
        rows = self._rows
        usual_ms = int(self.silent_s * 1000)
        for_ms = now_ms - np.maximum(rows["ts"], rows["from_ms"])
        known = sight.able & (rows["pauses"] >= _KNOWN_AFTER)
        quiet: Bools = known & (for_ms >= np.maximum(usual_ms, _PAUSES * rows["longest_ms"]))
        for group in np.unique(sight.peers[quiet]).tolist():
            of_group = known & (sight.peers == group)
            others = of_group & ~quiet
            if np.count_nonzero(others & (for_ms < usual_ms)) < _PEERS * np.count_nonzero(of_group):
                quiet[of_group] = False  # the whole segment is silent: the data clock's matter
        return quiet
