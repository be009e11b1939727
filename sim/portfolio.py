"""The user's account: cash, positions, holdings, and what of the cash is free. Pure.

Premiums and margins are blocked as long as the position lives. A loss is gone at once; a profit can be used from the
next day on, and so can most of the money for sold shares at once.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from market.instruments import Instrument
from sim import margins
from sim.orders import ZERO, Order, rounded
from sim.positions import Holding, Position

#: Last prices by instrument key.
Prices = Callable[[str], Decimal]

DELIVERY: Final = "D"
INTRADAY: Final = "I"
_OF_SALES: Final = Decimal("0.8")  # of the money for sold holdings, usable on the same day


@dataclass(frozen=True, slots=True)
class Funds:
    opening: Decimal
    realised_loss: Decimal
    unrealised_loss: Decimal
    profit: Decimal  # today's, not to be used yet
    from_sales: Decimal
    premium: Decimal
    span_exposure: Decimal
    equity: Decimal  # margin of shares for the day
    delivery: Decimal
    mtf: Decimal

    @property
    def used(self) -> Decimal:
        losses = self.realised_loss + self.unrealised_loss
        return self.premium + self.span_exposure + self.equity + self.delivery + self.mtf + losses

    @property
    def available(self) -> Decimal:
        return self.opening + self.from_sales - self.used


@dataclass(slots=True)
class Portfolio:
    cash: Decimal
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)

    def traded(self, order: Order, quantity: int, price: Decimal) -> tuple[Position, Holding | None]:
        """A part of an order was filled: the position it changed, and the holding where it came out of one."""
        key = (order.instrument.key, order.product)
        before = self.positions.get(key) or Position(instrument=order.instrument, product=order.product)
        after = before.traded(quantity if order.is_buy else -quantity, price)
        self.positions[key] = after
        holding = self.holdings.get(order.instrument.key)
        if holding is None or order.product != DELIVERY or (used := max(-after.quantity, 0)) == holding.used:
            return after, None
        self.holdings[order.instrument.key] = sold = replace(holding, used=used)
        return after, sold

    def position(self, key: str, product: str) -> int:
        found = self.positions.get((key, product))
        return found.quantity if found else 0

    def sellable(self, key: str) -> int:
        """Shares that may be sold for delivery: owned, or bought today."""
        holding = self.holdings.get(key)
        return (holding.quantity + holding.t1 if holding else 0) + self.position(key, DELIVERY)

    def opens(self, order: Order, waiting: Iterable[Order]) -> int:
        """How much of the order adds to what is held, once other orders on its side have had their part."""
        whose = _side(order)
        ahead = sum(each.pending_quantity for each in waiting if _side(each) == whose)
        return self._opens(order, ahead)

    def _opens(self, order: Order, ahead: int) -> int:
        held = self.position(order.instrument.key, order.product)
        against = max(-held if order.is_buy else held, 0)
        return max(order.pending_quantity - max(against - ahead, 0), 0)

    def needed(self, order: Order, units: int, last: Prices) -> Decimal:
        """What so many units of the order block."""
        return _blocked(order.instrument, order.product, units if order.is_buy else -units, _price(order, last), last)

    def shortfall(self, order: Order, before: Order | None, others: Collection[Order], last: Prices) -> str:
        """Why money or shares do not suffice for an order beside the others; empty: they do. What reduces a position,
        or costs no more than the order did `before` its change, needs nothing."""
        if not order.is_buy and order.product == DELIVERY and not order.instrument.is_derivative:
            selling = sum(each.pending_quantity for each in others if _side(each) == _side(order))
            sellable = max(self.sellable(order.instrument.key) - selling, 0)
            if order.pending_quantity > sellable:
                return f"Insufficient holdings: {order.pending_quantity} to sell, {sellable} there"
        needed = self.needed(order, self.opens(order, others), last)
        blocked = self.needed(before, self.opens(before, others), last) if before else ZERO
        if needed <= blocked:
            return ""
        available = self.funds(others, last).available
        if needed > available:
            return f"Insufficient funds: {needed} required, {available} available. Add {needed - available}"
        return ""

    def funds(self, waiting: Iterable[Order], last: Prices) -> Funds:
        """With what `waiting` orders block."""
        found = _Blocks()
        for position in self.positions.values():
            found.add(position.instrument, position.product, position.quantity, abs(position.average_price), last)
        ahead: dict[tuple[str, str, bool], int] = {}
        for order in waiting:
            side = _side(order)
            units = self._opens(order, ahead.get(side, 0))
            ahead[side] = ahead.get(side, 0) + order.pending_quantity
            signed = units if order.is_buy else -units
            found.add(order.instrument, order.product, signed, _price(order, last), last)
        realised = [each.realised for each in self.positions.values()]
        open_profit = [
            each.unrealised(last(each.instrument.key))
            for each in self.positions.values()
            if each.quantity and not self._delivers(each) and not (each.instrument.is_option and each.quantity > 0)
        ]
        return Funds(
            opening=self.cash,
            realised_loss=rounded(-min(sum(realised, ZERO), ZERO)),
            unrealised_loss=rounded(-min(sum(open_profit, ZERO), ZERO)),
            profit=rounded(max(sum(realised, ZERO), ZERO)),
            from_sales=rounded(self._sold() * _OF_SALES),
            premium=found.premium,
            span_exposure=found.span_exposure,
            equity=found.equity,
            delivery=found.delivery,
            mtf=found.mtf,
        )

    def convert(self, key: str, old: str, new: str, quantity: int) -> tuple[Position, Position] | None:
        """Units of today's, negative for short, go from one product to another at what they cost. None: not so many."""
        before = self.positions.get((key, old))
        if before is None or old == new or not quantity:
            return None
        after = self.positions.get((key, new)) or Position(instrument=before.instrument, product=new)
        traded = before.day_buy_quantity if quantity > 0 else before.day_sell_quantity
        held = before.quantity if quantity > 0 else -before.quantity
        if abs(quantity) > min(traded, held) or after.quantity * quantity < 0:
            return None
        cost = before.cost * quantity / before.quantity
        self.positions[key, old] = before.shifted(quantity, cost, -1)
        self.positions[key, new] = after.shifted(quantity, cost, 1)
        return self.positions[key, old], self.positions[key, new]

    def next_day(self, last: Prices, expired: Mapping[str, Decimal]) -> None:
        """The day is over: profits are paid and shares change hands; what was for the day only is settled at the last
        price, and what has expired at the price that `expired` has for it."""
        kept: dict[tuple[str, str], Position] = {}
        for key, position in self.positions.items():
            name = position.instrument.key
            if self._delivers(position):
                self._deliver(position)
                continue
            self.cash += rounded(position.realised)
            if not position.quantity:
                continue
            if name in expired or position.product == INTRADAY:
                self.cash += rounded(position.unrealised(expired[name] if name in expired else last(name)))
            else:
                kept[key] = position.carried()
        self.positions = kept

    def _delivers(self, position: Position) -> bool:
        return position.product == DELIVERY and not position.instrument.is_derivative

    def _sold(self) -> Decimal:
        """Money for shares that came out of holdings today."""
        sold = (each for each in self.positions.values() if self._delivers(each) and each.quantity < 0)
        return sum((-each.cost for each in sold), ZERO)

    def _deliver(self, position: Position) -> None:
        key, quantity = position.instrument.key, position.quantity
        self.cash += position.day_sell_value - position.day_buy_value
        before = self.holdings.get(key) or Holding(instrument=position.instrument, quantity=0, average_price=ZERO)
        owned = before.quantity + before.t1
        if quantity > 0:
            cost = before.average_price * owned + position.cost
            after = replace(
                before, quantity=owned, t1=quantity, used=0, average_price=rounded(cost / (owned + quantity))
            )
        else:
            after = replace(before, quantity=owned + quantity, t1=0, used=0)
        if after.quantity + after.t1:
            self.holdings[key] = after
        else:
            self.holdings.pop(key, None)


@dataclass(slots=True)
class _Blocks:
    """What is blocked, by the names that replies have for it."""

    premium: Decimal = ZERO
    span_exposure: Decimal = ZERO
    equity: Decimal = ZERO
    delivery: Decimal = ZERO
    mtf: Decimal = ZERO

    def add(self, instrument: Instrument, product: str, quantity: int, price: Decimal, last: Prices) -> None:
        if not quantity:
            return
        amount = _blocked(instrument, product, quantity, price, last)
        if instrument.is_option and quantity > 0:
            self.premium += amount
        elif instrument.is_derivative:
            self.span_exposure += amount
        elif product == "I":
            self.equity += amount
        elif product == "MTF":
            self.mtf += amount
        else:
            self.delivery += amount


def funds_row(funds: Funds) -> dict[str, Any]:
    """As version 3 of the call tells them."""
    losses = funds.realised_loss + funds.unrealised_loss
    return {
        "available_to_trade": {
            "total": float(funds.available),
            "cash_available_to_trade": {
                "total": float(funds.available),
                "cash": {
                    "opening_balance": float(funds.opening),
                    "added_today": 0.0,
                    "withdrawn_today": 0.0,
                    "amount_from_stock_sale": float(funds.from_sales),
                    "unpaid_charges": 0.0,
                },
                "margin_used": {
                    "total": float(funds.used),
                    "mtf": float(funds.mtf),
                    "loss": {
                        "total": float(losses),
                        "realised": float(funds.realised_loss),
                        "unrealised": float(funds.unrealised_loss),
                    },
                    "span_exposure": float(funds.span_exposure),
                    "cash_margin_var_elm": float(funds.equity),
                    "premium_present": float(funds.premium),
                    "delivery_margin": {
                        "total": float(funds.delivery),
                        "equity": float(funds.delivery),
                        "fo_settlement": 0.0,
                    },
                },
            },
            "pledge_available_to_trade": {
                "margin_from_pledge": {"total": 0.0, "equity": 0.0, "mutual_funds": 0.0},
                "margin_used": {"total": 0.0, "mtf": 0.0, "span_exposure": 0.0},
            },
        },
        "unavailable_to_trade": {
            "cash_unavailable_to_trade": {
                "unsettled_profit": {"todays_profit": float(funds.profit), "previous_days": 0.0}
            },
            "pledge_unavailable_to_trade": {"equity": 0.0, "mutual_funds": 0.0},
        },
    }


def funds_row_v2(funds: Funds) -> dict[str, Any]:
    """Everything is under equity since commodities share the money."""
    empty = dict.fromkeys(
        ("used_margin", "payin_amount", "span_margin", "adhoc_margin", "notional_cash", "available_margin",
         "exposure_margin"), 0.0,
    )  # fmt: skip
    equity = empty | {
        "used_margin": float(funds.used),
        "span_margin": float(funds.span_exposure),
        "available_margin": float(funds.available),
    }
    return {"equity": equity, "commodity": empty}


def _side(order: Order) -> tuple[str, str, bool]:
    """Orders of one side of one position."""
    return order.instrument.key, order.product, order.is_buy


def _price(order: Order, last: Prices) -> Decimal:
    return order.limit_price or last(order.instrument.key)


def _blocked(instrument: Instrument, product: str, quantity: int, price: Decimal, last: Prices) -> Decimal:
    if not quantity:
        return ZERO
    underlying = last(instrument.underlying_key or instrument.key) if instrument.is_option else price
    return margins.required(instrument, product, quantity, price, underlying)
