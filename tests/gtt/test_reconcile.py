"""Our book against the venue's: what differs becomes ours, and is said."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from brokers.venue import CONNECTED, Disconnected, NewOrder, VenuePosition
from schemas.orders import OrderStatus, OrderType, Product, Side, Validity
from tests.gtt.fake import KEY, PAPER, World


def by_others(tag: str = "", side: Side = Side.BUY, quantity: int = 4) -> NewOrder:
    return NewOrder(
        order_id=tag, instrument=KEY, side=side, quantity=quantity, product=Product.INTRADAY,
        order_type=OrderType.LIMIT, price=Decimal(100), trigger_price=Decimal(0), validity=Validity.DAY,
    )  # fmt: skip


def test_an_order_of_somebody_else_is_shown_and_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    venue_id = world.exchange.place(by_others())
    world.exchange.fill(venue_id, 3)
    world.go(500)
    (record,) = world.desk.book.orders.values()
    assert record.foreign
    assert (record.order.filled_quantity, record.order.strategy) == (3, "")
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 3
    world.command("all", kind="order.cancel_all")
    world.go(500)
    assert [told.venue_order_id for told in world.exchange.live()] == [venue_id]
    world.command("one", kind="order.cancel", order_id=venue_id)  # but a person may
    world.go(500)
    assert world.exchange.live() == []


def test_fills_that_nobody_told_come_with_the_next_comparison(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a")
    world.go(200)
    world.exchange.mute = True
    (told,) = world.exchange.live()
    world.exchange.fill(told.venue_order_id, 10)
    world.go(1_000)
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 0
    world.desk.told(world.now_ms, PAPER, Disconnected("cut"))
    world.go(5_000)  # without a stream the books are read every other second
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 10
    world.settled()


def test_a_reconnect_compares_and_holds_entries_back_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.desk.told(world.now_ms, PAPER, CONNECTED)
    assert world.desk.here.runtime[PAPER].reconciling
    world.buy("a")
    assert not world.desk.command(world.now_ms, "a", "me", world.inbox[0][1], world.now_ms)
    world.go(500)
    assert not world.desk.here.runtime[PAPER].reconciling
    assert world.replies["a"] == [True]


def test_while_the_books_cannot_be_read_entries_are_refused_and_exits_pass(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a")
    world.go(200)
    (told,) = world.exchange.live()
    world.exchange.fill(told.venue_order_id, 10)
    world.go(1_500)
    world.exchange.deaf = True
    world.desk.told(world.now_ms, PAPER, CONNECTED)
    world.buy("b")
    world.command("x", kind="position.exit")
    world.go(500)
    assert [told.side for told in world.exchange.live()] == [Side.SELL]
    world.go(20_000, step_ms=250)
    assert world.replies["b"] == [False]
    assert world.desk.book.commands["b"].rule == "reconciling"
    assert any("cannot be read" in alert for alert in world.alerts)


def test_what_reduces_is_decided_while_the_books_are_compared_and_a_change_waits(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a")
    world.go(200)
    (told,) = world.exchange.live()
    world.exchange.fill(told.venue_order_id, 10)
    world.go(1_500)
    world.buy("b", price=90)
    world.go(500)
    (waiting,) = world.exchange.live()
    world.exchange.deaf = True
    world.desk.told(world.now_ms, PAPER, CONNECTED)
    world.command("sell", kind="order.place", instrument_token=KEY, transaction_type="SELL", quantity=10, price=100)
    world.command("change", kind="order.modify", order_id=waiting.tag, price=91)
    world.go(500)
    assert [told.side for told in world.exchange.live()] == [Side.BUY, Side.SELL]
    assert "change" not in world.replies
    world.exchange.deaf = False
    world.go(5_000)
    assert world.replies["change"] == [True]
    assert world.exchange.orders[waiting.venue_order_id].price == 91


def test_a_position_that_differs_is_taken_over_when_it_differs_twice(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(1_000)
    none = Decimal(0)
    world.exchange.positions = lambda: [  # type: ignore[method-assign]
        VenuePosition(KEY, Product.INTRADAY, 25, Decimal(90), 25, Decimal(2250), 0, none)
    ]
    books = world.books(PAPER)
    world.desk.compared(world.now_ms, books)
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 0
    world.go(2_500)
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 25
    account = world.desk.book.account(PAPER)
    assert account.flow == -25 * 90, "bought at the venue's average: equity does not jump"
    assert sum("theirs count" in alert for alert in world.alerts) == 1


def test_at_a_start_the_venue_s_position_counts_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    venue_id = world.exchange.place(by_others(quantity=6))
    world.exchange.fill(venue_id, 6)
    world.exchange.trades.clear()  # of days ago
    world.exchange.orders.clear()
    world.exchange.tells.clear()
    world.exchange.positions = lambda: [  # type: ignore[method-assign]
        VenuePosition(KEY, Product.INTRADAY, 6, Decimal(100), 6, Decimal(600), 0, Decimal(0))
    ]
    world.go(300)
    assert world.desk.book.held(PAPER, KEY, Product.INTRADAY) == 6


def test_two_orders_under_one_tag_are_told_and_the_younger_one_goes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a")
    world.go(200)
    (first,) = world.exchange.live()
    world.exchange.place(by_others(first.tag, quantity=10))
    world.go(1_000)
    assert [told.venue_order_id for told in world.exchange.live()] == [first.venue_order_id]
    assert any("twice" in alert for alert in world.alerts)
    doubles = [r for r in world.desk.book.orders.values() if r.order.intent_id.startswith("double:")]
    assert [record.order.status for record in doubles] == [OrderStatus.CANCELLED]


def test_an_order_with_our_tag_that_nobody_knows_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.exchange.place(by_others("tj000000000000000000"))
    world.go(1_000)
    assert sum("nobody here knows it" in alert for alert in world.alerts) == 1


def test_a_telling_of_before_does_not_undo_what_is_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a")
    world.go(200)
    (told,) = world.exchange.live()
    world.exchange.fill(told.venue_order_id, 10)
    world.go(300)
    rows = len(world.paper.rows)
    for older in (told, replace(told, status=OrderStatus.IN_FLIGHT, words="open pending")):
        world.desk.told(world.now_ms, PAPER, older)
    world.go(100)
    (record,) = world.desk.book.orders.values()
    assert record.order.status is OrderStatus.COMPLETE
    assert len(world.paper.rows) == rows, "nothing new, nothing to write down"


def test_an_entry_whose_price_comes_while_the_books_are_compared_fires_when_they_are(tmp_path: Path) -> None:
    rules = [{"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 102}]
    body = {"type": "SINGLE", "quantity": 5, "product": "I", "instrument_token": KEY, "transaction_type": "BUY"}
    world = World(tmp_path)
    world.go(200)
    world.command("g", kind="gtt.place", body={**body, "rules": rules})
    world.go(300)
    world.exchange.deaf = True
    world.desk.told(world.now_ms, PAPER, CONNECTED)
    world.price(103)
    world.price(100)  # and is gone
    world.go(300)
    assert world.exchange.placed == []
    world.exchange.deaf = False
    world.go(3_000)
    (told,) = world.exchange.live()
    assert (told.quantity, told.side) == (5, Side.BUY)
    assert world.desk.here.crossings == {}
