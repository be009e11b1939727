"""Margins and charges, by the venue's SDK."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import upstox_client
from upstox_client import Instrument, MarginRequest

from market.instruments import Instrument as Contract
from sim import hedges
from sim.exchange import Exchange
from sim.hedges import Line
from sim.universe import CALL, PUT
from tests.sim.simtools import RELIANCE, served
from tests.sim.vendor import called, refused, sdk


def contracts(exchange: Exchange, kind: str) -> list[Contract]:
    """Of the nearest expiry, in order of their strikes."""
    found = [each for each in exchange.market.listing.instruments if each.instrument_type == kind]
    first = min(each.expiry for each in found if each.expiry)
    same = [each for each in found if each.expiry == first and each.underlying_symbol == "NIFTY"]
    return sorted(same, key=lambda each: each.strike or 0)


def asked(instrument: Contract, side: str, lots: int = 1, price: float = 100.0) -> Instrument:
    return Instrument(instrument.key, lots * instrument.lot_size, "D", side, price)


async def test_margins_are_the_premium_a_share_of_the_contract_and_less_for_a_hedge() -> None:
    async with served() as exchange, sdk(exchange) as client:
        margin = upstox_client.ChargeApi(client).post_margin
        low, high = contracts(exchange, CALL)[:2]
        bought = (await called(margin, MarginRequest([asked(high, "BUY")]))).data
        assert bought.margins[0].net_buy_premium == bought.final_margin == 100.0 * high.lot_size
        sold = (await called(margin, MarginRequest([asked(low, "SELL")]))).data
        assert sold.margins[0].span_margin > sold.margins[0].exposure_margin > 0
        assert sold.required_margin == pytest.approx(sold.margins[0].total_margin)
        both = (await called(margin, MarginRequest([asked(low, "SELL"), asked(high, "BUY")]))).data
        assert both.required_margin == pytest.approx(sold.required_margin + bought.required_margin)
        distance = ((high.strike or 0) - (low.strike or 0)) * low.lot_size
        expected = distance + sold.margins[0].exposure_margin + bought.final_margin
        assert both.final_margin == pytest.approx(expected, abs=0.02)
        shares = (await called(margin, MarginRequest([Instrument(RELIANCE, 10, "D", "BUY", 1_000.0)]))).data
        assert shares.margins[0].equity_margin == shares.final_margin == 10_000.0


async def test_each_wrong_field_of_a_margin_call_has_its_code() -> None:
    async with served() as exchange, sdk(exchange) as client:
        margin = upstox_client.ChargeApi(client).post_margin
        option = contracts(exchange, PUT)[0]

        async def code(*lines: Any) -> tuple[str, str | None]:
            failure = await refused(margin, {"instruments": list(lines)})
            assert failure.status == 400
            return failure.code, failure.path

        good = {
            "instrument_key": option.key, "quantity": option.lot_size, "product": "D", "transaction_type": "SELL",
            "price": 10.0,
        }  # fmt: skip
        assert await code(*[good] * 21) == ("UDAPI1102", "instruments")
        assert await code(good, good) == ("UDAPI1103", "instruments[1].instrument_key")
        for wrong, expected in (
            ({"quantity": option.lot_size + 1}, ("UDAPI1104", "instruments[0].quantity")),
            ({"quantity": 0}, ("UDAPI1096", "instruments[0].quantity")),
            ({"quantity": None}, ("UDAPI1097", "instruments[0].quantity")),
            ({"instrument_key": ""}, ("UDAPI1099", "instruments[0].instrument_key")),
            ({"instrument_key": "nothing"}, ("UDAPI1098", "instruments[0].instrument_key")),
            ({"instrument_key": "NSE_FO|0"}, ("UDAPI100011", "instruments[0].instrument_key")),
            ({"product": None}, ("UDAPI1100", "instruments[0].product")),
            ({"transaction_type": None}, ("UDAPI1101", "instruments[0].transaction_type")),
            ({"price": -1}, ("UDAPI1095", "instruments[0].price")),
        ):
            assert await code(good | wrong) == expected


def line(strike: float, lots: int, kind: str = CALL) -> Line:
    contract = Contract(
        key=f"NSE_FO|{strike}{kind}", segment="NSE_FO", exchange="NSE", name="NIFTY", trading_symbol="N", lot_size=65,
        tick_size=0.05, instrument_type=kind, strike=strike, underlying_symbol="NIFTY", expiry=date(2026, 11, 23),
    )  # fmt: skip
    return Line(contract, "D", lots * 65, Decimal(100), Decimal(26_000))


def test_a_bought_option_hedges_only_what_it_covers() -> None:
    short, cover = line(26_000, -2), line(26_200, 1)
    alone = hedges.alone(short).total + hedges.alone(cover).total
    half = hedges.alone(short).span / 2
    assert hedges.together([short, cover]) == alone - half + 200 * 65
    assert hedges.together([short, line(26_200, 2, PUT)]) == hedges.alone(short).total + 2 * 65 * 100
    assert hedges.together([line(26_000, -1, PUT), line(26_100, 1, PUT)]) < hedges.together([line(26_000, -1, PUT)])


async def test_brokerage_is_the_charges_of_one_order() -> None:
    async with served() as exchange, sdk(exchange) as client:
        brokerage = upstox_client.ChargeApi(client).get_brokerage
        cost = (await called(brokerage, RELIANCE, 500, "I", "SELL", 1_000.0, "2.0")).data.charges
        assert (cost.brokerage, cost.taxes.stt, cost.taxes.stamp_duty) == (20.0, 125.0, 0.0)
        raw = cost.other_taxes
        assert raw.transaction == pytest.approx(15.35, abs=0.01)
        assert raw.sebi_turnover == 0.5
        assert cost.dp_plan.min_expense > 0
        parts = cost.brokerage + cost.taxes.stt + cost.taxes.gst + raw.transaction + raw.sebi_turnover
        assert cost.total == pytest.approx(parts, abs=0.02)
        option = contracts(exchange, CALL)[0]
        bought = (await called(brokerage, option.key, 65, "D", "BUY", 80.0, "2.0")).data.charges
        assert (bought.taxes.stt, bought.brokerage) == (0.0, 20.0)


async def test_each_wrong_field_of_a_brokerage_call_has_its_code() -> None:
    async with served() as exchange, sdk(exchange) as client:
        brokerage = upstox_client.ChargeApi(client).get_brokerage
        for arguments, expected in (
            (("nothing", 1, "D", "BUY", 1.0), ("UDAPI1059", "instrument_token")),
            ((RELIANCE, "", "D", "BUY", 1.0), ("UDAPI1060", "quantity")),
            ((RELIANCE, 1, "D", "BUY", ""), ("UDAPI1061", "price")),
            ((RELIANCE, 1, "D", "", 1.0), ("UDAPI1062", "transaction_type")),
            ((RELIANCE, 1, "", "BUY", 1.0), ("UDAPI1063", "product")),
            ((RELIANCE, 0, "D", "BUY", 1.0), ("UDAPI1064", "quantity")),
            ((RELIANCE, 1, "D", "BUY", 0), ("UDAPI1065", "price")),
            ((RELIANCE, 1, "X", "BUY", 1.0), ("UDAPI1054", "product")),
            ((RELIANCE, 1, "D", "HOLD", 1.0), ("UDAPI1057", "transaction_type")),
        ):
            failure = await refused(brokerage, *arguments, "2.0")
            assert (failure.code, failure.path) == expected
