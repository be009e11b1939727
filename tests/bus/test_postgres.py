"""Postgres: what its errors mean, migrations once and in order, a pool that outlives the server."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

from bus import embedded, embedded_postgres, postgres
from bus.postgres import migrate, migrations, open_pool, translated
from schemas.errors import Misconfigured, Unavailable
from tests.conftest import settings_in


def migration(folder: Path, number: int, sql: str) -> None:
    (folder / f"{number:04}_step.sql").write_text(sql)


# Migrations


async def test_ours_are_applied_once(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        applied = await migrate(pool)
        assert applied == [name for _, name, _ in migrations()]
        assert applied
        assert await migrate(pool) == []
        tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {"bars", "events", "instruments", "schema_migrations"} <= {row["tablename"] for row in tables}


async def test_migrations_are_applied_in_order_and_later_ones_later(postgres_url: str, tmp_path: Path) -> None:
    migration(tmp_path, 2, "INSERT INTO t VALUES (2)")
    migration(tmp_path, 1, "CREATE TABLE t (n int PRIMARY KEY)")
    (tmp_path / "README.md").write_text("not one of them")
    async with open_pool(postgres_url) as pool:
        assert await migrate(pool, tmp_path) == ["0001_step.sql", "0002_step.sql"]
        migration(tmp_path, 3, "INSERT INTO t VALUES (3)")
        assert await migrate(pool, tmp_path) == ["0003_step.sql"]
        assert [row["n"] for row in await pool.fetch("SELECT n FROM t ORDER BY n")] == [2, 3]


async def test_two_who_start_at_once_apply_each_migration_once(postgres_url: str, tmp_path: Path) -> None:
    migration(tmp_path, 1, "CREATE TABLE t (n int); SELECT pg_sleep(0.1)")
    for number in range(2, 6):
        migration(tmp_path, number, f"INSERT INTO t VALUES ({number}); SELECT pg_sleep(0.02)")
    async with open_pool(postgres_url) as one, open_pool(postgres_url) as other:
        applied = await asyncio.gather(*(migrate(pool, tmp_path) for pool in (one, other, one, other)))
        assert sorted(name for names in applied for name in names) == [
            f"000{number}_step.sql" for number in range(1, 6)
        ]
        assert [row["n"] for row in await one.fetch("SELECT n FROM t ORDER BY n")] == [2, 3, 4, 5]


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(
    postgres_url: str, tmp_path: Path
) -> None:
    migration(tmp_path, 1, "CREATE TABLE t (n int)")
    migration(tmp_path, 2, "INSERT INTO t VALUES (1); INSERT INTO no_such_table VALUES (1)")
    async with open_pool(postgres_url) as pool:
        with pytest.raises(asyncpg.UndefinedTableError):
            await migrate(pool, tmp_path)
        assert await pool.fetchval("SELECT count(*) FROM t") == 0
        migration(tmp_path, 2, "INSERT INTO t VALUES (2)")
        assert await migrate(pool, tmp_path) == ["0002_step.sql"]
        assert await pool.fetchval("SELECT n FROM t") == 2


@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 2, 4]])
def test_a_gap_in_the_numbers_is_refused(tmp_path: Path, numbers: list[int]) -> None:
    for number in numbers:
        migration(tmp_path, number, "SELECT 1")
    with pytest.raises(ValueError, match="missing or double"):
        migrations(tmp_path)


def test_a_number_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    migration(tmp_path, 1, "SELECT 1")
    (tmp_path / "0001_other.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match="missing or double"):
        migrations(tmp_path)


# A server that is away, old, or closed to us


async def test_a_pool_opens_while_the_server_is_away_and_says_so_when_it_is_used(tmp_path: Path) -> None:
    for url in ("postgresql://u@127.0.0.1:1/d", f"postgresql://u@/d?host={tmp_path}"):
        async with open_pool(url, timeout_s=1.0) as pool:
            with pytest.raises(Unavailable):
                await migrate(pool)


async def test_a_pool_goes_on_after_a_restart_of_the_server(tmp_path: Path) -> None:
    with embedded.servers(settings_in(tmp_path, redis_url="redis://unused")) as servers:
        async with open_pool(servers.postgres_url) as pool:
            await migrate(pool)
            await asyncio.to_thread(embedded_postgres.stop, tmp_path / "postgres")
            for _ in range(3):
                with pytest.raises(Unavailable), translated():
                    await pool.fetchval("SELECT 1")
            await asyncio.to_thread(embedded_postgres.start, tmp_path / "postgres")
            with translated():
                assert await pool.fetchval("SELECT count(*) FROM bars") == 0


async def test_a_session_that_the_server_ends_is_unavailable_and_the_next_one_works(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        with pytest.raises(Unavailable), translated():
            await pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_database_that_does_not_exist_is_one_sentence(postgres_url: str) -> None:
    url = urlunsplit(urlsplit(postgres_url)._replace(path="/no_such_database"))
    async with open_pool(url) as pool:
        with pytest.raises(Misconfigured, match="no_such_database"):
            await migrate(pool)


async def test_a_role_and_a_database_of_any_name_are_reached(postgres_url: str) -> None:
    name = "o'dd@n:a/m#e %41"
    folder = urlsplit(postgres_url).query.removeprefix("host=")
    async with open_pool(postgres_url) as pool:
        await pool.execute(f'CREATE DATABASE "{name}"')
        await pool.execute(f'CREATE ROLE "{name}" LOGIN')
        own = settings_in(Path("unused"), postgres_server=folder, postgres_user=name, postgres_db=name)
        try:
            async with open_pool(own.postgres_url) as other:
                found = await other.fetchrow("SELECT current_user AS who, current_database() AS db")
                assert (found["who"], found["db"]) == (name, name)
        finally:
            await pool.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            await pool.execute(f'DROP ROLE "{name}"')
    assert quote(name, safe="") in own.postgres_url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@h/d",
        "localhost/d",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hun/ter2@h/d",
        "postgresql://[::1/d",
    ],
)
async def test_what_is_no_address_is_one_sentence_without_its_text(url: str) -> None:
    with pytest.raises(Misconfigured, match="DATABASE_URL") as caught:
        async with open_pool(url):
            pass
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@asynccontextmanager
async def speaking(version: str = "", refusal: tuple[str, str] | None = None) -> AsyncIterator[str]:
    """A server that speaks just enough of Postgres's protocol to say how old it is, or why not."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    def welcome() -> bytes:
        if refusal is not None:
            code, text = refusal
            return message(b"E", b"SFATAL\0VFATAL\0C%b\0M%b\0\0" % (code.encode(), text.encode()))
        told = {"server_version": version, "server_encoding": "UTF8", "client_encoding": "UTF8"}
        parameters = b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items())
        return message(b"R", struct.pack("!i", 0)) + parameters + message(b"K", bytes(8)) + message(b"Z", b"I")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack("!i", await reader.readexactly(4))
                (code,) = struct.unpack("!i", (await reader.readexactly(length - 4))[:4])
                if code == 196608:
                    break
                writer.write(b"N")  # no TLS
            writer.write(welcome())
            while await reader.readexactly(1) != b"X":
                (length,) = struct.unpack("!i", await reader.readexactly(4))
                await reader.readexactly(length - 4)
                writer.write(message(b"C", b"SELECT 0\0") + message(b"Z", b"I"))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # they have gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"postgresql://u:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}/d"
    finally:
        server.close()


@pytest.mark.parametrize("version", ["13.14", "9.6.24", "12.2 (Debian 12.2-1)"])
async def test_a_postgres_that_is_too_old_is_one_sentence_with_both_versions(version: str) -> None:
    async with speaking(version) as url, open_pool(url) as pool:
        with pytest.raises(Misconfigured) as caught:
            await migrate(pool)
    assert version.split(".")[0] in str(caught.value)
    assert str(postgres.OLDEST) in str(caught.value)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("28P01", Misconfigured),  # password
        ("28000", Misconfigured),  # role
        ("3D000", Misconfigured),  # database
        ("53300", Unavailable),  # too many connections
        ("57P03", Unavailable),  # starting up
    ],
)
async def test_a_refusal_is_of_the_right_kind(code: str, error: type[Exception]) -> None:
    async with speaking(refusal=(code, "because")) as url, open_pool(url) as pool:
        with pytest.raises(error, match="because") as caught:
            await migrate(pool)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("pool is closing"),
        asyncpg.InterfaceError("cannot perform operation: connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.DiskFullError("no space left"),
        asyncpg.SerializationError("could not serialize access"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
)
def test_what_passes_by_itself_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught, translated():
        raise error
    assert not str(caught.value).endswith(": ")


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        asyncpg.UndefinedTableError("relation does not exist"),
        asyncpg.UniqueViolationError("duplicate key"),
        ValueError("ours"),
    ],
)
def test_a_bug_stays_a_bug(error: Exception) -> None:
    with pytest.raises(type(error)), translated():
        raise error


async def test_a_connection_that_is_not_reset_still_leaves_its_transaction(postgres_url: str) -> None:
    async with open_pool(postgres_url, size=1, reset=False) as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE t (n int)")
        assert await pool.fetch("SELECT tablename FROM pg_tables WHERE tablename = 't'") == []
