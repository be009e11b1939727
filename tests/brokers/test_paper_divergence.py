"""What the report says of fills and of orders that waited, against minutes written by hand."""

from decimal import Decimal

from brokers.paper.divergence import MINUTE_MS, Minute, Verdict, as_dict, compared
from brokers.paper.facts import Fact
from brokers.venue import OrderChange
from schemas.orders import OrderType, Side, Validity
from tests.brokers.paper_market import OPTION, T0, Floor, order, tick

BIDS = [(99.95, 130), (99.9, 260)]
ASKS = [(100.05, 130), (100.1, 260)]


def minute(number: int, low: str, high: str, volume: int = 6500, vwap: str | None = "100") -> Minute:
    average = None if vwap is None else Decimal(vwap)
    return Minute(T0 + number * MINUTE_MS, Decimal(high), Decimal(low), volume, average, complete=True)


def floor() -> Floor:
    here = Floor()
    here.ticks(tick(bids=BIDS, asks=ASKS))
    return here


def bought(quantity: int = 65) -> list[Fact]:
    here = floor()
    here.place(order(Side.BUY, quantity, "100.10", tag="tj1"))
    return here.log


def verdict(*minutes: Minute, facts: list[Fact] | None = None) -> Verdict:
    return compared(facts or bought(), {OPTION.key: minutes}).fills[0].verdict


def test_a_fill_is_judged_by_its_minute_and_the_next() -> None:
    assert verdict(minute(0, "99.90", "100.20")) is Verdict.THROUGH
    assert verdict(minute(0, "100.05", "100.20")) is Verdict.AT
    assert verdict(minute(0, "100.10", "100.20")) is Verdict.NOT_REACHED
    assert verdict(minute(0, "100.10", "100.20"), minute(1, "100", "100.20")) is Verdict.THROUGH
    assert verdict(minute(1, "100", "100.20")) is Verdict.THROUGH
    assert verdict(minute(2, "100", "100.20")) is Verdict.NO_BAR


def test_a_sale_is_judged_from_above() -> None:
    here = floor()
    here.place(order(Side.SELL, 65, "99.90"))
    assert verdict(minute(0, "99", "100"), facts=here.log) is Verdict.THROUGH
    assert verdict(minute(0, "99", "99.95"), facts=here.log) is Verdict.AT
    assert verdict(minute(0, "99", "99.90"), facts=here.log) is Verdict.NOT_REACHED


def test_a_fill_of_more_than_traded_is_not_believed() -> None:
    report = compared(bought(130), {OPTION.key: [minute(0, "100", "100.20", volume=65)]})
    assert [(fill.is_believable, fill.volume) for fill in report.fills] == [(False, 65)]
    assert report.too_large == 1


def test_prices_are_compared_with_the_minutes_average() -> None:
    here = floor()
    here.place(order(Side.BUY, 130, "100.05", tag="tj1"))
    here.place(order(Side.SELL, 65, "99.95", tag="tj2"))
    report = compared(here.log, {OPTION.key: [minute(0, "99", "101", vwap="100.05")]})
    assert [fill.slippage_bps for fill in report.fills] == [0.0, 9.995002498750624]
    assert report.slippage is not None
    assert (report.slippage.worst, report.slippage.rupees) == (9.995002498750624, Decimal("6.50"))
    assert as_dict(report)["slippage_bps"]["fills"] == 2
    assert compared(here.log, {OPTION.key: [minute(0, "99", "101", vwap=None)]}).slippage is None


def test_an_order_that_the_market_passed_by_is_missed() -> None:
    here = floor()
    here.place(order(Side.BUY, 130, "99.00", tag="tj1"))
    passed = [minute(0, "98", "101"), minute(1, "99.00", "101"), minute(2, "98.95", "101"), minute(3, "98.90", "101")]
    report = compared(here.log, {OPTION.key: passed})
    (missed,) = report.missed
    assert (missed.order_id, missed.quantity, missed.price) == ("tj1", 130, Decimal("99.00"))
    assert (missed.ts, missed.volume) == (T0, 3 * 6500)


def test_only_whole_minutes_of_waiting_count() -> None:
    here = floor()
    here.now = T0 + 1
    number = here.place(order(Side.BUY, 130, "99.00", tag="tj1"))
    here.now = T0 + MINUTE_MS * 2 - 1
    here.keep(here.book.cancel(number, here.now))
    passed = [minute(number, "98", "101") for number in range(4)]
    assert compared(here.log, {OPTION.key: passed}).missed == ()


def test_a_change_of_price_and_a_trigger_count_from_when_they_came() -> None:
    here = floor()
    number = here.place(order(Side.BUY, 130, "99.00", tag="tj1"))
    here.now = T0 + MINUTE_MS
    lower = OrderChange("", number, 130, OrderType.LIMIT, Decimal("97"), Decimal(0), Validity.DAY)
    here.keep(here.book.change(lower, OPTION, here.now, here.seen.get(OPTION.key), {}))
    here.place(order(Side.SELL, 65, "98.00", trigger="98.50", kind=OrderType.SL, tag="tj2"))
    passed = [minute(0, "99", "101"), *(minute(number, "98", "101") for number in range(1, 4))]
    assert compared(here.log, {OPTION.key: passed}).missed == ()


def test_nothing_is_nothing() -> None:
    report = compared([], {})
    assert (report.orders, report.fills, report.missed, report.slippage) == (0, (), (), None)
    assert as_dict(report)["verdicts"] == {"through": 0, "at": 0, "not_reached": 0, "no_bar": 0}
