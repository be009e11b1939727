"""The scenarios: what a GTT does, step by step. Prices are near 100; each has an instrument of its own.

A scenario is for all three ways unless it says otherwise; where the venue's engine does another thing by its nature,
the scenario says which (docs/gtt.md, what differs from the venue's engine).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from schemas.gtt import Gtt
from tests.end_to_end.gtt_play import Placed, Play, Way, entry, stop, target

Script = Callable[[Play], Awaitable[None]]
ALL: Final = tuple(Way)
OURS: Final = (Way.PAPER, Way.OURS)
LIVE: Final = (Way.OURS, Way.VENUE)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    script: Script
    ways: tuple[Way, ...]
    long: bool = False  # with TEJI_SCENARIOS=all only


SCENARIOS: list[Scenario] = []


def scenario(*ways: Way) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        SCENARIOS.append(Scenario(script.__name__, script, ways or ALL))
        return script

    return add


WAITS = "SCHEDULED INACTIVE INACTIVE"
ARMED = "COMPLETED PENDING PENDING"
BY_TARGET = "COMPLETED COMPLETED CANCELLED"
BY_STOP = "COMPLETED CANCELLED COMPLETED"
CANCELLED = "CANCELLED CANCELLED CANCELLED"
LONG = (entry("ABOVE", 100), target(110), stop(95))
SHORT = (entry("BELOW", 100), target(90), stop(105))


# SINGLE


@scenario()
async def a_single_above_fires_at_its_price_and_not_before(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100))
    await at.price(99.95)
    await gtt.stands("SCHEDULED")
    assert at.orders() == []
    await at.price(100)
    await gtt.stands("COMPLETED", live=False, entered=at.lot)
    (order,) = at.orders()
    assert float(order.price) == 101  # its trigger and the protection, not the price
    await at.over(at.lot)


@scenario()
async def a_single_below_fires_when_the_price_falls(at: Play) -> None:
    await at.price(101)
    gtt = await at.place(entry("BELOW", 100), side="SELL")
    await at.price(100.05)
    await gtt.stands("SCHEDULED")
    await at.price(99.5)
    await gtt.stands("COMPLETED", live=False, entered=at.lot)
    await at.over(-at.lot)


@scenario()
async def a_single_immediate_goes_out_at_once(at: Play) -> None:
    await at.price(100)
    gtt = await at.place(entry("IMMEDIATE", 100))
    await gtt.stands("COMPLETED", live=False)
    await at.over(at.lot)


@scenario()
async def a_limit_without_protection_is_left_behind_by_a_gap_and_filled_later(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100, None), target(110), stop(95))
    await at.price(105)
    await gtt.stands("OPEN INACTIVE INACTIVE", entered=0)
    (order,) = at.orders()
    assert float(order.price) == 100
    await at.price(99)
    await gtt.stands(ARMED, entered=at.lot)
    await at.price(111)
    await gtt.stands(BY_TARGET)
    await at.over()


@scenario()
async def an_entry_whose_price_has_come_before_it_was_placed_fires(at: Play) -> None:
    await at.price(102)
    gtt = await at.place(entry("ABOVE", 100, 5), target(110), stop(95))
    await at.price(102.05)
    await gtt.stands(ARMED)
    await at.price(94)
    await gtt.stands(BY_STOP) if at.way.is_ours else await _leave_at_the_venue(at, gtt)
    await at.over()


async def _leave_at_the_venue(at: Play, gtt: object) -> None:
    """The venue's stop is a limit order near its trigger, which waits for the price to come back."""
    await at.price(95)


# MULTIPLE, long and short


@scenario()
async def a_target_is_hit(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await gtt.stands(WAITS)
    await at.price(100)
    await gtt.stands(ARMED, entered=at.lot)
    await at.holds(at.lot)
    await at.price(109.95)
    assert gtt.statuses == ARMED
    await at.price(110)
    await gtt.stands(BY_TARGET, exited=at.lot, live=False)
    gtt.always_guarded()
    await at.over()


@scenario()
async def a_stop_is_hit(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(95.05)
    assert gtt.statuses == ARMED
    await at.price(95)
    await gtt.stands(BY_STOP, exited=at.lot, live=False)
    gtt.always_guarded()
    await at.over()


@scenario()
async def a_short_position_leaves_by_its_target(at: Play) -> None:
    await at.price(101)
    gtt = await at.place(*SHORT, side="SELL")
    await at.price(100)
    await gtt.stands(ARMED)
    await at.holds(-at.lot)
    await at.price(90)
    await gtt.stands(BY_TARGET)
    await at.over()


@scenario()
async def a_short_position_leaves_by_its_stop(at: Play) -> None:
    await at.price(101)
    gtt = await at.place(*SHORT, side="SELL")
    await at.price(99.5)
    await gtt.stands(ARMED)
    await at.price(105)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def an_immediate_entry_arms_its_exits(at: Play) -> None:
    await at.price(100)
    gtt = await at.place(entry("IMMEDIATE", 100), target(104), stop(98))
    await gtt.stands(ARMED)
    await at.price(98)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def a_dip_is_bought_and_sold_at_the_target(at: Play) -> None:
    await at.price(101)
    gtt = await at.place(entry("BELOW", 100), target(103), stop(98), quantity=3 * at.lot)
    await at.price(99.95)
    await gtt.stands(ARMED)
    await at.price(103.05)
    await gtt.stands(BY_TARGET, entered=3 * at.lot, exited=3 * at.lot)
    await at.over()


@scenario()
async def with_a_target_only_and_with_a_stop_only(at: Play) -> None:
    await at.price(99)
    up = await at.place(entry("ABOVE", 100), target(104))
    down = await at.place(entry("ABOVE", 100), stop(96))
    await at.price(100)
    await up.stands("COMPLETED PENDING")
    await down.stands("COMPLETED PENDING")
    await at.price(104)
    await up.stands("COMPLETED COMPLETED")
    await at.holds(at.lot)
    await at.price(96)
    await down.stands("COMPLETED COMPLETED")
    await at.over()


@scenario()
async def both_exits_in_one_breath_close_once(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    await at.here.trade(at.key, 110.5, settle=False)
    await at.here.trade(at.key, 94.9, settle=False)
    await at.here.trade(at.key, 110.5, settle=False)
    await at.here.trade(at.key, 95)
    await at.until(lambda: not gtt.now.live, "over")
    assert gtt.now.exited == at.lot
    assert gtt.statuses in (BY_TARGET, BY_STOP)
    await at.over()


# Gaps


@scenario()
async def a_gap_over_the_trigger_fires_with_the_limit_of_the_trigger(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(104)
    await gtt.stands("OPEN INACTIVE INACTIVE")
    await at.price(100.5)
    await gtt.stands(ARMED)
    await at.price(110)
    await gtt.stands(BY_TARGET)
    await at.over()


@scenario()
async def a_gap_through_the_stop_is_chased_until_out(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(80)
    if at.way is Way.VENUE:
        await gtt.stands("COMPLETED CANCELLED OPEN", exited=0)
        await at.price(95)  # its limit order waits for the price to come back
    await gtt.stands(BY_STOP)
    await at.over()


@scenario(*OURS)
async def a_falling_price_is_followed_by_the_stop(at: Play) -> None:
    """Whenever the stop's order gets to the exchange, the price has gone on."""
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), stop(95, protection=0.2))
    await at.price(100)
    await gtt.stands("COMPLETED PENDING")
    await at.price(94, beside=2)  # the bid is far under the last price
    await gtt.stands("COMPLETED OPEN", exited=0)
    await at.trading(94, 2, lambda: gtt.now.exited == at.lot, "out by more protection")
    await gtt.stands("COMPLETED COMPLETED", live=False)
    gtt.always_guarded()
    await at.over()


@scenario()
async def a_gap_over_entry_and_target_enters_only_when_it_comes_back(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(112)
    await gtt.stands("OPEN INACTIVE INACTIVE", entered=0)
    await at.price(100.5)
    await gtt.stands(ARMED)
    await at.price(95)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def a_fall_through_entry_and_stop_at_once(at: Play) -> None:
    """The venue buys and is stopped at once. We do not buy what would have to be sold in the same breath."""
    await at.price(101)
    gtt = await at.place(entry("BELOW", 100), target(110), stop(95))
    await at.price(90)
    if at.way is Way.VENUE:
        await at.until(lambda: gtt.now.entered == at.lot, "entered")
        await at.price(90.05)  # it looks again when the instrument trades
        await gtt.stands("COMPLETED CANCELLED OPEN")
        await at.price(95)
        await gtt.stands(BY_STOP, entered=at.lot, exited=at.lot)
    else:
        await gtt.stands("FAILED CANCELLED CANCELLED", entered=0, live=False)
        assert "wrong side" in gtt.rule("ENTRY").message
        assert at.orders() == []
    await at.over()


# Trailing


@scenario()
async def a_trailing_stop_follows_and_only_tightens(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(120), stop(95, gap=5))
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(104)
    await gtt.at("STOPLOSS", 99)
    await at.price(101)
    await at.price(108.05)
    await gtt.at("STOPLOSS", 103.05)
    await at.price(104)
    assert float(gtt.rule("STOPLOSS").trigger_price) == 103.05
    await at.price(103)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def a_trailing_stop_of_a_short_position_comes_down(at: Play) -> None:
    await at.price(101)
    gtt = await at.place(entry("BELOW", 100), target(80), stop(105, gap=4), side="SELL")
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(95)
    await gtt.at("STOPLOSS", 99)
    await at.price(97)
    await at.price(99)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def a_trailing_gap_under_a_tenth_of_the_way_is_refused(at: Play) -> None:
    await at.price(100)
    said = await at.refused(entry("ABOVE", 101), stop(90, gap=0.9))
    assert said.rule == "UDAPI1151", said
    gtt = await at.place(entry("ABOVE", 101), stop(90, gap=1))
    said = await gtt.modify(entry("ABOVE", 101), stop(80, gap=1.5))
    assert (said.ok, said.rule) == (False, "UDAPI1151")
    await gtt.stands("SCHEDULED INACTIVE")
    assert float(gtt.rule("STOPLOSS").trigger_price) == 90
    await gtt.cancelled()
    await at.over()


@scenario()
async def a_trailing_gap_is_changed(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(130), stop(95, gap=5))
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(106)
    await gtt.at("STOPLOSS", 101)
    await gtt.modified(entry("IMMEDIATE", 100), target(130), stop(101, gap=2))
    await at.price(108)
    await gtt.at("STOPLOSS", 106)
    await at.price(106)
    await gtt.stands(BY_STOP)
    await at.over()


# Modified


@scenario()
async def before_the_entry_everything_may_change(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await gtt.modified(entry("ABOVE", 102), target(106), stop(101), quantity=2 * at.lot)
    await at.price(100)
    await gtt.stands(WAITS, quantity=2 * at.lot)
    await at.price(102)
    await gtt.stands(ARMED, entered=2 * at.lot)
    await at.price(101)
    await gtt.stands(BY_STOP, exited=2 * at.lot)
    await at.over()


@scenario()
async def an_open_entry_keeps_its_quantity_and_may_have_another_price(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100, None), target(110), stop(95))
    await at.price(103)
    await gtt.stands("OPEN INACTIVE INACTIVE")
    more = await gtt.modify(entry("IMMEDIATE", 100, None), target(110), stop(95), quantity=2 * at.lot)
    above = await gtt.modify(entry("ABOVE", 103, None), target(110), stop(95))
    assert [(said.ok, said.rule) for said in (more, above)] == [(False, "UDAPI1150")] * 2, (more, above)
    await gtt.modified(entry("IMMEDIATE", 103.5, None), target(110), stop(95))
    await gtt.stands(ARMED, entered=at.lot)
    assert len(at.orders()) == 1
    await at.price(110)
    await gtt.stands(BY_TARGET)
    await at.over()


@scenario()
async def after_the_entry_the_exits_may_change_and_nothing_else(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    more = await gtt.modify(entry("IMMEDIATE", 100), target(110), stop(95), quantity=2 * at.lot)
    assert (more.ok, more.rule) == (False, "UDAPI1150"), more
    await gtt.modified(entry("IMMEDIATE", 100), target(104), stop(98))
    await at.price(104)
    await gtt.stands(BY_TARGET)
    await at.over()


@scenario()
async def a_stop_may_go_beyond_the_entry_when_there_is_profit(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(106)
    await gtt.modified(entry("IMMEDIATE", 100), target(110), stop(103))
    await at.price(103)
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def a_stop_that_is_put_where_the_price_is_fires_at_once(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(102)
    await at.price(100)
    await gtt.stands(ARMED)
    await gtt.modified(entry("IMMEDIATE", 100), target(110), stop(101))
    if at.way is Way.VENUE:
        await at.price(100)  # it looks when the instrument trades
    await gtt.stands(BY_STOP)
    await at.over()


@scenario()
async def an_exit_is_taken_away_and_another_one_added(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(110))
    await at.price(100)
    await gtt.stands("COMPLETED PENDING")
    await gtt.modified(entry("IMMEDIATE", 100), stop(96))
    await at.until(lambda: gtt.status("STOPLOSS") == "PENDING", "a stop")
    await at.price(96)
    await at.until(lambda: gtt.status("STOPLOSS") == "COMPLETED", "out by the stop")
    await at.over()


@scenario()
async def what_is_over_cannot_be_changed_or_cancelled(at: Play) -> None:
    await at.price(100)
    gtt = await at.place(entry("IMMEDIATE", 100))
    await at.over(at.lot)
    changed, cancelled = await gtt.modify(entry("IMMEDIATE", 101)), await gtt.cancel()
    assert not changed.ok
    assert not cancelled.ok
    await at.over(at.lot)


# Cancelled


@scenario()
async def cancelled_before_the_entry(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await gtt.cancelled()
    await gtt.stands(CANCELLED, live=False)
    await at.price(101)
    await at.price(94)
    assert at.orders() == []
    await at.over()


@scenario()
async def cancelled_while_the_entry_is_open(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100, None), target(110), stop(95))
    await at.price(104)
    await gtt.stands("OPEN INACTIVE INACTIVE")
    await gtt.cancelled()
    await gtt.stands(CANCELLED, live=False)
    await at.over()
    await at.price(99)
    await at.over()


@scenario()
async def cancelled_after_the_entry_leaves_the_position_and_says_so(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    await gtt.cancelled()
    await gtt.stands("COMPLETED CANCELLED CANCELLED", live=False)
    await at.price(90)
    await at.over(at.lot)
    await at.until(lambda: at.says(f"{at.lot} units of {at.key} are held without an exit"), "a word about it")


@scenario()
async def cancelled_while_its_order_is_on_its_way(at: Play) -> None:
    """Who wins does not matter: what was bought is guarded, or nothing was bought."""
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.here.trade(at.key, 100)
    command = await at.here.send("gtt.cancel", {"gtt_order_id": gtt.gtt_id})
    await at.until(lambda: command in at.here.told.replies, "an answer")
    guarded = ("PENDING PENDING" if at.way.is_ours else "the venue cancels whatever was filled",)
    await at.until(lambda: not gtt.now.live or gtt.statuses.endswith(guarded), "cancelled, or guarded")
    if gtt.now.live:
        await gtt.stands(ARMED, entered=at.lot)
        await at.price(95)
        await gtt.stands(BY_STOP)
        await at.over()
        return
    await at.until(lambda: not at.differs() and at.position == gtt.now.entered, "the same everywhere")
    await at.over(gtt.now.entered)


@scenario()
async def cancelled_while_an_exit_is_at_work(at: Play) -> None:
    """The order of the exit goes too, and what is held is said."""
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(110, None), stop(95))
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(110, beside=2)  # nobody buys at the target
    await at.until(lambda: gtt.status("TARGET") == "OPEN", "a target that rests")
    await gtt.cancelled()
    await at.until(lambda: not gtt.now.live, "over")
    assert gtt.status("TARGET") == "CANCELLED"
    await at.over(at.lot)
    await at.until(lambda: at.says(f"{at.lot} units of {at.key} are held without an exit"), "a word about it")
    await at.price(112)
    await at.over(at.lot)


@scenario(*OURS)
async def a_target_that_rests_moves_and_a_stop_at_work_does_not(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(110, None), stop(95))
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(110, beside=2)
    await gtt.stands("COMPLETED OPEN PENDING")
    await gtt.modified(entry("IMMEDIATE", 100), target(112, None), stop(95))
    await at.until(lambda: any(float(each.price) == 112 for each in at.orders()), "at the new price")
    assert len(at.orders()) == 2
    await at.price(90, beside=8)  # the bid is far away
    await at.until(lambda: gtt.status("STOPLOSS") in ("TRIGGERED", "OPEN"), "the stop")
    said = await gtt.modify(entry("IMMEDIATE", 100), target(112, None), stop(80))
    assert (said.ok, said.rule) == (False, "UDAPI1150"), said
    await at.trading(90, 0.05, lambda: gtt.now.exited == at.lot, "out")
    await at.over()


@scenario(*OURS)
async def a_person_cancels_the_orders_of_a_gtt(at: Play) -> None:
    """That of its entry ends it; that of its stop is sent again, because something is held."""
    await at.price(99)
    first = await at.place(entry("ABOVE", 100, None), stop(95))
    await at.price(104)
    await first.stands("OPEN INACTIVE")
    said = await at.here.ask("order.cancel", {"order_id": at.orders()[0].order_id})
    assert said.ok, said.reason
    await first.stands("CANCELLED CANCELLED", live=False)
    second = await at.place(entry("IMMEDIATE", 104), stop(95, protection=0.1))
    await second.stands("COMPLETED PENDING")
    await at.price(95, beside=3)
    await second.stands("COMPLETED OPEN")
    newest = max(at.orders(), key=lambda each: each.created_ts)
    await at.here.ask("order.cancel", {"order_id": newest.order_id})
    await at.trading(95, 0.05, lambda: second.now.exited == at.lot, "out all the same")
    await at.over()


# Partly filled


async def partly_entered(at: Play) -> tuple[Placed, float, int]:
    """The book gives less than was asked for. The GTT, the price of its entry, what was filled."""
    many = at.freeze // at.lot * at.lot
    await at.price(99)
    limit = at.thin(100.05, many, 2)
    gtt = await at.place(entry("ABOVE", limit, None), target(110), stop(95), quantity=many)
    await at.price(limit, quantity=at.lot)
    await gtt.stands("OPEN INACTIVE INACTIVE")
    await at.price(round(limit - 0.05, 2), quantity=at.lot)  # the ask comes to the limit, with what waits there
    await at.until(lambda: 0 < gtt.now.entered < many, "a part")
    return gtt, limit, gtt.now.entered


@scenario(*OURS)
async def what_is_filled_of_an_entry_is_guarded_at_once(at: Play) -> None:
    gtt, _, part = await partly_entered(at)
    await gtt.stands("OPEN PENDING PENDING", entered=part)
    await at.price(110.5)
    await gtt.stands("CANCELLED COMPLETED CANCELLED", exited=part, live=False)
    gtt.always_guarded()
    await at.over()


@scenario()
async def what_is_filled_of_an_entry_leaves_by_its_stop(at: Play) -> None:
    """All prices on the way to the stop fill the rest: what is entered in the end is closed, no unit more."""
    gtt, _, _ = await partly_entered(at)
    await at.price(98, quantity=100_000)
    await gtt.stands(ARMED, entered=gtt.now.quantity)
    await at.price(95, quantity=100_000)
    await at.price(95, quantity=100_000)
    await gtt.stands(BY_STOP, exited=gtt.now.quantity)
    gtt.always_guarded() if at.way.is_ours else None
    await at.over()


@scenario(Way.VENUE)
async def what_the_venue_does_not_guard_yet_we_do(at: Play) -> None:
    """Its exits wait for the whole entry. When ours close the part, no more of it is entered."""
    gtt, limit, part = await partly_entered(at)
    await at.until(lambda: _guards(at, gtt), "a guard")
    (guard,) = _guards(at, gtt)
    assert (guard.engine.value, guard.entered) == ("ours", part)
    await at.price(110.5, quantity=100_000)
    await gtt.stands(CANCELLED, live=False, entered=part)
    await at.over()
    await at.price(round(limit - 1, 2), quantity=100_000)
    await at.over()


@scenario(Way.VENUE)
async def a_guard_ends_when_the_venue_has_taken_over(at: Play) -> None:
    gtt, _, _ = await partly_entered(at)
    await at.until(lambda: _guards(at, gtt), "a guard")
    await at.price(98, quantity=100_000)
    await gtt.stands(ARMED, entered=gtt.now.quantity)
    await at.until(lambda: not any(guard.live for guard in _guards(at, gtt)), "the guard's end")
    await at.price(110, quantity=100_000)
    await gtt.stands(BY_TARGET)
    await at.over()


def _guards(at: Play, gtt: Placed) -> list[Gtt]:
    return [each for each in at.gtts() if each.gtt_order_id != gtt.gtt_id]


@scenario()
async def a_partly_filled_entry_is_cancelled_and_nothing_is_guarded_then(at: Play) -> None:
    gtt, _, part = await partly_entered(at)
    await gtt.cancelled()
    await gtt.stands(CANCELLED, live=False, entered=part, exited=0)
    await at.over(part)
    await at.until(lambda: at.says(f"{part} units of {at.key} are held without an exit"), "a word about it")


@scenario(*OURS)
async def a_target_that_rests_is_taken_over_by_the_stop(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100), target(110, None), stop(95))
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(110, beside=0.5)  # the bid is under the target: its order rests
    await gtt.stands("COMPLETED OPEN PENDING")
    await at.price(95, beside=0.05)
    await gtt.stands(BY_STOP)
    assert len(at.orders()) == 2  # the target's order became the stop's
    gtt.always_guarded()
    await at.over()


@scenario(*OURS)
async def more_than_the_exchange_takes_at_once_goes_in_slices(at: Play) -> None:
    many = at.freeze // at.lot * at.lot + at.lot
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100, 5), target(110, 5), stop(95, protection=5), quantity=many)
    await at.price(100, quantity=100_000)
    await gtt.stands(ARMED, entered=many)
    await at.price(95, quantity=100_000)
    await gtt.stands(BY_STOP, exited=many)
    assert all(each.quantity <= at.freeze for each in at.orders())
    assert len(at.orders()) >= 4
    await at.over()


# Two, and others beside


@scenario()
async def two_on_one_instrument_each_close_their_own(at: Play) -> None:
    await at.price(99)
    near = await at.place(entry("ABOVE", 100), target(104), stop(97))
    far = await at.place(entry("ABOVE", 100), target(120), stop(90), quantity=2 * at.lot)
    await at.price(100)
    await near.stands(ARMED)
    await far.stands(ARMED)
    await at.holds(3 * at.lot)
    await at.price(97)
    await near.stands(BY_STOP)
    await far.stands(ARMED)
    await at.holds(2 * at.lot)
    await at.price(120)
    await far.stands(BY_TARGET)
    await at.over()


@scenario()
async def a_person_closes_the_position_first(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED, entered=at.lot)
    said = await at.here.ask("position.exit", {"mode": at.way.mode, "instrument_token": at.key})
    assert said.ok, said.reason
    await gtt.stands("COMPLETED CANCELLED CANCELLED", live=False)
    await at.over()
    await at.price(94)
    await at.over()


@scenario(*OURS)
async def a_person_sells_a_part(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG, quantity=3 * at.lot)
    await at.price(100)
    await gtt.stands(ARMED)
    await at.order("SELL", at.lot)
    await at.holds(2 * at.lot)
    await at.price(95)
    await gtt.stands(BY_STOP, exited=2 * at.lot)
    await at.over()


# Without an entry


@scenario(Way.PAPER, Way.OURS)
async def what_is_held_is_guarded_by_target_and_stop(at: Play) -> None:
    await at.price(100)
    await at.order("BUY", 2 * at.lot)
    await at.holds(2 * at.lot)
    gtt = await at.place(target(105), stop(97), quantity=2 * at.lot)
    await gtt.stands("PENDING PENDING")
    await at.price(97)
    await gtt.stands("CANCELLED COMPLETED", exited=2 * at.lot)
    await at.over()


@scenario(Way.VENUE)
async def the_venue_cannot_guard_alone_so_we_do_and_say_so(at: Play) -> None:
    await at.price(100)
    await at.order("BUY")
    await at.holds(at.lot)
    gtt = await at.place(target(105), stop(97, gap=2))
    assert gtt.now.engine.value == "ours"
    assert "begins with an ENTRY" in gtt.now.note
    await at.price(105)
    await gtt.stands("COMPLETED CANCELLED")
    await at.over()


@scenario(Way.PAPER, Way.OURS)
async def more_than_is_held_cannot_be_guarded(at: Play) -> None:
    await at.price(100)
    await at.order("BUY")
    await at.holds(at.lot)
    said = await at.here.ask("gtt.place", {"body": at.body(target(105), stop(97), quantity=2 * at.lot)})
    assert (said.ok, said.rule) == (False, "position"), said
    short = await at.here.ask("gtt.place", {"body": at.body(target(95), stop(105), side="SELL")})
    assert (short.ok, short.rule) == (False, "position"), short
    await at.over(at.lot)


# Refused


@scenario()
async def what_the_exchange_does_not_know_or_take_is_refused_at_once(at: Play) -> None:
    await at.price(99)
    lots = await at.refused(*LONG, quantity=at.lot + 1)
    assert lots.rule in ("lot", "UDAPI1104"), lots
    body = at.body(*LONG) | {"instrument_token": "NSE_FO|1"}
    unknown = await at.here.ask("gtt.place", {"body": body})
    assert (unknown.ok, unknown.rule) == (False, "instrument")
    index = await at.here.ask("gtt.place", {"body": body | {"instrument_token": "NSE_INDEX|Nifty 50"}})
    assert (index.ok, index.rule) == (False, "instrument")
