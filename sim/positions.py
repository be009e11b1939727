"""What the user holds: positions by instrument and product, holdings, and how trades change them. Pure.

Frozen, like orders: a trade makes another `Position`. Amounts are rupees as decimals.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from market.instruments import Instrument
from sim.orders import EXCHANGES, ZERO, rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """`cost` is what the open quantity cost, negative where it is short; `realised` since the day began."""

    instrument: Instrument
    product: str
    quantity: int = 0
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    day_buy_quantity: int = 0
    day_buy_value: Decimal = ZERO
    day_sell_quantity: int = 0
    day_sell_value: Decimal = ZERO
    overnight_quantity: int = 0
    overnight_cost: Decimal = ZERO

    @property
    def average_price(self) -> Decimal:
        return rounded(self.cost / self.quantity) if self.quantity else ZERO

    def traded(self, quantity: int, price: Decimal) -> "Position":
        """After a trade of so many units, negative for a sale."""
        bought, sold = max(quantity, 0), max(-quantity, 0)
        day = replace(
            self,
            day_buy_quantity=self.day_buy_quantity + bought,
            day_buy_value=self.day_buy_value + bought * price,
            day_sell_quantity=self.day_sell_quantity + sold,
            day_sell_value=self.day_sell_value + sold * price,
        )
        return day._changed(quantity, price)

    def _changed(self, quantity: int, price: Decimal) -> "Position":
        closes = min(abs(quantity), abs(self.quantity)) if quantity * self.quantity < 0 else 0
        if not closes:
            return replace(self, quantity=self.quantity + quantity, cost=self.cost + quantity * price)
        sign = 1 if quantity > 0 else -1
        freed = self.cost * closes / abs(self.quantity)
        opens = quantity - sign * closes
        return replace(
            self,
            quantity=self.quantity + quantity,
            cost=self.cost - freed + opens * price if abs(self.quantity) > closes or opens else ZERO,
            realised=self.realised - sign * closes * price - freed,
        )

    def shifted(self, quantity: int, cost: Decimal, times: int) -> "Position":
        """After today's units, negative for short, came from another product (`times` 1) or went to one (-1)."""
        return replace(
            self,
            quantity=self.quantity + times * quantity,
            cost=self.cost + times * cost,
            day_buy_quantity=self.day_buy_quantity + times * max(quantity, 0),
            day_buy_value=self.day_buy_value + times * max(cost, ZERO),
            day_sell_quantity=self.day_sell_quantity + times * max(-quantity, 0),
            day_sell_value=self.day_sell_value + times * max(-cost, ZERO),
        )

    def unrealised(self, last: Decimal) -> Decimal:
        return self.quantity * last - self.cost

    def carried(self) -> "Position":
        """At the beginning of the next day."""
        return Position(
            instrument=self.instrument,
            product=self.product,
            quantity=self.quantity,
            cost=self.cost,
            overnight_quantity=self.quantity,
            overnight_cost=self.cost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Shares in the user's account. `t1`: bought yesterday, not delivered yet; `used`: sold today."""

    instrument: Instrument
    quantity: int
    average_price: Decimal
    t1: int = 0
    used: int = 0

    @property
    def sellable(self) -> int:
        return self.quantity + self.t1 - self.used


def position_payload(position: Position) -> dict[str, Any]:
    """As the portfolio stream tells it: without prices of the market."""
    overnight_bought, overnight_sold = max(position.overnight_quantity, 0), max(-position.overnight_quantity, 0)
    overnight_cost = abs(position.overnight_cost)
    buy_value = position.day_buy_value + (overnight_cost if overnight_bought else 0)
    sell_value = position.day_sell_value + (overnight_cost if overnight_sold else 0)
    buys, sells = position.day_buy_quantity + overnight_bought, position.day_sell_quantity + overnight_sold
    return {
        "instrument_key": position.instrument.key,
        "instrument_token": position.instrument.key,
        "exchange": position.instrument.segment,
        "product": position.product,
        "quantity": position.quantity,
        "average_price": float(position.average_price),
        "multiplier": 1.0,
        "buy_value": float(buy_value),
        "sell_value": float(sell_value),
        "buy_price": _average(buy_value, buys),
        "sell_price": _average(sell_value, sells),
        "day_buy_quantity": position.day_buy_quantity,
        "day_buy_value": float(position.day_buy_value),
        "day_buy_price": _average(position.day_buy_value, position.day_buy_quantity),
        "day_sell_quantity": position.day_sell_quantity,
        "day_sell_value": float(position.day_sell_value),
        "day_sell_price": _average(position.day_sell_value, position.day_sell_quantity),
        "overnight_quantity": position.overnight_quantity,
        "overnight_buy_amount": float(overnight_cost if overnight_bought else 0),
        "overnight_buy_quantity": overnight_bought,
        "overnight_sell_amount": float(overnight_cost if overnight_sold else 0),
        "overnight_sell_quantity": overnight_sold,
    }


def position_row(position: Position, last: Decimal, close: Decimal) -> dict[str, Any]:
    """As REST tells it. The exchange is here the short name."""
    told = position_payload(position)
    unrealised = position.unrealised(last)
    return told | {
        "exchange": EXCHANGES.get(position.instrument.segment, position.instrument.exchange),
        "trading_symbol": position.instrument.trading_symbol,
        "tradingsymbol": position.instrument.trading_symbol,
        "average_price": float(position.average_price) if position.quantity else None,
        "value": round(told["buy_value"] - told["sell_value"], 2),
        "pnl": float(rounded(position.realised + unrealised)),
        "unrealised": float(rounded(unrealised)),
        "realised": float(rounded(position.realised)),
        "last_price": float(last),
        "close_price": float(close),
    }


def holding_payload(holding: Holding) -> dict[str, Any]:
    instrument = holding.instrument
    return {
        "instrument_key": instrument.key,
        "instrument_token": instrument.key,
        "isin": instrument.isin,
        "company_name": instrument.name,
        "exchange": instrument.exchange,
        "product": "D",
        "quantity": holding.quantity,
        "t1_quantity": holding.t1,
        "cnc_used_quantity": holding.used,
        "collateral_quantity": 0,
        "collateral_type": "WC",
        "collateral_update_quantity": 0,
        "average_price": float(holding.average_price),
        "haircut": 0.1,
    }


def holding_row(holding: Holding, last: Decimal, close: Decimal) -> dict[str, Any]:
    owned = holding.quantity + holding.t1
    change = last - close
    return holding_payload(holding) | {
        "trading_symbol": holding.instrument.trading_symbol,
        "tradingsymbol": holding.instrument.trading_symbol,
        "last_price": float(last),
        "close_price": float(close),
        "pnl": float(rounded((last - holding.average_price) * owned)),
        "day_change": float(change),
        "day_change_percentage": float(rounded(change / close * 100)) if close else 0.0,
    }


def _average(value: Decimal, quantity: int) -> float:
    return float(rounded(value / quantity)) if quantity else 0.0
