"""Longer bars by two ways: folded live by the aggregator, folded over history by the gateway. The same bytes."""

from functools import partial
from typing import Any

import orjson
import pytest

from aggregator import worker
from bus.connection import Bus
from bus.settings import Calendar, Settings
from schemas import streams
from schemas.intervals import Interval
from tests.aggregator.test_long_shell import all_is_there, never_closed, quarter_of_an_hour
from tests.aggregator.test_own_greeks import CALL, FUTURE, SPOT
from tests.aggregator.test_shell import begin, run
from tests.gateway.house import House, running, until
from tests.gateway.test_cold import settled

API = "/api/v1/candles"


@pytest.fixture(autouse=True)
def _never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "hours", never_closed)
    monkeypatch.setattr(worker, "_READ_BLOCK_MS", 20)


async def published(bus: Bus) -> dict[tuple[str, str, int], bytes]:
    """The newest revision of each longer bar, as its JSON."""
    found: dict[tuple[str, str, int], tuple[int, bytes]] = {}
    for _, fields in await bus.redis.xrange(streams.intervals(0)):
        bar = orjson.loads(fields[b"data"])
        key = (bar["instrument"], bar["interval"], bar["ts"])
        found[key] = max(found.get(key, (-1, b"")), (bar["rev"], fields[b"data"]))
    return {key: data for key, (_, data) in found.items()}


async def served(house: House) -> dict[tuple[str, str, int], Any]:
    found: dict[tuple[str, str, int], Any] = {}
    for key in (FUTURE, CALL, SPOT):
        for interval in (Interval.M3, Interval.M5, Interval.M15, Interval.M30):
            answer = await house.http.get(API, params={"instrument": key, "interval": interval.value})
            if answer.status_code == 200:
                bars = answer.json()["candles"]
                found |= {(key, interval.value, bar["ts"]): bar for bar in bars}
    return found


async def test_history_and_the_stream_tell_the_same_bars(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        await begin(bus, quarter_of_an_hour())
        await run(bus, partial(all_is_there, bus))
        live = {key: orjson.loads(data) for key, data in (await published(bus)).items()}
    assert any(bar["complete"] and bar["minutes"] < 3 for bar in live.values())  # a minute without a trade, watched
    async with running(settings.model_copy(update={"teji_calendar": Calendar.ALWAYS})) as house:

        async def the_same() -> bool:
            return await served(house) == live

        await until(the_same)
        for stream in (streams.candles(0), streams.intervals(0)):
            await until(partial(settled, house.bus, stream))
        await house.bus.redis.delete(streams.candles(0))  # trimmed: now all of it comes from Postgres
    async with running(settings.model_copy(update={"teji_calendar": Calendar.ALWAYS})) as house:

        async def still_the_same() -> bool:
            found = await served(house)  # and those under way then: nothing tells the venue's time now but the clock
            return {key: found.get(key) for key in live} == live

        await until(still_the_same)
