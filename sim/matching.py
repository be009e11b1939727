"""One instrument's book as the user's orders meet it. Pure.

The simulated crowd is the book that the feed shows: levels of prices and quantities, replaced at each requote. The
user's orders do not move it. What the user has taken from a level is not there a second time until the book is
requoted, and the user's own orders never trade with each other.

- An order that comes in takes what is shown within its limit, best price first. The rest waits at its limit.
- Who waits stands behind what the book showed at that price; the queue ahead only shrinks: by trades, and when the
  book shows less.
- A trade of the crowd at a better price than ours cannot have passed us: we had it first. One at our price first serves
  the queue ahead.
- Where the crowd's quotes come to cross a waiting order, they trade with it at its price, for it was there first.

Price goes before time among the user's own orders. Prices are whole paise, quantities are units.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Level = tuple[int, int]  # price, quantity


@dataclass(frozen=True, slots=True)
class Fill:
    order_id: str
    price: int
    quantity: int


@dataclass(slots=True)
class Resting:
    """An order, or what is left of it, in the book. `number` is its place in time."""

    order_id: str
    is_buy: bool
    limit: int
    quantity: int
    number: int
    ahead: int = 0  # units of the crowd at its price that came before
    taker: bool = True  # still in reach of what it came to take

    @property
    def rank(self) -> tuple[int, int]:
        """The smaller, the sooner served."""
        return (-self.limit if self.is_buy else self.limit, self.number)

    def reaches(self, price: int) -> bool:
        return price <= self.limit if self.is_buy else price >= self.limit


@dataclass(slots=True)
class Book:
    epoch: int = -1
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    resting: list[Resting] = field(default_factory=list)  # in order of their rank, buyers and sellers mixed
    _taken: dict[tuple[bool, int], int] = field(default_factory=dict)  # (of the asks, price) -> units

    def show(self, epoch: int, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """The crowd quotes anew."""
        self.epoch, self.bids, self.asks = epoch, bids, asks
        self._taken.clear()
        for each in self.resting:
            self._queue_shrinks(each)

    def enter(self, order: Resting, *, most: int | None = None, rests: bool = True) -> list[Fill]:
        """An order arrives and takes what it can; `most` units at once. Without `rests` nothing of it stays."""
        fills = self._take(order, most)
        if rests and order.quantity:
            own = self.bids if order.is_buy else self.asks
            order.ahead = next((quantity for price, quantity in own if price == order.limit), 0)
            insort(self.resting, order, key=lambda each: each.rank)
        return fills

    def collect(self, order: Resting) -> None:
        """An order waits for an auction."""
        insort(self.resting, order, key=lambda each: each.rank)

    def remove(self, order_id: str) -> Resting | None:
        for place, each in enumerate(self.resting):
            if each.order_id == order_id:
                return self.resting.pop(place)
        return None

    def shrink(self, order_id: str, quantity: int) -> None:
        """An order gives up a part of itself and keeps its place."""
        for each in self.resting:
            if each.order_id == order_id:
                each.quantity = quantity

    def cross(self, *, most: int | None = None) -> list[Fill]:
        """What is shown meets what waits."""
        fills = [fill for each in list(self.resting) for fill in self._take(each, most)]
        self._drop_filled()
        return fills

    def printed(self, price: int, quantity: int, *, most: int | None = None) -> list[Fill]:
        """The crowd has traded so much at a price."""
        fills = [
            fill
            for is_buy in (True, False)
            for fill in _served([each for each in self.resting if each.is_buy is is_buy], price, quantity, most)
        ]
        self._drop_filled()
        return fills

    def auctioned(self, price: int, quantity: int, *, most: int | None = None) -> list[Fill]:
        """An auction has matched at a price: all who accept it, up to what was traded in it."""
        left = {True: quantity, False: quantity}
        fills = []
        for each in self.resting:
            if each.reaches(price) and (units := _capped(min(each.quantity, left[each.is_buy]), most)):
                left[each.is_buy] -= units
                each.quantity -= units
                fills.append(Fill(each.order_id, price, units))
        self._drop_filled()
        return fills

    @property
    def is_thinned(self) -> bool:
        """Whether something of what is shown has been taken."""
        return bool(self._taken)

    def _take(self, order: Resting, most: int | None) -> list[Fill]:
        levels = self.asks if order.is_buy else self.bids
        if not levels or not order.reaches(levels[0][0]):
            order.taker = False  # the crowd is out of its reach: from now on others come to it
            return []
        fills = []
        left = _capped(order.quantity, most)
        for price, shown in levels:
            if not left or not order.reaches(price):
                break
            taken = self._taken.get((order.is_buy, price), 0)
            units = min(left, shown - taken)
            if units > 0:
                self._taken[order.is_buy, price] = taken + units
                left -= units
                order.quantity -= units
                fills.append(Fill(order.order_id, price if order.taker else order.limit, units))
        return fills

    def _queue_shrinks(self, order: Resting) -> None:
        own = self.bids if order.is_buy else self.asks
        if not own or (order.reaches(own[0][0]) and order.limit != own[0][0]):
            order.ahead = 0  # nobody waits at a better price than the best one shown
        elif order.ahead and abs(order.limit - own[0][0]) <= abs(own[-1][0] - own[0][0]):
            order.ahead = min(order.ahead, next((units for price, units in own if price == order.limit), 0))

    def _drop_filled(self) -> None:
        self.resting = [each for each in self.resting if each.quantity]


def _served(waiting: list[Resting], price: int, quantity: int, most: int | None) -> Iterator[Fill]:
    """Those of one side that a trade of the crowd reaches, in order of their rank."""
    passed = 0  # units of the crowd at this price that have had their turn
    for each in waiting:
        if not each.reaches(price):
            break
        if each.limit == price:
            queued = min(quantity, max(each.ahead - passed, 0))
            passed += queued
            quantity -= queued
            each.ahead = max(each.ahead - passed, 0)
        units = _capped(min(quantity, each.quantity), most)
        if units:
            quantity -= units
            each.quantity -= units
            yield Fill(each.order_id, price if each.taker else each.limit, units)


def _capped(units: int, most: int | None) -> int:
    return units if most is None else min(units, most)
