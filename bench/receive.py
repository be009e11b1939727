"""What receiving a frame costs, before anybody looks inside: our socket beside the libraries that others use.

Each receives the same flood in a process of its own and does nothing but count. The figure is processor time, so that
what the sender takes of the machine plays no part.

    python -m bench.receive LIBRARY URL SECONDS
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import uvloop
import websocket
import websockets

from brokers.upstox import feed
from schemas.commands import Mode

OURS: Final = "ours (picows)"
LIBRARIES: Final = (OURS, "websockets", "websocket-client, as the vendor SDK uses it")
_PING_S: Final = 30.0


class Count:
    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0

    def __call__(self, frame: bytes) -> None:
        self.frames += 1
        self.bytes += len(frame)


async def _ours(url: str, seconds: float, count: Count) -> None:
    socket = await feed.connect(url, count, print, ping_s=_PING_S)
    socket.send("sub", ["NSE_FO|1"], Mode.FULL)
    await asyncio.sleep(seconds)
    socket.disconnect("done", "the bench is over")


async def _websockets(url: str, seconds: float, count: Count) -> None:
    async with websockets.connect(url, max_size=None, compression=None) as socket:
        await socket.send(b"{}")
        deadline_s = time.monotonic() + seconds
        async for frame in socket:
            count(frame if isinstance(frame, bytes) else frame.encode())
            if time.monotonic() > deadline_s:
                return


def _websocket_client(url: str, seconds: float, count: Count) -> None:
    app = websocket.WebSocketApp(
        url,
        on_open=lambda app: app.send(b"{}", websocket.ABNF.OPCODE_BINARY),
        on_message=lambda _, frame: count(frame),
    )
    threading.Timer(seconds, app.close).start()
    app.run_forever()


def nanoseconds_a_frame(library: str, url: str, seconds: float) -> tuple[float, float]:
    """Processor time a frame, and bytes a frame."""
    count = Count()
    way: dict[str, Callable[[], None]] = {
        LIBRARIES[0]: lambda: uvloop.run(_ours(url, seconds, count)),
        LIBRARIES[1]: lambda: uvloop.run(_websockets(url, seconds, count)),
        LIBRARIES[2]: lambda: _websocket_client(url, seconds, count),
    }
    start = time.process_time()
    way[library]()
    return (time.process_time() - start) * 1e9 / max(1, count.frames), count.bytes / max(1, count.frames)


if __name__ == "__main__":
    print(*nanoseconds_a_frame(sys.argv[1], sys.argv[2], float(sys.argv[3])))
