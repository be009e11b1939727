"""The venue's own Python SDK, logged in at a simulated exchange."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeVar

import orjson
import pytest
import upstox_client

from sim.exchange import Exchange
from tests.sim.simtools import trader

T = TypeVar("T")


class Failure(NamedTuple):
    """What the SDK makes of a refusal."""

    status: int
    code: str
    path: str | None


@contextlib.asynccontextmanager
async def sdk(exchange: Exchange) -> AsyncIterator[upstox_client.ApiClient]:
    """A client whose threads and connections end with the block."""
    async with trader(exchange) as browser:
        token = browser.headers["Authorization"].removeprefix("Bearer ")
    configuration = upstox_client.Configuration()
    configuration.host = configuration.order_host = exchange.url
    configuration.access_token = token
    client = upstox_client.ApiClient(configuration)
    try:
        yield client
    finally:
        client.pool.close()
        client.pool.join()
        client.rest_client.pool_manager.clear()


async def called(call: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """The SDK blocks, so it runs beside the loop that serves it."""
    return await asyncio.to_thread(call, *arguments, **more)


async def refused(call: Callable[..., Any], *arguments: Any, **more: Any) -> Failure:
    """The refusal that a call ends in."""
    with pytest.raises(upstox_client.rest.ApiException) as caught:
        await called(call, *arguments, **more)
    error = orjson.loads(caught.value.body)["errors"][0]
    return Failure(caught.value.status, error["error_code"], error["property_path"])
