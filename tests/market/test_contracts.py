from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import contracts, sessions
from market.contracts import SHARE, UnderlyingKind, UnknownTerm
from market.sessions import UncoveredDate
from market.tables import table
from schemas.errors import Rejected

FIRST, LAST = date(2024, 1, 1), date(2026, 12, 31)
NSE_INDICES = ["NIFTY", "BANKNIFTY", "FINNIFTY", "MIDCPNIFTY", "NIFTYNXT50"]

covered_days = st.dates(FIRST, LAST)
any_underlying = st.sampled_from([*contracts.underlyings(), SHARE])
prices = st.floats(0.01, 1e6)


def weekly(underlying: str, on: date, count: int = 1) -> list[date]:
    return [expiry for expiry, _ in contracts.expiries(underlying, on, count, 0)]


# --- expiries


@pytest.mark.parametrize(
    ("nominal", "real"),
    [
        (date(2026, 3, 3), date(2026, 3, 2)),
        (date(2026, 3, 31), date(2026, 3, 30)),
        (date(2026, 4, 14), date(2026, 4, 13)),
        (date(2026, 10, 20), date(2026, 10, 19)),
        (date(2026, 11, 10), date(2026, 11, 9)),
        (date(2026, 11, 24), date(2026, 11, 23)),
        (date(2025, 10, 21), date(2025, 10, 20)),
    ],
)
def test_a_tuesday_that_is_a_holiday_moves_the_expiry_of_nifty_to_monday(nominal: Any, real: Any) -> None:
    [(expiry, _), *_] = contracts.expiries("NIFTY", nominal - timedelta(days=4), 1, 1)

    assert expiry == real


@pytest.mark.parametrize(
    ("nominal", "real"),
    [
        (date(2026, 1, 15), date(2026, 1, 14)),
        (date(2026, 3, 26), date(2026, 3, 25)),
        (date(2026, 5, 28), date(2026, 5, 27)),
        (date(2024, 11, 1), date(2024, 10, 31)),
    ],
)
def test_a_holiday_moves_the_expiry_of_sensex_to_the_day_before(nominal: Any, real: Any) -> None:
    [(expiry, _), *_] = contracts.expiries("SENSEX", nominal - timedelta(days=4), 1, 1)

    assert expiry == real


def test_the_next_expiries_of_nifty_in_november_2026() -> None:
    assert contracts.expiries("NIFTY", date(2026, 11, 20), 4, 2) == [
        (date(2026, 11, 23), False),  # Tuesday 24 is a holiday
        (date(2026, 12, 1), True),
        (date(2026, 12, 8), True),
        (date(2026, 12, 15), True),
        (date(2026, 12, 22), True),
        (date(2026, 12, 29), False),
    ]


def test_the_expiry_day_itself_is_the_next_expiry() -> None:
    assert contracts.expiries("NIFTY", date(2026, 11, 23), 0, 1) == [(date(2026, 11, 23), False)]
    assert contracts.expiries("NIFTY", date(2026, 11, 24), 0, 1) == [(date(2026, 12, 29), False)]


def test_expiries_went_from_thursday_to_tuesday_in_september_2025() -> None:
    assert contracts.expiries("NIFTY", date(2025, 8, 20), 3, 2) == [
        (date(2025, 8, 21), True),
        (date(2025, 8, 28), False),
        (date(2025, 9, 2), True),
        (date(2025, 9, 9), True),
        (date(2025, 9, 30), False),
    ]
    assert contracts.expiries(SHARE, date(2025, 8, 20), 9, 2) == [
        (date(2025, 8, 28), False),
        (date(2025, 9, 30), False),
    ]


def test_sensex_went_from_friday_to_tuesday_to_thursday() -> None:
    assert weekly("SENSEX", date(2024, 12, 9)) == [date(2024, 12, 13)]
    assert weekly("SENSEX", date(2025, 1, 11)) == [date(2025, 1, 14)]
    assert weekly("SENSEX", date(2025, 9, 1)) == [date(2025, 9, 4)]


@pytest.mark.parametrize(
    "underlying", ["BANKNIFTY", "FINNIFTY", "MIDCPNIFTY", "NIFTYNXT50", "BANKEX", "SENSEX50", SHARE]
)
def test_only_one_index_of_each_exchange_has_weekly_options_since_november_2024(underlying: str) -> None:
    assert weekly(underlying, date(2024, 11, 20)) == []
    assert weekly("NIFTY", date(2024, 11, 20)) == [date(2024, 11, 21)]
    assert weekly("SENSEX", date(2024, 11, 20)) == [date(2024, 11, 22)]


def test_the_last_weekly_option_of_bank_nifty_expired_on_13_november_2024() -> None:
    assert weekly("BANKNIFTY", date(2024, 11, 7), 5) == [date(2024, 11, 13)]


def test_the_week_of_a_monthly_expiry_has_no_weekly_even_on_another_weekday() -> None:
    # In early 2024 Bank Nifty had its weeklies on Wednesday and its monthlies on Thursday.
    assert contracts.expiries("BANKNIFTY", date(2024, 1, 17), 2, 1) == [
        (date(2024, 1, 17), True),
        (date(2024, 1, 25), False),
        (date(2024, 1, 31), True),
    ]


@pytest.mark.parametrize(
    ("underlying", "year", "month", "expiry"),
    [
        ("BANKNIFTY", 2024, 3, date(2024, 3, 27)),
        ("BANKNIFTY", 2024, 12, date(2024, 12, 24)),
        ("FINNIFTY", 2024, 7, date(2024, 7, 30)),
        ("MIDCPNIFTY", 2024, 7, date(2024, 7, 29)),
        ("BANKEX", 2024, 7, date(2024, 7, 29)),
        ("SENSEX", 2025, 1, date(2025, 1, 28)),
        ("NIFTY", 2026, 1, date(2026, 1, 27)),
        ("NIFTY", 2026, 12, date(2026, 12, 29)),
        (SHARE, 2026, 3, date(2026, 3, 30)),
    ],
)
def test_a_month_expires_on_its_last_weekday_of_the_rule(underlying: str, year: int, month: int, expiry: Any) -> None:
    assert contracts.monthly_expiry(underlying, year, month) == expiry


def test_an_index_has_no_expiry_before_it_was_listed() -> None:
    with pytest.raises(UnknownTerm, match="no monthly expiry known for NIFTYNXT50 on 2024-03-01"):
        contracts.monthly_expiry("NIFTYNXT50", 2024, 3)


def test_expiries_stop_where_the_calendar_ends() -> None:
    assert contracts.expiries("NIFTY", date(2026, 12, 16), 4, 3) == [
        (date(2026, 12, 22), True),
        (date(2026, 12, 29), False),
    ]
    assert contracts.expiries("NIFTY", date(2026, 12, 31), 4, 3) == []


@given(any_underlying, covered_days, st.integers(0, 6), st.integers(0, 6))
def test_expiries_are_ordered_regular_days_from_today_on_and_no_more_than_wanted(
    underlying: str, on: date, weeklies: int, monthlies: int
) -> None:
    listed = contracts.expiries(underlying, on, weeklies, monthlies)

    dates = [expiry for expiry, _ in listed]
    segment = "BSE_FO" if underlying in ("SENSEX", "BANKEX", "SENSEX50") else "NSE_FO"
    assert all(before < after for before, after in pairwise([on - timedelta(days=1), *dates]))
    assert all(sessions.keeps_regular_hours(segment, expiry) for expiry in dates)
    assert sum(is_weekly for _, is_weekly in listed) <= weeklies
    assert sum(not is_weekly for _, is_weekly in listed) <= monthlies


@given(any_underlying, covered_days)
def test_every_monthly_expiry_is_the_one_of_its_month(underlying: str, on: date) -> None:
    for expiry, _ in contracts.expiries(underlying, on, 0, 3):
        assert contracts.monthly_expiry(underlying, expiry.year, expiry.month) == expiry


@given(covered_days.filter(lambda on: on < date(2026, 11, 1)))
def test_nifty_always_has_four_weeklies_and_a_monthly_ahead(on: date) -> None:
    listed = contracts.expiries("NIFTY", on, 4, 1)

    assert [is_weekly for _, is_weekly in listed].count(True) == 4
    assert len({expiry.isocalendar()[:2] for expiry, _ in listed}) == 5  # one a week


# --- lots, strikes, freeze quantities


@pytest.mark.parametrize(
    ("underlying", "expiry", "lot"),
    [
        ("NIFTY", date(2024, 4, 25), 50),
        ("NIFTY", date(2024, 5, 2), 25),
        ("NIFTY", date(2024, 12, 26), 25),
        ("NIFTY", date(2025, 1, 2), 75),
        ("NIFTY", date(2025, 1, 30), 25),
        ("NIFTY", date(2025, 2, 6), 75),
        ("NIFTY", date(2025, 12, 30), 75),
        ("NIFTY", date(2026, 1, 6), 65),
        ("BANKNIFTY", date(2024, 11, 13), 15),
        ("BANKNIFTY", date(2025, 2, 27), 30),
        ("BANKNIFTY", date(2025, 6, 26), 30),
        ("BANKNIFTY", date(2025, 7, 31), 35),
        ("BANKNIFTY", date(2026, 1, 27), 30),
        ("FINNIFTY", date(2024, 7, 23), 40),
        ("FINNIFTY", date(2024, 7, 30), 25),
        ("FINNIFTY", date(2025, 2, 27), 65),
        ("FINNIFTY", date(2026, 1, 27), 60),
        ("MIDCPNIFTY", date(2024, 7, 22), 75),
        ("MIDCPNIFTY", date(2024, 8, 5), 50),
        ("MIDCPNIFTY", date(2025, 2, 27), 120),
        ("MIDCPNIFTY", date(2025, 7, 31), 140),
        ("MIDCPNIFTY", date(2026, 1, 27), 120),
        ("NIFTYNXT50", date(2024, 5, 31), 10),
        ("NIFTYNXT50", date(2026, 1, 27), 25),
        ("SENSEX", date(2024, 6, 7), 10),
        ("SENSEX", date(2025, 1, 28), 10),
        ("SENSEX", date(2026, 1, 29), 20),
        ("BANKEX", date(2024, 6, 3), 15),
        ("BANKEX", date(2025, 7, 29), 30),
        ("SENSEX50", date(2024, 6, 6), 25),
        ("SENSEX50", date(2025, 3, 25), 60),
        ("SENSEX50", date(2025, 7, 29), 75),
    ],
)
def test_a_lot_depends_on_the_expiry(underlying: str, expiry: Any, lot: int) -> None:
    assert contracts.lot_size(underlying, expiry) == lot


def test_what_nobody_published_is_an_error_that_says_where_to_look() -> None:
    with pytest.raises(UnknownTerm, match="no lot size known for SENSEX50 on 2026-06-25: take it from the venue"):
        contracts.lot_size("SENSEX50", date(2026, 6, 25))
    with pytest.raises(UnknownTerm, match="lot size known for SHARE"):
        contracts.lot_size(SHARE, date(2026, 6, 25))
    with pytest.raises(UnknownTerm, match="strike step known for NIFTYNXT50"):
        contracts.strike_step("NIFTYNXT50")
    with pytest.raises(UnknownTerm, match="freeze quantity known for MIDCPNIFTY on 2024-02-01"):
        contracts.freeze_quantity("MIDCPNIFTY", date(2024, 2, 1))


@pytest.mark.parametrize(
    ("underlying", "step"),
    [("NIFTY", 50), ("BANKNIFTY", 100), ("FINNIFTY", 50), ("MIDCPNIFTY", 25), ("SENSEX", 100), ("BANKEX", 100)],
)
def test_the_strikes_of_an_index_stand_a_step_apart(underlying: str, step: float) -> None:
    assert contracts.strike_step(underlying) == step


@pytest.mark.parametrize(
    ("underlying", "freeze", "usable"),
    [
        ("NIFTY", 1800, 1755),
        ("BANKNIFTY", 600, 600),
        ("FINNIFTY", 1800, 1800),
        ("MIDCPNIFTY", 2800, 2760),
        ("NIFTYNXT50", 600, 600),
    ],
)
def test_the_largest_order_is_the_freeze_quantity_in_whole_lots(underlying: str, freeze: int, usable: int) -> None:
    on = date(2026, 8, 25)

    assert contracts.freeze_quantity(underlying, on) == freeze
    assert contracts.largest_order(underlying, on) == usable


@pytest.mark.parametrize(
    ("underlying", "on", "freeze"),
    [
        ("BANKNIFTY", date(2025, 3, 3), 900),
        ("BANKNIFTY", date(2025, 7, 1), 600),
        ("BANKNIFTY", date(2025, 9, 1), 900),
        ("BANKNIFTY", date(2025, 10, 31), 900),
        ("BANKNIFTY", date(2025, 11, 3), 600),
        ("FINNIFTY", date(2025, 12, 15), 1200),
        ("FINNIFTY", date(2026, 1, 30), 1200),
        ("MIDCPNIFTY", date(2025, 3, 10), 4200),
        ("SENSEX", date(2026, 11, 20), 1000),
    ],
)
def test_a_freeze_quantity_has_a_history(underlying: str, on: date, freeze: int) -> None:
    assert contracts.freeze_quantity(underlying, on) == freeze


# --- ticks


@pytest.mark.parametrize(
    ("price", "tick"),
    [
        (249.99, 0.01),
        (250.0, 0.05),
        (1000.0, 0.05),
        (1000.05, 0.10),
        (5000.0, 0.10),
        (5000.1, 0.50),
        (10_000.0, 0.50),
        (10_000.5, 1.0),
        (20_000.0, 1.0),
        (20_001.0, 5.0),
        (150_000.0, 5.0),
    ],
)
def test_the_tick_of_a_share_grows_with_its_price(price: float, tick: float) -> None:
    assert contracts.cash_tick(price, date(2026, 11, 20)) == tick


def test_the_ticks_of_shares_have_a_history() -> None:
    assert [contracts.cash_tick(100.0, date(2024, 6, day)) for day in (7, 10)] == [0.05, 0.01]
    assert [contracts.cash_tick(3000.0, date(2025, 4, day)) for day in (11, 15)] == [0.05, 0.10]


@pytest.mark.parametrize(("level", "tick"), [(15_000, 0.05), (15_001, 0.10), (30_000, 0.10), (30_000.5, 0.20)])
def test_the_tick_of_an_index_future_grows_with_the_index(level: float, tick: float) -> None:
    assert contracts.index_future_tick(level, date(2025, 4, 15)) == tick
    assert contracts.index_future_tick(level, date(2025, 4, 14)) == 0.05


def test_the_tick_of_an_option_depends_on_what_it_is_written_on() -> None:
    before, since = date(2025, 10, 31), date(2025, 11, 3)

    assert contracts.option_tick("INDEX", 24_000, since) == 0.05
    assert contracts.option_tick(UnderlyingKind.EQUITY, 249.95, since) == 0.01
    assert contracts.option_tick("EQUITY", 250.0, since) == 0.05
    assert contracts.option_tick("EQUITY", 100.0, before) == 0.05
    with pytest.raises(UnknownTerm, match="option tick known for COM"):
        contracts.option_tick("COM", 100.0, since)


@given(prices, prices, covered_days)
def test_a_higher_price_never_has_a_smaller_tick(one: float, other: float, on: date) -> None:
    low, high = sorted((one, other))

    assert contracts.cash_tick(low, on) <= contracts.cash_tick(high, on)
    assert contracts.index_future_tick(low, on) <= contracts.index_future_tick(high, on)
    assert contracts.option_tick("EQUITY", low, on) <= contracts.option_tick("EQUITY", high, on)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_price_has_no_tick(price: float) -> None:
    with pytest.raises(Rejected, match="is no price"):
        contracts.cash_tick(price, date(2026, 11, 20))


# --- what is refused


def test_a_year_without_a_calendar_is_an_error() -> None:
    on = date(2027, 1, 5)
    for ask in (
        lambda: contracts.expiries("NIFTY", on, 1, 1),
        lambda: contracts.monthly_expiry("NIFTY", 2027, 1),
        lambda: contracts.lot_size("NIFTY", on),
        lambda: contracts.freeze_quantity("NIFTY", on),
        lambda: contracts.cash_tick(100.0, on),
    ):
        with pytest.raises(UncoveredDate, match="no market calendar for 2027"):
            ask()


def test_an_unknown_underlying_is_refused_by_name() -> None:
    with pytest.raises(Rejected, match="no contract rules for 'NFITY': there are NIFTY, BANKNIFTY"):
        contracts.expiries("NFITY", date(2026, 11, 20), 1, 1)


def test_the_last_band_of_every_tick_table_is_open() -> None:
    for row in table("contracts")["tick"]:
        assert row["bands"][-1].keys() == {"tick"}


def test_every_table_of_an_underlying_is_in_the_order_of_its_dates() -> None:
    for name, row in table("contracts")["underlying"].items():
        for column in ("weekly", "monthly", "lot", "freeze"):
            starts = [entry["from"] for entry in row[column]]
            assert starts == sorted(set(starts)), (name, column)
