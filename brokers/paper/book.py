"""The book of a paper venue. Requests, ticks and the time come in, facts come out and are applied at once. Pure."""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from brokers.paper import rules
from brokers.paper.account import morning
from brokers.paper.facts import Changed, Opened, Placed
from brokers.paper.matching import rupees
from brokers.paper.orders import PaperOrder
from brokers.paper.pit import Pit
from brokers.paper.seen import View
from brokers.paper.state import Conduct, Outcome
from brokers.venue import NewOrder, OrderChange, Refused
from market.charges import Deal
from market.instruments import Instrument
from market.sessions import trading_date
from schemas.money import ZERO
from schemas.orders import OrderStatus, OrderType, Product, Side
from schemas.streams import instrument_id

__all__ = ["Book", "Conduct", "Outcome"]

_AUTOMATIC: Final = Decimal(-1)


class Book(Pit):
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
        if not why and placed.product is Product.MTF and placed.terms.kind.deal in (Deal.FUTURE, Deal.OPTION):
            why = "Product MTF is not allowed for this instrument"
        if why or (why := self._undelivered(placed, quantity)):
            return why
        needed = self._binds(placed, quantity, placed.price or trigger, on)
        return self._unpaid(needed, self.available(on, last))

    def _selling(self, instrument: str) -> int:
        """Units of open delivery sales."""
        orders = self._open.get(instrument_id(instrument), [])
        sells = (order for order in orders if order.side is Side.SELL)
        return sum(order.left for order in sells if order.placed.terms.kind.deal is Deal.DELIVERY)

    def change(
        self,
        change: OrderChange,
        instrument: Instrument | None,
        now_ms: int,
        seen: View | None,
        last: Mapping[str, Decimal],
    ) -> Outcome:
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
        if why := self._objection_to_change(order, fact, instrument, seen, last):
            raise Refused("UDAPI100036", why, 400)
        return self._during(lambda: self._say(fact))

    def _objection_to_change(
        self,
        order: PaperOrder,
        new: Changed,
        instrument: Instrument | None,
        seen: View | None,
        last: Mapping[str, Decimal],
    ) -> str:
        if instrument is None:
            return "its instrument is not known any more"
        price, trigger = new.price, new.trigger_price
        if why := rules.objection(new.order_type, order.side, new.quantity, price, trigger, instrument, seen):
            return why
        more = new.quantity - order.quantity
        if more > 0 and (why := self._undelivered(order.placed, more)):
            return why
        on = trading_date(new.ts)
        bound = self._binds(order.placed, order.left, order.price or order.trigger_price, on)
        needed = self._binds(order.placed, new.quantity - order.filled, price or trigger, on) - bound
        return self._unpaid(needed, self.available(on, last))

    def _binds(self, placed: Placed, quantity: int, price: Decimal, on: date) -> Decimal:
        return self._more(placed.terms, placed.instrument, placed.product, placed.side, quantity, price, on)

    def _undelivered(self, placed: Placed, quantity: int) -> str:
        """Why so many more units cannot be sold for delivery; empty: they can, or it is no such sale."""
        if placed.side is Side.BUY or placed.terms.kind.deal is not Deal.DELIVERY:
            return ""
        free = self.account.deliverable(placed.instrument) - self._selling(placed.instrument)
        return f"{quantity} units sold for delivery, {max(free, 0)} held" if quantity > free else ""

    def _unpaid(self, needed: Decimal, available: Decimal) -> str:
        if needed <= 0 or needed <= available:
            return ""
        return f"Insufficient funds: {needed:.2f} rupees needed, {available:.2f} available (estimate)"

    def cancel(self, venue_order_id: str, now_ms: int) -> Outcome:
        order = self.order(venue_order_id)
        if not order.is_open:
            raise Refused("UDAPI100040", f"cancellation of an order that is {order.status.value}", 400)
        return self._during(lambda: self._end(order, OrderStatus.CANCELLED, "", now_ms))


def _is_same(known: PaperOrder, order: NewOrder) -> bool:
    fact = known.placed
    return (fact.instrument, fact.side, fact.quantity, fact.product) == (
        order.instrument,
        order.side,
        order.quantity,
        order.product,
    )
