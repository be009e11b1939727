"""The switches: `/trading` (halt, resume), `/strategies` (off, paper, shadow, live), and signals by hand."""

import hashlib
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bus import clock, halt, lease
from bus.connection import translated
from bus.inbox import Output
from gateway import books, examples, problems
from gateway.access import OWN_ADDRESS, Caller, MayChange
from gateway.commands import NoAnswerYet, once
from gateway.context import Gateway, Here
from gateway.positions import text_of
from gateway.problems import Problem
from gateway.trading import RESPONSES, IdempotencyKey, Undecided, asked, decided, json, refuse_unknown, undecided
from schemas import streams
from schemas.accounts import StrategyState
from schemas.commands import OrderCancelAll, OrderCommand, PositionExit, StrategySet
from schemas.errors import Unavailable
from schemas.keys import StrategyName
from schemas.orders import StrategyMode, TradingMode
from schemas.replies import Decision
from schemas.signals import Signal

router = APIRouter(tags=["trading"], dependencies=[OWN_ADDRESS])

_SWITCHED: Final = {**RESPONSES, **examples.told(examples.STRATEGY)}
_SIGNAL_S: Final = streams.RETENTION_MS[streams.SIGNALS] // 1000


class Halt(BaseModel):
    """A bare `SET halt why` has neither `by` nor `ts`."""

    why: str
    by: str = ""
    ts: int = Field(0, description="Since, epoch ms; 0: not told")


class Trading(BaseModel):
    """The main switch."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "mode": "paper",
                "venue": "sim",
                "halt": {"why": "news", "by": "api:127.0.0.1", "ts": 1795578300125},
                "worker": True,
                "accounts": ["paper", "shadow"],
            }
        }
    )

    mode: TradingMode = Field(description="The most that is allowed: no order goes beyond it")
    venue: str
    halt: Halt | None = Field(description="Null: trading is not halted")
    worker: bool = Field(description="An order worker is running")
    accounts: list[TradingMode] = Field(description="Those that it keeps")


class HaltOrder(BaseModel):
    """Only what reduces risk passes from then on."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(
        "by hand", min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$", description="Everybody sees it"
    )
    cancel: bool = Field(False, strict=True, description="And cancel all orders and GTTs")
    flatten: bool = Field(
        False, strict=True, description="And close all positions, after cancelling the orders on them"
    )


class Halted(BaseModel):
    """The halt is in force, whatever became of the rest."""

    model_config = ConfigDict(json_schema_extra={"example": {"halt": examples.HALT, "cancel": None, "flatten": None}})

    halt: Halt
    cancel: dict[str, Any] | None = Field(None, description="What the order worker decided; null: not asked for")
    flatten: dict[str, Any] | None = Field(None, description="What the order worker decided; null: not asked for")


class Resumed(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"resumed": True}})

    resumed: bool = Field(description="False: there was no halt")


class StrategyMove(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"mode": "shadow"}})

    mode: StrategyMode


class Activation(BaseModel):
    """To trade real money it takes that word."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"mode": "paper"}})

    mode: TradingMode = TradingMode.PAPER


class Published(BaseModel):
    """The signal is on its stream. What becomes of it the order worker says on `stream/orders`, under its intent."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": examples.SIGNAL["id"],
                "intent_id": f"signal:{examples.SIGNAL['id']}",
                "new": True,
                "look": "/api/v1/stream/orders?last_event_id=1795578300100-0",
            }
        }
    )

    id: str
    intent_id: str
    new: bool = Field(description="False: it was there before, and is one signal")
    look: str = Field(description="SSE stream that begins just before it")


# Halt


@router.get("/trading", summary="The main switch", response_model=Trading, responses=problems.responses(403, 503))
@router.get("/trading/", include_in_schema=False)
async def trading(here: Here) -> Response:
    """Mode, venue, whether trading is halted and why, whether an order worker is at work."""
    living = await lease.living(here.bus)
    kept = await books.accounts(here)
    told = {
        "mode": here.settings.teji_mode,
        "venue": here.settings.teji_venue,
        "halt": await _halt(here),
        "worker": any(name.partition(":")[0] == "gtt" for name in living),
        "accounts": [row["mode"] for row in kept],
    }
    return json(told)


async def _halt(here: Gateway) -> dict[str, Any] | None:
    value = await here.bus.get(streams.HALT)
    if value is None:
        return None
    try:
        held = orjson.loads(value)
    except orjson.JSONDecodeError:
        held = None
    if not isinstance(held, dict):
        return Halt(why=value.decode(errors="replace").strip() or "halted").model_dump()
    since = held.get("ts")
    return Halt(
        why=str(held.get("why") or "halted"), by=str(held.get("by") or ""), ts=since if isinstance(since, int) else 0
    ).model_dump()


@router.post(
    "/trading/halt",
    summary="Halt",
    response_model=Halted,
    responses={
        202: {"model": Halted, "description": "Halted; cancelling or closing is written down and not decided yet"},
        **problems.responses(403, 415, 422, 503),
    },
)
async def stop(
    here: Here,
    caller: MayChange,
    body: Annotated[
        HaltOrder | None,
        Body(
            openapi_examples={
                "halt": {"value": {"why": "news"}},
                "halt, cancel and close everything": {"value": {"why": "news", "cancel": True, "flatten": True}},
            }
        ),
    ] = None,
    key: IdempotencyKey = None,
) -> Response:
    """In force everywhere within a second. Orders that only reduce a position still pass."""
    wanted = body or HaltOrder()

    async def act() -> bytes:
        await halt.switch(here.bus, by=caller.name, why=wanted.why, worker="gateway")
        return orjson.dumps(await _halt(here))

    told: dict[str, Any] = {"halt": orjson.loads(await once(here, "halt", wanted, key, act))}
    commands: list[tuple[str, bool, OrderCommand]] = [
        ("cancel", wanted.cancel, OrderCancelAll()),
        ("flatten", wanted.flatten, PositionExit()),
    ]
    status = 200
    for name, is_wanted, command in commands:
        told[name] = await _ask_too(here, caller, command, key and f"{name}:{key}") if is_wanted else None
        status = 202 if told[name] is not None and "look" in told[name] else status
    return Response(orjson.dumps(told), status, media_type="application/json")


async def _ask_too(here: Gateway, caller: Caller, command: OrderCommand, key: str | None) -> dict[str, Any]:
    decision = await asked(here, caller, command, key)
    if isinstance(decision, NoAnswerYet):
        return Undecided(command=decision.command, look=decision.look).model_dump()
    return decision.model_dump(mode="json")


@router.post(
    "/trading/resume", summary="Resume", response_model=Resumed, responses=problems.responses(403, 415, 422, 503)
)
async def go_on(here: Here, caller: MayChange, key: IdempotencyKey = None) -> Response:
    """Ends a halt, also one that a limit made; a limit that is still broken halts again."""

    async def act() -> bytes:
        resumed = Resumed(resumed=await halt.switch(here.bus, by=caller.name, why=None, worker="gateway"))
        return resumed.model_dump_json().encode()

    return Response(await once(here, "resume", HaltOrder(), key, act), media_type="application/json")


# Strategies


@router.get(
    "/strategies",
    summary="Strategies",
    response_model=list[StrategyState],
    responses={**problems.responses(403, 503), **examples.told([examples.STRATEGY])},
)
@router.get("/strategies/", include_in_schema=False)
async def strategies(here: Here) -> Response:
    """Every strategy that is named in the settings, was switched, or has sent a signal."""
    found = await books.rows(here, streams.BOOK_STRATEGIES)
    return json(sorted(found, key=lambda row: str(row["strategy"])))


@router.put("/strategies/{name}", summary="Switch a strategy", response_model=StrategyState, responses=_SWITCHED)
async def switch(
    here: Here, caller: MayChange, name: StrategyName, body: StrategyMove, key: IdempotencyKey = None
) -> Response:
    """Where its signals go from now on: `off`, `paper`, `shadow`, `live`; not beyond the mode of it all."""
    return await _switch(here, caller, StrategySet(strategy=name, mode=body.mode), key)


@router.post(
    "/strategies/{name}/activate", summary="Switch a strategy on", response_model=StrategyState, responses=_SWITCHED
)
async def activate(
    here: Here, caller: MayChange, name: StrategyName, body: Activation | None = None, key: IdempotencyKey = None
) -> Response:
    """To paper, unless the body names another mode."""
    mode = StrategyMode((body or Activation()).mode.value)
    return await _switch(here, caller, StrategySet(strategy=name, mode=mode), key)


@router.post(
    "/strategies/{name}/deactivate", summary="Switch a strategy off", response_model=StrategyState, responses=_SWITCHED
)
async def deactivate(here: Here, caller: MayChange, name: StrategyName, key: IdempotencyKey = None) -> Response:
    """Its signals are passed over; what it holds stays, with its stops."""
    return await _switch(here, caller, StrategySet(strategy=name, mode=StrategyMode.OFF), key)


async def _switch(here: Gateway, caller: Caller, command: StrategySet, key: str | None) -> Response:
    decision = await decided(here, caller, command, key)
    if isinstance(decision, NoAnswerYet):
        return undecided(decision)
    return json(_strategy(decision, command))


def _strategy(decision: Decision, command: StrategySet) -> dict[str, Any]:
    state = decision.strategy or StrategyState(strategy=command.strategy, mode=command.mode, effective=command.mode)
    return state.model_dump(mode="json")


# Signals


@router.post(
    "/signals",
    summary="Publish a signal",
    response_model=Published,
    responses=problems.responses(403, 415, 422, 503),
)
async def publish(
    here: Here,
    caller: MayChange,
    body: Annotated[
        Signal,
        Body(
            openapi_examples={
                "buy": {"value": examples.SIGNAL},
            }
        ),
    ],
) -> Response:
    """As a strategy does: the order worker sizes and checks it, and places what comes of it in the strategy's mode.

    The same `id` is one signal however often it is sent; another signal under it is refused.
    """
    await refuse_unknown(here, body.instrument, "body.instrument")
    since = text_of(await here.tails["orders"].ends())
    new = await _publish(here, body, caller.name)
    look = f"/api/v1/stream/orders?last_event_id={since}"
    told = {"id": body.id, "intent_id": f"signal:{body.id}", "new": new, "look": look}
    return json(told)


async def _publish(here: Gateway, signal: Signal, by: str) -> bool:
    """Write it unless it is there. The name is in the slot of the stream: note and entry are one commit."""
    data = signal.model_dump_json()
    name = f"signal:{{{streams.SIGNALS}}}:{hashlib.sha256(signal.id.encode()).hexdigest()}"
    digest = hashlib.sha256(data.encode()).digest()
    with translated():
        if not await here.bus.redis.set(name, digest, nx=True, ex=_SIGNAL_S):
            held = await here.bus.redis.get(name)
            if held is None:
                raise Unavailable("the note of this signal has just expired")
            if held != digest:
                message = "this id was used for another signal: a new signal needs a new id"
                raise Problem.field(422, "body.id", message, kind="signal-id-reused")
    fields: dict[str, str | int] = {"id": signal.id, "strategy": signal.strategy, "instrument": signal.instrument}
    fields |= {"ts": signal.ts, "by": by, "data": data}
    once = (f"{name}:written", 1)
    written = await here.writer.write([Output(streams.SIGNALS, fields)], now_s=clock.monotonic_s(), sequence=once)
    with translated():
        await here.bus.redis.expire(once[0], _SIGNAL_S)
    return bool(written)
