"""`teji audit bars`: every bar of a day beside the venue's candle of the same minute, and what differs.

The venue is asked once an instrument, in its own limits and below them, so that a running ingest can ask too. Final
candles are kept under TEJI_HOME, so an audit that was cut short goes on where it was, and another one costs nothing.
"""

import asyncio
import getpass
import json
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from brokers.upstox import history
from brokers.upstox.auth import TokenStore
from brokers.upstox.rest import Budget, NeedsLogin, Rest, Throttled, VenueError, http_client
from bus import clock, embedded, postgres
from bus.connection import Bus, translated
from bus.embedded import Servers
from bus.inbox import Output, Writer
from bus.postgres import Pool
from bus.settings import Calendar, Settings, Venue, load
from market import sessions
from market.instruments import Instrument, trading_hours
from schemas import streams
from schemas.bars import HistoryBar
from schemas.commands import FeedBackfill
from schemas.errors import Misconfigured, Rejected, Unavailable
from teji import running
from teji.comparison import Comparison, Mismatch, Stored, Tolerance

#: Calls per window of seconds, of the venue's 50, 500 and 2000. An ingest that has a whole day to fill wants most of
#: them too; then the venue says so, and both wait.
BUDGET: Final = ((1.0, 15), (60.0, 250), (1800.0, 1500))
_IST: Final = timezone(timedelta(hours=5, minutes=30))
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_FINAL_MS: Final = 30 * 3_600_000  # after a day's midnight its candles are final: 06:00 of the next
_BUSY_TRIES, _BUSY_S = 12, 15.0  # what it counts in half-hours takes a while
_AWAY_TRIES, _AWAY_S = 4, 2.0
_PAGE: Final = 2_000
_LIQUID_MAX: Final = 200
_KEPT_DAYS: Final = 40
_REPLY_S: Final = 10.0
_COMMANDS_MAX: Final = 500
_INSTRUMENTS_PER_COMMAND: Final = 1_000
_INSTRUMENT: Final = TypeAdapter(Instrument)
_COLUMNS: Final = "ts, open, high, low, close, volume, oi, source, complete, rev"


_EXACT: Final = Tolerance()


class WrongUsage(Exception):
    """The message says what the options have to be."""


@dataclass(frozen=True, slots=True)
class Options:
    on: date | None = None  # None: the venue's today
    instruments: tuple[str, ...] = ()  # none: all that have a bar that day
    tolerance: Tolerance = _EXACT
    from_first_bar: bool = False
    repair: bool = False
    refresh: bool = False


def chosen(
    on: str | None,
    instruments: str,
    price: float,
    volume: int,
    from_first_bar: bool,
    *,
    repair: bool,
    refresh: bool,
) -> Options:
    """Options as people write them."""
    try:
        day = None if on is None else date.fromisoformat(on)
    except ValueError:
        raise WrongUsage(f"{on!r} is no date: write it as 2026-11-20") from None
    keys = tuple(key.strip() for key in instruments.split(",") if key.strip())
    if wrong := [key for key in keys if "|" not in key]:
        raise WrongUsage(f"{wrong[0]!r} is no instrument key, which looks like 'NSE_INDEX|Nifty 50'")
    return Options(day, keys, Tolerance(price, volume), from_first_bar, repair, refresh)


@dataclass(slots=True)
class Report:
    on: date
    candles: str  # which call told them: intraday or historical
    tolerance: Tolerance
    found: Comparison = field(default_factory=Comparison)
    refused: dict[str, str] = field(default_factory=dict)  # instruments that the venue tells nothing of, and why
    prints: int = 0  # trades outside continuous trading that day, as we saw them
    prints_volume: int = 0
    asked_for: int | None = None  # minutes that --repair has asked for

    @property
    def is_right(self) -> bool:
        return self.found.is_right and not self.refused

    def as_dict(self) -> dict[str, Any]:
        counts = asdict(self.found)
        mismatches = counts.pop("mismatches")
        return {
            "date": self.on.isoformat(),
            "right": self.is_right,
            "candles": self.candles,
            "tolerance": asdict(self.tolerance),
            **counts,
            "prints": self.prints,
            "prints_volume": self.prints_volume,
            "refused": self.refused,
            "asked_for": self.asked_for,
            "mismatches": mismatches,
        }


def main(options: Options, *, as_json: bool, shown: int) -> int:
    settings, url = _venue(load())
    with embedded.servers(settings) as places:
        report = asyncio.run(audited(settings, places, url, options))
    print(json.dumps(report.as_dict(), ensure_ascii=False) if as_json else in_words(report, shown))
    return int(not report.is_right)


def _venue(settings: Settings) -> tuple[Settings, str]:
    """Where its REST calls are. The demo's is known to the supervisor, and never closes."""
    supervisor = running.found(settings.home)
    if supervisor is not None and supervisor.sim_url:
        return settings.model_copy(update={"teji_calendar": Calendar.ALWAYS}), supervisor.sim_url
    if settings.teji_venue is Venue.SIM and "upstox_api_url" not in settings.model_fields_set:
        raise Misconfigured("The simulated exchange does not run: start it with `teji up`, or set UPSTOX_API_URL.")
    return settings, settings.upstox_api_url


async def audited(settings: Settings, places: Servers, url: str, options: Options) -> Report:
    async with (
        Bus.open(places.redis_url) as bus,
        postgres.open_pool(places.postgres_url, size=1) as pool,
        http_client() as client,
    ):
        store = Store(bus, pool, settings.teji_shards)
        today = await store.venue_date()
        on = options.on or today
        if on > today:
            raise WrongUsage(f"{on} is in the future: the venue's date is {today}")
        budget = Budget(BUDGET, clock.monotonic_s)
        rest = Rest(client, url, TokenStore(settings).current, budget)
        report = Report(on, "intraday" if on == today else "historical", options.tolerance)
        audit = _Audit(settings, store, rest, Kept(settings.home / "audit"), report, options)
        await audit.run(today)
        if options.repair:
            report.asked_for = await _repair(bus, settings.teji_shards, report.found)
        return report


class Store:
    """Our own bars: Postgres, and of today what Redis has newer."""

    def __init__(self, bus: Bus, pool: Pool, shards: int) -> None:
        self._bus = bus
        self._pool = pool
        self._shards = shards
        self._hot: dict[str, dict[int, Stored]] = {}

    async def venue_date(self) -> date:
        """By the newest tick; the machine's own where there is none."""
        newest = [await self._bus.last_entry(streams.ticks(shard)) for shard in range(self._shards)]
        told = [int(entry[1][b"ts"]) for entry in newest if entry is not None and entry[1].get(b"ts", b"").isdigit()]
        return sessions.trading_date(max(told, default=clock.now_ms()))

    async def has_tables(self) -> bool:
        with postgres.translated():
            return bool(await self._pool.fetchval("SELECT to_regclass('bars') IS NOT NULL"))

    async def read_redis(self, start: int, end: int) -> None:
        """The day's bars that are still in Redis."""
        for shard in range(self._shards):
            after = "-"
            while True:
                with translated():
                    page = await self._bus.redis.xrange(streams.candles(shard), min=after, count=_PAGE)
                for _, fields in page:
                    self._take(orjson.loads(fields[b"data"]), start, end)
                if len(page) < _PAGE:
                    break
                after = f"({page[-1][0].decode()}"

    def _take(self, bar: Mapping[str, Any], start: int, end: int) -> None:
        if not start <= bar["ts"] < end:
            return
        of = self._hot.setdefault(bar["instrument"], {})
        known = of.get(bar["ts"])
        if known is None or known.rev <= bar["rev"]:
            of[bar["ts"]] = Stored(**{name: bar[name] for name in Stored.__slots__})

    async def instruments(self, start: int, end: int, cold: bool, live: bool) -> dict[str, Instrument | None]:
        """Whatever has a bar in [start, end), and what is subscribed now where that is today."""
        found: dict[str, Instrument | None] = dict.fromkeys(self._hot)
        if live:
            for shard in range(self._shards):
                with translated():
                    keys = await self._bus.redis.hvals(streams.instruments(shard))
                found.update(dict.fromkeys(key.decode() for key in keys))
        if cold:
            query = (
                "SELECT key, details FROM instruments i WHERE key = ANY($3) OR EXISTS"
                " (SELECT FROM bars WHERE instrument_id = i.id AND ts >= $1 AND ts < $2)"
            )
            with postgres.translated():
                rows = await self._pool.fetch(query, start, end, list(found))
            found.update((row["key"], _instrument(row["details"])) for row in rows)
        return found

    async def bars(self, key: str, start: int, end: int, cold: bool) -> dict[int, Stored]:
        rows: Sequence[Any] = ()
        if cold:
            query = f"SELECT {_COLUMNS} FROM bars WHERE instrument_id = $1 AND ts >= $2 AND ts < $3"  # noqa: S608
            with postgres.translated():
                rows = await self._pool.fetch(query, streams.instrument_id(key), start, end)
        found = {row["ts"]: Stored(**dict(row)) for row in rows}
        for ts, bar in self._hot.get(key, {}).items():
            if ts not in found or found[ts].rev <= bar.rev:
                found[ts] = bar
        return found

    async def first_live(self, known: Mapping[str, Instrument | None], start: int, end: int, cold: bool) -> int:
        """When the feed was first seen that day, by what trades all the time; 0 where it was not."""
        liquid = [key for key, instrument in known.items() if instrument is None or not instrument.is_option]
        stamps = [ts for key in liquid for ts, bar in self._hot.get(key, {}).items() if bar.source == "live"]
        if cold:
            query = (
                "SELECT min(ts) FROM bars WHERE instrument_id = ANY($1) AND ts >= $2 AND ts < $3 AND source = 'live'"
            )
            ids = [streams.instrument_id(key) for key in liquid[:_LIQUID_MAX]]
            with postgres.translated():
                stamps += [ts for ts in [await self._pool.fetchval(query, ids, start, end)] if ts is not None]
        return min(stamps, default=0)

    async def prints(self, start: int, end: int, keys: Sequence[str]) -> tuple[int, int]:
        """Trades outside continuous trading: how many, and their volume."""
        query = (
            "SELECT count(*), coalesce(sum((data->>'volume')::bigint), 0) FROM events"
            " WHERE kind = 'print' AND ts >= $1 AND ts < $2 AND data->>'instrument' = ANY($3)"
        )
        with postgres.translated():
            count, volume = await self._pool.fetchrow(query, start, end, keys)
        return int(count), int(volume)


def _instrument(details: str) -> Instrument | None:
    try:
        return _INSTRUMENT.validate_json(details)
    except (ValidationError, Rejected):
        return None


class Kept:
    """Final candles of a day, a file an instrument."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, on: date, key: str) -> Path:
        return self._folder / on.isoformat() / f"{streams.instrument_id(key) & (1 << 64) - 1:016x}.json"

    def get(self, on: date, key: str) -> list[HistoryBar] | None:
        try:
            return history.parse(key, orjson.loads(self._path(on, key).read_bytes()))
        except (OSError, orjson.JSONDecodeError, VenueError):
            return None  # not there, or cut short: asked for again

    def put(self, on: date, key: str, bars: Sequence[HistoryBar]) -> None:
        rows = [
            [
                datetime.fromtimestamp(bar.ts / 1000, _IST).isoformat(),
                *(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.oi or 0),
            ]
            for bar in bars
        ]
        path = self._path(on, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_bytes(orjson.dumps({"candles": rows}))
        scratch.replace(path)

    def prune(self, today: date) -> None:
        """Days that nobody will audit again."""
        for folder in sorted(self._folder.glob("????-??-??")):
            if folder.name < (today - timedelta(days=_KEPT_DAYS)).isoformat():
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()


class _Audit:
    def __init__(
        self, settings: Settings, store: Store, rest: Rest, kept: Kept, report: Report, options: Options
    ) -> None:
        self._settings = settings
        self._store = store
        self._rest = rest
        self._kept = kept
        self._report = report
        self._options = options
        self._followed_ms = 0  # options have nothing from before, and need not
        self._newest = 0  # of the venue's candles of today: what is older by a minute is over for both

    async def run(self, today: date) -> None:
        on, options = self._report.on, self._options
        start = int(datetime(on.year, on.month, on.day, tzinfo=_IST).timestamp()) * 1000
        end = start + _DAY_MS
        live, cold = on == today, await self._store.has_tables()
        if not (live or cold):
            raise Misconfigured("Postgres has no bars yet: a gateway keeps them there, start one with `teji up`.")
        if live:
            await self._store.read_redis(start, end)
        known = await self._store.instruments(start, end, cold, live)
        keys = list(dict.fromkeys(options.instruments)) or sorted(known)
        self._kept.prune(today)
        if first := await self._store.first_live(known, start, end, cold):
            self._followed_ms = first - self._settings.teji_warmup_min * _MINUTE_MS
        with _progress() as bar:
            task = bar.add_task(f"{on:%d %b %Y}", total=len(keys), eta="")
            for number, key in enumerate(keys):
                bar.update(task, eta=_eta(len(keys) - number, self._rest.wait_s()))
                await self._one(key, known.get(key), (start, end), cold)
                bar.advance(task)
        if cold:
            self._report.prints, self._report.prints_volume = await self._store.prints(start, end, keys)

    async def _one(self, key: str, instrument: Instrument | None, span: tuple[int, int], cold: bool) -> None:
        try:
            theirs = await self._candles(key, span[0])
        except VenueError as error:
            self._report.refused[key] = str(error)
            return
        ours = await self._store.bars(key, *span, cold)
        if self._report.candles == "intraday":
            self._newest = max([self._newest, *(bar.ts for bar in theirs)])
            over = self._newest - _MINUTE_MS
            theirs, ours = [bar for bar in theirs if bar.ts < over], {ts: bar for ts, bar in ours.items() if ts < over}
        if self._options.from_first_bar:
            theirs = [bar for bar in theirs if bar.ts >= min(ours, default=span[1])]
        if instrument is None or instrument.is_option:
            known = [bar for bar in theirs if bar.ts >= self._followed_ms or bar.ts in ours]
            self._report.found.before_followed += len(theirs) - len(known)
            theirs = known
        hours = self._hours(key, instrument)
        self._report.found.add(
            key, ours, theirs, lambda ts: any(start <= ts < end for start, end in hours), self._options.tolerance
        )

    async def _candles(self, key: str, start: int) -> list[HistoryBar]:
        on = self._report.on
        if self._report.candles == "intraday":
            return await self._patiently(key, None)
        if not self._options.refresh and (kept := self._kept.get(on, key)) is not None:
            return kept
        bars = await self._patiently(key, on)
        if clock.now_ms() - start >= _FINAL_MS:
            self._kept.put(on, key, bars)
        return bars

    async def _patiently(self, key: str, on: date | None) -> list[HistoryBar]:
        """The venue's minutes. One that is away for a moment is asked again; one that is busy, patiently."""
        failures = 0
        while True:
            try:
                if on is None:
                    return await history.intraday(self._rest, key)
                return await history.finished(self._rest, key, on, on)
            except NeedsLogin:
                raise Misconfigured("The venue wants a login: put a fresh UPSTOX_ACCESS_TOKEN into .env.") from None
            except Unavailable as error:
                failures += 1
                busy = isinstance(error, Throttled)
                if failures >= (_BUSY_TRIES if busy else _AWAY_TRIES):
                    raise Unavailable(f"{error}. What was told is kept: the same command goes on from there") from error
                await asyncio.sleep(_BUSY_S if busy else _AWAY_S)

    def _hours(self, key: str, instrument: Instrument | None) -> Sequence[tuple[int, int]]:
        return trading_hours(key, instrument, self._report.on, always=self._settings.teji_calendar is Calendar.ALWAYS)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[eta]}"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _eta(calls: int, wait_s: float) -> str:
    """What so many calls take at least, within the budget."""
    seconds = wait_s + max(calls / limit * window for window, limit in BUDGET if calls > limit or window == 1.0)
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


# Repair


async def _repair(bus: Bus, shards: int, found: Comparison) -> int:
    """Ask ingest for what is missing or incomplete. Returns how many minutes that is."""
    spans = found.holes()
    if len(spans) > _COMMANDS_MAX:  # scattered: one wide span for all of them, the aggregator knows what it has
        whole = min(start for start, _ in spans), max(end for _, end in spans)
        spans = {whole: sorted({key for keys in spans.values() for key in keys})}
    commands: list[Output] = []
    ids: set[str] = set()
    for (start, end), keys in sorted(spans.items()):
        for first in range(0, len(keys), _INSTRUMENTS_PER_COMMAND):
            some = keys[first : first + _INSTRUMENTS_PER_COMMAND]
            command = FeedBackfill(from_ms=start, to_ms=end, instruments=some)
            ids.add(number := uuid.uuid4().hex)
            by = f"{getpass.getuser()}@{socket.gethostname()}"
            fields = {"id": number, "kind": command.kind, "by": by, "data": command.model_dump_json()}
            commands.append(Output(streams.COMMANDS, fields))
    if commands:
        last = await bus.last_entry(streams.EVENTS)
        await Writer(bus, None, streams.RETENTION_MS).write(commands, now_s=clock.monotonic_s())
        await _replies(bus, last[0] if last else "0-0", ids, shards)
    return sum(1 for each in found.mismatches if each.kind in ("missing", "incomplete"))


async def _replies(bus: Bus, after: str, ids: set[str], shards: int) -> None:
    """Every shard answers every command; what it refuses is said here."""
    open_ = {(number, shard) for number in ids for shard in range(shards)}
    try:
        async with asyncio.timeout(_REPLY_S):
            async for data in _reply_events(bus, after):
                open_.discard((data["data"].get("command"), data["data"].get("shard")))
                if data["data"].get("command") in ids and not data["data"].get("ok", True):
                    raise Misconfigured(f"ingest refuses to ask history: {data['message']}")
                if not open_:
                    return
    except TimeoutError:
        print("teji: nobody has answered yet; ingest takes the request up when it runs", file=sys.stderr)


async def _reply_events(bus: Bus, after: str) -> AsyncIterator[dict[str, Any]]:
    while True:
        with translated():
            page = await bus.redis.xrange(streams.EVENTS, min=f"({after}", count=_PAGE)
        for entry_id, fields in page:
            after = entry_id.decode()
            if fields.get(b"kind") == b"reply":
                yield orjson.loads(fields[b"data"])
        if not page:
            await asyncio.sleep(0.05)


# In words


def in_words(report: Report, shown: int) -> str:
    found = report.found
    oi = f"{found.oi_differing} of {found.oi_compared}"
    lines = [
        f"{report.on:%A, %d %B %Y}, {found.instruments} instruments, the venue's {report.candles} candles",
        "",
        f"{found.equal:>10}  equal",
        f"{found.differing:>10}  differ{_by_field(report)}",
        f"{found.missing:>10}  we do not have{_before_first(found)}",
        f"{found.before_followed:>10}  are of options, from before they were followed",
        f"{found.extra:>10}  the venue does not have",
        f"{found.incomplete:>10}  flagged incomplete, {found.incomplete_differing} of them differ",
        "",
        f"Open interest differs in {oi} minutes; that counts for nothing, the two sides take it at other moments.",
        f"Outside continuous trading: {found.outside} candles of {found.outside_volume} units at the venue, "
        f"{report.prints} prints of {report.prints_volume} units here.",
    ]
    if report.refused:
        lines += ["", f"Of {len(report.refused)} instruments the venue tells nothing:"]
        lines += [f"  {key}  {why}" for key, why in list(report.refused.items())[: shown or None]]
    if found.mismatches:
        lines += ["", *_list(found.mismatches, shown)]
    if report.asked_for is not None:
        lines += ["", f"History is asked for {report.asked_for} minutes. Audit again when ingest has them."]
    return "\n".join(lines)


def _by_field(report: Report) -> str:
    told = ", ".join(f"{name} {count}" for name, count in report.found.by_field.items() if count)
    return f" ({told})" if told else ""


def _before_first(found: Comparison) -> str:
    return (
        f", {found.missing_before_first} of them before our first bar of the day" if found.missing_before_first else ""
    )


def _list(mismatches: Sequence[Mismatch], shown: int) -> list[str]:
    some = mismatches[: shown or None]
    lines = [line for each in some for line in _lines(each)]
    if len(some) < len(mismatches):
        lines.append(f"and {len(mismatches) - len(some)} more: --list 0 shows all of them, --json too")
    return lines


def _lines(each: Mismatch) -> list[str]:
    at = datetime.fromtimestamp(each.ts / 1000, _IST)
    lines = [f"{at:%H:%M}  {each.kind.value:<10}  {each.instrument}  {' '.join(each.fields)}".rstrip()]
    lines += [f"         ours    {_values(each.ours)}"] if each.ours else []
    lines += [f"         theirs  {_values(each.theirs)}"] if each.theirs else []
    return lines


def _values(told: Mapping[str, Any]) -> str:
    text = " ".join(f"{told[name]:.2f}" for name in ("open", "high", "low", "close"))
    more = f"  {told['source']} rev {told['rev']}" if "rev" in told else ""
    return f"{text}  volume {told['volume']}  oi {'?' if told['oi'] is None else format(told['oi'], '.0f')}{more}"
