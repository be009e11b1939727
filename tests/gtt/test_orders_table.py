"""The order's table, and the fold behind it: whatever the venue tells twice, late or in another order."""

from dataclasses import replace
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.venue import VenueOrder, VenueTrade
from gtt.book import facts
from gtt.book.book import Book
from gtt.book.facts import Fact, What
from gtt.book.fold import apply
from gtt.book.orders_table import NEXT, TOLD, WRITTEN_OFF, Happening, after
from gtt.book.touched import Touched
from gtt.risk.types import Origin
from schemas.money import Charges
from schemas.orders import (
    FINAL,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Side,
    TradingMode,
    Validity,
    order_id_of,
)

TS = 1_787_000_000_000
ID = order_id_of("command:a")
PAPER = TradingMode.PAPER
STATES = [*OrderStatus, WRITTEN_OFF]


def test_every_state_and_happening_is_decided_on() -> None:
    """A row that is not there is illegal on purpose: these are the legal ones, counted."""
    legal = [pair for pair in product(STATES, Happening) if after(*pair) is not None]
    assert len(legal) == len(NEXT)
    assert {state for state, _ in legal} == set(STATES)


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_final_state_stays(status: OrderStatus) -> None:
    assert {after(status, happening) for happening in Happening} <= {None, status}


def test_what_was_given_up_and_turns_up_all_the_same_stands_as_the_venue_has_it() -> None:
    for status, happening in TOLD.items():
        assert after(WRITTEN_OFF, happening) == status


def test_only_what_is_certain_not_to_be_there_is_sent_again() -> None:
    before = {state for (state, happening), then in NEXT.items() if then == OrderStatus.CHECKED}
    assert before == {OrderStatus.SENDING, OrderStatus.UNKNOWN}
    ways = {happening for (_, happening), then in NEXT.items() if then == OrderStatus.CHECKED}
    assert ways == {Happening.NOT_SENT, Happening.DENIED}
    assert {state for (state, happening) in NEXT if happening is Happening.SENT} == {OrderStatus.CHECKED}


# The fold


def order(quantity: int = 10) -> Order:
    return Order(
        order_id=ID, intent_id="command:a", instrument="NSE_EQ|X", side=Side.BUY, quantity=quantity,
        price=Decimal(100), order_type=OrderType.LIMIT, product=Product.INTRADAY, status=OrderStatus.CHECKED,
        mode=PAPER, created_ts=TS, ts=TS,
    )  # fmt: skip


def telling(status: OrderStatus, filled: int = 0, ts: int = 0, **more: Any) -> VenueOrder:
    told = VenueOrder(
        venue_order_id="V1", tag=ID, instrument="NSE_EQ|X", side=Side.BUY, quantity=10, filled_quantity=filled,
        average_price=Decimal(100) if filled else Decimal(0), price=Decimal(100), trigger_price=Decimal(0),
        order_type=OrderType.LIMIT, product=Product.INTRADAY, validity=Validity.DAY, status=status,
        words=status.value, ts=ts,
    )  # fmt: skip
    return replace(told, **more)


def seen(told: VenueOrder) -> facts.Seen:
    return facts.Seen(ts=TS, account=PAPER, order_id=ID, state=told)


def trade(number: int, quantity: int) -> facts.Filled:
    told = VenueTrade(f"T{number}", "V1", "NSE_EQ|X", Side.BUY, quantity, Decimal(100), Product.INTRADAY, TS)
    fill = Fill(
        fill_id=f"{ID}:{told.trade_id}", trade_id=told.trade_id, order_id=ID, venue_order_id="V1",
        instrument="NSE_EQ|X", side=Side.BUY, quantity=quantity, price=Decimal(100), product=Product.INTRADAY,
        charges=Charges(), mode=PAPER, venue="paper", ts=TS,
    )  # fmt: skip
    return facts.Filled(ts=TS, account=PAPER, fill=fill)


def sent() -> list[Fact]:
    approved = facts.Approved(
        ts=TS, account=PAPER, intent_id="command:a", origin=Origin.MANUAL, orders=(order(),), reduces=False
    )
    call: dict[str, Any] = {"ts": TS, "account": PAPER, "what": What.PLACE, "attempt": 1, "order_id": ID}
    return [approved, facts.Sending(**call, request={})]


def folded(*told: Fact) -> tuple[Book, list[Touched]]:
    book, touched = Book(), []
    for n, fact in enumerate([*sent(), *told], 1):
        touched += apply(book, n, fact)
    return book, touched


LIFE: list[Fact] = [
    seen(telling(OrderStatus.IN_FLIGHT, ts=TS + 1)),
    seen(telling(OrderStatus.OPEN, ts=TS + 2)),
    seen(telling(OrderStatus.OPEN, 4, ts=TS + 3)),
    trade(1, 4),
    seen(telling(OrderStatus.COMPLETE, 10, ts=TS + 4)),
    trade(2, 6),
    facts.Answered(ts=TS, account=PAPER, what=What.PLACE, attempt=1, order_id=ID, venue_id="V1"),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(LIFE), max_size=12), st.permutations(LIFE))
def test_tellings_lost_doubled_and_reordered_end_in_the_same_book(noise: list[Fact], rest: list[Fact]) -> None:
    """`rest` holds each once, in any order: what the reconciling brings at the latest."""
    book, touched = folded(*noise, *rest)
    expected, _ = folded(*LIFE)
    record, other = book.orders[ID], expected.orders[ID]
    assert record.order.model_copy(update={"ts": 0}) == other.order.model_copy(update={"ts": 0})
    assert record.traded_quantity == 10
    assert book.account(PAPER).positions == expected.account(PAPER).positions
    assert book.account(PAPER).flow == expected.account(PAPER).flow
    assert [one for one in touched if one.what == "alert"] == []


@settings(deadline=None)
@given(st.lists(st.sampled_from(LIFE), max_size=15))
def test_on_the_way_nothing_that_is_known_better_gets_worse(told: list[Fact]) -> None:
    book, filled, ended = Book(), 0, False
    for n, fact in enumerate([*sent(), *told], 1):
        apply(book, n, fact)
        now = book.orders[ID].order
        assert now.filled_quantity >= filled
        assert not ended or now.status in FINAL
        filled, ended = now.filled_quantity, now.status in FINAL
    assert Book.model_validate_json(book.model_dump_json()).model_dump() == book.model_dump()


def test_an_illegal_step_is_told_and_changes_nothing() -> None:
    down = facts.TurnedDown(ts=TS, account=PAPER, what=What.PLACE, attempt=1, order_id=ID, code="E", words="no")
    book, _ = folded(seen(telling(OrderStatus.OPEN, ts=TS)))
    before = book.orders[ID].order
    touched = apply(book, 9, down)
    assert book.orders[ID].order == before
    assert [one.what for one in touched] == ["alert"]
    assert "turned down" in touched[0].key


def test_more_filled_than_ordered_is_told() -> None:
    _, touched = folded(seen(telling(OrderStatus.OPEN, 12, ts=TS)))
    assert any("12 filled of 10" in one.key for one in touched if one.what == "alert")


def test_a_given_up_order_that_reaches_the_venue_is_known_again() -> None:
    lost: dict[str, Any] = {"ts": TS, "account": PAPER, "what": What.PLACE, "attempt": 1, "order_id": ID}
    book, touched = folded(
        facts.Lost(**lost, reason="no answer", arrival_ts=TS),
        facts.Denied(**lost, books=("tag", "order book")),
        facts.Ended(ts=TS, account=PAPER, order_id=ID, status=OrderStatus.REJECTED, reason="it never arrived"),
        seen(telling(OrderStatus.OPEN, 3, ts=TS)),
    )
    assert book.orders[ID].order.status is OrderStatus.OPEN
    assert list(book.live()) == [book.orders[ID]]
    assert any("given up" in one.key for one in touched if one.what == "alert")
