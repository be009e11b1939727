"""The kernel against 80 digits: every volatility that a double price determines, and a flag for every other."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import black76
from market.black76 import DETERMINED, Flag
from tests.market import oracle
from tests.market.oracle import Case

MINUTE: Final = black76.FLOOR_MS / black76.YEAR_MS
EPSILON: Final = 2.0**-52

FORWARD: Final = 24_123.45
STRIKES: Final = [
    *(FORWARD * part for part in (0.5, 0.6, 0.75, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.999999)),
    *(FORWARD, math.nextafter(FORWARD, math.inf)),
    *(FORWARD * part for part in (1.000001, 1.0001, 1.001, 1.01, 1.03, 1.1, 1.25, 1.5, 1.75, 2.0)),
]
TIMES: Final = [MINUTE, 10 * MINUTE, 1 / 365 / 4, 1 / 365, 7 / 365, 30 / 365, 91 / 365, 1.0]
VOLS: Final = [0.01, 0.03, 0.1, 0.15, 0.35, 0.8, 1.5, 3.0]


def check(cases: Sequence[Case]) -> list[Flag]:
    """Each flag is the right one; each volatility is as close as its price allows. Returns what was to be said."""
    told = [oracle.truth(case) for case in cases]
    forward, strike, years, _, rate, is_call = oracle.columns(cases)
    price = np.array([one.price for one in told])
    iv, flags = black76.implied(price, forward, strike, years, is_call, rate)
    for case, true, have, flag in zip(cases, told, iv.tolist(), flags.tolist(), strict=True):
        at_the_edge = abs(true.uncertainty / DETERMINED - 1) < 0.01
        assert flag == true.flag or (at_the_edge and flag in (Flag.OK, Flag.UNDETERMINED)), (case, true, Flag(flag))
        if flag == Flag.OK:
            off = abs(have - case.vol)
            assert off <= 1e-9, (case, true, have)
            assert off <= 0.6 * true.uncertainty + 24 * EPSILON * case.vol, (case, true, have)
        else:
            assert math.isnan(have), (case, true, have)
    return [one.flag for one in told]


@pytest.mark.parametrize("rate", [0.0, 0.0675], ids=["no rate", "6.75 %"])
@pytest.mark.parametrize("is_call", [True, False], ids=["calls", "puts"])
def test_the_volatility_comes_back_from_half_to_twice_the_forward_from_a_minute_to_a_year(
    is_call: bool, rate: float
) -> None:
    cases = [Case(FORWARD, strike, years, vol, rate, is_call) for strike, years, vol in product(STRIKES, TIMES, VOLS)]
    flags = check(cases)
    assert {Flag.OK, Flag.NO_PRICE, Flag.UNDETERMINED, Flag.BELOW_INTRINSIC} == set(flags)
    assert flags.count(Flag.OK) > len(cases) / 2


#: Where one formula hands over to the next: t at the series' ends, z = t (the inflection), the start's two fits.
SEAMS: Final = [
    *((0.02 * (1 + nudge), z) for nudge in (-1e-9, 0, 1e-9) for z in (1e-6, 0.01, 0.5, 3, 12, 30)),
    *((0.4 * (1 + nudge), z) for nudge in (-1e-9, 0, 1e-9) for z in (1e-6, 0.1, 0.1999, 0.2, 0.2001, 1, 5, 12)),
    *((2 * z * (1 + nudge), z) for nudge in (-1e-6, -1e-12, 0, 1e-12, 1e-6) for z in (1e-4, 0.01, 0.19, 0.21, 0.8)),
    *((s, z) for s in (1e-4, 0.01, 0.3) for z in (1.4, 1.499, 1.5, 1.501, 1.6, 8.99, 9, 9.01, 36, 37)),
]


@pytest.mark.parametrize("is_call", [True, False], ids=["calls", "puts"])
def test_nothing_changes_where_one_formula_hands_over_to_the_next(is_call: bool) -> None:
    cases = [
        Case(1000.0, 1000.0 * math.exp(side * s * z), years, s / math.sqrt(years), 0.05, is_call)
        for (s, z), side, years in product(SEAMS, (-1, 1), (0.02, 1.0))
    ]
    check(cases)


@pytest.mark.parametrize("is_call", [True, False], ids=["calls", "puts"])
def test_where_the_price_comes_close_to_its_bound_the_last_bits_still_count(is_call: bool) -> None:
    deviations = np.linspace(1.0, 14.0, 27).tolist()
    cases = [
        Case(100.0, strike, 4.0, s / 2, 0.08, is_call) for s, strike in product(deviations, (20.0, 99.0, 100.0, 450.0))
    ]
    assert {Flag.OK, Flag.UNDETERMINED} <= set(check(cases))


@settings(max_examples=300, deadline=None)
@given(
    forward=st.floats(0.05, 1e6),
    moneyness=st.one_of(st.floats(-0.693, 0.693), st.floats(-1e-3, 1e-3), st.sampled_from([0.0, 1e-12])),
    years=st.floats(math.log(MINUTE), 0.0).map(math.exp),
    vol=st.floats(math.log(0.01), math.log(3.0)).map(math.exp),
    rate=st.sampled_from([0.0, 0.0525, 0.07, -0.01, 0.25]),
    is_call=st.booleans(),
)
def test_any_option_of_a_market_gives_its_volatility_or_the_right_flag(
    forward: float, moneyness: float, years: float, vol: float, rate: float, is_call: bool
) -> None:
    check([Case(forward, forward * math.exp(moneyness), years, vol, rate, is_call)])


@pytest.mark.parametrize("time", [1e-9, 0.003, 0.5, 1.0, 7.3, 60.0], ids=str)
def test_the_discount_factor_has_more_digits_than_a_double(time: float) -> None:
    for rate in (0.0, 0.0525, 0.1, 1.3, -0.04, -1.5):
        high, low = black76._discount(rate, time)
        assert oracle.discount_error(rate, time, high, low) < 1e-17 * max(1.0, abs(rate * time))


SAMPLE: Final = [
    Case(FORWARD, FORWARD * part, years, vol, rate, is_call)
    for (part, years, vol), rate, is_call in product(
        [
            (1.0, MINUTE, 0.12),
            (1.0005, MINUTE, 0.12),
            (0.98, 2 / 365, 0.15),
            (1.0, 7 / 365, 0.13),
            (1.1, 30 / 365, 0.2),
            (0.6, 0.5, 0.4),
            (1.0, 1.0, 0.01),
            (2.0, 1.0, 3.0),
            (0.5, 1.0, 3.0),
            (1.9, 0.25, 0.25),
        ],
        (0.0, 0.07),
        (True, False),
    )
]


@pytest.mark.parametrize("name", ["price", "delta", "gamma", "theta", "vega", "rho"])
def test_the_greeks_are_the_derivatives_of_the_price(name: str) -> None:
    forward, strike, years, vol, rate, is_call = oracle.columns(SAMPLE)
    true = np.array([oracle.greeks(case)[name] for case in SAMPLE])
    have = black76.greeks(vol, forward, strike, years, is_call, rate)[name]
    # theta is the difference of decay and interest: what cancels is lost
    np.testing.assert_allclose(have, true, rtol=2e-12, atol=1e-14 * np.abs(true).max())


def test_solved_greeks_are_those_of_the_volatility() -> None:
    forward, strike, years, vol, rate, is_call = oracle.columns(SAMPLE)
    priced = black76.greeks(vol, forward, strike, years, is_call, rate)
    solved = black76.solve(priced["price"], forward, strike, years, is_call, rate)
    known = [oracle.truth(case).uncertainty < 1e-14 for case in SAMPLE]
    assert sum(known) > len(SAMPLE) / 2
    for name in ("iv", "price", "delta", "gamma", "theta", "vega", "rho"):
        np.testing.assert_allclose(solved[name][known], priced[name][known], rtol=2e-11)


def test_prices_keep_their_digits_far_from_the_money() -> None:
    cases = [
        Case(FORWARD, strike, years, vol, 0.05, strike > FORWARD)
        for strike, years, vol in product(STRIKES, TIMES, VOLS)
    ]
    forward, strike, years, vol, rate, is_call = oracle.columns(cases)
    true = np.array([oracle.truth(case).price for case in cases])
    have = black76.value(vol, forward, strike, years, is_call, rate)
    told = true > 1e-280
    assert true[told].min() < 1e-100
    np.testing.assert_allclose(have[told], true[told], rtol=3e-12)
