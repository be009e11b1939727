import math
from time import process_time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import black76
from market.forward import RESIDUAL_MAX, STRIKES_MAX, Forward, ForwardSource, forward

RATE, YEARS = 0.0675, 5 / 365
STRIKES = np.arange(22_000.0, 26_001.0, 50.0)
FORWARD = 24_123.4
NAN = math.nan

Floats = npt.NDArray[np.float64]


def chain(at: float = FORWARD, tick: float = 0.05) -> tuple[Floats, Floats]:
    """Calls and puts of all strikes, rounded to the tick as a market has them."""
    vols = 0.13 + 0.4 * np.log(STRIKES / at) ** 2
    prices = (black76.value(vols, at, STRIKES, YEARS, is_call, RATE) for is_call in (True, False))
    calls, puts = (np.round(one / tick) * tick for one in prices)
    return calls, puts


def test_the_future_of_the_expiry_is_its_forward_and_the_options_say_how_far_they_are_from_it() -> None:
    calls, puts = chain()
    found = forward(24_130.0, STRIKES, calls, puts, RATE, YEARS)
    assert (found.value, found.source, found.strikes) == (24_130.0, ForwardSource.FUTURE, 0)
    assert found.residual == pytest.approx(6.6, abs=0.1)


@pytest.mark.parametrize("future", [NAN, 0.0, -1.0, math.inf], ids=str)
def test_without_a_future_that_trades_the_strikes_near_the_money_tell_it(future: float) -> None:
    calls, puts = chain()
    found = forward(future, STRIKES, calls, puts, RATE, YEARS)
    assert found.source == ForwardSource.PARITY
    assert found.value == pytest.approx(FORWARD, abs=0.05)
    assert 1 <= found.strikes <= STRIKES_MAX
    assert found.residual <= 0.1


@settings(deadline=None)
@given(st.floats(22_500.0, 25_500.0), st.permutations(range(len(STRIKES))))
def test_exact_prices_give_the_forward_itself_in_any_order(at: float, order: list[int]) -> None:
    calls, puts = chain(at, tick=1e-9)
    found = forward(NAN, STRIKES[order], calls[order], puts[order], RATE, YEARS)
    assert found.value == pytest.approx(at, abs=1e-6)
    assert found.strikes >= STRIKES_MAX // 2


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 80), st.booleans(), st.floats(0.05, 500.0)), max_size=3, unique_by=lambda one: one[0]
    )
)
def test_a_few_stale_strikes_do_not_move_it(stale: list[tuple[int, bool, float]]) -> None:
    """Whatever their last prices were: three of seven votes are no majority."""
    calls, puts = chain()
    for at, is_call, price in stale:
        (calls if is_call else puts)[at] = price
    found = forward(NAN, STRIKES, calls, puts, RATE, YEARS)
    assert found.value == pytest.approx(FORWARD, abs=0.3)
    assert found.source == ForwardSource.PARITY


def test_a_narrow_quote_weighs_more_than_a_wide_one() -> None:
    calls, puts = chain()
    spreads = np.full(STRIKES.shape, 20.0)
    money = int(np.argmin(np.abs(calls - puts)))
    near = slice(money - 3, money + 4)
    calls[near] += 8.0  # what trades there is off by as much as the spread allows
    calls[money] -= 8.0
    spreads[money] = 0.1
    assert forward(NAN, STRIKES, calls, puts, RATE, YEARS).value == pytest.approx(FORWARD + 8, abs=1.5)
    assert forward(NAN, STRIKES, calls, puts, RATE, YEARS, spreads).value == pytest.approx(FORWARD, abs=0.5)


def test_strikes_without_both_prices_have_no_vote() -> None:
    calls, puts = chain()
    calls[::2], puts[1::3] = NAN, 0.0
    found = forward(NAN, STRIKES, calls, puts, RATE, YEARS)
    assert found.value == pytest.approx(FORWARD, abs=0.1)
    lonely = np.full(STRIKES.shape, NAN)
    lonely[40] = calls[41]
    assert forward(NAN, STRIKES, lonely, puts, RATE, YEARS).strikes <= 1


@pytest.mark.parametrize("n", [0, 5])
def test_nothing_known_gives_none(n: int) -> None:
    found = forward(NAN, STRIKES[:n], np.full(n, NAN), np.full(n, NAN), RATE, YEARS)
    assert (found.source, found.strikes) == (ForwardSource.NONE, 0)
    assert math.isnan(found.value)
    assert math.isnan(found.residual)


def test_strikes_that_contradict_one_another_give_none() -> None:
    chance = np.random.default_rng(3)
    calls, puts = chance.uniform(1, 2000, (2, STRIKES.size))
    strikes = np.full(STRIKES.shape, 24_000.0) * chance.uniform(0.5, 1.5, STRIKES.size)
    found = forward(NAN, strikes, calls, puts, RATE, YEARS)
    assert found.source == ForwardSource.NONE
    assert math.isnan(found.value)
    assert found.residual > RESIDUAL_MAX * 12_000


def test_the_interest_of_the_expiry_counts() -> None:
    for years in (0.0, 0.25, 2.0):
        growth = math.exp(RATE * years)
        found = forward(NAN, [100.0], [12.0], [5.0], RATE, years)
        assert found == Forward(100.0 + growth * 7.0, ForwardSource.PARITY, 1, 0.0)


def test_four_hundred_strikes_take_well_under_a_fifth_of_a_millisecond() -> None:
    strikes = np.arange(15_000.0, 35_000.0, 50.0)
    calls, puts = (black76.value(0.15, FORWARD, strikes, YEARS, is_call, RATE) for is_call in (True, False))
    spent = []
    for _ in range(5):
        start = process_time()
        for _ in range(50):
            forward(NAN, strikes, calls, puts, RATE, YEARS)
        spent.append((process_time() - start) / 50)
    assert min(spent) < 200e-6
