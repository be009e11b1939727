"""The venue's REST side, for reading: one HTTP client, verified TLS, its refusals as our errors."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from schemas.errors import Rejected, Unavailable

USER_AGENT: Final = "teji/0.1 (+python)"  # the assets host turns away clients without one
_TIMEOUT_S: Final = 10.0

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

    async def get(self, path: str, params: dict[str, str] | None = None, *, counted: bool = True) -> Any:
        """The `data` of a successful answer."""
        token = self._token()
        if not token:
            raise NeedsLogin("no access token")
        if counted:
            async with self._turn:
                await asyncio.sleep(self._budget.wait_s())
                self._budget.spend()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        with translated():
            response = await self._client.get(self._api_url + path, params=params, headers=headers)
        return payload(response)


@contextlib.contextmanager
def translated() -> Any:
    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(f"the venue does not answer: {str(error) or type(error).__name__}") from error


def payload(response: httpx.Response) -> Any:
    """The `data` of an answer, or the error that its status means. Bodies need not be JSON."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if response.status_code == 200 and isinstance(body, dict) and body.get("status") == "success":
        return body.get("data")
    code, message = _complaint(body)
    match response.status_code:
        case 401:
            raise NeedsLogin(f"the venue refuses the access token ({code or 401})")
        case 403 if not code:
            raise Blocked("403 without a JSON body: blocked at the edge")
        case 403:
            raise Blocked(f"403 {code}: {message}")
        case 429:
            raise Throttled("429: too many calls")
        case 423 | 500 | 502 | 503 | 504:
            raise Unavailable(f"the venue answers {response.status_code} {code} {message}".strip())
    raise VenueError(response.status_code, code, message or "an answer that is not in the venue's form")


def _complaint(body: Any) -> tuple[str, str]:
    errors = body.get("errors") if isinstance(body, dict) else None
    if not (isinstance(errors, list) and errors and isinstance(errors[0], dict)):
        return "", ""
    first = errors[0]
    return str(first.get("error_code") or first.get("errorCode") or ""), str(first.get("message") or "")


@contextlib.asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers={"User-Agent": USER_AGENT}) as client:
        yield client


def path_part(text: str) -> str:
    """An instrument key in a path: `|` and blanks are encoded."""
    return quote(text, safe="")
