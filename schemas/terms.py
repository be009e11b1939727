"""What a fold has to know of an instrument beside its ticks: `terms:{k}`, a hash, instrument key -> JSON.

Ingest writes the terms of an instrument before it asks the feed for it, so they are there before its first tick. Only
derivatives and what they are written on have terms. The exchange gives the number of an expired contract to another
one: a reader looks them up anew on every trading date.
"""

from datetime import date
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class TermsKind(StrEnum):
    OPTION = "option"
    FUTURE = "future"
    SPOT = "spot"  # an index, a share: what derivatives are written on


class Terms(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: TermsKind
    underlying: str  # its key (a currency's symbol); a spot names itself
    expiry: date | None = None
    last_trade_ms: int | None = None  # when it stops trading for good, by the calendar of its own segment and class
    strike: float | None = None
    is_call: bool | None = None
    lot_size: int = 0
