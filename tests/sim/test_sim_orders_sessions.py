"""Orders and the hours of the exchange: auctions, the end of the day, what waits for the next one."""

from datetime import datetime

import httpx
import pytest

from sim.exchange import Exchange
from sim.hours import MINUTE_MS, day_of, midnight_ms
from tests.sim.ordertools import (
    body,
    details,
    future,
    history,
    market_body,
    option,
    place,
    positions,
    refusal,
    touch,
)
from tests.sim.simtools import IST, RELIANCE, served, trader


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 20, hour, minute, second, tzinfo=IST)


async def until(exchange: Exchange, hour: int, minute: int, second: int = 0) -> None:
    """Let time pass until a time of the same day."""
    now_ms = exchange.now_ms()
    due_ms = midnight_ms(day_of(now_ms)) + (hour * 60 + minute) * MINUTE_MS + second * 1_000
    await exchange.advance(due_ms - now_ms)


async def told(client: httpx.AsyncClient, order_id: str) -> tuple[str, str]:
    order = await details(client, order_id)
    return order["status"], order["status_message"]


async def test_the_pre_open_collects_and_matches_at_one_price() -> None:
    async with served(conflation_ms=10_000, start=at(9, 1)) as exchange, trader(exchange) as client:
        auction = next(
            each for each in exchange.market.auctions if each.row == exchange.market.listing.row_of[RELIANCE]
        )
        high = round(auction.price * 1.05, 0)
        eager = await place(client, body(price=high, quantity=10))
        shy = await place(client, body(price=round(auction.price * 0.95, 0), quantity=10))
        anything = await place(client, market_body(quantity=3))
        assert [await told(client, each) for each in (eager, shy, anything)] == [("open", "")] * 3
        for wrong in ({"order_type": "SL", "trigger_price": 1_390}, {"validity": "IOC"}, {"disclosed_quantity": 5}):
            assert "auction" in (await told(client, await place(client, body(**wrong))))[1]
        await until(exchange, 9, 6)
        assert "Market orders" in (await told(client, await place(client, market_body())))[1]
        reply = await client.delete("/v3/order/cancel", params={"order_id": anything})
        assert reply.status_code == 200
        assert (await history(client, anything))[-2:] == ["not cancelled", "open"]
        await until(exchange, 9, 11)
        order = await details(client, eager)
        assert (order["status"], order["average_price"]) == ("complete", auction.price)
        assert (await told(client, anything))[0] == "complete"
        assert (await told(client, shy))[0] == "open"
        frozen = await place(client, body())
        assert (await told(client, frozen))[0] == "rejected"
        assert (await positions(client))[RELIANCE, "I"]["quantity"] == 13


async def test_what_has_no_pre_open_waits_for_the_opening() -> None:
    async with served(conflation_ms=10_000, start=at(8, 50)) as exchange, trader(exchange) as client:
        contract = option(exchange)
        bought = await place(client, market_body(instrument_token=contract.key, quantity=contract.lot_size))
        shares = await place(client, body(is_amo=True))
        stop = await place(client, body(order_type="SL", price=1_600, trigger_price=1_590))
        gone = await place(client, body())
        change = {"order_id": shares, "order_type": "LIMIT", "validity": "DAY", "price": 1_390, "trigger_price": 0}
        assert (await client.put("/v3/order/modify", json=change)).status_code == 200
        await client.delete("/v3/order/cancel", params={"order_id": gone})
        order = await details(client, shares)
        assert (order["variety"], order["is_amo"]) == ("AMO", True)
        assert await history(client, shares) == [
            "put order req received",
            "after market order req received",
            "modify after market order req received",
        ]
        assert (await history(client, gone))[-1] == "cancelled after market order"
        await until(exchange, 9, 0, 30)
        assert (await told(client, shares))[0] == "open"
        assert (await told(client, bought))[0] == "after market order req received"
        await until(exchange, 9, 15, 30)
        assert (await told(client, bought))[0] == "complete"
        assert (await told(client, stop))[0] == "trigger pending"


async def test_orders_of_the_day_end_with_their_session() -> None:
    async with served(conflation_ms=10_000, start=at(15, 29)) as exchange, trader(exchange) as client:
        near = future(exchange)
        _, ask = touch(exchange, near.key)
        waits = body(instrument_token=near.key, quantity=near.lot_size, price=round(ask * 0.97, 0))
        order_id = await place(client, waits)
        await until(exchange, 15, 39, 30)
        assert (await told(client, order_id))[0] == "open"
        await until(exchange, 15, 41)
        assert (await told(client, order_id))[0] == "cancelled"
        later = await place(client, waits)
        assert (await told(client, later))[0] == "after market order req received"


async def test_the_closing_auction_takes_over_what_waits_and_ends_stops() -> None:
    async with (
        served(conflation_ms=10_000, start=at(15, 13), holdings={RELIANCE: 100}) as exchange,
        trader(exchange) as client,
    ):
        row = exchange.market.listing.row_of[RELIANCE]
        auction = next(
            each for each in exchange.market.auctions if each.row == row and each.start_ms > exchange.now_ms()
        )
        low, high = round(auction.price * 0.96, 0), round(auction.price * 1.04, 0)
        selling = await place(client, body(transaction_type="SELL", product="D", price=high, quantity=10))
        stop = await place(client, body(order_type="SL", price=high, trigger_price=high))
        await until(exchange, 15, 16)
        assert (await told(client, stop))[0] == "cancelled"
        assert (await told(client, await place(client, body())))[0] == "rejected"
        change = {"order_id": selling, "order_type": "LIMIT", "validity": "DAY", "price": low, "trigger_price": 0}
        await client.put("/v3/order/modify", json=change)
        assert (await history(client, selling))[-2:] == ["not modified", "open"]
        await until(exchange, 15, 21)
        await client.put("/v3/order/modify", json=change)
        assert (await told(client, selling))[0] == "open"
        await until(exchange, 15, 31)
        order = await details(client, selling)
        assert (order["status"], order["average_price"]) == ("complete", auction.price)


async def test_a_day_later_shares_are_holdings_contracts_are_carried_and_the_book_is_empty() -> None:
    async with (
        served(conflation_ms=10_000, start=datetime(2026, 11, 19, 15, 5, tzinfo=IST)) as exchange,
        trader(exchange) as client,
    ):
        near = future(exchange)
        shares = await details(client, await place(client, market_body(product="D")))
        intraday = await place(client, market_body(quantity=4))
        short = market_body(instrument_token=near.key, quantity=near.lot_size, transaction_type="SELL", product="D")
        carried = await details(client, await place(client, short))
        await until(exchange, 16, 0)
        assert refusal(await client.post("/v2/order/positions/exit"))[:2] == (400, "UDAPI1113")
        kept = await place(client, body(tag="tonight"))
        before = exchange.trading.funds()
        await exchange.advance(16 * 60 * MINUTE_MS)
        assert exchange.market.on.day == 20
        client.headers["Authorization"] = f"Bearer {exchange.auth.token(exchange.now_ms())}"
        book = (await client.get("/v2/order/retrieve-all")).json()["data"]
        assert [each["order_id"] for each in book] == [kept]
        assert (await client.get("/v2/order/history", params={"tag": "tonight"})).json()["data"]
        assert refusal(await client.get("/v2/order/details", params={"order_id": intraday}))[1] == "UDAPI100010"
        (holding,) = (await client.get("/v2/portfolio/long-term-holdings")).json()["data"]
        assert (holding["quantity"], holding["t1_quantity"]) == (0, 10)
        assert holding["average_price"] == shares["average_price"]
        held = await positions(client)
        assert held.keys() == {(near.key, "D")}
        assert held[near.key, "D"]["overnight_sell_quantity"] == near.lot_size
        assert held[near.key, "D"]["average_price"] == carried["average_price"]
        paid = before.opening - exchange.trading.portfolio.cash
        assert float(paid) == pytest.approx(10 * shares["average_price"], rel=0.02)
        assert len((await client.get("/sim/orders")).json()["data"]) == 4


async def test_contracts_that_expire_are_settled_against_their_underlying() -> None:
    async with (
        served(conflation_ms=10_000, start=datetime(2026, 11, 23, 15, 30, tzinfo=IST)) as exchange,
        trader(exchange) as client,
    ):
        contract = option(exchange)
        assert contract.expiry == exchange.market.on
        bought = market_body(instrument_token=contract.key, quantity=contract.lot_size, product="D")
        paid = (await details(client, await place(client, bought)))["average_price"] * contract.lot_size
        await until(exchange, 16, 0)
        spot = float(exchange.trading.last(contract.underlying_key or ""))
        cash = exchange.trading.portfolio.cash
        await exchange.advance(40 * 60 * MINUTE_MS)
        assert contract.key not in exchange.market.listing.row_of
        worth = max(spot - (contract.strike or 0), 0) * contract.lot_size
        assert float(exchange.trading.portfolio.cash - cash) == pytest.approx(worth - paid, abs=0.02)
        assert exchange.trading.positions() == []


async def test_at_night_the_service_sleeps() -> None:
    async with served(conflation_ms=10_000, start=at(2, 0)) as exchange, trader(exchange) as client:
        assert refusal(await client.post("/v3/order/place", json=body()))[:2] == (423, "UDAPI100074")
        assert refusal(await client.get("/v2/order/retrieve-all"))[:2] == (423, "UDAPI100074")
        assert refusal(await client.get("/v3/user/get-funds-and-margin"))[:2] == (423, "UDAPI100072")
    async with served(conflation_ms=10_000, start=at(2, 0), always_open=True) as exchange, trader(exchange) as client:
        assert (await told(client, await place(client, market_body())))[0] == "complete"
