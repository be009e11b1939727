"""A process that stops itself between a decision and its request, at several places: `python paused_main.py PORT`.

It says so, and what became of the request. Somebody else has to let it go on.
"""

import asyncio
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from brokers.upstox.orders import UpstoxOrders
from brokers.venue import NewOrder
from bus.settings import load
from gtt.book.facts import What
from gtt.calls import Calls, Moment
from gtt.desk.effects import Outcome, Write
from schemas.orders import OrderType, Product, Side, TradingMode, Validity

ORDER = NewOrder(
    "tj1", "NSE_EQ|A", Side.BUY, 1, Product.INTRADAY, OrderType.LIMIT, Decimal(1), Decimal(0), Validity.DAY
)
LIVE = TradingMode.LIVE


class Told:
    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def called(self, _: Write, outcome: Outcome) -> None:
        self.outcome.set_result(outcome)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Tokens:
    def current(self) -> str:
        return "token"


def stop() -> None:
    print("stopped", flush=True)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread does nothing more before it stops


def _stopping(send: Callable[[Any], Any], body: Any) -> Any:
    stop()
    return send(body)


async def outcome(venue: UpstoxOrders, leave_s: float, where: str) -> Outcome:
    told = Told()
    calls = Calls({LIVE: venue}, 5.0, told, leave_s=leave_s)
    send = venue._sdk.orders_v3.place_order
    if where == "call":  # the request is on its way through our threads
        venue._sdk.orders_v3.place_order = partial(_stopping, send)
    decided = Moment.now()
    if where == "journal":  # what was decided is written down
        stop()
    calls.perform([Write(LIVE, What.PLACE, 1, False, 0, 0, order_id="tj1", order=ORDER)], decided)
    found = await told.outcome
    venue._sdk.orders_v3.place_order = send
    return found


async def main(port: int) -> None:
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        urls = {"upstox_api_url": address, "upstox_order_url": address}
        settings = load(_env_file=None, teji_home=Path(home), **urls)
    async with UpstoxOrders.open(settings, Tokens()) as venue:  # type: ignore[arg-type]
        for where in ("journal", "call"):
            for leave_s in (0.3, 60.0):
                print("so:", type(await outcome(venue, leave_s, where)).__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
