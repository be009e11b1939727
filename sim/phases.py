"""What the exchange does with an order of an instrument at a moment. Pure."""

from datetime import date
from enum import Enum, auto

from market.instruments import Instrument, joins_pre_open, session_class
from market.sessions import Interval, Part, Phase, auction_parts
from sim.hours import Hours, day_of


class Stage(Enum):
    BEFORE = auto()  # kept until the day's trading begins
    COLLECTING = auto()  # an auction takes limit and market orders
    LIMITS_ONLY = auto()  # an auction takes limit orders; market orders in it cannot be touched
    FROZEN = auto()  # nothing is taken, changed or cancelled
    CONTINUOUS = auto()
    AFTER = auto()  # kept until the next day's trading begins

    @property
    def is_auction(self) -> bool:
        return self in (Stage.COLLECTING, Stage.LIMITS_ONLY)

    @property
    def is_out_of_session(self) -> bool:
        return self in (Stage.BEFORE, Stage.AFTER)


def stage(hours: Hours, instrument: Instrument, now_ms: int) -> Stage:
    """`now_ms` decides the day. An auction that closed at a moment of its own choice is for the caller to know."""
    on = day_of(now_ms)
    intervals = trading(hours, instrument, on)
    if not intervals or now_ms < intervals[0].start_ms:
        return Stage.BEFORE
    if now_ms >= intervals[-1].end_ms:
        return Stage.AFTER
    for each in intervals:
        if each.start_ms <= now_ms < each.end_ms:
            return Stage.CONTINUOUS if each.phase is Phase.CONTINUOUS else _part(each, now_ms)
    return Stage.FROZEN


def trading(hours: Hours, instrument: Instrument, on: date) -> list[Interval]:
    """The phases of a day in which orders of the instrument meet."""
    found = hours.day(instrument.segment, session_class(instrument, on), on)
    pre_open = any(each.phase is Phase.PRE_OPEN for each in found) and joins_pre_open(instrument, on)
    kept = {Phase.CONTINUOUS, Phase.CLOSING_AUCTION} | ({Phase.PRE_OPEN} if pre_open else set())
    return [each for each in found if each.phase in kept]


def closing_auction_from(hours: Hours, instrument: Instrument, on: date) -> int | None:
    """When continuous trading gives way to the closing auction, for what joins it."""
    starts = (each.start_ms for each in trading(hours, instrument, on) if each.phase is Phase.CLOSING_AUCTION)
    return next(starts, None)


def _part(auction: Interval, now_ms: int) -> Stage:
    for each in auction_parts(auction):
        if each.start_ms <= now_ms < each.end_ms:
            if each.part is Part.ENTRY:
                return Stage.COLLECTING
            return Stage.LIMITS_ONLY if each.part is Part.LIMIT_ONLY else Stage.FROZEN
    return Stage.FROZEN
