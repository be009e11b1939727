"""What is held, what it is worth, and how much of every limit is used: `/positions`, `/holdings`, `/funds`, `/pnl`,
`/risk`. Each trading mode is an account of its own."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway import books, examples, problems
from gateway.access import OWN_ADDRESS, MayChange
from gateway.books import Row
from gateway.commands import NoAnswerYet
from gateway.context import Here
from gateway.routes.quotes import stored
from gateway.trading import RESPONSES, IdempotencyKey, decided, json, refuse_unknown, undecided
from schemas import streams
from schemas.accounts import AccountFunds, BudgetWindow, Holding
from schemas.commands import PositionExit
from schemas.keys import InstrumentKey
from schemas.orders import Order, Position, Product, TradingMode

router = APIRouter(tags=["portfolio"], dependencies=[OWN_ADDRESS])

_READ: Final = problems.responses(403, 422, 503)


class ExitAnswer(BaseModel):
    """The positions that are being closed. Their orders leave once those that rested on them are cancelled: they are
    told on `stream/orders`, and here as far as they were there already."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "success",
                "data": {"order_ids": []},
                "command": examples.COMMAND,
                "orders": [],
                "positions": [examples.POSITION],
            }
        }
    )

    status: Literal["success"]
    data: dict[str, list[str]]
    command: str
    orders: list[Order]
    positions: list[Position]


class HeldHolding(Holding):
    mode: TradingMode
    pnl: float | None = Field(description="Against the average price, at the last one; null: no price is known")


class FundsView(AccountFunds):
    mode: TradingMode
    venue: str


class PositionPnl(BaseModel):
    instrument: str
    product: Product
    quantity: int
    realised: float
    unrealised: float | None
    charges: float


class Pnl(BaseModel):
    """Rupees, of the day."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "mode": "paper",
                "day": "2026-11-20",
                "realised": 1250.0,
                "unrealised": -310.5,
                "charges": 84.12,
                "net": 855.38,
                "equity": 1000855.38,
                "capital": 1000000.0,
                "drawdown": 0.0012,
                "positions": [],
            }
        }
    )

    mode: TradingMode
    day: str = Field(description="Trading date")
    realised: float = Field(description="Before charges")
    unrealised: float
    charges: float
    net: float
    equity: float
    capital: float
    drawdown: float = Field(description="Since the highest equity, as a part of it")
    positions: list[PositionPnl]


class LimitUse(BaseModel):
    """A limit and how far it is used. At 1 it holds entries back, or halts."""

    limit: Literal["day loss", "drawdown", "trades", "largest position"]
    most: float
    used: float
    unit: Literal["rupees", "share", "count"]
    part: float = Field(description="Of the limit that is used, 0 to 1 and beyond")


class Risk(BaseModel):
    """An account against its limits."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "mode": "paper",
                "venue": "paper",
                "day": "2026-11-20",
                "halted": "",
                "reconciling": False,
                "connected": True,
                "unknown": 0,
                "limits": [
                    {"limit": "day loss", "most": 50000.0, "used": 310.5, "unit": "rupees", "part": 0.0062},
                    {"limit": "trades", "most": 50, "used": 3, "unit": "count", "part": 0.06},
                ],
                "budget": [{"seconds": 1.0, "most": 8, "used": 1, "remaining": 7}],
                "ts": 1795578300131,
            }
        }
    )

    mode: TradingMode
    venue: str
    day: str
    halted: str = Field(description="Why; empty: it is not")
    reconciling: bool = Field(description="The books are being compared: only what reduces risk passes")
    connected: bool = Field(description="The venue tells of changes by itself")
    unknown: int = Field(description="Orders whose fate is being asked about")
    limits: list[LimitUse]
    budget: list[BudgetWindow] = Field(description="Order writes of all kinds, by window")
    ts: int


Mode = Annotated[TradingMode | None, Query(description="One account; all without it")]


@router.get(
    "/positions",
    summary="Positions",
    response_model=list[Position],
    responses={**_READ, **examples.told([examples.POSITION])},
)
@router.get("/positions/", include_in_schema=False)
async def positions(
    here: Here,
    mode: Mode = None,
    instrument: InstrumentKey | None = None,
    open_: Annotated[bool | None, Query(alias="open", description="Only those with a quantity, or without")] = None,
) -> Response:
    """Those that are open, and those that were closed today; profit at the last price that is known."""
    same = books.matching(mode=mode, instrument=instrument)

    def keep(row: Row) -> bool:
        return same(row) and (open_ is None or open_ == bool(row["quantity"]))

    return json(await books.rows(here, streams.BOOK_POSITIONS, keep))


@router.post("/positions/exit", summary="Close positions", response_model=ExitAnswer, responses=RESPONSES)
async def close(
    here: Here,
    caller: MayChange,
    body: Annotated[
        PositionExit | None,
        Body(
            openapi_examples={
                "one": {"value": {"instrument_token": "NSE_FO|61755"}},
                "all of an account": {"value": {"mode": "paper"}},
                "all of a strategy": {"value": {"strategy": "ema_cross"}},
            }
        ),
    ] = None,
    key: IdempotencyKey = None,
) -> Response:
    """Cancels the orders and GTTs on them first. All that the filters leave; without any, everything."""
    command = body or PositionExit()
    wanted = command.instrument_token
    # What is held may have left the venue's list.
    if wanted is not None and not await books.rows(here, streams.BOOK_POSITIONS, books.matching(instrument=wanted)):
        await refuse_unknown(here, wanted, "body.instrument_token")
    decision = await decided(here, caller, command, key)
    if isinstance(decision, NoAnswerYet):
        return undecided(decision)
    orders = [order.model_dump(mode="json") for order in decision.orders]
    return json(
        {
            "status": "success",
            "data": {"order_ids": [order["order_id"] for order in orders]},
            "command": decision.command,
            "orders": orders,
            "positions": [position.model_dump(mode="json") for position in decision.positions],
        }
    )


@router.get(
    "/holdings",
    summary="Holdings",
    response_model=list[HeldHolding],
    responses={**_READ, **examples.told([examples.HOLDING])},
)
@router.get("/holdings/", include_in_schema=False)
async def holdings(here: Here, mode: Mode = None) -> Response:
    """Shares that are kept over night, as each venue tells them, at the last price we know."""
    held = [
        {**holding, "mode": row["mode"]}
        for row in await books.accounts(here, mode)
        for holding in row.get("holdings") or ()
    ]
    quotes = await stored(here.bus, here.settings.teji_shards, dict.fromkeys(one["instrument"] for one in held))
    return json([_priced(one, quotes.get(one["instrument"])) for one in held])


def _priced(holding: Row, quote: bytes | None) -> Row:
    ltp = None if quote is None else orjson.loads(quote).get("ltp")
    last = holding.get("last_price") if ltp is None else ltp
    pnl = None if last is None else round((last - holding["average_price"]) * holding["quantity"], 2)
    return {**holding, "last_price": last, "pnl": pnl}


@router.get(
    "/funds", summary="Funds", response_model=list[FundsView], responses={**_READ, **examples.told([examples.FUNDS])}
)
@router.get("/funds/", include_in_schema=False)
async def funds(here: Here, mode: Mode = None) -> Response:
    """What each account can still spend, as its venue tells it."""
    told = [row for row in await books.accounts(here, mode) if row.get("funds")]
    return json([{**row["funds"], "mode": row["mode"], "venue": row["venue"]} for row in told])


@router.get("/pnl", summary="Profit and loss", response_model=list[Pnl], responses=_READ)
@router.get("/pnl/", include_in_schema=False)
async def pnl(here: Here, mode: Mode = None) -> Response:
    """Of the day, by account and position, charges included."""
    held = await books.rows(here, streams.BOOK_POSITIONS, books.matching(mode=mode))
    return json([_pnl(row, held) for row in await books.accounts(here, mode)])


def _pnl(account: Row, held: list[Row]) -> Row:
    same = ("mode", "day", "realised", "unrealised", "charges", "equity", "capital", "drawdown")
    mine = [row for row in held if row["mode"] == account["mode"]]
    fields = ("instrument", "product", "quantity", "realised", "unrealised", "charges")
    return {
        **{name: account[name] for name in same},
        "net": account["day_pnl"],
        "positions": [{name: row[name] for name in fields} for row in mine],
    }


@router.get("/risk", summary="Limits and what is left of them", response_model=list[Risk], responses=_READ)
@router.get("/risk/", include_in_schema=False)
async def risk(here: Here, mode: Mode = None) -> Response:
    """By account: every limit and its use, the order budget of the three windows, halt, reconciling."""
    held = await books.rows(here, streams.BOOK_POSITIONS, books.matching(mode=mode))
    return json([_risk(row, held) for row in await books.accounts(here, mode)])


def _risk(account: Row, held: list[Row]) -> Row:
    same = ("mode", "venue", "day", "halted", "reconciling", "connected", "unknown", "budget", "ts")
    return {**{name: account[name] for name in same}, "limits": list(_uses(account, held))}


def _uses(account: Row, held: list[Row]) -> Iterator[Row]:
    limits: dict[str, Any] | None = account.get("limits")
    if limits is None:
        return
    capital = account["capital"]
    largest = max((_value(row) for row in held if row["mode"] == account["mode"]), default=0.0)
    yield _use("day loss", limits["day_loss"] * capital, max(0.0, -account["day_pnl"]), "rupees")
    yield _use("drawdown", limits["drawdown"], account["drawdown"], "share")
    yield _use("trades", limits["trades"], account["trades"], "count")
    yield _use("largest position", limits["position"] * capital, largest, "rupees")


def _use(limit: str, most: float, used: float, unit: str) -> Row:
    part = used / most if most else float(used > 0)
    return {"limit": limit, "most": round(most, 4), "used": round(used, 4), "unit": unit, "part": round(part, 4)}


def _value(position: Row) -> float:
    price = position["last_price"] if position["last_price"] is not None else position["average_price"]
    return float(abs(position["quantity"]) * price)
