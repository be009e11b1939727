"""When a GTT may fire."""

from datetime import UTC, datetime

import pytest

from gtt.engine.hours import waits_ms

MINUTE = 60_000


def ist(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+05:30").astimezone(UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "minutes"),
    [
        ("2026-11-18T09:00:00", 15),  # a Wednesday
        ("2026-11-18T09:15:00", 0),
        ("2026-11-18T15:29:59", 0),
        ("2026-11-20T20:00:00", 60 * 61 + 15),  # over the weekend
    ],
)
def test_until_the_next_continuous_trading(now: str, minutes: int) -> None:
    assert waits_ms("NSE_EQ|INE002A01018", None, ist(now), always=False) == minutes * MINUTE


def test_a_market_that_never_closes_and_one_that_nobody_knows() -> None:
    assert waits_ms("NSE_EQ|INE002A01018", None, ist("2026-11-21T12:00:00"), always=True) == 0
    assert waits_ms("NSE_EQ|INE002A01018", None, ist("2099-11-21T12:00:00"), always=False) == 60 * MINUTE
    assert waits_ms("MOON_EQ|1", None, ist("2026-11-18T12:00:00"), always=False) == 60 * MINUTE
