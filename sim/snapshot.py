"""The state of some instruments in plain Python numbers, for the encoder and for the REST replies.

One `tolist` per column is far cheaper than picking single numbers out of arrays.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim import fair
from sim.black import greeks
from sim.book import depth, totals
from sim.market import Market

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Lists have one item per instrument asked for; depth has one list of levels per instrument, best first."""

    ltp: list[float]
    ltt: list[int]
    ltq: list[int]
    cp: list[float]
    atp: list[float]
    vtt: list[int]
    oi: list[int]
    tbq: list[int]
    tsq: list[int]
    iv: list[float]
    delta: list[float]
    theta: list[float]
    gamma: list[float]
    vega: list[float]
    rho: list[float]
    day_open: list[float]
    day_high: list[float]
    day_low: list[float]
    minute_ts: list[int]
    minute_open: list[float]
    minute_high: list[float]
    minute_low: list[float]
    minute_close: list[float]
    minute_volume: list[int]
    iep: list[float]
    rp: list[float]
    ieq: list[int]
    iiq: list[int]
    iiq_market: list[int]
    bid_qty: list[list[int]]
    bid: list[list[float]]
    ask_qty: list[list[int]]
    ask: list[list[float]]


def snapshot(market: Market, rows: I64, levels: int) -> Snapshot:
    candles, columns = market.candles, market.columns
    buying, selling = totals(columns, rows, market.epoch[rows])
    levels_of = depth(columns, rows, market.bid[rows], market.ask[rows], market.epoch[rows], levels)
    vtt = market.vtt[rows]
    iv, sensitivities = _greeks(market, rows)
    return Snapshot(
        ltp=market.ltp[rows].tolist(),
        ltt=market.ltt[rows].tolist(),
        ltq=market.ltq[rows].tolist(),
        cp=market.cp[rows].tolist(),
        atp=np.round(market.turnover[rows] / np.maximum(vtt, 1), 2).tolist(),
        vtt=vtt.tolist(),
        oi=market.oi[rows].tolist(),
        tbq=buying.tolist(),
        tsq=selling.tolist(),
        iv=iv,
        delta=sensitivities[0],
        theta=sensitivities[1],
        gamma=sensitivities[2],
        vega=sensitivities[3],
        rho=sensitivities[4],
        day_open=market.day_open[rows].tolist(),
        day_high=market.day_high[rows].tolist(),
        day_low=market.day_low[rows].tolist(),
        minute_ts=candles.ts[rows].tolist(),
        minute_open=candles.open[rows].tolist(),
        minute_high=candles.high[rows].tolist(),
        minute_low=candles.low[rows].tolist(),
        minute_close=candles.close[rows].tolist(),
        minute_volume=candles.volume[rows].tolist(),
        iep=market.iep[rows].tolist(),
        rp=market.rp[rows].tolist(),
        ieq=market.ieq[rows].tolist(),
        iiq=market.iiq[rows].tolist(),
        iiq_market=market.iiq_market[rows].tolist(),
        bid_qty=levels_of.bid_qty.tolist(),
        bid=levels_of.bid.tolist(),
        ask_qty=levels_of.ask_qty.tolist(),
        ask=levels_of.ask.tolist(),
    )


def _greeks(market: Market, rows: I64) -> tuple[list[float], list[list[float]]]:
    """Volatility and the five Greeks; zeros where the instrument is no option."""
    columns = market.columns
    places = np.flatnonzero(columns.option[rows])
    found = np.zeros((6, len(rows)))
    if len(places):
        options = rows[places]
        years = fair.years_to(columns.end_ms[options], float(market.now_ms))
        forward = fair.forward(market.spots[columns.path[options]], years)
        at_the_money = market.spots[-1] / 100.0 * columns.vol_scale[options]
        strike, call = columns.strike[options], columns.call[options]
        vol = fair.volatility(forward, strike, years, at_the_money)
        each = greeks(forward, strike, years, vol, fair.RATE, call)
        found[:, places] = np.round((vol, each.delta, each.theta, each.gamma, each.vega, each.rho), 6)
    iv, *sensitivities = found.tolist()
    return iv, sensitivities
