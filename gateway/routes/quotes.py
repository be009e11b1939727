"""`GET /quotes`: the last state of instruments."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from bus.connection import Bus, translated
from gateway import problems
from gateway.context import Here
from gateway.problems import Problem
from schemas import streams
from schemas.quotes import Quote

router = APIRouter(tags=["market data"])

_MOST = 1_000


def split_keys(text: str, field: str, most: int) -> list[str]:
    """Comma-separated keys, each once, in the order given."""
    keys = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not keys:
        raise Problem.field(422, field, "names no instrument")
    if len(keys) > most:
        raise Problem.field(422, field, f"{len(keys)} instruments, {most} are the most")
    return keys


async def stored(bus: Bus, shards: int, keys: Iterable[str]) -> dict[str, bytes]:
    """The quotes there are, as JSON, by key."""
    wanted: dict[int, list[str]] = {}
    for key in keys:
        wanted.setdefault(streams.shard_of(key, shards), []).append(key)
    found: dict[str, bytes] = {}
    for shard, names in wanted.items():
        with translated():
            quotes = await bus.redis.hmget(streams.quotes(shard), names)
        found |= {name: quote for name, quote in zip(names, quotes, strict=True) if quote is not None}
    return found


@router.get(
    "/quotes",
    summary="Last quotes",
    response_model=list[Quote],
    responses=problems.responses(404, 422, 503),
)
async def quotes(
    here: Here,
    instruments: Annotated[
        str,
        Query(
            description="Instrument keys, comma-separated",
            openapi_examples={"two": {"value": "NSE_INDEX|Nifty 50,NSE_FO|61755"}},
        ),
    ],
) -> Response:
    """The last known state of each instrument that has been seen, at most a second old, in the order asked for."""
    keys = split_keys(instruments, "query.instruments", _MOST)
    unknown = await here.directory.unknown(keys)
    if unknown:
        message = f"there is no instrument {', '.join(unknown[:10])}"
        raise Problem.field(404, "query.instruments", message, kind="unknown-instrument")
    found = await stored(here.bus, here.settings.teji_shards, keys)
    body = b"[" + b",".join(found[key] for key in keys if key in found) + b"]"
    return Response(body, media_type="application/json")
