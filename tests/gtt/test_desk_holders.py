"""Whose units, counted once: square-off by strategy, changes of part-filled orders, holdings, currency contracts."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.venue import Funds, VenueHolding
from gtt.book import worth
from gtt.book.book import AccountRecord, Book
from gtt.book.facts import DayOpened, Filled, FundsSeen
from gtt.book.fold import apply
from gtt.desk import checking
from gtt.desk import exits as desk_exits
from gtt.risk.exposure import scale_of
from gtt.risk.squareoff import square_off_ms
from market import sessions
from schemas.money import Charges
from schemas.orders import Fill, Product, Side
from tests.gtt.fake import KEY, PAPER, SHARE, START_MS, World

TWO = """
[strategy.early]
square_off = { I = 60 }
[strategy.late]
square_off = { I = 5 }
[strategy.never]
square_off = {}
"""
I = Product.INTRADAY  # noqa: E741


def a_fill(number: int, side: Side, quantity: int, price: str = "100", strategy: str = "", **more: Any) -> Fill:
    about: dict[str, Any] = {"instrument": KEY, "product": I, "charges": Charges(), "mode": PAPER, "venue": "fake"}
    return Fill(
        fill_id=f"f{number}", trade_id=f"t{number}", order_id=f"o{number}", venue_order_id=f"v{number}", side=side,
        quantity=quantity, price=Decimal(price), strategy=strategy, ts=START_MS, **{**about, **more},
    )  # fmt: skip


def held(world: World, *fills: Fill) -> None:
    for fill in fills:
        world.desk.here.emit(Filled(ts=START_MS, account=PAPER, fill=fill))


def at(world: World, minutes_before: float) -> None:
    """So long before the end of the share's continuous trading of that day, by the exchange's hours."""
    world.market.always_open = False
    on = sessions.trading_date(START_MS)
    end_ms = square_off_ms(KEY, SHARE, I, on, {I: 0}, always=False)
    assert end_ms is not None
    world.market.market_ms = lambda now_ms: end_ms - int(minutes_before * 60_000)  # type: ignore[method-assign]


def plans(world: World) -> list[tuple[str | None, str]]:
    return [(plan.strategy, plan.by) for plan in world.desk.book.account(PAPER).flattening.values()]


@pytest.mark.parametrize(("minutes", "strategy"), [(61, "-"), (59, "early"), (30, "early"), (4, None)])
def test_each_holder_is_squared_off_at_its_own_time(tmp_path: Path, minutes: float, strategy: str | None) -> None:
    world = World(tmp_path, toml=TWO)
    held(world, a_fill(1, Side.BUY, 5, strategy="early"), a_fill(2, Side.BUY, 7, strategy="late"))
    at(world, minutes)
    desk_exits.square_off(world.desk.here)
    assert [found for found, _ in plans(world)] == ([] if strategy == "-" else [strategy])


def test_people_and_those_who_keep_theirs_are_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, toml=TWO)  # people: ten minutes
    held(world, a_fill(1, Side.BUY, 5), a_fill(2, Side.BUY, 7, strategy="never"))
    at(world, 11)
    desk_exits.square_off(world.desk.here)
    assert plans(world) == []
    at(world, 9)
    desk_exits.square_off(world.desk.here)
    assert [found for found, _ in plans(world)] == [""]


def test_whose_time_has_come_is_closed_for_its_own_units_alone(tmp_path: Path) -> None:
    world = World(tmp_path, toml=TWO)
    world.go(300)
    for number, (name, units) in enumerate((("early", 5), ("never", 7))):
        world.buy(f"c{number}", units, strategy=name)
        world.go(300)
        world.exchange.fill(world.exchange.live()[0].venue_order_id, units)
        world.go(300)
    now, on = world.now_ms, sessions.trading_date(START_MS)
    end_ms = square_off_ms(KEY, SHARE, I, on, {I: 0}, always=False)
    assert end_ms is not None
    world.market.always_open = False
    world.market.market_ms = lambda now_ms: end_ms - 30 * 60_000 + now_ms - now  # type: ignore[method-assign]
    world.go(5_000)
    (leaving,) = world.exchange.live()
    assert (leaving.side, leaving.quantity) == (Side.SELL, 5)
    world.exchange.fill(leaving.venue_order_id, 5)
    world.go(10_000)
    assert world.exchange.net() == 7
    assert world.desk.book.account(PAPER).positions[f"{KEY}|I"].strategies == {"never": 7}
    assert plans(world) == []


# A change of an order that is filled in part


def test_the_filled_part_of_an_order_counts_once_when_it_is_changed(tmp_path: Path) -> None:
    """4 of 10 are filled. 14 in all are Rs 1,400, the limit is Rs 1,500: with the filled part twice they were 1,800."""
    world = World(tmp_path, teji_capital=100_000, teji_risk_position=0.015)
    world.go(300)
    world.buy("a", 10)
    world.go(300)
    world.exchange.fill("V1", 4)
    world.go(300)
    order_id = world.desk.book.at_venue(PAPER, "V1").order.order_id  # type: ignore[union-attr]
    world.command("m", kind="order.modify", order_id=order_id, quantity=14)
    world.command("n", kind="order.modify", order_id=order_id, quantity=16)
    world.go(500)
    assert world.replies == {"a": [True], "m": [True], "n": [False]}
    assert world.desk.book.commands["n"].rule == "position"
    assert world.exchange.orders["V1"].quantity == 14


def test_an_exit_that_is_filled_in_part_stays_an_exit_when_it_is_changed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.go(300)
    world.buy("a", 10)
    world.go(300)
    world.exchange.fill("V1", 10)
    world.go(300)
    body = {"instrument_token": KEY, "transaction_type": "SELL", "quantity": 10, "price": 101, "product": "I"}
    world.command("out", kind="order.place", **body)
    world.go(300)
    (out,) = world.exchange.live()
    world.exchange.fill(out.venue_order_id, 4)
    world.go(300)
    world.desk.halt(world.now_ms, "why")
    world.command("m", kind="order.modify", order_id=out.tag, price=99)
    world.go(500)
    assert world.replies["m"] == [True]
    assert world.exchange.orders[out.venue_order_id].price == 99


# Holdings


@pytest.mark.parametrize(
    ("yesterday", "today", "left"),
    [
        ([], [], 10),
        ([], [(Side.SELL, 4)], 6),
        ([], [(Side.SELL, 10)], 0),
        ([(Side.BUY, 10)], [], 10),  # bought with us: a position and a holding, the same units
        ([(Side.BUY, 10)], [(Side.SELL, 10)], 0),
        ([(Side.BUY, 10)], [(Side.BUY, 5)], 15),
        ([], [(Side.SELL, 10), (Side.BUY, 3)], 3),
    ],
)
def test_what_is_kept_in_the_depository_is_sold_once(
    tmp_path: Path, yesterday: list[tuple[Side, int]], today: list[tuple[Side, int]], left: int
) -> None:
    world = World(tmp_path)
    here, number = world.desk.here, 0
    for day, trades in ((date(2026, 1, 1), yesterday), (date(2026, 1, 2), today)):
        here.emit(DayOpened(ts=START_MS, account=PAPER, day=day.isoformat(), equity=Decimal(1), own={}))
        for side, quantity in trades:
            number += 1
            held(world, a_fill(number, side, quantity, product=Product.DELIVERY))
    holdings = (VenueHolding(KEY, "", 10, Decimal(90)),)
    here.emit(FundsSeen(ts=START_MS, account=PAPER, funds=Funds(Decimal(1)), holdings=holdings))
    assert checking.units_of(here, PAPER, KEY, Product.DELIVERY).net == left


# Currency


def test_a_currency_contract_is_worth_a_thousand_times_its_price() -> None:
    book, dollar = Book(), "NCD_FO|1"
    for number, (side, price) in enumerate(((Side.BUY, "83.5"), (Side.SELL, "83.75"))):
        fill = a_fill(number, side, 2 - number, price, instrument=dollar)
        apply(book, number + 1, Filled(ts=START_MS, account=PAPER, fill=fill))
    account: AccountRecord = book.account(PAPER)
    position = account.positions[f"{dollar}|I"]
    assert (scale_of(dollar), scale_of(KEY)) == (1000, 1)
    assert (position.quantity, position.average_price, position.realised) == (1, Decimal("83.5"), Decimal(250))
    assert worth.unrealised(position, lambda _: Decimal("83.6")) == 100
    assert worth.equity(account, Decimal(1_000), lambda _: Decimal("83.6")) == 1_350
    assert worth.own_equity(account, "", Decimal(1_000), lambda _: None) == 1_250
