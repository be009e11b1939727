"""Our requests as the SDK's models. Pure.

Prices become floats only here: the shortest text of a float that came from a decimal of few digits is that decimal.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import upstox_client

from brokers.venue import NewGtt, NewOrder, OrderChange
from schemas.gtt import Leg, RuleState
from schemas.money import ZERO
from schemas.orders import OrderType

_AUTOMATIC: Final = Decimal(-1)  # the venue's own table of percentages
_PROTECTED: Final = (OrderType.MARKET, OrderType.SL_M)

#: Of a question for margin.
MARGIN_MAX: Final = 20


def place(order: NewOrder) -> Any:
    """Without `slice`: the venue would cut it, and each part would be an order that nobody has written down."""
    return upstox_client.PlaceOrderV3Request(
        quantity=order.quantity,
        product=order.product.value,
        validity=order.validity.value,
        price=float(order.price),
        tag=order.order_id,
        slice=False,
        instrument_token=order.instrument,
        order_type=order.order_type.value,
        transaction_type=order.side.value,
        disclosed_quantity=0,
        trigger_price=float(order.trigger_price),
        is_amo=False,
        market_protection=_protection(order.order_type, order.market_protection),
    )


def modify(change: OrderChange) -> Any:
    return upstox_client.ModifyOrderRequest(
        quantity=change.quantity,
        validity=change.validity.value,
        price=float(change.price),
        order_id=change.venue_order_id,
        order_type=change.order_type.value,
        disclosed_quantity=0,
        trigger_price=float(change.trigger_price),
        market_protection=_protection(change.order_type, None),
    )


def _protection(kind: OrderType, wanted: Decimal | None) -> float | None:
    """Said in every case where it counts: what the venue takes for left out has changed before."""
    return float(_AUTOMATIC if wanted is None else wanted) if kind in _PROTECTED else None


def place_gtt(gtt: NewGtt) -> Any:
    return upstox_client.GttPlaceOrderRequest(
        type=gtt.type.value,
        quantity=gtt.quantity,
        product=gtt.product.value,
        rules=_rules(gtt.rules),
        instrument_token=gtt.instrument,
        transaction_type=gtt.side.value,
    )


def modify_gtt(venue_gtt_id: str, gtt: NewGtt) -> Any:
    """The rules replace the old ones: a trailing gap that is not sent again is gone."""
    return upstox_client.GttModifyOrderRequest(
        type=gtt.type.value, quantity=gtt.quantity, rules=_rules(gtt.rules), gtt_order_id=venue_gtt_id
    )


def _rules(rules: Iterable[RuleState]) -> list[Any]:
    return [
        upstox_client.GttRule(
            strategy=rule.strategy.value,
            trigger_type=rule.trigger_type.value,
            trigger_price=float(rule.trigger_price),
            trailing_gap=None if rule.trailing_gap is None else float(rule.trailing_gap),
            market_protection=_protection_of(rule),
        )
        for rule in rules
    ]


def _protection_of(rule: RuleState) -> float | None:
    """As it was asked for, so that a limit is its trigger where nothing is said. But a stop whose limit is its trigger
    is none in a falling market: it has the automatic protection, as under our own engine."""
    if rule.market_protection is not None:
        return float(rule.market_protection)
    return float(_AUTOMATIC) if rule.strategy is Leg.STOPLOSS else None


def cancel_gtt(venue_gtt_id: str) -> Any:
    return upstox_client.GttCancelOrderRequest(gtt_order_id=venue_gtt_id)


def margins(orders: Sequence[NewOrder]) -> list[Any]:
    """Questions that together ask for all orders. The venue takes an instrument once in each: orders on one side of it
    are added up, those of the other side are put into another question, which gives no benefit too many."""
    questions: list[dict[str, Any]] = []
    for order in orders:
        line = next((each[order.instrument] for each in questions if _same(each.get(order.instrument), order)), None)
        if line is not None:
            line.quantity += order.quantity
            continue
        free = (each for each in questions if order.instrument not in each and len(each) < MARGIN_MAX)
        question = next(free, None)
        if question is None:
            question = {}
            questions.append(question)
        question[order.instrument] = _instrument(order)
    return [upstox_client.MarginRequest(instruments=list(each.values())) for each in questions]


def _same(line: Any, order: NewOrder) -> bool:
    price = _price(order)
    return line is not None and (line.product, line.transaction_type, line.price) == (order.product, order.side, price)


def _instrument(order: NewOrder) -> Any:
    return upstox_client.Instrument(
        instrument_key=order.instrument,
        quantity=order.quantity,
        product=order.product.value,
        transaction_type=order.side.value,
        price=_price(order),
    )


def _price(order: NewOrder) -> float | None:
    return float(order.price) if order.price != ZERO else None
