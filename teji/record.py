"""`teji record`: the feed onto a tape for a while, on whatever machine ingest runs."""

import asyncio
import getpass
import json
import signal
import socket
import sys
import uuid
from typing import Any, Final

import orjson
from rich.console import Console
from rich.status import Status

from bus import clock, embedded, lease
from bus.connection import Bus, pairs
from bus.inbox import Output, Writer
from bus.life import pause
from bus.settings import load
from schemas import streams
from schemas.commands import TAPE_RECORD, TapeRecord
from schemas.errors import Misconfigured, Unavailable
from schemas.events import EventKind

_EVERY_S: Final = 2.0
_HELD_S: Final = 15.0  # ingest records for so long after it was last asked
_REPLY_S: Final = 10.0
_BLOCK_MS: Final = 500

Told = dict[str, dict[str, Any]]  # by process


def main(minutes: float | None, *, as_json: bool) -> int:
    told, failure = asyncio.run(_run(minutes, as_json))
    if as_json:
        print(json.dumps({"tapes": list(told.values()), "failure": failure}))
        return int(bool(failure))
    for one in told.values():
        print(f"{one['tape']}: {_size(one)}")
        if one["always"]:
            print("TEJI_TAPE is on: this tape goes on.")
    if failure:
        print(f"teji: {failure}", file=sys.stderr)
    elif told:
        print("`teji replay TAPE --verify` plays it and compares.")
    return int(bool(failure))


async def _run(minutes: float | None, as_json: bool) -> tuple[Told, str]:
    with embedded.servers(load(), postgres=False) as servers:
        async with Bus.open(servers.redis_url) as bus:
            await bus.check()
            if not await lease.living(bus, "ingest"):
                raise Misconfigured("No ingest is running here: start one with `teji up`, then record.")
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            console = Console(stderr=True)
            with console.status("recording ...") as status:
                told, failure = await record(bus, minutes, stop, None if as_json else status)
            return told, failure


async def record(
    bus: Bus, minutes: float | None, stop: asyncio.Event, status: Status | None = None
) -> tuple[Told, str]:
    """Ask again and again, as long as it is wanted: a tape must not go on because we were killed."""
    until_s = clock.monotonic_s() + minutes * 60 if minutes is not None else float("inf")
    told: Told = {}
    failure = ""
    try:
        while not failure and not stop.is_set() and clock.monotonic_s() < until_s:
            told |= await ask(bus, _HELD_S)
            failure = next((one["losing"] for one in told.values() if one["losing"]), "")
            if status is not None:
                status.update("recording: " + "; ".join(map(_size, told.values())) + " (Ctrl-C ends it)")
            await pause(stop, min(_EVERY_S, max(0.0, until_s - clock.monotonic_s())))
    finally:
        last = await ask(bus, 0.0)
    return told | last, failure


async def ask(bus: Bus, seconds: float) -> Told:
    """One command, and what the processes say to it: each has one tape, whatever number of shards."""
    number = uuid.uuid4().hex
    newest = await bus.last_entry(streams.EVENTS)
    after = newest[0] if newest else "0-0"
    body = TapeRecord(seconds=seconds).model_dump_json()
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    fields: dict[str, Any] = {"id": number, "kind": TAPE_RECORD, "by": by, "data": body}
    await Writer(bus, None, {}).write([Output(streams.COMMANDS, fields)], now_s=clock.monotonic_s())
    wanted = set(await lease.living(bus, "ingest"))
    told: Told = {}
    deadline_s = clock.monotonic_s() + _REPLY_S
    while clock.monotonic_s() < deadline_s and len(told) < max(1, len(wanted)):
        (reply,) = await bus.packet(("XREAD", "COUNT", 100, "BLOCK", _BLOCK_MS, "STREAMS", streams.EVENTS, after))
        for entry_id, flat in reply[0][1] if reply else ():
            after = entry_id.decode()
            if data := _reply(pairs(flat), number):
                told[data["instance"]] = data
        if told and not reply:
            break  # a process without a shard stands by and says nothing
    if not told:
        raise Unavailable("ingest does not answer: `teji doctor` says what is wrong with it")
    return told


def _reply(fields: dict[bytes, bytes], number: str) -> dict[str, Any] | None:
    if fields.get(b"kind") != EventKind.REPLY.encode() or number.encode() not in fields.get(b"data", b""):
        return None
    data: dict[str, Any] = orjson.loads(fields[b"data"])["data"]
    if not data["ok"]:
        raise Unavailable(f"ingest refuses: {data}")
    return data


def _size(one: dict[str, Any]) -> str:
    """Frames, size and ratio; the last block is not on the disk yet."""
    ratio = f", {one['raw_bytes'] / one['stored_bytes']:.1f} times smaller" if one["stored_bytes"] else ""
    return f"{one['frames']:,} frames, {one['raw_bytes'] / 1e6:.1f} MB{ratio}"
