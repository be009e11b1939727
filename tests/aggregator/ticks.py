"""Updates as dictionaries, and the same as tick entries: what both readings of the definition are fed with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas import ticks
from schemas.streams import instrument_id
from schemas.ticks import LEVEL, TICK, Block, Kind, SessionClass, TickBatch

_FLOATS = ("ltp", "cp", "atp", "oi", "iv", "tbq", "tsq", "delta", "theta", "gamma", "vega", "rho", "bid", "ask", "iep")


def entry(updates: Sequence[dict[str, Any]]) -> TickBatch:
    """One stream entry of these updates, through the same bytes that travel."""
    return unpacked(packed(updates))


def packed(updates: Sequence[dict[str, Any]]) -> dict[bytes, Any]:
    """The fields of such an entry."""
    rec = np.zeros(len(updates), TICK)
    for name in _FLOATS:
        rec[name] = np.nan
    depth: list[tuple[int, float, int, float]] = []
    for row, u in zip(rec, updates, strict=True):
        row["id"], row["ts"], row["session"] = instrument_id(u["key"]), u["ts"], SessionClass.ALWAYS_OPEN
        row["kind"] = Kind.MARKET if u.get("vtt") is not None else Kind.LTPC
        flags = Block.BASE if u["base"] else Block(0)
        if u.get("ltp") or u.get("ltt") == 0:
            flags |= Block.LTPC
        for name in (*_FLOATS, "ltt", "vtt", "bid_qty", "ask_qty"):
            if u.get(name) is not None:
                row[name] = u[name]
        if u.get("depth"):
            flags |= Block.DEPTH
            row["levels"] = len(u["depth"])
            depth += [(lv["bid_qty"], lv["bid"], lv["ask_qty"], lv["ask"]) for lv in u["depth"]]
        row["flags"] = flags
    keys = ",".join(dict.fromkeys(u["key"] for u in updates))
    ts = max(u["ts"] for u in updates)
    return ticks.pack(ts, ts * 1_000_000, keys, rec, np.array(depth, LEVEL))


def mark(ts: int, feed: bytes, bars: bytes = b"", keys: Sequence[str] = ()) -> TickBatch:
    return unpacked(ticks.pack_mark(ts, ts * 1_000_000, feed=feed, bars=bars, keys=keys))


def unpacked(fields: dict[bytes, Any]) -> TickBatch:
    """As Redis hands it back: every value is bytes."""
    return ticks.unpack(
        {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    )
