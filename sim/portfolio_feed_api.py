"""The ways into the portfolio stream: authorize for a one-time address, or the direct address that redirects there."""

from typing import Final
from urllib.parse import urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sim.auth import Claims
from sim.exchange import Exchange
from sim.portfolio_stream import DEFAULT_TYPES, TYPES
from sim.replies import ApiError, bearer, failure, guarded, refused, success

DIRECT: Final = "/v2/feed/portfolio-stream-feed"
_FEEDER: Final = "/upstox-developer-api/order-updates/feed"
_UNAUTHORISED: Final = ApiError(401, "UDAPI100050", "Invalid token used to access API")
_CODES_MAX: Final = 10_000


def routes(exchange: Exchange) -> list[BaseRoute]:
    ways = _Ways(exchange)
    return [
        Route(f"{DIRECT}/authorize", guarded(exchange, "portfolio authorize", ways.authorize)),
        Route(DIRECT, guarded(exchange, "portfolio feed", ways.direct_get)),
        WebSocketRoute(DIRECT, ways.direct),
        WebSocketRoute(_FEEDER, ways.feeder),
    ]


class _Ways:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._asked: dict[str, frozenset[str]] = {}  # types by the code of an address that nobody has used yet

    async def authorize(self, request: Request) -> Response:
        self._check()
        url = self._address(request, request.state.claims)
        return success({"authorized_redirect_uri": url, "authorizedRedirectUri": url})

    async def direct_get(self, request: Request) -> Response:
        self._check()
        return RedirectResponse(self._address(request, request.state.claims), 302)

    async def direct(self, socket: WebSocket) -> None:
        """The handshake is answered with a redirect, as a plain GET is."""
        claims = bearer(socket, self.exchange)
        try:
            self._check()
            reply = RedirectResponse(self._address(socket, claims), 302) if claims else failure(_UNAUTHORISED)
        except ApiError as error:
            reply = failure(error)
        await socket.send_denial_response(reply)

    async def feeder(self, socket: WebSocket) -> None:
        exchange, code = self.exchange, socket.query_params.get("code", "")
        if exchange.faults.updates_down:
            await socket.send_denial_response(failure(_down()))
            return
        if refusal := exchange.faults.refusal("connect"):
            await socket.send_denial_response(refused(refusal))
            return
        claims, types = exchange.auth.redeem_feed_code(code, exchange.now_ms()), self._asked.pop(code, None)
        if claims is None or types is None:
            await socket.send_denial_response(Response(status_code=403))
            return
        await socket.accept()
        await exchange.portfolio.serve(socket, claims, types)

    def _check(self) -> None:
        if self.exchange.faults.updates_down:
            raise _down()

    def _address(self, connection: HTTPConnection, claims: Claims) -> str:
        types = _types(connection.query_params.get("update_types", ""))
        request_id, code = self.exchange.auth.feed_code(claims)
        self._asked[code] = types
        while len(self._asked) > _CODES_MAX:
            del self._asked[next(iter(self._asked))]
        host = connection.headers.get("host", "127.0.0.1")
        return f"ws://{host}{_FEEDER}?{urlencode({'requestId': request_id, 'code': code})}"


def _down() -> ApiError:
    return ApiError(503, "UDAPI100500", "Service unavailable")


def _types(text: str) -> frozenset[str]:
    asked = frozenset(each.strip() for each in text.split(",") if each.strip())
    if wrong := sorted(asked - TYPES):
        raise ApiError(400, "UDAPI100036", "Invalid Input", "update_types", wrong[0])
    return asked or DEFAULT_TYPES
