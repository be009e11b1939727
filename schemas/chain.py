"""The option chain of a minute: one JSON object in `chain:{k}`, in Postgres, in REST and as the SSE `chain` event.

One object per underlying, expiry and minute. `{k}` is the shard of the underlying. Names that a bar has too mean what
they mean there: an option's own `iv` and Greeks are the venue's, `model` is ours. A value that nobody told, or that
cannot be computed, is null, never zero. `docs/chain.md` has the formula of every field.

Units: prices in rupees (or index points); volatilities and rates as fractions a year (0.133 is 13.3 %); open interest
and volume in units, not lots; exposures in rupees; times in epoch ms. Fields that end in `_pct` are percent.
"""

from datetime import date
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from schemas.bars import ForwardFrom, PriceFrom


class OiChangeFrom(StrEnum):
    """What a change of open interest is against. The price change of the `action` is over the same stretch."""

    PREVIOUS_DAY = "previous_day"  # its end: the last open interest and the closing price
    FIRST_SEEN = "first_seen"  # the first of today that we were told: the day before is not known


class Action(StrEnum):
    """What price and open interest together say. Neutral: one of them moved less than its threshold."""

    LONG_BUILDUP = "long_buildup"  # price up, open interest up
    SHORT_BUILDUP = "short_buildup"  # price down, open interest up
    SHORT_COVERING = "short_covering"  # price up, open interest down
    LONG_UNWINDING = "long_unwinding"  # price down, open interest down
    NEUTRAL = "neutral"


class ExposureAt(StrEnum):
    """Which price of the underlying an exposure is counted at."""

    SPOT = "spot"
    FORWARD = "forward"  # there is no spot price, as with commodities


class ChainModel(BaseModel):
    """Ours, by Black-76 on the chain's forward. `flag` is `ok`, or the reason why IV and Greeks are null."""

    model_config = ConfigDict(frozen=True)

    iv: float | None
    delta: float | None  # per point of the forward
    gamma: float | None
    theta: float | None  # per calendar day
    vega: float | None  # per point of volatility
    rho: float | None  # per point of the rate
    price: float | None  # that they were computed from
    price_from: PriceFrom | None
    flag: str


class ChainOption(BaseModel):
    """A call or a put as the minute ended."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    ltp: float | None
    ltt: int | None  # of the last trade: how old `ltp` is
    bid: float | None
    bid_qty: int | None
    ask: float | None
    ask_qty: int | None
    volume: int | None  # of the day
    oi: float | None
    oi_change: float | None
    oi_change_from: OiChangeFrom | None
    action: Action | None
    iv: float | None  # the venue's own, like the Greeks
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    rho: float | None
    model: ChainModel
    covered: bool  # the feed covered the option's whole minute


class ChainStrike(BaseModel):
    model_config = ConfigDict(frozen=True)

    strike: float
    call: ChainOption | None
    put: ChainOption | None
    smile_iv: float | None  # of the side out of the money; at the forward itself the mean of both
    synthetic: float | None  # the future that call and put make
    parity_residual: float | None  # call - put - discounted (forward - strike): 0 where nobody errs
    pcr: float | None  # open interest of the put over that of the call
    pain: float | None  # rupees that all buyers together would get, if the underlying settled here
    gex: float | None  # rupees for a move of 1 %, calls +, puts -


class ChainFuture(BaseModel):
    """The future of the chain's expiry."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    price: float | None
    price_from: PriceFrom | None
    oi: float | None


class Chain(BaseModel):
    """A minute of one underlying and expiry.

    `complete` is false where a shard was silent or the feed did not cover some option's whole minute. News of a
    silent shard publishes the chain again with a higher `rev`; the highest `rev` of an (underlying, expiry, ts) is
    the truth.
    """

    model_config = ConfigDict(frozen=True)

    underlying: str
    expiry: date
    ts: int = Field(description="start of the minute; everything is as of its end")
    rev: int
    complete: bool
    silent_shards: list[int] = Field(description="nothing was heard of their instruments in time")
    uncovered: int = Field(description="options that the feed did not cover for the whole minute")

    # Where the underlying is
    last_trade_ms: int
    years: float = Field(description="from the minute's end to the last trade, ACT/365")
    rate: float
    spot: float | None
    future: ChainFuture | None
    forward: float | None
    forward_from: ForwardFrom
    forward_strikes: int = Field(description="strikes whose parity made the forward; 0 where it is no parity")
    forward_residual: float | None = Field(description="median distance of those strikes from parity")
    basis: float | None = Field(description="forward - spot")
    basis_yearly: float | None = Field(description="(forward / spot - 1) / years")
    synthetic_future: float | None = Field(description="at the ATM strike")

    # At the money
    atm_strike: float | None = Field(description="nearest to the forward, of two the lower")
    atm_iv: float | None = Field(description="mean of the call's and the put's at the ATM strike")
    straddle: float | None = Field(description="price of the call and the put at the ATM strike")
    expected_move: float | None = Field(description="straddle times expected_move_factor")
    expected_move_factor: float
    one_sigma: float | None = Field(description="forward * atm_iv * sqrt(years)")

    # Open interest and volume
    call_oi: float | None
    put_oi: float | None
    call_oi_change: float | None
    put_oi_change: float | None
    call_volume: int | None
    put_volume: int | None
    pcr_oi: float | None
    pcr_volume: float | None
    pcr_oi_change: float | None
    max_pain: float | None = Field(description="strike at which the buyers get least; of equals nearest the forward")
    call_wall: float | None = Field(description="strike of the largest call OI at or above the forward")
    put_wall: float | None = Field(description="strike of the largest put OI at or below the forward")
    call_wall_change: float | None = Field(description="the same by the largest rise of OI")
    put_wall_change: float | None

    # Exposures: calls +, puts -
    exposure_at: ExposureAt | None
    exposure_oi_pct: float | None = Field(description="part of the OI that has Greeks of ours and is counted, percent")
    gex: float | None = Field(description="rupees of delta for a move of 1 %")
    gex_zero: float | None = Field(description="level at which GEX, summed up from the lowest strike, crosses zero")
    dex: float | None = Field(description="rupees of delta")
    vanna: float | None = Field(description="rupees of delta for a point of volatility")
    charm: float | None = Field(description="rupees of delta for a calendar day")

    # The smile
    call_iv_25d: float | None
    put_iv_25d: float | None
    skew_25d: float | None = Field(description="put_iv_25d - call_iv_25d")
    risk_reversal_25d: float | None = Field(description="call_iv_25d - put_iv_25d")
    butterfly_25d: float | None = Field(description="mean of the two - atm_iv")

    # Of the underlying, the same in all its chains of the minute
    iv_30d: float | None = Field(description="at the money, interpolated to 30 days in total variance")
    iv_rank: float | None = Field(description="0 to 100, where iv_30d lies between least and most of the days before")
    iv_percentile: float | None = Field(description="0 to 100, share of the days before with a lower iv_30d")
    iv_days: int = Field(description="days before that are known, 252 at most; below 20 rank and percentile are null")
    rollover_pct: float | None = Field(description="OI of the next future over that of the nearest two, percent")

    strikes: list[ChainStrike]
