"""GTTs from outside, as whoever trades them sees them: on paper, live by our engine, live by the venue's.

`TEJI_SCENARIO=words` plays only those whose names have the words; `TEJI_SCENARIOS=all` also plays all of them once more
while the order worker is stopped and started again and again.
"""

import asyncio
import os
import random
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.gtt_alone import ALONE, LAST
from tests.end_to_end.gtt_play import Play, Way
from tests.end_to_end.gtt_scenarios import SCENARIOS, Scenario
from tests.end_to_end.gtt_stack import Stack, stack

_ALL: Final = os.environ.get("TEJI_SCENARIOS") == "all"
_ONLY: Final = os.environ.get("TEJI_SCENARIO", "")
_AT_ONCE: Final = 12
_SLOW_S: Final = 5.0  # is said
_RESTART_S: Final = (0.2, 1.5)


async def test_every_scenario_in_every_way(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    async with stack(redis_url, postgres_url, tmp_path / "home") as here:
        await all_played(here, SCENARIOS)
        await all_played(here, ALONE, at_once=1)
        await all_played(here, LAST)  # after it it is another day


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
            await here.restart(at_once=draw.random() < 0.5)
        await playing


async def all_played(here: Stack, scenarios: Iterable[Scenario], at_once: int = _AT_ONCE) -> None:
    turn = asyncio.Semaphore(at_once)
    played = [each for each in scenarios if _ALL or not each.long]
    todo = [(each, way) for each in played for way in each.ways if _ONLY in f"{each.name}-{way.value}"]
    said = await asyncio.gather(*(_played(here, turn, each, way) for each, way in todo))
    failed = [words for words in said if words]
    assert not failed, f"{len(failed)} of {len(todo)}:\n" + "\n".join(failed)


async def _played(here: Stack, turn: asyncio.Semaphore, scenario: Scenario, way: Way) -> str:
    """What went wrong."""
    play = Play(here, way, here.free.pop())
    async with turn:
        began_s = time.monotonic()
        try:
            await scenario.script(play)
            if (took_s := time.monotonic() - began_s) > _SLOW_S:
                print(f"{scenario.name} {way.value} took {took_s:.1f} s")
        except AssertionError as error:
            where = traceback.extract_tb(error.__traceback__)
            line = next(frame.lineno for frame in reversed(where) if frame.name == scenario.script.__name__)
            return f"{scenario.name} {way.value}, line {line}: {error}\n  {play.state()}"
    return ""
