"""One-minute bars into Postgres, as idempotent upserts of new rows: ours beside what a driver offers.

All sides write the same bars, in the same order, into an empty table with its primary key, on an embedded Postgres
with its default durability; each begins with rows already in memory in the form that suits it.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import uvloop

from bench.report import Report, in_turns, run
from bus import embedded, postgres
from bus.settings import load
from gateway.cold import store_bars
from gateway.coldrows import BAR, SOURCES, BarReader, newest
from schemas.bars import Bar, ForwardFrom, OptionModel, PriceFrom, Source, Wall

_INSTRUMENTS: Final = 200
_MINUTES: Final = 300
_ROUNDS: Final = 3
_START_MS: Final = 1_700_000_040_000

_NAMES: Final = BAR.names or ()
_UPSERT: Final = (
    f"ON CONFLICT (instrument_id, ts) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[2:])}"
    " WHERE stored.rev < excluded.rev"
)

_MODEL: Final = OptionModel(
    iv=0.1335, delta=0.5, gamma=0.0012, theta=-5.5, vega=12.25, rho=1.5, price=101.5, price_from=PriceFrom.MID,
    forward=25_010.5, forward_from=ForwardFrom.PARITY, flag="ok",
)  # fmt: skip

Records = list[tuple[Any, ...]]


def bars() -> list[Bar]:
    """Option bars with every value told, of many instruments, minute by minute as they are published."""
    chance = np.random.default_rng(7)
    prices = chance.uniform(50, 500, (_MINUTES, _INSTRUMENTS)).round(2).tolist()
    return [
        _bar(f"NSE_FO|{number}", _START_MS + minute * 60_000, prices[minute][number])
        for minute in range(_MINUTES)
        for number in range(_INSTRUMENTS)
    ]


def _bar(key: str, ts: int, price: float) -> Bar:
    wall = Wall(price=price, qty=7500)
    greeks = {"iv": 0.1334, "delta": 0.5, "gamma": 0.0012, "theta": -5.5, "vega": 12.25, "rho": 1.5}
    return Bar(
        instrument=key, ts=ts, open=price, high=price + 1, low=price - 1, close=price, volume=12_345, oi=123_456.0,
        oi_diff=-75.0, vwap=price, bid_wall=wall, ask_wall=wall, tbq=1e6, tsq=2e6, ticks=118, source=Source.LIVE,
        complete=True, rev=1, **greeks, model=_MODEL,
    )  # fmt: skip


def _records(rows: npt.NDArray[Any]) -> Records:
    at, words = _NAMES.index("source"), _NAMES.index("model_price_from")
    return [
        (*row[:at], SOURCES[row[at]].value, *row[at + 1 : words], *(word.decode().rstrip() for word in row[words:]))
        for row in rows.tolist()
    ]


async def _executemany(pool: postgres.Pool, records: Records) -> None:
    values = ", ".join(f"${number}" for number in range(1, len(_NAMES) + 1))
    async with pool.acquire() as connection, connection.transaction():
        query = f"INSERT INTO bars AS stored ({', '.join(_NAMES)}) VALUES ({values}) {_UPSERT}"
        await connection.executemany(query, records)


async def _copy_records(pool: postgres.Pool, records: Records) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL client_min_messages = warning")
        await connection.execute("CREATE TEMP TABLE IF NOT EXISTS plain (LIKE bars) ON COMMIT DELETE ROWS")
        await connection.copy_records_to_table("plain", records=records, columns=list(_NAMES))
        names = ", ".join(_NAMES)
        await connection.execute(f"INSERT INTO bars AS stored ({names}) SELECT {names} FROM plain {_UPSERT}")


def _timed(runner: asyncio.Runner, pool: postgres.Pool, work: Callable[[], Awaitable[object]], rows: int) -> float:
    """Rows a second into an empty table; emptying it is not counted."""

    async def one() -> float:
        await pool.execute("TRUNCATE bars")
        start = perf_counter()
        await work()
        elapsed = perf_counter() - start
        assert await pool.fetchval("SELECT count(*) FROM bars") == rows
        return rows / elapsed

    return runner.run(one())


def _replay(runner: asyncio.Runner, pool: postgres.Pool, rows: npt.NDArray[Any]) -> float:
    """Rows a second that are all there already."""

    async def one() -> float:
        start = perf_counter()
        assert await store_bars(pool, rows) == 0
        return len(rows) / (perf_counter() - start)

    return runner.run(one())


def measure() -> Report:
    with tempfile.TemporaryDirectory(prefix="teji-bench-") as folder:
        settings = load(teji_home=Path(folder), redis_url="redis://unused", database_url="", postgres_server="")
        with embedded.servers(settings) as servers, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return _measure(runner, servers.postgres_url)


def _measure(runner: asyncio.Runner, url: str) -> Report:
    opened = postgres.open_pool(url)
    pool = runner.run(opened.__aenter__())
    try:
        runner.run(postgres.migrate(pool))
        told, reader = bars(), BarReader()
        entries = [{b"data": one.model_dump_json().encode()} for one in told]
        rows = newest(reader.rows(told))
        records = _records(rows)

        def from_json() -> Awaitable[object]:
            return store_bars(pool, reader.read(entries)[0])

        results = in_turns(
            {
                "ours": lambda: _timed(runner, pool, lambda: store_bars(pool, rows), len(rows)),
                "executemany": lambda: _timed(runner, pool, lambda: _executemany(pool, records), len(rows)),
                "copy_records": lambda: _timed(runner, pool, lambda: _copy_records(pool, records), len(rows)),
                "json": lambda: _timed(runner, pool, from_json, len(rows)),
                "replay": lambda: _replay(runner, pool, rows),
            },
            _ROUNDS,
        )
    finally:
        runner.run(opened.__aexit__(None, None, None))
    detail = {
        "rows": float(len(rows)),
        "asyncpg copy_records and the same merge, rows/s": results["copy_records"],
        "ours over copy_records": results["ours"] / results["copy_records"],
        "ours from the streams' JSON, validated, rows/s": results["json"],
        "ours when all rows are there already, rows/s": results["replay"],
    }
    return Report.of(
        "cold-store", results["ours"], "rows/s", "asyncpg executemany upsert", results["executemany"], detail
    )


def main(argv: Sequence[str]) -> Report:
    return run(argv, measure, "New one-minute bars into Postgres by idempotent upsert")


if __name__ == "__main__":
    main(sys.argv[1:])
