"""What a trade costs besides its price, by date: brokerage, the exchange's fees, taxes. Exact decimals.

Three views of the same rates. `of_order` is what one executed order costs. `of_fill` is what one more fill adds to its
order, so that the charges of an order's fills sum to those of the order to the paisa, brokerage counted once. `note` is
the day's contract note, where the law rounds: lines are made from the day's sums, the transaction tax is in whole
rupees and, for shares, taken at the day's average price. The sum over orders is therefore near the note, not equal.

Rates have dates and are in data/charges.toml. What they do not cover is an error, not a zero. Pure.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Self

from market.instruments import Instrument
from market.tables import table
from schemas.errors import Rejected
from schemas.money import ZERO, Charges
from schemas.orders import Product, Side

_PAISA: Final = Decimal("0.01")
_RUPEE: Final = Decimal(1)
_PERCENT: Final = Decimal("0.01")
_FUND_ISIN: Final = "INF"
_CASH: Final = ("NSE_EQ", "BSE_EQ")


class Deal(StrEnum):
    """What the rates tell apart."""

    DELIVERY = "delivery"
    INTRADAY = "intraday"
    FUTURE = "future"
    OPTION = "option"


class UnknownCharges(Rejected):
    """No rates for this: an amount would be a guess."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which rates a trade has, whatever its date."""

    segment: str
    deal: Deal
    symbol: str = ""  # what a contract is on
    series: str = ""  # group of a share
    fund: bool = False  # units of a fund


@dataclass(frozen=True, slots=True)
class Traded:
    """How far one order is executed, all its fills together."""

    kind: Kind
    side: Side
    quantity: int  # units
    turnover: Decimal  # rupees: the sum of price times units
    on: date
    plan: str  # of the broker
    instrument: str = ""  # named: `note` nets a day's trades in the share, as the exchange does
    squared_off: bool = False  # by the broker, who charges for it

    def plus(self, quantity: int, price: Decimal, multiplier: int = 1) -> Self:
        """After one more fill. `multiplier`: units that the price is of, where the quantity counts lots."""
        more = price * quantity * multiplier
        return replace(self, quantity=self.quantity + quantity, turnover=self.turnover + more)


def kind_of(instrument: Instrument, product: Product) -> Kind:
    segment, series = instrument.segment, instrument.instrument_type
    if instrument.is_derivative:
        deal = Deal.OPTION if instrument.is_option else Deal.FUTURE
        return Kind(segment, deal, symbol=instrument.underlying_symbol or "")
    if segment not in _CASH:
        raise UnknownCharges(f"{instrument.key} is not traded: there are no charges for it")
    deal = Deal.INTRADAY if product is Product.INTRADAY else Deal.DELIVERY
    return Kind(segment, deal, series=series, fund=(instrument.isin or "").startswith(_FUND_ISIN))


def of_order(
    kind: Kind,
    side: Side,
    quantity: int,
    turnover: Decimal,
    on: date,
    plan: str,
    *,
    dp: Decimal = ZERO,
    squared_off: bool = False,
) -> Charges:
    """Of one order that was executed as far as `quantity` units for `turnover` rupees together.

    `dp` is the depository's fee, which the caller knows: once a day and share, for delivery sales.
    """
    order = Traded(kind, side, quantity, turnover, on, plan, squared_off=squared_off)
    return _lines([order], dp, lambda exact: _rounded(exact, _PAISA))


def of_fill(before: Traded, after: Traded) -> Charges:
    """What an order costs more, now that it is executed as far as `after`. Never negative."""
    if (before.kind, before.side, before.plan) != (after.kind, after.side, after.plan):
        raise ValueError("two states of different orders")
    old, new = of_traded(before), of_traded(after)
    return Charges(**{name: getattr(new, name) - getattr(old, name) for name in Charges.model_fields})


def of_traded(order: Traded, *, dp: Decimal = ZERO) -> Charges:
    return of_order(
        order.kind,
        order.side,
        order.quantity,
        order.turnover,
        order.on,
        order.plan,
        dp=dp,
        squared_off=order.squared_off,
    )


def note(orders: Iterable[Traded], *, dp: Decimal = ZERO) -> Charges:
    """The contract notes of these orders, added up: one for each day and segment. `dp`: all fees of the depository."""
    notes: dict[tuple[date, str], list[Traded]] = {}
    for order in orders:
        notes.setdefault((order.on, order.kind.segment), []).append(order)
    total = Charges()
    for number, (_, own) in enumerate(sorted(notes.items())):
        total = plus(total, _lines(own, ZERO if number else dp, lambda exact: _rounded(exact, _RUPEE)))
    return total


def of_exercise(kind: Kind, intrinsic: Decimal, on: date) -> Charges:
    """Of an option that its buyer lets the exchange exercise; `intrinsic` is in rupees, all units together."""
    rate = _row("stt", on, kind).get("exercise")
    if rate is None:
        raise UnknownCharges(f"no rate for the exercise of a {kind.deal.value} in {kind.segment}")
    stt = _rounded(intrinsic * _share(rate), _PAISA)
    return Charges(stt=stt, total=stt)


def of_receipt(kind: Kind, value: Decimal, on: date) -> Charges:
    """Of shares that a contract delivers to its buyer, worth `value` rupees."""
    rate = _row("stamp", on, kind).get("receipt")
    if rate is None:
        raise UnknownCharges(f"contracts of {kind.segment} do not deliver, as far as we know")
    stamp = _rounded(value * _share(rate), _PAISA)
    return Charges(stamp=stamp, total=stamp)


def plus(one: Charges, other: Charges) -> Charges:
    return Charges(**{name: getattr(one, name) + getattr(other, name) for name in Charges.model_fields})


def plans() -> tuple[str, ...]:
    """The brokers whose fees we know."""
    return tuple(dict.fromkeys(row["plan"] for row in table("charges")["brokerage"]))


# Rates


@dataclass(frozen=True, slots=True)
class _Rates:
    """As parts of the value, not percent."""

    stt: dict[Side, Decimal]
    transaction: Decimal
    ipft: Decimal
    sebi: Decimal
    stamp: Decimal  # the buyer's
    gst: Decimal
    flat: Decimal | None
    share: Decimal | None
    square_off: Decimal


@lru_cache(maxsize=4096)
def _rates(kind: Kind, on: date, plan: str) -> _Rates:
    if plan not in plans():
        raise UnknownCharges(f"no fees known of the broker {plan!r}: there are {', '.join(plans())}")
    stt, exchange, brokerage = _row("stt", on, kind), _row("transaction", on, kind), _row("brokerage", on, kind, plan)
    stamp = _row("stamp", on, kind).get(kind.deal.value)
    if stamp is None:
        raise UnknownCharges(f"no stamp duty known for {kind.deal.value} in {kind.segment}")
    fee: dict[str, str] = brokerage[kind.deal.value]
    return _Rates(
        stt={Side.BUY: _share(stt["buy"]), Side.SELL: _share(stt["sell"])},
        transaction=_share(exchange["rate"]),
        ipft=_share(exchange["ipft"]),
        sebi=_share(_row("sebi", on, kind)["rate"]),
        stamp=_share(stamp),
        gst=_share(_row("gst", on, kind)["rate"]),
        flat=Decimal(fee["flat"]) if "flat" in fee else None,
        share=_share(fee["rate"]) if "rate" in fee else None,
        square_off=Decimal(brokerage["square_off"]),
    )


def _row(line: str, on: date, kind: Kind, plan: str = "") -> dict[str, Any]:
    """The row in force: the one that names this share or contract before the one that does not, then the newest."""
    book = table("charges")
    family = book["families"].get(kind.segment)
    if family is None or on < book["first"]:
        raise UnknownCharges(f"no charges known for {kind.segment} on {on}: they begin on {book['first']}")
    fitting = [row for row in book[line] if row["from"] <= on and _fits(row, kind, family, plan)]
    if not fitting:
        raise UnknownCharges(f"no {line} known for {kind.deal.value} in {kind.segment} on {on}")
    best: dict[str, Any] = max(fitting, key=lambda row: (len({"symbols", "series", "funds"} & row.keys()), row["from"]))
    return best


def _fits(row: dict[str, Any], kind: Kind, family: str, plan: str) -> bool:
    told = {"segment": kind.segment, "family": family, "deal": kind.deal.value, "plan": plan}
    if any(name in row and row[name] != value for name, value in told.items()):
        return False
    if "symbols" in row and kind.symbol not in row["symbols"]:
        return False
    return not ("series" in row and kind.series not in row["series"]) and (kind.fund or not row.get("funds"))


def _share(percent: str) -> Decimal:
    return Decimal(percent) * _PERCENT


# Lines


def _lines(orders: list[Traded], dp: Decimal, round_tax: Callable[[Decimal], Decimal]) -> Charges:
    """One document: each line from the sum of what it is on, rounded once, half up."""
    sums = dict.fromkeys(("brokerage", "transaction", "ipft", "sebi", "stamp", "stt"), ZERO)
    gst = ZERO
    for order in orders:
        rates = _rates(order.kind, order.on, order.plan)
        gst = rates.gst
        sums["brokerage"] += _brokerage(order, rates)
        sums["transaction"] += order.turnover * rates.transaction
        sums["ipft"] += order.turnover * rates.ipft
        sums["sebi"] += order.turnover * rates.sebi
        sums["stamp"] += order.turnover * rates.stamp if order.side is Side.BUY else ZERO
    sums["stt"] = sum(_taxes(orders), ZERO)
    lines = {name: _rounded(exact, _PAISA) for name, exact in sums.items()} | {"dp": _rounded(dp, _PAISA)}
    lines["stt"] = round_tax(sums["stt"])
    taxed = lines["brokerage"] + lines["transaction"] + lines["ipft"] + lines["sebi"] + lines["dp"]
    lines["gst"] = _rounded(taxed * gst, _PAISA)
    return Charges(**lines, total=sum(lines.values(), ZERO))


def _brokerage(order: Traded, rates: _Rates) -> Decimal:
    if not order.quantity:
        return ZERO
    limits = [] if rates.flat is None else [rates.flat]
    if rates.share is not None:
        limits.append(order.turnover * rates.share)
    return min(limits) + (rates.square_off if order.squared_off else ZERO)


def _taxes(orders: list[Traded]) -> Iterator[Decimal]:
    """Of each order by itself, and of the shares that are named, by what the day's orders in each come to."""
    netted: dict[tuple[date, str], list[Traded]] = {}
    for order in orders:
        if order.instrument and order.kind.segment in _CASH:
            netted.setdefault((order.on, order.instrument), []).append(order)
        else:
            yield order.turnover * _rates(order.kind, order.on, order.plan).stt[order.side]
    for (on, _), own in netted.items():
        yield _net_tax(own, on)


def _net_tax(orders: list[Traded], on: date) -> Decimal:
    """What was bought and sold is intraday, the rest delivery, whatever the orders said; all at one average price."""
    units = {side: sum(order.quantity for order in orders if order.side is side) for side in Side}
    both = sum(units.values())
    if not both:
        return ZERO
    average = sum((order.turnover for order in orders), ZERO) / both
    kind, plan = orders[0].kind, orders[0].plan
    intraday = _rates(replace(kind, deal=Deal.INTRADAY), on, plan).stt
    delivery = _rates(replace(kind, deal=Deal.DELIVERY), on, plan).stt
    net = Side.BUY if units[Side.BUY] > units[Side.SELL] else Side.SELL
    turned, kept = min(units.values()), abs(units[Side.BUY] - units[Side.SELL])
    return average * (turned * intraday[Side.SELL] + kept * delivery[net])


def _rounded(exact: Decimal, to: Decimal) -> Decimal:
    return exact.quantize(to, ROUND_HALF_UP)
