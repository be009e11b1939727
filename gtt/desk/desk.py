"""The desk: everything that may happen, each in one synchronous step that changes the book and leaves facts and effects
in the ledger. The shell writes the facts down and only then lets the effects out.

What an input touches is looked at again (a GTT hears of its orders, a plan of its cancellations) until nothing more
comes of it. Pure: time is an argument.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from brokers.venue import (
    Capabilities,
    Connected,
    Disconnected,
    Update,
    VenueGtt,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from bus.settings import Settings
from gtt.book import facts, worth
from gtt.book.book import Book
from gtt.book.touched import Touched
from gtt.desk import checking, reconcile
from gtt.desk import commands as desk_commands
from gtt.desk import exits as desk_exits
from gtt.desk import gtts as desk_gtts
from gtt.desk import orders as desk_orders
from gtt.desk import orphans as desk_orphans
from gtt.desk import signals as desk_signals
from gtt.desk import venue_gtts as desk_venue_gtts
from gtt.desk.effects import Asked, AskTrades, Books, Outcome, SetHalt, Write
from gtt.desk.here import Here, Runtime, Scene
from gtt.desk.ledger import Ledger, Taken
from gtt.desk.pump import pump
from gtt.engine.board import Crossing
from gtt.risk import risk
from gtt.risk.budget import Budget
from gtt.risk.types import Standing
from schemas.commands import OrderCommand
from schemas.orders import Product, TradingMode
from schemas.signals import Signal

_STEPS_MAX: Final = 10_000  # of one input: more is a circle, and a bug
_MARK_MS: Final = 60_000
_MARK_SHARE: Final = Decimal("0.0005")
_POLL_MS: Final = 2_000  # the books are read this often while the stream is down and something works
_RETRY_LOOK_MS: Final = 1_000
_FUNDS_MS: Final = 1_000  # after a fill, so long until funds and positions are read again
_MARGINS_MAX: Final = 1_000


class Desk:
    def __init__(
        self, book: Book, scene: Scene, settings: Settings, venues: Mapping[TradingMode, Capabilities]
    ) -> None:
        runtime = {}
        for mode, can in venues.items():
            past = [ts for ts, _ in book.account(mode).writes]
            runtime[mode] = Runtime(budget=Budget(can.budget, past_ms=past))
        self.here = Here(Ledger(book), scene, settings, venues, runtime)
        self._marked_ts: dict[TradingMode, int] = {}

    @property
    def book(self) -> Book:
        return self.here.book

    def start(self, now_ms: int) -> None:
        """After a start: what was under way when the last process ended is asked about, everything is compared."""
        here = self._at(now_ms)
        for mode in here.venues:
            self._open_day(mode, known=False)
            here.look(mode)
        for record in list(here.book.live()):
            call = record.call
            if call is None or record.order.mode not in here.venues:
                continue
            if not call.lost:
                here.emit(
                    facts.Lost(
                        ts=now_ms,
                        account=record.order.mode,
                        what=call.what,
                        attempt=call.attempt,
                        order_id=record.order.order_id,
                        reason="the order worker was restarted",
                        arrival_ts=now_ms,
                    )
                )
            desk_orders.ask_soon(here, record)
        desk_venue_gtts.started(here)
        desk_gtts.reattached(here)
        self._settle()

    def take(self) -> Taken:
        """What has been decided since the last call."""
        return self.here.ledger.take()

    # Inputs

    def command(self, now_ms: int, command_id: str, by: str, command: OrderCommand, entry_ms: int) -> bool:
        """False: it is to be told again in a moment."""
        here = self._at(now_ms)
        if desk_commands.waits(here, command_id, command, entry_ms):
            return False
        desk_commands.obey(here, command_id, by, command, entry_ms)
        self._settle()
        return True

    def signal(self, now_ms: int, signal: Signal, entry_ms: int) -> bool:
        here = self._at(now_ms)
        intent_id = desk_signals.intent_of(signal)
        if intent_id in here.book.intents or intent_id in here.decided:
            return True
        if desk_signals.waits(here, signal, entry_ms):
            return False
        decided = desk_signals.heard(here, signal, entry_ms)
        self._settle()
        return decided

    def crossed(self, now_ms: int, crossing: Crossing, received_ns: int, late: bool) -> None:
        here = self._at(now_ms)
        here.tick_ns = 0 if late else received_ns
        desk_gtts.crossed(here, crossing, late)
        self._settle()

    def called(self, now_ms: int, write: Write, outcome: Outcome) -> None:
        here = self._at(now_ms)
        if write.order_id:
            desk_orders.called(here, write, outcome)
        else:
            desk_venue_gtts.called(here, write, outcome)
        self._settle()

    def asked(self, now_ms: int, answer: Asked) -> None:
        desk_orders.asked(self._at(now_ms), answer)
        self._settle()

    def gtts_listed(self, now_ms: int, mode: TradingMode, told: list[VenueGtt] | None, asked_ts: int) -> None:
        here = self._at(now_ms)
        here.runtime[mode].asking_gtts = False
        if told is None:
            here.runtime[mode].gtts_ts = now_ms + _RETRY_LOOK_MS
        else:
            desk_venue_gtts.listed(here, mode, told, asked_ts)
        self._settle()

    def trades_told(self, now_ms: int, mode: TradingMode, told: list[VenueTrade] | None) -> None:
        here = self._at(now_ms)
        runtime = here.runtime[mode]
        runtime.asking_trades = False
        if told is None:
            runtime.trades_ts = now_ms + _RETRY_LOOK_MS
            return
        reconcile.trades(here, mode, told)
        if any(record.untold for record in here.book.live(mode)):
            runtime.trades_ts = now_ms + _RETRY_LOOK_MS
        self._settle()

    def compared(self, now_ms: int, books: Books) -> None:
        here = self._at(now_ms)
        runtime = here.runtime[books.mode]
        runtime.looking, runtime.failed_looks, runtime.looked_ts = False, 0, now_ms
        reconcile.compare(here, books)
        if not runtime.reconciling:
            desk_gtts.compared(here, books.mode)
        self._settle()

    def not_compared(self, now_ms: int, mode: TradingMode, reason: str) -> None:
        here = self._at(now_ms)
        runtime = here.runtime[mode]
        runtime.looking, runtime.looked_ts = False, now_ms
        runtime.failed_looks += 1
        runtime.look_ts = now_ms + _RETRY_LOOK_MS * min(runtime.failed_looks, 10)
        if runtime.failed_looks == 3:
            here.alert(f"{mode.value}: the venue's books cannot be read: {reason}", mode)
        self._settle()

    def told(self, now_ms: int, mode: TradingMode, update: Update) -> None:
        here = self._at(now_ms)
        match update:
            case VenueOrder():
                desk_orders.told_order(here, mode, update, "stream")
            case VenueTrade():
                if not desk_orders.told_trade(here, mode, update):
                    here.look_soon(mode)
            case VenueGtt():
                desk_venue_gtts.seen(here, mode, update)
            case VenuePosition():
                self._position(mode, update)
            case Connected():
                here.runtime[mode].connected = here.runtime[mode].reconciling = True
                here.look_soon(mode)
            case Disconnected(reason):
                if here.runtime[mode].connected:
                    here.alert(f"{mode.value}: the venue's stream of updates is down: {reason}", mode)
                here.runtime[mode].connected = False
        self._settle()

    def _position(self, mode: TradingMode, update: VenuePosition) -> None:
        """A hint: where it is not what our fills add up to, the books are compared in a moment."""
        here = self.here
        if here.book.held(mode, update.instrument, update.product) != update.quantity:
            runtime = here.runtime[mode]
            runtime.look_ts = runtime.look_ts or here.now_ms + _RETRY_LOOK_MS

    def margin(self, now_ms: int, intent_id: str, needed: Decimal | None) -> None:
        """None: the venue would not say."""
        here = self._at(now_ms)
        here.asking_margin.discard(intent_id)
        here.margins[intent_id] = needed
        while len(here.margins) > _MARGINS_MAX:
            here.margins.pop(next(iter(here.margins)))

    def halt(self, now_ms: int, why: str) -> None:
        here = self._at(now_ms)
        if why and why != here.book.halted:
            here.emit(facts.Halted(ts=now_ms, why=why))
        elif not why and here.book.halted:
            here.emit(facts.Resumed(ts=now_ms))
        self._settle()

    def limits_changed(self, now_ms: int, told: str) -> None:
        """The strategies file is another one, or could not be read."""
        here = self._at(now_ms)
        here.alert(told)
        for name in {*here.book.strategies, *here.scene.strategies}:
            here.ledger.tell_again(Touched("strategy", name))

    # Time

    def tick(self, now_ms: int, *, market_known: bool) -> None:
        """A few times a second: whatever is due."""
        here = self._at(now_ms)
        for mode, runtime in here.runtime.items():
            self._open_day(mode, known=market_known)
            self._look(mode, runtime)
            if runtime.trades_ts and runtime.trades_ts <= now_ms and not runtime.asking_trades:
                runtime.trades_ts, runtime.asking_trades = 0, True
                here.want(AskTrades(mode))
        desk_gtts.write_down(here)
        desk_gtts.due(here, market_known=market_known)
        desk_orders.ask(here)
        desk_venue_gtts.ask(here)
        desk_exits.leftovers(here)
        desk_exits.go_on(here)
        self._settle()

    def second(self, now_ms: int) -> None:
        """Once a second: what needs no haste."""
        here = self._at(now_ms)
        desk_exits.square_off(here)
        desk_orphans.mind(here)
        for mode in here.venues:
            self._mark(mode)
        self._settle()

    def pump(self, now_ms: int) -> None:
        here = self._at(now_ms)
        desk_orders.ask(here)
        desk_commands.answer(here)
        pump(here)
        self._settle()
        desk_commands.answer(here)
        here.tick_ns = 0

    def _look(self, mode: TradingMode, runtime: Runtime) -> None:
        if runtime.looking:
            return
        if not runtime.look_ts:
            runtime.look_ts = self.here.now_ms + int(self.here.settings.teji_reconcile_s * 1000)
        due_ts = runtime.look_ts
        if not runtime.connected and any(True for _ in self.here.book.live(mode)):
            due_ts = min(due_ts, runtime.looked_ts + _POLL_MS)
        if due_ts <= self.here.now_ms:
            self.here.look(mode)

    def _open_day(self, mode: TradingMode, *, known: bool) -> None:
        """A new trading date, by the market's clock; the first one by whatever clock there is."""
        here = self.here
        account, today = here.book.account(mode), here.today.isoformat()
        if account.day == today or (account.day and not known):
            return
        capital = here.settings.teji_capital
        own = {
            name: worth.own_equity(account, name, capital * here.scene.limits(name).share, here.price)
            for name in worth.strategies_of(account)
        }
        equity = worth.equity(account, capital, here.price)
        here.emit(facts.DayOpened(ts=here.now_ms, account=mode, day=today, equity=equity, own=own))
        here.runtime[mode].told.clear()

    def _mark(self, mode: TradingMode) -> None:
        """The highest equity is remembered; a limit that is broken halts, once a day."""
        here = self.here
        account, capital = here.book.account(mode), here.settings.teji_capital
        tally = worth.tally(account, capital, here.price)
        peak = account.peak if account.peak is not None else capital
        due = here.now_ms - self._marked_ts.get(mode, 0) >= _MARK_MS
        if due and tally.equity > peak * (1 + _MARK_SHARE):
            self._marked_ts[mode] = here.now_ms
            here.emit(facts.Marked(ts=here.now_ms, account=mode, equity=tally.equity, peak=tally.peak_equity))
        if account.breached:
            return
        standing = Standing(
            capabilities=here.venues[mode], ceiling=here.settings.teji_mode, capital=capital, tally=tally
        )
        if reason := risk.breach(standing, here.scene.limits("")):
            here.emit(facts.Breached(ts=here.now_ms, account=mode, day=account.day, reason=reason))
            if mode is here.settings.teji_mode and not here.book.halted:
                here.want(SetHalt(f"{mode.value} account: {reason}"))

    # Reactions

    def _at(self, now_ms: int) -> Here:
        self.here.now_ms = now_ms
        return self.here

    def _settle(self) -> None:
        reactions = self.here.ledger.reactions
        for _ in range(_STEPS_MAX):
            if not reactions:
                return
            self._react(reactions.popleft())
        raise RuntimeError(f"the desk does not come to rest: {list(reactions)[:5]}")

    def _react(self, touched: Touched) -> None:
        if touched.what == "order":
            desk_gtts.order_changed(self.here, touched.key)
            desk_venue_gtts.order_changed(self.here, touched.key)
        elif touched.what == "fill":
            runtime = self.here.runtime.get(touched.body.mode)
            if runtime is not None:
                due_ts = self.here.now_ms + _FUNDS_MS
                runtime.look_ts = min(runtime.look_ts or due_ts, due_ts)
        elif touched.what == "position":
            mode, instrument_and_product = touched.key.split("|", 1)
            key, _, product = instrument_and_product.rpartition("|")
            self._guard_no_more_than_held(TradingMode(mode), key, Product(product))

    def _guard_no_more_than_held(self, mode: TradingMode, key: str, product: Product) -> None:
        """Somebody else has closed a part of what our GTTs guard."""
        here = self.here
        held = checking.units_of(here, mode, key, product).net
        for sign in (1, -1):
            guarded = desk_gtts.guarded(here, mode, key, product, sign)
            if guarded > max(0, held * sign):
                excess = guarded - max(0, held * sign)
                desk_gtts.closed_elsewhere(here, mode, key, product, excess, sign)
