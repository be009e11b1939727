"""Matching: whatever comes, nobody gets more than there is, worse than the limit, or before their turn."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.matching import Book, Fill, Level, Resting

PRICES = st.integers(95, 105)
QUANTITIES = st.integers(1, 50)


@st.composite
def quotes(draw: st.DrawFn) -> tuple[list[Level], list[Level]]:
    """Both sides of a shown book, which does not cross itself; either may be empty."""
    middle = draw(st.integers(97, 103))
    bids = draw(
        st.lists(st.tuples(st.integers(94, middle - 1), QUANTITIES), max_size=4, unique_by=lambda each: each[0])
    )
    asks = draw(st.lists(st.tuples(st.integers(middle, 106), QUANTITIES), max_size=4, unique_by=lambda each: each[0]))
    return sorted(bids, reverse=True), sorted(asks)


EVENTS = st.one_of(
    st.tuples(st.just("show"), quotes()),
    st.tuples(st.just("enter"), st.tuples(st.booleans(), PRICES, QUANTITIES, st.booleans())),
    st.tuples(st.just("print"), st.tuples(PRICES, QUANTITIES)),
    st.tuples(st.just("auction"), st.tuples(PRICES, QUANTITIES)),
    st.tuples(st.just("remove"), st.integers(0, 12)),
)


class Play:
    """A book under a stream of events, and what everybody has got."""

    def __init__(self, most: int | None = None) -> None:
        self.book = Book()
        self.most = most
        self.asked: dict[str, Resting] = {}
        self.wanted: dict[str, int] = {}
        self.got: Counter[str] = Counter()
        self.fills: list[Fill] = []

    def do(self, name: str, given_: Any) -> list[Fill]:
        match name, given_:
            case "show", (bids, asks):
                self.book.show(self.book.epoch + 1, bids, asks)
                fills = self.book.cross(most=self.most)
            case "enter", (is_buy, limit, quantity, rests):
                number = len(self.asked)
                order = Resting(f"{number}", is_buy, limit, quantity, number)
                self.asked[order.order_id], self.wanted[order.order_id] = order, quantity
                fills = self.book.enter(order, most=self.most, rests=rests)
            case "print", (price, quantity):
                fills = self.book.printed(price, quantity, most=self.most)
            case "auction", (price, quantity):
                fills = self.book.auctioned(price, quantity, most=self.most)
            case _:
                self.book.remove(f"{given_}")
                fills = []
        self.got.update({fill.order_id: 0 for fill in fills})
        for fill in fills:
            self.got[fill.order_id] += fill.quantity
        self.fills += fills
        return fills


@given(st.lists(EVENTS, max_size=30), st.sampled_from([None, None, 7]))
def test_no_fill_is_beyond_the_limit_and_none_gets_more_than_was_asked(
    events: list[tuple[str, Any]], most: int | None
) -> None:
    play = Play(most)
    for name, given_ in events:
        for fill in play.do(name, given_):
            assert fill.quantity > 0
            assert play.asked[fill.order_id].reaches(fill.price)
    for order_id, wanted in play.wanted.items():
        assert play.got[order_id] + play.asked[order_id].quantity == wanted
    assert all(each.quantity > 0 for each in play.book.resting)


@given(st.lists(EVENTS, max_size=30))
def test_who_is_better_or_came_sooner_has_all_before_the_next_one_has_anything(
    events: list[tuple[str, Any]],
) -> None:
    play = Play()
    for name, given_ in events:
        before = {each.order_id: each for each in play.book.resting}
        for fill in play.do(name, given_):
            if fill.order_id not in before:
                continue  # it has just come, and is served by what it came to take
            served = before[fill.order_id]
            sooner = [each for each in before.values() if each.is_buy is served.is_buy and each.rank < served.rank]
            queued = [each for each in sooner if each.quantity and each.limit != served.limit]
            assert not queued, "a better price still waits"
            assert not [each for each in sooner if each.quantity and each.limit == served.limit]


@given(st.lists(EVENTS, max_size=30))
def test_what_is_shown_is_given_once(events: list[tuple[str, Any]]) -> None:
    play = Play()
    given_units: Counter[bool] = Counter()
    for name, given_ in events:
        if name == "show":
            given_units.clear()
        for fill in play.do(name, given_):
            given_units[play.asked[fill.order_id].is_buy] += fill.quantity if name in ("show", "enter") else 0
        assert given_units[True] <= sum(units for _, units in play.book.asks)
        assert given_units[False] <= sum(units for _, units in play.book.bids)


@given(PRICES, QUANTITIES, st.lists(st.tuples(st.booleans(), PRICES, QUANTITIES), max_size=8))
def test_a_print_gives_each_side_no_more_than_was_traded(
    price: int, quantity: int, orders: list[tuple[bool, int, int]]
) -> None:
    play = Play()
    for is_buy, limit, units in orders:
        play.do("enter", (is_buy, limit, units, True))
    got: Counter[bool] = Counter()
    for fill in play.do("print", (price, quantity)):
        got[play.asked[fill.order_id].is_buy] += fill.quantity
    assert max(got[True], got[False]) <= quantity


def resting(limit: int, quantity: int, number: int, *, is_buy: bool = True) -> Resting:
    return Resting(f"{number}", is_buy, limit, quantity, number)


def test_an_order_waits_behind_what_was_shown_at_its_price() -> None:
    book = Book()
    book.show(1, [(100, 30), (99, 40)], [(102, 10)])
    assert book.enter(resting(100, 5, 1)) == []
    assert book.printed(100, 25) == []
    assert book.printed(100, 7) == [Fill("1", 100, 2)]
    assert book.printed(100, 50) == [Fill("1", 100, 3)]


def test_the_queue_ahead_shrinks_with_the_book_and_never_grows() -> None:
    book = Book()
    book.show(1, [(100, 30)], [(102, 10)])
    book.enter(resting(100, 5, 1))
    book.show(2, [(100, 4), (99, 10)], [(102, 10)])
    book.show(3, [(100, 90), (99, 10)], [(102, 10)])
    assert book.printed(100, 5) == [Fill("1", 100, 1)]
    book.show(4, [(99, 10)], [(102, 10)])
    assert book.resting[0].ahead == 0


def test_two_orders_at_a_price_share_one_queue() -> None:
    book = Book()
    book.show(1, [(100, 10)], [(102, 10)])
    book.enter(resting(100, 5, 1))
    book.show(2, [(100, 30)], [(102, 10)])
    book.enter(resting(100, 5, 2))
    assert book.printed(100, 20) == [Fill("1", 100, 5)]
    assert book.printed(100, 20) == [Fill("2", 100, 5)], "the ten of the crowd between them came first"


def test_a_trade_through_our_price_was_ours_first() -> None:
    book = Book()
    book.show(1, [(100, 30)], [(102, 10)])
    book.enter(resting(100, 5, 1))
    assert book.printed(99, 3) == [Fill("1", 100, 3)]


def test_quotes_that_cross_a_waiting_order_trade_at_its_price() -> None:
    book = Book()
    book.show(1, [(98, 30)], [(102, 10)])
    book.enter(resting(100, 15, 1))
    book.show(2, [(95, 30)], [(97, 6), (99, 4), (101, 50)])
    assert book.cross() == [Fill("1", 100, 6), Fill("1", 100, 4)]


def test_an_order_that_takes_gets_each_level_at_its_own_price() -> None:
    book = Book()
    book.show(1, [(98, 30)], [(100, 5), (101, 5), (103, 5)])
    assert book.enter(resting(102, 20, 1)) == [Fill("1", 100, 5), Fill("1", 101, 5)]
    assert book.enter(resting(102, 20, 2)) == [], "that is gone until the book is requoted"
    book.show(2, [(98, 30)], [(101, 25)])
    assert book.cross() == [Fill("1", 101, 10), Fill("2", 101, 15)]


def test_a_smaller_quantity_keeps_its_place() -> None:
    book = Book()
    book.show(1, [(100, 10)], [(102, 10)])
    book.enter(resting(100, 9, 1))
    book.enter(resting(100, 9, 2))
    book.shrink("1", 4)
    assert book.printed(100, 16) == [Fill("1", 100, 4), Fill("2", 100, 2)]


@pytest.mark.parametrize("is_buy", [True, False])
def test_an_auction_serves_the_better_price_first_up_to_what_was_traded(*, is_buy: bool) -> None:
    book = Book()
    near, far = (101, 105) if is_buy else (99, 95)
    for number, limit in enumerate((near, far, 100, 90 if is_buy else 110)):
        book.collect(resting(limit, 10, number, is_buy=is_buy))
    assert book.auctioned(100, 25) == [Fill("1", 100, 10), Fill("0", 100, 10), Fill("2", 100, 5)]
