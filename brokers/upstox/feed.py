"""The market data socket: authorize, connect, subscribe, receive. Frames go to a callback the moment they arrive.

Two steps: the authorize call tells in JSON why it refuses, a bare handshake does not. Its URL works once, so every
connection asks for a new one. TLS is always verified. The receive path makes no copy and no task per frame.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson
import picows

from brokers.upstox.rest import Blocked, NeedsLogin, Rest
from schemas.commands import Mode
from schemas.errors import Unavailable

_AUTHORIZE: Final = "/v3/feed/market-data-feed/authorize"
_FRAME_MAX_BYTES: Final = 16 * 1024 * 1024
_KEYS_PER_MESSAGE: Final = 500

#: Keys one connection may carry in a mode (documented for normal accounts).
MODE_CAPS: Final = {Mode.LTPC: 5000, Mode.OPTION_GREEKS: 3000, Mode.FULL: 2000, Mode.FULL_D30: 50}

OnFrame = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a connection ended, for people and for metrics."""

    code: int
    reason: str


async def authorize(rest: Rest, feed_url: str = "") -> str:
    """A URL for one connection. `feed_url` replaces its host (a tunnel, a test)."""
    data = await rest.get(_AUTHORIZE, counted=False)
    url = str(data.get("authorized_redirect_uri") or data.get("authorizedRedirectUri") or "")
    if not url.startswith(("ws://", "wss://")):
        raise Unavailable("the venue authorized the feed without saying where it is")
    if feed_url:
        host, there = urlsplit(feed_url), urlsplit(url)
        url = urlunsplit((host.scheme, host.netloc, there.path, there.query, ""))
    return url


class FeedSocket(picows.WSListener):
    """One open connection. Binary frames go to `on_frame`, as a view that is good during the call only."""

    def __init__(self, on_frame: OnFrame, on_text: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_text = on_text
        self._parts: list[bytes] = []
        self._transport: picows.WSTransport | None = None
        self._number = 0
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind == picows.WSMsgType.BINARY and frame.fin and not self._parts:
            self._on_frame(frame.get_payload_as_memoryview())
        elif kind in (picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._on_frame(whole)
        elif kind == picows.WSMsgType.TEXT:
            self._on_text(frame.get_payload_as_bytes().decode(errors="replace"))
        elif kind == picows.WSMsgType.CLOSE:
            self._end(int(frame.get_close_code().value), str(frame.get_close_reason() or "closed by the venue"))
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002 - picows's signature
        self._end(1006, "the connection broke")

    def _end(self, code: int, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(Closed(code, reason))

    def send(self, method: str, keys: Iterable[str], mode: Mode | None = None) -> None:
        """Ask for `sub`, `unsub` or `change_mode`. The venue never answers this."""
        assert self._transport is not None
        wanted = sorted(keys)
        for start in range(0, len(wanted), _KEYS_PER_MESSAGE):
            self._number += 1
            data: dict[str, Any] = {"instrumentKeys": wanted[start : start + _KEYS_PER_MESSAGE]}
            if mode is not None:
                data["mode"] = mode.value
            message = orjson.dumps({"guid": f"teji-{self._number:06}", "method": method, "data": data})
            self._transport.send(picows.WSMsgType.BINARY, message)

    def hold(self, held: bool) -> None:
        """Stop reading, or go on: while we hold, the venue conflates on its side."""
        if self._transport is not None and not self.closed.done():
            transport = self._transport.underlying_transport
            transport.pause_reading() if held else transport.resume_reading()

    def disconnect(self, reason: str) -> None:
        self._end(1000, reason)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)


async def connect(
    url: str, on_frame: OnFrame, on_text: Callable[[str], None], *, ping_s: float, handshake_s: float = 10.0
) -> FeedSocket:
    """Open the socket, or say why not. An idle connection is pinged; one that does not pong is ended."""
    context = ssl.create_default_context() if url.startswith("wss://") else None
    try:
        _, listener = await picows.ws_connect(
            lambda: FeedSocket(on_frame, on_text),
            url,
            ssl_context=context,
            websocket_handshake_timeout=handshake_s,
            enable_auto_ping=True,
            auto_ping_idle_timeout=ping_s,
            auto_ping_reply_timeout=ping_s,
            max_frame_size=_FRAME_MAX_BYTES,
            use_aiofastnet=False,  # its transport reads until the socket is dry: a flood would starve the loop
        )
    except picows.WSError as error:
        raise _refusal(error) from None
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise Unavailable(f"the feed does not answer: {str(error) or type(error).__name__}") from error
    assert isinstance(listener, FeedSocket)
    return listener


def _refusal(error: Exception) -> Unavailable:
    status = int(getattr(getattr(error, "response", None), "status", 0) or 0)
    if status == 401:
        return NeedsLogin("the feed refuses the access token (401)")
    if status == 403:
        return Blocked("the feed refuses the connection (403)")
    return Unavailable(f"the feed's handshake failed: {error}")
