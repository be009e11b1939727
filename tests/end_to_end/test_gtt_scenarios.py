"""GTTs from outside, as whoever trades them sees them: on paper, live by our engine, live by the venue's.

`TEJI_SCENARIO=words` plays only those whose names have the words; `TEJI_SCENARIOS=all` also plays all of them once more
while the order worker is stopped and started again and again.
"""

import asyncio
import os
import random
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.gtt_play import Play, Way
from tests.end_to_end.gtt_scenarios import SCENARIOS, Scenario
from tests.end_to_end.gtt_stack import Stack, stack

_ALL: Final = os.environ.get("TEJI_SCENARIOS") == "all"
_ONLY: Final = os.environ.get("TEJI_SCENARIO", "")
_AT_ONCE: Final = 12
_RESTART_S: Final = (0.2, 1.5)


async def test_every_scenario_in_every_way(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with stack(redis_url, postgres_url, tmp_path / "home") as here:
        await all_played(here, SCENARIOS)


@pytest.mark.skipif(not _ALL, reason="long: TEJI_SCENARIOS=all")
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_scenario_while_the_worker_is_started_again_and_again(
    redis_url: str, postgres_url: str, tmp_path: Path, seed: int
) -> None:
    """The market's clock is the machine's here: that is all that a worker has before the feed speaks."""
    draw = random.Random(seed)
    sim = {"start": datetime.now(UTC), "always_open": True}
    async with stack(redis_url, postgres_url, tmp_path / "home", sim=sim, teji_calendar="always") as here:
        playing = asyncio.create_task(all_played(here, SCENARIOS))
        while not (await asyncio.wait([playing], timeout=draw.uniform(*_RESTART_S)))[0]:
            await here.restart()
        await playing


async def all_played(here: Stack, scenarios: Iterable[Scenario]) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)
    todo = [(each, way) for each in scenarios for way in each.ways if _ONLY in f"{each.name}-{way.value}"]
    said = await asyncio.gather(*(_played(here, turn, each, way) for each, way in todo))
    failed = [words for words in said if words]
    assert not failed, f"{len(failed)} of {len(todo)}:\n" + "\n".join(failed)


async def _played(here: Stack, turn: asyncio.Semaphore, scenario: Scenario, way: Way) -> str:
    """What went wrong."""
    play = Play(here, way, here.free.pop())
    async with turn:
        try:
            await scenario.script(play)
        except AssertionError as error:
            where = traceback.extract_tb(error.__traceback__)
            line = next(frame.lineno for frame in reversed(where) if frame.filename.endswith("gtt_scenarios.py"))
            return f"{scenario.name} {way.value}, line {line}: {error}\n  {play.state()}"
    return ""
