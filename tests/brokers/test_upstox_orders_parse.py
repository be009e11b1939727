"""The venue's payloads made ours, word by word: both spellings, both forms of a time, words that nobody knows yet."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.upstox import bodies, parse
from brokers.upstox.parse import Unreadable
from brokers.upstox.quotes import parsed
from brokers.venue import NewGtt, NewOrder, OrderChange, VenueGtt, VenueOrder, VenuePosition
from schemas.gtt import GttType, Leg, RuleState, RuleStatus, TriggerType
from schemas.orders import FINAL, OrderStatus, OrderType, Product, Side, Validity

KEY = "NSE_FO|61755"
AT_MS = 1_767_585_001_000  # 5 January 2026, 09:20:01 in India


def row(**more: Any) -> dict[str, Any]:
    """An order as the portfolio stream has it."""
    return {
        "update_type": "order", "order_id": "260105000000101", "exchange": "NFO", "instrument_key": KEY,
        "status": "open", "quantity": 75, "filled_quantity": 0, "pending_quantity": 75, "average_price": 0,
        "price": 101.5, "trigger_price": 0.0, "order_type": "LIMIT", "product": "I", "transaction_type": "BUY",
        "exchange_order_id": "1100000000001", "order_request_id": "1", "order_timestamp": "2026-01-05 09:20:01",
        "validity": "DAY", "tag": "tj1", "status_message": "", "exchange_timestamp": None, **more,
    }  # fmt: skip


def gtt_row(**more: Any) -> dict[str, Any]:
    def rule(strategy: str, trigger_type: str, price: float, side: str, **extra: Any) -> dict[str, Any]:
        return {
            "strategy": strategy, "status": "SCHEDULED", "trigger_type": trigger_type, "trigger_price": price,
            "transaction_type": side, "message": None, "order_id": None, "trailing_gap": None, **extra,
        }  # fmt: skip

    return {
        "update_type": "gtt_order", "type": "MULTIPLE", "exchange": "NSE_FO", "instrument_token": KEY, "quantity": 75,
        "product": "I", "gtt_order_id": "GTT-C260105000001", "created_at": 1767585001000123,
        "expires_at": 1767637799000000,
        "rules": [
            rule("ENTRY", "ABOVE", 120.0, "BUY"),
            rule("TARGET", "IMMEDIATE", 150.0, "SELL", status="INACTIVE"),
            rule("STOPLOSS", "IMMEDIATE", 108.0, "SELL", status="INACTIVE", trailing_gap=4.0, order_id="777"),
        ],
        **more,
    }  # fmt: skip


def test_an_order_of_the_stream() -> None:
    assert parse.updates(orjson.dumps(row())) == [
        VenueOrder(
            venue_order_id="260105000000101", tag="tj1", instrument=KEY, side=Side.BUY, quantity=75, filled_quantity=0,
            average_price=Decimal(0), price=Decimal("101.5"), trigger_price=Decimal("0.0"), order_type=OrderType.LIMIT,
            product=Product.INTRADAY, validity=Validity.DAY, status=OrderStatus.OPEN, words="open", ts=AT_MS, version=1,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("put order req received", OrderStatus.IN_FLIGHT),
        ("validation pending", OrderStatus.IN_FLIGHT),
        ("open pending", OrderStatus.IN_FLIGHT),
        ("open", OrderStatus.OPEN),
        ("trigger pending", OrderStatus.TRIGGER_PENDING),
        ("modify pending", OrderStatus.OPEN),
        ("modify validation pending", OrderStatus.OPEN),
        ("modified", OrderStatus.OPEN),
        ("not modified", OrderStatus.OPEN),
        ("cancel pending", OrderStatus.OPEN),
        ("cancelled", OrderStatus.CANCELLED),
        ("not cancelled", OrderStatus.OPEN),
        ("complete", OrderStatus.COMPLETE),
        ("rejected", OrderStatus.REJECTED),
        ("after market order req received", OrderStatus.IN_FLIGHT),
        ("modify after market order req received", OrderStatus.IN_FLIGHT),
        ("cancelled after market order", OrderStatus.CANCELLED),
    ],
)
def test_the_venues_words_have_one_meaning_in_any_case(words: str, status: OrderStatus) -> None:
    for told in (words, words.upper(), words.title(), f"  {words} "):
        found = parse.order(row(status=told))
        assert found.status is status
        assert (found.not_modified, found.not_cancelled) == (words == "not modified", words == "not cancelled")


@given(st.text(max_size=40) | st.none())
def test_a_word_that_nobody_knows_is_no_end(words: str | None) -> None:
    known = " ".join((words or "").lower().split()) in parse.STATUS
    assert known or parse.order(row(status=words)).status is OrderStatus.IN_FLIGHT


def test_a_word_about_a_request_does_not_say_whether_a_stop_has_been_triggered() -> None:
    for words in ("modify pending", "modified", "not modified", "cancel pending", "not cancelled"):
        assert parse.order(row(status=words, order_type="SL", trigger_price=99.0)).status is OrderStatus.IN_FLIGHT


def test_part_of_an_order_may_be_filled() -> None:
    found = parse.order(row(filled_quantity=25, average_price=101.33333333333333))
    assert (found.status, found.filled_quantity) == (OrderStatus.OPEN, 25)
    assert found.average_price == Decimal("101.33333333")  # as many places as our own models take


@pytest.mark.parametrize(
    ("told", "ts"),
    [
        ("2026-01-05 09:20:01", AT_MS),
        ("2026-01-05T09:20:01+05:30", AT_MS),
        ("05-Jan-2026 09:20:01", AT_MS),
        (AT_MS, AT_MS),
        (None, 0),
        ("", 0),
        ("yesterday", 0),
        ("2026-13-05 09:20:01", 0),
        ("05-Foo-2026 09:20:01", 0),
    ],
)
def test_times_come_in_several_forms(told: Any, ts: int) -> None:
    assert parse.order(row(order_timestamp=told)).ts == ts


def test_the_later_of_two_stamps_counts() -> None:
    assert parse.order(row(exchange_timestamp="05-Jan-2026 09:20:03")).ts == AT_MS + 2000


def test_old_spellings_and_other_products_are_read() -> None:
    old = row(instrument_token=KEY, product="CO", validity="EOS", tag=None, average_price=None, order_request_id=None)
    del old["instrument_key"]
    found = parse.order(old)
    assert (found.instrument, found.product, found.validity, found.tag) == (KEY, Product.INTRADAY, Validity.DAY, "")
    assert (found.average_price, found.version) == (Decimal(0), 0)


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": None}, {"order_id": ""}, {"instrument_key": None}, {"transaction_type": "HOLD"},
        {"quantity": None}, {"quantity": "many"}, {"quantity": 7.5}, {"product": "X"}, {"order_type": None},
        {"price": "NaN"}, {"price": {}}, {"average_price": "1e999999999"},
    ],
)  # fmt: skip
def test_an_order_that_lacks_what_every_order_has_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the field is in the text, whichever it is
        parse.order(row(**change))
    mine, others = row(**change), row(**change, tag="")
    with pytest.raises(Unreadable):
        parse.orders([row(), mine])
    assert parse.orders([row(), others, others]) == ([parse.order(row())], 2)


@pytest.mark.parametrize("data", [{}, "text", [1], [None], 7])
def test_an_answer_that_is_no_list_is_not_an_empty_book(data: Any) -> None:
    with pytest.raises(Unreadable):
        parse.orders(data)


def test_of_a_history_the_last_state_counts_whichever_comes_first() -> None:
    words = ["put order req received", "validation pending", "open pending", "open", "complete"]
    states = [row(status=word, filled_quantity=75 if word == "complete" else 0) for word in words]
    states += [row(order_id="2", status=word, order_timestamp="2026-01-05 09:20:02") for word in words[:3]]
    read = [parse.order(each) for each in states]
    for history in (read, read[::-1]):
        found = {each.venue_order_id: each.words for each in parse.last_states(history)}
        assert found == {"260105000000101": "complete", "2": "open pending"}


@given(st.lists(st.sampled_from(sorted(parse.STATUS)), min_size=1), st.randoms())
def test_an_end_is_never_taken_back_by_the_order_of_a_history(words: list[str], random: Any) -> None:
    history = [parse.order(row(status=word)) for word in words]
    random.shuffle(history)
    (last,) = parse.last_states(history)
    assert (last.status in FINAL) is any(each.status in FINAL for each in history)


# GTTs


def test_a_gtt_of_the_stream() -> None:
    (found,) = parse.updates(orjson.dumps(gtt_row()).decode())
    assert isinstance(found, VenueGtt)
    assert (found.venue_gtt_id, found.type, found.instrument) == ("GTT-C260105000001", GttType.MULTIPLE, KEY)
    assert (found.side, found.quantity, found.product) == (Side.BUY, 75, Product.INTRADAY)
    assert (found.created_us, found.expires_us) == (1_767_585_001_000_123, 1_767_637_799_000_000)
    entry, target, stop = found.rules
    assert (entry.strategy, entry.status, entry.trigger_type) == (Leg.ENTRY, RuleStatus.SCHEDULED, TriggerType.ABOVE)
    assert (target.trigger_price, target.status, target.order_id) == (Decimal(150), RuleStatus.INACTIVE, None)
    assert (stop.trailing_gap, stop.order_id, stop.message) == (Decimal(4), "777", "")


@pytest.mark.parametrize("status", list(RuleStatus))
def test_all_nine_words_of_a_rule_are_known(status: RuleStatus) -> None:
    change = gtt_row()
    change["rules"][0]["status"] = status.value.lower()
    assert parse.gtt(change).rules[0].status is status


def test_a_tenth_word_is_something_between() -> None:
    change = gtt_row()
    change["rules"][0]["status"] = "PONDERING"
    assert parse.gtt(change).rules[0].status is RuleStatus.PENDING


@pytest.mark.parametrize("change", [{"rules": []}, {"rules": None}, {"gtt_order_id": ""}, {"type": "TRIPLE"}])
def test_a_gtt_that_lacks_something_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="GTTs"):
        parse.listed([gtt_row(**change)], "GTTs", parse.gtt)


# The account


def position_row(**more: Any) -> dict[str, Any]:
    return {
        "update_type": "position", "instrument_token": KEY, "exchange": "NSE_FO", "product": "D", "quantity": -75,
        "average_price": None, "multiplier": 1.0, "buy_value": 0, "sell_value": 15000.0, "day_buy_quantity": 75,
        "day_buy_value": 7500.5, "day_sell_quantity": 0, "day_sell_value": 0, "overnight_quantity": -150,
        "overnight_buy_quantity": 0, "overnight_buy_amount": 0, "overnight_sell_quantity": 150,
        "overnight_sell_amount": 15000.0, **more,
    }  # fmt: skip


def test_a_position_counts_the_day_and_what_came_into_it() -> None:
    (found,) = parse.updates(orjson.dumps(position_row()))
    assert isinstance(found, VenuePosition)
    assert (found.quantity, found.average_price, found.product) == (-75, Decimal(0), Product.DELIVERY)
    assert (found.buy_quantity, found.buy_value) == (75, Decimal("7500.5"))
    assert (found.sell_quantity, found.sell_value) == (150, Decimal(15_000))
    assert (found.last_price, found.realised) == (None, None)


def test_a_trade() -> None:
    found = parse.trade(
        {
            "exchange": "NFO", "product": "I", "instrument_token": KEY, "transaction_type": "SELL", "quantity": 50,
            "average_price": 99.95, "order_id": "1", "trade_id": 12345, "order_timestamp": "2026-01-05 09:20:01",
            "exchange_timestamp": "05-Jan-2026 09:20:02",
        }
    )  # fmt: skip
    assert (found.trade_id, found.venue_order_id, found.side, found.quantity) == ("12345", "1", Side.SELL, 50)
    assert (found.price, found.ts) == (Decimal("99.95"), AT_MS + 1000)


def test_funds_are_cash_and_pledges_and_what_both_have_lent() -> None:
    data = {
        "available_to_trade": {
            "total": 91000.25,
            "cash_available_to_trade": {"total": 90000.25, "margin_used": {"total": 10000.0, "premium_present": 1.0}},
            "pledge_available_to_trade": {"total": 1000.0, "margin_used": {"total": 500.5}},
        }
    }
    found = parse.funds(data)
    assert (found.available, found.used) == (Decimal("91000.25"), Decimal("10500.5"))
    assert found.details == data
    broken: Any
    for broken in (None, [], {}, {"available_to_trade": {}}, {"available_to_trade": {"total": "a lot"}}):
        with pytest.raises(Unreadable):
            parse.funds(broken)


def test_a_margin_is_the_one_after_hedges() -> None:
    assert parse.margin({"required_margin": 200.0, "final_margin": 150.5}) == Decimal("150.5")
    assert parse.margin({"required_margin": 200.0}) == 200
    broken: Any
    for broken in (None, [], {}, {"final_margin": "?"}):
        with pytest.raises(Unreadable):
            parse.margin(broken)


def test_circuit_limits_and_depth_are_found_by_the_key_inside() -> None:
    level = {"quantity": 75, "price": 101.5, "orders": 1}
    data = {
        "NSE_FO:NIFTY26JAN25000CE": {
            "instrument_token": KEY, "last_price": 101.6, "lower_circuit_limit": 50.05, "upper_circuit_limit": 150.2,
            "depth": {"buy": [level, {"quantity": 0, "price": 0, "orders": 0}], "sell": []},
        },
        "NSE_INDEX:Nifty 50": {
            "instrument_token": "NSE_INDEX|Nifty 50", "last_price": 25000.0, "lower_circuit_limit": 0, "depth": None,
        },
        "GLOBAL_INDICATOR:null": {"last_price": 1.0},
    }  # fmt: skip
    found = parsed(data)
    assert found.keys() == {KEY, "NSE_INDEX|Nifty 50"}
    assert (found[KEY].lower, found[KEY].upper) == (Decimal("50.05"), Decimal("150.2"))
    assert [(each.price, each.quantity) for each in found[KEY].bids] == [(Decimal("101.5"), 75)]
    assert (found["NSE_INDEX|Nifty 50"].lower, found["NSE_INDEX|Nifty 50"].asks) == (None, ())


# Bytes that the stream may bring


@pytest.mark.parametrize("kind", ["holding", "of tomorrow"])
def test_kinds_that_nothing_follows_from_tell_nothing(kind: str) -> None:
    assert parse.updates(orjson.dumps({"update_type": kind})) == []


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
    | st.dictionaries(st.sampled_from([*row(), "rules", "gtt_order_id", "type"]), inner)) | st.binary())  # fmt: skip
def test_no_message_is_more_than_unreadable(content: Any) -> None:
    try:
        message = content if isinstance(content, bytes) else orjson.dumps(content)
    except orjson.JSONEncodeError:
        return
    try:
        parse.updates(message)
    except (TypeError, ValueError, Unreadable):
        return


@given(st.sampled_from([row, gtt_row, position_row]), st.data())
def test_nor_is_one_with_a_wrong_field(whole: Any, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(whole())))
    value: Any = data.draw(st.sampled_from([None, "", "x", -1, 1e300, [], {}, [{}], True, 10**30]))
    try:
        parse.updates(orjson.dumps(whole(**{name: value})) if value != 10**30 else b"[1" + b"0" * 30 + b"]")
    except (TypeError, ValueError, Unreadable):
        return


# What we ask


def new_order(**more: Any) -> NewOrder:
    given_ = {
        "order_id": "tj1", "instrument": KEY, "side": Side.BUY, "quantity": 75, "product": Product.INTRADAY,
        "order_type": OrderType.LIMIT, "price": Decimal("101.55"), "trigger_price": Decimal(0),
        "validity": Validity.DAY, **more,
    }  # fmt: skip
    return NewOrder(**given_)


@pytest.mark.parametrize(
    ("kind", "wanted", "sent"),
    [
        (OrderType.LIMIT, None, None),
        (OrderType.SL, Decimal(3), None),
        (OrderType.MARKET, None, -1.0),
        (OrderType.MARKET, Decimal("2.5"), 2.5),
        (OrderType.SL_M, None, -1.0),
    ],
)
def test_protection_is_said_wherever_it_counts(kind: OrderType, wanted: Decimal | None, sent: float | None) -> None:
    assert bodies.place(new_order(order_type=kind, market_protection=wanted)).market_protection == sent


def test_a_change_says_all_of_its_terms() -> None:
    change = OrderChange("tj1", "260105000000101", 150, OrderType.SL, Decimal("99.1"), Decimal(99), Validity.DAY)
    sent = bodies.modify(change).to_dict()
    assert sent == {
        "order_id": "260105000000101", "quantity": 150, "order_type": "SL", "price": 99.1, "trigger_price": 99.0,
        "validity": "DAY", "disclosed_quantity": 0, "market_protection": None,
    }  # fmt: skip


def test_a_gtt_is_asked_for_with_its_rules_and_again_with_its_trailing_gap() -> None:
    state = parse.gtt(gtt_row())
    gtt = NewGtt("GTT-tj", state.type, state.instrument, state.side, state.quantity, state.product, state.rules)
    for sent in (bodies.place_gtt(gtt), bodies.modify_gtt("GTT-C260105000001", gtt)):
        assert [rule.trigger_price for rule in sent.rules] == [120.0, 150.0, 108.0]
        assert [rule.trailing_gap for rule in sent.rules] == [None, None, 4.0]
        assert [rule.market_protection for rule in sent.rules] == [None, None, -1.0]
    assert bodies.place_gtt(gtt).instrument_token == KEY


@given(st.decimals(min_value=0, max_value=10**7, places=4))
def test_a_price_is_sent_as_it_was_written(price: Decimal) -> None:
    sent = orjson.dumps(bodies.place(new_order(price=price)).price)
    assert Decimal(sent.decode()) == price


def test_a_question_for_margin_names_an_instrument_once() -> None:
    orders = [new_order(), new_order(), new_order(side=Side.SELL)]
    orders += [new_order(instrument=f"NSE_FO|{number}") for number in range(30)]
    questions = bodies.margins(orders)
    lines = [line for question in questions for line in question.instruments]
    assert [len(question.instruments) for question in questions] == [20, 12]
    assert all(len({line.instrument_key for line in each.instruments}) == len(each.instruments) for each in questions)
    asked = sorted((line.quantity, line.transaction_type) for line in lines if line.instrument_key == KEY)
    assert asked == [(75, "SELL"), (150, "BUY")]
    assert bodies.margins([]) == []


def test_a_rule_reads_as_it_was_written() -> None:
    """What is compared after a lost reply survives the way there and back."""
    rule = RuleState(
        strategy=Leg.STOPLOSS, status=RuleStatus.PENDING, trigger_type=TriggerType.IMMEDIATE,
        trigger_price=Decimal("108.05"), transaction_type=Side.SELL, trailing_gap=Decimal("0.35"),
    )  # fmt: skip
    told = orjson.loads(rule.model_dump_json())
    read = parse.gtt(gtt_row(rules=[told])).rules[0]
    assert (read.trigger_price, read.trailing_gap) == (rule.trigger_price, rule.trailing_gap)
