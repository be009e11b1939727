"""`teji halt` and `teji resume`: the switch that every worker obeys, and the event that tells everybody."""

import asyncio
import getpass
import socket

from bus import embedded
from bus.connection import Bus
from bus.halt import switch
from bus.settings import load


def halt(why: str) -> None:
    asyncio.run(_run(why))
    print(f"Halted: {why}. `teji resume` ends it.")


def resume() -> None:
    if asyncio.run(_run(None)):
        print("Resumed.")
    else:
        print("There was no halt.")


async def _run(why: str | None) -> bool:
    settings = load()
    with embedded.servers(settings, postgres=False) as servers:
        async with Bus.open(servers.redis_url) as bus:
            return await switch(bus, by=f"{getpass.getuser()}@{socket.gethostname()}", why=why)
