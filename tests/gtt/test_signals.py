"""From what a strategy says to what is decided."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.venue import Capabilities
from gtt.book.facts import Approved, Filled, GttAccepted, Refused
from gtt.desk.desk import Desk
from schemas.orders import OrderType, Side, TradingMode
from schemas.signals import Signal, SignalSide
from tests.gtt.fake import CAN, KEY, PAPER, START_MS, World
from tests.gtt.test_desk_holders import a_fill

SHADOW = TradingMode.SHADOW
TOML = """
[strategy.s]
mode = "shadow"
sizer = "fixed"
size = 10
trail = 0
"""


def a_desk(tmp_path: Path, *, bid: float | None = None, toml: str = TOML) -> tuple[World, Desk]:
    """Paper and shadow, both known to be as they are."""
    world = World(tmp_path, toml=toml, teji_mode="shadow")
    if bid is not None:
        quote = world.market.quote(KEY)
        assert quote is not None
        higher = replace(quote, bid=bid, ask=bid + 0.05)
        world.market.quote = lambda key: higher if key == KEY else None  # type: ignore[method-assign]
    venues: dict[TradingMode, Capabilities] = {PAPER: CAN, SHADOW: CAN}
    desk = Desk(world.desk.book, world.market, world.settings, venues)
    desk.here.now_ms = START_MS
    for runtime in desk.here.runtime.values():
        runtime.reconciling = False
    return world, desk


def said(desk: Desk, name: str, side: str, **more: Any) -> list[Any]:
    """The decisions that a signal leads to."""
    signal = Signal(id=name, strategy="s", instrument=KEY, ts=START_MS, side=SignalSide(side), **more)
    assert desk.signal(START_MS, signal, START_MS)
    return [row.fact for row in desk.take().rows]


def of(facts: list[Any], kind: type) -> Any:
    (found,) = [fact for fact in facts if isinstance(fact, kind)]
    return found


def plans(desk: Desk) -> list[TradingMode]:
    return [mode for mode in (PAPER, SHADOW) if desk.book.account(mode).flattening]


def test_without_levels_it_is_an_order_with_them_a_gtt(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path)
    order = of(said(desk, "a", "BUY"), Approved).orders[0]
    assert (order.quantity, order.order_type, order.mode) == (10, OrderType.LIMIT, SHADOW)
    _, desk = a_desk(tmp_path)
    gtt = of(said(desk, "b", "BUY", stop_loss=Decimal(95), take_profit=Decimal(110)), GttAccepted).state.gtt
    assert [(rule.strategy.value, rule.trigger_price) for rule in gtt.rules] == [
        ("ENTRY", 100), ("TARGET", 110), ("STOPLOSS", 95)
    ]  # fmt: skip


def test_a_stop_next_to_nothing_does_not_trail(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path, toml=TOML.replace("trail = 0", "trail = 0.05"))
    gtt = of(said(desk, "b", "BUY", stop_loss=Decimal("0.05")), GttAccepted).state.gtt
    assert [(rule.trigger_price, rule.trailing_gap) for rule in gtt.rules[1:]] == [(Decimal("0.05"), None)]


def test_levels_that_no_order_takes_are_refused_in_words(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path)
    refused = of(said(desk, "b", "BUY", take_profit=Decimal(10) ** 9, stop_loss=Decimal(95)), Refused).refusal
    assert refused.rule == "levels"
    assert "do not fit a BUY at 100" in refused.reason


def test_the_same_id_is_decided_once(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path)
    said(desk, "a", "BUY")
    assert said(desk, "a", "BUY", quantity=7) == []


@pytest.mark.parametrize(("bid", "quantity"), [(None, 1_000), (110.0, 500)])
def test_it_is_sized_at_what_the_check_counts(tmp_path: Path, bid: float | None, quantity: int) -> None:
    """Rs 10,000 are at risk. The stop is 10 below the last trade, and 20 below a bid that has left it behind."""
    toml = TOML.replace('"fixed"', '"atr"').replace("size = 10", "size = 1\nrisk_per_trade = 0.01")
    _, desk = a_desk(tmp_path, toml=toml, bid=bid)
    assert of(said(desk, "a", "BUY", stop_loss=Decimal(90)), GttAccepted).state.gtt.quantity == quantity


def test_an_exit_closes_what_the_strategy_holds_in_the_mode_that_it_had_before(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path)
    desk.here.emit(Filled(ts=START_MS, account=PAPER, fill=a_fill(1, Side.BUY, 5, strategy="s")))
    desk.take()
    said(desk, "out", "EXIT")
    assert plans(desk) == [PAPER]


def test_an_exit_closes_in_all_accounts_under_ids_of_their_own(tmp_path: Path) -> None:
    world, desk = a_desk(tmp_path)
    for number, mode in enumerate((PAPER, SHADOW)):
        desk.here.emit(Filled(ts=START_MS, account=mode, fill=a_fill(number, Side.BUY, 5, strategy="s", mode=mode)))
    desk.take()
    said(desk, "out", "EXIT")
    assert plans(desk) == [PAPER, SHADOW]
    facts: list[Any] = []
    for step in range(60):
        desk.tick(START_MS + 100 * step, market_known=True)
        facts += [row.fact for row in desk.take().rows]
    approved = [fact for fact in facts if isinstance(fact, Approved)]
    assert {fact.account for fact in approved} == {PAPER, SHADOW}
    assert len({fact.intent_id for fact in approved}) == len(approved)
    assert of(said(desk, "again", "EXIT"), Refused).refusal.reason == "it is being closed already"
    assert world.settings.teji_mode is SHADOW


@pytest.mark.parametrize(("side", "rule"), [("EXIT", "position"), ("BUY", None)])
def test_nothing_held_is_nothing_to_exit_and_others_are_left_alone(tmp_path: Path, side: str, rule: str | None) -> None:
    _, desk = a_desk(tmp_path)
    desk.here.emit(Filled(ts=START_MS, account=SHADOW, fill=a_fill(1, Side.SELL, 5, strategy="other", mode=SHADOW)))
    desk.take()
    facts = said(desk, "x", side)
    assert plans(desk) == []
    if rule is None:
        assert of(facts, Approved).orders[0].side is Side.BUY
    else:
        assert of(facts, Refused).refusal.rule == rule


def test_the_other_side_closes_and_opens_nothing(tmp_path: Path) -> None:
    _, desk = a_desk(tmp_path)
    desk.here.emit(Filled(ts=START_MS, account=SHADOW, fill=a_fill(1, Side.BUY, 5, strategy="s", mode=SHADOW)))
    desk.take()
    facts = said(desk, "short", "SELL")
    assert plans(desk) == [SHADOW]
    assert not [fact for fact in facts if isinstance(fact, Approved)]
