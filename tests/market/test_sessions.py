from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pandas_market_calendars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import sessions
from market.sessions import Interval, Part, Phase, UncoveredDate
from schemas.errors import Misconfigured, Rejected
from schemas.ticks import SessionClass

ORDINARY = SessionClass.ORDINARY
CAS_SHARE = SessionClass.CLOSING_AUCTION_SHARE
EXPIRING = SessionClass.EXPIRING_INDEX_CONTRACT
ALWAYS = SessionClass.ALWAYS_OPEN

MINUTE_MS = 60_000
FIRST, LAST = date(2024, 1, 1), date(2026, 12, 31)
SEGMENTS = sessions.segments()
ALL_DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]

covered_days = st.dates(FIRST, LAST)
any_segment = st.sampled_from(SEGMENTS)
any_class = st.sampled_from(list(SessionClass))


def ist(ts_ms: int) -> time:
    return (datetime.fromtimestamp(ts_ms / 1000, UTC) + timedelta(hours=5, minutes=30)).time()


def clock(intervals: tuple[Interval, ...]) -> list[str]:
    return [f"{i.phase} {ist(i.start_ms):%H:%M}-{ist(i.end_ms):%H:%M}" for i in intervals]


def trading(segment: str, session_class: SessionClass, on: date) -> list[str]:
    return [f"{ist(a):%H:%M}-{ist(b):%H:%M}" for a, b in sessions.continuous(segment, session_class, on)]


def minutes(segment: str, session_class: SessionClass, on: date) -> int:
    return sum(b - a for a, b in sessions.continuous(segment, session_class, on)) // MINUTE_MS


# --- the rules, by date


@pytest.mark.parametrize("segment", ["NSE_EQ", "BSE_EQ"])
def test_a_share_trades_continuously_from_a_quarter_past_nine_to_half_past_three(segment: str) -> None:
    assert clock(sessions.day(segment, ORDINARY, date(2024, 6, 3))) == [
        "pre_open 09:00-09:15",
        "continuous 09:15-15:30",
        "post_close 15:40-16:00",
    ]


@pytest.mark.parametrize("segment", ["NSE_EQ", "BSE_EQ"])
def test_the_closing_auction_cut_the_last_quarter_of_an_hour_off_from_august_2026(segment: str) -> None:
    assert clock(sessions.day(segment, CAS_SHARE, date(2026, 8, 3))) == [
        "pre_open 09:00-09:15",
        "continuous 09:15-15:15",
        "closing_auction 15:15-15:35",
        "post_close 15:50-16:00",
    ]


def test_the_closing_auction_moves_behind_the_session_in_december_2026() -> None:
    assert clock(sessions.day("NSE_EQ", CAS_SHARE, date(2026, 12, 7))) == [
        "pre_open 09:00-09:15",
        "continuous 09:15-15:30",
        "closing_auction 15:30-15:40",
        "post_close 15:50-16:00",
    ]


def test_a_share_of_the_closing_auction_kept_ordinary_hours_before_there_was_one() -> None:
    assert sessions.day("NSE_EQ", CAS_SHARE, date(2026, 7, 31)) == sessions.day("NSE_EQ", ORDINARY, date(2026, 7, 31))


def test_an_index_follows_the_ordinary_cash_hours_whatever_its_shares_do() -> None:
    on = date(2026, 11, 20)
    for segment in ("NSE_INDEX", "BSE_INDEX"):
        assert sessions.day(segment, CAS_SHARE, on) == sessions.day("NSE_EQ", ORDINARY, on)


@pytest.mark.parametrize(
    ("on", "session_class", "bars"),
    [
        (date(2026, 7, 31), ORDINARY, 375),
        (date(2026, 8, 3), ORDINARY, 385),
        (date(2026, 12, 4), ORDINARY, 385),
        (date(2026, 12, 7), ORDINARY, 390),
        (date(2026, 7, 30), EXPIRING, 375),
        (date(2026, 8, 13), EXPIRING, 385),
        (date(2026, 12, 3), EXPIRING, 385),
        (date(2026, 12, 8), EXPIRING, 375),
    ],
)
@pytest.mark.parametrize("segment", ["NSE_FO", "BSE_FO"])
def test_a_contract_has_as_many_minutes_as_its_date_and_its_expiry_say(
    segment: str, on: date, session_class: SessionClass, bars: int
) -> None:
    assert minutes(segment, session_class, on) == bars


@pytest.mark.parametrize(
    ("on", "session_class", "bars"),
    [
        (date(2026, 7, 31), CAS_SHARE, 375),
        (date(2026, 8, 3), CAS_SHARE, 360),
        (date(2026, 12, 4), CAS_SHARE, 360),
        (date(2026, 12, 7), CAS_SHARE, 375),
        (date(2026, 8, 3), ORDINARY, 375),
        (date(2026, 12, 7), ORDINARY, 375),
    ],
)
def test_a_share_has_as_many_minutes_as_its_date_and_its_auction_say(
    on: date, session_class: SessionClass, bars: int
) -> None:
    assert minutes("NSE_EQ", session_class, on) == bars


def test_derivatives_have_a_pre_open_since_december_2025() -> None:
    assert sessions.day("NSE_FO", ORDINARY, date(2025, 12, 5))[0].phase is Phase.CONTINUOUS
    assert clock(sessions.day("NSE_FO", ORDINARY, date(2025, 12, 8)))[0] == "pre_open 09:00-09:15"


@pytest.mark.parametrize(
    ("on", "hours"),
    [
        (date(2024, 3, 8), "17:00-23:55"),
        (date(2024, 3, 11), "09:00-23:30"),
        (date(2024, 10, 31), "09:00-23:30"),
        (date(2024, 11, 4), "09:00-23:55"),
        (date(2026, 10, 30), "09:00-23:30"),
        (date(2026, 11, 2), "09:00-23:55"),
        (date(2026, 11, 24), "17:00-23:55"),
        (date(2026, 9, 14), "17:00-23:30"),
        (date(2026, 1, 1), "09:00-17:00"),
        (date(2026, 2, 1), "09:00-17:00"),
    ],
)
@pytest.mark.parametrize("segment", ["MCX_FO", "NSE_COM"])
def test_commodities_follow_new_york_and_keep_their_evenings(segment: str, on: date, hours: Any) -> None:
    assert trading(segment, ORDINARY, on) == [hours]


@pytest.mark.parametrize("on", [date(2026, 1, 26), date(2026, 4, 3), date(2026, 10, 2), date(2026, 12, 25)])
def test_commodities_close_altogether_on_the_great_holidays(on: date) -> None:
    assert sessions.day("MCX_FO", ORDINARY, on) == ()


@pytest.mark.parametrize("on", [date(2026, 2, 19), date(2026, 3, 19), date(2026, 4, 1), date(2026, 8, 26)])
@pytest.mark.parametrize("segment", ["NCD_FO", "BCD_FO"])
def test_currency_rests_when_banks_do_although_shares_trade(segment: str, on: date) -> None:
    assert sessions.day(segment, ORDINARY, on) == ()
    assert sessions.is_trading_day("NSE_EQ", on)


def test_a_moved_bank_holiday_is_found_where_it_went() -> None:
    assert trading("NCD_FO", ORDINARY, date(2025, 9, 5)) == ["09:00-17:00"]
    assert trading("NCD_FO", ORDINARY, date(2025, 9, 8)) == []


@pytest.mark.parametrize(
    ("on", "hours"),
    [
        (date(2024, 1, 20), ["09:15-15:30"]),
        (date(2024, 3, 2), ["09:15-10:00", "11:30-12:30"]),
        (date(2024, 5, 18), ["09:15-10:00", "11:45-12:40"]),
        (date(2024, 11, 1), ["18:00-19:00"]),
        (date(2025, 2, 1), ["09:15-15:30"]),
        (date(2025, 10, 21), ["13:45-14:45"]),
        (date(2026, 2, 1), ["09:15-15:30"]),
        (date(2026, 11, 8), ["18:15-19:15"]),
    ],
)
@pytest.mark.parametrize("segment", ["NSE_EQ", "BSE_EQ", "NSE_INDEX", "NSE_FO", "BSE_FO"])
def test_a_special_session_has_its_own_hours(segment: str, on: date, hours: Any) -> None:
    assert trading(segment, ORDINARY, on) == hours
    assert sessions.is_trading_day(segment, on)


def test_the_muhurat_session_of_2024_opens_with_a_call_auction() -> None:
    assert clock(sessions.day("NSE_EQ", ORDINARY, date(2024, 11, 1)))[0] == "pre_open 17:45-18:00"


def test_hours_that_nobody_has_confirmed_say_so() -> None:
    unconfirmed = [h.date for year in sessions.covered_years() for h in sessions.holidays(year) if not h.confirmed]

    assert unconfirmed == [date(2024, 5, 18), date(2026, 11, 8)]


def test_the_holidays_of_a_year_name_who_is_closed_and_who_is_open() -> None:
    by_date = {holiday.date: holiday for holiday in sessions.holidays(2026)}

    guru_nanak = by_date[date(2026, 11, 24)]
    assert guru_nanak.description == "Guru Nanak Jayanti"
    assert set(guru_nanak.closed) == set(SEGMENTS) - {"MCX_FO", "NSE_COM"}
    assert [(segment, clock(hours)) for segment, hours in guru_nanak.open] == [
        ("MCX_FO", ["continuous 17:00-23:55"]),
        ("NSE_COM", ["continuous 17:00-23:55"]),
    ]
    assert by_date[date(2026, 8, 26)].closed == ("NCD_FO", "BCD_FO")
    assert by_date[date(2026, 8, 26)].open == ()


def test_holidays_come_in_order_and_once() -> None:
    for year in sessions.covered_years():
        dates = [holiday.date for holiday in sessions.holidays(year)]
        assert dates == sorted(set(dates))
        assert {on.year for on in dates} == {year}


# --- inside an auction


@pytest.mark.parametrize(
    ("segment", "session_class", "on", "phase", "expected"),
    [
        (
            "NSE_EQ",
            ORDINARY,
            date(2026, 9, 4),
            Phase.PRE_OPEN,
            ["entry 09:00-09:07-09:08", "matching 09:08-09:12-09:12", "buffer 09:12-09:15-09:15"],
        ),
        (
            "NSE_FO",
            ORDINARY,
            date(2026, 9, 7),
            Phase.PRE_OPEN,
            [
                "entry 09:00-09:05-09:05",
                "limit_only 09:05-09:08-09:10",
                "matching 09:10-09:12-09:12",
                "buffer 09:12-09:15-09:15",
            ],
        ),
        (
            "NSE_EQ",
            CAS_SHARE,
            date(2026, 8, 3),
            Phase.CLOSING_AUCTION,
            [
                "frozen 15:15-15:20-15:20",
                "entry 15:20-15:25-15:25",
                "limit_only 15:25-15:28-15:30",
                "matching 15:30-15:35-15:35",
            ],
        ),
        (
            "NSE_EQ",
            CAS_SHARE,
            date(2026, 12, 7),
            Phase.CLOSING_AUCTION,
            ["frozen 15:30-15:31-15:31", "entry 15:31-15:36-15:36", "limit_only 15:36-15:38-15:40"],
        ),
    ],
)
def test_an_auction_takes_orders_only_in_some_of_its_parts(
    segment: str, session_class: SessionClass, on: date, phase: Any, expected: Any
) -> None:
    [auction] = [i for i in sessions.day(segment, session_class, on) if i.phase is phase]

    parts = sessions.auction_parts(auction)

    times = [(p.part, ist(p.start_ms), ist(p.may_end_ms), ist(p.end_ms)) for p in parts]
    assert [f"{part} {a:%H:%M}-{b:%H:%M}-{c:%H:%M}" for part, a, b, c in times] == expected


@given(any_segment, any_class, covered_days)
def test_the_parts_of_an_auction_fill_it_exactly(segment: str, session_class: SessionClass, on: date) -> None:
    for interval in sessions.day(segment, session_class, on):
        parts = sessions.auction_parts(interval)
        if interval.phase not in (Phase.PRE_OPEN, Phase.CLOSING_AUCTION):
            assert parts == ()
            continue
        assert parts[0].start_ms == interval.start_ms
        assert parts[-1].end_ms == interval.end_ms
        assert all(before.end_ms == after.start_ms for before, after in pairwise(parts))
        assert any(part.part is Part.ENTRY for part in parts)


# --- against an independent calendar

#: Its NSE calendar draws sessions from a Monday-to-Friday mask and cannot show these; ours follow the notices.
WEEKEND_SESSIONS = [
    date(2024, 1, 20),
    date(2024, 3, 2),
    date(2024, 5, 18),
    date(2025, 2, 1),
    date(2026, 2, 1),
    date(2026, 11, 8),
]


@pytest.fixture(scope="module")
def peer() -> Any:
    schedule = pandas_market_calendars.get_calendar("NSE").schedule(FIRST.isoformat(), LAST.isoformat())
    return {
        day.date(): (row.market_open.value // 1_000_000, row.market_close.value // 1_000_000)
        for day, row in zip(schedule.index, schedule.itertuples(), strict=True)
    }


@pytest.mark.parametrize("segment", ["NSE_EQ", "BSE_EQ", "NSE_FO", "BSE_FO", "NSE_INDEX", "BSE_INDEX"])
def test_an_independent_calendar_knows_the_same_trading_days(peer: Any, segment: str) -> None:
    ours = {on for on in ALL_DAYS if sessions.is_trading_day(segment, on)}

    assert sorted(ours - peer.keys()) == WEEKEND_SESSIONS
    assert peer.keys() - ours == set()


def test_an_independent_calendar_knows_the_same_hours_of_shares(peer: Any) -> None:
    # The whole span, because for ordinary shares the continuous session never changed; its Muhurat hours agree too.
    for on, hours in peer.items():
        assert sessions.continuous("NSE_EQ", ORDINARY, on) == (hours,)


def test_an_independent_calendar_knows_the_same_hours_of_contracts_until_august_2026(peer: Any) -> None:
    # From then on it still closes at 15:30; the exchanges do not.
    for on, hours in peer.items():
        assert (sessions.continuous("NSE_FO", ORDINARY, on) == (hours,)) is (on < date(2026, 8, 3))


# --- what holds for every day


@given(any_segment, any_class, covered_days)
def test_every_covered_day_resolves_into_ordered_disjoint_whole_minutes(
    segment: str, session_class: SessionClass, on: date
) -> None:
    intervals = sessions.day(segment, session_class, on)

    assert all(i.start_ms < i.end_ms for i in intervals)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(intervals))
    assert all(i.start_ms % MINUTE_MS == i.end_ms % MINUTE_MS == 0 for i in intervals)
    assert {sessions.trading_date(i.start_ms) for i in intervals} <= {on}
    assert {sessions.trading_date(i.end_ms - 1) for i in intervals} <= {on}
    assert Phase.CLOSED not in {i.phase for i in intervals}


def test_every_covered_day_of_every_segment_and_class_resolves() -> None:
    for on in ALL_DAYS:
        for segment in SEGMENTS:
            for session_class in SessionClass:
                assert bool(sessions.day(segment, session_class, on)) >= sessions.is_trading_day(segment, on)


@given(any_segment, any_class, covered_days, st.integers(0, 24 * 60 * MINUTE_MS - 1))
def test_the_phase_of_an_instant_is_that_of_the_interval_around_it(
    segment: str, session_class: SessionClass, on: date, offset_ms: int
) -> None:
    ts_ms = sessions.day(segment, ALWAYS, on)[0].start_ms + offset_ms

    around = [i.phase for i in sessions.day(segment, session_class, on) if i.start_ms <= ts_ms < i.end_ms]

    assert sessions.phase_at(segment, session_class, ts_ms) == (around[0] if around else Phase.CLOSED)


@given(any_segment, st.sampled_from([ORDINARY, CAS_SHARE, EXPIRING]), covered_days)
def test_an_interval_contains_its_first_instant_and_not_its_end(
    segment: str, session_class: SessionClass, on: date
) -> None:
    starts = {interval.start_ms for interval in sessions.day(segment, session_class, on)}
    for interval in sessions.day(segment, session_class, on):
        assert sessions.phase_at(segment, session_class, interval.start_ms) is interval.phase
        assert sessions.phase_at(segment, session_class, interval.end_ms - 1) is interval.phase
        if interval.end_ms not in starts:
            assert sessions.phase_at(segment, session_class, interval.end_ms) is Phase.CLOSED


@given(any_segment, st.dates(FIRST + timedelta(days=10), LAST - timedelta(days=10)))
def test_the_next_and_the_previous_trading_day_undo_each_other(segment: str, on: date) -> None:
    after = sessions.next_trading_day(segment, on)
    before = sessions.previous_trading_day(segment, on)

    assert before < on < after
    assert sessions.is_trading_day(segment, before)
    assert sessions.is_trading_day(segment, after)
    assert not any(sessions.is_trading_day(segment, day) for day in ALL_DAYS if before < day < after and day != on)
    if sessions.is_trading_day(segment, on):
        assert sessions.previous_trading_day(segment, after) == on
        assert sessions.next_trading_day(segment, before) == on


@given(any_segment, covered_days)
def test_only_a_weekday_can_keep_regular_hours(segment: str, on: date) -> None:
    if sessions.keeps_regular_hours(segment, on):
        assert on.weekday() < 5
        assert sessions.is_trading_day(segment, on)


@pytest.mark.parametrize("on", [date(2025, 10, 21), date(2024, 1, 20), date(2026, 11, 24)])
def test_a_muhurat_day_a_saturday_and_a_holiday_keep_no_regular_hours(on: date) -> None:
    assert not sessions.keeps_regular_hours("NSE_FO", on)


@given(st.dates(), st.text(max_size=10))
def test_the_demo_is_open_all_day_on_any_date_in_any_segment(on: date, segment: str) -> None:
    [interval] = sessions.day(segment, ALWAYS, on)

    assert interval.phase is Phase.CONTINUOUS
    assert interval.end_ms - interval.start_ms == 24 * 60 * MINUTE_MS
    assert ist(interval.start_ms) == time(0)
    assert sessions.trading_date(interval.start_ms) == on


# --- what is refused


@pytest.mark.parametrize("on", [date(2023, 12, 29), date(2027, 1, 4), date(1900, 1, 1), date(9999, 12, 31)])
@pytest.mark.parametrize("session_class", [ORDINARY, CAS_SHARE, EXPIRING])
def test_a_year_without_data_is_an_error_that_says_what_to_do(on: date, session_class: SessionClass) -> None:
    with pytest.raises(UncoveredDate, match=r"holidays\.toml covers 2024 to 2026; update Teji") as refused:
        sessions.day("NSE_EQ", session_class, on)

    assert refused.value.on == on
    assert isinstance(refused.value, Misconfigured)


def test_stepping_out_of_the_covered_years_is_an_error() -> None:
    with pytest.raises(UncoveredDate, match="2027-01-01"):
        sessions.next_trading_day("NSE_EQ", date(2026, 12, 31))
    with pytest.raises(UncoveredDate, match="2023-12-31"):
        sessions.previous_trading_day("NSE_EQ", date(2024, 1, 1))
    with pytest.raises(UncoveredDate, match="2027"):
        sessions.holidays(2027)
    with pytest.raises(UncoveredDate, match="2027-01-02"):
        sessions.keeps_regular_hours("NSE_EQ", date(2027, 1, 2))


def test_an_unknown_segment_is_refused_by_name() -> None:
    with pytest.raises(Rejected, match="unknown segment 'NSE_XX': the calendar knows NSE_EQ"):
        sessions.phase_at("NSE_XX", ORDINARY, 1_780_000_000_000)


@pytest.mark.parametrize("ts_ms", [-(10**15), 10**16, 10**30])
def test_an_instant_outside_of_all_dates_is_refused(ts_ms: int) -> None:
    with pytest.raises(Rejected, match="is no date"):
        sessions.trading_date(ts_ms)


# --- small change


def test_the_trading_date_turns_at_midnight_in_india() -> None:
    midnight_ms = int(datetime(2026, 11, 19, 18, 30, tzinfo=UTC).timestamp() * 1000)

    assert sessions.trading_date(midnight_ms) == date(2026, 11, 20)
    assert sessions.trading_date(midnight_ms - 1) == date(2026, 11, 19)


@pytest.mark.parametrize(
    ("key", "segment"), [("NSE_FO|61755", "NSE_FO"), ("NSE_INDEX|Nifty 50", "NSE_INDEX"), ("MCX_FO|1|2", "MCX_FO")]
)
def test_the_segment_is_the_part_before_the_bar(key: str, segment: str) -> None:
    assert sessions.segment_of(key) == segment


def test_a_class_read_from_a_tick_record_works_as_the_plain_number_it_is() -> None:
    on = date(2026, 11, 20)
    for session_class in SessionClass:
        sessions.day.cache_clear()
        assert sessions.day("NSE_EQ", int(session_class), on) == sessions.day.__wrapped__("NSE_EQ", session_class, on)
