"""What the account has done: past trades, profit and loss, by the venue's SDK; they agree with what was traded."""

from decimal import Decimal

import pytest
import upstox_client
from hypothesis import given
from hypothesis import strategies as st

from market.instruments import Instrument
from sim import profit
from sim.exchange import Exchange
from sim.orders import PlaceBody
from sim.profit import Deed
from tests.sim.prints import trade_at
from tests.sim.simtools import RELIANCE, served
from tests.sim.vendor import called, refused, sdk

DAY, YEAR = "20-11-2026", "2627"


def trade(exchange: Exchange, side: str, quantity: int, price: float) -> None:
    trade_at(exchange, RELIANCE, price)
    limit = Decimal(str(price)) + (10 if side == "BUY" else -10)
    body = PlaceBody(
        instrument_token=RELIANCE, transaction_type=side, quantity=quantity, product="I", order_type="LIMIT",
        price=limit,
    )  # fmt: skip
    [order] = exchange.trading.place(body, at_ms=exchange.now_ms())
    assert order.filled_quantity == quantity


async def test_the_reports_add_up_to_the_trades() -> None:
    async with served() as exchange, sdk(exchange) as client:
        for side, quantity, price in (("BUY", 30, 1_480.0), ("SELL", 20, 1_490.0), ("BUY", 5, 1_485.0)):
            trade(exchange, side, quantity, price)
        past = upstox_client.PostTradeApi(client).get_trades_by_date_range
        reply = await called(past, "2026-11-20", "2026-11-20", 1, 100, segment="EQ")
        assert sum(each.quantity for each in reply.data) == 55
        first = reply.data[0]
        assert (first.transaction_type, first.isin, first.instrument_token) == ("BUY", "INE002A01018", RELIANCE)
        assert first.amount == pytest.approx(first.quantity * first.price)
        assert reply.meta_data.page.total_records == len(reply.data)
        assert (await called(past, "2026-11-20", "2026-11-20", 1, 100, segment="FO")).data == []
        assert (await called(past, "2026-11-21", "2026-11-22", 1, 100)).data == []
        await agree(exchange, upstox_client.TradeProfitAndLossApi(client))


async def agree(exchange: Exchange, api: upstox_client.TradeProfitAndLossApi) -> None:
    count = (await called(api.get_trade_wise_profit_and_loss_meta_data, "EQ", YEAR, "2.0")).data
    rows = (await called(api.get_trade_wise_profit_and_loss_data, "EQ", YEAR, 1, 5000, "2.0")).data
    assert (count.trades_count, count.page_size_limit) == (len(rows), 5_000)
    assert sum(each.quantity for each in rows) == 20
    assert {(each.trade_type, each.buy_date, each.sell_date) for each in rows} == {("EQ", DAY, DAY)}
    [position] = exchange.trading.positions()
    earned = sum(each.sell_amount - each.buy_amount for each in rows)
    assert earned == pytest.approx(float(position.realised), abs=5)  # one by the oldest, one by the average
    cost = (await called(api.get_profit_and_loss_charges, "EQ", YEAR, "2.0", from_date=DAY, to_date=DAY)).data
    parts = cost.charges_breakdown
    assert parts.brokerage == pytest.approx(47.43, abs=0.1)  # the last order is small
    total = parts.brokerage + sum(parts.taxes.to_dict().values())
    assert parts.total == pytest.approx(total + parts.charges.transaction + parts.charges.sebi_turnover, abs=0.02)
    nothing = (await called(api.get_profit_and_loss_charges, "FO", YEAR, "2.0")).data.charges_breakdown
    assert nothing.total == 0


async def test_each_wrong_parameter_of_a_report_has_its_code() -> None:
    async with served() as exchange, sdk(exchange) as client:
        api = upstox_client.TradeProfitAndLossApi(client)
        charges, data = api.get_profit_and_loss_charges, api.get_trade_wise_profit_and_loss_data
        past = upstox_client.PostTradeApi(client).get_trades_by_date_range
        for call, arguments, more, expected in (
            (charges, ("", YEAR, "2.0"), {}, ("UDAPI1067", "segment")),
            (charges, ("XX", YEAR, "2.0"), {}, ("UDAPI1066", "segment")),
            (charges, ("EQ", "", "2.0"), {}, ("UDAPI1070", "financial_year")),
            (charges, ("EQ", "26", "2.0"), {}, ("UDAPI1074", "financial_year")),
            (charges, ("EQ", "2629", "2.0"), {}, ("UDAPI100051", "financial_year")),
            (charges, ("EQ", YEAR, "2.0"), {"from_date": "01-03-2026"}, ("UDAPI1105", "from_date")),
            (charges, ("EQ", YEAR, "2.0"), {"to_date": "2026-11-20"}, ("UDAPI1088", "to_date")),
            (charges, ("EQ", YEAR, "2.0"), {"from_date": DAY, "to_date": "19-11-2026"}, ("UDAPI1075", "to_date")),
            (data, ("EQ", YEAR, "", 10, "2.0"), {}, ("UDAPI1071", "page_number")),
            (data, ("EQ", YEAR, 1, "", "2.0"), {}, ("UDAPI1072", "page_size")),
            (data, ("EQ", YEAR, 1, 0, "2.0"), {}, ("UDAPI1106", "page_size")),
            (data, ("EQ", YEAR, 1, 5_001, "2.0"), {}, ("UDAPI1107", "page_size")),
            (past, ("", "2026-11-20", 1, 10), {}, ("UDAPI1068", "start_date")),
            (past, ("2026-11-20", "", 1, 10), {}, ("UDAPI1069", "end_date")),
        ):
            failure = await refused(call, *arguments, **more)
            assert (failure.status, failure.code, failure.path) == (400, *expected)


SHARE = Instrument(
    key="NSE_EQ|X", segment="NSE_EQ", exchange="NSE", name="X", trading_symbol="X", instrument_type="EQ", lot_size=1,
    tick_size=0.05,
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(-9, 9).filter(bool), st.integers(1, 50)), max_size=30))
def test_what_was_closed_and_what_is_open_are_all_that_was_traded(trades: list[tuple[int, int]]) -> None:
    deeds = [Deed(SHARE, "I", units, Decimal(price), place) for place, (units, price) in enumerate(trades)]
    found = profit.closed(deeds)
    bought = sum(each.quantity for each in deeds if each.quantity > 0)
    sold = -sum(each.quantity for each in deeds if each.quantity < 0)
    assert sum(each.quantity for each in found) == min(bought, sold)
    assert all(each.quantity > 0 for each in found)
    assert [each.ended_ms for each in found] == sorted(each.ended_ms for each in found)
    if bought == sold:
        assert sum(each.profit for each in found) == -sum(each.quantity * each.price for each in deeds)
