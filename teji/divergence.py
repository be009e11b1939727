"""`teji report shadow`: the simulated fills of a day beside what the market did, from Postgres."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from brokers.paper.divergence import MINUTE_MS, FillSeen, Minute, Missed, Report, Verdict, as_dict, compared
from brokers.paper.facts import Fact, Opened, Placed, read
from bus import embedded, postgres
from bus.postgres import Pool
from bus.settings import load
from market.sessions import trading_date
from schemas.orders import TradingMode
from schemas.streams import instrument_id

_IST: Final = timezone(timedelta(hours=5, minutes=30))
_DAY_MS: Final = 86_400_000
_SHOWN: Final = 40
_FACTS: Final = "SELECT data FROM paper_log WHERE account = $1 AND ts >= $2 AND ts < $3 ORDER BY seq"
_NEWEST: Final = "SELECT max(ts) FROM paper_log WHERE account = $1"
_BARS: Final = (
    "SELECT instrument_id, ts, high, low, volume, vwap, complete FROM bars"
    " WHERE instrument_id = ANY($1::bigint[]) AND ts >= $2 AND ts < $3 ORDER BY ts"
)
_VERDICTS: Final = {
    Verdict.THROUGH: "the market traded through the price: anybody there was filled",
    Verdict.AT: "the market traded at the price, and not beyond: some were filled",
    Verdict.NOT_REACHED: "the market did not trade there, in that minute or the next",
    Verdict.NO_BAR: "no bar of that minute: nobody can tell",
}


class WrongUsage(Exception):
    """The message says what the options have to be."""


def main(on: str | None, as_json: bool, account: TradingMode = TradingMode.SHADOW) -> int:
    """0: there was something to compare, or nothing to."""
    try:
        day = None if on is None else date.fromisoformat(on)
    except ValueError:
        raise WrongUsage(f"{on!r} is no date: write it as 2026-11-20") from None
    settings = load()
    with embedded.servers(settings) as places:
        told, report = asyncio.run(_reported(places.postgres_url, account, day))
    if as_json:
        head = {"account": account.value, "date": told.isoformat() if told else None}
        print(json.dumps(head | as_dict(report), ensure_ascii=False))
    else:
        print(in_words(report, account, told))
    return 0


async def _reported(url: str, account: TradingMode, on: date | None) -> tuple[date | None, Report]:
    async with postgres.open_pool(url, size=1) as pool:
        with postgres.translated():
            if not await pool.fetchval("SELECT to_regclass('paper_log') IS NOT NULL"):
                return on, compared([], {})
            if on is None:
                newest = await pool.fetchval(_NEWEST, account.value)
                on = None if newest is None else trading_date(newest)
        return on, await of_day(pool, account, on) if on else compared([], {})


async def of_day(pool: Pool, account: TradingMode, on: date) -> Report:
    """All orders of a day end with it, so its facts are whole orders."""
    start = int(datetime(on.year, on.month, on.day, tzinfo=_IST).timestamp() * 1000)
    with postgres.translated():
        rows = await pool.fetch(_FACTS, account.value, start, start + _DAY_MS)
        facts = [fact for row in rows if not isinstance(fact := read(row["data"]), Opened)]
        keys = {fact.instrument for fact in facts if isinstance(fact, Placed)}
        numbers = {instrument_id(key): key for key in keys}
        bars = await pool.fetch(_BARS, list(numbers), start, start + _DAY_MS + MINUTE_MS)
    minutes: dict[str, list[Minute]] = {}
    for row in bars:
        minutes.setdefault(numbers[row["instrument_id"]], []).append(_minute(row))
    return compared(_of_known(facts), minutes)


def _of_known(facts: Sequence[Fact]) -> list[Fact]:
    """Without what ended on this day of orders that the days before had: a market that never closes has such."""
    known = {fact.venue_order_id for fact in facts if isinstance(fact, Placed)}
    return [fact for fact in facts if not isinstance(fact, Opened) and fact.venue_order_id in known]


def _minute(row: Any) -> Minute:
    vwap = None if row["vwap"] is None else Decimal(repr(row["vwap"]))
    return Minute(
        ts=row["ts"],
        high=Decimal(repr(row["high"])),
        low=Decimal(repr(row["low"])),
        volume=row["volume"],
        vwap=vwap,
        complete=row["complete"],
    )


# In words


def in_words(report: Report, account: TradingMode, on: date | None) -> str:
    if on is None or not report.orders:
        return f"The account {account.value} had no order{f' on {on:%d %B %Y}' if on else ''}."
    lines = [f"{on:%A, %d %B %Y}, account {account.value}: {report.orders} orders, {len(report.fills)} fills", ""]
    lines += [f"{report.count(verdict):>8}  {words}" for verdict, words in _VERDICTS.items()]
    lines += [
        f"{report.too_large:>8}  fills larger than all that traded there in those minutes",
        f"{report.estimated:>8}  were estimates already when they were made: no depth, or beyond it",
        "",
        *_slippage(report),
    ]
    if report.missed:
        lines += ["", f"{len(report.missed)} orders waited while the market traded through their price:"]
        lines += [_missed(each) for each in report.missed[:_SHOWN]]
    doubtful = [fill for fill in report.fills if not fill.is_believable]
    if doubtful:
        lines += ["", "Fills that the market does not confirm:", *map(_fill, doubtful[:_SHOWN])]
    more = max(len(doubtful) - _SHOWN, 0) + max(len(report.missed) - _SHOWN, 0)
    return "\n".join([*lines, *([f"and {more} more: --json has all of them"] if more else [])])


def _slippage(report: Report) -> Iterator[str]:
    told = report.slippage
    if told is None:
        yield "No fill has a bar with a volume-weighted price: nothing to compare prices with."
        return
    yield (
        f"Against the minute's average price, in 1/100 percent, positive is worse than the market: "
        f"mean {told.mean:+.1f}, median {told.median:+.1f}, nine of ten below {told.p90:+.1f}, "
        f"worst {told.worst:+.1f}, best {told.best:+.1f}."
    )
    yield f"That is {told.rupees:+.2f} rupees over {told.fills} fills."


def _missed(each: Missed) -> str:
    return (
        f"  {_clock(each.ts)}  {each.side.value:<4} {each.quantity} {each.instrument} at {each.price:f}, "
        f"while {each.volume} traded beyond  {each.order_id}"
    )


def _fill(fill: FillSeen) -> str:
    span = "" if fill.low is None else f", the minute went from {fill.low:f} to {fill.high:f}"
    why = fill.verdict.value.replace("_", " ")
    if fill.verdict in (Verdict.THROUGH, Verdict.AT):
        why = f"only {fill.volume} traded"
    return (
        f"  {_clock(fill.ts)}  {fill.side.value:<4} {fill.quantity} {fill.instrument} at {fill.price:f}: "
        f"{why}{span}  {fill.order_id}"
    )


def _clock(ts: int) -> str:
    return f"{datetime.fromtimestamp(ts / 1000, UTC).astimezone(_IST):%H:%M:%S}"
