"""Charges against worked examples of public calculators, and the laws that hold for any trade."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.charges import (
    Deal,
    Kind,
    Traded,
    UnknownCharges,
    kind_of,
    note,
    of_exercise,
    of_fill,
    of_order,
    of_receipt,
    of_traded,
    plans,
)
from market.instruments import Instrument
from schemas.money import ZERO, Charges
from schemas.orders import Product, Side

BEFORE, SPLIT, NOW = date(2025, 6, 2), date(2026, 3, 2), date(2026, 4, 1)
DELIVERY, INTRADAY = Kind("NSE_EQ", Deal.DELIVERY), Kind("NSE_EQ", Deal.INTRADAY)
FUTURE, OPTION = Kind("NSE_FO", Deal.FUTURE, "NIFTY"), Kind("NSE_FO", Deal.OPTION, "NIFTY")
SENSEX = Kind("BSE_FO", Deal.OPTION, "SENSEX")
KINDS = [DELIVERY, INTRADAY, FUTURE, OPTION, SENSEX, Kind("MCX_FO", Deal.FUTURE, "GOLD"), Kind("NCD_FO", Deal.OPTION)]


def pair(kind: Kind, quantity: int, buy: str, sell: str, on: date, plan: str = "zerodha") -> list[Traded]:
    return [
        Traded(kind, side, quantity, quantity * Decimal(price), on, plan)
        for side, price in ((Side.BUY, buy), (Side.SELL, sell))
    ]


def d(text: str) -> Decimal:
    return Decimal(text)


# brokerage, STT, transaction with IPFT, SEBI, stamp, GST, total
VECTORS = {
    "1": (DELIVERY, 500, "1000", "1000", BEFORE, "0 1000 30.70 1.00 75.00 5.71 1112.41"),
    "1 after the split": (DELIVERY, 500, "1000", "1000", NOW, "0 1000 30.70 1.00 75.00 5.71 1112.41"),
    "2": (DELIVERY, 5000, "1000", "1000", BEFORE, "0 10000 307.00 10.00 750.00 57.06 11124.06"),
    "2 after the split": (DELIVERY, 5000, "1000", "1000", SPLIT, "0 10000 307.00 10.00 750.00 57.06 11124.06"),
    "3": (INTRADAY, 500, "1000", "1000", BEFORE, "40 125 30.70 1.00 15.00 12.91 224.61"),
    "4a": (FUTURE, 500, "1000", "1000", SPLIT, "40 100 18.30 1.00 10.00 10.67 179.97"),
    "4a before the split": (FUTURE, 500, "1000", "1000", BEFORE, "40 100 18.30 1.00 10.00 10.67 179.97"),
    "4b": (FUTURE, 500, "1000", "1000", NOW, "40 250 18.30 1.00 10.00 10.67 329.97"),
    "5a": (OPTION, 500, "1000", "1000", BEFORE, "40 500 355.30 1.00 15.00 71.33 982.63"),
    "5b": (OPTION, 500, "1000", "1000", NOW, "40 750 355.30 1.00 15.00 71.33 1232.63"),
    "6": (OPTION, 65, "80", "120", NOW, "40 12 4.62 0.01 0.16 8.03 64.82"),
    "7": (SENSEX, 20, "300", "250", NOW, "40 8 3.58 0.01 0.18 7.85 59.62"),
    "8": (FUTURE, 65, "24000", "24100", NOW, "40 783 57.21 3.13 31.20 18.06 932.60"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_note_of_a_buy_and_a_sell(name: str) -> None:
    kind, quantity, buy, sell, on, expected = VECTORS[name]
    told = note(pair(kind, quantity, buy, sell, on))
    lines = (told.brokerage, told.stt, told.transaction + told.ipft, told.sebi, told.stamp, told.gst, told.total)
    assert lines == tuple(map(Decimal, expected.split()))


def test_unrounded_tax_of_an_order() -> None:
    """Vector 6: 11.70 before the note rounds it."""
    sell = pair(OPTION, 65, "80", "120", NOW)[1]
    assert of_traded(sell).stt == d("11.70")


def test_exercise_is_taxed_on_the_intrinsic_value() -> None:
    """Vector 9."""
    told = of_exercise(OPTION, 65 * d("180.35"), NOW)
    assert told == Charges(stt=d("17.58"), total=d("17.58"))
    assert of_exercise(OPTION, 65 * d("180.35"), BEFORE).stt == d("14.65")
    with pytest.raises(UnknownCharges, match="exercise of a future"):
        of_exercise(FUTURE, d("1"), NOW)


def test_delivered_shares_are_stamped() -> None:
    assert of_receipt(FUTURE, d("1000000"), NOW).stamp == d("150")
    with pytest.raises(UnknownCharges, match="MCX_FO"):
        of_receipt(KINDS[5], d("1"), NOW)


def test_tax_on_a_share_is_taken_at_the_days_average_price() -> None:
    """Buy 500 at 100, sell 500 at 105, buy 200 at 110: intraday 12.97, delivery 20.75, of 103.75."""

    def order(side: Side, quantity: int, price: int, kind: Kind = DELIVERY) -> Traded:
        return Traded(kind, side, quantity, Decimal(quantity * price), NOW, "zerodha", "NSE_EQ|INE002A01018")

    intraday = [order(Side.BUY, 500, 100), order(Side.SELL, 500, 105)]
    assert note([*intraday, order(Side.BUY, 200, 110)]).stt == d("34")
    assert note(intraday).stt == d("13")  # 12.8125
    assert note([order(Side.SELL, 200, 110)]).stt == d("22")


def test_small_taxes_round_half_up_on_the_note() -> None:
    def tax(turnover: str) -> Decimal:
        return note([Traded(OPTION, Side.SELL, 1, d(turnover), NOW, "none")]).stt

    assert (tax("333.33"), tax("333.34")) == (d("0"), d("1"))


def test_each_day_and_segment_has_a_note_of_its_own() -> None:
    sell = Traded(OPTION, Side.SELL, 1, d("300"), NOW, "none")  # 0.45 of tax
    later = Traded(OPTION, Side.SELL, 1, d("300"), date(2026, 4, 2), "none")
    assert note([sell, sell]).stt == d("1")
    assert note([sell, later]).stt == d("0")


@pytest.mark.parametrize(
    ("plan", "kind", "turnover", "fee"),
    [
        ("zerodha", DELIVERY, "100000", "0"),
        ("zerodha", INTRADAY, "10000", "3"),
        ("zerodha", INTRADAY, "1000000", "20"),
        ("zerodha", FUTURE, "10000", "3"),
        ("zerodha", OPTION, "100", "20"),
        ("upstox", DELIVERY, "100000", "20"),
        ("upstox", INTRADAY, "10000", "10"),
        ("upstox", FUTURE, "10000", "5"),
        ("upstox", FUTURE, "1000000", "20"),
        ("upstox", OPTION, "100", "20"),
        ("none", OPTION, "100", "0"),
    ],
)
def test_brokerage_by_plan(plan: str, kind: Kind, turnover: str, fee: str) -> None:
    assert of_order(kind, Side.BUY, 1, d(turnover), NOW, plan).brokerage == d(fee)


def test_a_promotion_ends_on_its_day() -> None:
    fees = [
        of_order(OPTION, Side.BUY, 1, d("100"), on, "upstox_api").brokerage
        for on in (NOW, date(2026, 9, 30), date(2026, 10, 1))
    ]
    assert fees == [d("20"), d("10"), d("20")]


def test_squaring_off_by_the_broker_costs() -> None:
    told = of_order(OPTION, Side.SELL, 1, d("100"), NOW, "upstox", squared_off=True)
    assert told.brokerage == d("70")


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        (Kind("BSE_EQ", Deal.DELIVERY, series="A"), "375"),
        (Kind("BSE_EQ", Deal.DELIVERY, series="XT"), "10000"),
        (Kind("BSE_EQ", Deal.DELIVERY, series="ST"), "100000"),
        (Kind("BSE_EQ", Deal.INTRADAY, series="MT"), "275"),
        (Kind("BSE_FO", Deal.FUTURE, "SENSEX"), "0"),
        (Kind("BSE_FO", Deal.OPTION, "BANKEX"), "3250"),
        (Kind("BSE_FO", Deal.OPTION, "SENSEX50"), "500"),
        (Kind("BSE_FO", Deal.OPTION, "FOCIT"), "0"),
        (Kind("NCD_FO", Deal.FUTURE, "USDINR"), "35"),
        (Kind("NCD_FO", Deal.OPTION, "USDINR"), "3110"),
        (Kind("BCD_FO", Deal.FUTURE, "USDINR"), "45"),
        (Kind("BCD_FO", Deal.OPTION, "USDINR"), "100"),
        (Kind("MCX_FO", Deal.FUTURE, "GOLD"), "210"),
        (Kind("MCX_FO", Deal.OPTION, "GOLD"), "4180"),
        (Kind("NSE_EQ", Deal.DELIVERY), "306.99"),
        (Kind("NSE_FO", Deal.FUTURE), "182.99"),
        (Kind("NSE_FO", Deal.OPTION), "3552"),
    ],
)
def test_exchange_fee_of_a_crore(kind: Kind, rate: str) -> None:
    assert of_order(kind, Side.BUY, 1, Decimal(10_000_000), NOW, "none").transaction == d(rate)


@pytest.mark.parametrize(
    ("kind", "on", "buy", "sell"),
    [
        (DELIVERY, NOW, "10000", "10000"),
        (INTRADAY, NOW, "0", "2500"),
        (Kind("NSE_EQ", Deal.DELIVERY, fund=True), NOW, "0", "100"),
        (Kind("NSE_EQ", Deal.INTRADAY, fund=True), NOW, "0", "2500"),
        (FUTURE, date(2024, 9, 30), "0", "1250"),
        (FUTURE, date(2024, 10, 1), "0", "2000"),
        (FUTURE, date(2026, 3, 31), "0", "2000"),
        (FUTURE, NOW, "0", "5000"),
        (OPTION, date(2024, 9, 30), "0", "6250"),
        (OPTION, date(2026, 3, 31), "0", "10000"),
        (OPTION, NOW, "0", "15000"),
        (Kind("MCX_FO", Deal.FUTURE, "GOLD"), NOW, "0", "1000"),
        (Kind("MCX_FO", Deal.FUTURE, "COTTON"), NOW, "0", "0"),
        (Kind("MCX_FO", Deal.OPTION, "GOLD"), NOW, "0", "5000"),
        (Kind("NCD_FO", Deal.FUTURE, "USDINR"), NOW, "0", "0"),
    ],
)
def test_transaction_tax_of_a_crore(kind: Kind, on: date, buy: str, sell: str) -> None:
    on = max(on, date(2024, 10, 1)) if kind.segment not in ("NSE_EQ", "NSE_FO") else on
    told = [of_order(kind, side, 1, Decimal(10_000_000), on, "none").stt for side in Side]
    assert told == [d(buy), d(sell)]


@pytest.mark.parametrize(
    ("kind", "duty"),
    [(DELIVERY, "1500"), (INTRADAY, "300"), (FUTURE, "200"), (OPTION, "300"), (KINDS[5], "200"), (KINDS[6], "10")],
)
def test_stamp_duty_is_the_buyers(kind: Kind, duty: str) -> None:
    told = [of_order(kind, side, 1, Decimal(10_000_000), NOW, "none").stamp for side in Side]
    assert told == [d(duty), ZERO]


def test_the_depositorys_fee_is_taxed() -> None:
    told = of_order(DELIVERY, Side.SELL, 10, d("1000"), NOW, "none", dp=d("18.50"))
    without = of_order(DELIVERY, Side.SELL, 10, d("1000"), NOW, "none")
    assert (told.dp, told.gst - without.gst, told.total - without.total) == (d("18.50"), d("3.33"), d("21.83"))


@pytest.mark.parametrize(
    ("kind", "on", "plan", "words"),
    [
        (OPTION, date(2024, 3, 31), "none", "begin on 2024-04-01"),
        (SENSEX, date(2024, 9, 30), "none", "no transaction known for option in BSE_FO"),
        (Kind("NSE_COM", Deal.FUTURE), NOW, "none", "no charges known for NSE_COM"),
        (OPTION, NOW, "nobody", "no fees known of the broker 'nobody'"),
        (Kind("MCX_FO", Deal.DELIVERY), NOW, "none", "no stt known for delivery in MCX_FO"),
    ],
)
def test_what_is_not_known_is_an_error(kind: Kind, on: date, plan: str, words: str) -> None:
    with pytest.raises(UnknownCharges, match=words):
        of_order(kind, Side.BUY, 1, d("1"), on, plan)


def instrument(kind: str, segment: str, **more: object) -> Instrument:
    key = f"{segment}|1"
    return Instrument(
        **{  # type: ignore[arg-type]
            "key": key,
            "segment": segment,
            "exchange": "NSE",
            "name": "X",
            "trading_symbol": "X",
            "instrument_type": kind,
            "lot_size": 1,
            "tick_size": 0.05,
            **more,
        }
    )


def test_the_kind_of_a_trade_follows_from_instrument_and_product() -> None:
    share = instrument("EQ", "NSE_EQ", isin="INE002A01018")
    assert kind_of(share, Product.INTRADAY).deal is Deal.INTRADAY
    assert kind_of(share, Product.MTF).deal is Deal.DELIVERY
    assert kind_of(instrument("EQ", "NSE_EQ", isin="INF204KB14I2"), Product.DELIVERY).fund
    option = instrument("CE", "BSE_FO", expiry=NOW, strike=80000.0, underlying_symbol="SENSEX")
    assert kind_of(option, Product.INTRADAY) == SENSEX
    with pytest.raises(UnknownCharges, match="is not traded"):
        kind_of(instrument("INDEX", "NSE_INDEX"), Product.INTRADAY)


trades = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(list(Side)),
    st.sampled_from(plans()),
    st.lists(st.tuples(st.integers(1, 5000), st.decimals("0.05", 90000, places=2)), min_size=1, max_size=8),
)


@given(trades)
def test_fills_add_up_to_their_order_and_none_pays_back(
    trade: tuple[Kind, Side, str, list[tuple[int, Decimal]]],
) -> None:
    kind, side, plan, fills = trade
    state = Traded(kind, side, 0, ZERO, NOW, plan)
    sums = dict.fromkeys(Charges.model_fields, ZERO)
    for quantity, price in fills:
        after = state.plus(quantity, price)
        for name, amount in of_fill(state, after):
            assert amount >= 0
            sums[name] += amount
        state = after
    whole = of_traded(state)
    assert sums == dict(whole)
    assert whole.total == sum(amount for name, amount in whole if name != "total")


@given(st.lists(trades, min_size=1, max_size=5), st.decimals(0, 100, places=2))
def test_a_note_taxes_services_only_and_stays_near_its_orders(
    several: list[tuple[Kind, Side, str, list[tuple[int, Decimal]]]], dp: Decimal
) -> None:
    orders = []
    for kind, side, plan, fills in several:
        state = Traded(kind, side, 0, ZERO, NOW, plan)
        for quantity, price in fills:
            state = state.plus(quantity, price)
        orders.append(state)
    told = note(orders, dp=dp)
    services = told.brokerage + told.transaction + told.ipft + told.sebi + told.dp
    assert abs(told.gst - services * d("0.18")) <= d("0.005") * len(KINDS)
    assert min(amount for _, amount in told) >= 0
    apart = sum((of_traded(order).total for order in orders), ZERO) + dp * d("1.18")
    assert abs(told.total - apart) <= d("0.51") * len(orders) + d("0.05") * (len(orders) + 1)
