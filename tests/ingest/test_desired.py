"""What commands do to what is wanted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.desired import Desired, apply
from schemas.commands import Command, FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe, Mode
from schemas.errors import Rejected

A, B, C, D = "NSE_FO|1", "NSE_FO|2", "NSE_FO|3", "NSE_FO|4"
BASE = {A: Mode.FULL, B: Mode.FULL}


def after(*commands: Command, wish: Desired | None = None) -> Desired:
    wish = wish or Desired()
    for command in commands:
        wish, _ = answered(wish, command)
    return wish


def answered(wish: Desired, command: Command) -> tuple[Desired, dict[str, object]]:
    return apply(wish, BASE, command, mine=lambda key: key != D, known=lambda key: key in (A, B, C, D))


def subscribe(*keys: str, mode: Mode = Mode.FULL) -> FeedSubscribe:
    return FeedSubscribe(instruments=list(keys), mode=mode)


def unsubscribe(*keys: str) -> FeedUnsubscribe:
    return FeedUnsubscribe(instruments=list(keys))


def test_without_commands_the_settings_hold() -> None:
    assert Desired().carried(BASE) == BASE


def test_a_subscription_is_added_or_changes_the_mode() -> None:
    wish, reply = answered(Desired(), subscribe(B, C, C, mode=Mode.LTPC))
    assert wish.modes(BASE) == {A: Mode.FULL, B: Mode.LTPC, C: Mode.LTPC}
    assert reply == {"subscribed": [B, C], "mode": "ltpc"}


def test_what_was_unsubscribed_stays_away_until_it_is_subscribed_again() -> None:
    wish, reply = answered(after(subscribe(C)), unsubscribe(A, C, D))
    assert (wish.modes(BASE), reply) == ({B: Mode.FULL}, {"unsubscribed": [A, C]})
    assert after(subscribe(A), wish=wish).modes(BASE) == BASE


def test_an_instrument_of_another_shard_is_not_ours_to_add() -> None:
    wish, reply = answered(Desired(), subscribe(C, D))
    assert (set(wish.modes(BASE)), reply["subscribed"]) == ({A, B, C}, [C])


def test_an_unknown_instrument_is_refused_by_name_and_nothing_is_subscribed() -> None:
    with pytest.raises(Rejected, match=r"unknown instrument: NSE_FO\|9"):
        answered(Desired(), subscribe(C, "NSE_FO|9"))


def test_switched_off_it_carries_nothing_and_forgets_nothing() -> None:
    off, reply = answered(after(subscribe(C)), FeedDisconnect())
    assert (off.carried(BASE), reply) == ({}, {"enabled": False, "instruments": 3})
    on, reply = answered(off, FeedConnect())
    assert (set(on.carried(BASE)), reply) == ({A, B, C}, {"enabled": True, "instruments": 3})


def test_the_settings_may_mean_something_else_tomorrow_and_what_commands_changed_stays() -> None:
    wish = after(subscribe(C), unsubscribe(A))
    assert wish.modes({A: Mode.FULL, D: Mode.FULL}) == {C: Mode.FULL, D: Mode.FULL}


def test_instruments_that_have_expired_leave_the_wish() -> None:
    wish = after(subscribe(C), unsubscribe(A)).pruned(lambda key: key == B)
    assert (dict(wish.added), wish.removed) == ({}, frozenset())


def test_of_two_wishes_the_one_after_more_commands_is_the_later() -> None:
    once = after(subscribe(C))
    assert Desired().changes < once.changes < after(unsubscribe(C), wish=once).changes


commands = st.one_of(
    st.just(FeedConnect()),
    st.just(FeedDisconnect()),
    st.builds(subscribe, st.sampled_from([A, B, C, D]), st.sampled_from([A, B, C, D]), mode=st.sampled_from(Mode)),
    st.builds(unsubscribe, st.sampled_from([A, B, C, D])),
)


@given(st.lists(commands, max_size=12))
def test_any_commands_give_what_a_plain_dictionary_gives(given_commands: list[Command]) -> None:
    expected, enabled = dict(BASE), True
    for command in given_commands:
        match command:
            case FeedSubscribe():
                expected |= {key: command.mode for key in command.instruments if key != D}
            case FeedUnsubscribe():
                expected = {key: mode for key, mode in expected.items() if key not in command.instruments}
            case _:
                enabled = isinstance(command, FeedConnect)
    wish = after(*given_commands)

    assert wish.modes(BASE) == expected
    assert wish.enabled is enabled


@given(st.lists(commands, max_size=8), st.integers(0, 2**53), st.text(max_size=20))
def test_a_state_that_was_written_down_is_read_back(given_commands: list[Command], ts: int, name: str) -> None:
    wish = replace(after(*given_commands), settings=("full", "demo"), filled_to=ts, publisher=name)
    assert Desired.load(wish.dump()) == wish


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"added": {"NSE_FO|1": "no such mode"}}', b'"x"', b"null"])
def test_what_is_no_state_of_ours_is_no_state(body: bytes) -> None:
    assert Desired.load(body) is None
