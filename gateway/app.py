"""The ASGI application: SSE paths first and bare, everything else through FastAPI."""

from pathlib import Path
from typing import Final

import orjson
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import docs, problems, sse
from gateway.context import Gateway
from gateway.problems import Problem
from gateway.routes import auth, candles, chains, feed, gtt, health, instruments, orders, portfolio, quotes, trading

API: Final = "/api/v1"
WEB: Final = Path(__file__).with_name("web")

_SECURITY: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Front:
    """Sends the SSE paths past FastAPI, and puts the security headers on everything else."""

    def __init__(self, streams: ASGIApp, rest: ASGIApp) -> None:
        self._streams = streams
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(sse.PREFIX):
            await self._streams(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._rest(scope, receive, secured)


def create(gateway: Gateway) -> Front:
    return Front(gateway.streams, rest(gateway))


def rest(gateway: Gateway) -> FastAPI:
    app = FastAPI(title="Teji", version=health.own_version(), docs_url=None, redoc_url=None, openapi_url=None)
    app.state.gateway = gateway
    problems.install(app)
    for part in (health, instruments, quotes, candles, chains, feed, orders, gtt, portfolio, trading):
        app.include_router(part.router, prefix=API)
    app.include_router(auth.router, prefix=API)
    app.include_router(auth.returns, prefix=API)
    app.include_router(auth.returns, include_in_schema=False)
    app.include_router(health.router, include_in_schema=False)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get(f"{API}/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(orjson.dumps(docs.describe(app)), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(docs.page(docs.describe(app)))

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        if not (WEB / "index.html").is_file():
            raise Problem(404, "this installation has no dashboard; the API is described at /docs", kind="not-found")
        return FileResponse(WEB / "index.html")

    if WEB.is_dir():
        app.mount("/static", StaticFiles(directory=WEB), name="static")
