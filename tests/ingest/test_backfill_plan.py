"""Which minutes are asked for, and when."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.backfill import Need, Plan

MINUTE = 60_000
SETTLE = 4_000
HOUR = 60 * MINUTE
A, B, INDEX = "NSE_FO|1", "NSE_FO|2", "NSE_INDEX|Nifty 50"


def ist(hour: int, minute: int = 0, second: float = 0, day: int = 18) -> int:
    midnight = datetime(2026, 11, day, tzinfo=UTC).timestamp() * 1000 - 330 * MINUTE
    return int(midnight + (hour * 60 + minute) * MINUTE + second * 1000)


def plan(warmup_min: int = 120) -> Plan:
    ranks = {INDEX: 0, A: 2, B: 2}
    return Plan(ranks.__getitem__, lambda key: 24 * HOUR if key == INDEX else warmup_min * MINUTE)


def asked(of: Plan, now_ms: int) -> list[tuple[str, int, int]]:
    """Everything that is due, answered at once: (key, first minute, end of what the answer can have)."""
    found = []
    while (need := of.due(now_ms)) is not None:
        found.append((need.key, need.from_ms, min(need.to_ms, of.served(need, now_ms))))
    return found


def test_at_the_first_start_of_a_day_what_is_over_is_asked_for_at_once_and_the_rest_when_it_is() -> None:
    of = plan()
    of.start(INDEX, ist(11, 30, 20))

    assert asked(of, ist(11, 30, 20)) == [(INDEX, ist(0), ist(11, 30))]
    assert asked(of, ist(11, 31, 3)) == []
    assert asked(of, ist(11, 31, 4)) == [(INDEX, ist(11, 30), ist(11, 31))]
    assert asked(of, ist(16)) == []


def test_an_option_asks_for_its_warm_up_only() -> None:
    of = plan()
    of.start(A, ist(11, 30, 20))
    assert asked(of, ist(11, 30, 20)) == [(A, ist(9, 30), ist(11, 30))]


def test_without_a_warm_up_only_the_minute_of_the_start_is_asked_for() -> None:
    of = plan(warmup_min=0)
    of.start(A, ist(11, 30, 20))
    assert asked(of, ist(11, 31)) == []
    assert asked(of, ist(11, 31, 5)) == [(A, ist(11, 30), ist(11, 31))]


def test_a_warm_up_does_not_reach_into_yesterday() -> None:
    of = plan()
    of.start(A, ist(0, 30))
    assert asked(of, ist(0, 30)) == [(A, ist(0), ist(0, 29))]


def test_indices_come_before_options() -> None:
    of = plan()
    for key in (A, INDEX, B):
        of.start(key, ist(11))
    assert [key for key, *_ in asked(of, ist(11))] == [INDEX, A, B]


def test_a_reconnection_inside_a_minute_asks_for_that_minute_once_it_is_over() -> None:
    of = plan()
    of.covered([A], ist(11, 30, 10))
    of.start(A, ist(11, 30, 12))
    assert asked(of, ist(11, 31, 3)) == []
    assert asked(of, ist(11, 31, 4)) == [(A, ist(11, 30), ist(11, 31))]


def test_an_outage_of_some_minutes_asks_for_all_of_them_at_once() -> None:
    of = plan()
    of.covered([A], ist(11, 30, 10))
    of.start(A, ist(11, 34, 12))
    assert asked(of, ist(11, 35, 4)) == [(A, ist(11, 30), ist(11, 35))]


def test_a_connection_that_breaks_again_and_again_asks_once() -> None:
    of = plan()
    for second in range(0, 60, 5):
        of.covered([A], ist(11, 30, second))
        of.start(A, ist(11, 30, second + 2))
    assert asked(of, ist(11, 31, 4)) == [(A, ist(11, 30), ist(11, 31))]
    assert asked(of, ist(11, 40)) == []


def test_one_that_breaks_before_the_answer_asks_for_the_rest_later() -> None:
    of = plan()
    of.covered([A], ist(11, 30))
    of.start(A, ist(11, 31))
    need = of.due(ist(11, 32, 4))
    assert need is not None
    of.covered([A], ist(11, 33, 30))
    of.start(A, ist(11, 34))
    assert of.served(need, ist(11, 32, 4)) == ist(11, 32)
    assert asked(of, ist(11, 34, 59)) == []
    assert asked(of, ist(11, 35, 4)) == [(A, ist(11, 32), ist(11, 35))]


def test_what_could_not_be_asked_is_asked_again_a_little_later() -> None:
    of = plan()
    of.covered([A], ist(11, 30))
    of.start(A, ist(11, 30, 30))
    need = of.due(ist(11, 31, 4))
    assert need is not None
    of.again(need, ist(11, 31, 4))
    assert of.due(ist(11, 31, 13)) is None
    assert asked(of, ist(11, 31, 14)) == [(A, ist(11, 30), ist(11, 31))]


def test_what_nobody_wants_any_more_is_not_asked_for() -> None:
    of = plan()
    of.start(A, ist(11))
    need = of.due(ist(11))
    assert need is not None
    of.drop(A)
    of.served(need, ist(11))
    of.again(need, ist(11))
    assert len(of) == 0
    assert asked(of, ist(12)) == []


def test_after_a_restart_everything_since_the_last_whole_minute_is_asked_for() -> None:
    before = plan()
    for key in (A, B):
        before.covered([key], ist(11, 30))
        before.start(key, ist(11, 31, 30))
    asked(before, ist(11, 32, 4))
    before.covered([B], ist(11, 40, 5))  # B's connection is down when the process dies
    known = before.filled_to(ist(11, 45))
    assert known == ist(11, 40, 5)

    of = plan()
    of.covered([A, B], known)
    for key in (A, B):
        of.start(key, ist(11, 50))
    assert asked(of, ist(11, 51, 4)) == [(key, ist(11, 40), ist(11, 51)) for key in (A, B)]


def test_as_long_as_a_warm_up_is_open_nothing_counts_as_filled() -> None:
    of = plan()
    of.start(A, ist(11, 30))
    assert of.filled_to(ist(11, 30)) == ist(9, 30)
    asked(of, ist(11, 30))
    asked(of, ist(11, 31, 4))
    assert of.filled_to(ist(11, 32)) == ist(11, 32)


lives = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 300), st.booleans()), min_size=1, max_size=12)


@settings(deadline=None)
@given(lives)
def test_whatever_the_feed_does_every_minute_it_did_not_cover_is_answered_and_none_twice(
    life: list[tuple[int, int, bool]],
) -> None:
    """The feed is down and up in turn, for so many seconds; the venue answers, or not yet."""
    of, now = plan(), ist(9, 15)
    of.covered([A], now)
    missing: set[int] = set()
    got: list[int] = []
    answers = True

    def until(end: int) -> None:
        nonlocal now
        while now < end:
            now = min(end, now + 1_000)
            if answers and (need := of.due(now)):
                got.extend(_minutes(need, min(need.to_ms, of.served(need, now))))

    for down_s, up_s, answered in life:
        began, answers = now, answered
        until(now + down_s * 1000)
        missing |= set(range(began - began % MINUTE, now - now % MINUTE + MINUTE, MINUTE))
        of.start(A, now)
        until(now + up_s * 1000)
        of.covered([A], now)
    answers = True
    of.start(A, now)
    missing.add(now - now % MINUTE)
    until(now + 3 * MINUTE)

    assert missing <= set(got)
    assert len(got) == len(set(got))
    assert len(of) == 0


def _minutes(need: Need, end_ms: int) -> list[int]:
    return list(range(need.from_ms, end_ms, MINUTE))
