"""Power may go at any step: before and after each append, before and after each call, before the place is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtt.book.facts import What
from schemas.orders import OrderStatus
from tests.gtt.fake import KEY, PAPER, PowerCut, World

GTT: dict[str, Any] = {
    "type": "MULTIPLE",
    "quantity": 6,
    "product": "I",
    "instrument_token": KEY,
    "transaction_type": "BUY",
    "rules": [
        {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 102},
        {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 110},
        {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 99},
    ],
}


def story(world: World) -> list[Any]:
    """What people and the market do, step by step; none of it depends on what came before."""

    def fill(tag_side: str, units: int) -> None:
        for told in world.exchange.live():
            if told.side.value == tag_side:
                world.exchange.fill(told.venue_order_id, units)

    return [
        lambda: world.go(300),
        lambda: world.buy("a", 10),
        lambda: world.go(300),
        lambda: fill("BUY", 4),
        lambda: world.command("m", kind="order.modify", order_id=_first(world), price=101),
        lambda: world.go(300),
        lambda: fill("BUY", 100),
        lambda: world.command("g", kind="gtt.place", body=GTT),
        lambda: world.go(300),
        lambda: world.price(103),
        lambda: world.go(300),
        lambda: fill("BUY", 100),
        lambda: world.go(300),
        lambda: world.buy("b", 7, price=90),
        lambda: world.go(300),
        lambda: world.price(98.5),
        lambda: world.go(300),
        lambda: fill("SELL", 100),
        lambda: world.go(300),
        lambda: world.command("x", kind="position.exit"),
        lambda: world.go(3_000),
        lambda: fill("SELL", 100),
        lambda: world.go(3_000),
    ]


def _first(world: World) -> str:
    from schemas.orders import order_id_of

    return order_id_of("command:a")


def live(home: Path, cut_at: int = 0) -> World:
    """The whole story; where power went, what was under way goes on with the next process."""
    world = World(home, cut_at=0)
    world._cut_at = cut_at  # not while the first process starts
    for scene in story(world):
        _survive(world, scene)
    for _ in range(3):
        _survive(world, lambda: world.price(world.market.prices[KEY]))
        _survive(world, lambda: world.go(10_000, step_ms=250))
        for told in world.exchange.live():
            if told.side.value == "SELL":
                world.exchange.fill(told.venue_order_id, 100)
    world.go(1_000)
    return world


def _survive(world: World, scene: Callable[[], Any]) -> None:
    try:
        scene()
    except PowerCut:
        world.restart()
        world.price(world.market.prices[KEY])


def test_the_story_without_a_cut(tmp_path: Path) -> None:
    world = live(tmp_path)
    world.settled()
    assert world.exchange.net() == 0
    assert world.replies == {name: [True] for name in "amgbx"}
    states = [record.order.status for record in world.desk.book.orders.values()]
    assert sorted(states) == ["cancelled", "complete", "complete", "complete", "complete"]


def _steps() -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as home:
        return live(Path(home)).steps


@pytest.mark.parametrize("part", range(8))
def test_a_power_cut_at_any_step_neither_loses_nor_doubles_an_order(tmp_path: Path, part: int) -> None:
    last = _steps()
    for cut_at in range(1 + part, last + 1, 8):
        world = live(tmp_path, cut_at)
        try:
            world.settled()
            assert world.exchange.net() == 0, "a position was left"
            said = {name: told[-1] for name, told in world.replies.items()}
            said.pop("m")  # refused where the order was filled by the time there was power again
            assert said == dict.fromkeys("agbx", True)
        except AssertionError as error:
            raise AssertionError(f"cut at {cut_at}: {error}") from error


@pytest.mark.parametrize("fate", ["lost", "unheard"])
def test_a_lost_answer_is_asked_about_and_ends_in_exactly_one_order(tmp_path: Path, fate: str) -> None:
    first: list[str] = []

    def once(write: Any) -> str:
        if write.what is What.PLACE and not first:
            first.append(write.order_id)
            return fate
        return "ok"

    world = World(tmp_path, fate=once)
    world.go(200)
    world.buy("a")
    world.go(100)
    status = world.desk.book.orders[first[0]].order.status
    assert status in (OrderStatus.UNKNOWN, OrderStatus.OPEN)
    world.go(8_000, step_ms=100)
    assert world.exchange.placed == first
    assert world.desk.book.orders[first[0]].order.status is OrderStatus.OPEN
    assert world.replies["a"] == [True]
    world.settled()


def test_an_unheard_entry_that_is_too_old_ends_without_an_order(tmp_path: Path) -> None:
    world = World(tmp_path, fate=lambda _: "unheard", teji_unknown_s=20, teji_intent_s=15)
    world.go(200)
    world.buy("a")
    world.go(40_000, step_ms=250)
    (record,) = world.desk.book.orders.values()
    assert record.order.status is OrderStatus.REJECTED
    assert "never reached the venue" in record.order.reason
    assert world.exchange.placed == []


def test_nothing_is_denied_while_the_books_cannot_be_read(tmp_path: Path) -> None:
    world = World(tmp_path, fate=lambda _: "lost")
    world.go(200)
    world.exchange.deaf = world.exchange.mute = True
    world.buy("a")
    world.go(30_000, step_ms=250)
    (record,) = world.desk.book.orders.values()
    assert record.order.status is OrderStatus.UNKNOWN
    assert world.desk.book.unknown(PAPER) == 1
    world.exchange.deaf = False
    world.go(10_000, step_ms=250)
    (record,) = world.desk.book.orders.values()
    assert record.order.status is OrderStatus.OPEN
    world.settled()
