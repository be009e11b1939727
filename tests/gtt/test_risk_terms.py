"""What a proposal becomes: protection, rounding once, slices; and the properties of the whole check."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.settings import Freeze
from gtt.risk.exposure import plain, rupees
from gtt.risk.limits import Limits
from gtt.risk.risk import Approved, Market, Origin, Proposal, Refused, Standing, Tally, Units, breach, check
from gtt.risk.terms import protected_price, slices_of
from market.instruments import Instrument
from market.sessions import Phase
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode
from tests.gtt.risk_case import CALL, CAPITAL, FUTURE, LIMITS, NOW_MS, SHARE, D, limits, market, proposal, standing

WIDE = limits(position=D(1), trade_risk=D(1))
HELD = standing(units=Units(net=500), own_units=Units(net=500))


def approved(order: dict[str, Any], **of_market: Any) -> Approved:
    answer = check(proposal(**({"stop": None} | order)), market(**of_market), standing(), WIDE)
    assert isinstance(answer, Approved), answer
    return answer


@pytest.mark.parametrize(
    ("side", "said", "sent"),
    [
        (Side.BUY, "100.00", "100"),
        (Side.BUY, "100.04", "100"),
        (Side.BUY, "100.05", "100.05"),
        (Side.SELL, "100.01", "100.05"),
        (Side.SELL, "100.05", "100.05"),
        (Side.SELL, "99.99", "100"),
    ],
)
def test_a_limit_is_rounded_to_the_less_aggressive_tick(side: Side, said: str, sent: str) -> None:
    found = approved({"side": side, "price": D(said), "atr": D(1)})
    assert found.price == D(sent)
    assert str(found.price) == sent
    assert found.protected is False


@pytest.mark.parametrize(
    ("side", "trigger", "limit", "sent"),
    [(Side.BUY, "100.02", "100.03", ("100", "100")), (Side.SELL, "99.99", "99.97", ("100", "100"))],
)
def test_a_trigger_is_rounded_with_its_limit_so_that_they_stay_on_their_sides(
    side: Side, trigger: str, limit: str, sent: tuple[str, str]
) -> None:
    order = {"side": side, "order_type": OrderType.SL, "trigger_price": D(trigger), "price": D(limit), "atr": D(1)}
    found = approved(order)
    assert (found.trigger_price, found.price) == (D(sent[0]), D(sent[1]))


def test_a_market_order_becomes_a_protected_limit_and_says_so() -> None:
    found = approved({"order_type": OrderType.MARKET, "price": D(0)})
    assert (found.order_type, found.price, found.protected) == (OrderType.LIMIT, D(102), True)  # 2 % of 100
    changed = {each.rule: each.values for each in found.checks}["price"]
    assert changed == {"order_type": "MARKET to LIMIT", "price": "0 to 102"}
    assert found.exposure == 10_000  # counted at the price of now, not at the limit


def test_the_protection_asked_for_goes_before_that_of_the_limits() -> None:
    assert approved({"order_type": OrderType.MARKET, "protection": D(5)}).price == D(105)
    answer = check(
        proposal(order_type=OrderType.MARKET, stop=None), market(), standing(), replace(WIDE, protection=D(3))
    )
    assert isinstance(answer, Approved)
    assert answer.price == D(103)


def test_a_protected_price_stays_in_the_band() -> None:
    assert approved({"order_type": OrderType.MARKET, "protection": D(25)}).price == D(120)
    option = approved(
        {"order_type": OrderType.MARKET, "protection": D(25), "quantity": 65},
        instrument=CALL, band=None, ltp=D(400), bid=None, ask=None, underlying_ltp=D(24000),
    )  # fmt: skip
    assert option.price == D(500)
    cheap = approved(
        {"order_type": OrderType.MARKET, "protection": D(25), "quantity": 65},
        instrument=CALL, band=(D("0.05"), D(110)), ltp=D(100), bid=None, ask=None, underlying_ltp=D(24000),
    )  # fmt: skip
    assert cheap.price == D(110)


def test_a_market_sale_of_almost_nothing_still_has_a_price() -> None:
    answer = check(
        proposal(side=Side.SELL, quantity=65, order_type=OrderType.MARKET, reduces=True, origin=Origin.EXIT),
        market(instrument=CALL, band=None, ltp=D("0.05"), bid=None, ask=None),
        standing(units=Units(net=65)),
        LIMITS,
    )
    assert isinstance(answer, Approved)
    assert answer.price == D("0.05")


def test_a_guessed_band_does_not_hold_an_exit_where_the_last_trade_was() -> None:
    """The option has fallen from 100 to 40 without a trade."""
    run_away = market(instrument=CALL, band=None, ltp=D(100), bid=D(40), ask=D(42))
    exit_ = proposal(side=Side.SELL, quantity=65, order_type=OrderType.MARKET, reduces=True, origin=Origin.EXIT)
    answer = check(exit_, run_away, HELD, LIMITS)
    assert isinstance(answer, Approved)
    assert answer.price == D("37.9")  # 5 % of 42 below the bid
    stop = replace(exit_, order_type=OrderType.SL_M, trigger_price=D(30))
    answer = check(stop, run_away, HELD, LIMITS)
    assert isinstance(answer, Approved)
    assert (answer.trigger_price, answer.price) == (D(30), D("28.5"))


def test_the_price_of_a_chase_is_that_of_the_check() -> None:
    for side in Side:
        order = proposal(side=side, order_type=OrderType.MARKET, protection=D(25), atr=D(1), stop=None)
        of = market(band=(D(90), D(110)))
        answer = check(order, of, standing(), WIDE)
        assert isinstance(answer, Approved)
        assert protected_price(of, SHARE, side, D(25), urgent=False) == answer.price
    nothing = market(ltp=None, bid=None, ask=None)
    assert protected_price(nothing, SHARE, Side.BUY, D(25), urgent=False) is None


def test_an_sl_m_order_becomes_sl_with_a_protected_limit() -> None:
    found = approved({"order_type": OrderType.SL_M, "price": D(0), "trigger_price": D(101)})
    assert (found.order_type, found.trigger_price, found.price) == (OrderType.SL, D(101), D(103))  # 103.02
    assert found.protected is False  # nothing is left over before it is triggered
    assert found.exposure == D(10_100)


def test_an_exit_below_the_band_is_lifted_into_it() -> None:
    exit_ = proposal(side=Side.SELL, reduces=True, origin=Origin.EXIT, price=D(50))
    answer = check(exit_, market(), HELD, LIMITS)
    assert isinstance(answer, Approved)
    assert answer.price == D(80)


def test_a_market_exit_reaches_for_the_other_side_of_the_book_within_bounds() -> None:
    def limit(bid: str) -> Decimal:
        exit_ = proposal(side=Side.SELL, reduces=True, origin=Origin.EXIT, order_type=OrderType.MARKET)
        answer = check(exit_, market(bid=D(bid), ask=D(101)), HELD, LIMITS)
        assert isinstance(answer, Approved)
        return answer.price

    assert limit("99.95") == D("97.95")  # Rs 2 below the bid
    assert limit("97") == D(95)
    assert limit("85") == D(94)  # three times 2 %, not further


@settings(deadline=None)
@given(
    quantity=st.integers(1, 200_000),
    lot=st.integers(1, 500),
    freeze=st.integers(0, 10_000),
)
def test_slices_are_whole_lots_within_the_freeze_quantity_and_add_up(quantity: int, lot: int, freeze: int) -> None:
    quantity = quantity // lot * lot or lot
    parts = slices_of(quantity, replace(SHARE, lot_size=lot, freeze_quantity=freeze))
    assert sum(parts) == quantity
    assert all(part % lot == 0 for part in parts)
    if freeze >= lot:
        assert all(part <= freeze for part in parts)
    assert len(parts) == 1 or parts[:-1] == (parts[0],) * (len(parts) - 1)


def test_the_usable_maximum_of_a_contract() -> None:
    assert slices_of(1755, CALL) == (1755,)  # NIFTY: 1800 is no whole number of lots
    assert slices_of(1820, CALL) == (1755, 65)


def test_numbers_in_words() -> None:
    assert [rupees(D(each)) for each in ("0", "999", "1000", "100000", "12345678.9", "-1500")] == [
        "Rs 0", "Rs 999", "Rs 1,000", "Rs 1,00,000", "Rs 1,23,45,678.90", "-Rs 1,500",
    ]  # fmt: skip
    assert [plain(D(each)) for each in ("1E+3", "0.1200", "100", "0.33333333")] == ["1000", "0.12", "100", "0.3333"]


# The whole check

T = TypeVar("T")


def mostly(good: T, others: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """So that one wrong thing at a time decides, and much is approved."""
    return st.integers(0, 9).flatmap(lambda number: others if number == 9 else st.just(good))


prices = st.integers(1, 60_000).map(lambda paise: Decimal(paise) / 100)
near = st.integers(7_000, 13_000).map(lambda paise: Decimal(paise) / 100)
rupee = st.integers(-2_000_000, 2_000_000).map(Decimal)
units = st.builds(Units, net=st.integers(-400, 400), buying=st.integers(0, 300), selling=st.integers(0, 300))
tallies = st.builds(
    Tally, equity=rupee, peak_equity=rupee, day_pnl=rupee.map(lambda each: each / 20), trades=st.integers(0, 60)
)
GOOD = Tally(equity=CAPITAL, peak_equity=CAPITAL)
instruments = st.sampled_from([SHARE, SHARE, CALL, FUTURE])


@st.composite
def orders(draw: st.DrawFn, instrument: Instrument) -> Proposal:
    lot = instrument.lot_size
    return proposal(
        instrument=instrument.key,
        side=draw(st.sampled_from(Side)),
        quantity=max(1, draw(st.integers(1, 250)) // lot) * lot + draw(mostly(0, st.just(1))),
        order_type=draw(st.sampled_from(OrderType)),
        product=draw(mostly(Product.INTRADAY, st.sampled_from(Product))),
        mode=draw(mostly(TradingMode.PAPER, st.sampled_from(TradingMode))),
        origin=draw(st.sampled_from(Origin)),
        price=draw(near),
        trigger_price=draw(near),
        protection=draw(st.sampled_from([None, D(-1), D(0), D(2), D(25)])),
        reduces=draw(st.booleans()),
        stop=draw(st.none() | near),
        atr=draw(st.none() | near),
    )


@st.composite
def markets(draw: st.DrawFn, instrument: Instrument) -> Market:
    pairs = st.tuples(near, near).map(lambda pair: (min(pair), max(pair)))
    return market(
        instrument=instrument,
        ltp=draw(mostly(D(100), st.none() | prices)),
        bid=draw(mostly(D("99.95"), st.none() | prices)),
        ask=draw(mostly(D("100.05"), st.none() | prices)),
        band=draw(mostly(None, st.just((D(90), D(110))) | pairs)),
        phase=draw(mostly(Phase.CONTINUOUS, st.sampled_from(Phase))),
        is_open=draw(mostly(True, st.just(False))),
        age_ms=draw(mostly(0, st.none() | st.integers(0, 120_000))),
    )


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    return standing(
        ceiling=draw(mostly(TradingMode.LIVE, st.sampled_from(TradingMode))),
        tally=draw(mostly(GOOD, tallies)),
        own_tally=draw(mostly(GOOD, st.none() | tallies)),
        units=draw(mostly(Units(), units)),
        own_units=draw(mostly(Units(), units)),
        switch=draw(mostly(StrategyMode.LIVE, st.sampled_from(StrategyMode))),
        halted=draw(mostly(None, st.just("ravi"))),
        reconciling=draw(mostly(False, st.just(True))),
        egress=draw(mostly("", st.just("no"))),
        funds=draw(mostly(D(10**7), st.none() | rupee)),
        margin=draw(mostly(None, st.integers(0, 100_000).map(Decimal))),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Proposal, Market, Standing, Limits]:
    instrument = draw(instruments)
    base = draw(st.sampled_from([LIMITS, WIDE]))
    own = replace(base, freeze=draw(st.sampled_from(Freeze)), duplicates=draw(st.booleans()))
    return draw(orders(instrument)), draw(markets(instrument)), draw(standings()), own


@settings(max_examples=250, deadline=None)
@given(cases())
def test_an_approved_order_breaks_no_limit(case: tuple[Proposal, Market, Standing, Limits]) -> None:
    order, of, where, allowed = case
    answer = check(*case)
    if isinstance(answer, Refused):
        return
    tick = D("0.05")
    assert sum(answer.slices) == order.quantity
    assert answer.price % tick == 0
    assert answer.trigger_price % tick == 0
    assert answer.order_type in (OrderType.LIMIT, OrderType.SL)
    assert answer.price > 0
    if of.band is not None:
        assert of.band[0] <= answer.price <= of.band[1]
    if answer.order_type is OrderType.SL:
        assert (answer.price - answer.trigger_price) * order.side.sign >= 0
    if answer.reduces:
        assert where.units.closes(order.side, order.quantity)
        return
    assert where.halted is None
    assert not where.reconciling
    assert breach(where, allowed) is None
    assert where.tally.trades < allowed.account.trades
    assert where.funds is None or (where.margin if where.margin is not None else answer.exposure) <= where.funds
    most = max(allowed.account.position, allowed.own.position) * where.capital
    after = where.units.after(order.side, order.quantity) * order.side.sign
    assert after <= 0 or after * answer.exposure / order.quantity <= most + D("0.01")


@settings(max_examples=120, deadline=None)
@given(cases())
def test_what_only_reduces_is_stopped_by_no_limit(case: tuple[Proposal, Market, Standing, Limits]) -> None:
    """Whatever the account's state is: with a good one, the answer is the same."""
    order, of, where, allowed = case
    held = Units(net=-order.side.sign * order.quantity)
    order = replace(order, reduces=True)
    good = standing(units=held, ceiling=where.ceiling, halted=None, reconciling=False, funds=D(10**9))
    answers = [check(order, of, each, allowed) for each in (replace(where, units=held), good)]
    if isinstance(answers[0], Refused):
        assert answers[0].rule in {"mode", "session", "venue", "product", "price", "lot", "freeze", "band"}
    assert type(answers[0]) is type(answers[1])


@settings(max_examples=30, deadline=None)
@given(cases())
def test_the_same_question_has_the_same_answer(case: tuple[Proposal, Market, Standing, Limits]) -> None:
    assert check(*case) == check(*case)


def test_a_check_takes_no_time_to_speak_of() -> None:
    """Signals come by the hundred: half a millisecond each is a bound that a slow machine keeps."""
    import time

    order, of, where = proposal(order_type=OrderType.MARKET), market(now_ms=NOW_MS), standing()
    check(order, of, where, LIMITS)
    spent = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(100):
            check(order, of, where, LIMITS)
        spent.append((time.process_time() - start) / 100)
    assert min(spent) < 0.001
