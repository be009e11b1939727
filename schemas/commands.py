"""What people and programs ask of the workers: entries of `commands`."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

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


Command = Annotated[FeedConnect | FeedDisconnect | FeedSubscribe | FeedUnsubscribe, Field(discriminator="kind")]
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
