"""A paper venue on a real Postgres, with a clock of its own, and ways to hurt it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from brokers.paper.venue import PaperVenue
from brokers.venue import Update
from bus import postgres
from bus.settings import Settings, load
from schemas.orders import TradingMode
from tests.brokers.paper_market import ALL, T0

DEADLINE_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.ms = T0

    def __call__(self) -> int:
        return self.ms


class Wire:
    """A pool whose writes can fail, before they arrive or after."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.lose_requests = 0
        self.lose_replies = 0
        self.is_away = False
        self.writes = 0

    async def acquire(self, timeout: float) -> Any:
        if self.is_away:
            raise ConnectionRefusedError("nobody is there")
        return _Line(self, await self._pool.acquire(timeout=timeout))

    async def release(self, line: "_Line", timeout: float) -> None:
        await self._pool.release(line.connection, timeout=timeout)


class _Line:
    def __init__(self, wire: Wire, connection: Any) -> None:
        self._wire = wire
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    async def execute(self, sql: str, *arguments: Any) -> Any:
        if self._wire.lose_requests:
            self._wire.lose_requests -= 1
            raise ConnectionResetError("cut before it arrived")
        answer = await self.connection.execute(sql, *arguments)
        self._wire.writes += 1
        if self._wire.lose_replies:
            self._wire.lose_replies -= 1
            raise ConnectionResetError("cut after it arrived")
        return answer


class House:
    def __init__(self, settings: Settings, pool: Any) -> None:
        self.settings = settings
        self.pool = pool
        self.wire = Wire(pool)
        self.clock = Clock()

    def venue(self, account: TradingMode = TradingMode.PAPER) -> Any:
        return PaperVenue.open(self.settings, account, self.wire, ALL.get, self.clock)

    async def rows(self, *, account: str = "paper") -> list[tuple[str, str]]:
        found = await self.pool.fetch("SELECT kind, tag FROM paper_log WHERE account = $1 ORDER BY seq", account)
        return [(row["kind"], row["tag"]) for row in found]


@contextlib.asynccontextmanager
async def house(url: str, **more: Any) -> AsyncIterator[House]:
    settings = load(**{"_env_file": None, "teji_paper_latency_ms": 0, "teji_order_timeout_s": 5, **more})
    async with postgres.open_pool(url) as pool:
        await postgres.migrate(pool)
        yield House(settings, pool)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def heard(updates: AsyncIterator[Update], count: int) -> list[Update]:
    """The next so many."""
    told: list[Update] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(told) < count:
            told.append(await anext(updates))
    return told
