"""What the market would have given, on one side of one instrument: never more than it showed or traded. Pure.

We are not in the book that the feed shows, so what we take from it is still shown afterwards. The shelf remembers how
much of each price is ours: only what is added to a price later can be taken again, until the price leaves the view.
"""

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from brokers.paper.facts import How
from brokers.paper.seen import SCALE, View
from schemas.orders import Side

_Levels = tuple[tuple[int, int], ...]


class Take(NamedTuple):
    """A fill to be. Prices are ten-thousandths of a rupee."""

    price: int
    units: int
    how: How
    level: int | None = None


@dataclass(slots=True)
class Shelf:
    """One instrument: what of the shown is ours already, and how much has traded since the last look."""

    taken: dict[Side, dict[int, int]] = field(default_factory=lambda: {Side.BUY: {}, Side.SELL: {}})
    beyond: dict[Side, int] = field(default_factory=lambda: {Side.BUY: 0, Side.SELL: 0})
    volume: int | None = None
    last_ms: int = 0
    looked: bool = False
    after_ms: int = 0  # records until then have been matched: they come again after a restart

    @property
    def is_clean(self) -> bool:
        return not any(self.taken.values())

    def look(self, view: View) -> int:
        """A new record: returns the units that have traded since the one before, all at its last price, as it seems."""
        for side in Side:
            levels = dict(_offered(view, side))
            kept = {price: min(units, levels[price]) for price, units in self.taken[side].items() if price in levels}
            self.taken[side] = {price: units for price, units in kept.items() if units}
            self.beyond[side] = min(self.beyond[side], _unseen(view, side))
        printed = self._printed(view) if self.looked else 0
        if view.volume is not None:
            self.volume = max(view.volume, self.volume or 0)
        self.looked, self.last_ms = True, max(view.last_ms, self.last_ms)
        return printed

    def _printed(self, view: View) -> int:
        if view.volume is None:  # only last prices: the last trade is all that is told
            return view.last_units if view.last_ms > self.last_ms else 0
        return max(view.volume - self.volume, 0) if self.volume is not None else 0  # smaller: an older state

    def take(self, view: View, side: Side, limit: int, units: int, slippage: Decimal, tick: int) -> list[Take]:
        """What an order gets that comes to this book: level by level, and beyond them with slippage."""
        if not view.has_depth:
            return _at_last(view, side, limit, units)
        takes = [Take(price, got, How.SHOWN, price) for price, got in self._through(view, side, limit, units)]
        left = units - sum(take.units for take in takes)
        levels = _offered(view, side)
        if left and levels and _reaches(side, limit, levels[-1][0]):
            price = _slipped(levels[-1][0], side, slippage, tick)
            got = min(left, _unseen(view, side) - self.beyond[side])
            if got > 0 and _reaches(side, limit, price):
                self.beyond[side] += got
                takes.append(Take(price, got, How.BEYOND))
        return takes

    def cross(self, view: View, side: Side, limit: int, units: int) -> list[Take]:
        """What comes to an order that waits at `limit`: the other side now shown there trades with it, at its price."""
        return [Take(limit, got, How.CROSSED, price) for price, got in self._through(view, side, limit, units)]

    def _through(self, view: View, side: Side, limit: int, units: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for price, shown in _offered(view, side):
            if not units or not _reaches(side, limit, price):
                break
            got = min(units, shown - self.taken[side].get(price, 0))
            if got > 0:
                self.taken[side][price] = self.taken[side].get(price, 0) + got
                found.append((price, got))
                units -= got
        return found


@dataclass(slots=True)
class Queue:
    """The place of an order that waits: the units that stood at its price before it. None: not seen yet."""

    ahead: int | None = None

    def look(self, view: View, side: Side, limit: int) -> None:
        """What stands before it can only become less."""
        if not view.has_depth:
            return
        own = view.bids if side is Side.BUY else view.asks
        if own and _beyond_view(side, limit, own):
            return
        shown = dict(own).get(limit, 0)
        self.ahead = shown if self.ahead is None else min(self.ahead, shown)

    def printed(self, view: View, side: Side, limit: int, units: int, traded: int, ours: int) -> int:
        """How many of `units` the trades of this record give. `traded`: all; `ours`: given to other orders of ours."""
        if view.last is None or traded <= 0 or not _reaches(side, limit, view.last):
            return 0
        if view.last != limit or not view.has_depth:
            self.ahead = 0
            return min(units, max(traded - ours, 0))
        if self.ahead is None:
            return 0
        got = min(units, max(traded - self.ahead - ours, 0))
        self.ahead = max(self.ahead - traded, 0)
        return got


def _offered(view: View, side: Side) -> _Levels:
    """What an order of that side can take."""
    return view.asks if side is Side.BUY else view.bids


def _reaches(side: Side, limit: int, price: int) -> bool:
    return limit >= price if side is Side.BUY else limit <= price


def _beyond_view(side: Side, limit: int, own: _Levels) -> bool:
    """Whether a price of the own side is farther from the touch than what is shown."""
    farthest = own[-1][0]
    return limit < farthest if side is Side.BUY else limit > farthest


def _unseen(view: View, side: Side) -> int:
    total = view.ask_total if side is Side.BUY else view.bid_total
    return 0 if total is None else max(total - sum(units for _, units in _offered(view, side)), 0)


def _slipped(price: int, side: Side, slippage: Decimal, tick: int) -> int:
    """Against us, one tick at least: what is nearer would be shown."""
    away = Decimal(price) * slippage
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    moved = int(((price + side.sign * away) / tick).to_integral_value(rounding)) * tick
    if moved == price:
        moved += side.sign * tick
    return max(moved, tick)


def _at_last(view: View, side: Side, limit: int, units: int) -> list[Take]:
    if view.last is None or not _reaches(side, limit, view.last):
        return []
    return [Take(view.last, units, How.LAST)]


def rupees(price: int) -> Decimal:
    return (Decimal(price) / SCALE).quantize(Decimal("0.0001")).normalize() + 0


def scaled(price: Decimal) -> int:
    return int(price * SCALE)
