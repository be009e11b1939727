"""Asks the venue's history for what `ingest.plan` says is due, one call after the other, within the venue's budget.

Bars go into the stream of ticks, where the aggregator decides what they change (docs/bars.md says what they may).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from brokers.upstox import history
from brokers.upstox.rest import Blocked, Rest, Throttled, VenueError
from bus import clock, metrics
from bus.life import pause
from ingest.collector import Collector
from ingest.plan import DAY_MS, Need, Plan, midnight, on
from ingest.told import Told
from schemas.bars import HistoryBar
from schemas.errors import Unavailable

log = structlog.get_logger("backfill")

_LOOK_S: Final = 0.25
_GAUGE_S: Final = 1.0
_UNREACHED_S: Final = 1.0
_REFUSED_S: Final = 10.0
_PAUSE_MAX_S: Final = 60.0


class Backfill:
    def __init__(self, plan: Plan, rest: Rest, collector: Collector, enabled: bool) -> None:
        self.changed: Callable[[], None] = lambda: None  # called when nothing waits any more
        self._plan = plan
        self._rest = rest
        self._collector = collector
        self._enabled = enabled
        self._told = Told()
        self._starting: dict[str, None] = {}  # their first frame has yet to tell the time
        self._asked: list[tuple[list[str], int, int]] = []  # likewise
        self._frame_ns = 0  # when the newest frame before that had come
        self._failures = 0  # in a row
        self._calls = 0  # since there was something to ask
        self._gauge_s = float("-inf")

    # What the feed and the shards tell

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
                self._told.start(key, now_ms)
            self._starting.clear()
        while now_ms and self._asked:
            keys, from_ms, to_ms = self._asked.pop()
            for key in keys:
                self._plan.ask(key, from_ms, to_ms, now_ms)
        return now_ms

    def ended(self, keys: Iterable[str], ts: int) -> None:
        """The feed showed these until venue time `ts`."""
        self._start()
        if self._enabled:
            self._plan.covered((key for key in keys if key not in self._starting), ts)

    def resumed(self, keys: Iterable[str], final_to: int) -> None:
        """Another process followed these before; history has had the last word on days before this instant."""
        if self._enabled:
            keys = list(keys)
            self._plan.resumed(keys, final_to)
            self._told.resumed(keys)

    def drop(self, keys: Iterable[str]) -> None:
        """Nobody wants these any more."""
        keys = list(keys)
        for key in keys:
            self._starting.pop(key, None)
            self._plan.drop(key)
        self._told.drop(keys)

    def ask(self, keys: Iterable[str], from_ms: int, to_ms: int) -> int:
        """Somebody knows that minutes are missing. Of how many of these instruments they are asked for."""
        keys = list(keys)
        if not self._enabled:
            return 0
        if now_ms := self._start():
            return sum(self._plan.ask(key, from_ms, to_ms, now_ms) for key in keys)
        self._asked.append((keys, from_ms, to_ms))  # no frame has told the time yet
        return len(keys)

    # What is known of it all

    def filled_to(self) -> int:
        """Venue time up to which nothing is lacking; 0 where nobody can say."""
        now_ms = self._known_ms()
        return self._plan.filled_to(now_ms) if now_ms else 0

    def final_to(self) -> int:
        """The first day on which history has not had the last word; 0 where nobody can say."""
        now_ms = self._known_ms()
        return self._plan.final_to(now_ms) if now_ms else 0

    def _known_ms(self) -> int:
        unsure = not self._enabled or self._starting or self._asked
        return 0 if unsure else self._collector.clock.at(clock.monotonic_s())

    def waiting(self, keys: Iterable[str]) -> int:
        """How many of these history has yet to tell about."""
        return self._plan.waiting_of(keys)

    # Asking

    async def run(self, stop: asyncio.Event) -> None:
        while self._enabled and not stop.is_set():
            now_ms = self._start()
            self._count(clock.monotonic_s())
            # What is most urgent is chosen when the venue may be asked, and not before: then it may be something else.
            wait_s = self._rest.wait_s()
            need = self._plan.due(now_ms) if now_ms and not wait_s else None
            if need is None:
                await pause(stop, min(wait_s, _LOOK_S) or _LOOK_S)
            else:
                await self._fetch(need, now_ms, stop)

    def _count(self, now_s: float) -> None:
        if now_s - self._gauge_s < _GAUGE_S:
            return
        self._gauge_s = now_s
        waiting = {of: self._plan.waiting(past) for of, past in (("today", False), ("past", True))}
        for of, instruments in waiting.items():
            metrics.BACKFILL_WAITING.labels(of).set(instruments)
        if self._calls and not any(waiting.values()):
            log.info("history is complete", calls=self._calls)
            self._calls = 0
            self.changed()

    async def _fetch(self, need: Need, now_ms: int, stop: asyncio.Event) -> None:
        self._calls += 1
        try:
            if need.past:
                bars = await history.finished(self._rest, need.key, on(need.from_ms), on(need.to_ms - DAY_MS))
                found = self._of_finished_days(need, now_ms, bars)
            else:
                found = self._of_today(need, now_ms, await history.intraday(self._rest, need.key))
        except VenueError as error:
            metrics.BACKFILL_CALLS.labels("refused").inc()
            log.warning("no history", instrument=need.key, reason=str(error))
            self._plan.refused(need)
        except Unavailable as error:
            await self._wait(need, now_ms, error, stop)
        else:
            metrics.BACKFILL_CALLS.labels("answered").inc()
            self._failures = 0
            self._collector.learn(found, clock.monotonic_s(), clock.now_ns())

    async def _wait(self, need: Need, now_ms: int, error: Unavailable, stop: asyncio.Event) -> None:
        """The venue is away or has had enough of us: less and less often, up to once a minute."""
        metrics.BACKFILL_CALLS.labels("unavailable").inc()
        log.info("history has to wait", reason=str(error), today=self._plan.waiting(False))
        self._plan.again(need, now_ms)
        first_s = _REFUSED_S if isinstance(error, Throttled | Blocked) else _UNREACHED_S
        await pause(stop, min(first_s * 2 ** min(self._failures, 6), _PAUSE_MAX_S))
        self._failures += 1

    def _of_today(self, need: Need, now_ms: int, bars: Sequence[HistoryBar]) -> list[HistoryBar]:
        start, end = self._plan.served(need, now_ms)
        found = [bar for bar in bars if start <= bar.ts < end and self._plan.in_session(need.key, bar.ts)]
        self._told.note(found)
        return found

    def _of_finished_days(self, need: Need, now_ms: int, bars: Sequence[HistoryBar]) -> list[HistoryBar]:
        """What we lack, and what is now told otherwise than on the day itself."""
        answer = self._plan.finished(need, now_ms, {midnight(bar.ts) for bar in bars})
        found = []
        for bar in bars:
            fills, final = answer.fills(bar.ts), midnight(bar.ts) in answer.days
            if fills or (final and self._told.differs(bar) and self._plan.in_session(bar.instrument, bar.ts)):
                found.append(bar.model_copy(update={"fills": fills, "final": final}))
        self._told.note(bar for bar in found if not bar.final)
        self._told.settle(need.key, answer.days)
        return found
