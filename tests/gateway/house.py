"""A whole gateway on real servers and a real socket, and clients that read it byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import date

import httpx
import numpy as np

from bus.connection import Bus
from bus.embedded import Servers
from bus.life import Worker
from bus.settings import Settings
from gateway import worker as gateway_worker
from market.instruments import Instrument, Universe
from schemas import streams, ticks
from schemas.bars import Bar, Source
from schemas.errors import Unavailable

NIFTY = "NSE_INDEX|Nifty 50"
CALL = "NSE_FO|1001"
PUT = "NSE_FO|1002"
FUTURE = "NSE_FO|1003"
SHARE = "NSE_EQ|INE002A01018"
EXPIRY = date(2031, 1, 30)


def instrument(key: str, symbol: str, kind: str, **more: object) -> Instrument:
    segment = key.partition("|")[0]
    basics = {"exchange": segment[:3], "name": symbol, "lot_size": 1, "tick_size": 0.05}
    return Instrument(key=key, segment=segment, trading_symbol=symbol, instrument_type=kind, **{**basics, **more})  # type: ignore[arg-type]


def universe() -> Universe:
    of_nifty = {"expiry": EXPIRY, "underlying_key": NIFTY, "underlying_symbol": "NIFTY", "lot_size": 75}
    return Universe(
        [
            instrument(NIFTY, "NIFTY", "INDEX"),
            instrument(SHARE, "RELIANCE", "EQ"),
            instrument(CALL, "NIFTY 25000 CE 30 JAN 31", "CE", strike=25_000.0, **of_nifty),
            instrument(PUT, "NIFTY 25000 PE 30 JAN 31", "PE", strike=25_000.0, **of_nifty),
            instrument(FUTURE, "NIFTY FUT 30 JAN 31", "FUT", **of_nifty),
        ]
    )


@dataclass
class House:
    """A running gateway."""

    url: str
    http: httpx.AsyncClient
    bus: Bus
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def running(settings: Settings, known: Universe | None = None) -> AsyncIterator[House]:
    async def fetch() -> Universe:
        if known is None:
            raise Unavailable("no list in this test")
        return known

    async with Bus.open(settings.redis_url) as bus:
        worker = Worker("gateway", settings, bus, Servers(settings.redis_url, settings.postgres_url), 0)
        listener = gateway_worker.listen(settings)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = asyncio.Event()
        task = asyncio.create_task(gateway_worker.run(worker, stop, listener=listener, fetch=fetch))
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                yield House(url, http, bus, stop, task)
        finally:
            stop.set()
            await task


async def until(condition: Callable[[], Awaitable[object]], timeout_s: float = 20.0) -> None:
    """Ask again and again: what a test waits for happens in another process."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - nobody there to set an event
            await asyncio.sleep(0.02)


# Reading SSE


@dataclass
class Message:
    """One event as the wire had it."""

    event: str = "message"
    data: str = ""
    id: str = ""
    comment: str = ""
    retry: str = ""


def parsed(block: bytes) -> Message:
    message = Message()
    data: list[str] = []
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                message.comment = value
            case "data":
                data.append(value)
            case "event" | "id" | "retry":
                setattr(message, name, value)
    message.data = "\n".join(data)
    return message


@dataclass
class Client:
    """A raw HTTP/1.1 connection that reads one SSE stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)

    async def block(self) -> bytes:
        """The bytes up to the next empty line."""
        while (end := self.body.find(b"\n\n")) < 0:
            size = int((await self.reader.readline()).strip() or b"0", 16)
            if size == 0:
                raise EOFError("the stream has ended")
            self.body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        block = bytes(self.body[:end])
        del self.body[: end + 2]
        return block

    async def message(self) -> Message:
        """The next event, comments and `retry` passed over."""
        while True:
            message = parsed(await self.block())
            if message.data or message.id:
                return message

    async def messages(self, count: int, timeout_s: float = 10.0) -> list[Message]:
        async with asyncio.timeout(timeout_s):
            return [await self.message() for _ in range(count)]

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def listening(house: House, path: str, last_event_id: str | None = None) -> AsyncIterator[Client]:
    client = await connect(house.url, path, last_event_id)
    try:
        yield client
    finally:
        await client.close()


async def connect(url: str, path: str, last_event_id: str | None = None) -> Client:
    port = int(url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/v1/stream/{path.replace(' ', '%20')} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    if last_event_id is not None:
        head += f"Last-Event-ID: {last_event_id}\r\n"
    writer.write(f"{head}\r\n".encode())
    status = int((await reader.readline()).split()[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Client(reader, writer, status, headers)


# Writing streams


def tick_fields(rows: Sequence[tuple[str, float]], ts: int = 1_700_000_000_000) -> dict[bytes, bytes | int]:
    """A ticks entry of (instrument, price)."""
    rec = np.zeros(len(rows), ticks.TICK)
    for name in rec.dtype.names or ():
        if rec.dtype[name].kind == "f":
            rec[name] = np.nan
    for at, (key, ltp) in enumerate(rows):
        rec[at]["id"] = streams.instrument_id(key)
        rec[at]["ltp"] = ltp
        rec[at]["ts"] = ts
        rec[at]["rx"] = ts * 1_000_000 + at
        rec[at]["flags"] = ticks.Block.LTPC | ticks.Block.LTPC << ticks.KNOWN_SHIFT
    return ticks.pack(
        ts, ts * 1_000_000, ",".join(dict.fromkeys(key for key, _ in rows)), rec, np.empty(0, ticks.LEVEL)
    )


def bar(key: str, ts: int, close: float = 1.0, rev: int = 1, **more: object) -> Bar:
    basics: dict[str, object] = dict.fromkeys(Bar.model_fields)
    basics |= {"instrument": key, "ts": ts, "open": close, "high": close, "low": close, "close": close, "volume": 1}
    basics |= {"ticks": 1, "source": Source.LIVE, "complete": True, "rev": rev, **more}
    return Bar.model_validate(basics)


def bar_fields(one: Bar) -> dict[str, str | int]:
    return {"instrument": one.instrument, "ts": one.ts, "data": one.model_dump_json()}
