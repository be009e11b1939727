"""The shell of the aggregator: reads tick entries, folds them, commits what leaves together with the fold's memory."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final

import numpy as np
import structlog
from pydantic import ValidationError

from aggregator import chain_worker
from aggregator.bars import BarBuilder, Drift, Printed, Produced, warm
from aggregator.chain import ChainBuilder
from aggregator.chain_worker import ChainShard, day_before
from aggregator.closed import Closed
from aggregator.long_worker import LongShard
from aggregator.moments import PanelPart
from bus import clock, metrics
from bus.connection import Bus, pairs
from bus.inbox import Batch, Entry, Inbox, Missed, Output, Value, Writer, order
from bus.lease import Keeper, Lease
from bus.life import Worker, together, until_done
from market import sessions
from schemas import panel, streams, ticks
from schemas.commands import FeedBackfill
from schemas.errors import Misconfigured, Rejected
from schemas.events import Event, EventKind
from schemas.terms import Terms
from schemas.ticks import FeedMark, SessionClass, TickBatch

log = structlog.get_logger("aggregator")

NAME: Final = "aggregator"
_READ_ENTRIES_MAX: Final = 500
_READ_ENTRIES_FIRST: Final = 20  # not yet known to be small: a commit that outlasts its time does so again and again
_HISTORY_WEIGHT: Final = 16  # what leaves for a minute of history is so much larger than its JSON
_READ_BYTES: Final = 4_000_000  # entries grow with the load; a read stays about this large
_READ_BLOCK_MS: Final = 500
_LAST_READS: Final = 20  # when asked to go: ticks do not survive a restart of Redis, so none is left unread
_BARS_AT_ONCE: Final = 100  # after more of them others get a turn
_COMMIT_S: Final = 1.0  # without bars to publish, the memory is committed this often
_COMMIT_BYTES_PER_S: Final = 1_000_000  # and less often where it is large
_SILENCE_MS: Final = 3_000  # ingest says something every second; when it does not, it is dead
_AFTER_MS: Final = 5 * 60_000  # an instrument is covered again from its next update on, and some take their time
_ASKED_MS: Final = 28 * 86_400_000  # what ingest can be asked for at once
_MEMORY_MS: Final = 120_000  # the minute under way and the one before it, whose grace may not have passed


async def run(worker: Worker, stop: asyncio.Event) -> None:
    settings = worker.settings
    warm()  # before there is a lease to keep: loading compiled code blocks for half a second
    chain_worker.warm()

    async def work(lease: Lease, over: asyncio.Event) -> None:
        shards, rate = settings.teji_shards, settings.teji_rate
        builder = BarBuilder(hours, settings.teji_grace_ms, asks=True, shards=shards, rate=rate)
        chains = ChainBuilder(settings.teji_shards, settings.teji_rate, day_before(settings.teji_calendar))
        await together(
            Shard(worker.bus, worker.writer(lease), lease.shard, builder).run(over),
            ChainShard(worker.bus, worker.writer(lease), lease.shard, chains).run(over),
        )

    await Keeper(worker.bus, NAME, settings.teji_shards, settings.teji_lease_s, work).run(stop)


def hours(key: str, session: SessionClass, on: date) -> Sequence[tuple[int, int]]:
    """Continuous trading on a date. A date that the calendar does not cover has none: its trades become prints."""
    try:
        return sessions.continuous(sessions.segment_of(key), session, on)
    except Misconfigured as error:
        log.error("no trading hours", reason=str(error))
        return ()


class Shard:
    def __init__(self, bus: Bus, writer: Writer, number: int, builder: BarBuilder) -> None:
        self._bus = bus
        self._writer = writer
        self._number = number
        self._builder = builder
        self._long = LongShard(bus, number, hours)
        self._stream = streams.ticks(number)
        self._last: tuple[str, int] | None = None  # newest entry: its id, its venue time
        self._silent = False  # we have said that ingest is away
        self._since_ms = 0  # by Redis's clock: nobody was silent before
        self._forgot = False  # the memory is lost, and nobody has been told yet what is missing with it
        self._read_entries = _READ_ENTRIES_FIRST
        self._committed_s = 0.0
        self._commit_every_s = _COMMIT_S

    async def run(self, over: asyncio.Event) -> None:
        opened = Inbox.open(
            self._writer, group=NAME, consumer=NAME, inputs=[self._stream], state_key=streams.state(NAME, self._number)
        )
        async with opened as inbox:
            outputs = self._restore(inbox)
            await self._long.open()
            self._since_ms = await self._bus.now_ms()  # after a crash of Redis ingest first puts back what it lost
            self._long.know(*self._builder.known)
            await until_done(self._read(inbox, outputs, over), self._long.remember(self._closed_ms))

    async def _read(self, inbox: Inbox, outputs: list[Output], over: asyncio.Event) -> None:
        last_reads = _LAST_READS
        while last_reads:
            batch = await inbox.read(count=self._read_entries, block_ms=0 if over.is_set() else _READ_BLOCK_MS)
            if over.is_set():
                last_reads = last_reads - 1 if batch else 0
            elif not batch:
                await self._mind_silence()
            outputs += await self._fold(inbox, batch)
            outputs += self._long.held()
            await self._commit(inbox, outputs)
        if inbox.uncommitted or outputs:
            await inbox.commit(outputs, snapshot=self._builder.snapshot(), now_s=clock.monotonic_s())

    def _closed_ms(self) -> int:
        return max(0, self._builder.closed_ms)

    def _restore(self, inbox: Inbox) -> list[Output]:
        if inbox.snapshot is None:
            return []
        try:
            self._builder.restore(inbox.snapshot)
        except ValueError as error:
            self._forgot = True
            return [_event(EventKind.ALERT, f"the aggregator starts without its memory: {error}", {})]
        return []

    async def _fold(self, inbox: Inbox, batch: Batch) -> list[Output]:
        outputs = [output for missed in batch.missed for output in await self._missed(missed)]
        if batch.entries:
            size = sum(map(_weight, batch.entries)) / len(batch.entries)
            self._read_entries = max(1, min(_READ_ENTRIES_MAX, int(_READ_BYTES / (2 * size + 1))))
        bars = 0
        for at, entry in enumerate(batch.entries):
            try:
                produced = self._one(entry, outputs)
                while produced.wanted:
                    await self._look_up(batch.entries[at:])
                    produced = self._builder.go_on()
            except (ValueError, Rejected) as error:
                outputs.append(inbox.reject(entry, str(error)))
                continue
            outputs += self._outputs(produced)
            self._long.know(*self._builder.known)
            outputs += self._long.add(produced)
            bars += len(produced.bars)
            if len(produced.bars) > _BARS_AT_ONCE:
                await asyncio.sleep(0)  # a long history: the lease wants to be renewed
        metrics.BARS.labels("published").inc(bars)
        return outputs

    async def _look_up(self, entries: Iterable[Entry]) -> None:
        """The terms of what the first of these entries needs before it can go on, and the others will."""
        wanted, ts = self._builder.due(_unpacked(entries))
        (found,) = await self._bus.packet(("HMGET", streams.terms(self._number), *wanted))
        self._builder.know({key: _terms(key, body) for key, body in zip(wanted, found, strict=True)}, ts)

    def _one(self, entry: Entry, outputs: list[Output]) -> Produced:
        batch = ticks.unpack(entry.fields)
        self._last, self._silent = (entry.id, batch.ts), batch.feed == FeedMark.AWAY and self._silent
        if self._forgot:
            outputs += self._forgotten(batch.ts)
        if len(batch.rec):
            metrics.TICKS.labels(NAME).inc(len(batch.rec))
            metrics.HOP_S.labels("aggregator").observe(max(0.0, (clock.now_ns() - batch.rx) / 1e9))
        return self._builder.add(batch)

    def _outputs(self, produced: Produced) -> list[Output]:
        for drift in produced.drifts:
            _measure(self._number, drift)
        return [*map(self._bar, produced.bars), *map(_print, produced.prints), *map(self._panel, produced.panels)]

    def _bar(self, bar: Closed) -> Output:
        fields: dict[str, Value] = {"instrument": bar.instrument, "ts": bar.ts, "data": bar.data}
        return Output(streams.candles(self._number), fields)

    def _panel(self, part: PanelPart) -> Output:
        return Output(streams.panel(part.to), panel.pack(part.ts, self._number, part.keys, part.rec))

    async def _missed(self, missed: Missed) -> list[Output]:
        """Ticks were trimmed before we read them. What they would have told is a hole in every bar under way."""
        metrics.MISSED_GAPS.labels(missed.stream).inc()
        self._builder.lose()
        to_ts = await self._venue_time_after(missed.last) or self._builder.venue_ms
        from_ts = self._builder.venue_ms or to_ts - (order(missed.last)[0] - order(missed.after)[0])
        data = {"stream": missed.stream, "after": missed.after, "last": missed.last}
        return self._gap("ticks were trimmed before the aggregator read them", from_ts, to_ts, data)

    def _forgotten(self, ts: int) -> list[Output]:
        """With the memory is lost what it knew of the minutes that had not left."""
        self._forgot = False
        return self._gap("the aggregator lost its memory of the minutes under way", ts - _MEMORY_MS, ts, {})

    async def _venue_time_after(self, entry_id: str) -> int:
        """Of the first entry after this one; 0 where there is none."""
        (found,) = await self._bus.packet(("XRANGE", self._stream, f"({entry_id}", "+", "COUNT", 1))
        return int(pairs(found[0][1])[b"ts"]) if found else 0

    def _gap(self, message: str, from_ts: int, to_ts: int, data: Mapping[str, object]) -> list[Output]:
        """Something is missing between two venue times; `instruments` null: of all instruments of the shard. Ingest is
        asked for it: a command is taken up exactly once, even by an ingest that is away now."""
        about = {"shard": self._number, "instruments": None, "from_ts": from_ts, "to_ts": to_ts}
        outputs = [_event(EventKind.GAP, message, {**data, **about})]
        first, last = max(from_ts, to_ts - _ASKED_MS), to_ts + _AFTER_MS
        if 0 < first < last:
            ask = FeedBackfill(from_ms=first, to_ms=last, shard=self._number)
            number = f"gap-{self._number}-{from_ts}-{to_ts}"
            fields = {"id": number, "kind": ask.kind, "by": NAME, "data": ask.model_dump_json()}
            outputs.append(Output(streams.COMMANDS, fields))
        return outputs

    async def _commit(self, inbox: Inbox, outputs: list[Output]) -> None:
        """At once when something leaves; else now and then, so that a restart has little to fold again."""
        now_s = clock.monotonic_s()
        idle_s = now_s - self._committed_s
        if not outputs and (not inbox.uncommitted or idle_s < self._commit_every_s):
            return
        snapshot = self._builder.snapshot()
        self._commit_every_s = max(_COMMIT_S, len(snapshot) / _COMMIT_BYTES_PER_S)
        await inbox.commit(outputs, snapshot=snapshot, now_s=now_s)
        outputs.clear()
        self._committed_s = now_s

    async def _mind_silence(self) -> None:
        """Ingest is dead: minutes must end all the same. What we know of time goes into the stream, where every
        reader, and ourselves after a restart, finds it at the same place."""
        last = self._last or await self._newest()
        if last is None:
            return
        now_ms = await self._bus.now_ms()
        entry_id, ts = last
        silent_ms = now_ms - order(entry_id)[0]
        heard_ms = max(order(entry_id)[0], self._since_ms)
        if now_ms - heard_ms < (1_000 if self._silent else _SILENCE_MS):
            return
        marks = [ticks.pack_mark(ts + silent_ms, 0, feed=FeedMark.AWAY)]
        if not self._silent:
            marks.insert(0, ticks.pack_mark(ts, 0, feed=FeedMark.DOWN))
        self._silent = True
        await self._writer.write([Output(self._stream, mark) for mark in marks], now_s=clock.monotonic_s())

    async def _newest(self) -> tuple[str, int] | None:
        entry = await self._bus.last_entry(self._stream)
        self._last = (entry[0], int(entry[1][b"ts"])) if entry else None
        return self._last


def _unpacked(entries: Iterable[Entry]) -> Iterator[TickBatch]:
    for entry in entries:
        with contextlib.suppress(ValueError):  # those are set aside when it is their turn
            yield ticks.unpack(entry.fields)


def _terms(key: str, body: bytes | None) -> Terms | None:
    try:
        return Terms.model_validate_json(body) if body else None
    except ValidationError as error:
        log.error("terms that cannot be read: no own Greeks", instrument=key, reason=str(error))
        return None


def _measure(shard: int, drift: Drift) -> None:
    for flag, count in drift.flags.items():
        metrics.OWN_GREEKS.labels(flag).inc(count)
    metrics.GREEKS_COMPARED.labels(str(shard)).set(len(drift.iv))
    for name, away in (("iv", drift.iv), ("delta", drift.delta)):
        for stat, part in (("median", 50), ("p95", 95)):
            value = float(np.percentile(away, part)) if len(away) else np.nan
            metrics.GREEKS_DRIFT.labels(str(shard), name, stat).set(value)


def _weight(entry: Entry) -> int:
    """About how many bytes of outputs and work an entry makes."""
    return len(entry.fields.get(b"rec", b"")) + _HISTORY_WEIGHT * len(entry.fields.get(b"bars", b""))


def _print(trade: Printed) -> Output:
    data = {"instrument": trade.instrument, "price": trade.price, "volume": trade.volume}
    return _event(EventKind.PRINT, "a trade outside the continuous session", data, ts=trade.ltt)


def _event(kind: EventKind, message: str, data: Mapping[str, object], ts: int | None = None) -> Output:
    event = Event(kind=kind, ts=clock.now_ms() if ts is None else ts, worker=NAME, message=message, data=dict(data))
    return Output(streams.EVENTS, {"kind": kind.value, "data": event.model_dump_json()})
