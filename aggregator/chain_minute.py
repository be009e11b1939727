"""A minute's records into the chains of its underlyings: prices, volatilities, measures, JSON. Pure.

Everything is as of the minute's end. Volatilities of all chains are solved in one call; then each chain is measured,
then what its underlying's chains have in common.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator import analytics
from aggregator.analytics import Side
from aggregator.chain_layout import ChainLayout, Layout
from aggregator.quoted import quoted
from aggregator.state import DAY_MS, IST_MS, MINUTE_MS
from market import black76
from market.black76 import Flag
from market.forward import Forward, forward
from schemas.bars import PriceFrom
from schemas.chain import Chain, ChainModel, ChainOption, ChainStrike, ExposureAt, OiChangeFrom
from schemas.panel import PANEL

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Fields = dict[str, Any]

_FLAGS: Final = {flag.value: flag.name.lower() for flag in Flag}
_NAN: Final = math.nan

#: Decimals of what we compute, where a price has two: what is beyond is noise, and would double the size of a chain.
_DECIMALS: Final = {"iv": 6, "delta": 6, "gamma": 9, "theta": 4, "vega": 4, "rho": 4}
_RATIO: Final = 6
_PRICE: Final = 5
_PERCENT: Final = 4
_RUPEES: Final = 2
_YEARS: Final = 12

_MODEL: Final = tuple(ChainModel.model_fields)
_OPTION: Final = tuple(ChainOption.model_fields)
_STRIKE: Final = tuple(ChainStrike.model_fields)
_CHAIN: Final = tuple(Chain.model_fields)

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
    calls: npt.NDArray[Any]  # black76.OPTION of each strike
    puts: npt.NDArray[Any]


def priced(minute: Minute, chains: Sequence[ChainLayout], rate: float) -> list[Priced]:
    """Forwards one by one, then all options at once."""
    if not chains:
        return []
    years = black76.years(float(minute.end_ms), [float(of.last_trade_ms) for of in chains]).tolist()
    forwards = [_forward(minute, of, rate, left) for of, left in zip(chains, years, strict=True)]
    sizes = [2 * len(of.strikes) for of in chains]
    solved = black76.solve(
        np.concatenate([minute.price[side] for of in chains for side in (of.calls, of.puts)]),
        np.repeat([one.value for one in forwards], sizes),
        np.concatenate([of.strikes for of in chains for _ in "cp"]),
        np.repeat(years, sizes),
        np.concatenate([np.repeat([True, False], len(of.strikes)) for of in chains]),
        rate,
    )
    made, start = [], 0
    for of, left, found, size in zip(chains, years, forwards, sizes, strict=True):
        middle, end = start + size // 2, start + size
        made.append(Priced(of, left, found, solved[start:middle], solved[middle:end]))
        start = end
    return made


def _forward(minute: Minute, of: ChainLayout, rate: float, years: float) -> Forward:
    spreads = minute.spread[of.calls] + minute.spread[of.puts]
    prices = minute.fresh
    found = forward(float(prices[of.future]), of.strikes, prices[of.calls], prices[of.puts], rate, years, spreads)
    return replace(found, value=rounded(found.value, _PRICE))  # everything follows from the forward that is shown


# Measures


@dataclass(slots=True)
class Measured:
    """A chain's numbers: one of each of `fields`, and an array per value of its strikes."""

    fields: Fields
    by_strike: dict[str, Floats]


def measured(minute: Minute, of: Priced, rate: float) -> Measured:
    calls, puts = _side(minute, of.layout.calls, of.calls), _side(minute, of.layout.puts, of.puts)
    fwd, strikes = of.forward.value, of.layout.strikes
    spot = float(minute.spot[of.layout.spot])
    pains = analytics.pain(strikes, calls.oi, puts.oi)
    synthetic = analytics.synthetic(strikes, calls.price, puts.price, rate, of.years)
    exposures, net = _exposures(of, calls, puts, spot, rate)
    residual = analytics.parity_residual(strikes, calls.price, puts.price, fwd, rate, of.years)
    by_strike = {
        "smile_iv": analytics.smile(strikes, calls.iv, puts.iv, fwd),
        "synthetic": synthetic.round(_PRICE),
        "parity_residual": residual.round(_PRICE) + 0.0,
        "pcr": analytics.pcr_by_strike(calls.oi, puts.oi).round(_RATIO),
        "pain": pains.round(_RUPEES) + 0.0,
        "gex": net.round(_RUPEES) + 0.0,
    }
    fields = {
        "spot": spot,
        "basis": rounded(fwd - spot, _PRICE),
        "basis_yearly": rounded(analytics.basis_yearly(fwd, spot, of.years), _RATIO),
        **_at_the_money(of, calls, puts, synthetic),
        **_open_interest(strikes, calls, puts, fwd),
        "max_pain": analytics.max_pain(strikes, pains, fwd),
        **exposures,
        **_skew(of, calls, puts),
    }
    fields["butterfly_25d"] = rounded(
        0.5 * (fields["call_iv_25d"] + fields["put_iv_25d"]) - fields["atm_iv"], _DECIMALS["iv"]
    )
    return Measured(fields, by_strike)


def _side(minute: Minute, places: npt.NDArray[np.int64], solved: npt.NDArray[Any]) -> Side:
    return Side(
        price=minute.price[places],
        iv=solved["iv"].round(_DECIMALS["iv"]),
        delta=solved["delta"].round(_DECIMALS["delta"]),
        gamma=solved["gamma"].round(_DECIMALS["gamma"]),
        oi=minute.oi[places],
        oi_change=minute.oi_change[places],
        volume=minute.volume[places],
    )


def _at_the_money(of: Priced, calls: Side, puts: Side, synthetic: Floats) -> Fields:
    names = ("atm_strike", "atm_iv", "straddle", "expected_move", "one_sigma", "synthetic_future")
    at = analytics.atm(of.layout.strikes, of.forward.value)
    if at < 0:
        return {**dict.fromkeys(names, _NAN), "expected_move_factor": analytics.EXPECTED_MOVE_FACTOR}
    iv = analytics.mean_of_known(float(calls.iv[at]), float(puts.iv[at]))
    straddle = float(calls.price[at] + puts.price[at])
    return {
        "atm_strike": float(of.layout.strikes[at]),
        "atm_iv": rounded(iv, _DECIMALS["iv"]),
        "straddle": rounded(straddle, _PRICE),
        "expected_move": rounded(straddle * analytics.EXPECTED_MOVE_FACTOR, _PRICE),
        "expected_move_factor": analytics.EXPECTED_MOVE_FACTOR,
        "one_sigma": rounded(analytics.one_sigma(of.forward.value, iv, of.years), _PRICE),
        "synthetic_future": rounded(float(synthetic[at]), _PRICE),
    }


def _open_interest(strikes: Floats, calls: Side, puts: Side, fwd: float) -> Fields:
    sums: Fields = {
        f"{side}_{name}": analytics.total(getattr(of, name))
        for name in ("oi", "oi_change", "volume")
        for side, of in (("call", calls), ("put", puts))
    }
    ratios = {
        f"pcr_{name}": rounded(analytics.ratio(sums[f"put_{name}"], sums[f"call_{name}"]), _RATIO)
        for name in ("oi", "volume", "oi_change")
    }
    walls = {
        "call_wall": analytics.call_wall(strikes, calls.oi, fwd),
        "put_wall": analytics.put_wall(strikes, puts.oi, fwd),
        "call_wall_change": analytics.call_wall(strikes, calls.oi_change, fwd),
        "put_wall_change": analytics.put_wall(strikes, puts.oi_change, fwd),
    }
    for name in ("call_volume", "put_volume"):
        sums[name] = _whole(sums[name])
    return {**sums, **ratios, **walls}


def _exposures(of: Priced, calls: Side, puts: Side, spot: float, rate: float) -> tuple[Fields, Floats]:
    strikes, fwd = of.layout.strikes, of.forward.value
    at = fwd if math.isnan(spot) else spot
    where = None if math.isnan(at) else ExposureAt.FORWARD if math.isnan(spot) else ExposureAt.SPOT
    net = analytics.signed(analytics.gex(calls, at), analytics.gex(puts, at))
    delta = analytics.signed(analytics.dex(calls, at), analytics.dex(puts, at))
    of_calls = analytics.vanna_charm(calls, strikes, fwd, at, of.years, rate)
    of_puts = analytics.vanna_charm(puts, strikes, fwd, at, of.years, rate)
    vanna, charm = (analytics.signed(one, other) for one, other in zip(of_calls, of_puts, strict=True))
    fields = {
        "exposure_at": where,
        "exposure_oi_pct": rounded(analytics.counted_pct(calls, puts), _PERCENT),
        "gex": rounded(analytics.total(net), _RUPEES),
        "gex_zero": rounded(analytics.zero_level(strikes, net, fwd), _RUPEES),
        "dex": rounded(analytics.total(delta), _RUPEES),
        "vanna": rounded(analytics.total(vanna), _RUPEES),
        "charm": rounded(analytics.total(charm), _RUPEES),
    }
    return fields, net


def _skew(of: Priced, calls: Side, puts: Side) -> Fields:
    places = _DECIMALS["iv"]
    call = analytics.call_iv_at(of.layout.strikes, calls, of.forward.value)
    put = analytics.put_iv_at(of.layout.strikes, puts, of.forward.value)
    return {
        "call_iv_25d": rounded(call, places),
        "put_iv_25d": rounded(put, places),
        "skew_25d": rounded(put - call, places),
        "risk_reversal_25d": rounded(call - put, places),
    }


def of_underlying(minute: Minute, layout: Layout, underlying: str, made: Sequence[tuple[Priced, Measured]]) -> Fields:
    """What all chains of an underlying have in common, without the history of its volatility."""
    vols = [(of.years, found.fields["atm_iv"]) for of, found in made]
    trading = [place for last, place in layout.futures.get(underlying, ()) if last > minute.ts][:2]
    oi = [float(minute.oi[place]) for place in trading]
    return {
        "iv_30d": rounded(analytics.constant_iv(vols), _DECIMALS["iv"]),
        "rollover_pct": rounded(analytics.rollover_pct(*oi), _PERCENT) if len(oi) == 2 else _NAN,
    }


def with_history(common: Fields, days: Sequence[float]) -> Fields:
    iv = common["iv_30d"]
    return {
        **common,
        "iv_rank": rounded(analytics.iv_rank(iv, days), _PERCENT),
        "iv_percentile": rounded(analytics.iv_percentile(iv, days), _PERCENT),
        "iv_days": len(days),
    }


# JSON


def encoded(minute: Minute, of: Priced, found: Measured, common: Mapping[str, Any], seen: Mapping[str, Any]) -> bytes:
    """The chain as its readers get it; NaN becomes null. `seen`: rev, complete, silent shards, rate."""
    layout, fwd = of.layout, of.forward
    uncovered = 0
    sides = []
    for places, solved in ((layout.calls, of.calls), (layout.puts, of.puts)):
        options = list(_options(minute, places, solved))
        uncovered += sum(option is not None and not option["covered"] for option in options)
        sides.append(options)
    columns = [column.tolist() for column in found.by_strike.values()]
    rows = zip(layout.strikes.tolist(), *sides, *columns, strict=True)
    body = {
        "underlying": layout.underlying,
        "expiry": layout.expiry,
        "ts": minute.ts,
        "rev": seen["rev"],
        "complete": not seen["silent_shards"] and not uncovered,
        "silent_shards": seen["silent_shards"],
        "uncovered": uncovered,
        "last_trade_ms": layout.last_trade_ms,
        "years": rounded(of.years, _YEARS),
        "rate": seen["rate"],
        "future": _future(minute, layout.future),
        "forward": fwd.value,
        "forward_from": fwd.source,
        "forward_strikes": fwd.strikes,
        "forward_residual": rounded(fwd.residual, _PRICE),
        **found.fields,
        **common,
        "strikes": [dict(zip(_STRIKE, row, strict=True)) for row in rows],
    }
    return orjson.dumps({name: body[name] for name in _CHAIN})


def _options(minute: Minute, places: npt.NDArray[np.int64], solved: npt.NDArray[Any]) -> Iterator[Fields | None]:
    rec = minute.rec[places]
    actions = analytics.action(rec["ltp"], minute.price_base[places], rec["oi"], minute.oi_base[places])
    is_mid, covered = minute.is_mid[places].tolist(), (rec["covered"] == 1).tolist()
    changes, before = minute.oi_change[places].tolist(), minute.is_before[places].tolist()
    columns = (
        [minute.keys[place] for place in places.tolist()],
        rec["ltp"].tolist(), _known(rec["ltt"]),
        *_quotes(rec),
        _wholes(minute.volume[places]), rec["oi"].tolist(),
        changes, [_change_from(*pair) for pair in zip(changes, before, strict=True)],
        [None if one is None else one.value for one in actions],
        *(rec[name].tolist() for name in ("iv", "delta", "gamma", "theta", "vega", "rho")),
        _models(solved, minute.price[places].tolist(), is_mid),
        covered,
    )  # fmt: skip
    for row in zip(*columns, strict=True):
        yield None if row[0] is None else dict(zip(_OPTION, row, strict=True))


def _models(solved: npt.NDArray[Any], prices: list[float], is_mid: list[bool]) -> list[Fields]:
    columns = [(solved[name].round(places) + 0.0).tolist() for name, places in _DECIMALS.items()]
    sources = [
        None if math.isnan(price) else PriceFrom.MID.value if mid else PriceFrom.LAST.value
        for price, mid in zip(prices, is_mid, strict=True)
    ]
    flags = [_FLAGS[flag] for flag in solved["flag"].tolist()]
    return [dict(zip(_MODEL, row, strict=True)) for row in zip(*columns, prices, sources, flags, strict=True)]


def _quotes(rec: npt.NDArray[Any]) -> Iterator[list[Any]]:
    for side in ("bid", "ask"):
        there = rec[side] > 0
        quantities = zip(rec[f"{side}_qty"].tolist(), there.tolist(), strict=True)
        yield np.where(there, rec[side], _NAN).tolist()
        yield [quantity if is_there else None for quantity, is_there in quantities]


def _future(minute: Minute, place: int) -> Fields | None:
    key = minute.keys[place]
    if key is None:
        return None
    price = float(minute.price[place])
    source = PriceFrom.MID if minute.is_mid[place] else PriceFrom.LAST
    return {
        "instrument": key,
        "price": price,
        "price_from": None if math.isnan(price) else source,
        "oi": float(minute.oi[place]),
    }


def _change_from(change: float, is_before: bool) -> str | None:
    if math.isnan(change):
        return None
    return (OiChangeFrom.PREVIOUS_DAY if is_before else OiChangeFrom.FIRST_SEEN).value


def _known(values: npt.NDArray[Any]) -> list[int | None]:
    return [value or None for value in values.tolist()]


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _wholes(values: Floats) -> list[int | None]:
    return [_whole(value) for value in values.tolist()]
