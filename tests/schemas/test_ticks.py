"""The entry of `ticks:{k}`: what is packed comes back, every bit of it."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ticks
from schemas.ticks import LEVEL, NARROW_LEVEL, TICK

paise = st.integers(0, 2_000_000_000).map(lambda units: units / 100)
quarter_paise = st.integers(0, 800_000_000).map(lambda units: units / 400)
quantities = st.integers(0, (1 << 32) - 1)


def levels_of(rows: list[tuple[int, float, int, float]]) -> Any:
    return np.array(rows, LEVEL)


def packed(depth: Any) -> dict[bytes, bytes]:
    rec = np.zeros(1, TICK)
    rec["levels"] = len(depth)
    fields = ticks.pack(5, 6, "NSE_FO|1", rec, depth)
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


@given(st.lists(st.tuples(quantities, quarter_paise, quantities, quarter_paise), max_size=30))
def test_prices_of_the_market_take_half_the_bytes_and_come_back_exactly(rows: list[Any]) -> None:
    depth = levels_of(rows)
    fields = packed(depth)

    assert (
        len(fields.get(b"depth", b"")) == len(rows) * NARROW_LEVEL.itemsize
        or max(price for row in rows for price in row[1::2]) > 214_748
    )
    assert ticks.unpack(fields).depth.tobytes() == depth.tobytes()


@given(st.lists(st.tuples(quantities, paise, quantities, paise), min_size=1, max_size=30))
def test_large_prices_in_paise_are_narrow_too(rows: list[Any]) -> None:
    depth = levels_of(rows)
    fields = packed(depth)

    assert fields[b"scale"] in (b"100", b"10000")
    assert ticks.unpack(fields).depth.tobytes() == depth.tobytes()


@given(
    st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.integers(0, 9), st.floats()), max_size=9)
)
def test_any_depth_comes_back(rows: list[Any]) -> None:
    depth = levels_of(rows)
    found = ticks.unpack(packed(depth)).depth

    for name in ("bid_qty", "ask_qty"):
        assert found[name].tolist() == depth[name].tolist()
    for name in ("bid", "ask"):
        for one, other in zip(found[name].tolist(), depth[name].tolist(), strict=True):
            assert one == other or (math.isnan(one) and math.isnan(other))


def test_what_does_not_fit_narrow_is_wide() -> None:
    for row in [
        (-1, 1.0, 1, 1.0),
        (1 << 32, 1.0, 1, 1.0),
        (1, 0.1234567, 1, 1.0),
        (1, 1.0, 1, 3e7),
        (1, 1.0, 1, 3e5 + 1e-4),
    ]:
        fields = packed(levels_of([row]))
        assert b"scale" not in fields
        assert len(fields[b"depth"]) == LEVEL.itemsize


@pytest.mark.parametrize(
    "damage",
    [{b"depth": b"12345"}, {b"rec": b"123"}, {b"n": b"2"}, {b"n": b"x"}, {b"scale": b"-5"}, {b"scale": b"0"}],
    ids=lambda damage: ",".join(f"{name.decode()}={value.decode()}" for name, value in damage.items()),
)
def test_an_entry_that_is_none_of_ours_is_refused(damage: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ticks.unpack(packed(levels_of([(1, 1.0, 1, 2.0)])) | damage)


def test_a_mark_has_neither_records_nor_depth() -> None:
    fields = ticks.pack_mark(5, 6, feed=b"down", keys=["A|1", "B|2"])
    mark = ticks.unpack(
        {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    )

    assert (mark.keys, len(mark.rec), len(mark.depth), mark.feed) == (("A|1", "B|2"), 0, 0, b"down")
