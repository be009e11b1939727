"""The shell of ingest: one feed for all shards of this process, and which shards those are."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import structlog

from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import READ_BUDGET, Budget, Rest, http_client
from bus import clock, metrics
from bus.inbox import Inbox
from bus.lease import Keeper, Lease
from bus.life import Worker, together, until_done
from bus.settings import Calendar
from bus.wait import pause
from ingest import merge, names
from ingest.backfill import Backfill
from ingest.catalogue import Catalogue
from ingest.collector import Collector
from ingest.desired import Desired
from ingest.feed import Feed
from ingest.hours import Hours
from ingest.plan import Plan
from ingest.shard import NAME, Shard
from ingest.sockets import Sockets, is_anothers
from ingest.tape.keeper import Keeper as TapeKeeper
from market import sessions
from market.instruments import trading_hours
from proto import decode
from schemas import streams
from schemas.commands import Mode
from schemas.events import FeedState, FeedStatus, Missing, Some
from schemas.ticks import SessionClass

log = structlog.get_logger("ingest")

_SESSION_MS: Final = 24 * 60 * 60_000
_HOURS_S: Final = 300.0
_LOOK_S: Final = 1.0


async def run(worker: Worker, stop: asyncio.Event) -> None:
    decode.warm()  # before there is a lease to keep: loading compiled code blocks for half a second
    merge.warm()
    tokens = TokenStore(worker.settings)
    async with http_client() as http:
        budget = Budget(READ_BUDGET, clock.monotonic_s)
        rest = Rest(http, worker.settings.upstox_api_url, tokens.current, budget)
        ingest = Ingest(worker, rest, tokens)
        try:
            await ingest.run(stop)
        finally:
            await ingest.feed.close()


class Ingest:
    """What the shards of this process share: the connections, the decoder, the history."""

    def __init__(self, worker: Worker, rest: Rest, tokens: TokenStore) -> None:
        self.settings = worker.settings
        self.asked = (self.settings.teji_feed_mode.value, *self.settings.teji_instruments)
        self.wishes: dict[int, Desired] = {}  # by shard: the last ones of ours, whatever becomes of Redis
        self._worker = worker
        self._shards: dict[int, Shard] = {}
        self.collector = Collector(self.settings.teji_shards, self.settings.teji_buffer_mb << 20, self._session_of)
        self.collector.wake = self._wake
        self.collector.overflowed = self._overflowed
        self.tape = TapeKeeper(
            self.settings, self.collector, worker.bus.instance, lambda: sessions.trading_date(self._now_ms())
        )
        self.catalogue = Catalogue(self.settings, self._now_ms)
        self.hours = Hours(
            always=self.settings.teji_calendar is Calendar.ALWAYS,
            get=self.catalogue.get,
            statuses=self.collector.statuses,
            now_ms=self._now_ms,
        )
        plan = Plan(self._urgency, self._warmup_ms, self._sessions, self.settings.teji_backfill_days)
        self.backfill = Backfill(plan, rest, self.collector, self.settings.teji_backfill)
        self.backfill.changed = self._changed
        self.feed = Feed(
            self.settings, rest, tokens, self.collector, self.backfill, hours=self.hours, changed=self._changed
        )
        self.sockets = Sockets(worker.bus, self.settings, self._allow)

    async def run(self, stop: asyncio.Event) -> None:
        """Shards are taken once there is a socket for them, and are given back before the last one is."""
        given_back = asyncio.Event()
        self.tape.begin()

        async def with_shards() -> None:
            await self.sockets.while_any(self._keep_shards, stop)
            given_back.set()

        await until_done(
            together(with_shards(), self.sockets.run(given_back)),
            self.catalogue.keep(self._changed, stop),
            self.backfill.run(stop),
            self._look_after(stop),
            self.tape.keep(stop),
        )

    async def _keep_shards(self, over: asyncio.Event) -> None:
        settings = self.settings
        await Keeper(self._worker.bus, NAME, settings.teji_shards, settings.teji_lease_s, self._work).run(over)

    # Time and hours

    def _now_ms(self) -> int:
        """Venue time; before the first frame the machine's."""
        return self.collector.clock.at(clock.monotonic_s()) or clock.now_ms()

    def _session_of(self, key: str) -> SessionClass:
        return self.hours.session_of(key)

    def _warmup_ms(self, key: str) -> int:
        instrument = self.catalogue.get(key)
        return self.settings.teji_warmup_min * 60_000 if instrument and instrument.is_option else _SESSION_MS

    def _sessions(self, key: str, on: date) -> Sequence[tuple[int, int]]:
        return trading_hours(key, self.catalogue.get(key), on, always=self.settings.teji_calendar is Calendar.ALWAYS)

    def _urgency(self, key: str) -> float:
        instrument = self.catalogue.get(key)
        underlying = instrument.underlying_key if instrument else None
        return names.urgency(instrument, self.collector.price(underlying) if underlying else 0.0)

    # What belongs to the process and not to a shard

    async def _look_after(self, stop: asyncio.Event) -> None:
        hours_s = clock.monotonic_s()
        while not await pause(stop, _LOOK_S):
            self.feed.check()
            self.feed.renew_changed(clock.monotonic_s())
            self.feed.look(clock.monotonic_s())
            self.collector.count()
            for shard, box in self.collector.outboxes.items():
                metrics.BUFFER_BYTES.labels(str(shard)).set(box.size_bytes)
            await self.sockets.look()
            await self._let_go_of_lost()
            if clock.monotonic_s() - hours_s >= _HOURS_S:
                hours_s = clock.monotonic_s()
                self.feed.refresh_hours()

    async def _let_go_of_lost(self) -> None:
        """A shard whose lease ran out is kept, with everything that waits for Redis: usually we get it back."""
        for shard in self.collector.outboxes.keys() - self._shards.keys():
            if await is_anothers(self._worker.bus, NAME, shard):
                self.let_go(shard)

    async def _allow(self, sockets: int) -> None:
        self.feed.allow(sockets)
        await self.feed.settled()

    def _overflowed(self, from_ts: int, to_ts: int) -> None:
        log.error("frames were dropped", from_ts=from_ts, to_ts=to_ts)
        self.feed.interrupted(from_ts)

    def _wake(self) -> None:
        for shard in self._shards.values():
            shard.due.set()

    def _changed(self) -> None:
        for shard in self._shards.values():
            shard.reporter.news()
            shard.due.set()

    # Shards

    async def _work(self, lease: Lease, over: asyncio.Event) -> None:
        """Publish one shard for as long as its lease is ours."""
        number = lease.shard
        writer = self._worker.writer(lease)
        inbox_of = Inbox.open(
            writer,
            group=NAME if number == 0 else f"{NAME}:{number}",
            consumer=NAME,
            inputs=[streams.COMMANDS],
            state_key=streams.state(NAME, number),
        )
        async with inbox_of as inbox:
            shard = self._shards[number] = Shard(self, self._worker.bus, writer, inbox, number)
            try:
                await shard.run(over)
            finally:
                del self._shards[number]
                self._interrupted(number)
                if over.is_set():
                    self._hand_over(number)

    def _interrupted(self, number: int) -> None:
        """Frames gather in memory now, as long as there is room: no reason to keep the venue waiting."""
        if number in self.collector.outboxes:
            self.collector.outboxes[number].flowing = False
        self.collector.weigh()
        self.feed.relieve()

    def _hand_over(self, shard: int) -> None:
        """Somebody else goes on. What could not be published (Redis is away) is a hole that he will mark."""
        if left := self.collector.outbox(shard).size_bytes:
            log.error("ticks that waited for Redis are lost", shard=shard, bytes=left)
        self.let_go(shard)

    def let_go(self, shard: int) -> None:
        """As if it had never been ours."""
        self.feed.want(shard, {})
        self.collector.let_go(shard)
        self.wishes.pop(shard, None)

    # What the shards ask

    def owns(self, shard: int, key: str) -> bool:
        return streams.shard_of(key, self.settings.teji_shards) == shard

    def status(self, shard: int, wish: Desired, base: Mapping[str, Mode]) -> FeedStatus:
        keys = wish.carried(base)
        missing = self.missing(keys)
        state, reason = self._state(wish, keys, missing)
        return FeedStatus(
            state=state,
            shard=shard,
            venue=self.settings.teji_venue.value,
            connections=len(self.feed.carrying(keys)),
            desired=len(keys),
            seen=len(keys) - len(self.collector.unseen(keys)),
            history_waiting=self.backfill.waiting(keys),
            reason=reason,
            segments=dict(sorted(self.collector.statuses.items())),
            pre_open=dict(sorted(self.collector.pre_open.items())),
            closing_auction=dict(sorted(self.collector.closing_auction.items())),
            never_seen=Some.of(missing.never_seen),
            silent=Some.of(missing.silent),
            no_room=Some.of(missing.no_room),
            sockets=self.feed.sockets(),
        )

    def missing(self, keys: Mapping[str, Mode]) -> Missing:
        """Of these, the instruments that the feed says nothing about."""
        found = self.feed.found
        return Missing(
            ts=self._now_ms(),
            never_seen=tuple(key for key in found.never_seen if key in keys),
            silent=tuple(key for key in found.silent if key in keys),
            no_room=tuple(sorted(self.feed.without_room(keys))),
        )

    def _state(self, wish: Desired, keys: Mapping[str, Mode], missing: Missing) -> tuple[FeedState, str]:
        if not wish.enabled:
            return FeedState.CLOSED, "switched off"
        if self.catalogue.edition is None:
            return FeedState.CONNECTING, f"waiting for the instrument file: {self.catalogue.why_not}"
        state, reason = self.feed.state(keys)
        reasons = [reason] if reason else []
        if missing.no_room:
            state = state if state is not FeedState.CLOSED else FeedState.CONNECTING
            reasons.append(f"no room for {len(missing.no_room)} instruments: {Some.of(missing.no_room)}")
        if missing.never_seen:
            reasons.append(f"the venue never sent {Some.of(missing.never_seen)}: unsubscribe, or check the plan")
        if missing.silent:
            reasons.append(f"silent though their peers tick: {Some.of(missing.silent)}")
        return state, "; ".join(reasons)
