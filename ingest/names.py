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
    the chains of the next six weeks; any other trading symbol: that instrument, on NSE where two exchanges have it.

    Raises Misconfigured where a name means nothing.
    """
    keys: dict[str, None] = {}
    for name in names:
        found = _one(name, universe, on)
        if not found:
            raise Misconfigured(f"TEJI_INSTRUMENTS names {name!r}, which is no instrument of this venue.")
        keys.update(dict.fromkeys(found))
    return list(keys)


def _one(name: str, universe: Universe, on: date) -> list[str]:
    if name == DEMO:
        return [i.key for i in universe if i.expiry is None or i.expiry >= on][:_DEMO_MAX]
    if name in universe:
        return [name]
    symbol = name.upper()
    named = sorted((i for i in universe if _is_called(i, symbol)), key=lambda i: (i.exchange != "NSE", i.exchange))
    family = [i.key for i in universe if _belongs(i, symbol, on)]
    return [*(i.key for i in named[:1]), *family]


def _is_called(instrument: Instrument, symbol: str) -> bool:
    """A contract is called by its whole symbol only: its `name` is its underlying's."""
    if instrument.trading_symbol.upper() == symbol:
        return True
    return not instrument.is_derivative and instrument.name.upper() == symbol


def _belongs(instrument: Instrument, symbol: str, on: date) -> bool:
    if instrument.expiry is None:
        return False
    near = on <= instrument.expiry <= on + _WEEKS_AHEAD
    return near and (instrument.underlying_symbol or "").upper() == symbol


def urgency(instrument: Instrument | None, spot: float) -> float:
    """`rank`, and of options those nearest the money first; `spot` is 0 where the underlying's price is not known."""
    if instrument is None or instrument.strike is None or not spot > 0:
        return rank(instrument)
    return rank(instrument) + min(abs(instrument.strike / spot - 1), 0.99)


def rank(instrument: Instrument | None) -> int:
    """Whose history comes first."""
    if instrument is None:
        return 3
    if instrument.segment in _INDEX_SEGMENTS:
        return 0
    return 2 if instrument.is_option else 1
