"""Failures on demand, so that a client's answer to them can be tested.

`POST /sim/faults` from the same machine, or `exchange.faults` in a test. A fault is data; who meets it looks here.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: What stands before the API when the venue's edge refuses a client.
EDGE_PAGE = "<!DOCTYPE html><html><head><title>Access denied</title></head><body><h1>Error 1010</h1></body></html>"


class FaultRequest(BaseModel):
    """One fault. What is not given stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: int | None = Field(None, ge=1000, le=4999, description="close every feed connection with this code")
    abort: bool = Field(False, description="cut every feed connection without a close frame (clients see 1006)")
    mute: bool | None = Field(None, description="send no data; pings are still answered")
    freeze: bool | None = Field(None, description="half-open: neither read nor send, and answer no ping")
    refuse_authorize: int | None = Field(None, ge=400, le=599, description="answer authorize with this status")
    refuse_connect: int | None = Field(None, ge=400, le=599, description="answer the feed's handshake with this status")
    refuse_rest: int | None = Field(None, ge=400, le=599, description="answer every REST call with this status")
    times: int = Field(1, ge=1, description="how many requests are refused")
    html: bool = Field(False, description="refuse with the edge's HTML page instead of JSON")


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    html: bool


Door = Literal["authorize", "connect", "rest"]


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    mute: bool = False
    freeze: bool = False
    refusals: dict[Door, list[Refusal]] = field(default_factory=lambda: {"authorize": [], "connect": [], "rest": []})

    def order(self, request: FaultRequest) -> None:
        """Set what lasts. Dropping and aborting happen at once, elsewhere."""
        if request.mute is not None:
            self.mute = request.mute
        if request.freeze is not None:
            self.freeze = request.freeze
        doors: dict[Door, int | None] = {
            "authorize": request.refuse_authorize,
            "connect": request.refuse_connect,
            "rest": request.refuse_rest,
        }
        for door, status in doors.items():
            if status is not None:
                self.refusals[door] = [Refusal(status, request.html)] * request.times

    def refusal(self, door: Door) -> Refusal | None:
        """The next one for a door, used up by asking."""
        waiting = self.refusals[door]
        return waiting.pop() if waiting else None
