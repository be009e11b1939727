"""Failures on demand, so that a client's answer to them can be tested.

A fault is data; who meets it looks here. It is ordered with `POST /sim/faults` from the same machine, with
`exchange.order_fault` in a test, or by a line of a timeline (see `timeline`), which also says when.

Some happen at once (`drop`, `abort`, `expire_tokens`), refusals and what is counted until they are used up, the others
until they are ended: with `false`, an empty list, or 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: What stands before the API when the venue's edge refuses a client.
EDGE_PAGE = "<!DOCTYPE html><html><head><title>Access denied</title></head><body><h1>Error 1010</h1></body></html>"

_SKEW_MAX_MS: Final = 3_600_000
_WAIT_MAX_MS: Final = 600_000
_TIMES_MAX: Final = 1_000_000


def _status(value: int) -> int:
    if value and not 400 <= value <= 599:
        raise ValueError(f"{value} is no refusal: 400 to 599, or 0 to end it")
    return value


Status = Annotated[int, AfterValidator(_status)]
#: Instrument keys, or beginnings of keys that end in `*`.
Keys = tuple[str, ...]
#: So many of the next ones.
Count = Annotated[int, Field(ge=0, le=_TIMES_MAX)]
#: A part of all: 1 is each of them. Which ones is drawn from the exchange's seed.
Share = Annotated[float, Field(ge=0, le=1)]
Wait = Annotated[int, Field(ge=0, le=_WAIT_MAX_MS)]


class FaultRequest(BaseModel):
    """One fault. What is not given stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: int | None = Field(None, ge=1000, le=4999, description="close feed connections with this code")
    abort: bool = Field(False, description="cut feed connections without a close frame (clients see 1006)")
    expire_tokens: bool = Field(False, description="every access token dies, as at 03:30")
    mute: bool | None = Field(None, description="send no data; pings are still answered")
    freeze: bool | None = Field(
        None, description="half-open: of the connections there are, neither read nor send, answer no ping, never close"
    )
    offline: bool | None = Field(None, description="no network: every line is cut, and every new one at once")
    ignore: Keys | None = Field(None, description="pass over subscriptions of these keys, in silence")
    quiet: Keys | None = Field(None, description="send nothing more about these keys")
    cap: int | None = Field(None, ge=0, description="accept so many keys a connection, pass over the others in silence")
    connections: int | None = Field(None, ge=0, description="let a user have so many feed connections")
    duplicate: bool | None = Field(None, description="send every frame twice")
    reorder: bool | None = Field(None, description="swap every live frame with the next one")
    partial_blocks: bool | None = Field(None, description="leave out the parts of a block that did not change")
    skew_ms: int | None = Field(
        None, ge=-_SKEW_MAX_MS, le=_SKEW_MAX_MS, description="stamp frames so much later than it is"
    )
    refuse_authorize: Status | None = Field(None, description="answer authorize with this status")
    refuse_connect: Status | None = Field(None, description="answer the feed's handshake with this status")
    refuse_rest: Status | None = Field(None, description="answer every REST call with this status")
    refuse_orders: Status | None = Field(None, description="answer every write of an order with this status")
    rest_down: bool | None = Field(None, description="cut every REST call; the websockets live on")

    order_500: Count | None = Field(None, description="answer so many order writes with 500 after they were accepted")
    order_lost: Count | None = Field(None, description="accept so many order writes and cut the line before the answer")
    order_unheard: Count | None = Field(None, description="cut the line of so many order writes: nothing happens")
    order_reject: Count | None = Field(
        None, description="accept so many order writes, then turn them down: rejected, not modified, not cancelled"
    )
    order_slow_ms: Wait | None = Field(None, description="answer order writes so much later than they are done")
    order_late_ms: Wait | None = Field(
        None, description="do what order writes ask so much later; also for whoever has hung up meanwhile"
    )
    order_pending_ms: Wait | None = Field(
        None, description="orders are `open pending` so long, by venue time, before they are at the exchange"
    )
    partial_fills: Count | None = Field(None, description="fill at most so many lots of an order at a time")
    no_fills: bool | None = Field(None, description="no order of the user trades")

    updates_lost: Share | None = Field(None, description="share of the portfolio stream's messages that never come")
    updates_twice: Share | None = Field(None, description="share of them that come twice")
    updates_reordered: Share | None = Field(None, description="share of them that the next one overtakes")
    updates_late_ms: Wait | None = Field(None, description="they come so much later, by venue time")
    updates_down: bool | None = Field(None, description="the portfolio stream is cut and refused; REST lives on")
    times: int = Field(1, ge=0, le=_TIMES_MAX, description="how many requests are refused; 0: until it is ended")
    html: bool = Field(False, description="refuse with the edge's HTML page instead of JSON")
    only: int | None = Field(
        None, ge=1, description="the one feed connection that `drop`, `abort`, `mute` and `freeze` are about"
    )


#: What ends a fault, by its name. The others are over at once.
ENDED: Final[dict[str, Any]] = {
    **dict.fromkeys(("mute", "freeze", "offline", "duplicate", "reorder", "partial_blocks"), False),
    **dict.fromkeys(("rest_down", "no_fills", "updates_down"), False),
    **dict.fromkeys(("ignore", "quiet"), ()),
    **dict.fromkeys(("cap", "connections", "skew_ms", "refuse_authorize", "refuse_connect", "refuse_rest"), 0),
    **dict.fromkeys(("refuse_orders", "order_500", "order_lost", "order_unheard", "order_reject"), 0),
    **dict.fromkeys(("order_slow_ms", "order_late_ms", "order_pending_ms", "partial_fills", "updates_late_ms"), 0),
    **dict.fromkeys(("updates_lost", "updates_twice", "updates_reordered"), 0.0),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    html: bool


Door = Literal["authorize", "connect", "rest", "orders"]
_DOORS: Final[tuple[Door, ...]] = ("authorize", "connect", "rest", "orders")
#: Faults that are used up one by one, and those that are drawn.
Counted = Literal["order_500", "order_lost", "order_unheard", "order_reject"]
Drawn = Literal["updates_lost", "updates_twice", "updates_reordered"]


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    mute: bool = False
    mute_only: int | None = None
    offline: bool = False
    ignore: Keys = ()
    quiet: Keys = ()
    cap: int = 0
    connections: int = 0
    duplicate: bool = False
    reorder: bool = False
    partial_blocks: bool = False
    skew_ms: int = 0
    rest_down: bool = False
    order_500: int = 0
    order_lost: int = 0
    order_unheard: int = 0
    order_reject: int = 0
    order_slow_ms: int = 0
    order_late_ms: int = 0
    order_pending_ms: int = 0
    partial_fills: int = 0
    no_fills: bool = False
    updates_lost: float = 0.0
    updates_twice: float = 0.0
    updates_reordered: float = 0.0
    updates_late_ms: int = 0
    updates_down: bool = False
    refusals: dict[Door, list[Refusal]] = field(default_factory=lambda: {door: [] for door in _DOORS})
    lasting: dict[Door, Refusal] = field(default_factory=dict)
    draw: Random = field(default_factory=lambda: Random(0))

    def order(self, request: FaultRequest) -> None:
        """Set what lasts. What happens at once, and to sockets, happens elsewhere."""
        for name in ENDED.keys() - {"mute", "freeze", *(f"refuse_{door}" for door in _DOORS)}:
            if (value := getattr(request, name)) is not None:
                setattr(self, name, value)
        if request.mute is not None:
            self.mute, self.mute_only = request.mute, request.only
        for door in _DOORS:
            status = getattr(request, f"refuse_{door}")
            if status is not None:
                self._refuse(door, status, request)

    def _refuse(self, door: Door, status: int, request: FaultRequest) -> None:
        self.lasting.pop(door, None)
        self.refusals[door] = [Refusal(status, request.html)] * (request.times if status else 0)
        if status and not request.times:
            self.lasting[door] = Refusal(status, request.html)

    def refusal(self, door: Door) -> Refusal | None:
        """The next one for a door, used up by asking."""
        waiting = self.refusals[door]
        return waiting.pop() if waiting else self.lasting.get(door)

    def use(self, name: Counted) -> bool:
        """Whether the next one is meant, which uses it up."""
        left: int = getattr(self, name)
        if left:
            setattr(self, name, left - 1)
        return left > 0

    def hits(self, name: Drawn) -> bool:
        share: float = getattr(self, name)
        return share > 0 and self.draw.random() < share

    def mutes(self, connection: int) -> bool:
        return self.mute and self.mute_only in (None, connection)

    def in_force(self) -> dict[str, Any]:
        """What is not as it should be, by name."""
        plain = {name: getattr(self, name) for name in ENDED if name in self.__slots__}
        found = {name: value for name, value in plain.items() if value}
        for door in _DOORS:
            waiting = self.refusals[door]
            if refusal := waiting[-1] if waiting else self.lasting.get(door):
                found[f"refuse_{door}"] = refusal.status
        return found


def among(key: str, keys: Iterable[str]) -> bool:
    """Whether a key is one of these, or begins as one of them that ends in `*`."""
    return any(key.startswith(each[:-1]) if each.endswith("*") else key == each for each in keys)
