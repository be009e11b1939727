"""Failures on demand."""

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sim.exchange import Exchange
from sim.faults import FaultRequest
from tests.sim.simtools import NIFTY, feed, feed_address, keys_of, served, trader, visitor

AUTHORIZE = "/v3/feed/market-data-feed/authorize"


async def order(exchange: Exchange, **fault: Any) -> None:
    async with visitor(exchange) as client:
        reply = await client.post("/sim/faults", json=fault)
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_all_connections_can_be_dropped_with_a_code(code: int) -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as one, feed(client) as two:
        await order(exchange, drop=code)
        for opened in (one, two):
            with pytest.raises(ConnectionClosed) as caught:
                await opened.next()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code


async def test_all_connections_can_be_cut_without_a_close_frame() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await order(exchange, abort=True)
        with pytest.raises(ConnectionClosed) as caught:
            await opened.next()
        assert caught.value.rcvd is None


async def test_a_muted_feed_sends_nothing_and_still_answers_pings() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe(keys_of(exchange))
        sent = len(exchange.sent)
        await order(exchange, mute=True)
        await exchange.advance(5_000)
        assert len(exchange.sent) == sent
        async with asyncio.timeout(10):
            await (await opened.socket.ping())
        await order(exchange, mute=False)
        await exchange.advance(1_000)
        assert len(exchange.sent) > sent


async def test_a_frozen_feed_answers_no_ping() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe([NIFTY])
        await order(exchange, freeze=True)
        pong = asyncio.ensure_future(await opened.socket.ping())
        async with visitor(exchange) as other:  # a round trip to the same server, so the ping had its chance
            await other.get("/v2/market/holidays")
        assert not pong.done()
        await order(exchange, freeze=False)
        async with asyncio.timeout(10):
            await pong


@pytest.mark.parametrize(("status", "code"), [(401, "UDAPI100050"), (403, "UDAPI100058"), (429, "UDAPI10005")])
async def test_authorize_can_be_refused_so_many_times(status: int, code: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        await order(exchange, refuse_authorize=status, times=2)
        for _ in range(2):
            reply = await client.get(AUTHORIZE)
            assert (reply.status_code, reply.json()["errors"][0]["error_code"]) == (status, code)
        assert (await client.get(AUTHORIZE)).status_code == 200


async def test_the_edge_can_answer_with_its_html_page() -> None:
    async with served() as exchange, trader(exchange) as client:
        await order(exchange, refuse_authorize=403, html=True)
        reply = await client.get(AUTHORIZE)
        assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (403, "text/html")
        await order(exchange, refuse_rest=503)
        assert (await client.get("/v2/user/profile")).status_code == 503
        assert (await client.get("/v2/user/profile")).status_code == 200


async def test_authorize_may_succeed_and_the_handshake_fail() -> None:
    async with served() as exchange, trader(exchange) as client:
        await order(exchange, refuse_connect=403)
        with pytest.raises(InvalidStatus) as caught:
            await connect(await feed_address(client), proxy=None)
        assert caught.value.response.status_code == 403
        async with feed(client) as opened:
            await opened.subscribe([NIFTY])


async def test_a_fault_that_does_not_exist_is_refused() -> None:
    async with served() as exchange, visitor(exchange) as client:
        wrongs: list[Any] = [{"explode": True}, {"drop": 7}, {"times": 0}, []]
        for wrong in wrongs:
            assert (await client.post("/sim/faults", json=wrong)).status_code == 400


async def test_faults_are_for_this_machine_only() -> None:
    """Asked through the application itself, as if from elsewhere."""
    async with served() as exchange:
        assert exchange.app is not None
        transport = httpx.ASGITransport(app=exchange.app, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=exchange.url) as client:
            assert (await client.post("/sim/faults", json={"mute": True})).status_code == 403
        assert not exchange.faults.mute


async def test_a_test_can_order_faults_without_http() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        exchange.order_fault(FaultRequest(drop=1001))
        with pytest.raises(ConnectionClosed):
            await opened.next()
