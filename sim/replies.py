"""What every REST call shares: the envelope, the errors, and the doors a request passes."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from sim.auth import Claims
from sim.errors import ApiError as ApiError
from sim.exchange import Exchange
from sim.faults import EDGE_PAGE, Refusal

Handler = Callable[[Request], Awaitable[Response]]

OUT_OF_HOURS: Final = "The order service answers from 5:30 AM to 12:00 AM IST"


def success(data: Any, **more: Any) -> Response:
    return json_reply({"status": "success", "data": data} | more)


def json_reply(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def failure(error: ApiError) -> Response:
    """Each fact twice: the venue still sends the old spellings."""
    entry = {
        "error_code": error.code,
        "message": error.message,
        "property_path": error.property_path,
        "invalid_value": error.invalid_value,
        "errorCode": error.code,
        "propertyPath": error.property_path,
        "invalidValue": error.invalid_value,
    }
    return json_reply({"status": "error", "errors": [entry]}, error.status)


_REFUSALS: Final = {
    401: ("UDAPI100050", "Invalid token used to access API"),
    403: ("UDAPI100058", "Access denied"),
    423: ("UDAPI100074", OUT_OF_HOURS),
    429: ("UDAPI10005", "Too Many Request Sent"),
}


def refused(refusal: Refusal) -> Response:
    """A fault's answer."""
    if refusal.html:
        return HTMLResponse(EDGE_PAGE, refusal.status)
    return failure(ApiError(refusal.status, *_REFUSALS.get(refusal.status, ("UDAPI100500", "Something went wrong"))))


async def on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failure(error)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Paths and methods that the router does not know."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return failure(ApiError(404, "UDAPI100060", "Resource not Found."))
    return failure(ApiError(error.status_code, "UDAPI10000", "This API is not supported"))


def bearer(connection: HTTPConnection, exchange: Exchange) -> Claims | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return exchange.auth.claims(token.strip(), exchange.now_ms()) if scheme.lower() == "bearer" else None


async def cut_off(exchange: Exchange, request: Request) -> Response:
    """Cut the line: the answer is for nobody."""
    exchange.cut(request.scope["client"])
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=503)


def guarded(exchange: Exchange, call: str, handler: Handler, *, login: bool = True) -> Handler:
    """Through the doors in the venue's order: edge, token, rate limit."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        if exchange.faults.rest_down:
            return await cut_off(exchange, request)
        refusal = exchange.faults.refusal("rest")
        if refusal:
            return refused(refusal)
        claims = bearer(request, exchange)
        if login and claims is None:
            raise ApiError(401, "UDAPI100050", "Invalid token used to access API")
        user = claims.user_id if claims else (request.client.host if request.client else "")
        if exchange.limiter and not exchange.limiter.allow(user, call, asyncio.get_running_loop().time()):
            raise ApiError(429, "UDAPI10005", "Too Many Request Sent")
        request.state.claims = claims
        return await handler(request)

    return endpoint
