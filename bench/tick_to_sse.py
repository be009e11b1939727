"""Milliseconds from a tick on the wire to an SSE client, and to a reader of the `ticks` stream, at 10,000 full-mode
ticks a second, open loop.

All processes are the real ones: a venue that sends a frame of 100 instruments every 10 ms whether we keep up or not,
ingest, Redis, the gateway, and one client that follows twenty of the instruments. Measured from the venue's own stamp
(whole milliseconds, so half of one on average is rounding) to the moment the client has the event. The reader of the
stream is a plain Redis client that waits for entries, and has its turn first. The peer is the time that the vendor SDK
takes to decode one such frame, before anything else could happen to it.
"""

import contextlib
import http.client
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

import orjson
from redis import Redis

from bench import decode, frames
from bench.report import Report, rate, run
from bench.stack import Stack, stack
from schemas import streams

_KEYS: Final = 2000
_KEYS_PER_FRAME: Final = 100
_FRAMES_PER_S: Final = 100.0
_FOLLOWED: Final = 20
_WARM_S: Final = 3.0
_MEASURE_S: Final = 8.0


def consumer_ms(running: Stack) -> list[float]:
    """Age of each entry of `ticks` when a reader has it, in order of size."""
    found: list[float] = []
    with contextlib.closing(Redis.from_url(running.redis_url)) as redis:
        after: bytes | str = "$"
        start = time.monotonic()
        while time.monotonic() < start + _WARM_S + _MEASURE_S:
            reply: Any = redis.xread({streams.ticks(0): after}, count=10, block=1000)
            now_ms = time.time_ns() / 1e6
            for entry_id, fields in reply[0][1] if reply else ():
                after = entry_id
                if int(fields[b"n"]) and time.monotonic() > start + _WARM_S:
                    found.append(now_ms - int(fields[b"ts"]))
    return sorted(found)


def latencies_ms(running: Stack) -> list[float]:
    """Age of each event on arrival, in order of size."""
    keys = ",".join(frames.keys(_FOLLOWED)).replace("|", "%7C")
    client = http.client.HTTPConnection("127.0.0.1", running.ports["http"], timeout=20)
    client.request("GET", f"/api/v1/stream/live?instruments={keys}")
    answer = client.getresponse()
    found: list[float] = []
    start = time.monotonic()
    while time.monotonic() < start + _WARM_S + _MEASURE_S:
        line = answer.readline()
        if line.startswith(b"data: ") and time.monotonic() > start + _WARM_S:
            now_ms = time.time_ns() / 1e6
            found.append(now_ms - orjson.loads(line[6:])["ts"])
    client.close()
    return sorted(found)


def measure() -> Report:
    made = cycle(frames.frames(frames.Mode.FULL, 20, _KEYS_PER_FRAME, n_keys=_KEYS))
    peer_ms = 1000 * _KEYS_PER_FRAME / rate(lambda: decode.sdk_ticks(made, 1), 2.0)
    with stack(_KEYS, _KEYS_PER_FRAME, _FRAMES_PER_S, "ingest", "aggregator", "gateway") as running:
        running.wait("aggregator", "teji_ticks_total", 1)
        running.wait("gateway", "teji_shards_held", 1)
        reader, found = consumer_ms(running), latencies_ms(running)
    at = _quantiles(found)
    detail = {**at, "events": float(len(found))}
    detail |= {f"reader of the ticks stream, {name}": value for name, value in _quantiles(reader).items()}
    return Report.of(
        "tick-to-sse", at["p50 ms"], "ms (p50)", "vendor SDK, decoding one frame", peer_ms, detail, less_is_better=True
    )


def _quantiles(found: list[float]) -> dict[str, float]:
    return {f"p{q:g} ms": found[min(len(found) - 1, int(len(found) * q / 100))] for q in (50, 90, 99, 99.9)}


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
