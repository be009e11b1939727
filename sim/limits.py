"""Requests per window: pure, time is an argument."""

from collections import deque
from typing import Final

from sim.settings import RateLimits

_LONGEST_S: Final = 30 * 60.0


class RateLimiter:
    """Three sliding windows per caller and call. A refused request does not count, one that is several counts so."""

    def __init__(self, limits: RateLimits) -> None:
        self._windows = ((1.0, limits.per_1_s), (60.0, limits.per_1_min), (_LONGEST_S, limits.per_30_min))
        self._seen: dict[tuple[str, str], deque[float]] = {}

    def allow(self, user: str, call: str, now_s: float, count: int = 1) -> bool:
        seen = self._seen.setdefault((user, call), deque())
        while seen and seen[0] <= now_s - _LONGEST_S:
            seen.popleft()
        for window_s, most in self._windows:
            # The request so many places from the end is the one that must have left the window.
            room = most - count + 1
            if room <= 0 or (len(seen) >= room and seen[-room] > now_s - window_s):
                return False
        seen.extend([now_s] * count)
        return True
