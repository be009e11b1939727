"""The venue's own Python SDK trades at the simulated exchange."""

import gc
import queue
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import upstox_client
import websocket
from upstox_client import ConvertPositionRequest, ModifyOrderRequest, PlaceOrderV3Request
from upstox_client.feeder import portfolio_data_feeder

from sim.exchange import Exchange
from tests.sim.ordertools import body, market_body, touch
from tests.sim.simtools import RELIANCE, served
from tests.sim.vendor import called, refused, sdk

#: The SDK's websocket library leaves a socket open at a redirect.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def test_it_places_modifies_cancels_and_reads_the_books() -> None:
    async with served() as exchange, sdk(exchange) as client:
        orders, reads = upstox_client.OrderApiV3(client), upstox_client.OrderApi(client)
        placed = await called(orders.place_order, PlaceOrderV3Request(**body(tag="sdk-1")))
        (order_id,) = placed.data.order_ids
        assert placed.status == "success"
        assert placed.metadata.latency >= 0
        change = ModifyOrderRequest(
            order_id=order_id, order_type="LIMIT", price=1_401.0, trigger_price=0, validity="DAY", quantity=12
        )
        assert (await called(orders.modify_order, change)).data.order_id == order_id
        (order,) = (await called(reads.get_order_book, "2.0")).data
        assert (order.status, order.price, order.quantity, order.tag) == ("open", 1_401.0, 12, "sdk-1")
        assert (await called(reads.get_order_status, order_id=order_id)).data.order_request_id == "2"
        assert (await called(orders.cancel_order, order_id)).data.order_id == order_id
        states = (await called(reads.get_order_details, "2.0", tag="sdk-1")).data
        assert [each.status for each in states][-2:] == ["cancel pending", "cancelled"]
        assert await refused(orders.cancel_order, order_id) == (400, "UDAPI100040", "order_id")
        assert await refused(orders.place_order, body(quantity=0)) == (400, "UDAPI1052", "quantity")


async def test_its_deprecated_calls_work_too() -> None:
    async with served(default_protection=-1) as exchange, sdk(exchange) as client:
        orders = upstox_client.OrderApi(client)
        placed = await called(orders.place_order, upstox_client.PlaceOrderRequest(**body()), "2.0")
        order_id = placed.data.order_id
        change = ModifyOrderRequest(
            order_id=order_id, order_type="MARKET", price=0, trigger_price=0, validity="DAY", quantity=3
        )
        assert (await called(orders.modify_order, change, "2.0")).data.order_id == order_id
        assert (await called(orders.get_order_status, order_id=order_id)).data.status == "complete"
        other = (await called(orders.place_order, upstox_client.PlaceOrderRequest(**body()), "2.0")).data.order_id
        assert (await called(orders.cancel_order, other, "2.0")).data.order_id == other


async def test_it_reads_trades_positions_holdings_and_funds() -> None:
    async with served(holdings={RELIANCE: 7}) as exchange, sdk(exchange) as client:
        reads, portfolio = upstox_client.OrderApi(client), upstox_client.PortfolioApi(client)
        _, ask = touch(exchange, RELIANCE)
        placed = await called(upstox_client.OrderApiV3(client).place_order, PlaceOrderV3Request(**market_body()))
        order_id = placed.data.order_ids[0]
        (trade,) = (await called(reads.get_trades_by_order, order_id, "2.0")).data
        assert (trade.quantity, trade.average_price, trade.order_id) == (10, ask, order_id)
        assert (await called(reads.get_trade_history, "2.0")).data[0].trade_id == trade.trade_id
        (position,) = (await called(portfolio.get_positions, "2.0")).data
        assert (position.quantity, position.day_buy_value, position.multiplier) == (10, ask * 10, 1.0)
        asked = ConvertPositionRequest(
            instrument_token=RELIANCE, new_product="D", old_product="I", transaction_type="BUY", quantity=10
        )
        assert (await called(portfolio.convert_positions, asked, "2.0")).data.status == "complete"
        assert {each.product: each.quantity for each in (await called(portfolio.get_positions, "2.0")).data}["D"] == 10
        (holding,) = (await called(portfolio.get_holdings, "2.0")).data
        assert (holding.quantity, holding.instrument_token) == (7, RELIANCE)
        users = upstox_client.UserApi(client)
        total = (await called(users.get_user_fund_margin_v3)).data.available_to_trade.total
        assert 0 < total < 2_500_000
        assert (await called(users.get_user_fund_margin, "2.0")).data["equity"].available_margin == total


async def test_it_cancels_many_and_exits_all() -> None:
    async with served() as exchange, sdk(exchange) as client:
        orders, bulk = upstox_client.OrderApiV3(client), upstox_client.OrderApi(client)
        for _ in range(2):
            await called(orders.place_order, PlaceOrderV3Request(**body(tag="many")))
        gone = await called(bulk.cancel_multi_order, tag="many")
        assert (len(gone.data.order_ids), gone.summary.success) == (2, 2)
        assert (await refused(bulk.cancel_multi_order, tag="many")).code == "UDAPI1109"
        assert (await refused(bulk.exit_positions)).code == "UDAPI1111"
        await called(orders.place_order, PlaceOrderV3Request(**market_body()))
        left = await called(bulk.exit_positions, segment="NSE_EQ")
        assert left.summary.total == 1
        assert exchange.trading.portfolio.position(RELIANCE, "I") == 0


@pytest.fixture
def at_the_simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exchange], None]]:
    """The SDK's streamer has one address built in; here it has another."""

    def send_there(exchange: Exchange) -> None:
        class Redirected(websocket.WebSocketApp):  # type: ignore[misc,unused-ignore]
            def __init__(self, url: str, **more: Any) -> None:
                path = url.removeprefix("wss://api.upstox.com")
                assert path.startswith("/v2/feed/portfolio-stream-feed")
                super().__init__(exchange.url.replace("http", "ws") + path, **more)

        module = SimpleNamespace(WebSocketApp=Redirected, ABNF=websocket.ABNF)
        monkeypatch.setattr(portfolio_data_feeder, "websocket", module)

    yield send_there
    gc.collect()  # here, where the warning about what its websocket library leaves open is expected


async def test_its_streamer_hears_of_orders_and_positions(at_the_simulator: Callable[[Exchange], None]) -> None:
    async with served() as exchange, sdk(exchange) as client:
        at_the_simulator(exchange)
        events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        streamer = upstox_client.PortfolioDataStreamer(client, position_update=True)
        streamer.auto_reconnect(False)
        for name in ("open", "message", "error", "close"):
            streamer.on(name, lambda *arguments, name=name: events.put((name, arguments)))
        await called(streamer.connect)
        assert (await called(events.get, timeout=20))[0] == "open"
        await called(upstox_client.OrderApiV3(client).place_order, PlaceOrderV3Request(**market_body(tag="heard")))
        told = [orjson.loads((await called(events.get, timeout=20))[1][0]) for _ in range(6)]
        assert [each.get("status", each["update_type"]) for each in told] == [
            *("put order req received", "validation pending", "open pending", "open", "complete"),
            "position",
        ]
        assert told[4]["tag"] == "heard"
        assert told[5]["quantity"] == 10
        exchange.portfolio.expire()
        while (await called(events.get, timeout=20))[0] != "close":
            pass
