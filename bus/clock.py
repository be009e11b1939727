"""The machine's clocks. Cores never read them: shells read them here and pass the time on as an argument."""

import time


def now_ms() -> int:
    """Wall time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def now_ns() -> int:
    """Wall time, epoch nanoseconds."""
    return time.time_ns()


def monotonic_s() -> float:
    """For durations and deadlines."""
    return time.monotonic()
