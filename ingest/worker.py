"""The shell of ingest: one feed for all shards of this process, and which shards those are."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from brokers.upstox import instruments
from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import READ_BUDGET, Budget, Rest, http_client
from bus import clock, metrics
from bus.inbox import Inbox
from bus.lease import Keeper, Lease
from bus.life import Worker, pause, together, until_done
from bus.settings import Calendar, Settings
from ingest import feed, merge, names
from ingest.backfill import Backfill, Plan
from ingest.collector import Collector
from ingest.desired import Desired
from ingest.feed import Feed
from ingest.shard import NAME, Shard
from market import sessions
from market.instruments import Universe, session_class
from proto import decode
from schemas import streams
from schemas.errors import Unavailable
from schemas.events import FeedState, FeedStatus
from schemas.ticks import SessionClass

log = structlog.get_logger("ingest")

_SESSION_MS: Final = 24 * 60 * 60_000


async def run(worker: Worker, stop: asyncio.Event) -> None:
    settings = worker.settings
    decode.warm()  # before there is a lease to keep: loading compiled code blocks for half a second
    merge.warm()
    universe = await _universe(settings, stop)
    if universe is None:
        return
    tokens = TokenStore(settings)
    async with http_client() as http:
        rest = Rest(http, settings.upstox_api_url, tokens.current, Budget(READ_BUDGET, clock.monotonic_s))
        ingest = Ingest(worker, universe, rest, tokens)
        keeper = Keeper(worker.bus, NAME, settings.teji_shards, settings.teji_lease_s, ingest.work)
        try:
            await until_done(keeper.run(stop), ingest.tend(stop), feed.refresh_hours(ingest.feed, stop))
        finally:
            await ingest.feed.close()


async def _universe(settings: Settings, stop: asyncio.Event) -> Universe | None:
    while not stop.is_set():
        try:
            return await instruments.fetch(settings)
        except Unavailable as error:
            log.warning("waiting for the instrument file", reason=str(error))
            await pause(stop, 1.0)
    return None


class Ingest:
    """What the shards of this process share: the connections, the decoder, the history."""

    def __init__(self, worker: Worker, universe: Universe, rest: Rest, tokens: TokenStore) -> None:
        self.settings = worker.settings
        self._worker = worker
        self._universe = universe
        self._shards: dict[int, Shard] = {}
        self._orphans: dict[int, float] = {}  # shards whose lease was lost, since when: usually we get it back
        self.collector = Collector(self.settings.teji_shards, self.settings.teji_buffer_mb << 20, self._session_of)
        self.collector.wake = self.wake
        plan = Plan(lambda key: names.rank(universe.get(key)), self._warmup_ms)
        self.backfill = Backfill(plan, rest, self.collector)
        self.feed = Feed(
            self.settings, rest, tokens, self.collector,
            changed=self._changed, started=self.backfill.started, ended=self.backfill.ended,
        )  # fmt: skip

    def _session_of(self, key: str) -> SessionClass:
        if self.settings.teji_calendar is Calendar.ALWAYS:
            return SessionClass.ALWAYS_OPEN
        instrument = self._universe.get(key)
        on = sessions.trading_date(self.collector.clock.at(clock.monotonic_s()) or clock.now_ms())
        return session_class(instrument, on) if instrument else SessionClass.ORDINARY

    def _warmup_ms(self, key: str) -> int:
        instrument = self._universe.get(key)
        return self.settings.teji_warmup_min * 60_000 if instrument and instrument.is_option else _SESSION_MS

    async def tend(self, stop: asyncio.Event) -> None:
        """What belongs to the process and not to a shard."""
        jobs = [self._look_after(stop)]
        if self.settings.teji_backfill:
            jobs.append(self.backfill.run(stop))
        await together(*jobs)

    async def _look_after(self, stop: asyncio.Event) -> None:
        while not await pause(stop, 1.0):
            self.feed.check()
            self.collector.count()
            for shard, box in self.collector.outboxes.items():
                metrics.BUFFER_BYTES.labels(str(shard)).set(box.size_bytes)
            for shard, since_s in list(self._orphans.items()):
                if clock.monotonic_s() - since_s > 3 * self.settings.teji_lease_s:
                    self._give_up(shard)

    # Shards

    async def work(self, lease: Lease, over: asyncio.Event) -> None:
        """Publish one shard for as long as its lease is ours. Raises Unavailable or LeaseLost; nothing is lost."""
        self._orphans.pop(lease.shard, None)
        box = self.collector.outbox(lease.shard)
        published = await self._worker.bus.get(streams.sequence(NAME, lease.shard))
        continues = box.resume(int(published) if published else None)
        writer = self._worker.writer(lease)
        inbox_of = Inbox.open(
            writer,
            group=NAME if lease.shard == 0 else f"{NAME}:{lease.shard}",
            consumer=NAME,
            inputs=[streams.COMMANDS],
            state_key=streams.state(NAME, lease.shard),
        )
        async with inbox_of as inbox:
            shard = Shard(self, self._worker.bus, writer, inbox, lease.shard)
            self._shards[lease.shard] = shard
            try:
                await shard.begin(continues)
                await together(shard.publish(over), shard.obey(over))
            finally:
                if over.is_set():
                    self._give_up(lease.shard)  # somebody else goes on
                else:
                    self._orphans[lease.shard] = clock.monotonic_s()

    def _give_up(self, shard: int) -> None:
        self._orphans.pop(shard, None)
        self._shards.pop(shard, None)
        self.collector.flush()
        self.collector.outboxes.pop(shard, None)
        self.collector.weigh()
        self.feed.want(shard, {})

    def wake(self) -> None:
        for shard in self._shards.values():
            shard.due.set()

    def _changed(self) -> None:
        for shard in self._shards.values():
            shard.status_due = True
            shard.due.set()

    # What the shards ask

    def initial(self, shard: int) -> Desired:
        """What the settings ask for."""
        on = sessions.trading_date(clock.now_ms())
        keys = names.resolve(self.settings.teji_instruments, self._universe, on)
        mine = [key for key in keys if self.owns(shard, key)]
        return Desired.initial(self.settings.teji_instruments, mine, self.settings.teji_feed_mode)

    def owns(self, shard: int, key: str) -> bool:
        return streams.shard_of(key, self.settings.teji_shards) == shard

    def knows(self, key: str) -> bool:
        return key in self._universe

    def covered(self, keys: Iterable[str], ts: int) -> None:
        self.backfill.ended(keys, ts)

    def status(self, wish: Desired, shard: int) -> FeedStatus:
        state, reason = self.feed.state() if wish.enabled else (FeedState.CLOSED, "switched off")
        if self.feed.left_over:
            reason = f"{reason} no room for {len(self.feed.left_over)} instruments".strip()
        return FeedStatus(
            state=state,
            shard=shard,
            venue=self.settings.teji_venue.value,
            connections=len(self.feed.active),
            desired=len(wish.carried),
            seen=len(wish.carried) - len(self.collector.unseen(wish.carried)),
            reason=reason,
            segments=dict(sorted(self.collector.statuses.items())),
        )
