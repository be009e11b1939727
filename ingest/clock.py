"""Venue time: what the feed says, carried on by our stopwatch. The machine's own date plays no part."""

from dataclasses import dataclass


@dataclass(slots=True)
class VenueClock:
    """The largest `currentTs` seen, and when (on a clock that only measures durations)."""

    ts: int = 0  # epoch ms, 0 before the first frame
    seen_s: float = 0.0

    def observe(self, ts: int, now_s: float) -> None:
        if ts > self.ts:
            self.ts, self.seen_s = ts, now_s

    def at(self, now_s: float) -> int:
        """Venue time now; 0 where no frame has told any."""
        return self.ts + int((now_s - self.seen_s) * 1000) if self.ts else 0
