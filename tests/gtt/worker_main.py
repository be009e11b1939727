"""The order worker as a process of its own, with one share to trade."""

import asyncio
import sys

from bus.life import Worker, main
from gtt.worker import NAME, run
from market.instruments import Universe
from tests.gtt.fake import SHARE


async def fetch(*_: object) -> Universe:
    return Universe([SHARE])


async def _run(worker: Worker, stop: asyncio.Event) -> None:
    await run(worker, stop, fetch=fetch)


if __name__ == "__main__":
    sys.exit(main(NAME, _run))
