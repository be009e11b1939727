"""The websocket: what is sent when, to whom, and what is ignored."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.protocol import Event

from proto import feed_pb2 as pb
from sim.auth import next_death_ms
from sim.exchange import Exchange
from sim.settings import Caps
from tests.sim.simtools import MINUTE, NIFTY, RELIANCE, feed, feed_address, keys_of, request, served, trader, visitor

OPEN: dict[str, Any] = {"max_size": None, "max_queue": None, "proxy": None}


async def refusal(url: str, **options: Any) -> int:
    """The status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, **{**OPEN, **options})
    return int(caught.value.response.status_code)


async def test_a_subscription_is_answered_by_a_snapshot_and_then_by_changes() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        snapshot = await opened.subscribe([NIFTY, RELIANCE])
        assert snapshot.type == pb.Type.initial_feed
        assert set(snapshot.feeds) == {NIFTY, RELIANCE}
        assert snapshot.currentTs == exchange.now_ms()
        await exchange.advance(1_000)
        frames = await opened.taken(3)
        assert all(each.type == pb.Type.live_feed for each in frames)
        assert [each.currentTs for each in frames] == [exchange.now_ms() - ago for ago in (700, 400, 100)]
        assert all(set(each.feeds) <= {NIFTY, RELIANCE} for each in frames)


async def test_a_frame_holds_only_what_changed() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        state = dict((await opened.subscribe(keys_of(exchange))).feeds)
        await exchange.advance(6_000)
        for frame in await opened.taken(20):
            assert 0 < len(frame.feeds) < len(state)
            assert all(frame.feeds[key] != state[key] for key in frame.feeds)
            state.update(frame.feeds)


async def test_a_text_frame_is_ignored() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.socket.send(request("sub", [RELIANCE], "full").decode())
        assert set((await opened.subscribe([NIFTY])).feeds) == {NIFTY}


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"{", b"[]", b"\xff\xfe", b'"sub"', b'{"method":"sub"}', b'{"method":"sub","data":{"instrumentKeys":"A"}}'],
)
async def test_nonsense_is_ignored(nonsense: bytes) -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.socket.send(nonsense)
        assert set((await opened.subscribe([NIFTY])).feeds) == {NIFTY}


async def test_unknown_keys_and_modes_are_dropped_in_silence() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.ask("sub", ["NSE_EQ|NOBODY"], "full")
        await opened.ask("sub", [RELIANCE], "everything")
        await opened.ask("sub", [RELIANCE], "full_d30")  # not on this plan
        assert set((await opened.subscribe([NIFTY, "NSE_FO|1"])).feeds) == {NIFTY}


async def test_keys_over_the_cap_never_arrive() -> None:
    caps = Caps(alone={"ltpc": 9, "option_greeks": 9, "full": 3, "full_d30": 9})
    async with served(caps=caps) as exchange, trader(exchange) as client, feed(client) as opened:
        keys = keys_of(exchange)[:10]
        assert set((await opened.subscribe(keys)).feeds) == set(keys[:3])
        await exchange.advance(3_000)
        frames = [pb.FeedResponse.FromString(sent.data) for sent in exchange.sent[2:]]
        assert set().union(*(each.feeds for each in frames)) <= set(keys[:3])


async def test_changing_the_mode_changes_the_block() -> None:
    async with served(plus_plan=True) as exchange, trader(exchange) as client, feed(client) as opened:
        first = await opened.subscribe([RELIANCE], "ltpc")
        assert first.feeds[RELIANCE].WhichOneof("FeedUnion") == "ltpc"
        await opened.ask("change_mode", [RELIANCE], "full_d30")
        wide = await opened.next()
        assert wide.feeds[RELIANCE].requestMode == pb.RequestMode.full_d30
        assert len(wide.feeds[RELIANCE].fullFeed.marketFF.marketLevel.bidAskQuote) == 30
        await exchange.advance(1_000)
        assert (await opened.next()).feeds[RELIANCE].requestMode == pb.RequestMode.full_d30


async def test_what_was_unsubscribed_is_silent() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe([RELIANCE, NIFTY])
        await opened.ask("unsub", [RELIANCE])
        await opened.subscribe([NIFTY])  # its answer tells that the request before was obeyed
        await exchange.advance(3_000)
        assert all(RELIANCE not in frame.feeds for frame in await opened.taken(10))


async def test_the_snapshot_of_a_closed_market_has_all_keys() -> None:
    async with (
        served(start="2026-11-21T12:00") as exchange,  # a Saturday
        trader(exchange) as client,
        feed(client) as opened,
    ):
        snapshot = await opened.subscribe(keys_of(exchange))
        assert set(snapshot.feeds) == set(keys_of(exchange))
        share = snapshot.feeds[RELIANCE].fullFeed.marketFF
        assert share.vtt > 0
        assert share.ltpc.ltt < exchange.now_ms() - 12 * 60 * MINUTE
        await exchange.advance(10 * MINUTE)
        assert len(exchange.sent) == 2, "a closed market sends nothing"


async def test_market_info_comes_again_when_a_segment_changes_phase() -> None:
    async with (
        served(start="2026-11-20T09:14:58") as exchange,
        trader(exchange) as client,
        feed(client),
    ):
        await exchange.advance(4_000)
        infos = [pb.FeedResponse.FromString(sent.data) for sent in exchange.sent]
        assert [each.type for each in infos] == [pb.Type.market_info] * 2
        before, after = (each.marketInfo.segmentStatus["NSE_EQ"] for each in infos)
        assert (before, after) == (pb.MarketStatus.PRE_OPEN_END, pb.MarketStatus.NORMAL_OPEN)
        assert infos[0].marketInfo.preOpenSessionStatus["NSE_EQ"].status == "PRE_OPEN_END"


async def test_the_direct_address_redirects_to_a_one_time_address() -> None:
    async with served() as exchange, trader(exchange) as client:
        token = client.headers["Authorization"]
        async with connect(exchange.feed_url, additional_headers={"Authorization": token}, **OPEN) as socket:
            first = pb.FeedResponse.FromString(await socket.recv())  # type: ignore[arg-type]
            assert first.type == pb.Type.market_info


async def test_a_one_time_address_works_once() -> None:
    async with served() as exchange, trader(exchange) as client:
        url = await feed_address(client)
        async with connect(url, **OPEN):
            pass
        assert await refusal(url) == 403


async def test_a_bad_token_is_401_everywhere() -> None:
    async with served() as exchange, visitor(exchange) as client:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Bearer a.b.c"}):
            reply = await client.get("/v3/feed/market-data-feed/authorize", headers=headers)
            assert reply.status_code == 401
            assert reply.json()["errors"][0]["error_code"] == "UDAPI100050"
            assert await refusal(exchange.feed_url, additional_headers=headers) == 401


@pytest.mark.parametrize(("plus_plan", "most"), [(False, 2), (True, 5)])
async def test_connections_over_the_limit_are_refused(plus_plan: bool, most: int) -> None:
    async with served(plus_plan=plus_plan) as exchange, trader(exchange) as client:
        sockets = [await connect(await feed_address(client), **OPEN) for _ in range(most)]
        assert await refusal(await feed_address(client)) == 403
        await sockets[0].close()
        await vanished(exchange, most - 1)
        async with connect(await feed_address(client), **OPEN):
            pass
        for socket in sockets:
            await socket.close()


async def vanished(exchange: Exchange, left: int) -> None:
    async with asyncio.timeout(10):
        while len(exchange.hub.connections) > left:  # noqa: ASYNC110 the exchange announces it to nobody
            await asyncio.sleep(0)


class CountsPings(ClientConnection):
    """The client's own answer to a ping is kept; it is only counted."""

    pings = 0
    twice = asyncio.Event()

    def process_event(self, event: Event) -> None:
        self.pings += getattr(event, "opcode", None) is Opcode.PING
        if self.pings == 2:
            self.twice.set()
        super().process_event(event)


async def test_the_server_pings() -> None:
    async with served(ping_s=0.05) as exchange, trader(exchange) as client:
        address = await feed_address(client)
        async with connect(address, **OPEN, ping_interval=None, create_connection=CountsPings) as socket:
            assert isinstance(socket, CountsPings)
            async with asyncio.timeout(10):
                await socket.twice.wait()


async def test_a_slow_client_gets_the_latest_state_and_memory_stays_bounded() -> None:
    """It stops reading; when it reads again it gets one frame per key, not everything that it missed."""
    async with served(instruments=300) as exchange, trader(exchange) as client, feed(client, max_queue=1) as opened:
        keys = keys_of(exchange)
        await opened.subscribe(keys)
        connection = exchange.hub.connections[1]
        while not connection.slow:
            await exchange.advance(3_000)
        sent = len(exchange.sent)
        await exchange.advance(30_000)
        assert len(exchange.sent) <= sent + 1
        assert len(connection.changed) <= len(keys)
        assert len(connection.outbox) == 0
        newest = exchange.market.vtt[exchange.market.listing.row_of[RELIANCE]]
        while True:
            frame = await opened.next()
            if RELIANCE in frame.feeds and frame.feeds[RELIANCE].fullFeed.marketFF.vtt == newest:
                break


async def test_a_token_s_death_closes_its_connections() -> None:
    async with (
        served(start="2026-11-20T03:29:00", token_death_close_code=4001) as exchange,
        trader(exchange) as client,
        feed(client) as opened,
    ):
        await exchange.advance(next_death_ms(exchange.now_ms()) - exchange.now_ms() + MINUTE)
        with pytest.raises(ConnectionClosed) as caught:
            await opened.next()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4001
        assert (await client.get("/v2/user/profile")).status_code == 401


async def test_subscriptions_outlive_the_night() -> None:
    """A connection that stays open over a day's end goes on with the new day's instruments."""
    async with (
        served(start="2026-11-19T23:59:50", always_open=True) as exchange,
        trader(exchange) as client,
        feed(client) as opened,
    ):
        keys = [NIFTY, RELIANCE]
        before = (await opened.subscribe(keys)).feeds[RELIANCE].fullFeed.marketFF
        await exchange.advance(12_000)
        frames = [pb.FeedResponse.FromString(sent.data) for sent in exchange.sent]
        after = [each.feeds[RELIANCE].fullFeed.marketFF for each in frames if RELIANCE in each.feeds][-1]
        assert after.vtt < before.vtt
        assert after.ltpc.ltt > before.ltpc.ltt
        assert abs(after.ltpc.cp / before.ltpc.ltp - 1) < 0.02


async def test_a_client_may_leave_at_any_moment() -> None:
    async with served() as exchange, trader(exchange) as client:
        async with feed(client) as opened:
            await opened.subscribe(keys_of(exchange))
            opened.socket.transport.abort()
            await exchange.advance(2_000)
        await vanished(exchange, 0)
        assert exchange.hub.connections == {}


async def test_a_client_that_asks_without_reading_and_leaves_harms_nobody() -> None:
    async with served(instruments=300) as exchange, trader(exchange) as client:
        async with feed(client, max_queue=1) as opened:
            for _ in range(400):
                await opened.ask("sub", keys_of(exchange), "full")
            opened.socket.transport.abort()
        await vanished(exchange, 0)
        async with feed(client) as another:
            assert (await another.subscribe([NIFTY])).feeds


async def test_the_authorize_reply_has_both_spellings() -> None:
    async with served() as exchange, trader(exchange) as client:
        data = (await client.get("/v3/feed/market-data-feed/authorize")).json()["data"]
        assert data["authorizedRedirectUri"] == data["authorized_redirect_uri"]
        assert data["authorized_redirect_uri"].startswith("ws://127.0.0.1:")


async def test_a_plain_get_of_the_direct_address_redirects_too() -> None:
    async with served() as exchange, trader(exchange) as client:
        reply = await client.get("/v3/feed/market-data-feed")
        assert reply.status_code == 302
        assert reply.headers["location"].startswith("ws://")
