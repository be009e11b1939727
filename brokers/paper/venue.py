"""The paper venue: `brokers.venue.Venue` without an exchange. A shell around `brokers.paper.book`.

Ticks and requests change the book at once and in memory; what they changed is queued for the log. Nobody is told of a
change, and no read shows it, before it is stored: what a crash forgets has not happened for anybody. Time is the
venue's, carried on by the machine's clock between ticks.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, Final, Self

from brokers.paper import rules, store
from brokers.paper.book import Book, Conduct, Outcome
from brokers.paper.facts import Fact, Filled, Opened, Placed
from brokers.paper.orders import PaperOrder, rounded
from brokers.paper.seen import Seen, view
from brokers.paper.store import Log
from brokers.paper.telling import Listeners
from brokers.venue import (
    Capabilities,
    Funds,
    Lost,
    NewGtt,
    NewOrder,
    NotSent,
    OrderChange,
    Refused,
    Update,
    VenueGtt,
    VenueHolding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
)
from bus.postgres import Pool
from bus.settings import Calendar, Settings
from market import sessions
from market.instruments import Instrument
from schemas.errors import Rejected, Unavailable
from schemas.orders import Product, TradingMode
from schemas.streams import instrument_id
from schemas.ticks import FeedMark, TickBatch

_BACKLOG_MAX: Final = 10_000  # facts that wait for Postgres; no request is taken beyond
_DRAIN_S: Final = 5.0
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000
_NOTE: Final = "margins are an estimate: flat rates, no hedge is counted"


class PaperVenue:
    """One account (paper, shadow) on one database. Made by `open`; only one may be open at a time."""

    def __init__(
        self,
        settings: Settings,
        account: TradingMode,
        pool: Pool,
        instruments: Callable[[str], Instrument | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._account = account
        self._pool = pool
        self._instruments = instruments
        self._now_ms = now_ms
        self._book = Book(_conduct(settings, account))
        self._seen = Seen()
        self._listeners = Listeners()
        self._log = Log(pool, account.value, 0, self._stored)
        self._untold: deque[tuple[int, Update]] = deque()
        self._tick_ms: int | None = None  # the venue's time, and when we heard it
        self._heard_ms = 0
        self._next_ms = 0  # when time alone changes the book
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        account: TradingMode,
        pool: Pool,
        instruments: Callable[[str], Instrument | None],
        now_ms: Callable[[], int],
    ) -> AsyncIterator[Self]:
        """The venue with its book as it was left. The tables are there (bus.postgres.migrate)."""
        venue = cls(settings, account, pool, instruments, now_ms)
        await venue._recover()
        async with _beside(venue._log.run()):
            try:
                yield venue
                with contextlib.suppress(Unavailable):  # what is not stored has not happened
                    await venue._log.until(venue._book.seq, _DRAIN_S)
            finally:
                venue._stop_timer()

    async def _recover(self) -> None:
        facts = await store.day_so_far(self._pool, self._account.value)
        for fact in facts:
            self._book.apply(fact)
        self._book.recovered(fact for fact in facts if isinstance(fact, Filled))
        self._log = Log(self._pool, self._account.value, self._book.seq, self._stored)
        self._schedule()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            venue=self._account.value,
            market_orders=False,
            stop_orders=True,
            ioc=True,
            modify=True,
            gtt=False,
            gtt_exit_only=False,
            gtt_trailing_share=Decimal(0),
            tag_max=rules.TAG_MAX,
            push_orders=True,
            margin_check=True,
            segments_off=rules.SEGMENTS_OFF,
            products=frozenset(Product),
            budget=self._settings.order_budget,
        )

    # Ticks

    def feed(self, batch: TickBatch) -> None:
        """Every batch of ticks, marks too. What it fills is told by `updates`, once it is stored."""
        if not len(batch.rec):
            self._mark(batch)
            return
        self._hear(batch.ts)
        ids = batch.rec["id"].tolist()
        self._seen.keep(batch, ids)
        if not self._book.watched.isdisjoint(ids):
            now = self._venue_ms()
            for at, number in enumerate(ids):
                if number in self._book.watched:
                    self._keep(self._book.match(number, view(batch, at), now))
        if batch.ts >= self._next_ms:
            self._advance()

    def _mark(self, batch: TickBatch) -> None:
        if batch.feed == FeedMark.DOWN:
            self._seen.forget([instrument_id(key) for key in batch.keys] or None)
        elif batch.feed in (FeedMark.LIVE, FeedMark.AWAY):
            self._hear(batch.ts)
            if batch.ts >= self._next_ms:
                self._advance()

    def _hear(self, ts: int) -> None:
        if self._tick_ms is None or ts > self._tick_ms:
            self._tick_ms, self._heard_ms = ts, self._now_ms()

    def _venue_ms(self) -> int:
        """The venue's time of now. Before its first word it stands where the book was left: the machine's clock may
        be hours away from it, and would end orders that live. An empty book has nothing else."""
        now = self._now_ms()
        if self._tick_ms is None:
            return self._book.ts or now
        return self._tick_ms + max(now - self._heard_ms, 0)

    def _advance(self) -> None:
        now = self._venue_ms()
        self._keep(self._book.advance(now, self._last_prices))
        midnight = now - (now + _IST_MS) % _DAY_MS + _DAY_MS
        self._next_ms = min(self._book.next_end_ms or midnight, midnight)

    def _last_prices(self) -> dict[str, Decimal]:
        """Of what the account holds."""
        keys = {instrument for instrument, _ in self._book.account.positions} | self._book.account.holdings.keys()
        told = ((key, self._seen.last_price(key)) for key in keys)
        return {key: price for key, price in told if price is not None}

    # Orders whose latency is over while nothing ticks

    def _schedule(self) -> None:
        """A timer for the next order that may meet the book that stands."""
        due_ms = self._book.next_match_ms
        self._stop_timer()
        if due_ms is None:
            return
        wait_s = max(due_ms - self._venue_ms(), 0) / 1000
        if wait_s <= 0 and self._tick_ms is not None:
            self._stand()
        else:
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, 0.001), self._stand)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stand(self) -> None:
        self._timer = None
        now = self._venue_ms()
        for number in self._book.due(now):
            seen = self._seen.of_id(number)
            self._keep(self._book.stand(number, seen, now) if seen else self._book.unseen(number, now))
        later = self._book.next_match_ms_after(now)
        if later is not None:
            wait_s = max(later - now, 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._stand)

    # Storing and telling

    def _keep(self, outcome: Outcome) -> None:
        if outcome.facts:
            self._untold += outcome.updates
            self._log.add(outcome.facts)

    def _stored(self, seq: int) -> None:
        while self._untold and self._untold[0][0] <= seq:
            self._listeners.tell(self._untold.popleft()[1])

    def updates(self) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Update]]:
        return self._listeners.listen()

    async def _settled(self) -> None:
        """Until what the book says now is stored."""
        await self._log.until(self._book.seq, self._settings.teji_order_timeout_s)

    async def _written(self) -> None:
        """The same for a request: nobody knows whether what is not stored yet will be."""
        try:
            await self._settled()
        except Unavailable as error:
            raise Lost(str(error)) from error

    def _check_room(self) -> None:
        if self._log.backlog >= _BACKLOG_MAX:
            raise NotSent("the book cannot be stored: Postgres is away")

    # Requests

    async def place(self, order: NewOrder) -> str:
        self._check_room()
        await self._check_tag(order.order_id)
        self._advance()
        instrument = self._instruments(order.instrument)
        seen = self._seen.get(order.instrument)
        venue_order_id, outcome = self._book.place(order, instrument, self._venue_ms(), seen, self._last_prices())
        self._changed(outcome)
        await self._written()
        return venue_order_id

    async def _check_tag(self, tag: str) -> None:
        """A tag of an earlier day is not in the book any more, and is not free either."""
        if self._book.tagged(tag) is not None:
            return
        try:
            facts = await store.of_tag(self._pool, self._account.value, tag)
        except Unavailable as error:
            raise NotSent(str(error)) from error
        if facts and self._book.tagged(tag) is None:
            raise Refused("UDAPI100036", f"tag: {tag} belongs to an order of an earlier day", 400)

    async def modify(self, change: OrderChange) -> None:
        self._check_room()
        self._advance()
        instrument = self._instruments(self._book.order(change.venue_order_id).instrument)
        seen = None if instrument is None else self._seen.get(instrument.key)
        self._changed(self._book.change(change, instrument, self._venue_ms(), seen, self._last_prices()))
        await self._written()

    async def cancel(self, venue_order_id: str) -> None:
        self._check_room()
        self._advance()
        self._keep(self._book.cancel(venue_order_id, self._venue_ms()))
        await self._written()

    def _changed(self, outcome: Outcome) -> None:
        self._keep(outcome)
        self._next_ms = min(self._next_ms, self._book.next_end_ms or self._next_ms)
        self._schedule()

    # Reading: what the book says, as soon as that is stored

    def _look(self) -> None:
        """What time has brought, as far as the venue has told the time."""
        if self._tick_ms is not None:
            self._advance()

    async def orders(self) -> Sequence[VenueOrder]:
        self._look()
        told = [order.told() for order in self._book.orders]
        await self._settled()
        return told

    async def tagged(self, tag: str) -> Sequence[VenueOrder]:
        order = self._book.tagged(tag)
        if order is not None:
            told = order.told()
            await self._settled()
            return [told]
        facts = await store.of_tag(self._pool, self._account.value, tag)
        earlier = _folded(facts)
        return [earlier.told()] if earlier else []

    async def trades(self) -> Sequence[VenueTrade]:
        self._look()
        told = list(self._book.trades)
        await self._settled()
        return told

    async def positions(self) -> Sequence[VenuePosition]:
        self._look()
        told = [
            VenuePosition(
                instrument=each.instrument,
                product=each.product,
                quantity=each.quantity,
                average_price=rounded(each.average),
                buy_quantity=each.buy_quantity,
                buy_value=rounded(each.buy_value),
                sell_quantity=each.sell_quantity,
                sell_value=rounded(each.sell_value),
                last_price=self._seen.last_price(each.instrument),
                realised=rounded(each.realised),
            )
            for each in self._book.account.positions.values()
        ]
        await self._settled()
        return told

    async def holdings(self) -> Sequence[VenueHolding]:
        self._look()
        told = [
            VenueHolding(
                instrument=each.instrument,
                isin=each.terms.isin,
                quantity=each.quantity,
                average_price=rounded(each.cost / each.quantity),
                last_price=self._seen.last_price(each.instrument),
            )
            for each in self._book.account.holdings.values()
        ]
        await self._settled()
        return told

    async def funds(self) -> Funds:
        self._look()
        on, last = sessions.trading_date(self._venue_ms()), self._last_prices()
        used, available = self._book.bound(on), self._book.available(on, last)
        loss = self._book.account.open_loss(last)
        details = {"note": _NOTE, "cash": str(rounded(self._book.account.cash)), "open_loss": str(rounded(loss))}
        await self._settled()
        return Funds(rounded(available), rounded(used), details)

    async def margin(self, orders: Sequence[NewOrder]) -> Decimal:
        """An estimate. Orders that would be refused are refused here, too."""
        on = sessions.trading_date(self._venue_ms())
        plan = self._settings.teji_brokerage.value
        try:
            terms = [rules.checked(order, self._instruments(order.instrument), on, plan) for order in orders]
        except Rejected as error:
            raise Unavailable(f"no margin for what cannot be ordered: {error}") from error
        return rounded(self._book.margin(orders, terms, on))

    # GTT: none of its own, see `capabilities`

    async def place_gtt(self, gtt: NewGtt) -> str:
        raise Refused("UDAPI100036", f"no GTT here: {gtt.gtt_id} is for our own engine", 400)

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None:
        raise Refused("UDAPI100036", f"no GTT here: {venue_gtt_id} of {gtt.gtt_id}", 400)

    async def cancel_gtt(self, venue_gtt_id: str) -> None:
        raise Refused("UDAPI100036", f"no GTT here: {venue_gtt_id}", 400)

    async def gtts(self) -> Sequence[VenueGtt]:
        return []


@contextlib.asynccontextmanager
async def _beside(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `job` for as long as the body runs; what ends one ends the other, as the error that it was."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(job)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _conduct(settings: Settings, account: TradingMode) -> Conduct:
    return Conduct(
        prefix=account.value[0].upper(),
        plan=settings.teji_brokerage.value,
        dp=settings.teji_dp_charge,
        capital=settings.teji_capital,
        latency_ms=round(settings.teji_paper_latency_ms),
        slippage_bps=rules.exact(settings.teji_paper_slippage_bps),
        always=settings.teji_calendar is Calendar.ALWAYS,
    )


def _folded(facts: Sequence[Fact]) -> PaperOrder | None:
    """An order of an earlier day, from what happened to it."""
    order: PaperOrder | None = None
    for fact in facts:
        if isinstance(fact, Placed):
            order = PaperOrder.of(fact)
        elif order is not None and not isinstance(fact, Opened):
            order.take(fact)
    return order
