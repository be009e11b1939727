"""Closed minutes from the venue's candle calls."""

from datetime import date, datetime
from typing import Any, Final

from brokers.upstox.rest import Rest, VenueError, path_part
from schemas.bars import HistoryBar

#: A call for minutes may span a month, whichever: 31 days pass, 33 do not.
SPAN_MAX_DAYS: Final = 28
_DAY_MS: Final = 86_400_000
_IST_MS: Final = 19_800_000


async def intraday(rest: Rest, key: str) -> list[HistoryBar]:
    """Today's minutes, oldest first. Provisional: the venue corrects some of them by the next day."""
    return parse(key, await rest.get(f"/v3/historical-candle/intraday/{path_part(key)}/minutes/1"))


async def finished(rest: Rest, key: str, first: date, last: date) -> list[HistoryBar]:
    """The minutes of finished days, both included, oldest first. The venue leaves out today."""
    days = f"{last.isoformat()}/{first.isoformat()}"  # in this order
    return parse(key, await rest.get(f"/v3/historical-candle/{path_part(key)}/minutes/1/{days}"))


def parse(key: str, data: Any) -> list[HistoryBar]:
    """Raises VenueError where the answer holds no candles as documented."""
    try:
        bars = sorted((_bar(key, *row[:7]) for row in data["candles"]), key=lambda bar: bar.ts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VenueError(200, "", f"candles that cannot be read ({type(error).__name__})") from None
    return [_after(before, bar) for before, bar in zip([None, *bars], bars, strict=False)]


def _bar(
    key: str, stamp: str, opened: float, high: float, low: float, close: float, volume: float, oi: float | None = None
) -> HistoryBar:
    ts = int(datetime.fromisoformat(stamp).timestamp()) * 1000
    return HistoryBar(
        instrument=key,
        ts=ts,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=int(volume),
        oi=float(oi or 0) or None,
    )


def _after(before: HistoryBar | None, bar: HistoryBar) -> HistoryBar:
    """With the open interest that it began with, where a candle of its day tells."""
    if before is None or before.oi is None or _day(before.ts) != _day(bar.ts):
        return bar
    return bar.model_copy(update={"oi_before": before.oi})


def _day(ts: int) -> int:
    return (ts + _IST_MS) // _DAY_MS
