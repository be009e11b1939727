"""GTTs that the venue runs, as we know them: whatever it tells, in whichever order."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.venue import VenueGtt
from gtt.engine.machine import accept, expiry_us
from gtt.engine.state import FINAL_RULE
from gtt.engine.venue_gtts import RANK, Orders, absent, by_orders, fitting, merge, unguarded
from schemas.gtt import Engine, Gtt, Leg, RuleStatus, TriggerType
from schemas.orders import Order, OrderStatus, OrderType, Product, Side, TradingMode
from tests.gtt.gtt_world import KEY, NOW, TERMS, body, entry, stop, target

S = RuleStatus


def ours(**more: Any) -> Gtt:
    asked = body(entry(), target(), stop(trailing_gap="4"), **more)
    state, _ = accept(
        asked, gtt_id="GTT-1", intent_id="command:1", mode=TradingMode.LIVE, engine=Engine.VENUE, note="",
        segment="NSE_FO", trading_symbol="NIFTY", now_ms=NOW, expires_us=expiry_us(asked.product, NOW), terms=TERMS,
    )  # fmt: skip
    return state.gtt


def telling(gtt: Gtt, **statuses: RuleStatus | tuple[RuleStatus, str]) -> VenueGtt:
    """By leg: its status, and the venue's id of its order."""
    rules = []
    for rule in gtt.rules:
        told = statuses.get(rule.strategy.value, rule.status)
        status, order_id = told if isinstance(told, tuple) else (told, None)
        rules.append(rule.model_copy(update={"status": status, "order_id": order_id}))
    return VenueGtt(
        venue_gtt_id="GTT-V", type=gtt.type, instrument=gtt.instrument, side=gtt.transaction_type,
        quantity=gtt.quantity, product=gtt.product, rules=tuple(rules), created_us=NOW * 1000,
        expires_us=gtt.expires_at,
    )  # fmt: skip


def order(venue_id: str, status: OrderStatus, filled: int = 0, side: Side = Side.BUY) -> Order:
    return Order(
        order_id=f"ours-{venue_id}", venue_order_id=venue_id, intent_id="", instrument=KEY, side=side, quantity=75,
        filled_quantity=filled, order_type=OrderType.LIMIT, product=Product.INTRADAY, status=status,
        mode=TradingMode.LIVE, ts=NOW,
    )  # fmt: skip


def known(*orders: Order) -> Orders:
    return Orders({o.venue_order_id: o for o in orders}.get, {o.order_id: o for o in orders}.get)


def statuses(gtt: Gtt) -> list[RuleStatus]:
    return [rule.status for rule in gtt.rules]


def test_a_rule_that_is_told_late_does_not_go_back() -> None:
    gtt = ours()
    live = telling(gtt, ENTRY=S.COMPLETED, TARGET=S.PENDING, STOPLOSS=S.PENDING)
    after = merge(gtt, live, known(), listed=False)
    assert merge(after, telling(gtt), known(), listed=False) == after
    assert statuses(after) == [S.COMPLETED, S.PENDING, S.PENDING]


def test_what_is_completed_at_the_venue_is_open_as_long_as_its_order_is() -> None:
    gtt = ours()
    told = telling(gtt, ENTRY=(S.COMPLETED, "v1"))
    assert merge(gtt, told, known(), listed=False).rules[0].status is S.OPEN  # its order is not read yet
    gtt = merge(gtt, told, known(order("v1", OrderStatus.OPEN, 25)), listed=False)
    assert (gtt.rules[0].status, gtt.rules[0].order_id, gtt.entered) == (S.OPEN, "ours-v1", 25)
    gtt = by_orders(gtt, known(order("v1", OrderStatus.COMPLETE, 75)))
    assert (gtt.rules[0].status, gtt.entered) == (S.COMPLETED, 75)


@pytest.mark.parametrize(
    ("status", "rule"),
    [(OrderStatus.REJECTED, S.FAILED), (OrderStatus.CANCELLED, S.CANCELLED), (OrderStatus.IN_FLIGHT, S.TRIGGERED),
     (OrderStatus.TRIGGER_PENDING, S.OPEN)],
)  # fmt: skip
def test_the_order_says_what_became_of_the_rule(status: OrderStatus, rule: RuleStatus) -> None:
    gtt = ours()
    gtt = merge(gtt, telling(gtt, ENTRY=(S.TRIGGERED, "v1")), known(order("v1", status)), listed=False)
    assert gtt.rules[0].status is rule


def test_a_trailing_stop_only_gets_tighter_until_the_list_says_otherwise() -> None:
    gtt = ours()
    far = telling(gtt)
    rules = (*far.rules[:2], far.rules[2].model_copy(update={"trigger_price": Decimal(116)}))
    near = replace(far, rules=rules)
    gtt = merge(merge(gtt, near, known(), listed=False), far, known(), listed=False)
    assert gtt.rules[2].trigger_price == 116
    assert merge(gtt, far, known(), listed=True).rules[2].trigger_price == 108


def test_the_list_knows_which_rules_there_are_now() -> None:
    gtt = ours()
    far = telling(gtt)
    less = replace(far, rules=(far.rules[0], far.rules[2]), quantity=150)
    assert statuses(merge(gtt, less, known(), listed=False)) == [S.SCHEDULED, S.INACTIVE, S.INACTIVE]
    after = merge(gtt, less, known(), listed=True)
    assert statuses(after) == [S.SCHEDULED, S.CANCELLED, S.INACTIVE]
    assert after.quantity == 150
    without = gtt.model_copy(update={"rules": gtt.rules[:2]})
    assert len(merge(without, far, known(), listed=True).rules) == 3


def test_one_that_is_listed_no_more_ended_as_its_orders_did() -> None:
    gtt = ours()
    assert statuses(absent(gtt, known(), now_ms=NOW)) == [S.CANCELLED] * 3
    assert statuses(absent(gtt, known(), now_ms=gtt.expires_at // 1000)) == [S.EXPIRED] * 3
    bought = order("v1", OrderStatus.COMPLETE, 75)
    sold = order("v2", OrderStatus.OPEN, 25, Side.SELL)
    told = telling(gtt, ENTRY=(S.COMPLETED, "v1"), TARGET=(S.OPEN, "v2"), STOPLOSS=S.PENDING)
    gtt = merge(gtt, told, known(bought, sold), listed=False)
    open_still = absent(gtt, known(bought, sold), now_ms=NOW)
    assert statuses(open_still) == [S.COMPLETED, S.OPEN, S.CANCELLED]
    assert open_still.live
    sold = order("v2", OrderStatus.COMPLETE, 75, Side.SELL)
    over = absent(gtt, known(bought, sold), now_ms=NOW)
    assert statuses(over) == [S.COMPLETED, S.COMPLETED, S.CANCELLED]
    assert (over.entered, over.exited, over.live) == (75, 75, False)


def test_what_the_venue_leaves_without_a_guard_is_counted() -> None:
    gtt = ours()
    assert unguarded(gtt) == 0
    part = order("v1", OrderStatus.OPEN, 25)
    gtt = merge(gtt, telling(gtt, ENTRY=(S.OPEN, "v1")), known(part), listed=False)
    assert unguarded(gtt) == 25
    assert unguarded(gtt.model_copy(update={"entered": 75})) == 0
    armed = telling(gtt, ENTRY=(S.OPEN, "v1"), TARGET=S.PENDING, STOPLOSS=S.PENDING)
    assert unguarded(merge(gtt, armed, known(part), listed=False)) == 0


def test_the_order_of_an_entry_that_is_done_may_be_known_later() -> None:
    gtt = ours()
    done = telling(gtt, ENTRY=(S.COMPLETED, "v1"), TARGET=S.PENDING, STOPLOSS=S.PENDING)
    early = merge(gtt, done, known(), listed=True)
    assert (early.rules[0].status, early.rules[0].order_id, early.entered) == (S.COMPLETED, None, 0)
    bought = order("v1", OrderStatus.COMPLETE, 75)
    assert merge(early, done, known(bought), listed=True).entered == 75


def test_a_lost_one_is_found_by_what_it_is() -> None:
    gtt = ours()
    told = telling(gtt)
    trailed = told.rules[2].model_copy(update={"trigger_price": Decimal("112.05")})
    fired = told.rules[0].model_copy(update={"trigger_type": TriggerType.IMMEDIATE})
    later = replace(told, venue_gtt_id="GTT-L", created_us=told.created_us + 1, rules=(fired, told.rules[1], trailed))
    loose = told.rules[2].model_copy(update={"trigger_price": Decimal(107)})
    others = [
        replace(told, created_us=(NOW - 60_000) * 1000), replace(told, quantity=150), replace(told, side=Side.SELL),
        replace(told, instrument="NSE_FO|1"), replace(told, product=Product.DELIVERY),
        replace(told, rules=told.rules[:2]), replace(told, rules=(*told.rules[:2], loose)),
        replace(told, venue_gtt_id="GTT-KNOWN"),
        replace(told, rules=(told.rules[0], told.rules[1].model_copy(update={"trigger_price": Decimal(151)}),
                             told.rules[2])),
    ]  # fmt: skip
    found = fitting(gtt, [later, *others, told], sent_ms=NOW, claimed={"GTT-KNOWN"})
    assert found == [told, later]


STATUSES = st.sampled_from([*RuleStatus])
TELLINGS = st.lists(st.tuples(STATUSES, STATUSES, STATUSES, st.booleans()), max_size=8)


@settings(max_examples=100, deadline=None)
@given(TELLINGS)
def test_no_rule_ever_moves_back(tellings: list[tuple[RuleStatus, RuleStatus, RuleStatus, bool]]) -> None:
    gtt = ours()
    for first, second, third, listed in tellings:
        before, gtt = gtt, merge(gtt, telling(gtt, ENTRY=first, TARGET=second, STOPLOSS=third), known(), listed=listed)
        for was, now in zip(before.rules, gtt.rules, strict=True):
            assert RANK[now.status] >= RANK[was.status]
            assert was.status not in FINAL_RULE or was == now
        assert gtt.live is any(rule.status not in FINAL_RULE for rule in gtt.rules)
    assert [rule.strategy for rule in gtt.rules] == [*Leg]
