"""Who carries what."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.upstox.limits import ALONE, COMBINED, Limits
from bus.settings import CapScope, FeedPlan
from ingest import subscriptions as module
from ingest.subscriptions import difference
from schemas.commands import Mode

FULL, LTPC = Mode.FULL, Mode.LTPC
PLUS = Limits(FeedPlan.PLUS, connections=5)
modes = st.sampled_from(Mode)
subscriptions = st.dictionaries(st.sampled_from([f"NSE_FO|{n}" for n in range(12)]), modes)


def keys(count: int, mode: Mode = FULL, first: int = 0) -> dict[str, Mode]:
    return {f"NSE_FO|{number:05}": mode for number in range(first, first + count)}


def spread(
    wanted: Mapping[str, Mode], present: list[dict[str, Mode]], connections: int, limits: Limits = PLUS
) -> tuple[list[dict[str, Mode]], list[str]]:
    return module.spread(wanted, present, [True] * connections, limits)


def sizes(plan: list[dict[str, Mode]]) -> list[int]:
    return [len(part) for part in plan]


@given(subscriptions, subscriptions)
def test_the_difference_applied_to_what_is_gives_what_is_wanted(
    now: Mapping[str, Mode], wanted: Mapping[str, Mode]
) -> None:
    change = difference(now, wanted)
    after = {key: mode for key, mode in now.items() if key not in change.unsub}
    for mode, added in change.sub.items():
        assert not after.keys() & set(added)
        after.update(dict.fromkeys(added, mode))
    for mode, changed in change.change_mode.items():
        assert all(after[key] is not mode for key in changed)
        after.update(dict.fromkeys(changed, mode))

    assert after == wanted


@given(subscriptions)
def test_nothing_is_asked_where_nothing_changes(wanted: Mapping[str, Mode]) -> None:
    change = difference(wanted, wanted)
    assert (change.unsub, change.sub, change.change_mode) == ([], {}, {})


def test_one_connection_is_enough_for_what_it_can_carry() -> None:
    assert sizes(spread(keys(2000), [], 2)[0]) == [2000, 0]
    assert sizes(spread(keys(2001), [], 2)[0]) == [2000, 1]


def test_what_no_connection_has_room_for_is_named() -> None:
    plan, left_over = spread(keys(4003), [], 2)
    assert sizes(plan) == [2000, 2000]
    assert left_over == ["NSE_FO|04000", "NSE_FO|04001", "NSE_FO|04002"]


def test_without_a_connection_everything_is_left_over() -> None:
    plan, left_over = spread(keys(3), [keys(2)], 0)
    assert (sizes(plan), len(left_over)) == ([0], 3)


def test_several_modes_share_a_connection_at_their_lower_limits() -> None:
    wanted = keys(1500) | keys(2000, LTPC, first=1500)
    assert sizes(spread(wanted, [], 2)[0]) == [3500, 0]
    assert sizes(spread(wanted | keys(1, FULL, first=9000), [], 2)[0]) == [3500, 1]


def test_a_newcomer_drives_nobody_out() -> None:
    present = [keys(2000, first=1)]
    plan, _ = spread(keys(2001), present, 2)
    assert plan[0] == present[0]
    assert plan[1] == keys(1)


def test_a_connection_that_is_not_needed_any_more_is_given_up_and_the_others_keep_what_they_carry() -> None:
    present = [keys(1000), keys(500, first=5000)]
    plan, left_over = spread(present[0] | present[1], present, 2)
    assert sizes(plan) == [1500, 0]
    assert present[0].items() <= plan[0].items()
    assert not left_over


def test_the_connection_that_carries_most_is_the_one_that_is_kept() -> None:
    present = [keys(500), keys(1000, first=5000)]
    plan, left_over = spread(present[0] | present[1], present, 2)
    assert (sizes(plan), left_over) == ([0, 1500], [])
    assert present[1].items() <= plan[1].items()


def test_a_dead_connections_keys_go_where_there_is_room_and_the_others_stay() -> None:
    present = [keys(2000), keys(1000, first=2000)]
    plan, left_over = module.spread(present[0] | present[1], present, [False, True], PLUS)
    assert sizes(plan) == [0, 2000]
    assert present[1].items() <= plan[1].items()
    assert len(left_over) == 1000


def test_when_it_lives_again_it_takes_what_had_no_room_and_nothing_moves_twice() -> None:
    present = [keys(2000), keys(1000, first=2000)]
    wanted = present[0] | present[1]
    plan, left_over = module.spread(wanted, present, [False, True], PLUS)
    again, none = spread(wanted, plan, 2)
    assert none == []
    assert again == [dict.fromkeys(left_over, FULL), plan[1]]


def test_an_idle_connection_stands_in_for_the_only_one_that_is_used() -> None:
    plan, left_over = module.spread(keys(10), [keys(10)], [False, True], PLUS)
    assert (sizes(plan), left_over) == ([0, 10], [])


def test_thirty_levels_are_for_the_plus_plan() -> None:
    wanted = keys(3, Mode.FULL_D30) | keys(2, first=10)
    plan, left_over = spread(wanted, [], 2, Limits())
    assert (sizes(plan), left_over) == ([2, 0], sorted(keys(3)))
    assert sizes(spread(wanted, [], 2)[0]) == [5, 0]


def test_caps_of_a_user_are_shared_by_all_connections_and_by_all_processes() -> None:
    limits = Limits(scope=CapScope.USER)
    assert sizes(spread(keys(2500), [], 2, limits)[0]) == [2000, 0]
    assert sizes(spread(keys(2500), [], 1, limits)[0]) == [1000]
    plan, left_over = module.spread(keys(2000), [keys(2000)], [False, True], limits)
    assert (sizes(plan), left_over) == ([0, 2000], [])


def test_fewer_connections_are_used_at_once_where_fewer_are_allowed() -> None:
    present = [keys(2000), keys(2000, first=2000)]
    plan, left_over = spread(present[0] | present[1], present, 1)
    assert plan == [present[0], {}]
    assert set(left_over) == present[1].keys()


@st.composite
def crowds(draw: st.DrawFn) -> tuple[dict[str, Mode], list[dict[str, Mode]], int]:
    """A set of wishes near the limits of the smallest mode, and where they were before."""
    wanted: dict[str, Mode] = {}
    for mode in draw(st.sets(modes, min_size=1)):
        count = draw(st.integers(0, 130 if mode is Mode.FULL_D30 else 40))
        wanted |= {f"NSE_FO|{mode}{number}": mode for number in range(count)}
    before = draw(st.lists(st.sampled_from(sorted(wanted) or ["NSE_FO|x"]), unique=True))
    present: list[dict[str, Mode]] = [{}, {}, {}]
    for key in before:
        present[draw(st.integers(0, 2))][key] = Mode.FULL
    return wanted, present, draw(st.integers(0, 4))


@settings(deadline=None)
@given(crowds())
def test_every_spread_is_whole_within_the_caps_and_uses_no_connection_in_vain(
    crowd: tuple[dict[str, Mode], list[dict[str, Mode]], int],
) -> None:
    wanted, present, connections = crowd
    plan, left_over = spread(wanted, present, connections)
    used = [part for part in plan if part]
    caps = ALONE if len(set(wanted.values())) <= 1 else COMBINED

    carried = [(key, mode) for part in plan for key, mode in part.items()]
    assert len(carried) + len(left_over) == len(wanted)
    assert dict(carried) | {key: wanted[key] for key in left_over} == wanted
    assert all(count <= caps[mode] for part in plan for mode, count in Counter(part.values()).items())
    assert len(used) <= connections
    needed = max((-(-count // caps[mode]) for mode, count in Counter(wanted.values()).items()), default=0)
    assert len(used) <= needed
    assert bool(left_over) == (needed > connections)


@settings(deadline=None)
@given(crowds())
def test_a_spread_that_is_asked_for_again_moves_nothing(
    crowd: tuple[dict[str, Mode], list[dict[str, Mode]], int],
) -> None:
    wanted, present, connections = crowd
    plan, left_over = spread(wanted, present, connections)
    assert spread(wanted, plan, connections) == (plan, left_over)
