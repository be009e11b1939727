"""Several ingesters share the instruments and the venue's sockets; when one dies, another goes on."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ingest.worker
from brokers.upstox import limits
from bus import lease
from schemas import streams
from schemas.commands import Mode
from tests.end_to_end.pipeline import Pipeline, pipeline
from tests.end_to_end.processes import ROOT
from tests.ingest import live

SHARDS = 4


def env_of(line: Pipeline) -> dict[str, str]:
    return {
        "REDIS_URL": line.settings.redis_url, "TEJI_HOME": str(line.settings.home), "UPSTOX_API_URL": line.market.url,
        "UPSTOX_ASSETS_URL": line.market.url, "TEJI_LEASE_S": "1", "TEJI_SHARDS": str(SHARDS),
        "TEJI_BACKFILL": "false", "TEJI_METRICS_PORT": "0",
    }  # fmt: skip


class Ingester:
    """An ingest process of its own; its log is a file."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            command = [sys.executable, "-m", "ingest"]
            self._process = subprocess.Popen(command, env=os.environ | env, cwd=ROOT, stdout=file, stderr=file)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """It does nothing any more, and its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        self.thaw()
        self._process.terminate()
        return self._process.wait(20)


@contextlib.asynccontextmanager
async def ingesters(line: Pipeline, folder: Path, count: int) -> AsyncIterator[list[Ingester]]:
    found = [Ingester(env_of(line), folder / f"ingest-{number}.log") for number in range(count)]
    try:
        yield found
    finally:
        codes = [await asyncio.to_thread(each.stop) for each in found]
    logs = [each.log.read_text()[-2000:] for each in found]
    assert set(codes) <= {0, -signal.SIGKILL}, logs


@contextlib.asynccontextmanager
async def watched(line: Pipeline) -> AsyncIterator[None]:
    """All the while the venue has no instrument on two connections, and no more connections than it allows."""
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            live.subscribed(line.market)
            assert len(line.market.hub.connections) <= 2
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        stop.set()
        await watching


async def shared(line: Pipeline, owners: int) -> bool:
    """Everything is subscribed once, over so many connections, and the market goes on meanwhile."""
    await line.market.advance(300)
    everything = sorted(each.key for each in line.market.market.listing.instruments)
    modes = [each.subscriptions.modes for each in line.market.hub.connections.values()]
    return len(modes) == owners and sorted(key for keys in modes for key in keys) == everything


def carried(line: Pipeline) -> list[int]:
    """How many instruments each connection has."""
    return [len(each.subscriptions.modes) for each in line.market.hub.connections.values()]


async def every_shard_lives(line: Pipeline) -> bool:
    """Each stream has ticks of just now."""
    await line.market.advance(300)
    newest = [await line.bus.last_entry(streams.ticks(shard)) for shard in range(SHARDS)]
    return all(entry and int(entry[1][b"ts"]) >= line.market.now_ms() - 600 for entry in newest)


async def test_two_ingesters_share_the_instruments_and_one_goes_on_when_the_other_is_killed(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=SHARDS) as line:
        async with ingesters(line, tmp_path, 2) as (one, _), watched(line):
            await line.until(lambda: shared(line, 2), "two connections share everything")
            await line.until(lambda: every_shard_lives(line), "all shards tick")
            before = [len(await live.batches(line, shard)) for shard in range(SHARDS)]
            await asyncio.to_thread(one.kill)
            await line.until(lambda: shared(line, 1), "the other has taken all of it", 10)
            await line.until(lambda: every_shard_lives(line), "all shards tick", 10)
            await line.until(lambda: live.all_published(line), "published")
            after = [(await live.batches(line, shard))[had:] for shard, had in enumerate(before)]
        assert live.is_part(await live.published(line), live.sent(line.market))
        assert [len(live.marks(found)) for found in after].count(1) == 2
        assert [live.bases(found) > 0 for found in after] == [bool(live.marks(found)) for found in after]


async def test_a_socket_that_another_process_needs_is_closed_before_that_one_opens_its_own(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would have use for both sockets."""
    monkeypatch.setattr(limits, "ALONE", {Mode.FULL: 25})
    async with pipeline(redis_url, tmp_path / "home", teji_shards=SHARDS) as line, watched(line):
        line.start("ingest", ingest.worker.run, "one")
        await line.until(lambda: carried(line) == [25, 25], "alone it uses both sockets")
        first = set(line.market.hub.connections)
        line.start("ingest", ingest.worker.run, "two")
        await line.until(lambda: shared_by(line, 2), "two processes have two shards each")
        await line.until(lambda: carried(line) == [25, 25], "each has a socket")
        second = set(line.market.hub.connections)
        assert (len(first & second), len(second - first)) == (1, 1)
        await line.stop("one")
        await line.until(lambda: carried(line) == [25, 25] and not first & set(line.market.hub.connections), "alone")
        assert not await live.said(line, "connecting", "403")
        assert await live.said(line, "live", "no room")


async def test_an_ingester_that_was_frozen_finds_its_shards_taken_and_publishes_nothing_of_before(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=SHARDS) as line:
        async with ingesters(line, tmp_path, 2) as (one, _):
            await line.until(lambda: shared(line, 2), "two connections share everything")
            await line.until(lambda: every_shard_lives(line), "all shards tick")
            one.freeze()
            await line.until(lambda: shared_by(line, 1), "the other owns everything", 15)
            await line.until(lambda: every_shard_lives(line), "all shards tick", 15)
            one.thaw()
            await line.until(lambda: shared(line, 2), "they share again", 15)
            await line.until(lambda: every_shard_lives(line), "all shards tick", 15)
            await line.until(lambda: live.all_published(line), "published")
        for shard in range(SHARDS):
            ticked = [batch for batch in await live.batches(line, shard) if len(batch.rec)]
            assert [batch.ts for batch in ticked] == sorted(batch.ts for batch in ticked)


async def test_a_third_ingester_stands_by_and_takes_the_place_of_one_that_dies(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=SHARDS) as line:
        async with ingesters(line, tmp_path, 3) as found, watched(line):
            await line.until(lambda: shared(line, 2), "two connections share everything")
            await line.until(lambda: shared_by(line, 2), "two processes have two shards each")
            working = await working_pids(line)
            (idle,) = (each for each in found if each.pid not in working)
            await line.until(lambda: stands_by(idle), "one stands by, and says so")
            busy = next(each for each in found if each is not idle)
            before = set(line.market.hub.connections)
            await asyncio.to_thread(busy.kill)
            await line.until(lambda: set(line.market.hub.connections) - before, "the one that stood by connects", 15)
            await line.until(lambda: shared(line, 2), "two connections share everything again", 15)
            await line.until(lambda: every_shard_lives(line), "all shards tick")
            await line.until(lambda: live.all_published(line), "published")
        assert live.is_part(await live.published(line), live.sent(line.market))


async def test_shards_change_hands_in_good_order_and_those_that_stay_notice_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=SHARDS) as line:
        async with watched(line), ingesters(line, tmp_path, 1):
            await line.until(lambda: shared(line, 1), "one connection carries everything")
            await line.until(lambda: every_shard_lives(line), "all shards tick")
            (first,) = line.market.hub.connections
            (tmp_path / "second").mkdir()
            async with ingesters(line, tmp_path / "second", 1):
                await line.until(lambda: shared(line, 2), "two connections share everything")
                await line.until(lambda: every_shard_lives(line), "all shards tick")
                kept = set(line.market.hub.connections[first].subscriptions.modes)
            await line.until(lambda: shared(line, 1), "the first one carries everything again")
            await line.until(lambda: every_shard_lives(line), "all shards tick")
            await line.until(lambda: live.all_published(line), "published")
        published = await live.published(line)
        assert live.is_part(published, live.sent(line.market))
        stayed = [update for update in live.sent(line.market, {first}) if update[0] in kept]
        assert len(kept) < len(line.market.market.listing.instruments)
        assert live.by_instrument(each for each in published if each[0] in kept) == live.by_instrument(stayed)


async def shared_by(line: Pipeline, count: int) -> bool:
    await line.market.advance(300)
    return len(await owners(line)) == count


async def owners(line: Pipeline) -> set[str]:
    values = [await line.bus.redis.get(streams.lease("ingest", shard)) for shard in range(SHARDS)]
    return {value.decode().split(":", 1)[1] for value in values if value}


async def working_pids(line: Pipeline) -> set[int]:
    """Of the processes that own a shard."""
    owning = await owners(line)
    living = await lease.living(line.bus)
    return {int(details["pid"]) for name, details in living.items() if name.partition(":")[2] in owning}


def stands_by(ingester: Ingester) -> bool:
    return "standing by" in ingester.log.read_text()
