"""Requests per window: pure, time is an argument."""

from collections import deque
from typing import Final

from sim.settings import RateLimits

_LONGEST_S: Final = 30 * 60.0


class RateLimiter:
    """Three sliding windows per caller and call. A refused request does not count."""

    def __init__(self, limits: RateLimits) -> None:
        self._windows = ((1.0, limits.per_1_s), (60.0, limits.per_1_min), (_LONGEST_S, limits.per_30_min))
        self._seen: dict[tuple[str, str], deque[float]] = {}

    def allow(self, user: str, call: str, now_s: float) -> bool:
        seen = self._seen.setdefault((user, call), deque())
        while seen and seen[0] <= now_s - _LONGEST_S:
            seen.popleft()
        for window_s, most in self._windows:
            # The request `most` places from the end is the one that must have left the window.
            if len(seen) >= most and (most == 0 or seen[-most] > now_s - window_s):
                return False
        seen.append(now_s)
        return True
