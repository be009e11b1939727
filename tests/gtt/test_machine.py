"""The life of a GTT under our engine, scene by scene."""

from dataclasses import replace
from decimal import Decimal

import pytest

from gtt.engine.machine import (
    AutoBand,
    Cancel,
    CancelChild,
    ChangeChild,
    Child,
    ChildRefused,
    ClosedElsewhere,
    Expire,
    GttState,
    Guarded,
    Hit,
    NotAccepted,
    Odd,
    PlaceChild,
    Terms,
    Timer,
    TurnedDown,
    Watch,
    due_ts,
    ends_us,
    only_trailed,
    protect_rest,
    step,
)
from schemas.gtt import Engine, GttBody, Leg
from schemas.orders import OrderStatus, Product, Side, order_id_of
from tests.gtt.gtt_world import NOW, TERMS, World, begin, body, entry, stop, target

FULL = (entry(), target(), stop())


def bought(*rules: dict[str, object], **more: object) -> World:
    """Its entry is filled."""
    world = World(body(*(rules or FULL), **more))  # type: ignore[arg-type]
    world.trade("120")
    world.fill(world.only)
    world.take()
    return world


# Entry


@pytest.mark.parametrize(
    ("side", "how", "not_yet", "there"),
    [("BUY", "ABOVE", "119.95", "120"), ("BUY", "BELOW", "120.05", "120"), ("SELL", "BELOW", "120.05", "119"),
     ("SELL", "ABOVE", "119", "121")],
)  # fmt: skip
def test_an_entry_fires_at_its_trigger_and_not_before(side: str, how: str, not_yet: str, there: str) -> None:
    world = World(body(entry(how=how), side=side))
    world.trade(not_yet)
    assert world.statuses == "SCHEDULED"
    world.trade(there)
    assert world.statuses == "OPEN"
    order = world.only
    assert (order.side.value, order.quantity, order.price) == (side, 75, Decimal(120))
    assert order.order_id == order_id_of("gtt:GTT-1:ENTRY:1")
    world.fill(order)
    assert world.statuses == "COMPLETED"
    assert not world.state.gtt.live
    assert world.alerts == []


def test_an_immediate_entry_goes_out_at_once() -> None:
    world = World(body(entry(how="IMMEDIATE"), target(), stop()))
    assert world.statuses == "OPEN INACTIVE INACTIVE"
    assert world.only.price == 120


@pytest.mark.parametrize(
    ("side", "protection", "limit"),
    [("BUY", None, "120"), ("BUY", "0", "120"), ("BUY", "2.5", "123"), ("BUY", "-1", "126"), ("SELL", "2.5", "117"),
     ("BUY", "0.33", "120.35")],
)  # fmt: skip
def test_an_entry_is_limited_from_its_trigger_wherever_the_price_has_jumped(
    side: str, protection: str | None, limit: str
) -> None:
    how = "ABOVE" if side == "BUY" else "BELOW"
    world = World(body(entry(how=how, market_protection=protection), side=side))
    world.trade("180" if side == "BUY" else "90", gap=True)
    assert world.only.price == Decimal(limit)
    rule = world.state.gtt.rule(Leg.ENTRY)
    assert rule is not None
    assert "after a pause of the feed" in rule.message


def test_a_rejected_entry_fails_and_takes_its_exits_along() -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.reject(world.only, "no funds")
    assert world.statuses == "FAILED CANCELLED CANCELLED"
    rule = world.state.gtt.rule(Leg.ENTRY)
    assert rule is not None
    assert rule.message == "no funds"
    assert not world.state.gtt.live


@pytest.mark.parametrize("final", [True, False])
def test_an_entry_that_our_own_checks_refuse_fails(final: bool) -> None:
    world = World(body(*FULL), by_itself=False)
    world.trade("120")
    world.event(ChildRefused(world.state.children[0].order_id, "trading is halted", final, NOW))
    assert world.statuses == "FAILED CANCELLED CANCELLED"


def test_an_entry_is_sliced_where_the_exchange_takes_no_larger_order() -> None:
    world = World(body(*FULL, quantity=200), terms=TERMS.model_copy(update={"freeze": 90}))
    world.trade("120")
    assert [order.quantity for order in world.live()] == [75, 75, 50]
    first, *rest = world.live()
    world.fill(first)
    assert world.state.held == 75
    for order in rest:
        world.fill(order)
    assert world.statuses == "COMPLETED PENDING PENDING"


# Exits


def test_exits_count_from_the_first_unit_of_the_entry_on_and_grow_with_it() -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.fill(world.only, 25)
    assert world.statuses == "OPEN PENDING PENDING"
    world.fill(world.only, 25)
    world.trade("107.95")
    sold = world.live(Side.SELL)
    assert [order.quantity for order in sold] == [50]
    assert world.live(Side.BUY) == []  # no more of what is being closed
    assert world.statuses == "CANCELLED CANCELLED OPEN"
    world.fill(sold[0])
    assert world.statuses == "CANCELLED CANCELLED COMPLETED"
    assert (world.state.gtt.entered, world.state.gtt.exited) == (50, 50)


def test_a_target_that_a_fill_has_armed_waits_for_a_price_from_now_on_and_a_stop_does_not() -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.take()
    world.fill(world.only, 25)
    (watch,) = [action for action in world.take() if isinstance(action, Watch)]
    assert {each.leg: each.fresh for each in watch.on} == {Leg.TARGET: True, Leg.STOPLOSS: False}


def test_the_target_goes_out_at_its_price_and_cancels_the_stop() -> None:
    world = bought()
    world.trade("150.5")
    assert world.only.price == 150
    assert world.statuses == "COMPLETED OPEN PENDING"
    world.fill(world.only)
    assert world.statuses == "COMPLETED COMPLETED CANCELLED"
    assert not world.state.gtt.live


@pytest.mark.parametrize(
    ("protection", "limit"),
    [(None, "95"), ("-1", "95"), ("2", "98"), ("0", "100")],  # of 100, at which it is now
)
def test_a_gap_through_the_stop_is_sold_from_the_price_of_now(protection: str | None, limit: str) -> None:
    world = bought(entry(), target(), stop(market_protection=protection))
    world.trade("100", gap=True)
    assert world.statuses == "COMPLETED CANCELLED OPEN"
    assert world.only.price == Decimal(limit)


def test_a_stop_seen_late_is_sold_from_the_price_of_now() -> None:
    world = bought()
    world.event(Hit(Leg.STOPLOSS, Decimal(105), NOW + 9, late=True, last=Decimal(112)))
    assert world.only.price == Decimal("106.40")  # 5 % under 112
    rule = world.state.gtt.rule(Leg.STOPLOSS)
    assert rule is not None
    assert rule.message == "the price was 105, seen late"


def test_a_short_position_has_its_stop_above() -> None:
    world = World(body(entry(how="BELOW"), target("100"), stop("130"), side="SELL"))
    world.trade("120")
    world.fill(world.only)
    world.trade("129.95")
    assert world.live() == []
    world.trade("130")
    assert (world.only.side, world.only.price) == (Side.BUY, Decimal("136.5"))


def test_the_stop_takes_over_the_resting_order_of_the_target() -> None:
    """One order: it cannot be filled twice, and there is no moment without one."""
    world = bought()
    world.trade("150")
    resting = world.only
    world.fill(resting, 25)
    world.trade("108")
    assert world.only.order_id == resting.order_id
    assert world.only.price == Decimal("102.6")
    assert world.statuses == "COMPLETED CANCELLED OPEN"
    world.fill(world.only)
    assert world.statuses == "COMPLETED CANCELLED COMPLETED"
    assert len(world.orders) == 2


def test_where_the_venue_does_not_change_the_targets_order_it_is_cancelled_and_the_stop_follows() -> None:
    world = bought()
    world.trade("150")
    resting = world.only
    world.by_itself = False
    world.trade("108")
    (change,) = world.outbox
    world.outbox.clear()
    world.event(ChildRefused(change.order_id, "not modified", True, NOW + 9, "change"))
    assert len(world.live()) == 1  # nothing new before the old one is gone
    world.by_itself = True
    world.deliver()
    assert world.orders[resting.order_id].status is OrderStatus.CANCELLED
    assert (world.only.quantity, world.only.price) == (75, Decimal("102.6"))
    assert world.statuses == "COMPLETED CANCELLED OPEN"


def test_an_exit_that_is_not_changed_for_long_is_cancelled_and_follows_anew() -> None:
    """The answers to the change are lost."""
    world = bought()
    world.trade("150")
    resting = world.only
    world.by_itself = False
    world.trade("108")
    for price in ("107", "106"):
        (change,) = world.outbox
        assert isinstance(change, ChangeChild)
        world.outbox.clear()
        world.price = Decimal(price)
        world.wait()
    (cancel,) = world.outbox
    assert cancel == CancelChild(resting.order_id)
    world.by_itself = True
    world.deliver()
    assert (world.only.quantity, world.only.price) == (75, Decimal("100.7"))


def test_a_target_that_is_filled_before_the_stop_could_take_it_over_was_the_target() -> None:
    world = bought()
    world.trade("150")
    world.by_itself = False
    world.trade("108")
    world.fill(world.only)
    assert world.statuses == "COMPLETED COMPLETED CANCELLED"
    assert not world.state.gtt.live


def test_a_stop_order_that_is_not_filled_runs_after_the_price() -> None:
    world = bought()
    world.trade("108")
    prices = [world.only.price]
    for _ in range(8):
        world.wait()
        prices.append(world.only.price)
    assert prices[:4] == [Decimal("102.60"), Decimal("97.2"), Decimal("86.4"), Decimal("81")]  # 5, 10, 20, 25 %
    assert set(prices[4:]) == {Decimal(81)}  # no further than the widest, as long as the price stays
    world.trade("70")
    world.wait()
    assert world.only.price == Decimal("52.5")
    assert len(world.orders) == 2


def test_a_chase_stays_inside_the_band_of_the_day() -> None:
    world = bought()
    world.trade("108")
    world.event(Timer(world.now_ms + 5_000, Decimal(90), (Decimal(88), Decimal(140))))
    assert world.only.price == 88


def test_a_rejected_stop_is_tried_again_and_a_person_is_called_at_the_third() -> None:
    world = bought()
    world.trade("108")
    waits = []
    for n in range(1, 11):
        assert bool(world.alerts) is (n > 3)
        world.reject(world.only, "try later")
        assert world.live() == []
        assert world.statuses == "COMPLETED CANCELLED TRIGGERED"
        waits.append(due_ts(world.state) - world.now_ms)
        world.wait()
        assert world.only.quantity == 75
    assert waits == [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
    assert len(world.alerts) == 1
    world.fill(world.only, 25)
    world.reject(world.only)
    world.wait()
    assert world.only.quantity == 50


def test_a_stop_is_not_tried_again_before_the_desk_says_so() -> None:
    world = bought()
    world.by_itself = False
    world.trade("108")
    world.event(ChildRefused(world.state.children[-1].order_id, "closed", False, world.now_ms, again_ts=NOW + 9_000))
    assert due_ts(world.state) == NOW + 9_000


def test_a_stop_that_can_never_be_sent_ends_the_gtt_and_calls_a_person() -> None:
    world = bought()
    world.by_itself = False
    world.trade("108")
    world.event(ChildRefused(world.state.children[-1].order_id, "there is no such position", True, world.now_ms))
    assert world.statuses == "COMPLETED CANCELLED FAILED"
    assert "75 units" in world.alerts[0]
    assert not world.state.gtt.live


def test_a_target_whose_order_is_gone_waits_for_its_price_again() -> None:
    world = bought(product="D")
    world.trade("150")
    world.fill(world.only, 25)
    world.tell(world.only, status=OrderStatus.CANCELLED, reason="the day is over")
    assert world.statuses == "COMPLETED PENDING PENDING"
    world.wait()
    world.trade("149")
    assert world.live() == []
    world.trade("150")
    assert world.only.quantity == 50


def test_a_partly_filled_exit_leaves_the_rest_protected() -> None:
    world = bought()
    world.trade("150")
    world.fill(world.only, 25)
    assert world.statuses == "COMPLETED OPEN PENDING"
    world.trade("100")
    assert world.only.quantity - world.only.filled_quantity == 50


def test_what_others_have_closed_is_not_closed_again() -> None:
    world = bought()
    world.event(ClosedElsewhere(25, "a person", NOW + 5))
    world.trade("108")
    assert world.only.quantity == 50
    world.event(ClosedElsewhere(25, "a person", NOW + 6))
    assert world.only.quantity == 25
    world.event(ClosedElsewhere(99, "a person", NOW + 7))
    assert world.live() == []
    assert world.statuses == "COMPLETED CANCELLED CANCELLED"
    assert not world.state.gtt.live


# Trailing


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back() -> None:
    world = bought(entry(), target(), stop(trailing_gap="4"))
    stops = [world.state.gtt.rules[2].trigger_price]
    for price in ("120.05", "124.5", "123", "130.02", "126.1"):
        world.trade(price)
        stops.append(world.state.gtt.rules[2].trigger_price)
    assert stops == [Decimal(price) for price in ("116", "116.05", "120.5", "120.5", "126", "126")]
    world.trade("126")
    assert world.statuses == "COMPLETED CANCELLED OPEN"


def test_a_step_that_only_trails_is_told_apart() -> None:
    world = bought(entry(), target(), stop(trailing_gap="4"))
    before = world.state
    world.trade("125")
    assert only_trailed(before, world.state)
    trailed = world.state
    world.event(ClosedElsewhere(25, "a person", NOW + 5))
    assert not only_trailed(trailed, world.state)
    world.trade("100")
    assert not only_trailed(trailed, world.state)


def test_a_trailing_stop_of_a_short_position_follows_downwards() -> None:
    world = World(body(entry(how="BELOW"), stop("130", trailing_gap="5"), side="SELL"))
    world.trade("120")
    world.fill(world.only)
    assert world.state.gtt.rules[1].trigger_price == 125
    world.trade("110", "114.9")
    assert world.state.gtt.rules[1].trigger_price == 115
    assert world.live() == []
    world.trade("115")
    assert world.only.side is Side.BUY


def test_a_jump_before_the_fill_does_not_move_the_stop() -> None:
    """The trigger was seen at 180; the fill came at 120."""
    world = World(body(entry(), stop(trailing_gap="4")))
    world.trade("180")
    world.trade("119")
    world.fill(world.only, price="120")
    assert world.state.gtt.rules[1].trigger_price == 116


@pytest.mark.parametrize(("gap", "accepted"), [("1.19", False), ("1.2", True), ("3", True)])
def test_the_least_trailing_gap_is_a_tenth_of_the_way_to_the_stop(gap: str, accepted: bool) -> None:
    asked = body(entry(), target(), stop(trailing_gap=gap))
    for last in ("120", None):  # without a price it is measured from the entry's trigger
        if accepted:
            begin(asked, last=last)
        else:
            with pytest.raises(NotAccepted, match=r"at least 1\.2") as refused:
                begin(asked, last=last)
            assert refused.value.code == "UDAPI1151"


# Exit-only


def test_a_gtt_without_entry_guards_from_the_start() -> None:
    world = World(body(target(), stop(), quantity=50), last="120")
    assert world.statuses == "PENDING PENDING"
    world.trade("150")
    assert (world.only.side, world.only.quantity) == (Side.SELL, 50)
    world.fill(world.only)
    assert world.statuses == "COMPLETED CANCELLED"
    assert not world.state.gtt.live


def test_what_the_venue_has_entered_in_part_is_guarded_by_ours() -> None:
    state, _ = begin(body(*FULL))
    at_venue = state.gtt.model_copy(update={"engine": Engine.VENUE})
    ours, _ = protect_rest(at_venue, filled=25, now_ms=NOW, terms=TERMS)
    assert (ours.gtt.quantity, ours.gtt.engine, ours.held) == (25, Engine.OURS, 25)
    assert {rule.strategy for rule in ours.gtt.rules} == {Leg.TARGET, Leg.STOPLOSS}
    assert "GTT-1" in ours.gtt.note
    ours, _ = step(ours, Guarded(50, NOW + 1))
    assert ours.held == 50
    ours, _ = step(ours, Cancel("the venue", NOW + 2))
    assert not ours.gtt.live


# Cancelling and expiry


def test_a_waiting_gtt_is_cancelled_at_once() -> None:
    world = World(body(*FULL))
    world.event(Cancel("me", NOW + 1))
    assert world.statuses == "CANCELLED CANCELLED CANCELLED"
    assert not world.state.gtt.live
    assert world.alerts == []


def test_cancelling_takes_the_open_entry_order_back() -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.event(Cancel("me", NOW + 1))
    assert world.live() == []
    assert world.statuses == "CANCELLED CANCELLED CANCELLED"


def test_a_fill_that_overtakes_the_cancelling_keeps_its_exits() -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.by_itself = False
    world.event(Cancel("me", NOW + 1))
    world.fill(world.only, 50)
    world.by_itself = True
    world.deliver()
    assert world.statuses == "CANCELLED PENDING PENDING"
    world.trade("108")
    assert world.only.quantity == 50
    world.event(Cancel("me", NOW + 9))  # once more, knowing of it
    assert world.live() == []
    assert not world.state.gtt.live
    assert "50 units" in world.alerts[0]


@pytest.mark.parametrize("keep_exits", [True, False])
def test_cancelling_what_holds_something_ends_its_exits_and_says_so_unless_asked_otherwise(keep_exits: bool) -> None:
    world = World(body(*FULL))
    world.trade("120")
    world.fill(world.only, 25)
    world.event(Cancel("me", NOW + 1, keep_exits))
    assert world.live() == []
    if keep_exits:
        assert world.statuses == "CANCELLED PENDING PENDING"
        assert world.alerts == []
    else:
        assert world.statuses == "CANCELLED CANCELLED CANCELLED"
        assert "25 units" in world.alerts[0]


def test_cancelling_takes_a_working_exit_back() -> None:
    world = bought()
    world.trade("108")
    world.event(Cancel("me", NOW + 9))
    assert world.live() == []
    assert world.statuses == "COMPLETED CANCELLED CANCELLED"


def test_what_is_finished_is_neither_cancelled_nor_changed() -> None:
    world = World(body(*FULL))
    world.event(Cancel("me", NOW + 1))
    (told,) = world.event(Cancel("me", NOW + 2))
    assert isinstance(told, TurnedDown)
    (odd,) = world.event(Hit(Leg.ENTRY, Decimal(120), NOW + 3))
    assert isinstance(odd, Odd)


def test_a_gtt_that_never_fired_expires() -> None:
    world = World(body(*FULL))
    world.event(Expire(NOW + 9, world.state.gtt.expires_at // 1000 - 1))
    assert world.statuses == "SCHEDULED INACTIVE INACTIVE"
    world.expire()
    assert world.statuses == "EXPIRED EXPIRED EXPIRED"
    assert not world.state.gtt.live


def test_expiry_takes_the_open_entry_back_and_leaves_what_was_entered_its_exits() -> None:
    world = World(body(*FULL, product="D"))
    world.trade("120")
    world.fill(world.only, 25)
    world.event(Expire(NOW + 9))
    assert world.live() == []
    assert world.statuses == "EXPIRED PENDING PENDING"
    assert ends_us(world.state) == 0
    world.trade("108")
    world.fill(world.only)
    assert world.statuses == "EXPIRED CANCELLED COMPLETED"


def test_the_exits_of_an_intraday_position_end_with_its_day() -> None:
    world = bought()
    world.expire()
    assert world.statuses == "COMPLETED EXPIRED EXPIRED"
    assert "75 units" in world.alerts[0]


def test_a_gtt_is_valid_for_its_day_or_for_365_days() -> None:
    for product, days in (("I", 0), ("D", 365), ("MTF", 365)):
        state, _ = begin(body(*FULL, product=product))
        midnight_us = (NOW // 86_400_000 * 86_400_000 + 86_400_000 - 19_800_000) * 1000  # NOW is 03:45 UTC
        assert state.gtt.expires_at == midnight_us - 1_000_000 + days * 86_400_000_000
        assert state.gtt.product is Product(product)


# What does not fit


def test_an_event_that_does_not_fit_changes_nothing() -> None:
    world = bought()
    stray = world.orders[order_id_of("gtt:GTT-1:ENTRY:1")].model_copy(update={"order_id": "tjsomebodyelse"})
    for event in (
        Hit(Leg.ENTRY, Decimal(120), NOW),
        Hit(Leg.STOPLOSS, Decimal(109), NOW),
        Hit(Leg.TARGET, Decimal(149), NOW),
        Child(stray),
        ChildRefused("tjsomebodyelse", "no", True, NOW),
        Guarded(5, NOW),
    ):
        (told,) = world.event(event)
        assert isinstance(told, Odd), event


def test_late_and_repeated_news_of_an_order_change_nothing() -> None:
    world = World(body(*FULL))
    world.trade("120")
    early = world.only
    world.fill(world.only)
    before = world.state
    for _ in range(2):
        assert world.event(Child(early)) == ()
    assert world.state == before


def test_a_venue_run_gtt_is_not_ours_to_step() -> None:
    asked = body(*FULL)
    state, _ = begin(asked)
    mirrored = state.model_copy(update={"gtt": state.gtt.model_copy(update={"engine": Engine.VENUE})})
    (told,) = step(mirrored, Hit(Leg.ENTRY, Decimal(120), NOW))[1]
    assert isinstance(told, Odd)


def test_a_state_comes_back_from_json_as_it_was() -> None:
    world = bought(entry(), target(), stop(trailing_gap="4"))
    world.trade("121.35", "108")
    assert GttState.model_validate_json(world.state.model_dump_json()) == world.state


def test_the_automatic_protection_goes_by_the_price() -> None:
    terms = Terms(
        auto=(AutoBand(below=Decimal(5), percent=Decimal(15)), AutoBand(below=Decimal(10), percent=Decimal(10)),
              AutoBand(percent=Decimal(2)))
    )  # fmt: skip
    for price, limit in (("4", "4.6"), ("9", "9.9"), ("10", "10.2")):
        world = World(body(entry(price, how="IMMEDIATE", market_protection=-1)), terms=terms)
        assert world.only.price == Decimal(limit)


def test_an_exit_order_says_that_it_reduces() -> None:
    world = World(body(*FULL), by_itself=False)
    world.trade("120")
    placed = [action for action in world.take() if isinstance(action, PlaceChild)]
    assert [action.reduces for action in placed] == [False]
    world.deliver()
    world.fill(world.only)
    world.trade("108")
    placed = [action for action in world.take() if isinstance(action, PlaceChild)]
    assert [(action.reduces, action.protection) for action in placed] == [(True, Decimal(5))]
    assert replace(placed[0], quantity=1) != placed[0]


def test_the_body_may_have_any_rules_that_fit() -> None:
    for rules in ((target(),), (stop(),), (entry(), target()), (entry(), stop())):
        state, _ = begin(body(*rules))
        assert isinstance(GttBody.model_validate(body(*rules).model_dump()), GttBody)
        assert state.gtt.live
