"""What people write in TEJI_INSTRUMENTS, turned into instrument keys. Pure."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from market.instruments import Instrument, Universe
from schemas.errors import Misconfigured

DEMO: Final = "demo"
_DEMO_MAX: Final = 3000
_INDEX_SEGMENTS: Final = ("NSE_INDEX", "BSE_INDEX")
_WEEKS_AHEAD: Final = timedelta(days=45)


def resolve(names: Iterable[str], universe: Universe, on: date) -> list[str]:
    """Keys as they stand; `demo`: everything the (simulated) venue lists; `NIFTY`: the underlying, its futures and
    the chains of the next six weeks; any other trading symbol: that instrument."""
    keys: dict[str, None] = {}
    for name in names:
        keys.update(dict.fromkeys(_one(name, universe, on)))
    return list(keys)


def _one(name: str, universe: Universe, on: date) -> list[str]:
    if name == DEMO:
        return [i.key for i in universe if i.expiry is None or i.expiry >= on][:_DEMO_MAX]
    if name in universe:
        return [name]
    symbol = name.upper()
    named = [i for i in universe if i.trading_symbol.upper() == symbol or i.name.upper() == symbol]
    family = [i for i in universe if _belongs(i, symbol, on)]
    found = [i.key for i in [*named, *family]]
    if not found:
        raise Misconfigured(f"TEJI_INSTRUMENTS names {name!r}, which is no instrument of this venue.")
    return found


def _belongs(instrument: Instrument, symbol: str, on: date) -> bool:
    if instrument.expiry is None:
        return False
    near = on <= instrument.expiry <= on + _WEEKS_AHEAD
    return near and (instrument.underlying_symbol or "").upper() == symbol


def rank(instrument: Instrument | None) -> int:
    """Whose history comes first."""
    if instrument is None:
        return 3
    if instrument.segment in _INDEX_SEGMENTS:
        return 0
    return 2 if instrument.is_option else 1
