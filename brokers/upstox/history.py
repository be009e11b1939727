"""Closed minutes from the venue's candle calls."""

from datetime import datetime
from typing import Any

from brokers.upstox.rest import Rest, VenueError, path_part
from schemas.bars import HistoryBar


async def intraday(rest: Rest, key: str) -> list[HistoryBar]:
    """Today's minutes, oldest first. Provisional: the venue corrects some of them by the next day."""
    return parse(key, await rest.get(f"/v3/historical-candle/intraday/{path_part(key)}/minutes/1"))


def parse(key: str, data: Any) -> list[HistoryBar]:
    """Raises VenueError where the answer holds no candles as documented."""
    try:
        return sorted((_bar(key, *row[:7]) for row in data["candles"]), key=lambda bar: bar.ts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VenueError(200, "", f"candles that cannot be read ({type(error).__name__})") from None


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
