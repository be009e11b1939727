"""The language of faults: what it says, and what it answers to what it cannot read."""

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.__main__ import _settings
from sim.faults import ENDED, FaultRequest
from sim.hours import DAY_MS, MINUTE_MS, midnight_ms
from sim.timeline import BadTimeline, Schedule, parse
from teji import simulated
from tests.sim.simtools import START

NOW = int(START.timestamp() * 1000)
MIDNIGHT = midnight_ms(START.date())


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("mute", {"mute": True}),
        ("freeze only 2", {"freeze": True, "only": 2}),
        ("drop 1011", {"drop": 1011}),
        ("abort", {"abort": True}),
        ("offline", {"offline": True}),
        ("expire_tokens", {"expire_tokens": True}),
        ("skew -5s", {"skew_ms": -5000}),
        ("skew +500ms", {"skew_ms": 500}),
        ("cap 20", {"cap": 20}),
        ("connections 1", {"connections": 1}),
        ("ignore 'NSE_INDEX|Nifty 50,NSE_FO|*'", {"ignore": ("NSE_INDEX|Nifty 50", "NSE_FO|*")}),
        ("quiet NSE_FO|1", {"quiet": ("NSE_FO|1",)}),
        ("refuse_authorize 403", {"refuse_authorize": 403}),
        ("refuse_authorize 403 html x3", {"refuse_authorize": 403, "html": True, "times": 3}),
        ("refuse_connect 503 for 1m", {"refuse_connect": 503, "times": 0}),
        ("end mute", {"mute": False}),
        ("end skew", {"skew_ms": 0}),
    ],
)
def test_a_line_is_a_fault(text: str, given: dict[str, Any]) -> None:
    (line,) = parse(text)
    assert line.request.model_dump(exclude_unset=True) == given


def test_lines_are_separated_by_semicolons_or_new_lines_and_may_be_comments() -> None:
    assert len(parse("mute; drop 1000\n# later\n\nabort;")) == 3


def planned(text: str) -> list[tuple[int, dict[str, Any]]]:
    schedule = Schedule()
    for line in parse(text):
        schedule.add(line, NOW)
    return [(due_ms, request.model_dump(exclude_unset=True)) for due_ms, request in schedule.waiting()]


def test_a_time_of_day_is_the_next_one_and_a_duration_counts_from_now() -> None:
    assert planned("at 10:31 mute") == [(NOW + MINUTE_MS, {"mute": True})]
    assert planned("at 03:30:00 drop 1000") == [(MIDNIGHT + DAY_MS + 210 * MINUTE_MS, {"drop": 1000})]
    assert planned("after 1.5m mute") == [(NOW + 90_000, {"mute": True})]
    assert planned("mute") == [(NOW, {"mute": True})]


@pytest.mark.parametrize("name", sorted(ENDED))
def test_what_lasts_can_be_given_a_duration_that_ends_it(name: str) -> None:
    value = {"ignore": " A|*", "quiet": " A|*"}.get(name, "" if ENDED[name] is False else " 1")
    value = " 5s" if name.endswith("_ms") else value
    value = " 403" if name.startswith("refuse_") else value
    begin, end = planned(f"{name.removesuffix('_ms')}{value} for 30s")
    assert (begin[0], end[0]) == (NOW, NOW + 30_000)
    assert end[1] == {name: ENDED[name]}


def test_what_is_due_comes_in_order_and_once() -> None:
    schedule = Schedule()
    for line in parse("after 2s drop 1000; after 1s mute for 1s; abort"):
        schedule.add(line, NOW)
    assert schedule.next_ms() == NOW
    assert schedule.due(NOW) == [FaultRequest(abort=True)]
    assert schedule.due(NOW + 999) == []
    assert schedule.due(NOW + 2000) == [FaultRequest(mute=True), FaultRequest(drop=1000), FaultRequest(mute=False)]
    assert schedule.next_ms() is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a timeline without a fault"),
        ("explode", "there is no fault `explode`; there are abort, cap"),
        ("at 9:61 mute", "9:61 is no time of day: write HH:MM"),
        ("at 25:00 mute", "25:00 is no time of day"),
        ("mute for 30", "30 is no duration: write something like 500ms, 30s, 3m or 1h"),
        ("mute for -3s", "-3s is no duration"),
        ("after", "a duration is missing"),
        ("at 09:20", "the name of a fault is missing"),
        ("drop", "its value is missing"),
        ("drop now", "now is no number"),
        ("drop 17", "greater than or equal to 1000"),
        ("drop 1000 for 3s", "drop happens at once, it has no duration"),
        ("end abort", "abort happens at once, there is nothing to end"),
        ("refuse_rest 200", "200 is no refusal"),
        ("refuse_rest 503 xx", "x is no number"),
        ("mute loudly", "`loudly` is too much"),
        ("quiet 'NSE_INDEX|Nifty 50", "No closing quotation"),
        ("skew 5", "5 is no duration"),
        ("freeze only two", "only: Input should be a valid integer"),
        ("mute; " * 1001, "1000 are the most"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_what_cannot_be_read_is_answered_with_what_would_be_right(text: str, complaint: str) -> None:
    with pytest.raises(BadTimeline, match=re.escape(complaint)):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_either_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(BadTimeline):
        assert parse(text)


def test_the_command_line_takes_timelines_and_refuses_wrong_ones(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = _settings(["--fault", "at 09:20 mute for 30s", "--fault", "after 1m abort"])
    assert chosen.fault == ("at 09:20 mute for 30s", "after 1m abort")
    assert _settings(simulated.arguments(chosen)).fault == chosen.fault
    with pytest.raises(SystemExit):
        _settings(["--fault", "explode"])
    assert "there is no fault `explode`" in capsys.readouterr().err
