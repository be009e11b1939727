"""Ticks a second from frame to record, on one core.

The peer is what the vendor's SDK does with each frame: parse it with its generated class and turn that into a
dictionary (`MessageToDict`). Both get the same frames. Ours also writes every level of depth; the SDK's dictionary has
the candles besides. The detail has the generated class without a dictionary (each field read once), other modes and
frame sizes, and what the merge into the last known state adds.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import numpy as np
from google.protobuf.json_format import MessageToDict
from upstox_client.feeder.proto import MarketDataFeedV3_pb2 as sdk

from bench.frames import Mode, frames, keys
from bench.report import Report, in_turns, rate, run
from ingest.merge import Merger
from ingest.merge import warm as warm_merge
from proto import feed_pb2
from proto.decode import TickBuffer, warm
from schemas.ticks import SessionClass

KEYS_PER_FRAME: Final = (1, 20, 100)
INSTRUMENTS: Final = 2000  # what a connection may follow in mode full
_TURN_S: Final = 0.06  # for each side in each round: the whole bench stays below half a minute


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, "Ticks a second from frame to record, against the vendor's SDK.")


def measure() -> Report:
    warm()
    warm_merge()
    detail: dict[str, float] = {}
    headline: dict[str, float] = {}
    for mode in Mode:
        for n in KEYS_PER_FRAME:
            found = _measure(mode, n)
            if mode is Mode.FULL and n == KEYS_PER_FRAME[-1]:
                headline = found
            place = f"{mode}, {n} a frame: "
            detail[f"{place}ours, ticks/s"] = found["ours"]
            detail[f"{place}SDK, ticks/s"] = found["sdk"]
            detail[f"{place}ratio to SDK"] = found["ours"] / found["sdk"]
            detail[f"{place}generated class, ticks/s"] = found["generated"]
            detail[f"{place}merge, ns/tick"] = 1e9 / found["merge"]
    return Report.of("decode", headline["ours"], "full-mode ticks/s", "vendor SDK", headline["sdk"], detail)


def _measure(mode: Mode, n: int) -> dict[str, float]:
    """Ticks a second of each side."""
    made = frames(mode, max(10, 400 // n), n, n_keys=INSTRUMENTS)
    _check(made)
    endless = cycle(made)
    few = max(1, 20 // n)  # frames between two looks at the clock, for the slow sides
    many = max(1, 2000 // n)
    sides: dict[str, Callable[[], int]] = {
        "ours": partial(_ours, TickBuffer(), endless, many, n),
        "sdk": partial(sdk_ticks, endless, few),
        "generated": partial(generated_ticks, endless, few),
        "merge": _merging(made),
    }
    return in_turns({name: partial(rate, side, _TURN_S) for name, side in sides.items()})


def _ours(buffer: TickBuffer, endless: "cycle[bytes]", n_frames: int, n: int) -> int:
    for _ in range(n_frames):
        buffer.append(next(endless), 1)
        buffer.clear()
    return n_frames * n


def sdk_ticks(endless: "cycle[bytes]", n_frames: int) -> int:
    """As `MarketDataStreamerV3.handle_message` does."""
    ticks = 0
    for _ in range(n_frames):
        ticks += len(MessageToDict(sdk.FeedResponse.FromString(next(endless)))["feeds"])
    return ticks


def generated_ticks(endless: "cycle[bytes]", n_frames: int) -> int:
    ticks = 0
    for _ in range(n_frames):
        ticks += len(_read(feed_pb2.FeedResponse.FromString(next(endless))))
    return ticks


def _read(message: feed_pb2.FeedResponse) -> list[tuple[Any, ...]]:
    """What our decoder writes, by attributes."""
    rows: list[tuple[Any, ...]] = []
    for key, feed in message.feeds.items():
        member = feed.WhichOneof("FeedUnion")
        if member == "ltpc":
            rows.append((key, *_ltpc(feed.ltpc)))
        elif member == "firstLevelWithGreeks":
            first = feed.firstLevelWithGreeks
            values = first.vtt, first.oi, first.iv
            rows.append((key, *_ltpc(first.ltpc), *_greeks(first.optionGreeks), *values, _quote(first.firstDepth)))
        else:
            full = feed.fullFeed.marketFF
            depth = [_quote(quote) for quote in full.marketLevel.bidAskQuote]
            values6 = full.atp, full.vtt, full.oi, full.iv, full.tbq, full.tsq
            rows.append((key, *_ltpc(full.ltpc), *_greeks(full.optionGreeks), *values6, depth))
    return rows


def _ltpc(ltpc: feed_pb2.LTPC) -> tuple[float, int, int, float]:
    return ltpc.ltp, ltpc.ltt, ltpc.ltq, ltpc.cp


def _greeks(greeks: feed_pb2.OptionGreeks) -> tuple[float, float, float, float, float]:
    return greeks.delta, greeks.theta, greeks.gamma, greeks.vega, greeks.rho


def _quote(quote: feed_pb2.Quote) -> tuple[int, float, int, float]:
    return quote.bidQ, quote.bidP, quote.askQ, quote.askP


def _merging(made: Sequence[bytes]) -> Callable[[], int]:
    """Merge frames decoded before, one call a frame."""
    merger = Merger()
    merger.register((key, SessionClass.ORDINARY) for key in keys(INSTRUMENTS))
    buffer = TickBuffer(rows=TickBuffer.ROWS_MAX)
    added = [buffer.append(frame, 1) for frame in made]
    whose = np.empty(buffer.n_rows, np.int32)

    def work() -> int:
        for one in added:
            merger.merge(buffer.rec, one.first_row, one.rows, whose)
        return buffer.n_rows

    return work


def _check(made: Sequence[bytes]) -> None:
    """Both sides read the same: a bench of wrong answers says nothing."""
    buffer = TickBuffer()
    added = buffer.append(made[0], 1)
    ours = {added.key(made[0], row): tick["ltp"] for row, tick in enumerate(buffer.rec)}
    theirs = {row[0]: row[1] for row in _read(feed_pb2.FeedResponse.FromString(made[0]))}
    assert ours == theirs


if __name__ == "__main__":
    main(sys.argv[1:])
