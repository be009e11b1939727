"""Orders at a served exchange, for the tests of its trading half."""

from collections.abc import Mapping
from typing import Any

import httpx

from market.instruments import Instrument
from sim.exchange import Exchange
from tests.sim.simtools import RELIANCE

#: A venue status never comes after one with a higher number here, within one request.
PLACED = ["put order req received", "validation pending", "open pending", "open"]


def body(**more: Any) -> dict[str, Any]:
    """A limit order to buy ten shares far below the market: it waits."""
    return {
        "instrument_token": RELIANCE,
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "I",
        "order_type": "LIMIT",
        "validity": "DAY",
        "price": 1_400.0,
        "trigger_price": 0,
        "disclosed_quantity": 0,
        "is_amo": False,
    } | more


def market_body(**more: Any) -> dict[str, Any]:
    """A protected market order: it trades at once."""
    return body(order_type="MARKET", price=0, market_protection=-1) | more


async def place(client: httpx.AsyncClient, asked: Mapping[str, Any]) -> str:
    reply = await client.post("/v3/order/place", json=dict(asked))
    assert reply.status_code == 200, reply.text
    return str(reply.json()["data"]["order_ids"][0])


async def details(client: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    reply = await client.get("/v2/order/details", params={"order_id": order_id})
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["data"])


async def history(client: httpx.AsyncClient, order_id: str) -> list[str]:
    reply = await client.get("/v2/order/history", params={"order_id": order_id})
    return [each["status"] for each in reply.json()["data"]]


async def positions(client: httpx.AsyncClient) -> dict[tuple[str, str], dict[str, Any]]:
    reply = await client.get("/v2/portfolio/short-term-positions")
    return {(each["instrument_token"], each["product"]): each for each in reply.json()["data"]}


async def funds(client: httpx.AsyncClient) -> dict[str, Any]:
    reply = await client.get("/v3/user/get-funds-and-margin")
    return dict(reply.json()["data"]["available_to_trade"])


def refusal(reply: httpx.Response) -> tuple[int, str, str | None]:
    error = reply.json()["errors"][0]
    return reply.status_code, error["error_code"], error["property_path"]


def option(exchange: Exchange, place: int = 0) -> Instrument:
    """A call near the money, that trades a lot."""
    calls = [each for each in exchange.market.listing.instruments if each.instrument_type == "CE"]
    near = min(each.expiry for each in calls if each.expiry)
    nifty = [each for each in calls if each.expiry == near and each.underlying_symbol == "NIFTY"]
    return nifty[len(nifty) // 2 + place]


def future(exchange: Exchange) -> Instrument:
    return next(each for each in exchange.market.listing.instruments if each.instrument_type == "FUT")


def touch(exchange: Exchange, key: str) -> tuple[float, float]:
    """Best bid and ask."""
    row = exchange.market.listing.row_of[key]
    return float(exchange.market.bid[row]), float(exchange.market.ask[row])
