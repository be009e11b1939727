"""What a person can choose about the simulated exchange."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sim.timeline import parse

Mode = Literal["ltpc", "option_greeks", "full", "full_d30"]


class Caps(BaseModel):
    """How many instruments a connection may follow: in one mode only, or where it mixes modes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alone: dict[Mode, int] = {"ltpc": 5000, "option_greeks": 3000, "full": 2000, "full_d30": 50}
    mixed: dict[Mode, int] = {"ltpc": 2000, "option_greeks": 2000, "full": 1500, "full_d30": 1500}
    scope: Literal["connection", "user"] = "connection"


class RateLimits(BaseModel):
    """Requests per user and call, in three windows at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_1_s: int = 50
    per_1_min: int = 500
    per_30_min: int = 2000


class SimSettings(BaseModel):
    """Read once, when the exchange starts. `None` means: whatever follows from the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535, description="0 takes a free one")
    seed: int = Field(7, ge=0)
    instruments: int = Field(500, ge=30, le=20_000)

    clock: Literal["open", "real", "fast", "manual"] = "open"
    speed: float = Field(20.0, gt=0, le=1000, description="market seconds per second of the fast clock")
    start: datetime | None = Field(None, description="first instant of a fast or manual clock; without zone: IST")
    always_open: bool | None = Field(None, description="None: only with the clock `open`")

    conflation_ms: int = Field(300, ge=0, le=60_000, description="0 sends every event")
    partial_blocks: bool = Field(False, description="full mode: leave out the parts of a block that did not change")
    ping_s: float = Field(20.0, gt=0)
    caps: Caps = Caps()
    plus_plan: bool = False
    connection_limit: int | None = Field(None, ge=0, description="None: 2, or 5 with the Plus plan")
    token_death_close_code: int = 1000
    rate_limits: RateLimits | None = RateLimits()
    order_rate_limits: RateLimits | None = Field(
        RateLimits(per_1_s=10), description="of all order writes together; none where `rate_limits` are off"
    )
    corrections: float = Field(0.0, ge=0, le=1, description="share of a day's minutes that history tells otherwise")
    record: bool = Field(False, description="keep every websocket frame sent, for tests")
    fault: tuple[str, ...] = Field((), description="timelines of what fails when, see `sim.timeline`")

    funds: Decimal = Field(Decimal(2_500_000), ge=0, description="rupees in the account when it opens")
    holdings: dict[str, int] = Field({}, description="shares in the account when it opens, by instrument key")
    default_protection: float = Field(
        0.0, ge=-1, le=25, description="market protection of an order that does not say; 0: refused as a market order"
    )
    late_stops: Literal["release", "reject"] = Field(
        "release", description="a stop order whose trigger the price has passed already: live at once, or turned down"
    )
    algo_name: str = Field("", description="the registered algo; orders of another name are refused")

    auto_approve: bool = Field(True, description="the login dialog redirects at once, without its button")
    api_key: str = "sim-key"
    api_secret: str = "sim-secret"  # noqa: S105 the demo's, printed in the guide
    redirect_uri: str = Field("", description="empty accepts any loopback address")
    user_id: str = "SIM001"
    registered_ips: tuple[str, ...] = Field((), max_length=2, description="may send orders; empty: loopback may")
    notifier_url: str = Field("", description="where an approved token request is told")
    approval_s: float | None = Field(0.5, ge=0, le=3600, description="until a token request is approved; None: never")
    gtt_arms_on: Literal["complete", "fill"] = Field(
        "complete", description="when exits are armed: entry done, or part of it"
    )
    gtt_limit: int = Field(10_000, ge=1, description="live GTTs of a user")

    @field_validator("fault")
    @classmethod
    def _readable(cls, timelines: tuple[str, ...]) -> tuple[str, ...]:
        for text in timelines:
            parse(text)
        return timelines

    @property
    def is_always_open(self) -> bool:
        return self.clock == "open" if self.always_open is None else self.always_open

    @property
    def max_connections(self) -> int:
        if self.connection_limit is not None:
            return self.connection_limit
        return 5 if self.plus_plan else 2
