"""Market orders that are none: a limit some percent around the price, and what becomes of its unfilled rest. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from bus.settings import Leftover
from market.instruments import Instrument
from schemas.orders import Side

CHASES_MAX = 3


def percent(instrument: Instrument, price: Decimal, asked: Decimal) -> Decimal:
    """Of the price: what is asked, or, where that is -1, the venue's table."""
    raise NotImplementedError


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
    """The limit of a market order, not rounded yet; None where no price is known."""
    raise NotImplementedError


def stop_limit(instrument: Instrument, side: Side, trigger_price: Decimal, asked: Decimal) -> Decimal:
    """The limit of an SL-M order, which becomes SL; not rounded yet."""
    raise NotImplementedError


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
    """The decision, at any moment. What reduces risk is always chased, never left or given up."""
    raise NotImplementedError
