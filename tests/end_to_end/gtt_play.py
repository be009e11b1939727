"""One GTT scenario at work: an instrument of its own, prices, commands, and what is expected of rules and positions."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from market.instruments import Instrument
from schemas.gtt import Gtt, Leg, RuleState, RuleStatus
from schemas.orders import FINAL, Order, Side
from schemas.replies import Decision
from sim.orders import Order as VenueOrder
from tests.end_to_end.gtt_stack import DEADLINE_S, Stack

GUARDING = (RuleStatus.PENDING, RuleStatus.TRIGGERED, RuleStatus.OPEN)


class Way(StrEnum):
    """Who fills, and who watches."""

    PAPER = "paper"  # the paper venue, our engine
    OURS = "ours"  # the simulated Upstox, our engine
    VENUE = "venue"  # the simulated Upstox, its own engine

    @property
    def mode(self) -> str:
        return "paper" if self is Way.PAPER else "live"

    @property
    def is_ours(self) -> bool:
        return self is not Way.VENUE


def entry(kind: str, price: float, protection: float | None = 1) -> dict[str, Any]:
    return _rule("ENTRY", kind, price, protection)


def target(price: float, protection: float | None = 1) -> dict[str, Any]:
    return _rule("TARGET", "IMMEDIATE", price, protection)


def stop(price: float, gap: float | None = None, protection: float | None = 1) -> dict[str, Any]:
    return _rule("STOPLOSS", "IMMEDIATE", price, protection) | ({} if gap is None else {"trailing_gap": gap})


def _rule(leg: str, kind: str, price: float, protection: float | None) -> dict[str, Any]:
    rule: dict[str, Any] = {"strategy": leg, "trigger_type": kind, "trigger_price": price}
    return rule if protection is None else rule | {"market_protection": protection}


class Play:
    def __init__(self, here: Stack, way: Way, instrument: Instrument) -> None:
        self.here = here
        self.way = way
        self.key = instrument.key
        self.lot = instrument.lot_size
        self.freeze = instrument.freeze_quantity

    # What is done

    async def price(self, price: float, **more: Any) -> None:
        """The instrument trades there, and the order worker has seen it."""
        await self.here.trade(self.key, price, **more)
        await self.here.seen(self.key, price)

    def thin(self, near: float, least: int, trades: int) -> float:
        """A price at which, so many trades from now, the book has clearly less than `least`."""
        prices = (round(near + 0.05 * step, 2) for step in range(200))
        return next(each for each in prices if self.here.will_show(self.key, each, trades) + 3 * self.lot < least)

    def body(self, *rules: dict[str, Any], quantity: int = 0, side: str = "BUY", product: str = "I") -> dict[str, Any]:
        return {
            "type": "SINGLE" if len(rules) == 1 else "MULTIPLE", "quantity": quantity or self.lot, "product": product,
            "instrument_token": self.key, "transaction_type": side, "rules": list(rules), "mode": self.way.mode,
            "engine": "ours" if self.way.is_ours else "venue",
        }  # fmt: skip

    async def trading(self, price: float, beside: float, true: Callable[[], bool], what: str) -> None:
        """It goes on trading at one price until something is true."""
        end_s = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < end_s, f"in {DEADLINE_S} s not: {what}; {self.state()}"
            await self.here.trade(self.key, price, beside=beside, quantity=0)
            await asyncio.sleep(0.2)  # the market's pace

    async def place(self, *rules: dict[str, Any], **more: Any) -> "Placed":
        body = self.body(*rules, **more)
        said = await self.here.ask("gtt.place", {"body": body})
        assert said.ok, f"{said.rule}: {said.reason}"
        return Placed(self, said.gtts[0].gtt_order_id)

    async def refused(self, *rules: dict[str, Any], **more: Any) -> Decision:
        """A body that is not taken; nothing of it is at the exchange."""
        said = await self.here.ask("gtt.place", {"body": self.body(*rules, **more)})
        assert not said.ok, said
        assert self.at_exchange() == []
        return said

    async def order(self, side: str, quantity: int = 0, price: float = 0) -> Order:
        """An order by hand."""
        kind: dict[str, Any] = {"order_type": "LIMIT", "price": price} if price else {"order_type": "MARKET"}
        body = {"instrument_token": self.key, "transaction_type": side, "quantity": quantity or self.lot}
        said = await self.here.ask("order.place", {**body, **kind, "mode": self.way.mode})
        assert said.ok, said.reason
        return said.orders[0]

    # What is expected

    def orders(self) -> list[Order]:
        told = self.here.told.orders.values()
        return [each for each in told if each.instrument == self.key and each.mode.value == self.way.mode]

    def at_exchange(self) -> list[VenueOrder]:
        """Every order that the exchange has ever had of it."""
        book = self.here.market.trading.ledger.today()
        return [each for each in book if each.instrument.key == self.key]

    @property
    def position(self) -> int:
        told = (p for (mode, key, _), p in self.here.told.positions.items() if (mode, key) == (self.way.mode, self.key))
        return sum(each.quantity for each in told)

    def gtts(self) -> list[Gtt]:
        newest = (tellings[-1] for tellings in self.here.told.gtts.values())
        return [each for each in newest if each.instrument == self.key and each.mode.value == self.way.mode]

    async def holds(self, quantity: int) -> None:
        await self.here.told.until(lambda: self.position == quantity, lambda: f"{quantity} held; {self.state()}")

    async def until(self, true: Any, what: str) -> None:
        await self.here.told.until(true, lambda: f"{what}; {self.state()}")

    async def over(self, quantity: int = 0) -> None:
        """Nothing is under way any more; here and at the exchange the same is held and was traded."""

        def quiet() -> bool:
            return (
                self.position == quantity
                and all(each.status in FINAL for each in self.orders())
                and all(each.is_final for each in self._sent())
                and not any(gtt.live for gtt in self.gtts())
                and not self.differs()
            )

        await self.until(quiet, f"over with {quantity}")

    def says(self, words: str) -> bool:
        """Whether people were called with these words."""
        return any(words in each for each in self.here.told.alerts)

    def _sent(self) -> list[VenueOrder]:
        return [] if self.way is Way.PAPER else self.at_exchange()

    def differs(self) -> str:
        """In what the tellings of orders, fills and positions do not add up, or are not those of the exchange."""
        told = self.here.told.fills.values()
        fills = [each for each in told if (each.instrument, each.mode.value) == (self.key, self.way.mode)]
        if sum(each.side.sign * each.quantity for each in fills) != self.position:
            return "fills and position"
        if sum(each.quantity for each in fills) != sum(each.filled_quantity for each in self.orders()):
            return "fills and orders"
        if self.way is Way.PAPER:
            return ""
        sent = self.at_exchange()
        tags = [each.tag for each in sent if each.tag]
        if len(tags) != len(set(tags)):
            return "two orders of one tag"
        ours = {each.venue_order_id: each.filled_quantity for each in self.orders() if each.venue_order_id}
        if ours != {each.order_id: each.filled_quantity for each in sent}:
            return "orders here and at the exchange"
        traded = sum(each.filled_quantity * (1 if each.is_buy else -1) for each in sent)
        return "" if traded == self.position else "position here and at the exchange"

    def state(self) -> str:
        """For the words of a failure."""
        gtts = [
            f"{gtt.gtt_order_id} {gtt.engine.value} entered {gtt.entered} exited {gtt.exited} live {gtt.live}: "
            + ", ".join(f"{r.strategy.value} {r.status.value} {r.trigger_price} {r.message!r}" for r in gtt.rules)
            for gtt in self.gtts()
        ]
        orders = [
            f"{o.order_id} {o.side.value} {o.filled_quantity}/{o.quantity} at {o.price}, "
            f"filled at {o.average_price}, {o.status.value} {o.reason!r}"
            for o in self.orders()
        ]
        sent = [
            f"{o.order_id} {'BUY' if o.is_buy else 'SELL'} {o.filled_quantity}/{o.quantity} at {o.price}, "
            f"filled at {o.average_price}, {o.status.value}"
            for o in self.at_exchange()
        ]
        what = f"{self.way} {self.key}: {self.position} held, differs: {self.differs() or 'nothing'}"
        return "\n  ".join([what, *gtts, *orders, "exchange:", *sent])


@dataclass(frozen=True, slots=True)
class Placed:
    """A GTT that was taken."""

    play: Play
    gtt_id: str

    @property
    def tellings(self) -> list[Gtt]:
        return self.play.here.told.gtts.get(self.gtt_id, [])

    @property
    def now(self) -> Gtt:
        return self.tellings[-1]

    def rule(self, leg: str) -> RuleState:
        found = self.now.rule(Leg(leg))
        assert found is not None
        return found

    def status(self, leg: str) -> str:
        """Empty: there is no such rule (yet)."""
        found = self.now.rule(Leg(leg))
        return found.status.value if found else ""

    @property
    def statuses(self) -> str:
        return " ".join(rule.status.value for rule in self.now.rules)

    async def stands(self, statuses: str, **more: Any) -> None:
        """Its rules come to stand like this, in their order, and the fields of it too."""

        def there() -> bool:
            return self.statuses == statuses and all(getattr(self.now, name) == value for name, value in more.items())

        await self.play.until(there, f"{self.gtt_id} {statuses} {more}")

    async def at(self, leg: str, price: float) -> None:
        """The trigger price of a rule comes to be this."""
        await self.play.until(lambda: self.rule(leg).trigger_price == Decimal(str(price)), f"{leg} at {price}")

    async def modify(self, *rules: dict[str, Any], quantity: int = 0) -> Decision:
        kind = "SINGLE" if len(rules) == 1 else "MULTIPLE"
        body = {"gtt_order_id": self.gtt_id, "type": kind, "quantity": quantity or self.now.quantity}
        return await self.play.here.ask("gtt.modify", {"body": {**body, "rules": list(rules)}})

    async def modified(self, *rules: dict[str, Any], **more: Any) -> None:
        said = await self.modify(*rules, **more)
        assert said.ok, f"{said.rule}: {said.reason}"

    async def cancel(self) -> Decision:
        return await self.play.here.ask("gtt.cancel", {"gtt_order_id": self.gtt_id})

    async def cancelled(self) -> None:
        said = await self.cancel()
        assert said.ok, f"{said.rule}: {said.reason}"

    def always_guarded(self) -> None:
        """At no telling was something held while no exit waited for its price or was at work."""
        for gtt in self.tellings:
            exits = [rule.status for rule in gtt.rules if rule.strategy is not Leg.ENTRY]
            if gtt.live and gtt.entered > gtt.exited and exits:
                assert any(status in GUARDING for status in exits), gtt

    def side(self, leg: str) -> Side:
        return self.rule(leg).transaction_type
