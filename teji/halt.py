"""`teji halt` and `teji resume`: the switch that every worker obeys, and the event that tells everybody."""

import asyncio
import getpass
import json
import socket
from typing import Any

from bus import clock, embedded
from bus.connection import Bus, translated
from bus.inbox import Output, Writer
from bus.settings import load
from schemas import streams
from schemas.events import Event, EventKind


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


async def switch(bus: Bus, *, by: str, why: str | None) -> bool:
    """Halt for a reason, or resume (None). The key first, it is what counts; then the event. False: nothing to end."""
    now_ms = clock.now_ms()
    data: dict[str, Any] = {"by": by, "ts": now_ms}
    with translated():
        if why is None:
            if not await bus.redis.delete(streams.HALT):
                return False
            event = Event(kind=EventKind.RESUME, ts=now_ms, worker="cli", message=f"resumed by {by}", data=data)
        else:
            data["why"] = why
            await bus.redis.set(streams.HALT, json.dumps(data))
            event = Event(kind=EventKind.HALT, ts=now_ms, worker="cli", message=f"halted by {by}: {why}", data=data)
    output = Output(streams.EVENTS, {"kind": event.kind.value, "data": event.model_dump_json()})
    await Writer(bus, None, streams.RETENTION_MS).write([output], now_s=clock.monotonic_s())
    return True
