"""GTTs over REST, in the venue's own form."""

from typing import Any

import orjson
import pytest

from bus import postgres
from bus.settings import Settings
from gateway import commands
from schemas import streams
from schemas.commands import GttCancel, GttModify, GttPlace, OrderCommand
from schemas.gtt import GttBody
from schemas.orders import TradingMode
from schemas.replies import Decision
from tests.gateway.desk import a_gtt, commands_written, desk, put
from tests.gateway.house import CALL, PUT
from tests.gateway.test_rest import API, open_house, problem

ENTRY: dict[str, Any] = {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 200}
TARGET: dict[str, Any] = {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 220}
STOP: dict[str, Any] = {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 190, "trailing_gap": 5}
#: As people send it today, word for word.
SEED: dict[str, Any] = {
    "type": "MULTIPLE",
    "quantity": 25,
    "product": "I",
    "rules": [ENTRY, TARGET, STOP],
    "instrument_token": CALL,
    "transaction_type": "BUY",
}
OURS: dict[str, Any] = {**SEED, "mode": "paper", "engine": "ours", "strategy": "ema_cross"}
CHANGE: dict[str, Any] = {"gtt_order_id": "GTT-1", "type": "MULTIPLE", "quantity": 25, "rules": [ENTRY, TARGET, STOP]}

_RULES: list[tuple[list[Any] | Any, str]] = [
    (None, "rules"),
    ([], "rules"),
    ("ENTRY", "rules"),
    ([ENTRY], "rules"),
    ([ENTRY, ENTRY], "rules"),
    ([ENTRY, TARGET, STOP, STOP], "rules"),
    ([ENTRY, {**TARGET, "strategy": "EXIT"}], "rules.1.strategy"),
    ([ENTRY, {**TARGET, "trigger_type": "ABOVE"}], "rules.1.trigger_type"),
    ([{**ENTRY, "trigger_type": "NEAR"}, TARGET], "rules.0.trigger_type"),
    ([{**ENTRY, "trigger_price": 0}, TARGET], "rules.0.trigger_price"),
    ([{**ENTRY, "trigger_price": "high"}, TARGET], "rules.0.trigger_price"),
    ([{**ENTRY, "trailing_gap": 5}, TARGET], "rules.0.trailing_gap"),
    ([ENTRY, {**STOP, "trailing_gap": -5}], "rules.1.trailing_gap"),
    ([ENTRY, {**STOP, "market_protection": 26}], "rules.1.market_protection"),
    ([{**ENTRY, "price": 5}, TARGET], "rules.0.price"),
    ([{"strategy": "ENTRY", "trigger_type": "ABOVE"}, TARGET], "rules.0.trigger_price"),
]
_OF_PLACE: list[tuple[list[Any], str]] = [
    ([ENTRY, {**TARGET, "trigger_price": 199}], "rules"),  # profit below the entry of a buyer
    ([ENTRY, {**STOP, "trigger_price": 201}], "rules"),
    ([{**TARGET, "trigger_price": 180}, STOP], "rules"),
]
_SAME: dict[str, list[Any]] = {
    "type": [None, "", "OCO", "SINGLE"],
    "quantity": [None, 0, -1, 1.5, "25", True, 10_000_001],
    "more": [1],
}
WRONG: dict[str, list[Any]] = {
    **_SAME,
    "product": [None, "CNC"],
    "instrument_token": [None, "NIFTY", "NSE_EQ|NOTHING"],
    "transaction_type": [None, "LONG"],
    "mode": ["real"],
    "engine": [None, "theirs"],
    "strategy": [None, "a b"],
}
WRONG_CHANGE: dict[str, list[Any]] = {**_SAME, "gtt_order_id": [None, "", "1", "GTT-", "GTT-a b", 5]}


async def test_every_field_wrong_in_turn_is_named_and_nothing_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "REPLY_S", 0.01)  # what is taken by mistake is seen at once
    tried = [("POST", "place", OURS, {field: value}, field) for field, values in WRONG.items() for value in values]
    tried += [("PUT", "modify", CHANGE, {f: value}, f) for f, values in WRONG_CHANGE.items() for value in values]
    tried += [("POST", "place", OURS, {"rules": rules}, field) for rules, field in (*_RULES, *_OF_PLACE)]
    tried += [("PUT", "modify", CHANGE, {"rules": rules}, field) for rules, field in _RULES]
    async with open_house(settings) as house:
        for method, path, good, wrong, field in tried:
            answer = await house.http.request(method, f"{API}/gtt/{path}", json={**good, **wrong})
            assert (answer.status_code, path, wrong) == (422, path, wrong)
            expected = "rules" if wrong.get("type") == "SINGLE" else field  # it is the rules that are too many
            assert problem(answer)["errors"][0]["field"] == f"body.{expected}", wrong
        for body in (None, {}, {"gtt_order_id": "1"}, {"gtt_order_id": "GTT-1", "more": 1}):
            answer = await house.http.request("DELETE", f"{API}/gtt/cancel", json=body)
            assert (answer.status_code, body) == (422, body)
        assert await commands_written(house) == 0


async def test_the_body_of_the_seeds_is_placed_and_answered_in_the_venues_form(settings: Settings) -> None:
    def yes(command: str, asked: OrderCommand) -> Decision:
        assert isinstance(asked, GttPlace)
        return Decision(command=command, ok=True, gtts=(a_gtt(f"command:{command}", asked.body),))

    async with open_house(settings) as house, desk(house, yes) as worker:
        answer = await house.http.post(f"{API}/gtt/place", json=SEED)
        assert answer.status_code == 200, answer.text
        ((fields, command),) = worker.commands
        assert command == GttPlace(body=GttBody.model_validate(SEED))
        gtt = a_gtt(f"command:{fields['id']}", GttBody.model_validate(SEED))
        told = answer.json()
        assert (told["status"], told["data"]) == ("success", {"gtt_order_ids": [gtt.gtt_order_id]})
        assert told["gtt"] == gtt.model_dump(mode="json")
        # It is on the book by then, and found by its id.
        one = await house.http.get(f"{API}/gtt/{gtt.gtt_order_id}")
        assert one.json() == told["gtt"]
        assert (await house.http.get(f"{API}/gtt/")).json() == [told["gtt"]]


async def test_changes_and_cancellations_reach_the_worker_as_they_are_meant(settings: Settings) -> None:
    def yes(command: str, _: OrderCommand) -> Decision:
        return Decision(command=command, ok=True)

    async with open_house(settings) as house, desk(house, yes) as worker:
        for method, path, body in (
            ("PUT", "modify", CHANGE),
            ("DELETE", "cancel", {"gtt_order_id": "GTT-1"}),
            ("DELETE", "cancel?gtt_order_id=GTT-2", None),
        ):
            answer = await house.http.request(method, f"{API}/gtt/{path}", json=body)
            assert (answer.status_code, answer.json()["gtt"]) == (200, None)
        asked = [command for _, command in worker.commands]
        assert asked == [
            GttModify.model_validate({"body": CHANGE}), GttCancel(gtt_order_id="GTT-1"), GttCancel(gtt_order_id="GTT-2")
        ]  # fmt: skip


async def test_the_book_is_filtered_and_what_left_it_is_found_in_the_journal(settings: Settings) -> None:
    body = GttBody.model_validate(OURS)
    gtts = [
        a_gtt("a", body, created_at=2, venue_gtt_order_id="GTT-V1"),
        a_gtt("b", body, created_at=1, live=False, instrument=PUT, instrument_token=PUT),
        a_gtt("c", body, created_at=3, mode=TradingMode.SHADOW, strategy=""),
    ]
    a, b, c = (gtt.gtt_order_id for gtt in gtts)
    old = a_gtt("old", body, live=False).model_dump(mode="json")
    async with postgres.open_pool(settings.postgres_url) as pool:
        await postgres.migrate(pool)
        for n, state in enumerate(({**old, "live": True}, old)):
            data = orjson.dumps({"gtt_id": old["gtt_order_id"], "state": {"gtt": state, "legs": []}}).decode()
            await pool.execute(
                "INSERT INTO journal (ts, account, kind, gtt_id, data) VALUES ($1, 'paper', $2, $3, $4)",
                *(n, ("gtt_accepted", "gtt_changed")[n], old["gtt_order_id"], data),
            )
    async with open_house(settings) as house:
        for gtt in gtts:
            await put(house, streams.BOOK_GTTS, gtt.gtt_order_id, gtt.model_dump(mode="json"))

        async def found(query: str) -> list[str]:
            return [row["gtt_order_id"] for row in (await house.http.get(f"{API}/gtt/{query}")).json()]

        assert await found("") == [b, a, c]
        assert await found("?live=true") == [a, c]
        assert await found("?live=false") == await found(f"?instrument={PUT}") == [b]
        assert await found("?mode=shadow") == await found("?strategy=") == [c]
        assert (await house.http.get(f"{API}/gtt/GTT-V1")).json()["gtt_order_id"] == a
        assert (await house.http.get(f"{API}/gtt/{old['gtt_order_id']}")).json() == old
        gone = await house.http.get(f"{API}/gtt/GTT-nothing")
        assert (gone.status_code, problem(gone)["errors"][0]["field"]) == (404, "path.gtt_order_id")
