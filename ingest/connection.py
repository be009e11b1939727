"""One connection to the venue: opened, watched by two clocks, opened again.

The transport clock is the socket's own ping and pong. The data clock asks whether anything arrives while a market that
we follow is open; a socket that pongs and stays mute is as dead as one that broke. But a few instruments that nobody
trades are silent too: a connection that was opened in vain earns the next one more patience, lively ones use it up.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import structlog

from brokers.upstox import feed as upstox
from brokers.upstox.rest import Blocked, NeedsLogin, Throttled
from bus import clock, metrics
from ingest import subscriptions
from ingest.backoff import Backoff
from ingest.collector import Heard
from schemas.commands import Mode
from schemas.errors import Rejected, Unavailable
from schemas.events import FeedState

if TYPE_CHECKING:
    from ingest.feed import Feed

log = structlog.get_logger("feed")

_BACKOFF_S: Final = 0.25
_BACKOFF_MAX_S: Final = 10.0
_REFUSED_S: Final = 2.0  # 403 and 429 are answers, not accidents: ask less often
_REFUSED_MAX_S: Final = 60.0
_LOGIN_POLL_S: Final = 0.5
_WATCH_S: Final = 0.5
_PATIENCE_MAX: Final = 32
_LIVELY_S: Final = 60.0


class Connection:
    """The keys it is to carry, and the task that keeps a socket open for them."""

    def __init__(self, number: int, feed: "Feed") -> None:
        self.number = number
        self.wanted: Mapping[str, Mode] = {}
        self.state = FeedState.CONNECTING
        self.reason = ""
        self._feed = feed
        self._task: asyncio.Task[None] | None = None
        self._ending: list[asyncio.Task[None]] = []  # earlier ones that have yet to close their socket
        self._socket: upstox.FeedSocket | None = None
        self._asked: Mapping[str, Mode] = {}  # of the venue, on this socket
        self._held = False
        self.out = False  # away for so long that others carry its keys
        self._since_s = clock.monotonic_s()  # when it came to life, or ceased to live
        self._opened_s = 0.0
        self._data_s = 0.0  # when a frame with ticks last came
        self._data_ts = 0  # and its venue time
        self._moving = False  # this socket has brought more than what was there when we subscribed
        self._patience = 1  # how many times as long as usual it may be silent
        self._lively_s = 0.0  # it has brought data for so long since that was decided
        self._backoff = Backoff()

    @property
    def busy(self) -> bool:
        """Whether it has a task: something to carry, or it is dead and keeps trying."""
        return self._task is not None

    # What it carries

    def carry(self, keys: Mapping[str, Mode]) -> None:
        """These from now on. Without any the socket closes, unless it is out and has to show that it lives."""
        self.wanted = keys
        if not keys and not self.out:
            self._stop()
        elif self._task is None:
            self._task = asyncio.create_task(self._run(self._ending.copy()))
        else:
            self._adjust()

    def _stop(self) -> None:
        if self._task is not None:
            self._hang_up()
            self._task.cancel()
            self._ending.append(self._task)
            self._task = None
            self._tell(FeedState.CONNECTING, "")
            self._since_s = clock.monotonic_s()

    async def gone(self) -> None:
        """Until a socket that is to be closed is closed."""
        if self._ending:
            await asyncio.wait(self._ending)

    def check(self) -> None:
        """Raise what has ended a task: it is a bug."""
        for task in (*self._ending, *([self._task] if self._task else ())):
            if task.done() and not task.cancelled():
                task.result()
        self._ending = [task for task in self._ending if not task.done()]

    def _adjust(self) -> None:
        """Ask the venue for what is wanted and not asked for yet."""
        if self._socket is None:
            return
        self._feed.collector.drain()
        change = subscriptions.difference(self._asked, self.wanted)
        if change.unsub:
            self._socket.send("unsub", change.unsub)
            self._feed.ended(change.unsub, self._data_ts)
        for mode, keys in change.sub.items():
            self._feed.started(keys)
            self._socket.send("sub", keys, mode)
        for mode, keys in change.change_mode.items():
            self._socket.send("change_mode", keys, mode)
        self._asked = self.wanted

    def ask_again(self, keys: Iterable[str]) -> None:
        """The venue may have passed over these; it acknowledges nothing."""
        by_mode: dict[Mode, list[str]] = {}
        for key in keys:
            if key in self._asked:
                by_mode.setdefault(self._asked[key], []).append(key)
        if self._socket is not None:
            for mode, some in by_mode.items():
                self._socket.send("sub", some, mode)

    # Its life

    def judge(self, now_s: float, patience_s: float) -> None:
        """Out when it has been away for so long, back when it has lived for as long. A missing login is no death."""
        if not self.busy or self.state is FeedState.NEEDS_LOGIN:
            self._since_s = now_s
        alive = self.state is FeedState.LIVE
        if alive is self.out and now_s - self._since_s >= patience_s:
            self.out = not self.out

    async def _run(self, before: list[asyncio.Task[None]]) -> None:
        """Keep the socket open for as long as there is something to carry."""
        if before:
            await asyncio.wait(before)  # the venue counts a socket until it is closed
        while True:
            token = self._feed.tokens.current()
            try:
                await self._once()
            except NeedsLogin as error:
                await self._await_login(token, str(error))
            except (Blocked, Throttled, Rejected) as error:
                await self._fail("refused", str(error), _REFUSED_S, _REFUSED_MAX_S)
            except Unavailable as error:
                await self._fail("unreachable", str(error), _BACKOFF_S, _BACKOFF_MAX_S)

    async def _once(self) -> None:
        settings, collector = self._feed.settings, self._feed.collector
        collector.drain()
        self._tell(FeedState.CONNECTING, self.reason)
        url = await upstox.authorize(self._feed.rest, settings.upstox_feed_url)
        self._asked, self._held, self._moving = {}, False, False
        self._opened_s = self._data_s = clock.monotonic_s()
        self._data_ts = collector.frame_ts
        socket = await upstox.connect(url, self._on_frame, self._on_text, ping_s=settings.teji_feed_ping_s)
        self._socket = socket
        try:
            self._adjust()
            closed = await self._watch(socket)
        finally:
            self._hang_up()
            await socket.wait_gone()
        await self._fail(closed.cause, closed.reason, _BACKOFF_S, _BACKOFF_MAX_S)

    def _hang_up(self) -> None:
        """No frame comes any more; what has come was all that the feed covered."""
        if self._socket is None:
            return
        self._socket.disconnect("done", "we have hung up")
        self._socket = None
        self._feed.collector.drain()
        self._backoff.lived(self._data_s - self._opened_s)
        if self._asked:
            self._feed.ended(self._asked, self._data_ts)

    async def _watch(self, socket: upstox.FeedSocket) -> upstox.Closed:
        """Until the socket ends, or its silence does it."""
        while True:
            await asyncio.wait([socket.closed], timeout=_WATCH_S)
            if socket.closed.done():
                return socket.closed.result()
            self._feed.collector.drain()
            now_s = clock.monotonic_s()
            limit_s = self._feed.settings.teji_feed_stale_s * self._patience
            silent_s = now_s - self._data_s
            if self._held or not self._feed.is_open(self._asked):
                self._data_s = now_s
            elif silent_s > 2 * limit_s:
                self._patience = min((1 if self._moving else 2) * self._patience, _PATIENCE_MAX)
                return upstox.Closed("stale", f"nothing for {silent_s:.0f} s in an open market")
            elif silent_s > limit_s and self.state is not FeedState.STALE:
                self._tell(FeedState.STALE, f"nothing for {limit_s:.0f} s in an open market")
                self._feed.ended(self._asked, self._data_ts)  # what comes after this begins anew, on this socket too
                self._feed.started(self._asked)
            elif self._moving and silent_s < self._feed.settings.teji_feed_stale_s:
                self._use_up_patience()

    def _use_up_patience(self) -> None:
        self._lively_s += _WATCH_S
        if self._lively_s >= _LIVELY_S:
            self._lively_s, self._patience = 0.0, max(1, self._patience // 2)

    # Called by the socket

    def _on_frame(self, frame: bytes) -> None:
        collector, now_s = self._feed.collector, clock.monotonic_s()
        collector.take(frame, clock.now_ns(), now_s, self)
        if collector.full:
            self._data_s = now_s  # the venue speaks; it is we who do not listen
        if collector.congested:
            self.hold(True)

    def heard(self, heard: Heard) -> None:
        """What the frames were about that have come since this was last called."""
        self._data_ts = heard.ts
        if heard.data:
            self._data_s = clock.monotonic_s()
            self._moving = self._moving or heard.live
        if self.state is not FeedState.LIVE and (heard.data or not self._feed.is_open(self._asked)):
            self._tell(FeedState.LIVE, "")  # in an open market the greeting alone is no life

    def hold(self, held: bool) -> None:
        """Read no more frames for now, or again."""
        if self._socket is not None and held is not self._held:
            self._held = held
            self._socket.hold(held)

    def _on_text(self, text: str) -> None:
        log.warning("the venue says", connection=self.number, text=text[:500])

    # Its state

    def _tell(self, state: FeedState, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            if (state is FeedState.LIVE) is not (self.state is FeedState.LIVE):
                self._since_s = clock.monotonic_s()
            self.state, self.reason = state, reason
            self._feed.changed()

    async def _fail(self, cause: str, reason: str, first_s: float, most_s: float) -> None:
        metrics.FEED_ENDS.labels(cause).inc()
        log.warning("feed connection ended", connection=self.number, cause=cause, reason=reason)
        self._tell(FeedState.CONNECTING, reason)
        await asyncio.sleep(self._backoff.next_s(first_s, most_s))

    async def _await_login(self, token: str | None, reason: str) -> None:
        """A dead token is a state, not an error: wait for another one."""
        metrics.FEED_ENDS.labels("needs_login").inc()
        log.warning("the feed needs a login", connection=self.number, reason=reason)
        self._tell(FeedState.NEEDS_LOGIN, reason)
        if token is not None:
            self._feed.tokens.refuse(token)
        while self._feed.tokens.current() is None:  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(_LOGIN_POLL_S)
