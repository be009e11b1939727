"""Ticks a second from the venue's socket into committed bars: receive, decode, publish, read, fold, commit.

Four processes on this machine (venue, ingest, Redis with its append-only file, aggregator); the venue sends as fast as
it is read. Measured once Redis holds as many ticks as it may and lets the oldest go: then nothing grows any more. The
peer is the vendor SDK's decode alone: no pipeline built on it can be faster than that. The detail has other frame
sizes, growth of memory meanwhile, the generated class's decode, NautilusTrader's bars from trades that are in memory
already, and what receiving a frame costs by itself.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Final

from bench import bars, decode, frames, receive
from bench.report import Report, rate, run
from bench.stack import ROOT, Stack, free_pair, stack, venue

_KEYS: Final = 2000
_KEEP_TICKS_MB: Final = 256
_WARM_S: Final = 3.0
_MEASURE_S: Final = 4.0
_PEER_S: Final = 2.0
_RECEIVE_S: Final = 1.5
_ROUNDS: Final = 3


def ticks_per_s(keys_per_frame: int) -> tuple[float, float]:
    """What the aggregator has folded, by its own count, over a few seconds of a flood; and the MiB by which ingest and
    aggregator have grown meanwhile."""
    with stack(
        _KEYS, keys_per_frame, 0, "ingest", "aggregator", env={"TEJI_KEEP_TICKS_MB": str(_KEEP_TICKS_MB)}
    ) as running:
        running.wait("aggregator", "teji_ticks_total", 1)
        time.sleep(_WARM_S)
        before, start = running.metric("aggregator", "teji_ticks_total"), time.perf_counter()
        held = _held_mb(running)
        time.sleep(_MEASURE_S)
        after = running.metric("aggregator", "teji_ticks_total")
        return (after - before) / (time.perf_counter() - start), _held_mb(running) - held


def _held_mb(running: Stack) -> float:
    return sum(running.metric(worker, "process_resident_memory_bytes") for worker in ("ingest", "aggregator")) / 2**20


def receiving(keys_per_frame: int) -> dict[str, float]:
    """Processor time a frame by library, each in a process of its own."""
    port = free_pair()
    found: dict[str, float] = {}
    with venue(port, _KEYS, keys_per_frame):
        for library in receive.LIBRARIES:
            command = [sys.executable, "-m", "bench.receive", library, f"ws://127.0.0.1:{port + 1}/", str(_RECEIVE_S)]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
            spent, size = map(float, answer.stdout.split())
            found[f"receive a frame of {size / 1000:.1f} KB, {library}, µs"] = spent / 1000
    return found


def measure() -> Report:
    made = cycle(frames.frames(frames.Mode.FULL, 20, 100, n_keys=_KEYS))
    peer = rate(lambda: decode.sdk_ticks(made, 1), _PEER_S)
    detail = {"generated class, decode only": rate(lambda: decode.generated_ticks(made, 5), _PEER_S)}
    detail |= bars.nautilus_ticks_per_s()
    for n in (1, 20):
        detail[f"{n} keys a frame"], _ = ticks_per_s(n)
    rounds = [ticks_per_s(100) for _ in range(_ROUNDS)]
    detail["least of the rounds"] = min(value for value, _ in rounds)
    detail["growth of ingest and aggregator, MiB"] = statistics.median(grown for _, grown in rounds)
    for n in (1, 100):
        detail |= receiving(n)
    value = statistics.median(value for value, _ in rounds)
    return Report.of("wire-to-bar", value, "ticks/s", "vendor SDK, decode only", peer, detail)


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
