"""Several ingesters and aggregators on one market: they are killed, join, go home and come back, and no bar is lost,
doubled or wrong."""

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Final

from bus.embedded import Servers
from teji.doctor import workers
from teji.doctor.findings import Level
from tests.bus.facts import until
from tests.bus.processes import Process
from tests.end_to_end.pipeline import MINUTE
from tests.scale.fleet import LEASE_S, Fleet, fleet

SHARDS: Final = 4
#: A lease lasts so long after its holder's last sign of life, and is asked for so often. The rest is a busy machine.
HAND_OVER_S: Final = LEASE_S + LEASE_S / 3
SLACK_S: Final = 4.0


async def test_four_of_each_two_killed_one_added_none_and_one_again(redis_url: str, tmp_path: Path) -> None:
    async with fleet(redis_url, tmp_path, SHARDS) as ships:
        ships.start("ingest", 4)
        ships.start("aggregator", 4)
        await ships.until_shared("aggregator", 1, 1, 1, 1)
        await ships.until_shared("ingest", 1, 1, 1, 1)
        await ships.until_ticking()
        first = ships.market.now_ms() // MINUTE * MINUTE + MINUTE

        killed = [await kill_two(ships, worker) for worker in ("ingest", "aggregator")]
        await ships.until_shared("aggregator", 2, 2)
        await ships.until_shared("ingest", 2, 2)
        await told_whose_they_were(ships, killed)

        ships.start("ingest")
        ships.start("aggregator")
        await ships.until_shared("ingest", 2, 1, 1)
        await ships.until_shared("aggregator", 2, 1, 1)
        await seen_from_outside(ships, tmp_path)

        await asyncio.gather(ships.send_home("ingest"), ships.send_home("aggregator"))
        assert await ships.owners("ingest") == await ships.owners("aggregator") == {}
        ships.start("ingest")
        ships.start("aggregator")
        await ships.until_shared("ingest", 4)
        await ships.until_shared("aggregator", 4)
        last = ships.market.now_ms() // MINUTE * MINUTE
        assert await ships.equals_the_venue(first, last) >= 30  # a minute of each instrument


async def kill_two(ships: Fleet, worker: str) -> list[Process]:
    """Two that have a shard each. The others take over within seconds."""
    killed = (await ships.busy(worker))[:2]
    for process in killed:
        ships.kill(worker, process)
    assert await ships.until_without(worker, killed) < HAND_OVER_S + SLACK_S
    return killed


async def told_whose_they_were(ships: Fleet, killed: list[list[Process]]) -> None:
    """An event for each shard that has moved: from whom, to whom."""
    for worker, crew in zip(("ingest", "aggregator"), killed, strict=True):
        owners = await ships.owners(worker)
        told = [event["data"] for event in await ships.events("lease") if event["worker"] == worker]
        for process in crew:
            moved = [data for data in told if f"-{process.pid}-" in data["before"]]
            assert len(moved) >= 1, told
            assert all(data["instance"] != data["before"] for data in moved)
        assert {data["shard"]: data["instance"] for data in told}.items() <= owners.items()


async def seen_from_outside(ships: Fleet, folder: Path) -> None:
    """`/metrics` and `teji doctor` agree about who has what."""
    for worker in ("ingest", "aggregator"):
        await until(partial(told_by_metrics, ships, worker), f"/metrics of {worker} say so")
    findings, processes = await workers.examine(ships.line.settings, Servers(ships.line.settings.redis_url, ""), None)
    judged = {finding.name: finding for finding in findings}
    assert (judged["ingest"].level, judged["aggregator"].level) == (Level.OK, Level.OK), judged
    for worker in ("ingest", "aggregator"):
        alive = [one for one in processes if one.worker == worker and not one.silent]
        assert {one.pid for one in alive} == {process.pid for process in ships.running[worker]}
        assert sorted(shard for one in alive for shard in one.shards) == list(range(SHARDS))


async def told_by_metrics(ships: Fleet, worker: str) -> bool:
    """All processes together own all shards, and say since when."""
    found = await ships.metrics(worker)
    since = [name for name in found if re.match(rf'teji_shard_held_since_seconds{{.*worker="{worker}"', name)]
    taken = found[f'teji_lease_changes_total{{what="taken",worker="{worker}"}}']
    return (found[f'teji_shards_held{{worker="{worker}"}}'], len(since)) == (SHARDS, SHARDS) and taken >= SHARDS
