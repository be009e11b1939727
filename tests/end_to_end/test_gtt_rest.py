"""GTTs over REST with everything real behind it: what is wrong in a body gets no further than its answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from bus.life import Worker
from gateway import worker as gateway_worker
from tests.end_to_end.gtt_stack import Stack, stack, until

API = "/api/v1/gtt"
ENTRY = {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 200}
TARGET = {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 220}
STOP = {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 190, "trailing_gap": 5}


@asynccontextmanager
async def rest(here: Stack) -> AsyncIterator[httpx.AsyncClient]:
    listener = gateway_worker.listen(here.settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def run(worker: Worker, stop: asyncio.Event) -> None:
        await gateway_worker.run(worker, stop, listener=listener)

    here.start("gateway", run)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:

        async def knows() -> bool:
            return (await client.get("/api/v1/instruments")).status_code == 200

        await until(here, knows, "the gateway has the list of instruments")
        yield client


def wrong_bodies(good: dict[str, Any], own: dict[str, list[Any]]) -> list[tuple[dict[str, Any], str]]:
    """Each field missing, and wrong in each way; each field of each rule."""
    found = [({name: value for name, value in good.items() if name != left}, left) for left in good]
    wrong: dict[str, list[Any]] = {
        "type": [None, 5, "OCO", "single", ["SINGLE"]],
        "quantity": [None, 0, -25, 2.5, "25", True, 10**9, [1]],
        "rules": [None, [], {}, "ENTRY", [ENTRY], [ENTRY, ENTRY], [ENTRY, TARGET, STOP, STOP], [ENTRY, 5]],
        "extra": [1],
        **own,
    }
    found += [({**good, name: value}, name) for name, values in wrong.items() for value in values]
    of_rule: dict[str, list[Any]] = {
        "strategy": [None, "EXIT", 5], "trigger_type": [None, "NEAR", "ABOVE", 1],
        "trigger_price": [None, 0, -1, "high", True, 1e12, float("inf")], "trailing_gap": [0, -5, "x", 190, 1e12],
        "market_protection": [-2, 26, "x"], "price": [1],
    }  # fmt: skip
    for name, values in of_rule.items():
        found += [({**good, "rules": [ENTRY, TARGET, {**STOP, name: value}]}, f"rules.2.{name}") for value in values]
    return found


async def test_every_field_wrong_in_turn_is_named_and_nothing_is_written_or_sent(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    sim = {"instruments": 60}
    async with stack(redis_url, postgres_url, tmp_path / "home", sim=sim) as here, rest(here) as client:
        key = here.free[0].key
        good = {
            "type": "MULTIPLE", "quantity": here.free[0].lot_size, "product": "I", "instrument_token": key,
            "transaction_type": "BUY", "rules": [ENTRY, TARGET, STOP],
        }  # fmt: skip
        own: dict[str, list[Any]] = {
            "product": [None, "CNC", 1], "transaction_type": [None, "LONG", 1],
            "instrument_token": [None, "", "NIFTY", "NSE_FO|", "NSE_FO|0", 5], "mode": ["real"],
            "engine": [None, "theirs"], "strategy": ["a b", 5],
        }  # fmt: skip
        journal = await _facts(postgres_url)
        for body, field in wrong_bodies(good, own):
            await _refused(client, "POST", "place", body, field)
        change = {"gtt_order_id": "GTT-1", **{name: good[name] for name in ("type", "quantity", "rules")}}
        for body, field in wrong_bodies(change, {"gtt_order_id": [None, "", "1", "GTT-", "gtt-1", "GTT-a b", 5]}):
            await _refused(client, "PUT", "modify", body, field)
        for cancel in ({}, {"gtt_order_id": "1"}, {"gtt_order_id": None}, {"gtt_order_id": "GTT-1", "more": 1}):
            await _refused(client, "DELETE", "cancel", cancel, "gtt_order_id", "more")
        assert (await client.request("DELETE", f"{API}/cancel", json={"gtt_order_id": "GTT-none"})).status_code == 404
        assert (await client.put(f"{API}/modify", json=change)).status_code == 404
        assert (await client.get(f"{API}/GTT-none")).status_code == 404
        assert await _facts(postgres_url) - journal == {"commanded", "replied"}  # of the two unknown ids
        assert not here.market.gtts.ever
        assert not here.market.trading.ledger.today()
        await _once(client, here, good)


async def _once(client: httpx.AsyncClient, here: Stack, good: dict[str, Any]) -> None:
    """The same key with the same body is one GTT; with another body it is a mistake."""
    once = {"Idempotency-Key": "one"}
    await here.trade(good["instrument_token"], 198)
    await here.seen(good["instrument_token"], 198)
    first, again = [await client.post(f"{API}/place", json=good, headers=once) for _ in range(2)]
    assert (first.status_code, again.json()) == (200, first.json())
    other = await client.post(f"{API}/place", json={**good, "quantity": 2 * good["quantity"]}, headers=once)
    assert other.status_code == 422
    assert len(here.market.gtts.ever) == 1
    (gtt_id,) = first.json()["data"]["gtt_order_ids"]
    gone = await client.request("DELETE", f"{API}/cancel", json={"gtt_order_id": gtt_id})
    assert (gone.status_code, gone.json()["gtt"]["gtt_order_id"]) == (200, gtt_id)


async def _refused(client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any], *fields: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.request(method, f"{API}/{path}", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422, (body, answer.text)
    named = [error["field"] for error in answer.json()["errors"]]
    whole = [f"body.{field.partition('.')[0]}" for field in fields]
    assert any(name.startswith(tuple(whole)) for name in named), (body, named)
    if "." in fields[0]:
        assert named[0] in (f"body.{fields[0]}", whole[0]), (body, named)


async def _facts(postgres_url: str) -> set[str]:
    connection = await asyncpg.connect(postgres_url)
    try:
        return {row["kind"] for row in await connection.fetch("SELECT DISTINCT kind FROM journal")}
    finally:
        await connection.close()
