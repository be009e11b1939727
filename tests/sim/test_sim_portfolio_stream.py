"""The portfolio stream: who hears what, and what is lost, late, doubled or overtaken."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sim.faults import FaultRequest
from tests.sim.ordertools import PLACED, body, market_body, place, refusal
from tests.sim.simtools import served, trader

AUTHORIZE = "/v2/feed/portfolio-stream-feed/authorize"
ALL = "order,position,holding,gtt_order"
_PATIENCE_S = 10


async def address(client: httpx.AsyncClient, types: str | None = ALL) -> str:
    reply = await client.get(AUTHORIZE, params={"update_types": types} if types else {})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["data"]["authorized_redirect_uri"])


class Listener:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE_S):
            text = await self.socket.recv()
        assert isinstance(text, str), "the venue sends text frames"
        return dict(orjson.loads(text))

    async def words(self, count: int) -> list[str]:
        """The statuses told next, and the types of what is no order."""
        told = [await self.next() for _ in range(count)]
        return [each.get("status", each["update_type"]) for each in told]


@contextlib.asynccontextmanager
async def listening(client: httpx.AsyncClient, types: str | None = ALL) -> AsyncIterator[Listener]:
    async with connect(await address(client, types), max_queue=None, proxy=None) as socket:
        yield Listener(socket)


async def test_each_step_of_an_order_is_told_with_all_its_fields() -> None:
    async with served() as exchange, trader(exchange) as client, listening(client) as stream:
        order_id = await place(client, body(tag="x"))
        told = [await stream.next() for _ in PLACED]
        assert [each["status"] for each in told] == PLACED
        assert {each["update_type"] for each in told} == {"order"}
        assert [each["exchange_order_id"] for each in told[:3]] == [""] * 3
        last = told[-1]
        assert (last["order_id"], last["tag"], last["placed_by"], last["is_amo"]) == (order_id, "x", "SIM001", False)
        await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert await stream.words(2) == ["cancel pending", "cancelled"]


async def test_fills_are_told_with_the_position_that_they_make() -> None:
    async with served() as exchange, trader(exchange) as client, listening(client) as stream:
        await place(client, market_body())
        assert await stream.words(5) == [*PLACED, "complete"]
        position = await stream.next()
        assert (position["update_type"], position["quantity"], position["exchange"]) == ("position", 10, "NSE_EQ")
        assert "pnl" not in position


async def test_only_the_types_asked_for_come_and_orders_by_default() -> None:
    async with served() as exchange, trader(exchange) as client:
        async with listening(client, None) as orders, listening(client, "position") as held:
            await place(client, market_body())
            assert await orders.words(5) == [*PLACED, "complete"]
            assert await held.words(1) == ["position"]
            exchange.portfolio.publish("gtt_order", {"gtt_order_id": "GTT-1"})
            await place(client, body())
            assert await orders.words(1) == PLACED[:1]
        assert refusal(await client.get(AUTHORIZE, params={"update_types": "order,moon"}))[1] == "UDAPI100036"


async def test_nothing_is_told_again_and_an_address_works_once() -> None:
    async with served() as exchange, trader(exchange) as client:
        await place(client, body())
        once = await address(client)
        async with connect(once, proxy=None) as socket:
            await place(client, body(tag="after"))
            assert (await Listener(socket).next())["tag"] == "after"
        with pytest.raises(InvalidStatus) as caught:
            await connect(once, proxy=None)
        assert caught.value.response.status_code == 403
        assert len(exchange.trading.ledger.ever) == 2


async def test_the_direct_address_redirects() -> None:
    async with served() as exchange, trader(exchange) as client:
        path = "/v2/feed/portfolio-stream-feed?update_types=order%2Cposition"
        reply = await client.get(path)
        assert reply.status_code == 302
        assert "/upstox-developer-api/order-updates/feed?requestId=" in reply.headers["location"]
        url = exchange.url.replace("http", "ws") + path
        headers = {"Authorization": client.headers["Authorization"]}
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await place(client, body())
            assert await Listener(socket).words(4) == PLACED
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, additional_headers={"Authorization": "Bearer no"}, proxy=None)
        assert caught.value.response.status_code == 401


async def test_messages_are_lost_doubled_late_and_overtaken() -> None:
    async with served() as exchange, trader(exchange) as client, listening(client, "order") as stream:
        exchange.order_fault(FaultRequest(updates_lost=1.0))
        await place(client, body(tag="lost"))
        exchange.order_fault(FaultRequest(updates_lost=0, updates_twice=1.0))
        await place(client, body(tag="twice"))
        assert await stream.words(8) == [each for each in PLACED for _ in range(2)]
        exchange.order_fault(FaultRequest(updates_twice=0, updates_reordered=1.0))
        await place(client, body(tag="swapped"))
        assert await stream.words(4) == [PLACED[1], PLACED[0], PLACED[3], PLACED[2]]
        exchange.order_fault(FaultRequest(updates_reordered=0, updates_late_ms=5_000))
        await place(client, body(tag="late"))
        exchange.order_fault(FaultRequest(updates_late_ms=0))
        await place(client, body(tag="in time"))
        assert [(await stream.next())["tag"] for _ in PLACED] == ["in time"] * 4
        await exchange.advance(6_000)
        assert [(await stream.next())["tag"] for _ in PLACED] == ["late"] * 4


async def test_a_message_that_nothing_overtakes_comes_by_itself() -> None:
    async with served() as exchange, trader(exchange) as client, listening(client, "order") as stream:
        exchange.order_fault(FaultRequest(updates_reordered=1.0))
        exchange.portfolio.publish("order", {"status": "alone"})
        await exchange.advance(3_000)
        assert await stream.words(1) == ["alone"]


async def test_the_same_seed_loses_the_same_messages() -> None:
    async def heard() -> list[str]:
        async with served() as exchange, trader(exchange) as client, listening(client, "order") as stream:
            exchange.order_fault(FaultRequest(updates_lost=0.4, updates_twice=0.3))
            for _ in range(5):
                await place(client, body())
            exchange.order_fault(FaultRequest(updates_lost=0, updates_twice=0))
            exchange.portfolio.publish("order", {"status": "end"})
            words = []
            while (word := (await stream.words(1))[0]) != "end":
                words.append(word)
            return words

    first = await heard()
    assert first == await heard()
    assert len(first) != 20 or sorted(first) != sorted(PLACED * 5)


async def test_the_stream_is_down_while_rest_lives_and_comes_back() -> None:
    async with served() as exchange, trader(exchange) as client:
        async with listening(client) as stream:
            waiting = await address(client)
            exchange.order_fault(FaultRequest(updates_down=True))
            with pytest.raises(ConnectionClosed):
                await stream.next()
        with pytest.raises(InvalidStatus) as caught:
            await connect(waiting, proxy=None)
        assert caught.value.response.status_code == 503
        assert refusal(await client.get(AUTHORIZE))[0] == 503
        await place(client, body())
        exchange.order_fault(FaultRequest(updates_down=False))
        async with listening(client) as stream:
            await place(client, body(tag="back"))
            assert (await stream.next())["tag"] == "back"


async def test_a_dead_token_ends_the_stream() -> None:
    async with served() as exchange, trader(exchange) as client, listening(client) as stream:
        exchange.order_fault(FaultRequest(expire_tokens=True))
        with pytest.raises(ConnectionClosed) as caught:
            await stream.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000
        assert (await client.get(AUTHORIZE)).status_code == 401
