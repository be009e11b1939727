"""Accounts that are traded now, and those that are not: what the book holds of the latter waits untouched."""

from pathlib import Path
from typing import Any

from gtt.desk.desk import Desk
from schemas.orders import OrderStatus, TradingMode
from tests.gtt.fake import CAN, KEY, PAPER, World

GUARD: dict[str, Any] = {
    "type": "SINGLE",
    "quantity": 10,
    "product": "I",
    "instrument_token": KEY,
    "transaction_type": "BUY",
    "rules": [{"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 99}],
}


def bought(world: World) -> None:
    world.go(200)
    world.buy("a", 10)
    world.buy("rest", 5, price=90, order_type="LIMIT")
    world.go(200)
    for told in world.exchange.live():
        if told.price == 100:
            world.exchange.fill(told.venue_order_id, 10)
    world.go(200)
    world.command("g", kind="gtt.place", body=GUARD)
    world.go(200)
    assert world.replies == {"a": [True], "rest": [True], "g": [True]}


def test_without_its_venue_an_account_stands_still_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    bought(world)
    book, _ = world.paper.load(0)
    desk = Desk(book, world.market, world.settings, {TradingMode.SHADOW: CAN})
    now_ms = world.now_ms + 60_000
    desk.start(now_ms)
    world.market.prices[KEY] = 98.0  # the stop
    for gtt_id in list(world.market.watched):
        for crossing in world.market.crossings(gtt_id):
            desk.crossed(now_ms, crossing, 0, False)
    for at in range(50):
        desk.tick(now_ms + at * 100, market_known=True)
        desk.second(now_ms + at * 100)
        desk.pump(now_ms + at * 100)
    kinds = {row.fact.kind for row in desk.take().rows}
    assert kinds <= {"day_opened"}, kinds

    world.restart()  # paper is traded again
    world.price(98.0)
    world.go(500)
    stops = [told for told in world.exchange.live() if told.side.value == "SELL"]
    assert [told.quantity for told in stops] == [10]


def test_a_mode_that_is_not_traded_is_refused_in_words(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("live", mode="live")
    world.command("gtt", kind="gtt.place", body={**GUARD, "mode": "shadow"})
    world.go(300)
    assert world.replies == {"live": [False], "gtt": [False]}
    told = world.desk.book.commands["live"]
    assert (told.rule, "no live order may leave" in told.reason) == ("mode", True)


def test_everything_can_be_cancelled_and_closed_by_filters(tmp_path: Path) -> None:
    world = World(tmp_path)
    bought(world)
    world.command("none", kind="order.cancel_all", strategy="other")
    world.go(200)
    assert world.replies["none"] == [True]
    assert len(world.exchange.live()) == 1
    world.command("all", kind="order.cancel_all", mode=PAPER.value)
    world.go(300)
    assert world.exchange.live() == []
    assert [gtt.state.gtt.live for gtt in world.desk.book.gtts.values()] == [False]
    states = sorted(record.order.status for record in world.desk.book.orders.values())
    assert states == [OrderStatus.CANCELLED, OrderStatus.COMPLETE]

    world.command("exit", kind="position.exit", instrument_token=KEY)
    world.go(300)
    (out,) = world.exchange.live()
    assert (out.side.value, out.quantity) == ("SELL", 10)
    world.exchange.fill(out.venue_order_id, 4)
    world.go(12_000, step_ms=250)  # the rest is chased
    world.exchange.fill(out.venue_order_id, 100)
    world.go(500)
    assert world.exchange.net() == 0
    assert world.desk.book.account(PAPER).flattening == {}
    world.settled()
