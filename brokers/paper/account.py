"""What a paper account owns and owes: positions, holdings, cash, and a margin that says it is an estimate. Pure.

Cash is what the account began with plus profits taken minus charges. What positions bind is counted beside it: bought
options and delivered shares their cost, shares for the day a fifth, sold options and futures a flat part of what the
contract stands for (its strike, its price). A real clearing house looks at the whole portfolio; this does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

from brokers.paper.facts import Held, Settled, Terms
from market.charges import Deal
from schemas.money import ZERO, Charges
from schemas.orders import Product, Side

_INTRADAY: Final = Decimal("0.20")  # of the price, of shares
_INDEX: Final = Decimal("0.12")  # of what a contract stands for
_SHARE: Final = Decimal("0.22")
_EXPIRY_DAY: Final = Decimal("0.02")  # more, for sold index options on their last day
_MTF: Final = Decimal("0.35")

Key = tuple[str, Product]


@dataclass(slots=True)
class Position:
    instrument: str
    product: Product
    terms: Terms
    quantity: int = 0
    cost: Decimal = ZERO  # of the open units, of the quantity's sign
    buy_quantity: int = 0  # today, and what the days before left
    buy_value: Decimal = ZERO
    sell_quantity: int = 0
    sell_value: Decimal = ZERO
    realised: Decimal = ZERO  # today

    @property
    def average(self) -> Decimal:
        return self.cost / self.quantity if self.quantity else ZERO

    def trade(self, side: Side, quantity: int, price: Decimal) -> Decimal:
        """Take a fill in; returns the profit that it takes."""
        value = price * quantity
        if side is Side.BUY:
            self.buy_quantity, self.buy_value = self.buy_quantity + quantity, self.buy_value + value
        else:
            self.sell_quantity, self.sell_value = self.sell_quantity + quantity, self.sell_value + value
        closed = min(quantity, abs(self.quantity)) if self.quantity * side.sign < 0 else 0
        profit = ZERO
        if closed:
            part = self.cost if closed == abs(self.quantity) else self.cost * closed / abs(self.quantity)
            profit = -part - side.sign * price * closed
            self.cost -= part
        self.cost += side.sign * price * (quantity - closed)
        self.quantity += side.sign * quantity
        self.realised += profit
        return profit

    def held(self) -> Held:
        return Held(
            instrument=self.instrument,
            product=self.product,
            terms=self.terms,
            quantity=self.quantity,
            cost=self.cost,
        )


def _carried(held: Held) -> Position:
    """At the start of a day: bought, or sold, at what it cost."""
    position = Position(held.instrument, held.product, held.terms, held.quantity, held.cost)
    if held.quantity > 0:
        position.buy_quantity, position.buy_value = held.quantity, held.cost
    else:
        position.sell_quantity, position.sell_value = -held.quantity, -held.cost
    return position


@dataclass(slots=True)
class Account:
    cash: Decimal
    positions: dict[Key, Position] = field(default_factory=dict)
    holdings: dict[str, Held] = field(default_factory=dict)

    @classmethod
    def of(cls, cash: Decimal, positions: Iterable[Held], holdings: Iterable[Held]) -> "Account":
        return cls(
            cash,
            {(held.instrument, held.product): _carried(held) for held in positions},
            {held.instrument: held for held in holdings},
        )

    def trade(self, key: Key, terms: Terms, side: Side, quantity: int, price: Decimal, charges: Charges) -> None:
        position = self.positions.get(key)
        if position is None:
            position = self.positions[key] = Position(*key, terms)
        self.cash += position.trade(side, quantity, price) - charges.total

    def quantity(self, instrument: str, product: Product) -> int:
        position = self.positions.get((instrument, product))
        return position.quantity if position else 0

    def deliverable(self, instrument: str) -> int:
        """Shares that can be sold for delivery: held, and bought for it."""
        held = self.holdings.get(instrument)
        bought = sum(self.quantity(instrument, product) for product in (Product.DELIVERY, Product.MTF))
        return (held.quantity if held else 0) + bought

    def bound(self, on: date) -> Decimal:
        positions = sum((margin(p.terms, p.product, p.quantity, p.average, on) for p in self.positions.values()), ZERO)
        return positions + sum((held.cost for held in self.holdings.values()), ZERO)

    def open_loss(self, last: Mapping[str, Decimal]) -> Decimal:
        """What positions that are not paid in full have lost at the last prices; never a gain."""
        total = ZERO
        for position in self.positions.values():
            price = last.get(position.instrument)
            if price is not None and not _is_paid(position.terms, position.product, position.quantity):
                total += price * position.quantity - position.cost
        return min(total, ZERO)


def margin(terms: Terms, product: Product, quantity: int, price: Decimal, on: date) -> Decimal:
    """Rupees bound by so many units opened at a price. An estimate; nothing is counted as a hedge."""
    units = abs(quantity)
    if terms.kind.deal is Deal.OPTION and quantity > 0:
        return units * price
    if terms.kind.deal in (Deal.OPTION, Deal.FUTURE):
        part = _INDEX if terms.on_index else _SHARE
        if terms.strike is not None and terms.on_index and terms.expiry == on:
            part += _EXPIRY_DAY
        return units * (price if terms.strike is None else terms.strike) * part
    if product is Product.INTRADAY:
        return units * price * _INTRADAY
    part = _MTF if product is Product.MTF else Decimal(1)
    return units * price * part if quantity > 0 else ZERO  # sold: from what is held


def more_margin(
    terms: Terms, product: Product, before: int, average: Decimal, change: int, price: Decimal, on: date
) -> Decimal:
    """What an order binds besides what its position does already; nothing where it only makes that smaller."""
    after = before + change
    if abs(after) <= abs(before) and after * before >= 0:
        return ZERO
    opened = change if before * change >= 0 else after
    freed = margin(terms, product, before, average, on) if before * change < 0 else ZERO
    return max(margin(terms, product, opened, price, on) - freed, ZERO)


def _is_paid(terms: Terms, product: Product, quantity: int) -> bool:
    if terms.kind.deal is Deal.OPTION:
        return quantity > 0
    return terms.kind.deal is Deal.DELIVERY and product is Product.DELIVERY


# The next day


@dataclass(slots=True)
class Morning:
    cash: Decimal
    positions: list[Held] = field(default_factory=list)
    holdings: dict[str, Held] = field(default_factory=dict)
    settled: list[Settled] = field(default_factory=list)


def morning(account: Account, on: date, last: Mapping[str, Decimal]) -> Morning:
    """What of the account a new day begins with: bought shares are held, ended contracts are settled."""
    new = Morning(account.cash, holdings=dict(account.holdings))
    for position in account.positions.values():
        if not position.quantity:
            continue
        if position.terms.expiry is not None and position.terms.expiry < on:
            _settle(new, position, last.get(position.instrument))
        elif position.terms.kind.deal is Deal.DELIVERY and position.product is Product.DELIVERY:
            _deliver(new, position)
        else:
            new.positions.append(position.held())
    return new


def _settle(new: Morning, position: Position, last: Decimal | None) -> None:
    """At the last price that we know; where there is none, at what it cost."""
    price = position.average if last is None else last
    new.cash += price * position.quantity - position.cost
    new.settled.append(Settled(instrument=position.instrument, quantity=position.quantity, price=price))


def _deliver(new: Morning, position: Position) -> None:
    held = new.holdings.pop(position.instrument, None) or position.held().model_copy(
        update={"quantity": 0, "cost": ZERO}
    )
    if position.quantity < 0:  # sold from what was held
        sold = min(-position.quantity, held.quantity)
        part = held.cost * sold / held.quantity if held.quantity else ZERO
        new.cash += -position.cost - part
        quantity, cost = held.quantity - sold, held.cost - part
    else:
        quantity, cost = held.quantity + position.quantity, held.cost + position.cost
    if quantity:
        new.holdings[position.instrument] = held.model_copy(update={"quantity": quantity, "cost": cost})
