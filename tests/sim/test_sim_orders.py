"""Orders over REST: their life, the words for it, and what is refused."""

from typing import Any

import pytest

from tests.sim.ordertools import (
    PLACED,
    body,
    details,
    funds,
    future,
    history,
    market_body,
    option,
    place,
    positions,
    refusal,
    touch,
)
from tests.sim.simtools import NIFTY, RELIANCE, served, trader


async def test_a_waiting_order_has_the_venues_words_and_fields() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body(tag="w1-7"))
        assert await history(client, order_id) == PLACED
        order = await details(client, order_id)
        assert order["status"] == "open"
        assert (order["quantity"], order["filled_quantity"], order["pending_quantity"]) == (10, 0, 10)
        assert (order["exchange"], order["trading_symbol"], order["tag"]) == ("NSE", "RELIANCE", "w1-7")
        assert (order["order_timestamp"], order["order_request_id"]) == ("2026-11-20 10:30:00", "1")
        assert order["exchange_order_id"]
        book = (await client.get("/v2/order/retrieve-all")).json()["data"]
        assert [each["order_id"] for each in book] == [order_id]


async def test_a_market_order_trades_at_what_is_shown_and_makes_a_position() -> None:
    async with served() as exchange, trader(exchange) as client:
        _, ask = touch(exchange, RELIANCE)
        order_id = await place(client, market_body())
        order = await details(client, order_id)
        assert (order["status"], order["average_price"], order["order_type"]) == ("complete", ask, "LIMIT")
        trades = (await client.get("/v2/order/trades", params={"order_id": order_id})).json()["data"]
        assert sum(each["quantity"] for each in trades) == 10
        of_day = (await client.get("/v2/order/trades/get-trades-for-day")).json()["data"]
        assert [each["trade_id"] for each in of_day] == [each["trade_id"] for each in trades]
        position = (await positions(client))[RELIANCE, "I"]
        assert (position["quantity"], position["average_price"], position["day_buy_quantity"]) == (10, ask, 10)
        assert position["pnl"] == pytest.approx((position["last_price"] - ask) * 10)
        await place(client, market_body(transaction_type="SELL"))
        position = (await positions(client))[RELIANCE, "I"]
        assert (position["quantity"], position["average_price"]) == (0, None)
        assert position["realised"] == pytest.approx(position["sell_value"] - position["buy_value"])


async def test_a_big_order_walks_the_levels_and_what_is_left_waits_at_its_limit() -> None:
    async with served(funds=10**9) as exchange, trader(exchange) as client:
        _, ask = touch(exchange, RELIANCE)
        limit = round(ask + 0.5, 2)
        order_id = await place(client, body(quantity=50_000, price=limit))
        order = await details(client, order_id)
        assert order["status"] == "open"
        assert 0 < order["filled_quantity"] < 50_000
        trades = (await client.get("/v2/order/trades", params={"order_id": order_id})).json()["data"]
        prices = [each["average_price"] for each in trades]
        assert prices == sorted(prices)
        assert prices[0] == ask
        assert prices[-1] <= limit
        again = await place(client, body(quantity=5, price=limit))
        assert (await details(client, again))["filled_quantity"] == 0, "what was taken is not there a second time"
        await exchange.advance(60_000)
        assert (await details(client, order_id))["filled_quantity"] >= order["filled_quantity"]


async def test_an_order_at_the_touch_fills_as_trades_print_through_it() -> None:
    async with served() as exchange, trader(exchange) as client:
        contract = option(exchange)
        bid, _ = touch(exchange, contract.key)
        asked = body(instrument_token=contract.key, quantity=contract.lot_size, price=bid)
        order_id = await place(client, asked)
        assert (await details(client, order_id))["status"] == "open"
        for _ in range(40):
            await exchange.advance(15_000)
            if (order := await details(client, order_id))["status"] == "complete":
                break
        assert (order["status"], order["average_price"]) == ("complete", bid)


async def test_an_ioc_order_takes_what_is_there_and_leaves_nothing() -> None:
    async with served(funds=10**9) as exchange, trader(exchange) as client:
        _, ask = touch(exchange, RELIANCE)
        order_id = await place(client, body(quantity=50_000, price=ask, validity="IOC"))
        order = await details(client, order_id)
        assert order["status"] == "cancelled"
        assert 0 < order["filled_quantity"] < 50_000
        assert order["pending_quantity"] == 0
        nothing = await place(client, body(validity="IOC"))
        assert (await details(client, nothing))["status"] == "cancelled"


async def test_a_stop_waits_for_its_trigger_and_then_trades() -> None:
    async with served() as exchange, trader(exchange) as client:
        contract = option(exchange)
        last = float(exchange.trading.last(contract.key))
        trigger, limit = round(last * 0.95, 1), round(last * 0.7, 1)
        await place(client, market_body(instrument_token=contract.key, quantity=contract.lot_size))
        stop = body(
            instrument_token=contract.key,
            transaction_type="SELL",
            quantity=contract.lot_size,
            order_type="SL",
            price=limit,
            trigger_price=trigger,
        )
        order_id = await place(client, stop)
        assert (await history(client, order_id))[-1] == "trigger pending"
        for _ in range(200):
            await exchange.advance(60_000)
            if (order := await details(client, order_id))["status"] != "trigger pending":
                break
            assert float(exchange.trading.last(contract.key)) > trigger
        assert order["status"] in ("complete", "cancelled")
        if order["status"] == "complete":
            assert limit <= order["average_price"]
            assert (await history(client, order_id))[3:] == ["trigger pending", "open", "complete"]


async def test_a_modified_order_trades_by_its_new_terms_and_counts_its_requests() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body())
        _, ask = touch(exchange, RELIANCE)
        change = {"order_id": order_id, "order_type": "LIMIT", "validity": "DAY", "trigger_price": 0}
        reply = await client.put("/v3/order/modify", json=change | {"price": ask, "quantity": 7})
        assert reply.json()["data"] == {"order_id": order_id}
        assert reply.json()["metadata"]["latency"] >= 0
        order = await details(client, order_id)
        assert (order["status"], order["filled_quantity"], order["order_request_id"]) == ("complete", 7, "2")
        assert (await history(client, order_id))[4:] == [
            "modify pending",
            "modify validation pending",
            "modified",
            "open",
            "complete",
        ]
        reply = await client.put("/v3/order/modify", json=change | {"price": ask})
        assert refusal(reply) == (400, "UDAPI100041", "order_id")


async def test_a_modification_that_the_exchange_refuses_leaves_the_order_as_it_was() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body())
        change = {"order_id": order_id, "order_type": "LIMIT", "validity": "DAY", "trigger_price": 0}
        for wrong in ({"price": 1_400.03}, {"price": 10.0}, {"price": 1_400.0, "quantity": 10_000_000}):
            reply = await client.put("/v3/order/modify", json=change | wrong)
            assert reply.status_code == 200
            assert (await history(client, order_id))[-2:] == ["not modified", "open"]
        order = await details(client, order_id)
        assert (order["status"], order["price"], order["quantity"]) == ("open", 1_400.0, 10)
        assert order["order_request_id"] == "4"


async def test_only_a_smaller_quantity_keeps_its_place_in_the_queue() -> None:
    async with served() as exchange, trader(exchange) as client:
        bid, _ = touch(exchange, RELIANCE)
        order_id = await place(client, body(price=bid, quantity=20))
        change = {"order_id": order_id, "order_type": "LIMIT", "validity": "DAY", "trigger_price": 0, "price": bid}
        (first,) = [(each.number, each.quantity, each.ahead) for each in exchange.trading.floor.waiting()]
        assert first[2] > 0
        await client.put("/v3/order/modify", json=change | {"quantity": 15})
        (smaller,) = [(each.number, each.quantity, each.ahead) for each in exchange.trading.floor.waiting()]
        assert smaller == (first[0], 15, first[2])
        await client.put("/v3/order/modify", json=change | {"quantity": 18})
        (larger,) = [(each.number, each.quantity) for each in exchange.trading.floor.waiting()]
        assert larger[0] > first[0]
        assert larger[1] == 18
        assert (await details(client, order_id))["pending_quantity"] == 18


async def test_a_cancelled_order_is_gone() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, body())
        reply = await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert reply.json()["data"] == {"order_id": order_id}
        assert (await history(client, order_id))[-2:] == ["cancel pending", "cancelled"]
        reply = await client.delete("/v3/order/cancel", params={"order_id": order_id})
        assert refusal(reply) == (400, "UDAPI100040", "order_id")
        assert exchange.trading.ledger.live == {}


FIELDS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"instrument_token": ""}, "UDAPI1026", "instrument_token"),
    ({"instrument_token": None}, "UDAPI1026", "instrument_token"),
    ({"instrument_token": 5}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": "NSE_EQ|NOBODY"}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": NIFTY}, "UDAPI100011", "instrument_token"),
    ({"instrument_token": "MCX_FO|1"}, "UDAPI1161", "instrument_token"),
    ({"quantity": 0}, "UDAPI1052", "quantity"),
    ({"quantity": -1}, "UDAPI1052", "quantity"),
    ({"quantity": 1.5}, "UDAPI1052", "quantity"),
    ({"quantity": True}, "UDAPI1052", "quantity"),
    ({"quantity": None}, "UDAPI1052", "quantity"),
    ({"product": "OCO"}, "UDAPI1054", "product"),
    ({"transaction_type": "HOLD"}, "UDAPI1057", "transaction_type"),
    ({"order_type": None}, "UDAPI1004", "order_type"),
    ({"order_type": "STOP"}, "UDAPI1007", "order_type"),
    ({"validity": ""}, "UDAPI1055", "validity"),
    ({"validity": "EOS"}, "UDAPI1056", "validity"),
    ({"price": None}, "UDAPI1043", "price"),
    ({"price": 0}, "UDAPI1043", "price"),
    ({"price": -3}, "UDAPI100036", "price"),
    ({"price": "1400"}, "UDAPI100036", "price"),
    ({"order_type": "SL", "trigger_price": 0}, "UDAPI100036", "trigger_price"),
    ({"disclosed_quantity": 11}, "UDAPI100036", "disclosed_quantity"),
    ({"is_amo": "no"}, "UDAPI100036", "is_amo"),
    ({"tag": "t" * 41}, "UDAPI1119", "tag"),
    ({"tag": 5}, "UDAPI100036", "tag"),
    ({"order_type": "MARKET"}, "UDAPI1158", "market_protection"),
    ({"order_type": "MARKET", "market_protection": 0}, "UDAPI1158", "market_protection"),
    ({"order_type": "SL-M", "trigger_price": 1_400}, "UDAPI1158", "market_protection"),
    ({"order_type": "MARKET", "market_protection": 26}, "UDAPI1176", "market_protection"),
    ({"order_type": "MARKET", "market_protection": -2}, "UDAPI1177", "market_protection"),
    ({"order_type": "MARKET", "market_protection": "auto"}, "UDAPI1177", "market_protection"),
    ({"slice": True, "quantity": 2_600_000}, "UDAPI1118", "quantity"),
]


async def test_every_field_that_is_wrong_is_refused_with_its_code_and_name() -> None:
    async with served() as exchange, trader(exchange) as client:
        for wrong, code, path in FIELDS:
            reply = await client.post("/v3/order/place", json=body(**wrong))
            assert refusal(reply) == (400, code, path), wrong
            assert reply.json()["errors"][0]["propertyPath"] == path
        for raw in (b"[]", b"{", b'{"quantity": NaN}', b""):
            reply = await client.post("/v3/order/place", content=raw)
            assert refusal(reply)[:2] == (400, "UDAPI100038")
        assert exchange.trading.ledger.ever == {}


async def test_ids_are_refused_in_the_venues_codes() -> None:
    async with served() as exchange, trader(exchange) as client:
        change = {"order_type": "LIMIT", "validity": "DAY", "price": 5, "trigger_price": 0}
        for order_id, code in (("", "UDAPI1023"), ("a b", "UDAPI1010"), ("261120000009999", "UDAPI100010")):
            query = {"order_id": order_id}
            assert refusal(await client.delete("/v3/order/cancel", params=query)) == (400, code, "order_id")
            assert refusal(await client.put("/v3/order/modify", json=change | query)) == (400, code, "order_id")
            assert refusal(await client.get("/v2/order/details", params=query)) == (400, code, "order_id")
            assert refusal(await client.get("/v2/order/history", params=query)) == (400, code, "order_id")
            assert refusal(await client.get("/v2/order/trades", params=query)) == (400, code, "order_id")
        assert refusal(await client.put("/v3/order/modify", json=change))[1] == "UDAPI1023"


REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"price": 1_400.03}, "tick"),
    ({"price": 1.0}, "circuit"),
    ({"quantity": 100_001}, "freeze"),
    ({"order_type": "SL", "price": 1_400, "trigger_price": 1_450}, "Trigger price"),
    ({"quantity": 90_000, "product": "D"}, "Insufficient funds"),
    ({"transaction_type": "SELL", "product": "D", "price": 1_500}, "Insufficient holdings"),
]


async def test_what_the_exchange_turns_down_is_accepted_first_and_rejected_then() -> None:
    async with served() as exchange, trader(exchange) as client:
        for wrong, reason in REJECTED:
            order = await details(client, await place(client, body(**wrong)))
            assert order["status"] == "rejected", wrong
            assert reason in order["status_message"]
        contract = option(exchange)
        odd = body(instrument_token=contract.key, quantity=contract.lot_size + 1, price=50)
        assert "lot" in (await details(client, await place(client, odd)))["status_message"]
        mtf = body(instrument_token=contract.key, quantity=contract.lot_size, price=50, product="MTF")
        assert "MTF" in (await details(client, await place(client, mtf)))["status_message"]
        assert await positions(client) == {}


async def test_a_sliced_order_becomes_several_with_the_same_tag() -> None:
    async with served(funds=10**9) as exchange, trader(exchange) as client:
        contract = option(exchange)
        asked = body(instrument_token=contract.key, quantity=contract.lot_size * 60, price=1.0, slice=True, tag="s1")
        reply = await client.post("/v3/order/place", json=asked)
        ids = reply.json()["data"]["order_ids"]
        history_of_tag = (await client.get("/v2/order/history", params={"tag": "s1"})).json()["data"]
        assert {each["order_id"] for each in history_of_tag} == set(ids)
        quantities = [(await details(client, each))["quantity"] for each in ids]
        assert sum(quantities) == contract.lot_size * 60
        most = contract.freeze_quantity // contract.lot_size * contract.lot_size
        assert quantities[:-1] == [most] * (len(ids) - 1)
        assert (await client.get("/v2/order/history", params={"tag": "nobody"})).json()["data"] == []


async def test_funds_follow_premiums_margins_and_losses() -> None:
    async with served() as exchange, trader(exchange) as client:
        start = (await funds(client))["total"]
        contract = option(exchange)
        lot = {"instrument_token": contract.key, "quantity": contract.lot_size}
        bought = await details(client, await place(client, market_body(**lot)))
        spent = bought["average_price"] * contract.lot_size
        now = await funds(client)
        assert now["cash_available_to_trade"]["margin_used"]["premium_present"] == pytest.approx(spent, abs=1)
        assert now["total"] == pytest.approx(start - spent, abs=1)
        sold = await details(client, await place(client, market_body(**lot, transaction_type="SELL")))
        loss = (bought["average_price"] - sold["average_price"]) * contract.lot_size
        assert loss > 0, "the spread was paid"
        assert (await funds(client))["total"] == pytest.approx(start - loss, abs=0.01)
        short = future(exchange)
        await place(client, market_body(instrument_token=short.key, quantity=short.lot_size, transaction_type="SELL"))
        used = (await funds(client))["cash_available_to_trade"]["margin_used"]
        assert used["span_exposure"] > 0.1 * float(exchange.trading.last(short.key)) * short.lot_size


async def test_a_waiting_order_blocks_its_money_until_it_is_cancelled() -> None:
    async with served(funds=15_000) as exchange, trader(exchange) as client:
        first = await place(client, body(product="D"))
        assert (await funds(client))["total"] == pytest.approx(1_000)
        second = await place(client, body(product="D"))
        assert (await details(client, second))["status"] == "rejected"
        await client.delete("/v3/order/cancel", params={"order_id": first})
        third = await place(client, body(product="D"))
        assert (await details(client, third))["status"] == "open"
        assert exchange.trading.funds().available == 1_000


async def test_holdings_are_sold_from_and_counted() -> None:
    async with served(holdings={RELIANCE: 25}) as exchange, trader(exchange) as client:
        await place(client, market_body(transaction_type="SELL", product="D", quantity=20))
        holding = (await client.get("/v2/portfolio/long-term-holdings")).json()["data"][0]
        assert (holding["quantity"], holding["cnc_used_quantity"], holding["isin"]) == (25, 20, "INE002A01018")
        more = await place(client, market_body(transaction_type="SELL", product="D", quantity=10))
        assert "5 there" in (await details(client, more))["status_message"]
        assert (await funds(client))["cash_available_to_trade"]["cash"]["amount_from_stock_sale"] > 0
        assert exchange.trading.portfolio.position(RELIANCE, "D") == -20


async def test_a_position_is_converted_to_another_product() -> None:
    async with served() as exchange, trader(exchange) as client:
        await place(client, market_body(quantity=10))
        asked = {
            "instrument_token": RELIANCE,
            "old_product": "I",
            "new_product": "D",
            "transaction_type": "BUY",
            "quantity": 4,
        }
        assert (await client.put("/v2/portfolio/convert-position", json=asked)).json()["data"] == {"status": "complete"}
        held = await positions(client)
        assert (held[RELIANCE, "I"]["quantity"], held[RELIANCE, "D"]["quantity"]) == (6, 4)
        assert held[RELIANCE, "D"]["average_price"] == held[RELIANCE, "I"]["average_price"]
        reply = await client.put("/v2/portfolio/convert-position", json=asked | {"quantity": 7})
        assert refusal(reply) == (400, "UDAPI1035", "quantity")
        assert exchange.trading.portfolio.position(RELIANCE, "I") == 6


async def test_many_are_cancelled_and_all_is_exited() -> None:
    async with served() as exchange, trader(exchange) as client:
        reply = await client.delete("/v2/order/multi/cancel", params={"tag": "a"})
        assert refusal(reply)[1] == "UDAPI1109"
        assert refusal(await client.delete("/v2/order/multi/cancel"))[1] == "UDAPI1108"
        assert refusal(await client.delete("/v2/order/multi/cancel?segment=MOON"))[1] == "UDAPI1105"
        tagged = [await place(client, body(tag="a")) for _ in range(3)]
        other = await place(client, body(tag="b"))
        reply = await client.delete("/v2/order/multi/cancel", params={"tag": "a", "segment": "NSE_EQ"})
        assert reply.json()["data"]["order_ids"] == tagged
        assert reply.json()["summary"] == {"total": 3, "success": 3, "error": 0}
        assert (await details(client, other))["status"] == "open"
        assert refusal(await client.post("/v2/order/positions/exit"))[1] == "UDAPI1111"
        contract = option(exchange)
        await place(client, market_body(quantity=5))
        await place(client, market_body(instrument_token=contract.key, quantity=65, transaction_type="SELL"))
        reply = await client.post("/v2/order/positions/exit")
        first, second = [await details(client, each) for each in reply.json()["data"]["order_ids"]]
        assert (first["transaction_type"], second["transaction_type"]) == ("BUY", "SELL")
        assert all(each["quantity"] == 0 for each in (await positions(client)).values())


async def test_the_judges_see_everything_and_only_from_this_machine() -> None:
    async with served() as exchange, trader(exchange) as client:
        order_id = await place(client, market_body(tag="mine"))
        (row,) = (await client.get("/sim/orders", headers={"Authorization": ""})).json()["data"]
        assert (row["order_id"], row["tag"], row["status"], row["source"]) == (order_id, "mine", "complete", "api")
        assert [each["status"] for each in row["states"]][:4] == PLACED
        assert sum(each["quantity"] for each in row["trades"]) == row["filled_quantity"] == 10


async def test_the_same_orders_give_the_same_fills() -> None:
    seen = []
    for _ in range(2):
        async with served() as exchange, trader(exchange) as client:
            bid, _ = touch(exchange, RELIANCE)
            for price in (bid, bid - 0.1, bid + 3):
                await place(client, body(price=round(price, 2), quantity=400))
            await exchange.advance(120_000)
            rows = (await client.get("/sim/orders")).json()["data"]
            seen.append([(each["filled_quantity"], each["average_price"], each["trades"]) for each in rows])
    assert seen[0] == seen[1]
