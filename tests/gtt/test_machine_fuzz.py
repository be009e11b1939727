"""Any body that the contract takes, and any events, sensible or not: the machine answers, and never fails."""

from decimal import Decimal
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gtt.engine.machine import (
    Cancel,
    Child,
    ChildRefused,
    ClosedElsewhere,
    Done,
    Event,
    Expire,
    GttState,
    Guarded,
    Hit,
    Modify,
    NotAccepted,
    Odd,
    Reattach,
    Timer,
    Trailed,
    TurnedDown,
    due_ts,
    step,
    watches,
)
from schemas.gtt import GttBody, GttChange, Leg, TriggerType
from schemas.orders import Order, OrderStatus, OrderType, Product, Side, TradingMode
from tests.gtt.gtt_world import KEY, NOW, begin

PRICES = st.integers(1, 60).map(lambda n: Decimal(n) / 20)
GAPS = st.one_of(st.none(), st.just("0.1"), st.just("5"))
PROTECTIONS = st.sampled_from([None, "-1", "0", "0.5", "25"])
TIMES = st.integers(NOW, NOW + 100_000)


@st.composite
def rules(draw: Any) -> list[dict[str, Any]]:
    legs = draw(st.sets(st.sampled_from(Leg), min_size=1))
    found = []
    for leg in sorted(legs, key=list(Leg).index):
        kind = draw(st.sampled_from(TriggerType)) if leg is Leg.ENTRY else TriggerType.IMMEDIATE
        rule = {"strategy": leg, "trigger_type": kind, "trigger_price": draw(PRICES)}
        rule |= {"market_protection": draw(PROTECTIONS)}
        gap = draw(GAPS) if leg is Leg.STOPLOSS else None
        found.append(rule | ({"trailing_gap": gap} if gap and Decimal(gap) < rule["trigger_price"] else {}))
    return found


@st.composite
def bodies(draw: Any) -> GttBody:
    told = draw(rules())
    kind = "SINGLE" if len(told) == 1 else "MULTIPLE"
    try:
        return GttBody.model_validate(
            {
                "type": kind, "quantity": draw(st.integers(1, 100)), "product": draw(st.sampled_from(Product)),
                "instrument_token": KEY, "transaction_type": draw(st.sampled_from(Side)), "rules": told,
            }
        )  # fmt: skip
    except ValidationError:
        assume(False)
        raise


def change(told: list[dict[str, Any]], quantity: int) -> GttChange:
    kind = "SINGLE" if len(told) == 1 else "MULTIPLE"
    asked = {"type": kind, "quantity": quantity, "rules": told, "gtt_order_id": "GTT-1"}
    return GttChange.model_validate(asked)


@st.composite
def events(draw: Any, state: GttState) -> Event:
    ids = [child.order_id for child in state.children] or ["tjnobody"]
    order_id, ts, price = draw(st.sampled_from(ids)), draw(TIMES), draw(PRICES)
    known = state.child(order_id)
    quantity = known.quantity if known else 5
    order = Order(
        order_id=order_id, intent_id="", instrument=KEY, side=known.side if known else Side.BUY, quantity=quantity,
        filled_quantity=draw(st.integers(0, quantity)), average_price=price, price=price,
        order_type=OrderType.LIMIT, product=Product.INTRADAY, status=draw(st.sampled_from(OrderStatus)),
        mode=TradingMode.PAPER, ts=ts,
    )  # fmt: skip
    what: Any = draw(st.sampled_from(["place", "change", "cancel"]))
    leg = draw(st.sampled_from(Leg))
    choices: list[Event] = [
        Hit(leg, price, ts, draw(st.booleans()), draw(st.booleans()), draw(st.one_of(st.none(), PRICES))),
        Trailed(price, ts), Child(order, ts), ChildRefused(order_id, "no", draw(st.booleans()), ts, what),
        Cancel("me", ts, draw(st.booleans())), Expire(ts), Timer(ts, price, (Decimal("0.5"), Decimal(2))),
        Reattach(frozenset(draw(st.sets(st.sampled_from(ids)))), ts, price),
        ClosedElsewhere(draw(st.integers(1, 50)), "others", ts), Guarded(draw(st.integers(1, 200)), ts),
        Modify(change(draw(rules()), draw(st.integers(1, 100))), ts, price),
    ]  # fmt: skip
    found: Event = draw(st.sampled_from(choices))
    return found


@settings(max_examples=40, deadline=None)
@given(bodies(), st.data())
def test_whatever_happens_has_an_answer(asked: GttBody, data: Any) -> None:
    try:
        state, _ = begin(asked)
    except NotAccepted:  # of its trailing gap
        return
    for _ in range(12):
        before = state
        state, actions = step(before, data.draw(events(before)))
        if any(isinstance(action, Odd | TurnedDown) for action in actions):
            assert state == before
            assert len(actions) == 1
        assert GttState.model_validate_json(state.model_dump_json()) == state
        assert any(isinstance(action, Done) for action in actions) is (before.gtt.live and not state.gtt.live)
        if not state.gtt.live:
            assert (watches(state), due_ts(state)) == ((), 0)
