"""All workers as processes in front of an accelerated market, each killed -9 at random moments.

What must hold afterwards: every bar has the price and volume of the venue's own candle, nothing is doubled, and
Postgres holds exactly the bars that Redis does. `TEJI_KILL_S` makes it longer than the suite's time allows.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from brokers.upstox.auth import TokenStore
from bus.connection import Bus
from schemas.streams import instrument_id
from tests.end_to_end.pipeline import MINUTE, Pipeline, exchange, final, log_in, settings_for
from tests.end_to_end.processes import Process, processes

_KILL_S: Final = float(os.environ.get("TEJI_KILL_S", "20"))
_SPEED: Final = 20.0
_SETTLE_S: Final = 45.0


async def test_bars_and_rows_survive_kills_of_every_worker(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with exchange(clock="fast", speed=_SPEED, instruments=40, record=False) as market, Bus.open(redis_url) as bus:
        settings = settings_for(market, redis_url, tmp_path / "home")
        await log_in(settings)
        line = Pipeline(market, settings, bus)
        env = {
            "REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "TEJI_HOME": str(settings.home), "TEJI_PORT": "0",
            "UPSTOX_API_URL": market.url, "UPSTOX_ASSETS_URL": market.url, "TEJI_LEASE_S": "0.5",
        }  # fmt: skip
        async with processes(env, tmp_path, "ingest", "aggregator", "gateway") as running:
            await line.until(line.ticking, "ticks arrive", 60)
            first = market.now_ms() // MINUTE * MINUTE + MINUTE
            async with asyncio.timeout(_KILL_S + 2 * _SETTLE_S):
                await harass(running, random.Random(5))
                last = market.now_ms() // MINUTE * MINUTE
                await settled(line, first, last)
                bars = window(await line.bars(), first, last)
                await equal_rows(postgres_url, bars)
        assert all(process.kills >= 2 for process in running.values())
        venue = await candles(line, {key for key, _ in bars}, first, last)
        ours = {
            where: [bar[name] for name in ("open", "high", "low", "close", "volume")] for where, bar in bars.items()
        }
        assert ours == venue
        revisions = [(bar["instrument"], bar["ts"], bar["rev"]) for bar in await line.bars()]
        assert len(revisions) == len(set(revisions))


async def harass(running: dict[str, Process], rng: random.Random) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + _KILL_S
    names = list(running)
    while loop.time() < end:
        await asyncio.sleep(rng.uniform(0.5, 3.0))
        await asyncio.to_thread(running[names.pop(0)].kill)
        names = names or rng.sample(list(running), len(running))


def window(bars: list[dict[str, Any]], first: int, last: int) -> dict[tuple[str, int], dict[str, Any]]:
    return {where: bar for where, bar in final(bars).items() if first <= where[1] < last}


async def settled(line: Pipeline, first: int, last: int) -> None:
    """Every minute that was disturbed has been completed from history."""

    left: dict[tuple[str, int], Any] = {}
    try:
        async with asyncio.timeout(_SETTLE_S):
            while not left or line.market.now_ms() < last + 3 * MINUTE or not all(b["complete"] for b in left.values()):
                await asyncio.sleep(0.5)
                left = window(await line.bars(), first, last)
    except TimeoutError:
        raise AssertionError(sorted(where for where, bar in left.items() if not bar["complete"])[:20]) from None


async def candles(line: Pipeline, keys: set[str], first: int, last: int) -> dict[tuple[str, int], list[float]]:
    from brokers.upstox.history import intraday
    from brokers.upstox.rest import Budget, Rest

    found: dict[tuple[str, int], list[float]] = {}
    async with httpx.AsyncClient() as client:
        rest = Rest(client, line.market.url, TokenStore(line.settings).current, Budget((), lambda: 0.0))
        for key in keys:
            for bar in await intraday(rest, key):
                if first <= bar.ts < last:
                    found[key, bar.ts] = [bar.open, bar.high, bar.low, bar.close, bar.volume]
    return found


async def equal_rows(url: str, bars: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Postgres has the same bars, in the same revision, once."""
    names = ("open", "high", "low", "close", "volume", "rev", "complete")
    expected = {(instrument_id(key), ts): tuple(bar[n] for n in names) for (key, ts), bar in bars.items()}
    rows: dict[Any, Any] = {}
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(30):
            while {where: row for where, row in rows.items() if where in expected} != expected:
                await asyncio.sleep(0.2)
                found = await connection.fetch(f"SELECT instrument_id, ts, {', '.join(names)} FROM bars")
                rows = {(r["instrument_id"], r["ts"]): tuple(r[n] for n in names) for r in found}
    finally:
        await connection.close()
