"""MB an hour that the tape takes at 10,000 full-mode ticks a second, and what recording costs.

The frames are those of the simulated exchange in mode full: a market whose prices, depths and Greeks move as a market's
do, with all keys that changed within 300 ms in one frame, and the same updates cut into smaller frames. The peer is
the frames as they came, uncompressed. Frames of random numbers, which have nothing to compress but their form, are the
worst case, in the detail. The cost is processor time of the whole process (the recording thread included) from frame to
outbox, with the tape on and off in turns.
"""

import logging
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import structlog

from bench import frames as random_frames
from bench.report import Report, in_turns, run
from bus.inbox import Published
from ingest.collector import Collector
from ingest.merge import warm as warm_merge
from ingest.tape.recorder import Recorder
from proto import decode, feed_pb2
from schemas.ticks import SessionClass
from sim.exchange import Exchange
from sim.settings import SimSettings

TICKS_PER_S: Final = 10_000
SESSION_H: Final = 6.25
_KEYS_PER_FRAME: Final = {"as the exchange sends them": 10_000, "20 a frame": 20, "1 a frame": 1}
_INSTRUMENTS: Final = 2_000
_TICKS: Final = 60_000
_TICKS_OF_SMALL: Final = 15_000  # one by one they take the collector long
_START: Final = datetime(2026, 11, 18, 10, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
_ROUNDS: Final = 3


def main(argv: Sequence[str] = ()) -> Report:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return run(argv, measure, "What the tape takes on the disk and of the processor.")


def measure() -> Report:
    decode.warm()
    warm_merge()
    updates = market(_TICKS)
    detail: dict[str, float] = {}
    headline = (0.0, 0.0)
    for name, most in _KEYS_PER_FRAME.items():
        part = updates if most > 1 else updates[: len(updates) * _TICKS_OF_SMALL // _TICKS]
        found = _measure(cut(part, most))
        if name == next(iter(_KEYS_PER_FRAME)):
            headline = found["stored"], found["raw"]
        detail |= {f"{name}: {what}": value for what, value in _told(found).items()}
    rng = random.Random(1)
    keys = random_frames.keys(_INSTRUMENTS)
    worst = [
        random_frames.frame(random_frames.Mode.FULL, rng.sample(keys, 100), random_frames.START_MS + n, rng)
        for n in range(_TICKS // 400)
    ]
    found = _measure(worst)
    detail |= {f"random numbers, 100 a frame: {what}": value for what, value in _told(found).items()}
    stored, raw = (_mb_per_h(one) for one in headline)
    return Report.of(
        "tape", stored, "MB/h at 10,000 full ticks/s", "the frames as they came", raw, detail, less_is_better=True
    )


def _told(found: dict[str, float]) -> dict[str, float]:
    return {
        "bytes/tick as they came": found["raw"],
        "bytes/tick on the tape": found["stored"],
        "times smaller": found["raw"] / found["stored"],
        "MB/h": _mb_per_h(found["stored"]),
        "GB per session of 6.25 h": _mb_per_h(found["stored"]) * SESSION_H / 1000,
        "ns of processor/tick, tape off": found["off"],
        "ns of processor/tick, tape on": found["on"],
        "tape on, percent of a core at 10,000 ticks/s": (found["on"] - found["off"]) * TICKS_PER_S / 1e7,
        "of which on the event loop's thread": (found["loop on"] - found["loop off"]) * TICKS_PER_S / 1e7,
    }


def _mb_per_h(bytes_per_tick: float) -> float:
    return bytes_per_tick * TICKS_PER_S * 3600 / 1e6


def market(ticks: int) -> list[bytes]:
    """Frames of the simulated exchange, about so many ticks in all."""
    exchange = Exchange(SimSettings(instruments=_INSTRUMENTS, clock="manual", start=_START))
    sent: dict[int, int] = {}
    found: list[bytes] = []
    done = 0
    while done < ticks:
        for update in exchange.market.advance(exchange.market.next_end_ms()):
            rows = update.rows.tolist()
            exchange.hub.encoder.changed(update.rows)
            frame = exchange.hub.encoder.live_frame(update.ts, {"full": rows}, sent)
            if frame is not None:
                found.append(frame)
                done += len(rows)
    return found


def cut(frames: list[bytes], most: int) -> list[bytes]:
    """The same updates, at most so many in a frame."""
    if most >= _INSTRUMENTS:
        return frames
    found = []
    for frame in frames:
        message = feed_pb2.FeedResponse.FromString(frame)
        keys = list(message.feeds)
        for start in range(0, len(keys), most):
            part = feed_pb2.FeedResponse(type=message.type, currentTs=message.currentTs)
            for key in keys[start : start + most]:
                part.feeds[key].CopyFrom(message.feeds[key])
            found.append(part.SerializeToString())
    return found


def _measure(frames: list[bytes]) -> dict[str, float]:
    """Bytes a tick before and after, and nanoseconds of processor a tick with the tape on and off."""
    names = [list(feed_pb2.FeedResponse.FromString(frame).feeds) for frame in frames]
    ticks = sum(map(len, names))
    keys = sorted({key for frame in names for key in frame})
    sizes = {"stored": 0}
    loops: dict[bool, list[int]] = {False: [], True: []}
    costs = in_turns(
        {
            "off": partial(_cost, frames, keys, None, loops[False]),
            "on": partial(_cost, frames, keys, sizes, loops[True]),
        },
        _ROUNDS,
    )
    return {
        "raw": sum(map(len, frames)) / ticks,
        "stored": sizes["stored"] / ticks,
        **{name: cost / ticks for name, cost in costs.items()},
        "loop off": median(loops[False]) / ticks,
        "loop on": median(loops[True]) / ticks,
    }


def _cost(frames: list[bytes], keys: list[str], sizes: dict[str, int] | None, loop: list[int]) -> float:
    """Nanoseconds of processor to take all frames and pack them; those of this thread alone are added to `loop`."""
    collector = Collector(1, 1 << 40, lambda _: SessionClass.ORDINARY)
    collector.outbox(0).resume(Published(), False, 0.0)
    collector.follow(keys)
    with tempfile.TemporaryDirectory(prefix="teji-bench-") as folder:
        recorder = Recorder(collector, Path(folder), {})
        began_ns, loop_ns = time.process_time_ns(), time.thread_time_ns()
        if sizes is not None:
            recorder.begin(date(2026, 11, 18), "bench")
        for number, frame in enumerate(frames):
            collector.take(frame, 1_795_000_000_000_000_000 + number * 1_000_000, number / 1000)
            if number % 8 == 7:  # as a busy pipeline does: several frames share an entry
                collector.flush()
                box = collector.outboxes[0]
                while box:
                    box.take()
                    box.done(number / 1000)
        loop.append(time.thread_time_ns() - loop_ns)
        if sizes is not None:
            recorder.end()
            recorder.join()
            sizes["stored"] = sum(path.stat().st_size for path in Path(folder).rglob("*.tape"))
        return float(time.process_time_ns() - began_ns)


if __name__ == "__main__":
    main(sys.argv[1:])
