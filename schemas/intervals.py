"""Bars of more than one minute: one JSON object in `intervals:{k}`, in REST and as the SSE `candle` event.

Everything about such a bar follows from the one-minute bars in it, by the rules of `market.intervals`. Entries of
`intervals:{k}` have the fields `instrument`, `interval`, `ts`, `data`.
"""

from enum import StrEnum

from pydantic import ConfigDict

from schemas.bars import Bar


class Interval(StrEnum):
    """How long a bar is, as REST, SSE and the entries of `intervals:{k}` name it."""

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    M60 = "60m"
    DAY = "1d"


class CloseFrom(StrEnum):
    """Which trade a day closed with."""

    AUCTION = "auction"  # the closing auction's match; the opening one's, where nothing was traded after it
    CONTINUOUS = "continuous"  # the last one of continuous trading
    POST_CLOSE = "post_close"  # one at the closing price, where there was no other all day


class LongBar(Bar):
    """Several minutes of one instrument, counted from the start of its session.

    Fields that a one-minute bar has too mean the same for the longer stretch. Open interest, IV, Greeks, walls, `tbq`,
    `tsq` and `model` are those of the last minute that has a bar; `oi_diff` is against the end of the previous bar.
    `vwap` weighs the minutes' by their volume and is null where a minute with volume has none. `complete`: each minute
    has a complete bar, or the feed watched it and there was no trade. `rev` grows with every revision of a minute.
    """

    model_config = ConfigDict(frozen=True)

    interval: Interval
    minutes: int  # one-minute bars that it is made of
    close_from: CloseFrom | None = None  # of a day; null for shorter bars
