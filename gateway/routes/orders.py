"""`/orders/...`: to the order worker and back. The book of today comes from Redis, earlier days from the journal."""

import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway import books, examples, oldorders, problems
from gateway.access import OWN_ADDRESS, MayChange
from gateway.commands import NoAnswerYet
from gateway.context import Here
from gateway.problems import Problem
from gateway.trading import RESPONSES, IdempotencyKey, decided, json, refuse_unknown, undecided
from schemas import streams
from schemas.commands import OrderCancel, OrderCancelAll, OrderCommand, OrderModify, OrderPlace
from schemas.errors import Unavailable
from schemas.gtt import Gtt
from schemas.keys import InstrumentKey, OrderId, StrategyOrNobody
from schemas.orders import FINAL, Fill, Order, OrderStatus, TradingMode

router = APIRouter(tags=["orders"], dependencies=[OWN_ADDRESS])

_DONE: Final = frozenset(status.value for status in FINAL)


class OrderIds(BaseModel):
    order_ids: list[str]


class OrderAnswer(BaseModel):
    """The venue's form, and beside it the orders as they stand now: several where one was cut into slices."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "success",
                "data": {"order_ids": [examples.ORDER["order_id"]]},
                "command": examples.COMMAND,
                "order": examples.ORDER,
                "orders": [examples.ORDER],
                "gtts": [],
            }
        }
    )

    status: Literal["success"]
    data: OrderIds
    command: str
    order: Order | None = Field(description="The first of them")
    orders: list[Order]
    gtts: list[Gtt] = Field(description="Of a call that cancels all: GTTs that are cancelled too")


class OrderToCancel(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"order_id": examples.ORDER["order_id"]}})

    order_id: OrderId


class Those(BaseModel):
    """A filter that is misspelt is refused: it would leave all."""

    model_config = ConfigDict(extra="forbid")

    mode: TradingMode | None = None
    instrument: InstrumentKey | None = None
    strategy: StrategyOrNobody | None = Field(None, description="The empty name: those of people")


class OrderHistory(Order):
    """An order as it stands, and what is written about it in the journal, oldest first."""

    warning: str | None = Field(None, description="Why the history is missing; null: it is not")
    history: list[dict[str, Any]] = Field(
        description="Facts: `n`, `ts` (epoch ms), `kind` (approved with its checks, sending, answered, seen, filled …) "
        "and what belongs to each",
    )


async def _orders(here: Here, caller: MayChange, command: OrderCommand, key: str | None) -> Response:
    decision = await decided(here, caller, command, key)
    if isinstance(decision, NoAnswerYet):
        return undecided(decision)
    found = [order.model_dump(mode="json") for order in decision.orders]
    return json(
        {
            "status": "success",
            "data": {"order_ids": [order["order_id"] for order in found]},
            "command": decision.command,
            "order": found[0] if found else None,
            "orders": found,
            "gtts": [gtt.model_dump(mode="json") for gtt in decision.gtts],
        }
    )


@router.post("/orders/place", summary="Place an order", response_model=OrderAnswer, responses=RESPONSES)
async def place(
    here: Here,
    caller: MayChange,
    body: Annotated[
        OrderPlace,
        Body(
            openapi_examples={
                "limit": {"value": examples.PLACE},
                "market": {
                    "summary": "Becomes a limit order around the last price, so many percent; -1: automatic",
                    "value": {**examples.PLACE, "order_type": "MARKET", "price": 0, "market_protection": -1},
                },
                "stop": {
                    "value": {
                        **examples.PLACE,
                        "transaction_type": "SELL",
                        "order_type": "SL",
                        "price": 94,
                        "trigger_price": 95,
                    }
                },
            }
        ),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """Checked, written down, sent; the answer is how it stands then, as a rule at the venue.

    Where no answer of the venue came, the status is `unknown`: it is being asked about, and will not be sent twice.
    """
    await refuse_unknown(here, body.instrument_token, "body.instrument_token")
    return await _orders(here, caller, body, key)


@router.put("/orders/modify", summary="Change an order", response_model=OrderAnswer, responses=RESPONSES)
async def modify(
    here: Here,
    caller: MayChange,
    body: Annotated[
        OrderModify,
        Body(openapi_examples={"another price": {"value": {"order_id": examples.ORDER["order_id"], "price": 102.25}}}),
    ],
    key: IdempotencyKey = None,
) -> Response:
    """What is left out stays as it is."""
    return await _orders(here, caller, body, key)


@router.delete("/orders/cancel", summary="Cancel an order", response_model=OrderAnswer, responses=RESPONSES)
async def cancel(
    here: Here,
    caller: MayChange,
    body: OrderToCancel | None = None,
    order_id: Annotated[
        OrderId | None, Query(description="As at the venue", examples=[examples.ORDER["order_id"]])
    ] = None,
    key: IdempotencyKey = None,
) -> Response:
    """By the query, as at the venue, or by a JSON body."""
    wanted = body.order_id if body is not None else order_id
    if wanted is None:
        raise Problem.field(422, "query.order_id", "neither body nor query name an order_id")
    if order_id is not None and order_id != wanted:
        raise Problem.field(422, "query.order_id", "body and query name different orders")
    return await _orders(here, caller, OrderCancel(order_id=wanted), key)


@router.delete("/orders", summary="Cancel all orders and GTTs", response_model=OrderAnswer, responses=RESPONSES)
@router.delete("/orders/", include_in_schema=False)
async def cancel_all(
    here: Here, caller: MayChange, those: Annotated[Those, Query()], key: IdempotencyKey = None
) -> Response:
    """All that the filters leave; all there are without any. Positions stay: `POST /positions/exit` closes them."""
    if those.instrument is not None:
        await refuse_unknown(here, those.instrument, "query.instrument")
    command = OrderCancelAll(mode=those.mode, instrument_token=those.instrument, strategy=those.strategy)
    return await _orders(here, caller, command, key)


Day = Annotated[
    datetime.date | None,
    Query(description="From the journal, as the day ended; without it the book of today", examples=["2026-11-20"]),
]


@router.get(
    "/orders/",
    summary="Orders",
    response_model=list[Order],
    responses={**problems.responses(403, 422, 503), **examples.told([examples.ORDER])},
)
@router.get("/orders", include_in_schema=False)
async def book(
    here: Here,
    mode: TradingMode | None = None,
    instrument: InstrumentKey | None = None,
    strategy: StrategyOrNobody | None = None,
    status: OrderStatus | None = None,
    live: Annotated[bool | None, Query(description="Only those that may still be filled, or only the others")] = None,
    date: Day = None,
) -> Response:
    """All that are not final, and those of today; oldest first."""
    same = books.matching(mode=mode, instrument=instrument, strategy=strategy, status=status)

    def keep(row: books.Row) -> bool:
        return same(row) and (live is None or live == (row["status"] not in _DONE))

    if date is None:
        return json(await books.rows(here, streams.BOOK_ORDERS, keep))
    return json([row for row in await here.journal.orders(date) if keep(row)])


@router.get(
    "/orders/{order_id}",
    summary="One order and its history",
    response_model=OrderHistory,
    responses={
        **problems.responses(403, 404, 422, 503),
        **examples.told({**examples.ORDER, "warning": None, "history": examples.HISTORY}),
    },
)
async def one(here: Here, order_id: str) -> Response:
    """By our id, or, today, by the venue's: the intent, the checks, every request, answer, state and fill."""
    found = await books.one(here, streams.BOOK_ORDERS, order_id, "venue_order_id")
    history, warning = [], None
    try:
        history = await here.journal.of_order(order_id if found is None else found["order_id"])
    except Unavailable as error:
        if found is None:
            raise
        warning = f"the journal cannot be read: {error}"
    if found is None:
        found = next((row for row in oldorders.orders(history) if row["order_id"] == order_id), None)
    if found is None:
        raise Problem.field(404, "path.order_id", f"there is no order {order_id[:64]}", kind="unknown-id")
    return json({**found, "warning": warning, "history": history})


@router.get(
    "/trades",
    summary="Fills",
    response_model=list[Fill],
    responses={**problems.responses(403, 422, 503), **examples.told([examples.FILL])},
)
async def trades(
    here: Here,
    mode: TradingMode | None = None,
    instrument: InstrumentKey | None = None,
    strategy: StrategyOrNobody | None = None,
    order_id: OrderId | None = None,
    date: Day = None,
) -> Response:
    """What was bought and sold, with the charges of each; oldest first."""
    keep = books.matching(mode=mode, instrument=instrument, strategy=strategy, order_id=order_id)
    if date is None:
        return json(await books.rows(here, streams.BOOK_FILLS, keep))
    return json([fill for fill in await here.journal.fills(date) if keep(fill)])
