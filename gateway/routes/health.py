"""`GET /health`: what works, what does not, and how far behind the cold store is."""

import asyncio
import platform
from collections.abc import Awaitable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from bus import clock, lease, postgres
from bus.connection import translated
from gateway.context import Gateway, Here
from gateway.positions import of_entry
from schemas import streams
from schemas.errors import TejiError, Unavailable
from schemas.events import FeedState, FeedStatus

router = APIRouter(tags=["operation"])

Status = Literal["ok", "degraded", "down"]

_CHECK_S: Final = 2.0
_COLD_LAG_MS: Final = 30_000


class Part(BaseModel):
    """A server this process leans on."""

    ok: bool
    version: str = ""
    latency_ms: float | None = None
    error: str = ""


class FeedHealth(FeedStatus):
    """The last that ingest said of a shard's feed."""

    ts: int = Field(description="When it said so, epoch ms")


class WorkerHealth(BaseModel):
    name: str
    instance: str
    pid: int | None = None
    started: int | None = Field(default=None, description="Epoch ms")
    metrics: str = ""


class ColdHealth(BaseModel):
    """How much of a stream has yet to reach Postgres."""

    stream: str
    pending: int = Field(description="Entries read and not yet stored")
    lag_ms: int = Field(description="Age of the oldest entry not yet stored; 0: everything is")


class InstrumentsHealth(BaseModel):
    loaded: int = Field(description="Instruments in the venue's list; 0: not loaded")
    loaded_ms: int
    error: str = ""


class Health(BaseModel):
    """`ok`, `degraded` (something that matters does not work; `reasons` says what) or `down` (no Redis)."""

    status: Status
    reasons: list[str]
    version: str
    python: str
    now: int = Field(description="Epoch ms")
    started: int = Field(description="Epoch ms")
    redis: Part
    postgres: Part
    feed: list[FeedHealth]
    workers: list[WorkerHealth]
    cold: list[ColdHealth]
    instruments: InstrumentsHealth
    sse_clients: int


def own_version() -> str:
    try:
        return version("teji")
    except PackageNotFoundError:
        return "unpackaged"


async def _checked(check: Awaitable[str]) -> Part:
    started = clock.monotonic_s()
    try:
        async with asyncio.timeout(_CHECK_S):
            found = await check
    except TimeoutError:
        return Part(ok=False, error=f"no answer within {_CHECK_S:g} s")
    except TejiError as error:
        return Part(ok=False, error=str(error))
    return Part(ok=True, version=found, latency_ms=round((clock.monotonic_s() - started) * 1000, 2))


async def _postgres_version(here: Gateway) -> str:
    async with postgres.connection(here.pool, _CHECK_S / 2) as connection:
        return str(await connection.fetchval("SHOW server_version"))


async def _workers(here: Gateway) -> list[WorkerHealth]:
    living = await lease.living(here.bus)
    return [
        WorkerHealth(
            name=name.partition(":")[0],
            instance=name.partition(":")[2],
            pid=details.get("pid"),
            started=details.get("started"),
            metrics=details.get("metrics", ""),
        )
        for name, details in sorted(living.items())
    ]


async def cold_lag(here: Gateway, stream: str, now_ms: int) -> ColdHealth | None:
    """None where nothing has been read of the stream yet, and nothing is in it."""
    redis = here.bus.redis
    with translated():
        groups = await redis.xinfo_groups(stream) if await redis.exists(stream) else []
        found = [group for group in groups if group["name"] == b"cold"]
        if not found:
            return None
        pending = int(found[0]["pending"])
        oldest: Any = (await redis.xpending(stream, "cold"))["min"] if pending else None
        if oldest is None:
            unread = await redis.xrange(stream, min=b"(" + found[0]["last-delivered-id"], count=1)
            oldest = unread[0][0] if unread else None
    lag_ms = 0 if oldest is None else max(0, now_ms - of_entry(oldest).ms)
    return ColdHealth(stream=stream, pending=pending, lag_ms=lag_ms)


async def _cold(here: Gateway) -> list[ColdHealth]:
    shards = range(here.settings.teji_shards)
    now_ms = clock.now_ms()
    stored = (*map(streams.candles, shards), *map(streams.chain, shards), streams.EVENTS, streams.SIGNALS)
    found = [await cold_lag(here, stream, now_ms) for stream in stored]
    return [part for part in found if part is not None]


def feeds(here: Gateway) -> list[FeedHealth]:
    """What each shard's ingest said last."""
    found: list[FeedHealth] = []
    for _, (_, event) in sorted(here.events.feeds.items()):
        found.append(FeedHealth.model_validate({**event.get("data", {}), "ts": event.get("ts", 0)}))
    return found


def _complaints(health: Health, shards: int) -> list[str]:
    reasons: list[str] = []
    if not health.redis.ok:
        reasons.append(f"Redis: {health.redis.error}")
    if not health.postgres.ok:
        reasons.append(f"Postgres: {health.postgres.error}")
    working = {worker.name for worker in health.workers}
    if health.redis.ok:
        reasons += [f"no {name} is running" for name in ("ingest", "aggregator", "gtt") if name not in working]
        told = {feed.shard for feed in health.feed}
        reasons += [f"nothing is known of the feed of shard {shard}" for shard in range(shards) if shard not in told]
    for feed in health.feed:
        if feed.state not in (FeedState.LIVE, FeedState.CLOSED):
            reasons.append(f"the feed of shard {feed.shard} is {feed.state.value}: {feed.reason}".rstrip(": "))
        elif feed.state is FeedState.LIVE and (feed.never_seen.count or feed.silent.count or feed.no_room.count):
            reasons.append(f"the feed of shard {feed.shard} lacks instruments: {feed.reason}")
    reasons += [
        f"{c.stream} is {c.lag_ms / 1000:.0f} s behind in Postgres" for c in health.cold if c.lag_ms > _COLD_LAG_MS
    ]
    if health.instruments.error:
        reasons.append(f"instruments: {health.instruments.error}")
    return reasons


async def _look(here: Here) -> Health:
    redis, database = await asyncio.gather(_checked(here.bus.check()), _checked(_postgres_version(here)))
    workers: list[WorkerHealth] = []
    cold: list[ColdHealth] = []
    if redis.ok:
        try:
            async with asyncio.timeout(_CHECK_S):
                workers, cold = await _workers(here), await _cold(here)
        except (Unavailable, TimeoutError) as error:
            redis = Part(ok=False, error=str(error) or f"no answer within {_CHECK_S:g} s")
    directory = here.directory
    health = Health(
        status="ok",
        reasons=[],
        version=own_version(),
        python=platform.python_version(),
        now=clock.now_ms(),
        started=here.started_ms,
        redis=redis,
        postgres=database,
        feed=feeds(here),
        workers=workers,
        cold=cold,
        instruments=InstrumentsHealth(
            loaded=len(directory.universe or ()), loaded_ms=directory.loaded_ms, error=directory.why_not
        ),
        sse_clients=here.streams.open,
    )
    health.reasons = _complaints(health, here.settings.teji_shards)
    health.status = "down" if not redis.ok else "degraded" if health.reasons else "ok"
    return health


@router.get("/health", summary="What works", response_model=Health, responses={503: {"model": Health}})
async def health(found: Annotated[Health, Depends(_look)], response: Response) -> Health:
    """200 whenever Redis answers, with `status` telling `ok` from `degraded`; 503 and `down` when it does not."""
    response.headers["Cache-Control"] = "no-store"
    if found.status == "down":
        response.status_code = 503
    return found
