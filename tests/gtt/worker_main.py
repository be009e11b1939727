"""The order worker as a process of its own, with one share to trade."""

import asyncio
import sys

from bus.life import Worker, main
from gtt import limits
from gtt.limits import Limits, Strategies
from gtt.worker import NAME, run
from market.instruments import Universe
from tests.gtt.fake import SHARE

BUG = "a-bug"


class _Failing(Strategies):
    """Fails on one strategy, as a bug would."""

    def of(self, strategy: str) -> Limits:
        if strategy == BUG:
            raise RuntimeError("a bug")
        return super().of(strategy)


async def _fetch(*_: object) -> Universe:
    return Universe([SHARE])


async def _run(worker: Worker, stop: asyncio.Event) -> None:
    limits.Strategies = _Failing  # type: ignore[misc]
    await run(worker, stop, fetch=_fetch)


if __name__ == "__main__":
    sys.exit(main(NAME, _run))
