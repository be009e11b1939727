"""What trades came to: a sale against the purchase that it ends, the oldest first. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from market.instruments import Instrument


@dataclass(frozen=True, slots=True)
class Deed:
    """A trade of the user. `quantity` is negative for a sale."""

    instrument: Instrument
    product: str
    quantity: int
    price: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A quantity that was bought and sold, in whichever order."""

    instrument: Instrument
    quantity: int
    bought_ms: int
    bought_at: Decimal
    sold_ms: int
    sold_at: Decimal

    @property
    def ended_ms(self) -> int:
        return max(self.bought_ms, self.sold_ms)

    @property
    def profit(self) -> Decimal:
        return self.quantity * (self.sold_at - self.bought_at)


def closed(deeds: Iterable[Deed]) -> list[Closed]:
    """In the order in which they were closed. What is open still is left out."""
    found: list[Closed] = []
    waiting: dict[tuple[str, str], deque[Deed]] = {}
    for deed in deeds:
        queue = waiting.setdefault((deed.instrument.key, deed.product), deque())
        left = deed
        while left.quantity and queue and queue[0].quantity * left.quantity < 0:
            units = min(abs(queue[0].quantity), abs(left.quantity))
            found.append(_pair(queue[0], left, units))
            queue[0] = _less(queue[0], units)
            left = _less(left, units)
            if not queue[0].quantity:
                queue.popleft()
        if left.quantity:
            queue.append(left)
    return found


def _pair(one: Deed, other: Deed, units: int) -> Closed:
    buy, sell = (one, other) if one.quantity > 0 else (other, one)
    return Closed(one.instrument, units, buy.at_ms, buy.price, sell.at_ms, sell.price)


def _less(deed: Deed, units: int) -> Deed:
    return replace(deed, quantity=deed.quantity - units if deed.quantity > 0 else deed.quantity + units)
