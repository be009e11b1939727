"""The paper book against markets written by hand: what fills, at which price, and what must not."""

from dataclasses import replace
from decimal import Decimal

import pytest

from brokers.venue import OrderChange, Refused
from market.sessions import trading_date
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity
from tests.brokers.paper_market import CONDUCT, FUTURE, INDEX, OPTION, SHARE, T0, Floor, order, tick

BIDS = [(99.95, 130), (99.9, 260), (99.85, 650), (99.8, 650), (99.75, 650)]
ASKS = [(100.05, 130), (100.1, 260), (100.15, 650), (100.2, 650), (100.25, 650)]
SECOND = 1000


def floor(**more: object) -> Floor:
    place = Floor(replace(CONDUCT, **more))  # type: ignore[arg-type]
    place.ticks(tick(bids=BIDS, asks=ASKS))
    return place


def test_an_order_walks_the_levels_that_are_shown() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 455, "100.15"))
    assert here.fills() == [(130, "100.05", "shown"), (260, "100.1", "shown"), (65, "100.15", "shown")]
    told = here.order(number).told()
    assert (told.status, told.filled_quantity, told.average_price) == (OrderStatus.COMPLETE, 455, Decimal("100.0929"))
    assert told.reason == ""


def test_a_sale_walks_the_bids() -> None:
    here = floor()
    here.place(order(Side.SELL, 195, "99.90"))
    assert here.fills() == [(130, "99.95", "shown"), (65, "99.9", "shown")]


def test_the_rest_of_a_limit_order_waits() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 455, "100.10"))
    assert here.fills() == [(130, "100.05", "shown"), (260, "100.1", "shown")]
    assert (here.order(number).status, here.order(number).filled) == (OrderStatus.OPEN, 390)


def test_what_was_taken_is_not_taken_twice() -> None:
    here = floor()
    here.place(order(Side.BUY, 130, "100.05"))
    here.place(order(Side.BUY, 130, "100.05"))
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS))
    assert here.fills() == [(130, "100.05", "shown")]
    more = [(100.05, 195), *ASKS[1:]]
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=more))
    assert here.fills()[1:] == [(65, "100.05", "crossed")]
    here.ticks(tick(ts=T0 + 900, bids=BIDS, asks=ASKS[1:]))  # the price has gone, and what we had of it
    here.ticks(tick(ts=T0 + 1200, bids=BIDS, asks=ASKS))
    assert here.fills()[2:] == [(65, "100.05", "crossed")]


def test_a_level_that_is_ours_is_watched_after_its_order() -> None:
    here = floor()
    here.place(order(Side.BUY, 130, "100.05", validity=Validity.IOC))
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=[(100.05, 65), *ASKS[1:]]))
    here.place(order(Side.BUY, 130, "100.05", validity=Validity.IOC))
    assert here.fills() == [(130, "100.05", "shown")]
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=[(100.2, 65)]))
    assert not here.book.watched


def test_beyond_the_levels_there_is_slippage_and_the_feeds_total() -> None:
    here = Floor(replace(CONDUCT, capital=Decimal(10_000_000)))
    here.ticks(tick(key=FUTURE.key, bids=BIDS, asks=ASKS, totals=(9000, 2340 + 130)))
    number = here.place(order(Side.BUY, 2600, "101", key=FUTURE.key))
    assert here.fills()[-1] == (130, "100.35", "beyond")  # 100.25 and 5 bps, up to the next tick
    assert here.order(number).filled == 2470
    assert here.order(number).told().reason == "estimate: 130 units beyond the depth that the feed shows"
    here.ticks(tick(key=FUTURE.key, ts=T0 + 300, bids=BIDS, asks=ASKS, totals=(9000, 2340 + 130)))
    assert here.order(number).filled == 2470


def test_what_is_beyond_the_levels_is_not_taken_twice() -> None:
    here = Floor(replace(CONDUCT, capital=Decimal(10_000_000)))
    here.ticks(tick(key=FUTURE.key, bids=BIDS, asks=ASKS, totals=(9000, 2340 + 130)))
    first, second = (here.place(order(Side.BUY, 2405, "101", key=FUTURE.key)) for _ in range(2))
    assert (here.order(first).filled, here.order(second).filled) == (2405, 65)


def test_without_a_total_nothing_is_beyond_the_levels() -> None:
    here = floor(capital=Decimal(10_000_000))
    here.ticks(tick(key=FUTURE.key, bids=BIDS, asks=ASKS))
    number = here.place(order(Side.BUY, 2600, "101", key=FUTURE.key))
    assert here.order(number).filled == 2340


def test_where_there_are_no_levels_the_touch_counts() -> None:
    here = Floor()
    here.ticks(tick(bids=BIDS, asks=ASKS, touch_only=True))
    here.place(order(Side.BUY, 195, "100.10"))
    assert here.fills() == [(130, "100.05", "shown")]


def test_a_feed_of_last_prices_fills_at_the_last_price_and_says_so() -> None:
    here = Floor()
    here.ticks(tick(ltp=101.5))
    number = here.place(order(Side.BUY, 650, "102"))
    assert here.fills() == [(650, "101.5", "last")]
    assert here.order(number).told().reason == "estimate: 650 units at the last price, the feed has no depth"
    waiting = here.place(order(Side.BUY, 130, "101"))
    here.ticks(tick(ts=T0 + 300, ltp=101.0, ltq=65))
    assert here.fills(waiting) == [(65, "101", "printed")]


def test_trades_at_its_price_reach_an_order_after_those_before_it() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 130, "99.90"))  # 260 stand before it
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS, ltp=99.9, vtt=10_195))
    assert here.order(number).queue.ahead == 65
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=ASKS, ltp=99.9, vtt=10_325))
    assert here.fills() == [(65, "99.9", "printed")]
    here.ticks(tick(ts=T0 + 900, bids=BIDS, asks=ASKS, ltp=99.95, vtt=10_975))
    assert len(here.fills()) == 1


def test_those_before_an_order_can_leave() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 130, "99.90"))
    here.ticks(tick(ts=T0 + 300, bids=[(99.95, 130), (99.85, 650)], asks=ASKS))
    assert here.order(number).queue.ahead == 0
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=ASKS, ltp=99.9, vtt=10_065))
    assert here.fills() == [(65, "99.9", "printed")]


def test_trades_through_its_price_fill_an_order_at_its_price() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 650, "99.90"))
    here.ticks(tick(ts=T0 + 300, bids=[(99.8, 650)], asks=[(99.95, 65)], ltp=99.85, vtt=10_260))
    assert here.fills() == [(260, "99.9", "printed")]
    assert here.order(number).left == 390


def test_an_older_state_of_the_day_is_no_trade() -> None:
    here = floor()
    here.place(order(Side.BUY, 65, "99.95"))
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS, ltp=99.0, vtt=9_000))
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=ASKS, ltp=99.0, vtt=10_000))
    assert here.fills() == []


def test_several_orders_share_what_was_traded_by_price_and_time() -> None:
    here = floor()
    second = here.place(order(Side.BUY, 130, "99.90"))
    third = here.place(order(Side.BUY, 130, "99.90"))
    first = here.place(order(Side.BUY, 130, "99.95"))
    here.ticks(tick(ts=T0 + 300, bids=[(99.8, 650)], asks=ASKS, ltp=99.8, vtt=10_195))
    assert [sum(units for units, _, _ in here.fills(each)) for each in (first, second, third)] == [130, 65, 0]


def test_orders_at_one_price_do_not_get_the_same_trades() -> None:
    here = floor()
    first = here.place(order(Side.BUY, 65, "99.90"))
    second = here.place(order(Side.BUY, 65, "99.90"))
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS, ltp=99.9, vtt=10_000 + 260 + 65))
    assert (here.order(first).filled, here.order(second).filled) == (65, 0)


def test_an_order_deeper_than_the_levels_does_not_guess_its_place() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 65, "99.00"))
    assert here.order(number).queue.ahead is None
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS, ltp=99.0, vtt=20_000))
    assert here.fills() == []
    here.ticks(tick(ts=T0 + 600, bids=[(98.9, 65)], asks=ASKS, ltp=98.95, vtt=20_065))
    assert here.fills() == [(65, "99", "printed")]


def test_the_other_side_comes_to_an_order_that_waits() -> None:
    here = floor()
    here.place(order(Side.BUY, 260, "99.95"))
    here.ticks(tick(ts=T0 + 300, bids=[(99.8, 65)], asks=[(99.9, 130), (99.95, 65), (100.0, 650)]))
    assert here.fills() == [(130, "99.95", "crossed"), (65, "99.95", "crossed")]


def test_nothing_is_filled_before_the_latency_is_over() -> None:
    here = floor(latency_ms=20)
    number = here.place(order(Side.BUY, 65, "100.05"))
    here.ticks(tick(ts=T0 + 19, bids=BIDS, asks=ASKS))
    here.stand()
    assert here.fills() == []
    assert here.book.next_match_ms == T0 + 20
    here.now = T0 + 20
    here.stand()
    assert here.fills(number) == [(65, "100.05", "shown")]


def test_each_order_has_a_latency_of_its_own() -> None:
    here = floor(latency_ms=20)
    here.place(order(Side.BUY, 65, "100.05"))
    here.now = T0 + 10
    later = here.place(order(Side.BUY, 65, "100.05"))
    here.now = T0 + 20
    here.stand()
    assert len(here.fills()) == 1
    assert here.fills(later) == []


def test_a_record_from_before_an_order_fills_it_not() -> None:
    here = Floor()
    here.now = T0 + 500
    here.place(order(Side.BUY, 65, "100.05"))
    here.ticks(tick(ts=T0 + 100, bids=BIDS, asks=ASKS))
    assert here.fills() == []
    here.ticks(tick(ts=T0 + 600, bids=BIDS, asks=ASKS))
    assert here.fills() == [(65, "100.05", "shown")]


def test_after_a_restart_an_order_still_waits_at_its_price() -> None:
    here = floor()
    here.place(order(Side.BUY, 65, "99.95"))
    here.now += 1
    here.place(order(Side.BUY, 65, "90"))
    again = here.restarted()
    again.ticks(tick(ts=T0 + 300, bids=[(99.0, 65)], asks=[(99.5, 65)]))
    assert again.fills() == [(65, "99.95", "crossed")]


def test_ticks_that_come_again_fill_nothing_again() -> None:
    here = floor()
    here.place(order(Side.BUY, 650, "100.05"))
    frames = [
        tick(ts=T0 + 300, bids=BIDS, asks=ASKS[1:]),
        tick(ts=T0 + 600, bids=BIDS, asks=ASKS),
        tick(ts=T0 + 900, bids=BIDS, asks=ASKS[1:], ltp=100.0, vtt=10_065),
    ]
    for frame in frames:
        here.ticks(frame)
    told = here.fills()
    assert [units for units, _, _ in told] == [130, 130, 65]
    again = here.restarted()
    for frame in [tick(bids=BIDS, asks=ASKS), *frames]:
        again.ticks(frame)
    assert again.fills() == told


def test_trades_from_before_an_order_are_not_its_own() -> None:
    here = floor(latency_ms=20)
    here.place(order(Side.BUY, 65, "99.95"))
    here.ticks(tick(ts=T0 + 500, bids=BIDS, asks=ASKS, ltp=99.9, vtt=50_000))
    assert here.fills() == []


def test_what_does_not_wait_takes_what_is_there_and_ends() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 195, "100.05", validity=Validity.IOC))
    assert here.fills() == [(130, "100.05", "shown")]
    told = here.order(number).told()
    assert (told.status, told.filled_quantity) == (OrderStatus.CANCELLED, 130)
    assert here.ends() == ["IOC: the rest found nobody"]
    blind = Floor()
    blind.place(order(Side.BUY, 65, "100", validity=Validity.IOC))
    assert blind.ends() == ["IOC: no quote is known"]


@pytest.mark.parametrize(("side", "trigger", "limit"), [(Side.BUY, "101", "101.50"), (Side.SELL, "99", "98.50")])
def test_a_stop_waits_for_its_trigger(side: Side, trigger: str, limit: str) -> None:
    here = floor()
    number = here.place(order(side, 65, limit, trigger=trigger, kind=OrderType.SL))
    assert here.order(number).status is OrderStatus.TRIGGER_PENDING
    here.ticks(tick(ts=T0 + 300, bids=BIDS, asks=ASKS, ltp=100.5))
    assert here.triggers() == []
    price = float(trigger)
    near = [(price - 0.05, 65)], [(price + 0.05, 65)]
    here.ticks(tick(ts=T0 + 600, bids=near[0], asks=near[1], ltp=price))
    assert here.order(number).status is OrderStatus.COMPLETE
    assert here.fills() == [(65, str(Decimal(str(price + side.sign * 0.05))), "shown")]


def test_a_stop_that_is_passed_already_goes_off_at_once() -> None:
    here = floor()
    here.place(order(Side.SELL, 65, "99.50", trigger="100.5", kind=OrderType.SL))
    assert here.fills() == [(65, "99.95", "shown")]


def test_a_gap_through_a_stop_leaves_its_limit_waiting() -> None:
    here = floor()
    number = here.place(order(Side.SELL, 65, "98.50", trigger="99", kind=OrderType.SL))
    here.ticks(tick(ts=T0 + 300, bids=[(90.0, 650)], asks=[(91.0, 65)], ltp=90.0))
    assert here.order(number).status is OrderStatus.OPEN
    assert here.fills() == []
    here.ticks(tick(ts=T0 + 600, bids=[(99.0, 65)], asks=[(99.5, 65)], ltp=90.0))
    assert here.fills() == [(65, "98.5", "crossed")]


def test_a_protected_stop_has_its_limit_from_the_price_that_trips_it() -> None:
    here = floor()
    here.place(order(Side.SELL, 65, trigger="99", kind=OrderType.SL_M, protection="2"))
    here.ticks(tick(ts=T0 + 300, bids=[(98.9, 65)], asks=[(99.5, 65)], ltp=98.95))
    assert here.triggers() == ["96.95"]
    assert here.fills() == [(65, "98.9", "shown")]


def test_a_market_order_is_a_protected_limit() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 65, kind=OrderType.MARKET, protection="-1"))
    assert (here.order(number).order_type, here.order(number).price) == (OrderType.LIMIT, Decimal("103.00"))
    with pytest.raises(Refused, match="UDAPI1158"):
        here.place(order(Side.BUY, 65, kind=OrderType.MARKET))
    with pytest.raises(Refused, match="UDAPI1176"):
        here.place(order(Side.BUY, 65, kind=OrderType.MARKET, protection="26"))


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (order(key="NSE_FO|1"), "UDAPI100011"),
        (order(key=INDEX.key), "UDAPI100011"),
        (order(quantity=0, price="100"), "UDAPI1052"),
        (order(quantity=-65, price="100"), "UDAPI1052"),
        (order(), "UDAPI1043"),
        (order(kind=OrderType.SL, price="100"), "UDAPI100036: trigger_price"),
        (order(price="100", tag="x" * 41), "UDAPI1119"),
    ],
)
def test_a_wrong_request_leaves_nothing(new: object, code: str) -> None:
    here = floor()
    before = len(here.log)
    with pytest.raises(Refused, match=code):
        here.place(new)  # type: ignore[arg-type]
    assert len(here.log) == before


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (order(quantity=70, price="100"), "Order quantity 70 is not a multiple of the lot size 65"),
        (order(quantity=1820, price="100"), "Order quantity 1820 exceeds the freeze quantity 1800"),
        (order(price="100.03"), "Price 100.03 is not a multiple of the tick size 0.05"),
        (order(price="100", product=Product.MTF), "Product MTF is not allowed for this instrument"),
        (order(price="140.05"), "outside the circuit limits 60.00 to 140.00"),
        (order(price="100", trigger="101", kind=OrderType.SL), "above the limit price of a buy stop order"),
        (order(key=SHARE.key, price="100", side=Side.SELL, product=Product.DELIVERY), "65 units sold for delivery"),
        (order(key=FUTURE.key, price="100000"), "Insufficient funds: 780000.00 rupees needed"),
    ],
)
def test_what_the_exchange_objects_to_is_a_rejected_order(new: object, words: str) -> None:
    here = floor(capital=Decimal(100_000))
    number = here.place(new)  # type: ignore[arg-type]
    told = here.order(number).told()
    assert told.status is OrderStatus.REJECTED
    assert words in told.reason


def test_a_share_has_the_widest_band_around_its_close() -> None:
    here = Floor()
    here.ticks(tick(SHARE.key, bids=BIDS, asks=ASKS, cp=100.0))
    inside, outside = (here.place(order(key=SHARE.key, quantity=1, price=price)) for price in ("80", "79.9"))
    assert here.order(inside).status is OrderStatus.OPEN
    assert "circuit limits 80.0 to 120.0" in here.order(outside).told().reason


@pytest.mark.parametrize(
    ("at_ms", "words"),
    [
        (T0 + 12 * 3_600_000, "market closed"),  # 23:00
        (T0 + 24 * 3_600_000, "market closed"),  # Saturday
        (T0 + 60 * 24 * 3_600_000, "no market calendar for 2027"),
    ],
)
def test_a_closed_market_refuses(at_ms: int, words: str) -> None:
    here = floor()
    here.advance(at_ms)
    with pytest.raises(Refused, match=words):
        here.place(order(price="100"))


def test_an_order_of_the_pre_open_waits_for_continuous_trading() -> None:
    here = Floor()
    here.now = T0 - 118 * 60 * SECOND  # 09:02
    here.ticks(tick(ts=here.now, bids=BIDS, asks=ASKS))
    here.place(order(price="100.05"))
    here.ticks(tick(ts=T0 - 110 * 60 * SECOND, bids=BIDS, asks=ASKS))
    assert here.fills() == []
    here.ticks(tick(ts=T0 - 105 * 60 * SECOND, bids=BIDS, asks=ASKS))  # 09:15
    assert here.fills() == [(65, "100.05", "shown")]


def test_orders_end_with_their_session() -> None:
    here = floor()
    number = here.place(order(price="99"))
    here.advance(T0 + 279 * 60 * SECOND)
    assert here.order(number).is_open
    here.advance(T0 + 280 * 60 * SECOND)  # 15:40
    assert (here.order(number).status, here.ends()) == (OrderStatus.CANCELLED, ["the session ended"])


def change(
    number: str, quantity: int, price: str, kind: OrderType = OrderType.LIMIT, trigger: str = "0"
) -> OrderChange:
    return OrderChange("", number, quantity, kind, Decimal(price), Decimal(trigger), Validity.DAY)


def test_a_changed_order_meets_the_book_anew() -> None:
    here = floor(latency_ms=20)
    number = here.place(order(quantity=130, price="99.90"))
    here.now += 100
    here.stand()
    here.keep(here.book.change(change(number, 195, "100.05"), OPTION, here.now, here.seen.get(OPTION.key), {}))
    told = here.order(number).told()
    assert (told.version, told.quantity, told.price) == (1, 195, Decimal("100.05"))
    here.stand()
    assert here.fills() == []
    here.now += 20
    here.stand()
    assert here.fills() == [(130, "100.05", "shown")]
    assert here.order(number).left == 65


def test_what_is_finished_cannot_be_changed() -> None:
    here = floor()
    number = here.place(order(price="100.05"))
    with pytest.raises(Refused, match="UDAPI100041"):
        here.book.change(change(number, 65, "101"), OPTION, here.now, None, {})
    with pytest.raises(Refused, match="UDAPI100040"):
        here.book.cancel(number, here.now)
    with pytest.raises(Refused, match="UDAPI100010"):
        here.book.cancel("nothing", here.now)
    part = here.place(order(quantity=455, price="100.10"))
    with pytest.raises(Refused, match="quantity: 325 of the order are filled"):
        here.book.change(change(part, 325, "101"), OPTION, here.now, None, {})
    with pytest.raises(Refused, match="tick size"):
        here.book.change(change(part, 455, "100.12"), OPTION, here.now, None, {})
    with pytest.raises(Refused, match="Price 0 is not"):
        here.book.change(change(part, 455, "0"), OPTION, here.now, None, {})
    with pytest.raises(Refused, match="not known any more"):
        here.book.change(change(part, 455, "100"), None, here.now, None, {})


def test_a_change_needs_money_and_shares_too() -> None:
    here = floor(capital=Decimal(10_000))
    number = here.place(order(price="90"))
    with pytest.raises(Refused, match=r"Insufficient funds: 5850\.00 rupees needed, 4150\.00 available"):
        here.book.change(change(number, 130, "90"), OPTION, here.now, None, {})
    here.book.change(change(number, 65, "100"), OPTION, here.now, None, {})
    here.ticks(tick(SHARE.key, bids=BIDS, asks=ASKS))
    here.place(order(key=SHARE.key, quantity=10, price="100.10", product=Product.DELIVERY))
    sale = here.place(order(Side.SELL, 10, "110", key=SHARE.key, product=Product.DELIVERY))
    with pytest.raises(Refused, match="1 units sold for delivery, 0 held"):
        here.book.change(change(sale, 11, "110"), SHARE, here.now, None, {})


def test_the_same_tag_is_the_same_order() -> None:
    here = floor()
    number = here.place(order(price="99", tag="tj1"))
    assert here.place(order(price="99", tag="tj1")) == number
    assert len(here.book.orders) == 1
    with pytest.raises(Refused, match="belongs to another order"):
        here.place(order(price="99", quantity=130, tag="tj1"))


def test_trading_date_of_the_tests() -> None:
    assert str(trading_date(T0)) == "2026-11-20"
