"""The tick record: how ticks travel. A stream entry holds a batch of them as packed bytes, never one object per tick.

An entry of `ticks:{k}` has the fields

    ts      venue time of the entry, epoch ms: the largest `currentTs` of its frames
    rx      receive time of its newest frame, epoch ns
    n       number of records
    keys    the instruments, comma-separated, in the order of their first record in `rec`
    rec     `n` packed TICK records
    depth   packed LEVEL records, `levels` of each tick in turn; only where some tick has depth
    feed    only in an entry without records (a mark). `live`: a heartbeat, the feed is up and quiet. `down`: the
            feed covered nothing after `ts`, until an instrument's next record; `keys` names the instruments
            concerned, none named means all. `away`: it is still down, only time goes on
    bars    only in a mark: closed minutes from the venue's history, a JSON list of HistoryBar

proto3 does not send zeros, so absence is not zero. The low half of `flags` says what the update itself carried; the
high half (the same bits, shifted by KNOWN_SHIFT) what is known at all. A value that the update did not carry but an
earlier one did is carried forward, so a reader of one record has the instrument's whole state. A value that is
not known is NaN in a float field and 0 in an integer one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: One update of one instrument. 200 bytes; `<` keeps the layout the same on every machine.
TICK: Final = np.dtype(
    [
        ("id", "<i8"),  # streams.instrument_id of its key
        ("flags", "<u4"),  # Block, twice: carried by this update, and known
        ("levels", "<u2"),  # rows of LEVEL that belong to this tick
        ("kind", "<u1"),  # Kind
        ("session", "<u1"),  # SessionClass, for the hours that apply to the instrument
        ("ts", "<i8"),  # venue time of the frame (currentTs), epoch ms
        ("rx", "<i8"),  # received, epoch ns
        ("ltp", "<f8"),
        ("ltt", "<i8"),  # last trade time, epoch ms
        ("ltq", "<i8"),
        ("cp", "<f8"),  # previous close
        ("atp", "<f8"),
        ("vtt", "<i8"),  # volume traded today, cumulative
        ("oi", "<f8"),
        ("iv", "<f8"),  # fraction
        ("tbq", "<f8"),
        ("tsq", "<f8"),
        ("delta", "<f8"),
        ("theta", "<f8"),
        ("gamma", "<f8"),
        ("vega", "<f8"),
        ("rho", "<f8"),
        ("bid", "<f8"),
        ("bid_qty", "<i8"),
        ("ask", "<f8"),
        ("ask_qty", "<i8"),
        ("iep", "<f8"),  # indicative equilibrium price and quantity, in auctions
        ("ieq", "<i8"),
    ]
)

#: One row of market depth, best first.
LEVEL: Final = np.dtype([("bid_qty", "<i8"), ("bid", "<f8"), ("ask_qty", "<i8"), ("ask", "<f8")])

KNOWN_SHIFT: Final = 16


class Block(IntFlag):
    """What an update carried. Bits 0 to 11 exist a second time, shifted by KNOWN_SHIFT: what is known by now."""

    LTPC = 1 << 0  # ltp ltt ltq cp
    DEPTH = 1 << 1  # bid ask and their quantities, LEVEL rows
    GREEKS = 1 << 2  # all five together
    ATP = 1 << 3
    VTT = 1 << 4
    OI = 1 << 5
    IV = 1 << 6
    TBQ = 1 << 7
    TSQ = 1 << 8
    IEP = 1 << 9
    IEQ = 1 << 10
    CAS = 1 << 11  # the feed says that the share joins the closing auction
    BASE = 1 << 12  # first update of the instrument since the feed (re)connected
    SNAPSHOT = 1 << 13  # came in an initial_feed frame


class Kind(IntEnum):
    """Which message of the feed carried the update; decides whether a cumulative volume can be expected at all."""

    LTPC = 0  # mode ltpc
    MARKET = 1  # modes full and full_d30, tradable instruments: has vtt
    INDEX = 2  # modes full and full_d30, indices
    GREEKS = 3  # mode option_greeks: has vtt


class SessionClass(IntEnum):
    """Whose trading hours apply, within the segment that the instrument key names."""

    ORDINARY = 0
    CLOSING_AUCTION_SHARE = 1  # a share with derivatives, traded in the closing auction since August 2026
    EXPIRING_INDEX_CONTRACT = 2  # on its last day; its hours differ from the segment's since December 2026
    ALWAYS_OPEN = 3  # demo and replays without a calendar


class FeedMark:
    """Values of an entry's `feed` field."""

    LIVE: Final = b"live"
    DOWN: Final = b"down"
    AWAY: Final = b"away"


@dataclass(frozen=True, slots=True)
class TickBatch:
    """A `ticks:{k}` entry, unpacked without a copy: `rec` and `depth` are read-only views of the entry's bytes."""

    ts: int
    rx: int
    keys: tuple[str, ...]
    rec: npt.NDArray[Any]
    depth: npt.NDArray[Any]
    feed: bytes = b""
    bars: bytes = b""


#: Read-only like the views of an entry's bytes: compiled readers then know one type of array, not two.
_NO_TICKS: Final = np.empty(0, TICK)
_NO_LEVELS: Final = np.empty(0, LEVEL)
for _nothing in (_NO_TICKS, _NO_LEVELS):
    _nothing.setflags(write=False)


def pack(ts: int, rx: int, keys: str, rec: npt.NDArray[Any], depth: npt.NDArray[Any]) -> dict[bytes, bytes | int]:
    """The fields of an entry; `keys` is already joined, in the order of first appearance in `rec`."""
    fields: dict[bytes, bytes | int] = {
        b"ts": ts,
        b"rx": rx,
        b"n": len(rec),
        b"keys": keys.encode(),
        b"rec": rec.tobytes(),
    }
    if len(depth):
        fields[b"depth"] = depth.tobytes()
    return fields


def pack_mark(
    ts: int, rx: int, *, feed: bytes = b"", bars: bytes = b"", keys: Iterable[str] = ()
) -> dict[bytes, bytes | int]:
    """An entry without records: a heartbeat, the report that the feed is down, or minutes from history."""
    fields: dict[bytes, bytes | int] = {b"ts": ts, b"rx": rx, b"n": 0}
    if names := ",".join(keys):
        fields[b"keys"] = names.encode()
    if feed:
        fields[b"feed"] = feed
    if bars:
        fields[b"bars"] = bars
    return fields


def nothing() -> TickBatch:
    """A batch without records."""
    return TickBatch(0, 0, (), _NO_TICKS, _NO_LEVELS)


def unpack(fields: Mapping[bytes, bytes]) -> TickBatch:
    """Raises ValueError where the entry is not one of ours."""
    try:
        n = int(fields[b"n"])
        rec = np.frombuffer(fields[b"rec"], TICK) if n else _NO_TICKS
        depth = np.frombuffer(fields[b"depth"], LEVEL) if b"depth" in fields else _NO_LEVELS
        keys = tuple(fields[b"keys"].decode().split(",")) if n or b"keys" in fields else ()
        batch = TickBatch(
            ts=int(fields[b"ts"]),
            rx=int(fields[b"rx"]),
            keys=keys,
            rec=rec,
            depth=depth,
            feed=fields.get(b"feed", b""),
            bars=fields.get(b"bars", b""),
        )
    except KeyError as missing:
        raise ValueError(f"a ticks entry without its field {missing}") from None
    if len(rec) != n or int(rec["levels"].sum()) != len(depth):
        raise ValueError(f"a ticks entry of n={n} with {len(rec)} records and {len(depth)} levels")
    return batch
