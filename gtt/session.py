"""The desk at work, for as long as the lease is ours: what comes in, the journal, what leaves, what is told.

Everything decides at once, in memory (gtt/desk/desk.py). One loop writes down what has gathered and then lets it out:
facts to the journal, calls to the venues, news to the publisher. Nothing leaves that is not in the journal.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from decimal import Decimal
from typing import Any, Final

import structlog

from brokers.venue import Disconnected, Update, Venue, VenueGtt, VenueTrade
from bus import clock, metrics
from bus.connection import Bus
from bus.halt import halted, switch
from bus.inbox import Writer
from bus.life import together, until_done
from bus.settings import Settings
from bus.wait import pause
from gtt.band_reader import BandReader, Quoting
from gtt.book.book import Book
from gtt.book.touched import Touched
from gtt.calls import Calls, Moment
from gtt.desk.desk import Desk
from gtt.desk.effects import Asked, Books, Effect, Outcome, SetHalt, Write
from gtt.engine.board import Board
from gtt.follower import Follower
from gtt.intake import Intake
from gtt.journal import Journal
from gtt.publisher import Known, Publisher
from gtt.publishing import NAME, captured
from gtt.scene import MarketScene
from gtt.ticking import Fed, Ticking
from schemas.errors import Unavailable
from schemas.gtt import Engine
from schemas.orders import TradingMode

log = structlog.get_logger("desk")

_TICK_S: Final = 0.1
_HALT_S: Final = 0.2
_SECOND_S: Final = 1.0
_SNAPSHOT_S: Final = 300.0
_SNAPSHOT_FACTS: Final = 5_000  # it takes a moment in which nothing else happens; so many are read in half a second
_RETAIN_S: Final = 86_400.0
_REOPEN_S: Final = 1.0
_LAST_ROUNDS: Final = 10  # until nothing more follows from the last answers


class Session:
    """Implements `gtt.calls.Inputs`. Made by `open`."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        writer: Writer,
        journal: Journal,
        venues: Mapping[TradingMode, Venue],
        scene: MarketScene,
        board: Board,
        book: Book,
        known: Known,
        quotes: Quoting,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._journal = journal
        self._venues = venues
        self._scene = scene
        self._wake = asyncio.Event()
        self._flushed = asyncio.Event()
        self._bug: BaseException | None = None
        self._snapshot_n = book.n
        self.desk = Desk(book, scene, settings, {mode: venue.capabilities for mode, venue in venues.items()})
        self.publisher = Publisher(bus, writer, self.desk.here, known)
        self.intake = Intake(bus, self.desk, self.publisher, self._wake, known.places)
        fed = [venue for venue in venues.values() if isinstance(venue, Fed)]
        shards = settings.teji_shards
        self._ticking = Ticking(bus, self.desk, scene, board, fed, self._wake, shards, known.places)
        self._calls = Calls(venues, settings.teji_order_timeout_s, self, leave_s=settings.teji_unknown_s / 2)
        self.desk.here.bands = scene.bands
        self._follower = Follower(settings, self.desk, self.publisher)
        self._bands = BandReader(quotes, self.desk.here, self._look_again)

    async def run(self, over: asyncio.Event, untold: list[tuple[int, Touched]]) -> None:
        """`untold`: what the journal has and nobody was told."""
        book = self.desk.book
        await self.publisher.open()
        self.publisher.add(book.n, captured(self.desk.here, untold), {})
        self.desk.halt(clock.now_ms(), await halted(self._bus))
        self.desk.start(clock.now_ms())
        self._wake.set()
        ending = asyncio.Event()  # what feeds the desk ends first
        work = self._until_over(over, ending)
        try:
            await until_done(
                work,
                self._flush(),
                self.publisher.run(asyncio.Event()),
                self._beside(ending),
            )
        finally:
            await self._calls.close()

    async def _until_over(self, over: asyncio.Event, ending: asyncio.Event) -> None:
        """Then carry through what was begun: answers of calls still get into the journal, and are told."""
        await over.wait()
        ending.set()
        await self._calls.settled(self._settings.teji_order_timeout_s + 2.0)
        for _ in range(_LAST_ROUNDS):
            self._flushed.clear()
            self._wake.set()
            await self._flushed.wait()
            if not self.desk.here.ledger:
                break
        await self.publisher.publish()
        await self._snapshot()

    async def _beside(self, ending: asyncio.Event) -> None:
        await together(
            self.intake.run(ending),
            self._ticking.run(ending),
            self._time(ending),
            self._watch_halt(ending),
            self._keep_house(ending),
            self._bands.run(ending),
            *(self._listen(mode, venue, ending) for mode, venue in self._venues.items()),
        )
        await asyncio.Event().wait()  # ends with the session

    # Out

    async def _flush(self) -> None:
        """Facts, then effects, then news. What is decided meanwhile goes with the next round."""
        while True:
            await self._wake.wait()
            if self._bug is not None:
                raise self._bug
            decided_s, decided_ms = clock.monotonic_s(), clock.now_ms()
            self.desk.pump(decided_ms)
            self._wake.clear()
            taken = self.desk.take()
            news = captured(self.desk.here, taken.touched)
            places = {**self.intake.decided(), **self._ticking.written_down}
            if taken.rows:
                await self._journal.append(taken.rows)
            self._perform(taken.effects, Moment(decided_s, decided_ms))
            n = taken.rows[-1].n if taken.rows else self.publisher.told
            self.publisher.add(n, news, places)
            self._flushed.set()

    def _perform(self, effects: list[Effect], decided: Moment) -> None:
        self._calls.perform(effects, decided)
        for effect in effects:
            if isinstance(effect, SetHalt):
                self._calls.start(self._set_halt(effect.why))

    async def _set_halt(self, why: str) -> None:
        while True:
            try:
                await switch(self._bus, by=NAME, why=why, worker=NAME)
            except Unavailable as error:
                log.warning("waiting", reason=str(error))
                await asyncio.sleep(_HALT_S)
            else:
                return

    # In

    async def _listen(self, mode: TradingMode, venue: Venue, ending: asyncio.Event) -> None:
        """What a venue tells by itself. It reconnects by itself; where that ends, we begin again."""
        while not ending.is_set():
            try:
                async with venue.updates() as updates:
                    await self._until(ending, self._take_updates(mode, updates))
                    if not ending.is_set():
                        self._told_down(mode, "the stream has ended")
            except Unavailable as error:
                self._told_down(mode, str(error))
            await pause(ending, _REOPEN_S)

    async def _take_updates(self, mode: TradingMode, updates: AsyncIterator[Update]) -> None:
        async for update in updates:
            self.desk.told(clock.now_ms(), mode, update)
            self._wake.set()

    async def _until(self, ending: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(ending.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    def _told_down(self, mode: TradingMode, reason: str) -> None:
        self.desk.told(clock.now_ms(), mode, Disconnected(reason))
        self._wake.set()

    async def _time(self, ending: asyncio.Event) -> None:
        second_s = 0.0
        while not ending.is_set():
            now_ms = clock.now_ms()
            self.desk.tick(now_ms, market_known=self._scene.market_known)
            self._ticking.write_down()
            self._follower.look(now_ms)
            if clock.monotonic_s() - second_s >= _SECOND_S:
                second_s = clock.monotonic_s()
                self.desk.second(now_ms)
                self._measure()
            self._wake.set()
            await pause(ending, _TICK_S)

    async def _watch_halt(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            with contextlib.suppress(Unavailable):  # then it stays as it was; the publisher says so
                self.desk.halt(clock.now_ms(), await halted(self._bus))
            await pause(ending, _HALT_S)

    async def _keep_house(self, ending: asyncio.Event) -> None:
        """The snapshot, retention, the strategies file."""
        snapshot_s, retained_s = clock.monotonic_s(), -_RETAIN_S
        while not ending.is_set():
            await pause(ending, _SECOND_S)
            if told := self._scene.refresh_limits():
                self.desk.limits_changed(clock.now_ms(), told)
                self._wake.set()
            now_s = clock.monotonic_s()
            try:
                if now_s - snapshot_s >= _SNAPSHOT_S and self.desk.book.n - self._snapshot_n >= _SNAPSHOT_FACTS:
                    await self._snapshot()
                    snapshot_s = now_s if self._snapshot_n == self.desk.book.n else snapshot_s
                if now_s - retained_s >= _RETAIN_S:
                    retained_s = now_s
                    await self._journal.retain(self._settings.teji_journal_years)
            except Unavailable as error:
                log.warning("waiting", reason=str(error))

    async def _snapshot(self) -> None:
        """Only of what is in the journal and told: a start tells everything behind it."""
        book = self.desk.book
        if not self.desk.here.ledger and self.publisher.told == book.n and book.n > self._snapshot_n:
            self._snapshot_n = book.n
            await self._journal.snapshot(book)

    def _measure(self) -> None:
        book = self.desk.book
        counts: dict[tuple[str, str], int] = {}
        for record in book.orders.values():
            key = (record.order.mode.value, record.order.status.value)
            counts[key] = counts.get(key, 0) + 1
        metrics.ORDERS.clear()
        for (mode, status), count in counts.items():
            metrics.ORDERS.labels(mode, status).set(count)
        for account, runtime in self.desk.here.runtime.items():
            for window in runtime.budget.remaining(clock.now_ms()):
                metrics.ORDER_BUDGET.labels(account.value, f"{window.seconds:g}").set(window.for_all)
        engines = book.engines()
        for engine in (Engine.OURS, Engine.VENUE):
            metrics.LIVE_GTTS.labels(engine.value).set(engines.get(engine, 0))

    # gtt.calls.Inputs

    def called(self, write: Write, outcome: Outcome) -> None:
        self.desk.called(clock.now_ms(), write, outcome)
        self._wake.set()

    def asked(self, answer: Asked) -> None:
        self.desk.asked(clock.now_ms(), answer)
        self._wake.set()

    def compared(self, books: Books) -> None:
        self.desk.compared(clock.now_ms(), books)
        self._look_again()

    def not_compared(self, mode: TradingMode, reason: str) -> None:
        self.desk.not_compared(clock.now_ms(), mode, reason)
        self._wake.set()

    def trades(self, mode: TradingMode, told: list[VenueTrade] | None) -> None:
        self.desk.trades_told(clock.now_ms(), mode, told)
        self._wake.set()

    def gtts(self, mode: TradingMode, told: list[VenueGtt] | None, asked_ts: int) -> None:
        self.desk.gtts_listed(clock.now_ms(), mode, told, asked_ts)
        self._wake.set()

    def margin(self, intent_id: str, needed: Decimal | None) -> None:
        self.desk.margin(clock.now_ms(), intent_id, needed)
        self._look_again()

    def _look_again(self) -> None:
        """Something is known that an entry may have waited for."""
        self.intake.decide()
        self._wake.set()

    def failed(self, bug: BaseException) -> None:
        self._bug = bug
        self._wake.set()
