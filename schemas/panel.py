"""The minute's panel: the last state of all instruments with terms as a minute ended. An entry of `panel:{k}`.

`{k}` is the shard of the *underlying*: whatever belongs together is found in one stream, wherever the ticks of its
instruments live. Each aggregator shard writes one entry a minute for each `{k}` (an empty one too: silence is not
absence), so a reader has a minute whole when it has heard of it from all shards. A repetition of (`ts`, `shard`) says
the same again. An underlying is in the minutes in which something of it trades, with all that is written on it and has
not ended; outside all sessions a single shard writes nothing, several write empty entries.

    ts      start of the minute, epoch ms
    shard   who says it: the shard of the instruments
    n       number of records
    keys    their instruments, comma-separated, in the order of `rec`: sorted
    rec     `n` packed PANEL records

A value that nobody told is NaN in a float field and 0 in an integer one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

PANEL: Final = np.dtype(
    [
        ("id", "<i8"),  # streams.instrument_id of its key
        ("ts", "<i8"),  # venue time of its newest update, epoch ms
        ("ltp", "<f8"),
        ("ltt", "<i8"),
        ("cp", "<f8"),  # previous close
        ("bid", "<f8"),
        ("bid_qty", "<i8"),
        ("ask", "<f8"),
        ("ask_qty", "<i8"),
        ("oi", "<f8"),
        ("vtt", "<i8"),
        ("iv", "<f8"),  # the venue's own, like the Greeks
        ("delta", "<f8"),
        ("gamma", "<f8"),
        ("theta", "<f8"),
        ("vega", "<f8"),
        ("rho", "<f8"),
        ("covered", "<i8"),  # 1: the feed covered the instrument's whole minute
    ]
)


@dataclass(frozen=True, slots=True)
class Panel:
    ts: int
    shard: int
    keys: tuple[str, ...]
    rec: npt.NDArray[Any]


def pack(ts: int, shard: int, keys: Sequence[str], rec: npt.NDArray[Any]) -> dict[bytes, bytes | int]:
    return {
        b"ts": ts,
        b"shard": shard,
        b"n": len(rec),
        b"keys": ",".join(keys).encode(),
        b"rec": rec.tobytes(),
    }


def unpack(fields: Mapping[bytes, bytes]) -> Panel:
    """Raises ValueError where the entry is not one of ours."""
    try:
        n = int(fields[b"n"])
        rec = np.frombuffer(fields[b"rec"], PANEL) if n else np.empty(0, PANEL)
        keys = tuple(fields[b"keys"].decode().split(",")) if n else ()
        panel = Panel(ts=int(fields[b"ts"]), shard=int(fields[b"shard"]), keys=keys, rec=rec)
    except KeyError as missing:
        raise ValueError(f"a panel entry without its field {missing}") from None
    if len(rec) != n or len(keys) != n:
        raise ValueError(f"a panel entry of n={n} with {len(rec)} records and {len(keys)} keys")
    return panel
