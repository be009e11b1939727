"""What the risk check is asked, and what it answers: plain values, so that the desk can write the answer down. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from brokers.venue import Capabilities
from gtt.risk.budget import Budget
from market.instruments import Instrument
from market.sessions import Part, Phase
from schemas.money import ZERO
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode, Validity


class Origin(StrEnum):
    """Who wants the order."""

    SIGNAL = "signal"
    MANUAL = "manual"
    GTT = "gtt"  # the entry of a GTT that our engine watches
    EXIT = "exit"  # ours: a stop, a target, square-off, flatten


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An order that somebody wants. `reduces`: the desk says that it only closes or shrinks a position."""

    intent_id: str
    instrument: str
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    mode: TradingMode
    origin: Origin
    price: Decimal = ZERO
    trigger_price: Decimal = ZERO
    validity: Validity = Validity.DAY
    protection: Decimal | None = None  # percent; -1: the table; None: what the limits say
    strategy: str = ""
    reduces: bool = False
    stop: Decimal | None = None  # where the position would be left with a loss
    atr: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The instrument's market as we see it. None: not known."""

    now_ms: int
    instrument: Instrument | None
    ltp: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    cp: Decimal | None = None
    band: tuple[Decimal, Decimal] | None = None  # lowest and highest price that the exchange takes
    underlying_ltp: Decimal | None = None
    phase: Phase = Phase.CONTINUOUS  # by the calendar
    part: Part | None = None  # inside an auction
    is_open: bool = True  # as the feed says it, where it does; else by the calendar
    age_ms: int | None = None  # of the prices
    closes_ms: int | None = None  # end of its continuous trading today


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Of an account, or of one strategy in it. Rupees."""

    equity: Decimal
    peak_equity: Decimal
    day_pnl: Decimal = ZERO  # realised and not, charges deducted
    trades: int = 0  # entries today


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Of the proposal's instrument and product: what is held (negative: short) and what open orders may still fill."""

    net: int = 0
    buying: int = 0
    selling: int = 0

    def closes(self, side: Side, quantity: int) -> bool:
        """Whether an order could only shrink what is held."""
        return self.net * side.sign < 0 and quantity <= abs(self.net)

    def after(self, side: Side, quantity: int) -> int:
        """The largest position on that side, were everything that goes there filled and nothing else."""
        waiting = self.buying if side is Side.BUY else self.selling
        return self.net + side.sign * (waiting + quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the account stands at this moment. `own` is the part of the proposal's strategy, None for people."""

    capabilities: Capabilities
    ceiling: TradingMode  # TEJI_MODE
    capital: Decimal
    tally: Tally
    own_tally: Tally | None = None
    units: Units = field(default_factory=Units)  # delivery sales: holdings count as held
    own_units: Units = field(default_factory=Units)
    switch: StrategyMode | None = None  # the strategy's; None: a person
    venue_opted_in: bool = False  # live: the venue is named in the settings
    egress: str = ""  # why live orders may not leave from this address; empty: they may
    halted: str | None = None  # who and why
    reconciling: bool = False
    budget: Budget | None = None  # None: this venue counts nothing
    now_ms: int = 0  # the order worker's own time, by which writes are counted; 0: the market's
    queued_writes: int = 0  # decided, not sent yet
    funds: Decimal | None = None  # available; None: not known
    margin: Decimal | None = None  # what the venue says the order needs; None: not asked


class Verdict(StrEnum):
    PASSED = "passed"
    CHANGED = "changed"  # the order was made to fit
    UNKNOWN = "not known"  # it could not be checked, and was let through
    EXEMPT = "exempt"  # the rule is not for this order
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the journal: a rule, what it said, and on what values."""

    rule: str
    verdict: Verdict
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The order as it may be sent: `slices` orders of these terms, their quantities together the proposal's."""

    proposal: Proposal
    slices: tuple[int, ...]
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    product: Product
    validity: Validity
    protected: bool  # it was a market order: the leftover policy applies
    reduces: bool  # as the position has it, not as the proposal says
    exposure: Decimal  # of this order, rupees
    estimated: bool  # the exposure is a margin that we estimated
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    proposal: Proposal
    rule: str
    reason: str
    checks: tuple[Check, ...]  # up to the one that refused, and that one
