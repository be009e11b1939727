"""`teji halt` and `teji resume`: the switch that every worker obeys, and the event that tells everybody."""

import asyncio
import getpass
import socket
import uuid
from collections.abc import Sequence
from typing import Final

from bus import clock, embedded
from bus.connection import Bus
from bus.halt import switch
from bus.inbox import Output, Writer
from bus.settings import load
from schemas import streams
from schemas.commands import OrderCancelAll, OrderCommand, PositionExit

__all__ = ["halt", "resume", "switch"]


def halt(why: str, *, cancel: bool = False, flatten: bool = False) -> None:
    """The switch first; then what is to be cleared away, which the order worker does."""
    asked: list[OrderCommand] = []
    if cancel or flatten:
        asked.append(OrderCancelAll())
    if flatten:
        asked.append(PositionExit())
    asyncio.run(_run(why, asked))
    print(f"Halted: {why}. `teji resume` ends it.")
    for command in asked:
        print(f"Asked of the order worker: {_SAYS[command.kind]}. `teji tail orders` shows what becomes of it.")


def resume() -> None:
    if asyncio.run(_run(None)):
        print("Resumed.")
    else:
        print("There was no halt.")


_SAYS: Final = {"order.cancel_all": "cancel all orders and GTTs", "position.exit": "close all positions"}


async def _run(why: str | None, asked: Sequence[OrderCommand] = ()) -> bool:
    settings = load()
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    with embedded.servers(settings, postgres=False) as servers:
        async with Bus.open(servers.redis_url) as bus:
            done = await switch(bus, by=by, why=why)
            if asked:
                outputs = [Output(streams.COMMANDS, _fields(command, by)) for command in asked]
                await Writer(bus, None, streams.RETENTION_MS).write(outputs, now_s=clock.monotonic_s())
            return done


def _fields(command: OrderCommand, by: str) -> dict[str, str]:
    return {"id": uuid.uuid4().hex, "kind": command.kind, "by": by, "data": command.model_dump_json()}
