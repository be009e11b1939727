"""The terms of derivatives by date: expiry days, lots, strike steps, ticks, freeze quantities.

For a contract that a venue lists, the venue's own instrument list is the truth about its lot, tick and strikes. These
rules are for what no list tells: history, contracts that are not listed yet, and the simulated exchange.

An expiry has two dates: the nominal one, from the weekday rule, and the real one. When the nominal day is not a
regular trading day, the contract expires on the last one before it. A Muhurat day is not regular, nor is a Saturday
session.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from math import isfinite
from typing import Any, Final

from market import sessions
from market.tables import Dated, table
from schemas.errors import Rejected

#: Stands for the contracts of any share at NSE, where an underlying is asked for.
SHARE: Final = "SHARE"

_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday")


class UnderlyingKind(StrEnum):
    """The venue's words for what a contract is written on."""

    INDEX = "INDEX"
    EQUITY = "EQUITY"


class UnknownTerm(Rejected):
    """A term of a contract that our sources do not tell. Take it from the venue's instrument list."""

    def __init__(self, term: str, underlying: str, on: date | None = None) -> None:
        when = f" on {on.isoformat()}" if on else ""
        super().__init__(f"no {term} known for {underlying}{when}: take it from the venue's instrument list")
        self.term = term
        self.underlying = underlying
        self.on = on


def underlyings() -> tuple[str, ...]:
    """The indices with rules of their own; contracts on shares are SHARE."""
    return tuple(name for name in table("contracts")["underlying"] if name != SHARE)


def expiries(underlying: str, on: date, weeklies: int, monthlies: int) -> list[tuple[date, bool]]:
    """The next expiries as (date, is_weekly), in order, beginning with `on` itself.

    The week of a monthly expiry has no weekly contract, so `weeklies` are counted without it. Fewer come back where
    the rules know fewer, or where the calendar ends.
    """
    found: list[tuple[date, bool]] = []
    wanted = {True: weeklies, False: monthlies}
    for expiry, is_weekly in _listed(underlying, on):
        if wanted[is_weekly] > 0:
            wanted[is_weekly] -= 1
            found.append((expiry, is_weekly))
        if not any(left > 0 for left in wanted.values()):
            break
    return found


def monthly_expiry(underlying: str, year: int, month: int) -> date:
    """The real date of a month's expiry."""
    terms = _terms(underlying)
    nominal = date(year + month // 12, month % 12 + 1, 1) - _DAY
    while nominal.month == month:
        if _is_monthly(terms, nominal):
            return _real(terms, nominal)
        nominal -= _DAY
    raise UnknownTerm("monthly expiry", underlying, date(year, month, 1))


def lot_size(underlying: str, on: date) -> int:
    """Units per lot of the contract that expires `on`: two expiries of one underlying can have different lots."""
    return _known("lot size", underlying, on, _terms(underlying).lot.on(on))


def strike_step(underlying: str) -> float:
    """Distance of the strikes near the money."""
    step = _terms(underlying).strike_step
    if step is None:
        raise UnknownTerm("strike step", underlying)
    return float(step)


def freeze_quantity(underlying: str, on: date) -> int:
    """The most units that one order may have; the exchange rejects what is above."""
    return _known("freeze quantity", underlying, on, _terms(underlying).freeze.on(on))


def largest_order(underlying: str, on: date) -> int:
    """The freeze quantity in whole lots."""
    lot = lot_size(underlying, on)
    return freeze_quantity(underlying, on) // lot * lot


def cash_tick(price: float, on: date) -> float:
    """Tick of a share, and of its futures, by its last close of the month before."""
    return _tick("cash", price, on)


def index_future_tick(price: float, on: date) -> float:
    """Tick of an index future, by the level of the index."""
    return _tick("index_future", price, on)


def option_tick(underlying_kind: str, price: float, on: date) -> float:
    """Tick of an option, by what it is written on (UnderlyingKind) and the price of that, not of the option."""
    if underlying_kind == UnderlyingKind.INDEX:
        return _tick("index_option", price, on)
    if underlying_kind == UnderlyingKind.EQUITY:
        return _tick("share_option", price, on)
    raise UnknownTerm("option tick", underlying_kind, on)


@dataclass(frozen=True, slots=True)
class _Terms:
    segment: str
    strike_step: float | None
    weekly: Dated[str]
    monthly: Dated[str]
    lot: Dated[int]
    freeze: Dated[int]


@cache
def _terms(underlying: str) -> _Terms:
    row: dict[str, Any] | None = table("contracts")["underlying"].get(underlying)
    if row is None:
        known = ", ".join(underlyings())
        raise Rejected(f"no contract rules for {underlying!r}: there are {known}, and {SHARE} for any share of NSE")
    return _Terms(
        segment=row["segment"],
        strike_step=row.get("strike_step"),
        weekly=_dated(row["weekly"]),
        monthly=_dated(row["monthly"]),
        lot=_dated(row["lot"]),
        freeze=_dated(row["freeze"]),
    )


def _dated(rows: list[dict[str, Any]]) -> Dated[Any]:
    return Dated.of((row["from"], row["is"]) for row in rows)


def _known(term: str, underlying: str, on: date, value: int | None) -> int:
    if on.year not in sessions.covered_years():
        raise sessions.UncoveredDate(on)
    if not value:
        raise UnknownTerm(term, underlying, on)
    return value


def _listed(underlying: str, on: date) -> Iterator[tuple[date, bool]]:
    """Expiries from `on` to the end of the calendar. A real expiry never falls after its nominal day."""
    terms = _terms(underlying)
    if on.year not in sessions.covered_years():
        raise sessions.UncoveredDate(on)
    nominal = on
    while nominal.year in sessions.covered_years():
        is_monthly = _is_monthly(terms, nominal)
        if is_monthly or _is_weekly(terms, nominal):
            expiry = _real(terms, nominal)
            if expiry >= on:
                yield expiry, not is_monthly
        nominal += _DAY


def _is_monthly(terms: _Terms, day: date) -> bool:
    return _weekday(day) == terms.monthly.on(day) and (day + _WEEK).month != day.month


def _is_weekly(terms: _Terms, day: date) -> bool:
    if _weekday(day) != terms.weekly.on(day):
        return False
    monday = day - timedelta(days=day.weekday())
    return not any(_is_monthly(terms, monday + timedelta(days=n)) for n in range(len(_WEEKDAYS)))


def _real(terms: _Terms, nominal: date) -> date:
    while not sessions.keeps_regular_hours(terms.segment, nominal):
        nominal -= _DAY
    return nominal


def _weekday(day: date) -> str:
    return _WEEKDAYS[day.weekday()] if day.weekday() < len(_WEEKDAYS) else ""


@cache
def _tick_table(of: str) -> Dated[list[dict[str, float]]]:
    return Dated.of((row["from"], row["bands"]) for row in table("contracts")["tick"] if row["of"] == of)


def _tick(of: str, price: float, on: date) -> float:
    if not (isfinite(price) and price > 0):
        raise Rejected(f"{price!r} is no price to find a tick for")
    bands = _tick_table(of).on(on)
    if bands is None or on.year not in sessions.covered_years():
        raise sessions.UncoveredDate(on)
    for band in bands:
        if price < band.get("below", price) or price <= band.get("to", 0.0) or not {"below", "to"} & band.keys():
            return band["tick"]
    raise AssertionError(f"the last band of {of} has a limit")
