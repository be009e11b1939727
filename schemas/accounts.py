"""How an account stands, and where strategies are switched to: values of the hashes `book:accounts` and
`book:strategies`, kept by the order worker, told by REST."""

from pydantic import BaseModel, ConfigDict

from schemas.money import ZERO, Money
from schemas.orders import StrategyMode, TradingMode


class BudgetWindow(BaseModel):
    """Order writes of all kinds in one window."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    most: int
    used: int
    remaining: int


class Limits(BaseModel):
    """What the risk check holds an account to. Shares are of the capital."""

    model_config = ConfigDict(frozen=True)

    position: float
    trade: float
    day_loss: float
    drawdown: float
    trades: int


class Holding(BaseModel):
    """Shares kept over night, as the venue tells them."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    isin: str = ""
    quantity: int
    average_price: Money
    last_price: Money | None = None


class AccountFunds(BaseModel):
    """Rupees, as the venue tells them."""

    model_config = ConfigDict(frozen=True)

    available: Money
    used: Money = ZERO
    ts: int = 0  # epoch ms; when the venue told


class Account(BaseModel):
    """One a trading mode. Rupees; `drawdown` is a share of the highest equity there was."""

    model_config = ConfigDict(frozen=True)

    mode: TradingMode
    venue: str
    day: str = ""  # trading date, YYYY-MM-DD
    capital: Money
    equity: Money
    peak_equity: Money = ZERO
    realised: Money = ZERO  # of the day, before charges
    unrealised: Money = ZERO
    charges: Money = ZERO  # of the day
    day_pnl: Money = ZERO  # realised and unrealised, less charges
    drawdown: float = 0.0
    trades: int = 0  # entries today
    limits: Limits | None = None
    budget: tuple[BudgetWindow, ...] = ()
    halted: str = ""  # why; empty: not halted
    reconciling: bool = False
    connected: bool = True  # the venue's stream of updates is up
    unknown: int = 0  # orders that nobody knows the fate of
    funds: AccountFunds | None = None
    holdings: tuple[Holding, ...] = ()
    ts: int  # epoch ms


class StrategyState(BaseModel):
    """A strategy's own switch, and where its signals go in effect: the switch capped by TEJI_MODE."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    mode: StrategyMode
    effective: StrategyMode
    why: str = ""  # why the two differ
    last_signal_ts: int = 0  # epoch ms; 0: none yet
    signals: int = 0  # today
    ts: int = 0  # epoch ms; when it was switched last
