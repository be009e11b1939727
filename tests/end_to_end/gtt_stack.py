"""A whole stack for GTT scenarios: the simulated exchange whose trades are chosen, ingest and the order worker in front
of it, on paper and live at once. What is told of orders and GTTs is followed in the streams, as a client would.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import orjson

import gtt.worker
import ingest.worker
from brokers.venue import Venue
from bus import clock
from bus.connection import Bus
from bus.embedded import Servers
from bus.inbox import Output, Value, Writer
from bus.life import Main, Worker
from bus.postgres import Pool
from bus.reader import Reader
from bus.settings import Settings
from gtt.scene import MarketScene
from market.instruments import Instrument
from schemas import streams
from schemas.gtt import Gtt
from schemas.orders import Fill, Order, Position, TradingMode
from schemas.replies import Decision
from sim.book import depth
from sim.clock import ManualClock
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.market import Trades, Update
from tests.end_to_end.pipeline import exchange, log_in, settings_for

DEADLINE_S: Final = 15.0
_ALGO: Final = "scenarios"  # a registered algo may write 50 orders a second
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000
_RICH: Final = 1_000_000_000_000
_Venues = Mapping[TradingMode, Venue]


class Told:
    """What `orders` and `events` have said so far."""

    def __init__(self, bus: Bus) -> None:
        self._reader = Reader(bus)
        self.orders: dict[str, Order] = {}
        self.gtts: dict[str, list[Gtt]] = {}  # every telling, oldest first
        self.fills: dict[str, Fill] = {}
        self.positions: dict[tuple[str, str, str], Position] = {}
        self.replies: dict[str, list[Decision]] = {}
        self.alerts: list[str] = []
        self._news = asyncio.Event()

    async def follow(self) -> None:
        places = {streams.ORDERS: "0-0", streams.EVENTS: "0-0"}
        try:
            while True:
                for read in await self._reader.read(places, count=500, block_ms=500):
                    for entry_id, fields in read.entries:
                        places[read.stream] = entry_id.decode()
                        (self._order if read.stream == streams.ORDERS else self._event)(fields)
                    self._news.set()
        finally:
            await self._reader.close()

    def _order(self, fields: dict[bytes, bytes]) -> None:
        kind, data = fields[b"kind"], fields[b"data"]
        if kind == b"order":
            order = Order.model_validate_json(data)
            self.orders[order.order_id] = order
        elif kind == b"gtt":
            gtt = Gtt.model_validate_json(data)
            self.gtts.setdefault(gtt.gtt_order_id, []).append(gtt)
        elif kind == b"fill":
            fill = Fill.model_validate_json(data)
            self.fills[fill.fill_id] = fill
        elif kind == b"position":
            position = Position.model_validate_json(data)
            self.positions[position.mode.value, position.instrument, position.product.value] = position

    def _event(self, fields: dict[bytes, bytes]) -> None:
        event = orjson.loads(fields[b"data"])
        if event["kind"] == "reply":
            decision = Decision.model_validate(event["data"])
            self.replies.setdefault(decision.command, []).append(decision)
        elif event["kind"] == "alert":
            self.alerts.append(event["message"])

    async def until(self, true: Callable[[], Any], what: Callable[[], str]) -> None:
        """A fact, with a deadline; looked at after every piece of news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                while not true():
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), 0.5)  # some facts are the exchange's
                return
        raise AssertionError(f"in {DEADLINE_S} s not: {what()}")


class Stack:
    def __init__(self, market: Exchange, settings: Settings, bus: Bus) -> None:
        self.market = market
        self.settings = settings
        self.bus = bus
        self.told = Told(bus)
        self.scene: MarketScene | None = None
        self.free = list(tradeable(market))
        self.traded: set[str] = set()
        self._writer = Writer(bus, None, streams.RETENTION_MS)
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._count = itertools.count(1)
        self._began = (market.now_ms(), time.monotonic())
        self._trading = asyncio.Lock()

    # Workers

    def start(self, name: str, run: Main) -> None:
        stop = asyncio.Event()
        servers = Servers(self.settings.redis_url, self.settings.postgres_url)
        bus = Bus(self.bus.redis, f"{name}-{next(self._count)}")
        worker = Worker(name, self.settings, bus, servers, 0)
        self._tasks[name] = (asyncio.ensure_future(run(worker, stop)), stop)

    def start_desk(self) -> None:
        """The order worker; its board is looked at, to know what it has seen."""

        @contextlib.asynccontextmanager
        async def venues(settings: Settings, pool: Pool, scene: MarketScene) -> AsyncIterator[_Venues]:
            async with gtt.worker.venues_of(settings, pool, scene) as found:
                self.scene = scene
                try:
                    yield found
                finally:
                    self.scene = None

        async def run(worker: Worker, stop: asyncio.Event) -> None:
            await gtt.worker.run(worker, stop, venues=venues)

        self.start("gtt", run)

    async def stop(self, name: str) -> None:
        task, stop = self._tasks.pop(name)
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)

    async def restart(self, *, at_once: bool = False) -> None:
        """The order worker ends, in the middle of whatever it does where `at_once`, and another one begins; the market
        goes on."""
        if at_once:
            self._tasks["gtt"][0].cancel()
            await asyncio.gather(self._tasks.pop("gtt")[0], return_exceptions=True)
        else:
            await self.stop("gtt")
        self.start_desk()
        await until(self, self._is_up, "the order worker is up")
        for key in self.traded:
            row = self.market.market.listing.row_of[key]
            self._publish(key, float(self.market.market.ltp[row]), quantity=0)
        await self.market.hub.settle(1.0)

    async def _is_up(self) -> bool:
        return self.scene is not None

    async def close(self) -> None:
        for name in reversed(list(self._tasks)):
            await self.stop(name)

    def check(self) -> None:
        for task, _ in self._tasks.values():
            if task.done():
                task.result()

    # The market

    def now(self) -> int:
        """Venue time goes with the machine's, from where it was left."""
        venue_ms, began_s = self._began
        return venue_ms + int((time.monotonic() - began_s) * 1000)

    def will_show(self, key: str, ask: float, trades: int) -> int:
        """Units at the best ask after so many more trades, were it `ask` then."""
        market = self.market.market
        rows = np.array([market.listing.row_of[key]])
        asks = np.array([ask])
        return int(depth(market.columns, rows, asks - 0.1, asks, market.epoch[rows] + trades, 1).ask_qty[0, 0])

    async def night(self) -> None:
        """Past midnight: the hours between are not lived through."""
        now_ms = self.now()
        past_ms = (now_ms + _IST_MS) // _DAY_MS * _DAY_MS + _DAY_MS - _IST_MS
        self._began = (past_ms, time.monotonic())

    async def trade(
        self, key: str, price: float, *, beside: float = 0.05, quantity: int = 5_000, settle: bool = True
    ) -> None:
        """It trades at `price`; its quotes lie `beside` it. Nothing else moves."""
        async with self._trading:
            self._trade(key, price, beside, quantity)
            if settle:
                await self.market.hub.settle(1.0)

    def _trade(self, key: str, price: float, beside: float, quantity: int) -> None:
        market = self.market.market
        row = market.listing.row_of[key]
        market.bid[row], market.ask[row] = round(price - beside, 2), round(price + beside, 2)
        market.epoch[row] += 1
        self.traded.add(key)
        self._publish(key, price, quantity)

    def _publish(self, key: str, price: float, quantity: int) -> None:
        at, market = self.market, self.market.market
        row = market.listing.row_of[key]
        clock_ = at.clock
        assert isinstance(clock_, ManualClock)
        clock_.move_to(max(self.now(), clock_.now_ms() + 1))
        ts = at.now_ms()
        market.ltp[row], market.ltt[row] = price, ts
        market.vtt[row] += quantity
        rows = np.array([row])
        trades = Trades(row=rows, ts=np.array([ts]), price=np.array([price]), quantity=np.array([quantity]))
        update = Update(ts, rows, trades)
        at.hub.publish(update)
        at.trading.step(update)
        at.gtts.step(update)
        at.portfolio.step(update.ts)

    async def seen(self, key: str, price: float) -> None:
        """Until the order worker knows this price."""

        async def known() -> bool:
            quote = self.scene.quote(key) if self.scene else None
            return quote is not None and quote.ltp == price

        await until(self, known, f"{key} at {price}")

    def fault(self, **fields: Any) -> None:
        """Something fails at the exchange from now on."""
        self.market.order_fault(FaultRequest(**fields))

    async def halt(self, why: str) -> None:
        await self.bus.redis.set(streams.HALT, why)
        await until(self, lambda: self._halted(True), "halted")

    async def resume(self) -> None:
        await self.bus.redis.delete(streams.HALT)
        await until(self, lambda: self._halted(False), "resumed")

    async def _halted(self, wanted: bool) -> bool:
        accounts = await self.bus.redis.hgetall(streams.BOOK_ACCOUNTS)
        return all(bool(orjson.loads(data)["halted"]) is wanted for data in accounts.values())

    # Commands

    async def send(self, kind: str, body: dict[str, Any]) -> str:
        command = f"c{next(self._count)}"
        fields: dict[str, Value] = {"id": command, "kind": kind, "by": "scenario", "data": orjson.dumps(body)}
        await self._writer.write([Output(streams.COMMANDS, fields)], now_s=clock.monotonic_s())
        return command

    async def ask(self, kind: str, body: dict[str, Any]) -> Decision:
        command = await self.send(kind, body)
        await self.told.until(lambda: command in self.told.replies, lambda: f"a reply to {kind} {body}")
        (decision,) = self.told.replies[command]
        return decision


def tradeable(market: Exchange) -> Iterable[Instrument]:
    """Contracts of which each scenario gets one for itself: what a share's price says of others does not matter."""
    return (each for each in market.market.listing.instruments if each.is_option)


@contextlib.asynccontextmanager
async def stack(
    redis_url: str, postgres_url: str, home: Path, *, sim: Mapping[str, Any] = MappingProxyType({}), **more: Any
) -> AsyncIterator[Stack]:
    sim = {"record": False, "funds": Decimal(_RICH), "algo_name": _ALGO, "instruments": 300, **sim}
    async with exchange(**sim) as market, Bus.open(redis_url) as bus:
        chosen: dict[str, Any] = {
            "database_url": postgres_url, "upstox_order_url": market.url, "teji_mode": "live",
            "teji_instruments": tuple(each.key for each in tradeable(market)), "teji_capital": _RICH,
            "teji_risk_position": 1, "teji_risk_trade": 1, "teji_risk_day_loss": 1, "teji_risk_drawdown": 1,
            "teji_risk_trades": 100_000, "teji_order_budget": "50,500,2000", "teji_algo_name": _ALGO,
            "teji_unknown_s": 1.0, "teji_feed_stale_s": 120.0, "teji_feed_unseen_s": 120.0, **more,
        }  # fmt: skip
        settings = settings_for(market, redis_url, home, **chosen).model_copy(update={"teji_lease_s": 10.0})
        await log_in(settings)
        here = Stack(market, settings, bus)
        following = asyncio.create_task(here.told.follow())
        here.start("ingest", ingest.worker.run)
        here.start_desk()
        try:
            await until(here, lambda: _ready(bus), "the pipeline is up")
            yield here
        finally:
            await here.close()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _ready(bus: Bus) -> bool:
    """Prices come, and the desk has compared its books with the venues'."""
    accounts = await bus.redis.hgetall(streams.BOOK_ACCOUNTS)
    told = [orjson.loads(data) for data in accounts.values()]
    ready = len(told) == 3 and all(not each["reconciling"] and each["connected"] for each in told)
    return ready and bool(await bus.redis.hlen(streams.quotes(0)))


async def until(here: Stack, true: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await true():
                here.check()
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"in {DEADLINE_S} s not yet: {what}") from None
