"""Sizers, stops and targets."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.settings import Sizer
from gtt.risk.limits import Limits
from gtt.risk.risk import Approved, check
from gtt.risk.sizing import Levels, Wish, levels, size, to_tick
from schemas.orders import Side, StrategyMode
from tests.gtt.risk_case import CALL, CAPITAL, CURRENCY, FUTURE, GOLD, ON, SHARE, D, limits, market, proposal, standing


def wish(**more: Any) -> Wish:
    start: dict[str, Any] = {"instrument": SHARE, "side": Side.BUY, "price": D(100), "capital": CAPITAL, "on": ON}
    return Wish(**(start | more))


def by(sizer: Sizer, size: str = "1", **more: Any) -> Limits:
    """Room for whole positions, so that the sizer alone decides."""
    return limits(**({"sizer": sizer, "size": D(size), "position": D(1), "trade_risk": D(1)} | more))


@pytest.mark.parametrize(
    ("allowed", "asked", "quantity"),
    [
        (by(Sizer.FIXED, "3"), wish(), 3),
        (by(Sizer.FIXED, "2"), wish(instrument=CALL), 130),
        (by(Sizer.FIXED, "2.9"), wish(instrument=CALL), 130),
        (by(Sizer.PERCENT, "2"), wish(), 200),
        (by(Sizer.PERCENT, "2"), wish(price=D("99.99")), 200),
        (by(Sizer.PERCENT, "2"), wish(price=D("100.01")), 199),
        (by(Sizer.PERCENT, "2"), wish(instrument=CALL), 195),  # 200 units are three lots
        (by(Sizer.PERCENT, "20"), wish(instrument=FUTURE, price=D(24000)), 65),  # 187,200 of margin a lot
        (by(Sizer.ATR, trade_risk=D("0.02")), wish(atr=D(5)), 2000),  # 20,000 at risk, 10 a share
        (by(Sizer.ATR, trade_risk=D("0.02")), wish(stop=D(92)), 2500),
        (by(Sizer.ATR, trade_risk=D("0.02")), wish(stop=D(92), atr=D(5)), 2500),  # its own stop goes before
        (by(Sizer.ATR, "0.5", trade_risk=D("0.02")), wish(atr=D(5)), 1000),
        (by(Sizer.ATR, trade_risk=D("0.02")), wish(side=Side.SELL, stop=D(108)), 2500),
        (by(Sizer.VOLATILITY), wish(volatility=0.4), 2500),  # 10 % of 40 %: a quarter of the capital
        (by(Sizer.VOLATILITY), wish(volatility=0.04), 10_000),  # two and a half times the capital: all of it
        (by(Sizer.KELLY), wish(win_rate=0.6, payoff=1.0), 500),  # a quarter of 20 %
        (by(Sizer.KELLY, "0.1"), wish(win_rate=0.6, payoff=1.0), 200),  # a tenth of it
        (by(Sizer.KELLY), wish(win_rate=0.6, payoff=1.0, stop=D(90)), 5000),  # the stake is what may be lost
        (by(Sizer.KELLY), wish(win_rate=0.5, payoff=2.0), 625),
    ],
)
def test_a_sizer(allowed: Limits, asked: Wish, quantity: int) -> None:
    assert size(allowed, asked).quantity == quantity


@pytest.mark.parametrize(
    ("allowed", "asked", "words"),
    [
        (by(Sizer.ATR), wish(), "the atr sizer needs a stop or the ATR, and the signal has neither"),
        (by(Sizer.ATR), wish(stop=D(100)), "the stop at 100 is on the wrong side of 100"),
        (by(Sizer.FIXED), wish(stop=D(101)), "the stop at 101 is on the wrong side of 100"),
        (by(Sizer.FIXED), wish(side=Side.SELL, stop=D(99)), "the stop at 99 is on the wrong side of 100"),
        (by(Sizer.FIXED, "0.9"), wish(instrument=CALL), "0.9 lots: 58.5 units are less than a lot of 65"),
        (by(Sizer.PERCENT, "0.5"), wish(instrument=CALL), "0.5 % of Rs 10,00,000: 50 units are less than a lot of 65"),
        (by(Sizer.VOLATILITY), wish(), "the volatility sizer needs the volatility, and the signal does not tell it"),
        (by(Sizer.KELLY), wish(win_rate=0.6), "the kelly sizer needs win_rate and payoff, and the signal does not"),
        (
            by(Sizer.KELLY),
            wish(win_rate=0.5, payoff=1.0),
            "winning 50 % of the time at a payoff of 1 is worth no stake",
        ),
        (by(Sizer.KELLY), wish(win_rate=0.0, payoff=1.0), "winning 0 % of the time"),
        (by(Sizer.FIXED), wish(price=D(0)), "no price is known"),
        (by(Sizer.FIXED), wish(instrument=GOLD), "nobody tells how many units a lot of MCX_FO is"),
        (
            limits(sizer=Sizer.FIXED),
            wish(instrument=FUTURE, price=D(24000)),
            "1 lot, cut to the largest position of Rs 20,000: 6.94 units are less than a lot of 65",
        ),
    ],
)
def test_nothing_has_a_reason(allowed: Limits, asked: Wish, words: str) -> None:
    found = size(allowed, asked)
    assert found.quantity == 0
    assert found.reason.startswith(words)


def test_no_sizer_goes_beyond_position_and_risk() -> None:
    assert size(limits(sizer=Sizer.FIXED, size=D(1000)), wish()).quantity == 200
    assert size(limits(sizer=Sizer.FIXED, size=D(1000)), wish(instrument=CALL)).quantity == 195
    tight = limits(sizer=Sizer.FIXED, size=D(1000), position=D(1))
    assert size(tight, wish(stop=D(50))).quantity == 400
    assert size(tight, wish(stop=D(50))).reason == "1000 lots, cut to the risk of Rs 20,000 a trade"


def test_a_strategy_has_its_share_of_the_capital() -> None:
    quarter = replace(by(Sizer.PERCENT, "2"), share=D("0.25"))
    assert size(quarter, wish()).quantity == 50


def test_a_dollar_counts_a_thousand_times() -> None:
    allowed = by(Sizer.ATR, trade_risk=D("0.02"))
    asked = wish(instrument=CURRENCY, price=D("84.5"), stop=D("84.25"))
    assert size(allowed, asked).quantity == 80  # 250 rupees a contract


@settings(deadline=None)
@given(
    sizer=st.sampled_from(Sizer),
    lots=st.integers(1, 10_000),
    instrument=st.sampled_from([SHARE, CALL]),
    price=st.integers(100, 300_000),
    atr=st.integers(1, 40),
    side=st.sampled_from(Side),
)
def test_what_a_sizer_says_passes_the_rules_that_it_knows(
    sizer: Sizer, lots: int, instrument: Any, price: int, atr: int, side: Side
) -> None:
    cost = D(price) / 20
    allowed = limits(sizer=sizer, size=D(lots))
    around = levels(
        allowed, instrument=instrument, side=side, price=cost, stop=None, target=None, atr=cost * atr / 1000
    )
    asked = wish(
        instrument=instrument, side=side, price=cost, stop=around.stop,
        volatility=0.3, win_rate=0.7, payoff=1.5, underlying_price=D(24000),
    )  # fmt: skip
    found = size(allowed, asked)
    if not found.quantity:
        return
    order = proposal(instrument=instrument.key, side=side, quantity=found.quantity, price=cost, stop=around.stop)
    of = market(instrument=instrument, ltp=cost, bid=cost, ask=cost, band=None, underlying_ltp=D(24000))
    answer = check(order, of, standing(switch=StrategyMode.PAPER), allowed)
    assert isinstance(answer, Approved), answer


# Stops and targets


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"atr": D(5)}, Levels(D(90), D(120), D(10))),
        ({"atr": D(5), "side": Side.SELL}, Levels(D(110), D(80), D(10))),
        ({"stop": D("91.02"), "target": D("109.98")}, Levels(D("91.05"), D("109.95"), D("8.95"))),
        ({"stop": D("109"), "target": D("91"), "side": Side.SELL}, Levels(D(109), D(91), D(9))),
        ({"stop": D(80), "atr": D(5)}, Levels(D(80), D(120), D(20))),  # the stop is not tightened by trailing
        ({"target": D(150)}, Levels(None, D(150), None)),
        ({}, Levels(None, None, None)),
        ({"atr": D("0.001")}, Levels(D("99.95"), D("100.05"), D(1))),
        ({"atr": D(500)}, Levels(D("0.05"), D(2100), D("99.95"))),
        ({"atr": D(500), "side": Side.SELL}, Levels(D(1100), D("0.05"), D(1000))),
        ({"stop": D("99.99")}, Levels(D("99.95"), None, D(1))),  # rounding it towards the price would leave none
    ],
)
def test_levels(asked: dict[str, Any], found: Levels) -> None:
    start: dict[str, Any] = {
        "instrument": SHARE, "side": Side.BUY, "price": D(100), "stop": None, "target": None, "atr": None
    }  # fmt: skip
    assert levels(limits(), **(start | asked)) == found


def test_no_trailing_where_the_setting_says_so() -> None:
    found = levels(limits(trail=D(0)), instrument=SHARE, side=Side.BUY, price=D(100), stop=D(90), target=None, atr=None)
    assert found.trailing_gap is None


@settings(deadline=None)
@given(price=st.integers(1, 10_000_000), tick=st.sampled_from(["0.01", "0.05", "0.1", "0.0025", "1"]), up=st.booleans())
def test_ticks_are_exact(price: int, tick: str, up: bool) -> None:
    said, step = Decimal(price) / 1000, Decimal(tick)
    found = to_tick(said, step, up=up)
    assert found % step == 0
    assert 0 <= (found - said if up else said - found) < step
    assert "E" not in str(found)
