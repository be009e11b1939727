"""When the positions of a product are closed: minutes before the end of the instrument's own trading. Pure."""

from collections.abc import Mapping
from datetime import date
from typing import Final

from market.instruments import Instrument, trading_hours
from schemas.orders import Product

_MINUTE_MS: Final = 60_000


def square_off_ms(
    key: str, instrument: Instrument | None, product: Product, on: date, minutes: Mapping[Product, int], *, always: bool
) -> int | None:
    """Epoch ms; None: that product is kept, or nothing trades that day.

    The end is that of continuous trading: a share of the closing auction is closed before the auction, an expiring
    contract before its own last moment. `always`: the demo's market, whose day ends at midnight IST.
    """
    before = minutes.get(product)
    if before is None:
        return None
    sessions = trading_hours(key, instrument, on, always=always)
    if not sessions:
        return None
    start_ms, end_ms = sessions[-1]
    return max(start_ms, end_ms - before * _MINUTE_MS)
