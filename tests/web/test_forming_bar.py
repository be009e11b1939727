"""The page's forming bar against an independent reading of the bar's definition: the same updates, the same bars."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.reference import MINUTE, Reference

KEY = "NSE_FO|1"
START = 1_795_147_200_000  # a minute of a trading day
SCENARIOS = 300

_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(_NODE is None, reason="node is not installed: the page's code needs it")


def updates(dice: random.Random) -> list[dict[str, Any]]:
    """Some minutes of an instrument: trades, late ones, repetitions, older states, a new day; not all have volume."""
    counts = dice.random() < 0.7
    ts, vtt = START + dice.randrange(MINUTE), dice.randrange(10_000)
    ltt, price = ts - dice.choice([0, 500, 90_000]), 100.0
    found: list[dict[str, Any]] = []
    for number in range(dice.randrange(1, 60)):
        if number and dice.random() < 0.02:
            ts, vtt = ts + 24 * 60 * MINUTE, dice.randrange(500)
        ts += dice.choice([0, 100, 900, 9_000, 40_000])
        kind = dice.random()
        if kind < 0.75:
            price = round(price + dice.choice([-0.5, 0, 0.05, 1]), 2)
            ltt, vtt = max(ltt, ts - dice.choice([0, 0, 300, 5_000])), vtt + dice.choice([0, 1, 65])
        stray = number > 0 and kind > 0.9  # a state that comes out of order, or contradicts itself
        found.append(
            {
                "key": KEY,
                "ts": ts,
                "base": not number,
                "ltp": price - 7 if stray else price,
                "ltt": ltt + dice.choice([-24 * 60 * MINUTE, -1_000, 0, 1, 2 * MINUTE]) * stray,
                "vtt": max(0, vtt + dice.choice([-3, 0, 5]) * stray) if counts else None,
            }
        )
    return found


def folded(scenarios: list[list[dict[str, Any]]], where: Path) -> list[list[dict[str, Any]]]:
    quotes = [[{**update, "instrument": KEY, "oi": None} for update in scenario] for scenario in scenarios]
    path = where / "quotes.json"
    path.write_text(json.dumps(quotes))
    command = [str(_NODE), str(Path(__file__).with_name("fold.mjs")), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def test_the_forming_bar_is_the_one_that_will_be_published(tmp_path: Path) -> None:
    dice = random.Random(20_261_120)
    scenarios = [updates(dice) for _ in range(SCENARIOS)]
    seen = 0

    for scenario, bars in zip(scenarios, folded(scenarios, tmp_path), strict=True):
        reference = Reference()
        for update in scenario:
            reference.update(update)
        expected = {bar["minute"]: bar for bar in reference.known[KEY].bars.values()}
        assert [bar["ts"] for bar in bars] == sorted(expected)
        for bar in bars:
            other = expected[bar["ts"]]
            names = ("open", "high", "low", "close", "volume", "ticks")
            assert [bar[name] for name in names] == [other[name] for name in names]
            average = other["value"] / other["volume"] if other["volume"] else None
            assert bar["vwap"] == pytest.approx(average)
            seen += 1

    assert seen > SCENARIOS
