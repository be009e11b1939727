"""What every part of the desk looks at: the ledger, the scene outside, the time, and what is true only while it runs.
Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Protocol

from brokers.venue import Capabilities, VenueGtt, VenueOrder
from bus.settings import Settings
from gtt.book.book import Book
from gtt.book.facts import Alerted, Fact
from gtt.desk.bands import Bands
from gtt.desk.effects import Effect, Look
from gtt.desk.following import Following
from gtt.desk.ledger import Ledger
from gtt.engine.board import Crossing, Quoted
from gtt.engine.state import GttState, Watched
from gtt.risk.budget import Budget
from gtt.risk.limits import Limits
from market import sessions
from market.instruments import Instrument
from schemas.gtt import Leg
from schemas.orders import TradingMode


class Scene(Protocol):
    """The market as the shell knows it. Nothing in it waits."""

    def quote(self, key: str) -> Quoted | None: ...

    def instrument(self, key: str) -> Instrument | None: ...

    def band(self, key: str) -> tuple[Decimal, Decimal] | None:
        """Lowest and highest price that the exchange takes today."""
        ...

    def watch(self, gtt_id: str, key: str, on: Iterable[Watched]) -> list[Crossing]:
        """Watch these bounds and no others for a GTT; crossings where the price is beyond one already."""
        ...

    def limits(self, strategy: str) -> Limits: ...

    @property
    def strategies(self) -> tuple[str, ...]:
        """Those that the strategies file names."""
        ...

    def market_ms(self, now_ms: int) -> int:
        """Venue time."""
        ...

    @property
    def always_open(self) -> bool: ...

    @property
    def listed(self) -> bool:
        """Whether it is known which instruments there are."""
        ...

    @property
    def egress(self) -> str:
        """Why live orders may not leave from here; empty: they may."""
        ...


@dataclass(slots=True)
class Runtime:
    """Of an account, not remembered."""

    budget: Budget
    reconciling: bool = True
    compared: bool = False  # at least once since the start
    connected: bool = False
    looking: bool = False  # the books are being read
    look_ts: int = 0  # when they are to be read next
    looked_ts: int = 0  # when they were read last, or could not be
    trades_ts: int = 0  # when the trades are; 0: not
    asking_trades: bool = False
    asking_gtts: bool = False
    gtts_ts: int = 0
    strangers: dict[str, list[VenueGtt]] = field(default_factory=dict)  # told of before we know that they are ours
    over: dict[str, VenueOrder] = field(default_factory=dict)  # orders, as they were told when nothing was new any more
    traded: set[tuple[str, str]] = field(default_factory=set)  # order and trade at the venue: taken in
    unlinked: dict[str, tuple[str, Leg]] = field(default_factory=dict)  # venue's order id -> GTT it was told to be of
    failed_looks: int = 0
    differing: dict[str, int] = field(default_factory=dict)  # positions that differed last time
    told: set[str] = field(default_factory=set)  # alerts that need no repetition


@dataclass(slots=True)
class Asking:
    """About an order that nobody knows the fate of."""

    tries: int = 0
    next_ts: int = 0
    asked: bool = False  # an answer is being waited for


@dataclass(slots=True)
class Here:
    ledger: Ledger
    scene: Scene
    settings: Settings
    venues: Mapping[TradingMode, Capabilities]
    runtime: dict[TradingMode, Runtime]
    asking: dict[str, Asking] = field(default_factory=dict)
    trailing: dict[str, GttState] = field(default_factory=dict)  # moved since they were written down
    crossings: dict[str, Crossing] = field(default_factory=dict)  # of entries, while the books are compared
    margins: dict[str, Decimal | None] = field(default_factory=dict)  # by intent; none: the venue would not say
    asking_margin: set[str] = field(default_factory=set)
    orphans: dict[str, int] = field(default_factory=dict)  # GTTs at a venue whose position is gone, since when
    following: Following = field(default_factory=Following)
    bands: Bands = field(default_factory=Bands)
    decided: set[str] = field(default_factory=set)  # intents of long ago, which the book has forgotten
    caught_up: bool = True  # ticks have been read up to those of now
    now_ms: int = 0
    tick_ns: int = 0  # receipt of the tick that is being looked at

    @property
    def book(self) -> Book:
        return self.ledger.book

    @property
    def market_ms(self) -> int:
        return self.scene.market_ms(self.now_ms)

    @property
    def today(self) -> date:
        return sessions.trading_date(self.market_ms)

    def emit(self, fact: Fact) -> None:
        self.ledger.emit(fact)

    def want(self, effect: Effect) -> None:
        self.ledger.want(effect)

    def look_soon(self, mode: TradingMode) -> None:
        """Read the books of an account, once they are not being read already."""
        self.runtime[mode].look_ts = self.now_ms

    def look(self, mode: TradingMode) -> None:
        runtime = self.runtime[mode]
        runtime.looking, runtime.look_ts = True, 0
        self.want(Look(mode))

    def alert(self, message: str, mode: TradingMode | None = None, *, once: str = "", **about: str) -> None:
        """`once`: under this name it is not said again."""
        if once and mode is not None:
            if once in self.runtime[mode].told:
                return
            self.runtime[mode].told.add(once)
        order_id, gtt_id = about.pop("order_id", ""), about.pop("gtt_id", "")
        data = dict(about)
        self.emit(Alerted(ts=self.now_ms, account=mode, message=message, order_id=order_id, gtt_id=gtt_id, data=data))

    def price(self, key: str) -> Decimal | None:
        """The last one that is known."""
        quote = self.scene.quote(key)
        return None if quote is None else decimal_of(quote.ltp)


def decimal_of(price: float | None) -> Decimal | None:
    return None if price is None or price != price or price <= 0 else Decimal(repr(float(price)))
