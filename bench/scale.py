"""How processor time and memory grow with the number of instruments, and with the rate of ticks.

The real workers as processes, one of each, on an embedded Redis, a shard for each 5,000 instruments; full mode, frames
of 100 instruments, open loop. The gateway keeps the bars and serves nobody. Processor time is divided by the ticks that
the aggregator folded meanwhile, so a busy machine changes it little; what it says of each process comes from the
process itself. Each point takes some seconds after everything has been seen; points that do not fit into the time are
left out and named.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from redis import Redis

from bench.report import Report
from bench.stack import Stack, stack
from schemas import streams

INGEST: Final = "bench.uncapped"
WORKERS: Final = (INGEST, "aggregator", "gateway")
NAMES: Final = ("ingest", "aggregator", "gateway", "redis")
_PER_FRAME: Final = 100
_RATE: Final = 10_000
_KEYS: Final = 5_000
_KEYS_PER_SHARD: Final = 5_000
_LEASE_S: Final = 60.0  # nobody is killed here, and a busy machine is no reason to lose a shard
#: Instruments, ticks a second; the headline compares most instruments with fewest.
POINTS: Final = ((500, _RATE), (_KEYS, 1_000), (_KEYS, _RATE), (_KEYS, 30_000), (50_000, _RATE))
_MEASURE_S: Final = 6.0
_CATCH_UP_S: Final = 15.0
_LAG_MS: Final = 500
_SAMPLED: Final = 50  # entries, of those that Redis looks at too
_LIMIT_S: Final = 150.0
_POINT_S: Final = 35.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process: processor seconds since its start, bytes of memory now."""

    cpu_s: float
    rss: float


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured: processor time per tick, memory, by process."""

    keys: int
    rate: int  # asked for, ticks a second
    reached: float  # folded, ticks a second
    us_per_tick: dict[str, float]
    mb: dict[str, float]
    bytes_per_tick: float  # that Redis needs for each tick it keeps
    state_mb: float  # the aggregator's memory as it is committed

    @property
    def steady(self) -> bool:
        """It kept up, and had nothing to catch up."""
        return 0.8 < self.reached / self.rate < 1.2


def usage(running: Stack, redis: Any) -> dict[str, Usage]:
    found = {}
    for name, worker in zip(NAMES, WORKERS, strict=False):
        cpu = running.metric(worker, "process_cpu_seconds_total")
        found[name] = Usage(cpu, running.metric(worker, "process_resident_memory_bytes"))
    info = redis.info()
    found["redis"] = Usage(info["used_cpu_user"] + info["used_cpu_sys"], info["used_memory_rss"])
    return found


def folded(running: Stack) -> float:
    return running.metric("aggregator", "teji_ticks_total")


def bytes_per_tick(redis: Any, stream: str) -> float:
    """What the stream takes in Redis, divided by the ticks it holds: as many an entry as in the last ones."""
    entries = redis.xrevrange(stream, count=_SAMPLED)
    ticks = statistics.mean(int(fields[b"n"]) for _, fields in entries)
    return float(redis.memory_usage(stream) / redis.xlen(stream) / ticks)


def until_caught_up(running: Stack) -> None:
    """What had gathered while everything started is folded."""
    deadline = time.monotonic() + _CATCH_UP_S
    while running.metric("aggregator", "teji_stream_lag_ms") > _LAG_MS and time.monotonic() < deadline:
        time.sleep(0.5)


def measured(keys: int, rate: int) -> Point:
    shards = -(-keys // _KEYS_PER_SHARD)
    settings = {"TEJI_SHARDS": str(shards), "TEJI_LEASE_S": str(_LEASE_S)}
    with stack(keys, _PER_FRAME, rate / _PER_FRAME, *WORKERS, env=settings) as running:
        redis: Any = Redis.from_url(running.redis_url)
        running.wait("gateway", "teji_shards_held", 1)
        running.wait("aggregator", "teji_ticks_total", keys)  # each instrument was seen
        until_caught_up(running)
        before, ticks = usage(running, redis), folded(running)
        start = time.perf_counter()
        time.sleep(_MEASURE_S)
        after, done = usage(running, redis), folded(running) - ticks
        took_s = time.perf_counter() - start
        kept = statistics.mean(bytes_per_tick(redis, streams.ticks(shard)) for shard in range(shards))
        state = sum(redis.strlen(streams.state("aggregator", shard)) for shard in range(shards))
        redis.close()
    if not done:
        raise RuntimeError(f"no ticks at {keys} instruments and {rate} a second")
    return Point(
        keys,
        rate,
        done / took_s,
        {name: (after[name].cpu_s - before[name].cpu_s) * 1e6 / done for name in NAMES},
        {name: after[name].rss / 1e6 for name in NAMES},
        kept,
        state / 1e6,
    )


def measure() -> tuple[list[Point], list[tuple[int, int]]]:
    """The points, and those for which there was no time."""
    start = time.monotonic()
    points: list[Point] = []
    for number, (keys, rate) in enumerate(POINTS):
        if time.monotonic() - start > _LIMIT_S - _POINT_S:
            return points, list(POINTS[number:])
        points.append(measured(keys, rate))
    return points, []


def table(points: Sequence[Point]) -> str:
    """A line each: processor time per tick, then memory."""
    heads = ["instruments", "ticks/s", "reached"]
    heads += [f"{name} us" for name in NAMES] + [f"{name} MB" for name in NAMES] + ["bytes/tick", "state MB"]
    rows = [heads]
    for point in points:
        cells = [f"{point.keys:,}", f"{point.rate:,}", f"{point.reached:,.0f}{'' if point.steady else ' !'}"]
        cells += [f"{point.us_per_tick[name]:.2f}" for name in NAMES]
        cells += [f"{point.mb[name]:,.0f}" for name in NAMES]
        rows.append([*cells, f"{point.bytes_per_tick:.0f}", f"{point.state_mb:.1f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def report(points: Sequence[Point]) -> Report:
    """The headline: processor time per tick of all processes, with most instruments beside with fewest."""
    at_rate = sorted((point for point in points if point.rate == _RATE), key=lambda point: point.keys)
    at_rate = [point for point in at_rate if point.steady] or at_rate
    few, many = at_rate[0], at_rate[-1]
    detail = {
        f"{point.keys} instruments {point.rate}/s {what}": value
        for point in points
        for what, value in (
            *((f"{name} us/tick", point.us_per_tick[name]) for name in NAMES),
            *((f"{name} MB", point.mb[name]) for name in NAMES),
            ("bytes/tick kept", point.bytes_per_tick),
        )
    }
    return Report.of(
        "scale",
        math.fsum(many.us_per_tick.values()),
        f"us/tick, {many.keys} instruments",
        f"{few.keys} instruments",
        math.fsum(few.us_per_tick.values()),
        detail,
        less_is_better=True,
    )


def main(argv: Sequence[str] = ()) -> Report:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args(argv).json
    points, left_out = measure()
    found = report(points)
    if as_json:
        print(json.dumps(asdict(found)))
        return found
    print(table(points))
    if not all(point.steady for point in points):
        print("! did not keep up, or caught up meanwhile: this machine is too small or too busy for it")
    for keys, rate in left_out:
        print(f"left out for lack of time: {keys:,} instruments at {rate:,} ticks/s")
    kept = max(point.bytes_per_tick for point in points if point.rate == _RATE)
    print(
        f"\nRedis keeps {kept:.0f} bytes a tick: {kept * 10_000 * 60 / 1e6:.0f} MB for each minute at 10,000 ticks/s."
    )
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
