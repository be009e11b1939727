"""What happened, as facts: entries of `events`, and the SSE `event` event."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field


class EventKind(StrEnum):
    FEED = "feed"  # the feed's state changed; data: FeedStatus
    GAP = "gap"  # something was missed; data says what and how much
    ALERT = "alert"  # a person should look
    LEASE = "lease"  # a shard changed hands
    PRINT = "print"  # a trade outside the continuous session (pre-open match, closing auction)
    REPLY = "reply"  # a worker's answer to a command; data.command is its id
    HALT = "halt"
    RESUME = "resume"


class Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: EventKind
    ts: int  # epoch ms
    worker: str
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class FeedState(StrEnum):
    NEEDS_LOGIN = "needs_login"
    CONNECTING = "connecting"
    LIVE = "live"
    STALE = "stale"  # connected, but the data clock ran out
    CLOSED = "closed"  # switched off by a person


#: Instruments that a status names; the whole lists are in the hash `missing:{k}`.
NAMED_MAX: Final = 10


class Some(BaseModel):
    """How many instruments, and the first of them."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    first: tuple[str, ...] = ()

    @classmethod
    def of(cls, keys: Collection[str]) -> Self:
        return cls(count=len(keys), first=tuple(sorted(keys)[:NAMED_MAX]))

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")


class Auction(BaseModel):
    """What the venue says of a segment's call auction, in its own words."""

    model_config = ConfigDict(frozen=True)

    status: str
    since: int  # epoch ms


class Socket(BaseModel):
    """One connection to the venue."""

    model_config = ConfigDict(frozen=True)

    number: int
    state: FeedState
    instruments: int  # that it is to carry
    reason: str = ""


class FeedStatus(BaseModel):
    """`data` of a feed event, and a part of `/health`."""

    model_config = ConfigDict(frozen=True)

    state: FeedState
    shard: int
    venue: str
    connections: int
    desired: int  # instruments asked for
    seen: int  # of those, instruments that have sent something on the present connection
    history_waiting: int = 0  # of those, instruments whose missed minutes the venue's history has yet to tell
    reason: str = ""
    segments: dict[str, str] = Field(default_factory=dict)  # the venue's market status by segment
    pre_open: dict[str, Auction] = Field(default_factory=dict)  # by segment, once it has begun
    closing_auction: dict[str, Auction] = Field(default_factory=dict)
    never_seen: Some = Some()  # asked for twice in an open market, and nothing came
    silent: Some = Some()  # used to tick, and has stopped while its peers go on
    no_room: Some = Some()  # more than the venue lets our connections carry
    sockets: tuple[Socket, ...] = ()  # of the process, those that carry something or are being tried


class Missing(BaseModel):
    """The hash `missing:{k}`: what the counts of a FeedStatus stand for, in full. Values are JSON."""

    model_config = ConfigDict(frozen=True)

    ts: int  # epoch ms
    never_seen: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    no_room: tuple[str, ...] = ()
