"""All connections of this process to the venue, what the shards want of them, and how they do.

A connection that stays away is taken out: its instruments go to the others, as far as those have room, while it keeps
trying with empty hands. When it has lived for as long it is used again. What has found a place meanwhile stays there:
moving it back would be a second hole in its minutes, for nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from brokers.upstox.auth import TokenStore
from brokers.upstox.limits import Limits
from brokers.upstox.rest import Rest
from bus import clock, metrics
from bus.settings import Settings
from ingest import subscriptions
from ingest.backfill import Backfill
from ingest.collector import Collector
from ingest.connection import Connection
from ingest.health import Found, Health, Sight
from ingest.hours import Group, Hours
from schemas.commands import Mode
from schemas.events import FeedState, Socket

log = structlog.get_logger("feed")

_ON_ITS_WAY_S: Final = 2.0
_MINUTE_MS: Final = 60_000
_WORST_FIRST: Final = (FeedState.NEEDS_LOGIN, FeedState.CONNECTING, FeedState.STALE, FeedState.LIVE)


class Feed:
    """`changed` hears of a new state. `found` is what was found missing when we looked last."""

    def __init__(
        self,
        settings: Settings,
        rest: Rest,
        tokens: TokenStore,
        collector: Collector,
        backfill: Backfill,
        hours: Hours,
        changed: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.rest = rest
        self.tokens = tokens
        self.collector = collector
        self.hours = hours
        self.changed = changed
        self.found = Found()
        self._backfill = backfill
        self._allowed = 0  # connections
        self._wanted: dict[int, Mapping[str, Mode]] = {}  # by shard
        self._followed: dict[str, Mode] = {}
        self._changing: dict[str, float] = {}  # instruments whose mode changes, and since when
        self._left_over: set[str] = set()
        self._connections: list[Connection] = []
        self._limits = Limits(settings.teji_feed_plan, settings.teji_feed_cap_scope, settings.feed_sockets)
        self._health = Health(settings.teji_feed_unseen_s, settings.teji_feed_silent_s)
        self._groups: dict[str, Group] = {}  # of those followed
        self._asked_ts: dict[str, int] = {}  # venue time when they were asked for last
        self._dark: set[str] = set()  # they tell nothing though they should: history has to, once they do

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
        self._groups = {key: self._groups.get(key) or self.hours.group_of(key) for key in wanted}
        now_s = clock.monotonic_s()
        self._changing |= {key: now_s for key, mode in wanted.items() if self._followed.get(key, mode) is not mode}
        for connection in self._connections[self._allowed if wanted else 0 :]:
            connection.out = False  # nobody needs to know whether it lives
        present = [each.wanted for each in self._connections]
        plan, left_over = subscriptions.spread(wanted, present, self._usable(), self._limits)
        if self._left_over != set(left_over):
            self._left_over, self.found = set(left_over), replace(self.found)  # another one: it is written down anew
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
        self._dark -= gone
        self._followed = wanted

    def _usable(self) -> list[bool]:
        """Of the connections that we may have, those worth using. Where all are dead, moving is no help."""
        usable = [not each.out for each in self._connections[: self._allowed]]
        usable += [True] * (self._allowed - len(usable))
        return usable if any(usable) else [True] * self._allowed

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
        self._groups = {key: self.hours.group_of(key) for key in self._followed}

    # How the connections and the instruments do

    def look(self, now_s: float) -> None:
        """Once a second: what is dead, what is silent, what has to be asked for again."""
        self._look_at_connections(now_s)
        self._look_at_instruments(now_s)
        self._look_at_overtaken()
        self._count()

    def _look_at_connections(self, now_s: float) -> None:
        before = self._usable()
        for connection in self._connections:
            connection.judge(now_s, self.settings.teji_feed_move_s)
        after = self._usable()
        if before == after:
            return
        homes = {key: each.number for each in self._connections for key in each.wanted}
        self._spread()
        moved = sum(homes.get(key, each.number) != each.number for each in self._connections for key in each.wanted)
        metrics.FEED_MOVED.inc(moved)
        out = [number for number, good in enumerate(after) if not good]
        log.warning("connections in use have changed", dead=out, moved=moved, without_room=len(self._left_over))
        self.changed()

    def _look_at_instruments(self, now_s: float) -> None:
        now_ms = self.collector.clock.at(now_s)
        if not now_ms:
            return  # nobody has told the time yet
        keys, ts, unseen = self.collector.told()
        self._lighten(keys, unseen)
        metrics.FEED_INSTRUMENTS.labels("seen").set(len(keys) - int(np.count_nonzero(unseen)))
        found = self._health.look(Sight(keys, ts, unseen, *self._able(keys)), now_ms, now_s)
        if found.ask_again:
            metrics.FEED_ASKED_AGAIN.inc(len(found.ask_again))
            log.warning("nothing has come of these, they are asked for again", instruments=found.ask_again[:10])
            self._darken({key: self._asked_ts.get(key, 0) for key in found.ask_again if key not in self._dark})
            for connection in self._connections:
                connection.ask_again(found.ask_again)
        if fallen := set(found.silent) - self._dark:
            log.warning("silent though their peers tick", instruments=sorted(fallen)[:10])
            self._darken({key: int(last) for key, last in zip(keys, ts, strict=True) if key in fallen})
        before, self.found = self.found, found if found != self.found else self.found
        if (bool(before.never_seen), bool(before.silent)) != (bool(found.never_seen), bool(found.silent)):
            self.changed()

    def _darken(self, since: Mapping[str, int]) -> None:
        """These tell nothing any more, since a venue time each: from there on nothing is covered."""
        by_ts: dict[int, list[str]] = {}
        for key, ts in since.items():
            by_ts.setdefault(ts, []).append(key)
        for ts, keys in by_ts.items():
            self.ended(keys, ts)
        self.collector.mark_base(since)
        self._dark |= since.keys()

    def _lighten(self, keys: Collection[str], unseen: npt.NDArray[np.bool_]) -> None:
        """What speaks again lacks what it has not told."""
        if self._dark:
            seen = {key for key, still in zip(keys, unseen, strict=True) if not still}
            self._backfill.started(self._dark & seen)
            self._dark -= seen

    def _look_at_overtaken(self) -> None:
        """States that come in the wrong order leave trades out, and no reader can see it: history has to tell them."""
        lost = {key: ts for key, ts in self.collector.take_overtaken().items() if key in self._followed}
        if not lost:
            return
        metrics.FEED_OVERTAKEN.inc(len(lost))
        log.warning("states came after newer ones", instruments=len(lost))
        by_minute: dict[int, list[str]] = {}
        for key, ts in lost.items():
            by_minute.setdefault(ts - ts % _MINUTE_MS, []).append(key)
        for minute, keys in by_minute.items():
            self.ended(keys, minute)
        self.started(lost)

    def _able(self, keys: Collection[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Whether each of these can tick now, and the number of its group."""
        number_of = {group: number for number, group in enumerate(dict.fromkeys(self._groups.values()))}
        open_now = {group for group in number_of if self.hours.is_open(group)}
        live: set[str] = set().union(*(each.wanted for each in self._connections if each.state is FeedState.LIVE))
        able = [key in live and self._groups.get(key) in open_now for key in keys]
        peers = [number_of.get(self._groups.get(key), 0) for key in keys]  # type: ignore[arg-type]
        return np.array(able, bool), np.array(peers, np.int64)

    def _count(self) -> None:
        states = [each.state for each in self._connections if each.busy]
        for state in FeedState:
            metrics.FEED_CONNECTIONS.labels(state.value).set(states.count(state))
        for what, keys in (("never_seen", self.found.never_seen), ("silent", self.found.silent)):
            metrics.FEED_INSTRUMENTS.labels(what).set(len(keys))
        metrics.FEED_INSTRUMENTS.labels("no_room").set(len(self._left_over))
        metrics.FEED_INSTRUMENTS.labels("desired").set(len(self._followed))

    # What the connections tell

    def is_open(self, keys: Iterable[str]) -> bool:
        """Whether any of these can tick now."""
        return any(map(self.hours.is_open, {self._groups[key] for key in keys if key in self._groups}))

    def started(self, keys: Iterable[str]) -> None:
        """The feed starts anew for these: they are about to be asked for."""
        keys = list(keys)
        self.collector.mark_base(keys)
        self._asked_ts |= dict.fromkeys(keys, self.collector.clock.ts)
        self._dark.difference_update(keys)
        self._backfill.started(keys)

    def ended(self, keys: Collection[str], ts: int) -> None:
        """The feed has covered these until `ts`, apart from those that have never been seen."""
        unseen = self.collector.unseen(keys)
        self.collector.down(keys, ts)
        for key in unseen:
            self._backfill.ended([key], min(ts, self._asked_ts.get(key, ts)))
        self._backfill.ended([key for key in keys if key not in unseen], ts)

    def interrupted(self, ts: int) -> None:
        """Frames about any of them were dropped between `ts` and now."""
        self._backfill.ended(self._followed, ts)
        self._backfill.started(self._followed)

    # How it is

    def relieve(self) -> None:
        """Redis has caught up: read on."""
        for connection in self._connections:
            connection.hold(False)

    def without_room(self, keys: Mapping[str, Mode]) -> set[str]:
        """Of these, the ones that no connection may carry any more."""
        return self._left_over & keys.keys()

    def sockets(self) -> tuple[Socket, ...]:
        return tuple(
            Socket(number=each.number, state=each.state, instruments=len(each.wanted), reason=each.reason)
            for each in self._connections
            if each.busy
        )

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
            connection.out = False
            connection.carry({})
        await self.settled()
