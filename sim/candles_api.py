"""Historical and intraday candles, V3. Note the order in the path: the last day stands before the first."""

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market.instruments import Instrument
from sim.candles import Row, Width, resampled
from sim.clock import ist
from sim.corrections import corrected
from sim.exchange import Exchange
from sim.hours import day_of
from sim.replies import ApiError, guarded, success

_MAX_COUNT: Final = {"minutes": 300, "hours": 5, "days": 1, "weeks": 1, "months": 1}
_MONTH_DAYS: Final = 31
_QUARTER_DAYS: Final = 92
_DECADE_DAYS: Final = 3_653
_MINUTES_SINCE: Final = date(2022, 1, 1)


def routes(exchange: Exchange) -> list[Route]:
    async def historical(request: Request) -> Response:
        path = request.path_params
        instrument = _instrument(exchange, path["key"])
        unit, count = _unit(path["unit"], path["interval"])
        last = _date(path["to_date"], "UDAPI1022", "to_date")
        first = (
            _date(path["from_date"], "UDAPI1015", "from_date") if "from_date" in path else _default_first(unit, last)
        )
        if first > last:
            raise ApiError(
                400, "UDAPI1015", "to_date must be greater than or equal to from_date", "from_date", path["from_date"]
            )
        if (last - first).days + 1 > _longest_days(unit, count):
            raise ApiError(400, "UDAPI1148", "Invalid date range", "to_date", path["to_date"])
        # Years of days take a second to generate: beside the loop, which has frames to send.
        return _reply(await asyncio.to_thread(history, exchange, instrument, unit, count, first, last))

    async def intraday(request: Request) -> Response:
        path = request.path_params
        instrument = _instrument(exchange, path["key"])
        unit, count = _unit(path["unit"], path["interval"])
        if unit in ("weeks", "months"):
            raise ApiError(400, "UDAPI1146", "Invalid unit", "unit", unit)
        return _reply(today(exchange, instrument, unit, count))

    prefix = "/v3/historical-candle"
    paths = {
        f"{prefix}/intraday/{{key}}/{{unit}}/{{interval}}": intraday,
        f"{prefix}/{{key}}/{{unit}}/{{interval}}/{{to_date}}": historical,
        f"{prefix}/{{key}}/{{unit}}/{{interval}}/{{to_date}}/{{from_date}}": historical,
    }
    return [Route(path, guarded(exchange, "candles", handler, login=False)) for path, handler in paths.items()]


def today(exchange: Exchange, instrument: Instrument, unit: str, count: int) -> list[Row]:
    """The candles of the market's day, oldest first; none once the calendar day is over."""
    market = exchange.market
    if market.on != day_of(exchange.now_ms()):
        return []
    rows = market.today(market.listing.row_of[instrument.key])
    return resampled(rows, _width(unit, count), _open_ms(exchange, market.on))


def history(exchange: Exchange, instrument: Instrument, unit: str, count: int, first: date, last: date) -> list[Row]:
    """Candles of the days before today, oldest first."""
    days, width = _days(exchange, first, last), _width(unit, count)
    if width.unit == "minutes":
        settings = exchange.settings
        told = (
            (corrected(exchange.archive.minutes(instrument, on), instrument, settings.seed, settings.corrections), on)
            for on in days
        )
        each = (resampled(rows, width, _open_ms(exchange, on)) for rows, on in told)
        return [row for rows in each for row in rows]
    return resampled([row for on in days for row in exchange.archive.day(instrument, on)], width, 0)


def _days(exchange: Exchange, first: date, last: date) -> Iterator[date]:
    on = max(first, _MINUTES_SINCE)
    end = min(last, day_of(exchange.now_ms()) - timedelta(days=1))
    while on <= end:
        if exchange.hours.is_trading_day(on):
            yield on
        on += timedelta(days=1)


def _open_ms(exchange: Exchange, on: date) -> int:
    return exchange.hours.bounds(on)[0]


def _width(unit: str, count: int) -> Width:
    return Width("minutes", count * 60) if unit == "hours" else Width(unit, count)


def _longest_days(unit: str, count: int) -> int:
    match unit:
        case "minutes" if count <= 15:
            return _MONTH_DAYS
        case "minutes" | "hours":
            return _QUARTER_DAYS
        case "days":
            return _DECADE_DAYS
        case _:
            return 1_000_000


def _default_first(unit: str, last: date) -> date:
    """Without a first day the venue goes back as far as the span allows, here a month at most."""
    return last - timedelta(days=_MONTH_DAYS - 1 if unit in ("minutes", "hours") else 365)


def _instrument(exchange: Exchange, key: str) -> Instrument:
    if "|" not in key:
        raise ApiError(400, "UDAPI1021", "Instrument key is of invalid format", "instrument_key", key)
    instrument = exchange.market.listing.get(key)
    if instrument is None:
        raise ApiError(400, "UDAPI100011", "Invalid Instrument key", "instrument_key", key)
    return instrument


def _unit(unit: str, interval: str) -> tuple[str, int]:
    if unit not in _MAX_COUNT:
        raise ApiError(400, "UDAPI1146", "Invalid unit", "unit", unit)
    if not interval.isdecimal() or not 1 <= int(interval) <= _MAX_COUNT[unit]:
        raise ApiError(400, "UDAPI1147", "Invalid interval", "interval", interval)
    return unit, int(interval)


def _date(text: str, code: str, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ApiError(400, code, f"{name} must be a date as YYYY-MM-DD", name, text) from None


def _reply(rows: list[Row]) -> Response:
    """Newest first, times as ISO text in IST."""
    candles: list[list[Any]] = [[ist(row[0]).isoformat(), *row[1:]] for row in reversed(rows)]
    return success({"candles": candles})
