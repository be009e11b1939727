"""When what fails: a small language for faults, read once and checked as a whole. Pure.

    at 09:20:00 mute for 30s; at 09:25 drop 1011; after 2m refuse_authorize 403 html for 1m

A line is a fault, lines are separated by `;` or a new line:

    [at HH:MM[:SS] | after DURATION]  NAME [VALUE]  [only CONNECTION]  [for DURATION]
    [at HH:MM[:SS] | after DURATION]  end NAME

All times are the venue's: `at` is Indian time, the next time that it comes; without either it happens now. A duration
is a number with `ms`, `s`, `m` or `h`. A value is what the fault needs: a close code, a status (with `html`, and `x3`
for three times), a number, a share (`updates_lost 0.2`), a signed duration (`skew -5s`, `order_slow 3s`), or keys
(`quiet NSE_FO|123,NSE_EQ|*`, in quotes where a key has a blank). `for` ends what lasts.
"""

import heapq
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import time
from typing import Any, Final

from pydantic import ValidationError

from sim.faults import ENDED, FaultRequest
from sim.hours import DAY_MS, day_of, midnight_ms

_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(ms|s|m|h)")
_SEPARATOR: Final = re.compile(r"[;\n]")
_LINES_MAX: Final = 1000
#: Where the unit is in the value, the word goes without.
_WORDS: Final = {
    name.removesuffix("_ms"): name
    for name in ("skew_ms", "order_slow_ms", "order_late_ms", "order_pending_ms", "updates_late_ms")
}


class BadTimeline(ValueError):
    """A timeline that cannot be read; the sentence says where and what would be right."""


@dataclass(frozen=True, slots=True)
class Line:
    """A fault and when: at a time of the day, or so long from now."""

    request: FaultRequest
    at_ms: int | None = None  # after midnight, IST
    after_ms: int = 0
    ends: FaultRequest | None = None
    for_ms: int = 0


def parse(text: str) -> tuple[Line, ...]:
    """The lines of a timeline. Raises BadTimeline."""
    lines = [line.strip() for line in _SEPARATOR.split(text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise BadTimeline("a timeline without a fault: write something like `after 10s mute for 30s`")
    if len(lines) > _LINES_MAX:
        raise BadTimeline(f"{len(lines)} faults in a timeline: {_LINES_MAX} are the most")
    return tuple(map(_line, lines))


def _line(text: str) -> Line:
    try:
        return _Reader(shlex.split(text)).line()
    except ValueError as error:
        raise BadTimeline(f"the fault `{text}` cannot be read: {_reason(error)}") from None


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())
    return str(error)


class _Reader:
    """The words of one line, taken from the left."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def line(self) -> Line:
        at_ms = _time_of_day(self._next("a time of day")) if self._take("at") else None
        after_ms = _duration(self._next("a duration")) if self._take("after") else 0
        name = self._next("the name of a fault")
        if name == "end":
            ended = _named(self._next("the name of a fault"))
            self._done()
            return Line(_end(ended), at_ms, after_ms)
        name = _named(name)
        given = self._value(name)
        if self._take("only"):
            given["only"] = self._next("the number of a connection")
        for_ms = _duration(self._next("a duration")) if self._take("for") else 0
        self._done()
        if for_ms and name not in ENDED:
            raise ValueError(f"{name} happens at once, it has no duration")
        if for_ms and name.startswith("refuse_") and "times" not in given:
            given["times"] = 0
        request = FaultRequest.model_validate(given)
        return Line(request, at_ms, after_ms, _end(name) if for_ms else None, for_ms)

    def _value(self, name: str) -> dict[str, Any]:
        reader = _VALUES.get(name)
        if reader is None:
            return {name: True}
        given: dict[str, Any] = {name: reader(self._next("its value"))}
        while name.startswith("refuse_") and self._words and (self._words[0] == "html" or self._words[0][0] == "x"):
            word = self._words.pop(0)
            given |= {"html": True} if word == "html" else {"times": _number(word[1:])}
        return given

    def _take(self, word: str) -> bool:
        if self._words and self._words[0] == word:
            self._words.pop(0)
            return True
        return False

    def _next(self, what: str) -> str:
        if not self._words:
            raise ValueError(f"{what} is missing at its end")
        return self._words.pop(0)

    def _done(self) -> None:
        if self._words:
            raise ValueError(f"`{' '.join(self._words)}` is too much")


def _named(name: str) -> str:
    field_name = _WORDS.get(name, name)
    if field_name in ENDED or field_name in ("drop", "abort", "expire_tokens"):
        return field_name
    known = sorted({"drop", "abort", "expire_tokens", *_WORDS, *ENDED} - set(_WORDS.values()))
    raise ValueError(f"there is no fault `{name}`; there are {', '.join(known)}")


def _end(name: str) -> FaultRequest:
    if name not in ENDED:
        raise ValueError(f"{name} happens at once, there is nothing to end")
    return FaultRequest.model_validate({name: ENDED[name]})


def _time_of_day(text: str) -> int:
    try:
        if not re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", text):
            raise ValueError
        found = time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no time of day: write HH:MM or HH:MM:SS, in Indian time") from None
    return (found.hour * 3600 + found.minute * 60 + found.second) * 1000


def _duration(text: str) -> int:
    ms = _signed(text)
    if ms <= 0 or text[0] == "+":
        raise ValueError(f"{text} is no duration: write something like 500ms, 30s, 3m or 1h")
    return ms


def _signed(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no duration: write something like 500ms, 30s, 3m or 1h")
    sign, number, unit = found.groups()
    return int(float(number) * _UNITS_MS[unit]) * (-1 if sign == "-" else 1)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text or 'nothing'} is no number")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"\d(\.\d+)?|\.\d+", text):
        raise ValueError(f"{text or 'nothing'} is no share: write something like 0.25; 1 is all")
    return float(text)


def _keys(text: str) -> list[str]:
    return [key for key in text.split(",") if key]


_VALUES: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("drop", "cap", "connections", "refuse_authorize", "refuse_connect", "refuse_rest"), _number),
    **dict.fromkeys(("refuse_orders", "order_500", "order_lost", "order_unheard", "order_reject"), _number),
    **dict.fromkeys(("updates_lost", "updates_twice", "updates_reordered"), _share),
    **dict.fromkeys(("ignore", "quiet"), _keys),
    **dict.fromkeys(_WORDS.values(), _signed),
    "partial_fills": _number,
}


@dataclass(slots=True)
class Schedule:
    """What is to happen, by venue time."""

    _waiting: list[tuple[int, int, FaultRequest]] = field(default_factory=list)  # a heap; the number keeps the order
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, line: Line, now_ms: int) -> None:
        due_ms = now_ms + line.after_ms
        if line.at_ms is not None:
            due_ms = midnight_ms(day_of(now_ms)) + line.at_ms
            due_ms += DAY_MS if due_ms < now_ms else 0
        self._push(due_ms, line.request)
        if line.ends is not None:
            self._push(due_ms + line.for_ms, line.ends)

    def _push(self, due_ms: int, request: FaultRequest) -> None:
        heapq.heappush(self._waiting, (due_ms, next(self._numbers), request))

    def due(self, now_ms: int) -> list[FaultRequest]:
        """What is to happen by now, in order; it is taken out."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            found.append(heapq.heappop(self._waiting)[2])
        return found

    def next_ms(self) -> int | None:
        return self._waiting[0][0] if self._waiting else None

    def waiting(self) -> list[tuple[int, FaultRequest]]:
        return [(due_ms, request) for due_ms, _, request in sorted(self._waiting, key=lambda each: each[:2])]

    def clear(self) -> None:
        self._waiting.clear()
