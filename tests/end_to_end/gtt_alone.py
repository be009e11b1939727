"""Scenarios that need the stack for themselves: halts, faults of the exchange, the end of a day."""

from collections.abc import Callable

from tests.end_to_end.gtt_play import Play, Way, entry, stop, target
from tests.end_to_end.gtt_scenarios import (
    ARMED,
    BY_STOP,
    BY_TARGET,
    LONG,
    OURS,
    WAITS,
    Scenario,
    Script,
    partly_entered,
)

ALONE: list[Scenario] = []
_LIVE = (Way.OURS, Way.VENUE)
_DAY_US = 86_400_000_000


def alone(*ways: Way, long: bool = False) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        ALONE.append(Scenario(script.__name__, script, ways, long))
        return script

    return add


@alone(*OURS)
async def while_trading_is_halted_entries_do_not_fire_and_exits_do(at: Play) -> None:
    await at.price(99)
    held = await at.place(*LONG)
    await at.price(100)
    await held.stands(ARMED)
    waiting = await at.place(entry("ABOVE", 103), target(120), stop(96))
    await at.here.halt("a scenario")
    await at.price(103)
    await waiting.stands("FAILED CANCELLED CANCELLED", entered=0)
    assert "halted (a scenario)" in waiting.rule("ENTRY").message
    await at.price(95)
    await held.stands(BY_STOP)
    await at.here.resume()
    await at.over()


@alone(*_LIVE)
async def an_order_that_the_exchange_turns_down_fails_its_rule_and_ends_the_others(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    at.here.fault(order_reject=1)
    await at.price(100)
    await gtt.stands("FAILED CANCELLED CANCELLED", entered=0, live=False)
    assert gtt.rule("ENTRY").message
    await at.over()


@alone(Way.OURS)
async def an_exit_that_is_turned_down_is_tried_again_until_out(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await gtt.stands(ARMED)
    at.here.fault(order_reject=2)
    await at.price(95)
    await gtt.stands(BY_STOP, exited=at.lot)
    assert len(at.orders()) == 4
    gtt.always_guarded()
    await at.over()


@alone(Way.OURS)
async def answers_that_are_lost_double_nothing(at: Play) -> None:
    """Of the entry, and of the exit."""
    await at.price(99)
    gtt = await at.place(*LONG)
    at.here.fault(order_500=1)
    await at.price(100)
    await gtt.stands(ARMED, entered=at.lot)
    at.here.fault(order_lost=1)
    await at.price(110)
    await gtt.stands(BY_TARGET, exited=at.lot)
    assert len(at.at_exchange()) == 2
    await at.over()


@alone(Way.OURS, long=True)
async def a_request_that_was_never_heard_is_sent_again(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(*LONG)
    at.here.fault(order_unheard=1)
    await at.price(100)
    await gtt.stands(ARMED, entered=at.lot)
    at.here.fault(order_unheard=1)
    await at.price(95)
    await gtt.stands(BY_STOP, exited=at.lot)
    assert len(at.at_exchange()) == 2
    await at.over()


@alone(Way.VENUE)
async def a_gtt_whose_answer_is_lost_is_found_and_not_placed_twice(at: Play) -> None:
    await at.price(99)
    before = len(at.here.market.gtts.ever)
    for fault in ("order_500", "order_lost"):
        at.here.fault(**{fault: 1})
        gtt = await at.place(*LONG)
        await at.until(lambda gtt=gtt: bool(gtt.now.venue_gtt_order_id), "found")
        at.here.fault(**{fault: 1})
        await gtt.modified(entry("ABOVE", 101), target(111), stop(96))
        assert [float(each.trigger_price) for each in gtt.now.rules] == [101, 111, 96]
        at.here.fault(**{fault: 1})
        await gtt.cancel()
        await gtt.stands("CANCELLED CANCELLED CANCELLED", live=False)
    assert len(at.here.market.gtts.ever) == before + 2
    assert not any(each.instrument.key == at.key for each in at.here.market.gtts.live())
    await at.over()


@alone(Way.VENUE)
async def a_single_whose_answer_is_lost_is_not_placed_twice(at: Play) -> None:
    """It is over at once, and so not among the venue's live ones."""
    await at.price(100)
    for number, fault in enumerate(("order_500", "order_lost"), 1):
        at.here.fault(**{fault: 1})
        gtt = await at.place(entry("IMMEDIATE", 100))
        await gtt.stands("COMPLETED", live=False, entered=at.lot)
        await at.over(number * at.lot)
    assert len(at.at_exchange()) == 2


@alone(*OURS)
async def a_trigger_that_is_crossed_while_the_feed_is_away_fires_when_it_is_back(at: Play) -> None:
    await at.price(99)
    gtt = await at.place(entry("ABOVE", 100, 5), target(120), stop(95))
    at.here.fault(mute=True)
    await at.here.trade(at.key, 103, settle=False)
    at.here.fault(abort=True)
    at.here.fault(mute=False)
    await at.trading(103, 0.05, lambda: gtt.now.entered == at.lot, "entered when the feed is back")
    await gtt.stands(ARMED)
    await at.price(95)
    await gtt.stands(BY_STOP)
    await at.over()


@alone(*_LIVE, long=True)
async def updates_that_come_late_twice_or_not_at_all_change_nothing(at: Play) -> None:
    at.here.fault(updates_lost=0.5, updates_twice=0.3, updates_reordered=0.3)
    await at.price(99)
    gtt = await at.place(*LONG)
    await at.price(100)
    await at.until(lambda: gtt.now.entered == at.lot, "entered")
    await at.until(lambda: gtt.statuses == ARMED, "armed")
    await at.price(110)
    await gtt.stands(BY_TARGET)
    at.here.fault(updates_lost=0, updates_twice=0, updates_reordered=0)
    await at.over()


@alone(Way.PAPER)
async def hundreds_beside_do_not_slow_one(at: Play) -> None:
    others = at.here.free[:20]
    for other in others:
        await at.here.trade(other.key, 100)
    bodies = [
        at.body(entry("ABOVE", 200 + n), quantity=other.lot_size) | {"instrument_token": other.key}
        for n in range(15)
        for other in others
    ]
    waits = [await at.here.send("gtt.place", {"body": body}) for body in bodies]
    await at.price(99)
    gtt = await at.place(*LONG)
    assert all(command in at.here.told.replies for command in waits)  # commands are carried out in their order
    await at.price(100)
    await gtt.stands(ARMED)
    await at.price(95)
    await gtt.stands(BY_STOP)
    await at.over()
    for other in others:
        await at.here.ask("order.cancel_all", {"mode": at.way.mode, "instrument_token": other.key})


@alone(Way.VENUE)
async def more_than_one_order_takes_is_watched_by_us(at: Play) -> None:
    """The venue's GTT sends one order, which the exchange would turn down at its size."""
    many = at.freeze // at.lot * at.lot + at.lot
    await at.price(99)
    body = at.body(entry("ABOVE", 100, 5), target(110, 5), stop(95, protection=5), quantity=many) | {"engine": "auto"}
    said = await at.here.ask("gtt.place", {"body": body})
    assert said.ok, said
    assert said.gtts[0].engine.value == "ours"
    assert "more than one order takes" in said.gtts[0].note
    await at.price(100, quantity=100_000)
    await at.until(lambda: at.position == many, "entered")
    await at.price(110, quantity=100_000)
    await at.over()


# The end of a day


async def intraday_ends_with_its_day_and_delivery_after_a_year(at: Play) -> None:
    plays = [at, *(Play(at.here, way, at.here.free.pop()) for way in _LIVE)]
    placed = []
    for play in plays:
        await play.price(99)
        day = await play.place(*LONG)
        year = await play.place(*LONG, product="D")
        assert year.now.expires_at - day.now.expires_at == 365 * _DAY_US
        assert day.now.expires_at % _DAY_US == 66_599_000_000  # 23:59:59 IST
        placed.append((day, year))
    half = Play(at.here, Way.PAPER, at.here.free.pop())
    gtt, _, entered = await partly_entered(half)
    await at.here.night()
    for play, (day, year) in zip(plays, placed, strict=True):
        await play.price(99.05)
        await day.stands("EXPIRED EXPIRED EXPIRED", live=False)
        await year.stands(WAITS, live=True)
        assert play.orders() == []
    await gtt.stands("CANCELLED EXPIRED EXPIRED", live=False, entered=entered, exited=0)  # its order by the exchange
    await half.until(lambda: half.says(f"{entered} units of {half.key} are held without an exit"), "a word about it")


LAST = [Scenario("intraday_ends_with_its_day", intraday_ends_with_its_day_and_delivery_after_a_year, (Way.PAPER,))]
