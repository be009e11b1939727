"""Every order with all its states and trades, found by id and by tag. Pure.

The venue tells of today's orders only; `ever` has the others too, for whoever judges what happened. Beyond a bound the
oldest are forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from sim.hours import day_of
from sim.orders import Order, Status, Trade

_KEPT_MAX: Final = 50_000


@dataclass(slots=True)
class Ledger:
    live: dict[str, Order] = field(default_factory=dict)  # the latest state of what may still change
    ever: dict[str, list[Order]] = field(default_factory=dict)
    trades: dict[str, list[Trade]] = field(default_factory=dict)
    _today: dict[str, None] = field(default_factory=dict)
    _tagged: dict[str, list[str]] = field(default_factory=dict)
    _count: int = 0

    def next_id(self, now_ms: int) -> str:
        self._count += 1
        return f"{day_of(now_ms):%y%m%d}{self._count:09d}"

    def next_number(self) -> int:
        """One more than the last; orders and trades share it."""
        self._count += 1
        return self._count

    def put(self, order: Order) -> None:
        """An order has come to a state."""
        states = self.ever.get(order.order_id)
        if states is None:
            states = self.ever[order.order_id] = []
            self._today[order.order_id] = None
            if order.tag is not None:
                self._tagged.setdefault(order.tag, []).append(order.order_id)
            self._forget()
        states.append(order)
        if order.is_final:
            self.live.pop(order.order_id, None)
        else:
            self.live[order.order_id] = order

    def filled(self, order: Order, quantity: int, price: Decimal, now_ms: int) -> Order:
        """A part of an order has traded; the state it comes to."""
        trade_id = f"{50_000_000 + self.next_number()}"
        trade = Trade(trade_id=trade_id, order_id=order.order_id, quantity=quantity, price=price, at_ms=now_ms)
        self.trades.setdefault(order.order_id, []).append(trade)
        filled = order.filled_quantity + quantity
        status = Status.COMPLETE if filled == order.quantity else Status.OPEN
        value = order.value + quantity * price
        after = order.became(status, now_ms, filled_quantity=filled, value=value, exchange_ms=now_ms)
        self.put(after)
        return after

    def order(self, order_id: str) -> Order | None:
        return self.ever[order_id][-1] if order_id in self._today else None

    def history(self, order_id: str) -> list[Order]:
        return list(self.ever[order_id]) if order_id in self._today else []

    def tagged(self, tag: str) -> list[Order]:
        """The latest state of each of today's orders with the tag."""
        return [self.ever[each][-1] for each in self._tagged.get(tag, ()) if each in self._today]

    def today(self) -> list[Order]:
        return [self.ever[each][-1] for each in self._today]

    def trades_today(self) -> Iterator[tuple[Order, Trade]]:
        for order in self.today():
            for trade in self.trades.get(order.order_id, ()):
                yield order, trade

    def next_day(self) -> None:
        """Only what lives is told of from now on."""
        self._today = dict.fromkeys(self.live)

    def _forget(self) -> None:
        while len(self.ever) > _KEPT_MAX:
            oldest = next((each for each in self.ever if each not in self.live), None)
            if oldest is None:
                return
            tag = self.ever.pop(oldest)[-1].tag
            self.trades.pop(oldest, None)
            self._today.pop(oldest, None)
            if tag is not None:
                self._tagged[tag].remove(oldest)
