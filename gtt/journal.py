"""The journal in Postgres: facts are appended, never changed; nothing that follows from one leaves before it is there.

One process appends: it claims the journal with the fencing token of its lease, and every append checks, in its own
statement, that no newer token has claimed it since. So the numbers of facts are given here, without gaps; an append
whose reply got lost is found out by looking for its last number, and done again only where that is not there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import asyncpg
import structlog
from pydantic import ValidationError

from bus import clock, metrics
from bus.postgres import Pool, translated
from gtt.book.book import VERSION, Book
from gtt.book.facts import FACT
from gtt.book.fold import apply
from gtt.book.rows import Numbered
from gtt.book.touched import Touched
from schemas.errors import LeaseLost, Unavailable

log = structlog.get_logger("journal")

_WAIT_FIRST_S: Final = 0.05
_WAIT_MAX_S: Final = 2.0
_CALL_S: Final = 10.0
_ROWS_AT_ONCE: Final = 5_000
_DELETED_AT_ONCE: Final = 10_000
_YEAR_MS: Final = 365 * 86_400_000 + 21_600_000

_APPEND: Final = """
WITH owner AS (SELECT token FROM journal_owner WHERE id = 1 AND token = $1 FOR SHARE)
INSERT INTO journal (n, ts, account, kind, intent_id, order_id, gtt_id, instrument, strategy, data)
OVERRIDING SYSTEM VALUE
SELECT fact.* FROM owner, unnest(
    $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::jsonb[]
) AS fact
"""


class Decided(Unavailable):
    """Decisions about these intents are in the journal since long: the book has forgotten them."""

    def __init__(self, intents: Sequence[str]) -> None:
        super().__init__(f"decided before: {', '.join(intents[:5])}")
        self.intents = tuple(intents)


class Journal(Protocol):
    """What the worker needs of one."""

    async def claim(self) -> None: ...

    async def append(self, rows: Sequence[Numbered]) -> None: ...

    async def load(self, published: int) -> tuple[Book, list[tuple[int, Touched]]]: ...

    async def snapshot(self, book: Book) -> None: ...

    async def retain(self, years: int) -> int: ...


class PostgresJournal:
    """Of one owner. `claim` it first."""

    def __init__(self, pool: Pool, token: int, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._pool = pool
        self._token = token
        self._pause = pause

    async def claim(self) -> None:
        """From now on nobody with an older token appends. Raises LeaseLost where somebody newer has claimed it."""
        with translated():
            claimed = await self._pool.fetchval(
                "UPDATE journal_owner SET token = $1, since = now() WHERE id = 1 AND token <= $1 RETURNING token",
                self._token,
                timeout=_CALL_S,
            )
        if claimed is None:
            raise LeaseLost("another process has claimed the journal")

    async def append(self, rows: Sequence[Numbered]) -> None:
        """All or nothing. Waits for as long as Postgres is away; nothing leaves meanwhile."""
        if not rows:
            return
        columns, wait_s, began_s = _columns(rows), _WAIT_FIRST_S, clock.monotonic_s()
        tried = False
        while True:
            try:
                if tried and await self._is_there(rows[-1].n):
                    break
                await self._insert(columns)
                break
            except Decided:
                raise
            except Unavailable as error:
                tried = True
                log.warning("waiting", reason=str(error))
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, _WAIT_MAX_S)
        metrics.JOURNAL_S.observe(clock.monotonic_s() - began_s)

    async def _insert(self, columns: tuple[list[Any], ...]) -> None:
        try:
            with translated():
                told = await self._pool.execute(_APPEND, self._token, *columns, timeout=_CALL_S)
        except asyncpg.UniqueViolationError as error:
            await self._explain(columns, error)
        else:
            if int(told.rpartition(" ")[2]) != len(columns[0]):
                raise LeaseLost("another process has claimed the journal")

    async def _explain(self, columns: tuple[list[Any], ...], error: asyncpg.UniqueViolationError) -> None:
        if error.constraint_name != "journal_one_decision":
            raise LeaseLost("another process has appended to the journal") from error
        with translated():
            rows = await self._pool.fetch(
                "SELECT intent_id FROM journal WHERE intent_id = ANY($1) AND kind IN"
                " ('approved', 'refused', 'gtt_accepted')",
                [intent for intent in columns[4] if intent],
                timeout=_CALL_S,
            )
        raise Decided([row["intent_id"] for row in rows]) from error

    async def _is_there(self, n: int) -> bool:
        """Only we append, so a fact of that number is ours. A newer owner may have the number, too: then the lease is
        lost, which the next append says."""
        with translated():
            row = await self._pool.fetchrow(
                "SELECT (SELECT token FROM journal_owner WHERE id = 1) AS token,"
                " EXISTS (SELECT 1 FROM journal WHERE n = $1) AS there",
                n,
                timeout=_CALL_S,
            )
        if row["token"] != self._token:
            raise LeaseLost("another process has claimed the journal")
        return bool(row["there"])

    # Loading

    async def load(self, published: int) -> tuple[Book, list[tuple[int, Touched]]]:
        """The book of now, and what the facts after `published` have touched: it may not have been told yet."""
        book = await self._from_snapshot()
        touched: list[tuple[int, Touched]] = []
        while True:
            with translated():
                rows = await self._pool.fetch(
                    "SELECT n, data FROM journal WHERE n > $1 ORDER BY n LIMIT $2",
                    book.n,
                    _ROWS_AT_ONCE,
                    timeout=60.0,
                )
            for row in rows:
                done = apply(book, row["n"], FACT.validate_json(row["data"]))
                if row["n"] > published:
                    touched += [(row["n"], one) for one in done]
            if len(rows) < _ROWS_AT_ONCE:
                return book, touched
            await asyncio.sleep(0)

    async def _from_snapshot(self) -> Book:
        with translated():
            row = await self._pool.fetchrow("SELECT n, version, state FROM journal_snapshot WHERE id = 1", timeout=60.0)
        if row is None or row["version"] != VERSION:
            return Book()
        try:
            return Book.model_validate_json(row["state"])
        except ValidationError as error:
            log.error("the snapshot cannot be read: all facts are read instead", reason=str(error))
            return Book()

    async def snapshot(self, book: Book) -> None:
        """So that the next start reads only what came later."""
        with translated():
            await self._pool.execute(
                "INSERT INTO journal_snapshot (id, n, version, state) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO UPDATE"
                " SET n = excluded.n, version = excluded.version, state = excluded.state"
                " WHERE journal_snapshot.n <= excluded.n OR journal_snapshot.version <> excluded.version",
                book.n,
                VERSION,
                book.model_dump_json(),
                timeout=60.0,
            )

    async def retain(self, years: int) -> int:
        """Delete what is older, except where no snapshot holds what it came to. Returns how many facts went."""
        before_ms = clock.now_ms() - years * _YEAR_MS
        gone = 0
        while True:
            with translated():
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute("SET LOCAL teji.retention = 'on'")
                    told = await connection.execute(
                        "DELETE FROM journal WHERE n IN (SELECT n FROM journal WHERE ts < $1 AND"
                        " n <= (SELECT n FROM journal_snapshot WHERE id = 1) ORDER BY n LIMIT $2)",
                        before_ms,
                        _DELETED_AT_ONCE,
                    )
            count = int(told.rpartition(" ")[2])
            gone += count
            if count < _DELETED_AT_ONCE:
                return gone


def _columns(rows: Sequence[Numbered]) -> tuple[list[Any], ...]:
    subjects = [row.fact.subject for row in rows]
    return (
        [row.n for row in rows],
        [row.fact.ts for row in rows],
        [row.fact.account.value if row.fact.account else "" for row in rows],
        [row.fact.kind for row in rows],
        [subject.intent_id for subject in subjects],
        [subject.order_id for subject in subjects],
        [subject.gtt_id for subject in subjects],
        [subject.instrument for subject in subjects],
        [subject.strategy for subject in subjects],
        [row.fact.model_dump_json() for row in rows],
    )
