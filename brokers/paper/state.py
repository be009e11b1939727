"""What a paper account's facts come to: its orders, trades and money. A fold, and nothing else is remembered.

A restart that reads the facts has the same state. What it does not have again is where an order stood in a queue and
what was taken from the levels shown: both are then assumed the careful way, see `recovered`. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from brokers.paper.account import Account, more_margin
from brokers.paper.facts import Ended, Fact, Filled, Opened, Placed, Terms
from brokers.paper.matching import Shelf, scaled
from brokers.paper.orders import PaperOrder
from brokers.venue import NewOrder, Refused, Update, VenueTrade
from schemas.money import ZERO
from schemas.orders import OrderStatus, Product, Side

_FRESH_MS: Final = 60_000  # fills younger than this at a restart still count as taken from what is shown


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the venue behaves."""

    prefix: str  # of its order ids: accounts do not share them
    plan: str  # of the broker whose fees are charged
    dp: Decimal  # the depository's fee, per share and day of delivery sales
    capital: Decimal
    latency_ms: int
    slippage_bps: Decimal
    always: bool  # the market never closes


@dataclass(slots=True)
class Outcome:
    """What a request or a tick has led to. Updates are for telling once the fact of their number is stored."""

    facts: list[Fact] = field(default_factory=list)
    updates: list[tuple[int, Update]] = field(default_factory=list)


class State:
    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._outcome = Outcome()  # of the call that runs
        self._orders: dict[str, PaperOrder] = {}
        self._tags: dict[str, PaperOrder] = {}
        self._open: dict[int, list[PaperOrder]] = {}  # by instrument, in the order of time
        self._shelves: dict[int, Shelf] = {}
        self._dp_paid: set[str] = set()
        self.trades: list[VenueTrade] = []
        self.account = Account(conduct.capital)
        self.day: date | None = None
        self.seq = 0
        self.ts = 0
        self.watched: frozenset[int] = frozenset()

    # State

    def apply(self, fact: Fact) -> None:
        self.seq, self.ts = fact.seq, max(self.ts, fact.ts)
        if isinstance(fact, Opened):
            self._begin(fact)
            return
        if isinstance(fact, Placed):
            order = PaperOrder.of(fact)
            self._orders[order.venue_order_id] = order
            self._open.setdefault(order.number, []).append(order)
            if order.tag:
                self._tags[order.tag] = order
        else:
            order = self._orders[fact.venue_order_id]
            order.take(fact)
        if isinstance(fact, Filled):
            self._filled(order, fact)
        if not order.is_open:
            self._open[order.number].remove(order)
        self._watch(order.number)

    def _begin(self, fact: Opened) -> None:
        self.day = fact.day
        self.account = Account.of(fact.cash, fact.positions, fact.holdings)
        for everything in (self._orders, self._tags, self._open, self._shelves, self._dp_paid, self.trades):
            everything.clear()
        self.watched = frozenset()

    def _filled(self, order: PaperOrder, fact: Filled) -> None:
        terms = order.placed.terms
        self.account.trade(
            (order.instrument, order.product), terms, order.side, fact.quantity, fact.price, fact.charges
        )
        if fact.charges.dp:
            self._dp_paid.add(order.instrument)
        self.trades.append(order.trade(fact))

    def _watch(self, number: int) -> None:
        """What ticks are looked at for: open orders, and levels that are ours as long as they are shown."""
        if not self._open.get(number):
            self._open.pop(number, None)
        shelf = self._shelves.get(number)
        wanted = number in self._open or (shelf is not None and not shelf.is_clean)
        if wanted is not (number in self.watched):
            self.watched = self.watched | {number} if wanted else self.watched - {number}
        if not wanted:
            self._shelves.pop(number, None)

    def recovered(self, fills: Iterable[Filled]) -> None:
        """After a restart: orders wait at their price behind whatever is shown there, what was taken lately is still
        taken, and ticks that have been matched, and come again, are not matched again."""
        for orders in self._open.values():
            for order in orders:
                order.is_tried = order.match_ms <= self.ts
        for fact in fills:
            order = self._orders[fact.venue_order_id]
            shelf = self._shelves.setdefault(order.number, Shelf())
            shelf.after_ms = max(shelf.after_ms, fact.ts)
            if fact.level is not None and fact.ts >= self.ts - _FRESH_MS:
                taken = shelf.taken[order.side]
                taken[scaled(fact.level)] = taken.get(scaled(fact.level), 0) + fact.quantity
        for number in list(self._shelves):
            self._watch(number)

    # Reading

    @property
    def orders(self) -> list[PaperOrder]:
        return list(self._orders.values())

    def tagged(self, tag: str) -> PaperOrder | None:
        return self._tags.get(tag)

    def order(self, venue_order_id: str) -> PaperOrder:
        order = self._orders.get(venue_order_id)
        if order is None:
            raise Refused("UDAPI100010", f"unknown order: {venue_order_id}", 400)
        return order

    def bound(self, on: date) -> Decimal:
        """Rupees that positions, holdings and open orders bind. An estimate."""
        orders = (order for some in self._open.values() for order in some)
        waiting = (
            self._more(order.placed.terms, order.instrument, order.product, order.side, order.left, _price(order), on)
            for order in orders
        )
        return self.account.bound(on) + sum(waiting, ZERO)

    def available(self, on: date, last: Mapping[str, Decimal]) -> Decimal:
        return self.account.cash + self.account.open_loss(last) - self.bound(on)

    def margin(self, orders: Sequence[NewOrder], terms: Sequence[Terms], on: date) -> Decimal:
        """What orders need together: by instrument and product, as if all were filled."""
        changes: dict[tuple[str, Product], list[tuple[NewOrder, Terms]]] = {}
        for order, own in zip(orders, terms, strict=True):
            changes.setdefault((order.instrument, order.product), []).append((order, own))
        total = ZERO
        for (instrument, product), several in changes.items():
            change = sum(order.side.sign * order.quantity for order, _ in several)
            price = max(order.price or order.trigger_price for order, _ in several)
            before, average = self._held(instrument, product)
            total += more_margin(several[0][1], product, before, average, change, price, on)
        return total

    def _held(self, instrument: str, product: Product) -> tuple[int, Decimal]:
        position = self.account.positions.get((instrument, product))
        return (position.quantity, position.average) if position else (0, ZERO)

    def _more(
        self, terms: Terms, instrument: str, product: Product, side: Side, quantity: int, price: Decimal, on: date
    ) -> Decimal:
        before, average = self._held(instrument, product)
        return more_margin(terms, product, before, average, side.sign * quantity, price, on)

    # Facts

    def _during(self, act: Callable[[], Any]) -> Outcome:
        self._outcome = Outcome()
        act()
        return self._outcome

    def _say(self, fact: Fact) -> None:
        self.apply(fact)
        self._outcome.facts.append(fact)
        if isinstance(fact, Opened):
            return
        if isinstance(fact, Filled):
            self._outcome.updates.append((fact.seq, self.trades[-1]))
        self._outcome.updates.append((fact.seq, self._orders[fact.venue_order_id].told()))

    def _end(self, order: PaperOrder, status: OrderStatus, reason: str, ts: int) -> None:
        fact = Ended(
            seq=self.seq + 1,
            ts=ts,
            venue_order_id=order.venue_order_id,
            tag=order.tag,
            status=status,
            reason=reason,
        )
        self._say(fact)


def _price(order: PaperOrder) -> Decimal:
    return order.price or order.trigger_price
