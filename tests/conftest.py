"""Real servers for every test that wants them: a Redis of its own (50 ms to start), and a fresh Postgres database."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest

from bus import embedded
from bus.settings import Settings, load
from tests.bus.nodes import Nodes, cluster

_NUMBER = itertools.count(1)

# TEJI_EXAMPLES=1000 looks longer for what breaks a property; tests that need another number say so themselves.
hypothesis.settings.register_profile("teji", max_examples=int(os.environ.get("TEJI_EXAMPLES", "50")))
hypothesis.settings.load_profile("teji")


def settings_in(home: Path, **more: object) -> Settings:
    """Settings that depend on nothing around the test: no `.env`, free ports."""
    return load(**{"_env_file": None, "teji_home": home, "teji_port": 0, "teji_metrics_port": 0, **more})


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis that nobody else uses, empty."""
    with embedded.servers(settings_in(tmp_path / "home"), postgres=False) as servers:
        yield servers.redis_url


@pytest.fixture(scope="session")
def _redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Three nodes per test process."""
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def redis_cluster(_redis_cluster: Nodes) -> Nodes:
    """A Redis Cluster of three nodes, empty. Others use it too: neither kill a node nor move a slot."""
    for node in _redis_cluster.masters:
        node.says("FLUSHALL")
    return _redis_cluster


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Postgres per test process."""
    home = tmp_path_factory.mktemp("postgres")
    with embedded.servers(settings_in(home, redis_url="redis://unused")) as servers:
        for sql in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # no test pulls the plug
            asyncio.run(_execute(servers.postgres_url, sql))
        yield servers.postgres_url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database that nobody else uses, empty."""
    name = f"test_{os.getpid()}_{next(_NUMBER)}"
    asyncio.run(_execute(postgres_server, f"CREATE DATABASE {name}"))
    yield urlunsplit(urlsplit(postgres_server)._replace(path=f"/{name}"))
    asyncio.run(_execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, postgres_url: str) -> Settings:
    """A whole configuration: an own Redis, an own database, free ports, a home in the test's folder."""
    return settings_in(tmp_path / "home", redis_url=redis_url, database_url=postgres_url)
