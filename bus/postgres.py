"""A pool of connections to Postgres, and the numbered migrations in `schemas/sql`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from asyncpg.exceptions import ClientConfigurationError

from schemas.errors import Misconfigured, Unavailable

OLDEST: Final = 14
_MIGRATION_LOCK: Final = 0x7E71  # any number that is ours: two gateways may start at once
_CLOSE_S: Final = 5.0
_NO_ADDRESS: Final = (
    "DATABASE_URL is not a Postgres address, which looks like postgresql://user:password@host:5432/name"
    " (%40 stands for an @ in a password, and so on)."
)

Pool = Any  # asyncpg.Pool[asyncpg.Record]; the class is not generic at run time


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """A Postgres that is away becomes Unavailable; wrong credentials a Misconfigured; bugs stay."""
    try:
        yield
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise Misconfigured(f"Postgres refuses DATABASE_URL: {error}") from None
    except ClientConfigurationError:  # its text may quote a part of the password
        raise Misconfigured(_NO_ADDRESS) from None
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # a connection or pool that is closed or closing; the rest is wrong use
            raise
        raise Unavailable(f"Postgres does not answer: {error}") from error
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.CannotConnectNowError,
        asyncpg.InsufficientResourcesError,  # too many connections, a full disk
        asyncpg.TransactionRollbackError,  # lost to a concurrent transaction
        asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
        TimeoutError,
        OSError,
    ) as error:
        raise Unavailable(f"Postgres does not answer: {str(error) or type(error).__name__}") from error


@contextlib.asynccontextmanager
async def open_pool(url: str, *, size: int = 4, timeout_s: float = 10.0, reset: bool = True) -> AsyncIterator[Pool]:
    """Connections are made when they are used, so that the rest of a gateway lives while Postgres is away.

    `reset`: a connection that comes back is made as new, for one more round trip. Whoever leaves nothing in a session
    can do without; an open transaction is rolled back in any case.
    """
    if not _is_address(url):
        raise Misconfigured(_NO_ADDRESS)
    how: dict[str, Any] = {} if reset else {"reset": _leave}
    pool = asyncpg.create_pool(url, min_size=0, max_size=size, timeout=timeout_s, command_timeout=60.0, **how)
    with translated():
        await pool
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _leave(_: Any) -> None:
    """A connection as it is."""


@contextlib.asynccontextmanager
async def connection(pool: Pool, seconds: float) -> AsyncIterator[Any]:
    """A connection for work that must be done within `seconds`; else Unavailable, at once.

    A cancelled query asks the server to stop it and waits for that. A server that does not answer would not answer
    that either, so the connection is thrown away first.
    """
    with translated():
        acquired = await pool.acquire(timeout=seconds)
        try:
            overdue = asyncio.get_running_loop().call_later(seconds, acquired.terminate)
            try:
                yield acquired
            finally:
                overdue.cancel()
        finally:
            await pool.release(acquired, timeout=seconds)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("postgres", "postgresql") and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def migrations(folder: Traversable | None = None) -> list[tuple[int, str, str]]:
    """(number, name, SQL), in order. Numbers have no gaps: a lost file is noticed."""
    folder = folder or resources.files("schemas").joinpath("sql")
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    found = sorted((int(file.name[:4]), file.name, file.read_text(encoding="utf-8")) for file in files)
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are missing or double: {', '.join(name for _, name, _ in found)}")
    return found


async def migrate(pool: Pool, folder: Traversable | None = None) -> list[str]:
    """Bring the schema up to date; each migration in a transaction of its own. Returns what was applied."""
    with translated():
        async with pool.acquire() as connection:
            version = connection.get_server_version()
            if version.major < OLDEST:
                raise Misconfigured(
                    f"Postgres {version.major}.{version.minor} is too old: {OLDEST} or newer is needed."
                    " Set DATABASE_URL to a newer one."
                )
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            try:
                return await _apply(connection, migrations(folder))
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)


async def _apply(connection: Any, wanted: list[tuple[int, str, str]]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
    applied: list[str] = []
    for number, name, sql in wanted:
        if number not in done:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_migrations VALUES ($1, $2)", number, name)
            applied.append(name)
    return applied
