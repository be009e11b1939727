"""Where orders and ticks meet. Pure."""

from decimal import Decimal
from typing import Final

from brokers.paper import rules
from brokers.paper.facts import Filled, How, Triggered
from brokers.paper.matching import Shelf, Take, rupees, scaled
from brokers.paper.orders import PaperOrder
from brokers.paper.seen import View
from brokers.paper.state import Outcome, State
from market.charges import Deal, of_fill, of_traded
from schemas.money import Charges
from schemas.orders import OrderStatus, OrderType, Side, Validity

_BPS: Final = Decimal(10_000)


class Pit(State):
    def unseen(self, number: int, now_ms: int) -> Outcome:
        """No quote is known of an instrument: what does not wait, ends."""
        return self._during(lambda: self._unseen(number, now_ms))

    def _unseen(self, number: int, now_ms: int) -> None:
        for order in list(self._open.get(number, ())):
            if order.validity is Validity.IOC and not order.is_tried and order.can_match(now_ms):
                self._end(order, OrderStatus.CANCELLED, "IOC: no quote is known", now_ms)

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
            takes = shelf.take(view, order.side, order.limit, order.left, self._conduct.slippage_bps / _BPS, tick)
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
