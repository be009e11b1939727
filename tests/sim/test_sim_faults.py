"""Failures on demand."""

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from proto import feed_pb2 as pb
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
        wrongs: list[Any] = [{"explode": True}, {"drop": 7}, {"times": -1}, {"refuse_rest": 200}, {"only": 0}, []]
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


# Lines and doors


async def test_one_connection_can_fail_and_the_other_live() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as one, feed(client) as two:
        await two.subscribe([NIFTY])
        await order(exchange, mute=True, only=2)
        before = len(exchange.sent)
        await exchange.advance(3_000)
        assert {frame.connection for frame in exchange.sent[before:]} <= {1}
        await order(exchange, abort=True, only=1)
        with pytest.raises(ConnectionClosed):
            await one.next()
        await order(exchange, mute=False)
        await exchange.advance(3_000)
        assert (await two.next()).feeds


async def test_a_frozen_line_leaves_new_ones_alone() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as old:
        await old.subscribe([NIFTY])
        await order(exchange, freeze=True)
        async with feed(client) as new:
            await new.subscribe([NIFTY])
            await exchange.advance(2_000)
            assert {frame.connection for frame in exchange.sent[-2:]} == {2}
            assert (await new.next()).feeds


async def test_without_a_network_lines_break_and_nobody_answers_but_the_faults_themselves() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        address = await feed_address(client)
        await order(exchange, offline=True)
        with pytest.raises(ConnectionClosed):
            await opened.next()
        with pytest.raises(httpx.HTTPError):
            await client.get(AUTHORIZE)
        with pytest.raises((OSError, InvalidMessage)):
            await connect(address, proxy=None)
        await order(exchange, offline=False)
        async with feed(client) as again:
            await again.subscribe([NIFTY])


async def test_a_refusal_lasts_until_it_is_ended() -> None:
    async with served() as exchange, trader(exchange) as client:
        await order(exchange, refuse_authorize=429, times=0)
        for _ in range(3):
            assert (await client.get(AUTHORIZE)).status_code == 429
        await order(exchange, refuse_authorize=0)
        assert (await client.get(AUTHORIZE)).status_code == 200


async def test_fewer_connections_can_be_allowed() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client):
        await order(exchange, connections=1)
        with pytest.raises(InvalidStatus):
            await connect(await feed_address(client), proxy=None)
        await order(exchange, connections=0)
        async with feed(client):
            pass


async def test_all_tokens_can_die_at_once_and_a_login_makes_a_new_one() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await order(exchange, expire_tokens=True)
        with pytest.raises(ConnectionClosed) as caught:
            await opened.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == exchange.settings.token_death_close_code
        assert (await client.get(AUTHORIZE)).status_code == 401
        async with trader(exchange) as again:
            assert (await again.get(AUTHORIZE)).status_code == 200


# Subscriptions and frames


async def test_subscriptions_are_accepted_in_part() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        keys = keys_of(exchange)
        await order(exchange, ignore=[keys[0], "NSE_EQ|*"], cap=5)
        accepted = set((await opened.subscribe(keys)).feeds)
        assert len(accepted) == 5
        assert keys[0] not in accepted
        assert not any(key.startswith("NSE_EQ|") for key in accepted)
        await order(exchange, ignore=[], cap=0)
        assert set((await opened.subscribe(keys)).feeds) == set(keys)


async def test_an_instrument_can_fall_silent() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe(keys_of(exchange))
        await order(exchange, quiet=[NIFTY])
        before = len(exchange.sent)
        await exchange.advance(3_000)
        told = {key for frame in exchange.sent[before:] for key in pb.FeedResponse.FromString(frame.data).feeds}
        assert told
        assert NIFTY not in told


async def test_frames_can_come_twice_in_the_wrong_order_and_with_another_time() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe(keys_of(exchange))

        async def stamps(ms: int, **fault: Any) -> list[int]:
            await order(exchange, **fault)
            before = len(exchange.sent)
            await exchange.advance(ms)
            await order(exchange, duplicate=False, reorder=False)
            times = [pb.FeedResponse.FromString(frame.data).currentTs for frame in exchange.sent[before:]]
            return [ts - exchange.now_ms() for ts in times]

        assert await stamps(900) == [-600, -300, 0]
        assert await stamps(600, duplicate=True) == [-300, -300, 0, 0]
        assert await stamps(1200, reorder=True) == [-600, -900, 0, -300]
        assert await stamps(600, skew_ms=5000) == [4700, 5000]
        assert await stamps(600, skew_ms=-5000) == [-5300, -5000]


async def test_partial_blocks_can_begin_and_end_at_any_time() -> None:
    """A reader that carries forward what is not sent has, block for block, what a reader of whole blocks has."""
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        keys = [key for key in keys_of(exchange) if key.startswith("NSE_FO|")]
        carried: dict[str, pb.MarketFullFeed] = {}
        sizes = []
        await opened.subscribe(keys)
        for partial in (True, False, True, True, False):
            await order(exchange, partial_blocks=partial)
            before = len(exchange.sent)
            await exchange.advance(3_000)
            sizes.append(sum(len(frame.data) for frame in exchange.sent[before:]))
        for frame in exchange.sent:
            for key, each in pb.FeedResponse.FromString(frame.data).feeds.items():
                body, known = each.fullFeed.marketFF, carried.setdefault(key, pb.MarketFullFeed())
                for name in ("ltpc", "marketLevel", "optionGreeks", "marketOHLC"):
                    if body.HasField(name):
                        getattr(known, name).CopyFrom(getattr(body, name))
        whole = await opened_again(client, keys)
        assert {key: known.ltpc for key, known in carried.items()} == {key: b.ltpc for key, b in whole.items()}
        assert {key: known.marketLevel for key, known in carried.items()} == {
            key: body.marketLevel for key, body in whole.items()
        }
        assert max(sizes[0], sizes[2], sizes[3]) < min(sizes[1], sizes[4])


async def opened_again(client: httpx.AsyncClient, keys: list[str]) -> dict[str, pb.MarketFullFeed]:
    async with feed(client) as opened:
        return {key: each.fullFeed.marketFF for key, each in (await opened.subscribe(keys)).feeds.items()}


# Timelines


async def test_a_timeline_runs_by_venue_time() -> None:
    script = "at 10:30:02 mute for 2s; after 6s drop 1011"
    async with served(fault=(script,)) as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe(keys_of(exchange))
        await exchange.advance(5_400)
        seconds = {(frame.ts_ms - exchange.now_ms() + 5_400) // 1_000 for frame in exchange.sent}
        assert seconds == {0, 1, 4, 5}
        await exchange.advance(900)
        with pytest.raises(ConnectionClosed) as caught:
            await opened.taken(100)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011


async def test_a_timeline_can_be_posted_looked_at_and_taken_back() -> None:
    async with served() as exchange, visitor(exchange) as client:
        reply = await client.post("/sim/faults", content="mute\nat 10:31 skew -5s for 1m")
        told = reply.json()["data"]
        assert told["in_force"] == {}  # the next step of the market begins it
        assert [each["at"][11:19] for each in told["waiting"]] == ["10:30:00", "10:31:00", "10:32:00"]
        assert told["waiting"][1]["fault"] == {"skew_ms": -5000}
        await exchange.advance(61_000)
        told = (await client.get("/sim/faults")).json()["data"]
        assert (told["in_force"], len(told["waiting"])) == ({"mute": True, "skew_ms": -5000}, 1)
        told = (await client.delete("/sim/faults")).json()["data"]
        assert (told["in_force"], told["waiting"]) == ({}, [])


async def test_a_timeline_that_cannot_be_read_is_refused_as_a_whole() -> None:
    async with served() as exchange, visitor(exchange) as client:
        reply = await client.post("/sim/faults", content="mute; explode for 3s")
        assert reply.status_code == 400
        assert "there is no fault `explode`" in reply.text
        assert not exchange.schedule.waiting()
