"""A served exchange, a logged-in client and a feed connection, for the tests of the simulator."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect

from proto import feed_pb2 as pb
from sim.exchange import Exchange
from sim.server import running
from sim.settings import SimSettings

#: A Friday of ordinary trading inside the closing-auction era, one trading day before the monthly expiry.
IST = timezone(timedelta(hours=5, minutes=30))
START = datetime(2026, 11, 20, 10, 30, tzinfo=IST)
MINUTE = 60_000
CALLBACK = "http://127.0.0.1:1/callback"

NIFTY = "NSE_INDEX|Nifty 50"
VIX = "NSE_INDEX|India VIX"
RELIANCE = "NSE_EQ|INE002A01018"


def settings(**more: Any) -> SimSettings:
    chosen = {"port": 0, "instruments": 60, "clock": "manual", "start": START, "record": True, "rate_limits": None}
    return SimSettings(**{**chosen, **more})


@contextlib.asynccontextmanager
async def served(**more: Any) -> AsyncIterator[Exchange]:
    async with running(settings(**more)) as exchange:
        yield exchange


async def code_of(client: httpx.AsyncClient, **query: str) -> str:
    asked = {"client_id": "sim-key", "redirect_uri": CALLBACK, "response_type": "code"} | query
    reply = await client.get("/v2/login/authorization/dialog", params=asked)
    assert reply.status_code == 302, reply.text
    return parse_qs(urlsplit(reply.headers["location"]).query)["code"][0]


def token_form(code: str, **more: str) -> dict[str, str]:
    return {
        "code": code,
        "client_id": "sim-key",
        "client_secret": "sim-secret",
        "redirect_uri": CALLBACK,
        "grant_type": "authorization_code",
    } | more


@contextlib.asynccontextmanager
async def visitor(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a token."""
    async with httpx.AsyncClient(base_url=exchange.url, trust_env=False, verify=False) as client:
        yield client


@contextlib.asynccontextmanager
async def trader(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with a token, got the way a person gets it."""
    async with visitor(exchange) as client:
        reply = await client.post("/v2/login/authorization/token", data=token_form(await code_of(client)))
        client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"
        yield client


async def feed_address(client: httpx.AsyncClient) -> str:
    reply = await client.get("/v3/feed/market-data-feed/authorize")
    assert reply.status_code == 200, reply.text
    return str(reply.json()["data"]["authorized_redirect_uri"])


class FeedClient:
    """A reader of the feed that never lags: the library may queue without bound."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def next(self) -> pb.FeedResponse:
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        return pb.FeedResponse.FromString(data)

    async def ask(self, method: str, keys: Iterable[str], mode: str | None = None) -> None:
        await self.socket.send(request(method, keys, mode))

    async def subscribe(self, keys: Iterable[str], mode: str = "full") -> pb.FeedResponse:
        """The snapshot that answers an accepted subscription."""
        await self.ask("sub", keys, mode)
        return await self.next()

    async def taken(self, count: int) -> list[pb.FeedResponse]:
        return [await self.next() for _ in range(count)]


def request(method: str, keys: Iterable[str], mode: str | None = None) -> bytes:
    data: dict[str, Any] = {"instrumentKeys": list(keys)}
    if mode:
        data["mode"] = mode
    return json.dumps({"guid": "test", "method": method, "data": data}).encode()


@contextlib.asynccontextmanager
async def feed(client: httpx.AsyncClient, **options: Any) -> AsyncIterator[FeedClient]:
    """A connection that has read its market_info."""
    chosen = {"max_size": None, "max_queue": None, "compression": None, "proxy": None}
    async with connect(await feed_address(client), **{**chosen, **options}) as socket:
        opened = FeedClient(socket)
        first = await opened.next()
        assert first.type == pb.Type.market_info
        yield opened


def keys_of(exchange: Exchange) -> list[str]:
    return [each.key for each in exchange.market.listing.instruments]
