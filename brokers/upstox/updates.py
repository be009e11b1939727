"""The portfolio stream: orders, positions and GTTs as they change, reconnected for as long as anybody listens.

The vendor's SDK has a streamer too. It verifies no certificate, gives up after five seconds, cannot ask for GTTs and
runs its callbacks on the thread that answers pings; this stands in its place. The way in is that of the market feed:
authorize tells in JSON why it refuses, and its URL works once.

There is no snapshot, no replay and no sequence number: each `Connected` means that anything may have happened before.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from random import Random
from typing import Final

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from brokers.upstox import parse
from brokers.upstox.auth import TokenStore
from brokers.upstox.feed import one_time_url
from brokers.upstox.rest import PROFILE_PATH, Blocked, NeedsLogin, Rest, Throttled
from brokers.venue import CONNECTED, Disconnected, Update
from bus import clock
from bus.settings import Settings
from schemas.errors import Rejected, Unavailable

log = structlog.get_logger("updates")

_AUTHORIZE: Final = "/v2/feed/portfolio-stream-feed/authorize"
_TYPES: Final = "order,position,holding,gtt_order"
_WAITING_MAX: Final = 10_000  # updates that nobody has taken yet; beyond that the venue has to wait
_FRAME_MAX_BYTES: Final = 4 * 1024 * 1024
_HANDSHAKE_S: Final = 10.0
_BACKOFF_S: Final = (0.25, 10.0)
_REFUSED_S: Final = (2.0, 300.0)  # 403 and 429 are answers, not accidents: ask less often
_LIVED_S: Final = 10.0  # a connection that lasted so long was a good one
_LOGIN_POLL_S: Final = 0.25


class Updates:
    """What has arrived waits in a queue, so that a slow reader stops no pong."""

    def __init__(self, rest: Rest, tokens: TokenStore, settings: Settings, random: Random | None = None) -> None:
        self._rest = rest
        self._tokens = tokens
        self._settings = settings
        self._random = random or Random()
        self._waiting: asyncio.Queue[Update | Exception] = asyncio.Queue(_WAITING_MAX)
        self._down: Disconnected | None = None  # as it was told last; none while it is up
        self._tries = 0
        self.unreadable = 0  # messages passed over

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Update]]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    async def __anext__(self) -> Update:
        told = await self._waiting.get()
        if isinstance(told, Exception):
            raise told
        return told

    async def _run(self) -> None:
        try:
            while True:
                await self._once()
        except Exception as bug:  # handed to whoever iterates
            await self._waiting.put(bug)

    async def _once(self) -> None:
        """One connection, to its end, and the wait for the next one."""
        token = self._tokens.current()
        try:
            await self._connected()
        except NeedsLogin as error:
            await self._need_login(token, str(error))
        except (Blocked, Throttled, Rejected) as error:
            await self._fail(str(error), token, *_REFUSED_S)
        except Unavailable as error:
            await self._fail(str(error), token, *_BACKOFF_S)

    async def _connected(self) -> None:
        """Raises what ended it."""
        url = await one_time_url(self._rest, _AUTHORIZE, {"update_types": _TYPES}, self._settings.upstox_feed_url)
        ping_s = self._settings.teji_feed_ping_s
        context = await asyncio.to_thread(ssl.create_default_context) if url.startswith("wss://") else None
        try:
            socket = await connect(
                url,
                ssl=context,
                proxy=None,  # the market feed takes none either
                compression=None,
                open_timeout=_HANDSHAKE_S,
                ping_interval=ping_s,
                ping_timeout=ping_s,
                close_timeout=min(1.0, ping_s),
                max_size=_FRAME_MAX_BYTES,
            )
        except InvalidStatus as error:
            raise _refusal(error.response.status_code) from None
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:  # its text may quote the URL
            raise Unavailable(f"the portfolio stream does not answer: {type(error).__name__}") from None
        opened_s = clock.monotonic_s()
        try:
            await self._tell(CONNECTED)
            self._down = None
            await self._receive(socket)
        finally:
            if clock.monotonic_s() - opened_s >= _LIVED_S:
                self._tries = 0
            await socket.close()

    async def _receive(self, socket: ClientConnection) -> None:
        while True:
            try:
                message = await socket.recv()
            except ConnectionClosed as error:
                raise Unavailable(_ended(error)) from None
            try:
                updates = parse.updates(message)
            except (TypeError, ValueError, parse.Unreadable) as error:
                self._pass_over(error)
                continue
            for update in updates:
                await self._tell(update)

    def _pass_over(self, error: Exception) -> None:
        """Whatever it said, the books say it too. Said at the first, second, fourth... time."""
        self.unreadable += 1
        if not self.unreadable & (self.unreadable - 1):
            log.warning("an update that cannot be read", count=self.unreadable, why=str(error)[:200])

    # What happens next

    async def _fail(self, reason: str, token: str | None, first_s: float, most_s: float) -> None:
        await self._tell_down(Disconnected(reason))
        wait_s = min(most_s, first_s * 2.0 ** min(self._tries, 10)) * self._random.uniform(0.5, 1.0)
        self._tries += 1
        deadline_s = clock.monotonic_s() + wait_s
        while (left_s := deadline_s - clock.monotonic_s()) > 0 and self._tokens.current() == token:  # noqa: ASYNC110 - a file
            await asyncio.sleep(min(_LOGIN_POLL_S, left_s))

    async def _need_login(self, token: str | None, reason: str) -> None:
        """Wait for another token, without asking meanwhile. 401 is said of good tokens too: the profile decides."""
        if token is not None and token == self._tokens.current():
            try:
                await self._rest.get(PROFILE_PATH, counted=False)
            except NeedsLogin:
                self._tokens.refuse(token)
            except (Unavailable, Rejected) as error:
                await self._fail(str(error), token, *_BACKOFF_S)
                return
            else:
                await self._fail(reason, token, *_REFUSED_S)
                return
        await self._tell_down(Disconnected(reason, needs_login=True))
        while self._tokens.current() is None:  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(_LOGIN_POLL_S)

    async def _tell_down(self, down: Disconnected) -> None:
        """Once for each reason in a row, however often it is tried."""
        if down != self._down:
            self._down = down
            log.warning("the portfolio stream is down", reason=down.reason, needs_login=down.needs_login)
            await self._tell(down)

    async def _tell(self, update: Update) -> None:
        await self._waiting.put(update)


def _refusal(status: int) -> Unavailable:
    if status == 401:
        return NeedsLogin("the portfolio stream refuses the access token (401)")
    if status == 403:
        return Blocked("the portfolio stream refuses the connection (403)")
    if status == 429:
        return Throttled("the portfolio stream is connected to too often (429)")
    return Unavailable(f"the portfolio stream's handshake failed ({status})")


def _ended(error: ConnectionClosed) -> str:
    if error.rcvd is not None:
        return f"the venue closed the portfolio stream ({error.rcvd.code})"
    if error.sent is not None:
        return f"the portfolio stream broke ({error.sent.code} {error.sent.reason})".replace(" )", ")")
    return "the portfolio stream broke"
