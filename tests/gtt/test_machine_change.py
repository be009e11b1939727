"""A GTT is modified in every state."""

from decimal import Decimal
from typing import Any

import pytest

from gtt.engine.machine import Actions, Cancel, ChildRefused, Modify, TurnedDown
from schemas.gtt import GttChange, Leg
from schemas.orders import OrderStatus, Side
from tests.gtt.gtt_world import NOW, World, body, entry, stop, target

FULL = (entry(), target(), stop())


def change(world: World, *rules: dict[str, Any], quantity: int = 75, last: str | None = None) -> Actions:
    told = {
        "type": "SINGLE" if len(rules) == 1 else "MULTIPLE", "quantity": quantity, "rules": rules,
        "gtt_order_id": "GTT-1",
    }  # fmt: skip
    return world.event(Modify(GttChange.model_validate(told), NOW + 1, None if last is None else Decimal(last)))


def refused(world: World, *rules: dict[str, Any], **more: Any) -> str:
    (told,) = change(world, *rules, **more)
    assert isinstance(told, TurnedDown), told
    return told.code


def waiting() -> World:
    return World(body(*FULL))


def entering() -> World:
    world = waiting()
    world.trade("120")
    return world


def bought() -> World:
    world = entering()
    world.fill(world.only)
    return world


def test_while_it_waits_everything_may_change() -> None:
    world = waiting()
    change(world, entry("110", "BELOW"), target("130"), quantity=150)
    assert world.statuses == "SCHEDULED INACTIVE"
    world.trade("120")
    assert world.live() == []
    world.trade("110")
    assert (world.only.quantity, world.only.price) == (150, Decimal(110))


def test_a_waiting_entry_that_becomes_immediate_goes_out() -> None:
    world = waiting()
    change(world, entry("121", "IMMEDIATE"), target(), stop())
    assert world.only.price == 121


def test_an_open_one_is_locked_in_quantity_and_in_the_kind_of_its_entry() -> None:
    world = entering()
    assert refused(world, *FULL) == "UDAPI1150"
    assert refused(world, entry(how="IMMEDIATE"), target(), stop(), quantity=150) == "UDAPI1150"
    change(world, entry("119", "IMMEDIATE"), target("140"), stop("105"))
    assert world.only.price == 119
    assert [rule.trigger_price for rule in world.state.gtt.rules] == [119, 140, 105]


def test_an_entry_whose_order_is_not_changed_says_so() -> None:
    world = entering()
    world.by_itself = False
    change(world, entry("119", "IMMEDIATE"), target(), stop())
    order = world.only
    world.event(ChildRefused(order.order_id, "not modified", True, NOW + 2, "change"))
    assert "not modified" in world.alerts[0]
    assert world.only.order_id == order.order_id
    world.by_itself = True
    world.fill(order)
    assert world.statuses == "COMPLETED PENDING PENDING"


def test_after_the_entry_the_exits_change_in_one_step() -> None:
    world = bought()
    world.take()
    assert refused(world, entry("125", "IMMEDIATE"), target(), stop()) == "UDAPI1150"  # it has been bought
    (_,) = change(world, entry(how="IMMEDIATE"), target("160"), stop("112"))
    assert world.statuses == "COMPLETED PENDING PENDING"
    world.trade("150")
    assert world.live() == []
    world.trade("112")
    assert world.only.side is Side.SELL


def test_a_stop_may_pass_the_price_of_the_entry() -> None:
    world = bought()
    world.trade("140")
    change(world, entry(how="IMMEDIATE"), target(), stop("130"))
    world.trade("130")
    assert len(world.live()) == 1


@pytest.mark.parametrize(
    "rules", [(entry(), target("110"), stop()), (entry(), target(), stop("125")), (entry("160"), target(), stop())]
)
def test_profit_and_loss_stay_on_their_sides(rules: tuple[dict[str, Any], ...]) -> None:
    assert refused(waiting(), *rules) == ""


def test_an_exit_can_be_added_and_taken_away() -> None:
    world = World(body(entry()))
    change(world, entry(), stop())
    world.trade("120")
    world.fill(world.only)
    assert world.statuses == "COMPLETED PENDING"
    change(world, entry(how="IMMEDIATE"), target(), stop())
    assert world.statuses == "COMPLETED PENDING PENDING"
    change(world, entry(how="IMMEDIATE"), target())
    world.trade("100")
    assert world.live() == []
    world.trade("150")
    assert world.only.price == 150


def test_the_entry_is_neither_added_nor_taken_away() -> None:
    assert refused(waiting(), target(), stop()) == "UDAPI1141"
    assert refused(World(body(target(), stop())), *FULL) == "UDAPI1141"


def test_a_resting_target_moves_with_its_rule() -> None:
    world = bought()
    world.trade("150")
    change(world, entry(how="IMMEDIATE"), target("155"), stop())
    assert world.only.price == 155
    change(world, entry(how="IMMEDIATE"), stop())
    assert world.live() == []
    assert world.statuses == "COMPLETED PENDING"


def test_a_target_whose_order_the_venue_does_not_change_follows_anew() -> None:
    world = bought()
    world.trade("150")
    resting = world.only
    world.by_itself = False
    change(world, entry(how="IMMEDIATE"), target("155"), stop())
    world.outbox.clear()
    world.event(ChildRefused(resting.order_id, "not modified", True, NOW + 2, "change"))
    world.by_itself = True
    world.deliver()
    assert world.orders[resting.order_id].status is OrderStatus.CANCELLED
    assert world.only.price == 155


def test_after_the_stop_was_hit_the_exits_stay() -> None:
    world = bought()
    world.trade("108")
    assert refused(world, entry(how="IMMEDIATE"), target(), stop("100")) == "UDAPI1150"
    assert refused(world, entry(how="IMMEDIATE"), target()) == "UDAPI1150"
    change(world, entry(how="IMMEDIATE"), target(), stop())  # nothing new in it
    assert world.statuses == "COMPLETED CANCELLED OPEN"


def test_a_trailing_gap_under_the_minimum_is_refused_by_the_price_of_now() -> None:
    world = bought()
    rules = (entry(how="IMMEDIATE"), target(), stop(trailing_gap="1.5"))
    assert refused(world, *rules, last="130") == "UDAPI1151"
    change(world, *rules, last="120")
    assert world.state.gtt.rules[2].trigger_price == Decimal("118.5")


def test_a_trailing_stop_does_not_go_back_when_something_else_is_changed() -> None:
    world = World(body(entry(), target(), stop(trailing_gap="4")))
    world.trade("120")
    world.fill(world.only)
    world.trade("130", "127")
    change(world, entry(how="IMMEDIATE"), target("160"), stop(trailing_gap="4"))
    assert world.state.gtt.rules[2].trigger_price == 126
    change(world, entry(how="IMMEDIATE"), target("160"), stop())  # no trailing any more: where it is said
    assert world.state.gtt.rules[2].trigger_price == 108


def test_a_guard_may_be_of_another_size_but_not_of_less_than_is_closed() -> None:
    world = World(body(target(), stop(), quantity=50))
    change(world, target(), stop(), quantity=100)
    world.trade("150")
    assert world.only.quantity == 100
    assert refused(world, target(), stop(), quantity=50) == "UDAPI1150"
    world.fill(world.only, 75)
    world.tell(world.only, status=OrderStatus.CANCELLED)
    assert refused(world, target(), stop(), quantity=75) == "UDAPI1150"
    change(world, target(), stop(), quantity=80)
    assert world.state.held == 5
    assert world.status(Leg.TARGET) == "PENDING"


def test_what_is_being_cancelled_is_not_changed() -> None:
    world = entering()
    world.by_itself = False
    world.event(Cancel("me", NOW))
    assert refused(world, entry(how="IMMEDIATE"), target(), stop()) == "UDAPI100010"


def test_the_exits_that_outlive_their_entry_can_be_changed() -> None:
    world = entering()
    world.fill(world.only, 25)
    world.event(Cancel("me", NOW, keep_exits=True))
    assert world.statuses == "CANCELLED PENDING PENDING"
    change(world, entry(how="IMMEDIATE"), target(), stop("112"))
    world.trade("112")
    assert world.only.quantity == 25
