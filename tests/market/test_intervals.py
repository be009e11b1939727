"""Longer bars against an independent, naive reading of the same definition; and the sessions that make them uneven."""

import math
import random
from datetime import date
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import intervals, sessions
from market.intervals import LONGER, MINUTE, MINUTE_MS, Print, Window
from schemas.intervals import CloseFrom, Interval, LongBar
from schemas.ticks import SessionClass
from tests.market.naive import bar, naive

CLOSING = SessionClass.CLOSING_AUCTION_SHARE
ORDINARY = SessionClass.ORDINARY
WEDNESDAY = date(2026, 11, 25)
TWO_PARTS = date(2024, 3, 2)  # 09:15 to 10:00 and 11:30 to 12:30
MUHURAT = date(2025, 10, 21)  # 13:45 to 14:45
HALF_DAY = date(2026, 11, 24)  # commodities trade in the evening only


def at(on: date, clock: str) -> int:
    hour, minute, *rest = map(int, clock.split(":"))
    return intervals.midnight(sessions.continuous("NSE_EQ", ORDINARY, on)[0][0]) + (
        (hour * 60 + minute) * MINUTE_MS + (rest[0] * 1000 if rest else 0)
    )


def clock(ts: int) -> str:
    minutes = (ts - intervals.midnight(ts)) // MINUTE_MS
    return f"{minutes // 60:02}:{minutes % 60:02}"


def folded(bars: list[dict[str, Any]], interval: Interval, hours: intervals.Hours) -> list[dict[str, Any]]:
    """The bars of one day by the code under test, as JSON has them."""
    minutes = np.array([intervals.minute(one) for one in bars], MINUTE)
    starts = intervals.starts(interval, hours, minutes["ts"])
    minutes, starts = minutes[starts >= 0], starts[starts >= 0]
    begins = intervals.runs(starts)
    end = {one["ts"]: one for one in bars}
    return [
        orjson.loads(
            intervals.encode(
                "NSE_FO|1", interval, int(start), one, end[int(one["last"])], complete=bool(one["complete"])
            )
        )
        for start, one in zip(starts[begins], intervals.fold(minutes, begins), strict=True)
    ]


# Where bars begin and end

#: name -> segment, class, date, interval; the starts of all bars and the end of the last
CUTS = {
    "a share by the hour": (
        ("NSE_EQ", ORDINARY, WEDNESDAY, Interval.M60),
        "09:15 10:15 11:15 12:15 13:15 14:15 15:15",
        "15:30",
    ),
    "a share of the auction by the hour": (
        ("NSE_EQ", CLOSING, WEDNESDAY, Interval.M60),
        "09:15 10:15 11:15 12:15 13:15 14:15",
        "15:15",
    ),
    "a derivative by the hour": (
        ("NSE_FO", ORDINARY, WEDNESDAY, Interval.M60),
        "09:15 10:15 11:15 12:15 13:15 14:15 15:15",
        "15:40",
    ),
    "two parts by the half hour": (("NSE_FO", ORDINARY, TWO_PARTS, Interval.M30), "09:15 09:45 11:30 12:00", "12:30"),
    "two parts by the hour": (("NSE_FO", ORDINARY, TWO_PARTS, Interval.M60), "09:15 11:30", "12:30"),
    "Muhurat by the half hour": (("NSE_FO", ORDINARY, MUHURAT, Interval.M30), "13:45 14:15", "14:45"),
    "a commodity's evening by the hour": (
        ("MCX_FO", ORDINARY, HALF_DAY, Interval.M60),
        "17:00 18:00 19:00 20:00 21:00 22:00 23:00",
        "23:55",
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_bars_are_counted_from_the_start_of_the_session_and_cut_at_its_end(name: str) -> None:
    (segment, session, on, interval), expected, end = CUTS[name]
    hours = sessions.continuous(segment, session, on)
    minutes = intervals.minutes_of(intervals.day(hours), hours)
    found = list(dict.fromkeys(intervals.window(interval, hours, ts) for ts in minutes))
    assert " ".join(clock(one.start_ms) for one in found if one) == expected
    assert found[-1] is not None
    assert clock(found[-1].end_ms) == end


def test_a_bar_does_not_reach_over_the_pause_between_two_parts() -> None:
    hours = sessions.continuous("NSE_FO", ORDINARY, TWO_PARTS)
    last = intervals.window(Interval.M60, hours, at(TWO_PARTS, "09:59"))
    assert last == Window(at(TWO_PARTS, "09:15"), at(TWO_PARTS, "10:00"))
    assert intervals.window(Interval.M60, hours, at(TWO_PARTS, "10:30")) is None
    assert len(intervals.minutes_of(last, hours)) == 45


@pytest.mark.parametrize("interval", LONGER)
@pytest.mark.parametrize("on", [WEDNESDAY, TWO_PARTS])
def test_the_many_minutes_and_the_one_are_told_the_same_bar(interval: Interval, on: date) -> None:
    hours = sessions.continuous("NSE_EQ", ORDINARY, on)
    minutes = np.arange(at(on, "08:00"), at(on, "17:00"), MINUTE_MS)
    one_by_one = [intervals.window(interval, hours, int(ts)) for ts in minutes]
    assert intervals.starts(interval, hours, minutes).tolist() == [w.start_ms if w else -1 for w in one_by_one]


def test_a_day_is_named_by_its_midnight() -> None:
    hours = sessions.continuous("NSE_EQ", ORDINARY, WEDNESDAY)
    found = intervals.day(hours)
    assert (clock(found.start_ms), clock(found.end_ms)) == ("00:00", "15:30")
    assert len(intervals.minutes_of(found, hours)) == 375


# What is in them


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A day's minutes, some of them without a bar; values may be unknown."""
    hours = sessions.continuous("NSE_FO", ORDINARY, TWO_PARTS)
    minutes = intervals.minutes_of(intervals.day(hours), hours)
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    known = draw(st.sampled_from([0.3, 0.9, 1.0]))

    def maybe(value: Any) -> Any:
        return value if chance.random() < known else None

    bars = []
    for ts in sorted(chance.sample(minutes, draw(st.integers(1, len(minutes))))):
        low = chance.randrange(1900, 2000)
        prices = [(low + chance.randrange(40)) / 20 for _ in range(4)]
        volume = chance.choice([0, 75, 150, 10_000])
        bars.append(
            bar(
                ts,
                open=prices[0],
                high=max(prices),
                low=min(prices),
                close=prices[1],
                volume=volume,
                vwap=maybe(prices[2]) if volume else None,
                oi=maybe(chance.randrange(9) * 75.0),
                oi_diff=maybe(chance.randrange(9) * 75.0),
                iv=maybe(0.2),
                model=maybe({"iv": 0.3}),
                tbq=maybe(5.0),
                bid_wall=maybe({"price": 99.0, "qty": 75}),
                ticks=chance.randrange(9),
                rev=chance.choice([0, 0, 0, 3]),
                source=chance.choice(["live", "live", "mixed", "backfill"]),
                complete=chance.random() < 0.9,
            )
        )
    return bars


@settings(deadline=None, max_examples=60)
@given(days(), st.sampled_from(LONGER))
def test_the_fold_is_the_definition(bars: list[dict[str, Any]], interval: Interval) -> None:
    hours = sessions.continuous("NSE_FO", ORDINARY, TWO_PARTS)
    found, expected = folded(bars, interval, hours), naive(bars, interval, hours)
    for one, other in zip(found, expected, strict=True):
        vwap, expected_vwap = one.pop("vwap"), other.pop("vwap")
        assert vwap == (expected_vwap and pytest.approx(expected_vwap, rel=1e-12))
        assert one == other


def test_a_longer_bar_is_what_the_schema_says() -> None:
    hours = sessions.continuous("NSE_FO", ORDINARY, WEDNESDAY)
    (one,) = folded([bar(at(WEDNESDAY, "09:15"))], Interval.M5, hours)
    assert LongBar.model_validate(one).model_dump(mode="json") == one


def test_nothing_is_made_of_nothing() -> None:
    assert not len(intervals.fold(np.zeros(0, MINUTE), intervals.runs(np.zeros(0, np.int64))))


# Days and the trades outside of the continuous session


def day_of(bars: list[dict[str, Any]], prints: list[Print], session: SessionClass = CLOSING) -> tuple[Any, CloseFrom]:
    minutes = np.array([intervals.minute(one) for one in bars], MINUTE)
    made = intervals.fold(minutes, np.zeros(min(1, len(minutes)), np.int64))
    return intervals.with_prints(made[0] if len(made) else None, prints, sessions.day("NSE_EQ", session, WEDNESDAY))


def test_a_day_opens_with_the_match_and_closes_with_the_auction() -> None:
    bars = [
        bar(at(WEDNESDAY, "09:15"), 100.0, volume=10, vwap=100.0),
        bar(at(WEDNESDAY, "15:14"), 104.0, volume=10, vwap=104.0),
    ]
    prints = [
        Print(at(WEDNESDAY, "09:08"), 98.0, 40),
        Print(at(WEDNESDAY, "15:31"), 103.0, 60),
        Print(at(WEDNESDAY, "15:52"), 103.0, 5),
    ]
    made, close_from = day_of(bars, prints[::-1])
    assert (made["open"], made["high"], made["low"], made["close"]) == (98.0, 104.0, 98.0, 103.0)
    assert (made["volume"], made["ticks"], made["minutes"], made["rev"]) == (125, 5, 2, 4)
    assert made["vwap"] == pytest.approx((10 * 100 + 10 * 104 + 40 * 98 + 65 * 103) / 125)
    assert close_from is CloseFrom.AUCTION


CLOSES: dict[str, tuple[list[str], list[tuple[str, float]], float, CloseFrom]] = {
    "no prints": (["15:14"], [], 100.0, CloseFrom.CONTINUOUS),
    "a late word of continuous trading": (["15:14"], [("15:15:01", 101.0)], 101.0, CloseFrom.CONTINUOUS),
    "the auction, whatever else": (["15:14"], [("15:15:01", 101.0), ("15:32", 99.0)], 99.0, CloseFrom.AUCTION),
    "the last of the auction": (["15:14"], [("15:31", 99.0), ("15:34", 98.0)], 98.0, CloseFrom.AUCTION),
    "post-close trades close nothing": (["15:14"], [("15:55", 102.0)], 100.0, CloseFrom.CONTINUOUS),
    "the opening match alone": ([], [("09:08", 97.0)], 97.0, CloseFrom.AUCTION),
    "the opening match, then a trade": (["09:20"], [("09:08", 97.0)], 100.0, CloseFrom.CONTINUOUS),
    "post-close trades alone": ([], [("15:55", 102.0)], 102.0, CloseFrom.POST_CLOSE),
}


@pytest.mark.parametrize("name", CLOSES)
def test_a_day_says_what_it_closed_with(name: str) -> None:
    minutes, prints, close, close_from = CLOSES[name]
    bars = [bar(at(WEDNESDAY, minute)) for minute in minutes]
    made, found = day_of(bars, [Print(at(WEDNESDAY, time), price, 1) for time, price in prints])
    assert (made["close"], found) == (close, close_from)


def test_a_share_without_a_closing_auction_closes_in_continuous_trading() -> None:
    made, found = day_of([bar(at(WEDNESDAY, "15:29"))], [Print(at(WEDNESDAY, "15:55"), 101.0, 1)], ORDINARY)
    assert (made["close"], made["high"], found) == (100.0, 101.0, CloseFrom.CONTINUOUS)


@given(st.permutations(range(4)))
def test_the_order_in_which_prints_came_changes_nothing(order: list[int]) -> None:
    prints = [
        Print(at(WEDNESDAY, "09:08"), 98.0, 40),
        *(Print(at(WEDNESDAY, f"15:3{n}"), 100.0 + n, n) for n in range(3)),
    ]
    bars = [bar(at(WEDNESDAY, "10:00"), volume=5, vwap=100.0)]
    made, close_from = day_of(bars, [prints[at] for at in order])
    expected, _ = day_of(bars, prints)
    assert (made.tobytes(), close_from) == (expected.tobytes(), CloseFrom.AUCTION)


def test_a_minute_without_a_price_by_volume_leaves_the_day_without_one() -> None:
    made, _ = day_of([bar(at(WEDNESDAY, "10:00"), volume=5)], [Print(at(WEDNESDAY, "09:08"), 98.0, 40)])
    assert math.isnan(made["vwap"])
