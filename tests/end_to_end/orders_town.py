"""A town for orders: the simulated exchange in live mode, ingest, order worker and gateway as processes, and a trader
at the gateway's door who asks again under the same key until he has an answer."""

import asyncio
import contextlib
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import orjson

from brokers.upstox.auth import TokenStore
from bus import embedded
from bus.connection import Bus
from bus.settings import Settings
from schemas import streams
from sim.exchange import Exchange
from tests.conftest import settings_in
from tests.end_to_end.processes import Process, processes
from tests.sim.simtools import RELIANCE, served

API: Final = "/api/v1"
DEADLINE_S: Final = 60.0
_CALL_S: Final = 8.0
_PATIENCE_S: Final = 90.0  # of the trader, who asks again
_AGAIN_S: Final = 0.2

_STRATEGIES: Final = '[strategy.ema]\nmode = "live"\nsizer = "fixed"\nsize = 10\nduplicates = true\n'


@dataclass
class Town:
    exchange: Exchange
    settings: Settings
    url: str
    http: httpx.AsyncClient
    running: dict[str, Process]
    bus: Bus
    redis: ExitStack
    postgres: Path
    asked: list[tuple[str, str]] = field(default_factory=list)  # method and path of every call, once each

    # The trader

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """One call, under one key, until there is an answer."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        self.asked.append((method, path))
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    told = await self.http.request(method, f"{API}/{path}", json=body, headers=headers)
                    if told.status_code < 500 and told.status_code != 202:
                        return told
                await asyncio.sleep(_AGAIN_S)

    async def get(self, path: str) -> Any:
        while True:
            with contextlib.suppress(httpx.TransportError):
                told = await self.http.get(f"{API}/{path}")
                if told.status_code == 200:
                    return told.json()
            await asyncio.sleep(_AGAIN_S)

    async def until(self, true: Callable[[], Awaitable[Any]], what: str, seconds: float = DEADLINE_S) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await true():
                    for process in self.running.values():
                        process.check()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"in {seconds} s not yet: {what}") from None

    def price(self, key: str, percent: float = 0.0) -> Decimal:
        """So far from the market, on a tick."""
        tick = Decimal(repr(self.exchange.trading.instrument(key).tick_size))
        wanted = self.exchange.trading.last(key) * (1 + Decimal(repr(percent)) / 100)
        return max((wanted / tick).quantize(Decimal(1)), Decimal(1)) * tick

    def log_in(self) -> None:
        TokenStore(self.settings).save(self.exchange.auth.token(self.exchange.now_ms()))

    # What goes wrong around the workers

    async def restart_redis(self, pause_s: float) -> None:
        await asyncio.to_thread(self.redis.close)  # the last user leaves: it stops
        await asyncio.sleep(pause_s)
        servers = embedded.servers(settings_in(self.settings.home), postgres=False)
        await asyncio.to_thread(self.redis.enter_context, servers)

    async def freeze_postgres(self, seconds: float) -> None:
        frozen = _processes_of(self.postgres)
        _signal(frozen, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _signal(frozen, signal.SIGCONT)

    async def rows(self, sql: str, *about: Any) -> list[Any]:
        connection = await asyncpg.connect(self.settings.postgres_url)
        try:
            return list(await connection.fetch(sql, *about))
        finally:
            await connection.close()


def _processes_of(postgres: Path) -> list[int]:
    """The server and all its children."""
    postmaster = int((postgres / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _furnish(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "strategies.toml").write_text(_STRATEGIES)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.asynccontextmanager
async def town(home: Path, keys: tuple[str, ...] = (RELIANCE,), **env: str) -> AsyncIterator[Town]:
    """Everything is up, a price is known, the books are compared."""
    _furnish(home)
    port = _free_port()
    async with contextlib.AsyncExitStack() as stack:
        redis, database = stack.enter_context(ExitStack()), home.parent / "database"
        redis_url = redis.enter_context(embedded.servers(settings_in(home), postgres=False)).redis_url
        elsewhere = settings_in(database, redis_url="redis://unused")
        postgres_url = stack.enter_context(embedded.servers(elsewhere)).postgres_url
        exchange = await stack.enter_async_context(
            served(clock="open", start=None, record=False, instruments=40, funds=Decimal(100_000_000))
        )
        settings = settings_in(home, redis_url=redis_url, database_url=postgres_url)
        TokenStore(settings).save(exchange.auth.token(exchange.now_ms()))
        whole = {
            "REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "TEJI_HOME": str(home), "TEJI_PORT": str(port),
            **dict.fromkeys(("UPSTOX_API_URL", "UPSTOX_ORDER_URL", "UPSTOX_ASSETS_URL"), exchange.url),
            "UPSTOX_API_KEY": "sim-key", "TEJI_MODE": "live", "TEJI_CALENDAR": "always", "TEJI_LEASE_S": "1",
            "TEJI_INSTRUMENTS": ",".join(keys), "TEJI_BACKFILL": "false", "TEJI_CAPITAL": "1000000000",
            "TEJI_RISK_POSITION": "1", "TEJI_RISK_TRADE": "1", "TEJI_RISK_TRADES": "1000000",
            "TEJI_ORDER_BUDGET": "10,500,2000", "TEJI_ORDER_TIMEOUT_S": "1", "TEJI_UNKNOWN_S": "2",
            "TEJI_RECONCILE_S": "3", "TEJI_LEFTOVER_S": "2", **env,
        }  # fmt: skip
        running = await stack.enter_async_context(processes(whole, home.parent, "ingest", "gtt", "gateway"))
        url = f"http://127.0.0.1:{port}"
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=_CALL_S))
        bus = await stack.enter_async_context(Bus.open(redis_url, "test"))
        place = Town(exchange, settings, url, http, running, bus, redis, database / "postgres")

        async def ready() -> bool:
            quoted = await bus.redis.xlen(streams.ticks(0))
            account = orjson.loads(await bus.redis.hget(streams.BOOK_ACCOUNTS, "live") or b"{}")
            doors = (await place.get("trading"))["worker"]
            return bool(quoted and doors) and not account.get("reconciling", True)

        await place.until(ready, "everything is up")
        yield place
