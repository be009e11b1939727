"""OAuth, the profile and logging out."""

import html
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sim.auth import Refused
from sim.exchange import Exchange
from sim.replies import ApiError, guarded, json_reply, success

T = TypeVar("T")

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Simulated exchange</title>
<style>body{{font:16px system-ui;margin:15vh auto;max-width:26em;text-align:center}}
button{{font:inherit;padding:.5em 2em}}
</style></head><body><h1>Simulated exchange</h1><p>Let the app <b>{client}</b> act for user <b>{user}</b>?</p>
<form method="post"><button>Approve</button></form></body></html>"""

_EXCHANGES = ["NSE", "NFO", "BSE", "CDS", "BFO", "BCD", "MCX", "NSCOM"]


def routes(exchange: Exchange) -> list[Route]:
    auth, settings = exchange.auth, exchange.settings

    def who() -> dict[str, object]:
        return {
            "email": "sim@example.com",
            "exchanges": _EXCHANGES,
            "products": ["D", "CO", "I", "MTF"],
            "broker": "UPSTOX",
            "user_id": settings.user_id,
            "user_name": "Simulated Trader",
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "user_type": "individual",
            "poa": False,
            "is_active": True,
        }

    async def dialog(request: Request) -> Response:
        query = request.query_params
        redirect_uri = query.get("redirect_uri")
        _checked(lambda: auth.check_client(query.get("client_id"), redirect_uri))
        if query.get("response_type") != "code":
            raise ApiError(400, "UDAPI100036", "Invalid Input", "response_type", query.get("response_type"))
        if request.method == "GET" and not settings.auto_approve:
            client, user = html.escape(settings.api_key), html.escape(settings.user_id)
            return HTMLResponse(_PAGE.format(client=client, user=user))
        return RedirectResponse(auth.approve(redirect_uri or "", query.get("state")), 302)

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        access = _checked(lambda: auth.exchange(form, exchange.now_ms()))
        return json_reply(who() | {"access_token": access, "extended_token": None})

    async def profile(_: Request) -> Response:
        return success(who())

    async def logout(request: Request) -> Response:
        auth.log_out(request.state.claims.token)
        return success(True)

    return [
        Route("/v2/login/authorization/dialog", dialog, methods=["GET", "POST"]),
        Route("/v2/login/authorization/token", token, methods=["POST"]),
        Route("/v2/user/profile", guarded(exchange, "profile", profile)),
        Route("/v2/logout", guarded(exchange, "logout", logout), methods=["DELETE"]),
    ]


def _checked(step: Callable[[], T]) -> T:
    try:
        return step()
    except Refused as refused:
        raise ApiError(refused.status, refused.code, refused.message) from None
