"""Waiting for a fact instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

_LOOK_S = 0.01


async def until(true: Callable[[], Any | Awaitable[Any]], what: str, seconds: float = 20.0) -> float:
    """Wait until `true()`; how long that took. Fails with the fact's name when it does not come."""
    began = time.monotonic()
    while True:
        found = true()
        if await found if inspect.isawaitable(found) else found:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        await asyncio.sleep(_LOOK_S)


def until_sync(true: Callable[[], Any], what: str, seconds: float = 20.0) -> float:
    """The same without a loop."""
    return asyncio.run(until(true, what, seconds))
