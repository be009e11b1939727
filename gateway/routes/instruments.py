"""Finding instruments, and the option chain as a map from strikes to instruments and their last quotes."""

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bus import clock
from gateway import problems
from gateway.context import Here
from gateway.problems import Problem
from gateway.routes.quotes import stored
from market import sessions
from market.instruments import Universe, last_trade_ms
from schemas.errors import Misconfigured
from schemas.quotes import Quote

router = APIRouter(tags=["instruments"])

_MOST: Final = 500


class InstrumentView(BaseModel):
    """What can be traded, in rupees and units."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "key": "NSE_INDEX|Nifty 50",
                "segment": "NSE_INDEX",
                "exchange": "NSE",
                "name": "Nifty 50",
                "trading_symbol": "NIFTY",
                "instrument_type": "INDEX",
                "lot_size": 0,
                "tick_size": 0.0,
                "freeze_quantity": 0,
                "expiry": None,
                "strike": None,
                "underlying_key": None,
                "underlying_symbol": None,
                "weekly": False,
                "cas_eligible": False,
                "isin": None,
                "exchange_token": "26000",
            }
        }
    )

    key: str
    segment: str
    exchange: str
    name: str
    trading_symbol: str
    instrument_type: str = Field(description="EQ or another series, INDEX, FUT, CE, PE")
    lot_size: int
    tick_size: float = Field(description="Rupees")
    freeze_quantity: int
    expiry: date | None
    strike: float | None
    underlying_key: str | None
    underlying_symbol: str | None
    weekly: bool
    cas_eligible: bool
    isin: str | None
    exchange_token: str | None


class Expiries(BaseModel):
    underlying: str
    options: list[date]
    futures: list[InstrumentView]


class Leg(BaseModel):
    """One side of a strike."""

    instrument: str
    quote: Quote | None = Field(description="Null: nothing has been seen of it")


class Strike(BaseModel):
    strike: float
    call: Leg | None
    put: Leg | None


class ChainMap(BaseModel):
    """Who is who in an option chain, with last quotes."""

    underlying: str
    underlying_quote: Quote | None
    expiry: date
    expiries: list[date]
    strikes: list[Strike]


@router.get(
    "/instruments",
    summary="Search",
    response_model=list[InstrumentView],
    responses=problems.responses(422, 503),
)
async def search(
    here: Here,
    query: Annotated[
        str, Query(max_length=200, description="Words of the symbol, name, strike, type or expiry, in any order")
    ] = "",
    segment: Annotated[str | None, Query(max_length=20, examples=["NSE_FO"])] = None,
    kind: Annotated[str | None, Query(max_length=20, description="Instrument type", examples=["CE"])] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
) -> Response:
    """Best first: that very symbol, symbols that begin so, then all words."""
    universe = await here.directory.loaded()
    return _json([asdict(found) for found in universe.search(query, segment, kind, limit)])


# `expiries` stands before the key, which may hold anything.
@router.get(
    "/instruments/{key}/expiries",
    summary="Expiries of an underlying",
    response_model=Expiries,
    responses=problems.responses(404, 422, 503),
)
async def expiries(here: Here, key: str) -> Response:
    """The days on which options of an underlying expire, and its futures."""
    universe = await here.directory.loaded()
    _underlying(universe, key, "path.key")
    futures = [asdict(future) for future in universe.futures(key)]
    return _json({"underlying": key, "options": universe.expiries(key), "futures": futures})


@router.get(
    "/instruments/{key}",
    summary="One instrument",
    response_model=InstrumentView,
    responses=problems.responses(404, 422, 503),
)
async def instrument(here: Here, key: str) -> Response:
    """By its key, with the `|` written as `%7C`."""
    universe = await here.directory.loaded()
    found = universe.get(key)
    if found is None:
        raise Problem.field(404, "path.key", f"there is no instrument {key[:80]}", kind="unknown-instrument")
    return _json(asdict(found))


@router.get(
    "/chain",
    summary="Who is who in an option chain",
    response_model=ChainMap,
    responses=problems.responses(404, 422, 503),
)
async def chain(
    here: Here,
    underlying: Annotated[str, Query(description="Key of the underlying", examples=["NSE_INDEX|Nifty 50"])],
    expiry: Annotated[date | None, Query(description="The nearest that has not expired, unless given")] = None,
) -> Response:
    """The strikes of one expiry: which instruments they are, and the last that is known of each."""
    universe = await here.directory.loaded()
    _underlying(universe, underlying, "query.underlying")
    days = universe.expiries(underlying)
    chosen = expiry or _nearest(universe, underlying, days)
    if chosen is None or chosen not in days:
        message = f"options of {underlying} expire on {', '.join(map(str, days)) or 'no day'}"
        raise Problem.field(404, "query.expiry", message, kind="unknown-expiry")
    rows = universe.chain(underlying, chosen)
    keys = [underlying, *(key for _, call, put in rows for key in (call, put) if key is not None)]
    quotes = await stored(here.bus, here.settings.teji_shards, keys)

    def leg(key: str | None) -> dict[str, Any] | None:
        return None if key is None else {"instrument": key, "quote": _raw(quotes.get(key))}

    return _json(
        {
            "underlying": underlying,
            "underlying_quote": _raw(quotes.get(underlying)),
            "expiry": chosen,
            "expiries": days,
            "strikes": [{"strike": strike, "call": leg(call), "put": leg(put)} for strike, call, put in rows],
        }
    )


def _underlying(universe: Universe, key: str, field: str) -> None:
    if not universe.expiries(key) and not universe.futures(key) and universe.get(key) is None:
        raise Problem.field(404, field, f"there is no instrument {key[:80]}", kind="unknown-instrument")


def _nearest(universe: Universe, underlying: str, days: list[date]) -> date | None:
    """The first expiry whose contracts still trade; the last one there is when all are over."""
    now_ms = clock.now_ms()
    today = sessions.trading_date(now_ms)
    for day in days:
        if day > today or (day == today and now_ms < _last_trade_ms(universe, underlying, day)):
            return day
    return days[-1] if days else None


def _last_trade_ms(universe: Universe, underlying: str, day: date) -> float:
    """When the contracts of that day stop trading; where the calendar does not reach, they trade on."""
    _, call, put = universe.chain(underlying, day)[0]
    contract = universe.get(call or put or "")
    try:
        ends = last_trade_ms(contract) if contract is not None else None
    except Misconfigured:
        ends = None
    return ends if ends is not None else float("inf")


def _raw(quote: bytes | None) -> orjson.Fragment | None:
    return None if quote is None else orjson.Fragment(quote)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
