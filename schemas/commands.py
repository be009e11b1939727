"""What people and programs ask of the workers: entries of `commands`."""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

_LAST_MS: Final = 4_102_444_800_000

InstrumentKey = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Z_]{3,20}\|[^,|\x00-\x1f]{1,64}$", max_length=80)
]


class Mode(StrEnum):
    LTPC = "ltpc"
    OPTION_GREEKS = "option_greeks"
    FULL = "full"
    FULL_D30 = "full_d30"


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeedConnect(_Command):
    kind: Literal["feed.connect"] = "feed.connect"


class FeedDisconnect(_Command):
    kind: Literal["feed.disconnect"] = "feed.disconnect"


class FeedSubscribe(_Command):
    kind: Literal["feed.subscribe"] = "feed.subscribe"
    instruments: list[InstrumentKey] = Field(min_length=1, max_length=5000)
    mode: Mode = Mode.FULL


class FeedUnsubscribe(_Command):
    kind: Literal["feed.unsubscribe"] = "feed.unsubscribe"
    instruments: list[InstrumentKey] = Field(min_length=1, max_length=5000)


class FeedBackfill(_Command):
    """Ask the venue's history for the minutes in [from_ms, to_ms) that we have no bar of, or no whole one."""

    kind: Literal["feed.backfill"] = "feed.backfill"
    from_ms: int = Field(ge=0, le=_LAST_MS)
    to_ms: int = Field(ge=0, le=_LAST_MS)
    instruments: list[InstrumentKey] = Field(default=[], max_length=5000)  # none: all that are subscribed
    shard: int | None = Field(None, ge=0)  # this one's only

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.from_ms >= self.to_ms:
            raise ValueError("to_ms is not after from_ms")
        return self


class TapeRecord(_Command):
    """Record the feed for so many seconds from now, whatever the settings say; 0 ends that. Repeated while it is
    wanted, so that whoever asked and died does not leave a tape running."""

    kind: Literal["tape.record"] = "tape.record"
    seconds: float = Field(ge=0, le=3600)


Command = Annotated[
    FeedConnect | FeedDisconnect | FeedSubscribe | FeedUnsubscribe | FeedBackfill, Field(discriminator="kind")
]
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)

TAPE_RECORD: Final = "tape.record"
