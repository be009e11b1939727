"""Ticks a second from the venue's socket into committed bars: receive, decode, publish, read, fold, commit.

Four processes on this machine (venue, ingest, Redis with its append-only file, aggregator); the venue sends as fast as
it is read. The peer is the vendor SDK's decode alone: no pipeline built on it can be faster than that.
"""

import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Final

from bench import decode, frames
from bench.report import Report, rate, run
from bench.stack import stack

_KEYS: Final = 2000
_WARM_S: Final = 2.0
_MEASURE_S: Final = 4.0
_PEER_S: Final = 2.0


def ticks_per_s(keys_per_frame: int) -> float:
    """What the aggregator has folded, by its own count, over a few seconds of a flood."""
    with stack(_KEYS, keys_per_frame, 0, "ingest", "aggregator") as running:
        running.wait("aggregator", "teji_ticks_total", 1)
        time.sleep(_WARM_S)
        before, start = running.metric("aggregator", "teji_ticks_total"), time.perf_counter()
        time.sleep(_MEASURE_S)
        after = running.metric("aggregator", "teji_ticks_total")
        return (after - before) / (time.perf_counter() - start)


def measure() -> Report:
    made = cycle(frames.frames(frames.Mode.FULL, 20, 100, n_keys=_KEYS))
    peer = rate(lambda: decode.sdk_ticks(made, 1), _PEER_S)
    detail = {f"{n} keys a frame": ticks_per_s(n) for n in (1, 20)}
    value = ticks_per_s(100)
    return Report.of("wire-to-bar", value, "ticks/s", "vendor SDK, decode only", peer, detail)


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
