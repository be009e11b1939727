"""The ways into the feed: authorize for a one-time address, or the direct address that redirects there."""

from urllib.parse import urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sim.auth import Claims
from sim.exchange import Exchange
from sim.faults import Door
from sim.replies import ApiError, bearer, failure, guarded, refused, success

DIRECT = "/v3/feed/market-data-feed"
_FEEDER = "/market-data-feeder/v3/upstox-developer-api/feeds"
_UNAUTHORISED = ApiError(401, "UDAPI100050", "Invalid token used to access API")


def routes(exchange: Exchange) -> list[BaseRoute]:
    def address(connection: HTTPConnection, claims: Claims) -> str:
        request_id, code = exchange.auth.feed_code(claims)
        host = connection.headers.get("host", "127.0.0.1")
        return f"ws://{host}{_FEEDER}?{urlencode({'requestId': request_id, 'code': code})}"

    async def authorize(request: Request) -> Response:
        refusal = exchange.faults.refusal("authorize")
        if refusal:
            return refused(refusal)
        url = address(request, request.state.claims)
        return success({"authorized_redirect_uri": url, "authorizedRedirectUri": url})

    async def direct(socket: WebSocket) -> None:
        """The handshake is answered with a redirect, as a plain GET is."""
        claims = bearer(socket, exchange)
        if not await _turned_away(exchange, socket, "authorize"):
            reply = RedirectResponse(address(socket, claims), 302) if claims else failure(_UNAUTHORISED)
            await socket.send_denial_response(reply)

    async def direct_get(request: Request) -> Response:
        return RedirectResponse(address(request, request.state.claims), 302)

    async def feeder(socket: WebSocket) -> None:
        if await _turned_away(exchange, socket, "connect"):
            return
        claims = exchange.auth.redeem_feed_code(socket.query_params.get("code", ""), exchange.now_ms())
        if claims is None or not exchange.hub.has_room(claims.user_id):
            await socket.send_denial_response(Response(status_code=403))
            return
        await socket.accept()
        await exchange.hub.serve(socket, claims, exchange.now_ms)

    return [
        Route(f"{DIRECT}/authorize", guarded(exchange, "authorize", authorize)),
        Route(DIRECT, guarded(exchange, "feed", direct_get)),
        WebSocketRoute(DIRECT, direct),
        WebSocketRoute(_FEEDER, feeder),
    ]


async def _turned_away(exchange: Exchange, socket: WebSocket, door: Door) -> bool:
    refusal = exchange.faults.refusal(door)
    if refusal is None:
        return False
    await socket.send_denial_response(refused(refusal))
    return True
