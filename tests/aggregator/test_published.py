"""History of former days, and its last word on what it told provisionally: what changes a bar, and what does not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bars import BarBuilder
from aggregator.published import Known, Published
from schemas.ticks import FeedMark
from tests.aggregator.reference import MINUTE
from tests.aggregator.test_bars import KEYS, T0, always, fold, history, told, trade, update
from tests.aggregator.ticks import entry, mark

DAY = 1440 * MINUTE
MORNING = T0 + DAY  # the same time on the next day


def again(builder: BarBuilder) -> BarBuilder:
    """As after a restart."""
    restored = BarBuilder(always)
    restored.restore(builder.snapshot())
    return restored


def yesterday() -> BarBuilder:
    """Minutes 0 to 4 were seen live: 0 from its middle on, the others in full. Nothing of 5 to 9. It is tomorrow."""
    builder = BarBuilder(always)
    first = trade(T0 + 30_000, 100.0, 1000, base=True) | {"iv": 0.2, "oi": 75.0}
    fold(builder, [entry([first])])
    fold(builder, [entry([trade(T0 + n * MINUTE + 1000, 100.0 + n, 1000 + 75 * n)]) for n in range(1, 5)])
    fold(builder, [mark(T0 + 5 * MINUTE, FeedMark.DOWN), mark(T0 + 7 * MINUTE, FeedMark.AWAY)])
    fold(builder, [entry([trade(MORNING, 120.0, 75, base=True)]), entry([trade(MORNING + MINUTE, 121.0, 150)])])
    return again(builder)


def learnt(builder: BarBuilder, *bars: dict[str, Any], **more: Any) -> list[tuple[int, int, str, bool]]:
    """(minute of T0's day, rev, source, complete) of what leaves."""
    now = builder.venue_ms + 1000
    found = fold(builder, [history(now, *(bar | more for bar in bars)), mark(now + 2000, FeedMark.LIVE)])
    of_then = [bar for bar in found if bar["ts"] < MORNING - MINUTE]
    return [((bar["ts"] - T0) // MINUTE, bar["rev"], bar["source"], bar["complete"]) for bar in of_then]


def test_yesterdays_holes_are_filled_and_what_was_seen_in_full_stays() -> None:
    builder = yesterday()
    everything = [told(T0 + n * MINUTE) for n in range(10)]
    assert learnt(builder, *everything, final=True) == [
        (0, 1, "mixed", True),
        *((n, 0, "backfill", True) for n in range(5, 10)),
    ]
    assert learnt(again(builder), *everything, final=True) == []


def test_days_between_that_nobody_saw_are_filled() -> None:
    builder = yesterday()
    today = MORNING + 3 * DAY
    fold(builder, [entry([trade(today, 130.0, 75, base=True)]), entry([trade(today + 3 * MINUTE, 130.0, 150)])])
    days = [told(T0 + n * DAY + m * MINUTE) for n in (1, 2, 3) for m in range(5, 8)]
    found = fold(builder, [history(builder.venue_ms + 1000, *(bar | {"final": True} for bar in days))])
    assert [(bar["ts"], bar["rev"], bar["source"]) for bar in found] == [(bar["ts"], 0, "backfill") for bar in days]


def test_a_hole_of_a_day_that_is_not_remembered_is_filled_where_somebody_knows_of_it() -> None:
    builder = yesterday()
    assert learnt(builder, told(T0 - 3 * DAY), fills=True, final=True) == [(-3 * 1440, 0, "backfill", True)]
    assert learnt(builder, told(T0 - 3 * DAY), fills=False, final=True) == []


def test_what_was_told_provisionally_is_corrected_when_it_turns_out_to_be_different() -> None:
    builder = yesterday()
    assert learnt(builder, told(T0), told(T0 + 6 * MINUTE)) == [(0, 1, "mixed", True), (6, 0, "backfill", True)]
    same = [told(T0)]
    assert learnt(again(builder), *same, fills=False, final=True) == []
    changed = [told(T0) | {"volume": 76}, told(T0 + 6 * MINUTE) | {"close": 99.5}, told(T0 + 2 * MINUTE)]
    builder = again(builder)
    assert learnt(builder, *changed, fills=False, final=True) == [(0, 2, "mixed", True), (6, 3, "backfill", True)]
    assert learnt(again(builder), *changed, fills=False, final=True) == []


def test_a_correction_keeps_what_was_seen_live() -> None:
    builder = yesterday()
    learnt(builder, told(T0))
    now = builder.venue_ms + 1000
    (bar,) = fold(again(builder), [history(now, told(T0) | {"high": 140.0, "fills": False, "final": True})])
    assert (bar["iv"], bar["oi"], bar["high"], bar["ticks"]) == (0.2, 75.0, 140.0, 1)


def test_a_minute_that_is_still_in_the_ring_is_corrected_there() -> None:
    builder = BarBuilder(always)
    fold(builder, [entry([trade(T0 + 30_000, 100.0, 1000, base=True)]), mark(T0 + 65_000, FeedMark.LIVE)])
    assert learnt(builder, told(T0)) == [(0, 1, "mixed", True)]
    assert learnt(builder, told(T0), fills=False, final=True) == []
    assert learnt(builder, told(T0) | {"volume": 1}, fills=False, final=True) == []  # the last word was said
    builder = BarBuilder(always)
    fold(builder, [entry([trade(T0 + 30_000, 100.0, 1000, base=True)]), mark(T0 + 65_000, FeedMark.LIVE)])
    learnt(builder, told(T0))
    assert learnt(builder, told(T0) | {"volume": 1}, fills=False, final=True) == [(0, 2, "mixed", True)]


def test_open_interest_before_a_filled_minute_is_what_history_says_of_it() -> None:
    builder = yesterday()
    bars = [told(T0 + n * MINUTE) | {"oi": 100.0 * n, "oi_before": 100.0 * (n - 1), "final": True} for n in (6, 7)]
    found = fold(builder, [history(builder.venue_ms + 1000, *bars)])
    assert [bar["oi_diff"] for bar in found] == [100.0, 100.0]


def test_a_correction_of_a_minute_without_a_bar_makes_none() -> None:
    """The feed covered it and saw no trade: where history has one, the audit says so."""
    builder = yesterday()
    assert learnt(builder, *(told(T0 + n * MINUTE) for n in range(5, 10)), fills=False, final=True) == []


# The memory alone


def mark_one(of: Published, row: int, minute: int, rev: int, is_open: bool) -> None:
    of.mark(np.array([row]), minute, np.array([rev]), np.array([is_open]))


def test_only_the_newest_two_days_with_a_bar_are_remembered() -> None:
    of = Published(1)
    assert of.known(0, T0) is Known.ABSENT
    for day in (0, 3, 5):
        mark_one(of, 0, T0 + day * DAY, 0, False)
    assert of.known(0, T0) is Known.FORGOTTEN
    assert of.known(0, T0 + 3 * DAY) is of.known(0, T0 + 5 * DAY) is Known.SETTLED
    assert of.known(0, T0 + 4 * DAY) is of.known(0, T0 + 6 * DAY) is Known.ABSENT
    mark_one(of, 0, T0 + DAY, 0, False)
    assert of.known(0, T0 + DAY) is Known.FORGOTTEN


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2879), st.integers(0, 5), st.booleans()), max_size=80),
    st.integers(1, 80),
)
def test_the_memory_says_what_a_plain_one_says_and_survives_being_packed(
    marks: list[tuple[int, int, int, bool]], every: int
) -> None:
    of, plain = Published(3), dict[tuple[int, int], bool]()
    top: dict[tuple[int, int], int] = {}
    midnight = T0 - (T0 + 19_800_000) % DAY
    for number, (row, of_days, rev, is_open) in enumerate(marks, 1):
        mark_one(of, row, midnight + of_days * MINUTE, rev, is_open)
        plain[row, of_days] = is_open
        top[row, of_days // 1440] = max(rev, top.get((row, of_days // 1440), 0))
        if number % every == 0:
            packed, of = of.snapshot(3), Published(1)
            of.restore(packed, 3, 4)
    for row in range(3):
        for of_days in range(2880):
            told_open = plain.get((row, of_days))
            wanted = Known.ABSENT if told_open is None else Known.OPEN if told_open else Known.SETTLED
            assert of.known(row, midnight + of_days * MINUTE) is wanted
    for (row, day), rev in top.items():
        assert of.next_rev(row, midnight + day * DAY) == rev + 1


def test_what_is_no_memory_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="published minutes"):
        Published(1).restore(b"nothing", 1, 1)
    with pytest.raises(ValueError, match="reshape"):
        Published(1).restore(Published(2).snapshot(2), 3, 4)


def test_new_instruments_are_in_the_next_snapshot_though_nothing_was_marked() -> None:
    builder = BarBuilder(always)
    fold(builder, [entry([trade(T0, 100.0, 10, base=True)]), mark(T0 + 90_000, FeedMark.LIVE)])
    builder.snapshot()
    fold(builder, [entry([update(KEYS[1], T0 + 91_000, base=True)])])
    assert len(again(builder)) == 2


def test_thousands_of_instruments_are_packed_small() -> None:
    of = Published(5000)
    for row in range(5000):
        for minute in range(3):
            mark_one(of, row, T0 + minute * MINUTE, 0, False)
    assert len(of.snapshot(5000)) < 300_000
