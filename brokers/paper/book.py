"""The book of a paper venue: a fold of facts. Requests and ticks come in, facts come out and are applied at once.

The state is made of facts only, so a restart that reads them has the same orders, trades and money. What it does not
have again is where an order stood in a queue and what was taken from the levels shown: both are then assumed the
careful way, see `recovered`. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from brokers.paper import rules
from brokers.paper.account import Account, more_margin, morning
from brokers.paper.facts import Changed, Ended, Fact, Filled, How, Opened, Placed, Terms, Triggered
from brokers.paper.matching import Shelf, Take, rupees, scaled
from brokers.paper.orders import PaperOrder
from brokers.paper.seen import View
from brokers.venue import NewOrder, OrderChange, Refused, Update, VenueTrade
from market.charges import Deal, of_fill, of_traded
from market.instruments import Instrument
from market.sessions import trading_date
from schemas.money import ZERO, Charges
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity
from schemas.streams import instrument_id

_BPS: Final = Decimal(10_000)
_FRESH_MS: Final = 60_000  # fills younger than this at a restart still count as taken from what is shown
_AUTOMATIC: Final = Decimal(-1)


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


class Book:
    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._slippage = conduct.slippage_bps / _BPS
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

    # Time

    def advance(self, now_ms: int, last: Callable[[], Mapping[str, Decimal]]) -> Outcome:
        """What the time brings: orders end with their session, and a new day begins."""
        return self._during(lambda: self._advance(now_ms, last))

    def _advance(self, now_ms: int, last: Callable[[], Mapping[str, Decimal]]) -> None:
        for order in [order for orders in self._open.values() for order in orders if order.ends_ms <= now_ms]:
            self._end(order, OrderStatus.CANCELLED, "the session ended", now_ms)
        today = trading_date(now_ms)
        if self.day is None:
            self._say(Opened(seq=self.seq + 1, ts=now_ms, day=today, cash=self._conduct.capital))
        elif today > self.day:
            new = morning(self.account, today, last())
            self._say(
                Opened(
                    seq=self.seq + 1,
                    ts=now_ms,
                    day=today,
                    cash=new.cash,
                    positions=tuple(new.positions),
                    holdings=tuple(new.holdings.values()),
                    settled=tuple(new.settled),
                )
            )

    @property
    def next_end_ms(self) -> int | None:
        return min((order.ends_ms for orders in self._open.values() for order in orders), default=None)

    # Requests

    def place(
        self,
        order: NewOrder,
        instrument: Instrument | None,
        now_ms: int,
        seen: View | None,
        last: Mapping[str, Decimal],
    ) -> tuple[str, Outcome]:
        """The venue's order id. The same tag again is the same order, not another one."""
        if order.order_id and (known := self._tags.get(order.order_id)):
            if not _is_same(known, order):
                raise Refused("UDAPI100036", f"tag: {order.order_id} belongs to another order", 400)
            return known.venue_order_id, Outcome()
        on = trading_date(now_ms)
        terms = rules.checked(order, instrument, on, self._conduct.plan)
        assert instrument is not None
        hours = rules.hours(instrument, now_ms, always=self._conduct.always)
        base = None if seen is None or seen.last is None else rupees(seen.last)
        order_type, price = rules.protected(
            order.order_type, order.side, order.price, terms, order.market_protection, base
        )
        placed = Placed(
            seq=self.seq + 1,
            ts=now_ms,
            venue_order_id=f"{self._conduct.prefix}{on:%y%m%d}{self.seq + 1:09d}",
            tag=order.order_id,
            instrument=order.instrument,
            side=order.side,
            quantity=order.quantity,
            product=order.product,
            order_type=order_type,
            price=ZERO if order_type is OrderType.SL_M else price,
            trigger_price=order.trigger_price if order_type in rules.STOPS else ZERO,
            validity=order.validity,
            protection=order.market_protection if order_type is OrderType.SL_M else None,
            terms=terms,
            match_ms=max(now_ms + self._conduct.latency_ms, hours[0][0]),
            hours=hours,
        )
        why = self._objection(placed, instrument, seen, last, on)
        return placed.venue_order_id, self._during(lambda: self._accept(placed, why))

    def _accept(self, placed: Placed, why: str) -> None:
        self._say(placed)
        if why:
            self._end(self._orders[placed.venue_order_id], OrderStatus.REJECTED, why, placed.ts)

    def _objection(
        self, placed: Placed, instrument: Instrument, seen: View | None, last: Mapping[str, Decimal], on: date
    ) -> str:
        side, quantity = placed.side, placed.quantity
        trigger = placed.trigger_price
        why = rules.objection(placed.order_type, side, quantity, placed.price, trigger, instrument, seen)
        if why:
            return why
        if side is Side.SELL and placed.terms.kind.deal is Deal.DELIVERY:
            free = self.account.deliverable(placed.instrument) - self._selling(placed.instrument)
            if quantity > free:
                return f"{quantity} units sold for delivery, {max(free, 0)} held"
        price = placed.price or trigger
        needed = self._more(placed.terms, placed.instrument, placed.product, side, quantity, price, on)
        free_cash = self.available(on, last)
        if needed and needed > free_cash:
            return f"Insufficient funds: {needed:.2f} rupees needed, {free_cash:.2f} available (estimate)"
        return ""

    def _selling(self, instrument: str) -> int:
        """Units of open delivery sales."""
        orders = self._open.get(instrument_id(instrument), [])
        sells = (order for order in orders if order.side is Side.SELL)
        return sum(order.left for order in sells if order.placed.terms.kind.deal is Deal.DELIVERY)

    def change(self, change: OrderChange, instrument: Instrument | None, now_ms: int, seen: View | None) -> Outcome:
        """It takes as long as a new order, loses its place, and meets no trade meanwhile."""
        order = self.order(change.venue_order_id)
        if not order.is_open:
            raise Refused("UDAPI100041", f"modification of an order that is {order.status.value}", 400)
        if change.quantity <= order.filled:
            raise Refused("UDAPI100036", f"quantity: {order.filled} of the order are filled already", 400)
        terms, base = order.placed.terms, None if seen is None or seen.last is None else rupees(seen.last)
        order_type, price = rules.protected(change.order_type, order.side, change.price, terms, _AUTOMATIC, base)
        if order.triggered and order_type in rules.STOPS:
            order_type = OrderType.LIMIT if price else order.order_type
            price = price or order.price
        why = (
            "its instrument is not known any more"
            if instrument is None
            else rules.objection(order_type, order.side, change.quantity, price, change.trigger_price, instrument, seen)
        )
        if why:
            raise Refused("UDAPI100036", why, 400)
        fact = Changed(
            seq=self.seq + 1,
            ts=now_ms,
            venue_order_id=order.venue_order_id,
            tag=order.tag,
            quantity=change.quantity,
            order_type=order_type,
            price=price,
            trigger_price=change.trigger_price if order_type in rules.STOPS else ZERO,
            validity=change.validity,
            match_ms=now_ms + self._conduct.latency_ms,
        )
        return self._during(lambda: self._say(fact))

    def cancel(self, venue_order_id: str, now_ms: int) -> Outcome:
        order = self.order(venue_order_id)
        if not order.is_open:
            raise Refused("UDAPI100040", f"cancellation of an order that is {order.status.value}", 400)
        return self._during(lambda: self._end(order, OrderStatus.CANCELLED, "", now_ms))

    def unseen(self, number: int, now_ms: int) -> Outcome:
        """No quote is known of an instrument: what does not wait, ends."""
        return self._during(lambda: self._unseen(number, now_ms))

    def _unseen(self, number: int, now_ms: int) -> None:
        for order in list(self._open.get(number, ())):
            if order.validity is Validity.IOC and not order.is_tried and order.can_match(now_ms):
                self._end(order, OrderStatus.CANCELLED, "IOC: no quote is known", now_ms)

    # Matching

    def match(self, number: int, view: View, now_ms: int) -> Outcome:
        """A new record of an instrument that is watched."""
        return self._during(lambda: self._match(number, view, now_ms))

    def _match(self, number: int, view: View, now_ms: int) -> None:
        shelf = self._shelves.setdefault(number, Shelf())
        printed, ours = shelf.look(view), 0
        if view.ts <= shelf.after_ms:
            return
        for order in self._by_priority(number):
            if order.can_match(view.ts) and not self._still_stopped(order, view, now_ms):
                ours += self._meet(order, shelf, view, printed, ours, now_ms)
        self._watch(number)

    def stand(self, number: int, view: View, now_ms: int) -> Outcome:
        """Orders that have not met a book yet meet the one that stands: their latency is over, and nothing ticks."""
        return self._during(lambda: self._stand(number, view, now_ms))

    def _stand(self, number: int, view: View, now_ms: int) -> None:
        shelf = self._shelves.setdefault(number, Shelf())
        if not shelf.looked:
            shelf.look(view)
        for order in self._by_priority(number):
            if not order.is_tried and order.can_match(now_ms) and not self._still_stopped(order, view, now_ms):
                self._meet(order, shelf, view, 0, 0, now_ms)
        self._watch(number)

    @property
    def next_match_ms(self) -> int | None:
        """When an order that has met no book yet may."""
        waiting = (order.match_ms for orders in self._open.values() for order in orders if not order.is_tried)
        return min(waiting, default=None)

    def next_match_ms_after(self, now_ms: int) -> int | None:
        """The same, without what is due already."""
        later = (order.match_ms for orders in self._open.values() for order in orders if not order.is_tried)
        return min((ms for ms in later if ms > now_ms), default=None)

    def due(self, now_ms: int) -> list[int]:
        """Instruments with orders that may meet a book now and have met none."""
        return [
            number
            for number, orders in self._open.items()
            if any(not order.is_tried and order.can_match(now_ms) for order in orders)
        ]

    def _by_priority(self, number: int) -> list[PaperOrder]:
        orders = self._open.get(number, [])
        return sorted(orders, key=lambda order: (-order.side.sign * order.limit, order.seq))

    def _still_stopped(self, order: PaperOrder, view: View, now_ms: int) -> bool:
        """Whether it waits for its trigger; trips it where the last price is there."""
        if not order.is_stop:
            return False
        if view.last is None or (view.last - scaled(order.trigger_price)) * order.side.sign < 0:
            return True
        price = order.price
        if order.order_type is OrderType.SL_M:
            protection = order.placed.protection
            price = rules.protected_limit(order.side, rupees(view.last), order.placed.terms, protection)
        fact = Triggered(
            seq=self.seq + 1,
            ts=now_ms,
            venue_order_id=order.venue_order_id,
            tag=order.tag,
            last_price=rupees(view.last),
            price=price,
        )
        self._say(fact)
        return False

    def _meet(self, order: PaperOrder, shelf: Shelf, view: View, printed: int, ours: int, now_ms: int) -> int:
        """An order and a book; returns the units that it got from `printed`."""
        got = 0
        if not order.is_tried:
            tick = scaled(order.placed.terms.tick)
            takes = shelf.take(view, order.side, order.limit, order.left, self._slippage, tick)
        else:
            got = order.queue.printed(view, order.side, order.limit, order.left, printed, ours)
            takes = [Take(order.limit, got, How.PRINTED)] if got else []
            takes += shelf.cross(view, order.side, order.limit, order.left - got)
        order.is_tried = True
        for take in takes:
            self._trade(order, take, max(view.ts, now_ms))
        if order.is_open:
            order.queue.look(view, order.side, order.limit)
            if order.validity is Validity.IOC:
                self._end(order, OrderStatus.CANCELLED, "IOC: the rest found nobody", now_ms)
        return got

    def _trade(self, order: PaperOrder, take: Take, ts: int) -> None:
        price = rupees(take.price)
        fact = Filled(
            seq=self.seq + 1,
            ts=ts,
            venue_order_id=order.venue_order_id,
            tag=order.tag,
            trade_id=f"{order.venue_order_id}-{self.seq + 1}",
            quantity=take.units,
            price=price,
            how=take.how,
            level=None if take.level is None else rupees(take.level),
            charges=self._charges(order, take.units, price),
        )
        self._say(fact)

    def _charges(self, order: PaperOrder, quantity: int, price: Decimal) -> Charges:
        before = order.traded(self._conduct.plan)
        after = before.plus(quantity, price)
        told = of_fill(before, after)
        if order.side is Side.BUY or order.placed.terms.kind.deal is not Deal.DELIVERY:
            return told
        bought_today = self.account.quantity(order.instrument, order.product)
        if order.instrument in self._dp_paid or quantity <= bought_today or not self._conduct.dp:
            return told
        dp, plain = of_traded(after, dp=self._conduct.dp), of_traded(after)
        fees = {name: getattr(told, name) + getattr(dp, name) - getattr(plain, name) for name in Charges.model_fields}
        return Charges(**fees)

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


def _is_same(known: PaperOrder, order: NewOrder) -> bool:
    fact = known.placed
    return (fact.instrument, fact.side, fact.quantity, fact.product) == (
        order.instrument,
        order.side,
        order.quantity,
        order.product,
    )
