"""An open bus on a Redis of its own, for every test of this folder that asks for one."""

from collections.abc import AsyncIterator

import pytest

from bus.connection import Bus


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    async with Bus.open(redis_url) as opened:
        yield opened
