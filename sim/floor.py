"""Where orders wait and meet the market: a book for each instrument that has any, and the stops.

It decides nothing about an order's life: it says what was filled and what was triggered.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from market.instruments import Instrument
from sim import rules
from sim.auctions import Auction
from sim.book import depth
from sim.faults import Faults
from sim.market import Market, Update
from sim.matching import Book, Fill, Level, Resting
from sim.orders import ZERO, Order, decimal
from sim.rules import Quote

_LEVELS: Final = 30  # what the fullest mode of the feed shows


class Floor:
    def __init__(self, market: Market, faults: Faults) -> None:
        self.market = market
        self._faults = faults
        self._books: dict[str, Book] = {}  # of instruments in which orders wait, or have taken something
        self._stops: dict[str, dict[str, Order]] = {}  # instrument -> what waits for its trigger

    def move_to(self, market: Market) -> None:
        """Another day: everybody has gone home."""
        self.market = market
        self._books.clear()
        self._stops.clear()

    # --- what the market says ----------------------------------------------------------------------------------------

    def last(self, key: str) -> Decimal:
        """The last price of an instrument; zero for what is not listed."""
        row = self.market.listing.row_of.get(key)
        return ZERO if row is None else decimal(float(self.market.ltp[row]))

    def close(self, key: str) -> Decimal:
        """The last day's close."""
        row = self.market.listing.row_of.get(key)
        return ZERO if row is None else decimal(float(self.market.cp[row]))

    def quote(self, instrument: Instrument) -> Quote:
        market, row = self.market, self.market.listing.row_of.get(instrument.key)
        if row is None:
            return Quote(ZERO, ZERO, ZERO)
        last, low, high = (decimal(float(each[row])) for each in (market.ltp, market.band_low, market.band_high))
        return Quote(last, low, high)

    # --- orders ------------------------------------------------------------------------------------------------------

    def enter(self, order: Order, number: int, *, rests: bool) -> list[Fill]:
        """What an order gets as it arrives in continuous trading. Without `rests` nothing of it stays."""
        key = order.instrument.key
        fills = self._book(key).enter(_resting(order, number), most=self._most(order.instrument), rests=rests)
        self._tidy(key)
        return fills

    def collect(self, order: Order, number: int) -> None:
        """An order waits for an auction to match."""
        self._book(order.instrument.key).collect(_resting(order, number))

    def wait(self, order: Order) -> None:
        """An order waits for its trigger."""
        self._stops.setdefault(order.instrument.key, {})[order.order_id] = order

    def shrink(self, order: Order) -> None:
        """What is pending of an order has become less; it keeps its place."""
        key = order.instrument.key
        if order.order_id in self._stops.get(key, {}):
            self._stops[key][order.order_id] = order
        elif book := self._books.get(key):
            book.shrink(order.order_id, order.pending_quantity)

    def withdraw(self, order: Order) -> None:
        key = order.instrument.key
        if book := self._books.get(key):
            book.remove(order.order_id)
        self._stops.get(key, {}).pop(order.order_id, None)
        self._tidy(key)

    def waiting(self) -> Iterator[Resting]:
        """All that rests in books."""
        for book in self._books.values():
            yield from book.resting

    def stops(self) -> Iterator[str]:
        for waiting in self._stops.values():
            yield from waiting

    # --- the market goes on ------------------------------------------------------------------------------------------

    def match(self, update: Update, fill: Callable[[list[Fill]], None]) -> None:
        """New quotes first, then what was traded."""
        if not self._books:
            return
        market, trades = self.market, update.trades
        keys = list(self._books)
        rows = np.array([market.listing.row_of[key] for key in keys], np.int64)
        epochs = market.epoch[rows].tolist()
        starts = np.searchsorted(trades.row, rows, "left").tolist()
        ends = np.searchsorted(trades.row, rows, "right").tolist()
        stale = [key for key, epoch in zip(keys, epochs, strict=True) if self._books[key].epoch != epoch]
        self._show(stale)
        for key in stale:
            fill(self._books[key].cross(most=self._most_of(key)))
        for key, start, end in zip(keys, starts, ends, strict=True):
            if start < end:
                price, units = round(float(trades.price[start]) * 100), int(trades.quantity[start:end].sum())
                fill(self._books[key].printed(price, units, most=self._most_of(key)))
            self._tidy(key)

    def triggered(self, update: Update) -> list[Order]:
        """The stops that the trades of an interval have set off; they wait no longer."""
        if not self._stops:
            return []
        changed, row_of, found = set(update.rows.tolist()), self.market.listing.row_of, []
        for key in [each for each in self._stops if row_of[each] in changed]:
            last = self.last(key)
            hit = [each for each in self._stops[key].values() if rules.is_triggered(each, last)]
            for each in hit:
                del self._stops[key][each.order_id]
            found += hit
            self._tidy(key)
        return found

    def settled(self, since_ms: int, until_ms: int) -> Iterator[tuple[Auction, list[Fill]]]:
        """The auctions that have matched in [since, until)."""
        for auction in self.market.auctions:
            if since_ms <= auction.match_ms < until_ms:
                instrument = self.market.listing.instruments[auction.row]
                if book := self._books.get(instrument.key):
                    price, most = round(auction.price * 100), self._most(instrument)
                    yield auction, book.auctioned(price, auction.quantity, most=most)
                    self._tidy(instrument.key)

    # --- books -------------------------------------------------------------------------------------------------------

    def _book(self, key: str) -> Book:
        """As the feed shows it now."""
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = Book()
        if book.epoch != int(self.market.epoch[self.market.listing.row_of[key]]):
            self._show([key])
        return book

    def _show(self, keys: list[str]) -> None:
        """Bring the books of instruments to what the feed shows."""
        if not keys:
            return
        market = self.market
        rows = np.array([market.listing.row_of[key] for key in keys], np.int64)
        epochs = market.epoch[rows]
        shown = depth(market.columns, rows, market.bid[rows], market.ask[rows], epochs, _LEVELS)
        bids, asks = _paise(shown.bid), _paise(shown.ask)
        for place, key in enumerate(keys):
            self._books[key].show(
                int(epochs[place]),
                _levels(bids[place], shown.bid_qty[place].tolist()),
                _levels(asks[place], shown.ask_qty[place].tolist()),
            )

    def _tidy(self, key: str) -> None:
        """A book in which nobody waits is not followed. What was taken from it counts as long as it is shown."""
        book = self._books.get(key)
        if book is not None and not book.resting and not book.is_thinned:
            del self._books[key]
        if key in self._stops and not self._stops[key]:
            del self._stops[key]

    def _most(self, instrument: Instrument) -> int | None:
        """How much of an order may trade at a time."""
        if self._faults.no_fills:
            return 0
        return self._faults.partial_fills * instrument.lot_size or None

    def _most_of(self, key: str) -> int | None:
        return self._most(self.market.listing.instruments[self.market.listing.row_of[key]])


def _resting(order: Order, number: int) -> Resting:
    limit = int(order.limit_price * 100)
    return Resting(order.order_id, order.is_buy, limit, order.pending_quantity, number)


def _paise(prices: npt.NDArray[np.float64]) -> list[list[int]]:
    found: list[list[int]] = np.rint(prices * 100).astype(np.int64).tolist()
    return found


def _levels(prices: list[int], quantities: list[int]) -> list[Level]:
    return [level for level in zip(prices, quantities, strict=True) if level[0] and level[1]]
