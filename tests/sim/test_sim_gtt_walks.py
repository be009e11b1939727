"""GTTs on the exchange itself, with any prices: its orders meet its book, and nothing is left or doubled."""

from collections import Counter
from decimal import Decimal
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.gtt import GttType, Leg, RuleStatus, TriggerType
from schemas.orders import Side
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.gtt import NEXT, Terms
from sim.gtt_body import Change, Placement
from sim.orders import Order
from tests.sim.prints import last, trade_at
from tests.sim.simtools import MINUTE, RELIANCE
from tests.sim.simtools import settings as chosen

START = 1_480
#: What a user is told who comes too late, or whose prices do not fit any more.
_EXPECTED = {"UDAPI100010", "UDAPI100040", "UDAPI100041", "UDAPI1144", "UDAPI1145", "UDAPI1151"}
#: Rupees by which the price moves, and the quotes lie beside it.
moves = st.lists(st.tuples(st.integers(-25, 25), st.sampled_from([0.1, 0.5, 8.0])), min_size=1, max_size=25)
#: Before which of the moves the user interferes, and how.
deeds = st.dictionaries(st.integers(0, 24), st.sampled_from(["modify", "cancel", "cancel child"]), max_size=2)


def rule(leg: Leg, price: int, trigger: TriggerType, gap: int | None, protection: int | None) -> Terms:
    return Terms(
        strategy=leg,
        trigger_type=trigger,
        trigger_price=Decimal(price),
        trailing_gap=None if gap is None or leg is not Leg.STOPLOSS else Decimal(gap),
        market_protection=None if protection is None else Decimal(protection),
    )


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    side = draw(st.sampled_from(Side))
    trigger = draw(st.sampled_from(TriggerType))
    entry = START + draw(st.integers(-10, 10))
    gap, protection = draw(st.sampled_from([None, 5, 20])), draw(st.sampled_from([None, -1, 1]))
    exits = {Leg.TARGET: entry + 15 * side.sign, Leg.STOPLOSS: entry - 15 * side.sign}
    legs = draw(st.sampled_from([[Leg.TARGET], [Leg.STOPLOSS], [Leg.TARGET, Leg.STOPLOSS]]))
    rules = [rule(leg, exits[leg], TriggerType.IMMEDIATE, gap, protection) for leg in legs]
    return Placement(
        type=GttType.MULTIPLE,
        quantity=draw(st.sampled_from([1, 50, 700])),
        product="I",
        instrument_token=RELIANCE,
        side=side,
        rules=(rule(Leg.ENTRY, entry, trigger, gap, protection), *rules),
    )


def children(exchange: Exchange, number: str) -> dict[Leg, Order]:
    """The orders of a GTT, as the exchange has them."""
    rules = exchange.gtts.ever[number].rules
    return {each.leg: exchange.trading.ledger.ever[each.order_id][-1] for each in rules if each.order_id}


def interfere(exchange: Exchange, number: str, asked: Placement, deed: str) -> None:
    gtt, now_ms = exchange.gtts.ever[number], exchange.now_ms()
    if deed == "cancel child" and gtt.entry.order_id:
        exchange.trading.cancel(gtt.entry.order_id, at_ms=now_ms)
    elif deed == "cancel":
        exchange.gtts.cancel(number, now_ms)
    elif deed == "modify":
        entry = rule(Leg.ENTRY, START, TriggerType.IMMEDIATE, None, 1)
        change = Change(gtt_order_id=number, type=asked.type, quantity=asked.quantity, rules=(entry, *asked.rules[1:]))
        exchange.gtts.modify(change, now_ms)


def run(exchange: Exchange, asked: Placement, path: list[tuple[int, float]], deed_at: dict[int, str]) -> str:
    """A GTT through a walk of prices; its number."""
    now_ms = exchange.now_ms()
    price = START
    trade_at(exchange, RELIANCE, price)
    number = exchange.gtts.place(asked, now_ms).gtt_order_id
    for place, (step, spread) in enumerate(path):
        if place in deed_at:
            try:
                interfere(exchange, number, asked, deed_at[place])
            except ApiError as error:
                if error.code not in _EXPECTED:
                    raise
        price = min(max(price + step, 1_400), 1_560)
        trade_at(exchange, RELIANCE, price, spread=spread, quantity=40)
    return number


def check(exchange: Exchange, number: str) -> None:
    filled = {leg: order.filled_quantity for leg, order in children(exchange, number).items()}
    exits = [units for leg, units in filled.items() if leg is not Leg.ENTRY and units]
    assert len(exits) <= 1
    assert sum(exits) <= filled.get(Leg.ENTRY, 0)
    for each in exchange.gtts.ever[number].rules:
        assert each.filled == filled.get(each.leg, 0)
    states = [seen for _, seen in exchange.gtts.steps[number]]
    for before, after in pairwise(states):
        for leg in before.keys() & after.keys():
            old, new = before[leg], after[leg]
            assert new is old or new in NEXT[old]


def test_no_walk_of_prices_leaves_twice_or_leaves_more_than_came_in() -> None:
    exchange = Exchange(chosen(instruments=30, always_open=True, funds=Decimal(10**12), order_rate_limits=None))
    entered = left = 0

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(placements(), moves, deeds, st.sampled_from(["complete", "fill"]))
    def walk(asked: Placement, path: list[tuple[int, float]], deed_at: dict[int, str], arms_on: str) -> None:
        nonlocal entered, left
        exchange.gtts._settings = exchange.settings.model_copy(update={"gtt_arms_on": arms_on})
        number = run(exchange, asked, path, deed_at)
        check(exchange, number)
        filled = {leg: order.filled_quantity for leg, order in children(exchange, number).items()}
        entered += bool(filled.get(Leg.ENTRY))
        left += any(units for leg, units in filled.items() if leg is not Leg.ENTRY)
        for gtt in exchange.gtts.live():
            exchange.gtts.cancel(gtt.gtt_order_id, exchange.now_ms())
        for order in list(exchange.trading.ledger.live.values()):
            exchange.trading.cancel(order.order_id, at_ms=exchange.now_ms())
        check(exchange, number)
        assert len(exchange.gtts._triggers) == 0

    walk()
    assert entered > 20  # else the walks test nothing
    assert left > 10


async def test_in_the_simulated_market_every_order_of_a_gtt_belongs_to_one_rule() -> None:
    exchange = Exchange(chosen(instruments=60, conflation_ms=1_000, funds=Decimal(10**12)))
    tradable = [each for each in exchange.market.listing.instruments if not each.is_index]
    for place, instrument in enumerate(tradable * 3):
        side = Side.BUY if place % 2 else Side.SELL
        tick, price = Decimal(str(instrument.tick_size)), Decimal(str(last(exchange, instrument.key)))
        reach = max(price / 200 // tick, Decimal(2)) * tick
        trigger = (TriggerType.IMMEDIATE, TriggerType.ABOVE, TriggerType.BELOW)[place % 3]
        terms = [
            Terms(strategy=Leg.ENTRY, trigger_type=trigger, trigger_price=price, market_protection=Decimal(-1)),
            *(
                Terms(strategy=leg, trigger_type=TriggerType.IMMEDIATE, trigger_price=price + sign * side.sign * reach)
                for leg, sign in ((Leg.TARGET, 1), (Leg.STOPLOSS, -1))
            ),
        ]
        asked = Placement(
            type=GttType.MULTIPLE, quantity=instrument.lot_size, product="D", instrument_token=instrument.key,
            side=side, rules=tuple(terms),
        )  # fmt: skip
        if min(each.trigger_price for each in terms) > 0:
            exchange.gtts.place(asked, exchange.now_ms())
    await exchange.advance(4 * MINUTE)
    sent = {number for number, states in exchange.trading.ledger.ever.items() if states[-1].source == "gtt"}
    named = [rule.order_id for gtt in exchange.gtts.ever.values() for rule in gtt.rules if rule.order_id]
    assert len(named) == len(set(named))
    assert set(named) == sent
    for number in exchange.gtts.ever:
        check(exchange, number)
    outcomes = Counter(rule.status for gtt in exchange.gtts.ever.values() for rule in gtt.exits)
    assert min(outcomes[status] for status in (RuleStatus.PENDING, RuleStatus.COMPLETED, RuleStatus.CANCELLED)) > 0, (
        outcomes
    )
