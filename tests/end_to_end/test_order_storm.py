"""Signals, clicks, GTTs and everything that can fail, all at once; then the exchange's book against our journal.

`TEJI_STORM_S` makes it longer than the suite's time allows, `TEJI_STORM_SEED` makes it another one.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from schemas import streams
from tests.end_to_end.orders_compared import differences
from tests.end_to_end.orders_storm import Storm, flat
from tests.end_to_end.orders_town import Town, town
from tests.sim.simtools import RELIANCE

_STORM_S: Final = float(os.environ.get("TEJI_STORM_S", "8"))
_SEED: Final = int(os.environ.get("TEJI_STORM_SEED", "1"))
#: Seconds between two wishes: a long storm would use up the venue's half hour of writes.
_PACE_S: Final = 0.15 if _STORM_S <= 120 else 0.3 if _STORM_S <= 900 else 0.8
_SETTLE_S: Final = 60.0


async def test_after_a_storm_the_exchange_and_the_journal_tell_the_same(tmp_path: Path) -> None:
    rng = Random(_SEED)
    async with town(tmp_path / "home", (RELIANCE,)) as place:
        storm = Storm(place, rng, (RELIANCE,), _PACE_S)
        async with asyncio.timeout(_STORM_S + 3 * _SETTLE_S):
            await storm.rage(_STORM_S)
            await flat(place)
            found: list[str] = []

            async def agree() -> bool:
                found[:] = await differences(place)
                return not found

            try:
                await place.until(agree, "the books agree", 20)
            except AssertionError:
                raise AssertionError("\n".join(found[:40])) from None
        assert storm.answers, storm.struck
        assert await doubles(place) == []
        print(dict(storm.struck), dict(storm.answers))


async def doubles(place: Town) -> list[Any]:
    """Commands that were written twice, answers that were given twice, more commands than calls."""
    commands: Counter[bytes] = Counter()
    for _, fields in await place.bus.redis.xrange(streams.COMMANDS):
        commands[fields[b"id"]] += 1
    told = Counter(fields[b"id"] for _, fields in await place.bus.redis.xrange(streams.ORDERS))
    events = [fields for _, fields in await place.bus.redis.xrange(streams.EVENTS) if fields[b"kind"] == b"reply"]
    replies = Counter(orjson.loads(fields[b"data"])["data"]["command"] for fields in events)
    twice: list[Any] = [each for counts in (commands, told, replies) for each, count in counts.items() if count > 1]
    calls = sum(1 for _, path in place.asked if not path.startswith(("signals", "trading")))
    return twice if len(commands) <= calls else [*twice, f"{len(commands)} commands, {calls} calls"]
