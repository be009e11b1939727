"""Market orders as limits, and what becomes of their rest."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.settings import Leftover
from gtt.risk.protect import (
    AUTOMATIC,
    CHASES_MAX,
    TABLE,
    Rest,
    Waiting,
    limit_price,
    percent,
    reference,
    rest,
    stop_limit,
)
from market.instruments import Instrument
from schemas.orders import Side
from tests.gtt.risk_case import CALL, CURRENCY, FUTURE, SHARE, D

NOW_MS = 1_795_150_800_000


@pytest.mark.parametrize(
    ("instrument", "price", "wanted"),
    [
        (SHARE, "49.95", "3"), (SHARE, "50", "2"), (SHARE, "499.95", "2"), (SHARE, "500", "1"),
        (FUTURE, "9999.95", "1"), (FUTURE, "10000", "0.5"), (FUTURE, "24000", "0.5"),
        (CALL, "4.95", "15"), (CALL, "5", "10"), (CALL, "9.95", "10"), (CALL, "10", "5"),
        (CALL, "100", "3"), (CALL, "500", "2"), (CALL, "5000", "2"),
        (CURRENCY, "84.5", "0.5"),
    ],
)  # fmt: skip
def test_the_table_of_the_venue(instrument: Instrument, price: str, wanted: str) -> None:
    assert percent(instrument, D(price), AUTOMATIC) == D(wanted)


def test_what_is_asked_goes_before_the_table() -> None:
    assert percent(SHARE, D(100), D("0.7")) == D("0.7")


def test_each_table_ends_with_a_row_for_everything_above() -> None:
    for rows in TABLE.values():
        edges = [row.below for row in rows]
        assert edges[-1] is None
        assert edges[:-1] == sorted(edge for edge in edges if edge is not None)
        assert [row.percent for row in rows] == sorted((row.percent for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("ltp", "bid", "ask", "buy", "sell"),
    [
        ("100", "99", "101", "100", "100"),
        ("100", None, None, "100", "100"),
        (None, "99", "101", "101", "99"),
        (None, "99", None, "99", "99"),
        (None, None, "101", "101", "101"),
        ("90", "99", "101", "99", "99"),  # the quotes have left the last price behind
        ("110", "99", "101", "101", "101"),
        ("100", "102", "101", "100", "100"),  # crossed: no quotes at all
        ("0", "0", "101", "101", "101"),
        (None, None, None, None, None),
    ],
)
def test_where_protection_starts(
    ltp: str | None, bid: str | None, ask: str | None, buy: str | None, sell: str | None
) -> None:
    def price(text: str | None) -> Decimal | None:
        return None if text is None else D(text)

    for side, wanted in ((Side.BUY, buy), (Side.SELL, sell)):
        assert reference(side, ltp=price(ltp), bid=price(bid), ask=price(ask)) == price(wanted)


@settings(deadline=None)
@given(
    side=st.sampled_from(Side),
    ltp=st.integers(1, 10_000).map(Decimal),
    bid=st.integers(1, 10_000).map(Decimal),
    ask=st.integers(1, 10_000).map(Decimal),
    asked=st.sampled_from([D(-1), D("0.5"), D(25)]),
)
def test_an_entry_pays_no_more_than_its_percentage_and_an_exit_no_more_than_three_times(
    side: Side, ltp: Decimal, bid: Decimal, ask: Decimal, asked: Decimal
) -> None:
    base = reference(side, ltp=ltp, bid=bid, ask=ask)
    assert base is not None
    away = max(base * percent(SHARE, base, asked) / 100, D("0.05"))
    quiet, urgent = (
        limit_price(SHARE, side, ltp=ltp, bid=bid, ask=ask, asked=asked, urgent=each) for each in (False, True)
    )
    assert quiet == max(base + side.sign * away, D(0))
    assert urgent is not None
    assert (urgent - quiet) * side.sign >= 0
    assert (urgent - base) * side.sign <= away * 3


def test_a_cheap_option_is_protected_by_a_tick_at_least() -> None:
    """15 % of 0.30 is less than a tick, and a limit at the last price would meet nobody."""
    for side, limit in ((Side.BUY, D("0.35")), (Side.SELL, D("0.25"))):
        found = limit_price(CALL, side, ltp=D("0.3"), bid=D("0.3"), ask=D("0.35"), asked=AUTOMATIC, urgent=False)
        assert found == limit
    assert stop_limit(CALL, Side.SELL, D("0.3"), AUTOMATIC) == D("0.25")


def test_the_limit_of_a_stop_is_off_its_trigger() -> None:
    assert stop_limit(SHARE, Side.BUY, D(100), AUTOMATIC) == D(102)
    assert stop_limit(SHARE, Side.SELL, D(100), AUTOMATIC) == D(98)
    assert stop_limit(replace(CALL), Side.SELL, D(4), AUTOMATIC) == D("3.4")


REST = Waiting(since_ms=NOW_MS, chases=0, unfilled=10, reduces=False)
LATE_MS = NOW_MS + 10_000


@pytest.mark.parametrize(
    ("waiting", "policy", "now_ms", "wanted"),
    [
        (REST, Leftover.KEEP, LATE_MS, Rest.KEEP),
        (REST, Leftover.CANCEL, LATE_MS - 1, Rest.WAIT),
        (REST, Leftover.CANCEL, LATE_MS, Rest.CANCEL),
        (REST, Leftover.CHASE, LATE_MS - 1, Rest.WAIT),
        (REST, Leftover.CHASE, LATE_MS, Rest.CHASE),
        (replace(REST, chases=CHASES_MAX - 1), Leftover.CHASE, LATE_MS, Rest.CHASE),
        (replace(REST, chases=CHASES_MAX), Leftover.CHASE, LATE_MS, Rest.CANCEL),
        (replace(REST, unfilled=0), Leftover.CANCEL, LATE_MS, Rest.KEEP),
        (replace(REST, reduces=True), Leftover.KEEP, LATE_MS - 1, Rest.WAIT),
        (replace(REST, reduces=True), Leftover.KEEP, LATE_MS, Rest.CHASE),
        (replace(REST, reduces=True), Leftover.CANCEL, LATE_MS, Rest.CHASE),
        (replace(REST, reduces=True, chases=99), Leftover.CHASE, LATE_MS, Rest.CHASE),
    ],
)
def test_the_rest_of_a_market_order(waiting: Waiting, policy: Leftover, now_ms: int, wanted: Rest) -> None:
    assert rest(waiting, policy, 10.0, now_ms) is wanted
