"""Venue time: the machine's own, faster than it, or moved by hand. The only file that reads a clock."""

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import Final, Protocol

from sim.settings import SimSettings

_IST: Final = timezone(timedelta(hours=5, minutes=30))


class Clock(Protocol):
    def now_ms(self) -> int:
        """Venue time, epoch ms."""
        ...

    async def sleep_until(self, instant_ms: int) -> None:
        """Return at, or soon after, an instant of venue time."""
        ...


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep_until(self, instant_ms: int) -> None:
        await asyncio.sleep((instant_ms - self.now_ms()) / 1_000)


class FastClock:
    """Starts at `start_ms`, runs `speed` times as fast as real time."""

    def __init__(self, start_ms: int, speed: float) -> None:
        self.start_ms = start_ms
        self.speed = speed
        self._began_s = time.monotonic()

    def now_ms(self) -> int:
        return self.start_ms + int((time.monotonic() - self._began_s) * 1_000 * self.speed)

    async def sleep_until(self, instant_ms: int) -> None:
        await asyncio.sleep((instant_ms - self.now_ms()) / 1_000 / self.speed)


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self, start_ms: int) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def move_to(self, instant_ms: int) -> None:
        if instant_ms < self._now_ms:
            raise ValueError("venue time does not run backwards")
        self._now_ms = instant_ms

    async def sleep_until(self, instant_ms: int) -> None:
        raise RuntimeError(f"nobody waits for {instant_ms}: a manual clock is moved by Exchange.advance")


def make(settings: SimSettings) -> Clock:
    match settings.clock:
        case "open" | "real":
            return WallClock()
        case "fast":
            return FastClock(_start_ms(settings), settings.speed)
        case "manual":
            return ManualClock(_start_ms(settings))


def _start_ms(settings: SimSettings) -> int:
    start = settings.start
    if start is None:
        return WallClock().now_ms()
    if start.tzinfo is None:
        start = start.replace(tzinfo=_IST)
    return int(start.timestamp() * 1_000)


def ist(ts_ms: int) -> datetime:
    """For texts that the venue writes in Indian time."""
    return datetime.fromtimestamp(ts_ms / 1_000, _IST)
