"""The shell of the order worker."""

import asyncio
from typing import Final

from bus.life import Worker

NAME: Final = "gtt"


async def run(_: Worker, stop: asyncio.Event) -> None:
    """Until `stop`."""
    await stop.wait()
