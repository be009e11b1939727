"""A market for the paper venue: ticks as the feed packs them, and a book in front of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from brokers.paper.book import Book, Conduct, Outcome
from brokers.paper.facts import Ended, Filled, Triggered
from brokers.paper.orders import PaperOrder
from brokers.paper.seen import Seen, view
from brokers.venue import NewOrder
from market.instruments import Instrument
from schemas.orders import OrderType, Product, Side, Validity
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, LEVEL, TICK, Block, Kind, TickBatch, pack, unpack

#: Friday, 20 November 2026, 11:00 IST.
T0 = 1_795_152_600_000
Levels = Sequence[tuple[float, int]]

OPTION = Instrument(
    key="NSE_FO|61755",
    segment="NSE_FO",
    exchange="NSE",
    name="NIFTY",
    trading_symbol="NIFTY 24000 CE 23 NOV 26",
    instrument_type="CE",
    lot_size=65,
    tick_size=0.05,
    freeze_quantity=1800,
    expiry=date(2026, 11, 23),
    strike=24000.0,
    underlying_key="NSE_INDEX|Nifty 50",
    underlying_symbol="NIFTY",
)
FUTURE = replace(
    OPTION, key="NSE_FO|50001", trading_symbol="NIFTY FUT", instrument_type="FUT", strike=None, freeze_quantity=0
)
SHARE = Instrument(
    key="NSE_EQ|INE002A01018",
    segment="NSE_EQ",
    exchange="NSE",
    name="RELIANCE",
    trading_symbol="RELIANCE",
    instrument_type="EQ",
    lot_size=1,
    tick_size=0.1,
    isin="INE002A01018",
)
INDEX = Instrument(
    key="NSE_INDEX|Nifty 50",
    segment="NSE_INDEX",
    exchange="NSE",
    name="Nifty 50",
    trading_symbol="NIFTY",
    instrument_type="INDEX",
    lot_size=0,
    tick_size=0.0,
)
ALL = {each.key: each for each in (OPTION, FUTURE, SHARE, INDEX)}

CONDUCT = Conduct(
    prefix="P",
    plan="upstox",
    dp=Decimal("18.50"),
    capital=Decimal(1_000_000),
    latency_ms=0,
    slippage_bps=Decimal(5),
    always=False,
)


def tick(
    key: str = OPTION.key,
    ts: int = T0,
    *,
    bids: Levels | None = None,
    asks: Levels | None = None,
    ltp: float = 100.0,
    ltq: int = 65,
    vtt: int | None = 10_000,
    totals: tuple[int, int] | None = None,
    cp: float = 95.0,
    touch_only: bool = False,
) -> tuple[str, Any, list[tuple[int, float, int, float]]]:
    """One update. Without bids and asks it is of the mode `ltpc`."""
    rec = np.zeros((), TICK)
    for name in TICK.names or ():
        if rec[name].dtype.kind == "f":
            rec[name] = np.nan
    known = Block.LTPC
    rec["id"], rec["ts"], rec["kind"] = instrument_id(key), ts, Kind.LTPC
    rec["ltp"], rec["ltt"], rec["ltq"], rec["cp"] = ltp, ts, ltq, cp
    levels: list[tuple[int, float, int, float]] = []
    if bids is not None and asks is not None:
        rec["kind"] = Kind.MARKET
        known |= Block.DEPTH | Block.VTT
        rec["vtt"] = vtt or 0
        if bids:
            rec["bid"], rec["bid_qty"] = bids[0]
        if asks:
            rec["ask"], rec["ask_qty"] = asks[0]
        for row in range(0 if touch_only else max(len(bids), len(asks))):
            bid, ask = (side[row] if row < len(side) else (0.0, 0) for side in (bids, asks))
            levels.append((bid[1], bid[0], ask[1], ask[0]))
        if totals is not None:
            known |= Block.TBQ | Block.TSQ
            rec["tbq"], rec["tsq"] = totals
    rec["flags"] = int(known) | int(known) << KNOWN_SHIFT
    rec["levels"] = len(levels)
    return key, rec, levels


def batch(*ticks: tuple[str, Any, list[tuple[int, float, int, float]]]) -> TickBatch:
    """As it comes out of Redis."""
    rec = np.array([one[1] for one in ticks], TICK)
    depth = np.array([row for one in ticks for row in one[2]], LEVEL)
    fields = pack(int(rec["ts"].max()), 0, ",".join(dict.fromkeys(one[0] for one in ticks)), rec, depth)
    return unpack({name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()})


def order(
    side: Side = Side.BUY,
    quantity: int = 65,
    price: str = "0",
    *,
    key: str = OPTION.key,
    trigger: str = "0",
    kind: OrderType = OrderType.LIMIT,
    product: Product = Product.INTRADAY,
    validity: Validity = Validity.DAY,
    protection: str | None = None,
    tag: str = "",
) -> NewOrder:
    return NewOrder(
        order_id=tag,
        instrument=key,
        side=side,
        quantity=quantity,
        product=product,
        order_type=kind,
        price=Decimal(price),
        trigger_price=Decimal(trigger),
        validity=validity,
        market_protection=None if protection is None else Decimal(protection),
    )


class Floor:
    """A book, the ticks that came, and the time."""

    def __init__(self, conduct: Conduct = CONDUCT) -> None:
        self.conduct = conduct
        self.book = Book(conduct)
        self.seen = Seen()
        self.now = T0
        self.log: list[Any] = []
        self.advance(T0)

    def keep(self, outcome: Outcome) -> Outcome:
        self.log += outcome.facts
        return outcome

    def last(self) -> dict[str, Decimal]:
        told = {key: self.seen.last_price(key) for key in ALL}
        return {key: price for key, price in told.items() if price is not None}

    def advance(self, now: int) -> None:
        self.now = max(self.now, now)
        self.keep(self.book.advance(self.now, self.last))

    def ticks(self, *ticks: Any) -> None:
        came = batch(*ticks)
        ids = came.rec["id"].tolist()
        self.seen.keep(came, ids)
        self.now = max(self.now, came.ts)
        for at, number in enumerate(ids):
            if number in self.book.watched:
                self.keep(self.book.match(number, view(came, at), self.now))

    def place(self, new: NewOrder) -> str:
        seen = self.seen.get(new.instrument)
        number, outcome = self.book.place(new, ALL.get(new.instrument), self.now, seen, self.last())
        self.keep(outcome)
        self.stand()
        return number

    def stand(self) -> None:
        for number in self.book.due(self.now):
            if seen := self.seen.of_id(number):
                self.keep(self.book.stand(number, seen, self.now))
            else:
                self.keep(self.book.unseen(number, self.now))

    def order(self, number: str) -> PaperOrder:
        return self.book.order(number)

    def fills(self, number: str | None = None) -> list[tuple[int, str, str]]:
        return [
            (fact.quantity, str(fact.price), fact.how.value)
            for fact in self.log
            if isinstance(fact, Filled) and number in (None, fact.venue_order_id)
        ]

    def ends(self) -> list[str]:
        return [fact.reason for fact in self.log if isinstance(fact, Ended)]

    def triggers(self) -> list[str]:
        return [str(fact.price) for fact in self.log if isinstance(fact, Triggered)]

    def restarted(self) -> "Floor":
        """Another process, with the log and nothing else."""
        other = Floor.__new__(Floor)
        other.conduct, other.book, other.seen, other.now = self.conduct, Book(self.conduct), Seen(), self.now
        other.log = list(self.log)
        start = max(at for at, fact in enumerate(self.log) if fact.kind == "opened")
        for fact in self.log[start:]:
            other.book.apply(type(fact).model_validate_json(fact.model_dump_json()))
        other.book.recovered(fact for fact in self.log[start:] if isinstance(fact, Filled))
        return other
