"""One-minute bars as JSON has them, and longer ones made of them by reading the definition word by word."""

import math
from collections.abc import Sequence
from typing import Any, Final

from market.intervals import AT_THE_END
from schemas.intervals import Interval

IST_MS: Final = 19_800_000
DAY_MS: Final = 86_400_000


def bar(ts: int, price: float = 100.0, **more: Any) -> dict[str, Any]:
    basics: dict[str, Any] = dict.fromkeys(("oi", "oi_diff", "vwap", *AT_THE_END))
    basics |= {"ts": ts, "open": price, "high": price, "low": price, "close": price, "volume": 0, "ticks": 1}
    return {**basics, "rev": 0, "source": "live", "complete": True, **more}


def naive(bars: list[dict[str, Any]], interval: Interval, hours: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The longer bars of one day's bars, which are in order."""
    made: dict[int, list[dict[str, Any]]] = {}
    for one in bars:
        for start, end in hours:
            if start <= one["ts"] < end:
                if interval is Interval.DAY:
                    first = hours[0][0] - (hours[0][0] + IST_MS) % DAY_MS
                else:
                    first = start
                    while first + int(interval.value[:-1]) * 60_000 <= one["ts"]:
                        first += int(interval.value[:-1]) * 60_000
                made.setdefault(first, []).append(one)
    return [_naive(interval, first, parts) for first, parts in sorted(made.items())]


def _naive(interval: Interval, first: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
    start, end = parts[0], parts[-1]
    traded = [one for one in parts if one["volume"]]
    volume = sum(one["volume"] for one in traded)
    vwap = None
    if traded and all(one["vwap"] is not None for one in traded):
        vwap = math.fsum(one["vwap"] * one["volume"] for one in traded) / volume
    oi_known = None not in (start["oi"], start["oi_diff"], end["oi"])
    sources = {one["source"] for one in parts}
    return {
        "instrument": "NSE_FO|1", "interval": interval.value, "ts": first, "open": start["open"],
        "high": max(one["high"] for one in parts), "low": min(one["low"] for one in parts), "close": end["close"],
        "volume": volume, "oi": end["oi"], "oi_diff": end["oi"] - start["oi"] + start["oi_diff"] if oi_known else None,
        "vwap": vwap, **{name: end[name] for name in AT_THE_END}, "ticks": sum(one["ticks"] for one in parts),
        "minutes": len(parts), "source": sources.pop() if len(sources) == 1 else "mixed",
        "complete": all(one["complete"] for one in parts), "close_from": None,
        "rev": sum(one["rev"] + 1 for one in parts) - 1,
    }  # fmt: skip
