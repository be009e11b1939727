"""The switches: halt and resume, strategies, signals by hand."""

import asyncio
from typing import Any

import orjson
import pytest

from bus import lease, postgres
from bus.settings import Settings
from gateway import commands
from schemas import streams
from schemas.accounts import StrategyState
from schemas.commands import OrderCancelAll, OrderCommand, PositionExit, StrategySet
from schemas.orders import StrategyMode
from schemas.replies import Decision
from schemas.signals import Signal
from tests.gateway.desk import TS, commands_written, desk, put
from tests.gateway.house import CALL, House, until
from tests.gateway.test_rest import API, open_house, problem


def yes(command: str, _: OrderCommand) -> Decision:
    return Decision(command=command, ok=True)


async def halted(house: House) -> Any:
    return (await house.http.get(f"{API}/trading")).json()["halt"]


async def events(house: House) -> list[tuple[str, str]]:
    entries = await house.bus.redis.xrange(streams.EVENTS)
    told = [orjson.loads(fields[b"data"]) for _, fields in entries]
    return [(event["kind"], event["message"]) for event in told if event["kind"] in ("halt", "resume")]


# Halt


async def test_a_halt_is_the_key_that_every_worker_reads_and_an_event(settings: Settings) -> None:
    async with open_house(settings) as house:
        assert await halted(house) is None
        answer = await house.http.post(f"{API}/trading/halt", json={"why": "news"})
        told = answer.json()
        assert (answer.status_code, told["cancel"], told["flatten"]) == (200, None, None)
        assert (told["halt"]["why"], told["halt"]["by"]) == ("news", "api:127.0.0.1")
        assert orjson.loads(await house.bus.redis.get(streams.HALT))["why"] == "news"
        assert await halted(house) == told["halt"]
        assert (await house.http.post(f"{API}/trading/resume")).json() == {"resumed": True}
        assert await halted(house) is None
        assert (await house.http.post(f"{API}/trading/resume")).json() == {"resumed": False}
        assert await events(house) == [
            ("halt", "halted by api:127.0.0.1: news"),
            ("resume", "resumed by api:127.0.0.1"),
        ]
        assert (await house.http.post(f"{API}/trading/halt")).json()["halt"]["why"] == "by hand"
        assert await commands_written(house) == 0


async def test_a_halt_by_redis_cli_is_shown_as_it_was_written(settings: Settings) -> None:
    async with open_house(settings) as house:
        for value, why in (
            ("news", "news"),
            ('{"why":"x"}', "x"),
            ("5", "5"),
            ("", "halted"),
            ('{"why":"x","ts":"y"}', "x"),
        ):
            await house.bus.redis.set(streams.HALT, value)
            assert (await halted(house))["why"] == why


async def test_cancel_and_flatten_are_asked_of_the_worker_once_a_key(settings: Settings) -> None:
    async with open_house(settings) as house, desk(house, yes) as worker:
        body = {"why": "news", "cancel": True, "flatten": True}
        answers = [
            await house.http.post(f"{API}/trading/halt", json=body, headers={"Idempotency-Key": "k"}) for _ in range(3)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["cancel"]["ok"] is True
        assert [command for _, command in worker.commands] == [OrderCancelAll(), PositionExit()]
        assert [kind for kind, _ in await events(house)] == ["halt"]


async def test_the_halt_is_in_force_though_nobody_cancels(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "REPLY_S", 0.02)
    async with open_house(settings) as house:
        answer = await house.http.post(f"{API}/trading/halt", json={"why": "news", "cancel": True})
        assert answer.status_code == 202
        assert answer.json()["cancel"]["look"].startswith("/api/v1/stream/events?last_event_id=")
        assert (await halted(house))["why"] == "news"


async def test_a_resume_that_is_sent_again_does_not_end_a_halt_that_came_after_it(settings: Settings) -> None:
    async with open_house(settings) as house:
        await house.http.post(f"{API}/trading/halt", json={"why": "one"})
        again = {"Idempotency-Key": "k"}
        assert (await house.http.post(f"{API}/trading/resume", headers=again)).json() == {"resumed": True}
        await house.http.post(f"{API}/trading/halt", json={"why": "two"})
        assert (await house.http.post(f"{API}/trading/resume", headers=again)).json() == {"resumed": True}
        assert (await halted(house))["why"] == "two"


async def test_the_main_switch_says_whether_a_worker_is_there(settings: Settings) -> None:
    async with open_house(settings) as house:
        told = (await house.http.get(f"{API}/trading")).json()
        assert told == {"mode": "paper", "venue": "sim", "halt": None, "worker": False, "accounts": []}
        await lease.announce(house.bus, "gtt", {"pid": 1})
        assert (await house.http.get(f"{API}/trading")).json()["worker"] is True


BAD_HALTS: list[tuple[Any, str]] = [
    ({"why": ""}, "why"),
    ({"why": "x" * 501}, "why"),
    ({"why": "a\nb"}, "why"),
    ({"why": 5}, "why"),
    ({"cancel": "yes"}, "cancel"),
    ({"flatten": 1}, "flatten"),
    ({"more": 1}, "more"),
]


async def test_bad_input_of_the_switches_halts_nothing(settings: Settings) -> None:
    async with open_house(settings) as house:
        for body, field in BAD_HALTS:
            answer = await house.http.post(f"{API}/trading/halt", json=body)
            assert (answer.status_code, problem(answer)["errors"][0]["field"]) == (422, f"body.{field}")
        for path, body in (("ema", {"mode": "real"}), ("ema", {}), ("ema", {"mode": "off", "more": 1})):
            assert (await house.http.put(f"{API}/strategies/{path}", json=body)).status_code == 422
        for name in ("-x", "a%20b", "x" * 65):
            for answer in (
                await house.http.put(f"{API}/strategies/{name}", json={"mode": "off"}),
                await house.http.post(f"{API}/strategies/{name}/activate"),
                await house.http.post(f"{API}/strategies/{name}/deactivate"),
            ):
                assert (answer.status_code, problem(answer)["errors"][0]["field"]) == (422, "path.name")
        assert (await house.http.post(f"{API}/strategies/ema/activate", json={"mode": "off"})).status_code == 422
        foreign = {"Origin": "https://elsewhere.example"}
        for path in (
            "trading/halt",
            "trading/resume",
            "strategies/ema/activate",
            "orders/place",
            "gtt/place",
            "signals",
        ):
            assert (await house.http.post(f"{API}/{path}", json={}, headers=foreign)).status_code in (403, 422), path
        assert (await house.http.post(f"{API}/trading/halt", headers=foreign)).status_code == 403
        assert await halted(house) is None
        assert await commands_written(house) == 0


async def test_accounts_are_told_under_the_gateways_own_address_only(settings: Settings) -> None:
    foreign = {"Host": "rebound.example"}
    private = ("orders/", "orders/x", "trades", "gtt/", "gtt/GTT-1", "positions", "holdings", "funds", "pnl", "risk")
    async with open_house(settings) as house:
        for path in (*private, "trading", "strategies", "stream/orders", "stream/signals"):
            answer = await house.http.get(f"{API}/{path}", headers=foreign)
            assert (answer.status_code, path) == (403, path)
            assert problem(answer)["errors"][0]["field"] == "header.host"
        assert (await house.http.get(f"{API}/instruments", headers=foreign)).status_code == 200


# Strategies


async def test_strategies_are_switched_and_listed(settings: Settings) -> None:
    def switch(command: str, asked: OrderCommand) -> Decision:
        assert isinstance(asked, StrategySet)
        state = StrategyState(strategy=asked.strategy, mode=asked.mode, effective=StrategyMode.PAPER, why="capped")
        return Decision(command=command, ok=True, strategy=state)

    async with open_house(settings) as house, desk(house, switch) as worker:
        moved = await house.http.put(f"{API}/strategies/ema_cross", json={"mode": "live"})
        assert (moved.json()["mode"], moved.json()["effective"], moved.json()["why"]) == ("live", "paper", "capped")
        await house.http.post(f"{API}/strategies/ema_cross/activate")
        await house.http.post(f"{API}/strategies/ema_cross/activate", json={"mode": "shadow"})
        await house.http.post(f"{API}/strategies/ema_cross/deactivate")
        modes = [command.mode for _, command in worker.commands if isinstance(command, StrategySet)]
        assert modes == [StrategyMode.LIVE, StrategyMode.PAPER, StrategyMode.SHADOW, StrategyMode.OFF]
        for name in ("two", "one"):
            state = StrategyState(strategy=name, mode=StrategyMode.OFF, effective=StrategyMode.OFF)
            await put(house, streams.BOOK_STRATEGIES, name, state.model_dump(mode="json"))
        assert [row["strategy"] for row in (await house.http.get(f"{API}/strategies")).json()] == ["one", "two"]


# Signals

SIGNAL: dict[str, Any] = {
    "id": "ema-1",
    "strategy": "ema_cross",
    "instrument": CALL,
    "ts": TS,
    "side": "BUY",
    "strength": 0.8,
    "price": 101.5,
    "stop_loss": 96,
    "take_profit": 112,
    "quantity": 75,
    "reason": "fast above slow",
    "votes": {"rsi": 1},
    "atr": 2.5,
    "volatility": 0.2,
    "win_rate": 0.5,
    "payoff": 2,
}
WRONG_SIGNAL: dict[str, list[Any]] = {
    "id": [None, "", "x" * 201, "a\x00", 5],
    "strategy": [None, "", "a b", 5],
    "instrument": [None, "NIFTY", "NSE_EQ|NOTHING"],
    "ts": [None, -1, "now", True, 1e300],
    "side": [None, "HOLD"],
    "strength": [-0.1, 1.1, "strong"],
    **{name: [0, -1, "x"] for name in ("price", "stop_loss", "take_profit", "atr", "volatility", "payoff")},
    "quantity": [0, 1.5, "75"],
    "reason": [5, "x" * 1001],
    "votes": [5, {"a b": 1}, {"a": "x"}],
    "win_rate": [-0.1, 1.1],
}


async def test_a_signal_is_published_once_however_often_it_is_sent(settings: Settings) -> None:
    async with open_house(settings) as house:
        answers = await asyncio.gather(*(house.http.post(f"{API}/signals", json=SIGNAL) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert sorted(answer.json()["new"] for answer in answers) == [False] * 4 + [True]
        assert answers[0].json()["intent_id"] == "signal:ema-1"
        ((_, fields),) = await house.bus.redis.xrange(streams.SIGNALS)
        assert {name: fields[name] for name in (b"id", b"strategy", b"instrument", b"by")} == {
            b"id": b"ema-1", b"strategy": b"ema_cross", b"instrument": CALL.encode(), b"by": b"api:127.0.0.1"
        }  # fmt: skip
        assert Signal.model_validate_json(fields[b"data"]) == Signal.model_validate(SIGNAL)
        other = await house.http.post(f"{API}/signals", json={**SIGNAL, "side": "SELL"})
        assert (other.status_code, problem(other)["errors"][0]["field"]) == (422, "body.id")
        assert await house.bus.redis.xlen(streams.SIGNALS) == 1


async def test_every_field_of_a_signal_wrong_in_turn_is_named_and_nothing_is_published(settings: Settings) -> None:
    async with open_house(settings) as house:
        for field, values in WRONG_SIGNAL.items():
            for value in values:
                answer = await house.http.post(f"{API}/signals", json={**SIGNAL, field: value})
                assert (answer.status_code, field, value) == (422, field, value)
                assert problem(answer)["errors"][0]["field"].startswith(f"body.{field}"), value
        assert await house.bus.redis.xlen(streams.SIGNALS) == 0


async def test_signals_are_stored_once_and_what_is_none_is_set_aside(settings: Settings) -> None:
    async with open_house(settings) as house:
        await house.http.post(f"{API}/signals", json=SIGNAL)
        await house.bus.redis.xadd(streams.SIGNALS, {"id": "ema-1", "data": orjson.dumps({**SIGNAL, "price": 1})})
        await house.bus.redis.xadd(streams.SIGNALS, {"id": "x", "data": b"{}"})

        async def settled() -> bool:
            return bool(await house.bus.redis.xlen(streams.dead(streams.SIGNALS)))

        await until(settled)
    async with postgres.open_pool(settings.postgres_url) as pool:
        (row,) = await pool.fetch("SELECT * FROM signals")
    assert (row["id"], row["strategy"], row["side"], row["ts"]) == ("ema-1", "ema_cross", "BUY", TS)
    assert orjson.loads(row["data"])["price"] == 101.5
