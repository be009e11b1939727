"""Minutes that the feed did not show, from the venue's history: the session so far at the start, the holes later.

`Plan` (pure) knows which instrument lacks which minutes. One that starts at venue time T, covered until D, lacks those
from D's to T's; the last of them is over only after T's minute has ended, so that is when it asks, once. At the first
start of a day what is already over is asked for at once. Indices, shares and futures come before the many options.

What is still lacking survives a crash as one number, `filled_to`: a restart asks again for everything since then.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from brokers.upstox import history
from brokers.upstox.rest import Blocked, Rest, Throttled, VenueError
from bus import clock
from bus.life import pause
from ingest.collector import Collector
from schemas.errors import Unavailable

log = structlog.get_logger("backfill")

MINUTE_MS: Final = 60_000
_SETTLE_MS: Final = 4_000  # the venue's own candle needs a moment after the minute
_RETRY_MS: Final = 10_000
_UNREACHED_S: Final = 1.0
_REFUSED_S: Final = 10.0
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000


@dataclass(frozen=True, slots=True)
class Need:
    """Minutes of an instrument that start in [from_ms, to_ms), to be asked for at `due_ms` of venue time."""

    key: str
    from_ms: int
    to_ms: int
    due_ms: int


class Plan:
    """At most one open need per instrument: what comes to it later is asked for with it."""

    def __init__(self, rank: Callable[[str], int], warmup_ms: Callable[[str], int]) -> None:
        self._rank = rank
        self._warmup_ms = warmup_ms
        self._needs: dict[str, Need] = {}
        self._order: list[tuple[int, int, str]] = []  # (due, rank, key), a heap; may hold what is outdated
        self._covered_to: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._needs)

    def covered(self, keys: Iterable[str], to_ms: int) -> None:
        """The feed showed everything about these until `to_ms`, and no more. An older hole stays open."""
        for key in keys:
            self._covered_to[key] = min(to_ms, self._covered_to.get(key, to_ms))

    def start(self, key: str, now_ms: int) -> None:
        """The feed shows this instrument from now on."""
        minute = now_ms - now_ms % MINUTE_MS
        first, due_ms = self._covered_to.pop(key, 0), minute + MINUTE_MS + _SETTLE_MS
        warm = now_ms - self._warmup_ms(key)
        if first < warm and _midnight(first) < _midnight(now_ms):
            first = max(warm, _midnight(now_ms))
            due_ms = now_ms if first < minute else due_ms
        self._open(Need(key, first - first % MINUTE_MS, minute + MINUTE_MS, due_ms))

    def _open(self, need: Need) -> None:
        if known := self._needs.get(need.key):
            from_ms, to_ms = min(known.from_ms, need.from_ms), max(known.to_ms, need.to_ms)
            need = Need(need.key, from_ms, to_ms, min(known.due_ms, need.due_ms))
        self._needs[need.key] = need
        heapq.heappush(self._order, (need.due_ms, self._rank(need.key), need.key))

    def due(self, now_ms: int) -> Need | None:
        """What to ask for now; it stays open until `served`."""
        while self._order and self._order[0][0] <= now_ms:
            due_ms, _, key = heapq.heappop(self._order)
            need = self._needs.get(key)
            if need is not None and need.due_ms == due_ms:
                return need
        return None

    def served(self, need: Need, now_ms: int) -> int:
        """The venue has answered at `now_ms`; returns the end of what it can have known. The rest stays open."""
        known_ms = now_ms - _SETTLE_MS
        known_ms -= known_ms % MINUTE_MS
        if need.key in self._covered_to:  # the feed is away: so far history has stood in for it
            self._covered_to[need.key] = max(self._covered_to[need.key], min(known_ms, need.to_ms))
        left = self._needs.pop(need.key, None)  # wider than `need` where the feed was away meanwhile
        if left is not None and left.to_ms > known_ms:
            self._open(Need(need.key, max(left.from_ms, known_ms), left.to_ms, left.to_ms + _SETTLE_MS))
        return known_ms

    def drop(self, key: str) -> None:
        """Nothing more is wanted of it."""
        self._needs.pop(key, None)
        self._covered_to.pop(key, None)

    def again(self, need: Need, now_ms: int) -> None:
        """The venue could not be asked."""
        if wider := self._needs.pop(need.key, None):
            self._open(replace(wider, due_ms=now_ms + _RETRY_MS))

    def filled_to(self, now_ms: int) -> int:
        """Nothing that the feed missed before this is still lacking."""
        return min([now_ms, *self._covered_to.values(), *(need.from_ms for need in self._needs.values())])


def _midnight(ts: int) -> int:
    return (ts + _IST_MS) // _DAY_MS * _DAY_MS - _IST_MS


class Backfill:
    """The shell: asks for what is due, one call after the other, within the venue's budget."""

    def __init__(self, plan: Plan, rest: Rest, collector: Collector, enabled: bool) -> None:
        self._plan = plan
        self._rest = rest
        self._collector = collector
        self._enabled = enabled
        self._starting: dict[str, None] = {}  # their first frame has yet to tell the time
        self._frame_ns = 0  # when the newest frame before that had come

    def started(self, keys: Iterable[str]) -> None:
        """The feed shows these from its next frame on."""
        if self._enabled:
            self._start()
            self._starting |= dict.fromkeys(keys)
            self._frame_ns = self._collector.frame_ns

    def _start(self) -> int:
        now_ms = self._collector.clock.at(clock.monotonic_s())
        if self._collector.frame_ns != self._frame_ns:
            for key in self._starting:
                self._plan.start(key, now_ms)
            self._starting.clear()
        return now_ms

    def ended(self, keys: Iterable[str], ts: int) -> None:
        """The feed showed these until venue time `ts`."""
        self._start()
        if self._enabled:
            self._plan.covered((key for key in keys if key not in self._starting), ts)

    def drop(self, keys: Iterable[str]) -> None:
        """Nobody wants these any more."""
        for key in keys:
            self._starting.pop(key, None)
            self._plan.drop(key)

    async def run(self, stop: asyncio.Event) -> None:
        while self._enabled and not stop.is_set():
            now_ms = self._start()
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
            self._plan.drop(need.key)
        except Unavailable as error:
            log.info("history has to wait", reason=str(error), waiting=len(self._plan))
            self._plan.again(need, now_ms)
            await pause(stop, _REFUSED_S if isinstance(error, Throttled | Blocked) else _UNREACHED_S)
        else:
            end_ms = min(need.to_ms, self._plan.served(need, now_ms))
            found = [bar for bar in bars if need.from_ms <= bar.ts < end_ms]
            self._collector.learn(found, clock.monotonic_s(), clock.now_ns())

    def filled_to(self) -> int:
        """Venue time up to which nothing is lacking; 0 where nobody can say."""
        now_ms = self._collector.clock.at(clock.monotonic_s())
        return self._plan.filled_to(now_ms) if self._enabled and now_ms and not self._starting else 0
