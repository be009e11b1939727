"""Everything the order worker believes: what is left when the facts are folded, and a snapshot keeps.

Records are mutable and changed by `gtt/book/fold.py` alone. Pure.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, PrivateAttr

from brokers.venue import Funds, NewGtt, VenueGtt, VenueHolding
from gtt.book.facts import Commanded, What
from gtt.book.gtt_index import GttIndex
from gtt.book.orders_table import WRITTEN_OFF, State
from gtt.engine.state import GttState
from gtt.risk.types import Origin
from schemas.gtt import Engine
from schemas.money import ZERO
from schemas.orders import (
    FINAL,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Side,
    StrategyMode,
    TradingMode,
    Validity,
)

#: Of the snapshot's shape. Another one is not read: the book is made anew from the whole journal.
VERSION: Final = 1


class Terms(BaseModel):
    """What an order is to be changed to."""

    quantity: int
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    validity: Validity
    by: str = ""
    chase: bool = False


class Call(BaseModel):
    """A write that has left, or is about to; and nobody has told yet what became of it."""

    what: What
    attempt: int
    sent_ts: int
    lost: bool = False  # being asked about
    arrival_ts: int = 0  # of a lost one: later it cannot arrive


class OrderRecord(BaseModel):
    """An order as people see it, and what only the desk needs to know."""

    order: Order
    origin: Origin = Origin.MANUAL
    reduces: bool = False
    protection: Decimal | None = None  # percent: it stands for a market order
    reference: Decimal | None = None
    attempt: int = 0  # calls of all kinds, numbered
    call: Call | None = None
    not_before_ts: int = 0
    cancel: str = ""  # by whom it is asked for
    cancel_taken: bool = False  # the venue took the request
    change: Terms | None = None
    written_off: bool = False
    foreign: bool = False  # somebody else's
    seen_ts: int = 0  # the venue's
    version: int = 0
    words: str = ""
    trades: list[str] = []
    traded_quantity: int = 0
    traded_value: Decimal = ZERO
    past: bool = False  # of an earlier day: not shown any more, and known if the venue should tell of it again
    working_ts: int = 0  # on the book since, or since its last chase
    chases: int = 0
    retries: int = 0  # of a place that did nothing

    @property
    def state(self) -> State:
        return WRITTEN_OFF if self.written_off else self.order.status

    @property
    def live(self) -> bool:
        return self.order.status not in FINAL

    @property
    def untold(self) -> int:
        """Filled, says the order, and no trade has told it yet."""
        return max(0, self.order.filled_quantity - self.traded_quantity)

    @property
    def rest(self) -> int:
        return max(0, self.order.quantity - self.order.filled_quantity)


class GttRecord(BaseModel):
    state: GttState
    command: str = ""
    attempt: int = 0
    call: Call | None = None
    not_before_ts: int = 0
    asked: What | None = None  # of the venue, where it is the one who watches
    request: NewGtt | None = None
    told: VenueGtt | None = None
    known_ts: int = 0  # when the venue's id of it came, epoch ms
    cancel_lost: bool = False  # nobody knows whether a cancellation was heard
    code: str = ""  # what the venue turned down last, and its words
    words: str = ""

    @property
    def ours(self) -> bool:
        return self.state.gtt.engine is Engine.OURS


class PositionRecord(BaseModel):
    instrument: str
    product: Product
    quantity: int = 0
    average_price: Decimal = ZERO
    buy_quantity: int = 0
    buy_value: Decimal = ZERO
    sell_quantity: int = 0
    sell_value: Decimal = ZERO
    realised: Decimal = ZERO
    charges: Decimal = ZERO
    strategies: dict[str, int] = {}
    ts: int = 0


class Flatten(BaseModel):
    by: str
    instrument: str
    product: Product
    strategy: str | None = None
    asked_ts: int
    tries: int = 0


class AccountRecord(BaseModel):
    mode: TradingMode
    day: str = ""
    flow: Decimal = ZERO  # cash in and out by trades since the beginning, charges too
    flows: dict[str, Decimal] = {}  # the same by strategy
    day_equity: Decimal | None = None  # when the day was opened
    day_own: dict[str, Decimal] = {}
    peak: Decimal | None = None
    charges: Decimal = ZERO  # of the day
    trades: int = 0
    trades_own: dict[str, int] = {}
    breached: str = ""  # today
    positions: dict[str, PositionRecord] = {}  # `instrument|product`
    flattening: dict[str, Flatten] = {}  # the same
    writes: list[tuple[int, bool]] = []  # (epoch ms, reduces) of the last half hour
    funds: Funds | None = None
    funds_ts: int = 0
    holdings: tuple[VenueHolding, ...] = ()


class Intent(BaseModel):
    ts: int
    orders: tuple[str, ...] = ()
    gtt: str = ""
    refused: bool = False


class CommandRecord(BaseModel):
    ts: int
    told: Commanded
    replied: bool = False
    ok: bool = True
    rule: str = ""
    reason: str = ""


class Switch(BaseModel):
    mode: StrategyMode | None = None
    ts: int = 0
    last_signal_ts: int = 0
    signals: int = 0  # today


class Book(BaseModel):
    n: int = 0  # of the last fact
    halted: str = ""
    accounts: dict[TradingMode, AccountRecord] = {}
    orders: dict[str, OrderRecord] = {}
    gtts: dict[str, GttRecord] = {}
    fills: dict[str, Fill] = {}  # of the day
    intents: dict[str, Intent] = {}
    commands: dict[str, CommandRecord] = {}
    strategies: dict[str, Switch] = {}

    _by_venue: dict[tuple[TradingMode, str], str] = PrivateAttr(default_factory=dict)
    _live: dict[str, None] = PrivateAttr(default_factory=dict)
    _waiting: dict[str, None] = PrivateAttr(default_factory=dict)
    _gtts: GttIndex = PrivateAttr(default_factory=GttIndex)

    def model_post_init(self, _: object) -> None:
        for record in self.orders.values():
            self.index(record)
        for gtt in self.gtts.values():
            self.index_gtt(gtt)
        self._waiting = {command: None for command, held in self.commands.items() if not held.replied}

    def index(self, record: OrderRecord) -> None:
        """After each change of a record."""
        order = record.order
        if order.venue_order_id:
            self._by_venue[order.mode, order.venue_order_id] = order.order_id
        if record.live or record.untold:
            self._live[order.order_id] = None
        else:
            self._live.pop(order.order_id, None)

    def forget(self, order_id: str) -> None:
        record = self.orders.pop(order_id)
        self._by_venue.pop((record.order.mode, record.order.venue_order_id), None)
        self._live.pop(order_id, None)

    def index_gtt(self, record: GttRecord) -> None:
        """After each change of a record."""
        called = record.asked is not None or record.call is not None
        self._gtts.note(record.state.gtt.gtt_order_id, record.state, called=called)

    def forget_gtt(self, gtt_id: str) -> None:
        record = self.gtts.pop(gtt_id)
        self._gtts.forget(gtt_id, record.state.gtt.instrument)

    def live_gtts(self, instrument: str | None = None) -> list[GttRecord]:
        """Of an instrument, or all."""
        return [self.gtts[gtt_id] for gtt_id in self._gtts.live(instrument)]

    def guarded(self) -> list[str]:
        """Instruments with a live GTT."""
        return self._gtts.instruments()

    def engines(self) -> Mapping[Engine, int]:
        """How many live GTTs each watches."""
        return self._gtts.engines

    def called_gtts(self) -> list[GttRecord]:
        """Of which something is asked of a venue, or is to be."""
        return [self.gtts[gtt_id] for gtt_id in self._gtts.called()]

    def due_gtts(self, now_ms: int) -> list[GttRecord]:
        """Whose timer has come; each is told once for a time."""
        return [self.gtts[gtt_id] for gtt_id in self._gtts.due(now_ms)]

    def ended_gtts(self, market_ms: int) -> list[GttRecord]:
        """Whose validity has ended, by the market's clock; each is told once for a time."""
        return [self.gtts[gtt_id] for gtt_id in self._gtts.ended(market_ms * 1000)]

    def account(self, mode: TradingMode) -> AccountRecord:
        found = self.accounts.get(mode)
        if found is None:
            found = self.accounts[mode] = AccountRecord(mode=mode)
        return found

    def order(self, order_id: str) -> OrderRecord | None:
        """By our id, or by a venue's."""
        found = self.orders.get(order_id)
        if found is not None:
            return found
        for mode in TradingMode:
            if (record := self.at_venue(mode, order_id)) is not None:
                return record
        return None

    def at_venue(self, mode: TradingMode, venue_order_id: str) -> OrderRecord | None:
        ours = self._by_venue.get((mode, venue_order_id))
        return self.orders.get(ours) if ours is not None else None

    def gtt(self, gtt_id: str) -> GttRecord | None:
        found = self.gtts.get(gtt_id)
        if found is not None:
            return found
        return next((held for held in self.gtts.values() if held.state.gtt.venue_gtt_order_id == gtt_id), None)

    def live(self, mode: TradingMode | None = None) -> Iterator[OrderRecord]:
        """Orders to which something may still happen, and those with fills that no trade has told."""
        for order_id in list(self._live):
            record = self.orders[order_id]
            if mode is None or record.order.mode is mode:
                yield record

    @property
    def waiting(self) -> list[str]:
        """Commands without their answer."""
        return list(self._waiting)

    def wait(self, command: str, waits: bool) -> None:
        if waits:
            self._waiting[command] = None
        else:
            self._waiting.pop(command, None)

    def held(self, mode: TradingMode, instrument: str, product: Product) -> int:
        """Units of the position, with what orders say is filled and no trade has told yet."""
        position = self.account(mode).positions.get(key_of(instrument, product))
        units = position.quantity if position else 0
        for record in self.live(mode):
            order = record.order
            if order.instrument == instrument and order.product is product:
                units += order.side.sign * record.untold
        return units

    def working(self, mode: TradingMode, instrument: str, product: Product) -> Iterator[OrderRecord]:
        """Orders that may still be filled."""
        for record in self.live(mode):
            order = record.order
            if record.live and order.instrument == instrument and order.product is product:
                yield record

    def on_the_way(self, mode: TradingMode, instrument: str, product: Product, side: Side) -> int:
        return sum(record.rest for record in self.working(mode, instrument, product) if record.order.side is side)

    def unknown(self, mode: TradingMode) -> int:
        return sum(record.order.status is OrderStatus.UNKNOWN for record in self.live(mode))


def key_of(instrument: str, product: Product) -> str:
    return f"{instrument}|{product.value}"
