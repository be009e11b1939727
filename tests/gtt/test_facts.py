"""Facts: each has its place in the fold, and comes back from the journal as it was."""

from decimal import Decimal
from typing import get_args

from brokers.venue import Funds, VenueHolding, VenueOrder
from gtt.book import facts
from gtt.book.facts import FACT, Fact
from gtt.book.fold import _FOLDS
from schemas.orders import OrderStatus, OrderType, Product, Side, TradingMode, Validity

TS = 1_787_000_000_000
KINDS: list[type] = list(get_args(get_args(Fact)[0]))


def test_every_fact_is_folded_and_has_a_kind_of_its_own() -> None:
    assert set(_FOLDS) == set(KINDS)
    kinds = [kind.model_fields["kind"].default for kind in KINDS]  # type: ignore[attr-defined]
    assert len(kinds) == len(set(kinds))


def test_what_a_venue_told_comes_back_to_the_paisa() -> None:
    told = VenueOrder(
        venue_order_id="V1", tag="tj1", instrument="NSE_EQ|X", side=Side.SELL, quantity=7, filled_quantity=3,
        average_price=Decimal("101.333333"), price=Decimal("101.35"), trigger_price=Decimal(0),
        order_type=OrderType.LIMIT, product=Product.DELIVERY, validity=Validity.IOC, status=OrderStatus.OPEN,
        words="open", ts=TS, version=4, not_modified=True,
    )  # fmt: skip
    seen = facts.Seen(ts=TS, account=TradingMode.LIVE, order_id="tj1", state=told, source="stream")
    assert FACT.validate_json(FACT.dump_json(seen)) == seen
    funds = facts.FundsSeen(
        ts=TS,
        account=TradingMode.PAPER,
        funds=Funds(Decimal("1000.10"), Decimal("0.3"), {"cash": "1"}),
        holdings=(VenueHolding("NSE_EQ|X", "INE1", 5, Decimal("99.9999")),),
    )
    assert FACT.validate_json(FACT.dump_json(funds)) == funds
