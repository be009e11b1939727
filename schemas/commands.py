"""What people and programs ask of the workers: entries of `commands`."""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.errors import WrongField
from schemas.gtt import GttBody, GttChange
from schemas.keys import GttId, InstrumentKey, OrderId, StrategyName, StrategyOrNobody
from schemas.money import ZERO, Money
from schemas.orders import OrderType, Product, Quantity, Side, StrategyMode, TradingMode, Validity

_LAST_MS: Final = 4_102_444_800_000


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


# Orders: for the order worker. What they mean is said in schemas/orders.py and schemas/gtt.py.


class OrderPlace(_Command):
    """The venue's fields. Without a mode: that of the account. A MARKET order becomes a protected LIMIT."""

    kind: Literal["order.place"] = "order.place"
    instrument_token: InstrumentKey
    transaction_type: Side
    quantity: Quantity
    product: Product = Product.INTRADAY
    order_type: OrderType = OrderType.LIMIT
    price: Money = Field(ZERO, ge=0)
    trigger_price: Money = Field(ZERO, ge=0)
    validity: Validity = Validity.DAY
    market_protection: Money | None = Field(None, ge=-1, le=25, description="Percent; -1: automatic")
    mode: TradingMode | None = None
    strategy: StrategyOrNobody = ""

    @model_validator(mode="after")
    def _prices(self) -> Self:
        if self.order_type in (OrderType.LIMIT, OrderType.SL) and not self.price:
            raise WrongField("price", f"a {self.order_type.value} order needs a price")
        if self.order_type in (OrderType.SL, OrderType.SL_M) and not self.trigger_price:
            raise WrongField("trigger_price", f"a {self.order_type.value} order needs a trigger_price")
        return self


class OrderModify(_Command):
    """What is left out stays."""

    kind: Literal["order.modify"] = "order.modify"
    order_id: OrderId
    quantity: Quantity | None = None
    price: Money | None = Field(None, ge=0)
    trigger_price: Money | None = Field(None, ge=0)
    order_type: OrderType | None = None
    validity: Validity | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set - {"kind", "order_id"}:
            raise ValueError("nothing to change is named")
        return self


class OrderCancel(_Command):
    kind: Literal["order.cancel"] = "order.cancel"
    order_id: OrderId


class OrderCancelAll(_Command):
    """Orders and GTTs, of all that the filters leave."""

    kind: Literal["order.cancel_all"] = "order.cancel_all"
    mode: TradingMode | None = None
    instrument_token: InstrumentKey | None = None
    strategy: StrategyOrNobody | None = None


class PositionExit(_Command):
    """Close what is open, after cancelling the orders on it."""

    kind: Literal["position.exit"] = "position.exit"
    mode: TradingMode | None = None
    instrument_token: InstrumentKey | None = None
    product: Product | None = None
    strategy: StrategyOrNobody | None = None


class GttPlace(_Command):
    kind: Literal["gtt.place"] = "gtt.place"
    body: GttBody


class GttModify(_Command):
    kind: Literal["gtt.modify"] = "gtt.modify"
    body: GttChange


class GttCancel(_Command):
    kind: Literal["gtt.cancel"] = "gtt.cancel"
    gtt_order_id: GttId


class StrategySet(_Command):
    """A strategy's switch: where its signals go."""

    kind: Literal["strategy.set"] = "strategy.set"
    strategy: StrategyName
    mode: StrategyMode


OrderCommand = Annotated[
    OrderPlace
    | OrderModify
    | OrderCancel
    | OrderCancelAll
    | PositionExit
    | GttPlace
    | GttModify
    | GttCancel
    | StrategySet,
    Field(discriminator="kind"),
]
ORDER_COMMAND: TypeAdapter[OrderCommand] = TypeAdapter(OrderCommand)

Command = Annotated[
    FeedConnect | FeedDisconnect | FeedSubscribe | FeedUnsubscribe | FeedBackfill, Field(discriminator="kind")
]
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)

TAPE_RECORD: Final = "tape.record"
