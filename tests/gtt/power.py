"""The order worker under power cuts: every step at which it touches the world is a point where the power can go.

A point is a step's name and how often it has been taken: `writes sending, before #2`. The worker is the real one, on a
real Redis and Postgres; journal, writer, venues and what stores the paper book are wrapped. From the cut on nothing of
the process has any effect. A request that was on its way to a venue arrives all the same, as it would.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import replace
from typing import Any, Final
from weakref import WeakSet

from redis.asyncio import Redis

from brokers.paper.venue import PaperVenue
from brokers.upstox.auth import TokenStore
from brokers.upstox.orders import UpstoxOrders
from brokers.venue import Capabilities, NewGtt, NewOrder, OrderChange, Update, Venue, VenueOrder, VenueTrade
from bus import clock
from bus.connection import Bus, Word
from bus.inbox import Output, Writer
from bus.postgres import Pool
from bus.settings import Settings
from gtt.book.rows import Numbered
from gtt.journal import Journal
from gtt.scene import MarketScene
from schemas.errors import Unavailable
from schemas.orders import TradingMode
from schemas.ticks import TickBatch

#: Facts that come by the clock: a point that is named after them would be another one each time.
_BY_THE_CLOCK: Final = {"marked", "funds_seen", "day_opened", "alert"}
_STUBBORN_S: Final = 0.5  # for closing what is open; then they are told again
_MANY: Final = ((1.0, 1_000), (60.0, 50_000), (1800.0, 1_000_000))


class PowerCut(Unavailable):
    """The process is gone: nothing that it does reaches anybody."""


class Power:
    """Of one life of the process."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.passed: list[str] = []  # points, in order
        self.where = ""
        self.flying: Callable[[], None] = lambda: None  # told when it goes while a request is on its way
        self._counts: Counter[str] = Counter()
        self._target = ""
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    def note(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)

    def arm(self, point: str) -> None:
        """From here on points are counted; at this one the power goes. None: they are only counted."""
        self._counts.clear()
        self.passed.clear()
        self._target = point

    def check(self) -> None:
        if self.gone.is_set():
            raise PowerCut("the power is gone")

    async def at(self, step: str) -> None:
        self.check()
        self._counts[step] += 1
        point = f"{step} #{self._counts[step]}"
        self.passed.append(point)
        if point == self._target:
            self.cut(point)
            if "on its way" in step:
                self.flying()
            await asyncio.Event().wait()  # until somebody clears the process away

    def cut(self, point: str) -> None:
        self.where = point
        self.gone.set()

    async def clear_away(self) -> None:
        """End all tasks of this life. None of them has a say; but what they have opened is closed."""
        while left := [task for task in self._tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_STUBBORN_S)

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """All tasks that come of it are of this life."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_noted)
        context = copy_context()
        context.run(_LIFE.set, self)
        return loop.create_task(work, context=context)


_LIFE: Final[ContextVar[Power | None]] = ContextVar("life", default=None)


def _noted(loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None, **more: Any) -> Any:
    """A task factory that remembers whose a task is."""
    task = asyncio.Task(work, loop=loop, context=context, **more)
    whose = _LIFE.get() if context is None else context.get(_LIFE)
    if whose is not None:
        whose.note(task)
    return task


class PoweredBus(Bus):
    """Says and hears nothing any more when the power is gone."""

    def __init__(self, redis: Redis, instance: str, power: Power) -> None:
        super().__init__(redis, instance)
        self._real = redis
        self.redis = _Line(redis, power)
        self._power = power

    async def packet(self, *commands: Sequence[Word]) -> list[Any]:
        self._power.check()
        return await super().packet(*commands)


class _Line:
    def __init__(self, behind: Any, power: Power) -> None:
        self._behind = behind
        self._power = power

    def __getattr__(self, name: str) -> Any:
        self._power.check()
        return getattr(self._behind, name)


class PoweredWriter(Writer):
    def __init__(self, inner: Writer, power: Power) -> None:
        self._inner = inner
        self._power = power

    async def write(self, outputs: Sequence[Output] = (), **more: Any) -> list[str]:
        kinds = sorted({str(each.fields["kind"]) for each in outputs})
        step = f"told {'+'.join(kinds)}" if kinds else "told how far"
        await self._power.at(f"{step}, before")
        written = await self._inner.write(outputs, **more)
        await self._power.at(f"{step}, after")
        return written


class PoweredJournal:
    """Implements `gtt.journal.Journal`."""

    def __init__(self, inner: Journal, power: Power) -> None:
        self._inner = inner
        self._power = power

    async def claim(self) -> None:
        await self._power.at("claims the journal, before")
        await self._inner.claim()
        await self._power.at("claims the journal, after")

    async def append(self, rows: Sequence[Numbered]) -> None:
        kinds = sorted({row.fact.kind for row in rows} - _BY_THE_CLOCK)
        step = f"writes {'+'.join(kinds) or 'what time brings'}"
        await self._power.at(f"{step}, before")
        await self._inner.append(rows)
        await self._power.at(f"{step}, after")

    async def load(self, published: int) -> Any:
        await self._power.at("reads the journal")
        return await self._inner.load(published)

    async def snapshot(self, book: Any) -> None:
        await self._power.at("keeps a snapshot, before")
        await self._inner.snapshot(book)
        await self._power.at("keeps a snapshot, after")

    async def retain(self, years: int) -> int:
        self._power.check()
        return await self._inner.retain(years)


class PoweredPool:
    """Postgres for the paper venue: what it stores is a point."""

    def __init__(self, pool: Pool, power: Power) -> None:
        self._pool = pool
        self._power = power

    async def acquire(self, timeout: float) -> Any:
        self._power.check()
        return _Connection(await self._pool.acquire(timeout=timeout), self._power)

    async def release(self, line: "_Connection", timeout: float) -> None:
        await self._pool.release(line.real, timeout=timeout)


class _Connection:
    def __init__(self, real: Any, power: Power) -> None:
        self.real = real
        self._power = power

    def __getattr__(self, name: str) -> Any:
        self._power.check()
        return getattr(self.real, name)

    async def execute(self, sql: str, *arguments: Any) -> Any:
        await self._power.at("the paper book is stored, before")
        told = await self.real.execute(sql, *arguments)
        await self._power.at("the paper book is stored, after")
        return told


class PoweredVenue:
    """Implements `brokers.venue.Venue`. The books that others read of it are those of `inner`."""

    def __init__(self, inner: Venue, power: Power) -> None:
        self.inner = inner
        self._power = power
        self._flying: set[asyncio.Task[Any]] = set()

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, budget=_MANY)  # many lives share the venue's minute

    async def _write(self, step: str, request: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        await self._power.at(f"{step}, before")
        task = asyncio.get_running_loop().create_task(request(), context=Context())
        self._flying.add(task)  # it is out of our hands
        task.add_done_callback(self._landed)
        await self._power.at(f"{step}, on its way")
        told = await asyncio.shield(task)
        await self._power.at(f"{step}, after")
        return told

    def _landed(self, task: "asyncio.Task[Any]") -> None:
        self._flying.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has heard it, or is no more

    async def place(self, order: NewOrder) -> str:
        return str(await self._write("places", lambda: self.inner.place(order)))

    async def modify(self, change: OrderChange) -> None:
        await self._write("modifies", lambda: self.inner.modify(change))

    async def cancel(self, venue_order_id: str) -> None:
        await self._write("cancels", lambda: self.inner.cancel(venue_order_id))

    async def place_gtt(self, gtt: NewGtt) -> str:
        return str(await self._write("places a GTT", lambda: self.inner.place_gtt(gtt)))

    async def modify_gtt(self, venue_gtt_id: str, gtt: NewGtt) -> None:
        await self._write("modifies a GTT", lambda: self.inner.modify_gtt(venue_gtt_id, gtt))

    async def cancel_gtt(self, venue_gtt_id: str) -> None:
        await self._write("cancels a GTT", lambda: self.inner.cancel_gtt(venue_gtt_id))

    async def _read(self, step: str, question: Awaitable[Any]) -> Any:
        told = await question
        await self._power.at(step)
        return told

    async def orders(self) -> Any:
        return await self._read("reads the order book", self.inner.orders())

    async def tagged(self, tag: str) -> Any:
        return await self._read("asks for a tag", self.inner.tagged(tag))

    async def trades(self) -> Any:
        return await self._read("reads the trades", self.inner.trades())

    async def positions(self) -> Any:
        return await self._read("reads the positions", self.inner.positions())

    async def holdings(self) -> Any:
        return await self.inner.holdings()

    async def funds(self) -> Any:
        return await self.inner.funds()

    async def margin(self, orders: Sequence[NewOrder]) -> Any:
        return await self.inner.margin(orders)

    async def gtts(self) -> Any:
        return await self._read("reads the GTTs", self.inner.gtts())

    @contextlib.asynccontextmanager
    async def updates(self) -> AsyncIterator[AsyncIterator[Update]]:
        async with self.inner.updates() as updates:
            yield self._heard(updates)

    async def _heard(self, updates: AsyncIterator[Update]) -> AsyncIterator[Update]:
        async for update in updates:
            self._power.check()
            if isinstance(update, VenueOrder):
                await self._power.at(f"hears of an order: {update.status.value}")
            elif isinstance(update, VenueTrade):
                await self._power.at("hears of a trade")
            yield update


class PoweredPaper(PoweredVenue):
    inner: PaperVenue

    def feed(self, batch: TickBatch) -> None:
        if not self._power.gone.is_set():
            self.inner.feed(batch)


@contextlib.asynccontextmanager
async def powered_venues(
    settings: Settings, pool: Pool, scene: MarketScene, power: Power
) -> AsyncIterator[Mapping[TradingMode, Venue]]:
    """The one account that matters."""
    if settings.teji_mode is TradingMode.LIVE:
        async with UpstoxOrders.open(settings, TokenStore(settings)) as live:
            yield {TradingMode.LIVE: PoweredVenue(live, power)}
        return

    def now_ms() -> int:
        return scene.market_ms(clock.now_ms())

    wire = PoweredPool(pool, power)
    async with PaperVenue.open(settings, TradingMode.PAPER, wire, scene.instrument, now_ms) as paper:
        yield {TradingMode.PAPER: PoweredPaper(paper, power)}
