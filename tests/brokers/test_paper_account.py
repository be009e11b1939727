"""Positions and money of a paper account, against arithmetic done the slow way."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.paper.account import Account, Position, margin, more_margin, morning
from brokers.paper.facts import Terms
from market.charges import Deal, Kind
from schemas.money import ZERO, Charges
from schemas.orders import Product, Side

TODAY, TOMORROW = date(2026, 11, 20), date(2026, 11, 23)
OPTION = Terms(
    kind=Kind("NSE_FO", Deal.OPTION, "NIFTY"),
    tick=Decimal("0.05"),
    expiry=TODAY,
    strike=Decimal(24000),
    is_call=True,
    on_index=True,
)
FUTURE = Terms(kind=Kind("NSE_FO", Deal.FUTURE, "X"), tick=Decimal("0.05"), expiry=date(2026, 12, 29))
SHARE = Terms(kind=Kind("NSE_EQ", Deal.DELIVERY), tick=Decimal("0.05"), isin="INE002A01018")
DAY_TRADE = Terms(kind=Kind("NSE_EQ", Deal.INTRADAY), tick=Decimal("0.05"))

fills = st.lists(
    st.tuples(st.sampled_from(list(Side)), st.integers(1, 9), st.decimals("0.05", 500, places=2)), max_size=30
)


@given(fills)
def test_a_position_is_kept_at_its_average(trades: list[tuple[Side, int, Decimal]]) -> None:
    position = Position("A", Product.INTRADAY, DAY_TRADE)
    units, average, profit = 0, Fraction(0), Fraction(0)
    for side, quantity, price in trades:
        got = position.trade(side, quantity, price)
        closed = min(quantity, abs(units)) if units * side.sign < 0 else 0
        gained = -side.sign * closed * (Fraction(price) - average)
        opened = quantity - closed
        if opened:
            held = abs(units) - closed
            average = (average * held + Fraction(price) * opened) / (held + opened)
        units += side.sign * quantity
        profit += gained
        assert position.quantity == units
        assert abs(Fraction(got) - gained) < Fraction(1, 10**12)
        assert not units or abs(Fraction(position.average) - average) < Fraction(1, 10**12)
    assert abs(Fraction(position.realised) - profit) < Fraction(1, 10**12)
    if not units:
        assert position.cost == 0 or abs(position.cost) < Decimal("1e-12")


@given(fills, st.decimals("0.05", 500, places=2))
def test_a_night_changes_no_equity(trades: list[tuple[Side, int, Decimal]], last: Decimal) -> None:
    """Of what is settled, of what stays, and of what is delivered from a stock of shares."""
    terms = {"OPT": OPTION, "FUT": FUTURE, "SHR": SHARE}
    account = Account(Decimal(1000))
    stock = Position("SHR", Product.DELIVERY, SHARE, 500, Decimal(500 * 90)).held()
    account.holdings["SHR"] = stock
    for name, own in terms.items():
        product = Product.DELIVERY if name == "SHR" else Product.INTRADAY
        for side, quantity, price in trades:
            account.trade((name, product), own, side, quantity, price, Charges())
    prices = dict.fromkeys(terms, last)

    def equity(of: Account) -> Decimal:
        open_ = sum((last * each.quantity - each.cost for each in of.positions.values()), ZERO)
        return of.cash + open_ + sum((last * each.quantity - each.cost for each in of.holdings.values()), ZERO)

    new = morning(account, TOMORROW, prices)
    following = Account.of(new.cash, new.positions, new.holdings.values())
    assert abs(equity(following) - equity(account)) < Decimal("1e-9")
    assert ("OPT", Product.INTRADAY) not in following.positions
    assert [each.instrument for each in new.settled] == (["OPT"] if account.quantity("OPT", Product.INTRADAY) else [])
    assert ("SHR", Product.DELIVERY) not in following.positions
    kept = following.positions.get(("FUT", Product.INTRADAY))
    assert (kept.quantity if kept else 0) == account.quantity("FUT", Product.INTRADAY)


@pytest.mark.parametrize(
    ("terms", "product", "quantity", "price", "bound"),
    [
        (OPTION, Product.INTRADAY, 65, "100", "6500"),
        (OPTION, Product.INTRADAY, -65, "100", "218400"),  # 14 % of 65 times 24000 on the last day
        (FUTURE, Product.DELIVERY, -10, "1000", "2200"),
        (DAY_TRADE, Product.INTRADAY, -10, "1000", "2000"),
        (SHARE, Product.DELIVERY, 10, "1000", "10000"),
        (SHARE, Product.DELIVERY, -10, "1000", "0"),
        (SHARE, Product.MTF, 10, "1000", "3500"),
    ],
)
def test_what_a_position_binds(terms: Terms, product: Product, quantity: int, price: str, bound: str) -> None:
    assert margin(terms, product, quantity, Decimal(price), TODAY) == Decimal(bound)


@pytest.mark.parametrize(
    ("before", "change", "more"),
    [(0, 10, 2200), (0, -10, 2200), (10, 10, 2200), (10, -10, 0), (10, -5, 0), (10, -30, 2200), (-10, 15, 0)],
)
def test_what_makes_a_position_smaller_binds_nothing(before: int, change: int, more: int) -> None:
    told = more_margin(FUTURE, Product.INTRADAY, before, Decimal(1000), change, Decimal(1000), TODAY)
    assert told == more


def test_only_what_is_not_paid_loses_money_that_is_free() -> None:
    account = Account(Decimal(0))
    for name, terms in (("OPT", OPTION), ("FUT", FUTURE)):
        account.trade((name, Product.INTRADAY), terms, Side.BUY, 10, Decimal(100), Charges())
    account.trade(("SHR", Product.DELIVERY), SHARE, Side.BUY, 10, Decimal(100), Charges())
    assert account.open_loss(dict.fromkeys(("OPT", "FUT", "SHR"), Decimal(90))) == -100
    assert account.open_loss(dict.fromkeys(("OPT", "FUT", "SHR"), Decimal(110))) == 0
    assert account.open_loss({}) == 0
