"""Simulated fills beside what the market did: which could have happened, how their prices compare, what was missed.

The measure is the minute bar. It says whether the market traded at a price in a minute, not when in it, and not how
much of its volume was there: a verdict of "reached" is an upper bound, one of "not reached" is certain. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from statistics import median
from typing import Any, Final, NamedTuple

from brokers.paper.facts import Changed, Ended, Fact, Filled, How, Opened, Placed, Triggered
from schemas.orders import OrderType, Side

MINUTE_MS: Final = 60_000
_BPS: Final = 10_000
_STOPS: Final = (OrderType.SL, OrderType.SL_M)
_FOREVER: Final = 1 << 62


class Minute(NamedTuple):
    """What of a bar is needed."""

    ts: int  # its start, epoch ms
    high: Decimal
    low: Decimal
    volume: int
    vwap: Decimal | None
    complete: bool


class Verdict(StrEnum):
    THROUGH = "through"  # the market traded at a better price than the fill's: anybody there was filled
    AT = "at"  # exactly there, at best: some were filled
    NOT_REACHED = "not_reached"
    NO_BAR = "no_bar"


@dataclass(frozen=True, slots=True)
class FillSeen:
    """One simulated fill, and the market of its minute and the next."""

    order_id: str  # the tag; else the venue's
    instrument: str
    side: Side
    quantity: int
    price: Decimal
    how: How
    ts: int
    verdict: Verdict
    volume: int  # of the minutes that reached the price
    low: Decimal | None  # of its own minute, like the next three
    high: Decimal | None
    vwap: Decimal | None
    slippage_bps: float | None  # against the vwap; positive: worse than the market
    complete: bool

    @property
    def is_believable(self) -> bool:
        return self.verdict in (Verdict.THROUGH, Verdict.AT) and self.volume >= self.quantity


@dataclass(frozen=True, slots=True)
class Missed:
    """An order that waited while the market traded through its price for a whole minute."""

    order_id: str
    instrument: str
    side: Side
    quantity: int  # unfilled then
    price: Decimal
    ts: int  # of the first such minute
    volume: int  # of all such minutes


@dataclass(frozen=True, slots=True)
class Slippage:
    """Basis points against the minute's vwap; positive: worse than the market. By fills, the mean by value."""

    fills: int
    mean: float
    median: float
    p90: float
    worst: float
    best: float
    rupees: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    orders: int
    fills: tuple[FillSeen, ...]
    missed: tuple[Missed, ...]
    slippage: Slippage | None

    def count(self, verdict: Verdict) -> int:
        return sum(fill.verdict is verdict for fill in self.fills)

    @property
    def too_large(self) -> int:
        """Fills of more than all that traded there."""
        reached = (fill for fill in self.fills if fill.verdict in (Verdict.THROUGH, Verdict.AT))
        return sum(not fill.is_believable for fill in reached)

    @property
    def estimated(self) -> int:
        return sum(fill.how in (How.BEYOND, How.LAST) for fill in self.fills)


def compared(facts: Sequence[Fact], bars: Mapping[str, Sequence[Minute]]) -> Report:
    """`facts` of whole orders, in their order; `bars` of their instruments."""
    placed = {fact.venue_order_id: fact for fact in facts if isinstance(fact, Placed)}
    by_minute = {key: {minute.ts: minute for minute in minutes} for key, minutes in bars.items()}
    fills = tuple(
        _seen(fact, order, by_minute.get(order.instrument, {}))
        for fact in facts
        if isinstance(fact, Filled) and (order := placed.get(fact.venue_order_id))
    )
    missed = (_missed(order, _waits(order, facts), bars.get(order.instrument, ())) for order in placed.values())
    return Report(len(placed), fills, tuple(each for each in missed if each), _slippage(fills))


def _seen(fact: Filled, order: Placed, minutes: Mapping[int, Minute]) -> FillSeen:
    start = fact.ts - fact.ts % MINUTE_MS
    own, following = minutes.get(start), minutes.get(start + MINUTE_MS)
    both = [minute for minute in (own, following) if minute]
    ranks = [_rank(order.side, fact.price, minute) for minute in both]
    verdict = max(ranks, key=_ORDER.index, default=Verdict.NO_BAR)
    reached = (minute.volume for minute, rank in zip(both, ranks, strict=True) if rank is not Verdict.NOT_REACHED)
    vwap = own.vwap if own else None
    return FillSeen(
        order_id=order.tag or order.venue_order_id,
        instrument=order.instrument,
        side=order.side,
        quantity=fact.quantity,
        price=fact.price,
        how=fact.how,
        ts=fact.ts,
        verdict=verdict,
        volume=sum(reached),
        low=own.low if own else None,
        high=own.high if own else None,
        vwap=vwap,
        slippage_bps=float(order.side.sign * (fact.price - vwap) / vwap * _BPS) if vwap else None,
        complete=bool(both) and all(minute.complete for minute in both),
    )


_ORDER: Final = (Verdict.NO_BAR, Verdict.NOT_REACHED, Verdict.AT, Verdict.THROUGH)


def _rank(side: Side, price: Decimal, minute: Minute) -> Verdict:
    best = minute.low if side is Side.BUY else minute.high
    if best == price:
        return Verdict.AT
    return Verdict.THROUGH if (price - best) * side.sign > 0 else Verdict.NOT_REACHED


class _Wait(NamedTuple):
    """An order at one price."""

    from_ms: int
    to_ms: int
    price: Decimal
    left: int


def _waits(order: Placed, facts: Iterable[Fact]) -> list[_Wait]:
    """When an order waited, for how many units, at which price: a stop only since its trigger."""
    found: list[_Wait] = []
    start, price, quantity, filled = order.match_ms, order.price, order.quantity, 0
    is_live = order.order_type not in _STOPS
    for fact in facts:
        if isinstance(fact, Opened | Placed) or fact.venue_order_id != order.venue_order_id:
            continue
        if is_live and fact.ts > start:
            found.append(_Wait(start, fact.ts, price, quantity - filled))
        start = max(start, fact.ts)
        if isinstance(fact, Changed):
            start, price, quantity = max(start, fact.match_ms), fact.price, fact.quantity
            is_live = is_live or fact.order_type not in _STOPS
        elif isinstance(fact, Triggered):
            is_live, price = True, fact.price
        elif isinstance(fact, Filled):
            filled += fact.quantity
        if isinstance(fact, Ended) or filled == quantity:
            return found
    if is_live:
        found.append(_Wait(start, _FOREVER, price, quantity - filled))
    return found


def _missed(order: Placed, waits: Sequence[_Wait], minutes: Sequence[Minute]) -> Missed | None:
    through = [
        (wait, minute)
        for wait in waits
        for minute in minutes
        if wait.from_ms <= minute.ts and minute.ts + MINUTE_MS <= wait.to_ms
        if minute.volume and _rank(order.side, wait.price, minute) is Verdict.THROUGH
    ]
    if not through:
        return None
    wait, first = through[0]
    return Missed(
        order_id=order.tag or order.venue_order_id,
        instrument=order.instrument,
        side=order.side,
        quantity=wait.left,
        price=wait.price,
        ts=first.ts,
        volume=sum(minute.volume for _, minute in through),
    )


def _slippage(fills: Sequence[FillSeen]) -> Slippage | None:
    known = [(fill.slippage_bps, fill) for fill in fills if fill.slippage_bps is not None]
    if not known:
        return None
    bps = sorted(told for told, _ in known)
    value = sum(float(fill.price) * fill.quantity for _, fill in known)
    return Slippage(
        fills=len(bps),
        mean=sum(told * float(fill.price) * fill.quantity for told, fill in known) / value,
        median=median(bps),
        p90=bps[min(len(bps) * 9 // 10, len(bps) - 1)],
        worst=bps[-1],
        best=bps[0],
        rupees=sum(
            (fill.side.sign * (fill.price - fill.vwap) * fill.quantity for _, fill in known if fill.vwap), Decimal(0)
        ),
    )


def as_dict(report: Report) -> dict[str, Any]:
    """For programs."""
    slippage = report.slippage
    return {
        "orders": report.orders,
        "fills": len(report.fills),
        "verdicts": {verdict.value: report.count(verdict) for verdict in Verdict},
        "too_large": report.too_large,
        "estimated": report.estimated,
        "slippage_bps": None if slippage is None else {name: _plain(value) for name, value in _items(slippage)},
        "missed": [{name: _plain(value) for name, value in _items(each)} for each in report.missed],
        "each": [
            {name: _plain(value) for name, value in _items(fill)} | {"believable": fill.is_believable}
            for fill in report.fills
        ],
    }


def _items(record: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(record, name)) for name in record.__slots__]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
