"""What a page does, through the real gateway, order worker and exchange: GTTs from trigger to exit, an order under one
key while everything is killed, the halt."""

import asyncio
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.end_to_end.orders_compared import differences
from tests.end_to_end.orders_storm import flat
from tests.end_to_end.orders_town import API, Town, town
from tests.gateway.house import Message, connect
from tests.sim.simtools import RELIANCE

_UNITS = 25
_NEAR = 0.01  # percent: the market is there within seconds
_FAR = 3.0


class Ear:
    """Everything that `stream/orders` says."""

    def __init__(self, told: list[Message]) -> None:
        self.told = told

    def of(self, event: str, **wanted: Any) -> list[dict[str, Any]]:
        bodies = [orjson.loads(each.data) for each in self.told if each.event == event]
        return [body for body in bodies if all(body.get(name) == value for name, value in wanted.items())]

    def rules(self, gtt_id: str, leg: str) -> list[str]:
        """The states of a rule, one after the other."""
        found: list[str] = []
        for gtt in self.of("gtt", gtt_order_id=gtt_id):
            (state,) = [rule["status"] for rule in gtt["rules"] if rule["strategy"] == leg]
            if found[-1:] != [state]:
                found.append(state)
        return found


async def listen(place: Town, ear: Ear) -> None:
    client = await connect(place.url, "orders")
    try:
        while True:
            ear.told.append(await client.message())
    finally:
        await client.close()


async def test_from_the_page_to_the_exchange_and_back(tmp_path: Path) -> None:
    async with town(tmp_path / "home") as place:
        ear = Ear([])
        listening = asyncio.create_task(listen(place, ear))
        try:
            for engine in ("ours", "venue"):
                await enters_and_leaves(place, ear, engine)
            await halted_within_a_second(place)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await one_key_is_one_order(place)
        await flat(place)

        async def agree() -> bool:
            return not await differences(place)

        await place.until(agree, "the exchange and the journal tell the same", 20)


def rules(place: Town, target: float, stop: float) -> list[dict[str, Any]]:
    """As the seeds have them; percent from the market."""
    legs = (("ENTRY", "ABOVE", _NEAR), ("TARGET", "IMMEDIATE", target), ("STOPLOSS", "IMMEDIATE", stop))
    return [
        {"strategy": leg, "trigger_type": kind, "trigger_price": float(place.price(RELIANCE, percent))}
        for leg, kind, percent in legs
    ]


async def enters_and_leaves(place: Town, ear: Ear, engine: str) -> None:
    """The market reaches the entry, then an exit that was brought near."""
    body: dict[str, Any] = {
        "type": "MULTIPLE", "quantity": _UNITS, "product": "I", "rules": rules(place, _FAR, -_FAR),
        "instrument_token": RELIANCE, "transaction_type": "BUY", "engine": engine,
    }  # fmt: skip
    placed = (await place.call("POST", "gtt/place", body)).json()
    (gtt_id,) = placed["data"]["gtt_order_ids"]
    assert placed["gtt"]["engine"] == engine

    async def entered() -> bool:
        return ear.rules(gtt_id, "STOPLOSS")[-1:] == ["PENDING"]

    await place.until(entered, f"{engine}: the entry is filled and the exits are armed")

    async def out() -> bool:
        """The market may stand still for a while: the exits come to where it is."""
        gtt = await place.get(f"gtt/{gtt_id}")
        if gtt["live"] and all(rule["status"] != "TRIGGERED" for rule in gtt["rules"][1:]):
            change = {"gtt_order_id": gtt_id, "type": "MULTIPLE", "quantity": _UNITS}
            entry = {**body["rules"][0], "trigger_type": "IMMEDIATE"}  # the venue's word for one that is open
            near = [entry, *rules(place, _NEAR, -_NEAR)[1:]]
            await place.call("PUT", "gtt/modify", {**change, "rules": near})
            await asyncio.sleep(1.0)
        return not gtt["live"]

    await place.until(out, f"{engine}: an exit is done")

    async def told() -> bool:
        return bool(ear.of("gtt", gtt_order_id=gtt_id, live=False)) and await _held(place) == 0

    await place.until(told, f"{engine}: the end is told")
    everything_was_told(ear, gtt_id)


async def _held(place: Town) -> int:
    return sum(position["quantity"] for position in await place.get("positions?mode=live"))


def everything_was_told(ear: Ear, gtt_id: str) -> None:
    states = ear.rules(gtt_id, "ENTRY")
    assert (states[0], states[-1]) == ("SCHEDULED", "COMPLETED"), states
    done = [leg for leg in ("TARGET", "STOPLOSS") if ear.rules(gtt_id, leg)[-1] == "COMPLETED"]
    assert len(done) == 1, [ear.rules(gtt_id, leg) for leg in ("TARGET", "STOPLOSS")]
    ours = ear.of("order", gtt_id=gtt_id)
    ends = {order["order_id"]: order["status"] for order in ours}
    assert set(ends.values()) == {"complete"}
    fills = ear.of("fill", gtt_id=gtt_id) or [fill for order_id in ends for fill in ear.of("fill", order_id=order_id)]
    bought = Counter[str]()
    for fill in fills:
        bought[fill["side"]] += fill["quantity"]
        assert fill["charges"]["total"] > 0
    assert bought == {"BUY": _UNITS, "SELL": _UNITS}
    assert ear.of("position")[-1]["quantity"] == 0


async def halted_within_a_second(place: Town) -> None:
    bought = await place.call("POST", "orders/place", market("BUY"))
    assert bought.status_code == 200, bought.text
    halt = (await place.call("POST", "trading/halt", {"why": "news"})).json()["halt"]

    async def obeyed() -> bool:
        return bool(await place.rows("SELECT 1 FROM journal WHERE kind = 'halted'"))

    await place.until(obeyed, "the worker has heard of the halt")
    (row,) = await place.rows("SELECT ts FROM journal WHERE kind = 'halted'")
    assert row["ts"] - halt["ts"] < 1000
    refused = await place.call("POST", "orders/place", market("BUY"))
    assert (refused.status_code, refused.json()["rule"]) == (409, "halt")
    sold = await place.call("POST", "orders/place", market("SELL"))
    assert sold.status_code == 200, sold.text  # what reduces risk passes
    assert (await place.call("POST", "trading/resume")).json() == {"resumed": True}


def market(side: str) -> dict[str, Any]:
    return {"instrument_token": RELIANCE, "transaction_type": side, "quantity": _UNITS, "order_type": "MARKET"}


async def one_key_is_one_order(place: Town) -> None:
    """The gateway and the worker die while the call is under way; the page asks again and again."""
    body = {**market("BUY"), "order_type": "LIMIT", "price": str(place.price(RELIANCE, -_FAR))}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    asking = asyncio.create_task(place.http.post(f"{API}/orders/place", json=body, headers=key))
    await asyncio.sleep(0)
    for name in ("gtt", "gateway"):
        await asyncio.to_thread(place.running[name].kill)
    await asyncio.gather(asking, return_exceptions=True)
    answers: list[dict[str, Any]] = []

    async def answered_twice() -> bool:
        try:
            told = await place.http.post(f"{API}/orders/place", json=body, headers=key)
        except httpx.TransportError:
            return False
        if told.status_code == 200:
            answers.append(told.json())
        return len(answers) == 2

    await place.until(answered_twice, "the same key has been answered twice")
    ((first,), (second,)) = (answer["data"]["order_ids"] for answer in answers)
    assert first == second
    assert len(place.exchange.trading.tagged(first)) == 1
