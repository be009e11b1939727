"""The order worker: one has the desk, its books are those of the venue, no order's fate is unknown."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from bus.connection import Bus
from schemas import streams
from schemas.orders import OrderStatus
from teji.doctor.findings import Finding, fail, ok, warn

_NAME: Final = "gtt"
_LIST: Final = "Look at them: teji audit orders"


@dataclass(slots=True)
class Desk:
    """What Redis knows of it."""

    holder: str = ""  # the process that has the lease
    accounts: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # ids of orders
    live_gtts: int = 0


async def look(bus: Bus) -> Desk:
    lease = await bus.get(streams.lease(_NAME, 0))
    orders = [json.loads(value) for value in await bus.redis.hvals(streams.BOOK_ORDERS)]
    gtts = [json.loads(value) for value in await bus.redis.hvals(streams.BOOK_GTTS)]
    return Desk(
        holder="" if lease is None else lease.decode().partition(":")[2],
        accounts=[json.loads(value) for value in await bus.redis.hvals(streams.BOOK_ACCOUNTS)],
        unknown=[order["order_id"] for order in orders if order["status"] == OrderStatus.UNKNOWN],
        live_gtts=sum(1 for gtt in gtts if gtt["live"]),
    )


def judged(desk: Desk, running: int) -> list[Finding]:
    """`running`: processes of the order worker."""
    found: list[Finding] = []
    if running and not desk.holder:
        found.append(fail("desk", "nobody has it: orders and triggers wait", "Wait some seconds; else read gtt's log."))
    elif running:
        found.append(ok("desk", f"{desk.holder} has it, {desk.live_gtts} GTTs live"))
    found += map(_account, sorted(desk.accounts, key=lambda account: str(account["mode"])))
    if desk.unknown:
        shown = ", ".join(desk.unknown[:3]) + (" …" if len(desk.unknown) > 3 else "")
        found.append(warn("orders", f"nobody knows the fate of {len(desk.unknown)}: {shown}", _LIST))
    return found


def _account(account: dict[str, Any]) -> Finding:
    name = f"{account['mode']} account"
    told = f"{account['venue']}, day P&L {account['day_pnl']:+,.2f}, {account['trades']} trades"
    if not account["connected"]:
        return warn(name, f"{told}; no word from the venue", "Look at the login and the line; exits wait for it, too.")
    if account["reconciling"]:
        return warn(name, f"{told}; its books are being compared", "Only what reduces risk passes until that is done.")
    return ok(name, told)
