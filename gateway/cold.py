"""The cold store: bars, chains, events and signals from the streams into Postgres, each exactly once in effect.

A batch is copied into a temporary table and merged from there: a bar that is new is inserted, one with a higher
revision replaces what is stored, anything else changes nothing. So the batch can be repeated at will, and it is: the
streams' acknowledgement comes after Postgres's commit, and whatever happens in between is read and stored again. While
Postgres is away the batch waits; the streams keep the rest.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import numpy.typing as npt
import orjson
import structlog

from bus import clock, lease, metrics
from bus.inbox import Batch, Entry, Inbox, Missed, Output
from bus.lease import Keeper, Lease
from bus.life import Worker, pause, together
from bus.postgres import Pool, translated
from gateway.coldrows import (
    BAR,
    CHAIN_VALUES,
    SOURCES,
    BarReader,
    ChainRow,
    EventRow,
    NotARow,
    SignalRow,
    WatchedRow,
    chain_row,
    event_row,
    newest_chains,
    newest_watched,
    signal_row,
    watched_row,
)
from gateway.copy import Encoder
from market.instruments import Instrument, Universe
from schemas import streams
from schemas.errors import Unavailable
from schemas.events import Event, EventKind
from schemas.streams import instrument_id

log = structlog.get_logger("cold")

NAME: Final = "cold"

_BATCH_FIRST: Final = 500
_BATCH_MOST: Final = 20_000
_CHAINS_FIRST: Final = 8  # a chain of 400 strikes is half a megabyte
_CHAINS_MOST: Final = 32
_BLOCK_MS: Final = 250
_RETRY_FIRST_S: Final = 0.2
_ANNOUNCE_S: Final = 2.0
_RETRY_LAST_S: Final = 5.0

# Bars

_ENCODER: Final = Encoder(BAR)
_SOURCE_NAMES: Final = ", ".join(f"'{source.value}'" for source in SOURCES)


def _spelled(column: str) -> str:
    """A column of the staging table as the table of bars has it."""
    if column == "source":
        return f"(ARRAY[{_SOURCE_NAMES}])[source + 1]"
    if column.endswith("_wall_qty"):
        return f"CASE WHEN {column.removesuffix('qty')}price <> 'NaN' THEN {column} END"
    match BAR[column].kind:
        case "f":
            return f"nullif({column}, 'NaN')"
        case "S":
            return f"nullif({column}::text, '')"
    return column


_STAGE: Final = f"CREATE TEMP TABLE IF NOT EXISTS staged_bars ({_ENCODER.definition}) ON COMMIT DELETE ROWS"
_MERGE: Final = """
INSERT INTO bars AS stored ({columns})
SELECT {spelled} FROM staged_bars
ON CONFLICT (instrument_id, ts) DO UPDATE SET {updates} WHERE stored.rev < excluded.rev
""".format(
    columns=", ".join(_ENCODER.names),
    spelled=", ".join(map(_spelled, _ENCODER.names)),
    updates=", ".join(f"{name} = excluded.{name}" for name in _ENCODER.names[2:]),
)


async def store_bars(pool: Pool, rows: npt.NDArray[Any]) -> int:
    """Merge rows, sorted and each key once (`coldrows.newest`). Returns how many were new or newer."""
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")  # the table exists: no news
            await connection.execute(_STAGE)
            await connection.copy_to_table(
                "staged_bars", source=_blocks(rows), columns=list(_ENCODER.names), format="binary"
            )
            done = await connection.execute(_MERGE)
    return int(done.rsplit(" ", 1)[1])


async def _blocks(rows: npt.NDArray[Any]) -> AsyncIterator[bytes]:
    for block in _ENCODER.encode(rows):
        yield block


async def store_chains(pool: Pool, rows: Sequence[ChainRow]) -> int:
    """Insert what is new, replace what is older. Returns how many were."""
    rows = newest_chains(rows)
    keys = [[getattr(row, name) for row in rows] for name in _CHAIN_KEYS]
    values = zip(*(row.values for row in rows), strict=True)
    with translated():
        async with pool.acquire() as connection:
            done = await connection.execute(_CHAINS, *keys, *map(list, values), [row.data for row in rows])
    return int(done.rsplit(" ", 1)[1])


_CHAIN_KEYS: Final = ("underlying", "expiry", "ts", "rev", "complete")
_CHAIN_TYPES: Final = ("text", "date", "bigint", "int", "bool", *["float8"] * len(CHAIN_VALUES), "jsonb")
_CHAIN_COLUMNS: Final = (*_CHAIN_KEYS, *CHAIN_VALUES, "data")
_CHAINS: Final = """
INSERT INTO chains AS stored ({columns})
SELECT * FROM unnest({arrays})
ON CONFLICT (underlying, expiry, ts) DO UPDATE SET {updates} WHERE stored.rev < excluded.rev
""".format(
    columns=", ".join(_CHAIN_COLUMNS),
    arrays=", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(_CHAIN_TYPES, 1)),
    updates=", ".join(f"{name} = excluded.{name}" for name in _CHAIN_COLUMNS[3:]),
)


async def store_watched(pool: Pool, rows: Sequence[WatchedRow]) -> int:
    columns = ("instrument_id", "minutes", "ts", "rev")
    rows = newest_watched(rows)
    values = [[getattr(row, column) for row in rows] for column in columns]
    with translated():
        async with pool.acquire() as connection:
            done = await connection.execute(
                "INSERT INTO watched AS stored (instrument_id, minutes, ts, rev)"
                " SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::int[])"
                " ON CONFLICT (instrument_id, minutes, ts) DO UPDATE SET rev = excluded.rev"
                " WHERE stored.rev < excluded.rev",
                *values,
            )
    return int(done.rsplit(" ", 1)[1])


async def store_events(pool: Pool, rows: Sequence[EventRow]) -> int:
    """Insert what is not there yet."""
    columns = ("id", "ts", "kind", "worker", "message", "data")
    values = [[getattr(row, column) for row in rows] for column in columns]
    with translated():
        async with pool.acquire() as connection:
            done = await connection.execute(
                "INSERT INTO events (id, ts, kind, worker, message, data) SELECT * FROM unnest("
                "$1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) ON CONFLICT DO NOTHING",
                *values,
            )
    return int(done.rsplit(" ", 1)[1])


async def store_signals(pool: Pool, rows: Sequence[SignalRow]) -> int:
    """Insert what is not there yet: of a signal, the first."""
    columns = ("id", "ts", "strategy", "instrument", "side", "data")
    values = [[getattr(row, column) for row in rows] for column in columns]
    with translated():
        async with pool.acquire() as connection:
            done = await connection.execute(
                "INSERT INTO signals (id, ts, strategy, instrument, side, data) SELECT * FROM unnest("
                "$1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) ON CONFLICT DO NOTHING",
                *values,
            )
    return int(done.rsplit(" ", 1)[1])


# Instruments


async def store_instruments(pool: Pool, universe: Universe) -> int:
    """Bring the table of instruments up to date. Returns how many were new or changed."""
    records = await asyncio.to_thread(lambda: sorted(map(_record, universe)))
    columns = ("id", "key", "segment", "exchange", "trading_symbol", "details")
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS staged_instruments (id bigint, key text, segment text, exchange text,"
                " trading_symbol text, details text) ON COMMIT DELETE ROWS"
            )
            await connection.copy_records_to_table("staged_instruments", records=records, columns=list(columns))
            done = await connection.execute(
                "INSERT INTO instruments AS stored (id, key, segment, exchange, trading_symbol, details)"
                " SELECT id, key, segment, exchange, trading_symbol, details::jsonb FROM staged_instruments"
                " ON CONFLICT (id) DO UPDATE SET key = excluded.key, segment = excluded.segment,"
                " exchange = excluded.exchange, trading_symbol = excluded.trading_symbol,"
                " details = excluded.details, updated_at = now()"
                " WHERE (stored.key, stored.trading_symbol, stored.details)"
                " IS DISTINCT FROM (excluded.key, excluded.trading_symbol, excluded.details)"
            )
    return int(done.rsplit(" ", 1)[1])


def _record(instrument: Instrument) -> tuple[int, str, str, str, str, str]:
    return (
        instrument_id(instrument.key),
        instrument.key,
        instrument.segment,
        instrument.exchange,
        instrument.trading_symbol,
        orjson.dumps(instrument).decode(),
    )


# The job

#: Entries that can never be stored, and why.
Hopeless = list[tuple[Entry, str]]
Storing = Callable[[list[Entry]], Awaitable[Hopeless]]
Row = TypeVar("Row")


class Store:
    """Keeps Postgres behind the streams, for the shards whose lease this process holds."""

    def __init__(self, worker: Worker, pool: Pool, migrated: asyncio.Event) -> None:
        self._worker = worker
        self._pool = pool
        self._migrated = migrated
        self._reader = BarReader()

    async def run(self, stop: asyncio.Event) -> None:
        settings = self._worker.settings
        keeper = Keeper(self._worker.bus, NAME, settings.teji_shards, settings.teji_lease_s, self._shard)
        await together(keeper.run(stop), self._announce(stop))

    async def _announce(self, stop: asyncio.Event) -> None:
        """Count among those who keep the cold store: each takes its share of the shards."""
        bus = self._worker.bus
        details = {"pid": os.getpid(), "started": clock.now_ms(), "metrics": self._worker.metrics_url}
        while not stop.is_set():
            with contextlib.suppress(Unavailable):
                await lease.announce(bus, NAME, details)
            await pause(stop, _ANNOUNCE_S)
        with contextlib.suppress(Unavailable):
            await lease.withdraw(bus, NAME)

    async def _shard(self, held: Lease, over: asyncio.Event) -> None:
        jobs = [
            self._keep(held, streams.candles(held.shard), self._bars, over),
            self._keep(held, streams.intervals(held.shard), self._watched, over),
            self._keep(held, streams.chain(held.shard), self._chains, over, (_CHAINS_FIRST, _CHAINS_MOST)),
        ]
        if held.shard == 0:
            jobs.append(self._keep(held, streams.EVENTS, self._events, over))
            jobs.append(self._keep(held, streams.SIGNALS, self._signals, over))
        await together(*jobs)

    async def _keep(
        self,
        held: Lease,
        stream: str,
        store: Storing,
        over: asyncio.Event,
        entries: tuple[int, int] = (_BATCH_FIRST, _BATCH_MOST),
    ) -> None:
        """Read, store, acknowledge. Larger batches as long as the stream has more than we take."""
        writer = self._worker.writer(held)
        names = {"group": NAME, "consumer": f"{NAME}-{held.shard}", "state_key": streams.state(NAME, held.shard)}
        async with Inbox.open(writer, inputs=[stream], **names) as inbox:
            first, most = entries
            count = first
            while not over.is_set():
                batch = await inbox.read(count=count, block_ms=_BLOCK_MS)
                if not batch:
                    continue
                hopeless = await self._until_stored(partial(store, batch.entries), over)
                if hopeless is None:
                    return  # not acknowledged: whoever comes next stores it
                outputs = [inbox.reject(entry, why) for entry, why in hopeless] + _gaps(batch)
                await inbox.commit(outputs, now_s=clock.monotonic_s())
                count = min(count * 2, most) if len(batch.entries) >= count else max(count // 2, first)

    async def _until_stored(self, store: Callable[[], Awaitable[Hopeless]], over: asyncio.Event) -> Hopeless | None:
        """Try until Postgres has taken it; None when asked to stop before that."""
        retry_s = _RETRY_FIRST_S
        while not over.is_set():
            if self._migrated.is_set():
                try:
                    return await store()
                except Unavailable as error:
                    log.warning("waiting", reason=str(error), retry_s=retry_s)
            await pause(over, retry_s)
            retry_s = min(_RETRY_LAST_S, retry_s * 2)
        return None

    async def _bars(self, entries: list[Entry]) -> Hopeless:
        rows, hopeless = await asyncio.to_thread(self._reader.read, [entry.fields for entry in entries])
        if len(rows):
            changed = await store_bars(self._pool, rows)
            metrics.COLD_ROWS.labels("bars").inc(changed)
        return [(entries[place], why) for place, why in hopeless]

    async def _chains(self, entries: list[Entry]) -> Hopeless:
        rows, hopeless = await asyncio.to_thread(_sorted_out, entries, lambda entry: chain_row(entry.fields))
        if rows:
            metrics.COLD_ROWS.labels("chains").inc(await store_chains(self._pool, rows))
        return hopeless

    async def _watched(self, entries: list[Entry]) -> Hopeless:
        found, hopeless = await asyncio.to_thread(_sorted_out, entries, lambda entry: watched_row(entry.fields))
        rows = [row for row in found if row is not None]
        if rows:
            metrics.COLD_ROWS.labels("watched").inc(await store_watched(self._pool, rows))
        return hopeless

    async def _events(self, entries: list[Entry]) -> Hopeless:
        rows, hopeless = _sorted_out(entries, lambda entry: event_row(entry.id, entry.fields))
        if rows:
            metrics.COLD_ROWS.labels("events").inc(await store_events(self._pool, rows))
        return hopeless

    async def _signals(self, entries: list[Entry]) -> Hopeless:
        rows, hopeless = _sorted_out(entries, lambda entry: signal_row(entry.fields))
        if rows:
            metrics.COLD_ROWS.labels("signals").inc(await store_signals(self._pool, rows))
        return hopeless


def _sorted_out(entries: list[Entry], read: Callable[[Entry], Row]) -> tuple[list[Row], Hopeless]:
    rows: list[Row] = []
    hopeless: Hopeless = []
    for entry in entries:
        try:
            rows.append(read(entry))
        except NotARow as error:
            hopeless.append((entry, str(error)))
    return rows, hopeless


def _gaps(batch: Batch) -> list[Output]:
    """What was trimmed before it could be stored, said once a batch and stream."""
    by_stream: dict[str, list[Missed]] = {}
    for missed in batch.missed:
        by_stream.setdefault(missed.stream, []).append(missed)
    outputs: list[Output] = []
    for stream, missed_ones in by_stream.items():
        metrics.MISSED_GAPS.labels(stream).inc()
        first, last = missed_ones[0].after, missed_ones[-1].last
        message = f"entries of {stream} were trimmed before Postgres had them"
        data = {"stream": stream, "after": first, "to": last, "group": NAME}
        event = Event(kind=EventKind.GAP, ts=clock.now_ms(), worker=NAME, message=message, data=data)
        outputs.append(Output(streams.EVENTS, {"kind": event.kind.value, "data": event.model_dump_json()}))
    return outputs
