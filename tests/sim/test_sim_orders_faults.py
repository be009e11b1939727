"""Orders on bad days: what a client is told, and what is true at the exchange."""

import asyncio
from typing import Any

import httpx
import pytest

from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.settings import RateLimits
from tests.sim.ordertools import body, details, history, market_body, option, place, positions, refusal
from tests.sim.simtools import RELIANCE, served, trader


def at_the_exchange(exchange: Exchange) -> list[tuple[str | None, str]]:
    """Tag and status of every order there."""
    return [(states[-1].tag, states[-1].status.value) for states in exchange.trading.ledger.ever.values()]


async def test_a_500_comes_after_acceptance_and_the_order_exists() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_500=1))
        reply = await client.post("/v3/order/place", json=body(tag="t1"))
        assert refusal(reply)[:2] == (500, "UDAPI100500")
        assert at_the_exchange(exchange) == [("t1", "open")]
        assert refusal(await client.post("/v3/order/place", json=body(quantity=0)))[0] == 400
        assert (await client.post("/v3/order/place", json=body(tag="t2"))).status_code == 200


async def test_a_lost_answer_leaves_the_order_and_an_unheard_request_leaves_nothing() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_lost=1))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v3/order/place", json=body(tag="lost"))
        assert at_the_exchange(exchange) == [("lost", "open")]
        exchange.order_fault(FaultRequest(order_unheard=1))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v3/order/place", json=body(tag="unheard"))
        assert at_the_exchange(exchange) == [("lost", "open")]
        order_id = await place(client, body(tag="heard"))
        exchange.order_fault(FaultRequest(order_lost=1))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert at_the_exchange(exchange) == [("lost", "open"), ("heard", "cancelled")]


async def test_a_late_request_is_done_although_the_client_has_hung_up() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_late_ms=150))
        arrived = asyncio.Event()
        exchange.trading.listen(lambda _: arrived.set())
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v3/order/place", json=body(tag="late"), timeout=0.03)
        assert (await client.get("/v2/order/history", params={"tag": "late"})).json()["data"] == []
        async with asyncio.timeout(10):
            await arrived.wait()
        assert at_the_exchange(exchange) == [("late", "open")]


async def test_a_slow_answer_comes_for_what_is_done_already() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_slow_ms=400))
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v3/order/place", json=body(tag="slow"), timeout=0.1)
        assert at_the_exchange(exchange) == [("slow", "open")]


async def test_an_order_may_be_on_its_way_for_a_while() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_pending_ms=2_000))
        slow, gone = await place(client, market_body()), await place(client, body())
        assert (await details(client, slow))["status"] == "open pending"
        change = {"order_id": slow, "order_type": "LIMIT", "validity": "DAY", "price": 1_390, "trigger_price": 0}
        await client.put("/v3/order/modify", json=change)
        assert (await history(client, slow))[-2:] == ["not modified", "open pending"]
        await client.delete("/v3/order/cancel", params={"order_id": gone})
        assert (await history(client, gone))[-2:] == ["cancel pending", "cancelled"]
        await exchange.advance(3_000)
        assert (await details(client, slow))["status"] == "complete"
        assert exchange.trading.ledger.live == {}


async def test_orders_are_turned_down_after_they_were_accepted() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.order_fault(FaultRequest(order_reject=1))
        order = await details(client, await place(client, body()))
        assert (order["status"], order["status_message"]) == ("rejected", "RMS: turned down on demand")
        order_id = await place(client, body())
        exchange.order_fault(FaultRequest(order_reject=2))
        change = {"order_id": order_id, "order_type": "LIMIT", "validity": "DAY", "price": 1_390, "trigger_price": 0}
        await client.put("/v3/order/modify", json=change)
        assert (await history(client, order_id))[-2:] == ["not modified", "open"]
        await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert (await history(client, order_id))[-2:] == ["not cancelled", "open"]
        await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert (await history(client, order_id))[-1] == "cancelled"


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "UDAPI10005"), (403, "UDAPI1154"), (423, "UDAPI100074"), (401, "UDAPI100050"), (503, "UDAPI100500")],
)
async def test_writes_are_refused_while_everything_else_works(status: int, code: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.script(f"refuse_orders {status} x2")
        await exchange.advance(1_000)
        for _ in range(2):
            assert refusal(await client.post("/v3/order/place", json=body()))[:2] == (status, code)
            assert (await client.get("/v2/order/retrieve-all")).status_code == 200
        assert (await client.post("/v3/order/place", json=body())).status_code == 200


async def test_rest_is_down_while_the_exchange_goes_on() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body())
        exchange.order_fault(FaultRequest(rest_down=True))
        for call in (client.get("/v2/order/retrieve-all"), client.post("/v3/order/place", json=body())):
            with pytest.raises(httpx.RemoteProtocolError):
                await call
        assert (await client.get("/sim/orders")).json()["data"][0]["order_id"] == order_id
        told = (await client.get("/sim/faults")).json()["data"]
        assert told["in_force"] == {"rest_down": True}
        await client.delete("/sim/faults")
        assert (await details(client, order_id))["status"] == "open"


async def test_an_order_fills_some_lots_at_a_time_or_not_at_all() -> None:
    async with served(funds=10**8) as exchange, trader(exchange) as client:
        contract = option(exchange)
        asked = market_body(instrument_token=contract.key, quantity=contract.lot_size * 8, market_protection=20)
        exchange.order_fault(FaultRequest(partial_fills=2))
        order_id = await place(client, asked)
        assert (await details(client, order_id))["filled_quantity"] == contract.lot_size * 2
        exchange.order_fault(FaultRequest(partial_fills=0, no_fills=True))
        await exchange.advance(30_000)
        order = await details(client, order_id)
        assert (order["status"], order["filled_quantity"]) == ("open", contract.lot_size * 2)
        exchange.order_fault(FaultRequest(no_fills=False))
        await exchange.advance(30_000)
        assert (await details(client, order_id))["status"] == "complete"
        assert (await positions(client))[contract.key, "I"]["quantity"] == contract.lot_size * 8


async def test_all_writes_share_three_windows_and_slices_count() -> None:
    limits = RateLimits(per_1_s=4, per_1_min=500, per_30_min=2000)
    async with (
        served(rate_limits=RateLimits(), order_rate_limits=limits, funds=10**9) as exchange,
        trader(exchange) as client,
    ):
        contract = option(exchange)
        sliced = body(instrument_token=contract.key, quantity=contract.freeze_quantity * 4, price=1.0, slice=True)
        sliced["quantity"] -= sliced["quantity"] % contract.lot_size
        assert refusal(await client.post("/v3/order/place", json=sliced))[:2] == (429, "UDAPI10005")
        assert at_the_exchange(exchange) == []
        order_id = await place(client, body())
        await client.delete("/v3/order/cancel", params={"order_id": order_id})
        await place(client, body())
        assert refusal(await client.post("/v3/order/place", json=body()))[0] == 429
        assert (await client.get("/v2/order/retrieve-all")).status_code == 200


async def test_orders_come_from_registered_addresses_and_algos_only() -> None:
    async with served(registered_ips=("10.1.2.3",)) as exchange, trader(exchange) as client:
        assert refusal(await client.post("/v3/order/place", json=body()))[:2] == (403, "UDAPI1154")
        assert (await client.get("/v2/order/retrieve-all")).status_code == 200
        assert exchange.trading.ledger.ever == {}
    async with served(algo_name="teji") as exchange, trader(exchange) as client:
        wrong = await client.post("/v3/order/place", json=body(), headers={"X-Algo-Name": "other"})
        assert refusal(wrong)[:2] == (400, "UDAPI1156")
        right = await client.post("/v3/order/place", json=body(), headers={"X-Algo-Name": "teji"})
        assert right.status_code == 200
        assert len(exchange.trading.ledger.ever) == 1


async def test_a_dead_token_and_the_kill_switch_stop_orders() -> None:
    async with served() as exchange, trader(exchange) as client:
        exchange.account.switch({"NSE_EQ": True}, exchange.now_ms())
        order = await details(client, await place(client, body()))
        assert (order["status"], order["status_message"]) == ("rejected", "The kill switch is on for NSE_EQ")
        exchange.order_fault(FaultRequest(expire_tokens=True))
        assert refusal(await client.post("/v3/order/place", json=body()))[:2] == (401, "UDAPI100050")


async def test_a_stop_that_comes_too_late_is_released_or_turned_down() -> None:
    late: dict[str, Any] = {"order_type": "SL", "price": 1_600, "trigger_price": 1_400}
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body(**late))
        assert (await history(client, order_id))[3:] == ["trigger pending", "open", "complete"]
        assert exchange.trading.portfolio.position(RELIANCE, "I") == 10
    async with served(late_stops="reject") as exchange, trader(exchange) as client:
        order = await details(client, await place(client, body(**late)))
        assert order["status"] == "rejected"
        assert "Trigger price" in order["status_message"]
