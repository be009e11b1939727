"""Several orders in one request, by the venue's SDK."""

from typing import Any

import orjson
import pytest
import upstox_client
from upstox_client import MultiOrderRequest

from sim.settings import RateLimits
from tests.sim.prints import last, trade_at
from tests.sim.simtools import RELIANCE, served
from tests.sim.vendor import called, sdk

PRICE = 1_480.0


def line(name: str, side: str = "BUY", **more: Any) -> dict[str, Any]:
    return {
        "quantity": 5, "product": "I", "validity": "DAY", "price": PRICE, "tag": "basket", "slice": False,
        "instrument_token": RELIANCE, "order_type": "LIMIT", "transaction_type": side, "disclosed_quantity": 0,
        "trigger_price": 0, "is_amo": False, "correlation_id": name, **more,
    }  # fmt: skip


async def failed(call: Any, body: Any) -> tuple[int, Any]:
    with pytest.raises(upstox_client.rest.ApiException) as caught:
        await called(call, body)
    return caught.value.status, orjson.loads(caught.value.body)


async def test_a_basket_is_placed_purchases_first_and_told_in_its_own_order() -> None:
    async with served() as exchange, sdk(exchange) as client:
        trade_at(exchange, RELIANCE, PRICE)
        orders = upstox_client.OrderApi(client)
        basket = [MultiOrderRequest(**line("sold", "SELL")), MultiOrderRequest(**line("bought"))]
        reply = await called(orders.place_multi_order, basket)
        assert (reply.status, reply.errors) == ("success", None)
        assert [each.correlation_id for each in reply.data] == ["sold", "bought"]
        assert reply.data[0].order_id > reply.data[1].order_id
        assert (reply.summary.total, reply.summary.success, reply.summary.error) == (2, 2, 0)
        history = (await called(orders.get_order_details, "2.0", tag="basket")).data
        assert {each.order_id for each in history} == {each.order_id for each in reply.data}


async def test_a_wrong_form_stops_all_what_fails_later_only_itself() -> None:
    async with served() as exchange, sdk(exchange) as client:
        place = upstox_client.OrderApi(client).place_multi_order
        for wrong, code, path in (
            (line("a"), "UDAPI1115", "[1].correlation_id"),
            (line(""), "UDAPI1114", "[1].correlation_id"),
            (line("x" * 21), "UDAPI1114", "[1].correlation_id"),
            (line("b", slice=None), "UDAPI1116", "[1].slice"),
            (line("b", quantity=0), "UDAPI1052", "[1].quantity"),
            (line("b", order_type="MARKET"), "UDAPI1158", "[1].market_protection"),
            (line("b", tag="t" * 41), "UDAPI1119", "[1].tag"),
            ("order", "UDAPI100038", None),
        ):
            status, reply = await failed(place, [line("a"), wrong])
            assert (status, reply["status"], reply["data"]) == (400, "error", [])
            [error] = reply["errors"]
            assert (error["error_code"], error["property_path"]) == (code, path)
            assert reply["summary"] == {"total": 2, "success": 0, "error": 0, "payload_error": 1}
        assert exchange.trading.ledger.ever == {}
        reply = await called(place, [line("a"), line("gone", instrument_token="NSE_EQ|INE000000000")])
        assert reply.status == "partial_success"
        assert ([each.correlation_id for each in reply.data], reply.errors[0].correlation_id) == (["a"], "gone")
        assert (reply.errors[0].error_code, reply.summary.success, reply.summary.error) == ("UDAPI100011", 1, 1)
        status, reply = await failed(place, [line("gone", instrument_token="MCX_FO|1")])
        assert (status, reply["status"], reply["errors"][0]["error_code"]) == (400, "error", "UDAPI1161")
        assert (await failed(place, {}))[1]["errors"][0]["error_code"] == "UDAPI100038"


async def test_slices_count_for_the_size_of_a_basket_and_for_the_limit_of_writes() -> None:
    limits = RateLimits(per_1_s=4, per_1_min=4)
    async with served(rate_limits=RateLimits(), order_rate_limits=limits) as exchange, sdk(exchange) as client:
        place = upstox_client.OrderApi(client).place_multi_order
        future = next(each for each in exchange.market.listing.instruments if each.instrument_type == "FUT")
        most = future.freeze_quantity // future.lot_size * future.lot_size
        price = round(last(exchange, future.key) * 0.99 // 1)
        big: dict[str, Any] = {"instrument_token": future.key, "price": price, "slice": True, "product": "D"}
        status, reply = await failed(place, [line("a", quantity=25 * most, **big), line("b")])
        assert (status, reply["errors"][0]["error_code"]) == (400, "UDAPI1118")
        reply = await called(place, [line("a", quantity=2 * most, **big)])
        assert [each.correlation_id for each in reply.data] == ["a", "a"]
        assert (reply.summary.total, reply.summary.success) == (1, 1)
        status, reply = await failed(place, [line("a"), line("b"), line("c")])
        assert (status, reply["errors"][0]["error_code"]) == (429, "UDAPI10005")
