"""`teji login upstox`: a link to open, a wait with a visible end, and a token that every worker finds by itself.

The venue sends the browser back to the redirect URI of the app. Where a gateway runs it is the one who waits there;
else this command does so itself, for as long as it takes.
"""

import asyncio
import contextlib
import errno
import getpass
import hmac
import json
import secrets
import sys
import webbrowser
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import SecretStr

from brokers.upstox import landing, login
from brokers.upstox.auth import TokenStore, expires_ms, user_of
from brokers.upstox.egress import is_loopback
from brokers.upstox.login import LoggedIn
from brokers.upstox.rest import http_client
from bus import clock
from bus.settings import Settings, Venue, load
from schemas.errors import Misconfigured, TejiError, Unavailable
from teji import running

_LOOK_S: Final = 0.1
_HEAD_S: Final = 5.0
_STARTING_S: Final = 30.0
_LOGIN_PATH: Final = "/api/v1/auth/login"
_WAIT_SHOWN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    push: bool = False  # approved in the venue's app, instead of in a browser
    given: bool = False  # read a token from standard input
    browser: bool = True  # open one
    minutes: float = login.STATE_S / 60
    as_json: bool = False


def main(options: Options) -> None:
    settings = load()
    found = asyncio.run(_log_in(settings, options))
    if options.as_json:
        print(json.dumps({"user": found.user, "expires": found.expires_ms}))
    else:
        print(landing.sentence(found))
    if settings.upstox_access_token.get_secret_value():
        print("UPSTOX_ACCESS_TOKEN is set too, and comes first: take it out of the environment.", file=sys.stderr)


async def _log_in(settings: Settings, options: Options) -> LoggedIn:
    gateway = running.found(settings.home)
    _keep_venues_apart(settings, gateway is not None)
    # Beside the one of the environment: what is waited for is the one that a login leaves.
    tokens = TokenStore(settings.model_copy(update={"upstox_access_token": SecretStr("")}))
    if options.given:
        async with http_client() as client:
            return await login.keep(client, settings, tokens, _read_token())
    before = tokens.current()
    if options.push:
        await _ask(settings, heard=gateway is not None)
        return await _wait(tokens, before, options.minutes)
    async with _door(settings, tokens, gateway.url if gateway else "") as (url, failed):
        print(f"Open this to log in: {url}", file=sys.stderr, flush=True)
        if options.browser and sys.stderr.isatty():
            await asyncio.to_thread(webbrowser.open, url)
        return await _wait(tokens, before, options.minutes, failed)


def _keep_venues_apart(settings: Settings, runs: bool) -> None:
    """A real token is of no use in the folder of the simulated exchange, whose own would soon replace it."""
    mark = settings.home / "venue"
    simulated = mark.exists() and mark.read_text().strip() == Venue.SIM.value
    if simulated and not runs and not is_loopback(settings.upstox_api_url):
        raise Misconfigured(
            f"{settings.home} holds the data of the simulated exchange: set TEJI_VENUE=upstox, and TEJI_HOME to a "
            "folder of its own."
        )


def _read_token() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Access token (not shown): ").strip()
    return sys.stdin.readline().strip()


async def _ask(settings: Settings, *, heard: bool) -> None:
    async with http_client() as client:
        asked = await login.ask(client, settings)
    print("Approve the login in the venue's app.", file=sys.stderr)
    if not asked.notifier_url.endswith(login.NOTIFIER_PATH + login.notifier_secret(settings)):
        print("The notifier URL that is registered with the app is not that of TEJI_NOTIFIER_SECRET.", file=sys.stderr)
    if not heard:
        print("No `teji up` runs here: the token is heard by the gateway that the notifier URL names.", file=sys.stderr)


async def _wait(
    tokens: TokenStore, before: str | None, minutes: float, failed: "asyncio.Future[TejiError] | None" = None
) -> LoggedIn:
    """Until there is another token than before. The time that is left is shown where somebody looks."""
    deadline_s = clock.monotonic_s() + minutes * 60
    if not sys.stderr.isatty():
        print(f"Waiting for the login, {minutes:g} minutes at most.", file=sys.stderr, flush=True)
    shown_s = 0.0
    while (left_s := deadline_s - clock.monotonic_s()) > 0:
        token = tokens.current()
        if token is not None and token != before:
            _show(None)
            return LoggedIn(user_of(token), "", expires_ms(token))
        if failed is not None and failed.done():
            _show(None)
            raise failed.result()
        if clock.monotonic_s() - shown_s >= _WAIT_SHOWN_S:
            shown_s = clock.monotonic_s()
            _show(left_s)
        await asyncio.sleep(_LOOK_S)
    _show(None)
    raise Unavailable(f"nobody has logged in for {minutes:g} minutes; begin again with `teji login upstox`")


def _show(left_s: float | None) -> None:
    """A line that is written over, on a terminal; None wipes it."""
    if sys.stderr.isatty():
        text = "" if left_s is None else f"Waiting for the login, {int(left_s) // 60}:{int(left_s) % 60:02} left"
        print(f"\r{text:<50}\r" if left_s is None else f"\r{text:<50}", end="", file=sys.stderr, flush=True)


# Who waits at the redirect URI


@contextlib.asynccontextmanager
async def _door(
    settings: Settings, tokens: TokenStore, gateway_url: str
) -> AsyncIterator[tuple[str, "asyncio.Future[TejiError]"]]:
    """The link to open, and what went wrong at the return."""
    failed: asyncio.Future[TejiError] = asyncio.get_running_loop().create_future()
    if gateway_url:
        yield await _begun_at(gateway_url, _STARTING_S), failed
        return
    state = secrets.token_urlsafe(24)
    url = login.dialog_url(settings, state)
    back = urlsplit(settings.upstox_redirect_uri)
    if back.scheme != "http" or not is_loopback(settings.upstox_redirect_uri):
        host = "127.0.0.1" if settings.teji_host in ("0.0.0.0", "::") else settings.teji_host  # noqa: S104 - compared
        yield await _begun_at(f"http://{host}:{settings.teji_port}"), failed
        return
    visit = _Visit(settings, tokens, state, back.path or "/", failed)
    here = "127.0.0.1" if back.hostname == "localhost" else back.hostname
    try:
        server = await asyncio.start_server(visit.serve, here, back.port or 80)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Misconfigured(f"Cannot listen at UPSTOX_REDIRECT_URI ({error.strerror}): start `teji up`.") from None
        yield await _begun_at(f"http://{back.netloc}"), failed
        return
    async with server:
        yield url, failed
        await visit.gone()


async def _begun_at(gateway_url: str, patience_s: float = 0.0) -> str:
    """A login that a running gateway waits for; one that is still starting is waited for, too."""
    deadline_s = clock.monotonic_s() + patience_s
    while True:
        try:
            async with http_client() as client:
                answer = await client.get(gateway_url + _LOGIN_PATH, headers={"Accept": "application/json"})
                told = answer.json()
            break
        except (httpx.HTTPError, ValueError):
            if clock.monotonic_s() < deadline_s:
                await asyncio.sleep(_LOOK_S)
                continue
            raise Misconfigured(
                f"No gateway of ours answers at {gateway_url}, to which the venue would send the browser back: "
                "start `teji up` first."
            ) from None
    if answer.status_code != 200:
        raise Misconfigured(str(told.get("detail") or f"The gateway answers {answer.status_code}."))
    return str(told["url"])


class _Visit:
    """Answers at the redirect URI: one return, with the state that we gave out."""

    def __init__(
        self, settings: Settings, tokens: TokenStore, state: str, path: str, failed: "asyncio.Future[TejiError]"
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._state = state
        self._path = path
        self._failed = failed
        self._answering = 0

    async def gone(self) -> None:
        """Until who has come has its page, too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAD_S):
                while self._answering:  # noqa: ASYNC110 - a browser's last moment
                    await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering += 1
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, page = await self._answer(head.decode("latin-1").split("\r\n")[0])
            writer.write(_response(status, page))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
            writer.close()  # no browser, or one that has gone
        finally:
            self._answering -= 1

    async def _answer(self, line: str) -> tuple[int, str]:
        method, _, rest = line.partition(" ")
        target = urlsplit(rest.rpartition(" ")[0])
        if method != "GET" or target.path != self._path:
            return 404, landing.page("Not found", "Only a login ends here.")
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        if not self._state or not hmac.compare_digest(query.get("state", "").encode(), self._state.encode()):
            return 400, landing.page("Not logged in", "This login was not begun here, or is over.")
        self._state = ""  # good once
        try:
            return 200, landing.page("Logged in", landing.sentence(await self._finish(query)))
        except TejiError as error:
            self._failed.set_result(error)
            return 400, landing.page("Not logged in", str(error))

    async def _finish(self, query: dict[str, str]) -> LoggedIn:
        if "code" not in query:
            raise Unavailable(f"the venue sent no code: {query.get('error', 'it does not say why')[:200]}")
        async with http_client() as client:
            return await login.with_code(client, self._settings, self._tokens, query["code"])


def _response(status: int, page: str) -> bytes:
    body = page.encode()
    headers: dict[str, Any] = {
        **landing.HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": len(body),
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode() + body
