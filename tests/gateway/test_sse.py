"""SSE over real sockets: what a client reads, byte by byte, before and after everything that can go wrong."""

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus import embedded
from bus.connection import Bus
from bus.settings import Settings
from gateway import hub, sse
from gateway.positions import ORIGIN, parse
from schemas import streams
from schemas.events import Event, EventKind
from tests.conftest import settings_in
from tests.gateway.house import (
    CALL,
    FUTURE,
    NIFTY,
    PUT,
    SHARE,
    Client,
    House,
    Message,
    bar,
    bar_fields,
    connect,
    listening,
    parsed,
    running,
    tick_fields,
    universe,
    until,
)

MINUTE = 60_000
START = 1_700_000_040_000
TICKS, CANDLES = streams.ticks(0), streams.candles(0)


@pytest.fixture(params=["direct", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to a socket: the server's transport, and ASGI's send alone."""
    if request.param == "plain":
        monkeypatch.setattr(sse, "transport_of", lambda scope, send: None)
    return str(request.param)


@pytest.fixture(params=["from memory", "from the stream"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A reader from behind is served from what the feed remembers, or, where that is next to nothing, by XRANGE."""
    if request.param == "from the stream":
        monkeypatch.setattr(hub, "_RING_BYTES", 0)
        monkeypatch.setattr(hub, "_RING_LEAST", 1)
    return str(request.param)


async def add_ticks(bus: Bus, rows: Sequence[tuple[str, float]], entry: str = "*") -> str:
    identity: bytes = await bus.redis.xadd(TICKS, tick_fields(rows), id=entry)
    return identity.decode()


async def add_bar(bus: Bus, key: str, ts: int, close: float = 1.0, rev: int = 1, entry: str = "*") -> str:
    identity: bytes = await bus.redis.xadd(CANDLES, bar_fields(bar(key, ts, close, rev)), id=entry)
    return identity.decode()


def prices(messages: Sequence[Message]) -> list[float]:
    return [orjson.loads(message.data)["ltp"] for message in messages if message.event == "tick"]


async def read_until(client: Client, last: float) -> list[Message]:
    """Every event up to the tick with that price."""
    got: list[Message] = []
    async with asyncio.timeout(10):
        while not got or got[-1].event != "tick" or orjson.loads(got[-1].data)["ltp"] != last:
            got.append(await client.message())
    return got


# The first bytes


async def test_a_stream_opens_with_its_headers_and_a_retry(settings: Settings) -> None:
    async with running(settings) as house, listening(house, "candles") as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        assert parsed(await client.block()).retry == "1000"


async def test_a_quiet_stream_gets_comments(settings: Settings, way: str) -> None:
    quick = settings.model_copy(update={"teji_sse_heartbeat_s": 0.05})
    async with running(quick) as house, listening(house, "candles") as client:
        async with asyncio.timeout(5):
            while (await client.block()) != b": heartbeat":
                pass
            assert await client.block() == b": heartbeat"


BAD: list[tuple[str, str | None, int, str]] = [
    ("candles", "x", 400, "header.last-event-id"),
    ("candles", "1-1-1", 400, "header.last-event-id"),
    ("candles", "1,2,3", 400, "header.last-event-id"),
    ("live", "1,2", 400, "header.last-event-id"),
    ("live?last_event_id=-1", None, 400, "query.last_event_id"),
    ("live?last_event_id=1-1.0", None, 400, "query.last_event_id"),
    ("candles?instruments=", None, 422, "query.instruments"),
    ("candles?instruments=,,", None, 422, "query.instruments"),
    ("candles?instruments=NOWHERE", None, 404, "query.instruments"),
    ("candles?instruments=NSE_EQ|NOTHING", None, 404, "query.instruments"),
    (f"live?instruments={NIFTY},NSE_EQ|NOTHING", None, 404, "query.instruments"),
    ("signals?strategies=", None, 422, "query.strategies"),
    ("candles?instruments=" + ",".join(f"NSE_EQ|{n}" for n in range(5_001)), None, 422, "query.instruments"),
]


async def test_a_request_that_is_wrong_is_told_in_which_field(settings: Settings) -> None:
    async with running(settings, universe()) as house:
        await until(lambda: _loaded(house))
        for path, last_event_id, status, field in BAD:
            async with listening(house, path, last_event_id) as client:
                assert client.status == status, path[:80]
                assert client.headers["content-type"] == "application/problem+json"
                problem = orjson.loads(await client.reader.readexactly(int(client.headers["content-length"])))
                assert problem["status"] == status
                assert [error["field"] for error in problem["errors"]] == [field]
        assert (await house.http.get("/api/v1/stream/nothing")).status_code == 404
        assert (await house.http.post("/api/v1/stream/live")).status_code == 405


async def _loaded(house: House) -> bool:
    return (await house.http.get("/api/v1/instruments")).status_code == 200


async def test_an_instrument_that_only_the_feed_knows_can_be_followed(settings: Settings) -> None:
    new = "NSE_EQ|LISTED_TODAY"
    async with running(settings, universe()) as house:
        await until(lambda: _loaded(house))
        await house.bus.redis.hset(streams.instruments(0), str(streams.instrument_id(new)), new)
        async with listening(house, f"live?instruments={new}") as client:
            assert client.status == 200


# Resuming


async def test_a_drop_at_any_event_loses_and_repeats_nothing(settings: Settings, way: str, source: str) -> None:
    """Entries of one to four ticks, a client that leaves after each event in turn, the rest read again."""
    rows = [
        [(key, float(10 * at + n)) for n, key in enumerate((NIFTY, CALL, PUT, NIFTY)[: at % 4 + 1])] for at in range(8)
    ]
    everything = [price for entry in rows for _, price in entry]
    async with running(settings) as house:
        async with listening(house, "live", "0") as client:
            for entry in rows:
                await add_ticks(house.bus, entry)
            told = await read_until(client, everything[-1])
        assert prices(told) == everything
        places = [parse(message.id, 1) for message in told]
        assert all(a < b for a, b in pairwise(places))
        for seen in range(len(told) - 1):
            async with listening(house, "live", told[seen].id) as client:
                assert prices(await read_until(client, everything[-1])) == everything[seen + 1 :]


async def test_a_drop_at_any_event_with_a_filter_loses_and_repeats_nothing(settings: Settings, source: str) -> None:
    rows = [[(NIFTY, 1.0), (CALL, 2.0)], [(NIFTY, 3.0)], [(CALL, 4.0), (NIFTY, 5.0), (CALL, 6.0)], [(CALL, 7.0)]]
    mine = [2.0, 4.0, 6.0, 7.0]
    async with running(settings) as house:
        for entry in rows:
            await add_ticks(house.bus, entry)
        async with listening(house, f"live?instruments={CALL}", "0") as client:
            told = await client.messages(len(mine))
        assert prices(told) == mine
        for seen in range(len(told) - 1):
            async with listening(house, f"live?instruments={CALL}", told[seen].id) as client:
                assert prices(await read_until(client, 7.0)) == mine[seen + 1 :]


async def test_a_drop_in_the_middle_of_an_event_gets_it_again_whole(settings: Settings) -> None:
    """Only what ended with its empty line was seen: the client's last id is that of the event before."""
    async with running(settings) as house:
        for at in range(3):
            await add_bar(house.bus, NIFTY, START + at * MINUTE)
        async with listening(house, "candles", "0") as client:
            first = await client.message()
            whole = await client.block()
        for cut in range(0, len(whole), 37):
            client = await connect(house.url, "candles", first.id)
            async with asyncio.timeout(5):
                while whole not in client.body:
                    size = int(await client.reader.readline(), 16)
                    client.body += await client.reader.readexactly(size + 2)
            half = bytes(client.body[: client.body.index(whole) + cut])
            await client.close()
            complete = [parsed(block) for block in half.split(b"\n\n")[:-1]]
            last = [message.id for message in complete if message.id] or [first.id]
            async with listening(house, "candles", last[-1]) as again:
                assert parsed(whole) == await again.message()


async def test_a_resume_joins_the_live_flow_without_a_seam(settings: Settings, way: str, source: str) -> None:
    """Clients that come and go at random while somebody writes as fast as they can."""
    chance = random.Random(7)
    total = 600
    async with running(settings) as house:
        writer = asyncio.create_task(_write_ticks(house.bus, total, chance))
        readers = [_hop(house, total, random.Random(seed)) for seed in range(6)]
        for got in await asyncio.gather(*readers):
            assert got == [float(n) for n in range(total)]
        await writer


async def _write_ticks(bus: Bus, total: int, chance: random.Random) -> None:
    at = 0
    while at < total:
        size = min(chance.randint(1, 4), total - at)
        await add_ticks(bus, [(NIFTY, float(at + n)) for n in range(size)])
        at += size


async def _hop(house: House, total: int, chance: random.Random) -> list[float]:
    """Read everything, from the very start, over many connections."""
    got: list[float] = []
    last = "0"
    while not got or got[-1] != total - 1:
        async with listening(house, "live", last) as client:
            for _ in range(chance.randint(1, 60)):
                message = (await client.messages(1))[0]
                got += prices([message])
                last = message.id
                if got[-1:] == [total - 1]:
                    break
    return got


async def test_the_position_in_the_address_counts_where_no_header_is(settings: Settings) -> None:
    async with running(settings) as house:
        ids = [await add_bar(house.bus, NIFTY, START + at * MINUTE) for at in range(4)]
        async with listening(house, f"candles?last_event_id={ids[1]}") as client:
            assert [message.id for message in await client.messages(2)] == ids[2:]
        async with listening(house, f"candles?last_event_id={ids[0]}", ids[2]) as client:
            assert [message.id for message in await client.messages(1)] == ids[3:]


async def test_two_shards_and_a_chain_resume_each_at_its_own_place(settings: Settings, source: str) -> None:
    two = settings.model_copy(update={"teji_shards": 2})
    keys = {streams.shard_of(key, 2): key for key in (NIFTY, CALL, PUT, FUTURE, SHARE)}
    async with running(two) as house:
        for at in range(3):
            for shard in (0, 1):
                fields = bar_fields(bar(keys[shard], START + at * MINUTE))
                await house.bus.redis.xadd(streams.candles(shard), fields)
        chain = {"underlying": NIFTY, "expiry": "2031-01-30", "ts": START, "data": "{}"}
        await house.bus.redis.xadd(streams.chain(streams.shard_of(NIFTY, 2)), chain)
        async with listening(house, "candles", "0") as client:
            told = await client.messages(7)
        contents = {message.data for message in told}
        assert len(contents) == 7
        for seen in range(7):
            async with listening(house, "candles", told[seen].id) as client:
                rest = await client.messages(6 - seen)
            assert {message.data for message in told[: seen + 1]} | {message.data for message in rest} == contents
            assert len(rest) == 6 - seen


# Gaps


async def test_what_was_trimmed_meanwhile_is_a_gap_and_the_rest_follows(settings: Settings) -> None:
    async with running(settings) as house:
        for at in range(6):
            await add_bar(house.bus, NIFTY, START + at * MINUTE, entry=f"{1000 + at}-0")
        await house.bus.redis.xtrim(CANDLES, minid="1003-0", approximate=False)
        await house.bus.redis.set(streams.trimmed(CANDLES), "1002-0")  # as commit.lua leaves it
    async with running(settings) as house:  # another process: nothing in memory
        async with listening(house, "candles", "1000-0") as client:
            gap, *rest = await client.messages(4)
        data = orjson.loads(gap.data)
        assert (gap.event, gap.id) == ("gap", "1002-0")
        assert (data["stream"], data["after"], data["to"], data["reason"]) == (CANDLES, "1000-0", "1002-0", "trimmed")
        assert [message.id for message in rest] == ["1003-0", "1004-0", "1005-0"]
        async with listening(house, "candles", "1002-0") as client:
            assert [message.event for message in await client.messages(3)] == ["candle"] * 3


async def test_the_rest_of_an_entry_that_was_trimmed_is_a_gap(settings: Settings) -> None:
    async with running(settings) as house:
        await add_ticks(house.bus, [(NIFTY, 1.0), (NIFTY, 2.0)], "1000-0")
        await add_ticks(house.bus, [(NIFTY, 3.0)], "900000-0")
        await house.bus.redis.xtrim(TICKS, minid="900000-0", approximate=False)
        await house.bus.redis.set(streams.trimmed(TICKS), "1000-0")
        async with listening(house, "live", "1000-0.1") as client:
            gap, tick = await client.messages(2)
        assert (gap.event, gap.id, prices([tick])) == ("gap", "1000-0", [3.0])
        async with listening(house, "live", "1000-0") as client:
            assert prices(await client.messages(1)) == [3.0]


async def test_a_position_of_another_redis_is_a_gap_and_the_stream_goes_on(settings: Settings) -> None:
    async with running(settings) as house:
        await add_bar(house.bus, NIFTY, START, entry="1000-0")
        async with listening(house, "candles", "9999999999999-0") as client:
            gap = (await client.messages(1))[0]
            assert (gap.event, orjson.loads(gap.data)["reason"]) == ("gap", "unknown position")
            await add_bar(house.bus, NIFTY, START + MINUTE, entry="1001-0")
            assert [message.id for message in await client.messages(1)] == ["1001-0"]


# Snapshots


async def test_a_first_connection_is_told_the_newest_bar_of_each_instrument_it_asked_for(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        for at in range(3):
            for key in (NIFTY, CALL, PUT):
                await add_bar(bus, key, START + at * MINUTE, close=float(at))
        await add_bar(bus, CALL, START + 2 * MINUTE, close=9.0, rev=2)
    async with running(settings) as house, listening(house, f"candles?instruments={NIFTY},{CALL}") as client:
        told = [orjson.loads(message.data) for message in await client.messages(2)]
        assert {(one["instrument"], one["close"]) for one in told} == {(NIFTY, 2.0), (CALL, 9.0)}
        await add_bar(house.bus, PUT, START + 3 * MINUTE)
        following = await add_bar(house.bus, CALL, START + 3 * MINUTE)
        assert [message.id for message in await client.messages(1)] == [following]


async def test_the_last_event_of_a_snapshot_says_where_it_was_taken(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        for key in (NIFTY, CALL):
            last = await add_bar(bus, key, START)
    async with running(settings) as house, listening(house, "candles") as client:
        assert [message.id for message in await client.messages(2)] == ["", last]


async def test_a_snapshot_of_ticks_and_what_follows_is_every_instruments_state(settings: Settings, way: str) -> None:
    """Clients join while ticks are written; each one's first and later news are gapless per instrument."""
    keys = [f"NSE_FO|{number}" for number in range(20)]
    rounds = 60
    async with running(settings) as house:

        async def write() -> None:
            for price in range(1, rounds + 1):
                await add_ticks(house.bus, [(key, float(price)) for key in keys[:10]])
                await add_ticks(house.bus, [(key, float(price)) for key in keys[10:]])

        async def read(delay: int) -> None:
            await until(lambda: _written(house.bus, delay))
            seen: dict[str, list[float]] = {}
            async with listening(house, "live") as client, asyncio.timeout(20):
                while len(seen) < len(keys) or any(prices[-1] != rounds for prices in seen.values()):
                    message = await client.message()
                    if message.event == "tick":
                        tick = orjson.loads(message.data)
                        seen.setdefault(tick["instrument"], []).append(tick["ltp"])
            for got in seen.values():
                assert got == [float(price) for price in range(int(got[0]), rounds + 1)]

        await asyncio.gather(write(), *(read(delay) for delay in (2, 7, 19, 40, 80, 110, 120)))


async def _written(bus: Bus, entries: int) -> bool:
    return bool(await bus.redis.xlen(TICKS) >= entries)


async def test_quotes_stored_before_the_gateway_came_are_in_its_snapshot(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        old = {"instrument": SHARE, "rx": 5, "ltp": 7.5}
        stale = {"instrument": NIFTY, "rx": 5, "ltp": 1.0}
        await bus.redis.hset(streams.quotes(0), mapping={SHARE: orjson.dumps(old), NIFTY: orjson.dumps(stale)})
        await add_ticks(bus, [(NIFTY, 2.0)])
    async with running(settings) as house, listening(house, "live") as client:
        told = [orjson.loads(message.data) for message in await client.messages(2)]
        assert {one["instrument"]: one["ltp"] for one in told} == {SHARE: 7.5, NIFTY: 2.0}


async def test_events_begin_with_the_state_of_the_feed_and_the_last_twenty(settings: Settings) -> None:
    def event(kind: EventKind, message: str, **data: Any) -> dict[str, str]:
        one = Event(kind=kind, ts=1, worker="test", message=message, data=data)
        return {"kind": kind.value, "data": one.model_dump_json()}

    status = {"state": "live", "shard": 0, "venue": "sim", "connections": 1, "desired": 3, "seen": 3}
    async with Bus.open(settings.redis_url) as bus:
        await bus.redis.xadd(streams.EVENTS, event(EventKind.FEED, "feed", **status))
        ids = [await bus.redis.xadd(streams.EVENTS, event(EventKind.ALERT, str(n))) for n in range(30)]
    async with running(settings) as house, listening(house, "events") as client:
        feed, *tail = await client.messages(21)
        assert (feed.id, orjson.loads(feed.data)["message"]) == ("", "feed")
        assert [message.id for message in tail] == [one.decode() for one in ids[-20:]]


async def test_orders_and_signals_are_named_and_filtered(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        for kind, key in [("order", NIFTY), ("gtt", CALL), ("fill", CALL), ("position", CALL), ("refused", CALL)]:
            data = orjson.dumps({"order_id": kind, "instrument": key, "status": "open", "ts": 1})
            await bus.redis.xadd(streams.ORDERS, {"id": kind, "kind": kind, "data": data})
        for strategy in ("one", "two"):
            fields = {"id": "1", "strategy": strategy, "instrument": NIFTY, "ts": 1, "data": f'{{"s":"{strategy}"}}'}
            await bus.redis.xadd(streams.SIGNALS, fields)
    async with running(settings) as house:
        async with listening(house, f"orders?instruments={CALL}", "0") as client:
            told = [message.event for message in await client.messages(4)]
            assert told == ["gtt", "fill", "position", "refused"]
        async with listening(house, "signals?strategies=two") as client:
            (signal,) = await client.messages(1)
            assert (signal.event, signal.data) == ("signal", '{"s":"two"}')


# Trouble


async def test_a_client_that_stops_reading_bars_gets_them_all_later_and_holds_up_nobody(
    settings: Settings, way: str
) -> None:
    small = settings.model_copy(update={"teji_sse_buffer_kb": 16})
    total = 3_000
    async with (
        running(small) as house,
        listening(house, "candles", "0") as slow,
        listening(house, "candles", "0") as quick,
    ):
        pipe = house.bus.redis.pipeline(transaction=False)
        for at in range(total):
            pipe.xadd(CANDLES, bar_fields(bar(NIFTY, START + at * MINUTE, vwap=at / 3)))
        await pipe.execute()
        stamps = [orjson.loads(message.data)["ts"] for message in await quick.messages(total)]
        assert stamps == [START + at * MINUTE for at in range(total)]
        late = await slow.messages(total)
        assert [orjson.loads(message.data)["ts"] for message in late] == stamps
        assert all(message.event == "candle" for message in late)


async def test_a_client_too_slow_for_the_ticks_is_told_and_gets_the_present_state(settings: Settings, way: str) -> None:
    small = settings.model_copy(update={"teji_sse_buffer_kb": 16})
    async with running(small) as house, listening(house, "live", "0") as slow:
        assert parsed(await slow.block()).retry
        await add_ticks(house.bus, [(NIFTY, 0.0)])
        await slow.messages(1)
        transport = slow.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        sent = await _flood(house, slow)
        transport.resume_reading()
        got = await read_until(slow, float(sent))
        gaps = [message for message in got if message.event == "gap"]
        assert [orjson.loads(gap.data)["reason"] for gap in gaps] == ["slow"] * len(gaps)
        assert gaps
        told = prices(got)
        assert told == sorted(set(told))
        at = orjson.loads(gaps[-1].data)["to"]
        assert parse(at, 1) <= parse(got[-1].id, 1)
        assert parse(got[-1].id, 1) > (ORIGIN,)


async def _flood(house: House, slow: Client) -> int:
    """Ticks until the slow client has been let go; the price of the last one."""
    price = 0
    async with listening(house, "live") as witness:
        for _ in range(400):
            rows = [(NIFTY, float(price + n)) for n in range(1, 101)]
            price += 100
            await add_ticks(house.bus, rows)
            await read_until(witness, float(price))
    return price


async def test_ticks_go_on_after_redis_was_away_and_none_is_missing(
    tmp_path: Path, postgres_url: str, way: str
) -> None:
    home = settings_in(tmp_path / "redis")
    with embedded.servers(home, postgres=False) as servers:
        url = servers.redis_url
    more = {"redis_url": url, "database_url": postgres_url, "teji_sse_heartbeat_s": 0.1}
    settings = settings_in(tmp_path / "home", **more)
    with embedded.servers(home, postgres=False):
        context = running(settings)
        house = await context.__aenter__()
        client = await connect(house.url, "live", "0")
        await add_ticks(house.bus, [(NIFTY, 1.0), (NIFTY, 2.0)])
        assert prices(await read_until(client, 2.0)) == [1.0, 2.0]
    async with asyncio.timeout(10):
        while (await client.block()) != b": heartbeat":
            pass
    waiting = await connect(house.url, "live", "0")  # comes while Redis is away
    assert waiting.status == 200
    assert (await house.http.get("/api/v1/health")).status_code == 503
    with embedded.servers(home, postgres=False):
        async with Bus.open(url) as bus:
            await add_ticks(bus, [(NIFTY, 3.0), (NIFTY, 4.0)])
        assert prices(await read_until(client, 4.0)) == [3.0, 4.0]
        assert prices(await read_until(waiting, 4.0)) == [1.0, 2.0, 3.0, 4.0]
        for one in (client, waiting):
            await one.close()
        await context.__aexit__(None, None, None)


async def test_a_stop_ends_every_stream_at_once_and_cleanly(settings: Settings, way: str) -> None:
    async with running(settings) as house:
        clients = [await connect(house.url, path) for path in ("live", "candles", "orders", "signals", "events")]
        await add_bar(house.bus, NIFTY, START)
        assert (await clients[1].messages(1))[0].event in ("candle", "message")
        house.stop.set()
        for client in clients:
            async with asyncio.timeout(3):
                assert await _ends(client)
            await client.close()


async def _ends(client: Client) -> bool:
    """Read to the last chunk of a complete response."""
    try:
        while True:
            await client.block()
    except EOFError as end:
        return str(end) == "the stream has ended"


async def test_a_stop_does_not_wait_for_redis_or_for_a_client_that_reads_nothing(settings: Settings, way: str) -> None:
    async with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as house:
        client = await connect(house.url, "live")
        house.stop.set()
        async with asyncio.timeout(3):
            await house.task
        await client.close()


async def test_a_bad_entry_is_passed_over(settings: Settings) -> None:
    async with running(settings) as house, listening(house, "live", "0") as client:
        await house.bus.redis.xadd(TICKS, {"n": "1", "rec": "garbage"})
        await add_ticks(house.bus, [(NIFTY, 2.0)])
        assert prices(await client.messages(1)) == [2.0]


async def test_clients_that_leave_leave_nothing_behind(settings: Settings) -> None:
    async with running(settings) as house:
        clients = [await connect(house.url, f"candles?instruments=NSE_FO|{n % 50}") for n in range(200)]
        for client in clients:
            assert parsed(await client.block()).retry
        assert (await house.http.get("/api/v1/health")).json()["sse_clients"] == 200
        for client in clients:
            await client.close()

        async def gone() -> bool:
            return bool((await house.http.get("/api/v1/health")).json()["sse_clients"] == 0)

        await until(gone)
