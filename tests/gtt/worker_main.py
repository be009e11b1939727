"""The order worker as a process of its own, with one share to trade."""

import sys

from bus.life import Worker, main
from gtt.worker import NAME, run
from market.instruments import Universe
from tests.gtt.fake import SHARE


async def _fetch(*_: object) -> Universe:
    return Universe([SHARE])


async def _run(worker: Worker, stop: object) -> None:
    await run(worker, stop, fetch=_fetch)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(NAME, _run))
