"""How many order writes may leave now: several windows, shared by place, modify, cancel, slices and GTT writes.

Nobody says whether the venue counts the last second or the second of the clock, so both readings are respected: no
`seconds` long stretch, wherever it starts, holds more than the limit, which covers the clock's seconds too as long as
both clocks run alike; see `_SKEW_MS`. Entries leave a part of each window to what reduces risk. Pure: time is an
argument, and a budget is made again from the times of the writes that the journal remembers.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: What entries may use of each window; the rest is for exits, cancels and protection.
ENTRY_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Window:
    """As people look at it."""

    seconds: float
    limit: int
    used: int
    for_entries: int  # how many more entries may leave now
    for_all: int


class Budget:
    """Of one account at one venue."""

    def __init__(
        self, windows: Iterable[tuple[float, int]], *, past_ms: Iterable[int] = (), entry_share: float = ENTRY_SHARE
    ) -> None:
        self._windows = tuple((round(seconds * 1000), limit) for seconds, limit in windows)
        self._entry_share = entry_share
        self._sent: deque[int] = deque(sorted(past_ms))

    def take(self, now_ms: int, *, reducing: bool, writes: int = 1) -> bool:
        """Count writes that leave now, all or none."""
        raise NotImplementedError

    def wait_ms(self, now_ms: int, *, reducing: bool, writes: int = 1) -> int:
        """How long until so many have left, one after the other; 0: they may go now."""
        raise NotImplementedError

    def remaining(self, now_ms: int) -> tuple[Window, ...]:
        raise NotImplementedError
