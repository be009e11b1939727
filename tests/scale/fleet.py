"""Several processes of each worker in front of one accelerated market: started, killed, sent home, counted."""

import asyncio
import contextlib
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from bus import lease
from bus.connection import Bus
from schemas import streams
from sim.exchange import Exchange
from tests.bus.facts import until
from tests.bus.processes import Process
from tests.end_to_end.pipeline import MINUTE, Pipeline, exchange, final, log_in, settings_for
from tests.end_to_end.test_kill_everything import candles

LEASE_S: Final = 1.0
SPEED: Final = 20.0
_STEP_MS: Final = 300
_START_S: Final = 90.0  # many interpreters at once, on a machine that has other things to do
_SETTLE_S: Final = 60.0

Where = tuple[str, int]  # instrument, start of the minute


@dataclass
class Fleet:
    """The processes, and what Redis says of them."""

    line: Pipeline
    shards: int
    folder: Path
    env: dict[str, str]
    running: dict[str, list[Process]] = field(default_factory=dict)
    ended: list[Process] = field(default_factory=list)

    @property
    def bus(self) -> Bus:
        return self.line.bus

    @property
    def market(self) -> Exchange:
        return self.line.market

    def start(self, worker: str, count: int = 1, **env: str) -> list[Process]:
        crew = self.running.setdefault(worker, [])
        before = len(crew) + len(self.ended)
        fresh = [
            Process(["-m", worker], {**self.env, **env}, self.folder / f"{worker}-{before + number}.log")
            for number in range(count)
        ]
        crew += fresh
        return fresh

    def kill(self, worker: str, process: Process) -> None:
        """-9: it has no say."""
        process.kill()
        self._has_ended(worker, process)

    async def send_home(self, worker: str) -> None:
        """All processes of a worker, in good order."""
        crew = list(self.running[worker])
        for process in crew:
            process.send(signal.SIGTERM)
        for process in crew:
            assert await asyncio.to_thread(process.ended) == 0, process.text[-2000:]
            self._has_ended(worker, process)

    def _has_ended(self, worker: str, process: Process) -> None:
        self.running[worker].remove(process)
        self.ended.append(process)

    # Who owns what

    async def owners(self, worker: str) -> dict[int, str]:
        """The process that holds each shard's lease."""
        names = [streams.lease(worker, shard) for shard in range(self.shards)]
        values = await self.bus.packet(*[("GET", name) for name in names])
        return {shard: value.decode().partition(":")[2] for shard, value in enumerate(values) if value}

    async def shares(self, worker: str) -> list[int]:
        """How many shards each process has, those without any too."""
        self.check()
        held = Counter(_pid(name) for name in (await self.owners(worker)).values())
        return sorted(held.get(process.pid, 0) for process in self.running.get(worker, []))

    async def until_shared(self, worker: str, *shares: int, seconds: float = _START_S) -> float:
        async def true() -> bool:
            return await self.shares(worker) == sorted(shares)

        return await until(true, f"{worker}: shards spread {shares}", seconds)

    async def until_without(self, worker: str, gone: Iterable[Process]) -> float:
        """Others hold all shards, those who are gone none."""
        pids = {process.pid for process in gone}

        async def true() -> bool:
            owners = await self.owners(worker)
            return len(owners) == self.shards and not pids & {_pid(name) for name in owners.values()}

        return await until(true, f"{worker}: others hold all shards", 30)

    async def busy(self, worker: str) -> list[Process]:
        """Those that own a shard."""
        pids = {_pid(name) for name in (await self.owners(worker)).values()}
        return [process for process in self.running[worker] if process.pid in pids]

    def check(self) -> None:
        for worker, crew in self.running.items():
            for process in crew:
                assert process.alive(), f"{worker}: {process.text[-3000:]}"

    async def until_ticking(self) -> None:
        async def true() -> bool:
            self.check()
            last = await self.bus.packet(*[("HLEN", streams.quotes(shard)) for shard in range(self.shards)])
            return all(last)

        await until(true, "ticks arrive in every shard", _START_S)

    # What came of it

    async def bars(self) -> list[dict[str, Any]]:
        found = []
        for shard in range(self.shards):
            found += await self.line.bars(shard)
        return found

    async def events(self, kind: str) -> list[dict[str, Any]]:
        entries = await self.bus.redis.xrange(streams.EVENTS)
        return [orjson.loads(fields[b"data"]) for _, fields in entries if fields[b"kind"].decode() == kind]

    async def settled(self, first: int, last: int) -> dict[Where, dict[str, Any]]:
        """The bars of these minutes, once every minute that was disturbed has been completed from history."""
        left: dict[Where, dict[str, Any]] = {}

        async def true() -> bool:
            nonlocal left
            self.check()
            await asyncio.sleep(0.3)  # all bars of all shards are no question to ask a hundred times a second
            if self.market.now_ms() < last + 3 * MINUTE:
                return False
            left = {where: bar for where, bar in final(await self.bars()).items() if first <= where[1] < last}
            return bool(left) and all(bar["complete"] for bar in left.values())

        try:
            await until(true, "every minute is complete", _SETTLE_S)
        except AssertionError:
            raise AssertionError([bar for _, bar in sorted(left.items()) if not bar["complete"]][:20]) from None
        return left

    async def equals_the_venue(self, first: int, last: int) -> int:
        """No bar is lost, doubled or other than the venue's own candle. Returns how many there are."""
        ours = await self.settled(first, last)
        keys = {instrument.key for instrument in self.market.market.listing.instruments}
        names = ("open", "high", "low", "close", "volume")
        found = {where: [bar[name] for name in names] for where, bar in ours.items()}
        venue = await candles(self.line, keys, first, last)
        wrong = [(where, found.get(where), venue.get(where)) for where in found.keys() | venue.keys()]
        wrong = sorted(each for each in wrong if each[1] != each[2])
        assert not wrong, f"{len(wrong)} bars: ours, the venue's: {wrong[:20]}"
        revisions = Counter((bar["instrument"], bar["ts"], bar["rev"]) for bar in await self.bars())
        assert [where for where, count in revisions.items() if count > 1] == []
        return len(found)

    async def metrics(self, worker: str) -> Mapping[str, float]:
        """Of all its processes, summed by name and labels."""
        total: Counter[str] = Counter()
        async with httpx.AsyncClient(trust_env=False) as client:
            for about in (await lease.living(self.bus, worker)).values():
                if about["pid"] in {process.pid for process in self.running[worker]}:
                    total.update(_parsed((await client.get(about["metrics"])).text))
        return total


def _parsed(text: str) -> Mapping[str, float]:
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def _pid(instance: str) -> int:
    found = re.fullmatch(r".*-(\d+)-[0-9a-f]+", instance)
    assert found is not None, instance
    return int(found[1])


async def _time_passes(market: Exchange) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _STEP_MS / 1000 / SPEED
        await market.advance(_STEP_MS)
        await asyncio.sleep(max(0.0, due - loop.time()))


@contextlib.asynccontextmanager
async def fleet(redis_url: str, folder: Path, shards: int, **env: str) -> AsyncIterator[Fleet]:
    """A market at twenty times the speed, a login, and nobody at work yet.

    The market waits for whoever reads it. A venue that does not leaves out states for everybody who is slow, and then
    a candle may know a high or a low that the feed has not told.
    """
    async with exchange(instruments=30, plus_plan=True, record=False) as market, Bus.open(redis_url, "a test") as bus:
        settings = settings_for(market, redis_url, folder / "home", teji_shards=shards)
        await log_in(settings)
        whole = {
            "REDIS_URL": redis_url, "TEJI_HOME": str(settings.home), "TEJI_LEASE_S": str(LEASE_S), "TEJI_LOG": "json",
            "TEJI_SHARDS": str(shards), "TEJI_FEED_PLAN": "plus", "TEJI_METRICS_PORT": "0", "TEJI_PORT": "0",
            "UPSTOX_API_URL": market.url, "UPSTOX_ASSETS_URL": market.url, **env,
        }  # fmt: skip
        ships = Fleet(Pipeline(market, settings, bus), shards, folder, whole)
        passing = asyncio.create_task(_time_passes(market))
        try:
            yield ships
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            for crew in ships.running.values():
                for process in crew:
                    process.send(signal.SIGCONT)
                    process.kill()
