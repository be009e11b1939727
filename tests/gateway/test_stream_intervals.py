"""SSE of longer bars and of chains: filters, snapshots, and resuming at any event, as for one-minute bars."""

from typing import Any

import orjson
import pytest

from bus.connection import Bus
from bus.settings import Settings
from gateway import hub
from schemas import streams
from tests.gateway.house import CALL, FUTURE, NIFTY, PUT, SHARE, bar, listening, running, universe, until

MINUTE = 60_000
START = 1_700_000_040_000


async def add_long(bus: Bus, key: str, ts: int, interval: str = "5m", shards: int = 1, **more: Any) -> str:
    data = {**bar(key, ts).model_dump(mode="json"), "interval": interval, "minutes": 5, "close_from": None, **more}
    fields: dict[Any, Any] = {"instrument": key, "interval": interval, "ts": ts, "data": orjson.dumps(data)}
    entry: bytes = await bus.redis.xadd(streams.intervals(streams.shard_of(key, shards)), fields)
    return entry.decode()


async def add_chain(bus: Bus, underlying: str, ts: int, shards: int = 1, expiry: str = "2031-01-30") -> str:
    data = orjson.dumps({"underlying": underlying, "expiry": expiry, "ts": ts})
    fields: dict[Any, Any] = {"underlying": underlying, "expiry": expiry, "ts": ts, "data": data}
    entry: bytes = await bus.redis.xadd(streams.chain(streams.shard_of(underlying, shards)), fields)
    return entry.decode()


async def test_a_reader_gets_the_interval_that_it_asked_for_and_the_chains(settings: Settings) -> None:
    async with (
        running(settings) as house,
        listening(house, "candles?interval=5m", "0") as all_of_five,
        listening(house, f"candles?interval=15m&instruments={CALL}", "0") as one_of_fifteen,
        listening(house, f"candles?interval=5m&instruments={NIFTY}", "0") as of_the_index,
    ):
        for interval in ("5m", "15m"):
            for key in (NIFTY, CALL, PUT):
                await add_long(house.bus, key, START, interval)
        await add_chain(house.bus, NIFTY, START)
        found = [(one.event, orjson.loads(one.data)) for one in await all_of_five.messages(4)]
        assert sorted((name, one.get("instrument", "")) for name, one in found) == [
            ("candle", CALL),
            ("candle", PUT),
            ("candle", NIFTY),
            ("chain", ""),
        ]
        assert {one["interval"] for name, one in found if name == "candle"} == {"5m"}
        (one,) = [orjson.loads(one.data) for one in await one_of_fifteen.messages(1)]
        assert (one["interval"], one["instrument"]) == ("15m", CALL)
        assert {one.event for one in await of_the_index.messages(2)} == {"candle", "chain"}


async def test_a_newcomer_is_told_the_newest_bar_of_each_and_the_newest_chains(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        for at in range(3):
            for key in (NIFTY, CALL):
                await add_long(bus, key, START + at * 5 * MINUTE, rev=at)
        await add_long(bus, CALL, START, rev=9)  # an older one, revised
        for at in range(2):
            await add_chain(bus, NIFTY, START + at * MINUTE)
        await add_chain(bus, SHARE, START)
    async with running(settings) as house:
        async with listening(house, "candles?interval=5m") as client:
            found = [orjson.loads(one.data) for one in await client.messages(4)]
        assert sorted((one.get("instrument") or one["underlying"], one["ts"]) for one in found) == sorted(
            [(NIFTY, START + 10 * MINUTE), (CALL, START + 10 * MINUTE), (NIFTY, START + MINUTE), (SHARE, START)]
        )
        async with listening(house, f"candles?interval=5m&instruments={CALL}") as client:
            (one,) = await client.messages(1)
            assert (orjson.loads(one.data)["instrument"], one.event) == (CALL, "candle")
            following = await add_long(house.bus, CALL, START + 15 * MINUTE)
            assert (await client.messages(1))[0].id.split(",")[0] == following


@pytest.mark.parametrize("source", ["from memory", "from the stream"])
async def test_two_shards_of_bars_and_chains_resume_each_at_its_own_place(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "from the stream":
        monkeypatch.setattr(hub, "_RING_BYTES", 0)
        monkeypatch.setattr(hub, "_RING_LEAST", 1)
    two = settings.model_copy(update={"teji_shards": 2})
    keys = {streams.shard_of(key, 2): key for key in (NIFTY, CALL, PUT, FUTURE, SHARE)}
    async with running(two) as house:
        for at in range(3):
            for shard in (0, 1):
                await add_long(house.bus, keys[shard], START + at * 5 * MINUTE, shards=2)
                await add_long(house.bus, keys[shard], START + at * 5 * MINUTE, "30m", shards=2)
            await add_chain(house.bus, NIFTY, START + at * MINUTE, shards=2)
        async with listening(house, "candles?interval=5m", "0") as client:
            told = await client.messages(9)
        contents = {message.data for message in told}
        assert len(contents) == 9
        for seen in range(9):
            async with listening(house, "candles?interval=5m", told[seen].id) as client:
                rest = await client.messages(8 - seen)
            assert {message.data for message in (*told[: seen + 1], *rest)} == contents


async def test_a_position_of_one_interval_is_a_moment_in_another(settings: Settings) -> None:
    """Where a page changes the interval it may keep its place: positions are times of the same Redis."""
    async with running(settings) as house:
        first = await add_long(house.bus, CALL, START)
        await add_long(house.bus, CALL, START, "15m")
        async with listening(house, "candles?interval=15m", first) as client:
            assert orjson.loads((await client.message()).data)["interval"] == "15m"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("candles?interval=2m", 422, "query.interval"),
        ("candles?interval=", 422, "query.interval"),
        ("candles?interval=5m&instruments=", 422, "query.instruments"),
        ("candles?interval=5m&instruments=NSE_EQ|NOTHING", 404, "query.instruments"),
    ],
)
async def test_a_wrong_request_is_told_in_which_field(settings: Settings, path: str, status: int, field: str) -> None:
    async with running(settings, universe()) as house:

        async def listed() -> bool:
            return (await house.http.get("/api/v1/instruments")).status_code == 200

        await until(listed)
        async with listening(house, path) as client:
            assert client.status == status
            problem = orjson.loads(await client.reader.readexactly(int(client.headers["content-length"])))
            assert [error["field"] for error in problem["errors"]] == [field]


async def test_one_minute_bars_are_as_ever(settings: Settings) -> None:
    async with running(settings) as house:
        await add_long(house.bus, CALL, START)
        fields: dict[Any, Any] = {"instrument": CALL, "ts": START, "data": bar(CALL, START).model_dump_json()}
        entry = (await house.bus.redis.xadd(streams.candles(0), fields)).decode()
        for path in ("candles", "candles?interval=1m"):
            async with listening(house, path, "0") as client:
                assert (await client.message()).id == entry
