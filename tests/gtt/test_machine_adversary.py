"""One GTT against a venue, a market and a machine room that do their worst, in any order.

The venue fills in parts, rejects, cancels by itself, refuses changes and cancellations, and fills what is being
cancelled; its news come late, twice and out of order. The process dies with things asked for and not done. Two things
hold at each moment, by the venue's own books:

- what exits have sold, and could still sell, is never more than what was bought;
- what is held has a stop: waiting at its price, or with orders for all of it, or about to be tried again.

And at the end, when everybody behaves, everything that was held is closed.
"""

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gtt.engine.machine import (
    Cancel,
    ChangeChild,
    Child,
    ChildRefused,
    GttState,
    Modify,
    PlaceChild,
    Trailed,
    due_ts,
)
from schemas.gtt import GttChange, Leg, RuleStatus
from schemas.orders import FINAL, Order, OrderStatus
from tests.gtt.gtt_world import NOW, TERMS, World, body, entry, stop, target

#: Those at which something happens, and their neighbours.
PRICES = st.sampled_from(
    ["95", "100", "107", "108", "110", "119", "120", "121.05", "130", "131", "149.5", "150", "160"]
)
PARTS = st.sampled_from([1, 10, 25, 74])
SIDES = {"BUY": ("ABOVE", "150", "108"), "SELL": ("BELOW", "100", "130")}


class Adversary(RuleBasedStateMachine):
    @initialize(
        side=st.sampled_from(["BUY", "SELL"]),
        how=st.sampled_from(["trigger", "now", "guard"]),
        gap=st.sampled_from([None, "2", "4.05"]),
        protection=st.sampled_from([None, "0", "-1", "3"]),
        freeze=st.sampled_from([0, 25, 60]),
        product=st.sampled_from(["I", "D"]),
    )
    def begin(self, side: str, how: str, gap: str | None, protection: str | None, freeze: int, product: str) -> None:
        when, aim, loss = SIDES[side]
        rules = [target(aim), stop(loss, trailing_gap=gap, market_protection=protection)]
        if how != "guard":
            rules.insert(0, entry(how=when if how == "trigger" else "IMMEDIATE"))
        self.guarded = how == "guard"
        terms = TERMS.model_copy(update={"freeze": freeze})
        asked = body(*rules, side=side, product=product)
        self.world = World(asked, terms=terms, last="120", by_itself=False)
        self.old: list[Order] = []  # states as they were told once
        if how == "now":  # half of its entry is filled
            self.world.deliver()
            self.world.fill(self.world.live()[0], 20)

    # The market, and time

    @rule(prices=st.lists(PRICES, min_size=1, max_size=3), prompt=st.booleans())
    def trade(self, prices: list[str], prompt: bool) -> None:
        for price in prices:
            self.world.trade(price)
            while prompt and self.world.outbox:
                self.world.deliver()

    @rule(told=PRICES)
    def trailed_without_a_trade_of_ours(self, told: str) -> None:
        state, price = self.world.state, Decimal(told)
        stop_at = state.gtt.rule(Leg.STOPLOSS)
        assume(stop_at and (price - stop_at.trigger_price) * state.gtt.transaction_type.sign > 0)
        self.world.event(Trailed(price, self.world.now_ms))

    @rule(ms=st.sampled_from([None, 300, 1_500, 40_000]))
    def wait(self, ms: int | None) -> None:
        if ms is None:
            assume(due_ts(self.world.state))
        self.world.wait(ms)

    # The order desk

    @precondition(lambda self: self.world.outbox)
    @rule()
    def deliver(self) -> None:
        self._remember()
        self.world.deliver()

    @precondition(lambda self: self.world.outbox)
    @rule(final=st.booleans(), data=st.data())
    def refuse(self, final: bool, data: Any) -> None:
        """What was asked for does not happen. (Never finally for an exit: that is for what cannot be protected.)"""
        action = self.world.outbox.pop(data.draw(st.integers(0, len(self.world.outbox) - 1)))
        what: Any = "place"
        if not isinstance(action, PlaceChild):
            what = "change" if isinstance(action, ChangeChild) else "cancel"
        elif action.reduces:
            final = False
        elif action.order_id in self.world.orders:
            return
        if isinstance(action, PlaceChild) and action.order_id in self.world.orders:
            return
        self.world.event(ChildRefused(action.order_id, "refused", final, self.world.now_ms, what))

    @rule()
    def kill_the_process(self) -> None:
        self.world.crash()

    @rule()
    def reread_what_was_written(self) -> None:
        assert GttState.model_validate_json(self.world.state.model_dump_json()) == self.world.state

    # The venue

    def _remember(self) -> None:
        self.old = [*self.old, *self.world.orders.values()][-20:]

    def _some_order(self, data: Any) -> Order:
        live = self.world.live()
        assume(live)
        self._remember()
        number: int = data.draw(st.integers(0, len(live) - 1))
        return live[number]

    @rule(data=st.data(), units=st.one_of(st.none(), PARTS))
    def fill(self, data: Any, units: int | None) -> None:
        order = self._some_order(data)
        rest = order.quantity - order.filled_quantity
        self.world.fill(order, rest if units is None else min(units, rest))

    @rule(data=st.data(), how=st.sampled_from([OrderStatus.REJECTED, OrderStatus.CANCELLED]))
    def end(self, data: Any, how: OrderStatus) -> None:
        order = self._some_order(data)
        assume(how is OrderStatus.CANCELLED or not order.filled_quantity)
        self.world.tell(order, status=how, reason="by the venue")

    @rule(data=st.data(), status=st.sampled_from([OrderStatus.IN_FLIGHT, OrderStatus.UNKNOWN, OrderStatus.OPEN]))
    def another_status(self, data: Any, status: OrderStatus) -> None:
        self.world.tell(self._some_order(data), status=status)

    @rule(data=st.data())
    def old_news(self, data: Any) -> None:
        """A state that was true once, of an order that is over: what is over stays over."""
        over = [one for one in self.old if self.world.orders[one.order_id].status in FINAL]
        assume(over)
        self.world.event(Child(over[data.draw(st.integers(0, len(over) - 1))], self.world.now_ms))

    # The user

    @rule(keep_exits=st.booleans())
    def cancel(self, keep_exits: bool) -> None:
        self.world.event(Cancel("me", self.world.now_ms, keep_exits))

    @precondition(lambda self: self.world.now_ms > NOW + 60_000)
    @rule()
    def expire(self) -> None:
        self.world.expire()

    @rule(n=st.integers(0, 6), gap=st.sampled_from([None, "2", "4.05"]))
    def modify(self, n: int, gap: str | None) -> None:
        gtt = self.world.state.gtt
        sign = gtt.transaction_type.sign
        _, aim, loss = SIDES[gtt.transaction_type.value]
        rules = [
            target(str(Decimal(aim) + sign * n)),
            stop(str(Decimal(loss) + sign * n), trailing_gap=gap),
        ]
        if not self.guarded:
            first = gtt.rule(Leg.ENTRY)
            assert first is not None
            is_open = first.status is not RuleStatus.SCHEDULED
            rules.insert(0, entry(str(first.trigger_price), "IMMEDIATE" if is_open else first.trigger_type.value))
        told = {"type": "MULTIPLE", "quantity": gtt.quantity, "rules": rules, "gtt_order_id": "GTT-1"}
        self.world.event(Modify(GttChange.model_validate(told), self.world.now_ms, self.world.price))

    # What holds

    def bought(self) -> int:
        state = self.world.state
        entries = sum(o.filled_quantity for o in self.world.orders.values() if o.side is state.gtt.transaction_type)
        return entries + (state.gtt.quantity if self.guarded else 0)

    def sold(self) -> int:
        out = self.world.state.exit_side
        return sum(order.filled_quantity for order in self.world.orders.values() if order.side is out)

    @invariant()
    def never_more_out_than_in(self) -> None:
        out = self.world.live(self.world.state.exit_side)
        could = sum(order.quantity - order.filled_quantity for order in out)
        assert self.sold() + could <= self.bought()

    @invariant()
    def what_it_believes_is_what_was(self) -> None:
        gtt = self.world.state.gtt
        assert (gtt.entered, gtt.exited) == (self.bought(), self.sold())

    @invariant()
    def what_is_held_has_a_stop(self) -> None:
        state = self.world.state
        whole = (state.closing and not state.keep_exits) or state.ended
        if not state.gtt.live or state.held <= 0 or whole:
            return
        stop_at = state.gtt.rule(Leg.STOPLOSS)
        assert stop_at is not None
        if stop_at.status is RuleStatus.PENDING:
            assert any(one.leg is Leg.STOPLOSS for one in self.world.on)
            return
        assert stop_at.status in (RuleStatus.TRIGGERED, RuleStatus.OPEN)
        working = sum(child.rest for child in state.children if child.leg is not Leg.ENTRY)
        assert working == state.held or (working < state.held and due_ts(state))

    @invariant()
    def what_is_over_is_over(self) -> None:
        state = self.world.state
        if not state.gtt.live:
            assert not any(child.live for child in state.children)
            assert self.world.on == ()
            assert due_ts(state) == 0
        assert len(state.children) <= 40

    def teardown(self) -> None:
        """Now everybody behaves: the price falls through the stop, and what is held is sold."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.by_itself = True
        world.crash()
        sign = world.state.gtt.transaction_type.sign
        for _ in range(60):
            for order in world.live():
                if order.status is not OrderStatus.OPEN:
                    world.tell(order, status=OrderStatus.OPEN)
            world.trade(Decimal(120) - sign * 60)
            for order in world.live(world.state.exit_side):
                if world.orders[order.order_id].status not in FINAL:
                    world.fill(world.orders[order.order_id])
            if not world.state.gtt.live or (world.state.held <= 0 and world.status(Leg.ENTRY) is RuleStatus.SCHEDULED):
                break
            if world.live(world.state.gtt.transaction_type) and world.state.held <= 0:
                world.event(Cancel("the end", world.now_ms, keep_exits=True))
            world.wait(6_000)
        self.never_more_out_than_in()
        if not (world.state.closing and not world.state.keep_exits) and not world.state.ended:
            assert world.state.held == 0
        assert world.live() == []


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
