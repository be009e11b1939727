"""What must hold between the kernel's own answers, its flags, and the shapes it takes."""

import math
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from market import black76
from market.black76 import OPTION, Flag, greeks, implied, solve, value, years
from sim import black

NUMBERS: Final = [name for name in OPTION.names or () if name != "flag"]
DAY_MS: Final = 86_400_000
NAN, INF = math.nan, math.inf

#: One of each flag: price, forward, strike, years, is_call, rate.
CASES: Final = {
    "a price": (Flag.OK, 10.0, 100.0, 100.0, 0.1, True, 0.05),
    "no trade yet": (Flag.NO_PRICE, NAN, 100.0, 100.0, 0.1, True, 0.05),
    "price of zero": (Flag.NO_PRICE, 0.0, 100.0, 100.0, 0.1, True, 0.05),
    "price of minus zero": (Flag.NO_PRICE, -0.0, 100.0, 100.0, 0.1, True, 0.05),
    "negative price": (Flag.NO_PRICE, -1.0, 100.0, 100.0, 0.1, True, 0.05),
    "infinite price": (Flag.NO_PRICE, INF, 100.0, 100.0, 0.1, True, 0.05),
    "call below intrinsic": (Flag.BELOW_INTRINSIC, 9.9, 110.0, 100.0, 0.1, True, 0.0),
    "put below intrinsic": (Flag.BELOW_INTRINSIC, 9.9, 90.0, 100.0, 0.1, False, 0.0),
    "at intrinsic": (Flag.BELOW_INTRINSIC, 10.0, 110.0, 100.0, 0.1, True, 0.0),
    "call at the forward": (Flag.ABOVE_BOUND, 100.0, 100.0, 80.0, 0.1, True, 0.0),
    "put at the strike": (Flag.ABOVE_BOUND, 80.0, 100.0, 80.0, 0.1, False, 0.0),
    "far above any price": (Flag.ABOVE_BOUND, 1e200, 100.0, 80.0, 0.1, True, 0.05),
    "one place above intrinsic": (Flag.UNDETERMINED, math.nextafter(50.0, INF), 150.0, 100.0, 0.1, True, 0.0),
    "one place below the forward": (Flag.UNDETERMINED, math.nextafter(100.0, 0.0), 100.0, 100.0, 0.1, True, 0.0),
    "too small a volatility for its gamma": (Flag.UNDETERMINED, 1e-160, 100.0, 100.0, 0.1, True, 0.0),
    "smallest double": (Flag.UNDETERMINED, 5e-324, 100.0, 150.0, 0.1, True, 0.0),
    "end of trading": (Flag.EXPIRED, 10.0, 100.0, 100.0, 0.0, True, 0.05),
    "after the end": (Flag.EXPIRED, 10.0, 100.0, 100.0, -1e-9, True, 0.05),
    "no forward": (Flag.NO_FORWARD, 10.0, NAN, 100.0, 0.1, True, 0.05),
    "forward of zero": (Flag.NO_FORWARD, 10.0, 0.0, 100.0, 0.1, True, 0.05),
    "negative forward": (Flag.NO_FORWARD, 10.0, -37.0, 100.0, 0.1, True, 0.05),
    "infinite forward": (Flag.NO_FORWARD, 10.0, INF, 100.0, 0.1, True, 0.05),
    "denormal forward": (Flag.NO_FORWARD, 10.0, 5e-324, 100.0, 0.1, True, 0.05),
    "no strike": (Flag.NO_TERMS, 10.0, 100.0, NAN, 0.1, True, 0.05),
    "strike of zero": (Flag.NO_TERMS, 10.0, 100.0, 0.0, 0.1, True, 0.05),
    "no last trade": (Flag.NO_TERMS, 10.0, 100.0, 100.0, NAN, True, 0.05),
    "no rate": (Flag.NO_TERMS, 10.0, 100.0, 100.0, 0.1, True, NAN),
    "endless time": (Flag.NO_TERMS, 10.0, 100.0, 100.0, INF, True, 0.05),
    "expired without a price": (Flag.EXPIRED, NAN, NAN, 100.0, 0.0, True, 0.05),
    "neither forward nor price": (Flag.NO_FORWARD, NAN, NAN, 100.0, 0.1, True, 0.05),
}

options = st.tuples(
    st.floats(1.0, 1e5),  # forward
    st.floats(-0.5, 0.5).map(math.exp),  # strike over forward
    st.floats(0.0005, 1.5),  # years
    st.floats(0.02, 2.0),  # vol
    st.sampled_from([0.0, 0.0525, 0.1, -0.02]),  # rate
)


@pytest.mark.parametrize("name", CASES)
def test_flag(name: str) -> None:
    flag, *arguments = CASES[name]
    option = solve(*arguments)
    iv, told = implied(*arguments)
    assert Flag(int(option["flag"])) == Flag(int(told)) == flag
    for one in NUMBERS:
        assert np.isfinite(option[one]) == (flag == Flag.OK), one
    assert np.isfinite(iv) == (flag == Flag.OK)


def test_options_of_every_kind_side_by_side_do_not_touch_one_another() -> None:
    rows = [arguments for _, *arguments in CASES.values()] * 7
    rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    together = solve(*np.array(rows, np.float64).T)
    alone = np.array([solve(*row) for row in rows])
    assert together.tobytes() == alone.tobytes()
    volatility, flags = implied(*np.array(rows, np.float64).T)
    np.testing.assert_array_equal(volatility, together["iv"])
    np.testing.assert_array_equal(flags, together["flag"])


@pytest.mark.parametrize(
    ("vol", "flag"),
    [(NAN, Flag.NO_PRICE), (0.0, Flag.NO_PRICE), (-0.2, Flag.NO_PRICE), (INF, Flag.NO_PRICE), (0.2, Flag.OK)],
    ids=str,
)
def test_a_volatility_that_is_none_gives_no_greeks(vol: float, flag: Flag) -> None:
    option = greeks(vol, 100.0, 110.0, 0.1, True, 0.05)
    assert option["flag"] == flag
    assert all(np.isfinite(option[name]) == (flag == Flag.OK) for name in NUMBERS)
    assert np.isfinite(value(vol, 100.0, 110.0, 0.1, True, 0.05)) == (flag == Flag.OK)


#: What a feed can send by mistake, beside ordinary numbers.
hostile = st.one_of(
    st.floats(),
    st.floats(0.01, 1e5),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 1e-100, 1e100, 1e308, -1.0, NAN, INF, -INF, 100.0]),
)


@settings(max_examples=500, deadline=None)
@given(hostile, hostile, hostile, hostile, st.booleans(), hostile)
def test_no_input_makes_a_number_that_is_none(
    first: float, forward: float, strike: float, time: float, is_call: bool, rate: float
) -> None:
    for option in (
        solve(first, forward, strike, time, is_call, rate),
        greeks(first, forward, strike, time, is_call, rate),
    ):
        good = option["flag"] == Flag.OK
        assert all(np.isfinite(option[name]) == good for name in NUMBERS), option
        assert Flag(int(option["flag"])).name


# Identities


@settings(deadline=None)
@given(options)
def test_call_minus_put_is_the_discounted_forward_minus_strike(option: tuple[float, ...]) -> None:
    forward, ratio, time, vol, rate = option
    call, put = greeks(vol, forward, forward * ratio, time, [True, False], rate)
    discount = math.exp(-rate * time)
    assert call["price"] - put["price"] == pytest.approx(discount * forward * (1 - ratio), abs=1e-13 * forward)
    assert call["delta"] - put["delta"] == pytest.approx(discount, rel=1e-13)
    assert call["gamma"] == put["gamma"]
    assert call["vega"] == put["vega"]


@settings(deadline=None)
@given(options)
def test_call_and_put_of_a_strike_have_the_same_volatility(option: tuple[float, ...]) -> None:
    forward, ratio, time, vol, rate = option
    strike = forward * ratio
    iv, flags = implied(
        value(vol, forward, strike, time, [True, False], rate), forward, strike, time, [True, False], rate
    )
    assume((flags == Flag.OK).all())
    assert iv[0] == pytest.approx(iv[1], abs=2e-9)


@settings(deadline=None)
@given(options)
def test_a_call_is_a_put_with_forward_and_strike_exchanged(option: tuple[float, ...]) -> None:
    forward, ratio, time, vol, rate = option
    strike = forward * ratio
    call, put = value(vol, [forward, strike], [strike, forward], time, [True, False], rate)
    assert call == pytest.approx(put, rel=1e-14)


@settings(deadline=None)
@given(options, st.sampled_from([2**-40, 0.25, 4.0, 2**20]), st.booleans())
def test_prices_in_another_unit_change_no_bit_of_the_volatility(
    option: tuple[float, ...], unit: float, is_call: bool
) -> None:
    forward, ratio, time, vol, rate = option
    strike = forward * ratio
    price = value(vol, forward, strike, time, is_call, rate)
    assume(price > 1e-250)  # denormals have other digits in another unit
    here = solve(price, forward, strike, time, is_call, rate)
    there = solve(unit * price, unit * forward, unit * strike, time, is_call, rate)
    assert here["flag"] == there["flag"]
    for name, power in {"iv": 0, "price": 1, "delta": 0, "gamma": -1, "theta": 1, "vega": 1, "rho": 1}.items():
        np.testing.assert_array_equal(there[name], here[name] * unit**power, name)


@settings(deadline=None)
@given(options, st.booleans())
def test_four_times_the_time_is_half_the_volatility(option: tuple[float, ...], is_call: bool) -> None:
    forward, ratio, time, vol, _ = option
    price = value(vol, forward, forward * ratio, time, is_call, 0.0)
    (short, long), flags = implied(price, forward, forward * ratio, [time, 4 * time], is_call, 0.0)
    assume((flags == Flag.OK).all())
    assert short == 2 * long


@settings(deadline=None)
@given(options, st.booleans())
def test_a_higher_price_is_a_higher_volatility(option: tuple[float, ...], is_call: bool) -> None:
    forward, ratio, time, vol, rate = option
    price = float(value(vol, forward, forward * ratio, time, is_call, rate))
    prices = price * (1 + np.linspace(-1e-12, 1e-12, 41))
    iv, flags = implied(prices, forward, forward * ratio, time, is_call, rate)
    iv = iv[flags == Flag.OK]
    assert (
        np.diff(iv) >= -8 * np.spacing(vol)
    ).all()  # the same up to rounding where the prices are next to one another


@settings(deadline=None)
@given(options)
def test_prices_rise_with_volatility_and_fall_with_distance(option: tuple[float, ...]) -> None:
    forward, ratio, time, vol, rate = option
    vols = vol * np.linspace(0.9, 1.1, 21)
    assert (np.diff(value(vols, forward, forward * ratio, time, True, rate)) >= 0).all()
    strikes = forward * np.linspace(0.7, 1.4, 71)
    calls, puts = (value(vol, forward, strikes, time, is_call, rate) for is_call in (True, False))
    slack = 1e-14 * forward
    assert (np.diff(calls) <= slack).all()
    assert (np.diff(puts) >= -slack).all()
    assert (calls <= math.exp(-rate * time) * forward + slack).all()
    assert (puts <= math.exp(-rate * time) * strikes + slack).all()


def test_the_simulated_venue_prices_by_the_same_model() -> None:
    """Another program, with a distribution good to 1e-7: units and signs have to be the same."""
    strike, vol = np.meshgrid(np.linspace(18_000.0, 30_000.0, 25), [0.08, 0.2, 0.6])
    for is_call in (True, False):
        calls = np.full(strike.shape, is_call)
        forward, time = np.full(strike.shape, 24_000.0), np.full(strike.shape, 9 / 365)
        other = black.greeks(forward, strike, time, vol, 0.07, calls)
        ours = greeks(vol, forward, strike, time, is_call, 0.07)
        np.testing.assert_allclose(ours["price"], black.price(forward, strike, time, vol, 0.07, calls), atol=0.01)
        for name in ("delta", "gamma", "theta", "vega", "rho"):
            np.testing.assert_allclose(ours[name], getattr(other, name), rtol=1e-5, atol=1e-5, err_msg=name)


# Shapes


@pytest.mark.parametrize(
    ("strikes", "shape"),
    [(100.0, ()), ([], (0,)), ([100.0], (1,)), (np.full((3, 4), 110.0), (3, 4)), (np.arange(90, 120, 10), (3,))],
    ids=["number", "nothing", "one", "table", "integers"],
)
def test_answers_have_the_shape_of_the_question(strikes: Any, shape: tuple[int, ...]) -> None:
    options = solve(12.0, 100.0, strikes, 0.5, True, 0.05)
    iv, flags = implied(12.0, 100.0, strikes, 0.5, True, 0.05)
    assert options.dtype == OPTION
    assert options.shape == iv.shape == flags.shape == shape
    assert (
        greeks(0.2, 100.0, strikes, 0.5, True, 0.05).shape == value(0.2, 100.0, strikes, 0.5, True, 0.05).shape == shape
    )


def test_arguments_are_only_read_even_where_they_are_not_contiguous() -> None:
    strikes = np.linspace(80.0, 120.0, 40)[::2]
    strikes.setflags(write=False)
    calls = strikes > 100.0
    prices = value(0.25, 100.0, strikes, 0.2, calls, 0.05)
    np.testing.assert_allclose(solve(prices, 100.0, strikes, 0.2, calls, 0.05)["iv"], 0.25, atol=1e-12)
    grid = solve(prices[:, None], [[100.0, 101.0]], strikes[:, None], 0.2, calls[:, None], 0.05)
    assert grid.shape == (20, 2)
    np.testing.assert_array_equal(grid[:, 0], solve(prices, 100.0, strikes, 0.2, calls, 0.05))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shape mismatch"):
        solve([1.0, 2.0], 100.0, [90.0, 100.0, 110.0], 0.1, True, 0.0)


# Time


@pytest.mark.parametrize(
    ("left_ms", "expected"),
    [
        (365 * DAY_MS, 1.0),
        (DAY_MS, 1 / 365),
        (60_001, 60_001 / black76.YEAR_MS),
        (60_000, 60_000 / black76.YEAR_MS),
        (59_999, 60_000 / black76.YEAR_MS),
        (1, 60_000 / black76.YEAR_MS),
        (0, 0.0),
        (-1, 0.0),
        (-DAY_MS, 0.0),
    ],
    ids=str,
)
def test_years_to_the_last_trade(left_ms: int, expected: float) -> None:
    now_ms = 1_795_000_000_000
    assert years(now_ms, now_ms + left_ms) == expected


def test_a_contract_without_a_last_trade_has_no_time() -> None:
    left = years(1_795_000_000_000, [NAN, INF, 1_795_000_000_000 + DAY_MS])
    assert np.isnan(left[0])
    assert solve(10.0, 100.0, 100.0, left, True, 0.05)["flag"].tolist() == [Flag.NO_TERMS, Flag.NO_TERMS, Flag.OK]


def test_the_last_minute_is_priced_as_a_minute_and_the_end_not_at_all() -> None:
    end = 1_795_000_000_000
    left = years(np.array([end - 90_000, end - 60_000, end - 30_000, end - 1, end]), end)
    options = solve(5.0, 24_000.0, 24_000.0, left, True, 0.0)
    assert options["flag"].tolist() == [Flag.OK] * 4 + [Flag.EXPIRED]
    assert options["iv"][0] < options["iv"][1] == options["iv"][2] == options["iv"][3]
