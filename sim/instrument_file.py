"""The venue's instrument files: rows as it writes them."""

import gzip
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from market.instruments import Instrument
from sim.hours import DAY_MS, midnight_ms
from sim.universe import EQUITY, Listing

_SHARE: Final[Mapping[str, Any]] = {"security_type": "NORMAL", "mtf_enabled": True, "mtf_bracket": 0.0}


def rows(listing: Listing, exchange: str | None) -> Iterable[dict[str, Any]]:
    """The rows of one exchange, or of all."""
    return (row(each) for each in listing.instruments if exchange in (None, each.exchange))


def packed(listing: Listing, exchange: str | None) -> bytes:
    return gzip.compress(orjson.dumps(list(rows(listing, exchange))), mtime=0)


def row(each: Instrument) -> dict[str, Any]:
    """`tick_size` is in paise, unlike every other price; an expiry is the last second of its day, in ms."""
    found: dict[str, Any] = {
        "segment": each.segment,
        "name": each.name,
        "exchange": each.exchange,
        "instrument_type": each.instrument_type,
        "instrument_key": each.key,
        "exchange_token": each.exchange_token,
        "trading_symbol": each.trading_symbol,
        "short_name": each.name if each.is_index else each.trading_symbol.split()[0],
    }
    if each.is_index:
        return found
    found |= {
        "lot_size": each.lot_size,
        "minimum_lot": each.lot_size,
        "freeze_quantity": float(each.freeze_quantity),
        "tick_size": round(each.tick_size * 100, 4),
        "qty_multiplier": 1.0,
    }
    if each.instrument_type == EQUITY:
        return found | {"isin": each.isin, "cas_eligible": each.cas_eligible, **_SHARE}
    return found | _contract(each)


def _contract(each: Instrument) -> dict[str, Any]:
    assert each.expiry is not None
    return {
        "expiry": midnight_ms(each.expiry) + DAY_MS - 1_000,
        "strike_price": each.strike or 0.0,
        "weekly": each.weekly,
        "asset_symbol": each.underlying_symbol,
        "asset_key": each.underlying_key,
        "asset_type": "INDEX",
        "underlying_symbol": each.underlying_symbol,
        "underlying_key": each.underlying_key,
        "underlying_type": "INDEX",
    }
