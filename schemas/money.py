"""Exact amounts: decimals inside, plain numbers in JSON."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

#: A price or a sum in rupees. Never a float between where it is read and where it is shown.
Money = Annotated[
    Decimal, Field(max_digits=24, decimal_places=8), PlainSerializer(float, return_type=float, when_used="json")
]

ZERO: Final = Decimal(0)


class Charges(BaseModel):
    """What a trade costs besides its price, line by line as a contract note has it. Rupees, 2 decimals each."""

    model_config = ConfigDict(frozen=True)

    brokerage: Money = ZERO
    stt: Money = ZERO  # or CTT
    transaction: Money = ZERO
    ipft: Money = ZERO
    sebi: Money = ZERO
    stamp: Money = ZERO
    gst: Money = ZERO
    dp: Money = ZERO
    total: Money = ZERO
