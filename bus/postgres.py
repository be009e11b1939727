"""A pool of connections to Postgres, and the numbered migrations in `schemas/sql`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from typing import Any, Final

import asyncpg

from schemas.errors import Misconfigured, Unavailable

OLDEST: Final = 14
_MIGRATION_LOCK: Final = 0x7E71  # any number that is ours: two gateways may start at once

Pool = Any  # asyncpg.Pool[asyncpg.Record]; the class is not generic at run time


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """A Postgres that is away becomes Unavailable; wrong credentials a Misconfigured; bugs stay."""
    try:
        yield
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise Misconfigured(f"Postgres refuses DATABASE_URL: {error}") from None
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.CannotConnectNowError,
        asyncpg.InsufficientResourcesError,  # too many connections, a full disk
        asyncpg.TransactionRollbackError,  # lost to a concurrent transaction
        asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
        asyncpg.InterfaceError,
        TimeoutError,
        OSError,
    ) as error:
        raise Unavailable(f"Postgres does not answer: {error or type(error).__name__}") from error


@contextlib.asynccontextmanager
async def open_pool(url: str, *, size: int = 4, timeout_s: float = 10.0) -> AsyncIterator[Pool]:
    """Connections are made when they are used, so that the rest of a gateway lives while Postgres is away."""
    try:
        pool = asyncpg.create_pool(url, min_size=0, max_size=size, timeout=timeout_s, command_timeout=60.0)
    except ValueError as error:
        raise Misconfigured(f"DATABASE_URL is not a Postgres address: {error}") from None
    with translated():
        await pool
    try:
        yield pool
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5.0)


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL), in order. Numbers have no gaps: a lost file is noticed."""
    files = (f for f in resources.files("schemas").joinpath("sql").iterdir() if f.name.endswith(".sql"))
    found = sorted((int(file.name[:4]), file.name, file.read_text()) for file in files)
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1)), "migration numbers have a gap"
    return found


async def migrate(pool: Pool) -> list[str]:
    """Bring the schema up to date; each migration in a transaction of its own. Returns what was applied."""
    applied: list[str] = []
    with translated():
        async with pool.acquire() as connection:
            version = connection.get_server_version().major
            if version < OLDEST:
                raise Misconfigured(f"Postgres {version} is too old: {OLDEST} or newer is needed.")
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            try:
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema_migrations"
                    " (number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
                )
                done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
                for number, name, sql in migrations():
                    if number not in done:
                        async with connection.transaction():
                            await connection.execute(sql)
                            await connection.execute("INSERT INTO schema_migrations VALUES ($1, $2)", number, name)
                        applied.append(name)
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)
    return applied
