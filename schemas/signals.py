"""What a strategy says: entries of `signals` with the fields `id`, `strategy`, `instrument`, `ts`, `data`."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.keys import InstrumentKey, StrategyName
from schemas.money import Money
from schemas.orders import Quantity


class SignalSide(StrEnum):
    BUY = "BUY"
    SELL = "SELL"
    EXIT = "EXIT"  # close what the strategy holds of the instrument


class Signal(BaseModel):
    """`price` is the strategy's, at `ts`. Without a quantity the sizer decides; without stop and target ATR does."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    #: The strategy's own, deterministic: the same signal twice is one.
    id: str = Field(max_length=200, pattern=r"^[^\x00-\x1f]+$")
    strategy: StrategyName
    instrument: InstrumentKey
    ts: int = Field(ge=0, le=4_102_444_800_000, strict=True)  # epoch ms
    side: SignalSide
    strength: float = Field(1.0, ge=0, le=1)
    price: Money | None = Field(None, gt=0)
    stop_loss: Money | None = Field(None, gt=0)
    take_profit: Money | None = Field(None, gt=0)
    quantity: Quantity | None = None
    reason: str = Field("", max_length=1000)
    votes: dict[StrategyName, float] = Field({}, max_length=100)
    #: What the sizers need and only the strategy knows; each null where it does not say.
    atr: Money | None = Field(None, gt=0)
    volatility: float | None = Field(None, gt=0)  # of the price, yearly, as a fraction
    win_rate: float | None = Field(None, ge=0, le=1)
    payoff: float | None = Field(None, gt=0)  # mean win over mean loss

    @field_validator("reason")
    @classmethod
    def _printable(cls, text: str) -> str:
        return "".join(letter if letter.isprintable() else " " for letter in text)
