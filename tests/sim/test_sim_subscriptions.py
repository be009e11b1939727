"""Caps and modes, decided without a socket."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sim.settings import Caps
from sim.subscriptions import Subscriptions, Usage

SMALL = Caps(
    alone={"ltpc": 6, "option_greeks": 5, "full": 4, "full_d30": 2},
    mixed={"ltpc": 3, "option_greeks": 3, "full": 2, "full_d30": 3},
)


def book(plus_plan: bool = True, shared: Usage | None = None) -> Subscriptions:
    return Subscriptions(SMALL, plus_plan=plus_plan, shared=shared)


def ask(found: Subscriptions, method: str, keys: list[Any], mode: str | None = None) -> list[str]:
    data = {"instrumentKeys": keys} | ({"mode": mode} if mode else {})
    return found.apply({"guid": "x", "method": method, "data": data})


def names(count: int, prefix: str = "K") -> list[str]:
    return [f"{prefix}|{number}" for number in range(count)]


def test_keys_over_the_cap_are_dropped_in_order_of_arrival() -> None:
    assert ask(book(), "sub", names(9), "full") == names(4)


def test_a_connection_with_two_modes_has_the_smaller_caps() -> None:
    found = book()
    assert ask(found, "sub", names(2), "full") == names(2)
    assert ask(found, "sub", names(9, "L"), "ltpc") == names(3, "L")


def test_a_mode_is_ltpc_unless_named() -> None:
    found = book()
    ask(found, "sub", ["A|1"])
    assert found.modes == {"A|1": "ltpc"}


def test_subscribing_in_another_mode_switches() -> None:
    found = book()
    ask(found, "sub", ["A|1"], "ltpc")
    assert ask(found, "sub", ["A|1"], "full") == ["A|1"]
    assert found.modes == {"A|1": "full"}
    assert found.usage.keys["ltpc"] == 0


def test_changing_the_mode_of_what_was_never_subscribed_does_nothing() -> None:
    found = book()
    assert ask(found, "change_mode", ["A|1"], "full") == []
    assert found.modes == {}


def test_unsubscribing_makes_room() -> None:
    found = book()
    ask(found, "sub", names(4), "full")
    ask(found, "unsub", names(1))
    assert ask(found, "sub", ["N|1", "N|2"], "full") == ["N|1"]


def test_thirty_levels_need_the_plus_plan() -> None:
    assert ask(book(plus_plan=False), "sub", ["A|1"], "full_d30") == []
    assert ask(book(plus_plan=True), "sub", ["A|1"], "full_d30") == ["A|1"]


def test_a_cap_can_count_all_connections_of_a_user() -> None:
    shared = Usage()
    assert ask(book(shared=shared), "sub", names(3), "full") == names(3)
    assert ask(book(shared=shared), "sub", names(3, "M"), "full") == names(1, "M")


def test_unknown_keys_are_dropped() -> None:
    found = book()
    request = {"method": "sub", "data": {"mode": "full", "instrumentKeys": ["A|1", "B|1"]}}
    assert found.apply(request, {"B|1": 3}) == ["B|1"]


requests = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["method", "data", "mode", "instrumentKeys", "guid"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(requests, max_size=5))
def test_no_request_can_break_it(asked: list[Any]) -> None:
    found = book()
    for request in asked:
        found.apply(request)


actions = st.tuples(
    st.sampled_from(["sub", "change_mode", "unsub"]),
    st.lists(st.sampled_from(names(8)), max_size=6),
    st.sampled_from(["ltpc", "option_greeks", "full", "full_d30", "nonsense"]),
)


@given(st.lists(actions, max_size=20))
def test_usage_is_what_is_subscribed_and_never_above_the_largest_cap(asked: list[tuple[str, list[str], str]]) -> None:
    found = book()
    for method, keys, mode in asked:
        ask(found, method, keys, mode)
        in_use = [list(found.modes.values()).count(each) for each in SMALL.alone]
        assert in_use == [found.usage.keys[each] for each in SMALL.alone]
        assert all(
            count <= max(SMALL.alone[each], SMALL.mixed[each]) for each, count in zip(SMALL.alone, in_use, strict=True)
        )
