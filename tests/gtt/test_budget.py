"""The order budget: both readings of a window, the reserve, the wait, the restart."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtt.risk.budget import Budget

VENUE = ((1.0, 8), (60.0, 450), (1800.0, 1800))
NOW_MS = 1_795_150_800_000


def writes(budget: Budget, count: int, *, reducing: bool, now_ms: int = NOW_MS) -> list[int]:
    """When so many leave, each as early as it may."""
    left = []
    for _ in range(count):
        now_ms += budget.wait_ms(now_ms, reducing=reducing)
        assert budget.take(now_ms, reducing=reducing)
        left.append(now_ms)
    return left


def test_exits_may_use_all_of_a_window_and_entries_seven_tenths() -> None:
    budget = Budget([(1.0, 10)])
    assert [budget.take(NOW_MS, reducing=False) for _ in range(8)] == [True] * 7 + [False]
    assert [budget.take(NOW_MS, reducing=True) for _ in range(4)] == [True] * 3 + [False]
    (window,) = budget.remaining(NOW_MS)
    assert (window.used, window.for_entries, window.for_all) == (10, 0, 0)
    assert budget.wait_ms(NOW_MS, reducing=True) == 1000
    (later,) = budget.remaining(NOW_MS + 1000)
    assert (later.used, later.for_entries, later.for_all) == (0, 7, 10)


def test_a_write_that_was_refused_is_not_counted() -> None:
    budget = Budget([(1.0, 1)])
    assert budget.take(NOW_MS, reducing=True)
    assert not budget.take(NOW_MS + 999, reducing=True)
    assert budget.take(NOW_MS + 1000, reducing=True)


def test_the_long_window_is_the_real_one() -> None:
    budget = Budget(VENUE)
    left = writes(budget, 1800, reducing=True)
    assert left[-1] - NOW_MS < 1_800_000
    assert budget.wait_ms(left[-1], reducing=True) == left[0] + 1_800_000 - left[-1]
    (second, minute, half_hour) = budget.remaining(left[-1])
    assert half_hour.for_all == 0
    assert (second.seconds, minute.seconds, half_hour.seconds) == (1.0, 60.0, 1800.0)


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(0, 400), min_size=1, max_size=120),
    exits=st.lists(st.booleans(), min_size=120, max_size=120),
    offset_ms=st.integers(0, 5_000),
)
def test_no_stretch_of_a_window_holds_more_than_the_limit(gaps: list[int], exits: list[bool], offset_ms: int) -> None:
    """Neither a sliding one nor one of the clock, wherever the venue's clock begins its seconds."""
    windows = ((1.0, 3), (5.0, 8))
    budget, now_ms, left = Budget(windows), NOW_MS, []
    for gap, reducing in zip(gaps, exits, strict=False):
        now_ms += gap
        if budget.take(now_ms, reducing=reducing):
            left.append(now_ms)
    for seconds, limit in windows:
        length = round(seconds * 1000)
        for number, start in enumerate(left):
            assert bisect_left(left, start + length) - number <= limit
        by_clock = [(ms + offset_ms) // length for ms in left]
        assert all(by_clock.count(second) <= limit for second in by_clock)


@settings(deadline=None)
@given(count=st.integers(1, 30), sent=st.lists(st.integers(0, 3_000), max_size=20), reducing=st.booleans())
def test_the_wait_for_many_is_what_many_waits_are(count: int, sent: list[int], reducing: bool) -> None:
    past = [NOW_MS - each for each in sent]
    budget = Budget([(1.0, 3), (5.0, 8)], past_ms=past)
    wait = budget.wait_ms(NOW_MS, reducing=reducing, writes=count)
    assert wait == writes(budget, count, reducing=reducing)[-1] - NOW_MS


def test_asking_counts_nothing() -> None:
    budget = Budget(VENUE)
    before = budget.remaining(NOW_MS)
    budget.wait_ms(NOW_MS, reducing=False, writes=50)
    assert budget.remaining(NOW_MS) == before


@settings(deadline=None)
@given(st.lists(st.integers(0, 4_000_000), max_size=300))
def test_a_budget_made_again_from_the_times_of_its_writes_is_the_same(ages: list[int]) -> None:
    past = sorted(NOW_MS - age for age in ages)
    budget = Budget(VENUE)
    for ms in past:
        budget.spend(ms)
    again = Budget(VENUE, past_ms=[ms for ms in reversed(past) if ms > NOW_MS - budget.horizon_ms])
    assert again.remaining(NOW_MS) == budget.remaining(NOW_MS)
    for reducing in (True, False):
        assert again.wait_ms(NOW_MS, reducing=reducing) == budget.wait_ms(NOW_MS, reducing=reducing)


def test_a_clock_that_is_put_back_makes_no_room() -> None:
    budget = Budget([(1.0, 1)])
    assert budget.take(NOW_MS, reducing=True)
    assert not budget.take(NOW_MS - 5_000, reducing=True)
    assert budget.wait_ms(NOW_MS - 5_000, reducing=True) == 6_000


def test_what_left_against_the_budget_is_counted() -> None:
    budget = Budget([(1.0, 1)])
    budget.spend(NOW_MS)
    budget.spend(NOW_MS)
    assert budget.remaining(NOW_MS)[0].used == 2
    assert budget.remaining(NOW_MS)[0].for_all == 0


def test_memory_is_bounded() -> None:
    budget = Budget([(1.0, 5)])
    for number in range(10_000):
        budget.spend(NOW_MS + number)
    assert len(budget._sent) < 200
    assert not budget.take(NOW_MS + 10_000, reducing=True)


def test_no_windows_no_waiting() -> None:
    budget = Budget([])
    assert all(budget.take(NOW_MS, reducing=False) for _ in range(100))
    assert (budget.remaining(NOW_MS), budget.horizon_ms) == ((), 0)


def test_a_small_window_lets_an_entry_through() -> None:
    assert Budget([(1.0, 1)]).take(NOW_MS, reducing=False)


@pytest.mark.parametrize("window", [(0.0, 5), (1.0, 0)])
def test_a_window_without_length_or_limit_is_refused(window: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="needs a length and a limit"):
        Budget([window])
