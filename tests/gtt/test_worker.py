"""The order worker as a real process on a real Redis and Postgres, with the paper venue; killed and started again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson
import pytest

from bus import clock
from bus.connection import Bus, pairs
from bus.embedded import Servers
from bus.inbox import Output, Value, Writer
from bus.life import Worker
from bus.postgres import migrate, open_pool
from bus.settings import Calendar, Settings
from gtt.risk.limits import Limits, Strategies
from gtt.worker import run
from schemas import streams, ticks
from schemas.orders import order_id_of
from schemas.signals import Signal, SignalSide
from schemas.ticks import LEVEL, TICK, Block, Kind, SessionClass
from tests.bus.processes import Process, started
from tests.gtt.fake import KEY
from tests.gtt.worker_main import fetch

_DEADLINE_S = 20.0
_BLOCKS = int(Block.LTPC | Block.DEPTH | Block.VTT)


def tick(price: float, traded: int) -> dict[bytes, bytes | int]:
    """A state of the share, with a thousand shares on each of five levels."""
    now_ms = clock.now_ms()
    rec = np.zeros(1, TICK)
    values = {
        "id": streams.instrument_id(KEY), "flags": _BLOCKS | _BLOCKS << 16, "levels": 5, "kind": int(Kind.MARKET),
        "session": int(SessionClass.ALWAYS_OPEN), "ts": now_ms, "ltp": price, "ltt": now_ms, "ltq": 10, "cp": price,
        "vtt": traded, "bid": price - 0.05, "bid_qty": 1000, "ask": price + 0.05, "ask_qty": 1000,
    }  # fmt: skip
    for name, value in values.items():
        rec[name] = value
    levels = [(1000, price - 0.05 * (1 + at), 1000, price + 0.05 * (1 + at)) for at in range(5)]
    return ticks.pack(now_ms, clock.now_ns(), KEY, rec, np.array(levels, LEVEL))


class Desk:
    """The worker from outside: ticks and commands in, the book out."""

    def __init__(self, bus: Bus, settings: Settings, folder: Path) -> None:
        self.bus = bus
        self._settings = settings
        self._folder = folder
        self._writer = Writer(bus, None, streams.RETENTION_MS)
        self._processes = ExitStack()
        self.process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.price = 100.0
        self._traded = int(time.time()) % 1_000_000

    def start(self) -> None:
        env = {
            "REDIS_URL": self._settings.redis_url,
            "DATABASE_URL": self._settings.database_url.get_secret_value(),
            "TEJI_HOME": str(self._settings.home),
            "TEJI_CALENDAR": "always",
            "TEJI_LEASE_S": "1",
            "TEJI_METRICS_PORT": "0",
        }
        began = started("-m", "tests.gtt.worker_main", log=self._folder / "gtt.log", **env)
        self.process = self._processes.enter_context(began)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def start_here(self) -> None:
        """In this process: started at once, and nobody can kill it."""
        settings = self._settings.model_copy(update={"teji_calendar": Calendar.ALWAYS})
        servers = Servers(settings.redis_url, settings.database_url.get_secret_value())
        worker = Worker("gtt", settings, self.bus, servers, 0)
        self._task = asyncio.create_task(run(worker, self._stop, fetch=fetch))

    async def close(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        self._processes.close()

    async def beat(self) -> None:
        """The market goes on: a state at the present price, ten times a second."""
        while True:
            self._traded += 1
            output = Output(streams.ticks(0), tick(self.price, self._traded))
            await self._writer.write([output], now_s=clock.monotonic_s())
            await asyncio.sleep(0.1)

    async def command(self, command_id: str, kind: str, **body: Any) -> None:
        fields: dict[str, Value] = {"id": command_id, "kind": kind, "by": "test", "data": orjson.dumps(body)}
        await self._writer.write([Output(streams.COMMANDS, fields)], now_s=clock.monotonic_s())

    async def signal(self, signal: Signal) -> None:
        fields: dict[str, Value] = {
            "id": signal.id,
            "strategy": signal.strategy,
            "instrument": signal.instrument,
            "ts": signal.ts,
        }
        fields["data"] = signal.model_dump_json()
        await self._writer.write([Output(streams.SIGNALS, fields)], now_s=clock.monotonic_s())

    async def hash(self, key: str) -> dict[str, Any]:
        (flat,) = await self.bus.packet(("HGETALL", key))
        return {name.decode(): orjson.loads(value) for name, value in pairs(flat).items()}

    async def reply(self, command_id: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def answered() -> bool:
            (entries,) = await self.bus.packet(("XRANGE", streams.EVENTS, "-", "+"))
            for _, flat in entries:
                event = orjson.loads(pairs(flat)[b"data"])
                if event["kind"] == "reply" and event["data"]["command"] == command_id:
                    found.update(event["data"])
            return bool(found)

        await self.until(answered, f"a reply to {command_id}")
        return found

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """A condition with a deadline; what the worker said, where it is not met."""
        end_s = time.monotonic() + _DEADLINE_S
        while not await condition():
            if self._task is not None and self._task.done():
                self._task.result()
            if time.monotonic() > end_s:
                raise AssertionError(f"no {what}: {self.process.text[-3000:] if self.process else ''}")
            await asyncio.sleep(0.02)

    async def position(self, quantity: int) -> None:
        async def held() -> bool:
            positions = (await self.hash(streams.BOOK_POSITIONS)).values()
            return bool(sum(each["quantity"] for each in positions) == quantity)

        await self.until(held, f"position of {quantity}")


@asynccontextmanager
async def desk(settings: Settings, folder: Path, *, killable: bool = False) -> AsyncIterator[Desk]:
    async with Bus.open(settings.redis_url) as bus:
        here = Desk(bus, settings, folder)
        if killable:
            here.start()
        else:
            here.start_here()
        beat = asyncio.create_task(here.beat())
        try:
            yield here
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await here.close()


async def placed_at_the_venue(settings: Settings) -> list[str]:
    """Tags of all orders that the paper venue ever got."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        rows = await connection.fetch("SELECT tag FROM paper_log WHERE kind = 'placed' ORDER BY n")
        return [row["tag"] for row in rows]
    finally:
        await connection.close()


def a_signal(name: str) -> Signal:
    return Signal(
        id=name, strategy="ema", instrument=KEY, ts=clock.now_ms(), side=SignalSide.BUY, quantity=10,
        stop_loss="95", take_profit="110",
    )  # fmt: skip


async def test_a_signal_becomes_a_position_that_is_guarded_and_left_whoever_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    async with desk(settings, tmp_path, killable=True) as here:
        await here.signal(a_signal("s1"))
        await here.position(10)
        (gtt,) = (await here.hash(streams.BOOK_GTTS)).values()
        assert (gtt["strategy"], gtt["engine"], gtt["entered"]) == ("ema", "ours", 10)

        here.kill()
        await here.signal(a_signal("s1"))  # the strategy, too, was killed: it says again what it has said
        await here.command("late", "order.place", instrument_token=KEY, transaction_type="BUY", quantity=2, price=101)
        here.price = 94.0  # the stop is crossed while nobody looks
        await asyncio.sleep(0.2)
        here.start()

        assert (await here.reply("late"))["ok"]
        await here.position(2)
        placed = await placed_at_the_venue(settings)
        assert len(placed) == len(set(placed)) == 3  # entry, stop, the late one
        gtts = await here.hash(streams.BOOK_GTTS)
        assert [(gtt["exited"], gtt["live"]) for gtt in gtts.values()] == [(10, False)]

        await here.command("x", "position.exit")
        await here.position(0)

        async def counted() -> bool:
            return bool((await here.hash(streams.BOOK_ACCOUNTS))["paper"]["trades"] == 2)

        await here.until(counted, "two entries counted")


async def test_the_same_command_is_carried_out_once_and_answered_the_same(settings: Settings, tmp_path: Path) -> None:
    async with desk(settings, tmp_path) as here:
        order = {"instrument_token": KEY, "transaction_type": "BUY", "quantity": 3, "price": 101}
        await here.command("c", "order.place", **order)
        first = await here.reply("c")
        assert first["orders"][0]["order_id"] == order_id_of("command:c")
        await here.command("c", "order.place", **order)
        await here.position(3)
        assert await placed_at_the_venue(settings) == [order_id_of("command:c")]

        await here.command("bad", "order.place", instrument_token=KEY)
        refused = await here.reply("bad")
        assert not refused["ok"]
        assert "transaction_type" in refused["reason"]
        dead = await here.bus.last_entry(streams.dead(streams.COMMANDS))
        assert dead is not None
        assert dead[1][b"id"] == b"bad"


async def test_a_halt_in_redis_stops_entries_within_a_second_and_lets_exits_pass(
    settings: Settings, tmp_path: Path
) -> None:
    async with desk(settings, tmp_path) as here:
        order = {"instrument_token": KEY, "quantity": 3, "order_type": "MARKET"}
        await here.command("in", "order.place", transaction_type="BUY", **order)
        await here.position(3)
        await here.bus.packet(("SET", streams.HALT, "fat finger"))

        async def known() -> bool:
            accounts = await here.hash(streams.BOOK_ACCOUNTS)
            return bool(accounts["paper"]["halted"])

        await here.until(known, "halt in the accounts")
        await here.command("no", "order.place", transaction_type="BUY", **order)
        refused = await here.reply("no")
        assert (refused["ok"], refused["rule"]) == (False, "halt")
        assert "fat finger" in refused["reason"]
        await here.command("out", "order.place", transaction_type="SELL", **order)
        assert (await here.reply("out"))["ok"]
        await here.position(0)


async def test_an_entry_that_the_desk_fails_on_is_set_aside_and_the_desk_goes_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits_of = Strategies.of

    def fails(self: Strategies, strategy: str) -> Limits:
        if strategy == "a-bug":
            raise RuntimeError("a bug")
        return limits_of(self, strategy)

    monkeypatch.setattr(Strategies, "of", fails)
    async with desk(settings, tmp_path) as here:
        order = {"instrument_token": KEY, "transaction_type": "BUY", "quantity": 3, "price": 101}
        await here.command("before", "order.place", **order)
        await here.command("bug", "order.place", **{**order, "strategy": "a-bug"})
        await here.command("after", "order.place", **order)
        refused = await here.reply("bug")
        assert (refused["ok"], "RuntimeError" in refused["reason"]) == (False, True)
        assert (await here.reply("before"))["ok"]
        assert (await here.reply("after"))["ok"]
        await here.position(6)
        assert len(await placed_at_the_venue(settings)) == 2


async def test_a_signal_whose_id_was_used_days_ago_changes_nothing_and_others_pass(
    settings: Settings, tmp_path: Path
) -> None:
    old_ms = clock.now_ms() - 5 * 86_400_000
    async with open_pool(settings.database_url.get_secret_value()) as pool:
        await migrate(pool)
        await pool.execute(
            "INSERT INTO journal (ts, account, kind, intent_id, data) VALUES ($1, 'paper', 'refused', $2, $3)",
            old_ms,
            "signal:again",
            orjson.dumps(
                {
                    "kind": "refused", "ts": old_ms, "account": "paper",
                    "refusal": {"intent_id": "signal:again", "rule": "halt", "reason": "halted", "ts": old_ms},
                }
            ).decode(),
        )  # fmt: skip
    async with desk(settings, tmp_path) as here:
        await here.signal(a_signal("again"))
        await here.signal(a_signal("new"))
        await here.position(10)
        assert len(await placed_at_the_venue(settings)) == 1
