"""The venue's instrument files: rows as it writes them."""

import gzip
from collections.abc import Iterable
from typing import Any

import orjson

from sim.hours import DAY_MS, midnight_ms
from sim.universe import INDEX_KEYS, Instrument, Kind, Universe

_EQUITY_FIELDS: dict[str, Any] = {
    "security_type": "NORMAL",
    "cas_eligible": True,
    "mtf_enabled": True,
    "mtf_bracket": 0.0,
}


def rows(universe: Universe, exchange: str | None) -> Iterable[dict[str, Any]]:
    """The rows of one exchange, or of all."""
    return (row(each) for each in universe.instruments if exchange in (None, each.exchange))


def packed(universe: Universe, exchange: str | None) -> bytes:
    return gzip.compress(orjson.dumps(list(rows(universe, exchange))), mtime=0)


def row(each: Instrument) -> dict[str, Any]:
    """`tick_size` is in paise, unlike every other price; an expiry is the last second of its day, in ms."""
    found: dict[str, Any] = {
        "segment": each.segment,
        "name": each.name,
        "exchange": each.exchange,
        "instrument_type": str(each.kind),
        "instrument_key": each.key,
        "exchange_token": each.token,
        "trading_symbol": each.symbol,
        "short_name": each.name if each.kind is Kind.INDEX else each.symbol.split()[0],
    }
    if each.kind is Kind.INDEX:
        return found
    found |= {
        "lot_size": each.lot,
        "minimum_lot": each.lot,
        "freeze_quantity": float(each.freeze),
        "tick_size": round(each.tick * 100, 4),
        "qty_multiplier": 1.0,
    }
    if each.kind is Kind.EQUITY:
        return found | {"isin": each.isin} | _EQUITY_FIELDS
    return found | _contract(each)


def _contract(each: Instrument) -> dict[str, Any]:
    assert each.expiry is not None
    key = INDEX_KEYS[each.follows]
    return {
        "expiry": midnight_ms(each.expiry) + DAY_MS - 1_000,
        "strike_price": each.strike,
        "weekly": each.weekly,
        "asset_symbol": each.follows,
        "asset_key": key,
        "asset_type": "INDEX",
        "underlying_symbol": each.follows,
        "underlying_key": key,
        "underlying_type": "INDEX",
    }
