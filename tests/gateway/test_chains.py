"""Chains: stored once, found by time and expiry, told as series; and what a request may get wrong."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from bus import postgres
from bus.settings import Settings
from gateway import cold
from gateway.coldrows import CHAIN_VALUES, NotARow, chain_row
from schemas import streams
from schemas.chain import Chain, ChainModel, ChainOption, ChainStrike
from tests.conftest import settings_in
from tests.gateway.house import CALL, EXPIRY, NIFTY, SHARE, House, running, universe, until

MINUTE = 60_000
START = 1_795_576_500_000
NEXT = date(2031, 2, 27)
API = "/api/v1/chain"
PATH = f"{API}/NSE_INDEX%7CNifty%2050"


def chain(ts: int = START, rev: int = 0, expiry: date = EXPIRY, underlying: str = NIFTY, **more: Any) -> Chain:
    """A chain of one strike."""
    model: dict[str, Any] = dict.fromkeys(ChainModel.model_fields) | {"flag": "ok", "iv": 0.14}
    option: dict[str, Any] = dict.fromkeys(ChainOption.model_fields) | {"instrument": CALL, "model": model}
    strike: dict[str, Any] = dict.fromkeys(ChainStrike.model_fields)
    strike |= {"strike": 25_000.0, "call": option | {"covered": True, "ltp": 100.5}}
    whole: dict[str, Any] = dict.fromkeys(Chain.model_fields)
    whole |= {"underlying": underlying, "expiry": expiry, "ts": ts, "rev": rev, "complete": True, "silent_shards": []}
    whole |= {"uncovered": 0, "last_trade_ms": START * 2, "years": 0.1, "rate": 0.065, "forward_from": "parity"}
    whole |= {"forward_strikes": 5, "expected_move_factor": 0.85, "iv_days": 0, "strikes": [strike]}
    return Chain.model_validate(whole | more)


def fields(one: Chain) -> dict[Any, Any]:
    return {"underlying": one.underlying, "expiry": str(one.expiry), "ts": one.ts, "data": one.model_dump_json()}


async def put_cold(settings: Settings, *chains: Chain) -> int:
    async with postgres.open_pool(settings.postgres_url) as pool:
        await postgres.migrate(pool)
        return await cold.store_chains(pool, [chain_row({b"data": one.model_dump_json().encode()}) for one in chains])


@asynccontextmanager
async def open_house(settings: Settings, hot: Sequence[Chain] = ()) -> AsyncIterator[House]:
    async with running(settings, universe()) as house:
        for one in hot:
            await house.bus.redis.xadd(streams.chain(0), fields(one))

        async def ready() -> bool:
            answer = await house.http.get(PATH)
            listed = (await house.http.get("/api/v1/instruments")).status_code == 200
            seen = answer.status_code == 200 and answer.json()["ts"] >= max(one.ts for one in hot) if hot else True
            return listed and answer.status_code in (200, 404) and seen

        await until(ready)
        yield house


async def told(house: House, path: str = PATH, **params: Any) -> Any:
    answer = await house.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# The cold store


async def test_the_newest_revision_of_each_minute_is_stored_and_a_replay_changes_nothing(settings: Settings) -> None:
    some = [chain(rev=1, max_pain=24_500.0), chain(rev=0), chain(START + MINUTE), chain(expiry=NEXT)]
    assert await put_cold(settings, *some) == 3
    assert await put_cold(settings, *some) == 0
    assert await put_cold(settings, chain(rev=2, pcr_oi=1.25, call_volume=7)) == 1
    connection = await asyncpg.connect(settings.postgres_url)
    row = await connection.fetchrow("SELECT * FROM chains WHERE expiry = $1 AND ts = $2", EXPIRY, START)
    await connection.close()
    assert row is not None
    assert (row["rev"], row["max_pain"], row["pcr_oi"], row["call_volume"]) == (2, None, 1.25, 7.0)
    assert Chain.model_validate_json(row["data"]) == chain(rev=2, pcr_oi=1.25, call_volume=7)


async def test_every_measure_that_has_a_column_is_a_number_of_the_chain(postgres_url: str) -> None:
    async with postgres.open_pool(postgres_url) as pool:
        await postgres.migrate(pool)
        rows = await pool.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'chains'")
    columns = {row["column_name"] for row in rows}
    assert set(CHAIN_VALUES) <= columns & Chain.model_fields.keys()
    assert columns - set(CHAIN_VALUES) == {"underlying", "expiry", "ts", "rev", "complete", "data"}


BAD: dict[str, dict[bytes, bytes]] = {
    "no data": {},
    "no JSON": {b"data": b"{"},
    "no chain": {b"data": b"{}"},
    "a time before all": {b"data": chain(-1).model_dump_json().encode()},
    "a number that is none": {b"data": chain().model_dump_json().replace('"gex":null', '"gex":NaN').encode()},
    "a NUL in a text": {b"data": chain().model_dump_json().replace('"flag":"ok"', '"flag":"\\u0000"').encode()},
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_be_no_row_says_why(name: str) -> None:
    with pytest.raises(NotARow, match=r".+"):
        chain_row(BAD[name])


async def test_chains_of_the_stream_reach_postgres_and_bad_ones_are_set_aside(settings: Settings) -> None:
    async with open_house(settings, [chain()]) as house:
        await house.bus.redis.xadd(streams.chain(0), {"underlying": NIFTY, "expiry": "x", "ts": 1, "data": "{}"})
        await house.bus.redis.xadd(streams.chain(0), fields(chain(START + MINUTE)))

        async def stored() -> bool:
            connection = await asyncpg.connect(settings.postgres_url)
            try:
                return bool(await connection.fetchval("SELECT count(*) FROM chains") == 2)
            except asyncpg.UndefinedTableError:
                return False
            finally:
                await connection.close()

        async def set_aside() -> bool:
            return int(await house.bus.redis.xlen(streams.dead(streams.chain(0)))) == 1

        await until(stored)
        await until(set_aside)
        assert (await told(house))["ts"] == START + MINUTE


# One chain


async def test_the_newest_chain_is_told_and_older_ones_as_of_a_time(settings: Settings) -> None:
    await put_cold(settings, chain(), chain(START + MINUTE), chain(START, expiry=NEXT))
    hot = [chain(START + 2 * MINUTE), chain(START + 2 * MINUTE, rev=1), chain(START + 2 * MINUTE, expiry=NEXT)]
    async with open_house(settings, hot) as house:
        newest = await told(house)
        assert Chain.model_validate(newest) == hot[1]
        assert (await told(house, expiry=str(NEXT)))["expiry"] == str(NEXT)
        for at, ts in ((START + MINUTE, START), (START + 3 * MINUTE - 1, START + MINUTE), (START + 3 * MINUTE, None)):
            assert (await told(house, at=at))["ts"] == (ts or START + 2 * MINUTE)
        assert (await told(house, at="2026-11-25T08:46+05:30"))["ts"] == START


async def test_a_chain_that_one_has_already_is_not_sent_again(settings: Settings) -> None:
    async with open_house(settings, [chain()]) as house:
        first = await house.http.get(PATH)
        tag = {"If-None-Match": first.headers["etag"]}
        again = await house.http.get(PATH, headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        await house.bus.redis.xadd(streams.chain(0), fields(chain(rev=1)))

        async def changed() -> bool:
            return (await house.http.get(PATH, headers=tag)).status_code == 200

        await until(changed)


async def test_an_expiry_that_is_over_is_not_the_nearest(settings: Settings) -> None:
    over = date(2026, 11, 25)
    await put_cold(settings, chain(START, expiry=over), chain(START + 20 * MINUTE))
    async with open_house(settings) as house:
        assert (await told(house))["expiry"] == str(EXPIRY)
        assert (await told(house, at=START + 2 * MINUTE))["expiry"] == str(over)
        assert (await told(house, expiry=str(over)))["ts"] == START


# Series


async def test_series_come_by_pages_and_with_the_newest_minute(settings: Settings) -> None:
    await put_cold(settings, *(chain(START + n * MINUTE, pcr_oi=n / 10) for n in range(9)), chain(expiry=NEXT))
    async with open_house(settings, [chain(START + 9 * MINUTE, pcr_oi=0.9)]) as house:
        path = f"{PATH}/history"
        everything = await told(house, path, fields="pcr_oi, max_pain")
        assert everything["fields"] == ["pcr_oi", "max_pain"]
        stamps = [START + n * MINUTE for n in range(10)]
        expected = [{"ts": ts, "complete": True, "pcr_oi": n / 10, "max_pain": None} for n, ts in enumerate(stamps)]
        assert everything["points"] == expected
        forward: list[int] = []
        start: int | None = START
        while start is not None:
            page = await told(house, path, limit=4, **{"from": start})
            forward += [one["ts"] for one in page["points"]]
            start = page["next"]
        backward: list[int] = []
        end: int | None = START + 10 * MINUTE
        while end is not None:
            page = await told(house, path, limit=4, to=end)
            backward = [one["ts"] for one in page["points"]] + backward
            end = page["next"]
        assert forward == backward == stamps


WRONG = [
    (f"{API}/NSE_EQ%7CNOTHING", 404, "path.underlying"),
    (f"{API}/NSE_EQ%7CINE002A01018", 404, "path.underlying"),
    (f"{PATH}?expiry=soon", 422, "query.expiry"),
    (f"{PATH}?expiry=2031-01-29", 404, "query.expiry"),
    (f"{PATH}?at=yesterday", 422, "query.at"),
    (f"{PATH}?at=2001-01-01", 404, "query.at"),
    (f"{PATH}/history?fields=", 422, "query.fields"),
    (f"{PATH}/history?fields=pcr_oi,data", 422, "query.fields"),
    (f"{PATH}/history?limit=0", 422, "query.limit"),
    (f"{PATH}/history?from=2026-01-02&to=2026-01-01", 422, "query.to"),
    (f"{API}/NSE_EQ%7CNOTHING/history", 404, "path.underlying"),
]


async def test_a_wrong_request_is_a_problem_that_names_the_field(settings: Settings) -> None:
    async with open_house(settings, [chain()]) as house:

        async def migrated() -> bool:
            return (await house.http.get(f"{PATH}/history")).status_code == 200

        await until(migrated)
        for path, status, field in WRONG:
            answer = await house.http.get(path)
            assert (answer.status_code, path) == (status, path)
            assert answer.json()["errors"][0]["field"] == field, path
        unsubscribed = (await house.http.get(WRONG[1][0])).json()
        assert SHARE in unsubscribed["detail"]
        assert "have to be subscribed" in unsubscribed["detail"]


async def test_while_postgres_is_away_the_newest_chain_is_served(redis_url: str, tmp_path: Path) -> None:
    gone = settings_in(tmp_path / "home", redis_url=redis_url, database_url="postgresql://nobody@127.0.0.1:1/none")
    async with open_house(gone, [chain()]) as house:
        assert (await told(house))["ts"] == START
        answer: httpx.Response = await house.http.get(f"{PATH}/history")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:teji:problem:unavailable")


def test_the_helper_makes_chains_of_the_schema() -> None:
    assert orjson.loads(chain().model_dump_json())["strikes"][0]["call"]["model"]["iv"] == 0.14
