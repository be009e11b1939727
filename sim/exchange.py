"""The exchange as one object: time, the market of the day, the feed, who is logged in."""

import asyncio
from collections.abc import Callable
from datetime import date
from random import Random
from typing import Any, Final

from starlette.types import ASGIApp

from sim import universe
from sim.account import Account
from sim.archive import Archive
from sim.auth import Auth
from sim.clock import Clock, ManualClock, make
from sim.faults import FaultRequest, Faults
from sim.feed import Hub, SentFrame
from sim.gtt_desk import GttDesk
from sim.history import History
from sim.hours import MINUTE_MS, Hours, day_of, midnight_ms
from sim.limits import RateLimiter
from sim.market import Market
from sim.orders import Order, payload
from sim.paths import Paths
from sim.portfolio_stream import PortfolioHub
from sim.positions import Position, holding_payload, position_payload
from sim.settings import RateLimits, SimSettings
from sim.timeline import Schedule, parse
from sim.trading import Told, Trading
from sim.wire import Encoder

#: How long before its start the demo's day has been going on.
_OPEN_BEFORE_MS: Final = 6 * 60 * MINUTE_MS
#: A trading day's instruments are known from 06:00 IST, when the venue renews its files.
_RENEWAL_MS: Final = 6 * 60 * MINUTE_MS
#: Further behind than this, intervals are made up without waiting for the senders (the machine slept).
_FAR_BEHIND_MS: Final = 30_000
#: How long a client may take to accept a frame before the market goes on without it.
_LIVE_PATIENCE_S: Final = 0.02
_MANUAL_PATIENCE_S: Final = 1.0


class Exchange:
    """Everything but the sockets. The server adds `app`, `url` and `feed_url`, and the faults that need its sockets."""

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self.clock: Clock = make(settings)
        now_ms = self.clock.now_ms()
        since_ms = max(now_ms - _OPEN_BEFORE_MS, midnight_ms(day_of(now_ms)))
        self.hours = Hours(since_ms - since_ms % MINUTE_MS if settings.is_always_open else None)
        self.paths = Paths(settings.seed, self.hours, universe.specs(settings.instruments))
        self.history = History(settings.seed, self.hours, self.paths)
        self.archive = Archive(self.history)
        self.market = self._open(self._trading_date(now_ms), now_ms)
        for _ in self.market.advance(now_ms):
            pass  # nobody listens yet: the minute under way catches up with the clock
        self.faults = Faults(draw=Random(settings.seed))
        self.auth = Auth(settings)
        self.account = Account(*settings.registered_ips, notifier_url=settings.notifier_url)
        self.limiter = RateLimiter(settings.rate_limits) if settings.rate_limits else None
        self.hub = Hub(settings, self.hours, Encoder(self.market, partial=settings.partial_blocks), self.faults)
        self.order_limiter = RateLimiter(limits) if (limits := _order_limits(settings)) else None
        self.trading = Trading(settings, self.hours, self.faults, self.account, self.market)
        self.portfolio = PortfolioHub(self.faults, settings.token_death_close_code, now_ms)
        self.trading.listen(self._tell)
        self.gtts = GttDesk(settings, self.trading, self.market, lambda told: self.portfolio.publish("gtt_order", told))
        self.cut: Callable[[Any], None] = _no_line
        self.order_fault: Callable[[FaultRequest], None] = self.faults.order
        self.schedule = Schedule()
        for text in settings.fault:
            self.script(text)
        self.app: ASGIApp | None = None
        self.url = ""
        self.feed_url = ""

    @property
    def sent(self) -> list[SentFrame]:
        """Every websocket frame sent, with the setting `record`."""
        return self.hub.sent

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def script(self, text: str) -> None:
        """Have faults happen as a timeline says. Raises BadTimeline before anything is planned."""
        now_ms = self.clock.now_ms()
        for line in parse(text):
            self.schedule.add(line, now_ms)

    def _next_ms(self) -> int:
        """When the next thing happens: an interval ends, or something fails."""
        fault_ms = self.schedule.next_ms()
        end_ms = self.market.next_end_ms()
        return end_ms if fault_ms is None else min(end_ms, fault_ms)

    async def advance(self, ms: int) -> None:
        """Move a manual clock and everything that depends on it; clients that read have got every frame."""
        if not isinstance(self.clock, ManualClock):
            raise TypeError("only a manual clock is moved by hand")
        to_ms = self.clock.now_ms() + ms
        while (next_ms := self._next_ms()) <= to_ms:
            self.clock.move_to(max(self.clock.now_ms(), next_ms))
            await self._step(self.clock.now_ms(), _MANUAL_PATIENCE_S)
        self.clock.move_to(to_ms)

    async def run(self) -> None:
        """Keep the market at the clock until cancelled. A manual clock needs nobody to."""
        while not isinstance(self.clock, ManualClock):
            end_ms = self._next_ms()
            await self.clock.sleep_until(end_ms)
            behind_ms = self.clock.now_ms() - end_ms
            await self._step(self.clock.now_ms(), 0.0 if behind_ms > _FAR_BEHIND_MS else _LIVE_PATIENCE_S)

    async def _step(self, to_ms: int, patience_s: float) -> None:
        for request in self.schedule.due(to_ms):
            self.order_fault(request)
        on = self._trading_date(to_ms)
        if on != self.market.on:
            await self._publish(min(to_ms, midnight_ms(on)), patience_s)  # the old day to its end
            self.archive.keep(self.market.on, self.market.lived())
            self.market = self._open(on, to_ms)
            self.trading.move_to(self.market)
            self.gtts.move_to(self.market, to_ms)
            self.hub.move_to(Encoder(self.market, partial=self.settings.partial_blocks))
        await self._publish(to_ms, patience_s)
        await asyncio.sleep(0)

    async def _publish(self, to_ms: int, patience_s: float) -> None:
        for update in self.market.advance(to_ms):
            self.hub.publish(update)
            self.trading.step(update)
            self.gtts.step(update)
            self.portfolio.step(update.ts)
            if patience_s:
                await self.hub.settle(patience_s)

    def _tell(self, told: Told) -> None:
        """What happened to the user's orders and possessions goes to the portfolio stream."""
        if isinstance(told, Order):
            self.portfolio.publish("order", payload(told))
        elif isinstance(told, Position):
            self.portfolio.publish("position", position_payload(told))
        else:
            self.portfolio.publish("holding", holding_payload(told))

    def _open(self, on: date, now_ms: int) -> Market:
        listed = universe.listed(on, self.settings.instruments, self.paths, past_expiry=self.hours.never_closes(on))
        return Market(listed, self.history, self.settings.seed, now_ms, self.settings.conflation_ms)

    def _trading_date(self, now_ms: int) -> date:
        """The day whose market is shown: today's, or the last one until today's instruments are known."""
        on = day_of(now_ms)
        if self.hours.never_closes(on):
            return on
        known = now_ms - midnight_ms(on) >= _RENEWAL_MS
        return on if known and self.hours.is_trading_day(on) else self.hours.previous_trading_day(on)


def _no_line(client: Any) -> None:
    """Nothing to cut, until a server has lines."""


def _order_limits(settings: SimSettings) -> RateLimits | None:
    """A registered algo may write as often as everything else may be asked."""
    if settings.rate_limits is None or not settings.algo_name:
        return settings.order_rate_limits if settings.rate_limits else None
    return settings.rate_limits
