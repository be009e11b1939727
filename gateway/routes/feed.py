"""`POST /feed/...`: a command to ingest, and the answer that ingest gave. `GET /feed`: how the feed is, in full."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header
from pydantic import BaseModel, Field
from starlette.responses import Response

from bus.connection import Bus, translated
from gateway import problems
from gateway.access import Caller, MayChange
from gateway.commands import Answer, ask
from gateway.context import Gateway, Here
from gateway.problems import Problem
from gateway.routes.health import FeedHealth, feeds
from schemas import streams
from schemas.commands import Command, FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe
from schemas.events import Missing

router = APIRouter(prefix="/feed", tags=["feed"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Same key, same answer, one command; kept for a day",
    ),
]


class Reply(BaseModel):
    """What ingest answered. Where several shards did, lists and counts are added up."""

    command: str = Field(description="The command's id", examples=["0190f1c2a7b37c3e9f2d5a6b7c8d9e0f"])
    message: str = Field(examples=["feed.subscribe done"])
    ts: int = Field(description="Epoch ms")
    data: dict[str, Any] = Field(examples=[{"ok": True, "subscribed": ["NSE_FO|61755"], "mode": "full"}])


class Accepted(BaseModel):
    """No answer yet. The command stands: its reply will be an event here."""

    command: str
    look: str = Field(
        description="SSE stream that begins just before the command; its reply is an `event` of kind `reply`"
    )


_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": Accepted, "description": "Written down, not answered within five seconds"},
    **problems.responses(403, 409, 415, 422, 503),
}


async def _command(here: Gateway, caller: Caller, command: Command, key: str | None) -> Response:
    answer = await ask(here, command, caller.name, key)
    if isinstance(answer, Answer):
        for event in answer.replies:
            if event["data"].get("ok") is False:
                raise Problem(409, str(event.get("message") or "the worker refused"), kind="refused")
        return Response(orjson.dumps(merged(answer)), media_type="application/json")
    body = {"command": answer.command, "look": answer.look}
    return Response(orjson.dumps(body), 202, {"Location": answer.look}, "application/json")


def merged(answer: Answer) -> dict[str, Any]:
    """The replies of all shards as one."""
    data: dict[str, Any] = {}
    for event in answer.replies:
        for name, value in event["data"].items():
            if name in ("command", "shard"):
                continue
            adds_up = isinstance(value, list | int) and not isinstance(value, bool)
            data[name] = data[name] + value if adds_up and name in data else data.get(name, value)
    first = answer.replies[0]
    return {"command": answer.command, "message": first.get("message", ""), "ts": first.get("ts", 0), "data": data}


class ShardFeed(BaseModel):
    """A shard's feed, as ingest told it last. Null: it has told nothing yet."""

    shard: int
    status: FeedHealth | None
    missing: Missing | None = Field(description="The instruments that the feed says nothing about, all of them")


@router.get("", summary="How the feed is", response_model=list[ShardFeed], responses=problems.responses(403, 503))
async def feed(here: Here) -> list[ShardFeed]:
    """The state of each shard's feed, its connections, and every instrument that should tick and does not: never
    seen since it was asked for, silent while its peers go on, or without room on the connections."""
    told = {each.shard: each for each in feeds(here)}
    return [
        ShardFeed(shard=shard, status=told.get(shard), missing=await _missing(here.bus, shard))
        for shard in range(here.settings.teji_shards)
    ]


async def _missing(bus: Bus, shard: int) -> Missing | None:
    with translated():
        fields = await bus.redis.hgetall(streams.missing(shard))
    return (
        Missing.model_validate({name.decode(): orjson.loads(value) for name, value in fields.items()})
        if fields
        else None
    )


@router.post("/connect", summary="Connect the feed", response_model=Reply, responses=_RESPONSES)
async def connect(here: Here, caller: MayChange, key: IdempotencyKey = None) -> Response:
    """Let ingest connect to the venue, after a disconnect or a login."""
    return await _command(here, caller, FeedConnect(), key)


@router.post("/disconnect", summary="Disconnect the feed", response_model=Reply, responses=_RESPONSES)
async def disconnect(here: Here, caller: MayChange, key: IdempotencyKey = None) -> Response:
    """Let ingest leave the venue until `connect`."""
    return await _command(here, caller, FeedDisconnect(), key)


@router.post("/subscribe", summary="Subscribe instruments", response_model=Reply, responses=_RESPONSES)
async def subscribe(here: Here, caller: MayChange, body: FeedSubscribe, key: IdempotencyKey = None) -> Response:
    """Add instruments to what is streamed, or change their mode."""
    await _refuse_unknown(here, body.instruments)
    return await _command(here, caller, body, key)


@router.post("/unsubscribe", summary="Unsubscribe instruments", response_model=Reply, responses=_RESPONSES)
async def unsubscribe(here: Here, caller: MayChange, body: FeedUnsubscribe, key: IdempotencyKey = None) -> Response:
    """Take instruments out of what is streamed."""
    return await _command(here, caller, body, key)


async def _refuse_unknown(here: Gateway, keys: list[str]) -> None:
    unknown = await here.directory.unknown(keys)
    if unknown:
        errors = [(f"body.instruments.{keys.index(key)}", f"there is no instrument {key}") for key in unknown]
        raise Problem(
            422, f"there is no instrument {', '.join(unknown[:10])}", kind="unknown-instrument", errors=errors
        )
