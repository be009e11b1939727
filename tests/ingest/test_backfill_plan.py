"""Which minutes are asked for, and when."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.plan import Plan, midnight, on
from market import sessions
from schemas.ticks import SessionClass

MINUTE = 60_000
SETTLE = 4_000
HOUR = 60 * MINUTE
A, B, INDEX = "NSE_FO|1", "NSE_FO|2", "NSE_INDEX|Nifty 50"


def ist(hour: int, minute: int = 0, second: float = 0, day: int = 18) -> int:
    midnight = datetime(2026, 11, day, tzinfo=UTC).timestamp() * 1000 - 330 * MINUTE
    return int(midnight + (hour * 60 + minute) * MINUTE + second * 1000)


def plan(warmup_min: int = 120, days_back: int = 5, always: bool = False) -> Plan:
    ranks = {INDEX: 0, A: 2, B: 2}
    session = SessionClass.ALWAYS_OPEN if always else SessionClass.ORDINARY
    return Plan(
        ranks.__getitem__,
        lambda key: 24 * HOUR if key == INDEX else warmup_min * MINUTE,
        lambda key, on: sessions.continuous(sessions.segment_of(key), session, on),
        days_back,
    )


def asked(of: Plan, now_ms: int) -> list[tuple[str, int, int]]:
    """Everything that is due, answered at once: (key, first minute, end of what the answer can have)."""
    found = []
    while (need := of.due(now_ms)) is not None:
        found.append((need.key, *of.served(need, now_ms)))
    return found


def test_at_the_first_start_of_a_day_what_is_over_is_asked_for_at_once_and_the_rest_when_it_is() -> None:
    of = plan()
    of.start(INDEX, ist(11, 30, 20))

    assert asked(of, ist(11, 30, 20)) == [(INDEX, ist(9, 15), ist(11, 30))]
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
    of = plan(always=True)
    of.start(A, ist(0, 30))
    assert asked(of, ist(0, 30)) == [(A, ist(0), ist(0, 29))]


def test_indices_come_before_options() -> None:
    of = plan()
    for key in (A, INDEX, B):
        of.start(key, ist(11))
    assert [key for key, *_ in asked(of, ist(11))] == [INDEX, A, B]


def test_what_has_been_told_nothing_yet_comes_before_the_last_minute_of_what_has() -> None:
    of = plan()
    for key in (INDEX, A):
        of.start(key, ist(11, 30, 20))
    first = of.due(ist(11, 30, 20))
    assert first is not None
    of.served(first, ist(11, 30, 20))
    assert [key for key, *_ in asked(of, ist(11, 31, 10))] == [A, INDEX]


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
    assert of.served(need, ist(11, 32, 4)) == (ist(11, 30), ist(11, 32))
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
    assert of.waiting(past=False) == 0
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
                got.extend(range(*of.served(need, now), MINUTE))

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
    assert of.waiting(past=False) == 0


# Finished days. 18 November 2026 is a Wednesday; Tuesday the 24th is a holiday. Derivatives trade until 15:40.


def day(number: int) -> int:
    return ist(0, day=number)


def history(of: Plan, now_ms: int, days: set[int] | None = None) -> list[tuple[str, list[int], list[tuple[int, int]]]]:
    """Every call for finished days that is due, answered with candles of all of them (or only these): (key, the days
    asked for, the minutes that are to be filled)."""
    found = []
    while (need := of.due(now_ms)) is not None:
        if not need.past:
            of.served(need, now_ms)
            continue
        asked_for = list(range(need.from_ms, need.to_ms, 24 * HOUR))
        traded = [one for one in asked_for if sessions.is_trading_day("NSE_FO", on(one))]
        answer = of.finished(need, now_ms, set(traded) if days is None else days & set(traded))
        found.append((need.key, asked_for, list(answer.holes)))
    return found


def down(of: Plan, since: int, until: int, key: str = A) -> None:
    of.covered([key], since)
    of.start(key, until)


def test_a_system_that_was_down_since_yesterday_asks_both_calls_for_what_it_missed() -> None:
    of = plan()
    down(of, ist(14, 0, day=18), ist(10, 0, 30, day=19))
    assert history(of, ist(10, 0, 30, day=19)) == [(A, [day(18)], [(ist(14), ist(15, 40))])]

    of = plan()
    down(of, ist(14, 0, day=18), ist(10, 0, 30, day=19))
    need = of.due(ist(10, 0, 30, day=19))
    assert need is not None
    assert (need.past, need.from_ms, need.to_ms) == (False, ist(9, 15, day=19), ist(10, 1, day=19))  # today comes first


def test_weekends_and_holidays_are_not_asked_for() -> None:
    of = plan()
    down(of, ist(15, 39, day=20), ist(9, 14, day=23))  # Friday to Monday
    assert history(of, ist(9, 14, day=23)) == [(A, [day(20)], [(ist(15, 39, day=20), ist(15, 40, day=20))])]

    of = plan()
    down(of, ist(15, 40, day=20), ist(9, 14, day=23))
    assert history(of, ist(9, 14, day=23)) == []

    of = plan()
    down(of, ist(15, 39, day=23), ist(15, 45, day=24))  # Tuesday is a holiday
    assert history(of, ist(15, 45, day=24)) == [(A, [day(23)], [(ist(15, 39, day=23), ist(15, 40, day=23))])]


def test_a_night_without_the_feed_lacks_nothing() -> None:
    of = plan()
    down(of, ist(15, 40, day=18), ist(8, 0, day=19))
    assert history(of, ist(8, 0, day=19)) == []
    assert of.filled_to(ist(8, 0, day=19)) == ist(8, 0, day=19)


def test_a_hole_across_midnight_is_yesterdays_and_todays() -> None:
    of = plan(always=True)
    down(of, ist(23, 55, 20, day=18), ist(0, 5, 20, day=19))
    now = ist(0, 6, 4, day=19)
    need = of.due(now)
    assert need is not None
    assert (need.past, need.from_ms, need.to_ms) == (False, day(19), ist(0, 6, day=19))
    assert of.served(need, now) == (day(19), ist(0, 6, day=19))
    assert history(of, now) == [(A, [day(18)], [(ist(23, 55), day(19))])]


def test_what_today_could_not_be_asked_any_more_is_asked_as_a_finished_day() -> None:
    of = plan(always=True)
    down(of, ist(23, 50, 20), ist(23, 58, 20))  # due at 23:59:04, but the venue does not answer
    need = of.due(ist(23, 59, 4))
    assert need is not None
    of.again(need, ist(23, 59, 58))
    assert history(of, ist(0, 0, 8, day=19)) == [(A, [day(18)], [(ist(23, 50), ist(23, 59))])]


def test_only_so_many_trading_days_are_cared_for() -> None:
    for days_back, expected in ((0, []), (1, [20]), (2, [19, 20]), (5, [18, 19, 20])):
        of = plan(days_back=days_back)
        down(of, ist(14, 0, day=18), ist(9, 0, day=23))
        found = history(of, ist(9, 0, day=23))
        holes = [datetime.fromtimestamp(start / 1000, UTC).day for _, _, spans in found for start, _ in spans]
        assert holes == expected, days_back


def test_what_history_told_on_the_day_is_asked_for_again_the_next_morning_and_then_never() -> None:
    of = plan()
    of.start(A, ist(11, 0, 10))
    asked(of, ist(11, 0, 10))
    asked(of, ist(11, 1, 4))
    assert of.final_to(ist(12)) == day(18)
    assert history(of, ist(5, 59, day=19)) == []
    assert of.waiting(past=True) == 1
    assert history(of, ist(6, 0, day=19)) == [(A, [day(18)], [])]
    assert of.final_to(ist(6, 0, day=19)) == day(19)
    assert history(of, ist(20, 0, day=19)) == history(of, ist(20, 0, day=20)) == []


def test_a_day_that_was_seen_live_in_full_is_not_asked_for() -> None:
    of = plan(warmup_min=0)
    of.start(A, ist(9, 0, 10))
    assert asked(of, ist(9, 15)) == []
    assert history(of, ist(9, 0, day=19)) == []


def test_a_finished_day_that_was_filled_at_night_is_looked_at_again_in_the_morning() -> None:
    of = plan()
    down(of, ist(14, 0, day=18), ist(0, 30, day=19))
    need = of.due(ist(0, 30, day=19))
    assert need is not None
    answer = of.finished(need, ist(0, 30, day=19), {day(18)})
    assert (answer.holes, answer.days) == (((ist(14), ist(15, 40)),), frozenset())
    need = of.due(ist(6, 0, day=19))
    assert need is not None
    assert of.finished(need, ist(6, 0, day=19), {day(18)}).days == {day(18)}


def test_a_day_that_the_venue_does_not_have_yet_is_asked_for_again() -> None:
    of = plan()
    down(of, ist(14, 0, day=18), ist(8, 0, day=19))
    assert history(of, ist(8, 0, day=19), days=set()) == [(A, [day(18)], [])]
    assert history(of, ist(8, 29, day=19)) == []
    assert of.filled_to(ist(8, 29, day=19)) == ist(14)
    assert history(of, ist(8, 30, day=19)) == [(A, [day(18)], [(ist(14), ist(15, 40))])]


def test_an_instrument_without_a_trade_on_a_day_that_the_venue_has_is_believed() -> None:
    of = plan()
    for key in (A, INDEX):
        down(of, ist(14, 0, day=18), ist(8, 0, day=19), key)
    first = of.due(ist(8, 0, day=19))
    assert first is not None
    assert first.key == INDEX
    of.finished(first, ist(8, 0, day=19), {day(18)})
    assert history(of, ist(8, 0, day=19), days=set()) == [(A, [day(18)], [(ist(14), ist(15, 40))])]
    assert of.waiting(past=True) == 0


def test_a_day_that_the_venue_never_has_is_given_up_in_the_end() -> None:
    of = plan()
    down(of, ist(14, 0, day=18), ist(8, 0, day=19))
    calls = sum(len(history(of, ist(8, 0, day=19) + n * 30 * MINUTE, days=set())) for n in range(100))
    assert calls == 21
    assert of.waiting(past=True) == 0


def test_holes_come_before_last_looks_and_today_before_both() -> None:
    of = plan()
    of.resumed([A, INDEX], day(18))
    down(of, ist(14, 0, day=18), ist(9, 30, day=19), B)
    for key in (A, INDEX):
        down(of, ist(15, 40, day=18), ist(9, 30, day=19), key)
    order = []
    while (need := of.due(ist(9, 31, 4, day=19))) is not None:
        order.append((need.key, need.past))
        if need.past:
            of.finished(need, ist(9, 31, 4, day=19), {day(18)})
        else:
            of.served(need, ist(9, 31, 4, day=19))
    assert order == [(INDEX, False), (A, False), (B, False), (B, True), (INDEX, True), (A, True)]


def test_a_restart_goes_on_with_what_was_still_to_be_looked_at() -> None:
    before = plan()
    before.start(A, ist(11, 0, 10))
    asked(before, ist(11, 0, 10))
    final_to = before.final_to(ist(15, 45))

    of = plan()
    of.resumed([A], final_to)
    down(of, ist(15, 45, day=18), ist(8, 0, day=19))
    assert history(of, ist(8, 0, day=19)) == [(A, [day(18)], [])]
    assert of.final_to(ist(8, 0, day=19)) == day(19)


def test_minutes_that_somebody_misses_are_asked_for_whatever_their_day() -> None:
    of = plan(days_back=0)
    of.start(A, ist(9, 0, day=19))
    now = ist(11, 0, 20, day=19)
    assert of.ask(A, ist(10, 0, day=19), ist(10, 5, day=19), now)
    assert asked(of, now) == [(A, ist(10, 0, day=19), ist(10, 5, day=19))]
    assert of.ask(A, ist(10, 0, day=3), ist(10, 5, day=4), now)
    assert history(of, now) == [
        (A, [day(3), day(4)], [(ist(10, day=3), ist(15, 40, day=3)), (ist(9, 15, day=4), ist(10, 5, day=4))])
    ]
    assert not of.ask(A, ist(16, 0, day=18), ist(9, 0, day=19), now)  # a night
    assert not of.ask(A, ist(11, 10, day=19), ist(12, 0, day=19), now)  # far from over
    assert history(of, now) == []


def test_a_minute_that_is_not_over_is_asked_for_when_it_is() -> None:
    of = plan()
    of.start(A, ist(9, 0))
    assert of.ask(A, ist(10, 58, 30), ist(11, 0, 20), ist(11, 0, 20))
    assert asked(of, ist(11, 0, 20)) == [(A, ist(10, 58), ist(11, 0))]
    assert asked(of, ist(11, 1, 3)) == []
    assert asked(of, ist(11, 1, 4)) == [(A, ist(11), ist(11, 1))]
    assert of.ask(A, ist(11, 5), ist(11, 8), ist(11, 5, 20))
    assert asked(of, ist(11, 8, 3)) == []
    assert asked(of, ist(11, 8, 4)) == [(A, ist(11, 5), ist(11, 8))]


def test_what_comes_to_a_need_while_it_is_asked_for_is_answered_with_it_or_asked_for_again() -> None:
    of = plan()
    down(of, ist(11, 30, 10), ist(11, 31))
    need = of.due(ist(11, 32, 4))
    assert need is not None
    of.ask(A, ist(10), ist(10, 5), ist(11, 32, 5))
    assert of.served(need, ist(11, 32, 4)) == (ist(10), ist(11, 32))
    assert of.waiting(past=False) == 0

    of = plan()
    down(of, ist(14, 0, day=17), ist(9, 0, day=18))
    need = of.due(ist(9))
    assert need is not None
    of.ask(A, ist(10, 0, day=16), ist(10, 5, day=16), ist(9))
    assert of.finished(need, ist(9), {day(17)}).holes == ((ist(14, 0, day=17), ist(15, 40, day=17)),)
    assert history(of, ist(9)) == [(A, [day(16)], [(ist(10, day=16), ist(10, 5, day=16))])]


def test_a_span_that_is_too_long_for_a_call_takes_two() -> None:
    of = plan()
    of.ask(A, ist(9, 15, day=1) - 13 * 24 * HOUR, ist(16, 0, day=18), ist(9, 0, day=19))
    spans = [asked_for for _, asked_for, _ in history(of, ist(9, 0, day=19))]
    assert [len(span) for span in spans] == [28, 3]
    assert spans[-1][-1] == day(18)


stretches = st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 1500)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(stretches, st.booleans())
def test_over_days_every_session_minute_that_the_feed_did_not_cover_is_filled_once(
    life: list[tuple[int, int]], always: bool
) -> None:
    """The feed is down and up in turn, for so many minutes; the venue tells today's minutes today, others later."""
    of, now = plan(always=always, days_back=15), ist(9, 15, day=16)
    of.covered([A], now)
    spans_of = vars(of)["_hours"]
    got: list[int] = []
    missing: set[int] = set()

    def until(end: int) -> None:
        nonlocal now
        while now < end:
            now = min(end, now + MINUTE)
            while (need := of.due(now)) is not None:
                if need.past:
                    days = range(need.from_ms, need.to_ms, 24 * HOUR)
                    answer = of.finished(need, now, set(days))
                    found = [ts for one in days for ts in range(one, one + 24 * HOUR, MINUTE) if answer.fills(ts)]
                else:
                    assert midnight(need.from_ms) == midnight(now), "today's call tells today only"
                    found = list(range(*of.served(need, now), MINUTE))
                assert all(of.in_session(A, ts) for ts in found)
                got.extend(found)

    for down_min, up_min in life:
        began = now
        now += down_min * MINUTE  # nobody runs
        of.start(A, now)
        for one in range(midnight(began), now + 1, 24 * HOUR):
            for start, end in spans_of(A, on(one)):
                missing |= {ts for ts in range(start, end, MINUTE) if began - MINUTE < ts <= now}
        until(now + up_min * MINUTE)
        of.covered([A], now)
    of.start(A, now)
    until(now + 24 * HOUR)

    assert missing <= set(got) | {now - now % MINUTE}
    assert len(got) == len(set(got))
    assert of.waiting(past=False) == 0
