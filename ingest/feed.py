"""All connections of this process to the venue, and what the shards want of them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import Rest
from bus import clock
from bus.settings import Settings
from ingest import subscriptions
from ingest.backfill import Backfill
from ingest.collector import Collector
from ingest.connection import Connection
from schemas.commands import Mode
from schemas.events import FeedState

_ON_ITS_WAY_S: Final = 2.0
_WORST_FIRST: Final = (FeedState.NEEDS_LOGIN, FeedState.CONNECTING, FeedState.STALE, FeedState.LIVE)


class Feed:
    """`is_open` says whether a segment trades now, `changed` hears of a new state."""

    def __init__(
        self,
        settings: Settings,
        rest: Rest,
        tokens: TokenStore,
        collector: Collector,
        backfill: Backfill,
        is_open: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.rest = rest
        self.tokens = tokens
        self.collector = collector
        self.is_open = is_open
        self.changed = changed
        self._backfill = backfill
        self._allowed = 0  # connections
        self._wanted: dict[int, Mapping[str, Mode]] = {}  # by shard
        self._followed: dict[str, Mode] = {}
        self._changing: dict[str, float] = {}  # instruments whose mode changes, and since when
        self._left_over: set[str] = set()
        self._connections: list[Connection] = []

    # What the shards want

    def allow(self, connections: int) -> None:
        """So many from now on."""
        self._allowed = connections
        self._spread()

    def want(self, shard: int, keys: Mapping[str, Mode]) -> None:
        """This shard's instruments from now on; none where it is not ours or switched off."""
        self._wanted[shard] = keys
        self._spread()

    def _spread(self) -> None:
        wanted = {key: mode for part in self._wanted.values() for key, mode in part.items()}
        self.collector.follow(wanted.keys() - self._followed.keys())
        now_s = clock.monotonic_s()
        self._changing |= {key: now_s for key, mode in wanted.items() if self._followed.get(key, mode) is not mode}
        plan, left_over = subscriptions.spread(wanted, [each.wanted for each in self._connections], self._allowed)
        self._left_over = set(left_over)
        while len(self._connections) < len(plan):
            self._connections.append(Connection(len(self._connections), self))
        parts = list(zip(self._connections, plan, strict=True))
        for connection, part in parts:  # first what goes, then what comes: no key is on two of them at once
            connection.carry({key: mode for key, mode in part.items() if key in connection.wanted})
        for connection, part in parts:
            connection.carry(part)
        gone = self._followed.keys() - wanted.keys()
        self.collector.forget(gone)
        self._backfill.drop(gone)
        self._followed = wanted

    async def settled(self) -> None:
        """Until the sockets that are not needed any more are closed, and what they had covered is marked."""
        await asyncio.gather(*(connection.gone() for connection in self._connections))

    def renew_changed(self, now_s: float) -> None:
        """What a new mode does not carry would be carried forward for ever: its instruments begin with nothing, once
        what was still on its way in the old mode has arrived."""
        due = [key for key, since_s in self._changing.items() if now_s - since_s >= _ON_ITS_WAY_S]
        for key in due:
            del self._changing[key]
        due = [key for key in due if key in self._followed]
        if due:
            self.collector.forget(due)
            self.collector.follow(due)
            self._backfill.started(due)

    def refresh_hours(self) -> None:
        """Trading hours belong to a date: look them up anew."""
        self.collector.follow(self._followed)

    # What the connections tell

    def started(self, keys: Iterable[str]) -> None:
        """The feed starts anew for these: they are about to be asked for."""
        keys = list(keys)
        self.collector.mark_base(keys)
        self._backfill.started(keys)

    def ended(self, keys: Iterable[str], ts: int) -> None:
        """The feed has covered these until `ts`."""
        self.collector.down(keys, ts)
        self._backfill.ended(keys, ts)

    def interrupted(self, ts: int) -> None:
        """Frames about any of them were dropped between `ts` and now."""
        self._backfill.ended(self._followed, ts)
        self._backfill.started(self._followed)

    # How it is

    def relieve(self) -> None:
        """Redis has caught up: read on."""
        for connection in self._connections:
            connection.hold(False)

    def without_room(self, keys: Mapping[str, Mode]) -> int:
        """How many of these no connection may carry any more."""
        return len(self._left_over & keys.keys())

    def carrying(self, keys: Mapping[str, Mode]) -> list[Connection]:
        return [each for each in self._connections if not each.wanted.keys().isdisjoint(keys)]

    def state(self, keys: Mapping[str, Mode]) -> tuple[FeedState, str]:
        """Of the connections that carry these, the state that asks most for attention."""
        found = [(each.state, each.reason) for each in self.carrying(keys)]
        return min(found, key=lambda each: _WORST_FIRST.index(each[0]), default=(FeedState.CLOSED, ""))

    def check(self) -> None:
        """Raise what has ended a connection's task: it is a bug."""
        for connection in self._connections:
            connection.check()

    async def close(self) -> None:
        for connection in self._connections:
            connection.carry({})
        await self.settled()
