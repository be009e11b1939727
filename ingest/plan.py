"""Which minutes history has to tell, of which instrument, and in what order they are asked for. Pure.

Two calls of the venue tell minutes: one today's so far (provisional), one those of finished days (the last word). So an
instrument has at most one open need of each kind; what comes to it later is asked for with it, and so is what lies in
between: a call costs the same whatever it brings.

- An instrument that the feed shows from venue time T on, and showed until D before, lacks the minutes from D's to T's,
  as far as they are inside its sessions. The last of them is over only after T's minute has ended, so that is when
  today's part is asked for; finished days are asked for at once. One that was never followed gets a warm-up of today.
- Today's needs that are still open at midnight become those of a finished day.
- What today's call has told is asked for again when the day is over and the venue has corrected it (`_FINAL_MS`).

What is lacking comes before what is only to be checked, today before other days, and last of today the one minute that
was not over when the others were told. Among equals it is indices, futures and shares, then options by their distance
from the money (`rank`).

What is still open survives a crash as two numbers: `filled_to`, from where on minutes may be lacking, and `final_to`,
the first day that history has not had the last word on.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000
_SETTLE_MS: Final = 4_000  # the venue's own candle needs a moment after the minute
_RETRY_MS: Final = 10_000
_FINAL_MS: Final = 6 * 60 * MINUTE_MS  # after midnight a finished day's candles are what they will stay
_ABSENT_RETRY_MS: Final = 30 * MINUTE_MS  # the venue does not have the day yet
_ABSENT_TRIES: Final = 20
_AHEAD_MAX_MS: Final = 10 * MINUTE_MS  # of minutes that somebody knows will lack
SPAN_MAX_MS: Final = 28 * DAY_MS  # of one call

Span = tuple[int, int]
#: The continuous sessions of an instrument on a date, as [start, end) in epoch ms; none when it does not trade.
Hours = Callable[[str, date], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class Need:
    """Minutes of an instrument that start in [from_ms, to_ms), to be asked for at `due_ms` of venue time."""

    key: str
    from_ms: int
    to_ms: int
    due_ms: int
    past: bool = False  # of finished days: whole days
    tries: int = 0
    rest: bool = False  # only the last minute, which was not over when the others were told


@dataclass(frozen=True, slots=True)
class Finished:
    """What an answer about finished days is good for: the minutes that we lack, and the days that are final now."""

    holes: tuple[Span, ...] = ()
    days: frozenset[int] = frozenset()  # midnights

    def fills(self, ts: int) -> bool:
        return any(start <= ts < end for start, end in self.holes)


def midnight(ts: int) -> int:
    """00:00 IST of an instant's day."""
    return (ts + _IST_MS) // DAY_MS * DAY_MS - _IST_MS


def on(ts: int) -> date:
    """The IST date of an instant."""
    return datetime.fromtimestamp((ts + _IST_MS) / 1000, UTC).date()


class Plan:
    """`hours` are an instrument's sessions, `days_back` the finished trading days that are cared for."""

    def __init__(
        self, rank: Callable[[str], float], warmup_ms: Callable[[str], int], hours: Hours, days_back: int
    ) -> None:
        self._rank = rank
        self._warmup_ms = warmup_ms
        self._hours = hours
        self._days_back = days_back
        self._needs: dict[tuple[str, bool], Need] = {}
        self._later: list[tuple[int, str, bool]] = []  # (due, key, past), a heap; may hold what is outdated
        self._ready: list[tuple[int, float, int, str, bool]] = []  # (class, rank, due, key, past), likewise
        self._covered_to: dict[str, int] = {}
        self._holes: dict[str, list[Span]] = {}  # in finished days
        self._provisional: dict[str, set[int]] = {}  # days (midnights) that history has told, but not for good
        self._resumed: dict[str, int] = {}  # another process may have been told so from this day on
        self._shown: set[int] = set()  # finished days of which the venue has candles
        self._today = 0

    # What the feed shows

    def covered(self, keys: Iterable[str], to_ms: int) -> None:
        """The feed showed everything about these until `to_ms`, and no more. An older hole stays open."""
        for key in keys:
            self._covered_to[key] = min(to_ms, self._covered_to.get(key, to_ms))

    def resumed(self, keys: Iterable[str], final_to: int) -> None:
        """Another process followed these before: history may have told it minutes from this day on."""
        self._resumed.update(dict.fromkeys(keys, final_to))

    def start(self, key: str, now_ms: int) -> None:
        """The feed shows this instrument from now on."""
        self._roll(now_ms)
        minute = now_ms - now_ms % MINUTE_MS
        first = self._covered_to.pop(key, 0)
        due_ms = minute + MINUTE_MS + _SETTLE_MS
        if first < self._today:
            if first:
                self._lack(key, self._finished_part(key, first, self._today), now_ms)
            first = self._today if first else max(now_ms - self._warmup_ms(key), self._today)
            due_ms = now_ms if first < minute else due_ms
        self._want(key, first - first % MINUTE_MS, minute + MINUTE_MS, due_ms)
        if final_to := self._resumed.pop(key, 0):
            told = {day for day, _ in self._finished_days(key) if day >= final_to}
            self._provisional.setdefault(key, set()).update(told, (self._today,))
            self._review(key, now_ms)

    def ask(self, key: str, from_ms: int, to_ms: int, now_ms: int) -> bool:
        """Somebody knows that minutes are missing, of whatever day. False: none of these is in a session."""
        self._roll(now_ms)
        minute = now_ms - now_ms % MINUTE_MS
        to_ms = min(to_ms + -to_ms % MINUTE_MS, minute + _AHEAD_MAX_MS)
        due_ms = now_ms if from_ms < minute else to_ms + _SETTLE_MS
        found = to_ms > self._today and self._want(key, max(from_ms, self._today), to_ms, due_ms)
        days = range(midnight(from_ms), min(to_ms, self._today), DAY_MS)
        sessions = [span for day in days for span in self._hours(key, on(day))]
        return self._lack(key, _clipped(sessions, from_ms, min(to_ms, self._today)), now_ms) or found

    def drop(self, key: str) -> None:
        """Nothing more is wanted of it."""
        self._covered_to.pop(key, None)
        self._resumed.pop(key, None)
        for past in (False, True):
            self.refused(Need(key, 0, 0, 0, past))

    # What is asked for, and what comes of it

    def due(self, now_ms: int) -> Need | None:
        """What to ask for now; it stays open until it is answered."""
        self._roll(now_ms)
        while self._later and self._later[0][0] <= now_ms:
            due_ms, key, past = heapq.heappop(self._later)
            need = self._needs.get((key, past))
            urgency = (3 - (key in self._holes)) if past else int(need is not None and need.rest)
            heapq.heappush(self._ready, (urgency, self._rank(key), due_ms, key, past))
        while self._ready:
            _, _, due_ms, key, past = heapq.heappop(self._ready)
            need = self._needs.get((key, past))
            if need is not None and need.due_ms == due_ms:
                return replace(need, to_ms=min(need.to_ms, need.from_ms + SPAN_MAX_MS))
        return None

    def served(self, need: Need, now_ms: int) -> Span:
        """Today's call, made at `now_ms`, has answered: the minutes that were lacking and that it can have known, also
        those that have come to the need meanwhile. What is not over yet stays open."""
        known_ms = now_ms - _SETTLE_MS
        known_ms -= known_ms % MINUTE_MS
        if need.key in self._covered_to:  # the feed is away: so far history has stood in for it
            self._covered_to[need.key] = max(self._covered_to[need.key], min(known_ms, need.to_ms))
        left = self._needs.pop((need.key, False), None)
        if left is None:
            return need.from_ms, need.from_ms
        self._provisional.setdefault(need.key, set()).add(midnight(need.from_ms))
        if left.to_ms > known_ms:
            first = max(left.from_ms, known_ms)
            self._open(Need(need.key, first, left.to_ms, left.to_ms + _SETTLE_MS, rest=first > left.from_ms))
        return left.from_ms, max(left.from_ms, min(left.to_ms, known_ms))

    def finished(self, need: Need, now_ms: int, days: Collection[int]) -> Finished:
        """The call for finished days has answered, with candles of these days (midnights).

        A day of which the venue has shown no candle of any instrument is one that it does not have yet: ask again.
        """
        self._shown.update(days)
        wide = self._needs.pop((need.key, True), None)
        if wide is None:
            return Finished()
        asked = [day for day in range(need.from_ms, need.to_ms, DAY_MS) if self._hours(need.key, on(day))]
        absent = [day for day in asked if day not in self._shown and need.tries < _ABSENT_TRIES]
        end = absent[0] if absent else need.to_ms
        holes = self._holes.pop(need.key, [])
        if rest := [hole for hole in holes if not need.from_ms <= hole[0] < end]:
            self._holes[need.key] = rest
        told = [day for day in asked if day < end]
        final = frozenset(day for day in told if day + DAY_MS + _FINAL_MS <= now_ms)
        self._provisional.setdefault(need.key, set()).update(told)
        self._provisional[need.key] -= final
        if wide.from_ms < need.from_ms:  # it came to the need when the call was under way
            self._open(replace(wide, to_ms=need.from_ms, due_ms=now_ms))
        if absent:
            self._open(replace(wide, from_ms=end, due_ms=now_ms + _ABSENT_RETRY_MS, tries=need.tries + 1))
        elif wide.to_ms > end:
            self._open(replace(wide, from_ms=end, due_ms=now_ms))
        self._review(need.key, now_ms)
        return Finished(tuple(hole for hole in holes if hole not in rest), final)

    def refused(self, need: Need) -> None:
        """The venue will never tell this."""
        self._needs.pop((need.key, need.past), None)
        if need.past:
            self._holes.pop(need.key, None)
            self._provisional.pop(need.key, None)

    def again(self, need: Need, now_ms: int) -> None:
        """The venue could not be asked."""
        if wider := self._needs.pop((need.key, need.past), None):
            self._open(replace(wider, due_ms=now_ms + _RETRY_MS))

    # How much is left

    def waiting(self, past: bool) -> int:
        """Instruments with an open need of this kind."""
        return sum(kind is past for _, kind in self._needs)

    def waiting_of(self, keys: Iterable[str]) -> int:
        """How many of these have an open need."""
        return sum((key, False) in self._needs or (key, True) in self._needs for key in keys)

    def filled_to(self, now_ms: int) -> int:
        """Nothing that the feed missed before this is still lacking."""
        open_today = (need.from_ms for need in self._needs.values() if not need.past)
        return min([now_ms, *self._covered_to.values(), *open_today, *(holes[0][0] for holes in self._holes.values())])

    def final_to(self, now_ms: int) -> int:
        """Days before this one history has nothing more to say about."""
        open_days = (need.from_ms for need in self._needs.values() if need.past)
        told = (min(days) for days in self._provisional.values() if days)
        return min([midnight(now_ms), *open_days, *told, *self._resumed.values()])

    def in_session(self, key: str, ts: int) -> bool:
        return any(start <= ts < end for start, end in self._hours(key, on(ts)))

    # How needs come about

    def _roll(self, now_ms: int) -> None:
        """A new day: what today's call could not tell any more is a matter of finished days, and so is a last look."""
        if (today := midnight(now_ms)) <= self._today:
            return
        self._today = today
        for need in [each for each in self._needs.values() if not each.past and each.from_ms < today]:
            del self._needs[need.key, False]
            self._lack(need.key, self._finished_part(need.key, need.from_ms, need.to_ms), now_ms)
            if need.to_ms > today:
                self._open(replace(need, from_ms=today))
        for key in list(self._provisional):
            self._review(key, now_ms)
        self._shown = {day for day in self._shown if day >= today - SPAN_MAX_MS}

    def _want(self, key: str, from_ms: int, to_ms: int, due_ms: int) -> bool:
        """Minutes of today, as far as they are in a session."""
        spans = _clipped(self._hours(key, on(from_ms)), from_ms, to_ms)
        if spans:
            self._open(Need(key, spans[0][0], spans[-1][1], due_ms))
        return bool(spans)

    def _lack(self, key: str, holes: Sequence[Span], now_ms: int) -> bool:
        """Minutes of finished days."""
        if holes:
            self._holes[key] = _merged([*self._holes.get(key, ()), *holes])
            self._open(Need(key, midnight(holes[0][0]), midnight(holes[-1][0]) + DAY_MS, now_ms, past=True))
        return bool(holes)

    def _review(self, key: str, now_ms: int) -> None:
        """A last look at the finished days that history has told provisionally."""
        cared = {day for day, _ in self._finished_days(key)}
        told = self._provisional[key] = {day for day in self._provisional[key] if day >= self._today or day in cared}
        days = sorted(day for day in told if day < self._today)
        if days:
            self._open(Need(key, days[0], days[-1] + DAY_MS, max(now_ms, days[-1] + DAY_MS + _FINAL_MS), past=True))
        elif not told:
            del self._provisional[key]

    def _finished_part(self, key: str, from_ms: int, to_ms: int) -> list[Span]:
        """What of [from_ms, to_ms) lies in the finished days that are cared for."""
        return _clipped((span for _, spans in self._finished_days(key) for span in spans), from_ms, to_ms)

    def _finished_days(self, key: str) -> list[tuple[int, Sequence[Span]]]:
        """The trading days before today that are cared for, oldest first, with their sessions."""
        found: list[tuple[int, Sequence[Span]]] = []
        day = self._today
        while len(found) < self._days_back and day > self._today - SPAN_MAX_MS:
            day -= DAY_MS
            if spans := self._hours(key, on(day)):
                found.insert(0, (day, spans))
        return found

    def _open(self, need: Need) -> None:
        where = (need.key, need.past)
        if known := self._needs.get(where):
            need = replace(
                need,
                from_ms=min(known.from_ms, need.from_ms),
                to_ms=max(known.to_ms, need.to_ms),
                due_ms=min(known.due_ms, need.due_ms),
                rest=known.rest and need.rest,
            )
        self._needs[where] = need
        heapq.heappush(self._later, (need.due_ms, *where))


def _clipped(spans: Iterable[Span], from_ms: int, to_ms: int) -> list[Span]:
    """The parts of spans that lie in [from_ms, to_ms), from the minute of their start."""
    from_ms -= from_ms % MINUTE_MS
    return [(max(start, from_ms), min(end, to_ms)) for start, end in spans if max(start, from_ms) < min(end, to_ms)]


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Ascending, without overlap."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
