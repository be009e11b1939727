"""The option formulas against the textbook, computed another way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import black

RATE = 0.05

forwards = st.floats(100.0, 60_000.0)
ratios = st.floats(0.7, 1.4)
years = st.floats(1 / 365, 1.0)
vols = st.floats(0.05, 0.8)


def one(value: float) -> np.ndarray:
    return np.array([value])


def price(forward: float, strike: float, time: float, vol: float, call: bool, rate: float = RATE) -> float:
    return float(black.price(one(forward), one(strike), one(time), one(vol), rate, np.array([call]))[0])


def textbook(forward: float, strike: float, time: float, vol: float, call: bool, rate: float = RATE) -> float:
    width = vol * math.sqrt(time)
    d1 = math.log(forward / strike) / width + width / 2
    sign = 1 if call else -1
    both = forward * cdf(sign * d1) - strike * cdf(sign * (d1 - width))
    return math.exp(-rate * time) * sign * both


def cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@given(forwards, ratios, years, vols, st.booleans())
def test_a_price_is_the_textbooks(forward: float, ratio: float, time: float, vol: float, call: bool) -> None:
    found = price(forward, forward * ratio, time, vol, call)
    assert found == pytest.approx(textbook(forward, forward * ratio, time, vol, call), abs=4e-7 * forward)


@given(forwards, ratios, years, vols)
def test_call_minus_put_is_the_discounted_forward(forward: float, ratio: float, time: float, vol: float) -> None:
    strike = forward * ratio
    apart = price(forward, strike, time, vol, True) - price(forward, strike, time, vol, False)
    assert apart == pytest.approx(math.exp(-RATE * time) * (forward - strike), abs=1e-6 * forward)


@given(st.floats(10_000.0, 30_000.0), st.floats(0.9, 1.1), st.floats(0.02, 0.5), st.floats(0.1, 0.5), st.booleans())
def test_greeks_are_the_slopes_of_the_price(forward: float, ratio: float, time: float, vol: float, call: bool) -> None:
    strike = forward * ratio

    def worth(forward: float = forward, time: float = time, vol: float = vol, rate: float = RATE) -> float:
        return textbook(forward, strike, time, vol, call, rate)

    found = black.greeks(one(forward), one(strike), one(time), one(vol), RATE, np.array([call]))
    step = forward * 1e-4
    up, middle, down = worth(forward + step), worth(), worth(forward - step)
    assert found.delta[0] == pytest.approx((up - down) / (2 * step), abs=1e-4)
    assert found.gamma[0] == pytest.approx((up - 2 * middle + down) / step**2, rel=1e-2, abs=1e-8)
    assert found.vega[0] == pytest.approx(
        (worth(vol=vol + 1e-4) - worth(vol=vol - 1e-4)) / 2e-4 / 100, rel=1e-3, abs=0.01
    )
    assert found.theta[0] == pytest.approx(
        -(worth(time=time + 1e-5) - worth(time=time - 1e-5)) / 2e-5 / 365, rel=1e-2, abs=0.02
    )
    assert found.rho[0] == pytest.approx(
        (worth(rate=RATE + 1e-5) - worth(rate=RATE - 1e-5)) / 2e-5 / 100, rel=1e-3, abs=0.01
    )


def test_an_option_at_its_end_still_has_finite_greeks() -> None:
    found = black.greeks(one(25_000.0), one(25_000.0), one(0.0), one(0.12), RATE, np.array([True]))
    assert all(np.isfinite(getattr(found, name)).all() for name in ("delta", "theta", "gamma", "vega", "rho"))
