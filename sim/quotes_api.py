"""Market quotes: last prices, candles of the moment, Greeks, and the full quote.

Replies are keyed by SEGMENT:TRADING_SYMBOL, not by the key that was asked for; what is unknown is simply missing.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim.candles import Row, Width, resampled
from sim.clock import ist
from sim.exchange import Exchange
from sim.replies import ApiError, guarded, success
from sim.snapshot import Snapshot, snapshot

_KEYS_MAX: Final = 500
_GREEK_KEYS_MAX: Final = 50
_LEVELS: Final = 5
_INTERVALS: Final = {"1d": Width("days", 1), "I1": Width("minutes", 1), "I30": Width("minutes", 30)}
_ORDER_LOTS: Final = 3  # an order at a level has about so many lots

#: One instrument's reply: its row, the states asked for, its place in them.
Part = Callable[[int, Snapshot, int], dict[str, Any]]


def routes(exchange: Exchange) -> list[Route]:
    quotes = _Quotes(exchange)
    calls = {
        "/v3/market-quote/ltp": quotes.ltp,
        "/v3/market-quote/ohlc": quotes.ohlc,
        "/v3/market-quote/option-greek": quotes.option_greek,
        "/v2/market-quote/quotes": quotes.full,
        "/v3/market-quote/quotes": quotes.full_v3,
    }
    return [Route(path, guarded(exchange, path, handler)) for path, handler in calls.items()]


class _Quotes:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    async def ltp(self, request: Request) -> Response:
        return self._reply(_keys(request, _KEYS_MAX, "UDAPI100036"), 0, self._last)

    async def option_greek(self, request: Request) -> Response:
        return self._reply(_keys(request, _GREEK_KEYS_MAX, "UDAPI100076"), 0, self._greeks)

    async def ohlc(self, request: Request) -> Response:
        interval = request.query_params.get("interval", "")
        if interval not in _INTERVALS:
            raise ApiError(400, "UDAPI1147", "Invalid interval", "interval", interval)

        def candles(row: int, state: Snapshot, place: int) -> dict[str, Any]:
            before, live = _candles(self.exchange, row, _INTERVALS[interval])
            last = self._last(row, state, place)
            found = {name: last[name] for name in ("last_price", "instrument_token")}
            return found | {"prev_ohlc": _candle(before), "live_ohlc": _candle(live)}

        return self._reply(_keys(request, _KEYS_MAX, "UDAPI100036"), 0, candles)

    async def full(self, request: Request) -> Response:
        return self._reply(
            _keys(request, _KEYS_MAX, "UDAPI100036"), _LEVELS, lambda *where: _full(self.exchange, *where)
        )

    async def full_v3(self, request: Request) -> Response:
        return self._reply(
            _keys(request, _KEYS_MAX, "UDAPI100036"), _LEVELS, lambda *where: _full_v3(self.exchange, *where)
        )

    def _reply(self, keys: list[str], levels: int, part: Part) -> Response:
        listing = self.exchange.market.listing
        rows = [listing.row_of[key] for key in dict.fromkeys(keys) if key in listing.row_of]
        state = snapshot(self.exchange.market, np.array(rows, np.int64), levels)
        return success({_reply_key(self.exchange, row): part(row, state, place) for place, row in enumerate(rows)})

    def _last(self, row: int, state: Snapshot, place: int) -> dict[str, Any]:
        return {
            "last_price": state.ltp[place],
            "instrument_token": self.exchange.market.listing.instruments[row].key,
            "ltq": state.ltq[place],
            "volume": state.vtt[place],
            "cp": state.cp[place],
        }

    def _greeks(self, row: int, state: Snapshot, place: int) -> dict[str, Any]:
        found = {name: getattr(state, name)[place] for name in ("iv", "delta", "gamma", "theta", "vega", "oi")}
        return self._last(row, state, place) | found


def _keys(request: Request, most: int, too_many: str) -> list[str]:
    text = request.query_params.get("instrument_key") or request.query_params.get("symbol") or ""  # V2 knows both
    if not text:
        raise ApiError(400, "UDAPI1026", "Instrument key is required", "instrument_key")
    keys = text.split(",")
    if len(keys) > most:
        raise ApiError(400, too_many, f"At most {most} instrument keys are allowed", "instrument_key")
    for key in keys:
        if "|" not in key:
            raise ApiError(400, "UDAPI100011", "Invalid Instrument key", "instrument_key", key)
    return keys


def _reply_key(exchange: Exchange, row: int) -> str:
    """An index goes by its display name; a contract's symbol loses its spaces."""
    instrument = exchange.market.listing.instruments[row]
    symbol = instrument.name if instrument.is_index else instrument.trading_symbol.replace(" ", "")
    return f"{instrument.segment}:{symbol}"


def _candles(exchange: Exchange, row: int, width: Width) -> tuple[Row | None, Row | None]:
    """The candle before and the one of the moment."""
    market = exchange.market
    if width.unit == "days":
        before = exchange.archive.day(market.listing.instruments[row], exchange.hours.previous_trading_day(market.on))
        first, high, low = (float(column[row]) for column in (market.day_open, market.day_high, market.day_low))
        day: Row = (market.day_start_ms, first, high, low, float(market.ltp[row]), int(market.vtt[row]), 0)
        return (before[-1] if before else None), (day if first else None)
    rows = resampled(market.today(row), width, exchange.hours.bounds(market.on)[0])
    return (rows[-2] if len(rows) > 1 else None), (rows[-1] if rows else None)


def _candle(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    ts_ms, first, high, low, close, volume, _ = row
    return {"open": first, "high": high, "low": low, "close": close, "volume": volume, "ts": ts_ms}


def _full(exchange: Exchange, row: int, state: Snapshot, place: int) -> dict[str, Any]:
    market = exchange.market
    instrument = market.listing.instruments[row]
    return {
        "ohlc": {
            "open": state.day_open[place],
            "high": state.day_high[place],
            "low": state.day_low[place],
            "close": state.ltp[place],
        },
        "depth": {
            "buy": _side(state.bid[place], state.bid_qty[place], instrument.lot_size),
            "sell": _side(state.ask[place], state.ask_qty[place], instrument.lot_size),
        },
        "timestamp": ist(exchange.now_ms()).isoformat(timespec="milliseconds"),
        "instrument_token": instrument.key,
        "symbol": instrument.trading_symbol,
        "last_price": state.ltp[place],
        "volume": state.vtt[place],
        "average_price": state.atp[place],
        "oi": float(state.oi[place]),
        "net_change": round(state.ltp[place] - state.cp[place], 2),
        "total_buy_quantity": float(state.tbq[place]),
        "total_sell_quantity": float(state.tsq[place]),
        "lower_circuit_limit": float(market.band_low[row]),
        "upper_circuit_limit": float(market.band_high[row]),
        "last_trade_time": str(state.ltt[place]),
        "oi_day_high": float(market.oi_high[row]),
        "oi_day_low": float(market.oi_low[row]),
    }


def _full_v3(exchange: Exchange, row: int, state: Snapshot, place: int) -> dict[str, Any]:
    market = exchange.market
    auction: dict[str, Any] = {}
    if state.iep[place]:
        auction = {
            "indicative_equilibrium_price": state.iep[place],
            "reference_price": state.rp[place],
            "indicative_equilibrium_quantity": state.ieq[place],
            "indicative_imbalance_quantity_total": state.iiq[place],
            "indicative_imbalance_quantity_market": state.iiq_market[place],
        }
    before = {
        "prev_close_price": state.cp[place],
        "previous_oi": float(market.oi_before[row]),
        "cas_eligible": market.listing.instruments[row].cas_eligible,
    }
    return _full(exchange, row, state, place) | before | auction


def _side(prices: list[float], quantities: list[int], lot: int) -> list[dict[str, Any]]:
    return [
        {"quantity": quantity, "price": price, "orders": -(-quantity // (lot * _ORDER_LOTS))}
        for price, quantity in zip(prices, quantities, strict=True)
    ]
