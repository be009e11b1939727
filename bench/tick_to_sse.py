"""Milliseconds from a tick on the wire to an SSE client, at 10,000 full-mode ticks a second, open loop.

All processes are the real ones: a venue that sends a frame of 100 instruments every 10 ms whether we keep up or not,
ingest, Redis, the gateway, and one client that follows twenty of the instruments. Measured from the venue's own stamp
(whole milliseconds, so half of one on average is rounding) to the moment the client has the event. The peer is the
time that the vendor SDK takes to decode one such frame, before anything else could happen to it.
"""

import http.client
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Final

import orjson

from bench import decode, frames
from bench.report import Report, rate, run
from bench.stack import Stack, stack

_KEYS: Final = 2000
_KEYS_PER_FRAME: Final = 100
_FRAMES_PER_S: Final = 100.0
_FOLLOWED: Final = 20
_WARM_S: Final = 3.0
_MEASURE_S: Final = 8.0


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
        found = latencies_ms(running)
    at = {f"p{q:g} ms": found[min(len(found) - 1, int(len(found) * q / 100))] for q in (50, 90, 99, 99.9)}
    detail = {**at, "events": float(len(found))}
    return Report.of(
        "tick-to-sse", at["p50 ms"], "ms (p50)", "vendor SDK, decoding one frame", peer_ms, detail, less_is_better=True
    )


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
