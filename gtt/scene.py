"""The market as the order worker knows it: board of last prices, list of instruments, limits, venue time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Final

import structlog

from brokers.upstox import instruments
from bus import clock
from bus.settings import Calendar, Settings
from bus.wait import pause
from gtt.desk.bands import Bands
from gtt.engine.board import Board, Crossing, Quoted
from gtt.engine.state import Watched
from gtt.risk.limits import Limits, StrategiesFile
from market import sessions
from market.instruments import Instrument, Universe
from schemas.errors import Misconfigured, Unavailable
from schemas.ticks import TickBatch

log = structlog.get_logger("scene")

_LOOK_S: Final = 30.0
_RETRY_S: Final = 1.0
_RETRY_MAX_S: Final = 60.0

Fetch = Callable[[Settings, int], Awaitable[Universe]]


class MarketScene:
    """`gtt.desk.here.Scene`, kept up to date by whoever reads ticks."""

    def __init__(self, settings: Settings, board: Board, fetch: Fetch = instruments.fetch) -> None:
        self.board = board
        self._fetch = fetch
        self.known = asyncio.Event()  # there is a list of instruments
        self.egress = ""
        self._settings = settings
        self._strategies = StrategiesFile(settings)
        self._universe = Universe(())
        self._edition: object = None
        self.bands = Bands()
        self._venue_ms = 0  # the newest that the feed told
        self._seen_ms = 0  # when, by the machine's clock

    # What the desk asks

    def quote(self, key: str) -> Quoted | None:
        return self.board.quote(key)

    def instrument(self, key: str) -> Instrument | None:
        return self._universe.get(key)

    def band(self, key: str) -> tuple[Decimal, Decimal] | None:
        return self.bands.of(key, sessions.trading_date(self.market_ms(clock.now_ms())))

    def watch(self, gtt_id: str, key: str, on: Iterable[Watched]) -> list[Crossing]:
        self.board.unwatch(gtt_id)
        crossings = []
        for each in on:
            found = self.board.watch(gtt_id, each.leg, key, each.low, each.high)
            if found is not None:
                crossings.append(found)
        return crossings[:1]

    def limits(self, strategy: str) -> Limits:
        return self._strategies.limits.of(strategy)

    @property
    def strategies(self) -> tuple[str, ...]:
        return self._strategies.limits.names

    def market_ms(self, now_ms: int) -> int:
        """What the feed says, carried on by our clock; without a feed our clock alone."""
        return self._venue_ms + max(0, now_ms - self._seen_ms) if self._venue_ms else now_ms

    @property
    def listed(self) -> bool:
        return self.known.is_set()

    @property
    def always_open(self) -> bool:
        return self._settings.teji_calendar is Calendar.ALWAYS

    # What the shell tells

    @property
    def market_known(self) -> bool:
        return self._venue_ms > 0

    def saw(self, batch: TickBatch, now_ms: int) -> None:
        if batch.ts > self._venue_ms:
            self._venue_ms, self._seen_ms = batch.ts, now_ms

    def refresh_limits(self) -> str | None:
        return self._strategies.refresh()

    async def keep(self, stop: asyncio.Event) -> None:
        """Have the instruments of the day."""
        retry_s = _RETRY_S
        while not stop.is_set():
            now_ms = self.market_ms(clock.now_ms())
            wait_s = _LOOK_S if self.known.is_set() else _RETRY_S
            if self._edition != (wanted := instruments.edition(now_ms)):
                try:
                    self._universe = await self._fetch(self._settings, now_ms)
                    self._edition, retry_s = wanted, _RETRY_S
                    self.known.set()
                    log.info("instruments", listed=len(self._universe), edition=wanted.isoformat())
                except (Unavailable, Misconfigured) as error:
                    log.warning("no instrument file", reason=str(error))
                    wait_s, retry_s = retry_s, min(2 * retry_s, _RETRY_MAX_S)
            await pause(stop, wait_s)
