"""Minutes that the feed did not show, from the venue's history: the session so far at the start, the holes later.

Which instrument needs which minutes is decided by `Plan` (pure). An instrument that starts at venue time T, covered
until D, lacks the minutes from D's to T's. The last of these is over only after T's minute has ended, so it is asked
for then; at the first start of a day what is already over is asked for at once. Indices, shares and futures come
before the hundreds of options.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from brokers.upstox import history
from brokers.upstox.rest import Rest, VenueError
from bus import clock
from bus.life import pause
from ingest.collector import Collector
from schemas.bars import HistoryBar
from schemas.errors import Unavailable

log = structlog.get_logger("backfill")

MINUTE_MS: Final = 60_000
_SETTLE_MS: Final = 4_000  # the venue's own candle needs a moment after the minute
_RETRY_MS: Final = 10_000
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000


@dataclass(order=True, slots=True)
class Need:
    due_ms: int  # venue time
    rank: int
    key: str
    from_ms: int = field(compare=False)  # start of the first minute that is missing
    to_ms: int = field(compare=False)  # end of the last


class Plan:
    """What to ask for, and when. At most one early and one late request per instrument and start."""

    def __init__(self, rank: Callable[[str], int], warmup_ms: Callable[[str], int]) -> None:
        self._rank = rank
        self._warmup_ms = warmup_ms
        self._needs: list[Need] = []
        self._covered_to: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._needs)

    def covered(self, keys: Iterable[str], to_ms: int) -> None:
        """The feed showed everything about these until `to_ms`."""
        for key in keys:
            self._covered_to[key] = max(self._covered_to.get(key, 0), to_ms)

    def start(self, key: str, now_ms: int) -> None:
        """The feed shows this instrument from now on."""
        this_minute = now_ms - now_ms % MINUTE_MS
        first = self._covered_to.pop(key, 0)
        if first // _DAY_MS != now_ms // _DAY_MS and first < now_ms - self._warmup_ms(key):
            first = max(now_ms - self._warmup_ms(key), _midnight(now_ms))
            self._add(now_ms, key, first, this_minute)
            first = this_minute
        self._add(this_minute + MINUTE_MS + _SETTLE_MS, key, first, this_minute + MINUTE_MS)

    def _add(self, due_ms: int, key: str, from_ms: int, to_ms: int) -> None:
        heapq.heappush(self._needs, Need(due_ms, self._rank(key), key, from_ms - from_ms % MINUTE_MS, to_ms))

    def again(self, need: Need, now_ms: int) -> None:
        need.due_ms = now_ms + _RETRY_MS
        heapq.heappush(self._needs, need)

    def due(self, now_ms: int) -> Need | None:
        if self._needs and self._needs[0].due_ms <= now_ms:
            return heapq.heappop(self._needs)
        return None


def _midnight(ts: int) -> int:
    return (ts + _IST_MS) // _DAY_MS * _DAY_MS - _IST_MS


def wanted(need: Need, bars: Iterable[HistoryBar]) -> list[HistoryBar]:
    return [bar for bar in bars if need.from_ms <= bar.ts < need.to_ms]


class Backfill:
    """The shell: asks for what is due, one call after the other, within the venue's budget."""

    def __init__(self, plan: Plan, rest: Rest, collector: Collector) -> None:
        self._plan = plan
        self._rest = rest
        self._collector = collector
        self._starting: list[str] = []

    def started(self, keys: Iterable[str]) -> None:
        """Instruments start anew; their time is told by the first frame."""
        self._starting += keys

    def ended(self, keys: Iterable[str], ts: int) -> None:
        """The feed showed these until venue time `ts`."""
        self._plan.covered(keys, ts)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            now_ms = self._collector.clock.at(clock.monotonic_s())
            if now_ms:
                for key in self._starting:
                    self._plan.start(key, now_ms)
                self._starting.clear()
            need = self._plan.due(now_ms) if now_ms else None
            if need is None:
                await pause(stop, 0.25)
            else:
                await self._fetch(need, now_ms, stop)

    async def _fetch(self, need: Need, now_ms: int, stop: asyncio.Event) -> None:
        try:
            bars = await history.intraday(self._rest, need.key)
        except VenueError as error:
            log.warning("no history", instrument=need.key, reason=str(error))
            return
        except Unavailable as error:
            log.info("history has to wait", reason=str(error), waiting=len(self._plan) + 1)
            self._plan.again(need, now_ms)
            await pause(stop, 1.0)
            return
        self._collector.learn(wanted(need, bars), clock.monotonic_s(), clock.now_ns())
