"""GTT orders: the body that places one (the venue's own), and one as it stands (the venue's detail object and ours)."""

from collections import Counter
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import WrongField
from schemas.keys import GttId, InstrumentKey, StrategyOrNobody
from schemas.money import Money
from schemas.orders import Product, Quantity, Side, TradingMode


class GttType(StrEnum):
    SINGLE = "SINGLE"
    MULTIPLE = "MULTIPLE"


class Leg(StrEnum):
    ENTRY = "ENTRY"
    TARGET = "TARGET"
    STOPLOSS = "STOPLOSS"


class TriggerType(StrEnum):
    ABOVE = "ABOVE"
    BELOW = "BELOW"
    IMMEDIATE = "IMMEDIATE"


class RuleStatus(StrEnum):
    SCHEDULED = "SCHEDULED"  # waits for its trigger
    INACTIVE = "INACTIVE"  # an exit before the entry is filled
    PENDING = "PENDING"  # an exit that is armed
    TRIGGERED = "TRIGGERED"  # the condition was met, its order is asked for
    OPEN = "OPEN"  # its order is live at the exchange
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class Engine(StrEnum):
    """Who watches the price."""

    AUTO = "auto"  # the venue where it can do it, else we
    VENUE = "venue"
    OURS = "ours"


class Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Leg
    trigger_type: TriggerType
    trigger_price: Annotated[Money, Field(gt=0, le=10_000_000)]
    trailing_gap: Annotated[Money, Field(gt=0)] | None = None
    market_protection: Annotated[Money, Field(ge=-1, le=25)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.strategy is not Leg.ENTRY and self.trigger_type is not TriggerType.IMMEDIATE:
            raise WrongField("trigger_type", f"the trigger_type of {self.strategy.value} is IMMEDIATE")
        if self.trailing_gap is not None and self.strategy is not Leg.STOPLOSS:
            raise WrongField("trailing_gap", "a trailing_gap is for STOPLOSS only")
        if self.trailing_gap is not None and self.trailing_gap >= self.trigger_price:
            raise WrongField("trailing_gap", "a trailing_gap is less than the trigger_price")
        return self


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: GttType
    quantity: Quantity
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _together(self) -> Self:
        legs = Counter(rule.strategy for rule in self.rules)
        if twice := [leg.value for leg, count in legs.items() if count > 1]:
            raise WrongField("rules", f"two rules of strategy {twice[0]}")
        if self.type is GttType.SINGLE and len(self.rules) != 1:
            raise WrongField("rules", "SINGLE has exactly one rule")
        if self.type is GttType.MULTIPLE and len(self.rules) < 2:
            raise WrongField("rules", "MULTIPLE has two or three rules")
        return self

    def rule(self, leg: Leg) -> Rule | None:
        return next((rule for rule in self.rules if rule.strategy is leg), None)


class GttBody(_Rules):
    """The venue's own body, `POST /gtt/place`; `mode`, `engine` and `strategy` are ours and may be left out.

    Without an ENTRY rule it guards a position that there is: only our engine can do that.
    """

    product: Product
    instrument_token: InstrumentKey
    transaction_type: Side  # of the ENTRY; exits take the other one
    mode: TradingMode | None = None  # none: that of the account
    engine: Engine = Engine.AUTO
    strategy: StrategyOrNobody = ""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Profit is on the side that the position bets on, loss on the other."""
        entry, target, stop = (self.rule(leg) for leg in (Leg.ENTRY, Leg.TARGET, Leg.STOPLOSS))
        sign = self.transaction_type.sign
        for low, high, what in ((entry, target, "TARGET"), (stop, entry, "STOPLOSS"), (stop, target, "TARGET")):
            if low and high and (high.trigger_price - low.trigger_price) * sign <= 0:
                raise WrongField("rules", f"the {what} of a {self.transaction_type.value} is on the wrong side")
        return self


class GttChange(_Rules):
    """`PUT /gtt/modify`: the rules replace the old ones; instrument, side and product stay."""

    gtt_order_id: GttId


class RuleState(BaseModel):
    """A rule as it stands: the venue's fields. `trigger_price` of a trailing stop moves."""

    model_config = ConfigDict(frozen=True)

    strategy: Leg
    status: RuleStatus
    trigger_type: TriggerType
    trigger_price: Money
    transaction_type: Side
    message: str = ""
    order_id: str | None = None  # of its newest order, ours
    trailing_gap: Money | None = None
    market_protection: Money | None = None


class Gtt(BaseModel):
    """The venue's detail object, and: whose (`mode`, `strategy`), watched by whom (`engine`), how far (`entered`,
    `exited`, units). `instrument` repeats `instrument_token` for filters."""

    model_config = ConfigDict(frozen=True)

    gtt_order_id: str  # ours: schemas.orders.gtt_id_of
    venue_gtt_order_id: str = ""
    type: GttType
    exchange: str  # segment, as the venue has it here
    quantity: int
    product: Product
    trading_symbol: str = ""
    instrument_token: str
    instrument: str
    transaction_type: Side
    created_at: int  # epoch us
    expires_at: int  # epoch us
    rules: tuple[RuleState, ...]
    intent_id: str
    mode: TradingMode
    engine: Engine  # VENUE or OURS
    strategy: str = ""
    entered: int = 0
    exited: int = 0
    live: bool  # something of it may still happen
    note: str = ""  # e.g. why it is our engine that watches
    ts: int  # epoch ms

    def rule(self, leg: Leg) -> RuleState | None:
        return next((rule for rule in self.rules if rule.strategy is leg), None)
