"""The statuses of a rule under our engine: what is not listed here does not happen. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from schemas.gtt import RuleStatus


class RuleEvent(StrEnum):
    ARMED = "armed"  # the entry has filled something: there is something to guard
    HIT = "hit"  # the price is there
    LIVE = "live"  # its order stands at the exchange
    FILLED = "filled"  # its order did what the rule is for
    AGAIN = "again"  # its order is gone without that; another one follows
    REARMED = "rearmed"  # its order is gone without that; it waits for the price once more
    REFUSED = "refused"  # its order was refused, and another one would be too
    CANCELLED = "cancelled"  # by a person, or because another rule did it
    EXPIRED = "expired"


_S = RuleStatus
_E = RuleEvent

#: A fill can overtake the news that its order is live, so FILLED follows TRIGGERED too.
NEXT: Final[Mapping[tuple[RuleStatus, RuleEvent], RuleStatus]] = {
    (_S.SCHEDULED, _E.HIT): _S.TRIGGERED,
    (_S.INACTIVE, _E.ARMED): _S.PENDING,
    (_S.PENDING, _E.HIT): _S.TRIGGERED,
    (_S.TRIGGERED, _E.LIVE): _S.OPEN,
    **{(status, _E.FILLED): _S.COMPLETED for status in (_S.TRIGGERED, _S.OPEN)},
    **{(status, _E.AGAIN): _S.TRIGGERED for status in (_S.TRIGGERED, _S.OPEN)},
    **{(status, _E.REARMED): _S.PENDING for status in (_S.TRIGGERED, _S.OPEN)},
    **{(status, _E.REFUSED): _S.FAILED for status in (_S.TRIGGERED, _S.OPEN)},
    **{
        (status, ends): final
        for status in (_S.SCHEDULED, _S.INACTIVE, _S.PENDING, _S.TRIGGERED, _S.OPEN)
        for ends, final in ((_E.CANCELLED, _S.CANCELLED), (_E.EXPIRED, _S.EXPIRED))
    },
}


class Illegal(Exception):
    """The event does not fit."""


def after(status: RuleStatus, event: RuleEvent) -> RuleStatus:
    found = NEXT.get((status, event))
    if found is None:
        raise Illegal(f"{event.value} does not follow {status.value}")
    return found


def table() -> str:
    """For people: a row a status from which there is a way, a column an event."""
    rows = [["", *(event.value for event in RuleEvent)], ["---"] * (len(RuleEvent) + 1)]
    for status in dict.fromkeys(status for status, _ in NEXT):
        cells = (NEXT.get((status, event)) for event in RuleEvent)
        rows.append([status.value, *(cell.value if cell else "" for cell in cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
