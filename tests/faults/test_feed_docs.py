"""The guide has a row for each fault that is proven, and a proof for each row; its numbers are those of the code."""

import ast
import re
from pathlib import Path

import pytest

import ingest.backoff
import ingest.connection
import ingest.health
from brokers.upstox.limits import ALONE, COMBINED
from bus.settings import Settings
from schemas.events import FeedState

HERE = Path(__file__).resolve().parent
GUIDE = (HERE.parents[1] / "docs" / "feed.md").read_text("utf-8")


def proven() -> list[str]:
    """The faults that have a test here."""
    trees = (ast.parse(path.read_text("utf-8")) for path in sorted(HERE.glob("test_*.py")) if path != Path(__file__))
    functions = (node for tree in trees for node in tree.body if isinstance(node, ast.AsyncFunctionDef))
    return [node.name for node in functions if node.name.startswith("test_")]


def test_each_fault_has_one_row_and_each_row_one_test() -> None:
    rows = re.findall(r"^\|.*\| `(test_\w+)` \|$", GUIDE, re.MULTILINE)
    assert sorted(rows) == sorted(proven())


@pytest.mark.parametrize("name", sorted(set(re.findall(r"TEJI_\w+", GUIDE))))
def test_the_settings_it_names_exist(name: str) -> None:
    assert name.lower() in Settings.model_fields


@pytest.mark.parametrize("state", list(FeedState))
def test_every_state_is_explained(state: FeedState) -> None:
    assert re.search(rf"^\| `{state.value}` \|", GUIDE, re.MULTILINE)


def test_its_metrics_exist() -> None:
    metrics = (HERE.parents[1] / "bus" / "metrics.py").read_text("utf-8")
    for name in set(re.findall(r"teji_\w+", GUIDE)):
        assert f'"{name}"' in metrics, name


def test_its_numbers_are_those_of_the_code() -> None:
    source = (HERE.parents[1] / "ingest" / "connection.py").read_text("utf-8")  # the tests here shorten what is loaded
    waits = dict(re.findall(r"^(_\w+_S): Final = ([\d.]+)", source, re.MULTILINE))
    assert f"from {float(waits['_BACKOFF_S']):g} s up to {float(waits['_BACKOFF_MAX_S']):g} s where nobody" in GUIDE
    assert f"from {float(waits['_REFUSED_S']):g} s up to {float(waits['_REFUSED_MAX_S']):g} s where the venue" in GUIDE
    assert f"data for {ingest.backoff._LIVED_WELL_S:g} s ends the doubling" in GUIDE
    assert f"to {ingest.connection._PATIENCE_MAX} times" in " ".join(GUIDE.split())
    assert f"{ingest.health._PAUSES} times its own longest pause" in GUIDE
    assert f"({', '.join(f'{mode.value} {cap}' for mode, cap in ALONE.items())}" in GUIDE
    assert f"mixed: {', '.join(map(str, COMBINED.values()))}" in " ".join(GUIDE.split())


def test_the_times_of_its_rows_follow_from_the_default_settings() -> None:
    default = {name: each.default for name, each in Settings.model_fields.items()}
    assert row("test_mute_socket_that_still_pongs").startswith(
        f"{default['teji_feed_stale_s']:g} s to say it, {2 * default['teji_feed_stale_s']:g} s"
    )
    assert row("test_half_open_line") == f"{2 * default['teji_feed_ping_s']:g} s"
    assert row("test_connection_that_stays_dead").startswith(f"{default['teji_feed_move_s']:g} s")
    assert row("test_instrument_that_falls_silent").startswith(f"{default['teji_feed_silent_s']:g} s")
    unseen_s = default["teji_feed_unseen_s"]
    assert row("test_subscriptions_accepted_in_part") == f"{unseen_s:g} s; reported after {2 * unseen_s:g} s"


def row(test: str) -> str:
    """How long it takes, by the guide."""
    (line,) = [line for line in GUIDE.splitlines() if line.endswith(f"`{test}` |")]
    return line.split("|")[4].strip()
