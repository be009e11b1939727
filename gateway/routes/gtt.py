"""`/gtt/...`: the venue's own GTT calls, answered in its form, whoever watches the triggers."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from gateway import books, examples, problems
from gateway.access import OWN_ADDRESS, MayChange
from gateway.commands import NoAnswerYet
from gateway.context import Here
from gateway.problems import Problem
from gateway.trading import RESPONSES, IdempotencyKey, decided, json, refuse_unknown, undecided
from schemas import streams
from schemas.commands import GttCancel, GttModify, GttPlace, OrderCommand
from schemas.gtt import Gtt, GttBody, GttChange
from schemas.keys import GttId, InstrumentKey, StrategyOrNobody
from schemas.orders import TradingMode

router = APIRouter(prefix="/gtt", tags=["GTT"], dependencies=[OWN_ADDRESS])


class GttIds(BaseModel):
    gtt_order_ids: list[str]


class GttAnswer(BaseModel):
    """The venue's answer, and beside it the GTT as it stands now."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "success",
                "data": {"gtt_order_ids": [examples.GTT["gtt_order_id"]]},
                "command": examples.COMMAND,
                "gtt": examples.GTT,
            }
        }
    )

    status: Literal["success"]
    data: GttIds
    command: str
    gtt: Gtt | None


class GttToCancel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"gtt_order_id": examples.GTT["gtt_order_id"]}}
    )

    gtt_order_id: GttId


async def _gtt(here: Here, caller: MayChange, command: OrderCommand, key: str | None) -> Response:
    decision = await decided(here, caller, command, key)
    if isinstance(decision, NoAnswerYet):
        return undecided(decision)
    found = [gtt.model_dump(mode="json") for gtt in decision.gtts]
    return json(
        {
            "status": "success",
            "data": {"gtt_order_ids": [gtt["gtt_order_id"] for gtt in found]},
            "command": decision.command,
            "gtt": found[0] if found else None,
        }
    )


@router.post("/place", summary="Place a GTT", response_model=GttAnswer, responses=RESPONSES)
async def place(
    here: Here,
    caller: MayChange,
    body: Annotated[
        GttBody,
        Body(
            openapi_examples={
                "entry, target and trailing stop": {"value": examples.GTT_BODY},
                "entry only": {"value": {**examples.GTT_BODY, "type": "SINGLE", "rules": examples.RULES[:1]}},
                "guard what is held": {
                    "summary": "Target and stop without an entry: only our engine can",
                    "value": {**examples.GTT_BODY, "rules": examples.RULES[1:]},
                },
            }
        ),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """The venue's own body. `mode`, `engine` and `strategy` are ours, and may be left out.

    Where the venue has GTTs it watches the prices; else we do, as for paper and shadow. `engine` says who, `note` why.
    """
    await refuse_unknown(here, body.instrument_token, "body.instrument_token")
    return await _gtt(here, caller, GttPlace(body=body), key)


@router.put("/modify", summary="Change a GTT", response_model=GttAnswer, responses=RESPONSES)
async def modify(
    here: Here,
    caller: MayChange,
    body: Annotated[
        GttChange,
        Body(
            openapi_examples={
                "another stop": {
                    "value": {
                        "gtt_order_id": examples.GTT["gtt_order_id"],
                        **{name: examples.GTT_BODY[name] for name in ("type", "quantity")},
                        "rules": [*examples.RULES[:2], {**examples.RULES[2], "trigger_price": 195}],
                    }
                }
            }
        ),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """The rules replace the old ones; a trailing gap has to be sent again. Instrument, side and product stay."""
    return await _gtt(here, caller, GttModify(body=body), key)


@router.delete("/cancel", summary="Cancel a GTT", response_model=GttAnswer, responses=RESPONSES)
async def cancel(
    here: Here,
    caller: MayChange,
    body: GttToCancel | None = None,
    gtt_order_id: Annotated[GttId | None, Query(description="For clients that send no body with DELETE")] = None,
    key: IdempotencyKey = None,
) -> Response:
    """By a JSON body, as at the venue, or by the query. What the entry has bought meanwhile stays, and unguarded."""
    wanted = body.gtt_order_id if body is not None else gtt_order_id
    if wanted is None:
        raise Problem.field(422, "query.gtt_order_id", "neither body nor query name a gtt_order_id")
    if gtt_order_id is not None and gtt_order_id != wanted:
        raise Problem.field(422, "query.gtt_order_id", "body and query name different GTTs")
    return await _gtt(here, caller, GttCancel(gtt_order_id=wanted), key)


@router.get(
    "/",
    summary="GTTs",
    response_model=list[Gtt],
    responses={**problems.responses(403, 422, 503), **examples.told([examples.GTT])},
)
@router.get("", include_in_schema=False)
async def listed(
    here: Here,
    live: Annotated[
        bool | None, Query(description="Only those of which something may still happen, or only others")
    ] = None,
    mode: TradingMode | None = None,
    instrument: InstrumentKey | None = None,
    strategy: StrategyOrNobody | None = None,
) -> Response:
    """All live ones, and those that ended today, oldest first."""
    keep = books.matching(live=live, mode=mode, instrument=instrument, strategy=strategy)
    return json(await books.rows(here, streams.BOOK_GTTS, keep))


@router.get(
    "/{gtt_order_id}",
    summary="One GTT",
    response_model=Gtt,
    responses={**problems.responses(403, 404, 422, 503), **examples.told(examples.GTT)},
)
async def one(here: Here, gtt_order_id: str) -> Response:
    """As it stands, or as it ended, however long ago. By our id, or by the venue's."""
    found = await books.one(here, streams.BOOK_GTTS, gtt_order_id, "venue_gtt_order_id")
    found = found or await here.journal.gtt(gtt_order_id)
    if found is None:
        raise Problem.field(404, "path.gtt_order_id", f"there is no GTT {gtt_order_id[:80]}", kind="unknown-id")
    return json(found)
