"""Option contracts and the option chain. Here, and only here, volatility is in percent."""

from datetime import date
from typing import Any, Final

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market.instruments import Instrument
from sim import fair, instrument_file
from sim.black import normal_cdf
from sim.exchange import Exchange
from sim.replies import ApiError, guarded, success
from sim.snapshot import Snapshot, snapshot

_WEEKS: Final = {"current_week": 0, "next_week": 1, "far_week": 2}
_MONTHS: Final = {"current_month": 0, "next_month": 1, "far_month": 2}


def routes(exchange: Exchange) -> list[Route]:
    async def contract(request: Request) -> Response:
        options = _options(exchange, _underlying(request, exchange))
        text = request.query_params.get("expiry_date")
        if text:
            expiry = expiry_of(options, text)
            options = [each for each in options if each.expiry == expiry]
        return success([_contract(each) for each in options])

    async def chain(request: Request) -> Response:
        underlying = _underlying(request, exchange)
        text = request.query_params.get("expiry_date")
        if not text:
            raise ApiError(400, "UDAPI1088", "Invalid date", "expiry_date", text)
        expiry = expiry_of(_options(exchange, underlying), text)
        strikes = exchange.market.listing.catalogue.chain(underlying, expiry) if expiry else []
        return success(_chain(exchange, underlying, strikes, expiry))

    return [
        Route("/v2/option/contract", guarded(exchange, "contract", contract)),
        Route("/v2/option/chain", guarded(exchange, "chain", chain)),
    ]


def expiry_of(options: list[Instrument], text: str) -> date | None:
    """A date, or the venue's word for one. None: no such word among these options."""
    dates = sorted({each.expiry for each in options if each.expiry})
    monthly = sorted({each.expiry for each in options if each.expiry and not each.weekly})
    for words, known in ((_WEEKS, dates), (_MONTHS, monthly)):
        if text in words:
            return known[words[text]] if words[text] < len(known) else None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ApiError(400, "UDAPI1088", "Invalid date", "expiry_date", text) from None


def _underlying(request: Request, exchange: Exchange) -> str:
    key = request.query_params.get("instrument_key", "")
    if not key:
        raise ApiError(400, "UDAPI1026", "Instrument key is required", "instrument_key")
    if key.startswith("MCX"):
        raise ApiError(400, "UDAPI1088", "Option chain is not available for MCX", "instrument_key", key)
    if exchange.market.listing.get(key) is None:
        raise ApiError(400, "UDAPI100011", "Invalid Instrument key", "instrument_key", key)
    return key


def _options(exchange: Exchange, underlying: str) -> list[Instrument]:
    instruments = exchange.market.listing.instruments
    return [each for each in instruments if each.is_option and each.underlying_key == underlying]


def _contract(each: Instrument) -> dict[str, Any]:
    assert each.expiry is not None
    return instrument_file.row(each) | {"expiry": each.expiry.isoformat()}


def _chain(
    exchange: Exchange, underlying: str, strikes: list[tuple[float, str | None, str | None]], expiry: date | None
) -> list[dict[str, Any]]:
    market = exchange.market
    row_of = market.listing.row_of
    rows = [row_of[key] for _, call, put in strikes for key in (call, put) if key]
    if not rows or expiry is None:
        return []
    state = snapshot(market, np.array(rows, np.int64), 1)
    chances = _chances(exchange, rows)
    sides = {row: _side(exchange, row, state, place, chances[place]) for place, row in enumerate(rows)}
    spot = float(market.ltp[row_of[underlying]])
    found = []
    for strike, call, put in strikes:
        if call is None or put is None:
            continue
        calls, puts = int(market.oi[row_of[call]]), int(market.oi[row_of[put]])
        found.append(
            {
                "expiry": expiry.isoformat(),
                "pcr": round(puts / calls, 4) if calls else 0.0,
                "strike_price": strike,
                "underlying_key": underlying,
                "underlying_spot_price": spot,
                "call_options": sides[row_of[call]],
                "put_options": sides[row_of[put]],
            }
        )
    return found


def _side(exchange: Exchange, row: int, state: Snapshot, place: int, chance: float) -> dict[str, Any]:
    market = exchange.market
    return {
        "instrument_key": market.listing.instruments[row].key,
        "market_data": {
            "ltp": state.ltp[place],
            "volume": state.vtt[place],
            "oi": float(state.oi[place]),
            "close_price": state.cp[place],
            "bid_price": state.bid[place][0],
            "bid_qty": state.bid_qty[place][0],
            "ask_price": state.ask[place][0],
            "ask_qty": state.ask_qty[place][0],
            "prev_oi": float(market.oi_before[row]),
        },
        "option_greeks": {
            "vega": state.vega[place],
            "theta": state.theta[place],
            "gamma": state.gamma[place],
            "delta": state.delta[place],
            "iv": round(state.iv[place] * 100, 2),
            "pop": chance,
        },
    }


def _chances(exchange: Exchange, rows: list[int]) -> list[float]:
    """`pop`: how likely, in percent, the option ends in the money by more than it costs."""
    market, columns, at = exchange.market, exchange.market.columns, np.array(rows, np.int64)
    years = fair.years_to(columns.end_ms[at], float(market.now_ms))
    forward = fair.forward(market.spots[columns.path[at]], years)
    strike, call = columns.strike[at], columns.call[at]
    vol = fair.volatility(forward, strike, years, market.spots[-1] / 100.0 * columns.vol_scale[at])
    even = np.maximum(strike + np.where(call, 1.0, -1.0) * market.ltp[at], 0.05)
    width = vol * np.sqrt(years)
    above = normal_cdf(np.log(forward / even) / width - 0.5 * width)
    chances: list[float] = np.round(100 * np.where(call, above, 1 - above), 2).tolist()
    return chances
