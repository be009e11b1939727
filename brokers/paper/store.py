"""`paper_log`: where the facts of a paper account are kept, before anybody is told of them.

One task writes, in order and several at once. A write whose answer was lost is looked up before it is repeated: the
facts are numbered, and the table takes each number once, so that two processes cannot fork a book either.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog

from brokers.paper.facts import Fact, Opened, read
from bus import postgres
from bus.postgres import Pool
from schemas.errors import LeaseLost, Unavailable

log = structlog.get_logger("paper")

_ROWS_MAX: Final = 500
_WRITE_S: Final = 10.0
_READ_S: Final = 10.0
_AGAIN_S: Final = 0.2
_AGAIN_MAX_S: Final = 2.0
_COLLISIONS_MAX: Final = 3

_INSERT: Final = (
    "INSERT INTO paper_log (account, seq, ts, kind, tag, data)"
    " SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::jsonb[])"
)
_SINCE_OPENING: Final = (
    "SELECT data FROM paper_log WHERE account = $1 AND seq >= coalesce("
    "(SELECT max(seq) FROM paper_log WHERE account = $1 AND kind = 'opened'), 0) ORDER BY seq"
)
_FROM: Final = "SELECT data FROM paper_log WHERE account = $1 AND seq >= $2 ORDER BY seq LIMIT $3"
_OF_TAG: Final = "SELECT data FROM paper_log WHERE account = $1 AND tag = $2 ORDER BY seq"


async def day_so_far(pool: Pool, account: str) -> list[Fact]:
    """From the opening of the account's last day on: all that its book is made of."""
    return await _facts(pool, _SINCE_OPENING, account)


async def of_tag(pool: Pool, account: str, tag: str) -> list[Fact]:
    """All that ever happened to the order with that tag, on whatever day."""
    return await _facts(pool, _OF_TAG, account, tag) if tag else []


async def _facts(pool: Pool, sql: str, *arguments: Any) -> list[Fact]:
    async with postgres.connection(pool, _READ_S) as connection:
        rows = await connection.fetch(sql, *arguments)
    return [read(row["data"]) for row in rows]


class Log:
    """`stored` is called with the number up to which everything is stored."""

    def __init__(self, pool: Pool, account: str, seq: int, stored: Callable[[int], None]) -> None:
        self._pool = pool
        self._account = account
        self._stored = stored
        self._waiting: list[Fact] = []
        self._done = seq
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def add(self, facts: Sequence[Fact]) -> None:
        if facts:
            self._waiting += facts
            self._wake.set()

    async def until(self, seq: int, seconds: float) -> None:
        """Until the fact of that number is stored. Unavailable after `seconds`; it may still be later."""
        if self._done >= seq:
            return
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: self._done >= seq)
        except TimeoutError:
            raise Unavailable(f"the book cannot be stored: Postgres has not answered for {seconds:g} s") from None

    async def run(self) -> None:
        """Write what is added, until cancelled."""
        while True:
            await self._wake.wait()
            facts = self._waiting[:_ROWS_MAX]
            await self._write(facts)
            await self._settle(len(facts))

    async def _write(self, facts: list[Fact]) -> None:
        is_certain, pause_s, collisions = True, _AGAIN_S, 0
        while True:
            try:
                async with postgres.connection(self._pool, _WRITE_S) as connection:
                    await self._insert(connection, facts if is_certain else await self._missing(connection, facts))
                return
            except asyncpg.UniqueViolationError as error:  # our own lost write, which arrives only now, or another's
                collisions += 1
                if collisions > _COLLISIONS_MAX:
                    raise LeaseLost(f"the book of the account {self._account} is not ours: {error}") from None
            except Unavailable as error:
                log.warning("the paper book waits for Postgres", account=self._account, reason=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _AGAIN_MAX_S)
            is_certain = False

    async def _settle(self, count: int) -> None:
        self._done = self._waiting[count - 1].seq
        del self._waiting[:count]
        if not self._waiting:
            self._wake.clear()
        self._stored(self._done)
        async with self._moved:
            self._moved.notify_all()

    async def _missing(self, connection: Any, facts: list[Fact]) -> list[Fact]:
        """Of these, what is not in the table. LeaseLost where somebody else's facts have their numbers."""
        rows = await connection.fetch(_FROM, self._account, facts[0].seq, len(facts) + 1)
        found = [read(row["data"]) for row in rows]
        if found != facts[: len(found)]:
            raise LeaseLost(f"another process writes the book of the account {self._account}")
        return facts[len(found) :]

    async def _insert(self, connection: Any, facts: list[Fact]) -> None:
        if facts:
            await connection.execute(
                _INSERT,
                self._account,
                [fact.seq for fact in facts],
                [fact.ts for fact in facts],
                [fact.kind for fact in facts],
                ["" if isinstance(fact, Opened) else fact.tag for fact in facts],
                [fact.model_dump_json() for fact in facts],
            )
