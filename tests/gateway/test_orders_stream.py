"""`stream/orders`: how everything stands, then what changes."""

from typing import Any

import orjson

from bus.connection import Bus
from bus.settings import Settings
from gateway.orderframes import Orders
from gateway.positions import ORIGIN
from schemas import streams
from schemas.gtt import GttBody
from schemas.orders import EntryKind, OrderStatus, TradingMode
from tests.gateway.desk import TS, a_gtt, an_order
from tests.gateway.house import CALL, FUTURE, listening, running
from tests.gateway.test_gtt import SEED
from tests.gateway.test_portfolio import a_position

DAY_MS = 86_400_000


def entry(kind: str, model: Any) -> dict[bytes, bytes]:
    return {b"id": b"1", b"kind": kind.encode(), b"data": model.model_dump_json().encode()}


def shown(codec: Orders, *wanted: str) -> list[tuple[str, str]]:
    told = []
    for one in codec.snapshot(wanted or None):
        kind, data = one.body.decode().split("\n")[:2]
        row = orjson.loads(data.removeprefix("data: "))
        told.append((kind.removeprefix("event: "), row.get("order_id") or row.get("gtt_order_id") or row["instrument"]))
    return told


def test_a_snapshot_is_the_last_state_of_each_orders_first() -> None:
    codec = Orders()
    first, second = an_order("1", ts=TS), an_order("2", ts=TS + 1, instrument=FUTURE)
    gtt = a_gtt("g", GttBody.model_validate(SEED))
    for kind, model in (
        ("position", a_position()),
        ("order", second),
        ("order", first),
        ("gtt", gtt),
        ("order", first.model_copy(update={"status": OrderStatus.COMPLETE})),
        ("position", a_position(mode=TradingMode.SHADOW)),
    ):
        codec.remember(ORIGIN, entry(kind, model))
    orders = [("order", first.order_id), ("order", second.order_id)]
    assert shown(codec) == [*orders, ("gtt", gtt.gtt_order_id), ("position", CALL), ("position", CALL)]
    assert shown(codec, FUTURE) == orders[1:]
    assert b'"status":"complete"' in codec.snapshot(None)[0].body


def test_what_ended_on_an_earlier_day_is_told_no_more() -> None:
    codec = Orders()
    over = [an_order("done", status=OrderStatus.CANCELLED), a_gtt("g", GttBody.model_validate(SEED), live=False)]
    for kind, model in (("order", over[0]), ("gtt", over[1]), ("position", a_position(quantity=0))):
        codec.remember(ORIGIN, entry(kind, model))
    codec.remember(ORIGIN, entry("order", an_order("open")))
    assert len(shown(codec)) == 4
    codec.remember(ORIGIN, entry("order", an_order("next", ts=TS + DAY_MS)))
    assert shown(codec) == [("order", an_order("open").order_id), ("order", an_order("next").order_id)]


def test_what_is_over_is_bounded_and_what_is_not_stays() -> None:
    codec = Orders()
    codec.load(EntryKind.ORDER, an_order("open").model_dump_json().encode())
    for n in range(600):
        codec.remember(ORIGIN, entry("order", an_order(str(n), status=OrderStatus.REJECTED)))
    assert len(shown(codec)) == 501
    assert ("order", an_order("open").order_id) in shown(codec)
    assert ("order", an_order("599").order_id) in shown(codec)


async def test_a_newcomer_gets_the_books_then_changes_and_resumes_where_it_stood(settings: Settings) -> None:
    old = an_order("old")  # in the book, and its entry left the stream long ago
    async with Bus.open(settings.redis_url) as bus:
        await bus.redis.hset(streams.BOOK_ORDERS, old.order_id, old.model_dump_json())
        gtt = a_gtt("g", GttBody.model_validate(SEED))
        await bus.redis.hset(streams.BOOK_GTTS, gtt.gtt_order_id, gtt.model_dump_json())
        await bus.redis.hset(streams.BOOK_POSITIONS, "paper|x|I", a_position(instrument=FUTURE).model_dump_json())
        for status in (OrderStatus.SENDING, OrderStatus.OPEN):
            await bus.redis.xadd(streams.ORDERS, entry("order", an_order("new", status=status)))
    async with running(settings) as house:
        async with listening(house, "orders") as client:
            told = await client.messages(4)
            assert [message.event for message in told] == ["order", "order", "gtt", "position"]
            assert [message.id == "" for message in told] == [True, True, True, False]
            update = orjson.loads(told[1].data)
            assert (update["status"], update["order_id"]) == ("open", an_order("new").order_id)
            done = an_order("new", status=OrderStatus.COMPLETE)
            await house.bus.redis.xadd(streams.ORDERS, entry("order", done))
            (change,) = await client.messages(1)
            assert orjson.loads(change.data)["status"] == "complete"
        refusal = {"kind": "refused", "data": orjson.dumps({"instrument": CALL, "rule": "lot", "ts": TS})}
        await house.bus.redis.xadd(streams.ORDERS, {"id": "2", **refusal})
        async with listening(house, f"orders?instruments={CALL}", change.id) as client:
            (missed,) = await client.messages(1)
            assert (missed.event, orjson.loads(missed.data)["rule"]) == ("refused", "lot")
        async with listening(house, f"orders?instruments={FUTURE}") as client:
            (position,) = await client.messages(1)
            assert position.event == "position"


async def test_an_entry_of_no_known_kind_is_passed_over(settings: Settings) -> None:
    async with running(settings) as house, listening(house, "orders") as client:
        await client.message()
        await house.bus.redis.xadd(streams.ORDERS, {"id": "1", "kind": "news\ndata: x", "data": "{}"})
        await house.bus.redis.xadd(streams.ORDERS, {"id": "2", "kind": "fill", "data": '{"trade_id":"t"}'})
        (told,) = await client.messages(1)
        assert (told.event, told.data) == ("fill", '{"trade_id":"t"}')
