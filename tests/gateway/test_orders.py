"""Orders over REST: what is asked reaches the worker once, what it decides is the answer, bad input reaches nobody."""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus import postgres
from bus.settings import Settings
from gateway import commands
from schemas import streams
from schemas.commands import OrderCancel, OrderCancelAll, OrderCommand, OrderModify, OrderPlace
from schemas.orders import OrderStatus, TradingMode
from schemas.replies import UNKNOWN_ID, Decision
from tests.conftest import settings_in
from tests.gateway.desk import an_order, commands_written, desk, put
from tests.gateway.house import CALL, FUTURE, House
from tests.gateway.test_rest import API, open_house, problem

LIMIT: dict[str, Any] = {
    "instrument_token": CALL,
    "transaction_type": "BUY",
    "quantity": 75,
    "product": "I",
    "order_type": "LIMIT",
    "price": 101.5,
    "trigger_price": 0,
    "validity": "DAY",
    "market_protection": -1,
    "mode": "paper",
    "strategy": "ema_cross",
}
WRONG: dict[str, list[Any]] = {
    "instrument_token": [None, "", "NIFTY", "NSE_EQ|A,B", "NSE_EQ|NOTHING", 5, ["NSE_FO|1001"], "NSE_FO|1\x00"],
    "transaction_type": [None, "", "buy", "HOLD", 1],
    "quantity": [None, 0, -75, 1.5, "75", True, 10_000_001, 1e30],
    "product": [None, "", "CNC", 1],
    "order_type": [None, "", "STOP", 1],
    "price": [None, -1, "cheap", True, 0, 1e30, 0.0000000001, [101.5]],
    "trigger_price": [None, -1, "low", True],
    "validity": [None, "", "GTC"],
    "market_protection": [-2, 26, "some", True],
    "mode": ["", "real", 1],
    "strategy": [None, "-x", "a b", "x" * 65, "a\x00b", 5],
    "kind": ["order.cancel", None],
    "more": [1],
}
CHANGE: dict[str, Any] = {"order_id": "tjabc", "quantity": 75, "price": 100, "trigger_price": 99, "validity": "DAY"}
CHANGE |= {"order_type": "SL"}
WRONG_CHANGE: dict[str, list[Any]] = {
    "order_id": [None, "", "a b", "x" * 65, 5, "a\x00"],
    "quantity": [0, -1, 1.5, "75", True],
    "price": [-1, "cheap", True],
    "trigger_price": [-1, "low"],
    "order_type": ["STOP", 1],
    "validity": ["GTC", 1],
    "more": [1],
}


def accepted(command: str, asked: OrderCommand) -> Decision:
    assert isinstance(asked, OrderPlace)
    fields = {name: getattr(asked, name) for name in ("quantity", "price", "order_type", "product", "strategy")}
    order = an_order(f"command:{command}", instrument=asked.instrument_token, side=asked.transaction_type, **fields)
    return Decision(command=command, ok=True, orders=(order,))


async def place(house: House, key: str | None = None, **more: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await house.http.post(f"{API}/orders/place", json={**LIMIT, **more}, headers=headers)


async def test_every_field_wrong_in_turn_is_named_and_nothing_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "REPLY_S", 0.01)  # what is taken by mistake is seen at once
    async with open_house(settings) as house:
        for method, path, good, wrong, needed in (
            ("POST", "/orders/place", LIMIT, WRONG, ("instrument_token", "transaction_type", "quantity")),
            ("PUT", "/orders/modify", CHANGE, WRONG_CHANGE, ("order_id",)),
        ):
            for field, values in wrong.items():
                for value in values:
                    answer = await house.http.request(method, API + path, json={**good, field: value})
                    assert (answer.status_code, path, field, value) == (422, path, field, value)
                    assert problem(answer)["errors"][0]["field"] == f"body.{field}", value
            for field in needed:
                body = {name: value for name, value in good.items() if name != field}
                answer = await house.http.request(method, API + path, json=body)
                assert problem(answer)["errors"][0]["field"] == f"body.{field}"
        assert await commands_written(house) == 0


async def test_fields_that_do_not_go_together_say_which_one(settings: Settings) -> None:
    together: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/orders/place", {**LIMIT, "price": 0}, "body.price"),
        ("POST", "/orders/place", {**LIMIT, "order_type": "SL"}, "body.trigger_price"),
        ("POST", "/orders/place", {**LIMIT, "order_type": "SL-M", "price": 0}, "body.trigger_price"),
        ("PUT", "/orders/modify", {"order_id": "tjabc"}, "body"),
    ]
    async with open_house(settings) as house:
        for method, path, body, field in together:
            answer = await house.http.request(method, API + path, json=body)
            assert (answer.status_code, problem(answer)["errors"][0]["field"]) == (422, field)
        for path in ("/orders/cancel", "/orders/cancel?order_id=a%20b", "/orders?mode=real", "/orders?instrument=NIFTY",
                     "/orders?instrument=NSE_EQ|NOTHING", "/orders?strategy=-x", "/orders?mod=paper"):  # fmt: skip
            answer = await house.http.delete(API + path)
            assert (answer.status_code, path) == (422, path)
            assert problem(answer)["errors"][0]["field"].startswith("query."), path
        both = await house.http.request("DELETE", f"{API}/orders/cancel?order_id=a", json={"order_id": "b"})
        assert problem(both)["errors"][0]["field"] == "query.order_id"
        assert await commands_written(house) == 0


async def test_what_the_worker_decides_is_the_answer(settings: Settings) -> None:
    async with open_house(settings) as house, desk(house, accepted) as worker:
        answer = await place(house)
        assert answer.status_code == 200, answer.text
        ((fields, command),) = worker.commands
        assert isinstance(command, OrderPlace)
        assert (fields["kind"], fields["by"]) == ("order.place", "api:127.0.0.1")
        assert command.model_dump(mode="json", exclude={"kind"}) == LIMIT
        order = an_order(f"command:{fields['id']}", strategy="ema_cross")
        body = answer.json()
        assert (body["status"], body["data"]) == ("success", {"order_ids": [order.order_id]})
        assert body["order"] == body["orders"][0] == order.model_dump(mode="json")
        assert body["command"] == fields["id"]


@pytest.mark.parametrize(
    ("rule", "status", "kind"),
    [("position", 409, "refused"), ("UDAPI1154", 409, "refused"), (UNKNOWN_ID, 404, "unknown-id")],
)
async def test_a_no_is_told_with_rule_and_reason(settings: Settings, rule: str, status: int, kind: str) -> None:
    def no(command: str, _: OrderCommand) -> Decision:
        return Decision(command=command, ok=False, rule=rule, reason="more than 2 % of the capital")

    async with open_house(settings) as house, desk(house, no):
        answer = await house.http.delete(f"{API}/orders/cancel?order_id=tjabc")
        told = answer.json()
        assert (answer.status_code, told["type"]) == (status, f"urn:teji:problem:{kind}")
        assert (told["rule"], told["detail"]) == (rule, "more than 2 % of the capital")


async def test_undecided_is_202_with_where_to_look_and_the_decision_is_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "REPLY_S", 0.05)
    async with open_house(settings) as house:
        answer = await place(house, "k")
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["look"]
        monkeypatch.setattr(commands, "REPLY_S", 5.0)
        async with desk(house, accepted) as worker:
            again = await place(house, "k")
            assert (again.status_code, len(worker.commands)) == (200, 1)
            assert again.json()["command"] == answer.json()["command"]


async def test_one_key_is_one_order_and_one_answer(settings: Settings) -> None:
    async with open_house(settings) as house, desk(house, accepted) as worker:
        answers = await asyncio.gather(*(place(house, "one") for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len(worker.commands) == 1
        other = await place(house, "one", quantity=150)
        assert (other.status_code, problem(other)["errors"][0]["field"]) == (422, "header.idempotency-key")
        assert (await place(house, "two")).json()["order"] != answers[0].json()["order"]
        assert len(worker.commands) == 2


async def test_the_key_is_honoured_by_a_gateway_that_started_later(settings: Settings) -> None:
    async with open_house(settings) as house, desk(house, accepted):
        first = await place(house, "k")
    async with open_house(settings) as house:
        assert (await place(house, "k")).content == first.content
        assert await commands_written(house) == 1


async def test_a_redis_that_forgot_the_key_gives_the_order_worker_the_same_command(settings: Settings) -> None:
    async with open_house(settings) as house, desk(house, accepted) as worker:
        await place(house, "k")
        keys = await house.bus.redis.keys("idempotency:*")
        await house.bus.redis.delete(*keys)
        again = await place(house, "k")
        assert again.status_code == 200
        first, second = (fields["id"] for fields, _ in worker.commands)
        assert first == second  # and an intent is decided once


async def test_changes_and_cancellations_reach_the_worker_as_they_are_meant(settings: Settings) -> None:
    order = an_order("x")

    def yes(command: str, _: OrderCommand) -> Decision:
        return Decision(command=command, ok=True, orders=(order,))

    async with open_house(settings) as house, desk(house, yes) as worker:
        await house.http.put(f"{API}/orders/modify", json={"order_id": order.order_id, "price": 102.25})
        await house.http.delete(f"{API}/orders/cancel", params={"order_id": order.order_id})
        await house.http.request("DELETE", f"{API}/orders/cancel", json={"order_id": "260105000000101"})
        await house.http.delete(f"{API}/orders", params={"mode": "paper", "strategy": "", "instrument": CALL})
        await house.http.delete(f"{API}/orders/")
        assert [command for _, command in worker.commands] == [
            OrderModify(order_id=order.order_id, price=102.25),
            OrderCancel(order_id=order.order_id),
            OrderCancel(order_id="260105000000101"),
            OrderCancelAll(mode=TradingMode.PAPER, strategy="", instrument_token=CALL),
            OrderCancelAll(),
        ]


async def test_the_book_is_filtered_and_an_order_is_found_by_either_id(settings: Settings) -> None:
    orders = [
        an_order("a", created_ts=2, venue_order_id="v1"),
        an_order("b", created_ts=1, status=OrderStatus.COMPLETE, instrument=FUTURE),
        an_order("c", created_ts=3, mode=TradingMode.SHADOW, strategy="ema"),
    ]
    a, b, c = (order.order_id for order in orders)
    async with open_house(settings) as house:
        for order in orders:
            await put(house, streams.BOOK_ORDERS, order.order_id, order.model_dump(mode="json"))

        async def found(path: str) -> list[str]:
            answer = await house.http.get(API + path)
            assert answer.status_code == 200, answer.text
            return [row["order_id"] for row in answer.json()]

        assert await found("/orders/") == await found("/orders") == [b, a, c]
        assert await found("/orders/?live=true") == [a, c]
        assert await found("/orders/?live=false") == await found("/orders/?status=complete") == [b]
        assert await found("/orders/?mode=shadow") == await found("/orders/?strategy=ema") == [c]
        assert await found(f"/orders/?instrument={FUTURE}") == [b]
        assert await found("/orders/?strategy=") == [b, a]
        one = (await house.http.get(f"{API}/orders/v1")).json()
        assert (one["order_id"], one["history"], one["warning"]) == (a, [], None)
        assert (await house.http.get(f"{API}/orders/nothing")).status_code == 404
        for path in ("/orders/?mode=real", "/orders/?status=gone", "/orders/?date=today", "/orders/?live=perhaps"):
            assert (await house.http.get(API + path)).status_code == 422


async def test_while_postgres_is_away_the_book_is_told_without_history(redis_url: str, tmp_path: Path) -> None:
    gone = settings_in(tmp_path / "home", redis_url=redis_url, database_url="postgresql://nobody@127.0.0.1:1/none")
    order = an_order("a")
    async with open_house(gone) as house:
        await put(house, streams.BOOK_ORDERS, order.order_id, order.model_dump(mode="json"))
        one = (await house.http.get(f"{API}/orders/{order.order_id}")).json()
        assert (one["history"], "cannot be read" in one["warning"]) == ([], True)
        for path in ("orders/tjother", "orders/?date=2026-11-25", "gtt/GTT-other"):
            assert (await house.http.get(f"{API}/{path}")).status_code == 503


# The journal


def facts(order: Any) -> list[tuple[str, dict[str, Any]]]:
    told = {"order_id": order.order_id}
    state = {
        **{name: getattr(order, name) for name in ("quantity", "average_price", "price", "trigger_price")},
        "venue_order_id": "v9",
        "filled_quantity": 0,
        "status": "open",
        "reason": "",
    }
    fill = {"order_id": order.order_id, "trade_id": "t1", "instrument": CALL, "mode": "paper", "strategy": ""}
    fill |= {"quantity": 50, "price": 101.25, "charges": {"stt": 1.25, "total": 2.5}}
    checked = order.model_copy(update={"status": OrderStatus.CHECKED}).model_dump(mode="json")
    return [
        ("approved", {"orders": [checked], "checks": [{"rule": "lot"}]}),
        ("sending", {**told, "what": "place", "attempt": 1, "request": {}}),
        ("answered", {**told, "what": "place", "attempt": 1, "venue_id": "v9"}),
        ("seen", {**told, "state": state}),
        ("filled", {"fill": fill}),
        ("filled", {"fill": {**fill, "trade_id": "t2", "quantity": 25, "price": 101.5}}),
        ("filled", {"fill": {**fill, "trade_id": "t2", "quantity": 25, "price": 101.5}}),
        ("seen", {**told, "state": state}),
    ]


async def journalled(settings: Settings, order: Any, first_ts: int) -> None:
    async with postgres.open_pool(settings.postgres_url) as pool:
        await postgres.migrate(pool)
        for at, (kind, data) in enumerate(facts(order)):
            text = orjson.dumps(data, default=float).decode()
            await pool.execute(
                "INSERT INTO journal (ts, account, kind, order_id, data) VALUES ($1, 'paper', $2, $3, $4)",
                *(first_ts + at, kind, order.order_id, text),
            )


async def test_earlier_days_and_an_orders_history_come_from_the_journal(settings: Settings) -> None:
    first_ts = 1_795_578_300_000  # 2026-11-25, 09:15 IST
    order = an_order("old", created_ts=first_ts, ts=first_ts)
    await journalled(settings, order, first_ts)
    async with open_house(settings) as house:
        (row,) = (await house.http.get(f"{API}/orders/?date=2026-11-25")).json()
        assert (row["status"], row["filled_quantity"], row["average_price"]) == ("complete", 75, 101.33333333)
        assert (row["charges"]["stt"], row["charges"]["total"]) == (2.5, 5.0)
        assert row["venue_order_id"] == "v9"
        assert (await house.http.get(f"{API}/orders/?date={date(2026, 11, 24)}")).json() == []
        assert (await house.http.get(f"{API}/orders/")).json() == []
        one = (await house.http.get(f"{API}/orders/{order.order_id}")).json()
        assert [fact["kind"] for fact in one["history"]] == [kind for kind, _ in facts(order)]
        assert one["status"] == "complete"
        fills = (await house.http.get(f"{API}/trades?date=2026-11-25&order_id={order.order_id}")).json()
        assert [fill["trade_id"] for fill in fills] == ["t1", "t2", "t2"]
