"""When the positions of a product are closed: minutes before the end of the instrument's own trading. Pure."""

from collections.abc import Mapping
from datetime import date

from market.instruments import Instrument
from schemas.orders import Product


def square_off_ms(
    key: str, instrument: Instrument | None, product: Product, on: date, minutes: Mapping[Product, int], *, always: bool
) -> int | None:
    """Epoch ms; None: that product is kept, or nothing trades that day."""
    raise NotImplementedError
