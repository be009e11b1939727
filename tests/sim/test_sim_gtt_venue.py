"""GTTs at the served exchange, by the venue's SDK: their life, their refusals, what the stream tells of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import orjson
import pytest
import upstox_client
from upstox_client import GttCancelOrderRequest, GttModifyOrderRequest, GttPlaceOrderRequest, GttRule
from websockets.asyncio.client import ClientConnection, connect

from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.gtt_body import placement
from sim.hours import DAY_MS, midnight_ms
from tests.sim.prints import last, trade_at
from tests.sim.simtools import IST, RELIANCE, served, trader
from tests.sim.vendor import called, refused, sdk

LTP = 1_480.0


def rules(entry: float, target: float, stop: float, gap: float | None = None, trigger: str = "ABOVE") -> list[GttRule]:
    return [
        GttRule("ENTRY", trigger, entry, market_protection=1),
        GttRule("TARGET", "IMMEDIATE", target, market_protection=1),
        GttRule("STOPLOSS", "IMMEDIATE", stop, trailing_gap=gap, market_protection=1),
    ]


def body(kind: str, of: list[GttRule], *, quantity: int = 10, product: str = "I", side: str = "BUY") -> Any:
    return GttPlaceOrderRequest(kind, quantity, product, of, RELIANCE, side)


class Trader:
    """The SDK's GTT calls at an exchange that trades at 1,480."""

    def __init__(self, exchange: Exchange, client: upstox_client.ApiClient) -> None:
        self.exchange = exchange
        self.api = upstox_client.OrderApiV3(client)
        self.orders = upstox_client.OrderApi(client)

    async def place(self, asked: Any) -> str:
        reply = await called(self.api.place_gtt_order, asked)
        assert reply.metadata.latency >= 0
        [number] = reply.data.gtt_order_ids
        return str(number)

    async def seen(self, number: str) -> dict[str, Any]:
        """Leg -> its rule, of a live GTT."""
        [found] = (await called(self.api.get_gtt_order_details, gtt_order_id=number)).data
        return {rule.strategy: rule for rule in found.rules}

    async def statuses(self, number: str) -> list[str]:
        return [rule.status for rule in (await self.seen(number)).values()]

    def ever(self, number: str) -> list[str]:
        return [rule.status.value for rule in self.exchange.gtts.ever[number].rules]

    def trades(self, price: float, **more: Any) -> None:
        trade_at(self.exchange, RELIANCE, price, **more)

    async def child(self, order_id: str | None) -> Any:
        return (await called(self.orders.get_order_status, order_id=order_id)).data


@contextlib.asynccontextmanager
async def trading(**more: Any) -> AsyncIterator[Trader]:
    async with served(**more) as exchange, sdk(exchange) as client:
        found = Trader(exchange, client)
        found.trades(LTP)
        yield found


async def test_a_multiple_enters_arms_its_exits_and_leaves_by_one_of_them() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470)))
        assert await at.statuses(number) == ["SCHEDULED", "INACTIVE", "INACTIVE"]
        at.trades(1_484.9)
        assert await at.statuses(number) == ["SCHEDULED", "INACTIVE", "INACTIVE"]
        at.trades(1_485)
        seen = await at.seen(number)
        assert [rule.status for rule in seen.values()] == ["COMPLETED", "PENDING", "PENDING"]
        child = await at.child(seen["ENTRY"].order_id)
        assert (child.order_type, child.price, child.status, child.tag) == ("LIMIT", 1_499.9, "complete", None)
        assert [rule.transaction_type for rule in seen.values()] == ["BUY", "SELL", "SELL"]
        at.trades(1_501)
        assert (await called(at.api.get_gtt_order_details)).data == []
        assert at.ever(number) == ["COMPLETED", "COMPLETED", "CANCELLED"]
        assert at.exchange.trading.positions()[0].quantity == 0


async def test_a_detail_is_the_venues() -> None:
    async with trading() as at:
        number = await at.place(body("SINGLE", rules(1_400, 0, 0, trigger="BELOW")[:1], product="D"))
        await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470, gap=5)))
        single, multiple = (await called(at.api.get_gtt_order_details)).data
        assert (single.gtt_order_id, single.type, single.exchange) == (number, "SINGLE", "NSE_EQ")
        assert (single.trading_symbol, single.instrument_token, single.quantity) == ("RELIANCE", RELIANCE, 10)
        assert single.created_at == at.exchange.now_ms() * 1_000
        midnight = midnight_ms(at.exchange.market.on)
        assert multiple.expires_at == (midnight + DAY_MS - 1_000) * 1_000
        assert single.expires_at - multiple.expires_at == 365 * DAY_MS * 1_000
        assert multiple.rules[2].trailing_gap == 5
        assert single.rules[0].order_id is None


async def test_a_single_is_gone_when_its_order_rests_and_the_order_may_not_fill() -> None:
    async with trading() as at:
        number = await at.place(body("SINGLE", [GttRule("ENTRY", "ABOVE", 1_485.0)]))
        at.trades(1_490)  # through the trigger: the limit is left behind
        assert (await called(at.api.get_gtt_order_details, gtt_order_id=number)).data == []
        gone = at.exchange.gtts.ever[number].entry
        child = await at.child(gone.order_id)
        assert (gone.status.value, child.status, child.price) == ("COMPLETED", "open", 1_485)
        assert child.filled_quantity == 0


async def test_a_stop_leaves_as_a_limited_stop_order() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", rules(1_480, 1_500, 1_470, trigger="IMMEDIATE")))
        assert await at.statuses(number) == ["COMPLETED", "PENDING", "PENDING"]
        at.trades(1_440)  # a gap, wider than the protection
        seen = await at.seen(number)
        assert [rule.status for rule in seen.values()] == ["COMPLETED", "CANCELLED", "OPEN"]
        child = await at.child(seen["STOPLOSS"].order_id)
        assert (child.order_type, child.trigger_price, child.price) == ("SL", 1_470, 1_455.3)
        assert (child.status, child.transaction_type) == ("open", "SELL")
        at.trades(1_460)
        assert at.ever(number) == ["COMPLETED", "CANCELLED", "COMPLETED"]


@contextlib.asynccontextmanager
async def stream(exchange: Exchange) -> AsyncIterator[ClientConnection]:
    async with trader(exchange) as client:
        way = "/v2/feed/portfolio-stream-feed/authorize"
        reply = await client.get(way, params={"update_types": "gtt_order"})
        async with connect(reply.json()["data"]["authorized_redirect_uri"], proxy=None) as socket:
            yield socket


async def test_the_stream_tells_each_step_and_where_a_stop_has_trailed_to() -> None:
    async with trading() as at, stream(at.exchange) as socket:

        async def told() -> tuple[list[str], float]:
            message = orjson.loads(await asyncio.wait_for(socket.recv(), 10))
            assert (message["update_type"], message["exchange"]) == ("gtt_order", "NSE_EQ")
            assert "trading_symbol" not in message
            return [rule["status"] for rule in message["rules"]], message["rules"][-1]["trigger_price"]

        await at.place(body("MULTIPLE", rules(1_485, 1_520, 1_470, gap=5)))
        at.trades(1_485)
        assert [(await told())[0] for _ in range(3)] == [
            ["SCHEDULED", "INACTIVE", "INACTIVE"],
            ["TRIGGERED", "INACTIVE", "INACTIVE"],
            ["COMPLETED", "PENDING", "PENDING"],
        ]
        for price, stop in ((1_486.0, 1_481.0), (1_491.23, 1_486.2)):
            at.trades(price)
            assert await told() == (["COMPLETED", "PENDING", "PENDING"], stop)
        at.trades(1_489)  # back by less than the gap: nothing to tell
        at.trades(1_486)
        assert (await told())[0] == ["COMPLETED", "CANCELLED", "TRIGGERED"]
        assert (await told())[0] == ["COMPLETED", "CANCELLED", "COMPLETED"]


async def test_a_waiting_gtt_is_rewritten_an_open_one_only_in_part() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470)))
        modify = at.api.modify_gtt_order
        single = [GttRule("ENTRY", "BELOW", 1_470.0)]
        await called(modify, GttModifyOrderRequest("SINGLE", 20, single, number))
        assert (await at.seen(number))["ENTRY"].trigger_type == "BELOW"
        resting = [GttRule("ENTRY", "ABOVE", 1_481.0), *rules(0, 1_500, 1_470)[1:]]
        await called(modify, GttModifyOrderRequest("MULTIPLE", 10, resting, number))
        at.trades(1_483)  # the entry is left behind, and open
        assert await at.statuses(number) == ["OPEN", "INACTIVE", "INACTIVE"]
        for change, code, path in (
            (GttModifyOrderRequest("MULTIPLE", 10, resting, number), "UDAPI1150", "rules[0].trigger_type"),
            (GttModifyOrderRequest("MULTIPLE", 20, rules(1_481, 1_500, 1_470), number), "UDAPI1150", "quantity"),
            (GttModifyOrderRequest("SINGLE", 10, single, number), "UDAPI1126", "type"),
        ):
            assert await refused(modify, change) == (400, code, path)
        higher = [GttRule("ENTRY", "IMMEDIATE", 1_484.1), GttRule("STOPLOSS", "IMMEDIATE", 1_475.0)]
        await called(modify, GttModifyOrderRequest("MULTIPLE", 10, higher, number))
        seen = await at.seen(number)
        assert [(rule.status, rule.trigger_price) for rule in seen.values()] == [
            ("COMPLETED", 1_484.1),
            ("PENDING", 1_475.0),
        ]
        tighter = [GttRule("ENTRY", "IMMEDIATE", 1.0), *rules(0, 1_510, 1_490)[1:]]  # the entry says nothing any more
        await called(modify, GttModifyOrderRequest("MULTIPLE", 10, tighter, number))
        at.trades(1_489)
        assert at.ever(number) == ["COMPLETED", "CANCELLED", "COMPLETED"]
        assert (await refused(modify, GttModifyOrderRequest("MULTIPLE", 10, tighter, number))).code == "UDAPI100010"


async def test_a_reprice_that_the_exchange_refuses_changes_nothing() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", [GttRule("ENTRY", "ABOVE", 1_481.0), *rules(0, 1_500, 1_470)[1:]]))
        at.trades(1_483)
        entry = (await at.seen(number))["ENTRY"]
        at.exchange.trading.cancel(entry.order_id, at_ms=at.exchange.now_ms())
        assert at.ever(number) == ["CANCELLED", "CANCELLED", "CANCELLED"]
        change = GttModifyOrderRequest("MULTIPLE", 10, rules(1_484, 1_500, 1_470, trigger="IMMEDIATE"), number)
        assert (await refused(at.api.modify_gtt_order, change)).code == "UDAPI100010"


async def test_cancelling_is_a_delete_with_a_body_and_takes_the_open_order_along() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", [GttRule("ENTRY", "ABOVE", 1_481.0), *rules(0, 1_500, 1_470)[1:]]))
        at.trades(1_483)
        entry = (await at.seen(number))["ENTRY"]
        reply = await called(at.api.cancel_gtt_order, GttCancelOrderRequest(number))
        assert reply.data.gtt_order_ids == [number]
        assert at.ever(number) == ["CANCELLED"] * 3
        assert (await at.child(entry.order_id)).status == "cancelled"
        failure = await refused(at.api.cancel_gtt_order, GttCancelOrderRequest(number))
        assert failure == (400, "UDAPI100010", "gtt_order_id")


RULES: list[dict[str, Any]] = [
    {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 1_485.0, "market_protection": -1},
    {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 1_500.0},
    {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 1_470.0, "trailing_gap": 4},
]
GOOD: dict[str, Any] = {
    "type": "MULTIPLE", "quantity": 10, "product": "I", "instrument_token": RELIANCE, "transaction_type": "BUY",
    "rules": RULES,
}  # fmt: skip


def with_rule(place: int, **wrong: Any) -> dict[str, Any]:
    return {"rules": [rule | wrong if place == number else rule for number, rule in enumerate(RULES)]}


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": None}, "UDAPI1126", "type"),
    ({"type": "OCO"}, "UDAPI1126", "type"),
    ({"quantity": 0}, "UDAPI1052", "quantity"),
    ({"quantity": 1.5}, "UDAPI1052", "quantity"),
    ({"product": "CO"}, "UDAPI1054", "product"),
    ({"transaction_type": "HOLD"}, "UDAPI1057", "transaction_type"),
    ({"instrument_token": None}, "UDAPI1026", "instrument_token"),
    ({"instrument_token": "RELIANCE"}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": "NSE_EQ|INE000000000"}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": "NSE_INDEX|Nifty 50"}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": "MCX_FO|1"}, "UDAPI1161", "instrument_token"),
    ({"rules": None}, "UDAPI1127", "rules"),
    ({"rules": []}, "UDAPI1127", "rules"),
    ({"rules": ["ENTRY"]}, "UDAPI1127", "rules"),
    ({"type": "SINGLE"}, "UDAPI1136", "rules"),
    ({"rules": RULES[:1]}, "UDAPI1137", "rules"),
    ({"rules": RULES[1:]}, "UDAPI1141", "rules"),
    ({"rules": [*RULES[:2], RULES[1]]}, "UDAPI1142", "rules"),
    (with_rule(0, strategy=None), "UDAPI1128", "rules[0].strategy"),
    (with_rule(0, strategy="EXIT"), "UDAPI1129", "rules[0].strategy"),
    (with_rule(0, trigger_type=None), "UDAPI1130", "rules[0].trigger_type"),
    (with_rule(0, trigger_type="AT"), "UDAPI1131", "rules[0].trigger_type"),
    (with_rule(1, trigger_type="ABOVE"), "UDAPI1143", "rules[1].trigger_type"),
    (with_rule(0, trigger_price=None), "UDAPI1132", "rules[0].trigger_price"),
    (with_rule(0, trigger_price=-1), "UDAPI1133", "rules[0].trigger_price"),
    (with_rule(0, trigger_price="1485"), "UDAPI1133", "rules[0].trigger_price"),
    (with_rule(0, trigger_price=1_485.03), "UDAPI1138", "rules[0].trigger_price"),
    (with_rule(2, trailing_gap=0), "UDAPI1139", "rules[2].trailing_gap"),
    (with_rule(1, trailing_gap=5), "UDAPI1140", "rules[1].trailing_gap"),
    (with_rule(2, trailing_gap=0.95), "UDAPI1151", "rules[2].trailing_gap"),
    (with_rule(1, trigger_price=1_484.0), "UDAPI1144", "rules[1].trigger_price"),
    (with_rule(2, trigger_price=1_486.0), "UDAPI1145", "rules[2].trigger_price"),
    (with_rule(0, market_protection=26), "UDAPI1176", "rules[0].market_protection"),
    (with_rule(0, market_protection=-2), "UDAPI1177", "rules[0].market_protection"),
    (with_rule(0, market_protection="x"), "UDAPI1177", "rules[0].market_protection"),
]


async def test_each_wrong_field_has_its_code_and_its_path() -> None:
    async with trading(gtt_limit=1) as at:
        for wrong, code, path in REFUSALS:
            assert await refused(at.api.place_gtt_order, GOOD | wrong) == (400, code, path), wrong
        assert at.exchange.gtts.ever == {}
        number = await at.place(GOOD)
        assert (await refused(at.api.place_gtt_order, GOOD)).code == "UDAPI100010"  # one is the limit here
        change = {"type": "MULTIPLE", "quantity": 10, "rules": RULES}
        for call in (at.api.modify_gtt_order, at.api.cancel_gtt_order):
            assert await refused(call, change) == (400, "UDAPI1134", "gtt_order_id")
            assert await refused(call, change | {"gtt_order_id": "X1"}) == (400, "UDAPI1135", "gtt_order_id")
            assert (await refused(call, change | {"gtt_order_id": "GTT-0"})).code == "UDAPI100010"
        get = at.api.get_gtt_order_details
        assert (await refused(get, gtt_order_id="X1")).code == "UDAPI1135"
        assert (await refused(get, gtt_order_id="GTT-0")).code == "UDAPI100010"
        assert await at.statuses(number) == ["SCHEDULED", "INACTIVE", "INACTIVE"]


async def test_an_order_that_is_turned_down_fails_its_rule_with_the_reason() -> None:
    async with trading() as at:
        number = await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470), quantity=90_000))
        at.trades(1_485)
        assert at.ever(number) == ["FAILED", "CANCELLED", "CANCELLED"]
        [seen] = [each for each in (await window(at.exchange)) if each["gtt_order_id"] == number]
        assert "Insufficient funds" in seen["rules"][0]["message"]
        assert (seen["live"], seen["orders"][0]["status"]) == (False, "rejected")


async def window(exchange: Exchange) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=exchange.url, trust_env=False) as client:
        found: list[dict[str, Any]] = (await client.get("/sim/gtts")).json()["data"]
        return found


async def test_a_write_that_is_answered_with_500_or_not_at_all_has_happened() -> None:
    async with trading() as at:
        single = body("SINGLE", [GttRule("ENTRY", "ABOVE", 1_485.0)])
        at.exchange.order_fault(FaultRequest(order_500=1))
        assert (await refused(at.api.place_gtt_order, single)).status == 500
        at.exchange.order_fault(FaultRequest(order_lost=1))
        with pytest.raises(Exception, match=r"Connection aborted|Max retries"):
            await called(at.api.place_gtt_order, single)
        at.exchange.order_fault(FaultRequest(order_lost=0, order_500=0))
        assert len((await called(at.api.get_gtt_order_details)).data) >= 2
        at.exchange.account.set_ips("10.0.0.1", None, at.exchange.now_ms())
        assert await refused(at.api.place_gtt_order, single) == (403, "UDAPI1154", None)


async def test_a_day_ends_intraday_gtts_and_the_next_one_finds_the_others() -> None:
    evening = datetime(2026, 11, 19, 23, 58, tzinfo=IST)
    async with trading(start=evening, conflation_ms=60_000) as at:
        today = await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470)))
        longer = await at.place(body("MULTIPLE", rules(1_485, 1_500, 1_470), product="D"))
        await at.exchange.advance(60_000)
        assert at.exchange.gtts.ever[today].is_live
        await at.exchange.advance(60_000)
        assert at.ever(today) == ["EXPIRED"] * 3
        await at.exchange.advance(7 * 3_600_000)
        assert at.exchange.market.on.isoformat() == "2026-11-20"
        assert at.exchange.gtts.ever[longer].is_live
        at.trades(1_486)
        assert at.ever(longer)[0] == "OPEN"  # its order waits for the morning


async def test_exits_can_be_armed_by_every_part_of_the_entry() -> None:
    async with trading(gtt_arms_on="fill") as at:
        at.exchange.order_fault(FaultRequest(partial_fills=4))
        entry = GttRule("ENTRY", "IMMEDIATE", 1_480.0)
        number = await at.place(body("MULTIPLE", [entry, *rules(0, 1_500, 1_470)[1:]]))
        at.trades(1_479.9)
        assert await at.statuses(number) == ["OPEN", "PENDING", "PENDING"]
        entered = at.exchange.gtts.ever[number].entry.filled
        assert 0 < entered < 10
        at.exchange.order_fault(FaultRequest(partial_fills=0))
        at.trades(1_500)
        assert at.ever(number) == ["CANCELLED", "COMPLETED", "CANCELLED"]
        assert at.exchange.trading.positions()[0].quantity == 0


async def test_thousands_of_gtts_cost_an_interval_little() -> None:
    async with served(instruments=500) as exchange:
        desk, now_ms = exchange.gtts, exchange.now_ms()
        keys = [each.key for each in exchange.market.listing.instruments if each.segment == "NSE_EQ"]
        for number in range(5_000):
            key = keys[number % len(keys)]
            far = {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": last(exchange, key) * 3 // 1}
            desk.place(placement(GOOD | {"type": "SINGLE", "instrument_token": key, "rules": [far]}), now_ms)
        spent_s = []
        for update in exchange.market.advance(now_ms + 30_000):
            began_s = time.process_time()
            desk.step(update)
            spent_s.append(time.process_time() - began_s)
        assert len(desk.live()) == 5_000
        assert sum(spent_s) / len(spent_s) < 0.002
