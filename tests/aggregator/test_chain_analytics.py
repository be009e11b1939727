"""The measures of a chain: check values, and against an independent plain reading of the same definitions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import analytics
from aggregator.quoted import quoted
from bench import plain_chain
from schemas.chain import Action, Chain
from tests.aggregator.chains import LAST_TRADE_MS, MINUTE, RATE, TS, UNDERLYING, Market

YEARS = (LAST_TRADE_MS - TS - MINUTE) / (365 * 86_400_000)
NAN = math.nan
RUPEES = ("gex", "gex_zero", "dex", "vanna", "charm")


def array(*values: float) -> Any:
    return np.array(values, float)


# Check values


def symmetric() -> Chain:
    """Five strikes around 100, as many calls as puts at each, all at a volatility of 20 %."""
    market = Market()
    told: dict[str, dict[str, Any]] = {UNDERLYING: {"ltp": 100.0}, market.future(): {"ltp": 100.0}}
    for strike, oi in ((90.0, 100.0), (95.0, 300.0), (100.0, 500.0), (105.0, 300.0), (110.0, 100.0)):
        for side in plain_chain.SIDES:
            price = plain_chain.value(side, 100.0, strike, YEARS, 0.2, RATE)
            told[market.option(strike, side)] = {"ltp": price, "oi": oi, "vtt": 750}
    return market.chain(told)


def test_a_symmetric_chain_has_a_pcr_of_one() -> None:
    chain = symmetric()
    assert (chain.pcr_oi, chain.pcr_volume) == (1.0, 1.0)
    assert [row.pcr for row in chain.strikes] == [1.0] * 5


def test_a_symmetric_chain_hurts_least_at_its_middle_and_has_its_walls_there() -> None:
    chain = symmetric()
    assert (chain.max_pain, chain.atm_strike, chain.call_wall, chain.put_wall) == (100.0, 100.0, 100.0, 100.0)
    assert chain.strikes[0].pain == 5 * 300 + 10 * 500 + 15 * 300 + 20 * 100  # the puts, all above


def test_calls_and_puts_of_one_size_cancel_in_gamma_and_not_in_delta() -> None:
    chain = symmetric()
    assert chain.gex == pytest.approx(0.0, abs=0.01)
    assert chain.dex is not None
    assert chain.dex > 0
    assert chain.exposure_oi_pct == 100.0


def test_where_prices_come_from_one_volatility_there_is_no_skew_and_parity_holds() -> None:
    chain = symmetric()
    assert chain.atm_iv == 0.2
    assert chain.skew_25d == pytest.approx(0.0, abs=1e-6)
    assert [row.smile_iv for row in chain.strikes] == pytest.approx([0.2] * 5, abs=1e-6)
    assert [row.parity_residual for row in chain.strikes] == pytest.approx([0.0] * 5, abs=1e-4)
    assert [row.synthetic for row in chain.strikes] == pytest.approx([100.0] * 5, abs=1e-4)


def test_the_straddle_is_near_four_fifths_of_one_sigma() -> None:
    chain = symmetric()
    assert chain.straddle is not None
    assert chain.one_sigma is not None
    assert chain.straddle == pytest.approx(0.8 * chain.one_sigma, rel=0.01)
    assert chain.expected_move == pytest.approx(chain.straddle * chain.expected_move_factor, abs=1e-4)


@pytest.mark.parametrize("side", plain_chain.SIDES)
def test_max_pain_of_one_strike_is_that_strike(side: str) -> None:
    market = Market()
    chain = market.chain({market.option(100.0, side): {"ltp": 2.0, "oi": 75.0}})
    assert chain.max_pain == 100.0
    assert chain.pcr_oi is None  # nothing to divide by, or nothing to divide
    assert (chain.forward, chain.forward_from, chain.atm_strike, chain.gex) == (None, "none", None, None)


def test_equal_pain_goes_to_the_strike_nearest_the_forward() -> None:
    strikes = array(90, 100, 110)
    pains = analytics.pain(strikes, array(50, 0, 0), array(0, 0, 50))
    assert pains.tolist() == [1000.0, 1000.0, 1000.0]
    assert [analytics.max_pain(strikes, pains, forward) for forward in (91, 104, 300, NAN)] == [90, 100, 110, 90]


def test_of_two_strikes_as_near_the_lower_one_is_at_the_money() -> None:
    assert [analytics.atm(array(90, 100, 110), forward) for forward in (95.0, 95.1, 105.0)] == [0, 1, 1]


def test_walls_lie_on_their_side_of_the_forward_and_nearest_of_equals() -> None:
    strikes, oi = array(90, 95, 100, 105, 110), array(900, 500, 10, 500, 500)
    assert analytics.call_wall(strikes, oi, 99.0) == 105.0
    assert analytics.put_wall(strikes, oi, 99.0) == 90.0
    assert analytics.put_wall(strikes, array(7, 7, 9, 0, 0), 96.0) == 95.0
    assert math.isnan(analytics.call_wall(strikes, array(9, 9, 0, -5, NAN), 99.0))
    assert math.isnan(analytics.call_wall(strikes, oi, NAN))


def test_zero_level_is_on_the_line_between_two_strikes() -> None:
    assert analytics.zero_level(array(100, 110, 120), array(-30, 10, 40), 111.0) == 115.0
    assert math.isnan(analytics.zero_level(array(100, 110), array(5, 5), 100.0))
    twice = array(-10, 20, -30, 60)  # sums -10, 10, -20, 40
    assert analytics.zero_level(array(10, 20, 30, 40), twice, 11.0) == 15.0
    assert analytics.zero_level(array(10, 20, 30, 40), twice, 39.0) == pytest.approx(33.333333)


def test_constant_volatility_is_on_a_line_in_total_variance() -> None:
    thirty = 30 / 365
    assert analytics.constant_iv([(thirty / 2, 0.2), (2 * thirty, 0.2)]) == pytest.approx(0.2)
    expected = math.sqrt((0.3**2 * 20 + (0.2**2 * 50 - 0.3**2 * 20) / 3) / 30)
    assert analytics.constant_iv([(50 / 365, 0.2), (20 / 365, 0.3), (5 / 365, 9.0)]) == pytest.approx(expected)
    assert analytics.constant_iv([(thirty, 0.17), (1.0, 0.3)]) == 0.17


@pytest.mark.parametrize(
    "terms",
    [[], [(0.01, 0.2)], [(0.2, 0.2)], [(0.01, 0.2), (0.2, NAN)], [(0.0, 0.2), (0.2, 0.2)]],
    ids=["none", "near", "far", "far unknown", "near expired"],
)
def test_constant_volatility_is_not_extrapolated(terms: list[tuple[float, float]]) -> None:
    assert math.isnan(analytics.constant_iv(terms))


def test_rank_and_percentile_of_volatility_need_some_days() -> None:
    days = [0.10 + 0.01 * n for n in range(21)]
    assert analytics.iv_rank(0.15, days) == pytest.approx(25.0)
    assert analytics.iv_percentile(0.15 + 1e-9, days) == pytest.approx(100 * 6 / 21)
    assert (analytics.iv_rank(0.9, days), analytics.iv_rank(0.01, days)) == (100.0, 0.0)
    assert math.isnan(analytics.iv_rank(0.15, days[: analytics.IV_DAYS_MIN - 1]))
    assert math.isnan(analytics.iv_percentile(NAN, days))
    assert math.isnan(analytics.iv_rank(0.15, [0.15] * 30))  # no width to rank in
    assert analytics.iv_percentile(0.15, [0.15] * 30) == 0.0


def test_rollover_is_a_part_of_both_futures() -> None:
    assert analytics.rollover_pct(300.0, 100.0) == 25.0
    assert math.isnan(analytics.rollover_pct(0.0, 0.0))


@pytest.mark.parametrize(
    ("price", "oi", "expected"),
    [
        (101.0, 1100.0, Action.LONG_BUILDUP),
        (99.0, 1100.0, Action.SHORT_BUILDUP),
        (101.0, 900.0, Action.SHORT_COVERING),
        (99.0, 900.0, Action.LONG_UNWINDING),
        (100.05, 1100.0, Action.NEUTRAL),
        (101.0, 1005.0, Action.NEUTRAL),
        (100.1, 1010.0, Action.LONG_BUILDUP),  # both at their thresholds
        (NAN, 1100.0, None),
        (101.0, NAN, None),
    ],
)
def test_price_and_open_interest_together_say_who_acts(price: float, oi: float, expected: Action | None) -> None:
    assert analytics.action(array(price), array(100.0), array(oi), array(1000.0)) == [expected]


def test_open_interest_from_nothing_is_a_buildup_and_nothing_from_nothing_is_not() -> None:
    found = analytics.action(array(101, 101), array(100, 100), array(75, 0), array(0, 0))
    assert found == [Action.LONG_BUILDUP, Action.NEUTRAL]


def test_a_price_is_the_middle_of_a_sane_quote_else_the_last_trade() -> None:
    bid = array(99.9, NAN, 100.0, 60.0, 0.05, 101.0)
    ask = array(100.1, 100.0, NAN, 140.0, 0.10, 100.0)
    last = array(98.0, 98.0, 98.0, 98.0, 0.05, NAN)
    price, is_mid = quoted(bid, ask, last)
    assert price[:5].tolist() == [100.0, 98.0, 98.0, 98.0, 0.075]
    assert math.isnan(price[5])
    assert is_mid.tolist() == [True, False, False, False, True, False]


# Against the plain reading


@st.composite
def chains(draw: st.DrawFn) -> tuple[Market, dict[str, dict[str, Any]]]:
    """Up to nine strikes; any option, price or open interest may be missing, or make no sense."""
    market = Market()
    forward = draw(st.sampled_from([100.0, 101.25, 250.0]))
    told: dict[str, dict[str, Any]] = {}
    if draw(st.booleans()):
        told[UNDERLYING] = {"ltp": draw(st.sampled_from([forward, forward * 0.995, forward * 1.01]))}
    if draw(st.booleans()):
        told[market.future()] = {"ltp": forward, "oi": 100.0}
    vol = draw(st.floats(0.05, 1.5))
    strikes = draw(st.lists(st.integers(60, 150), min_size=1, max_size=9, unique=True))
    for strike in (forward * each / 100 for each in strikes):
        for side in plain_chain.SIDES:
            if draw(st.integers(0, 9)) == 0:
                continue
            fair = plain_chain.value(side, forward, strike, YEARS, vol, RATE)
            wild = st.sampled_from([None, 0.05, 3.0, forward])
            price = draw(wild) if draw(st.integers(0, 5)) == 0 else round(fair * draw(st.floats(0.97, 1.03)), 2)
            told[market.option(strike, side)] = {
                "ltp": price or None,
                "oi": draw(st.none() | st.integers(0, 20).map(lambda lots: 75.0 * lots)),
                "vtt": draw(st.integers(0, 5)) * 75,
            }
    if not any(terms.strike for key, terms in market.terms.items() if key in told):
        told[market.option(forward, "call")] = {"ltp": 1.0}
    return market, told


def as_rows(chain: Chain) -> list[dict[str, Any]]:
    """What the plain side starts from: prices, open interest, volume. What it computes is not among them."""
    rows = []
    for row in chain.strikes:
        plain: dict[str, Any] = {"strike": row.strike}
        for side, option in (("call", row.call), ("put", row.put)):
            plain[side] = option and {
                "price": option.model.price,
                "oi": option.oi,
                "oi_change": option.oi_change,
                "volume": option.volume,
            }
        rows.append(plain)
    return rows


@settings(deadline=None, max_examples=150)
@given(chains())
def test_volatilities_and_greeks_are_those_of_the_plain_reading(case: Any) -> None:
    market, told = case
    chain = market.chain(told)
    rows = as_rows(chain)
    plain_chain.solved(rows, chain.forward, chain.years, RATE)
    for ours, theirs in zip(chain.strikes, rows, strict=True):
        for option, plain in ((ours.call, theirs["call"]), (ours.put, theirs["put"])):
            if option is None:
                continue
            shown = option.model.model_dump(include={"iv", "delta", "gamma", "theta", "vega", "rho"})
            if option.model.flag != "ok":
                assert set(shown.values()) == {None}
                # nobody finds one, or a price that hardly moves with it
                assert plain["iv"] is None or option.model.flag == "undetermined" or plain["iv"] < 1e-6
                continue
            assert shown["iv"] == pytest.approx(plain["iv"], rel=1e-6, abs=1e-6)
            at = plain_chain.greeks(
                "call" if option is ours.call else "put", chain.forward, ours.strike, chain.years, plain["iv"], RATE
            )
            for name in ("delta", "theta", "vega", "rho"):
                assert shown[name] == pytest.approx(at[name], rel=1e-3, abs=1e-3), name
            assert shown["gamma"] == pytest.approx(at["gamma"], rel=1e-2, abs=1e-8)


@settings(deadline=None, max_examples=250)
@given(chains())
def test_every_aggregate_follows_from_what_is_shown(case: Any) -> None:
    market, told = case
    chain = market.chain(told)
    rows = as_rows(chain)
    for ours, theirs in zip(chain.strikes, rows, strict=True):
        for side in plain_chain.SIDES:
            option = getattr(ours, side)
            if option is not None and option.model.iv:
                more = plain_chain.greeks(side, chain.forward, ours.strike, chain.years, option.model.iv, RATE)
                theirs[side] |= more | option.model.model_dump(include={"iv", "delta", "gamma"})
    expected = plain_chain.measures(rows, chain.forward, chain.spot, chain.years, RATE)
    shown = chain.model_dump()
    for name, value in expected.items():
        if value is None:
            assert shown[name] is None, name
        else:
            assert shown[name] == pytest.approx(value, rel=2e-5, abs=0.011 if name in RUPEES else 2e-5), name
    for one in chain.strikes:
        if one.pain is not None:
            assert one.pain == pytest.approx(plain_chain.pain_at(rows, one.strike), abs=0.006)
