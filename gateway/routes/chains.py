"""`GET /chain/{underlying}`: the chain of a minute, whole; and the series of its measures."""

from datetime import date
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway import problems
from gateway.chains import Series
from gateway.coldrows import CHAIN_VALUES
from gateway.context import Here
from gateway.problems import Problem
from gateway.routes.candles import END_OF_TIME_MS, instant
from schemas.chain import Chain

router = APIRouter(tags=["option chain"])

_MOST: Final = 5_000
_MINUTE_MS: Final = 60_000
_FIELDS: Final = ("spot", "atm_iv", "straddle", "pcr_oi", "max_pain", "gex")

Expiry = Annotated[
    date | None,
    Query(description="The nearest that has chains, unless given", examples=["2026-11-26"]),
]


class ChainSeries(BaseModel):
    """Measures of the chains of one expiry, minute by minute, in ascending order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "underlying": "NSE_INDEX|Nifty 50",
                "expiry": "2026-11-26",
                "fields": ["spot", "atm_iv", "pcr_oi"],
                "points": [
                    {"ts": 1795578300000, "complete": True, "spot": 24011.45, "atm_iv": 0.1182, "pcr_oi": 0.93},
                    {"ts": 1795578360000, "complete": True, "spot": 24013.1, "atm_iv": 0.118, "pcr_oi": None},
                ],
                "next": None,
            }
        }
    )

    underlying: str
    expiry: date
    fields: list[str]
    points: list[dict[str, float | int | bool | None]] = Field(
        description="`ts` is the start of the minute, epoch ms; each value is as of its end, null: not known"
    )
    next: int | None = Field(
        description="There is more: the `from` of the following page, or the `to` of the preceding one where the "
        "request had no `from`"
    )


_CHAIN_EXAMPLE: Final = {
    "underlying": "NSE_INDEX|Nifty 50",
    "expiry": "2026-11-26",
    "ts": 1795578300000,
    "rev": 0,
    "complete": True,
    "spot": 24011.45,
    "forward": 24035.2,
    "forward_from": "future",
    "atm_strike": 24050.0,
    "atm_iv": 0.1182,
    "straddle": 212.4,
    "pcr_oi": 0.93,
    "max_pain": 24000.0,
    "gex": 1.2e9,
    "strikes": ["..."],
}


@router.get(
    "/chain/{underlying}",
    summary="The chain of a minute",
    response_model=Chain,
    responses={
        **problems.responses(404, 422, 503),
        200: {"content": {"application/json": {"example": _CHAIN_EXAMPLE}}},
        304: {"description": "Not Modified: the chain that `If-None-Match` names is still the newest"},
    },
)
async def chain(
    here: Here,
    request: Request,
    underlying: str,
    expiry: Expiry = None,
    at: Annotated[
        str | None,
        Query(description="As of this time: ISO-8601 (Indian time if unsaid) or epoch ms; now, unless given"),
    ] = None,
) -> Response:
    """Every strike with prices, our volatility and Greeks beside the venue's, open interest and its change; and the
    measures of the whole: PCR, max pain, walls, straddle, synthetic future, exposures, skew. The last minute that had
    ended. The newest comes from memory, older ones from Postgres.
    """
    at_ms = instant(at, "query.at")
    before_ms = END_OF_TIME_MS if at_ms is None else at_ms - _MINUTE_MS
    found = await here.chains.find(underlying, expiry, before_ms)
    if found is None:
        raise await _missing(here, underlying, expiry, at)
    tag = f'W/"{found.ts}-{found.rev}-{found.expiry}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(found.data, media_type="application/json", headers={"ETag": tag})


@router.get(
    "/chain/{underlying}/history",
    summary="Measures of a chain over time",
    response_model=ChainSeries,
    responses=problems.responses(404, 422, 503),
)
async def history(
    here: Here,
    underlying: str,
    expiry: Expiry = None,
    fields: Annotated[
        str,
        Query(
            max_length=1_000,
            description="Measures, comma-separated: " + ", ".join(f"`{name}`" for name in CHAIN_VALUES),
            openapi_examples={"sentiment": {"value": "pcr_oi,max_pain"}, "volatility": {"value": "atm_iv,straddle"}},
        ),
    ] = ",".join(_FIELDS),
    from_: Annotated[
        str | None, Query(alias="from", description="First minute: ISO-8601 (Indian time if unsaid) or epoch ms")
    ] = None,
    to: Annotated[str | None, Query(description="Minutes that start before this; same forms")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most minutes in one answer")] = 500,
) -> Response:
    """With `from`: the first `limit` minutes from there on. Without: the last `limit`, up to `to` or now."""
    names = _names(fields)
    from_ms, to_ms = instant(from_, "query.from"), instant(to, "query.to")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise Problem.field(422, "query.to", "`to` is not after `from`")
    chosen = expiry or await here.chains.nearest(underlying, END_OF_TIME_MS if to_ms is None else to_ms - 1)
    if chosen is None:
        raise await _missing(here, underlying, expiry, to)
    last = END_OF_TIME_MS if to_ms is None else to_ms
    series = await here.chains.series(underlying, chosen, names, from_ms or 0, last, limit, last=from_ms is None)
    if not series.points and not await here.chains.expiries(underlying):
        raise await _missing(here, underlying, expiry, None)
    return _answer(underlying, chosen, names, series)


def _names(fields: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in fields.split(",") if part.strip()))
    if not names:
        raise Problem.field(422, "query.fields", "names no measure; leave it out for the usual ones")
    unknown = [name for name in names if name not in CHAIN_VALUES]
    if unknown:
        message = f"{unknown[0][:40]!r} is no measure of a chain; there are {', '.join(CHAIN_VALUES)}"
        raise Problem.field(422, "query.fields", message)
    return names


def _answer(underlying: str, expiry: date, names: list[str], series: Series) -> Response:
    points: list[dict[str, Any]] = [dict(zip(("ts", "complete", *names), row, strict=True)) for row in series.points]
    body = {"underlying": underlying, "expiry": expiry, "fields": names, "points": points, "next": series.next_ms}
    return Response(orjson.dumps(body), media_type="application/json")


async def _missing(here: Here, underlying: str, expiry: date | None, at: str | None) -> Problem:
    """Why there is no chain: which part of the request to change."""
    days = await here.chains.expiries(underlying)
    if not days:
        if await here.directory.unknown([underlying]) and not here.directory.is_underlying(underlying):
            message = f"there is no underlying {underlying[:80]}"
            return Problem.field(404, "path.underlying", message, kind="unknown-instrument")
        message = f"no chain of {underlying} has been made: its options have to be subscribed, and a minute has to end"
        return Problem.field(404, "path.underlying", message, kind="no-chain")
    if expiry is not None and expiry not in days:
        message = f"there are chains of {underlying} for {', '.join(map(str, days))}"
        return Problem.field(404, "query.expiry", message, kind="unknown-expiry")
    message = f"no chain of {underlying} is as old as {at}" if at else f"no chain of {underlying} is left"
    return Problem.field(404, "query.at", message, kind="no-chain")
