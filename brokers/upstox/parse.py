"""What the venue says about orders, trades, positions, holdings, funds and GTTs, made ours. Pure.

The same fields come by REST and by the stream. Names that the venue has renamed are read in both spellings. A word that
we do not know is never taken for a failure: an order with it is in flight, and the words travel along.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, TypeVar

import orjson

from brokers.venue import Funds, VenueGtt, VenueHolding, VenueOrder, VenuePosition, VenueTrade
from schemas.errors import Unavailable
from schemas.gtt import GttType, Leg, RuleState, RuleStatus, TriggerType
from schemas.money import ZERO
from schemas.orders import FINAL, OrderStatus, OrderType, Product, Side, Validity

T = TypeVar("T")
Row = Mapping[str, Any]

_PLACES: Final = 8  # of schemas.money.Money; an average price may come with fifteen
_LARGEST: Final = 10**15  # rupees: what is more has another digit wrong
_IST: Final = timezone(timedelta(hours=5, minutes=30))
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_STAMP: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_OLD_STAMP: Final = re.compile(r"(\d\d)-([A-Za-z]{3})-(\d{4})[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_SHOWN_MAX: Final = 300
_OURS: Final = "tj"  # what the tags of our own orders begin with, see schemas.orders.order_id_of

#: The venue's words for an order. Those that are not here, and the empty one, are in flight.
STATUS: Final[Mapping[str, OrderStatus]] = {
    "put order req received": OrderStatus.IN_FLIGHT,
    "validation pending": OrderStatus.IN_FLIGHT,
    "open pending": OrderStatus.IN_FLIGHT,
    "after market order req received": OrderStatus.IN_FLIGHT,
    "modify after market order req received": OrderStatus.IN_FLIGHT,
    "open": OrderStatus.OPEN,
    "modify pending": OrderStatus.OPEN,
    "modify validation pending": OrderStatus.OPEN,
    "modified": OrderStatus.OPEN,
    "not modified": OrderStatus.OPEN,
    "cancel pending": OrderStatus.OPEN,
    "not cancelled": OrderStatus.OPEN,
    "trigger pending": OrderStatus.TRIGGER_PENDING,
    "complete": OrderStatus.COMPLETE,
    "cancelled": OrderStatus.CANCELLED,
    "cancelled after market order": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}

#: Words about a request, not about the order: a stop that they are said of may wait for its trigger, or be past it.
_OF_A_REQUEST: Final = frozenset(
    {"modify pending", "modify validation pending", "modified", "not modified", "cancel pending", "not cancelled"}
)

#: Cover and bracket orders of other front ends last a day.
_PRODUCTS: Final = {**{each.value: each for each in Product}, "CO": Product.INTRADAY, "OCO": Product.INTRADAY}


class Unreadable(Unavailable):
    """An answer that is not in the venue's form."""


def money(value: Any) -> Decimal:
    """None, which the venue sends where there is no price yet, is zero. Raises ValueError where it is no number."""
    if value is None or value == "":
        return ZERO
    try:
        amount = Decimal(str(value))
        exponent = amount.as_tuple().exponent
        if not isinstance(exponent, int) or abs(amount) >= _LARGEST:
            raise ValueError(f"{value!r} is no amount")
        return amount if exponent >= -_PLACES else round(amount, _PLACES).normalize()
    except ArithmeticError:
        raise ValueError(f"{value!r} is no amount") from None


def units(value: Any) -> int:
    amount = money(value)
    if amount != int(amount):
        raise ValueError(f"{value!r} is no quantity")
    return int(amount)


def stamp_ms(value: Any) -> int:
    """Epoch ms of a time in one of the venue's forms, without a zone in India; 0 where it tells none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    text = str(value or "")
    if found := _STAMP.match(text):
        year, month, day, hour, minute, second = map(int, found.groups())
    elif found := _OLD_STAMP.match(text):
        if found[2].lower() not in _MONTHS:
            return 0
        day, month, year = int(found[1]), 1 + _MONTHS.index(found[2].lower()), int(found[3])
        hour, minute, second = map(int, found.groups()[3:])
    else:
        return 0
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=_IST).timestamp()) * 1000
    except ValueError:
        return 0


# Orders


def order(row: Row) -> VenueOrder:
    """Raises ValueError where something that every order has is missing or wrong."""
    words = str(row.get("status") or "").strip()
    word = " ".join(words.lower().split())
    kind = _one_of(OrderType, row, "order_type")
    status = STATUS.get(word, OrderStatus.IN_FLIGHT)
    if word in _OF_A_REQUEST and kind in (OrderType.SL, OrderType.SL_M):
        status = OrderStatus.IN_FLIGHT
    return VenueOrder(
        venue_order_id=_text(row, "order_id"),
        tag=str(row.get("tag") or ""),
        instrument=_instrument(row),
        side=_one_of(Side, row, "transaction_type"),
        quantity=units(_value(row, "quantity")),
        filled_quantity=units(row.get("filled_quantity")),
        average_price=money(row.get("average_price")),
        price=money(row.get("price")),
        trigger_price=money(row.get("trigger_price")),
        order_type=kind,
        product=_product(row),
        validity=Validity.IOC if str(row.get("validity")).upper() == "IOC" else Validity.DAY,
        status=status,
        words=words[:_SHOWN_MAX],
        reason=str(row.get("status_message") or row.get("status_message_raw") or "")[:_SHOWN_MAX],
        ts=max(stamp_ms(row.get("order_timestamp")), stamp_ms(row.get("exchange_timestamp"))),
        version=_count(row.get("order_request_id")),
        not_modified=word == "not modified",
        not_cancelled=word == "not cancelled",
    )


def orders(data: Any) -> tuple[list[VenueOrder], int]:
    """The rows of a book, and how many of them nobody can read. One of those that may be ours makes the answer
    unreadable: an order that seems not to be there may be sent a second time."""
    found, passed_over = [], 0
    for row in _rows(data):
        try:
            found.append(order(row))
        except (TypeError, ValueError) as error:
            if str(row.get("tag") or "").startswith(_OURS):
                raise Unreadable(f"an order of ours that cannot be read: {error}") from None
            passed_over += 1
    return found, passed_over


def last_states(history: Sequence[VenueOrder]) -> list[VenueOrder]:
    """Of a history of one order or more: where each has got to. The stamps have whole seconds, so the place in the
    list decides among equal ones; some lists begin with the newest."""
    oldest_first = history if not history or history[0].ts <= history[-1].ts else history[::-1]
    newest: dict[str, tuple[tuple[bool, int, int, int], VenueOrder]] = {}
    for each in oldest_first:
        rank = (each.status in FINAL, each.filled_quantity, each.ts, each.version)
        held = newest.get(each.venue_order_id)
        if held is None or rank >= held[0]:
            newest[each.venue_order_id] = (rank, each)
    return [each for _, each in newest.values()]


# What orders lead to


def trade(row: Row) -> VenueTrade:
    return VenueTrade(
        trade_id=_text(row, "trade_id"),
        venue_order_id=_text(row, "order_id"),
        instrument=_instrument(row),
        side=_one_of(Side, row, "transaction_type"),
        quantity=units(_value(row, "quantity")),
        price=money(_value(row, "average_price")),
        product=_product(row),
        ts=stamp_ms(row.get("exchange_timestamp")) or stamp_ms(row.get("order_timestamp")),
    )


def position(row: Row) -> VenuePosition:
    """Bought and sold are those of the day and what was carried into it."""
    bought = units(row.get("day_buy_quantity")) + units(row.get("overnight_buy_quantity"))
    sold = units(row.get("day_sell_quantity")) + units(row.get("overnight_sell_quantity"))
    return VenuePosition(
        instrument=_instrument(row),
        product=_product(row),
        quantity=units(_value(row, "quantity")),
        average_price=money(row.get("average_price")),
        buy_quantity=bought,
        buy_value=_sum(row, "buy_value", "day_buy_value", "overnight_buy_amount"),
        sell_quantity=sold,
        sell_value=_sum(row, "sell_value", "day_sell_value", "overnight_sell_amount"),
        last_price=_perhaps(row.get("last_price")),
        realised=_perhaps(row.get("realised")),
    )


def holding(row: Row) -> VenueHolding:
    return VenueHolding(
        instrument=_instrument(row),
        isin=str(row.get("isin") or ""),
        quantity=units(_value(row, "quantity")),
        average_price=money(row.get("average_price")),
        last_price=_perhaps(row.get("last_price")),
    )


def funds(data: Any) -> Funds:
    """Cash and pledged margin together. Raises Unreadable."""
    try:
        able = data["available_to_trade"]
        used = [_inside(able, part, "margin_used", "total") for part in ("cash_available_to_trade", _PLEDGE)]
        return Funds(money(_value(able, "total")), sum(used, ZERO), dict(data))
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"funds that cannot be read ({error})") from None


_PLEDGE: Final = "pledge_available_to_trade"


def _inside(data: Any, *names: str) -> Decimal:
    """An amount in nested objects; zero where one of them is not there."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return money(data)


def margin(data: Any) -> Decimal:
    """After the benefit of hedges. Raises Unreadable."""
    try:
        return money(_value(data, "final_margin" if data.get("final_margin") is not None else "required_margin"))
    except (AttributeError, TypeError, ValueError) as error:
        raise Unreadable(f"a margin that cannot be read ({error})") from None


# GTTs


def gtt(row: Row) -> VenueGtt:
    rules = tuple(_rule(each) for each in _rows(row.get("rules")))
    if not rules:
        raise ValueError("no rules")
    entry = next((rule for rule in rules if rule.strategy is Leg.ENTRY), None)
    return VenueGtt(
        venue_gtt_id=_text(row, "gtt_order_id"),
        type=_one_of(GttType, row, "type"),
        instrument=_instrument(row),
        side=entry.transaction_type if entry else rules[0].transaction_type.other,
        quantity=units(_value(row, "quantity")),
        product=_product(row),
        rules=rules,
        created_us=_count(row.get("created_at")),
        expires_us=_count(row.get("expires_at")),
    )


def _rule(row: Row) -> RuleState:
    try:
        status = _one_of(RuleStatus, row, "status")
    except ValueError:
        status = RuleStatus.PENDING  # a word of tomorrow's: something between, whatever it is
    return RuleState(
        strategy=_one_of(Leg, row, "strategy"),
        status=status,
        trigger_type=_one_of(TriggerType, row, "trigger_type"),
        trigger_price=money(_value(row, "trigger_price")),
        transaction_type=_one_of(Side, row, "transaction_type"),
        message=str(row.get("message") or "")[:_SHOWN_MAX],
        order_id=str(row["order_id"]) if row.get("order_id") else None,
        trailing_gap=_perhaps(row.get("trailing_gap")) or None,
        market_protection=_perhaps(row.get("market_protection")),
    )


# The stream


def updates(message: str | bytes) -> list[VenueOrder | VenueGtt | VenuePosition]:
    """What a message of the portfolio stream tells: one update, or several in a list. Kinds that nothing follows from
    (holdings, and what may come in a later year) tell nothing. Raises ValueError or Unreadable."""
    told = orjson.loads(message)
    return [update for row in _rows(told if isinstance(told, list) else [told]) for update in _update(row)]


def _update(row: Row) -> list[VenueOrder | VenueGtt | VenuePosition]:
    match row.get("update_type"):
        case "order":
            return [order(row)]
        case "gtt_order":
            return [gtt(row)]
        case "position":
            return [position(row)]
    if not row.get("update_type"):
        raise ValueError("no update_type")
    return []


# The parts that all have


def listed(data: Any, what: str, read: Callable[[Row], T]) -> list[T]:
    """Every row, or Unreadable: where one is missing nobody may conclude that it is not there."""
    try:
        return [read(row) for row in _rows(data)]
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{what} that cannot be read: {error}") from None


def _rows(data: Any) -> Iterable[Row]:
    if data is None:
        return []
    if not isinstance(data, list) or not all(isinstance(row, Mapping) for row in data):
        raise Unreadable("an answer that is no list of objects")
    return data


def _value(row: Row, name: str) -> Any:
    value = row.get(name)
    if value is None or value == "":
        raise ValueError(f"no {name}")
    return value


def _text(row: Row, name: str) -> str:
    return str(_value(row, name))


def _instrument(row: Row) -> str:
    return str(row.get("instrument_key") or _value(row, "instrument_token"))


E_ = TypeVar("E_", OrderType, Side, GttType, Leg, RuleStatus, TriggerType)


def _one_of(kind: type[E_], row: Row, name: str) -> E_:
    word = str(_value(row, name)).upper()
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{name} {word[:40]!r}") from None


def _product(row: Row) -> Product:
    word = str(_value(row, "product")).upper()
    if word not in _PRODUCTS:
        raise ValueError(f"product {word[:40]!r}")
    return _PRODUCTS[word]


def _perhaps(value: Any) -> Decimal | None:
    return None if value is None else money(value)


def _sum(row: Row, whole: str, *parts: str) -> Decimal:
    """The parts where the venue gives them, else what it has added up itself."""
    told = [row.get(name) for name in parts]
    return sum(map(money, told), ZERO) if any(part is not None for part in told) else money(row.get(whole))


def _count(value: Any) -> int:
    """A number that may come as text; 0 where it is none."""
    text = str(value if value is not None else "")
    return int(text) if text.isascii() and text.isdigit() else 0
