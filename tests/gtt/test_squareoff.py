"""When positions are closed, by product, instrument and date."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from gtt.risk.squareoff import square_off_ms
from market.instruments import Instrument
from schemas.orders import Product
from tests.gtt.risk_case import CALL, FUTURE, GOLD, SHARE

MINUTES = {Product.INTRADAY: 10, Product.MTF: 5}
CAS_SHARE = replace(SHARE, cas_eligible=True)
BEFORE_DECEMBER, FROM_DECEMBER = date(2026, 11, 20), date(2026, 12, 8)


def ist(instrument: Instrument, on: date, product: Product = Product.INTRADAY, *, always: bool = False) -> str | None:
    ms = square_off_ms(instrument.key, instrument, product, on, MINUTES, always=always)
    return None if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC) + timedelta(hours=5, minutes=30):%H:%M}"


@pytest.mark.parametrize(
    ("instrument", "on", "at"),
    [
        (SHARE, BEFORE_DECEMBER, "15:20"),
        (CAS_SHARE, BEFORE_DECEMBER, "15:05"),  # its continuous trading ends at 15:15
        (CAS_SHARE, FROM_DECEMBER, "15:20"),
        (FUTURE, BEFORE_DECEMBER, "15:30"),
        (FUTURE, FROM_DECEMBER, "15:35"),
        (replace(CALL, expiry=FROM_DECEMBER), FROM_DECEMBER, "15:20"),  # expires that day
        (GOLD, BEFORE_DECEMBER, "23:45"),  # winter
        (SHARE, date(2026, 11, 21), None),  # a Saturday
        (SHARE, date(2026, 11, 24), None),  # a holiday
        (GOLD, date(2026, 11, 24), "23:45"),  # the evening trades
        (SHARE, date(2024, 3, 2), "12:20"),  # two sessions on a Saturday: before the end of the last
    ],
)
def test_ten_minutes_before_the_end(instrument: Instrument, on: date, at: str | None) -> None:
    assert ist(instrument, on) == at


def test_each_product_has_its_own_minutes_and_some_have_none() -> None:
    assert ist(SHARE, BEFORE_DECEMBER, Product.MTF) == "15:25"
    assert ist(SHARE, BEFORE_DECEMBER, Product.DELIVERY) is None
    assert square_off_ms(SHARE.key, SHARE, Product.INTRADAY, BEFORE_DECEMBER, {}, always=False) is None


def test_an_instrument_that_is_not_known_has_the_hours_of_its_segment() -> None:
    ms = square_off_ms("NSE_FO|1", None, Product.INTRADAY, BEFORE_DECEMBER, MINUTES, always=False)
    wanted = datetime.combine(BEFORE_DECEMBER, time(10, 0), UTC)  # 15:30 IST
    assert ms == int(wanted.timestamp() * 1000)


def test_a_market_that_never_closes_ends_its_day_at_midnight() -> None:
    assert ist(SHARE, date(2026, 11, 21), always=True) == "23:50"


def test_more_minutes_than_a_session_has_are_its_start() -> None:
    ms = square_off_ms(SHARE.key, SHARE, Product.INTRADAY, BEFORE_DECEMBER, {Product.INTRADAY: 9_999}, always=False)
    assert ms == int(datetime.combine(BEFORE_DECEMBER, time(3, 45), UTC).timestamp() * 1000)
