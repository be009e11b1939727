"""`teji audit orders`: a day of the order journal, each order from intent to charges, and what is not resolved.

Reads Postgres alone, in one snapshot of it, so it may run beside a trading worker and without a venue.
"""

import asyncio
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bus import clock, embedded, postgres
from bus.settings import load
from gtt.book.facts import FACT, Adopted, Approved, Fact, GttAccepted
from market import sessions
from schemas.errors import Misconfigured
from schemas.orders import TradingMode
from teji.audit_orders_stories import Stories, Unresolved, unresolved
from teji.audit_orders_words import COLUMNS, as_dict, in_words, rows

_IST: Final = timezone(timedelta(hours=5, minutes=30))
_DAY_MS: Final = 86_400_000
#: An order lives for a day. One that is older than this was decided in none of the days that are read.
_BEFORE_MS: Final = 2 * _DAY_MS
_PAGE: Final = 2_000
_READ_S: Final = 600.0
#: Facts that come with every second of trading, and tell nothing of an order.
_LEFT_OUT: Final = ("marked", "funds_seen", "replied", "commanded")


class WrongUsage(Exception):
    """The message says what the options have to be."""


@dataclass(frozen=True, slots=True)
class Options:
    on: date | None = None  # none: that of the order, else today
    mode: TradingMode | None = None
    order: str = ""  # id of an order (ours or the venue's), a GTT, or an intent
    csv: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    on: date
    mode: str
    stories: Stories
    open_ends: Sequence[Unresolved]


def chosen(on: str | None, mode: str | None, order: str, file: Path | None) -> Options:
    """Options as people write them."""
    try:
        day = None if on is None else date.fromisoformat(on)
    except ValueError:
        raise WrongUsage(f"{on!r} is no date: write it as 2026-11-20") from None
    if day is not None and day > sessions.trading_date(clock.now_ms()):
        raise WrongUsage(f"{day} is in the future")
    try:
        account = None if mode is None else TradingMode(mode)
    except ValueError:
        raise WrongUsage(f"{mode!r} is no mode: there are {', '.join(TradingMode)}") from None
    if file is not None and not file.resolve().parent.is_dir():
        raise WrongUsage(f"there is no folder {file.resolve().parent}")
    return Options(day, account, order.strip(), file)


def main(options: Options, *, as_json: bool, shown: int) -> int:
    settings = load()
    with embedded.servers(settings) as places:
        report = asyncio.run(audited(places.postgres_url, options, clock.now_ms()))
    if options.csv is not None:
        count = written(report, options.csv)
        print(f"{count} facts are in {options.csv}", file=sys.stderr)
    if as_json:
        told = as_dict(report.stories, report.on, report.mode, report.open_ends)
        print(json.dumps(told, ensure_ascii=False))
    elif options.csv is None:
        whole = bool(options.order)
        for line in in_words(report.stories, report.on, report.mode, report.open_ends, shown, whole=whole):
            print("\n".join(_printable(part) for part in line.split("\n")))
    return int(bool(report.open_ends))


def _printable(line: str) -> str:
    """Nothing that a venue says reaches the terminal as a control."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def written(report: Report, path: Path) -> int:
    """The facts as a table; whole or not at all. Returns how many."""
    scratch, count = path.with_name(f"{path.name}.new"), 0
    try:
        with scratch.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for row in rows(report.stories):
                table.writerow(row)
                count += 1
        scratch.replace(path)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}.") from None
    return count


async def audited(postgres_url: str, options: Options, now_ms: int) -> Report:
    async with postgres.open_pool(postgres_url, size=1) as pool:
        with postgres.translated():
            if not await pool.fetchval("SELECT to_regclass('journal') IS NOT NULL"):
                raise Misconfigured("Postgres has no order journal yet: `teji up` makes one.")
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await _read(connection, options, now_ms)


async def _read(connection: Any, options: Options, now_ms: int) -> Report:
    on = options.on or await _day_of(connection, options.order) or sessions.trading_date(now_ms)
    start_ms = int(datetime(on.year, on.month, on.day, tzinfo=_IST).timestamp()) * 1000
    reader = _Reader(connection, options.mode)
    stories = await reader.day(on, start_ms, start_ms + _DAY_MS)
    if options.order:
        stories.keep(options.order)
        if stories.is_empty:
            raise Misconfigured(f"The journal of {on} knows no order, GTT or intent {options.order}.")
    mode = options.mode.value if options.mode else ""
    return Report(on, mode, stories, unresolved(stories, now_ms, start_ms + _DAY_MS))


async def _day_of(connection: Any, wanted: str) -> date | None:
    """Of an order's first fact. The venue's id of it is known to facts that come later: those are not searched for."""
    if not wanted:
        return None
    ts = await connection.fetchval(
        "SELECT min(ts) FROM journal WHERE order_id = $1 OR gtt_id = $1 OR intent_id = $1", wanted, timeout=_READ_S
    )
    return None if ts is None else sessions.trading_date(ts)


class _Reader:
    """Facts of a day, and of other days what belongs to its orders."""

    def __init__(self, connection: Any, mode: TradingMode | None) -> None:
        self._connection = connection
        self._mode = mode.value if mode else ""

    async def day(self, on: date, start_ms: int, end_ms: int) -> Stories:
        found: dict[int, Fact] = {}
        where = "ts >= $1 AND ts < $2 AND NOT kind = ANY($3) AND ($4 = '' OR account IN ('', $4))"
        args = (start_ms, end_ms, list(_LEFT_OUT), self._mode)
        count = await self._connection.fetchval(f"SELECT count(*) FROM journal WHERE {where}", *args)  # noqa: S608
        with _progress() as bar:
            task = bar.add_task(f"{on:%d %b %Y}", total=count)
            await self._read(where, args, found, lambda: bar.advance(task))
        await self._others(found, start_ms, end_ms)
        stories = Stories()
        for n in sorted(found):
            stories.add(n, found[n])
        return stories

    async def _read(
        self, where: str, args: Sequence[Any], found: dict[int, Fact], each: Callable[[], None] = lambda: None
    ) -> None:
        query = f"SELECT n, data FROM journal WHERE {where} ORDER BY n"  # noqa: S608
        async for row in self._connection.cursor(query, *args, prefetch=_PAGE, timeout=_READ_S):
            found[row["n"]] = _fact(row["n"], row["data"])
            each()

    async def _others(self, found: dict[int, Fact], start_ms: int, end_ms: int) -> None:
        """How orders began that were there before midnight, and how those ended that were there after it."""
        decided = {order.order_id for fact in found.values() if isinstance(fact, Approved) for order in fact.orders}
        decided |= {fact.order.order_id for fact in found.values() if isinstance(fact, Adopted)}
        accepted = {fact.gtt_id for fact in found.values() if isinstance(fact, GttAccepted)}
        gtts = {fact.subject.gtt_id for fact in found.values()} - accepted - {""}
        orders = {fact.subject.order_id for fact in found.values()} - {""}
        older = orders - decided
        if older:
            before: dict[int, Fact] = {}
            await self._read("ts >= $1 AND ts < $2 AND kind = 'approved'", (start_ms - _BEFORE_MS, start_ms), before)
            found |= {
                n: fact
                for n, fact in before.items()
                if isinstance(fact, Approved) and any(order.order_id in older for order in fact.orders)
            }
            earlier = "order_id = ANY($1) AND ts < $2 AND kind <> 'approved'"
            await self._read(earlier, (list(older), start_ms), found)
        await self._read("gtt_id = ANY($1) AND kind = 'gtt_accepted'", (list(gtts),), found)
        later = "order_id = ANY($1) AND ts >= $2 AND kind <> 'approved'"
        await self._read(later, (list(orders | decided), end_ms), found)


def _fact(n: int, data: str) -> Fact:
    try:
        return FACT.validate_json(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Misconfigured(f"Fact {n} of the journal is none of this version of Teji ({where}).") from None


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
