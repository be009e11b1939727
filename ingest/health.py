"""Which instruments the feed says nothing about though it should. Pure: time and states come in, keys come out.

The venue acknowledges no subscription, so what it has passed over shows only by never being seen: such an instrument is
asked for again, once, and then reported. An instrument that used to tick and has stopped is told from one that ticks
rarely by its own past: it is reported when it is silent for `silent_s`, and for several times its longest pause so far,
while its peers tick. Peers are the instruments with the same trading hours. Only time counts in which it could have
ticked (its connection is live, its segment open) and a peer did: when all are silent it is not the instrument, and that
teaches nobody how long this one may be. `silent_s` is venue time, `unseen_s` is ours.
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
        ("able", "?"),  # it could have ticked then
        ("clock_ms", "<i8"),  # venue time in which it could have ticked and a peer did
        ("last_ms", "<i8"),  # what that was at its last update
        ("longest_ms", "<i8"),  # pause
        ("pauses", "<i8"),
        ("silent", "?"),  # and reported
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
    _now_ms: int = 0  # when we looked last
    _step_ms: int = 0  # and how long that was after the time before

    def look(self, sight: Sight, now_ms: int, now_s: float) -> Found:
        """Called about once a second."""
        self._keep(sight, now_s)
        self._learn(sight, self._step(now_ms))
        never, again = self._never_seen(sight, now_s)
        silent = self._silent(sight)
        names = np.array(self._keys, object)
        return Found(*(tuple(sorted(names[each])) for each in (never & ~silent, silent, again)))

    def _step(self, now_ms: int) -> int:
        """Venue time since we looked last. Where it jumps (it was not told for a while), nobody has waited so long."""
        step_ms = max(0, now_ms - self._now_ms) if self._now_ms else 0
        counted = min(step_ms, 2 * self._step_ms) if self._step_ms else step_ms
        self._now_ms, self._step_ms = now_ms, step_ms
        return counted

    def _keep(self, sight: Sight, now_s: float) -> None:
        """Instruments come and go."""
        keys = tuple(sight.keys)
        if keys == self._keys:
            return
        fresh = np.zeros(len(keys), _ROW)
        fresh["unseen_s"], fresh["ts"] = now_s, sight.ts
        row_of = {key: row for row, key in enumerate(self._keys)}
        for row, key in enumerate(keys):
            if key in row_of:
                fresh[row] = self._rows[row_of[key]]
        self._keys, self._rows = keys, fresh

    def _learn(self, sight: Sight, step_ms: int) -> None:
        rows = self._rows
        ticked = (sight.ts > rows["ts"]) & sight.able
        lively = np.bincount(sight.peers[ticked], minlength=int(sight.peers.max(initial=0)) + 1) > 0
        rows["clock_ms"][sight.able & rows["able"] & lively[sight.peers]] += step_ms
        pause = rows["clock_ms"] - rows["last_ms"]
        usual = ticked & ~rows["silent"]  # how it came to be silent is not its way
        rows["longest_ms"][usual] = np.maximum(rows["longest_ms"], pause)[usual]
        rows["pauses"][usual] += pause[usual] > 0
        rows["last_ms"][ticked] = rows["clock_ms"][ticked]
        rows["ts"], rows["able"] = sight.ts, sight.able

    def _never_seen(self, sight: Sight, now_s: float) -> tuple[Bools, Bools]:
        rows = self._rows
        rows["unseen_s"][~sight.unseen | (~sight.able & ~rows["asked"])] = now_s
        rows["asked"][~sight.unseen] = False
        late = sight.unseen & (now_s - rows["unseen_s"] >= self.unseen_s)
        again = late & ~rows["asked"] & sight.able
        rows["asked"][again] = True
        rows["unseen_s"][again] = now_s
        return late & rows["asked"] & ~again, again

    def _silent(self, sight: Sight) -> Bools:
        rows = self._rows
        usual_ms = int(self.silent_s * 1000)
        for_ms = rows["clock_ms"] - rows["last_ms"]
        known = sight.able & (rows["pauses"] >= _KNOWN_AFTER)
        quiet: Bools = known & (for_ms >= np.maximum(usual_ms, _PAUSES * rows["longest_ms"]))
        for group in np.unique(sight.peers[quiet]).tolist():
            of_group = known & (sight.peers == group)
            others = of_group & ~quiet
            if np.count_nonzero(others & (for_ms < usual_ms)) < _PEERS * np.count_nonzero(of_group):
                quiet[of_group] = False  # nearly all of them are silent: not one instrument's matter
        rows["silent"] = quiet
        return quiet
