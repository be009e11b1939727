"""REST over a real socket: answers, and problems that name the field."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import orjson
import pytest

from bus import embedded, lease, postgres
from bus.connection import Bus
from bus.settings import Settings
from gateway import app, cold, commands
from gateway.coldrows import BarReader
from gateway.hosts import is_ours
from gateway.worker import listen
from schemas import streams
from schemas.bars import Bar
from schemas.errors import Misconfigured
from schemas.events import Event, EventKind, FeedState, FeedStatus, Some
from tests.conftest import settings_in
from tests.gateway.house import (
    CALL,
    EXPIRY,
    FUTURE,
    NIFTY,
    PUT,
    SHARE,
    House,
    bar,
    bar_fields,
    running,
    universe,
    until,
)

MINUTE = 60_000
START = 1_700_000_040_000
API = "/api/v1"


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    """A gateway that has its list of instruments and has counted today's bars."""
    async with running(settings, universe()) as house:

        async def up() -> bool:
            listed = (await house.http.get(f"{API}/instruments")).status_code == 200
            candles = await house.http.get(f"{API}/candles?instrument={NIFTY}")
            database = (await house.http.get("/health")).json()["postgres"]["ok"]
            return listed and candles.status_code == 200 and (candles.json()["warning"] is None or not database)

        await until(up)
        yield house


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "instance", "errors"}
    assert body["status"] == answer.status_code
    assert body["instance"] == answer.request.url.path
    return body


# Bad input

BAD = [
    ("/candles", 422, "query.instrument"),
    ("/candles?instrument=", 422, "query.instrument"),
    ("/candles?instrument=NIFTY", 422, "query.instrument"),
    ("/candles?instrument=NSE_EQ|NOTHING", 404, "query.instrument"),
    (f"/candles?instrument={NIFTY}&from=yesterday", 422, "query.from"),
    (f"/candles?instrument={NIFTY}&from=2026-13-01", 422, "query.from"),
    (f"/candles?instrument={NIFTY}&from=-5", 422, "query.from"),
    (f"/candles?instrument={NIFTY}&from=1700000000", 422, "query.from"),
    (f"/candles?instrument={NIFTY}&from=99999999999999999", 422, "query.from"),
    (f"/candles?instrument={NIFTY}&to=0001-01-01", 422, "query.to"),
    (f"/candles?instrument={NIFTY}&from=1700000000001&to=1700000000000", 422, "query.to"),
    (f"/candles?instrument={NIFTY}&from=2026-01-02&to=2026-01-02", 422, "query.to"),
    (f"/candles?instrument={NIFTY}&limit=0", 422, "query.limit"),
    (f"/candles?instrument={NIFTY}&limit=5001", 422, "query.limit"),
    (f"/candles?instrument={NIFTY}&limit=many", 422, "query.limit"),
    (f"/candles?instrument={NIFTY}&interval=2m", 422, "query.interval"),
    ("/quotes", 422, "query.instruments"),
    ("/quotes?instruments=,", 422, "query.instruments"),
    ("/quotes?instruments=NSE_EQ|NOTHING", 404, "query.instruments"),
    ("/quotes?instruments=" + ",".join(f"NSE_EQ|{n}" for n in range(1_001)), 422, "query.instruments"),
    ("/instruments?limit=501", 422, "query.limit"),
    ("/instruments?query=" + "x" * 201, 422, "query.query"),
    ("/instruments/NSE_EQ%7CNOTHING", 404, "path.key"),
    ("/instruments/NSE_EQ%7CNOTHING/expiries", 404, "path.key"),
    ("/chain", 422, "query.underlying"),
    ("/chain?underlying=NSE_EQ|NOTHING", 404, "query.underlying"),
    (f"/chain?underlying={SHARE}", 404, "query.expiry"),
    (f"/chain?underlying={NIFTY}&expiry=2031-01-29", 404, "query.expiry"),
    (f"/chain?underlying={NIFTY}&expiry=soon", 422, "query.expiry"),
]

BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "body"),
    (b"{", "body"),
    (b"[]", "body"),
    (b"{}", "body.instruments"),
    (b'{"instruments":[]}', "body.instruments"),
    (b'{"instruments":["x"]}', "body.instruments.0"),
    (b'{"instruments":["NSE_EQ|A,B"]}', "body.instruments.0"),
    (b'{"instruments":"NSE_EQ|A"}', "body.instruments"),
    (b'{"instruments":["NSE_EQ|A"],"mode":"loud"}', "body.mode"),
    (b'{"instruments":["NSE_EQ|A"],"more":1}', "body.more"),
    (b'{"kind":"feed.connect","instruments":["NSE_EQ|A"]}', "body.kind"),
    (b'{"instruments":["NSE_EQ|NOTHING"]}', "body.instruments.0"),
]


async def test_bad_input_is_a_problem_that_names_the_field(settings: Settings) -> None:
    async with open_house(settings) as house:
        for path, status, field in BAD:
            answer = await house.http.get(API + path)
            assert (answer.status_code, path[:80]) == (status, path[:80])
            assert problem(answer)["errors"][0]["field"] == field, path[:80]
        for body, field in BAD_BODIES:
            json = {"Content-Type": "application/json"}
            answer = await house.http.post(f"{API}/feed/subscribe", content=body, headers=json)
            assert (answer.status_code, body) == (422, body)
            assert problem(answer)["errors"][0]["field"].startswith(field), body
        answer = await house.http.post(f"{API}/feed/subscribe", data={"instruments": NIFTY})
        assert (answer.status_code, problem(answer)["errors"][0]["field"]) == (415, "header.content-type")


async def test_paths_and_methods_that_do_not_exist_are_problems(settings: Settings) -> None:
    async with open_house(settings) as house:
        assert problem(await house.http.get("/nowhere"))["status"] == 404
        assert problem(await house.http.get(f"{API}/nowhere"))["status"] == 404
        assert problem(await house.http.delete(f"{API}/candles"))["status"] == 405
        assert problem(await house.http.get(f"{API}/feed/connect"))["status"] == 405


# Instruments


async def test_instruments_are_found_and_described(settings: Settings) -> None:
    async with open_house(settings) as house:
        found = (await house.http.get(f"{API}/instruments", params={"query": "25000 nifty", "kind": "PE"})).json()
        assert [one["key"] for one in found] == [PUT]
        one = (await house.http.get(f"{API}/instruments/{CALL.replace('|', '%7C')}")).json()
        assert (one["strike"], one["expiry"], one["lot_size"]) == (25_000.0, EXPIRY.isoformat(), 75)
        expiries = (await house.http.get(f"{API}/instruments/{NIFTY.replace('|', '%7C')}/expiries")).json()
        assert expiries["options"] == [EXPIRY.isoformat()]
        assert [future["key"] for future in expiries["futures"]] == [FUTURE]


async def test_a_chain_shows_who_is_who_with_last_quotes(settings: Settings) -> None:
    async with open_house(settings) as house:
        await house.bus.redis.hset(streams.quotes(0), mapping={CALL: b'{"ltp":5.5}', NIFTY: b'{"ltp":25010.0}'})
        chain = (await house.http.get(f"{API}/chain", params={"underlying": NIFTY})).json()
    assert chain["expiry"] == EXPIRY.isoformat()
    assert chain["underlying_quote"] == {"ltp": 25010.0}
    call, put = {"instrument": CALL, "quote": {"ltp": 5.5}}, {"instrument": PUT, "quote": None}
    assert chain["strikes"] == [{"strike": 25_000.0, "call": call, "put": put}]


async def test_without_a_list_the_search_says_so_and_well_formed_keys_are_believed(settings: Settings) -> None:
    async with running(settings) as house:
        answer = await house.http.get(f"{API}/instruments")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "no list in this test" in problem(answer)["detail"]
        assert (await house.http.get(f"{API}/quotes?instruments=NSE_EQ|ANY")).json() == []


async def test_quotes_come_in_the_order_asked_for(settings: Settings) -> None:
    async with open_house(settings) as house:
        quotes = {key: orjson.dumps({"instrument": key}) for key in (NIFTY, CALL, SHARE)}
        await house.bus.redis.hset(streams.quotes(0), mapping=quotes)
        found = (await house.http.get(f"{API}/quotes", params={"instruments": f"{SHARE},{PUT},{NIFTY},{SHARE}"})).json()
    assert [one["instrument"] for one in found] == [SHARE, NIFTY]


# Candles


async def told(house: House, **params: object) -> dict[str, Any]:
    answer = await house.http.get(f"{API}/candles", params={"instrument": NIFTY, **params})  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def put_hot(house: House, *bars: Bar) -> None:
    for one in bars:
        await house.bus.redis.xadd(streams.candles(0), bar_fields(one))
    for one in bars:
        await until(partial(_has, house, one))


async def _has(house: House, one: Bar) -> bool:
    found = await told(house, instrument=one.instrument, **{"from": one.ts, "to": one.ts + 1})
    return any(candle["rev"] >= one.rev for candle in found["candles"])


async def put_cold(settings: Settings, *bars: Bar) -> None:
    async with postgres.open_pool(settings.postgres_url) as pool:
        await postgres.migrate(pool)
        rows, _ = BarReader().read([{b"data": one.model_dump_json().encode()} for one in bars])
        await cold.store_bars(pool, rows)


async def test_bars_of_redis_and_postgres_are_one_list_of_the_highest_revisions(settings: Settings) -> None:
    await put_cold(settings, *(bar(NIFTY, START + at * MINUTE, close=1.0, rev=2) for at in range(6)))
    async with open_house(settings) as house:
        await put_hot(
            house,
            bar(NIFTY, START + 3 * MINUTE, close=9.0, rev=1),
            bar(NIFTY, START + 4 * MINUTE, close=9.0, rev=3),
            bar(NIFTY, START + 6 * MINUTE, close=9.0, oi=4.0),
        )
        found = await told(house)
    assert [one["ts"] for one in found["candles"]] == [START + at * MINUTE for at in range(7)]
    assert [one["close"] for one in found["candles"]] == [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 9.0]
    assert found["warning"] is None
    assert found["next"] is None
    cold_one, hot_one = found["candles"][0], found["candles"][-1]
    assert list(cold_one) == list(hot_one) == list(Bar.model_fields)


async def test_pages_forward_and_backward_cover_every_bar_once(settings: Settings) -> None:
    stamps = [START + at * MINUTE for at in range(25)]
    await put_cold(settings, *(bar(NIFTY, ts) for ts in stamps[:15]))
    async with open_house(settings) as house:
        await put_hot(house, *(bar(NIFTY, ts) for ts in stamps[10:]))
        forward: list[int] = []
        start: int | None = stamps[0]
        while start is not None:
            page = await told(house, limit=7, **{"from": start})
            forward += [one["ts"] for one in page["candles"]]
            start = page["next"]
        backward: list[int] = []
        end: int | None = stamps[-1] + 1
        while end is not None:
            page = await told(house, limit=7, to=end)
            backward = [one["ts"] for one in page["candles"]] + backward
            end = page["next"]
    assert forward == backward == stamps


@pytest.mark.parametrize(
    "text",
    ["1700000040000", "2023-11-14T22:14:00Z", "2023-11-15T03:44:00+05:30", "2023-11-15T03:44", "2023-11-15 03:44:00"],
)
async def test_a_time_is_understood_in_every_form_that_people_write(settings: Settings, text: str) -> None:
    async with open_house(settings) as house:
        await put_hot(house, *(bar(NIFTY, START + at * MINUTE) for at in (-1, 0, 1)))
        assert [one["ts"] for one in (await told(house, **{"from": text}))["candles"]] == [START, START + MINUTE]
        assert [one["ts"] for one in (await told(house, to=text))["candles"]] == [START - MINUTE]


async def test_while_postgres_is_away_todays_bars_are_served_with_a_warning(redis_url: str, tmp_path: Path) -> None:
    gone = settings_in(tmp_path / "home", redis_url=redis_url, database_url="postgresql://nobody@127.0.0.1:1/none")
    async with open_house(gone) as house:
        await put_hot(house, bar(NIFTY, START))
        answer = await house.http.get(f"{API}/candles?instrument={NIFTY}")
        assert [one["ts"] for one in answer.json()["candles"]] == [START]
        assert "older bars are missing" in answer.json()["warning"]
        assert answer.headers["warning"].startswith("199 teji")
        health = (await house.http.get("/health")).json()
        assert (health["status"], health["postgres"]["ok"]) == ("degraded", False)


async def test_an_expired_contract_that_only_postgres_knows_is_served(settings: Settings) -> None:
    await put_cold(settings, bar("NSE_FO|42", START))
    async with open_house(settings) as house:
        found = await told(house, instrument="NSE_FO|42")
        assert [one["ts"] for one in found["candles"]] == [START]


async def test_bars_that_were_trimmed_a_moment_ago_do_not_break_the_list(settings: Settings) -> None:
    async with open_house(settings) as house:
        await put_hot(house, bar(NIFTY, START), bar(NIFTY, START + MINUTE))
        await until(lambda: _stored(settings, 2))
        await house.bus.redis.xtrim(streams.candles(0), maxlen=1, approximate=False)
        assert [one["ts"] for one in (await told(house))["candles"]] == [START, START + MINUTE]


async def _stored(settings: Settings, rows: int) -> bool:
    async with postgres.open_pool(settings.postgres_url) as pool:
        return bool(await pool.fetchval("SELECT count(*) FROM bars") == rows)


# Commands


@asynccontextmanager
async def obedient(house: House, **answer: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """A worker that answers every command, and the list of those it saw."""
    seen: list[dict[str, Any]] = []

    async def work() -> None:
        last = "0"
        while True:
            for _, entries in await house.bus.redis.xread({streams.COMMANDS: last}, block=50):
                for identity, fields in entries:
                    last = identity.decode()
                    seen.append({name.decode(): value.decode() for name, value in fields.items()})
                    data = {"command": seen[-1]["id"], "shard": 0, "ok": True, **answer}
                    event = Event(kind=EventKind.REPLY, ts=1, worker="test", message="as you wish", data=data)
                    fields = {"kind": "reply", "data": event.model_dump_json()}
                    await house.bus.redis.xadd(streams.EVENTS, fields)

    task = asyncio.create_task(work())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=1)


async def test_a_command_is_written_and_answered_by_the_worker(settings: Settings) -> None:
    async with open_house(settings) as house, obedient(house, subscribed=[NIFTY]) as seen:
        answer = await house.http.post(f"{API}/feed/subscribe", json={"instruments": [NIFTY], "mode": "ltpc"})
        assert answer.status_code == 200
        assert answer.json()["data"] == {"ok": True, "subscribed": [NIFTY]}
        assert answer.json()["message"] == "as you wish"
        (command,) = seen
        assert (command["id"], command["kind"]) == (answer.json()["command"], "feed.subscribe")
        assert orjson.loads(command["data"]) == {"kind": "feed.subscribe", "instruments": [NIFTY], "mode": "ltpc"}
        assert command["by"] == "api:127.0.0.1"
        for path in ("connect", "disconnect"):
            assert (await house.http.post(f"{API}/feed/{path}")).status_code == 200
        assert (await house.http.post(f"{API}/feed/unsubscribe", json={"instruments": [NIFTY]})).status_code == 200
    assert [command["kind"].removeprefix("feed.") for command in seen] == [
        "subscribe",
        "connect",
        "disconnect",
        "unsubscribe",
    ]


async def test_a_refusal_of_the_worker_is_a_problem(settings: Settings) -> None:
    async with open_house(settings) as house, obedient(house, ok=False):
        answer = await house.http.post(f"{API}/feed/connect")
        assert answer.status_code == 409
        assert problem(answer)["detail"] == "as you wish"


async def test_a_command_without_an_answer_is_accepted_and_says_where_to_look(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "REPLY_S", 0.05)
    async with open_house(settings) as house:
        answer = await house.http.post(f"{API}/feed/connect")
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["look"]
        assert answer.json()["look"].startswith("/api/v1/stream/events?last_event_id=")
        assert await house.bus.redis.xlen(streams.COMMANDS) == 1


async def test_one_idempotency_key_is_one_command_and_one_answer(settings: Settings) -> None:
    async with open_house(settings) as house, obedient(house) as seen:
        body, key = {"instruments": [NIFTY]}, {"Idempotency-Key": "monday-1"}
        several = [house.http.post(f"{API}/feed/subscribe", json=body, headers=key) for _ in range(5)]
        answers = await asyncio.gather(*several)
        answers.append(await house.http.post(f"{API}/feed/subscribe", json=body, headers=key))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert len({answer.content for answer in answers}) == 1
        assert len(seen) == 1
        other = await house.http.post(f"{API}/feed/subscribe", json={"instruments": [CALL]}, headers=key)
        assert other.status_code == 422
        assert problem(other)["errors"][0]["field"] == "header.idempotency-key"
        again = await house.http.post(f"{API}/feed/subscribe", json=body, headers={"Idempotency-Key": "monday-2"})
        assert again.status_code == 200
        assert len(seen) == 2


async def test_a_key_whose_first_request_died_before_its_command_still_sends_it_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was written down, its process ended; whoever comes with the key finishes the work."""
    monkeypatch.setattr(commands, "REPLY_S", 0.05)
    key = {"Idempotency-Key": "monday-1"}
    async with open_house(settings) as house:
        sent = commands._send

        async def die(*_: object) -> None:
            raise SystemError("power cut")

        monkeypatch.setattr(commands, "_send", die)
        assert (await house.http.post(f"{API}/feed/connect", headers=key)).status_code == 500
        monkeypatch.setattr(commands, "_send", sent)
        first = await house.http.post(f"{API}/feed/connect", headers=key)
        second = await house.http.post(f"{API}/feed/connect", headers=key)
        assert (first.status_code, first.content) == (202, second.content)
        assert await house.bus.redis.xlen(streams.COMMANDS) == 1


async def test_only_pages_of_this_gateway_and_programs_here_may_ask_for_changes(settings: Settings) -> None:
    async with open_house(settings) as house, obedient(house) as seen:
        host = house.url.removeprefix("http://")
        good: list[dict[str, str]] = [
            {},
            {"Origin": house.url},
            {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
        ]
        bad = [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example"},
            {"Host": "evil.example", "Origin": "http://evil.example"},
            {"Host": f"{host}.evil.example"},
            {"Origin": "http://127.0.0.1:1"},
        ]
        for headers in good:
            assert (await house.http.post(f"{API}/feed/connect", headers=headers)).status_code == 200
        for headers in bad:
            answer = await house.http.post(f"{API}/feed/connect", headers=headers)
            assert (answer.status_code, headers) == (403, headers)
            assert problem(answer)["errors"][0]["field"] in ("header.host", "header.origin")
        assert len(seen) == len(good)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:8000", True),
        ("127.1.2.3", True),
        ("[::1]:8000", True),
        ("192.168.1.5:8000", True),
        ("192.168.1.6:8000", False),
        ("", False),
        ("localhost.evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1:80.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("[::1", False),
    ],
)
def test_a_host_is_ours_by_name_or_by_the_address_we_bind_to(host: str, ours: bool) -> None:
    assert is_ours(host, "192.168.1.5") is ours


# Health, pages, OpenAPI


async def test_health_is_ok_when_everything_is_there(settings: Settings) -> None:
    status = {"state": "live", "shard": 0, "venue": "sim", "connections": 1, "desired": 3, "seen": 3}
    async with open_house(settings) as house:
        event = Event(kind=EventKind.FEED, ts=7, worker="ingest", message="", data=status)
        await house.bus.redis.xadd(streams.EVENTS, {"kind": "feed", "data": event.model_dump_json()})
        for name in ("ingest", "aggregator", "gtt"):
            await lease.announce(house.bus, name, {"pid": 1, "started": 2, "metrics": "http://x/metrics"})

        async def ok() -> bool:
            return bool((await house.http.get("/health")).json()["status"] == "ok")

        await until(ok)
        health = (await house.http.get(f"{API}/health")).json()
        assert (health["feed"][0]["state"], health["feed"][0]["ts"], health["reasons"]) == ("live", 7, [])
        assert {worker["name"] for worker in health["workers"]} >= {"ingest", "aggregator", "cold"}
        assert health["redis"]["version"].startswith("6.2")
        assert health["instruments"]["loaded"] == len(universe())
        stale = event.model_copy(update={"data": {**status, "state": "stale", "reason": "no data for 15 s"}})
        await house.bus.redis.xadd(streams.EVENTS, {"kind": "feed", "data": stale.model_dump_json()})
        await until(lambda: _degraded(house, "the feed of shard 0 is stale: no data for 15 s"))


async def test_the_feed_names_every_instrument_that_it_lacks_and_health_says_so(settings: Settings) -> None:
    missing = {"never_seen": [f"NSE_FO|{n}" for n in range(12)], "silent": [NIFTY], "no_room": [], "ts": 9}
    status = FeedStatus(
        state=FeedState.LIVE,
        shard=0,
        venue="sim",
        connections=1,
        desired=20,
        seen=8,
        reason="the venue never sent 12",
        never_seen=Some.of(missing["never_seen"]),  # type: ignore[arg-type]
    )
    async with open_house(settings) as house:
        (nothing,) = (await house.http.get(f"{API}/feed")).json()
        assert nothing == {"shard": 0, "status": None, "missing": None}
        event = Event(kind=EventKind.FEED, ts=7, worker="ingest", message="", data=status.model_dump(mode="json"))
        await house.bus.redis.hset(streams.missing(0), mapping={k: orjson.dumps(v) for k, v in missing.items()})
        await house.bus.redis.xadd(streams.EVENTS, {"kind": "feed", "data": event.model_dump_json()})
        await until(lambda: _degraded(house, "the feed of shard 0 lacks instruments: the venue never sent 12"))
        (told,) = (await house.http.get(f"{API}/feed")).json()
        assert told["missing"] == missing
        assert told["status"]["never_seen"] == {"count": 12, "first": sorted(missing["never_seen"])[:10]}  # type: ignore[call-overload]


async def _degraded(house: House, reason: str) -> bool:
    health = (await house.http.get("/health")).json()
    return health["status"] == "degraded" and reason in health["reasons"]


async def test_health_is_down_without_redis_and_everything_else_says_when_to_come_back(
    tmp_path: Path, postgres_url: str
) -> None:
    home = settings_in(tmp_path / "redis")
    with embedded.servers(home, postgres=False) as servers:
        settings = settings_in(tmp_path / "home", redis_url=servers.redis_url, database_url=postgres_url)
        context = open_house(settings)
        house = await context.__aenter__()
    health = await house.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "down")
    for answer in (
        await house.http.get(f"{API}/quotes?instruments={NIFTY}"),
        await house.http.post(f"{API}/feed/connect"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert problem(answer)["type"] == "urn:teji:problem:unavailable"
    with embedded.servers(home, postgres=False):
        await until(lambda: _answers(house))
        await context.__aexit__(None, None, None)


async def _answers(house: House) -> bool:
    return (await house.http.get("/health")).status_code == 200


async def test_the_openapi_document_is_valid_and_complete(settings: Settings) -> None:
    async with open_house(settings) as house:
        document = (await house.http.get(f"{API}/openapi.json")).json()
        page = await house.http.get("/docs")
    assert document["openapi"].startswith("3.1")
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert name
    text = orjson.dumps(document).decode()
    refs = {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}
    assert refs <= document["components"]["schemas"].keys()
    expected = {
        "health",
        "instruments",
        "instruments/{key}",
        "instruments/{key}/expiries",
        "chain",
        "chain/{underlying}",
        "chain/{underlying}/history",
        "candles",
        "quotes",
        "feed",
    }
    expected |= {f"feed/{name}" for name in ("connect", "disconnect", "subscribe", "unsubscribe")}
    expected |= {f"stream/{name}" for name in ("live", "candles", "orders", "signals", "events")}
    assert {f"{API}/{name}" for name in expected} <= document["paths"].keys()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            assert operation["operationId"], path
            assert "200" in operation["responses"]
            others = {code: answer for code, answer in operation["responses"].items() if code >= "400"}
            assert others, (path, method)
            for code, answer in others.items():
                if not (path.endswith("/health") and code == "503"):
                    assert "application/problem+json" in answer["content"], (path, method, code)
            assert f"{method.upper()} {path}" in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "http://" not in page.text


async def test_answers_have_the_shape_that_openapi_promises(settings: Settings) -> None:
    async with open_house(settings) as house:
        await put_hot(house, bar(NIFTY, START))
        document = (await house.http.get(f"{API}/openapi.json")).json()
        for path, template in {
            f"/candles?instrument={NIFTY}": "/candles",
            "/instruments": "/instruments",
            f"/chain?underlying={NIFTY}": "/chain",
            f"/instruments/{CALL.replace('|', '%7C')}": "/instruments/{key}",
            f"/instruments/{NIFTY.replace('|', '%7C')}/expiries": "/instruments/{key}/expiries",
            "/health": "/health",
        }.items():
            operation = document["paths"][API + template]["get"]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            whole = {**schema, "components": document["components"]}
            jsonschema.Draft202012Validator(whole).validate((await house.http.get(API + path)).json())


async def test_pages_carry_the_security_headers_and_streams_are_left_alone(settings: Settings) -> None:
    async with open_house(settings) as house:
        for path in ("/docs", f"{API}/instruments", "/nowhere", "/"):
            headers = (await house.http.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "no-" in headers["cache-control"]
        if (app.WEB / "index.html").is_file():
            assert (await house.http.get("/")).headers["content-type"].startswith("text/html")
        assert (await house.http.get("/static/../worker.py")).status_code == 404
        assert (await house.http.get("/static/%2e%2e/worker.py")).status_code == 404


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with listen(settings_in(tmp_path)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=rf"^The gateway cannot listen on 127.0.0.1:{port} .*TEJI_PORT.*\.$"):
            listen(settings_in(tmp_path, teji_port=port))
    with pytest.raises(Misconfigured, match="TEJI_HOST"):
        listen(settings_in(tmp_path, teji_host="no.such.host.invalid"))


async def test_two_shards_both_answer_and_their_lists_are_one(settings: Settings) -> None:
    two = settings.model_copy(update={"teji_shards": 2})
    async with open_house(two) as house:

        async def answer(bus: Bus) -> None:
            await until(lambda: bus.redis.xlen(streams.COMMANDS))
            ((_, fields),) = await bus.redis.xrange(streams.COMMANDS)
            for shard, key in enumerate((NIFTY, CALL)):
                data = {"command": fields[b"id"].decode(), "shard": shard, "ok": True, "subscribed": [key], "count": 1}
                event = Event(kind=EventKind.REPLY, ts=1, worker="test", message="", data=data)
                await bus.redis.xadd(streams.EVENTS, {"kind": "reply", "data": event.model_dump_json()})

        body = {"instruments": [NIFTY, CALL]}
        found, _ = await asyncio.gather(house.http.post(f"{API}/feed/subscribe", json=body), answer(house.bus))
        assert found.json()["data"] == {"ok": True, "subscribed": [NIFTY, CALL], "count": 2}
