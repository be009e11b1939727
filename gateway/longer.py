"""Longer bars over history: one-minute bars of Redis and Postgres, folded by `market.intervals` as the live ones are.

A year of minutes is 94,000 rows, so sums and extremes read columns, not rows: Postgres joins each into one value, which
numpy takes as it comes. Whole rows are only read of the minutes that a longer bar ends with.

Bars that have not ended are left out. The stream of bars tells the venue's time: the newest minute that has left, and
what has passed since then.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from bus import clock
from gateway.coldrows import length_in_minutes
from gateway.directory import Directory
from gateway.history import Found, History, Minutes, Span
from market import instruments, intervals, sessions
from market.intervals import DAY_MS, LENGTH_MS, LONG, MINUTE_MS, Print, Window
from schemas.intervals import CloseFrom, Interval
from schemas.ticks import SessionClass

#: Most minutes that one answer is made of: two years of a share. Beyond that there is a next page.
MINUTES_MOST: Final = 200_000


class Longer:
    def __init__(self, history: History, directory: Directory, *, always_open: bool) -> None:
        self._history = history
        self._directory = directory
        self._always_open = always_open

    async def find(self, instrument: str, interval: Interval, span: Span) -> Found:
        """Raises Unavailable when not even today's bars can be read, Misconfigured for a day of no known calendar."""
        length = LENGTH_MS.get(interval, DAY_MS)
        most = min((span.limit + 1) * length // MINUTE_MS, MINUTES_MOST)
        reach = Span(span.from_ms, span.to_ms + length, most + 1, span.last)
        told = await self._history.minutes(instrument, reach)
        cut = len(told.minutes) > most
        minutes, starts = self._placed(instrument, interval, told.minutes)
        begins = intervals.runs(starts)
        made = _Made(instrument, interval, starts[begins], intervals.fold(minutes, begins))
        if cut:  # the outermost bar may lack minutes that were not read
            made = made.but_first() if span.last else made.but_last()
        prints: dict[int, list[Print]] = {}
        if interval is Interval.DAY and not told.warning:
            prints = await self._prints(instrument, reach, told.minutes if cut else None)
            made = made.with_days(prints)
        made = self._ended(made.within(span.from_ms, span.to_ms))
        kept = made.last(span.limit) if span.last else made.first(span.limit)
        bars = await self._encoded(kept, told, prints)
        return Found(bars, _edge(kept, span, told.minutes, cut or len(kept) < len(made)), told.warning)

    # Where minutes belong

    def _session(self, key: str, on: date) -> SessionClass:
        if self._always_open:
            return SessionClass.ALWAYS_OPEN
        known = self._directory.universe.get(key) if self._directory.universe is not None else None
        return instruments.session_class(known, on) if known is not None else SessionClass.ORDINARY

    def _hours(self, key: str, ts: int) -> tuple[tuple[int, int], ...]:
        on = sessions.trading_date(ts)
        return sessions.continuous(sessions.segment_of(key), self._session(key, on), on)

    def _placed(
        self, key: str, interval: Interval, minutes: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The minutes that belong to a bar, and the start of it."""
        starts = np.full(len(minutes), -1, np.int64)
        days = (minutes["ts"] - intervals.midnight(0)) // DAY_MS
        edges = [*intervals.runs(days).tolist(), len(minutes)]
        for first, end in pairwise(edges):
            hours = self._hours(key, int(minutes["ts"][first]))
            starts[first:end] = intervals.starts(interval, hours, minutes["ts"][first:end])
        return minutes[starts >= 0], starts[starts >= 0]

    def _window(self, made: "_Made", start: int) -> Window:
        hours = self._hours(made.key, start)
        if made.interval is Interval.DAY:
            return intervals.day(hours)
        found = intervals.window(made.interval, hours, start)
        assert found is not None, "a bar starts within its session"
        return found

    def _ended(self, made: "_Made") -> "_Made":
        now_ms = self._history.venue_ms(clock.now_ms())
        while len(made) and self._window(made, int(made.starts[-1])).end_ms > now_ms:
            made = made.but_last()
        return made

    # Days

    async def _prints(self, key: str, reach: Span, cut: npt.NDArray[Any] | None) -> dict[int, list[Print]]:
        """The prints of each day, by its midnight; of days whose minutes were all read."""
        from_ms, to_ms = intervals.midnight(reach.from_ms), reach.to_ms
        if cut is not None and reach.last:
            from_ms = intervals.midnight(int(cut["ts"][0])) + DAY_MS
        elif cut is not None:
            to_ms = intervals.midnight(int(cut["ts"][-1]))
        days: dict[int, list[Print]] = {}
        for trade in await self._history.prints(key, from_ms, to_ms):
            start = intervals.midnight(trade.ltt)
            if self._hours(key, start):
                days.setdefault(start, []).append(trade)
        return days

    # Out

    async def _encoded(self, made: "_Made", told: Minutes, prints: dict[int, list[Print]]) -> list[bytes]:
        hot = told.hot
        ends = [ts for ts in made.bars["last"].tolist() if ts >= 0]
        cold: dict[int, bytes] = {}
        watched: dict[int, int] = {}
        if len(made) and not told.warning:  # else Postgres has just not answered
            cold = await self._history.rows(made.key, [ts for ts in ends if ts not in hot])
            reach = (int(made.starts[0]), int(made.starts[-1]))
            watched = await self._history.watched(made.key, length_in_minutes(made.interval), *reach)
        out: list[bytes] = []
        for start, each in zip(made.starts.tolist(), made.bars, strict=True):
            bar, close_from = each, None
            if made.interval is Interval.DAY:
                bar, close_from = self._day(made.key, start, each, prints.get(start, []))
            last = hot.get(int(bar["last"])) or cold.get(int(bar["last"]))
            whole = int(bar["minutes"]) == self._minutes(made, start) or watched.get(start) == int(bar["rev"])
            out.append(
                intervals.encode(
                    made.key,
                    made.interval,
                    start,
                    bar,
                    orjson.loads(last) if last else {},
                    complete=bool(bar["complete"]) and whole,
                    close_from=close_from,
                )
            )
        return out

    def _minutes(self, made: "_Made", start: int) -> int:
        """How many minutes a bar can have."""
        return len(intervals.minutes_of(self._window(made, start), self._hours(made.key, start)))

    def _day(self, key: str, start: int, bar: Any, prints: Sequence[Print]) -> tuple[Any, CloseFrom]:
        if not prints:
            return bar, CloseFrom.CONTINUOUS
        on = sessions.trading_date(start)
        phases = sessions.day(sessions.segment_of(key), self._session(key, on), on)
        return intervals.with_prints(bar if bar["minutes"] else None, prints, phases)


class _Made:
    """Bars of one instrument in order of time, and where each starts."""

    def __init__(
        self,
        key: str,
        interval: Interval,
        starts: npt.NDArray[np.int64],
        bars: npt.NDArray[Any],
    ) -> None:
        self.key = key
        self.interval = interval
        self.starts = starts
        self.bars = bars

    def __len__(self) -> int:
        return len(self.starts)

    def _part(self, which: slice | npt.NDArray[np.bool_]) -> "_Made":
        return _Made(self.key, self.interval, self.starts[which], self.bars[which])

    def but_first(self) -> "_Made":
        return self._part(slice(1, None))

    def but_last(self) -> "_Made":
        return self._part(slice(None, -1))

    def first(self, count: int) -> "_Made":
        return self._part(slice(None, count))

    def last(self, count: int) -> "_Made":
        return self._part(slice(-count, None))

    def within(self, from_ms: int, to_ms: int) -> "_Made":
        return self._part((self.starts >= from_ms) & (self.starts < to_ms))

    def with_days(self, days: dict[int, list[Print]]) -> "_Made":
        """And days without a bar in any minute, as records without minutes."""
        more = sorted(days.keys() - set(self.starts.tolist()))
        if not more:
            return self
        bars = np.zeros(len(self) + len(more), LONG)
        bars[: len(self)] = self.bars
        bars["last"][len(self) :] = -1
        starts = np.concatenate([self.starts, np.array(more, np.int64)])
        order = np.argsort(starts)
        return _Made(self.key, self.interval, starts[order], bars[order])


def _edge(kept: _Made, span: Span, minutes: npt.NDArray[Any], more: bool) -> int | None:
    """Where the next page starts, or the one before this one ends."""
    if not more:
        return None
    if span.last:
        return int(kept.starts[0]) if len(kept) else int(minutes["ts"][0])
    return int(kept.starts[-1]) + 1 if len(kept) else int(minutes["ts"][-1])
