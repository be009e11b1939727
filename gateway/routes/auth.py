"""`/auth`: log in at the venue, see for how long, log out. `/callback`: where the venue sends the browser back to.

A login is begun here and nowhere else: what comes back has to carry a `state` that we gave out in the last ten minutes,
and each is good for one return. The notifier, to which the venue pushes a token that the user has approved elsewhere,
is open to the world under a path that nobody guesses.
"""

import hashlib
import hmac
import secrets
from typing import Annotated, Any, Final

import orjson
import structlog
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, RedirectResponse, Response

from brokers.upstox import landing, login
from brokers.upstox.auth import TokenStore, expires_ms, user_of
from brokers.upstox.login import LoggedIn
from brokers.upstox.rest import Budget, NeedsLogin, http_client
from bus import clock
from gateway import problems
from gateway.access import MayChange
from gateway.context import Gateway, Here
from gateway.problems import Problem
from schemas.errors import Misconfigured, Rejected, Unavailable

log = structlog.get_logger("login")

router = APIRouter(prefix="/auth", tags=["login"])
returns = APIRouter(tags=["login"])  # `/callback`, at the root and under the API's prefix

_LOGIN: Final = "/api/v1/auth/login"
_STATE_BYTES: Final = 24
_MESSAGE_MAX_BYTES: Final = 16 * 1024

#: What may be asked of a gateway: far more than people need, far less than fills a memory or annoys the venue.
_WINDOWS: Final[dict[str, tuple[tuple[float, int], ...]]] = {
    "begun": ((60.0, 30), (1800.0, 200)),
    "asked": ((1.0, 1), (60.0, 10), (1800.0, 60)),
    "told": ((60.0, 60),),
}


class Begun(BaseModel):
    """A login to finish in a browser."""

    url: str = Field(description="The venue's dialog; it sends the browser back to `/callback`")
    state: str = Field(description="Comes back with the browser: good once")
    expires: int = Field(description="Until when, epoch ms")


class Login(BaseModel):
    """Who is logged in, and for how long."""

    logged_in: bool
    user: str = Field(description="The venue's id of the user, as the token says it; empty: it does not")
    expires: int | None = Field(description="When the token dies, epoch ms; null: it does not say")
    verified: bool | None = Field(description="Whether the venue takes the token; null: it was not asked")
    hint: str = Field(description="For people: what to do, where there is something to do")


class Done(BaseModel):
    message: str


class Requested(Done):
    until: int | None = Field(description="When the request lapses, epoch ms")
    notifier: bool = Field(description="Whether the notifier registered with the venue's app is this gateway's path")


# In the browser


@router.get(
    "/login",
    summary="Begin a login",
    response_model=Begun,
    responses={302: {"description": "For browsers: to the venue's dialog"}, **problems.responses(403, 422, 429, 503)},
)
async def begin(request: Request, here: Here, _: MayChange) -> Response:
    """Where to log in. A browser (`Accept: text/html`) is sent there, a program is told where it is."""
    state = secrets.token_urlsafe(_STATE_BYTES)
    url = login.dialog_url(here.settings, state)
    _spend(request, "begun")
    await here.bus.packet(("SET", _key(state), clock.now_ms(), "EX", login.STATE_S))
    if _for_people(request):
        return RedirectResponse(url, 302, {"Cache-Control": "no-store"})
    expires = clock.now_ms() + login.STATE_S * 1000
    return _json(Begun(url=url, state=state, expires=expires))


@returns.get("/callback", summary="End a login", response_model=Login, responses=problems.responses(400, 422, 429, 503))
async def callback(
    request: Request,
    here: Here,
    state: Annotated[str, Query(max_length=200, description="The one that the login was begun with")] = "",
    code: Annotated[str, Query(max_length=2000, description="The venue's, good once")] = "",
    error: Annotated[str, Query(max_length=2000, description="Why there is no code")] = "",
) -> Response:
    """The venue sends the browser here. The code is exchanged for a token, which is kept encrypted and never shown."""
    try:
        found = await _finished(here, state, code, error)
    except (Problem, Unavailable, Rejected, Misconfigured) as failure:
        problem = problems.of(failure)
        log.warning("a login has failed", why=problem.detail)
        if not _for_people(request):
            raise problem from None
        return HTMLResponse(
            landing.page("Not logged in", problem.detail, again=_LOGIN), problem.status, landing.HEADERS
        )
    if _for_people(request):
        return HTMLResponse(landing.page("Logged in", landing.sentence(found)), headers=landing.HEADERS)
    return _json(Login(logged_in=True, user=found.user, expires=found.expires_ms, verified=True, hint=""))


async def _finished(here: Gateway, state: str, code: str, error: str) -> LoggedIn:
    if not state or (await here.bus.packet(("GETDEL", _key(state))))[0] is None:
        raise Problem(400, "this login was not begun here, took longer than ten minutes, or is over", kind="bad-state")
    if not code:
        raise Problem(400, f"the venue sent no code{f': {error[:200]}' if error else ''}", kind="no-code")
    try:
        async with http_client() as client:
            found = await login.with_code(client, here.settings, TokenStore(here.settings), code)
    except NeedsLogin as refused:
        raise Problem(400, str(refused), kind="refused") from None
    log.info("logged in", user=found.user, until=landing.until(found.expires_ms))
    return found


# How it stands


@router.get("/status", summary="Who is logged in", response_model=Login, responses=problems.responses(422, 503))
async def status(
    request: Request,
    here: Here,
    verify: Annotated[bool, Query(description="Ask the venue whether it takes the token")] = False,
) -> Login:
    """As the token tells it of itself; with `verify` also as the venue sees it."""
    if verify:
        _spend(request, "told")
    token = TokenStore(here.settings).current()
    if token is None:
        return Login(logged_in=False, user="", expires=None, verified=None, hint=f"Open {_LOGIN} in a browser.")
    expires, verified = expires_ms(token), await _verified(here, token) if verify else None
    dead = verified is False or (expires is not None and expires <= clock.now_ms())
    hint = f"The token has died: open {_LOGIN} in a browser." if dead else ""
    return Login(logged_in=not dead, user=user_of(token), expires=expires, verified=verified, hint=hint)


async def _verified(here: Gateway, token: str) -> bool:
    try:
        async with http_client() as client:
            await login.who(client, here.settings, token)
    except NeedsLogin:
        return False
    return True


@router.delete("", summary="Log out", response_model=Done, responses=problems.responses(403, 422, 503))
async def log_out(here: Here, _: MayChange) -> Done:
    """The venue ends the token, and ours is forgotten, also where the venue cannot be told."""
    tokens = TokenStore(here.settings)
    token = tokens.current()
    if token is None:
        return Done(message="Nobody was logged in.")
    try:
        async with http_client() as client:
            told = "Logged out." if await login.log_out(client, here.settings, token) else "The token was dead already."
    except Unavailable as error:
        told = f"The token is forgotten here, but lives until {landing.until(expires_ms(token))}: {error}."
    if not tokens.forget():
        told += " The token of UPSTOX_ACCESS_TOKEN stays in the environment: take it away there."
    log.info("logged out")
    return Done(message=told)


# Approved elsewhere


@router.post(
    "/request", summary="Ask for a token", response_model=Requested, responses=problems.responses(403, 422, 429, 503)
)
async def request_token(request: Request, here: Here, _: MayChange) -> Requested:
    """The venue asks the user, in its app or by message; the token comes to the notifier when that is approved."""
    _spend(request, "asked")
    async with http_client() as client:
        asked = await login.ask(client, here.settings)
    ours = asked.notifier_url.endswith(login.NOTIFIER_PATH + login.notifier_secret(here.settings))
    message = "Approve the login in the venue's app."
    if not ours:
        message += " The notifier URL that is registered with it is not this gateway's: the token may go elsewhere."
    return Requested(message=message, until=asked.until_ms, notifier=ours)


@router.post(
    "/notify/{secret}",
    summary="Take a token",
    response_model=Done,
    responses=problems.responses(404, 413, 422, 429, 503),
)
async def notify(
    request: Request, here: Here, secret: Annotated[str, Path(description="TEJI_NOTIFIER_SECRET", max_length=500)]
) -> Done:
    """The venue's message with a token. It is not signed: the token is kept only when the venue confirms it."""
    known = here.settings.teji_notifier_secret.get_secret_value()
    if len(known) < login.NOTIFIER_SECRET_MIN or not hmac.compare_digest(known.encode(), secret.encode()):
        raise Problem(404, "Not Found")
    _spend(request, "told")
    told = await _message(request)
    try:
        async with http_client() as client:
            found = await login.pushed(client, here.settings, TokenStore(here.settings), told)
    except login.Foreign as error:
        log.warning("a message to the notifier was refused", why=str(error))
        raise Problem(422, f"a message {error}", kind="foreign") from None
    log.info("logged in", user=found.user, until=landing.until(found.expires_ms), by="the notifier")
    return Done(message="Taken.")


async def _message(request: Request) -> Any:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MESSAGE_MAX_BYTES:
            raise Problem(413, f"a message of more than {_MESSAGE_MAX_BYTES} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem.field(422, "body", "no JSON") from None


# The parts


def _key(state: str) -> str:
    """The state itself is in no key: whoever reads the keys of Redis finishes nobody's login."""
    return f"login:{hashlib.sha256(state.encode()).hexdigest()}"


def _for_people(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _spend(request: Request, what: str) -> None:
    if not hasattr(request.app.state, "login_budgets"):
        request.app.state.login_budgets = {}
    budgets: dict[str, Budget] = request.app.state.login_budgets
    budget = budgets.setdefault(what, Budget(_WINDOWS[what], clock.monotonic_s))
    wait_s = budget.wait_s()
    if wait_s:
        raise Problem(429, "too many at once", kind="throttled", headers={"Retry-After": str(int(wait_s) + 1)})
    budget.spend()


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
