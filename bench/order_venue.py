"""A venue that sends ticks at a fixed pace and takes orders: what it is asked for on hearing of a price, it times.

Like `bench.venue`, and beside the same frames: one instrument of each frame (its first) is a ladder. When its turn
comes its price goes one rung up, and stays. Whoever watches for that rung sends an order with it as the limit; the
venue knows when that tick was due, and takes the time at which the whole request has arrived. Orders are filled at
once.

    python -m bench.order_venue PORT KEYS KEYS_PER_FRAME FRAMES_PER_S RUNGS_PER_S

    GET /bench/climb?rungs=N    begin to climb, so many rungs in all
    GET /bench/arrived          [instrument, rung, milliseconds] of each order that has arrived
"""

import asyncio
import contextlib
import itertools
import random
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson
import picows
import uvloop

from bench import frames, venue
from bus import clock
from proto import feed_pb2

FIRST_PRICE: Final = 200.0
RUNG: Final = 0.5
_IST: Final = timezone(timedelta(hours=5, minutes=30))
_FILL_S: Final = 0.005  # after the answer
_MARK: Final = 12_345.675  # found again in the bytes of a frame


@dataclass
class Ladders:
    """How high each instrument is, which rung was due when, and what came of it."""

    rungs_per_s: float
    left: int = 0
    owed: float = 0.0
    heights: dict[str, int] = field(default_factory=dict)
    due_s: dict[tuple[str, int], float] = field(default_factory=dict)
    arrived: list[tuple[str, int, float]] = field(default_factory=list)

    def turn(self, key: str, due_s: float, frames_per_s: float) -> float:
        """The price of an instrument whose frame is to leave; one rung higher where it is time for that."""
        if self.left:
            self.owed += self.rungs_per_s / frames_per_s
            if self.owed >= 1:
                self.owed -= 1
                self.left -= 1
                self.heights[key] = self.heights.get(key, 0) + 1
                self.due_s[key, self.heights[key]] = due_s
        return price_of(self.heights.get(key, 0))

    def order(self, key: str, price: float) -> None:
        now_s, rung = clock.monotonic_s(), round((price - FIRST_PRICE) / RUNG)
        due_s = self.due_s.get((key, rung))
        if due_s is not None:
            self.arrived.append((key, rung, (now_s - due_s) * 1000))


def price_of(rung: int) -> float:
    return FIRST_PRICE + RUNG * rung


def ladders(n_keys: int, keys_per_frame: int) -> list[str]:
    return frames.keys(n_keys)[::keys_per_frame]


class _Frame(venue._Block):
    """One message; the first instrument's price can be set."""

    def __init__(self, key: str, body: bytes) -> None:
        message = feed_pb2.FeedResponse.FromString(body)
        message.feeds[key].fullFeed.marketFF.ltpc.ltp = _MARK
        super().__init__([message.SerializeToString()])
        self.key = key
        (self._price_at,) = venue._find(self._raw, struct.pack("<d", _MARK))

    def priced(self, price: float, ts: int) -> bytes:
        at = self._price_at
        self._raw[at : at + 8] = np.frombuffer(struct.pack("<d", price), np.uint8)
        return self.at(ts)


def _frames(n_keys: int, keys_per_frame: int) -> list[_Frame]:
    rng = random.Random(1)
    pool = frames.keys(n_keys)
    parts = [pool[i : i + keys_per_frame] for i in range(0, n_keys, keys_per_frame)]
    made = [venue._marked(frames.frame(frames.Mode.FULL, part, venue._SAMPLE_TS, rng)) for part in parts]
    return [_Frame(part[0], body) for part, body in zip(parts, made, strict=True)]


class Feed(picows.WSListener):
    """Open loop: what is due leaves, whether the client keeps up or not."""

    def __init__(self, made: list[_Frame], ladder: Ladders, frames_per_s: float) -> None:
        self._turn: Iterator[_Frame] = itertools.cycle(made)
        self._ladder = ladder
        self._frames_per_s = frames_per_s
        self._task: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.BINARY and self._task is None:
            self._task = asyncio.create_task(self._paced())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002 - picows's signature
        if self._task is not None:
            self._task.cancel()

    async def _paced(self) -> None:
        start = clock.monotonic_s()
        for number in itertools.count(1):
            due_s = start + number / self._frames_per_s
            if (wait_s := due_s - clock.monotonic_s()) > 0:
                await asyncio.sleep(wait_s)
            frame = next(self._turn)
            price = self._ladder.turn(frame.key, due_s, self._frames_per_s)
            self._transport.underlying_transport.write(frame.priced(price, clock.now_ms()))


class Portfolio(picows.WSListener):
    """The stream of order updates."""

    def __init__(self, listeners: set[picows.WSTransport]) -> None:
        self._listeners = listeners

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._listeners.add(transport)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._listeners.discard(transport)


class Rest:
    """As much of the venue's API as an order worker asks for."""

    def __init__(self, ladder: Ladders, port: int, file: bytes) -> None:
        self._ladder = ladder
        self._feed_url = f"ws://127.0.0.1:{port + 1}/feed"
        self._portfolio_url = f"ws://127.0.0.1:{port + 1}/portfolio"
        self._file = file
        self._orders: list[dict[str, Any]] = []
        self.listeners: set[picows.WSTransport] = set()
        self._paths: dict[str, Callable[[dict[str, list[str]]], Any]] = {
            "/v3/feed/market-data-feed/authorize": lambda _: {"authorized_redirect_uri": self._feed_url},
            "/v2/feed/portfolio-stream-feed/authorize": lambda _: {"authorized_redirect_uri": self._portfolio_url},
            "/v2/order/retrieve-all": lambda _: self._orders,
            "/v2/order/history": lambda q: [o for o in self._orders if [o["tag"]] == q.get("tag")],
            "/v2/order/trades/get-trades-for-day": lambda _: [_trade(order) for order in self._orders],
            "/v2/portfolio/short-term-positions": lambda _: self._positions(),
            "/v2/market-quote/quotes": lambda q: {key: _quote(key) for key in q["instrument_key"][0].split(",")},
            "/v3/user/get-funds-and-margin": lambda _: {"available_to_trade": {"total": 1e12}},
            "/v2/user/profile": lambda _: {"user_id": "BENCH", "is_active": True},
            "/bench/arrived": lambda _: self._ladder.arrived,
            "/bench/climb": self._climb,
        }

    def _climb(self, query: dict[str, list[str]]) -> int:
        self._ladder.left = int(query["rungs"][0])
        self._ladder.owed = 0.0
        return self._ladder.left

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        url = urlsplit(target)
        if "instruments" in url.path:
            return self._file
        if method == "POST" and url.path == "/v3/order/place":
            data: Any = self._place(orjson.loads(body))
        else:
            path: Callable[[dict[str, list[str]]], Any] = self._paths.get(url.path, _nothing)
            data = path(parse_qs(url.query))
        return orjson.dumps({"status": "success", "data": data, "metadata": {"latency": 1}})

    def _place(self, asked: dict[str, Any]) -> dict[str, list[str]]:
        self._ladder.order(asked["instrument_token"], asked["price"])
        order_id = f"{len(self._orders) + 1:015}"
        told = {
            **asked, "order_id": order_id, "status": "complete", "filled_quantity": asked["quantity"],
            "average_price": asked["price"], "order_request_id": "1", "exchange": "NFO",
            "instrument_key": asked["instrument_token"], "order_timestamp": _now(),
        }  # fmt: skip
        self._orders.append(told)
        asyncio.get_running_loop().call_later(_FILL_S, self._tell, told)
        return {"order_ids": [order_id]}

    def _tell(self, order: dict[str, Any]) -> None:
        for transport in self.listeners:
            transport.send(picows.WSMsgType.TEXT, orjson.dumps({**order, "update_type": "order"}))

    def _positions(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for order in self._orders:
            start = {
                "instrument_key": order["instrument_key"], "product": order["product"], "quantity": 0,
                "day_buy_quantity": 0, "buy_value": 0.0, "average_price": order["price"],
            }  # fmt: skip
            row = found.setdefault(order["instrument_key"], start)
            row["quantity"] += order["quantity"]
            row["day_buy_quantity"] += order["quantity"]
            row["buy_value"] += order["quantity"] * order["price"]
        return list(found.values())

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ", 2)
                lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                answer = self.answer(method, target, body)
                head_out = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                writer.write(head_out % len(answer) + answer)
                await writer.drain()
        writer.close()


def _now() -> str:
    """In the venue's form."""
    return f"{datetime.fromtimestamp(clock.now_ms() / 1000, _IST):%Y-%m-%d %H:%M:%S}"


def _nothing(_: dict[str, list[str]]) -> list[Any]:
    return []


def _quote(key: str) -> dict[str, Any]:
    """The price limits of the day, which nothing here comes near."""
    return {"instrument_token": key, "lower_circuit_limit": RUNG, "upper_circuit_limit": 1e6}


def _trade(order: dict[str, Any]) -> dict[str, Any]:
    return {**order, "trade_id": f"T{order['order_id']}"}


async def serve(port: int, n_keys: int, keys_per_frame: int, frames_per_s: float, rungs_per_s: float) -> None:
    ladder = Ladders(rungs_per_s)
    made = _frames(n_keys, keys_per_frame)
    rest = Rest(ladder, port, venue.instrument_file(n_keys))

    def listener(request: picows.WSUpgradeRequest) -> picows.WSListener:
        if b"portfolio" in request.path:
            return Portfolio(rest.listeners)
        return Feed(made, ladder, frames_per_s)

    feed = await picows.ws_create_server(listener, "127.0.0.1", port + 1)
    http = await asyncio.start_server(rest.connection, "127.0.0.1", port)
    async with feed, http:
        await asyncio.sleep(600)  # a bench that forgets us must not leave us running


if __name__ == "__main__":
    numbers = list(map(float, sys.argv[1:]))
    uvloop.run(serve(*map(int, numbers[:3]), *numbers[3:]))
