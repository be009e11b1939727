"""Closed minutes from the venue's candle calls."""

from datetime import datetime
from typing import Any

from brokers.upstox.rest import Rest, path_part
from schemas.bars import HistoryBar


async def intraday(rest: Rest, key: str) -> list[HistoryBar]:
    """Today's minutes, oldest first. Provisional: the venue corrects some of them by the next day."""
    data = await rest.get(f"/v3/historical-candle/intraday/{path_part(key)}/minutes/1")
    return sorted((_bar(key, row) for row in data["candles"]), key=lambda bar: bar.ts)


def _bar(key: str, row: list[Any]) -> HistoryBar:
    stamp, opened, high, low, close, volume, oi = row[:7]
    ts = int(datetime.fromisoformat(stamp).timestamp()) * 1000
    return HistoryBar(
        instrument=key, ts=ts, open=opened, high=high, low=low, close=close, volume=int(volume), oi=float(oi) or None
    )
