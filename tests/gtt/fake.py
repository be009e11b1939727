"""A venue in memory that is honest and forgetful, a market of one share, and a desk between them that can lose power.

Everything is synchronous and has its own clock, so a test can end the process between any two steps.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from brokers.venue import (
    CONNECTED,
    Capabilities,
    Funds,
    NewOrder,
    OrderChange,
    Update,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from bus.settings import Settings
from gtt.book.book import Book
from gtt.book.facts import FACT, What
from gtt.book.fold import apply
from gtt.book.rows import Numbered
from gtt.book.touched import Touched
from gtt.desk.desk import Desk
from gtt.desk.effects import Ask, Asked, AskTrades, Books, Down, Effect, Gone, Look, Outcome, SetHalt, Took, Write
from gtt.engine.board import Crossing, Quoted
from gtt.engine.state import Watched
from gtt.risk.limits import Limits, Strategies
from market.instruments import Instrument
from schemas.commands import ORDER_COMMAND, OrderCommand
from schemas.orders import FINAL, OrderStatus, Product, TradingMode
from schemas.ticks import Block
from tests.conftest import settings_in

KEY = "NSE_EQ|INE002A01018"
SHARE = Instrument(
    key=KEY,
    segment="NSE_EQ",
    exchange="NSE",
    name="RELIANCE",
    trading_symbol="RELIANCE",
    instrument_type="EQ",
    lot_size=1,
    tick_size=0.05,
)
START_MS = 1_787_000_000_000
CAN = Capabilities(
    venue="fake",
    market_orders=False,
    stop_orders=True,
    ioc=True,
    modify=True,
    gtt=False,
    gtt_exit_only=False,
    gtt_trailing_share=Decimal("0.1"),
    tag_max=40,
    push_orders=True,
    margin_check=False,
    segments_off=frozenset(),
    products=frozenset(Product),
    budget=((1.0, 10), (60.0, 500), (1800.0, 2000)),
)
PAPER = TradingMode.PAPER


class PowerCut(Exception):
    """The process is gone."""


class Market:
    """`gtt.desk.here.Scene`: one share, always open."""

    def __init__(self, settings: Settings, toml: str = "") -> None:
        self.prices: dict[str, float] = {KEY: 100.0}
        self.watched: dict[str, list[tuple[str, Watched]]] = {}
        self.now_ms = START_MS
        self.egress = ""
        self.always_open = True
        self.listed = True
        self.strategies: tuple[str, ...] = ()
        self._strategies = Strategies(settings, toml)

    def quote(self, key: str) -> Quoted | None:
        price = self.prices.get(key)
        if price is None:
            return None
        flags = int(Block.LTPC | Block.DEPTH)
        return Quoted(price, self.now_ms, price - 0.05, price + 0.05, price, self.now_ms, flags)

    def instrument(self, key: str) -> Instrument | None:
        return SHARE if key == KEY else None

    def band(self, _: str) -> tuple[Decimal, Decimal] | None:
        return None

    def watch(self, gtt_id: str, key: str, on: Iterable[Watched]) -> list[Crossing]:
        self.watched[gtt_id] = [(key, each) for each in on]
        return self.crossings(gtt_id)[:1]

    def crossings(self, gtt_id: str) -> list[Crossing]:
        found = []
        for key, each in self.watched.get(gtt_id, ()):
            price = Decimal(repr(self.prices[key]))
            if (each.low is not None and price <= each.low) or (each.high is not None and price >= each.high):
                found.append(Crossing(gtt_id, each.leg, key, price, self.now_ms, False))
        return found

    def limits(self, strategy: str) -> Limits:
        return self._strategies.of(strategy)

    def market_ms(self, now_ms: int) -> int:
        return now_ms


@dataclass
class Exchange:
    """Keeps its book whatever happens to us. `tells` gathers what its stream would say."""

    now_ms: int = START_MS
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    trades: list[VenueTrade] = field(default_factory=list)
    tells: list[Update] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)  # tags, in the order of arrival
    deaf: bool = False  # nobody can read its books
    mute: bool = False  # its stream is silent
    _number: int = 0

    def place(self, order: NewOrder) -> str:
        self._number += 1
        venue_id = f"V{self._number}"
        self.placed.append(order.order_id)
        self._keep(
            VenueOrder(
                venue_order_id=venue_id,
                tag=order.order_id,
                instrument=order.instrument,
                side=order.side,
                quantity=order.quantity,
                filled_quantity=0,
                average_price=Decimal(0),
                price=order.price,
                trigger_price=order.trigger_price,
                order_type=order.order_type,
                product=order.product,
                validity=order.validity,
                status=OrderStatus.OPEN,
                words="open",
            )
        )
        return venue_id

    def modify(self, change: OrderChange) -> Outcome:
        told = self.orders[change.venue_order_id]
        if told.status in FINAL:
            return Down("E1", f"the order is {told.status.value}")
        self._keep(replace(told, quantity=change.quantity, price=change.price, order_type=change.order_type))
        return Took()

    def cancel(self, venue_id: str) -> Outcome:
        told = self.orders[venue_id]
        if told.status in FINAL:
            return Down("E2", f"the order is {told.status.value}")
        self._keep(replace(told, status=OrderStatus.CANCELLED, words="cancelled"))
        return Took()

    def reject(self, venue_id: str, reason: str) -> None:
        self._keep(replace(self.orders[venue_id], status=OrderStatus.REJECTED, words="rejected", reason=reason))

    def fill(self, venue_id: str, quantity: int, price: str = "100") -> None:
        told = self.orders[venue_id]
        quantity = min(quantity, told.quantity - told.filled_quantity)
        if told.status in FINAL or quantity <= 0:
            return
        done = told.filled_quantity + quantity
        average = (told.average_price * told.filled_quantity + Decimal(price) * quantity) / done
        status = OrderStatus.COMPLETE if done == told.quantity else OrderStatus.OPEN
        self._number += 1
        trade = VenueTrade(
            f"T{self._number}",
            venue_id,
            told.instrument,
            told.side,
            quantity,
            Decimal(price),
            told.product,
            self.now_ms,
        )
        self.trades.append(trade)
        self._keep(replace(told, filled_quantity=done, average_price=average, status=status, words=status.value))
        self._tell(trade)

    def _keep(self, told: VenueOrder) -> None:
        self.now_ms += 1
        told = replace(told, ts=self.now_ms)
        self.orders[told.venue_order_id] = told
        self._tell(told)

    def _tell(self, update: Update) -> None:
        if not self.mute:
            self.tells.append(update)

    def live(self) -> list[VenueOrder]:
        return [told for told in self.orders.values() if told.status not in FINAL]

    def positions(self) -> list[VenuePosition]:
        found: dict[tuple[str, Product], int] = {}
        for trade in self.trades:
            key = (trade.instrument, trade.product)
            found[key] = found.get(key, 0) + trade.side.sign * trade.quantity
        none = Decimal(0)
        return [
            VenuePosition(key, product, units, Decimal(100), 0, none, 0, none)
            for (key, product), units in found.items()
        ]

    def net(self, key: str = KEY) -> int:
        return sum(trade.side.sign * trade.quantity for trade in self.trades if trade.instrument == key)


class Paper:
    """A journal in memory: what was appended survives."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, bytes]] = []

    def append(self, rows: Sequence[Numbered]) -> None:
        self.rows += [(row.n, FACT.dump_json(row.fact)) for row in rows]

    def load(self, told: int) -> tuple[Book, list[tuple[int, Touched]]]:
        book, touched = Book(), []
        for n, body in self.rows:
            done = apply(book, n, FACT.validate_json(body))
            touched += [(n, one) for one in done if n > told]
        return book, touched


#: What may happen to a call: it arrives or not, it is answered or not.
Fate = Callable[[Write], str]  # ok, lost (arrived, no answer), unheard (never arrived, no answer)


def kind(_: Write) -> str:
    return "ok"


class World:
    """Desk, journal, exchange and market, stepped by hand. `cut_at`: the step at which power goes, if ever."""

    def __init__(self, home: Path, *, cut_at: int = 0, fate: Fate = kind, toml: str = "", **settings: Any) -> None:
        self.settings = settings_in(home, teji_calendar="always", **{"teji_risk_position": 1.0, **settings})
        self.market = Market(self.settings, toml)
        self.exchange = Exchange()
        self.paper = Paper()
        self.fate = fate
        self.now_ms = START_MS
        self.inbox: list[tuple[str, OrderCommand, int]] = []  # commands until they are told to be decided
        self.halts: list[str] = []
        self.replies: dict[str, list[bool]] = {}
        self.alerts: list[str] = []
        self.told = 0
        self.steps = 0
        self._cut_at = cut_at
        self.desk = self._started()

    def _started(self) -> Desk:
        book, touched = self.paper.load(self.told)
        desk = Desk(book, self.market, self.settings, {PAPER: CAN})
        self._note(desk, touched, book.n)
        desk.start(self.now_ms)
        return desk

    def restart(self) -> None:
        """The process is another one; the exchange's stream tells nothing of what was."""
        self.exchange.tells.clear()
        self.market.watched.clear()
        self.desk = self._started()
        self.desk.told(self.now_ms, PAPER, CONNECTED)

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._cut_at:
            raise PowerCut

    # Inputs

    def command(self, command_id: str, **body: Any) -> None:
        self.inbox.append((command_id, ORDER_COMMAND.validate_python(body), self.now_ms))

    def buy(self, command_id: str, quantity: int = 10, **more: Any) -> None:
        body = {"instrument_token": KEY, "transaction_type": "BUY", "quantity": quantity, "price": 100, **more}
        self.command(command_id, kind="order.place", **body)

    def price(self, price: float) -> None:
        """A trade at that price, for whoever watches."""
        self.market.prices[KEY] = price
        for gtt_id in list(self.market.watched):
            for crossing in self.market.crossings(gtt_id):
                self.desk.crossed(self.now_ms, crossing, 0, False)

    # Going on

    def go(self, ms: int = 2_000, step_ms: int = 50) -> None:
        """Let time pass, with everything that follows."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.turn()
            self.now_ms += step_ms
            self.market.now_ms = self.now_ms
            self.exchange.now_ms = max(self.exchange.now_ms, self.now_ms)

    def turn(self) -> None:
        decided = []
        for command_id, command, entry_ms in self.inbox:
            if self.desk.command(self.now_ms, command_id, "test", command, entry_ms):
                decided.append(command_id)
        tells, self.exchange.tells = self.exchange.tells, []
        for update in tells:
            self.desk.told(self.now_ms, PAPER, update)
        self.desk.tick(self.now_ms, market_known=True)
        self.desk.second(self.now_ms)
        for _ in range(20):
            self.desk.pump(self.now_ms)
            taken = self.desk.take()
            if not taken:
                break
            self._step()  # before the journal
            self.paper.append(taken.rows)
            self._step()  # after it, before anything leaves
            self._step()  # before it is told
            self._note(self.desk, taken.touched, taken.rows[-1].n if taken.rows else self.told)
            for effect in taken.effects:
                self._perform(effect)
        if decided:
            self._step()  # told, before the place in the streams is
        self.inbox = [entry for entry in self.inbox if entry[0] not in decided]

    def _note(self, desk: Desk, touched: list[tuple[int, Touched]], n: int) -> None:
        self.told = n
        for _, one in touched:
            if one.what == "reply":
                self.replies.setdefault(one.key, []).append(desk.book.commands[one.key].ok)
            elif one.what == "alert":
                self.alerts.append(one.key)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Write():
                self._write(effect)
            case Ask(mode, order_id):
                told = [one for one in self.exchange.orders.values() if one.tag == order_id]
                book = None if self.exchange.deaf else list(self.exchange.orders.values())
                answer = Asked(mode, order_id, self.now_ms, None if self.exchange.deaf else told, book)
                self.desk.asked(self.now_ms, answer)
            case Look(mode) if self.exchange.deaf:
                self.desk.not_compared(self.now_ms, mode, "deaf")
            case Look(mode):
                self.desk.compared(self.now_ms, self.books(mode))
            case AskTrades(mode):
                self.desk.trades_told(self.now_ms, mode, list(self.exchange.trades))
            case SetHalt(why):
                self.halts.append(why)
                self.desk.halt(self.now_ms, why)

    def books(self, mode: TradingMode) -> Books:
        at = self.exchange
        funds = Funds(Decimal(1_000_000))
        return Books(mode, self.now_ms, list(at.orders.values()), list(at.trades), at.positions(), None, funds, ())

    def _write(self, write: Write) -> None:
        self._step()  # before it leaves
        fate = self.fate(write)
        if fate == "unheard":
            outcome: Outcome = Gone("no answer")
        else:
            outcome = self._arrive(write)
            if fate == "lost":
                outcome = Gone("no answer")
        self._step()  # before the answer
        self.desk.called(self.now_ms, write, outcome)

    def _arrive(self, write: Write) -> Outcome:
        if write.what is What.PLACE and write.order is not None:
            return Took(self.exchange.place(write.order))
        if write.what is What.MODIFY and write.change is not None:
            return self.exchange.modify(write.change)
        return self.exchange.cancel(write.venue_id)

    # What has to hold

    def settled(self) -> None:
        """Our book says what the exchange's does."""
        book = self.desk.book
        tags = [told.tag for told in self.exchange.orders.values()]
        assert len(tags) == len(set(tags)), "one order was placed twice"
        for told in self.exchange.orders.values():
            record = book.at_venue(PAPER, told.venue_order_id)
            assert record is not None
            assert (record.order.status, record.order.filled_quantity) == (told.status, told.filled_quantity)
            assert record.traded_quantity == told.filled_quantity
        sent = {r.order.order_id for r in book.orders.values() if r.order.status is not OrderStatus.REJECTED}
        unsent = {r.order.order_id for r in book.orders.values() if not r.order.venue_order_id}
        assert sent - unsent <= set(tags)
        assert book.held(PAPER, KEY, Product.INTRADAY) == self.exchange.net()
        assert not book.waiting, "commands without an answer"
