"""One port for everything: the shell that starts, serves and stops the exchange."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.errors import Misconfigured
from sim import (
    account_api,
    candles_api,
    charges_api,
    feed_api,
    files_api,
    gtt_api,
    login,
    multi_api,
    options_api,
    orders_api,
    portfolio_api,
    portfolio_feed_api,
    quotes_api,
    reference_api,
    reports_api,
)
from sim.clock import ist
from sim.exchange import Exchange
from sim.faults import ENDED, FaultRequest
from sim.feed import Connection
from sim.replies import ApiError, json_reply, on_api_error, on_http_error
from sim.settings import SimSettings
from sim.timeline import BadTimeline

log = logging.getLogger("sim.server")

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_FRAME_MAX = 1 << 20  # of a client's request; the venue's own frames are larger
_CLOSE_GRACE_S = 2
_TICK_S = 0.1  # uvicorn counts on ten a second
FAULTS_PATH: Final = "/sim/faults"
_WINDOWS: Final = "/sim/"  # not the venue's: there whatever fails


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
        server.stop()
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
        """GET: what fails now and later. POST: a fault as JSON, or a timeline as text. DELETE: ends all of it."""
        if request.client is None or request.client.host not in _LOOPBACK:
            raise ApiError(403, "SIM403", "faults are ordered from this machine only")
        body = await request.body()
        try:
            if request.method == "DELETE":
                exchange.schedule.clear()
                server.order(FaultRequest.model_validate(ENDED))
            elif body[:1] in (b"{", b"["):
                server.order(FaultRequest.model_validate_json(body))
            elif request.method == "POST":
                exchange.script(body.decode("utf-8", "replace"))
        except (ValidationError, BadTimeline) as error:
            raise ApiError(400, "SIM400", str(error)) from None
        return json_reply({"status": "success", "data": _told(exchange)})

    routes = [
        *login.routes(exchange),
        *account_api.routes(exchange),
        *feed_api.routes(exchange),
        *orders_api.routes(exchange),
        *portfolio_api.routes(exchange),
        *portfolio_feed_api.routes(exchange),
        *candles_api.routes(exchange),
        *quotes_api.routes(exchange),
        *options_api.routes(exchange),
        *reference_api.routes(exchange),
        *files_api.routes(exchange),
        *charges_api.routes(exchange),
        *reports_api.routes(exchange),
        *gtt_api.routes(exchange),
        *multi_api.routes(exchange),
        Route(FAULTS_PATH, faults, methods=["GET", "POST", "DELETE"]),
    ]
    handlers = {ApiError: on_api_error, HTTPException: on_http_error}
    return Starlette(routes=routes, exception_handlers=handlers)


def _told(exchange: Exchange) -> dict[str, Any]:
    connections = exchange.hub.connections.values()
    return {
        "now": ist(exchange.now_ms()).isoformat(),
        "in_force": exchange.faults.in_force(),
        "waiting": [
            {"at": ist(due_ms).isoformat(), "fault": request.model_dump(exclude_unset=True)}
            for due_ms, request in exchange.schedule.waiting()
        ],
        "connections": [
            {"number": each.number, "instruments": len(each.subscriptions.modes), "frozen": each.frozen}
            for each in connections
        ],
        "followers": len(exchange.portfolio.followers),
    }


class _Line:
    """The application behind a network that may be away: then every line is cut the moment it speaks."""

    def __init__(self, behind: ASGIApp, exchange: Exchange, cut: Callable[[Any], None]) -> None:
        self._behind = behind
        self._exchange = exchange
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._exchange.faults.offline or scope["path"].startswith(_WINDOWS):
            await self._behind(scope, receive, send)
            return
        self._cut(scope["client"])
        while not (await receive())["type"].endswith("disconnect"):
            pass


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a refused or redirected handshake for one that was forgotten. It is not."""
    return not record.getMessage().startswith("ASGI callable returned without ")


class _Server(uvicorn.Server):
    """uvicorn, minus its signal handlers (ours are the caller's), plus the faults that need its sockets."""

    def __init__(self, exchange: Exchange, settings: SimSettings) -> None:
        self.exchange = exchange
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        exchange.order_fault = self.order
        exchange.cut = self._cut
        exchange.app = _Line(app(exchange, self), exchange, self._cut)
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

    def stop(self) -> None:
        self.should_exit = True
        self.stopping.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which would sleep on for a moment when it is told to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), _TICK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def order(self, request: FaultRequest) -> None:
        self.exchange.faults.order(request)
        if request.expire_tokens:
            self.exchange.auth.expire_all()
            self.exchange.hub.expire()
            self.exchange.portfolio.expire()
        if request.updates_down or request.offline:
            for follower in self.exchange.portfolio.followers:
                self._cut(follower.socket.scope["client"])
        for connection in list(self.exchange.hub.connections.values()):
            if request.only in (None, connection.number):
                self._order(connection, request)

    def _order(self, connection: Connection, request: FaultRequest) -> None:
        if request.drop is not None:
            connection.close(request.drop, "dropped on demand")
        transport = self._transport(connection.socket.scope["client"])
        if transport is None:
            return
        if request.abort or request.offline:
            transport.abort()
        elif request.freeze is True and not connection.frozen:
            connection.frozen = True
            transport.pause_reading()  # pings of the client stay unanswered, its requests unread
        elif request.freeze is False and connection.frozen:
            connection.frozen = False
            transport.resume_reading()

    def _transport(self, client: Any) -> asyncio.Transport | None:
        protocols: list[Any] = list(self.server_state.connections)
        found = (each.transport for each in protocols if tuple(each.client or ()) == tuple(client))
        return next(found, None)

    def _cut(self, client: Any) -> None:
        if transport := self._transport(client):
            transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, so that asyncio sets no-delay
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
