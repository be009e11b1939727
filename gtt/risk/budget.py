"""How many order writes may leave now: several windows, shared by place, modify, cancel, slices and GTT writes.

Nobody says whether the venue counts the last second or the second of the clock. No stretch of a window's length,
wherever it starts, holds more writes than the limit: that covers both readings, the clock's second is one such stretch.
The limits in the settings lie below the venue's, because what leaves evenly may arrive in a heap.

Entries leave a part of each window to what reduces risk. Pure: time is an argument, and a budget is made again from the
times of the writes that the journal remembers.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

#: What entries may use of each window; the rest is for exits, cancels and protection.
ENTRY_SHARE: Final = Fraction(7, 10)


@dataclass(frozen=True, slots=True)
class Window:
    """As people look at it."""

    seconds: float
    limit: int
    used: int
    for_entries: int  # how many more entries may leave now
    for_all: int  # how many writes that reduce risk


class Budget:
    """Of one account at one venue."""

    def __init__(
        self, windows: Iterable[tuple[float, int]], *, past_ms: Iterable[int] = (), entry_share: Fraction = ENTRY_SHARE
    ) -> None:
        """`past_ms`: when writes have left; what is older than `horizon_ms` may be left out."""
        self._windows = tuple(
            (round(seconds * 1000), limit, max(1, int(limit * entry_share))) for seconds, limit in windows
        )
        if any(length_ms <= 0 or limit < 1 for length_ms, limit, _ in self._windows):
            raise ValueError(f"a window of an order budget needs a length and a limit: {list(self._windows)}")
        self._kept = max((limit for _, limit, _ in self._windows), default=0)
        self._sent = sorted(past_ms)

    @property
    def horizon_ms(self) -> int:
        """How far back a write matters."""
        return max((length_ms for length_ms, _, _ in self._windows), default=0)

    def take(self, now_ms: int, *, reducing: bool) -> bool:
        """Whether a write may leave now. It is counted as if it did."""
        if self.wait_ms(now_ms, reducing=reducing):
            return False
        self.spend(now_ms)
        return True

    def spend(self, now_ms: int) -> None:
        """Count a write that leaves whatever the budget says, or has left."""
        # A clock that was put back must not make room.
        self._sent.append(max(now_ms, self._sent[-1]) if self._sent else now_ms)
        if len(self._sent) > 2 * self._kept + 64:
            del self._sent[: -self._kept or None]

    def wait_ms(self, now_ms: int, *, reducing: bool, writes: int = 1) -> int:
        """How long until that many have left, each as early as it may; 0: now. Nothing is counted."""
        if writes == 1:
            return self._earliest(self._sent, now_ms, reducing) - now_ms
        sent = self._sent[-self._kept :]
        for _ in range(writes):
            sent.append(self._earliest(sent, max(now_ms, sent[-1]) if sent else now_ms, reducing))
        return max(sent[-1] - now_ms, 0)

    def remaining(self, now_ms: int) -> tuple[Window, ...]:
        found = []
        for length_ms, limit, for_entries in self._windows:
            used = len(self._sent) - bisect_right(self._sent, now_ms - length_ms)
            found.append(Window(length_ms / 1000, limit, used, max(for_entries - used, 0), max(limit - used, 0)))
        return tuple(found)

    def _earliest(self, sent: Sequence[int], now_ms: int, reducing: bool) -> int:
        """When the next one may leave: in each window the one that is `limit` back has to be out of it."""
        earliest = now_ms
        for length_ms, limit, for_entries in self._windows:
            most = limit if reducing else for_entries
            if len(sent) >= most:
                earliest = max(earliest, sent[-most] + length_ms)
        return earliest
