"""The switch that every worker obeys: the key `halt`, and the event that tells everybody."""

import json
from typing import Any

from bus import clock
from bus.connection import Bus, translated
from bus.inbox import Output, Writer
from schemas import streams
from schemas.events import Event, EventKind


async def switch(bus: Bus, *, by: str, why: str | None, worker: str = "cli") -> bool:
    """Halt for a reason, or resume (None). The key first, it is what counts; then the event. False: nothing to end."""
    now_ms = clock.now_ms()
    data: dict[str, Any] = {"by": by, "ts": now_ms}
    with translated():
        if why is None:
            if not await bus.redis.delete(streams.HALT):
                return False
            event = Event(kind=EventKind.RESUME, ts=now_ms, worker=worker, message=f"resumed by {by}", data=data)
        else:
            data["why"] = why
            await bus.redis.set(streams.HALT, json.dumps(data))
            event = Event(kind=EventKind.HALT, ts=now_ms, worker=worker, message=f"halted by {by}: {why}", data=data)
    output = Output(streams.EVENTS, {"kind": event.kind.value, "data": event.model_dump_json()})
    await Writer(bus, None, streams.RETENTION_MS).write([output], now_s=clock.monotonic_s())
    return True


async def halted(bus: Bus) -> str:
    """Why trading is halted, in words; empty: it is not. A bare `SET halt why` counts like our own."""
    value = await bus.get(streams.HALT)
    return "" if value is None else reason_of(value)


def reason_of(value: bytes) -> str:
    text = value.decode(errors="replace").strip()
    try:
        held = json.loads(text)
    except ValueError:
        return text or "halted"
    if not isinstance(held, dict):
        return text
    return str(held.get("why") or "halted") + (f" (by {held['by']})" if held.get("by") else "")
