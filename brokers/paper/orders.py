"""An order in the paper venue's book, and how the venue tells it. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal

from brokers.paper.facts import Changed, Ended, Filled, How, Placed, Triggered, value_of
from brokers.paper.matching import Queue, scaled
from brokers.venue import VenueOrder, VenueTrade
from market.charges import Traded
from market.sessions import trading_date
from schemas.money import ZERO
from schemas.orders import FINAL, OrderStatus, OrderType, Product, Side, Validity
from schemas.streams import instrument_id

_ESTIMATES = {
    How.BEYOND: "estimate: {} units beyond the depth that the feed shows",
    How.LAST: "estimate: {} units at the last price, the feed has no depth",
}
_DIGITS = Decimal("0.0001")


@dataclass(slots=True)
class PaperOrder:
    venue_order_id: str
    tag: str
    instrument: str
    number: int  # of the instrument, in tick records
    side: Side
    product: Product
    quantity: int
    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    validity: Validity
    placed: Placed
    match_ms: int
    seq: int  # of its place in time
    ts: int
    status: OrderStatus
    filled: int = 0
    value: Decimal = ZERO
    version: int = 0
    ended: str = ""
    triggered: bool = False
    estimated: dict[How, int] = field(default_factory=dict)
    # What is not remembered over a restart
    is_tried: bool = False  # it has met a book: from now on it waits at its price
    queue: Queue = field(default_factory=Queue)

    @classmethod
    def of(cls, fact: Placed) -> "PaperOrder":
        return cls(
            venue_order_id=fact.venue_order_id,
            tag=fact.tag,
            instrument=fact.instrument,
            number=instrument_id(fact.instrument),
            side=fact.side,
            product=fact.product,
            quantity=fact.quantity,
            order_type=fact.order_type,
            price=fact.price,
            trigger_price=fact.trigger_price,
            validity=fact.validity,
            placed=fact,
            match_ms=fact.match_ms,
            seq=fact.seq,
            ts=fact.ts,
            status=_standing(fact.order_type),
        )

    @property
    def is_open(self) -> bool:
        return self.status not in FINAL

    @property
    def is_stop(self) -> bool:
        """Waits for its trigger."""
        return self.order_type in (OrderType.SL, OrderType.SL_M) and not self.triggered

    @property
    def left(self) -> int:
        return self.quantity - self.filled

    @property
    def limit(self) -> int:
        return scaled(self.price)

    @property
    def ends_ms(self) -> int:
        return self.placed.hours[-1][1]

    def can_match(self, ts: int) -> bool:
        return ts >= self.match_ms and any(start <= ts < end for start, end in self.placed.hours)

    def take(self, fact: Changed | Triggered | Filled | Ended) -> None:
        """What happened to it."""
        if isinstance(fact, Changed):
            self.change(fact)
        elif isinstance(fact, Triggered):
            self.trigger(fact)
        elif isinstance(fact, Filled):
            self.fill(fact)
        else:
            self.end(fact)

    def change(self, fact: Changed) -> None:
        self.quantity, self.price, self.trigger_price = fact.quantity, fact.price, fact.trigger_price
        self.order_type, self.validity = fact.order_type, fact.validity
        self.match_ms, self.seq, self.ts = fact.match_ms, fact.seq, fact.ts
        self.version += 1
        self.status = OrderStatus.OPEN if self.triggered else _standing(fact.order_type)
        self.is_tried, self.queue = False, Queue()

    def trigger(self, fact: Triggered) -> None:
        self.triggered, self.price, self.status, self.ts = True, fact.price, OrderStatus.OPEN, fact.ts

    def fill(self, fact: Filled) -> None:
        self.filled += fact.quantity
        self.value += value_of(fact)
        self.ts = fact.ts
        if fact.how in _ESTIMATES:
            self.estimated[fact.how] = self.estimated.get(fact.how, 0) + fact.quantity
        if not self.left:
            self.status = OrderStatus.COMPLETE

    def end(self, fact: Ended) -> None:
        self.status, self.ended, self.ts = fact.status, fact.reason, fact.ts

    def traded(self, plan: str) -> Traded:
        on = trading_date(self.placed.ts)
        return Traded(self.placed.terms.kind, self.side, self.filled, self.value, on, plan, self.instrument)

    def told(self) -> VenueOrder:
        told = [text.format(self.estimated[how]) for how, text in _ESTIMATES.items() if how in self.estimated]
        return VenueOrder(
            venue_order_id=self.venue_order_id,
            tag=self.tag,
            instrument=self.instrument,
            side=self.side,
            quantity=self.quantity,
            filled_quantity=self.filled,
            average_price=rounded(self.value / self.filled) if self.filled else ZERO,
            price=self.price,
            trigger_price=self.trigger_price,
            order_type=self.order_type,
            product=self.product,
            validity=self.validity,
            status=self.status,
            words=self.status.value,
            reason="; ".join(filter(None, [self.ended, *told])),
            ts=self.ts,
            version=self.version,
        )

    def trade(self, fact: Filled) -> VenueTrade:
        return VenueTrade(
            trade_id=fact.trade_id,
            venue_order_id=self.venue_order_id,
            instrument=self.instrument,
            side=self.side,
            quantity=fact.quantity,
            price=fact.price,
            product=self.product,
            ts=fact.ts,
        )


def rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_DIGITS)


def _standing(order_type: OrderType) -> OrderStatus:
    return OrderStatus.TRIGGER_PENDING if order_type in (OrderType.SL, OrderType.SL_M) else OrderStatus.OPEN
