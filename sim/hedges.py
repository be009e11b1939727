"""What several orders together need of the user's money: alone each, and with what one is worth to the other. Pure.

A hedge here is a bought option beside a sold one of the same kind, underlying and expiry: what the two can lose
together is the distance of their strikes. Everything else is taken alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from market.instruments import Instrument
from sim import margins
from sim.orders import ZERO, rounded


@dataclass(frozen=True, slots=True)
class Line:
    """An order that is asked about. `quantity` is negative for a sale."""

    instrument: Instrument
    product: str
    quantity: int
    price: Decimal
    underlying: Decimal


@dataclass(frozen=True, slots=True)
class Margin:
    span: Decimal = ZERO
    exposure: Decimal = ZERO
    equity: Decimal = ZERO
    premium: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        return self.span + self.exposure + self.equity + self.premium


def alone(line: Line) -> Margin:
    needed = margins.required(line.instrument, line.product, line.quantity, line.price, line.underlying)
    if line.instrument.is_option and line.quantity > 0:
        return Margin(premium=needed)
    if not line.instrument.is_derivative:
        return Margin(equity=needed)
    span = rounded(needed * margins.SPAN_SHARE / (margins.SPAN_SHARE + margins.EXPOSURE_SHARE))
    return Margin(span=span, exposure=needed - span)


def together(lines: Sequence[Line]) -> Decimal:
    """Of all lines, hedges counted."""
    return sum((alone(each).total for each in lines), ZERO) - sum(map(_saved, _chains(lines)), ZERO)


def _chains(lines: Sequence[Line]) -> list[list[Line]]:
    """The options, those that can hedge each other together."""
    found: dict[tuple[str | None, date | None, str], list[Line]] = {}
    for each in lines:
        if each.instrument.is_option:
            name = (each.instrument.underlying, each.instrument.expiry, each.instrument.instrument_type)
            found.setdefault(name, []).append(each)
    return list(found.values())


def _saved(chain: list[Line]) -> Decimal:
    """How much less is blocked because sold options have bought ones beside them, the nearest strikes first."""
    unused = {place: each.quantity for place, each in enumerate(chain) if each.quantity > 0}
    saved = ZERO
    for short in (each for each in chain if each.quantity < 0):
        left, per_unit = -short.quantity, alone(short).span / -short.quantity
        for loss, place in sorted((_loss(short, chain[place]), place) for place in unused):
            units = min(left, unused[place])
            unused[place] -= units
            left -= units
            saved += units * max(per_unit - loss, ZERO)
    return rounded(saved)


def _loss(short: Line, long: Line) -> Decimal:
    """The most that a unit of both can lose, premiums aside."""
    distance = Decimal(str(long.instrument.strike)) - Decimal(str(short.instrument.strike))
    return max(distance if short.instrument.instrument_type == "CE" else -distance, ZERO)
