"""Names that people and programs hand in, and what they may look like."""

from typing import Annotated

from pydantic import StringConstraints

InstrumentKey = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Z_]{3,20}\|[^,|\x00-\x1f]{1,64}$", max_length=80)
]

#: Ours (schemas.orders.order_id_of) or the venue's.
OrderId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
