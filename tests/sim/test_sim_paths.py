"""Paths are functions of seed, name and day: continuous, pinned, and the same whoever asks when."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import paths
from sim.hours import Hours, midnight_ms
from sim.paths import Paths
from sim.universe import specs

DAY = date(2026, 11, 18)
NAMES = ("NIFTY", "BANKNIFTY", "RELIANCE", "INDIA VIX")


def make(seed: int = 7, hours: Hours | None = None) -> Paths:
    return Paths(seed, hours or Hours(), specs(60))


@pytest.mark.parametrize("name", NAMES)
def test_a_day_ends_where_its_close_says(name: str) -> None:
    found = make()
    assert found.path(name, DAY)[-1] == pytest.approx(found.close(name, DAY), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_day_opens_near_the_close_before(name: str) -> None:
    found = make()
    days = [DAY - timedelta(days=n) for n in range(20) if found.hours.is_trading_day(DAY - timedelta(days=n))]
    gaps = [found.path(name, on)[0] / found.close(name, found.hours.previous_trading_day(on)) for on in days]
    assert max(abs(np.log(gaps))) < (0.1 if name == "INDIA VIX" else 0.03)


def test_the_order_of_asking_changes_nothing() -> None:
    first, second = make(), make()
    forwards = [first.path(name, DAY).tolist() for name in NAMES]
    backwards = [second.path(name, DAY).tolist() for name in reversed(NAMES)]
    assert forwards == backwards[::-1]


def test_another_seed_is_another_market() -> None:
    assert make(1).path("NIFTY", DAY).tolist() != make(2).path("NIFTY", DAY).tolist()


def test_levels_do_not_depend_on_how_far_ahead_somebody_looked() -> None:
    curious, modest = make(), make()
    curious.close("NIFTY", date(2035, 1, 1))
    assert curious.close("NIFTY", DAY) == modest.close("NIFTY", DAY)


def test_shares_move_together_and_volatility_against_them() -> None:
    found = make()
    returns = {name: np.diff(np.log([found.path(name, DAY)[::20]]))[0] for name in NAMES}
    assert np.corrcoef(returns["NIFTY"], returns["BANKNIFTY"])[0, 1] > 0.7
    assert np.corrcoef(returns["NIFTY"], returns["RELIANCE"])[0, 1] > 0.3
    assert np.corrcoef(returns["NIFTY"], returns["INDIA VIX"])[0, 1] < -0.4


def test_the_opening_moves_more_than_noon() -> None:
    found = make()
    days = [date(2026, 6, 1) + timedelta(days=n) for n in range(60)]
    steps = [np.diff(np.log(found.path("NIFTY", on))) for on in days if found.hours.is_trading_day(on)]
    opening = np.std([each[:120] for each in steps])
    noon = np.std([each[700:820] for each in steps])
    assert opening > 1.3 * noon


def test_a_day_of_the_demo_does_not_depend_on_when_the_process_started() -> None:
    early, late = (make(hours=Hours(midnight_ms(DAY) + hour * 3_600_000)) for hour in (3, 15))
    assert early.path("NIFTY", DAY).tolist() == late.path("NIFTY", DAY).tolist()


@settings(max_examples=25)
@given(st.integers(1, 59_999), st.integers(0, 2**32))
def test_fine_prices_meet_the_points_they_are_pinned_to(step_ms: int, seed: int) -> None:
    anchors = np.array([[100.0, 5.0], [100.2, 5.1], [99.9, 5.0], [100.1, 4.9], [100.4, 5.2]])
    offsets = np.append(np.arange(step_ms, 60_000, step_ms), 60_000).astype(np.int64)
    found = paths.fine(anchors, offsets, np.array([0.13, 0.9]), np.random.default_rng(seed))
    for knot in range(1, 5):
        at = np.flatnonzero(offsets == knot * 15_000)
        assert np.allclose(found[at], anchors[knot])
    assert found[-1] == pytest.approx(anchors[-1])
    assert (found > 0).all()
