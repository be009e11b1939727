"""One port for everything: the shell that starts, serves and stops the exchange."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.errors import Misconfigured
from sim import candles_api, feed_api, files_api, login, options_api, quotes_api, reference_api
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.replies import ApiError, json_reply, on_api_error, on_http_error
from sim.settings import SimSettings

log = logging.getLogger("sim.server")

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FRAME_MAX = 1 << 20  # of a client's request; the venue's own frames are larger
_CLOSE_GRACE_S = 2


async def serve(settings: SimSettings, stop: asyncio.Event) -> None:
    """Run the exchange until `stop` is set."""
    async with running(settings) as exchange:
        log.info("simulated exchange at %s, %d instruments", exchange.url, len(exchange.market.listing.instruments))
        await stop.wait()


@contextlib.asynccontextmanager
async def running(settings: SimSettings) -> AsyncIterator[Exchange]:
    """The exchange, served inside the running event loop. Port 0 takes a free one."""
    listener = _bound(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    exchange = Exchange(settings)
    exchange.url = f"http://{host}:{port}"
    exchange.feed_url = f"ws://{host}:{port}{feed_api.DIRECT}"
    server = _Server(exchange, settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    market = asyncio.create_task(exchange.run())
    try:
        await _until_ready(server, serving)
        with _failing_with(market):
            yield exchange
    finally:
        market.cancel()
        server.should_exit = True
        await asyncio.gather(market, serving, return_exceptions=True)
        listener.close()


@contextlib.contextmanager
def _failing_with(market: asyncio.Task[None]) -> Iterator[None]:
    """A market that fails must not pass for one that is quiet: whoever uses the exchange fails with it."""
    user = asyncio.current_task()
    assert user is not None

    def fail(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and ended.exception() is not None:
            user.cancel()

    market.add_done_callback(fail)
    try:
        yield
    except asyncio.CancelledError:
        if not market.done() or market.cancelled():
            raise
        user.uncancel()
        market.result()  # raises what the market failed with
    finally:
        market.remove_done_callback(fail)


def app(exchange: Exchange, server: "_Server") -> Starlette:
    async def faults(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            raise ApiError(403, "SIM403", "faults are ordered from this machine only")
        try:
            server.order(FaultRequest.model_validate_json(await request.body()))
        except ValidationError as error:
            raise ApiError(400, "SIM400", str(error)) from None
        return json_reply({"status": "success"})

    routes = [
        *login.routes(exchange),
        *feed_api.routes(exchange),
        *candles_api.routes(exchange),
        *quotes_api.routes(exchange),
        *options_api.routes(exchange),
        *reference_api.routes(exchange),
        *files_api.routes(exchange),
        Route("/sim/faults", faults, methods=["POST"]),
    ]
    handlers = {ApiError: on_api_error, HTTPException: on_http_error}
    return Starlette(routes=routes, exception_handlers=handlers)


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a refused or redirected handshake for one that was forgotten. It is not."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


class _Server(uvicorn.Server):
    """uvicorn, minus its signal handlers (ours are the caller's), plus the faults that need its sockets."""

    def __init__(self, exchange: Exchange, settings: SimSettings) -> None:
        self.exchange = exchange
        self.ready = asyncio.Event()
        exchange.order_fault = self.order
        exchange.app = app(exchange, self)
        config = uvicorn.Config(
            exchange.app,
            ws="websockets-sansio",
            ws_max_size=_FRAME_MAX,
            ws_ping_interval=settings.ping_s,
            ws_ping_timeout=settings.ping_s,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_CLOSE_GRACE_S,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_is_news)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def order(self, request: FaultRequest) -> None:
        self.exchange.faults.order(request)
        for connection in list(self.exchange.hub.connections.values()):
            if request.drop is not None:
                connection.close(request.drop, "dropped on demand")
        for transport in self._feed_transports():
            if request.abort:
                transport.abort()
            elif request.freeze is True:
                transport.pause_reading()  # pings of the client stay unanswered, its requests unread
            elif request.freeze is False:
                transport.resume_reading()

    def _feed_transports(self) -> list[asyncio.Transport]:
        clients = {tuple(each.socket.scope["client"]) for each in self.exchange.hub.connections.values()}
        protocols: list[Any] = list(self.server_state.connections)
        return [protocol.transport for protocol in protocols if tuple(protocol.client or ()) in clients]


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Misconfigured(f"the simulated exchange cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


async def _until_ready(server: _Server, serving: asyncio.Task[None]) -> None:
    """Return when the port answers; fail as the server fails."""
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not server.ready.is_set():
        ready.cancel()
        serving.result()
