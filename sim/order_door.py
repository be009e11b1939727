"""The doors before every write of an order, of whatever kind: who may, from where, when, how often, and what fails.

A handler is called when all of them are open. What it accepts may still be answered late, with a 500, or not at all.
"""

import asyncio
import functools
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sim.exchange import Exchange
from sim.hours import MINUTE_MS, day_of, midnight_ms
from sim.replies import OUT_OF_HOURS, ApiError, Handler, bearer, cut_off, failure, guarded, refused, success

ALGO_HEADER: Final = "x-algo-name"

_OPENS_MS: Final = (5 * 60 + 30) * MINUTE_MS
_BUCKET: Final = "order writes"


def order_write(exchange: Exchange, handler: Handler) -> Handler:
    """An endpoint that writes orders. It counts as one write; a handler that makes more of it calls `spend`."""
    faults = exchange.faults

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        request.state.began_s = asyncio.get_running_loop().time()
        try:
            await request.body()  # now: who hangs up later has been heard
        except ClientDisconnect:
            return Response(status_code=400)
        if faults.rest_down or faults.use("order_unheard"):
            return await cut_off(exchange, request)
        if refusal := faults.refusal("rest"):
            return refused(refusal)
        if refusal := faults.refusal("orders"):
            return failure(_foreign_ip()) if refusal.status == 403 and not refusal.html else refused(refusal)
        if faults.order_late_ms:
            await asyncio.sleep(faults.order_late_ms / 1_000)
        _enter(exchange, request)
        reply = await handler(request)
        if faults.use("order_lost"):
            return await cut_off(exchange, request)
        if faults.use("order_500"):
            reply = failure(ApiError(500, "UDAPI100500", "Something went wrong... please contact us"))
        if faults.order_slow_ms:
            await asyncio.sleep(faults.order_slow_ms / 1_000)
        return reply

    return endpoint


def order_read(exchange: Exchange, call: str, handler: Handler) -> Handler:
    """An endpoint that tells about orders: no more than login and service hours are asked."""

    async def within_hours(request: Request) -> Response:
        check_hours(exchange)
        return await handler(request)

    return guarded(exchange, call, within_hours)


def spend(exchange: Exchange, request: Request, writes: int) -> None:
    """So many more writes of this user, all or none. Raises ApiError where the limit forbids."""
    limiter = exchange.order_limiter
    if writes and limiter and not limiter.allow(_user(request), _BUCKET, asyncio.get_running_loop().time(), writes):
        raise ApiError(429, "UDAPI10005", "Too Many Request Sent")


def accepted(request: Request, data: Any, **more: Any) -> Response:
    """With the time that it took, as replies to order writes have it."""
    latency_ms = (asyncio.get_running_loop().time() - request.state.began_s) * 1_000
    return success(data, **more, metadata={"latency": round(latency_ms)})


def check_hours(exchange: Exchange, code: str = "UDAPI100074") -> None:
    """The service sleeps from midnight to half past five."""
    now_ms = exchange.now_ms()
    if not exchange.settings.is_always_open and now_ms - midnight_ms(day_of(now_ms)) < _OPENS_MS:
        raise ApiError(423, code, OUT_OF_HOURS)


def _enter(exchange: Exchange, request: Request) -> None:
    claims = bearer(request, exchange)
    if claims is None:
        raise ApiError(401, "UDAPI100050", "Invalid token used to access API")
    request.state.claims = claims
    host = request.client.host if request.client else ""
    if not exchange.account.may_order_from(host):
        raise _foreign_ip()
    algo, registered = request.headers.get(ALGO_HEADER, ""), exchange.settings.algo_name
    if algo and registered and algo != registered:
        raise ApiError(400, "UDAPI1156", "The algo name is not registered", ALGO_HEADER, algo)
    check_hours(exchange)
    spend(exchange, request, 1)


def _foreign_ip() -> ApiError:
    return ApiError(403, "UDAPI1154", "Orders are accepted from a registered static IP only")


def _user(request: Request) -> str:
    return str(request.state.claims.user_id)
