"""The exchange's own book beside our journal: order by order, fill by fill, GTT by GTT."""

from collections import Counter
from decimal import Decimal
from typing import Any, Final

import httpx

from gtt.book.book import Book
from gtt.book.facts import FACT, Approved
from gtt.book.fold import apply
from schemas.orders import FINAL, OrderStatus, TradingMode
from tests.end_to_end.orders_town import Town

_WORDS: Final = {
    "complete": OrderStatus.COMPLETE,
    "cancelled": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}
_NEAR: Final = Decimal("0.001")


class Compared:
    """Differences, in words. None: the books agree."""

    def __init__(
        self, book: Book, approved: set[str], orders: list[dict[str, Any]], gtts: list[dict[str, Any]]
    ) -> None:
        self.book = book
        self.approved = approved
        self.orders = orders
        self.gtts = gtts
        self.differences: list[str] = []

    def all(self) -> list[str]:
        self._tags()
        self._orders()
        self._fills()
        self._gtts()
        return self.differences

    def _say(self, what: str) -> None:
        self.differences.append(what)

    def _tags(self) -> None:
        tags = Counter(each["tag"] for each in self.orders if each["tag"])
        for tag, count in tags.items():
            if count > 1:
                self._say(f"{tag} is at the exchange {count} times")
            if tag not in self.approved:
                self._say(f"{tag} is at the exchange, and nobody approved it")
        for order_id in self.approved - tags.keys():
            order = self.book.orders[order_id].order
            if order.status not in (OrderStatus.REJECTED, OrderStatus.CANCELLED) or order.filled_quantity:
                self._say(f"{order_id} is not at the exchange: {order}")

    def _orders(self) -> None:
        live = TradingMode.LIVE
        for theirs in self.orders:
            record = self.book.at_venue(live, theirs["order_id"])
            if record is None:
                self._say(f"the journal has never heard of {theirs['order_id']}")
                continue
            ours = record.order
            if ours.status is not _WORDS.get(theirs["status"]):
                self._say(f"{ours.order_id} is {theirs['status']}, we believe {ours.status.value}: {ours}")
            if ours.filled_quantity != theirs["filled_quantity"]:
                self._say(f"{ours.order_id}: {theirs['filled_quantity']} filled, we believe {ours.filled_quantity}")
            if abs(ours.average_price - _exact(theirs["trades"])) > _NEAR:
                self._say(f"{ours.order_id}: at {_exact(theirs['trades'])}, we believe {ours.average_price}")
        for record in self.book.orders.values():
            if record.order.status not in FINAL:
                self._say(f"{record.order.order_id} has no end: {record.order}")

    def _fills(self) -> None:
        theirs = Counter(
            (each["order_id"], trade["trade_id"], trade["quantity"], Decimal(repr(trade["price"])))
            for each in self.orders
            for trade in each["trades"]
        )
        ours = Counter(
            (fill.venue_order_id, fill.trade_id, fill.quantity, fill.price)
            for fill in self.book.fills.values()
            if fill.mode is TradingMode.LIVE
        )
        self.differences += [f"we do not have the fill {each}" for each in (theirs - ours).elements()]
        self.differences += [f"nobody made the fill {each}" for each in (ours - theirs).elements()]

    def _gtts(self) -> None:
        ours: Counter[str] = Counter()
        for record in self.book.gtts.values():
            if record.state.gtt.live:
                self._say(f"{record.state.gtt.gtt_order_id} has no end: {record.state.gtt}")
            if record.state.gtt.venue_gtt_order_id:
                ours[record.state.gtt.venue_gtt_order_id] += 1
        theirs = Counter(each["gtt_order_id"] for each in self.gtts)
        self.differences += [f"the GTT {each} is nobody's" for each in (theirs - ours).elements()]
        self.differences += [f"the GTT {each} is not at the exchange" for each in (ours - theirs).elements()]
        self.differences += [f"the GTT {each['gtt_order_id']} lives on" for each in self.gtts if each["live"]]


def _exact(trades: list[dict[str, Any]]) -> Decimal:
    units = sum(each["quantity"] for each in trades)
    value = sum((Decimal(repr(each["price"])) * each["quantity"] for each in trades), Decimal(0))
    return value / units if units else Decimal(0)


async def folded(town: Town) -> tuple[Book, set[str]]:
    """The journal from its beginning, and the orders that it approves."""
    book, approved = Book(), set()
    for row in await town.rows("SELECT n, data FROM journal ORDER BY n"):
        fact = FACT.validate_json(row["data"])
        apply(book, row["n"], fact)
        if isinstance(fact, Approved):
            approved |= {order.order_id for order in fact.orders if order.mode is TradingMode.LIVE}
    return book, approved


async def differences(town: Town) -> list[str]:
    async with httpx.AsyncClient(base_url=town.exchange.url, trust_env=False) as client:
        orders = (await client.get("/sim/orders")).json()["data"]
        gtts = (await client.get("/sim/gtts")).json()["data"]
    book, approved = await folded(town)
    found = Compared(book, approved, orders, gtts).all()
    held = {(p.instrument.key, p.product): p.quantity for p in town.exchange.trading.positions() if p.quantity}
    ours = book.account(TradingMode.LIVE).positions.values()
    believed = {(p.instrument, p.product.value): p.quantity for p in ours if p.quantity}
    return found if held == believed else [*found, f"held: {held}, we believe {believed}"]
