"""When which market trades: phases of a day by segment, session class and date.

Instants are UTC epoch milliseconds and intervals are [start, end). IST (UTC+05:30, no daylight saving) exists only in
here and in the tables. Hours change by date, shares of the closing auction have other hours than their segment, a day
may have several sessions, and a session may fall on a Sunday, so nothing outside may assume 09:15 to 15:30 or 375
minutes: ask `day`.

A year without published holidays is an error and not a guess: a wrong "open" arms orders, a wrong "closed" hides gaps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from market.tables import Dated, table
from schemas.errors import Misconfigured, Rejected
from schemas.ticks import SessionClass

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_IST_MS: Final = 330 * _MINUTE_MS
_EPOCH: Final = date(1970, 1, 1).toordinal()
_SATURDAY: Final = 5
#: Commodity exchanges split a day here: on most holidays only the evening trades.
_EVENING_MINUTE: Final = 17 * 60


class Phase(StrEnum):
    CLOSED = "closed"
    PRE_OPEN = "pre_open"
    CONTINUOUS = "continuous"
    CLOSING_AUCTION = "closing_auction"
    POST_CLOSE = "post_close"


class Part(StrEnum):
    """What the exchange does with orders inside a call auction."""

    FROZEN = "frozen"  # no order is taken
    ENTRY = "entry"  # limit and market orders: new, change, cancel
    LIMIT_ONLY = "limit_only"  # market orders rest and cannot be touched
    MATCHING = "matching"
    BUFFER = "buffer"


@dataclass(frozen=True, slots=True)
class Interval:
    """[start_ms, end_ms) of one phase."""

    phase: Phase
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class AuctionPart:
    """[start_ms, end_ms); from `may_end_ms` on the exchange closes it at a moment of its own choice."""

    part: Part
    start_ms: int
    end_ms: int
    may_end_ms: int


@dataclass(frozen=True, slots=True)
class Holiday:
    """A day that differs from the ordinary week. `confirmed` is false where its hours are not certain."""

    date: date
    description: str
    closed: tuple[str, ...]  # segments without any session that day
    open: tuple[tuple[str, tuple[Interval, ...]], ...]  # segments with hours of their own, and those
    confirmed: bool


class UncoveredDate(Misconfigured):
    """The calendar has no data for a date. The sentence says what to update."""

    def __init__(self, on: date) -> None:
        years = covered_years()
        super().__init__(
            f"no market calendar for {on.isoformat()}: market/data/holidays.toml covers {years[0]} to {years[-1]}; "
            f"update Teji, or add the holidays of {on.year} from the exchanges' circulars (published each December)"
        )
        self.on = on


def segment_of(instrument_key: str) -> str:
    """`NSE_FO|61755` -> `NSE_FO`."""
    return instrument_key.partition("|")[0]


def trading_date(ts_ms: int) -> date:
    """The IST calendar date of an instant."""
    try:
        return date.fromordinal(_EPOCH + (ts_ms + _IST_MS) // _DAY_MS)
    except (ValueError, OverflowError):
        raise Rejected(f"{ts_ms} ms is no date of this calendar") from None


@lru_cache(maxsize=16_384)
def day(segment: str, session_class: SessionClass, on: date) -> tuple[Interval, ...]:
    """The phases of a day in order; () when closed. The calendar knows nothing of ALWAYS_OPEN, nor it of segments."""
    if session_class == SessionClass.ALWAYS_OPEN:
        return _at(on, [_Span(Phase.CONTINUOUS, 0, 24 * 60)])
    book = _book(segment)
    if on.year not in covered_years():
        raise UncoveredDate(on)
    if segment.endswith("_INDEX"):  # computed through the cash hours, whatever its shares do
        session_class = SessionClass.ORDINARY
    special = _special_days().get(on)
    if special is not None:
        if book in special.hours:
            return _at(on, special.hours[book])
        if book in special.closed:
            return ()
        if book in special.regular:
            return _at(on, _regular(book, session_class, on))
        if book in special.evening:
            return _at(on, _between(_regular(book, session_class, on), _EVENING_MINUTE, 24 * 60))
        if book in special.morning:
            return _at(on, _between(_regular(book, session_class, on), 0, _EVENING_MINUTE))
    return () if on.weekday() >= _SATURDAY else _at(on, _regular(book, session_class, on))


@lru_cache(maxsize=16_384)
def continuous(segment: str, session_class: SessionClass, on: date) -> tuple[tuple[int, int], ...]:
    """[start, end) of continuous trading, in ms: where minute bars exist."""
    return tuple(
        (interval.start_ms, interval.end_ms)
        for interval in day(segment, session_class, on)
        if interval.phase is Phase.CONTINUOUS
    )


def phase_at(segment: str, session_class: SessionClass, ts_ms: int) -> Phase:
    for interval in day(segment, session_class, trading_date(ts_ms)):
        if interval.start_ms <= ts_ms < interval.end_ms:
            return interval.phase
    return Phase.CLOSED


def last_trade_ms(segment: str, session_class: SessionClass, expiry: date) -> int:
    """When a contract that expires on `expiry` stops trading.

    The venue names the expiry, holidays considered, so this needs the rules of the hours and no holidays: contracts
    that expire beyond the covered years trade today. A listed expiry on a day that the calendar calls closed gets
    the regular hours too.
    """
    early: time | None = table("hours")["last_trade"].get(_book(segment))
    if early is not None:
        return _at(expiry, [_Span(Phase.CONTINUOUS, 0, _minute(early))])[0].end_ms
    if expiry.year in covered_years() and (intervals := continuous(segment, session_class, expiry)):
        return intervals[-1][1]
    regular = _at(expiry, _regular(_book(segment), session_class, expiry))
    return max(interval.end_ms for interval in regular if interval.phase is Phase.CONTINUOUS)


def is_trading_day(segment: str, on: date) -> bool:
    """Whether anything trades that day: Muhurat, special and evening sessions count."""
    return bool(continuous(segment, SessionClass.ORDINARY, on))


def keeps_regular_hours(segment: str, on: date) -> bool:
    """Whether `on` is a weekday with the segment's regular hours: the only days on which contracts expire."""
    if on.weekday() >= _SATURDAY:
        day(segment, SessionClass.ORDINARY, on)  # for its refusal of what is not covered
        return False
    regular = _at(on, _regular(_book(segment), SessionClass.ORDINARY, on))
    return day(segment, SessionClass.ORDINARY, on) == regular


def previous_trading_day(segment: str, on: date) -> date:
    """The last trading day before `on`."""
    return _step(segment, on, timedelta(days=-1))


def next_trading_day(segment: str, on: date) -> date:
    """The first trading day after `on`."""
    return _step(segment, on, timedelta(days=1))


@cache
def holidays(year: int) -> tuple[Holiday, ...]:
    """The days of a year that differ from the ordinary week, in order."""
    if year not in covered_years():
        raise UncoveredDate(date(year, 1, 1))
    return tuple(_holiday(on, special) for on, special in sorted(_special_days().items()) if on.year == year)


@cache
def covered_years() -> range:
    data = table("holidays")
    return range(data["first_year"], data["last_year"] + 1)


@cache
def segments() -> tuple[str, ...]:
    """Every segment that the calendar knows."""
    return tuple(table("hours")["segments"])


@lru_cache(maxsize=1_024)
def auction_parts(interval: Interval) -> tuple[AuctionPart, ...]:
    """What may be done with orders inside a pre-open or closing auction; () for other phases."""
    rule = _auctions().get(interval.phase)
    parts = rule.on(trading_date(interval.start_ms)) if rule else None
    return tuple(_auction_parts(interval.start_ms, parts or []))


class _Span(NamedTuple):
    """A phase in minutes of the IST day."""

    phase: Phase
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _SpecialDay:
    description: str
    confirmed: bool
    closed: frozenset[str]
    regular: frozenset[str]
    evening: frozenset[str]
    morning: frozenset[str]
    hours: dict[str, list[_Span]]


def _step(segment: str, on: date, step: timedelta) -> date:
    on += step
    while not is_trading_day(segment, on):
        on += step
    return on


def _at(on: date, spans: list[_Span]) -> tuple[Interval, ...]:
    midnight_ms = (on.toordinal() - _EPOCH) * _DAY_MS - _IST_MS
    return tuple(
        Interval(span.phase, midnight_ms + span.start * _MINUTE_MS, midnight_ms + span.end * _MINUTE_MS)
        for span in spans
    )


def _between(spans: list[_Span], start: int, end: int) -> list[_Span]:
    clipped = [_Span(span.phase, max(span.start, start), min(span.end, end)) for span in spans]
    return [span for span in clipped if span.start < span.end]


def _book(segment: str) -> str:
    book: str | None = table("hours")["segments"].get(segment)
    if book is None:
        raise Rejected(f"unknown segment {segment!r}: the calendar knows {', '.join(segments())}")
    return book


def _regular(book: str, session_class: SessionClass, on: date) -> list[_Span]:
    for name in (SessionClass(session_class).name.lower(), "ordinary"):
        rule = _rules().get((book, name))
        spans = rule.on(on) if rule else None
        if spans is not None:
            return spans
    raise UncoveredDate(on)


@cache
def _rules() -> dict[tuple[str, str], Dated[list[_Span]]]:
    rows: dict[tuple[str, str], list[tuple[date, list[_Span]]]] = {}
    for rule in table("hours")["rule"]:
        spans = [_span(phase, rule[phase]) for phase in Phase if phase in rule]
        rows.setdefault((rule["book"], rule["class"]), []).append((rule["from"], sorted(spans, key=_start)))
    return {key: Dated.of(dated) for key, dated in rows.items()}


@cache
def _special_days() -> dict[date, _SpecialDay]:
    return {row["date"]: _special_day(row) for row in table("holidays")["day"]}


def _special_day(row: dict[str, Any]) -> _SpecialDay:
    hours: dict[str, list[_Span]] = {}
    for block in row.get("hours", []):
        spans = [_span(phase, times) for phase in Phase for times in block.get(phase, [])]
        hours |= dict.fromkeys(block["books"], sorted(spans, key=_start))
    return _SpecialDay(
        description=row["description"],
        confirmed=row.get("confirmed", True),
        closed=frozenset(row.get("closed", [])),
        regular=frozenset(row.get("regular", [])),
        evening=frozenset(row.get("evening", [])),
        morning=frozenset(row.get("morning", [])),
        hours=hours,
    )


def _holiday(on: date, special: _SpecialDay) -> Holiday:
    differs = special.regular | special.evening | special.morning | special.hours.keys()
    trading = {segment: day(segment, SessionClass.ORDINARY, on) for segment in segments()}
    return Holiday(
        date=on,
        description=special.description,
        closed=tuple(segment for segment, intervals in trading.items() if not intervals),
        open=tuple((segment, intervals) for segment, intervals in trading.items() if _book(segment) in differs),
        confirmed=special.confirmed,
    )


@cache
def _auctions() -> dict[Phase, Dated[list[dict[str, Any]]]]:
    rows: dict[Phase, list[tuple[date, list[dict[str, Any]]]]] = {}
    for rule in table("hours")["auction"]:
        rows.setdefault(Phase(rule["phase"]), []).append((rule["from"], rule["parts"]))
    return {phase: Dated.of(dated) for phase, dated in rows.items()}


def _auction_parts(start_ms: int, parts: list[dict[str, Any]]) -> Iterator[AuctionPart]:
    for part in parts:
        end_ms = start_ms + part["minutes"] * _MINUTE_MS
        yield AuctionPart(Part(part["kind"]), start_ms, end_ms, end_ms - part.get("random", 0) * _MINUTE_MS)
        start_ms = end_ms


def _span(phase: str, times: list[time]) -> _Span:
    start, end = times
    return _Span(Phase(phase), _minute(start), _minute(end))


def _minute(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _start(span: _Span) -> int:
    return span.start
