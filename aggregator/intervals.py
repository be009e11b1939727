"""The second stage: one-minute bars and prints in, longer bars out, by the rules of `market.intervals`. Pure.

A bar leaves when its last minute has left, whether that minute had a trade or not, and again, with a higher `rev`, with
each revision of one of its minutes; a day also with each print after its last minute. Bars that end together leave
by interval, then by key.

**Memory.** A revision may concern any minute of the day (a fill from history after an outage of an hour), so the day's
minutes are kept, as numbers: 245 bytes each, for a share's day of 375 minutes 92 KB, for one that never closes
353 KB at most. Only the present day: at midnight it goes, and what changes an older one is found by who folds history.

**A restart.** None of this is in the snapshot, which is written every second. What a shard's streams hold is enough:
`remember` takes the bars of `candles:{k}`, `remember_print` the prints of `events`, `told` the longer bars of
`intervals:{k}`. Then `settle` publishes those of the bars that have left by now and were not told, or not in their
newest revision. Longer bars are written in the commit of the minute that ends them, so after a crash that is none,
unless the crash fell into an earlier `settle`. Until an instrument is settled, `add` keeps its minutes and holds its
bars back, so that ticks need not wait for the reading.

**Complete** is a promise: each minute has a complete bar, or the feed watched it and there was no trade. Which minutes
it watched is noted as they close; after a restart from what the fold of ticks remembers, and from the longer bars
that were complete.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator.bars import Hours, Printed
from aggregator.closed import Closed
from market import intervals, sessions
from market.intervals import DAY_MS, LONGER, MINUTE, MINUTE_MS, Print, Window
from schemas.intervals import CloseFrom, Interval
from schemas.ticks import SessionClass

#: The phases of a day. Raises TejiError for a date that nobody knows.
Phases = Callable[[str, SessionClass, date], Sequence[sessions.Interval]]

_MORE_MINUTES: Final = 64
_SETTLED_AT_ONCE: Final = 25
_DAY_MINUTES: Final = DAY_MS // MINUTE_MS
_NUMBERS: Final = ("iv", "delta", "gamma", "theta", "vega", "rho", "tbq", "tsq")
_MODEL: Final = ("iv", "delta", "gamma", "theta", "vega", "rho", "price", "forward")
_WORDS: Final = ("price_from", "forward_from", "flag")

#: What a longer bar takes from its last minute, as numbers; `words` is a number given to the model's texts, -1: none.
_END: Final = np.dtype(
    [
        *((name, "<f8") for name in _NUMBERS),
        ("bid_wall", "<f8"),
        ("bid_wall_qty", "<i8"),
        ("ask_wall", "<f8"),
        ("ask_wall_qty", "<i8"),
        ("model", "<f8", (len(_MODEL),)),
        ("words", "<i2"),
    ]
)


@dataclass(frozen=True, slots=True)
class Long:
    """A longer bar to publish."""

    instrument: str
    interval: Interval
    ts: int
    rev: int
    data: bytes


@dataclass(slots=True)
class _Day:
    """The newest day of one instrument; the two arrays run in step, ordered by minute."""

    key: str
    start: int = 0  # midnight
    hours: tuple[tuple[int, int], ...] = ()
    n: int = 0
    minutes: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, MINUTE))
    ends: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, _END))
    prints: list[Print] = field(default_factory=list)
    settled: bool = False
    told: "array[int]" = field(default_factory=lambda: array("q"))  # _code of what was published before a restart
    vouched: npt.NDArray[np.bool_] | None = None  # minutes of bars that were published as complete before a restart

    def begin(self, start: int, hours: tuple[tuple[int, int], ...]) -> None:
        self.start, self.hours, self.n, self.prints, self.vouched = start, hours, 0, [], None
        del self.told[:]

    def put(self, minute: tuple[Any, ...], end: tuple[Any, ...]) -> bool:
        """Keep a minute. False: it is known in this or a later revision."""
        ts, at = minute[0], self.n
        if at and self.minutes["ts"][at - 1] >= ts:
            at = int(np.searchsorted(self.minutes["ts"][: self.n], ts))
            if self.minutes["ts"][at] == ts:
                if self.minutes["rev"][at] >= minute[_REV]:
                    return False
                self.minutes[at], self.ends[at] = minute, end
                return True
        if self.n == len(self.minutes):
            self.minutes, self.ends = _grown(self.minutes), _grown(self.ends)
        if at < self.n:
            for values in (self.minutes, self.ends):
                values[at + 1 : self.n + 1] = values[at : self.n].copy()
        self.minutes[at], self.ends[at] = minute, end
        self.n += 1
        return True

    def slice(self, window: Window) -> tuple[int, int]:
        at = np.searchsorted(self.minutes["ts"][: self.n], window)
        return int(at[0]), int(at[1])


_REV: Final = (MINUTE.names or ()).index("rev")
_Due = tuple[Interval, Window, _Day]


def _grown(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    more = np.zeros(len(values) + _MORE_MINUTES, values.dtype)
    more[: len(values)] = values
    return more


class Longer:
    def __init__(self, hours: Hours, phases: Phases) -> None:
        self._hours = hours
        self._phases = phases
        self._days: dict[str, _Day] = {}
        #: When bars leave -> which -> whose.
        self._due: dict[int, dict[tuple[Interval, int], set[str]]] = {}
        self._expected: tuple[tuple[tuple[tuple[int, int], ...], int], list[set[str]]] = (((), 0), [])
        self._closed_ms = 0
        self._ready = False
        self._words: list[tuple[str | None, ...]] = []
        self._number: dict[tuple[str | None, ...], int] = {}
        self._row: dict[str, int] = {}
        self._rows: npt.NDArray[Any] = np.zeros(0)
        self._watched: npt.NDArray[np.uint8] = np.zeros((0, _DAY_MINUTES // 8), np.uint8)
        self._watched_day = 0
        self._watched_to = 0
        self._today = 0  # midnight before the newest minute that has left

    # Live

    def know(self, keys: Sequence[str], rows: npt.NDArray[Any]) -> None:
        """The instruments of the fold of ticks, whose rows have `session`, `covered_from` and `covered_to`."""
        for row in range(len(self._row), len(keys)):
            self._row[keys[row]] = row
        self._rows = rows
        if len(rows) > len(self._watched):
            more = np.zeros((2 * len(rows) - len(self._watched), self._watched.shape[1]), np.uint8)
            self._watched = np.concatenate([self._watched, more])

    def knows(self, key: str) -> bool:
        return key in self._row or key in self._days

    def add(self, bars: Sequence[Closed], prints: Sequence[Printed], closed_ms: int) -> list[Long]:
        """Take what has left; minutes that start before `closed_ms` have. Call `know` first."""
        if closed_ms <= self._closed_ms and not bars and not prints:
            return []
        self._today = max(self._today, intervals.midnight(max(closed_ms - 1, 0)))
        self._watch(min(closed_ms, self._watched_day + DAY_MS) if self._watched_day else closed_ms)
        new_bars = [bar for bar in bars if not self._take(bar.instrument, bar.ts, orjson.loads(bar.data), roll=False)]
        new_prints = [one for one in prints if not self._print(one.instrument, _trade(one), roll=False)]
        self._closed_ms = max(self._closed_ms, closed_ms)
        out = list(self._leave())
        self._watch(closed_ms)
        if new_bars or new_prints:  # of a new day: the day before has left by now, and goes
            for bar in new_bars:
                self._take(bar.instrument, bar.ts, orjson.loads(bar.data), roll=True)
            for one in new_prints:
                self._print(one.instrument, _trade(one), roll=True)
            out += self._leave()
        return out

    def _session(self, key: str) -> SessionClass:
        row = self._row.get(key, -1)
        return SessionClass(int(self._rows["session"][row])) if row >= 0 else SessionClass.ORDINARY

    def _day(self, key: str, ts: int, *, roll: bool) -> _Day | None:
        """Where a moment belongs; None for an older day, and for a new one unless it may take the old one's place."""
        day = self._days.get(key)
        if day is None:
            day = self._days[key] = _Day(key, settled=self._ready)
        start = intervals.midnight(ts)
        if start != day.start:
            if start < max(day.start, self._today) or (day.start and not roll):
                return None
            day.begin(start, tuple(self._hours(key, self._session(key), sessions.trading_date(ts))))
        return day

    def _take(self, key: str, ts: int, bar: dict[str, Any], *, roll: bool) -> bool:
        """False: the bar is of a day that has not begun."""
        day = self._day(key, ts, roll=roll)
        if day is None:
            return ts < max(self._days[key].start, self._today)
        if not day.hours or not any(start <= ts < end for start, end in day.hours):
            day.hours = tuple(self._hours(key, self._session(key), sessions.trading_date(ts)))
        if day.put(intervals.minute(bar), self._end(bar)) and day.settled:
            for keys in self._expecting(day.hours, ts):
                keys.add(key)
        return True

    def _expecting(self, hours: tuple[tuple[int, int], ...], ts: int) -> list[set[str]]:
        """The keys of each longer bar that a minute belongs to; most bars of a call are of the same minute."""
        if self._expected[0] != (hours, ts):
            self._expected = (hours, ts), [self._expected_in(*found) for found in _windows(hours, ts)]
        return self._expected[1]

    def _print(self, key: str, trade: Print, *, roll: bool) -> bool:
        """False: the trade is of a day that has not begun."""
        day = self._day(key, trade.ltt, roll=roll)
        if day is None:
            return trade.ltt < max(self._days[key].start, self._today)
        if day.hours:
            day.prints.append(trade)
            if day.settled:
                self._expected_in(Interval.DAY, intervals.day(day.hours)).add(key)
        return True

    def _expected_in(self, interval: Interval, window: Window) -> set[str]:
        return self._due.setdefault(window.end_ms, {}).setdefault((interval, window.start_ms), set())

    def _leave(self) -> Iterator[Long]:
        self._expected = (((), 0), [])
        due: list[_Due] = []
        for end_ms in sorted(end_ms for end_ms in self._due if end_ms <= self._closed_ms):
            found = self._due.pop(end_ms)
            for interval, start_ms in sorted(found, key=lambda one: (LONGER.index(one[0]), one[1])):
                window = Window(start_ms, end_ms)
                due += [(interval, window, self._days[key]) for key in sorted(found[interval, start_ms])]
        return self._bars(due)

    # Making bars

    def _bars(self, due: Sequence[_Due]) -> Iterator[Long]:
        """All at once: a call of numpy takes as long for one bar as for a hundred."""
        if not due:
            return
        slices = [day.slice(window) for _, window, day in due]
        begins = np.cumsum([0, *(end - start for start, end in slices[:-1])])
        empty = np.array([start == end for start, end in slices])
        minutes = np.empty(sum(end - start for start, end in slices), MINUTE)  # concatenate compares all their types
        for at, (_, _, day), (start, end) in zip(begins.tolist(), due, slices, strict=True):
            minutes[at : at + end - start] = day.minutes[start:end]
        bars = iter(intervals.fold(minutes, begins[~empty]))
        for (interval, window, day), (_, end), nothing in zip(due, slices, empty.tolist(), strict=True):
            bar = None if nothing else next(bars)
            if bar is not None or (interval is Interval.DAY and day.prints):
                yield self._long(day, interval, window, bar, end - 1)

    def _long(self, day: _Day, interval: Interval, window: Window, bar: Any, last: int) -> Long:
        close_from = None
        if interval is Interval.DAY:
            close_from = CloseFrom.CONTINUOUS
            if day.prints:
                phases = self._phases(day.key, self._session(day.key), sessions.trading_date(window.start_ms))
                end = bar is not None
                bar, close_from = intervals.with_prints(bar, day.prints, phases)
                last = last if end else -1
        values = {} if bar["last"] < 0 else self._told_at_the_end(day.ends[last])
        complete = bool(bar["complete"]) and self._is_whole(day, window, int(bar["minutes"]))
        data = intervals.encode(
            day.key, interval, window.start_ms, bar, values, complete=complete, close_from=close_from
        )
        return Long(day.key, interval, window.start_ms, int(bar["rev"]), data)

    def _is_whole(self, day: _Day, window: Window, minutes: int) -> bool:
        """Whether the feed watched all the minutes that have no bar."""
        wanted = _offsets(day.hours, window)
        if minutes == len(wanted):
            return True
        watched = np.zeros(_DAY_MINUTES, np.bool_) if day.vouched is None else day.vouched.copy()
        row = self._row.get(day.key, -1)
        if row >= 0 and self._watched_day == day.start:
            watched |= np.unpackbits(self._watched[row]).view(np.bool_)
        watched[(day.minutes["ts"][: day.n] - day.start) // MINUTE_MS] = True
        return bool(watched[wanted].all())

    def _watch(self, closed_ms: int) -> None:
        """Note for each minute that has closed whose feed covered it all."""
        start = intervals.midnight(max(closed_ms - 1, 0))
        if start > self._watched_day:
            self._watched_day = start
            self._watched[:] = 0
            self._days = {key: day for key, day in self._days.items() if day.start >= start}
        closed, self._watched_to = max(start, self._watched_to), max(closed_ms, self._watched_to)
        if closed >= closed_ms or not len(self._rows):
            return
        since, until = self._rows["covered_from"], self._rows["covered_to"]
        seen = self._rows["seen"] > 0
        for minute in range(closed, closed_ms, MINUTE_MS):
            covered = seen & (since <= minute) & (minute + MINUTE_MS <= until)
            byte, bit = divmod((minute - start) // MINUTE_MS, 8)
            self._watched[: len(covered), byte] |= np.where(covered, np.uint8(128 >> bit), np.uint8(0))

    # What the last minute says

    def _end(self, bar: dict[str, Any]) -> tuple[Any, ...]:
        numbers = [np.nan if bar[name] is None else bar[name] for name in _NUMBERS]
        walls = [part for side in ("bid_wall", "ask_wall") for part in _wall(bar[side])]
        model = bar.get("model")
        if model is None:
            return (*numbers, *walls, (np.nan,) * len(_MODEL), -1)
        words = tuple(model[name] for name in _WORDS)
        if words not in self._number:
            self._number[words] = len(self._words)
            self._words.append(words)
        ours = tuple(np.nan if model[name] is None else model[name] for name in _MODEL)
        return (*numbers, *walls, ours, self._number[words])

    def _told_at_the_end(self, end: Any) -> dict[str, Any]:
        *numbers, bid, bid_qty, ask, ask_qty, _, words = end.tolist()
        told: dict[str, Any] = dict(zip(_NUMBERS, numbers, strict=True))
        told["bid_wall"] = {"price": bid, "qty": bid_qty} if bid_qty else None
        told["ask_wall"] = {"price": ask, "qty": ask_qty} if ask_qty else None
        if words < 0:
            return told | {"model": None}
        model = dict(zip(_MODEL, end["model"].tolist(), strict=True))
        model |= dict(zip(_WORDS, self._words[words], strict=True))
        return told | {"model": {name: model[name] for name in _MODEL_FIELDS}}

    # After a restart

    def remember(self, data: bytes) -> None:
        """A bar of `candles:{k}`. Raises ValueError or KeyError for what is none."""
        bar = orjson.loads(data)
        self._take(bar["instrument"], bar["ts"], bar, roll=True)

    def remember_print(self, instrument: str, trade: Print) -> None:
        self._print(instrument, trade, roll=True)

    def told(self, data: bytes) -> None:
        """A bar of `intervals:{k}`: after the bars of `candles:{k}`."""
        bar = orjson.loads(data)
        interval, ts = Interval(bar["interval"]), bar["ts"]
        day = self._days.get(bar["instrument"])
        if day is None or day.settled or intervals.midnight(ts) != day.start or not day.hours:
            return
        day.told.append(_code(LONGER.index(interval), (ts - day.start) // MINUTE_MS, bar["rev"]))
        window = intervals.day(day.hours) if interval is Interval.DAY else intervals.window(interval, day.hours, ts)
        if bar["complete"] and window is not None:
            if day.vouched is None:
                day.vouched = np.zeros(_DAY_MINUTES, np.bool_)
            day.vouched[_offsets(day.hours, window)] = True

    def settle(self, closed_ms: int) -> Iterator[list[Long]]:
        """What has left and was never told, a few instruments at a time; `add` may be called in between."""
        self._closed_ms = max(self._closed_ms, closed_ms)
        self._today = max(self._today, intervals.midnight(max(closed_ms - 1, 0)))
        while unsettled := [day for day in self._days.values() if not day.settled][:_SETTLED_AT_ONCE]:
            due: list[_Due] = []
            for day in unsettled:
                due += self._settled(day)
                day.settled = True
            yield list(self._bars(due))
        self._ready = True

    def _settled(self, day: _Day) -> list[_Due]:
        """What was due and never told; what will be is expected from now on."""
        due: list[_Due] = []
        if day.start < self._today:
            return due  # the stream does not hold all of it any more
        told: dict[tuple[int, int], int] = {}
        for number, minute, rev in map(_decoded, day.told):
            told[number, minute] = max(rev, told.get((number, minute), -1))
        del day.told[:]
        wanted = {found: None for ts in day.minutes["ts"][: day.n].tolist() for found in _windows(day.hours, ts)}
        if day.prints:
            wanted[Interval.DAY, intervals.day(day.hours)] = None
        for interval, window in sorted(wanted, key=lambda one: (one[1].end_ms, LONGER.index(one[0]))):
            minute = (window.start_ms - day.start) // MINUTE_MS
            if told.get((LONGER.index(interval), minute), -1) >= self._rev(day, interval, window):
                continue
            if window.end_ms > self._closed_ms:
                self._expected_in(interval, window).add(day.key)
            else:
                due.append((interval, window, day))
        return due

    def _rev(self, day: _Day, interval: Interval, window: Window) -> int:
        start, end = day.slice(window)
        prints = len(day.prints) if interval is Interval.DAY else 0
        return int(day.minutes["rev"][start:end].sum()) + end - start + prints - 1


_MODEL_FIELDS: Final = (*_MODEL[:7], "price_from", "forward", "forward_from", "flag")


def _trade(told: Printed) -> Print:
    return Print(told.ltt, told.price, told.volume)


def _wall(wall: dict[str, Any] | None) -> tuple[float, int]:
    return (np.nan, 0) if wall is None else (wall["price"], wall["qty"])


@lru_cache(maxsize=4_096)
def _windows(hours: tuple[tuple[int, int], ...], ts: int) -> tuple[tuple[Interval, Window], ...]:
    """The longer bars that a minute belongs to."""
    found = ((interval, intervals.window(interval, hours, ts)) for interval in LONGER)
    return tuple((interval, window) for interval, window in found if window is not None)


@lru_cache(maxsize=4_096)
def _offsets(hours: tuple[tuple[int, int], ...], window: Window) -> npt.NDArray[np.int64]:
    """The minutes of continuous trading in a window, counted from midnight."""
    minutes = np.array(intervals.minutes_of(window, hours), np.int64)
    return (minutes - intervals.midnight(hours[0][0])) // MINUTE_MS


def _code(number: int, minute: int, rev: int) -> int:
    return (number * _DAY_MINUTES + minute) << 40 | rev


def _decoded(code: int) -> tuple[int, int, int]:
    number, minute = divmod(code >> 40, _DAY_MINUTES)
    return number, minute, code & ((1 << 40) - 1)
