"""An open bus on a Redis of its own, for every test of this folder that asks for one."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus.connection import Bus


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    async with Bus.open(redis_url) as opened:
        yield opened


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for servers. Not in pytest's own, which each session of the machine closes to other users again while
    a Postgres that root has started makes its way through it."""
    with tempfile.TemporaryDirectory(prefix="teji-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
