"""The venue's REST side, for reading: one HTTP client, verified TLS, its refusals as our errors."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from schemas.errors import Misconfigured, Rejected, Unavailable

USER_AGENT: Final = "teji/0.1 (+python)"  # the assets host turns away clients without one
PROFILE_PATH: Final = "/v2/user/profile"  # the cheapest question that needs a token
_TIMEOUT_S: Final = 10.0
_SHOWN_MAX: Final = 300  # of a message of the venue

#: Calls allowed per window of seconds. Below the venue's own 50, 500 and 2000, so that others can call too.
READ_BUDGET: Final = ((1.0, 25), (60.0, 400), (1800.0, 1800))


class NeedsLogin(Unavailable):
    """The access token is missing or dead; a fresh one ends this."""


class Throttled(Unavailable):
    """429: too many calls."""


class Blocked(Unavailable):
    """403: no permission, too many connections, or the edge network in front of the venue."""


class VenueError(Rejected):
    """The venue understood and refuses."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code or status}: {message}")
        self.status = status
        self.code = code


class Budget:
    """Sliding windows over the calls that were made: how long the next one has to wait."""

    def __init__(self, windows: tuple[tuple[float, int], ...], now_s: Callable[[], float]) -> None:
        self._windows = windows
        self._now_s = now_s
        self._calls: deque[float] = deque(maxlen=max((limit for _, limit in windows), default=1))

    def wait_s(self) -> float:
        now = self._now_s()
        waits = [self._calls[-limit] + window - now for window, limit in self._windows if len(self._calls) >= limit]
        return max(0.0, *waits) if waits else 0.0

    def spend(self) -> None:
        self._calls.append(self._now_s())


class Rest:
    """GET calls under a budget. `token` is asked at every call: a fresh login needs no restart."""

    def __init__(
        self, client: httpx.AsyncClient, api_url: str, token: Callable[[], str | None], budget: Budget
    ) -> None:
        self._client = client
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._budget = budget
        self._turn = asyncio.Lock()

    def wait_s(self) -> float:
        """How long the next counted call would have to wait for its turn."""
        return self._budget.wait_s()

    async def get(self, path: str, params: dict[str, str] | None = None, *, counted: bool = True) -> Any:
        """The `data` of a successful answer."""
        if counted:
            async with self._turn:
                await asyncio.sleep(self._budget.wait_s())
                self._budget.spend()
        token = self._token()
        if not token:
            raise NeedsLogin("no access token")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        with translated():
            response = await self._client.get(self._api_url + path, params=params, headers=headers)
        return payload(response)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The library's errors as ours. Its text about what we sent may quote a secret, so that is not passed on."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Misconfigured("One of UPSTOX_API_URL and UPSTOX_ASSETS_URL is no http address.") from None
    except (httpx.LocalProtocolError, UnicodeError):
        raise Misconfigured("The request to the venue cannot be written: is the access token garbled?") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"the venue does not answer: {error or type(error).__name__}") from error


def payload(response: httpx.Response) -> Any:
    """The `data` of an answer, or the error that its status means. Bodies need not be JSON."""
    body = _json(response)
    status = response.status_code
    if status == 200 and isinstance(body, dict) and body.get("status") == "success":
        return body.get("data")
    code, message = complaint(body)
    if status == 401:
        raise NeedsLogin(f"the venue refuses the access token ({code or 401})")
    if status == 403:
        raise Blocked(f"403 {code}: {message}" if code else "403 without a JSON body: blocked at the edge")
    if status == 429:
        raise Throttled("429: too many calls")
    if status == 423 or status >= 500:
        raise Unavailable(f"the venue answers {status} {code} {message}".strip())
    raise VenueError(status, code, message or "an answer that is not in the venue's form")


def _json(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None


def complaint(body: Any) -> tuple[str, str]:
    """Code and message of the first error in a body, in either of the venue's spellings; empty where there is none."""
    errors = body.get("errors") if isinstance(body, dict) else None
    if not (isinstance(errors, list) and errors and isinstance(errors[0], dict)):
        return "", ""
    first = errors[0]
    code, message = first.get("error_code") or first.get("errorCode"), first.get("message")
    return str(code or "")[:_SHOWN_MAX], str(message or "")[:_SHOWN_MAX]


@contextlib.asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers={"User-Agent": USER_AGENT}) as client:
        yield client


def path_part(text: str) -> str:
    """An instrument key in a path: `|` and blanks are encoded."""
    return quote(text, safe="")
