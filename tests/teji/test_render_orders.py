"""`teji tail orders` and `signals`: a line that says what happened."""

import pytest

from schemas.gtt import GttBody
from schemas.money import Charges
from schemas.orders import Fill, OrderStatus, Product, Refusal, Side, TradingMode
from schemas.signals import Signal, SignalSide
from teji import render
from tests.gateway.desk import TS, a_gtt, an_order
from tests.gateway.house import CALL
from tests.gateway.test_gtt import SEED
from tests.gateway.test_portfolio import a_position

FILL = Fill(
    fill_id="o:t",
    trade_id="t",
    order_id="o",
    venue_order_id="v",
    instrument=CALL,
    side=Side.BUY,
    quantity=75,
    price="101.45",
    product=Product.INTRADAY,
    charges=Charges(total="23.5"),
    mode=TradingMode.PAPER,
    venue="paper",
    ts=TS,
)
REFUSAL = Refusal(intent_id="command:1", rule="position", reason="more than 2 % of the capital", instrument=CALL, ts=TS)


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        (
            "order",
            an_order("o"),
            ["order", "paper", CALL, "BUY", "0/75", "I LIMIT @ 101.50 open", an_order("o").order_id],
        ),
        ("order", an_order("o", status=OrderStatus.REJECTED, reason="no funds"), ['rejected "no funds"']),
        ("order", an_order("o", pending="cancel"), ["open, cancel asked"]),
        ("gtt", a_gtt("g", GttBody.model_validate(SEED)), ["MULTIPLE ENTRY ABOVE 200.00 SCHEDULED, TARGET 220.00"]),
        (
            "gtt",
            a_gtt("g", GttBody.model_validate(SEED), live=False),
            ["(over)", "190.00 trailing 5 INACTIVE", "by ours"],
        ),
        ("fill", FILL, ["BUY", "75 I @ 101.45 charges 23.50 o"]),
        ("position", a_position(), ["75 I @ 100.00 last 104.00 realised +0.00 unrealised +300.00 charges 0.00"]),
        ("position", a_position(last_price=None, unrealised=None), ["@ 100.00 realised", "unrealised ?"]),
        ("refused", REFUSAL, ["position: more than 2 % of the capital (command:1)"]),
    ],
)
def test_an_entry_of_orders_is_a_line_that_says_what_happened(kind: str, model: object, said: list[str]) -> None:
    data = model.model_dump_json().encode()  # type: ignore[attr-defined]
    (line,) = render.lines("orders", "1-0", {b"id": b"1", b"kind": kind.encode(), b"data": data})
    assert line.startswith("09:15:00.125 ")
    assert [part for part in said if part not in line] == []


def test_a_signal_is_a_line() -> None:
    one = Signal(
        id="1", strategy="ema", instrument=CALL, ts=TS, side=SignalSide.BUY, price="5", stop_loss="4", reason="up"
    )
    (line,) = render.lines("signals", "1-0", {b"data": one.model_dump_json().encode()})
    assert line == f'09:15:00.125 {"ema":<16} {CALL:<22} BUY  @ 5.00 stop 4.00 "up"'


@pytest.mark.parametrize("data", [b"{}", b"[]", b"x", b'{"ts":1}', b'{"ts":"x"}'])
def test_what_is_not_in_our_form_is_shown_as_it_is(data: bytes) -> None:
    for kind in (b"order", b"gtt", b"fill", b"position", b"refused", b"news"):
        (line,) = render.lines("orders", "1700000000000-0", {b"kind": kind, b"data": data})
        assert "data=" in line
