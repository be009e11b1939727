"""A bar as its readers get it: the JSON of design 4.3, from the values of its record. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from aggregator import greeks
from aggregator.state import Covered
from schemas.bars import Source

_SOURCES: Final = (Source.LIVE.value, Source.BACKFILL.value, Source.MIXED.value)


@dataclass(frozen=True, slots=True)
class Closed:
    """A bar to publish: its JSON, and what the shell needs to file it."""

    instrument: str
    ts: int
    rev: int
    data: bytes


def _wall(price: float, qty: int) -> dict[str, float | int] | None:
    return {"price": price, "qty": qty} if qty > 0 else None


def closed(key: str, bar: Sequence[Any], oi_before: float) -> Closed:
    """The bar as its readers get it, from the values of its record; NaN becomes null."""
    minute, open_, high, low, close, volume, value, ticks, oi, iv, delta, gamma, theta, vega, rho = bar[:15]
    tbq, tsq, bid_wall, bid_wall_qty, ask_wall, ask_wall_qty = bar[15:21]
    source, rev, covered = bar[32:35]
    data = orjson.dumps(
        {
            "instrument": key,
            "ts": minute,
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "oi": oi,
            "oi_diff": oi - oi_before,
            "vwap": value / volume if volume else None,
            "iv": iv,
            "delta": delta,
            "gamma": gamma,
            "theta": theta,
            "vega": vega,
            "rho": rho,
            "bid_wall": _wall(bid_wall, bid_wall_qty),
            "ask_wall": _wall(ask_wall, ask_wall_qty),
            "tbq": tbq,
            "tsq": tsq,
            "ticks": ticks,
            "source": _SOURCES[source],
            "complete": covered in (Covered.YES, Covered.PROVISIONAL),
            "rev": rev,
            "model": _model(bar[21:32]),
        }
    )
    return Closed(key, minute, rev, data)


def _model(values: Sequence[Any]) -> dict[str, Any] | None:
    iv, delta, gamma, theta, vega, rho, price, forward, flag, price_from, forward_from = values
    if flag == greeks.NO_MODEL:
        return None
    return {
        "iv": iv,
        "delta": delta,
        "gamma": gamma,
        "theta": theta,
        "vega": vega,
        "rho": rho,
        "price": price,
        "price_from": greeks.PRICES[price_from],
        "forward": forward,
        "forward_from": greeks.FORWARDS[forward_from],
        "flag": greeks.FLAGS[flag],
    }
