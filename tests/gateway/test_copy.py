"""The COPY encoder against PostgreSQL itself: what we send is what it would have sent."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway import copy
from gateway.coldrows import BAR
from gateway.copy import Encoder

EVERY_TYPE = np.dtype([("a", "<i2"), ("b", "<i4"), ("c", "<i8"), ("d", "<f8"), ("e", "?"), ("f", "S8"), ("g", "S24")])
WORDS = np.array([b"", b"mid", b"below intrinsic"])


async def _through_postgres(url: str, encoder: Encoder, data: bytes) -> bytes:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE TEMP TABLE t ({encoder.definition})")
        await connection.copy_to_table("t", source=_one(data), format="binary")
        parts: list[bytes] = []

        async def keep(part: bytes) -> None:
            parts.append(part)

        await connection.copy_from_table("t", output=keep, format="binary")
        return b"".join(parts)
    finally:
        await connection.close()


async def _one(data: bytes) -> Any:
    yield data


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("dtype", [EVERY_TYPE, BAR], ids=["every type", "bars"])
def test_postgres_gives_back_the_very_bytes(postgres_url: str, loop: asyncio.Runner, dtype: np.dtype[Any]) -> None:
    encoder = Encoder(dtype)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(hnp.arrays(dtype, st.integers(0, 30)))
    def check(rows: Any) -> None:
        for name in rows.dtype.names or ():
            if rows.dtype[name].kind == "f":
                rows[name][np.isnan(rows[name])] = np.nan  # PostgreSQL keeps one NaN of the many
            elif rows.dtype[name].kind == "S":
                width = rows.dtype[name].itemsize
                rows[name] = [word.ljust(width)[:width] for word in WORDS[np.arange(len(rows)) % len(WORDS)]]
        data = b"".join(encoder.encode(rows))
        assert loop.run(_through_postgres(postgres_url, encoder, data)) == data

    check()


@pytest.mark.parametrize("rows", [0, 1, 8191, 8192, 8193, 20_000])
def test_a_block_more_or_less_makes_no_difference(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros(rows, EVERY_TYPE)
    values["c"] = np.arange(rows)
    whole = b"".join(Encoder(EVERY_TYPE).encode(values))
    monkeypatch.setattr(copy, "_BLOCK_ROWS", 7)
    assert b"".join(Encoder(EVERY_TYPE).encode(values)) == whole
    width = 2 + sum(4 + EVERY_TYPE[name].itemsize for name in EVERY_TYPE.names or ())
    assert len(whole) == 19 + rows * width + 2


def test_a_block_that_was_given_out_is_not_overwritten() -> None:
    encoder = Encoder(EVERY_TYPE)
    rows = np.zeros(8192 * 2, EVERY_TYPE)
    rows["c"][8192:] = 1
    _, first, second, _ = encoder.encode(rows)
    assert first != second
