"""The ways to an access token: the dialog in a browser, and a request that the user approves elsewhere.

Nothing here shows a token, a code or the app's secret: not in an address, not in a log, not in an error.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from brokers.upstox.auth import DIALOG_PATH, TokenStore, claims, exchange_code, expires_ms, is_clean, user_of
from brokers.upstox.rest import PROFILE_PATH, NeedsLogin, VenueError, payload, translated
from bus.settings import Settings
from schemas.errors import Misconfigured, Rejected, Unavailable

#: How long a login that was begun may take.
STATE_S: Final = 600

#: What comes after it in the path is the setting TEJI_NOTIFIER_SECRET.
NOTIFIER_PATH: Final = "/api/v1/auth/notify/"
NOTIFIER_SECRET_MIN: Final = 24  # characters: nobody guesses as many

_LOGOUT_PATH: Final = "/v2/logout"
_REQUEST_PATH: Final = "/v3/login/auth/token/request/"


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who, and until when."""

    user: str
    name: str
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a token, which the user has to approve in the venue's app or in its message."""

    until_ms: int | None
    notifier_url: str  # where the venue will send the token: what is registered with the app


def check_settings(settings: Settings, *, redirect: bool = True) -> None:
    """Raises Misconfigured with the first one that a login lacks."""
    wanted = {"UPSTOX_API_KEY": settings.upstox_api_key}
    wanted["UPSTOX_API_SECRET"] = settings.upstox_api_secret.get_secret_value()
    if redirect:
        wanted["UPSTOX_REDIRECT_URI"] = settings.upstox_redirect_uri
    for name, value in wanted.items():
        if not value:
            raise Misconfigured(f"{name} is not set: a login needs the app that you have registered with the venue.")


def dialog_url(settings: Settings, state: str) -> str:
    """Where the user says yes. The venue sends `state` back, so that a code that we did not ask for is refused."""
    check_settings(settings)
    query = {
        "response_type": "code",
        "client_id": settings.upstox_api_key,
        "redirect_uri": settings.upstox_redirect_uri,
        "state": state,
    }
    return f"{settings.upstox_api_url.rstrip('/')}{DIALOG_PATH}?{urlencode(query)}"


async def with_code(client: httpx.AsyncClient, settings: Settings, tokens: TokenStore, code: str) -> LoggedIn:
    """Exchange the code of the dialog, look whose token that is, keep it. The code is spent by then: where the venue
    cannot say at the moment whose the token is, it is kept, too."""
    token = await exchange_code(client, settings, code)
    try:
        found = await who(client, settings, token)
    except NeedsLogin:
        raise
    except (Unavailable, VenueError):
        found = LoggedIn(user_of(token), "", expires_ms(token))
    tokens.save(token)
    return found


async def keep(client: httpx.AsyncClient, settings: Settings, tokens: TokenStore, token: str) -> LoggedIn:
    """A token that the venue confirms is kept; whichever it does not is not. Raises NeedsLogin for those."""
    if not token or not is_clean(token):
        raise NeedsLogin("that is no access token: it is empty, or has characters that no token has")
    found = await who(client, settings, token)
    tokens.save(token)
    return found


async def who(client: httpx.AsyncClient, settings: Settings, token: str) -> LoggedIn:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    with translated():
        answer = await client.get(settings.upstox_api_url.rstrip("/") + PROFILE_PATH, headers=headers)
    data = payload(answer)
    told = data if isinstance(data, dict) else {}
    user = str(told.get("user_id") or told.get("userId") or claims(token).get("sub") or "")
    return LoggedIn(user, str(told.get("user_name") or told.get("userName") or ""), expires_ms(token))


async def log_out(client: httpx.AsyncClient, settings: Settings, token: str) -> bool:
    """Let the venue end a token. False: it was dead already."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    with translated():
        answer = await client.delete(settings.upstox_api_url.rstrip("/") + _LOGOUT_PATH, headers=headers)
    try:
        payload(answer)
    except NeedsLogin:
        return False
    return True


# A login that is approved elsewhere


def notifier_secret(settings: Settings) -> str:
    """Raises Misconfigured where there is none worth the name."""
    secret = settings.teji_notifier_secret.get_secret_value()
    if len(secret) < NOTIFIER_SECRET_MIN:
        raise Misconfigured(
            f"TEJI_NOTIFIER_SECRET has to have {NOTIFIER_SECRET_MIN} characters or more, and the notifier URL that is "
            f"registered with the app to end in {NOTIFIER_PATH} and that secret."
        )
    return secret


async def ask(client: httpx.AsyncClient, settings: Settings) -> Asked:
    """Let the venue ask the user, who approves in its app or by message. The token comes to the notifier."""
    check_settings(settings, redirect=False)
    notifier_secret(settings)
    url = f"{settings.upstox_api_url.rstrip('/')}{_REQUEST_PATH}{quote(settings.upstox_api_key, safe='')}"
    body = {"client_secret": settings.upstox_api_secret.get_secret_value()}
    with translated():
        answer = await client.post(url, json=body, headers={"Accept": "application/json"})
    try:
        data = payload(answer)
    except NeedsLogin:
        raise VenueError(answer.status_code, "", "the venue does not accept the app's key and secret") from None
    told = data if isinstance(data, dict) else {}
    until = str(told.get("authorization_expiry") or "")
    return Asked(int(until) if until.isascii() and until.isdigit() else None, str(told.get("notifier_url") or ""))


class Foreign(Rejected):
    """A message to the notifier that is not about a token of ours."""


async def pushed(client: httpx.AsyncClient, settings: Settings, tokens: TokenStore, told: Any) -> LoggedIn:
    """Take the token of a message to the notifier. The message is not signed: it has to be about our app and about the
    user that we know, and the venue has to confirm the token, and whose it is, before it is kept."""
    if not isinstance(told, dict) or told.get("message_type") != "access_token":
        raise Foreign("no message about an access token")
    if not settings.upstox_api_key or told.get("client_id") != settings.upstox_api_key:
        raise Foreign("of another app: client_id")
    token, user = told.get("access_token"), str(told.get("user_id") or "")
    if not isinstance(token, str) or not token or not is_clean(token):
        raise Foreign("without an access token")
    known = tokens.user()
    if not user or (known and user != known):
        raise Foreign("about another user: user_id")
    try:
        found = await who(client, settings, token)
    except (NeedsLogin, VenueError):
        raise Foreign("with a token that the venue does not confirm") from None
    if found.user != user:
        raise Foreign("with a token of another user")
    tokens.save(token)
    return found
