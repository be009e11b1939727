"""The machine of a GTT, alone: what it waits for, what it sends, what its orders make of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.instruments import Instrument
from schemas.gtt import GttType, Leg, RuleStatus, TriggerType
from schemas.orders import Side
from sim import gtt as machine
from sim import gtt_body, orders
from sim.errors import ApiError
from sim.gtt import CancelChild, Gtt, PlaceChild, RepriceChild, Step, Terms
from sim.gtt_triggers import Triggers
from sim.orders import Order, Status

Read = gtt_body.Placement | gtt_body.Change

SHARE = Instrument(
    key="NSE_EQ|X", segment="NSE_EQ", exchange="NSE", name="X", trading_symbol="X", instrument_type="EQ", lot_size=1,
    tick_size=0.05,
)  # fmt: skip
ENTRY, TARGET, STOP = Leg.ENTRY, Leg.TARGET, Leg.STOPLOSS


def terms(leg: Leg, price: object, trigger: TriggerType = TriggerType.IMMEDIATE, gap: object = None) -> Terms:
    trailing = None if gap is None else Decimal(str(gap))
    return Terms(strategy=leg, trigger_type=trigger, trigger_price=Decimal(str(price)), trailing_gap=trailing)


ABOVE = terms(ENTRY, 120, TriggerType.ABOVE)
EXITS = (terms(TARGET, 150), terms(STOP, 108))


def gtt(*rules: Terms, side: Side = Side.BUY, quantity: int = 100, **more: Any) -> Gtt:
    kind = GttType.SINGLE if len(rules) == 1 else GttType.MULTIPLE
    made = machine.rules_of(rules, side)
    more = {"gtt_order_id": "GTT-1", "product": "D", "created_us": 0, "expires_us": 1, **more}
    return Gtt(type=kind, instrument=SHARE, side=side, quantity=quantity, rules=made, **more)


def order(order_id: str, status: Status, filled: int = 0, message: str = "", quantity: int = 100) -> Order:
    return Order(
        order_id=order_id, user_id="U", instrument=SHARE, transaction_type="BUY", quantity=quantity, product="D",
        order_type="LIMIT", validity="DAY", price=Decimal(1), trigger_price=Decimal(0), disclosed_quantity=0, tag=None,
        market_protection=Decimal(0), limit_price=Decimal(1), status=status, source="gtt", placed_ms=0, at_ms=0,
        status_message=message, filled_quantity=filled,
    )  # fmt: skip


def statuses(each: Gtt) -> dict[Leg, str]:
    return {rule.leg: rule.status.value for rule in each.rules}


def entered(each: Gtt) -> Gtt:
    """With its entry filled."""
    sent, _ = machine.placed(machine.fired(each, ENTRY)[0], ENTRY, order("e", Status.OPEN))
    return machine.told(sent, order("e", Status.COMPLETE, 100))[0]


def test_a_single_is_finished_when_its_order_is_at_the_exchange() -> None:
    waiting = gtt(ABOVE)
    fired, actions = machine.fired(waiting, ENTRY)
    assert actions == [PlaceChild(ENTRY, 100)]
    assert statuses(fired) == {ENTRY: "TRIGGERED"}
    done, _ = machine.placed(fired, ENTRY, order("e", Status.OPEN))
    assert (statuses(done), done.is_live, done.entry.order_id) == ({ENTRY: "COMPLETED"}, False, "e")


def test_an_immediate_entry_waits_for_nothing() -> None:
    started, actions = machine.started(gtt(terms(ENTRY, 120)))
    assert statuses(started) == {ENTRY: "TRIGGERED"}
    assert actions == [PlaceChild(ENTRY, 100)]
    assert machine.started(gtt(ABOVE)) == (gtt(ABOVE), [])


def test_exits_sleep_until_the_whole_entry_is_filled() -> None:
    sent, _ = machine.placed(machine.fired(gtt(ABOVE, *EXITS), ENTRY)[0], ENTRY, order("e", Status.OPEN))
    assert statuses(sent) == {ENTRY: "OPEN", TARGET: "INACTIVE", STOP: "INACTIVE"}
    part, _ = machine.told(sent, order("e", Status.OPEN, 40))
    assert statuses(part) == statuses(sent)
    done, _ = machine.told(part, order("e", Status.COMPLETE, 100))
    assert statuses(done) == {ENTRY: "COMPLETED", TARGET: "PENDING", STOP: "PENDING"}


def test_an_exit_that_fires_cancels_the_other_whether_or_not_it_fills() -> None:
    fired, actions = machine.fired(entered(gtt(ABOVE, *EXITS)), TARGET)
    assert actions == [PlaceChild(TARGET, 100)]
    assert statuses(fired) == {ENTRY: "COMPLETED", TARGET: "TRIGGERED", STOP: "CANCELLED"}
    resting, _ = machine.placed(fired, TARGET, order("t", Status.OPEN))
    assert resting.is_live
    done, _ = machine.told(resting, order("t", Status.COMPLETE, 100))
    assert (statuses(done)[TARGET], done.is_live) == ("COMPLETED", False)


def test_a_refused_or_rejected_order_fails_the_rule_and_cancels_its_siblings() -> None:
    fired, _ = machine.fired(gtt(ABOVE, *EXITS), ENTRY)
    for failed, _ in (
        machine.refused(fired, ENTRY, "no funds"),
        machine.placed(fired, ENTRY, order("e", Status.REJECTED, message="no funds")),
    ):
        assert statuses(failed) == {ENTRY: "FAILED", TARGET: "CANCELLED", STOP: "CANCELLED"}
        assert failed.entry.message == "no funds"
        assert not failed.is_live


def test_an_entry_that_is_cancelled_half_way_leaves_the_position_without_exits() -> None:
    sent, _ = machine.placed(machine.fired(gtt(ABOVE, *EXITS), ENTRY)[0], ENTRY, order("e", Status.OPEN, 40))
    ended, _ = machine.told(sent, order("e", Status.CANCELLED, 40, "end of day"))
    assert statuses(ended) == {ENTRY: "CANCELLED", TARGET: "CANCELLED", STOP: "CANCELLED"}
    assert (ended.entry.message, ended.entry.filled) == ("end of day", 40)


def test_exits_that_guard_every_part_end_the_entry_before_they_leave() -> None:
    each = gtt(ABOVE, *EXITS, arms_on_fill=True)
    sent, _ = machine.placed(machine.fired(each, ENTRY)[0], ENTRY, order("e", Status.OPEN))
    part, _ = machine.told(sent, order("e", Status.OPEN, 40))
    assert statuses(part)[STOP] == "PENDING"
    fired, actions = machine.fired(part, STOP)
    assert actions == [CancelChild("e")]
    ended, actions = machine.told(fired, order("e", Status.CANCELLED, 60))  # twenty more came meanwhile
    assert actions == [PlaceChild(STOP, 60)]
    assert statuses(ended) == {ENTRY: "CANCELLED", TARGET: "CANCELLED", STOP: "TRIGGERED"}


def test_cancelling_takes_the_order_at_the_exchange_along_and_leaves_the_position() -> None:
    sent, _ = machine.placed(machine.fired(gtt(ABOVE, *EXITS), ENTRY)[0], ENTRY, order("e", Status.OPEN, 10))
    ended, actions = machine.ended(sent, RuleStatus.CANCELLED)
    assert actions == [CancelChild("e")]
    assert set(statuses(ended).values()) == {"CANCELLED"}
    late, actions = machine.told(ended, order("e", Status.CANCELLED, 15))
    assert (late.entry.filled, actions) == (15, [])
    with pytest.raises(machine.NotLive):
        machine.ended(late, RuleStatus.EXPIRED)


def test_an_open_entry_can_be_repriced_and_its_exits_replaced() -> None:
    sent, _ = machine.placed(machine.fired(gtt(ABOVE, *EXITS), ENTRY)[0], ENTRY, order("e", Status.OPEN))
    new, actions = machine.amended(sent, (terms(ENTRY, 121), terms(STOP, 110)))
    assert actions == [RepriceChild(ENTRY, "e")]
    assert statuses(new) == {ENTRY: "OPEN", STOP: "INACTIVE"}
    same, actions = machine.amended(sent, (terms(ENTRY, 120), *EXITS))
    assert (actions, statuses(same)) == ([], statuses(sent))
    filled, actions = machine.amended(entered(gtt(ABOVE, *EXITS)), (terms(ENTRY, 1), terms(STOP, 119)))
    assert (actions, statuses(filled), filled.entry.terms) == ([], {ENTRY: "COMPLETED", STOP: "PENDING"}, ABOVE)


def test_once_an_exit_has_fired_nothing_is_modified() -> None:
    fired, _ = machine.fired(entered(gtt(ABOVE, *EXITS)), STOP)
    with pytest.raises(machine.NotLive):
        machine.amended(fired, (terms(ENTRY, 120), *EXITS))


@pytest.mark.parametrize(
    ("side", "prices"), [(Side.BUY, [106, 110.02, 107, 112]), (Side.SELL, [114, 109.98, 113, 108])]
)
def test_a_trailing_stop_follows_and_never_goes_back(side: Side, prices: list[float]) -> None:
    stop = replace(machine.rules_of((terms(STOP, 100 if side is Side.BUY else 120, gap=4),), side)[0])
    seen = []
    for price in prices:
        moved = machine.trailing_stop(stop, Decimal(str(price)), Decimal("0.05"))
        stop = replace(stop, terms=replace(stop.terms, trigger_price=moved))
        seen.append(float(moved))
    assert seen == ([102, 106, 106, 108] if side is Side.BUY else [118, 114, 114, 112])


def test_a_step_that_the_table_does_not_have_is_a_bug() -> None:
    with pytest.raises(machine.IllegalStep):
        machine.fired(gtt(ABOVE, *EXITS), TARGET)


# --- many of them at once --------------------------------------------------------------------------------------------


@dataclass
class Walk:
    """A market that does anything to the orders of one GTT."""

    state: Gtt
    children: dict[str, Order] = field(default_factory=dict)
    seen: list[dict[Leg, str]] = field(default_factory=list)

    def follow(self, step: Step) -> None:
        self.state, actions = step
        self.seen.append(statuses(self.state))
        for action in actions:
            match action:
                case PlaceChild(leg, quantity):
                    child = order(f"{leg}{len(self.children)}", Status.OPEN, quantity=quantity)
                    self.children[child.order_id] = child
                    self.follow(machine.placed(self.state, leg, child))
                case CancelChild(order_id):
                    self.becomes(order_id, Status.CANCELLED)
                case RepriceChild():
                    pass

    def becomes(self, order_id: str, status: Status, share: float = 0.0) -> None:
        child = self.children[order_id]
        if child.is_final:
            return
        filled = child.filled_quantity + int((child.quantity - child.filled_quantity) * share)
        if status is Status.COMPLETE or filled == child.quantity:
            status, filled = Status.COMPLETE, child.quantity
        if status is Status.REJECTED and filled:
            return  # the exchange does not take back what it gave
        self.children[order_id] = child = replace(child, status=status, filled_quantity=filled)
        self.follow(machine.told(self.state, child))

    def filled(self, leg: Leg) -> int:
        return sum(each.filled_quantity for each in self.children.values() if each.order_id.startswith(leg))


happenings = st.lists(
    st.tuples(
        st.sampled_from(["price", "fill", "complete", "cancelled", "rejected", "cancel", "modify", "expire"]),
        st.integers(80, 180),
        st.floats(0, 1),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(happenings, st.booleans(), st.booleans(), st.sampled_from([None, 2, 10]))
def test_whatever_happens_never_both_exits_and_never_more_out_than_in(
    events: list[tuple[str, int, float]], is_buy: bool, arms_on_fill: bool, gap: int | None
) -> None:
    side = Side.BUY if is_buy else Side.SELL
    target, stop = (150, 108) if is_buy else (108, 150)
    rules = (terms(ENTRY, 120, TriggerType.ABOVE), terms(TARGET, target), terms(STOP, stop, gap=gap))
    walk = Walk(gtt(*rules, side=side, arms_on_fill=arms_on_fill))
    for what, price, share in events:
        happens(walk, what, Decimal(price), share)
        out = walk.filled(TARGET) + walk.filled(STOP)
        assert out <= walk.filled(ENTRY)
        assert not (walk.filled(TARGET) and walk.filled(STOP))
    for before, after in pairwise(walk.seen):
        for leg in before.keys() & after.keys():
            old, new = RuleStatus(before[leg]), RuleStatus(after[leg])
            assert old is new or new in reachable(old), (leg, old, new)


def happens(walk: Walk, what: str, price: Decimal, share: float) -> None:
    state = walk.state
    working = [each.order_id for each in walk.children.values() if not each.is_final]
    match what:
        case "price":
            for rule in state.watched():
                if rule in walk.state.watched() and rule.sign * (price - rule.terms.trigger_price) >= 0:
                    walk.follow(machine.fired(walk.state, rule.leg))
                elif rule.terms.trailing_gap and rule in walk.state.watched() and rule.status is RuleStatus.PENDING:
                    moved = machine.trailing_stop(rule, price, Decimal("0.05"))
                    walk.follow((machine.trailed(walk.state, rule.leg, moved), []))
        case "fill" | "complete" | "cancelled" | "rejected":
            words = {"fill": Status.OPEN, "complete": Status.COMPLETE, "cancelled": Status.CANCELLED}
            for order_id in working[:1]:
                walk.becomes(order_id, words.get(what, Status.REJECTED), share if what == "fill" else 0.0)
        case "cancel" | "expire" if state.is_live and share > 0.9:
            walk.follow(machine.ended(state, RuleStatus.CANCELLED if what == "cancel" else RuleStatus.EXPIRED))
        case "modify" if machine.is_open(state) and state.is_live and all(r.is_live for r in state.exits):
            walk.follow(machine.amended(state, tuple(rule.terms for rule in state.rules)))
        case _:
            pass


def reachable(status: RuleStatus) -> set[RuleStatus]:
    """Several steps may lie between two looks."""
    found: set[RuleStatus] = set()
    waiting = [status]
    while waiting:
        for after in machine.NEXT.get(waiting.pop(), ()):
            if after not in found:
                found.add(after)
                waiting.append(after)
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_triggers_in_columns_find_what_a_loop_finds(data: st.DataObject) -> None:
    triggers, model = Triggers(), dict[tuple[str, Leg], tuple[int, int, float, float]]()
    ltp = np.array([100.0, 50.05, 7.35])
    for number, row, sign, cents, gap, stays in data.draw(
        st.lists(
            st.tuples(
                st.integers(0, 40), st.integers(0, 2), st.sampled_from([-1, 1]), st.integers(1, 20_000),
                st.sampled_from([0.0, 0.5, 3.0]), st.booleans(),
            ),
            max_size=120,
        )
    ):  # fmt: skip
        name = (f"GTT-{number}", ENTRY)
        if stays:
            triggers.put(name, row, sign, cents / 100, gap)
            model[name] = (row, sign, cents / 100, gap)
        else:
            triggers.drop(name)
            model.pop(name, None)
    traded = np.array(data.draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    met = {n for n, (row, sign, price, _) in model.items() if traded[row] and sign * (ltp[row] - price) >= 0}
    assert set(triggers.met(traded, ltp)) == met
    tick = np.full(3, 0.05)
    behind = {
        n
        for n, (row, sign, price, gap) in model.items()
        if traded[row] and gap and round(sign * (price - ltp[row]) - gap, 4) >= 0.05
    }
    assert set(triggers.left_behind(traded, ltp, tick)) == behind
    assert len(triggers) == len(model)


def test_the_stream_tells_the_same_without_the_symbol() -> None:
    told, detail = machine.update(gtt(ABOVE, *EXITS)), machine.detail(gtt(ABOVE, *EXITS))
    assert detail == {"trading_symbol": "X"} | told
    assert [each["transaction_type"] for each in told["rules"]] == ["BUY", "SELL", "SELL"]
    assert told["exchange"] == "NSE_EQ"
    assert orders.decimal(told["rules"][0]["trigger_price"]) == 120


GOOD: dict[str, Any] = {
    "type": "MULTIPLE", "quantity": 10, "product": "I", "instrument_token": "NSE_EQ|X", "transaction_type": "BUY",
    "gtt_order_id": "GTT-1",
    "rules": [
        {"strategy": "ENTRY", "trigger_type": "ABOVE", "trigger_price": 120.0, "market_protection": -1},
        {"strategy": "TARGET", "trigger_type": "IMMEDIATE", "trigger_price": 150.0},
        {"strategy": "STOPLOSS", "trigger_type": "IMMEDIATE", "trigger_price": 108.0, "trailing_gap": 4.0},
    ],
}  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A good body with anything at some places, and some places missing."""
    body = dict(draw(st.dictionaries(st.sampled_from(sorted(GOOD)), anything, max_size=2)))
    rules = [dict(rule) for rule in GOOD["rules"]]
    for rule in draw(st.lists(st.sampled_from(rules), max_size=2, unique_by=id)):
        field_name = draw(
            st.sampled_from(["strategy", "trigger_type", "trigger_price", "trailing_gap", "market_protection"])
        )
        rule[field_name] = draw(anything)
    whole = GOOD | {"rules": rules} | body
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=1)):
        del whole[name]
    return whole


@settings(max_examples=150, deadline=None)
@given(bodies())
def test_any_body_is_read_or_refused_with_a_code_and_a_field(body: dict[str, Any]) -> None:
    reads: tuple[Callable[[dict[str, Any]], Read], ...] = (gtt_body.placement, gtt_body.change)
    for read in reads:
        found = outcome(read, body)
        if isinstance(found, ApiError):
            assert found.code.startswith("UDAPI")
            assert found.property_path is not None
        else:
            assert found.quantity > 0
            assert all(rule.trigger_price > 0 for rule in found.rules)


def outcome(read: Callable[[dict[str, Any]], Read], body: dict[str, Any]) -> Read | ApiError:
    try:
        return read(body)
    except ApiError as error:
        return error
