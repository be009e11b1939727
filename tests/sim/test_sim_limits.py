"""Three windows at once."""

from hypothesis import given
from hypothesis import strategies as st

from sim.limits import RateLimiter
from sim.settings import RateLimits

SMALL = RateLimits(per_1_s=3, per_1_min=5, per_30_min=7)


def test_the_window_of_a_second_slides() -> None:
    limiter = RateLimiter(SMALL)
    assert [limiter.allow("u", "c", now) for now in (0.0, 0.5, 0.9, 0.95, 1.01)] == [True, True, True, False, True]


def test_each_longer_window_has_its_own_limit() -> None:
    limiter = RateLimiter(SMALL)
    assert [limiter.allow("u", "c", 10.0 * n) for n in range(6)] == [True] * 5 + [False]
    assert [limiter.allow("u", "c", 70.0 + 61 * n) for n in range(3)] == [True, True, False]
    assert limiter.allow("u", "c", 1_801.0)


def test_callers_and_calls_do_not_share_a_window() -> None:
    limiter = RateLimiter(RateLimits(per_1_s=1, per_1_min=1, per_30_min=1))
    assert limiter.allow("u", "c", 0.0)
    assert limiter.allow("v", "c", 0.0)
    assert limiter.allow("u", "d", 0.0)
    assert not limiter.allow("u", "c", 0.0)


@given(st.lists(st.floats(0.0, 100.0), max_size=60))
def test_no_window_ever_holds_more_than_its_limit(times: list[float]) -> None:
    limiter = RateLimiter(SMALL)
    allowed = [now for now in sorted(times) if limiter.allow("u", "c", now)]
    for window_s, most in ((1.0, 3), (60.0, 5), (1_800.0, 7)):
        assert all(sum(now - window_s < each <= now for each in allowed) <= most for now in allowed)
