"""The shell of the order worker: one process owns the desk by the lease, others stand by."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Protocol, runtime_checkable

import structlog

from brokers.paper.venue import PaperVenue
from brokers.upstox import instruments
from brokers.upstox.auth import TokenStore
from brokers.upstox.egress import Egress, is_loopback
from brokers.venue import Venue
from bus import clock
from bus.inbox import Writer
from bus.lease import Keeper, Lease
from bus.life import Worker, until_done
from bus.postgres import Pool, migrate, open_pool
from bus.settings import Settings
from bus.wait import pause
from gtt.band_reader import open_quotes
from gtt.engine import board
from gtt.intake import Poisoned
from gtt.journal import Decided, Journal, PostgresJournal
from gtt.publisher import SHARD, Known
from gtt.publishing import NAME
from gtt.scene import Fetch, MarketScene
from gtt.seeding import seed
from gtt.session import Session
from schemas import streams
from schemas.errors import Unavailable
from schemas.orders import TradingMode

__all__ = ["NAME", "run"]

log = structlog.get_logger("gtt")

_POOL: Final = 8
#: Thousands of live GTTs are not looked through again and again for garbage: that halved the latency of an order, and
#: more. What is young still is.
_GC: Final = (50_000, 20, 100)
_SWITCH_S: Final = 0.0002  # a thread that has an order to send waits no longer for the loop to let it
_RETRY_S: Final = 1.0
_EGRESS_S: Final = 600.0
_EGRESS_AGAIN_S: Final = 10.0

#: Opens the venues of a session; a test wraps them.
Venues = Callable[[Settings, Pool, MarketScene], AbstractAsyncContextManager[Mapping[TradingMode, Venue]]]
Journals = Callable[[Pool, Lease], Journal]
Writers = Callable[[Worker, Lease], Writer]


@runtime_checkable
class _Leaving(Protocol):
    """A venue that takes orders from registered addresses only."""

    async def egress(self) -> Egress: ...


def _journal(pool: Pool, lease: Lease) -> Journal:
    return PostgresJournal(pool, lease.token)


def _writer(worker: Worker, lease: Lease) -> Writer:
    return worker.writer(lease)


@contextlib.asynccontextmanager
async def venues_of(settings: Settings, pool: Pool, scene: MarketScene) -> AsyncIterator[Mapping[TradingMode, Venue]]:
    """Paper and shadow always; live only with TEJI_MODE=live."""
    found: dict[TradingMode, Venue] = {}

    def now_ms() -> int:
        return scene.market_ms(clock.now_ms())

    async with AsyncExitStack() as stack:
        for mode in (TradingMode.PAPER, TradingMode.SHADOW):
            opened = PaperVenue.open(settings, mode, pool, scene.instrument, now_ms)
            found[mode] = await stack.enter_async_context(opened)
        if settings.teji_mode is TradingMode.LIVE:
            from brokers.upstox.orders import UpstoxOrders  # takes a second, and needs the vendor's library

            live = UpstoxOrders.open(settings, TokenStore(settings))
            found[TradingMode.LIVE] = await stack.enter_async_context(live)
        yield found


async def run(
    worker: Worker,
    stop: asyncio.Event,
    *,
    venues: Venues = venues_of,
    journal: Journals = _journal,
    writer: Writers = _writer,
    fetch: Fetch = instruments.fetch,
) -> None:
    """Until `stop`. What is handed in replaces the real thing, for tests that end the process at a chosen step."""
    settings, bus = worker.settings, worker.bus
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_GC)
    board.warm()  # before there is a lease to keep: loading compiled code blocks for a moment
    decided: set[str] = set()  # intents of long ago that came again
    poison: dict[tuple[str, str], str] = {}  # entries that the desk fails on

    async with open_pool(worker.servers.postgres_url, size=_POOL, reset=False) as pool:
        if not await _migrated(pool, stop):
            return

        async def work(lease: Lease, over: asyncio.Event) -> None:
            prices = board.Board()
            scene = MarketScene(settings, prices, fetch)
            async with venues(settings, pool, scene) as opened, open_quotes(settings, opened.values()) as quotes:
                book_of = journal(pool, lease)
                await book_of.claim()
                known = Known(await bus.get(streams.state(NAME, SHARD)))
                book, untold = await book_of.load(known.n)
                log.info("journal", facts=book.n, untold=len(untold), orders=len(book.orders), gtts=len(book.gtts))
                seeded = await seed(bus, settings.teji_shards, prices, known.places)
                session = Session(
                    settings, bus, writer(worker, lease), book_of, opened, scene, prices, book, known, quotes
                )
                session.desk.here.decided |= decided
                session.intake.poison |= poison
                session.desk.here.following.seeded = seeded
                gc.collect()
                gc.freeze()  # a book of thousands of orders is not looked through again and again: that takes long
                try:
                    await until_done(
                        session.run(over, untold), scene.keep(over), _mind_egress(settings, scene, opened, over)
                    )
                except Decided as error:
                    decided.update(error.intents)
                    raise
                except Poisoned as error:
                    poison[error.entry] = error.why
                    raise

        await Keeper(bus, NAME, 1, settings.teji_lease_s, work).run(stop)


async def _mind_egress(
    settings: Settings, scene: MarketScene, venues: Mapping[TradingMode, Venue], over: asyncio.Event
) -> None:
    """Live entries leave only from an address that the venue has registered; exits are tried from anywhere."""
    live = venues.get(TradingMode.LIVE)
    if not isinstance(live, _Leaving) or is_loopback(settings.upstox_order_url):
        await over.wait()
        return
    scene.egress = "the address that orders leave from is not checked yet"
    while not over.is_set():
        wait_s = _EGRESS_AGAIN_S
        try:
            found = await live.egress()
        except Unavailable as error:
            scene.egress = scene.egress and f"the address that orders leave from cannot be checked: {error}"
        else:
            scene.egress = "" if found.ok else found.sentence
            wait_s = _EGRESS_S if found.ok else _EGRESS_AGAIN_S
            if not found.ok:
                log.error("live entries do not leave", reason=found.sentence)
        await pause(over, wait_s)


async def _migrated(pool: Pool, stop: asyncio.Event) -> bool:
    while not stop.is_set():
        try:
            await migrate(pool)
        except Unavailable as error:
            log.warning("waiting", reason=str(error))
            await pause(stop, _RETRY_S)
        else:
            return True
    return False
