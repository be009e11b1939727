"""What the venue says about orders, trades, positions, funds and GTTs, made ours. Pure.

The same fields come by REST and by the stream. Names that the venue has renamed are read in both spellings.
"""

from decimal import Decimal
from typing import Any, Final

from schemas.money import ZERO

_PLACES: Final = Decimal("0.00000001")  # of schemas.money.Money; an average price may come with fifteen


def money(value: Any) -> Decimal:
    """None, which the venue sends where there is no price yet, is zero. Raises ValueError where it is no number."""
    if value is None or value == "":
        return ZERO
    try:
        amount = Decimal(str(value))
        return amount if -amount.as_tuple().exponent <= 8 else amount.quantize(_PLACES).normalize()  # type: ignore[operator]
    except ArithmeticError:
        raise ValueError(f"{value!r} is no amount") from None
