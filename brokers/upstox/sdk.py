"""The vendor's Python client, held so that every call ends in one exactly known way.

What it gives is used: paths, the choice between order host and normal host, request models. What it does is not left
to it, for these reasons (seen in its releases 2.28 to 2.30):

- Its connection pool retries three times on a broken line, POST included on some of them, and follows redirects with
  the token. Ours does neither: what leaves, leaves once.
- It takes no floating-point timeout: one that is given is ignored, and a call may then last for ever.
- Its models raise on any word that they do not know, after an order has been placed, and drop fields that are newer
  than they are. Answers are handed on as JSON; `parse.py` reads them, like those of the stream.
- Its own threads, one pool per client, are not bounded in what waits for them. They are ended at once; the calls
  run in two small pools, so that a slow read never stands before a write.
- Its loggers write to standard error by themselves.

Whether a request has left is noted by the connection itself, at the first byte that it is handed. So "nothing was
sent" and "nobody knows" are told apart by what happened, not by the text of an error. One that has found no thread and
no line in half of its time, or by the caller's own moment, is not sent any more; when all of it is over, whoever waits
for an answer gives up.
"""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import certifi
import orjson
import upstox_client
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from brokers.upstox.rest import USER_AGENT
from brokers.venue import LEAVE_BY_S
from bus import clock
from bus.settings import Settings
from schemas.errors import Misconfigured

_WRITERS: Final = 4
_READERS: Final = 4
_RETRY_AFTER_MAX_S: Final = 300.0
_IDLE_MAX_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is None where it is no JSON."""

    status: int
    body: Any
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, and why, for people. `left`: some of the request may have reached the venue."""

    reason: str
    left: bool


class _Abandoned(Exception):
    """Its time was over before it could leave."""


class _Call:
    """One request on its way. Two threads look at it: the one that sends, and the loop that waits."""

    def __init__(self, token: str, leave_by_s: float, *, writes: bool) -> None:
        self.token = token
        self._leave_by_s = leave_by_s
        self.writes = writes
        self.left = False
        self._abandoned = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def leave(self, line: socket.socket | None) -> None:
        with self._lock:
            self.check()
            self.left = True
            self._socket = line

    def check(self) -> None:
        """Whether it may leave, or go on leaving."""
        if self._abandoned or (not self.left and clock.monotonic_s() > self._leave_by_s):
            raise _Abandoned

    def abandon(self) -> bool:
        """Nothing leaves after this; a thread that waits for an answer is freed. Whether something had left."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it may be closed already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own unwraps under the reader's hands
            return self.left

    def over(self) -> None:
        with self._lock:
            self._socket = None  # it may go on to carry another call


_current = threading.local()


class _Marked:
    """Notes when something of a request leaves. One that has been idle for long is not trusted with an order: what
    stands between may have forgotten it, and then nobody answers."""

    sock: Any
    connect: Any
    _used_s = 0.0

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # the library would too, but then it is too late to say that nothing has left
        _current.call.leave(self.sock)
        self._used_s = clock.monotonic_s()
        super().send(data)  # type: ignore[misc]

    @property
    def is_connected(self) -> bool:
        fresh = clock.monotonic_s() - self._used_s < _IDLE_MAX_S
        return fresh and bool(super().is_connected)  # type: ignore[misc]


class _Line(_Marked, HTTPConnection):
    pass


class _SecureLine(_Marked, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Line


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureLine


class _Once(urllib3.PoolManager):
    """No retry and no redirect, whatever the caller says."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]  # noqa: ARG002
        return super().urlopen(method, url, redirect=False, **{**kw, "retries": False})


class _RestClient:
    """Stands where the SDK has its `RESTClientObject`."""

    def __init__(self, urls: tuple[str, ...], timeout_s: float) -> None:
        # Addresses are registered as IPv4, and the order host is out of reach over IPv6: leave from an IPv4 address.
        ipv6 = any(":" in (urlsplit(url).hostname or "") for url in urls)
        pinned: Any = {} if ipv6 else {"source_address": ("0.0.0.0", 0)}  # noqa: S104 - any IPv4 address of ours
        self._pools = _Once(
            num_pools=4, maxsize=_WRITERS + _READERS, cert_reqs="CERT_REQUIRED", ca_certs=certifi.where(), **pinned
        )
        self._pools.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        self._timeout = urllib3.Timeout(total=timeout_s)

    def request(self, method: str, url: str, **given: Any) -> Answer:
        query, headers = given.get("query_params"), dict(given.get("headers") or {})
        body = None
        if method != "GET":
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(given["body"] if given.get("body") is not None else {})
        address = f"{url}?{urlencode(query)}" if query else url
        response = self._pools.request(method, address, body=body, headers=headers, timeout=self._timeout)
        return Answer(response.status, _json(response.data), _seconds(response.headers.get("Retry-After")))

    def close(self) -> None:
        self._pools.clear()


class _Client(upstox_client.ApiClient):  # type: ignore[misc]
    """The SDK's client with our way of sending, and without its way of reading answers."""

    def __init__(self, configuration: Any, rest: _RestClient, algo_name: str) -> None:
        super().__init__(configuration)
        self.pool.close()  # its threads; nothing is ever handed to them
        self.rest_client = rest
        self.user_agent = USER_AGENT
        self._algo_name = algo_name

    def update_params_for_auth(self, headers: dict[str, str], querys: Any, auth_settings: Any) -> None:  # noqa: ARG002
        call: _Call = _current.call
        headers["Authorization"] = f"Bearer {call.token}"
        if call.writes and self._algo_name:
            headers["X-Algo-Name"] = self._algo_name

    def request(self, method: str, url: str, **given: Any) -> Any:
        return self.rest_client.request(method, url, **given)

    def deserialize(self, response: Any, response_type: Any) -> Any:  # noqa: ARG002
        return response


class Sdk:
    """The SDK's calls, on our threads. `orders.place_order(body)` and the like return an Answer."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.teji_order_timeout_s
        hosts = _checked(settings.upstox_api_url), _checked(settings.upstox_order_url)
        self._rest = _RestClient(hosts, settings.teji_order_timeout_s)
        client = _Client(_configuration(*hosts), self._rest, settings.teji_algo_name)
        self.orders_v3 = upstox_client.OrderApiV3(client)
        self.orders = upstox_client.OrderApi(client)
        self.portfolio = upstox_client.PortfolioApi(client)
        self.user = upstox_client.UserApi(client)
        self.charges = upstox_client.ChargeApi(client)
        self._writers = ThreadPoolExecutor(_WRITERS, "upstox-write")
        self._readers = ThreadPoolExecutor(_READERS, "upstox-read")

    def close(self) -> None:
        for pool in (self._writers, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._rest.close()

    async def call(self, request: Callable[[], Any], *, token: str, writes: bool) -> Answer | Failure:
        """Make a call of the SDK, once. Never raises for what happens on the way."""
        leave_by_s = clock.monotonic_s() + self._timeout_s / 2
        call = _Call(token, min(leave_by_s, LEAVE_BY_S.get()), writes=writes)
        pool = self._writers if writes else self._readers
        future = asyncio.get_running_loop().run_in_executor(pool, _run, call, request)
        try:
            done, _ = await asyncio.wait({future}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            call.abandon()
            raise
        if done:
            return future.result()
        return Failure(f"no answer for {self._timeout_s:g} s", call.abandon())


def _run(call: _Call, request: Callable[[], Any]) -> Answer | Failure:
    """In a thread of ours."""
    _current.call = call
    try:
        call.check()  # it may have waited for its turn for too long: not even a connection is made
        answer: Answer = request()
        return answer
    except _Abandoned:
        return Failure("its time was over", call.left)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return Failure(_words(error), call.left)
    finally:
        del _current.call
        call.over()


def _words(error: Exception) -> str:
    """The kind of an error and of its cause. Their texts hold addresses, and may hold what was sent."""
    kinds = [type(error).__name__]
    inner = next((each for each in error.args if isinstance(each, Exception)), error.__cause__)
    return f"{kinds[0]} ({type(inner).__name__})" if inner is not None else kinds[0]


def _configuration(api_url: str, order_url: str) -> Any:
    configuration = upstox_client.Configuration()
    for logger in configuration.logger.values():
        logger.removeHandler(configuration.logger_stream_handler)
        logger.setLevel(logging.WARNING)
    configuration.host, configuration.order_host = api_url, order_url
    return configuration


def _checked(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url.rstrip("/")
    raise Misconfigured("One of UPSTOX_API_URL and UPSTOX_ORDER_URL is no http address.")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _seconds(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), _RETRY_AFTER_MAX_S)
