"""The life of an order as a table: where it stands x what happens -> where it stands then.

What is not listed is illegal: it changes nothing, and a person is told. Rows that keep a status are things that may
well happen and mean nothing new: an answer that comes after the stream has told more, a telling that came late.

`WRITTEN_OFF` is a rejection by ourselves: the venue denied the order for long enough, in all its books, and it was too
old to be sent again. Should it turn up all the same, the venue is right. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from schemas.orders import OrderStatus

WRITTEN_OFF: Final = "written off"

State = str  # an OrderStatus, or WRITTEN_OFF


class Happening(StrEnum):
    SENT = "sent"  # written down; the request leaves now
    ANSWERED = "answered"  # the venue took the request
    TURNED_DOWN = "turned down"  # it did not, and will not
    NOT_SENT = "not sent"  # it is certain that nothing arrived
    LOST = "lost"  # no answer came
    DENIED = "denied"  # the venue does not know it
    GIVEN_UP = "given up"  # by us, before anything was at the venue
    TOLD_IN_FLIGHT = "told in flight"  # the venue tells its status
    TOLD_OPEN = "told open"
    TOLD_TRIGGER_PENDING = "told trigger pending"
    TOLD_COMPLETE = "told complete"
    TOLD_CANCELLED = "told cancelled"
    TOLD_REJECTED = "told rejected"
    FILLED = "filled"  # a trade completes it
    DAY_OVER = "day over"  # it lived for a day that has ended


TOLD: Final[Mapping[OrderStatus, Happening]] = {
    OrderStatus.IN_FLIGHT: Happening.TOLD_IN_FLIGHT,
    OrderStatus.OPEN: Happening.TOLD_OPEN,
    OrderStatus.TRIGGER_PENDING: Happening.TOLD_TRIGGER_PENDING,
    OrderStatus.COMPLETE: Happening.TOLD_COMPLETE,
    OrderStatus.CANCELLED: Happening.TOLD_CANCELLED,
    OrderStatus.REJECTED: Happening.TOLD_REJECTED,
}

_S = OrderStatus
_H = Happening

#: Whatever we believed, the venue has it: so it stands.
_AS_TOLD: Final[Mapping[Happening, State]] = {
    _H.TOLD_IN_FLIGHT: _S.IN_FLIGHT,
    _H.TOLD_OPEN: _S.OPEN,
    _H.TOLD_TRIGGER_PENDING: _S.TRIGGER_PENDING,
    _H.TOLD_COMPLETE: _S.COMPLETE,
    _H.TOLD_CANCELLED: _S.CANCELLED,
    _H.TOLD_REJECTED: _S.REJECTED,
    _H.FILLED: _S.COMPLETE,
}
#: On the venue's book: a late answer to the request, or its loss, tells nothing new.
_THERE: Final = (_H.ANSWERED, _H.LOST, _H.TOLD_IN_FLIGHT)

_ROWS: Final[Mapping[State, Mapping[Happening, State]]] = {
    # Not there yet, or no more: denied, and about to be sent again. It may turn up all the same.
    _S.CHECKED: {**_AS_TOLD, _H.SENT: _S.SENDING, _H.GIVEN_UP: _S.REJECTED, _H.DAY_OVER: _S.CANCELLED},
    _S.SENDING: {
        **_AS_TOLD,  # a fill can overtake the answer
        _H.ANSWERED: _S.IN_FLIGHT,
        _H.TURNED_DOWN: _S.REJECTED,
        _H.NOT_SENT: _S.CHECKED,
        _H.LOST: _S.UNKNOWN,
    },
    _S.UNKNOWN: {**_AS_TOLD, _H.ANSWERED: _S.IN_FLIGHT, _H.LOST: _S.UNKNOWN, _H.DENIED: _S.CHECKED},
    _S.IN_FLIGHT: {**_AS_TOLD, **dict.fromkeys(_THERE, _S.IN_FLIGHT), _H.DAY_OVER: _S.CANCELLED},
    # `in flight` is told again while a change is under way.
    _S.OPEN: {**_AS_TOLD, **dict.fromkeys(_THERE, _S.OPEN), _H.DAY_OVER: _S.CANCELLED},
    _S.TRIGGER_PENDING: {**_AS_TOLD, **dict.fromkeys(_THERE, _S.TRIGGER_PENDING), _H.DAY_OVER: _S.CANCELLED},
    _S.COMPLETE: {**dict.fromkeys((*_THERE, _H.TOLD_OPEN, _H.TOLD_TRIGGER_PENDING), _S.COMPLETE)}
    | {_H.TOLD_COMPLETE: _S.COMPLETE, _H.FILLED: _S.COMPLETE},
    _S.CANCELLED: {**dict.fromkeys((*_THERE, _H.TOLD_OPEN, _H.TOLD_TRIGGER_PENDING), _S.CANCELLED)}
    | {_H.TOLD_CANCELLED: _S.CANCELLED, _H.DAY_OVER: _S.CANCELLED},
    _S.REJECTED: {**dict.fromkeys((*_THERE, _H.TOLD_OPEN, _H.TOLD_TRIGGER_PENDING), _S.REJECTED)}
    | {_H.TOLD_REJECTED: _S.REJECTED},
    WRITTEN_OFF: dict(_AS_TOLD),
}

NEXT: Final[Mapping[tuple[State, Happening], State]] = {
    (state, happening): after for state, row in _ROWS.items() for happening, after in row.items()
}


def after(state: State, happening: Happening) -> State | None:
    """None: illegal."""
    return NEXT.get((state, happening))
