"""How far behind a reader is, as `/metrics` tells it."""

import asyncio

from prometheus_client import REGISTRY

from bus import lag
from bus.connection import Bus
from bus.inbox import Inbox, Writer
from schemas import streams
from tests.bus.facts import until

TICKS = streams.ticks(0)


def shown(name: str, stream: str, group: str) -> float | None:
    return REGISTRY.get_sample_value(f"teji_stream_{name}", {"stream": stream, "group": group})


async def test_lag_is_the_age_of_the_oldest_entry_not_delivered_and_pending_what_is_not_committed(bus: Bus) -> None:
    now = await bus.now_ms()
    for age in (90_000, 60_000, 30_000):
        await bus.redis.xadd(TICKS, {"n": 1}, id=f"{now - age}-0")
    async with Inbox.open(
        Writer(bus, None, {}), group="lag", consumer="me", inputs=[TICKS, "events"], state_key="s"
    ) as inbox:
        seen: list[tuple[int, float | None]] = []
        for _ in range(4):
            await lag.sample(bus, set())
            seen.append((round((shown("lag_ms", TICKS, "lag") or 0) / 10_000), shown("pending", TICKS, "lag")))
            await inbox.read(count=1, block_ms=0)
        assert seen == [(9, 0), (6, 1), (3, 2), (0, 3)]
        await inbox.commit(now_s=0)
        await lag.sample(bus, set())
        assert shown("pending", TICKS, "lag") == 0
        assert (shown("lag_ms", "events", "lag"), shown("pending", "events", "lag")) == (0, 0)


async def test_a_reader_that_is_gone_is_no_longer_shown(bus: Bus) -> None:
    stop = asyncio.Event()
    watching = asyncio.create_task(lag.watch(bus, stop, every_s=0.01))
    async with Inbox.open(Writer(bus, None, {}), group="gone", consumer="me", inputs=[TICKS], state_key="s"):
        await until(lambda: shown("lag_ms", TICKS, "gone") == 0, "it is shown")
    await until(lambda: shown("lag_ms", TICKS, "gone") is None, "it is not shown any more")
    assert shown("pending", TICKS, "gone") is None
    stop.set()
    await watching


async def test_nothing_to_measure_and_nobody_to_ask_are_no_errors(redis_url: str, bus: Bus) -> None:
    assert await lag.sample(bus, set()) == set()
    bus.reading.add(("no such stream", "nobody"))
    assert await lag.sample(bus, set()) == {("no such stream", "nobody")}
    async with Bus.open("redis://127.0.0.1:1/0") as away:
        stop = asyncio.Event()
        watching = asyncio.create_task(lag.watch(away, stop, every_s=0.01))
        await asyncio.sleep(0)
        assert not watching.done()
        stop.set()
        await watching
