"""`teji tail`: the end of a stream, of all its shards, and what is written from now on."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

from bus import embedded, life
from bus.connection import Bus, translated
from bus.inbox import order
from bus.reader import Reader
from bus.settings import load
from schemas import streams
from schemas.errors import Misconfigured, Unavailable
from teji import render

_SHARDED: Final = {
    "ticks": streams.ticks,
    "candles": streams.candles,
    "intervals": streams.intervals,
    "chain": streams.chain,
}
_WHOLE: Final = (streams.EVENTS, streams.COMMANDS, streams.ORDERS, streams.SIGNALS)
_BLOCK_MS: Final = 1000
_COUNT: Final = 200
_RETRY_S: Final = 1.0

Row = tuple[str, str, dict[bytes, bytes]]  # stream, id, fields


def main(stream: str, *, count: int, follow: bool, as_json: bool) -> None:
    settings = load()
    names = resolved(stream, settings.teji_shards)
    with embedded.servers(settings, postgres=False) as servers:
        asyncio.run(_tail(servers.redis_url, names, count, follow, Printer(as_json)))


def resolved(stream: str, shards: int) -> list[str]:
    """The streams that a name stands for. A shard is written in braces: `candles:{0}`."""
    if stream in _SHARDED:
        return [_SHARDED[stream](shard) for shard in range(shards)]
    if stream in _WHOLE or streams.family(stream) in (*_SHARDED, "dead"):
        return [stream]
    known = ", ".join([*_SHARDED, *_WHOLE])
    raise Misconfigured(
        f"There is no stream {stream!r}: it is one of {known}, a shard (candles:{{0}}) or dead:<stream>."
    )


class Printer:
    """Writes entries; the header first, and again where the kind of stream changes."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._header = ""

    def text(self, row: Row) -> list[str]:
        if self._as_json:
            return [json.dumps(item, ensure_ascii=False) for item in render.objects(*row)]
        return render.lines(*row)

    def show(self, stream: str, lines: list[str]) -> None:
        if not self._as_json and (header := render.header(stream)) != self._header:
            self._header = header
            lines = [header, *lines]
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


async def _tail(url: str, names: list[str], count: int, follow: bool, printer: Printer) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Bus.open(url) as bus:
        with _until_nobody_reads():
            last = await _before(bus, names, count, printer)
            reader = Reader(bus)
            while follow and not stop.is_set():
                try:
                    await _next(reader, last, printer)
                except Unavailable as error:
                    print(f"waiting: {error}", file=sys.stderr)
                    await life.pause(stop, _RETRY_S)
            await reader.close()


async def _before(bus: Bus, names: list[str], count: int, printer: Printer) -> dict[str, str]:
    """Show the last lines there are. Returns the last id of each stream."""
    rows: list[Row] = []
    last = {}
    with translated():
        for name in names:
            found: list[Any] = await bus.redis.xrevrange(name, count=max(count, 1))
            last[name] = found[0][0].decode() if found else "0-0"
            rows += [(name, entry_id.decode(), fields) for entry_id, fields in found]
    rows.sort(key=lambda row: order(row[1]))
    lines = [line for row in rows[-count:] for line in printer.text(row)][-count:] if count else []
    printer.show(names[0], lines)
    return last


async def _next(reader: Reader, last: dict[str, str], printer: Printer) -> None:
    for read in await reader.read(last, count=_COUNT, block_ms=_BLOCK_MS):
        last[read.stream] = read.entries[-1][0].decode()
        rows = [(read.stream, entry_id.decode(), fields) for entry_id, fields in read.entries]
        printer.show(read.stream, [line for row in rows for line in printer.text(row)])


@contextlib.contextmanager
def _until_nobody_reads() -> Iterator[None]:
    """`teji tail ticks | head` ends quietly when head has seen enough."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
