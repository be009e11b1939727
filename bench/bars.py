"""Ticks a second of one core into one-minute bars, in batches of 100; beside NautilusTrader's TimeBarAggregator.

Both sides get the same trades and have them in memory in their own form. Ours folds all that a bar has (open interest,
IV, Greeks, vwap, walls from five levels of depth, coverage) and writes the closed bars as JSON; the peer keeps price
and volume. The bars that both have made are compared, number by number. Seconds are processor time, on both sides.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import orjson

from aggregator.bars import BarBuilder, Closed
from bench import peers
from bench.report import Report, in_turns, run
from market import sessions
from schemas import ticks
from schemas.errors import Unavailable
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, LEVEL, TICK, Block, FeedMark, Kind, SessionClass, TickBatch

_SCRIPT: Final = Path(__file__).with_name("peer_bars.py")
_KEYS: Final = 1000
_MINUTES: Final = 5
_TICKS: Final = 300_000
_BATCH: Final = 100
_WARM: Final = _TICKS // _MINUTES // _BATCH * _BATCH  # the first minute makes both sides' rows and is not counted
_COUNTED: Final = _TICKS - _WARM
_LEVELS: Final = 5
_ROUNDS: Final = 5
_MINUTE_MS: Final = 60_000
_START_MS: Final = 29_916_000 * _MINUTE_MS
_NAMES: Final = ("open", "high", "low", "close", "volume")

Trades = Mapping[str, npt.NDArray[Any]]
Entry = dict[bytes, bytes]


def trades() -> Trades:
    """Which instrument, when, price and size; in order of time, no two at once, each instrument in each minute."""
    chance = np.random.default_rng(11)
    row = np.concatenate([chance.permutation(_KEYS) for _ in range(_TICKS // _KEYS)])
    ts = _START_MS + 1 + np.arange(_TICKS) * (_MINUTES * _MINUTE_MS - 2) // _TICKS
    ts += ts % _MINUTE_MS == 0  # the end of a minute belongs to it for the one side, to the next for the other
    paise = chance.integers(5_000, 500_000, _KEYS)[row] + chance.integers(-40, 41, _TICKS) * 5
    return {"row": row, "ts": ts, "price": paise / 100, "size": chance.integers(1, 500, _TICKS)}


def entries(made: Trades) -> list[Entry]:
    """The same as `ticks` entries of 100 updates in full mode, the way Redis hands them over."""
    keys = [f"NSE_FO|{40_000 + n}" for n in range(_KEYS)]
    ids = np.array([instrument_id(key) for key in keys])
    rec = _records(made, ids)
    depth = np.zeros((_TICKS, _LEVELS), LEVEL)
    depth["bid"] = made["price"][:, None] - 0.05 * np.arange(1, _LEVELS + 1)
    depth["ask"] = made["price"][:, None] + 0.05 * np.arange(1, _LEVELS + 1)
    depth["bid_qty"], depth["ask_qty"] = np.random.default_rng(5).integers(75, 9_000, (2, _TICKS, _LEVELS))
    out = []
    for at in range(0, _TICKS, _BATCH):
        part = slice(at, at + _BATCH)
        named = ",".join(dict.fromkeys(keys[row] for row in made["row"][part].tolist()))
        ts = int(rec["ts"][part].max())
        out.append(_as_read(ticks.pack(ts, ts * 1_000_000, named, rec[part], depth[part].ravel())))
    return out


def _records(made: Trades, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    row = made["row"]
    rec = np.zeros(_TICKS, TICK)
    rec["id"], rec["ts"], rec["ltt"], rec["rx"] = ids[row], made["ts"], made["ts"], made["ts"] * 1_000_000
    rec["ltp"], rec["ltq"], rec["cp"], rec["atp"] = made["price"], made["size"], made["price"], made["price"]
    rec["vtt"] = 1_000
    for one in range(_KEYS):
        mine = row == one
        rec["vtt"][mine] += np.cumsum(made["size"][mine])
    rec["oi"], rec["iv"], rec["tbq"], rec["tsq"] = 1e6 + made["size"], 0.14, 5e5, 6e5
    rec["delta"], rec["theta"], rec["gamma"], rec["vega"], rec["rho"] = 0.5, -7.0, 0.001, 12.0, 3.0
    rec["bid"], rec["ask"], rec["iep"] = made["price"] - 0.05, made["price"] + 0.05, np.nan
    rec["kind"], rec["session"], rec["levels"] = Kind.MARKET, SessionClass.ALWAYS_OPEN, _LEVELS
    carried = (
        Block.LTPC | Block.DEPTH | Block.GREEKS | Block.ATP | Block.VTT | Block.OI | Block.IV | Block.TBQ | Block.TSQ
    )
    rec["flags"] = int(carried) | int(carried) << KNOWN_SHIFT
    rec["flags"][np.unique(row, return_index=True)[1]] |= int(Block.BASE)
    return rec


def _as_read(fields: Mapping[bytes, bytes | int]) -> Entry:
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


def _end() -> TickBatch:
    """A heartbeat late enough for the last minute to leave."""
    ts = _START_MS + (_MINUTES + 1) * _MINUTE_MS
    return ticks.unpack(_as_read(ticks.pack_mark(ts, ts * 1_000_000, feed=FeedMark.LIVE)))


def _always(_key: str, _session: SessionClass, on: date) -> Sequence[tuple[int, int]]:
    return sessions.continuous("NSE_FO", SessionClass.ALWAYS_OPEN, on)


def fold(batches: Sequence[TickBatch]) -> tuple[float, list[Closed]]:
    """Ticks a second, and the bars that left."""
    builder, closed, last = _warm(batches), [], _end()
    start = process_time()
    for batch in batches[_WARM // _BATCH :]:
        closed += builder.add(batch).bars
    closed += builder.add(last).bars
    return _COUNTED / (process_time() - start), closed


def fold_open(batches: Sequence[TickBatch]) -> float:
    """Ticks a second while the minute is open: without the entries at which bars left."""
    builder, done, spent = _warm(batches), 0, 0.0
    for batch in batches[_WARM // _BATCH :]:
        start = process_time()
        closed = builder.add(batch).bars
        if not closed:
            spent += process_time() - start
            done += len(batch.rec)
    return done / spent


def unpack_and_fold(made: Sequence[Entry]) -> float:
    builder = _warm([ticks.unpack(entry) for entry in made[: _WARM // _BATCH]])
    start = process_time()
    for entry in made[_WARM // _BATCH :]:
        builder.add(ticks.unpack(entry))
    builder.add(_end())
    return _COUNTED / (process_time() - start)


def _warm(batches: Sequence[TickBatch]) -> BarBuilder:
    builder = BarBuilder(_always)
    for batch in batches[: _WARM // _BATCH]:
        builder.add(batch)
    return builder


def different(ours: Sequence[Closed], theirs: npt.NDArray[Any]) -> tuple[int, int]:
    """How many bars both sides should have, and how many of them differ.

    Not the first minute: what an instrument traded before we looked is not in our volume, and its bar says so.
    """
    told = {(int(bar["row"]), int(bar["end_ms"]) - _MINUTE_MS): [float(bar[n]) for n in _NAMES] for bar in theirs}
    mine = {}
    for bar in ours:
        numbers = orjson.loads(bar.data)
        mine[int(bar.instrument.partition("|")[2]) - 40_000, bar.ts] = [float(numbers[name]) for name in _NAMES]
    both = {at for at in told.keys() | mine.keys() if at[1] > _START_MS}
    return len(both), sum(told.get(at) != mine.get(at) for at in both)


def nautilus_ticks_per_s(rounds: int = 3) -> dict[str, float]:
    """For other benches: what the peer folds in ticks a second. Empty where it cannot be installed here."""
    try:
        with tempfile.TemporaryDirectory(prefix="teji-bench-") as name:
            folder = _saved(trades(), Path(name))
            with peers.running(peers.NAUTILUS, _SCRIPT, folder) as peer:
                found = in_turns({what: partial(peer.ask, what) for what in ("fold", "all")}, rounds)
    except Unavailable as reason:
        print(f"Left out: {reason}", file=sys.stderr)
        return {}
    return {
        "NautilusTrader TimeBarAggregator, ticks/s": found["fold"],
        "NautilusTrader, its ticks made from numbers, ticks/s": found["all"],
    }


def _saved(made: Trades, folder: Path) -> Path:
    for name, values in made.items():
        np.save(folder / name, values)
    np.save(folder / "warm", np.array([_WARM]))
    return folder


def measure() -> Report:
    made = trades()
    packed = entries(made)
    batches = [ticks.unpack(entry) for entry in packed]
    sides = {
        "ours": lambda: fold(batches)[0],
        "ours open": lambda: fold_open(batches),
        "ours unpacking": lambda: unpack_and_fold(packed),
    }
    detail = {"instruments": float(_KEYS), "ticks": float(_COUNTED), "ticks in a batch": float(_BATCH)}
    with tempfile.TemporaryDirectory(prefix="teji-bench-") as name:
        folder = _saved(made, Path(name))
        try:
            with peers.running(peers.NAUTILUS, _SCRIPT, folder) as peer:
                sides |= {f"peer {what}": partial(peer.ask, what) for what in ("fold", "open", "all")}
                found = in_turns(sides, _ROUNDS)
                peer.ask("bars")
        except Unavailable as reason:
            print(f"Left out: {reason}", file=sys.stderr)
            rate = in_turns({"ours": sides["ours"]}, _ROUNDS)["ours"]
            return Report("bars", round(rate), "ticks/s", "no peer could be installed", 0.0, 0.0, detail)
        bars, differing = different(fold(batches)[1], cast(npt.NDArray[Any], np.load(folder / "bars.npy")))
    detail |= {
        "ours, with the entry unpacked, ticks/s": found["ours unpacking"],
        "peer, its ticks made from numbers, ticks/s": found["peer all"],
        "ratio, both from numbers": found["ours unpacking"] / found["peer all"],
        "ours, while no minute ends, ticks/s": found["ours open"],
        "peer, while no minute ends, ticks/s": found["peer open"],
        "ratio, while no minute ends": found["ours open"] / found["peer open"],
        "bars that both made": float(bars),
        "bars that differ": float(differing),
    }
    name = "NautilusTrader TimeBarAggregator, ticks made before"
    return Report.of("bars", found["ours"], "ticks/s", name, found["peer fold"], detail)


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
