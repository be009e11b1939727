"""Ask the order worker, and make what it decided the answer of a call."""

from typing import Annotated, Any, Final

import orjson
from fastapi import Header
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway import problems
from gateway.access import Caller
from gateway.commands import NoAnswerYet, ask
from gateway.context import Gateway
from gateway.problems import Problem
from schemas.commands import OrderCommand
from schemas.replies import UNKNOWN_ID, Decision

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Same key, same answer, one order; kept for a day",
    ),
]


class Undecided(BaseModel):
    """No decision yet. The command stands, and will be decided once: look before asking again."""

    command: str = Field(description="The command's id", examples=["0190f1c2a7b37c3e9f2d5a6b7c8d9e0f"])
    look: str = Field(
        description="SSE stream that begins just before the command; its decision is an `event` of kind `reply`",
        examples=["/api/v1/stream/events?last_event_id=1769744700123-0"],
    )


#: What every call that the order worker decides may answer beside 200.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Undecided, "description": "Written down, not decided within five seconds: `Location` says where"},
    **problems.responses(403, 404, 409, 415, 422, 503),
}


async def decided(here: Gateway, caller: Caller, command: OrderCommand, key: str | None) -> Decision | NoAnswerYet:
    """What the worker decided, if that was yes. Raises Problem where it was no."""
    decision = await asked(here, caller, command, key)
    if isinstance(decision, Decision) and not decision.ok:
        raise _refused(decision)
    return decision


async def asked(here: Gateway, caller: Caller, command: OrderCommand, key: str | None) -> Decision | NoAnswerYet:
    """The same, with a no among the decisions."""
    answer = await ask(here, command, caller.name, key, answers=1)
    if isinstance(answer, NoAnswerYet):
        return answer
    (event,) = answer.replies
    return Decision.model_validate(event["data"])


def _refused(decision: Decision) -> Problem:
    reason = decision.reason or "the order worker refused"
    if decision.rule == UNKNOWN_ID:
        return Problem(404, reason, kind="unknown-id", rule=decision.rule)
    return Problem(409, reason, kind="refused", rule=decision.rule)


def undecided(waiting: NoAnswerYet) -> Response:
    """202: where the decision will be told."""
    body = {"command": waiting.command, "look": waiting.look}
    return Response(orjson.dumps(body), 202, {"Location": waiting.look}, "application/json")


def json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def refuse_unknown(here: Gateway, instrument: str, field: str) -> None:
    """There is no such instrument: nothing is written."""
    if await here.directory.unknown([instrument]):
        raise Problem.field(422, field, f"there is no instrument {instrument}", kind="unknown-instrument")
