"""A venue that sends as fast as it is read: real handshake, real frames, every update a new trade.

The simulated exchange makes a market; this one only makes load, and shares the machine with what is measured: so it is
cheap. Its frames are built once by the generated class, as messages back to back; then time, trade time and volume are
rewritten in place, so that each copy that leaves is news. A flood leaves in blocks of many messages.

    python -m bench.venue PORT KEYS KEYS_PER_FRAME FRAMES_PER_S     (0 frames a second: as fast as possible)
"""

import asyncio
import contextlib
import gzip
import itertools
import random
import sys
from typing import Any, Final

import numpy as np
import orjson
import picows
import uvloop

from bench import frames
from bus import clock
from proto import feed_pb2

_HIGH_WATER_BYTES: Final = 4 << 20
_BLOCK_TICKS: Final = 500


class Stream:
    """Messages in turn over all keys; `next` returns the bytes of some that were never sent before."""

    def __init__(self, n_keys: int, keys_per_frame: int, frames_per_block: int, seed: int = 1) -> None:
        rng = random.Random(seed)
        pool = frames.keys(n_keys)
        parts = [pool[i : i + keys_per_frame] for i in range(0, n_keys, keys_per_frame)]
        made = [_marked(frames.frame(frames.Mode.FULL, part, _SAMPLE_TS, rng)) for part in parts]
        blocks = [made[i : i + frames_per_block] for i in range(0, len(made), frames_per_block)]
        self._turn = itertools.cycle([_Block(block) for block in blocks])

    def next(self, ts: int) -> bytes:
        return next(self._turn).at(ts)


#: A time whose varint has six bytes, like every time of this century.
_SAMPLE_TS: Final = frames.START_MS
_VTT_FIRST: Final = 1 << 28  # five bytes, up to 2^35


def _marked(body: bytes) -> bytes:
    """A frame with known times and volumes, so that they are found again in its bytes."""
    message = feed_pb2.FeedResponse.FromString(body)
    for feed in message.feeds.values():
        feed.fullFeed.marketFF.vtt = _VTT_FIRST
        feed.fullFeed.marketFF.ltpc.ltt = _SAMPLE_TS
    message.currentTs = _SAMPLE_TS
    return message.SerializeToString()


def _message(body: bytes) -> bytes:
    """As it goes over the wire from a server: one binary frame, not masked."""
    if len(body) < 126:
        return bytes([0x82, len(body)]) + body
    if len(body) < 1 << 16:
        return b"\x82\x7e" + len(body).to_bytes(2, "big") + body
    return b"\x82\x7f" + len(body).to_bytes(8, "big") + body


class _Block:
    """Messages whose times and volumes can be rewritten."""

    def __init__(self, bodies: list[bytes]) -> None:
        self._bytes = bytearray(b"".join(map(_message, bodies)))
        self._raw = np.frombuffer(self._bytes, np.uint8)
        self._times = _find(self._raw, _varint(_SAMPLE_TS))[:, None] + np.arange(6)
        self._volumes = _find(self._raw, _varint(_VTT_FIRST))[:, None] + np.arange(5)
        assert len(self._times) >= len(self._volumes) + len(bodies)
        self._vtt = _VTT_FIRST

    def at(self, ts: int) -> bytes:
        self._vtt += 75
        self._raw[self._times] = np.frombuffer(_varint(ts), np.uint8)
        self._raw[self._volumes] = np.frombuffer(_varint(self._vtt), np.uint8)
        return bytes(self._bytes)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _find(raw: Any, pattern: bytes) -> Any:
    at, found = bytes(raw).find(pattern), []
    while at >= 0:
        found.append(at)
        at = bytes(raw).find(pattern, at + 1)
    return np.array(found)


class Client(picows.WSListener):
    """One connection: after its first subscription it is sent frames until it goes."""

    def __init__(self, stream: Stream, frames_per_s: float) -> None:
        self._stream = stream
        self._frames_per_s = frames_per_s
        self._may = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._may.set()
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.BINARY and self._task is None:
            self._task = asyncio.create_task(self._paced() if self._frames_per_s else self._flood())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002 - picows's signature
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._may.clear()

    def resume_writing(self) -> None:
        self._may.set()

    def _send(self) -> None:
        self._transport.underlying_transport.write(self._stream.next(clock.now_ms()))

    async def _flood(self) -> None:
        while True:
            await self._may.wait()
            self._send()
            await asyncio.sleep(0)

    async def _paced(self) -> None:
        """Open loop: what is due leaves, whether the client keeps up or not."""
        start = clock.monotonic_s()
        for number in itertools.count(1):
            wait_s = start + number / self._frames_per_s - clock.monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._send()


def instrument_file(n_keys: int) -> bytes:
    rows = [
        {
            "instrument_key": key, "segment": "NSE_FO", "exchange": "NSE", "name": "NIFTY", "trading_symbol": key,
            "instrument_type": "CE", "lot_size": 75, "tick_size": 5.0, "freeze_quantity": 1800.0,
            "expiry": 1_798_741_799_000, "strike_price": 20_000.0 + number, "underlying_symbol": "NIFTY",
            "underlying_key": "NSE_INDEX|Nifty 50", "weekly": True,
        }
        for number, key in enumerate(frames.keys(n_keys))
    ]  # fmt: skip
    return gzip.compress(orjson.dumps(rows), 1)


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ws_url: str, file: bytes) -> None:
    """The two calls that ingest makes before it connects."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
            authorize = {"status": "success", "data": {"authorized_redirect_uri": ws_url}}
            body = file if b"instruments" in head else orjson.dumps(authorize)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    writer.close()


async def serve(port: int, n_keys: int, keys_per_frame: int, frames_per_s: float) -> None:
    stream = Stream(n_keys, keys_per_frame, 1 if frames_per_s else max(1, _BLOCK_TICKS // keys_per_frame))
    feed = await picows.ws_create_server(lambda _: Client(stream, frames_per_s), "127.0.0.1", port + 1)
    file = instrument_file(n_keys)
    url = f"ws://127.0.0.1:{port + 1}/"
    http = await asyncio.start_server(lambda r, w: _http(r, w, url, file), "127.0.0.1", port)
    async with feed, http:
        await asyncio.sleep(600)  # a bench that forgets us must not leave us running


if __name__ == "__main__":
    port, keys, per_frame, pace = map(float, sys.argv[1:])
    uvloop.run(serve(int(port), int(keys), int(per_frame), pace))
