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


class PriceFrom(StrEnum):
    MID = "mid"  # between the best bid and the best ask
    LAST = "last"  # of the last trade: a side of the book is empty, or too far away


class ForwardFrom(StrEnum):
    FUTURE = "future"  # of the same expiry
    PARITY = "parity"  # calls against puts over several strikes near the money
    NONE = "none"


class OptionModel(BaseModel):
    """What we make of an option's price as a minute ends, by Black-76. The bar's own `iv` and Greeks are the venue's.

    `flag` is `ok`, or the reason why IV and Greeks are null. Theta is per calendar day, vega per point of volatility,
    rho per point of the rate.
    """

    model_config = ConfigDict(frozen=True)

    iv: float | None  # fraction
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    price: float | None  # that IV and Greeks were computed from
    price_from: PriceFrom | None
    forward: float | None
    forward_from: ForwardFrom
    flag: str


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
    model: OptionModel | None = None  # null for what is no option, and for a minute that only history tells


class HistoryBar(BaseModel):
    """A closed minute as the venue's history tells it; ingest passes it on, the aggregator decides what it changes.

    What the feed covered in full is never changed. `fills`: the feed did not cover the minute, so a bar that is missing
    or incomplete is made from this; without it only a bar that was made from history before is corrected. `final`: the
    venue will not change it any more (today's candles are provisional).
    """

    model_config = ConfigDict(frozen=True)

    instrument: str
    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    oi: float | None
    oi_before: float | None = None  # at the end of the candle before it on that day
    fills: bool = True
    final: bool = False
