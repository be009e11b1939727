"""The journal on a real Postgres: fenced, exactly once, loaded as it was."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from bus.postgres import Pool, migrate, open_pool
from gtt.book import facts
from gtt.book.book import Book
from gtt.book.facts import Fact
from gtt.book.fold import apply
from gtt.book.rows import Numbered
from gtt.journal import Decided, PostgresJournal
from gtt.risk.types import Origin
from schemas.errors import LeaseLost
from schemas.orders import (
    Order,
    OrderStatus,
    OrderType,
    Product,
    Refusal,
    Side,
    StrategyMode,
    TradingMode,
    order_id_of,
)

TS = 1_787_000_000_000


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    async with open_pool(url) as pool:
        await migrate(pool)
        yield pool


def approved(intent: str, ts: int = TS) -> facts.Approved:
    order = Order(
        order_id=order_id_of(intent),
        intent_id=intent,
        instrument="NSE_EQ|INE002A01018",
        side=Side.BUY,
        quantity=3,
        order_type=OrderType.LIMIT,
        product=Product.INTRADAY,
        status=OrderStatus.CHECKED,
        mode=TradingMode.PAPER,
        ts=ts,
    )
    return facts.Approved(
        ts=ts, account=TradingMode.PAPER, intent_id=intent, origin=Origin.MANUAL, orders=(order,), reduces=False
    )


def numbered(*told: Fact, first: int = 1) -> list[Numbered]:
    return [Numbered(first + at, fact) for at, fact in enumerate(told)]


def switched(name: str) -> facts.StrategySwitched:
    return facts.StrategySwitched(ts=TS, strategy=name, mode=StrategyMode.OFF)


async def claimed(pool: Pool, token: int, **more: Any) -> PostgresJournal:
    journal = PostgresJournal(pool, token, **more)
    await journal.claim()
    return journal


async def test_what_was_appended_is_loaded_and_what_was_not_told_is_named(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        journal = await claimed(pool, 1)
        rows = numbered(approved("command:a"), switched("ema"))
        await journal.append(rows)
        book, untold = await journal.load(1)
        assert book.n == 2
        assert list(book.orders) == [order_id_of("command:a")]
        assert [(n, touched.key) for n, touched in untold] == [(2, "ema")]
        row = await pool.fetchrow("SELECT * FROM journal WHERE n = 1")
        assert (row["kind"], row["intent_id"], row["account"]) == ("approved", "command:a", "paper")
        assert row["order_id"] == order_id_of("command:a")


async def test_a_snapshot_and_what_came_later_make_the_same_book(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        journal = await claimed(pool, 1)
        book = Book()
        rows = numbered(approved("command:a"), switched("ema"), approved("command:b"))
        for row in rows[:2]:
            apply(book, row.n, row.fact)
        await journal.append(rows)
        await journal.snapshot(book)
        loaded, _ = await journal.load(3)
        apply(book, 3, rows[2].fact)
        assert loaded.model_dump() == book.model_dump()
        await pool.execute("UPDATE journal_snapshot SET version = 0")
        again, _ = await journal.load(3)
        assert again.model_dump() == book.model_dump()


async def test_a_newer_owner_ends_the_older_one(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        older = await claimed(pool, 1)
        await older.append(numbered(switched("a")))
        newer = await claimed(pool, 2)
        with pytest.raises(LeaseLost):
            await older.append(numbered(switched("b"), first=2))
        with pytest.raises(LeaseLost):
            await claimed(pool, 1)
        await newer.append(numbered(switched("c"), first=2))
        book, _ = await newer.load(0)
        assert set(book.strategies) == {"a", "c"}


async def test_an_intent_is_decided_once_and_says_so(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        journal = await claimed(pool, 1)
        await journal.append(numbered(approved("command:a")))
        refusal = Refusal(intent_id="command:a", rule="halt", reason="halted", ts=TS)
        again = facts.Refused(ts=TS, account=TradingMode.PAPER, refusal=refusal)
        with pytest.raises(Decided) as told:
            await journal.append(numbered(switched("x"), again, first=2))
        assert told.value.intents == ("command:a",)
        assert await pool.fetchval("SELECT count(*) FROM journal") == 1


class Dying:
    """A pool whose answers get lost: what was asked has happened, or it has not."""

    def __init__(self, pool: Pool, *, happens: bool, times: int) -> None:
        self._pool = pool
        self._happens = happens
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def execute(self, *args: Any, **more: Any) -> Any:
        if self._left:
            self._left -= 1
            if self._happens:
                await self._pool.execute(*args, **more)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return await self._pool.execute(*args, **more)


@pytest.mark.parametrize("happens", [True, False])
async def test_an_append_whose_answer_got_lost_happens_once(postgres_url: str, happens: bool) -> None:
    async def no_pause(_: float) -> None:
        return None

    async with opened(postgres_url) as pool:
        await claimed(pool, 1)
        journal = PostgresJournal(Dying(pool, happens=happens, times=1 if happens else 3), 1, no_pause)
        await journal.append(numbered(approved("command:a"), switched("b")))
        assert await pool.fetchval("SELECT count(*) FROM journal") == 2


async def test_facts_are_never_changed_and_old_ones_leave_in_their_time(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        journal = await claimed(pool, 1)
        old = 1_000_000_000_000  # 2001
        rows = numbered(approved("command:old", old), approved("command:new", 4_000_000_000_000))
        await journal.append(rows)
        for sql in ("UPDATE journal SET ts = 0", "DELETE FROM journal"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await pool.execute(sql)
        assert await journal.retain(5) == 0, "no snapshot has it"
        book, _ = await journal.load(0)
        await journal.snapshot(book)
        assert await journal.retain(5) == 1
        loaded, _ = await journal.load(2)
        assert set(loaded.orders) == {order_id_of("command:old"), order_id_of("command:new")}
