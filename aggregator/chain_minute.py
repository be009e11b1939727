"""A minute's records into the chains of its underlyings: prices, volatilities, measures. Pure.

Everything is as of the minute's end. Volatilities of all chains are solved in one call; then each chain is measured,
then what its underlying's chains have in common.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator import analytics
from aggregator.analytics import Side
from aggregator.chain_layout import ChainLayout, Layout
from aggregator.quoted import quoted
from aggregator.state import DAY_MS, IST_MS, MINUTE_MS
from market import black76
from market.forward import Forward, forward
from schemas.chain import ExposureAt
from schemas.panel import PANEL

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Fields = dict[str, Any]

_NAN: Final = math.nan

#: Decimals of what we compute, where a price has two: what is beyond is noise, and would double the size of a chain.
DECIMALS: Final = {"iv": 6, "delta": 6, "gamma": 9, "theta": 6, "vega": 6, "rho": 6}
_IV, _DELTA, _GAMMA = (list(DECIMALS).index(name) for name in ("iv", "delta", "gamma"))
RATIO: Final = 6
PRICE: Final = 5
PERCENT: Final = 4
RUPEES: Final = 2

_WHOLE_MAX: Final = 1 << 53  # larger ones are no counts

#: What makes no sense, or is not known, ends as NaN: nobody needs to be warned of it on the way.
quietly: Final = np.errstate(all="ignore")

_NOBODY: Final = np.zeros(1, PANEL)
for _name in PANEL.names or ():
    if PANEL[_name].kind == "f":
        _NOBODY[_name] = np.nan


@dataclass(slots=True)
class Minute:
    """The records of a minute, an array per value; the last place is nobody's."""

    ts: int
    keys: Sequence[str | None]
    rec: npt.NDArray[Any]
    spot: Floats  # what an underlying is worth
    price: Floats  # what a contract is
    is_mid: Bools
    fresh: Floats  # the price where it is quoted, or of a trade within the minute: what a forward is made of
    spread: Floats
    oi: Floats
    oi_base: Floats
    oi_change: Floats
    price_base: Floats
    is_before: Bools  # the base is the end of the trading day before
    volume: Floats

    @property
    def end_ms(self) -> int:
        return self.ts + MINUTE_MS

    @classmethod
    @quietly
    def of(
        cls, ts: int, keys: Sequence[str], rec: npt.NDArray[Any], base: tuple[Floats, Floats, Bools] | None = None
    ) -> "Minute":
        """`base`: what changes are against, of each record: open interest, price, and whether it is the day before."""
        rec = np.concatenate([rec, _NOBODY])
        known = is_known(ts, rec)
        bid, ask, spot = (np.where(known, rec[name], _NAN) for name in ("bid", "ask", "ltp"))
        price, is_mid = quoted(bid, ask, np.where(_same_day(rec["ltt"], ts), spot, _NAN))
        traded = (rec["ltt"] >= ts) & (rec["ltt"] < ts + MINUTE_MS)
        nothing = np.full(len(rec) - 1, _NAN)
        oi_base, seen, is_before = base or (nothing, nothing, np.zeros(len(rec) - 1, bool))
        oi_base, is_before = np.append(oi_base, _NAN), np.append(is_before, False)
        oi, vtt = rec["oi"].copy(), rec["vtt"]
        return cls(
            ts=ts,
            keys=(*keys, None),
            rec=rec,
            spot=np.where(spot > 0, spot, _NAN),
            price=price,
            is_mid=is_mid,
            fresh=np.where(is_mid | traded, price, _NAN),
            spread=np.where(is_mid, ask - bid, _NAN),
            oi=oi,
            oi_base=oi_base,
            oi_change=oi - oi_base,
            price_base=np.where(is_before, rec["cp"], np.append(seen, _NAN)),
            is_before=is_before,
            volume=np.where((vtt > 0) | ~np.isnan(oi), vtt, _NAN),
        )


def rounded(value: float, places: int) -> float:
    return round(value, places) + 0.0  # no negative zero


def is_known(ts: int, rec: npt.NDArray[Any]) -> Bools:
    """The feed vouches for the record, or has told it within the minute: older ones say nothing about its end."""
    known: Bools = (rec["covered"] == 1) | (rec["ts"] >= ts)
    return known


def _same_day(times: npt.NDArray[Any], ts: int) -> Bools:
    start = (ts + IST_MS) // DAY_MS * DAY_MS - IST_MS
    same: Bools = (times >= start) & (times < start + DAY_MS)
    return same


@dataclass(slots=True)
class Priced:
    """A chain with its forward and its volatilities."""

    layout: ChainLayout
    years: float
    forward: Forward
    values: Floats  # a row for each of DECIMALS, rounded, a column for each of the layout's places
    flags: npt.NDArray[np.int64]


@quietly
def priced(minute: Minute, chains: Sequence[ChainLayout], rate: float) -> list[Priced]:
    """Forwards one by one, then all options at once."""
    if not chains:
        return []
    years = black76.years(float(minute.end_ms), [float(of.last_trade_ms) for of in chains]).tolist()
    forwards = [_forward(minute, of, rate, left) for of, left in zip(chains, years, strict=True)]
    sizes = [len(of.places) for of in chains]
    solved = black76.solve(
        np.concatenate([minute.price[of.places] for of in chains]),
        np.repeat([one.value for one in forwards], sizes),
        np.concatenate([of.strike_of_place for of in chains]),
        np.repeat(years, sizes),
        np.concatenate([of.is_call for of in chains]),
        rate,
    )
    scales = np.array([[10.0**places] for places in DECIMALS.values()])
    values = np.rint(np.stack([solved[name] for name in DECIMALS]) * scales) / scales + 0.0  # no negative zero
    made, start = [], 0
    for of, left, found, size in zip(chains, years, forwards, sizes, strict=True):
        part = slice(start, start + size)
        made.append(Priced(of, left, found, values[:, part], solved["flag"][part]))
        start += size
    return made


def _forward(minute: Minute, of: ChainLayout, rate: float, years: float) -> Forward:
    spreads = minute.spread[of.calls] + minute.spread[of.puts]
    prices = minute.fresh
    found = forward(float(prices[of.future]), of.strikes, prices[of.calls], prices[of.puts], rate, years, spreads)
    return replace(found, value=rounded(found.value, PRICE))  # everything follows from the forward that is shown


# Measures


@dataclass(slots=True)
class Measured:
    """A chain's numbers: one of each of `fields`, and an array per value of its strikes."""

    fields: Fields
    by_strike: dict[str, Floats]


@quietly
def measured(minute: Minute, of: Priced, rate: float) -> Measured:
    fwd, strikes = of.forward.value, of.layout.strikes
    both, calls, puts = _sides(minute, of)
    spot = float(minute.spot[of.layout.spot])
    pains = analytics.pain(strikes, calls.oi, puts.oi)
    synthetic = analytics.synthetic(strikes, calls.price, puts.price, rate, of.years)
    exposures, net = _exposures(of, both, spot, rate)
    residual = analytics.parity_residual(strikes, calls.price, puts.price, fwd, rate, of.years)
    by_strike = {
        "smile_iv": analytics.smile(strikes, calls.iv, puts.iv, fwd),
        "synthetic": synthetic.round(PRICE),
        "parity_residual": residual.round(PRICE) + 0.0,
        "pcr": analytics.pcr_by_strike(calls.oi, puts.oi).round(RATIO),
        "pain": pains.round(RUPEES) + 0.0,
        "gex": net.round(RUPEES) + 0.0,
    }
    fields = {
        "spot": spot,
        "basis": rounded(fwd - spot, PRICE),
        "basis_yearly": rounded(analytics.basis_yearly(fwd, spot, of.years), RATIO),
        **_at_the_money(of, calls, puts, synthetic),
        **_open_interest(strikes, both, fwd),
        "max_pain": analytics.max_pain(strikes, pains, fwd),
        **exposures,
        **_skew(of, calls, puts),
    }
    fields["butterfly_25d"] = rounded(
        0.5 * (fields["call_iv_25d"] + fields["put_iv_25d"]) - fields["atm_iv"], DECIMALS["iv"]
    )
    return Measured(fields, by_strike)


def _sides(minute: Minute, of: Priced) -> tuple[Side, Side, Side]:
    """Both sides in rows, the calls, the puts."""
    places = of.layout.places.reshape(2, -1)
    values = of.values.reshape(len(DECIMALS), *places.shape)
    price, oi, change, volume = (each[places] for each in (minute.price, minute.oi, minute.oi_change, minute.volume))
    iv, delta, gamma = values[_IV], values[_DELTA], values[_GAMMA]
    calls, puts = (Side(price[n], iv[n], delta[n], gamma[n], oi[n], change[n], volume[n]) for n in range(len(places)))
    return Side(price, iv, delta, gamma, oi, change, volume), calls, puts


def _at_the_money(of: Priced, calls: Side, puts: Side, synthetic: Floats) -> Fields:
    names = ("atm_strike", "atm_iv", "straddle", "expected_move", "one_sigma", "synthetic_future")
    at = analytics.atm(of.layout.strikes, of.forward.value)
    if at < 0:
        return {**dict.fromkeys(names, _NAN), "expected_move_factor": analytics.EXPECTED_MOVE_FACTOR}
    iv = analytics.mean_of_known(float(calls.iv[at]), float(puts.iv[at]))
    straddle = float(calls.price[at] + puts.price[at])
    return {
        "atm_strike": float(of.layout.strikes[at]),
        "atm_iv": rounded(iv, DECIMALS["iv"]),
        "straddle": rounded(straddle, PRICE),
        "expected_move": rounded(straddle * analytics.EXPECTED_MOVE_FACTOR, PRICE),
        "expected_move_factor": analytics.EXPECTED_MOVE_FACTOR,
        "one_sigma": rounded(analytics.one_sigma(of.forward.value, iv, of.years), PRICE),
        "synthetic_future": rounded(float(synthetic[at]), PRICE),
    }


def _open_interest(strikes: Floats, both: Side, fwd: float) -> Fields:
    found = analytics.totals(np.stack([both.oi, both.oi_change, both.volume])).ravel().tolist()
    names = [f"{side}_{name}" for name in ("oi", "oi_change", "volume") for side in ("call", "put")]
    sums: Fields = dict(zip(names, found, strict=True))
    ratios = {
        f"pcr_{name}": rounded(analytics.ratio(sums[f"put_{name}"], sums[f"call_{name}"]), RATIO)
        for name in ("oi", "volume", "oi_change")
    }
    walls = {
        "call_wall": analytics.call_wall(strikes, both.oi[0], fwd),
        "put_wall": analytics.put_wall(strikes, both.oi[1], fwd),
        "call_wall_change": analytics.call_wall(strikes, both.oi_change[0], fwd),
        "put_wall_change": analytics.put_wall(strikes, both.oi_change[1], fwd),
    }
    for name in ("call_volume", "put_volume"):
        sums[name] = int(sums[name]) if abs(sums[name]) < _WHOLE_MAX else None
    return {**sums, **ratios, **walls}


def _exposures(of: Priced, both: Side, spot: float, rate: float) -> tuple[Fields, Floats]:
    strikes, fwd = of.layout.strikes, of.forward.value
    at = fwd if math.isnan(spot) else spot
    where = None if math.isnan(at) else ExposureAt.FORWARD if math.isnan(spot) else ExposureAt.SPOT
    vanna_charm = analytics.vanna_charm(both, strikes, fwd, at, of.years, rate)
    sized = np.stack([analytics.gex(both, at), analytics.dex(both, at), *vanna_charm])
    nets = analytics.signed(sized[:, 0], sized[:, 1])
    gex, dex, vanna, charm = analytics.totals(nets).tolist()
    fields = {
        "exposure_at": where,
        "exposure_oi_pct": rounded(analytics.counted_pct(both), PERCENT),
        "gex": rounded(gex, RUPEES),
        "gex_zero": rounded(analytics.zero_level(strikes, nets[0], fwd), RUPEES),
        "dex": rounded(dex, RUPEES),
        "vanna": rounded(vanna, RUPEES),
        "charm": rounded(charm, RUPEES),
    }
    return fields, nets[0]


def _skew(of: Priced, calls: Side, puts: Side) -> Fields:
    places = DECIMALS["iv"]
    call = analytics.call_iv_at(of.layout.strikes, calls, of.forward.value)
    put = analytics.put_iv_at(of.layout.strikes, puts, of.forward.value)
    return {
        "call_iv_25d": rounded(call, places),
        "put_iv_25d": rounded(put, places),
        "skew_25d": rounded(put - call, places),
        "risk_reversal_25d": rounded(call - put, places),
    }


@quietly
def of_underlying(minute: Minute, layout: Layout, underlying: str, made: Sequence[tuple[Priced, Measured]]) -> Fields:
    """What all chains of an underlying have in common, without the history of its volatility."""
    vols = [(of.years, found.fields["atm_iv"]) for of, found in made]
    trading = [place for last, place in layout.futures.get(underlying, ()) if last > minute.ts][:2]
    oi = [float(minute.oi[place]) for place in trading]
    return {
        "iv_30d": rounded(analytics.constant_iv(vols), DECIMALS["iv"]),
        "rollover_pct": rounded(analytics.rollover_pct(*oi), PERCENT) if len(oi) == 2 else _NAN,
    }


def with_history(common: Fields, days: Sequence[float]) -> Fields:
    iv = common["iv_30d"]
    return {
        **common,
        "iv_rank": rounded(analytics.iv_rank(iv, days), PERCENT),
        "iv_percentile": rounded(analytics.iv_percentile(iv, days), PERCENT),
        "iv_days": len(days),
    }
