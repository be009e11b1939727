"""REST, the stream of orders and the real order worker, on paper: from a click to the fill, and what is told of it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from bus.settings import Settings
from market.instruments import Universe
from market.sessions import trading_date
from tests.gateway.house import House, listening, running, until
from tests.gateway.test_rest import API, problem
from tests.gtt.fake import KEY, SHARE
from tests.gtt.test_worker import desk

ORDER: dict[str, Any] = {"instrument_token": KEY, "transaction_type": "BUY", "quantity": 10, "price": 101}
GTT: dict[str, Any] = {
    "type": "MULTIPLE",
    "quantity": 10,
    "product": "I",
    "instrument_token": KEY,
    "transaction_type": "BUY",
    "rules": [
        {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 105},
        {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 120},
        {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 95},
    ],
}


async def call(house: House, method: str, path: str, status: int = 200, **request: Any) -> Any:
    answer = await house.http.request(method, API + path, timeout=20, **request)
    assert answer.status_code == status, answer.text
    return answer.json()


async def priced(house: House) -> None:
    """The worker has the market's price."""

    async def is_open() -> bool:
        told = await house.http.post(f"{API}/orders/place", json={**ORDER, "price": 98}, timeout=20)
        return told.status_code == 200

    await until(is_open)
    await call(house, "DELETE", "/orders")


async def filled(house: House, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def is_complete() -> bool:
        found.update(await call(house, "GET", f"/orders/{order_id}"))
        return bool(found["status"] == "complete")

    await until(is_complete)
    return found


async def journalled(house: House, order: dict[str, Any]) -> None:
    """The journal's own reader comes to the same order as the worker's book."""
    days = {trading_date(order[name]) for name in ("created_ts", "ts")}
    told = [row for day in days for row in await call(house, "GET", f"/orders/?date={day}")]
    (row,) = [row for row in told if row["order_id"] == order["order_id"]]
    # Its last change is as old as the fact, or as what came of it.
    assert {**row, "ts": 0} == {**{name: order[name] for name in row}, "ts": 0}


async def test_from_a_click_to_the_fill_and_back(settings: Settings, tmp_path: Path) -> None:
    async with running(settings, Universe([SHARE])) as house, desk(settings, tmp_path):
        await until(lambda: _listed(house))
        await priced(house)
        async with listening(house, f"orders?instruments={KEY}") as client:
            placed = await call(house, "POST", "/orders/place", json=ORDER, headers={"Idempotency-Key": "one"})
            again = await call(house, "POST", "/orders/place", json=ORDER, headers={"Idempotency-Key": "one"})
            assert again == placed
            (order_id,) = placed["data"]["order_ids"]
            async with asyncio.timeout(10):
                while (update := await client.message()).event != "fill":
                    pass
            assert orjson.loads(update.data)["order_id"] == order_id
        order = await filled(house, order_id)
        assert order["history"], order
        assert [order["history"][0]["kind"], order["history"][-1]["kind"]] == ["approved", "filled"]
        assert order["charges"]["total"] > 0
        await journalled(house, order)
        (position,) = await call(house, "GET", "/positions?open=true")
        assert (position["quantity"], position["strategies"]) == (10, {"": 10})
        (fill,) = await call(house, "GET", f"/trades?order_id={order_id}")
        assert fill["quantity"] == 10
        closing = await call(house, "POST", "/positions/exit", json={"instrument_token": KEY})
        assert [row["instrument"] for row in closing["positions"]] == [KEY]
        await until(lambda: _flat(house))
        (pnl,) = await call(house, "GET", "/pnl?mode=paper")
        assert pnl["capital"] == float(settings.teji_capital)


async def test_what_it_refuses_and_does_not_know_and_a_gtt_from_place_to_cancel(
    settings: Settings, tmp_path: Path
) -> None:
    async with running(settings, Universe([SHARE])) as house, desk(settings, tmp_path):
        await until(lambda: _listed(house))
        await priced(house)
        for method, path, body in (
            ("DELETE", "/orders/cancel?order_id=tjnothing", None),
            ("PUT", "/orders/modify", {"order_id": "tjnothing", "price": 5}),
            ("DELETE", "/gtt/cancel", {"gtt_order_id": "GTT-nothing"}),
            ("PUT", "/gtt/modify", {"gtt_order_id": "GTT-nothing", "type": "MULTIPLE", "quantity": 10, **_rules()}),
        ):
            assert (await call(house, method, path, 404, json=body))["type"] == "urn:teji:problem:unknown-id"
        placed = await call(house, "POST", "/gtt/place", json=GTT)
        (gtt_id,) = placed["data"]["gtt_order_ids"]
        assert (placed["gtt"]["engine"], placed["gtt"]["live"]) == ("ours", True)
        changed = await call(
            house, "PUT", "/gtt/modify", json={"gtt_order_id": gtt_id, "type": "MULTIPLE", "quantity": 5, **_rules(106)}
        )
        assert (changed["gtt"]["quantity"], changed["gtt"]["rules"][0]["trigger_price"]) == (5, 106)
        await call(house, "POST", "/trading/halt", json={"why": "a test"})
        await until(lambda: _refuses(house, "halt", "a test"))  # a moment later, and within a second
        cancelled = await call(house, "DELETE", f"/gtt/cancel?gtt_order_id={gtt_id}")
        assert cancelled["gtt"]["live"] is False
        await call(house, "POST", "/trading/resume")
        assert (await call(house, "GET", f"/gtt/{gtt_id}"))["live"] is False
        moved = await call(house, "PUT", "/strategies/ema_cross", json={"mode": "live"})
        assert (moved["mode"], moved["effective"]) == ("live", "paper")
        assert problem(await house.http.put(f"{API}/strategies/ema_cross", json={"mode": "x"}))["status"] == 422
        assert [row["strategy"] for row in await call(house, "GET", "/strategies")] == ["ema_cross"]


def _rules(entry: float = 105) -> dict[str, Any]:
    return {"rules": [{**GTT["rules"][0], "trigger_price": entry}, *GTT["rules"][1:]]}


async def _flat(house: House) -> bool:
    return bool(await call(house, "GET", "/positions?open=true") == [])


async def _refuses(house: House, rule: str, why: str) -> bool:
    refused = await house.http.post(f"{API}/orders/place", json={**ORDER, "price": 98}, timeout=20)
    return refused.status_code == 409 and bool(refused.json()["rule"] == rule and why in refused.json()["detail"])


async def _listed(house: House) -> bool:
    return (await house.http.get(f"{API}/instruments")).status_code == 200
