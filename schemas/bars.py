"""The one-minute bar: one JSON object in `candles:{k}`, in Postgres, in REST and as the SSE `candle` event."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Source(StrEnum):
    LIVE = "live"  # from ticks
    BACKFILL = "backfill"  # from the venue's history
    MIXED = "mixed"  # price and volume from history, the rest from ticks


class Wall(BaseModel):
    """The level with the most quantity on its side of the book."""

    model_config = ConfigDict(frozen=True)

    price: float
    qty: int


class Bar(BaseModel):
    """A minute of one instrument. A value that nobody told us is null, never zero.

    `complete` is false where the feed did not cover the whole minute. A later trade or a fill from history publishes
    the bar again with a higher `rev`; the highest `rev` of an (instrument, ts) is the truth.
    """

    model_config = ConfigDict(frozen=True)

    instrument: str
    ts: int  # start of the minute, epoch ms
    open: float
    high: float
    low: float
    close: float
    volume: int
    oi: float | None
    oi_diff: float | None  # against the end of the previous bar
    vwap: float | None
    iv: float | None  # fraction: 0.133 is 13.3 %
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    bid_wall: Wall | None
    ask_wall: Wall | None
    tbq: float | None
    tsq: float | None
    ticks: int  # trades seen
    source: Source
    complete: bool
    rev: int


class HistoryBar(BaseModel):
    """A closed minute as the venue's history tells it; ingest passes it on, the aggregator decides what it changes."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    oi: float | None
