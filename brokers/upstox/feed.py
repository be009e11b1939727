"""The market data socket: authorize, connect, subscribe, receive. Frames go to a callback the moment they arrive.

Two steps: the authorize call tells in JSON why it refuses, a bare handshake does not. Its URL works once, so every
connection asks for a new one. TLS is always verified. The receive path makes no copy and no task per frame.

The URL carries a secret, and so does the library's text about a wrong one: neither gets into an error of ours.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson
import picows

from brokers.upstox.limits import FRAME_MAX_BYTES, KEYS_PER_MESSAGE
from brokers.upstox.rest import Blocked, NeedsLogin, Rest, Throttled
from schemas.commands import Mode
from schemas.errors import Unavailable

_AUTHORIZE: Final = "/v3/feed/market-data-feed/authorize"
_HANDSHAKE_S: Final = 10.0
_PART_BYTES: Final = 512 * 1024
_RATE_BYTES_PER_S: Final = 80_000_000  # what a feed may bring: two hundred thousand full ticks
_RTT_AT: Final = 68  # in the kernel's tcp_info, microseconds
_TCP_INFO_BYTES: Final = 72

OnFrame = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a connection ended: a word for metrics, a sentence for people."""

    cause: str
    reason: str


async def authorize(rest: Rest, feed_url: str = "") -> str:
    """A URL for one connection to the market feed."""
    return await one_time_url(rest, _AUTHORIZE, None, feed_url)


async def one_time_url(rest: Rest, path: str, params: dict[str, str] | None, feed_url: str) -> str:
    """What an authorize call names. `feed_url` replaces its host (a tunnel, a test)."""
    data = await rest.get(path, params, counted=False)
    told = data if isinstance(data, dict) else {}
    url = str(told.get("authorized_redirect_uri") or told.get("authorizedRedirectUri") or "")
    if not url.startswith(("ws://", "wss://")):
        raise Unavailable("the venue authorized the feed without saying where it is")
    if feed_url:
        host, there = urlsplit(feed_url), urlsplit(url)
        url = urlunsplit((host.scheme, host.netloc, there.path, there.query, ""))
    return url


class FeedSocket(picows.WSListener):
    """One open connection. Binary frames go to `on_frame`.

    `closed` tells when it has ended and why; it raises what a callback raised. Nothing is handed out after that.
    """

    def __init__(self, on_frame: OnFrame, on_text: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_text = on_text
        self._parts: list[bytes] = []  # of a message in several frames
        self._parts_are_text = False
        self._transport: picows.WSTransport | None = None
        self._number = 0
        self._ended = False
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        _receive_in_parts(transport)
        if self._ended:  # whoever wanted it has gone meanwhile
            transport.disconnect(graceful=False)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._ended:
            return  # what was behind the end in the same packet
        try:
            if frame.msg_type == picows.WSMsgType.BINARY and frame.fin:
                self._on_frame(frame.get_payload_as_bytes())
            else:
                self._on_rare(transport, frame)
        except Exception as bug:  # handed on: the library would only log it
            self._fail(bug)

    def _on_rare(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            code, why = int(frame.get_close_code().value), frame.get_close_reason() or "no reason given"
            self._end(f"closed_{code}", f"the venue closed the connection ({code}): {why}")
            transport.disconnect()
        elif kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self._parts, self._parts_are_text = [], kind == picows.WSMsgType.TEXT
            self._gather(frame)
        elif kind == picows.WSMsgType.CONTINUATION:
            self._gather(frame)

    def _gather(self, frame: picows.WSFrame) -> None:
        self._parts.append(frame.get_payload_as_bytes())
        if sum(map(len, self._parts)) > FRAME_MAX_BYTES:
            self.disconnect("too_large", f"a message of more than {FRAME_MAX_BYTES >> 20} MiB")
        elif frame.fin:
            whole, self._parts = b"".join(self._parts), []
            self._on_text(whole.decode(errors="replace")) if self._parts_are_text else self._on_frame(whole)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        handshake: Any = transport.close_handshake
        sent = handshake.sent if handshake is not None else None
        if sent is None:
            self._end("broken", "the connection broke")
        elif sent.code == picows.WSCloseCode.GOING_AWAY:  # so the library says that it got no answer to a ping
            self._end("no_pong", "the venue does not answer pings")
        else:
            self._end("protocol", f"the venue broke the rules of the protocol: {sent.reason}")

    def _end(self, cause: str, reason: str) -> None:
        self._ended = True
        if not self.closed.done():
            self.closed.set_result(Closed(cause, reason))

    def _fail(self, bug: Exception) -> None:
        self._ended = True
        if not self.closed.done():
            self.closed.set_exception(bug)

    def send(self, method: str, keys: Iterable[str], mode: Mode | None = None) -> None:
        """Ask for `sub`, `unsub` or `change_mode`. The venue never answers this."""
        if self._transport is None or self._ended:
            return
        wanted = sorted(keys)
        for start in range(0, len(wanted), KEYS_PER_MESSAGE):
            self._number += 1
            data: dict[str, Any] = {"instrumentKeys": wanted[start : start + KEYS_PER_MESSAGE]}
            if mode is not None:
                data["mode"] = mode.value
            message = orjson.dumps({"guid": f"teji-{self._number:06}", "method": method, "data": data})
            self._transport.send(picows.WSMsgType.BINARY, message)

    def hold(self, held: bool) -> None:
        """Stop reading, or go on: while we hold, the venue conflates on its side."""
        if self._transport is not None and not self._ended:
            transport = self._transport.underlying_transport
            transport.pause_reading() if held else transport.resume_reading()

    def disconnect(self, cause: str, reason: str) -> None:
        """Hand out nothing more and cut the line."""
        self._end(cause, reason)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    async def wait_gone(self) -> None:
        """Until the line is cut for the other side too."""
        if self._transport is not None:
            with contextlib.suppress(picows.WSError):  # `closed` has said it
                await self._transport.wait_disconnected()


def _receive_in_parts(transport: picows.WSTransport) -> None:
    """The library reads at once what the kernel has gathered: in a flood, megabytes. While we decode those, Redis would
    have nothing to do, and the other way round. In small parts the two work side by side. From far away the parts have
    to be larger: what is on its way has to fit."""
    line = transport.underlying_transport.get_extra_info("socket")
    rtt_s = _round_trip_s(line)
    if rtt_s is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(_PART_BYTES, int(_RATE_BYTES_PER_S * rtt_s)))


def _round_trip_s(line: Any) -> float | None:
    """As the kernel has measured it; None where it does not say."""
    if line is None or sys.platform != "linux":
        return None
    told = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int.from_bytes(told[_RTT_AT:_TCP_INFO_BYTES], sys.byteorder) / 1e6


async def connect(url: str, on_frame: OnFrame, on_text: Callable[[str], None], *, ping_s: float) -> FeedSocket:
    """Open the socket, or say why not. An idle connection is pinged; one that does not pong is ended."""
    context = await asyncio.to_thread(ssl.create_default_context) if url.startswith("wss://") else None
    feed = FeedSocket(on_frame, on_text)
    try:
        _, listener = await picows.ws_connect(
            lambda *_: feed,
            url,
            ssl_context=context,
            websocket_handshake_timeout=_HANDSHAKE_S,
            enable_auto_ping=True,
            auto_ping_idle_timeout=ping_s,
            auto_ping_reply_timeout=ping_s,
            max_frame_size=FRAME_MAX_BYTES,
            use_aiofastnet=False,  # its transport reads until the socket is dry: a flood would starve the loop
        )
    except asyncio.CancelledError:
        feed.disconnect("abandoned", "nobody waits for it any more")
        raise
    except picows.WSError as error:
        raise _refusal(error) from None
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"the feed does not answer: {_text(error)}") from None
    if listener is None:  # so the library returns where the line is cut during the handshake
        raise Unavailable("the feed hung up during the handshake")
    return feed


def _text(error: Exception) -> str:
    return "its address is none" if type(error) is ValueError else str(error) or type(error).__name__


def _refusal(error: Exception) -> Unavailable:
    status = int(getattr(getattr(error, "response", None), "status", 0) or 0)
    if status == 401:
        return NeedsLogin("the feed refuses the access token (401)")
    if status == 403:
        return Blocked("the feed refuses the connection (403)")
    if status == 429:
        return Throttled("the feed is connected to too often (429)")
    return Unavailable(f"the feed's handshake failed ({status or type(error).__name__})")
