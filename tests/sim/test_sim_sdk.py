"""The venue's own Python SDK against the simulated exchange: what it can use, a client of ours can.

Its streamer has one address built in; the test gives it another one and changes nothing else. Its generated class is
older than our schema, so it decodes the frames as any client does that was not updated.
"""

import asyncio
import gc
import queue
from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import upstox_client
import websocket
from upstox_client.feeder import market_data_feeder_v3

from sim.exchange import Exchange
from sim.faults import FaultRequest
from tests.sim.simtools import CALLBACK, MINUTE, NIFTY, RELIANCE, code_of, served, visitor

#: The SDK's websocket library leaves a socket open at a redirect and at a refused handshake.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

T = TypeVar("T")

Clients = Callable[[Exchange, str], upstox_client.ApiClient]


@pytest.fixture
def clients() -> Iterator[Clients]:
    """SDK clients whose threads and connections end with the test."""
    made: list[upstox_client.ApiClient] = []

    def client(exchange: Exchange, token: str = "") -> upstox_client.ApiClient:
        configuration = upstox_client.Configuration()
        configuration.host = exchange.url
        configuration.access_token = token
        made.append(upstox_client.ApiClient(configuration))
        return made[-1]

    yield client
    for each in made:
        each.pool.close()
        each.pool.join()
        each.rest_client.pool_manager.clear()
    made.clear()
    gc.collect()  # here, where the warning about what its websocket library leaves open is expected


async def called(call: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """The SDK blocks, so it runs beside the loop that serves it."""
    return await asyncio.to_thread(call, *arguments, **more)


async def token_by_sdk(exchange: Exchange, clients: Clients) -> str:
    async with visitor(exchange) as browser:
        code = await code_of(browser)
    login = upstox_client.LoginApi(clients(exchange, ""))
    reply = await called(
        login.token,
        "2.0",
        code=code,
        client_id="sim-key",
        client_secret="sim-secret",
        redirect_uri=CALLBACK,
        grant_type="authorization_code",
    )
    return str(reply.access_token)


async def test_it_logs_in_and_reads_the_profile(clients: Clients) -> None:
    async with served() as exchange:
        client = clients(exchange, await token_by_sdk(exchange, clients))
        profile = await called(upstox_client.UserApi(client).get_profile, "2.0")
        assert profile.data.user_id == "SIM001"
        assert (await called(upstox_client.LoginApi(client).logout, "2.0")).data is True
        with pytest.raises(upstox_client.rest.ApiException) as caught:
            await called(upstox_client.UserApi(client).get_profile, "2.0")
        assert caught.value.status == 401


async def test_it_reads_quotes(clients: Clients) -> None:
    async with served() as exchange:
        client = clients(exchange, await token_by_sdk(exchange, clients))
        quotes = upstox_client.MarketQuoteV3Api(client)
        option = next(each.key for each in exchange.market.listing.instruments if each.is_option)
        ltp = (await called(quotes.get_ltp, instrument_key=f"{NIFTY},{RELIANCE}")).data
        assert ltp["NSE_EQ:RELIANCE"].instrument_token == RELIANCE
        assert ltp["NSE_EQ:RELIANCE"].last_price > 0
        ohlc = (await called(quotes.get_market_quote_ohlc, "1d", instrument_key=RELIANCE)).data
        assert ohlc["NSE_EQ:RELIANCE"].live_ohlc.high >= ohlc["NSE_EQ:RELIANCE"].live_ohlc.low
        greek = (await called(quotes.get_market_quote_option_greek, instrument_key=option)).data
        assert all(0 < abs(each.delta) < 1 for each in greek.values())
        full = await called(upstox_client.MarketQuoteApi(client).get_full_market_quote, RELIANCE, "2.0")
        assert len(full.data["NSE_EQ:RELIANCE"].depth.buy) == 5
        wide = await called(quotes.get_full_market_quote_v3, instrument_key=RELIANCE)
        assert wide.data["NSE_EQ:RELIANCE"].cas_eligible is True


async def test_it_reads_candles(clients: Clients) -> None:
    async with served() as exchange:
        client = clients(exchange, await token_by_sdk(exchange, clients))
        history = upstox_client.HistoryV3Api(client)
        today = await called(history.get_intra_day_candle_data, RELIANCE, "minutes", "1")
        assert len(today.data.candles) == 75
        days = await called(history.get_historical_candle_data1, RELIANCE, "days", "1", "2026-11-19", "2026-11-01")
        assert len(days.data.candles) > 8
        week = await called(history.get_historical_candle_data, RELIANCE, "weeks", "1", "2026-11-19")
        assert week.data.candles
        with pytest.raises(upstox_client.rest.ApiException) as caught:
            await called(history.get_historical_candle_data1, RELIANCE, "minutes", "1", "2026-11-19", "2026-08-01")
        assert caught.value.status == 400
        assert b"UDAPI1148" in caught.value.body


async def test_it_reads_options_and_reference_data(clients: Clients) -> None:
    async with served(instruments=120) as exchange:
        client = clients(exchange, await token_by_sdk(exchange, clients))
        options = upstox_client.OptionsApi(client)
        contracts = (await called(options.get_option_contracts, NIFTY)).data
        expiry = min(each.expiry for each in contracts)
        assert isinstance(expiry, datetime)
        chain = (await called(options.get_put_call_option_chain, NIFTY, expiry.date().isoformat())).data
        assert {each.strike_price for each in chain} <= {each.strike_price for each in contracts}
        assert all(each.call_options.option_greeks.iv > 3 for each in chain)
        market = upstox_client.MarketHolidaysAndTimingsApi(client)
        assert (await called(market.get_market_status, "NSE")).data.status == "NORMAL_OPEN"
        assert len((await called(market.get_holidays)).data) > 10
        assert (await called(market.get_exchange_timings, "2026-11-20")).data[0].start_time > 0
        found = await called(upstox_client.InstrumentsApi(client).search_instrument, "RELIANCE")
        assert found.data[0]["instrument_key"] == RELIANCE


class Stream:
    """The SDK's streamer with its events in a queue."""

    def __init__(self, client: upstox_client.ApiClient, keys: list[str], mode: str) -> None:
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.streamer = upstox_client.MarketDataStreamerV3(client, keys, mode)
        self.streamer.auto_reconnect(False)
        for name in ("open", "message", "error", "close"):
            self.streamer.on(name, lambda *arguments, name=name: self.events.put((name, arguments)))

    async def next(self, wanted: str) -> Any:
        name, arguments = await called(self.events.get, timeout=20)
        assert name == wanted, arguments
        return arguments[0] if arguments else None

    async def ended_by(self, exchange: Exchange) -> None:
        """The server closes: were it the client, its library would look at the closed socket for ten more seconds."""
        exchange.order_fault(FaultRequest(drop=1000))
        while (await called(self.events.get, timeout=20))[0] != "close":
            pass


@pytest.fixture
def at_the_simulator(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exchange], None]:
    def send_there(exchange: Exchange) -> None:
        class Redirected(websocket.WebSocketApp):  # type: ignore[misc,unused-ignore]
            def __init__(self, url: str, **more: Any) -> None:
                assert url == "wss://api.upstox.com/v3/feed/market-data-feed"
                super().__init__(exchange.feed_url, **more)

        module = SimpleNamespace(WebSocketApp=Redirected, ABNF=websocket.ABNF)
        monkeypatch.setattr(market_data_feeder_v3, "websocket", module)

    return send_there


@pytest.mark.parametrize(
    ("mode", "union"),
    [("ltpc", "ltpc"), ("option_greeks", "firstLevelWithGreeks"), ("full", "fullFeed"), ("full_d30", "fullFeed")],
)
async def test_its_streamer_follows_the_redirect_and_decodes_every_mode(
    mode: str, union: str, clients: Clients, at_the_simulator: Callable[[Exchange], None]
) -> None:
    async with served(plus_plan=True) as exchange:
        at_the_simulator(exchange)
        option = next(each.key for each in exchange.market.listing.instruments if each.is_option)
        token = await token_by_sdk(exchange, clients)
        stream = Stream(clients(exchange, token), [option, RELIANCE, NIFTY], mode)
        await called(stream.streamer.connect)
        await stream.next("open")
        info = await stream.next("message")
        assert info["type"] == "market_info"
        assert info["marketInfo"]["segmentStatus"]["NSE_FO"] == "NORMAL_OPEN"
        snapshot = await stream.next("message")
        assert set(snapshot["feeds"]) == {option, RELIANCE, NIFTY}
        assert all(union in each for each in snapshot["feeds"].values())
        await exchange.advance(5_000)
        live = await stream.next("message")
        assert live["type"] == "live_feed"
        assert live["feeds"].keys() <= snapshot["feeds"].keys()
        await stream.ended_by(exchange)


async def test_its_streamer_changes_modes_and_unsubscribes(
    clients: Clients, at_the_simulator: Callable[[Exchange], None]
) -> None:
    async with served() as exchange:
        at_the_simulator(exchange)
        stream = Stream(clients(exchange, await token_by_sdk(exchange, clients)), [RELIANCE], "ltpc")
        await called(stream.streamer.connect)
        await stream.next("open")
        await stream.next("message")
        assert "ltpc" in (await stream.next("message"))["feeds"][RELIANCE]
        await called(stream.streamer.change_mode, [RELIANCE], "full")
        assert (await stream.next("message"))["feeds"][RELIANCE]["requestMode"] == "full_d5"
        await called(stream.streamer.unsubscribe, [RELIANCE])
        await called(stream.streamer.subscribe, [NIFTY], "full")
        assert set((await stream.next("message"))["feeds"]) == {NIFTY}
        await exchange.advance(MINUTE // 10)
        assert set((await stream.next("message"))["feeds"]) == {NIFTY}
        await stream.ended_by(exchange)


async def test_a_bad_token_reaches_its_error_handler_as_401(
    clients: Clients, at_the_simulator: Callable[[Exchange], None]
) -> None:
    async with served() as exchange:
        at_the_simulator(exchange)
        stream = Stream(clients(exchange, "nonsense"), [RELIANCE], "ltpc")
        await called(stream.streamer.connect)
        error = await stream.next("error")
        assert "401 Unauthorized" in str(error)
        await stream.next("close")
