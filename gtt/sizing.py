"""How many units a signal asks for, and where its stop and target are. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from gtt.limits import Limits
from market.instruments import Instrument
from schemas.orders import Side


@dataclass(frozen=True, slots=True)
class Size:
    """`quantity` 0: `reason` says why. Else `reason` says what it was made from."""

    quantity: int
    reason: str


@dataclass(frozen=True, slots=True)
class Levels:
    """Of a signal: None where nobody knows. `trailing_gap` in rupees."""

    stop: Decimal | None
    target: Decimal | None
    trailing_gap: Decimal | None


def size(
    limits: Limits,
    *,
    instrument: Instrument,
    side: Side,
    price: Decimal,
    capital: Decimal,
    stop: Decimal | None,
    strength: float = 1.0,
    atr: Decimal | None = None,
    volatility: float | None = None,
    win_rate: float | None = None,
    payoff: float | None = None,
    underlying_price: Decimal | None = None,
) -> Size:
    """Whole lots by the limits' sizer, never more than the largest position that the limits allow.

    `capital` is the account's.
    """
    raise NotImplementedError


def levels(
    limits: Limits,
    *,
    instrument: Instrument,
    side: Side,
    price: Decimal,
    stop: Decimal | None,
    target: Decimal | None,
    atr: Decimal | None,
) -> Levels:
    """A signal's own stop and target, else multiples of its ATR, in ticks."""
    raise NotImplementedError
