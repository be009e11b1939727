"""What the doctor says of the order worker."""

from typing import Any

from bus.connection import Bus
from schemas import streams
from schemas.gtt import GttBody
from schemas.orders import OrderStatus, TradingMode
from teji.doctor import trading
from teji.doctor.findings import Level
from teji.doctor.trading import Desk
from tests.gateway.desk import a_gtt, an_order
from tests.gateway.test_gtt import SEED
from tests.gateway.test_portfolio import an_account


def told(desk: Desk, running: int = 1) -> list[tuple[str, Level, str]]:
    return [(one.name, one.level, one.detail) for one in trading.judged(desk, running)]


def account(**more: Any) -> dict[str, Any]:
    return an_account(TradingMode.PAPER, **more).model_dump(mode="json")


def test_without_a_worker_there_is_nothing_to_say() -> None:
    assert told(Desk(), running=0) == []


def test_a_desk_that_nobody_has_fails() -> None:
    assert told(Desk()) == [("desk", Level.FAIL, "nobody has it: orders and triggers wait")]


def test_an_account_that_is_cut_off_or_compared_is_warned_of() -> None:
    fine, mute, busy = account(), account(connected=False), account(reconciling=True)
    levels = [level for _, level, _ in told(Desk("host-1", [fine, mute, busy]))]
    assert levels == [Level.OK, Level.OK, Level.WARN, Level.WARN]


async def test_it_reads_the_books_and_names_orders_of_unknown_fate(redis_url: str) -> None:
    lost = an_order("lost", status=OrderStatus.UNKNOWN)
    async with Bus.open(redis_url) as bus:
        assert await trading.look(bus) == Desk()
        await bus.redis.set(streams.lease("gtt", 0), "7:host-12-ab")
        for order in (lost, an_order("open")):
            await bus.redis.hset(streams.BOOK_ORDERS, order.order_id, order.model_dump_json())
        await bus.redis.hset(streams.BOOK_GTTS, "GTT-1", a_gtt("g", GttBody.model_validate(SEED)).model_dump_json())
        desk = await trading.look(bus)
    assert desk == Desk("host-12-ab", [], [lost.order_id], 1)
    assert told(desk) == [
        ("desk", Level.OK, "host-12-ab has it, 1 GTTs live"),
        ("orders", Level.WARN, f"nobody knows the fate of 1: {lost.order_id}"),
    ]
