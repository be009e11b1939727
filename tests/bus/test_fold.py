"""A fold over a stream gives the same, byte for byte, whatever happens to the process that runs it."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.connection import Bus
from bus.inbox import Writer
from bus.lease import acquire
from schemas import streams
from schemas.errors import LeaseLost, Unavailable
from tests.bus.facts import until
from tests.bus.processes import Process, toy
from tests.bus.proxy import Proxy, proxied
from tests.bus.toy import NAME, Fold, inbox_of, undisturbed

INPUT, OUTPUT, DEAD = streams.ticks(0), streams.candles(0), streams.dead(streams.ticks(0))

VALUES = st.one_of(st.integers(-100, 100).map(str), st.just("no number"))
ENTRIES = st.lists(st.tuples(st.sampled_from("abc"), VALUES), max_size=20)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fine", "fine", "before read", "before commit", "reply lost", "lease stolen", "script gone"]),
        st.integers(1, 6),
    ),
    max_size=12,
)


async def left(bus: Bus, stream: str = OUTPUT) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in await bus.redis.xrange(stream)]


class Life:
    """One process's life, up to the mishap that ends it."""

    def __init__(self, shaky: Bus, proxy: Proxy) -> None:
        self._shaky = shaky
        self._proxy = proxy

    async def live(self, steps: list[Any]) -> None:
        """Takes its steps off the list; returns at a mishap, or when all is read."""
        lease = await acquire(self._shaky, NAME, 0, 60)
        async with inbox_of(Writer(self._shaky, lease, streams.RETENTION_MS), 0) as inbox:
            toy_fold = Fold(inbox, 0)
            while True:
                mishap, count = steps.pop(0) if steps else ("fine", 50)
                if mishap == "before read":
                    return
                batch = await inbox.read(count=count, block_ms=0)
                if mishap == "before commit":
                    return
                await self._commit(toy_fold, toy_fold.outputs(batch), mishap)
                if mishap in ("reply lost", "lease stolen") or not (batch or steps):
                    return

    async def _commit(self, toy_fold: Fold, outputs: Any, mishap: str) -> None:
        if mishap == "script gone":
            await self._shaky.redis.script_flush()
        if mishap == "lease stolen":
            await self._shaky.redis.delete(streams.lease(NAME, 0))
            assert await acquire(Bus(self._shaky.redis, "thief"), NAME, 0, 60)
            with pytest.raises(LeaseLost):
                await toy_fold.commit(outputs)
            await self._shaky.redis.delete(streams.lease(NAME, 0))
        elif mishap == "reply lost":
            self._proxy.swallow_reply_to(b"EVALSHA")
            with pytest.raises(Unavailable):
                await toy_fold.commit(outputs)
        else:
            await toy_fold.commit(outputs)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=ENTRIES, steps=STEPS)
async def test_no_mishap_at_any_point_changes_what_leaves(bus: Bus, redis_url: str, entries: Any, steps: Any) -> None:
    await bus.redis.flushall()
    written: list[dict[bytes, bytes]] = []
    for key, value in entries:
        written.append({b"key": key.encode(), b"value": value.encode()})
        await bus.redis.xadd(INPUT, written[-1])
    async with proxied(redis_url) as proxy, Bus.open(proxy.url, "the same name every time") as shaky:
        steps = list(steps)
        while steps:
            await Life(shaky, proxy).live(steps)
        await Life(shaky, proxy).live([])
    assert await left(bus) == undisturbed(written)
    assert len(await left(bus, DEAD)) == sum(value == "no number" for _, value in entries)
    assert (await bus.redis.xpending(INPUT, NAME))["pending"] == 0


@pytest.mark.parametrize("seed", [11])
async def test_a_process_that_is_killed_again_and_again_leaves_the_same(
    bus: Bus, redis_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    written: list[dict[bytes, bytes]] = []

    enough = asyncio.Event()

    async def feed() -> None:
        while not enough.is_set():
            for _ in range(chance.randint(1, 40)):
                value = "no number" if chance.random() < 0.05 else str(chance.randint(-99, 99))
                written.append({b"key": chance.choice("abcdef").encode(), b"value": value.encode()})
                await bus.redis.xadd(INPUT, written[-1])
            await asyncio.sleep(0.002)

    feeding = asyncio.create_task(feed())
    for number in range(5):
        await live_until(
            bus, toy(tmp_path / f"toy-{number}.log", redis_url), await bus.redis.xlen(OUTPUT) + chance.randint(1, 60)
        )
    enough.set()
    await feeding
    await live_until(bus, toy(tmp_path / "last.log", redis_url), len(undisturbed(written)))
    assert await left(bus) == undisturbed(written)


async def live_until(bus: Bus, process: Process, outputs: int) -> None:
    """Let it work until so much has left; kill it."""

    async def has_left() -> bool:
        assert process.alive(), process.text
        return bool(await bus.redis.xlen(OUTPUT) >= outputs)

    try:
        await until(has_left, f"{outputs} outputs")
    finally:
        process.kill()
