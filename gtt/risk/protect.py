"""Market orders that are none: a limit some percent around the price, and what becomes of its unfilled rest. Pure.

Exchanges take no plain market orders from programs. The venue has a table of percentages for its own protection, of
which two parts are documented; for the rest we have rows of our own, on the narrow side: an order that stays open can
be chased, one that was filled far away cannot be taken back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from bus.settings import Leftover
from market.instruments import Instrument
from schemas.money import ZERO
from schemas.orders import Side

CHASES_MAX: Final = 3
AUTOMATIC: Final = Decimal(-1)
_HUNDRED: Final = Decimal(100)
#: An exit reaches for the other side of the book, but this many times its percentage away at most.
_REACH: Final = 3


@dataclass(frozen=True, slots=True)
class Band:
    """`percent` for prices below `below`; None: whatever is above the row before."""

    below: Decimal | None
    percent: Decimal
    documented: bool = True  # by the venue


def _bands(*rows: tuple[str, str, bool]) -> tuple[Band, ...]:
    return tuple(Band(Decimal(below) if below else None, Decimal(part), told) for below, part, told in rows)


#: Where two documented rows meet, the narrower one has the price that both name.
TABLE: Final[Mapping[str, tuple[Band, ...]]] = {
    "share, future": _bands(("50", "3", True), ("500", "2", True), ("10000", "1", True), ("", "0.5", True)),
    "option": _bands(("5", "15", True), ("10", "10", True), ("100", "5", False), ("500", "3", False), ("", "2", False)),
    "currency": _bands(("", "0.5", False)),
}


def percent(instrument: Instrument, price: Decimal, asked: Decimal) -> Decimal:
    """Of the price: what is asked, or, where that is -1, the table."""
    if asked != AUTOMATIC:
        return asked
    if instrument.is_option:
        rows = TABLE["option"]
    elif instrument.segment in ("NCD_FO", "BCD_FO"):
        rows = TABLE["currency"]
    else:
        rows = TABLE["share, future"]
    return next(row.percent for row in rows if row.below is None or price < row.below)


def reference(side: Side, *, ltp: Decimal | None, bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    """The price to protect from: the last one, as far as the quotes of now confirm it. None: none is known."""
    bid, ask, ltp = (price if price is not None and price > 0 else None for price in (bid, ask, ltp))
    if bid is not None and ask is not None and bid > ask:
        bid = ask = None  # crossed: a moment of no meaning
    if ltp is None:
        return (ask if side is Side.BUY else bid) or bid or ask
    if bid is not None and ltp < bid:
        return bid
    if ask is not None and ltp > ask:
        return ask
    return ltp


def limit_price(
    instrument: Instrument,
    side: Side,
    *,
    ltp: Decimal | None,
    bid: Decimal | None,
    ask: Decimal | None,
    asked: Decimal,
    urgent: bool,
) -> Decimal | None:
    """The limit of a market order, not rounded yet; None where no price is known.

    A tick away from the price at least: of a cheap option the percentage is less. `urgent`: an exit. It goes as far as
    the other side of the book, within three times its percentage.
    """
    base = reference(side, ltp=ltp, bid=bid, ask=ask)
    if base is None:
        return None
    away = distance(instrument, base, asked)
    limit = _beyond(side, base, away)
    touch = ask if side is Side.BUY else bid
    if urgent and touch is not None and touch > 0:
        farthest = _beyond(side, base, away * _REACH)
        if side is Side.BUY:
            limit = max(limit, min(_beyond(side, touch, away), farthest))
        else:
            limit = min(limit, max(_beyond(side, touch, away), farthest))
    return limit


def stop_limit(instrument: Instrument, side: Side, trigger_price: Decimal, asked: Decimal) -> Decimal:
    """The limit of an SL-M order, which becomes SL, a tick away at least; not rounded yet."""
    return _beyond(side, trigger_price, distance(instrument, trigger_price, asked))


def distance(instrument: Instrument, price: Decimal, asked: Decimal) -> Decimal:
    """Rupees between a price and the limit that protects from it."""
    return max(price * percent(instrument, price, asked) / _HUNDRED, Decimal(repr(instrument.tick_size)))


def _beyond(side: Side, price: Decimal, away: Decimal) -> Decimal:
    return max(price + side.sign * away, ZERO)


class Rest(StrEnum):
    """What to do with the unfilled rest of a protected order now."""

    WAIT = "wait"
    KEEP = "keep"  # for good: nothing more to decide
    CANCEL = "cancel"
    CHASE = "chase"  # a new limit around the price of now


@dataclass(frozen=True, slots=True)
class Waiting:
    since_ms: int  # of the order, or of its last chase
    chases: int
    unfilled: int
    reduces: bool


def rest(waiting: Waiting, policy: Leftover, leftover_s: float, now_ms: int) -> Rest:
    """The decision, at any moment. What reduces risk is chased until it is filled, never left or given up."""
    if waiting.unfilled <= 0:
        return Rest.KEEP
    if policy is Leftover.KEEP and not waiting.reduces:
        return Rest.KEEP
    if now_ms - waiting.since_ms < leftover_s * 1000:
        return Rest.WAIT
    if waiting.reduces or (policy is Leftover.CHASE and waiting.chases < CHASES_MAX):
        return Rest.CHASE
    return Rest.CANCEL
