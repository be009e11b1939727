"""Contract terms for any date: the market's own rules, and their continuation where the calendar ends.

The exchange lists next year's contracts long before next year's holidays are published. It does so here too: beyond the
calendar, the last known terms hold and expiries fall on plain Tuesdays.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from market import contracts, sessions

_TUESDAY: Final = 1
_WEEK: Final = timedelta(days=7)


def expiries(underlying: str, on: date, weeklies: int, monthlies: int) -> list[tuple[date, bool]]:
    """The next expiries as (date, is weekly), in order, from `on` itself."""
    known = contracts.expiries(underlying, on, weeklies, monthlies) if _covered(on) == on else []
    wanted = {True: weeklies, False: monthlies}
    for _, weekly in known:
        wanted[weekly] -= 1
    first = max([on, *(expiry + timedelta(days=1) for expiry, _ in known), _end_of_calendar(on)])
    for expiry, weekly in _tuesdays(first):
        if not any(wanted.values()):
            break
        if wanted[weekly]:
            wanted[weekly] -= 1
            known.append((expiry, weekly))
    return known


def lot_size(underlying: str, expiry: date) -> int:
    return contracts.lot_size(underlying, _covered(expiry))


def strike_step(underlying: str) -> float:
    return contracts.strike_step(underlying)


def freeze_quantity(underlying: str, on: date) -> int:
    return contracts.freeze_quantity(underlying, _covered(on))


def share_tick(price: float, on: date) -> float:
    return contracts.cash_tick(price, _covered(on))


def future_tick(price: float, on: date) -> float:
    return contracts.index_future_tick(price, _covered(on))


def option_tick(price: float, on: date) -> float:
    return contracts.option_tick(contracts.UnderlyingKind.INDEX, price, _covered(on))


def _covered(on: date) -> date:
    years = sessions.covered_years()
    return min(max(on, date(years[0], 1, 1)), date(years[-1], 12, 31))


def _end_of_calendar(on: date) -> date:
    return date(sessions.covered_years()[-1] + 1, 1, 1) if _covered(on) == on else on


def _tuesdays(on: date) -> Iterator[tuple[date, bool]]:
    on += timedelta(days=(_TUESDAY - on.weekday()) % 7)
    while True:
        yield on, (on + _WEEK).month == on.month
        on += _WEEK
