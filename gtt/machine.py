"""The life of a GTT under our engine: `accept` starts one, `step` takes it on. Pure."""

from decimal import Decimal

from gtt.gtt_state import (
    Action,
    Actions,
    Alert,
    AutoBand,
    Cancel,
    CancelChild,
    ChangeChild,
    Child,
    ChildRefused,
    ChildState,
    ClosedElsewhere,
    Done,
    Event,
    Expire,
    GttState,
    Guarded,
    Hit,
    Modify,
    NotAccepted,
    Odd,
    PlaceChild,
    Reattach,
    Terms,
    Timer,
    Trailed,
    TurnedDown,
    Watch,
    Watched,
)
from schemas.gtt import Engine, Gtt, GttBody
from schemas.orders import TradingMode

__all__ = [
    "Action",
    "Actions",
    "Alert",
    "AutoBand",
    "Cancel",
    "CancelChild",
    "ChangeChild",
    "Child",
    "ChildRefused",
    "ChildState",
    "ClosedElsewhere",
    "Done",
    "Event",
    "Expire",
    "GttState",
    "Guarded",
    "Hit",
    "Modify",
    "NotAccepted",
    "Odd",
    "PlaceChild",
    "Reattach",
    "Terms",
    "Timer",
    "Trailed",
    "TurnedDown",
    "Watch",
    "Watched",
    "accept",
    "due_ts",
    "protect_rest",
    "step",
    "watches",
]


def accept(
    body: GttBody,
    *,
    gtt_id: str,
    intent_id: str,
    mode: TradingMode,
    engine: Engine,
    note: str,
    segment: str,
    trading_symbol: str,
    now_ms: int,
    expires_us: int,
    terms: Terms,
    last: Decimal | None = None,
) -> tuple[GttState, Actions]:
    """A GTT begins. Raises NotAccepted. One that the venue runs (`engine` VENUE) is only written down."""
    raise NotImplementedError


def step(state: GttState, event: Event) -> tuple[GttState, Actions]:
    """What becomes of it. An event that does not fit changes nothing and is told as `Odd`."""
    raise NotImplementedError


def watches(state: GttState) -> tuple[Watched, ...]:
    """All that is to be watched for it as it stands."""
    raise NotImplementedError


def due_ts(state: GttState) -> int:
    """When it wants a `Timer`, epoch ms; 0: never."""
    raise NotImplementedError


def protect_rest(
    gtt: Gtt, *, filled: int, now_ms: int, terms: Terms, last: Decimal | None = None
) -> tuple[GttState, Actions]:
    """For a GTT that the venue runs and whose entry is partly filled: one of ours, without ENTRY, that guards those
    units until the venue does."""
    raise NotImplementedError
