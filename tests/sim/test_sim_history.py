"""Minutes of days that nobody lived through: pure functions of seed, instrument and day."""

from datetime import date
from typing import Final

import numpy as np
import pytest

from market.instruments import Instrument, session_class
from sim.exchange import Exchange
from sim.market import Market
from tests.sim.simtools import MINUTE, NIFTY, RELIANCE, settings

SPECIAL_DAYS: Final = [
    date(2024, 1, 20),  # a Saturday, whole
    date(2024, 3, 2),  # two sessions
    date(2024, 11, 1),  # an evening hour
    date(2025, 10, 21),  # an afternoon hour
    date(2026, 2, 1),  # a Sunday
    date(2026, 11, 8),
]


@pytest.fixture(scope="module")
def market() -> Market:
    return Exchange(settings()).market


def instrument(market: Market, kind: str) -> Instrument:
    return next(each for each in market.listing.instruments if each.instrument_type == kind)


@pytest.mark.parametrize("on", SPECIAL_DAYS)
@pytest.mark.parametrize("key", [NIFTY, RELIANCE])
def test_special_sessions_have_their_own_minutes(market: Market, on: date, key: str) -> None:
    found = market.listing.get(key)
    assert found is not None
    minutes = market.history.minutes(found, on)
    spans = market.hours.continuous(found.segment, session_class(found, on), on)
    expected = [ts for start, end in spans for ts in range(start, end, MINUTE)]
    assert set(minutes.ts.tolist()) <= set(expected)
    assert len(minutes) > 0.9 * len(expected)


@pytest.mark.parametrize("kind", ["INDEX", "EQ", "FUT", "CE", "PE"])
def test_a_candle_holds_its_open_and_its_close(market: Market, kind: str) -> None:
    found = instrument(market, kind)
    minutes = market.history.minutes(found, date(2026, 11, 19))
    assert len(minutes) > 0
    assert (minutes.low <= np.minimum(minutes.open, minutes.close)).all()
    assert (minutes.high >= np.maximum(minutes.open, minutes.close)).all()
    assert (np.diff(minutes.ts) > 0).all()
    assert (minutes.volume > 0).all() or kind == "INDEX"
    assert (minutes.volume % found.lot_size == 0).all()
    steps = minutes.close / found.tick_size
    assert np.allclose(steps, np.rint(steps), atol=1e-6)


def test_a_minute_without_a_trade_has_no_candle() -> None:
    wide = Exchange(settings(instruments=500)).market
    counts = [
        len(wide.history.minutes(each, date(2026, 11, 19))) for each in wide.listing.instruments if each.is_option
    ]
    assert min(counts) < 100
    assert max(counts) == 385


def test_nothing_trades_on_a_holiday_or_after_the_expiry(market: Market) -> None:
    future = instrument(market, "FUT")
    assert len(market.history.minutes(future, date(2026, 11, 10))) == 0
    assert len(market.history.minutes(future, date(2026, 11, 25))) == 0


def test_open_interest_moves_from_one_days_level_to_the_next(market: Market) -> None:
    future = instrument(market, "FUT")
    first, second = (market.history.minutes(future, date(2026, 11, day)).oi for day in (18, 19))
    assert abs(second[0] / first[-1] - 1) < 0.05
    assert (np.abs(np.diff(second)) / second[0]).max() < 0.02


def test_the_opening_is_busier_than_noon(market: Market) -> None:
    volume = market.history.minutes(instrument(market, "FUT"), date(2026, 11, 19)).volume
    assert volume[:15].mean() > 1.5 * volume[150:200].mean()
