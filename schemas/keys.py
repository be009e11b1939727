"""Names that people and programs hand in, and what they may look like."""

from typing import Annotated, Final

from pydantic import StringConstraints

InstrumentKey = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Z_]{3,20}\|[^,|\x00-\x1f]{1,64}$", max_length=80)
]

#: A strategy's; where it may be empty a person is meant.
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
StrategyName = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
StrategyOrNobody = Annotated[str, StringConstraints(pattern=rf"^({_NAME})?$")]

GttId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^GTT-[A-Za-z0-9_-]{1,76}$")]

#: Ours (schemas.orders.order_id_of) or the venue's.
OrderId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
