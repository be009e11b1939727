from hypothesis import given
from hypothesis import strategies as st

from gateway.index import BarIndex
from gateway.positions import Position

bars = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 20), st.integers(0, 3)),
    max_size=60,
)


def build(told: list[tuple[str, int, int]]) -> tuple[BarIndex, dict[tuple[str, int], tuple[int, Position]]]:
    """The index, and a dictionary that was told the same."""
    index = BarIndex()
    plain: dict[tuple[str, int], tuple[int, Position]] = {}
    for number, (instrument, ts, rev) in enumerate(told):
        entry = Position(1_000 + number, number)
        index.add(instrument, ts, entry, rev)
        if (instrument, ts) not in plain or plain[instrument, ts][0] <= rev:
            plain[instrument, ts] = (rev, entry)
    return index, plain


@given(bars, st.integers(0, 20), st.integers(0, 20), st.integers(1, 25), st.booleans())
def test_the_index_finds_what_a_dictionary_finds(
    told: list[tuple[str, int, int]], start: int, end: int, limit: int, last: bool
) -> None:
    index, plain = build(told)
    expected = sorted((ts, entry) for (key, ts), (_, entry) in plain.items() if key == "A" and start <= ts < end)
    expected = expected[-limit:] if last else expected[:limit]
    assert index.find("A", start, end, limit, last=last) == expected
    assert len(index) == len(plain)


@given(bars)
def test_adding_says_whether_the_bar_is_the_newest(told: list[tuple[str, int, int]]) -> None:
    index = BarIndex()
    newest: dict[str, tuple[int, int]] = {}
    for number, (instrument, ts, rev) in enumerate(told):
        expected = (ts, rev) >= newest.get(instrument, (-1, -1))
        assert index.add(instrument, ts, Position(number, 0), rev) is expected
        newest[instrument] = max(newest.get(instrument, (-1, -1)), (ts, rev))


@given(bars, st.integers(990, 1070))
def test_what_was_trimmed_is_forgotten(told: list[tuple[str, int, int]], before_ms: int) -> None:
    index, plain = build(told)
    left = {key: entry for key, (_, entry) in plain.items() if entry.ms >= before_ms}
    assert index.forget_before(before_ms) == len(plain) - len(left)
    for instrument in "AB":
        expected = sorted((ts, entry) for (key, ts), entry in left.items() if key == instrument)
        assert index.find(instrument, 0, 99, 99, last=False) == expected


def test_an_unknown_instrument_has_no_bars() -> None:
    assert BarIndex().find("A", 0, 1, 1, last=True) == []
    assert "A" not in BarIndex()
