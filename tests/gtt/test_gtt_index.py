"""Which GTTs there is something to do about: the same as a look at each of them would say."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gtt.book.gtt_index import GttIndex
from gtt.engine.machine import GttState
from tests.gtt.gtt_world import NOW, begin, body, stop, target

STATE, _ = begin(body(target(), stop()))
IDS = st.sampled_from(["a", "b", "c"])
NOTES = st.tuples(IDS, st.booleans(), st.integers(0, 6), st.integers(0, 6), st.booleans())
LOOKS = st.integers(1, 8)


def state_of(key: str, live: bool, due: int, ends: int) -> GttState:
    gtt = STATE.gtt.model_copy(update={"live": live, "instrument": f"NSE_EQ|{key}", "expires_at": ends})
    return STATE.model_copy(update={"gtt": gtt, "due_ts": due if live else 0})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(NOTES, LOOKS, IDS), max_size=30))
def test_what_is_due_is_what_a_look_at_all_would_find(script: list[Any]) -> None:
    index = GttIndex()
    known: dict[str, GttState] = {}
    called: set[str] = set()
    asked: dict[tuple[str, int], int] = {}  # told already, and not noted since
    now = 0
    for each in script:
        if isinstance(each, tuple):
            gtt_id, live, due, ends, is_called = each
            known[gtt_id] = state_of(gtt_id, live, due, ends)
            index.note(gtt_id, known[gtt_id], called=is_called)
            (called.add if is_called else called.discard)(gtt_id)
            for which in (0, 1):
                asked.pop((gtt_id, which), None)
        elif isinstance(each, str):
            if each in known:
                index.forget(each, known.pop(each).gtt.instrument)
                called.discard(each)
        else:
            now = max(now, each)
            for which, found in ((0, index.due(now)), (1, index.ended(now))):
                wanted = set()
                for gtt_id, state in known.items():
                    time = state.due_ts if which == 0 else state.gtt.expires_at
                    if state.gtt.live and 0 < time <= now and (gtt_id, which) not in asked:
                        wanted.add(gtt_id)
                        asked[gtt_id, which] = time
                assert sorted(found) == sorted(wanted)
        alive = {gtt_id for gtt_id, state in known.items() if state.gtt.live}
        assert set(index.live()) == alive
        assert set(index.live("NSE_EQ|a")) == alive & {"a"}
        assert set(index.called()) == called
        assert index.engines.total() == len(alive)


def test_thousands_that_wait_are_not_looked_at() -> None:
    index = GttIndex()
    for number in range(5_000):
        index.note(f"GTT-{number}", STATE, called=False)
    assert index.due(NOW) == index.called() == []
    assert len(index.live()) == 5_000
