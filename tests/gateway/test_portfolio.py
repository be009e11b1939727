"""What is held, what it is worth, and how much of every limit is used."""

from typing import Any

import jsonschema
import orjson

from bus.settings import Settings
from schemas import streams
from schemas.accounts import Account, AccountFunds, BudgetWindow, Holding, Limits, StrategyState
from schemas.commands import OrderCommand, PositionExit
from schemas.gtt import GttBody
from schemas.orders import Position, Product, StrategyMode, TradingMode
from schemas.replies import Decision
from tests.gateway.desk import TS, a_gtt, an_order, desk, put
from tests.gateway.house import CALL, FUTURE, SHARE, House
from tests.gateway.test_gtt import SEED
from tests.gateway.test_rest import API, open_house, problem


def an_account(mode: TradingMode, **more: Any) -> Account:
    basics: dict[str, Any] = {
        "mode": mode,
        "venue": mode.value,
        "day": "2026-11-25",
        "capital": 1_000_000,
        "equity": 999_500,
        "realised": -800,
        "unrealised": 400,
        "charges": 100,
        "day_pnl": -500,
        "drawdown": 0.001,
        "trades": 3,
        "limits": Limits(position=0.02, trade=0.02, day_loss=0.05, drawdown=0.2, trades=50),
        "budget": (BudgetWindow(seconds=1, most=8, used=1, remaining=7),),
        "ts": TS,
    }
    return Account(**{**basics, **more})


def a_position(**more: Any) -> Position:
    basics: dict[str, Any] = {
        "instrument": CALL,
        "product": Product.INTRADAY,
        "mode": TradingMode.PAPER,
        "venue": "paper",
        "quantity": 75,
        "average_price": 100,
        "last_price": 104,
        "unrealised": 300,
        "ts": TS,
    }
    return Position(**{**basics, **more})


async def fill_books(house: House) -> None:
    shares = Holding(instrument=SHARE, quantity=10, average_price=1000, last_price=1010)
    funds = AccountFunds(available=900_000, used=100_000, ts=TS)
    for account in (
        an_account(TradingMode.SHADOW, limits=None),
        an_account(TradingMode.PAPER, funds=funds, holdings=(shares, shares.model_copy(update={"instrument": CALL}))),
    ):
        await put(house, streams.BOOK_ACCOUNTS, account.mode.value, account.model_dump(mode="json"))
    for position in (a_position(), a_position(instrument=FUTURE, quantity=0, mode=TradingMode.SHADOW)):
        name = f"{position.mode}|{position.instrument}|{position.product}"
        await put(house, streams.BOOK_POSITIONS, name, position.model_dump(mode="json"))
    await house.bus.redis.hset(streams.quotes(0), SHARE, orjson.dumps({"instrument": SHARE, "ltp": 1020.5}))


async def read(house: House, path: str) -> Any:
    answer = await house.http.get(API + path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_positions_holdings_and_funds_of_each_account(settings: Settings) -> None:
    async with open_house(settings) as house:
        for path in ("positions", "holdings", "funds", "pnl", "risk"):
            assert await read(house, f"/{path}") == []  # no order worker has run
            assert (await house.http.get(f"{API}/{path}?mode=real")).status_code == 422
        await fill_books(house)
        assert [row["mode"] for row in await read(house, "/positions?open=true")] == ["paper"]
        assert [row["mode"] for row in await read(house, "/positions?open=false")] == ["shadow"]
        assert await read(house, f"/positions?instrument={CALL}") == [a_position().model_dump(mode="json")]
        live, still = await read(house, "/holdings")
        assert (live["last_price"], live["pnl"], live["mode"]) == (1020.5, 205.0, "paper")
        assert (still["last_price"], still["pnl"]) == (1010, 100.0)  # nobody quotes it: the venue's own price
        (funds,) = await read(house, "/funds")
        assert (funds["available"], funds["used"], funds["mode"]) == (900_000, 100_000, "paper")


async def test_profit_and_risk_tell_every_limit_and_its_use(settings: Settings) -> None:
    async with open_house(settings) as house:
        await fill_books(house)
        paper, shadow = await read(house, "/pnl")
        assert (paper["mode"], paper["net"], paper["realised"], paper["charges"]) == ("paper", -500, -800, 100)
        assert [one["instrument"] for one in paper["positions"]] == [CALL]
        assert [one["instrument"] for one in shadow["positions"]] == [FUTURE]
        paper, shadow = await read(house, "/risk")
        assert shadow["limits"] == []
        used = {one["limit"]: (one["most"], one["used"], one["part"]) for one in paper["limits"]}
        assert used == {
            "day loss": (50_000, 500, 0.01),
            "drawdown": (0.2, 0.001, 0.005),
            "trades": (50, 3, 0.06),
            "largest position": (20_000, 7_800, 0.39),
        }
        assert paper["budget"] == [{"seconds": 1, "most": 8, "used": 1, "remaining": 7}]
        assert [row["mode"] for row in await read(house, "/risk?mode=shadow")] == ["shadow"]


async def test_positions_are_closed_by_the_worker(settings: Settings) -> None:
    def yes(command: str, _: OrderCommand) -> Decision:
        return Decision(command=command, ok=True, orders=(an_order("exit"),), positions=(a_position(),))

    async with open_house(settings) as house, desk(house, yes) as worker:
        body = {"instrument_token": CALL, "product": "I", "mode": "paper", "strategy": "ema"}
        answer = await house.http.post(f"{API}/positions/exit", json=body)
        assert answer.json()["data"] == {"order_ids": [an_order("exit").order_id]}
        assert answer.json()["positions"] == [a_position().model_dump(mode="json")]
        assert (await house.http.post(f"{API}/positions/exit")).status_code == 200
        asked = [command for _, command in worker.commands]
        assert asked == [PositionExit.model_validate(body), PositionExit()]
        wrong = {"instrument_token": "NSE_EQ|NOTHING", "product": "CNC", "mode": "real", "strategy": "a b", "more": 1}
        for field, value in wrong.items():
            refused = await house.http.post(f"{API}/positions/exit", json={**body, field: value})
            assert (refused.status_code, problem(refused)["errors"][0]["field"]) == (422, f"body.{field}")
        assert len(worker.commands) == 2


async def test_answers_have_the_shape_that_openapi_promises(settings: Settings) -> None:
    order, gtt = an_order("x"), a_gtt("x", GttBody.model_validate(SEED))
    state = StrategyState(strategy="ema", mode=StrategyMode.PAPER, effective=StrategyMode.PAPER)

    def yes(command: str, _: OrderCommand) -> Decision:
        return Decision(
            command=command, ok=True, orders=(order,), gtts=(gtt,), positions=(a_position(),), strategy=state
        )

    async with open_house(settings) as house, desk(house, yes):
        await fill_books(house)
        await put(house, streams.BOOK_STRATEGIES, "ema", state.model_dump(mode="json"))
        document = (await house.http.get(f"{API}/openapi.json")).json()
        calls: dict[tuple[str, str], dict[str, Any] | None] = {
            ("post", "/orders/place"): {"instrument_token": CALL, "transaction_type": "BUY", "quantity": 1, "price": 1},
            ("post", "/gtt/place"): SEED,
            ("post", "/positions/exit"): {},
            ("delete", "/orders"): None,
            ("post", "/trading/halt"): {"why": "x", "cancel": True},
            ("get", "/trading"): None,
            ("post", "/trading/resume"): None,
            ("put", "/strategies/{name}"): {"mode": "paper"},
            **{("get", f"/{path}"): None for path in ("orders/", "gtt/", "positions", "holdings", "funds", "pnl")},
            **{("get", f"/{path}"): None for path in ("risk", "strategies", "trades")},
        }
        for (method, path), body in calls.items():
            answer = await house.http.request(method, API + path.replace("{name}", "ema"), json=body)
            assert answer.status_code == 200, answer.text
            operation = document["paths"][API + path][method]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            whole = {**schema, "components": document["components"]}
            jsonschema.Draft202012Validator(whole).validate(answer.json())
