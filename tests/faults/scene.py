"""A market day in fast motion: the simulated exchange, the real ingest and aggregator, and what must come out of it.

The market moves on by itself, some sixty times as fast as real time. Ours are the waits that a fault is met with, so
those are set short, and how long recovery takes is measured against them: `ALLOWANCE_S` is what a slow machine gets on
top. In the end every bar of the day must equal the venue's own candle, and say that it is complete.
"""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bus import metrics
from bus.connection import Bus
from market.instruments import Instrument
from schemas.errors import Unavailable
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.hours import day_of, midnight_ms
from tests.end_to_end.pipeline import MINUTE, Pipeline, exchange, final, log_in, settings_for, start_all
from tests.ingest import live

ALLOWANCE_S = 8.0
STALE_S = 0.4
PING_S = 0.3
#: Market seconds per step, and the pause after it: the market waits for nobody, but lets others run.
STEP_MS, PAUSE_S = 600, 0.006
#: Fifteen seconds before a minute ends, ten minutes after the opening of a quiet Wednesday.
START = "2026-11-18T09:25:45"


@dataclass
class Scene(Pipeline):
    keys: tuple[str, ...] = ()
    jump_to_ms: int = 0
    ends: dict[str, float] = field(default_factory=dict)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def venue_minute(self) -> int:
        return self.market.now_ms() // MINUTE * MINUTE

    # What happens

    def begin(self) -> None:
        start_all(self)

    def order(self, **fault: Any) -> None:
        self.market.order_fault(FaultRequest(**fault))

    async def run(self, market_seconds: float) -> None:
        """Let so much market time pass."""
        until_ms = self.market.now_ms() + int(market_seconds * 1000)
        await self.until(lambda: self.market.now_ms() >= until_ms, f"{market_seconds} s of the market")

    async def move(self) -> None:
        while True:
            ahead_ms = self.jump_to_ms - self.market.now_ms()
            await self.market.advance(max(STEP_MS, ahead_ms))
            await asyncio.sleep(PAUSE_S)

    async def jump(self, to: datetime) -> None:
        """Let the market's time pass at once until then."""
        self.jump_to_ms = int(to.timestamp() * 1000)
        await self.until(lambda: self.market.now_ms() >= self.jump_to_ms, f"{to:%d %B %H:%M}")

    # What the user sees

    async def says(self, state: str, reason: str = "", within_s: float = 0.0) -> float:
        """The feed comes to say this; the seconds that it took."""
        began = self.loop.time()
        limit_s = within_s + ALLOWANCE_S
        await self.until(lambda: live.feed_is(self, state, reason), f"feed {state}: {reason}", limit_s)
        return self.loop.time() - began

    async def said(self, state: str, reason: str = "", within_s: float = 0.0) -> None:
        """The feed has said this at some time."""
        await self.until(lambda: live.said(self, state, reason), f"said {state}: {reason}", within_s + ALLOWANCE_S)

    def ended(self, cause: str) -> float:
        """How many connections have ended so in this scene."""
        return _count(metrics.FEED_ENDS.labels(cause)) - self.ends.get(cause, 0.0)

    async def gaps(self) -> list[dict[str, Any]]:
        return await live.events(self, "gap")

    # What must come out of it

    def candles(self, until_ms: int) -> dict[tuple[str, int], list[float]]:
        """The venue's own minutes before `until_ms`: open, high, low, close, volume."""
        row_of = self.market.market.listing.row_of
        return {
            (key, row[0]): [float(value) for value in row[1:6]]
            for key in self.keys
            for row in self.market.market.today(row_of[key])
            if row[0] < until_ms
        }

    async def bars_before(self, until_ms: int) -> dict[tuple[str, int], dict[str, Any]]:
        today_ms = midnight_ms(day_of(self.market.now_ms()))
        return {where: bar for where, bar in final(await self.bars()).items() if today_ms <= where[1] < until_ms}

    async def wrong(self, until_ms: int) -> dict[tuple[str, int], str]:
        """What is not right, by instrument and minute."""
        ours, theirs = await self.bars_before(until_ms), self.candles(until_ms)
        found = dict.fromkeys(ours.keys() - theirs.keys(), "invented")
        found |= dict.fromkeys(theirs.keys() - ours.keys(), "missing")
        for where in ours.keys() & theirs.keys():
            bar = ours[where]
            values = [bar[name] for name in ("open", "high", "low", "close", "volume")]
            if not bar["complete"]:
                found[where] = "incomplete"
            elif values != theirs[where]:
                found[where] = f"{values} is not {theirs[where]}"
        return found

    async def comes_right(self, beyond_ms: int = 0) -> None:
        """Every bar of the day so far is complete and equals the venue's, the minutes of the fault among them."""
        if not beyond_ms:
            beyond_ms = self.venue_minute + MINUTE
        wait_ms = beyond_ms + 10_000  # its bars leave after the grace, history is asked a little later
        await self.until(lambda: self.market.now_ms() >= wait_ms, "the fault's last minute is over")
        try:
            await self.until(lambda: self._is_right(beyond_ms), "all bars right", 25)
        except AssertionError:
            wrong = await self.wrong(beyond_ms)
            raise AssertionError(f"{len(wrong)} bars are not right: {dict(sorted(wrong.items())[:12])}") from None
        seen = {key for key, _ in await self.bars_before(beyond_ms)}
        assert seen == set(self.keys)

    async def _is_right(self, until_ms: int) -> bool:
        return not await self.wrong(until_ms)

    async def incomplete_first(self) -> set[int]:
        """Minutes of which some bar left as incomplete before history completed it."""
        return {bar["ts"] for bar in await self.bars() if not bar["complete"]}


def _count(counter: Any) -> float:
    return float(counter._value.get())


def chosen(market: Exchange) -> tuple[str, ...]:
    """A few instruments of each kind, those that trade most: an index, shares, futures, options near the money."""
    listed = market.market.listing.instruments
    spot = next(each for each in listed if each.key == "NSE_INDEX|Nifty 50")
    options = [each for each in listed if each.is_option and each.underlying_key == spot.key]
    middle = statistics.median(each.strike or 0.0 for each in options)
    options.sort(key=lambda each: (each.expiry, abs((each.strike or 0.0) - middle)))

    def some(kind: str, count: int) -> list[Instrument]:
        return [each for each in listed if each.instrument_type == kind][:count]

    return tuple(each.key for each in [spot, *some("EQ", 2), *some("FUT", 2), *options[:4]])


@contextlib.asynccontextmanager
async def scene(
    redis_url: str,
    home: Path,
    sim: dict[str, Any] | None = None,
    *,
    start: bool = True,
    keys: tuple[str, ...] = (),
    **more: Any,
) -> AsyncIterator[Scene]:
    """Everything is running, the feed is live, and the market moves on."""
    async with exchange(**{"record": False, "start": START, **(sim or {})}) as market:
        keys = keys or chosen(market)
        given = {"teji_feed_stale_s": STALE_S, "teji_feed_ping_s": 10.0, "teji_instruments": keys, **more}
        settings = settings_for(market, redis_url, home, **given).model_copy(update={"teji_backfill": True})
        await log_in(settings)
        async with Bus.open(redis_url) as bus:
            line = Scene(market, settings, bus, keys=keys)
            line.ends = {labels[0]: _count(child) for labels, child in metrics.FEED_ENDS._metrics.items()}
            if start:
                line.begin()
                await line.until(lambda: live.subscribed(market).keys() == set(keys), "subscribed")
            moving = asyncio.create_task(line.move())
            try:
                if start:
                    await line.says("live")
                yield line
            finally:
                moving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await moving
                for name in list(line.tasks):
                    with contextlib.suppress(Unavailable):
                        await line.stop(name)
