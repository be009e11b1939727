"""GTTs from outside, as whoever trades them sees them: on paper, live by our engine, live by the venue's."""

import asyncio
import os
import traceback
from pathlib import Path
from typing import Final

from tests.end_to_end.gtt_play import Play, Way
from tests.end_to_end.gtt_scenarios import SCENARIOS, Scenario
from tests.end_to_end.gtt_stack import Stack, stack

_ONLY: Final = os.environ.get("TEJI_SCENARIO", "")
_AT_ONCE: Final = 12


async def test_every_scenario_in_every_way(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with stack(redis_url, postgres_url, tmp_path / "home") as here:
        turn = asyncio.Semaphore(_AT_ONCE)
        todo = [(each, way) for each in SCENARIOS for way in each.ways if _ONLY in f"{each.name}-{way.value}"]
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
