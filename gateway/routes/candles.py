"""`GET /candles`: bars of any length, whether their minutes are still in Redis or in Postgres by now."""

import re
from datetime import datetime, timedelta, timezone
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway import problems
from gateway.context import Here
from gateway.directory import well_formed
from gateway.history import Span
from gateway.problems import Problem
from schemas.bars import Bar
from schemas.intervals import Interval, LongBar

router = APIRouter(tags=["market data"])

_MOST: Final = 5_000
END_OF_TIME_MS: Final = 1 << 53
_IST: Final = timezone(timedelta(hours=5, minutes=30))
_DIGITS: Final = re.compile(r"-?\d{1,18}", re.ASCII)
#: A `+` that was not encoded arrives as a space.
_LOST_PLUS: Final = re.compile(r"(T\S+) (\d\d:?\d\d)$")
_SECONDS_BELOW: Final = 100_000_000_000


class Candles(BaseModel):
    """Bars in ascending order, the highest revision of each. Those of more than a minute say what they are made of."""

    instrument: str
    interval: Interval
    candles: list[LongBar] | list[Bar]
    next: int | None = Field(
        description="There is more: the `from` of the following page, or the `to` of the preceding one where the "
        "request had no `from`"
    )
    warning: str | None = Field(description="Why older bars may be missing; null: nothing is")


def instant(text: str | None, field: str) -> int | None:
    """Epoch ms from what people write: epoch ms or ISO-8601; without an offset it means Indian time."""
    if text is None:
        return None
    text = text.strip()
    try:
        value = int(text) if _DIGITS.fullmatch(text) else _iso_ms(text)
    except (ValueError, OverflowError):
        raise Problem.field(422, field, f"{text[:40]!r} is neither epoch milliseconds nor an ISO-8601 time") from None
    if 0 < value < _SECONDS_BELOW:
        raise Problem.field(422, field, f"{text[:40]!r} is before 1973: epoch times are in milliseconds here")
    if not 0 <= value <= END_OF_TIME_MS:
        raise Problem.field(422, field, f"{text[:40]!r} is no time that a bar can have")
    return value


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=_IST)).timestamp() * 1000)


@router.get(
    "/candles",
    summary="Bars",
    response_model=Candles,
    responses=problems.responses(404, 422, 503),
)
async def candles(
    here: Here,
    instrument: Annotated[str, Query(description="Instrument key", examples=["NSE_INDEX|Nifty 50"])],
    from_: Annotated[
        str | None,
        Query(alias="from", description="First start of a bar: ISO-8601 (Indian time if unsaid) or epoch ms"),
    ] = None,
    to: Annotated[str | None, Query(description="Bars that start before this; same forms")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most bars in one answer")] = 500,
    interval: Annotated[
        Interval,
        Query(
            description="How long a bar is",
            openapi_examples={
                "five minutes": {"value": "5m"},
                "an hour": {"value": "60m", "summary": "From the start of the session: 09:15, 10:15 and so on"},
                "a day": {"value": "1d", "summary": "Opening match and closing auction included"},
            },
        ),
    ] = Interval.M1,
) -> Response:
    """With `from`: the first `limit` bars from there on. Without: the last `limit` bars, up to `to` or now.

    Longer bars are folded from one-minute bars, counted from the start of the session; only those that have ended are
    told. A page may hold fewer than `limit` of them while `next` says that there is more.

    Bars of the last hours come from Redis, older ones from Postgres. While Postgres is away the former are served, and
    `warning` (also the `Warning` header) says what is missing.
    """
    if not well_formed(instrument):
        raise Problem.field(422, "query.instrument", f"{instrument[:80]!r} is not of the form SEGMENT|id")
    from_ms, to_ms = instant(from_, "query.from"), instant(to, "query.to")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise Problem.field(422, "query.to", "`to` is not after `from`")
    span = Span(from_ms or 0, END_OF_TIME_MS if to_ms is None else to_ms, limit, last=from_ms is None)
    if interval is Interval.M1:
        found = await here.history.find(instrument, span)
    else:
        found = await here.longer.find(instrument, interval, span)
    if not found.bars and not found.warning and await here.directory.unknown([instrument]):
        message = f"there is no instrument {instrument}"
        raise Problem.field(404, "query.instrument", message, kind="unknown-instrument")
    head = {"instrument": instrument, "interval": interval, "next": found.next_ms, "warning": found.warning or None}
    body = b'%b,"candles":[%b]}' % (orjson.dumps(head)[:-1], b",".join(found.bars))
    warning = found.warning.encode("ascii", "replace").decode().replace('"', "'").replace("\n", " ")
    headers = {"Warning": f'199 teji "{warning}"'} if warning else None
    return Response(body, media_type="application/json", headers=headers)
