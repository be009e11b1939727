"""A hole that is longer than the ring of minutes: history tells its two ends in one entry, and both leave."""

import pytest

from aggregator.bars import BarBuilder
from schemas.ticks import FeedMark
from tests.aggregator.reference import MINUTE
from tests.aggregator.test_bars import T0, always, covered_minute, fold, history, told
from tests.aggregator.ticks import mark


@pytest.mark.parametrize("minutes", [2, 3, 4, 5, 9])
def test_the_first_minute_of_a_hole_is_completed_though_a_later_one_takes_its_place(minutes: int) -> None:
    builder = BarBuilder(always)
    covered_minute(builder)  # a bar before T0 that is not whole, and one of T0
    end = T0 + minutes * MINUTE
    hole = [T0 - MINUTE, *range(T0 + MINUTE, end, MINUTE)]
    bars = fold(builder, [mark(end + 5_000, FeedMark.LIVE), history(end + 6_000, *map(told, hole))])
    bars += fold(builder, [mark(end + MINUTE + 5_000, FeedMark.LIVE)])
    assert sorted((bar["ts"], bar["rev"], bar["source"], bar["complete"]) for bar in bars) == [
        (T0 - MINUTE, 1, "mixed", True),
        *[(ts, 0, "backfill", True) for ts in hole[1:]],
    ]
