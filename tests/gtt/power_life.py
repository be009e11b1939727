"""A trader, a market, and an order worker that is started again whenever its power went."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson

from brokers.upstox.auth import TokenStore
from brokers.upstox.orders import UpstoxOrders
from brokers.venue import Venue
from bus import clock, postgres
from bus.connection import Bus, connect
from bus.embedded import Servers
from bus.life import Worker
from bus.settings import Settings
from gtt import worker as order_worker
from gtt.book.book import Book
from gtt.book.facts import FACT, Approved
from gtt.book.fold import apply
from gtt.journal import PostgresJournal
from market.instruments import Instrument, Universe
from schemas import streams
from schemas.errors import Unavailable
from schemas.gtt import Gtt
from schemas.orders import FINAL, Order, OrderStatus
from schemas.ticks import LEVEL, TICK, pack
from sim.exchange import Exchange
from sim.faults import FaultRequest
from tests.brokers.paper_market import tick
from tests.conftest import settings_in
from tests.end_to_end.processes import Process, processes
from tests.gtt.power import Power, PoweredBus, PoweredJournal, PoweredPaper, PoweredWriter, powered_venues
from tests.sim.simtools import RELIANCE, served

DEADLINE_S: Final = 20.0
#: How late a request arrives that was on its way when the power went: after the next process has begun to ask.
_LATE_MS: Final = 300
_STRATEGIES: Final = '[strategy.ema]\nmode = "live"\nsizer = "fixed"\nsize = 10\nduplicates = true\n'
_PULSE_S: Final = 0.1
_DEPTH: Final = 100_000
_STEP: Final = Decimal("0.5")  # a multiple of the tick

SHARE: Final = Instrument(
    key=RELIANCE, segment="NSE_EQ", exchange="NSE", name="RELIANCE", trading_symbol="RELIANCE", instrument_type="EQ",
    lot_size=1, tick_size=0.1, isin="INE002A01018",
)  # fmt: skip


class Life:
    """Everything but the worker lives on. Made by `living`."""

    def __init__(self, settings: Settings, bus: Bus, pool: Any, exchange: Exchange | None) -> None:
        self.settings = settings
        self.bus = bus
        self.pool = pool
        self.exchange = exchange
        self.mode = settings.teji_mode
        self.power = Power()
        self.book = Book()  # the journal, folded by a judge
        self.approved: list[str] = []
        self.replies: Counter[str] = Counter()
        self.decisions: dict[str, dict[str, Any]] = {}
        self.cuts: list[str] = []  # where it went
        self.shown = Decimal(1500)  # the last price
        self.judge: Venue | None = None  # reads the venue's books
        self._armed_next = ""
        self._heard = "0"
        self.next_point = ""  # of the life after the one that falls
        self._asked = 0
        self._over = asyncio.Event()

    # The worker's lives

    async def live(self) -> None:
        while not self._over.is_set():
            power, stop = Power(), asyncio.Event()
            power.flying = self._arrives_late
            power.arm(self._armed_next)
            self._armed_next = ""
            self.power = power
            redis = connect(self.settings.redis_url)
            task = power.start(self._work(power, stop, PoweredBus(redis, "desk", power)))
            gone = asyncio.create_task(power.gone.wait())
            try:
                await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
                if not power.gone.is_set():
                    task.result()
                    raise AssertionError("the worker has ended by itself")
                self.cuts.append(power.where)
                self.judge = None if self.exchange is None else self.judge
            finally:
                gone.cancel()
                await power.clear_away()
                await redis.aclose()

    async def _work(self, power: Power, stop: asyncio.Event, bus: Bus) -> None:
        servers = Servers(self.settings.redis_url, self.settings.postgres_url)
        await order_worker.run(
            Worker("gtt", self.settings, bus, servers, 0),
            stop,
            venues=lambda settings, pool, scene: self._keeping(powered_venues(settings, pool, scene, power)),
            journal=lambda pool, lease: PoweredJournal(PostgresJournal(pool, lease.token), power),
            writer=lambda worker, lease: PoweredWriter(worker.writer(lease), power),
            fetch=self._instruments,
        )

    @contextlib.asynccontextmanager
    async def _keeping(self, opening: Any) -> AsyncIterator[Any]:
        """The paper venue's books are read where it is."""
        async with opening as venues:
            venue = venues[self.mode]
            if isinstance(venue, PoweredPaper):
                self.judge = venue.inner
            yield venues

    async def _instruments(self, _: Settings, __: int) -> Universe:
        if self.exchange is None:
            return Universe([SHARE])
        return Universe(self.exchange.market.listing.instruments)

    def _arrives_late(self) -> None:
        if self.exchange is not None:
            order = self.exchange.order_fault
            order(FaultRequest(order_late_ms=_LATE_MS))
            asyncio.get_running_loop().call_later(0.1, order, FaultRequest(order_late_ms=0))

    def arm(self, point: str) -> None:
        """Cut at this point."""
        self.power.arm(point)

    def fall(self, then_at: str) -> None:
        """Cut now; and the next life at this point, counted from its start."""
        self._armed_next = then_at
        self.power.cut("now")

    def end(self) -> None:
        """The last cut. How a worker ends in good order is another test's subject."""
        self._over.set()
        self.power.cut("the end")

    # The market

    def price(self, percent: str = "0") -> Decimal:
        """So far from the market."""
        price = self._market() * (1 + Decimal(percent) / 100)
        return (price / _STEP).quantize(Decimal(1)) * _STEP

    def _market(self) -> Decimal:
        return Decimal(1500) if self.exchange is None else self.exchange.trading.last(RELIANCE)

    async def show(self, price: Decimal) -> None:
        """A tick at this price. At the simulated exchange the market itself stays where it is."""
        self.shown = price
        await self._tick()

    async def _tick(self) -> None:
        ltp, now_ms = float(self.shown), clock.now_ms()
        key, rec, levels = tick(
            RELIANCE,
            now_ms,
            bids=[(ltp - 0.1, _DEPTH)],
            asks=[(ltp + 0.1, _DEPTH)],
            ltp=ltp,
            cp=ltp,
            vtt=now_ms % 10**9,
        )
        recs, depth = _array([rec], TICK), _array(levels, LEVEL)
        await self.bus.redis.xadd(streams.ticks(0), pack(now_ms, clock.now_ns(), key, recs, depth))

    async def pulse(self) -> None:
        while True:
            await self._tick()
            await asyncio.sleep(_PULSE_S)

    # The trader

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        """A command, and the decision about it. A trader who is told to come back in a moment does."""
        deadline_s = clock.monotonic_s() + DEADLINE_S
        while True:
            said = await self.decision(await self.tell(kind, **body))
            if said["rule"] != "reconciling" or clock.monotonic_s() > deadline_s:
                return said

    async def tell(self, kind: str, **body: Any) -> str:
        self._asked += 1
        command = f"c{self._asked}"
        fields = {"id": command, "kind": kind, "by": "test", "data": orjson.dumps({"kind": kind, **body})}
        await self.bus.redis.xadd(streams.COMMANDS, fields)
        return command

    async def decision(self, command: str) -> dict[str, Any]:
        async def told() -> bool:
            await self._listen()
            return command in self.decisions

        await self.until(told, f"an answer to {command}")
        return self.decisions[command]

    async def place(self, side: str, quantity: int, price: Decimal | None = None, **more: Any) -> dict[str, Any]:
        terms = {"order_type": "MARKET"} if price is None else {"order_type": "LIMIT", "price": str(price)}
        body = {"instrument_token": RELIANCE, "transaction_type": side, "quantity": quantity, **terms, **more}
        return await self.ask("order.place", **body)

    async def signal(self, side: str, **more: Any) -> str:
        self._asked += 1
        name = f"s{self._asked}"
        now_ms = clock.now_ms()
        data = {"id": name, "strategy": "ema", "instrument": RELIANCE, "ts": now_ms, "side": side, **more}
        fields = {"id": name, "strategy": "ema", "instrument": RELIANCE, "ts": now_ms, "data": orjson.dumps(data)}
        await self.bus.redis.xadd(streams.SIGNALS, fields)
        return name

    async def _listen(self) -> None:
        """Replies, as they come."""
        for entry, fields in await self.bus.redis.xrange(streams.EVENTS, min=f"({self._heard}"):
            self._heard = entry.decode()
            if fields[b"kind"] == b"reply":
                said = orjson.loads(fields[b"data"])["data"]
                self.replies[said["command"]] += 1
                self.decisions[said["command"]] = said

    async def order(self, order_id: str) -> Order | None:
        told = await self.bus.redis.hget(streams.BOOK_ORDERS, order_id)
        return None if told is None else Order.model_validate_json(told)

    async def orders(self) -> dict[str, Order]:
        told = await self.bus.redis.hgetall(streams.BOOK_ORDERS)
        return {name.decode(): Order.model_validate_json(body) for name, body in told.items()}

    async def gtts(self) -> dict[str, Gtt]:
        told = await self.bus.redis.hgetall(streams.BOOK_GTTS)
        return {name.decode(): Gtt.model_validate_json(body) for name, body in told.items()}

    async def held(self) -> int:
        told = (await self.bus.redis.hgetall(streams.BOOK_POSITIONS)).values()
        return sum(orjson.loads(body)["quantity"] for body in told)

    async def until_halted(self, wanted: bool) -> None:
        async def obeyed() -> bool:
            await self._read_journal()
            return bool(self.book.halted) is wanted

        await self.until(obeyed, "the worker has heard of the halt")

    async def until_held(self, units: int) -> None:
        async def holds() -> bool:
            return await self.held() == units

        await self.until(holds, f"{units} units are held")

    async def until(self, true: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await true():  # noqa: ASYNC110 - facts in Redis have no event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"in {DEADLINE_S} s not yet: {what}") from None

    async def last_facts(self, count: int) -> str:
        rows = await self.pool.fetch("SELECT n, kind, data FROM journal ORDER BY n DESC LIMIT $1", count)
        return "\n".join(f"{row['n']} {row['kind']} {row['data'][:500]}" for row in reversed(rows))

    # The judge

    async def quiet(self, *, compared: bool = False) -> None:
        """Every order has ended, every command its answer, everything is told. `compared`: with the venue, too, which
        is told once a second."""

        async def rests() -> bool:
            await self._read_journal()
            await self._listen()
            account = orjson.loads(await self.bus.redis.hget(streams.BOOK_ACCOUNTS, self.mode.value) or b"{}")
            held = self.book.account(self.mode)
            return (
                not (compared and account.get("reconciling", True))
                and not self.book.waiting
                and len(self.decisions) >= len(self.book.commands)
                and not any(True for _ in self.book.live())
                and not any(each.state.gtt.live for each in self.book.gtts.values())
                and not any(each.quantity for each in held.positions.values())
                and not held.flattening
                and await self._all_is_told()
            )

        await self.until(rests, "all is quiet")

    async def _read_journal(self) -> None:
        rows = await self.pool.fetch("SELECT n, data FROM journal WHERE n > $1 ORDER BY n", self.book.n)
        for row in rows:
            fact = FACT.validate_json(row["data"])
            apply(self.book, row["n"], fact)
            if isinstance(fact, Approved):
                self.approved += [order.order_id for order in fact.orders]

    async def compare(self) -> None:
        """The venue's books, the journal, and what was told of it."""
        await self._read_journal()
        theirs, trades, positions = await self._venues_books()
        self._no_order_is_lost_or_double(theirs)
        by_id = {each.venue_order_id: each for each in theirs}
        for record in self.book.orders.values():
            told, order = by_id.get(record.order.venue_order_id), record.order
            assert not record.foreign, order
            if told is None:
                assert order.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED), order
                assert not order.filled_quantity, order
                continue
            ours = (order.status, order.filled_quantity, order.venue_order_id, order.quantity)
            assert ours == (told.status, told.filled_quantity, told.venue_order_id, told.quantity), (order, told)
            assert abs(order.average_price - told.average_price) < Decimal("0.001"), (order, told)
        made = Counter((each.venue_order_id, each.trade_id, each.quantity, each.price) for each in trades)
        fills = Counter((f.venue_order_id, f.trade_id, f.quantity, f.price) for f in self.book.fills.values())
        assert fills == made
        held = {(p.instrument, p.product): p.quantity for p in positions if p.quantity}
        believed = self.book.account(self.mode).positions.values()
        assert {(p.instrument, p.product): p.quantity for p in believed if p.quantity} == held
        self._gtts_are_each_ones_own()
        await self._told_is_what_is_written()

    async def _venues_books(self) -> tuple[Any, Any, Any]:
        found: list[Any] = []

        async def read() -> bool:
            with contextlib.suppress(Unavailable):  # a busy machine; a paper venue that falls with its worker
                if (judge := self.judge) is not None:
                    found[:] = await judge.orders(), await judge.trades(), await judge.positions()
            return len(found) == 3

        await self.until(read, "the venue shows its books")
        return found[0], found[1], found[2]

    def _no_order_is_lost_or_double(self, theirs: Any) -> None:
        there = Counter(each.tag for each in theirs if each.tag)  # the venue's own GTTs give their orders none
        assert not [tag for tag, count in there.items() if count > 1], "doubled"
        assert not there.keys() - set(self.approved), "nobody approved these"
        never = {
            order_id
            for order_id in set(self.approved) - there.keys()
            if "cancelled before it was sent" not in self.book.orders[order_id].order.reason
        }
        assert not never, [self.book.orders[each].order for each in never]

    def _gtts_are_each_ones_own(self) -> None:
        """They have no tag: one that was sent twice would be at the exchange, and nobody's."""
        if self.exchange is not None:
            told = (record.state.gtt.venue_gtt_order_id for record in self.book.gtts.values())
            assert Counter(name for name in told if name) == Counter(self.exchange.gtts.ever.keys())
            assert not [gtt for gtt in self.exchange.gtts.ever.values() if gtt.is_live]

    async def _all_is_told(self) -> bool:
        orders = {order_id: record.order for order_id, record in self.book.orders.items()}
        gtts = {name: record.state.gtt for name, record in self.book.gtts.items()}
        return await self.orders() == orders and await self.gtts() == gtts

    async def _told_is_what_is_written(self) -> None:
        ours = {order_id: record.order for order_id, record in self.book.orders.items()}
        assert await self._all_is_told()
        last: dict[str, Order] = {}
        fills: Counter[str] = Counter()
        ids: Counter[bytes] = Counter()
        for _, fields in await self.bus.redis.xrange(streams.ORDERS):
            ids[fields[b"id"]] += 1
            if fields[b"kind"] == b"order":
                order = Order.model_validate_json(fields[b"data"])
                last[order.order_id] = order
            elif fields[b"kind"] == b"fill":
                fills[orjson.loads(fields[b"data"])["fill_id"]] += 1
        assert last == ours
        assert {order.status for order in last.values()} <= FINAL
        assert fills == Counter(self.book.fills.keys())
        assert not [entry for entry, count in ids.items() if count > 1], "told twice"
        assert self.replies == Counter(self.book.commands.keys())


def _array(rows: Any, kind: Any) -> Any:
    import numpy as np

    return np.array(rows, kind)


@contextlib.asynccontextmanager
async def living(redis_url: str, postgres_url: str, home: Path, venue: str) -> AsyncIterator[Life]:
    """With the worker inside of the test, where its power can be cut."""
    async with _around(redis_url, postgres_url, home, venue) as life:
        worker = asyncio.create_task(life.live())
        try:
            yield life
            life.end()
            await asyncio.wait_for(worker, DEADLINE_S)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


@contextlib.asynccontextmanager
async def living_apart(redis_url: str, postgres_url: str, home: Path) -> AsyncIterator[tuple[Life, Process]]:
    """With the worker as a process, at the simulated exchange."""
    async with _around(redis_url, postgres_url, home, "upstox") as life:
        given = {name.upper(): str(value) for name, value in _terms("upstox", life.exchange).items()}
        env = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "TEJI_HOME": str(home), **given}
        async with processes(env, home.parent, "gtt") as running:
            yield life, running["gtt"]


@contextlib.asynccontextmanager
async def _around(redis_url: str, postgres_url: str, home: Path, venue: str) -> AsyncIterator[Life]:
    async with contextlib.AsyncExitStack() as stack:
        exchange = None
        if venue == "upstox":
            exchange = await stack.enter_async_context(served(clock="open", start=None, record=False))
        _furnish(home)
        urls = {"redis_url": redis_url, "database_url": postgres_url}
        settings = settings_in(home, **urls, **_terms(venue, exchange))
        bus = await stack.enter_async_context(Bus.open(redis_url, "test"))
        pool = await stack.enter_async_context(postgres.open_pool(postgres_url))
        life = Life(settings, bus, pool, exchange)
        if exchange is not None:
            tokens = TokenStore(settings)
            tokens.save(exchange.auth.token(exchange.now_ms()))
            life.judge = await stack.enter_async_context(UpstoxOrders.open(settings, tokens))
        life.shown = life.price()
        pulse = asyncio.create_task(life.pulse())
        try:
            yield life
        finally:
            pulse.cancel()
            await asyncio.gather(pulse, return_exceptions=True)


def _furnish(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "strategies.toml").write_text(_STRATEGIES)


def _terms(venue: str, exchange: Exchange | None) -> dict[str, Any]:
    """Settings, by their names. Short times, and nothing forbidden for its size."""
    terms: dict[str, Any] = {
        "teji_calendar": "always", "teji_unknown_s": 0.6, "teji_reconcile_s": 0.5, "teji_lease_s": 2.0,
        "teji_capital": 1_000_000_000, "teji_risk_position": 1, "teji_risk_trade": 1, "teji_risk_trades": 100_000,
        "teji_paper_latency_ms": 5, "teji_order_timeout_s": 3, "teji_feed_ping_s": 5, "teji_mode": "paper",
    }  # fmt: skip
    if exchange is not None:
        urls = dict.fromkeys(("upstox_api_url", "upstox_order_url", "upstox_assets_url"), exchange.url)
        terms |= {"teji_mode": "live", "teji_order_budget": "10,500,2000", **urls}
    return terms
