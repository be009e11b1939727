"""What happened, as facts: entries of `events`, and the SSE `event` event."""

from enum import StrEnum
from typing import Any

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
