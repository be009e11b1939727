"""Bars of 3, 5, 15, 30 and 60 minutes and of a day, from one-minute bars. Pure.

The one definition: the aggregator folds with it live, the gateway over history, and both get the same bytes.

- Bars are counted from the start of each part of the session: where trading starts at 09:15, hours start at 09:15,
  10:15 and so on, and the last bar of a part is as short as the part leaves it. A day starts at midnight, Indian time,
  which is how exchanges and venues name days; its minutes are those of the continuous session.
- Nothing is filled in: a bar is made of the minutes that have bars, and says how many there are. Without any there is
  no bar.
- What a level is worth "now" (open interest, IV, Greeks, walls, our model) is taken from the last minute. `oi_diff` is
  against what the first minute counted from: the end of the bar before.
- `vwap` weighs the minutes' by volume; one minute with volume and without a `vwap` leaves it unknown.
- `rev` is the sum of the minutes' revisions, each counted from one, less one. So it is a fact about the minutes: the
  same whoever folds them and in whatever order they came, and higher after every change.
- A day also counts the trades outside the continuous session (prints): it opens with the pre-open match, closes with
  the closing auction's where there was one, and has their volume. Trades after that, at the closing price, are volume.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from market import sessions
from market.sessions import Part, Phase
from schemas.bars import Source
from schemas.intervals import CloseFrom, Interval

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
_IST_MS: Final = 330 * MINUTE_MS

#: Longer than a minute and shorter than a day.
LENGTH_MS: Final[dict[Interval, int]] = {
    Interval.M3: 3 * MINUTE_MS,
    Interval.M5: 5 * MINUTE_MS,
    Interval.M15: 15 * MINUTE_MS,
    Interval.M30: 30 * MINUTE_MS,
    Interval.M60: 60 * MINUTE_MS,
}
#: All that are made here, in the order in which those that end together leave.
LONGER: Final = (*LENGTH_MS, Interval.DAY)

SOURCES: Final = tuple(Source)

#: What of a one-minute bar goes into sums and extremes. NaN is null; `source` is an index of SOURCES.
MINUTE: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<i8"),
        ("vwap", "<f8"),
        ("oi", "<f8"),
        ("oi_diff", "<f8"),
        ("ticks", "<i4"),
        ("rev", "<i4"),
        ("source", "<i2"),
        ("complete", "?"),
    ]
)

#: A longer bar, all but its name, its start and what it takes from its last minute.
LONG: Final = np.dtype(
    [
        ("last", "<i8"),  # start of the last minute that has a bar
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<i8"),
        ("vwap", "<f8"),
        ("oi", "<f8"),
        ("oi_diff", "<f8"),
        ("ticks", "<i8"),
        ("rev", "<i8"),
        ("minutes", "<i4"),
        ("source", "<i2"),
        ("complete", "?"),  # so far: all its minutes are
    ]
)

#: Fields that a longer bar takes from its last minute as they are.
AT_THE_END: Final = ("iv", "delta", "gamma", "theta", "vega", "rho", "bid_wall", "ask_wall", "tbq", "tsq", "model")

#: [start, end) of continuous trading on one day, epoch ms.
Hours = Sequence[tuple[int, int]]


class Window(NamedTuple):
    """[start_ms, end_ms): `end_ms` is when the last minute of a bar is over. A day's start is midnight."""

    start_ms: int
    end_ms: int


class Print(NamedTuple):
    """A trade outside the continuous session."""

    ltt: int
    price: float
    volume: int


def midnight(ts: int) -> int:
    """Start of the Indian day, epoch ms."""
    return (ts + _IST_MS) // DAY_MS * DAY_MS - _IST_MS


def window(interval: Interval, hours: Hours, ts: int) -> Window | None:
    """The bar that the minute `ts` belongs to; None where nothing is traded continuously."""
    for start, end in hours:
        if start <= ts < end:
            if interval is Interval.DAY:
                return day(hours)
            length = LENGTH_MS[interval]
            first = start + (ts - start) // length * length
            return Window(first, min(first + length, end))
    return None


def day(hours: Hours) -> Window:
    return Window(midnight(hours[0][0]), hours[-1][1])


def minutes_of(found: Window, hours: Hours) -> list[int]:
    """The minutes of continuous trading in a window."""
    return [ts for start, end in hours for ts in range(max(start, found.start_ms), min(end, found.end_ms), MINUTE_MS)]


def starts(interval: Interval, hours: Hours, ts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The start of each minute's bar, all of one day; -1 where it belongs to none."""
    found = np.full(len(ts), -1, np.int64)
    for start, end in hours:
        inside = (ts >= start) & (ts < end)
        if interval is Interval.DAY:
            found[inside] = midnight(hours[0][0])
        else:
            length = LENGTH_MS[interval]
            found[inside] = start + (ts[inside] - start) // length * length
    return found


# Folding


def minute(bar: Mapping[str, Any]) -> tuple[Any, ...]:
    """A bar's JSON as the values of a MINUTE record."""
    return (
        bar["ts"],
        bar["open"],
        bar["high"],
        bar["low"],
        bar["close"],
        bar["volume"],
        _known(bar["vwap"]),
        _known(bar["oi"]),
        _known(bar["oi_diff"]),
        bar["ticks"],
        bar["rev"],
        SOURCES.index(bar["source"]),
        bar["complete"],
    )


def _known(value: float | None) -> float:
    return np.nan if value is None else value


def fold(minutes: npt.NDArray[Any], begins: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """One LONG record for each run of MINUTE records that begins at an index in `begins`; runs are in order of time."""
    bars = np.zeros(len(begins), LONG)
    if not len(begins):
        return bars
    ends = np.append(begins[1:], len(minutes)) - 1
    first, last = minutes[begins], minutes[ends]
    bars["last"], bars["open"], bars["close"], bars["oi"] = last["ts"], first["open"], last["close"], last["oi"]
    bars["high"] = np.maximum.reduceat(minutes["high"], begins)
    bars["low"] = np.minimum.reduceat(minutes["low"], begins)
    bars["volume"] = np.add.reduceat(minutes["volume"], begins)
    value = np.where(minutes["volume"] > 0, minutes["vwap"] * minutes["volume"], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bars["vwap"] = np.add.reduceat(value, begins) / bars["volume"]
    bars["oi_diff"] = last["oi"] - (first["oi"] - first["oi_diff"])
    bars["ticks"] = np.add.reduceat(minutes["ticks"], begins, dtype=np.int64)
    bars["rev"] = np.add.reduceat(minutes["rev"] + np.int64(1), begins) - 1
    bars["minutes"] = ends - begins + 1
    same = np.minimum.reduceat(minutes["source"], begins) == np.maximum.reduceat(minutes["source"], begins)
    bars["source"] = np.where(same, first["source"], SOURCES.index(Source.MIXED))
    bars["complete"] = np.logical_and.reduceat(minutes["complete"], begins)
    return bars


def runs(group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where the value changes: the `begins` of `fold`."""
    if not len(group):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.append(True, group[1:] != group[:-1]))


# Days


def with_prints(bar: Any | None, prints: Sequence[Print], phases: Sequence[sessions.Interval]) -> tuple[Any, CloseFrom]:
    """A day's LONG record, None where no minute has a bar, with the trades outside of them, and what it closed with."""
    prints = sorted(prints)
    if bar is None:
        first = prints[0].price
        value = 0.0
        bar = np.zeros(1, LONG)[0]
        bar["open"] = bar["high"] = bar["low"] = first
        bar["oi"] = bar["oi_diff"] = np.nan
        bar["last"], bar["rev"], bar["complete"], bar["source"] = -1, -1, True, SOURCES.index(Source.LIVE)
    else:
        bar = bar.copy()
        value = float(bar["vwap"]) * int(bar["volume"]) if bar["volume"] else 0.0
    opens, auction, post = _times(phases)
    if prints and prints[0].ltt < opens:
        bar["open"] = prints[0].price
    close, close_from = _close(bar, prints, opens, auction, post)
    bar["close"] = close
    for trade in prints:
        bar["high"], bar["low"] = max(bar["high"], trade.price), min(bar["low"], trade.price)
        bar["volume"] += trade.volume
        value += trade.price * trade.volume
    bar["vwap"] = value / int(bar["volume"]) if bar["volume"] else np.nan
    bar["ticks"] += len(prints)
    bar["rev"] += len(prints)
    if prints and bar["source"] != SOURCES.index(Source.LIVE):
        bar["source"] = SOURCES.index(Source.MIXED)
    return bar, close_from


_NEVER: Final = 1 << 62


def _times(phases: Sequence[sessions.Interval]) -> tuple[int, int, int]:
    """When continuous trading starts, the closing auction takes orders, and trading at the closing price starts."""
    opens = auction = post = _NEVER
    for phase in reversed(phases):
        match phase.phase:
            case Phase.CONTINUOUS:
                opens = phase.start_ms
            case Phase.CLOSING_AUCTION:
                frozen = [part.end_ms for part in sessions.auction_parts(phase) if part.part is Part.FROZEN]
                auction = max([phase.start_ms, *frozen])  # what comes before that is a late word of continuous trading
            case Phase.POST_CLOSE:
                post = phase.start_ms
    return opens, auction, post


def _close(bar: Any, prints: Sequence[Print], opens: int, auction: int, post: int) -> tuple[float, CloseFrom]:
    matched = [trade for trade in prints if auction <= trade.ltt < post]
    if matched:
        return matched[-1].price, CloseFrom.AUCTION
    others = [trade for trade in prints if trade.ltt < post]
    if others and others[-1].ltt > bar["last"]:
        return others[-1].price, CloseFrom.AUCTION if others[-1].ltt < opens else CloseFrom.CONTINUOUS
    if bar["last"] >= 0:
        return float(bar["close"]), CloseFrom.CONTINUOUS
    return prints[-1].price, CloseFrom.POST_CLOSE


# Out


def encode(
    key: str,
    interval: Interval,
    ts: int,
    bar: Any,
    end: Mapping[str, Any],
    *,
    complete: bool,
    close_from: CloseFrom | None = None,
) -> bytes:
    """The JSON of a LongBar. `bar` is a LONG record, `end` the fields AT_THE_END of its last minute."""
    _, open_, high, low, close, volume, vwap, oi, oi_diff, ticks, rev, minutes, source, _ = bar.tolist()
    return orjson.dumps(  # NaN becomes null
        {
            "instrument": key,
            "interval": interval.value,
            "ts": ts,
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "oi": oi,
            "oi_diff": oi_diff,
            "vwap": vwap,
            **{name: end.get(name) for name in AT_THE_END},
            "ticks": ticks,
            "minutes": minutes,
            "source": SOURCES[source].value,
            "complete": complete,
            "close_from": close_from and close_from.value,
            "rev": rev,
        }
    )
