"""A GTT at the venue guards a position. Where that is gone, so is the GTT."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gtt.book.facts import DayOpened, Filled, GttAccepted, GttChanged, PositionSeen, What
from gtt.desk import orphans as desk_orphans
from gtt.engine.machine import GttState, accept, expiry_us
from schemas.gtt import Engine, Leg, RuleStatus
from schemas.orders import Product, Side
from tests.gtt.fake import PAPER, START_MS, World
from tests.gtt.gtt_world import KEY, NOW, TERMS, body, entry, stop, target
from tests.gtt.test_desk_holders import a_fill

S = RuleStatus


def entered(state: GttState, **statuses: RuleStatus) -> GttState:
    """The venue has bought all of it."""
    known = {Leg.ENTRY: S.COMPLETED, Leg.TARGET: S.PENDING, Leg.STOPLOSS: S.PENDING}
    known |= {Leg(leg): status for leg, status in statuses.items()}
    rules = tuple(rule.model_copy(update={"status": known[rule.strategy]}) for rule in state.gtt.rules)
    updates = {"rules": rules, "entered": 75, "venue_gtt_order_id": "GTT-V"}
    return state.model_copy(update={"gtt": state.gtt.model_copy(update=updates)})


def a_world(tmp_path: Path, product: str = "I", **statuses: RuleStatus) -> World:
    """75 units are held, and a GTT at the venue guards them."""
    world = World(tmp_path)
    world.go(300)
    asked = body(entry(), target(), stop(), product=product)
    state, _ = accept(
        asked, gtt_id="GTT-1", intent_id="command:1", mode=PAPER, engine=Engine.VENUE,
        note="", segment="NSE_FO", trading_symbol="NIFTY", now_ms=NOW, expires_us=expiry_us(asked.product, NOW),
        terms=TERMS,
    )  # fmt: skip
    here, about = world.desk.here, {"ts": START_MS, "account": PAPER, "gtt_id": "GTT-1"}
    here.emit(GttAccepted(**about, intent_id="command:1", state=state))
    here.emit(GttChanged(**about, state=entered(state, **statuses)))
    trade(world, 1, Side.BUY, product=Product(product))
    return world


def trade(world: World, number: int, side: Side, units: int = 75, product: Product = Product.INTRADAY) -> None:
    fill = a_fill(number, side, units, instrument=KEY, product=product)
    world.desk.here.emit(Filled(ts=START_MS, account=PAPER, fill=fill))


def asked_after(world: World, ms: int) -> What | None:
    world.desk.here.now_ms += ms
    desk_orphans.mind(world.desk.here)
    return world.desk.book.gtts["GTT-1"].asked


def test_a_gtt_whose_position_somebody_else_has_closed_is_cancelled_when_that_is_certain(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    assert asked_after(world, 1_000) is None
    trade(world, 2, Side.SELL)
    assert asked_after(world, 1_000) is None
    assert world.desk.here.runtime[PAPER].gtts_ts == world.desk.here.now_ms  # the venue may have closed it
    assert asked_after(world, 1_000) is None
    assert asked_after(world, 1_000) is What.CANCEL_GTT
    assert asked_after(world, 10_000) is What.CANCEL_GTT


def test_a_position_that_is_back_is_guarded_again(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    trade(world, 2, Side.SELL)
    asked_after(world, 1_000)
    trade(world, 3, Side.BUY, 1)
    assert asked_after(world, 5_000) is None
    trade(world, 4, Side.SELL, 1)
    assert asked_after(world, 1_000) is None


@pytest.mark.parametrize("statuses", [{"STOPLOSS": S.TRIGGERED}, {"TARGET": S.OPEN}, {"ENTRY": S.OPEN}], ids=str)
def test_one_whose_orders_are_under_way_is_left_alone(tmp_path: Path, statuses: dict[str, RuleStatus]) -> None:
    world = a_world(tmp_path, **statuses)
    trade(world, 2, Side.SELL)
    assert [asked_after(world, 3_000) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("closed", [True, False])
def test_shares_that_were_delivered_are_guarded_on(tmp_path: Path, closed: bool) -> None:
    """Bought yesterday: today they are no position, and at the venue's depository not everywhere told yet."""
    world = a_world(tmp_path, product="D")
    here, product = world.desk.here, Product.DELIVERY
    here.emit(DayOpened(ts=START_MS, account=PAPER, day="2027-01-01", equity=Decimal(1), own={}))
    if closed:
        trade(world, 2, Side.SELL, product=product)
    else:
        about: dict[str, Any] = {"instrument": KEY, "product": product, "quantity": 0, "average_price": 0, "before": 75}
        here.emit(PositionSeen(ts=START_MS, account=PAPER, **about))
    asked = [asked_after(world, 3_000) for _ in range(3)][-1]
    assert asked is (What.CANCEL_GTT if closed else None)


def test_nothing_is_decided_while_the_books_are_compared(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    trade(world, 2, Side.SELL)
    world.desk.here.runtime[PAPER].reconciling = True
    assert [asked_after(world, 3_000) for _ in range(3)] == [None] * 3
