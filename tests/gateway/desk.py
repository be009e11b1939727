"""An order worker at the seam where the gateway meets it: reads `commands`, keeps the books, replies.

It decides nothing: a test says what it answers. The real one is tested by tests/gtt and end to end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.tasks import end
from schemas import streams
from schemas.commands import ORDER_COMMAND, OrderCommand
from schemas.events import Event, EventKind
from schemas.gtt import Engine, Gtt, GttBody, Leg, RuleState, RuleStatus
from schemas.orders import Order, OrderStatus, OrderType, Product, Side, TradingMode, gtt_id_of, order_id_of
from schemas.replies import Decision
from tests.gateway.house import CALL, House

TS = 1_795_578_300_125

Decide = Callable[[str, OrderCommand], Decision | None]


@dataclass
class Desk:
    """What it was asked, in order."""

    commands: list[tuple[dict[str, str], OrderCommand]] = field(default_factory=list)


@asynccontextmanager
async def desk(house: House, decide: Decide) -> AsyncIterator[Desk]:
    """Answers each command with what `decide` makes of it; None: no answer."""
    seen = Desk()

    async def work() -> None:
        last = "0"
        while True:
            for _, entries in await house.bus.redis.xread({streams.COMMANDS: last}, block=50):
                for identity, raw in entries:
                    last = identity.decode()
                    fields = {name.decode(): value.decode() for name, value in raw.items()}
                    command = ORDER_COMMAND.validate_json(fields["data"])
                    seen.commands.append((fields, command))
                    decision = decide(fields["id"], command)
                    if decision is not None:
                        await tell(house, decision)

    task = asyncio.create_task(work())
    try:
        yield seen
    finally:
        await end([task])
        if not task.cancelled():
            task.result()  # whatever went wrong in it


async def tell(house: House, decision: Decision) -> None:
    """Books, stream and reply, at once, as the worker does."""
    async with house.bus.redis.pipeline(transaction=True) as tx:
        for order in decision.orders:
            tx.hset(streams.BOOK_ORDERS, order.order_id, order.model_dump_json())
            tx.xadd(streams.ORDERS, {"id": order.order_id, "kind": "order", "data": order.model_dump_json()})
        for gtt in decision.gtts:
            tx.hset(streams.BOOK_GTTS, gtt.gtt_order_id, gtt.model_dump_json())
            tx.xadd(streams.ORDERS, {"id": gtt.gtt_order_id, "kind": "gtt", "data": gtt.model_dump_json()})
        data = decision.model_dump(mode="json")
        event = Event(kind=EventKind.REPLY, ts=TS, worker="gtt", message=decision.reason or "done", data=data)
        tx.xadd(streams.EVENTS, {"kind": event.kind.value, "data": event.model_dump_json()})
        await tx.execute()


def an_order(name: str, **more: Any) -> Order:
    basics: dict[str, Any] = {
        "order_id": order_id_of(name),
        "intent_id": name,
        "instrument": CALL,
        "side": Side.BUY,
        "quantity": 75,
        "price": "101.5",
        "order_type": OrderType.LIMIT,
        "product": Product.INTRADAY,
        "status": OrderStatus.OPEN,
        "mode": TradingMode.PAPER,
        "venue": "paper",
        "created_ts": TS,
        "ts": TS,
    }
    return Order(**{**basics, **more})


def a_gtt(name: str, body: GttBody, **more: Any) -> Gtt:
    """As it stands right after its acceptance."""
    rules = tuple(
        RuleState(
            **rule.model_dump(),
            status=RuleStatus.SCHEDULED if rule.strategy is Leg.ENTRY else RuleStatus.INACTIVE,
            transaction_type=body.transaction_type if rule.strategy is Leg.ENTRY else body.transaction_type.other,
        )
        for rule in body.rules
    )
    same = {field: getattr(body, field) for field in ("type", "quantity", "product", "transaction_type")}
    basics: dict[str, Any] = {
        **same,
        "gtt_order_id": gtt_id_of(name),
        "exchange": "NSE_FO",
        "instrument_token": body.instrument_token,
        "instrument": body.instrument_token,
        "created_at": TS * 1000,
        "expires_at": TS * 1000 + 1,
        "rules": rules,
        "intent_id": name,
        "mode": body.mode or TradingMode.PAPER,
        "engine": Engine.OURS,
        "strategy": body.strategy,
        "live": True,
        "ts": TS,
    }
    return Gtt(**{**basics, **more})


async def commands_written(house: House) -> int:
    return int(await house.bus.redis.xlen(streams.COMMANDS))


async def put(house: House, book: str, identity: str, value: object) -> None:
    await house.bus.redis.hset(book, identity, orjson.dumps(value))
