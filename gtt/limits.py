"""What is allowed: the account's limits from the settings, and what a strategies file says otherwise by strategy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from bus.settings import Freeze, Leftover, Settings, Sizer
from schemas.orders import Product, StrategyMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Parts of the capital, and entries a day."""

    position: Decimal
    trade_risk: Decimal
    day_loss: Decimal
    drawdown: Decimal
    trades: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For one strategy (or people): the account's caps hold for all together, `own` for what is the strategy's."""

    account: Caps
    own: Caps
    share: Decimal = Decimal(1)  # of the account's capital that is the strategy's
    mode: StrategyMode = StrategyMode.PAPER
    duplicates: bool = False
    stop_atr: Decimal = Decimal(2)
    target_atr: Decimal = Decimal(4)
    trail: Decimal = Decimal("0.01")
    sizer: Sizer = Sizer.ATR
    size: Decimal = Decimal(1)
    volatility_target: Decimal = Decimal("0.1")
    kelly_cap: Decimal = Decimal("0.25")
    product: Product = Product.INTRADAY
    square_off_min: Mapping[Product, int] = field(default_factory=dict)
    freeze: Freeze = Freeze.SLICE
    protection: Decimal = Decimal(-1)
    leftover: Leftover = Leftover.CANCEL
    leftover_s: float = 10.0
    intent_s: float = 30.0
    quote_s: float = 60.0  # older prices make no market entry


class Strategies:
    """Limits by strategy, from the settings and the file."""

    def __init__(self, settings: Settings, text: str = "", path: Path | None = None) -> None:
        raise NotImplementedError

    def of(self, strategy: str) -> Limits:
        """Of a strategy; the empty name: people."""
        raise NotImplementedError


class StrategiesFile:
    """The file on disk: `limits` is what was last right; `refresh` reads it again where it has changed."""

    limits: Strategies

    def __init__(self, settings: Settings) -> None:
        """Misconfigured where the file is wrong: a start is refused."""
        raise NotImplementedError

    def refresh(self) -> str | None:
        """None: nothing to tell. Else one sentence: what was taken over, or why the old limits stay."""
        raise NotImplementedError
