"""Days: what a new one closes, opens, forgets and still knows."""

from pathlib import Path

from gtt import publishing
from market import sessions
from schemas import streams
from schemas.orders import OrderStatus
from tests.gtt.fake import KEY, PAPER, World

_DAY_MS = 86_400_000


def filled(world: World, name: str, quantity: int = 10) -> None:
    world.buy(name, quantity)
    world.go(200)
    for told in world.exchange.live():
        world.exchange.fill(told.venue_order_id, quantity)
    world.go(200)


def test_a_new_day_counts_anew_and_does_not_take_yesterdays_tellings_for_news(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    filled(world, "a")
    account = world.desk.book.account(PAPER)
    assert (account.trades, account.positions[f"{KEY}|I"].quantity) == (1, 10)
    first = account.day

    world.now_ms += _DAY_MS
    world.market.now_ms = world.now_ms
    world.go(1_000)  # the venue still tells yesterday's book
    assert first < account.day == sessions.trading_date(world.now_ms).isoformat()
    assert (account.trades, float(account.charges)) == (0, 0.0)
    assert account.positions[f"{KEY}|I"].quantity == 10
    assert account.day_equity == 1_000_000 + account.flow + 10 * 100
    assert publishing.everything(world.desk.here)[streams.BOOK_ORDERS] == {}
    assert not any("nobody here knows it" in alert for alert in world.alerts)

    world.command("x", kind="position.exit")
    world.go(500)
    for told in world.exchange.live():
        world.exchange.fill(told.venue_order_id, 100)
    world.go(500)
    assert world.desk.book.held(PAPER, KEY, account.positions[f"{KEY}|I"].product) == 0


def test_an_order_of_an_earlier_day_that_the_venue_does_not_list_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    world.buy("a", price=90)
    world.go(200)
    (record,) = world.desk.book.orders.values()
    assert record.order.status is OrderStatus.OPEN
    world.exchange.orders.clear()
    world.now_ms += _DAY_MS
    world.market.now_ms = world.now_ms
    world.restart()
    world.go(1_000)
    (record,) = world.desk.book.orders.values()
    assert (record.order.status, record.order.reason) == (OrderStatus.CANCELLED, "its day is over")


def test_after_a_position_is_over_the_next_day_drops_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(200)
    filled(world, "a")
    world.command("x", kind="position.exit")
    world.go(500)
    for told in world.exchange.live():
        world.exchange.fill(told.venue_order_id, 100)
    world.go(500)
    world.now_ms += _DAY_MS
    world.market.now_ms = world.now_ms
    world.go(500)
    assert world.desk.book.account(PAPER).positions == {}


def test_a_loss_that_breaks_the_limit_halts_once_a_day(tmp_path: Path) -> None:
    world = World(tmp_path, teji_risk_trade=1.0)
    world.go(200)
    filled(world, "a", 5_000)
    world.market.prices[KEY] = 80.0  # 100,000 of a million
    world.go(1_000)
    assert len(world.halts) == 1
    assert "loss" in world.halts[0] or "lost" in world.halts[0]
    world.desk.halt(world.now_ms, "")  # somebody resumes
    world.buy("b")
    world.go(500)
    assert world.replies["b"] == [False]
    assert len(world.halts) == 1
