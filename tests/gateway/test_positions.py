import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.positions import ORIGIN, WHOLE, BadPosition, Position, of_entry, parse, text_of

U64 = (1 << 64) - 1
positions = st.builds(
    Position,
    st.integers(0, U64),
    st.integers(0, U64),
    st.one_of(st.just(WHOLE), st.integers(1, 1_000_000)),
)
vectors = st.lists(positions, min_size=1, max_size=6).map(tuple)


@given(vectors)
def test_an_id_means_the_vector_it_was_made_from(vector: tuple[Position, ...]) -> None:
    assert parse(text_of(vector), len(vector)) == vector


@given(positions)
def test_one_stream_has_the_id_of_its_entry(position: Position) -> None:
    whole = position._replace(part=WHOLE)
    assert text_of([whole]) == whole.entry == text_of([whole, ORIGIN, ORIGIN])


@given(positions, positions)
def test_positions_compare_as_the_stream_runs(a: Position, b: Position) -> None:
    def moment(p: Position) -> tuple[int, int, float]:
        return p.ms, p.seq, float("inf") if p.part == WHOLE else p.part

    assert (a < b) is (moment(a) < moment(b))


@given(st.integers(0, U64), st.integers(0, U64))
def test_an_entry_is_behind_every_event_in_it(ms: int, seq: int) -> None:
    assert Position(ms, seq, 1) < Position(ms, seq, 999_999) < of_entry(f"{ms}-{seq}")


@pytest.mark.parametrize(
    "text",
    ["", ",", "x", "-1", "1-", "-1-1", "1-1-1", "1.0", "1-1.0", "1-1.", "1-1.1000001", "1-1.12345678", "1,2,3", "1,",
     f"{1 << 64}-0", f"0-{1 << 64}", "0x1-0", "1 -1", " 1-1", "1-1\n", "١-٠", "1e3-0", "$", "+", "9" * 21],
)  # fmt: skip
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(BadPosition):
        parse(text, 2)


@given(st.text(max_size=40))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        vector = parse(text, 3)
    except BadPosition:
        return
    assert parse(text_of(vector), 3) == vector
