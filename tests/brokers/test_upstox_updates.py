"""The portfolio stream: at the simulated exchange, and from a server that says what no venue should."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from brokers.upstox import updates as stream
from brokers.upstox.auth import TokenStore
from brokers.upstox.orders import UpstoxOrders
from brokers.upstox.rest import READ_BUDGET, Budget, Rest, http_client
from brokers.upstox.updates import Updates
from brokers.venue import CONNECTED, Connected, Disconnected, Update, VenueGtt, VenueOrder, VenuePosition
from bus import clock
from bus.settings import Settings
from schemas.gtt import Leg, RuleStatus, TriggerType
from schemas.orders import OrderStatus
from sim.faults import FaultRequest
from tests.brokers.scripted import Answer, Scripted, scripted, success
from tests.brokers.test_upstox_orders_parse import row
from tests.brokers.upstox_venue import log_in, market_order, new_gtt, new_order, rule, settings_at, trading
from tests.conftest import settings_in
from tests.sim.simtools import RELIANCE, served

AUTHORIZE = "/v2/feed/portfolio-stream-feed/authorize"


async def after(updates: AsyncIterator[Update], *kinds: type) -> Update:
    """The next update of one of these kinds."""
    async with asyncio.timeout(10):
        async for update in updates:
            if isinstance(update, kinds):
                return update
    raise AssertionError("the updates have ended")


async def test_every_step_of_an_order_is_told_and_what_follows_from_it(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, _), venue.updates() as updates:
        assert await anext(updates) == CONNECTED
        venue_id = await venue.place(market_order())
        words: list[str] = []
        while "complete" not in words:
            update = await after(updates, VenueOrder)
            assert isinstance(update, VenueOrder)
            assert (update.venue_order_id, update.tag) == (venue_id, "tj0000000000000001")
            words.append(update.words)
        assert words[0] == "put order req received"
        position = await after(updates, VenuePosition)
        assert isinstance(position, VenuePosition)
        assert (position.instrument, position.quantity) == (RELIANCE, 10)

        gtt_id = await venue.place_gtt(new_gtt(rule(Leg.ENTRY, "1400", TriggerType.BELOW)))
        gtt = await after(updates, VenueGtt)
        assert isinstance(gtt, VenueGtt)
        assert (gtt.venue_gtt_id, gtt.rules[0].status) == (gtt_id, RuleStatus.SCHEDULED)


async def test_a_stream_that_breaks_says_so_and_is_up_again(tmp_path: Path) -> None:
    async with trading(tmp_path) as (venue, exchange), venue.updates() as updates:
        assert await anext(updates) == CONNECTED
        exchange.order_fault(FaultRequest(updates_down=True))
        down = await after(updates, Disconnected)
        assert isinstance(down, Disconnected)
        assert not down.needs_login
        await venue.place(new_order(order_id="tj1"))  # REST lives; nobody is told
        exchange.order_fault(FaultRequest(updates_down=False))
        update = await after(updates, Connected, VenueOrder)
        assert update == CONNECTED
        await venue.place(new_order(order_id="tj2"))
        update = await after(updates, VenueOrder)
        assert isinstance(update, VenueOrder)
        assert update.tag == "tj2"


async def test_a_dead_token_ends_the_stream_until_there_is_a_login(tmp_path: Path) -> None:
    async with served() as exchange:
        settings = settings_at(exchange, tmp_path)
        tokens = TokenStore(settings)
        async with UpstoxOrders.open(settings, tokens) as venue, venue.updates() as updates:
            down = await anext(updates)
            assert isinstance(down, Disconnected)
            assert down.needs_login
            log_in(exchange, settings)
            assert await anext(updates) == CONNECTED
            exchange.order_fault(FaultRequest(expire_tokens=True))
            while not down.needs_login or tokens.current() is not None:
                told = await after(updates, Disconnected)
                assert isinstance(told, Disconnected)
                down = told
            log_in(exchange, settings)
            assert await after(updates, Connected) == CONNECTED
            await venue.place(new_order())
            update = await after(updates, VenueOrder)
            assert isinstance(update, VenueOrder)
            assert update.status is OrderStatus.IN_FLIGHT


# A server of ours


class Venue:
    """Authorizes by script; each connection sends its frames, then closes or hangs."""

    def __init__(self, rest: Scripted, settings: Settings, tokens: TokenStore) -> None:
        self.rest = rest
        self.settings = settings
        self.tokens = tokens
        self.frames: list[list[str | bytes]] = []
        self.connections = 0
        self.mute = False
        self.over = asyncio.Event()

    async def serve(self, socket: ServerConnection) -> None:
        self.connections += 1
        for frame in self.frames.pop(0) if self.frames else []:
            await socket.send(frame)
        if self.mute:
            socket.transport.pause_reading()  # half-open: it neither reads nor answers
            await self.over.wait()
        if not self.frames:
            await socket.wait_closed()


@contextlib.asynccontextmanager
async def listening(home: Path) -> AsyncIterator[tuple[Venue, Updates]]:
    async with scripted() as rest, http_client() as client:
        settings = settings_in(home, upstox_api_url=rest.url, upstox_access_token="given", teji_feed_ping_s=0.15)
        tokens = TokenStore(settings)
        venue = Venue(rest, settings, tokens)
        async with serve(venue.serve, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1) as server:
            port = server.sockets[0].getsockname()[1]
            rest.on(AUTHORIZE, success({"authorized_redirect_uri": f"ws://127.0.0.1:{port}/once?code=hush"}))
            budget = Budget(READ_BUDGET, clock.monotonic_s)
            try:
                yield venue, Updates(Rest(client, rest.url, tokens.current, budget), tokens, settings, Random(7))
            finally:
                venue.over.set()


async def test_what_cannot_be_read_is_passed_over_and_counted(tmp_path: Path) -> None:
    bad: list[str | bytes] = [b"\xff\xfe", "no json", "{}", "[1]", "7", '{"update_type":"order"}', "null"]
    good = orjson.dumps(row()).decode()
    both = f"[{good},{good}]"
    async with listening(tmp_path) as (venue, updates):
        venue.frames = [[*bad, good, '{"update_type":"holding"}', both]]
        async with updates.open() as told:
            assert await anext(told) == CONNECTED
            found = [await anext(told) for _ in range(3)]
    assert all(isinstance(update, VenueOrder) for update in found)
    assert updates.unreadable == len(bad)


async def test_each_connection_asks_for_its_own_address_and_for_all_types(tmp_path: Path) -> None:
    async with listening(tmp_path) as (venue, updates):
        venue.frames = [[], [], []]
        async with updates.open() as told:
            for _ in range(2):
                assert await anext(told) == CONNECTED
                down = await anext(told)
                assert isinstance(down, Disconnected)
                assert "closed" in down.reason
                assert "hush" not in down.reason
            assert await anext(told) == CONNECTED
    paths = [each.path for each in venue.rest.requests]
    assert paths == [f"{AUTHORIZE}?update_types=order%2Cposition%2Cholding%2Cgtt_order"] * 3


async def test_a_line_that_answers_no_ping_is_given_up(tmp_path: Path) -> None:
    async with listening(tmp_path) as (venue, updates):
        venue.mute = True
        async with updates.open() as told:
            assert await anext(told) == CONNECTED
            venue.mute = False
            down = await after(told, Disconnected)
            assert isinstance(down, Disconnected)
            assert await anext(told) == CONNECTED
    assert venue.connections == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(403, b"<html>"), "403"),
        (Answer(429), "429"),
        (Answer(500), "500"),
        (Answer(400, b'{"errors":[{"error_code":"UDAPI100036"}]}'), "UDAPI100036"),
        (Answer(200, b'{"status":"success","data":{}}'), "without saying where"),
        (success({"authorized_redirect_uri": "ws://127.0.0.1:1/?code=hush"}), "does not answer"),
        (success({"authorized_redirect_uri": "ws://[/?code=hush"}), "does not answer"),
    ],
)
async def test_why_there_is_no_stream_is_told_once_without_a_secret(tmp_path: Path, answer: Answer, says: str) -> None:
    async with listening(tmp_path) as (venue, updates):
        venue.rest.on(AUTHORIZE, answer)
        async with updates.open() as told:
            down = await anext(told)
            assert isinstance(down, Disconnected)
            assert says in down.reason
            assert "hush" not in down.reason
            assert not down.needs_login
            TokenStore(settings_in(tmp_path)).save("fresh")
            venue.tokens.refuse("given")  # another token ends the wait at once
            async with asyncio.timeout(5):
                while len(venue.rest.requests) < 2:  # noqa: ASYNC110 - the server's side of it
                    await asyncio.sleep(0.01)
    assert updates._waiting.empty()


async def test_a_401_about_a_good_token_is_no_reason_for_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_REFUSED_S", (0.05, 1.0))
    async with listening(tmp_path) as (venue, updates):
        (up,) = venue.rest.answers[AUTHORIZE]
        venue.rest.on(AUTHORIZE, Answer(401), up)
        venue.rest.on("/v2/user/profile", success({}))
        async with updates.open() as told:
            down = await anext(told)
            assert isinstance(down, Disconnected)
            assert not down.needs_login
            assert await anext(told) == CONNECTED
    assert venue.tokens.current() == "given"


async def test_a_reader_who_takes_nothing_for_long_loses_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path) as (venue, updates):
        venue.frames = [[orjson.dumps(row(order_id=str(number))).decode() for number in range(2_000)]]
        async with updates.open() as told:
            assert await anext(told) == CONNECTED
            async with asyncio.timeout(10):
                while updates._waiting.qsize() < 2_000:  # noqa: ASYNC110 - it fills by itself
                    await asyncio.sleep(0.01)
            ids = [update.venue_order_id async for update in _some(told, 2_000) if isinstance(update, VenueOrder)]
    assert ids == [str(number) for number in range(2_000)]
    assert venue.connections == 1


async def _some(updates: AsyncIterator[Update], count: int) -> AsyncIterator[Update]:
    for _ in range(count):
        yield await anext(updates)


async def test_a_bug_reaches_whoever_iterates(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, updates):
        updates._rest = None  # type: ignore[assignment]
        async with updates.open() as told:
            with pytest.raises(AttributeError):
                await anext(told)
