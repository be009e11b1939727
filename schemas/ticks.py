"""The tick record: how ticks travel. A stream entry holds a batch of them as packed bytes, never one object per tick.

An entry of `ticks:{k}` has the fields

    ts      venue time of the entry, epoch ms: the largest `currentTs` of its frames
    rx      receive time of its newest frame, epoch ns
    n       number of records
    keys    the instruments, comma-separated, in the order of their first record in `rec`
    rec     `n` packed TICK records
    depth   packed levels, `levels` of each tick in turn; only where some tick has depth
    scale   where the levels are NARROW_LEVEL records, whose prices are whole numbers of 1/scale. An entry without it
            has LEVEL records: some price or quantity in it would not come back exactly
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
from functools import cached_property
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

#: The same in half the bytes, of which a full tick has most in its depth.
NARROW_LEVEL: Final = np.dtype([("bid_qty", "<u4"), ("bid", "<i4"), ("ask_qty", "<u4"), ("ask", "<i4")])
_SCALES: Final = (10_000, 100)  # prices to 214,748.3647 in steps of a currency's tick, or to 21 million in paise
_UNITS_MAX: Final = (1 << 31) - 1
_QTY_MAX: Final = (1 << 32) - 1

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


@dataclass(frozen=True)
class TickBatch:
    """A `ticks:{k}` entry. `rec` is a read-only view of its bytes; what costs something is unpacked when asked for."""

    ts: int
    rx: int
    names: bytes  # of the instruments, as they came
    rec: npt.NDArray[Any]
    levels: bytes  # as they came
    scale: int = 0  # 0: LEVEL records
    feed: bytes = b""
    bars: bytes = b""

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.names.decode().split(",")) if self.names else ()

    @property
    def sent(self) -> tuple[npt.NDArray[Any], int]:
        """The levels as they came, LEVEL or NARROW_LEVEL records, and what their prices are to be divided by."""
        if not self.levels:
            return (_NO_NARROW_LEVELS if self.scale else _NO_LEVELS), self.scale or 1
        return np.frombuffer(self.levels, NARROW_LEVEL if self.scale else LEVEL), self.scale or 1

    @cached_property
    def depth(self) -> npt.NDArray[Any]:
        """LEVEL records, not to be written to."""
        if not self.levels:
            return _NO_LEVELS
        return _widened(self.levels, self.scale) if self.scale else np.frombuffer(self.levels, LEVEL)


#: Read-only like the views of an entry's bytes: compiled readers then know one type of array, not two.
_NO_TICKS: Final = np.empty(0, TICK)
_NO_LEVELS: Final = np.empty(0, LEVEL)
_NO_NARROW_LEVELS: Final = np.empty(0, NARROW_LEVEL)
for _nothing in (_NO_TICKS, _NO_LEVELS, _NO_NARROW_LEVELS):
    _nothing.setflags(write=False)


def pack(
    ts: int, rx: int, keys: str | bytes, rec: npt.NDArray[Any], depth: npt.NDArray[Any]
) -> dict[bytes, bytes | int]:
    """The fields of an entry; `keys` is already joined, in the order of first appearance in `rec`."""
    fields: dict[bytes, bytes | int] = {
        b"ts": ts,
        b"rx": rx,
        b"n": len(rec),
        b"keys": keys.encode() if isinstance(keys, str) else keys,
        b"rec": rec.tobytes(),
    }
    if len(depth):
        scale, levels = _narrowed(depth)
        fields[b"depth"] = levels
        if scale:
            fields[b"scale"] = scale
    return fields


def _narrowed(depth: npt.NDArray[Any]) -> tuple[int, bytes]:
    """The levels in few bytes, where they come back exactly."""
    out = np.empty(len(depth), NARROW_LEVEL)
    for side in ("bid_qty", "ask_qty"):
        if depth[side].min() < 0 or depth[side].max() > _QTY_MAX:
            return 0, depth.tobytes()
        out[side] = depth[side]
    for scale in _SCALES:
        if all(_in_units(depth[side], scale, out[side]) for side in ("bid", "ask")):
            return scale, out.tobytes()
    return 0, depth.tobytes()


def _in_units(prices: npt.NDArray[Any], scale: int, out: npt.NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):
        units = np.rint(prices * scale)
    if not (np.abs(units).max() <= _UNITS_MAX and np.array_equal(units / scale, prices)):  # NaN is not, either
        return False
    out[:] = units
    return True


def _widened(levels: bytes, scale: int) -> npt.NDArray[Any]:
    narrow = np.frombuffer(levels, NARROW_LEVEL)
    out = np.empty(len(narrow), LEVEL)
    for side in ("bid", "ask"):
        np.divide(narrow[side], scale, out=out[side])
        out[f"{side}_qty"] = narrow[f"{side}_qty"]
    out.setflags(write=False)
    return out


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


def nothing(scale: int = 0) -> TickBatch:
    """A batch without records."""
    return TickBatch(0, 0, b"", _NO_TICKS, b"", scale)


def unpack(fields: Mapping[bytes, bytes]) -> TickBatch:
    """Raises ValueError where the entry is not one of ours."""
    try:
        n = int(fields[b"n"])
        batch = TickBatch(
            ts=int(fields[b"ts"]),
            rx=int(fields[b"rx"]),
            names=fields[b"keys"] if n else fields.get(b"keys", b""),
            rec=np.frombuffer(fields[b"rec"], TICK) if n else _NO_TICKS,
            levels=fields.get(b"depth", b""),
            scale=int(fields.get(b"scale", 0)),
            feed=fields.get(b"feed", b""),
            bars=fields.get(b"bars", b""),
        )
    except KeyError as missing:
        raise ValueError(f"a ticks entry without its field {missing}") from None
    size = (NARROW_LEVEL if batch.scale else LEVEL).itemsize
    if len(batch.rec) != n or int(batch.rec["levels"].sum()) * size != len(batch.levels) or batch.scale < 0:
        raise ValueError(f"a ticks entry of n={n} with {len(batch.rec)} records and {len(batch.levels)} bytes of depth")
    return batch
