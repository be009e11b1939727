"""docs/gtt.md says what the code does."""

import json
import re
from pathlib import Path

from gtt.engine import exits as gtt_exits
from gtt.engine import prices as gtt_prices
from gtt.engine.draft import REASK_MS
from gtt.engine.machine import due_ts
from gtt.engine.state import WIDEST, Terms
from gtt.engine.table import NEXT, RuleEvent, table
from schemas.gtt import GttBody, RuleStatus
from tests.gtt.gtt_world import World, begin, body, entry, stop, target

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "gtt.md").read_text("utf-8")
PROSE = " ".join(TEXT.split())


def test_the_table_of_statuses_is_that_of_the_code() -> None:
    assert table() in TEXT


def test_every_event_is_explained_in_its_order() -> None:
    rows = re.findall(r"^\| ([a-z]+) \| .+ \|$", TEXT, re.MULTILINE)
    assert rows == [event.value for event in RuleEvent]


def test_the_example_is_a_body() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    state, _ = begin(GttBody.model_validate(json.loads(example)))
    assert state.gtt.live


def test_the_numbers_are_those_of_the_code() -> None:
    assert Terms().chase_ms == 1_000
    assert "not filled within a second" in PROSE
    assert gtt_prices.WIDENED_MAX == 4
    assert f"four times, then with the most that the venue takes, {WIDEST} %" in PROSE
    assert gtt_exits.ALERT_AFTER == 3
    assert "at the third in a row there is an alert" in PROSE
    assert REASK_MS == 5_000


def test_the_waits_between_tries_are_those_of_the_code() -> None:
    world = World(body(entry(), target(), stop()))
    world.trade("120")
    world.fill(world.only)
    world.trade("108")
    waits = []
    for _ in range(9):
        world.reject(world.only)
        waits.append((due_ts(world.state) - world.now_ms) / 1000)
        world.wait()
    assert "after 0.25 s, 0.5 s, 1 s and so on, 30 s at most" in PROSE
    assert (waits[:3], max(waits)) == ([0.25, 0.5, 1.0], 30.0)


def test_nothing_follows_what_is_final_and_everything_else_may_end() -> None:
    final = {RuleStatus.COMPLETED, RuleStatus.FAILED, RuleStatus.CANCELLED, RuleStatus.EXPIRED}
    assert {status for status, _ in NEXT} == set(RuleStatus) - final
    for status in set(RuleStatus) - final:
        assert NEXT[status, RuleEvent.CANCELLED] is RuleStatus.CANCELLED
        assert NEXT[status, RuleEvent.EXPIRED] is RuleStatus.EXPIRED
