"""The connections to the venue: opened, watched by two clocks, opened again. Shell around `subscriptions`.

The transport clock is the socket's own ping and pong. The data clock asks whether anything arrives while the venue says
that a market we follow is open; a socket that pongs and stays mute is as dead as one that broke.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog

from brokers.upstox import feed as upstox
from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import Blocked, NeedsLogin, Rest, Throttled
from bus import clock, metrics
from bus.life import pause
from bus.settings import Settings
from ingest import subscriptions
from ingest.collector import Collector
from market.sessions import segment_of
from proto.decode import FrameKind
from schemas.commands import Mode
from schemas.errors import Unavailable
from schemas.events import FeedState

log = structlog.get_logger("feed")

_BACKOFF_FIRST_S: Final = 0.25
_BACKOFF_MAX_S: Final = 30.0
_BLOCKED_FIRST_S: Final = 2.0  # 403 and 429 are answers, not accidents: ask less often
_LOGIN_POLL_S: Final = 1.0
_OPEN: Final = "NORMAL_OPEN"


class Connection:
    """One socket and the keys it carries."""

    def __init__(self, number: int, feed: "Feed") -> None:
        self.number = number
        self.wanted: dict[str, Mode] = {}
        self.state = FeedState.CONNECTING
        self.reason = ""
        self._feed = feed
        self._asked: dict[str, Mode] = {}
        self._socket: upstox.FeedSocket | None = None
        self._data_s = 0.0  # when a frame with ticks last came
        self._data_ts = 0  # and its venue time
        self._held = False
        self._backoff_s = _BACKOFF_FIRST_S
        self._random = random.Random()

    async def run(self) -> None:
        """Keep the socket open for as long as there is something to carry."""
        while True:
            try:
                await self._once()
            except NeedsLogin as error:
                await self._await_login(str(error))
            except (Blocked, Throttled) as error:
                self._fail("refused", str(error))
                await self._rest(_BLOCKED_FIRST_S)
            except Unavailable as error:
                self._fail("unreachable", str(error))
                await self._rest(_BACKOFF_FIRST_S)

    async def _once(self) -> None:
        settings = self._feed.settings
        self._say(FeedState.CONNECTING, self.reason)
        url = await upstox.authorize(self._feed.rest, settings.upstox_feed_url)
        self._socket = await upstox.connect(url, self._on_frame, self._on_text, ping_s=settings.teji_feed_ping_s)
        self._held = False
        self._asked, self._data_s = {}, clock.monotonic_s()
        self.adjust()
        try:
            closed = await self._watch(self._socket)
        finally:
            self._socket.disconnect("we are done")
            self._socket = None
            if self._asked:
                self._feed.collector.down(self._asked, self._data_ts)
                self._feed.ended(self._asked, self._data_ts)
        self._fail(f"closed_{closed.code}", f"closed with {closed.code}: {closed.reason}")
        await self._rest(_BACKOFF_FIRST_S)

    async def _watch(self, socket: upstox.FeedSocket) -> upstox.Closed:
        """Until the socket ends, or its silence does it."""
        limit_s = self._feed.settings.teji_feed_stale_s
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(socket.closed), 0.5)
            silent_s = clock.monotonic_s() - self._data_s
            if not self._armed():
                self._data_s = clock.monotonic_s()
            elif silent_s > 2 * limit_s:
                return upstox.Closed(4000, f"nothing for {silent_s:.0f} s in an open market")
            elif silent_s > limit_s and self.state is FeedState.LIVE:
                self._say(FeedState.STALE, f"nothing for {limit_s:.0f} s in an open market")

    def _armed(self) -> bool:
        """Whether the venue says that a market of ours is open."""
        statuses = self._feed.collector.statuses
        return any(statuses.get(segment) == _OPEN for segment in {segment_of(key) for key in self._asked})

    def adjust(self) -> None:
        """Ask the venue for what is wanted and not asked for yet."""
        if self._socket is None:
            return
        change = subscriptions.difference(self._asked, self.wanted)
        if change.unsub:
            self._socket.send("unsub", change.unsub)
        for mode, keys in change.sub.items():
            self._feed.collector.mark_base(keys)
            self._feed.started(keys)
            self._socket.send("sub", keys, mode)
        for mode, keys in change.change_mode.items():
            self._socket.send("change_mode", keys, mode)
        self._asked = dict(self.wanted)

    # Called by the socket

    def _on_frame(self, frame: Any) -> None:
        rx_ns, now_s = clock.now_ns(), clock.monotonic_s()
        collector = self._feed.collector
        kind = collector.take(frame, rx_ns, now_s)
        if kind is None:
            return
        self._data_ts = collector.frame_ts
        if kind is not FrameKind.MARKET_INFO:
            self._data_s = now_s
            self._backoff_s = _BACKOFF_FIRST_S
        if self.state is not FeedState.LIVE:
            self._say(FeedState.LIVE, "")
        if collector.congested:
            self.hold(True)

    def hold(self, held: bool) -> None:
        """Read no more frames for now, or again."""
        if self._socket is not None and held is not self._held:
            self._held = held
            self._socket.hold(held)

    def _on_text(self, text: str) -> None:
        log.warning("the venue says", connection=self.number, text=text[:500])

    # States

    def _say(self, state: FeedState, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self._feed.changed()

    def _fail(self, cause: str, reason: str) -> None:
        metrics.FEED_ENDS.labels(cause).inc()
        log.warning("feed connection ended", connection=self.number, cause=cause, reason=reason)
        self._say(FeedState.CONNECTING, reason)

    async def _rest(self, least_s: float) -> None:
        """Back off: doubling, jittered so that many clients do not come back at once."""
        wait_s = max(least_s, self._backoff_s) * self._random.uniform(0.5, 1.0)
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)
        await asyncio.sleep(wait_s)

    async def _await_login(self, reason: str) -> None:
        """A dead token is a state, not an error: wait for another one."""
        metrics.FEED_ENDS.labels("needs_login").inc()
        self._say(FeedState.NEEDS_LOGIN, reason)
        dead = self._feed.tokens.current()
        while self._feed.tokens.current() in (None, dead):  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(_LOGIN_POLL_S)


class Feed:
    """All connections of this process.

    `changed` hears of a new state, `started` of instruments that start anew, `ended` of those covered until a time.
    """

    def __init__(
        self,
        settings: Settings,
        rest: Rest,
        tokens: TokenStore,
        collector: Collector,
        *,
        changed: Callable[[], None],
        started: Callable[[Iterable[str]], None],
        ended: Callable[[Iterable[str], int], None],
    ) -> None:
        self.settings = settings
        self.rest = rest
        self.tokens = tokens
        self.collector = collector
        self.changed = changed
        self.started = started
        self.ended = ended
        self.left_over: list[str] = []
        self._wanted: dict[int, Mapping[str, Mode]] = {}  # by shard
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []

    def want(self, shard: int, keys: Mapping[str, Mode]) -> None:
        """This shard's instruments from now on; empty when it is not ours or switched off."""
        self._wanted[shard] = keys
        wanted = {key: mode for part in self._wanted.values() for key, mode in part.items()}
        before = {key for connection in self._connections for key in connection.wanted}
        self.collector.follow(wanted.keys() - before)
        present = [connection.wanted for connection in self._connections]
        plan, self.left_over = subscriptions.spread(wanted, present, self.settings.teji_feed_connections)
        for number, part in enumerate(plan):
            self._carry(number, part)
        self.collector.forget(before - wanted.keys())

    def _carry(self, number: int, part: dict[str, Mode]) -> None:
        if number < len(self._connections):
            self._connections[number].wanted = part
            self._connections[number].adjust()
            if not part and not self._tasks[number].done():
                self._tasks[number].cancel()
            elif part and self._tasks[number].done():
                self._tasks[number] = asyncio.create_task(self._connections[number].run())
        elif part:
            connection = Connection(number, self)
            connection.wanted = part
            self._connections.append(connection)
            self._tasks.append(asyncio.create_task(connection.run()))

    def relieve(self) -> None:
        """Redis has caught up: read on."""
        for connection in self._connections:
            connection.hold(False)

    @property
    def active(self) -> list[Connection]:
        return [connection for connection in self._connections if connection.wanted]

    def state(self) -> tuple[FeedState, str]:
        """Of all connections, the state that asks most for attention."""
        worst = [FeedState.NEEDS_LOGIN, FeedState.CONNECTING, FeedState.STALE, FeedState.LIVE]
        for state in worst:
            for connection in self.active:
                if connection.state is state:
                    return state, connection.reason
        return FeedState.CLOSED, ""

    def check(self) -> None:
        """Raise what ended a connection's task: it is a bug."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def refresh_hours(feed: Feed, stop: asyncio.Event) -> None:
    """Trading hours belong to a date: look them up anew now and then, so that midnight needs no special care."""
    while not await pause(stop, 300.0):
        feed.collector.follow(key for connection in feed.active for key in connection.wanted)
