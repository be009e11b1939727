"""The bodies of GTT requests: read, checked, and refused in the venue's codes. Pure.

Which code belongs to which field the venue documents only in part; where it does not, the split is ours.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

from schemas.gtt import GttType, Leg, TriggerType
from schemas.orders import Side
from sim.errors import ApiError
from sim.gtt import Gtt, Terms

E = TypeVar("E", bound=StrEnum)

_PRODUCTS: Final = ("I", "D", "MTF")
_QUANTITY_MAX: Final = 10_000_000
_PRICE_MAX: Final = 10_000_000
_PROTECTION_MAX: Final = 25
_ID_START: Final = "GTT-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    type: GttType
    quantity: int
    product: str
    instrument_token: str
    side: Side
    rules: tuple[Terms, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    gtt_order_id: str
    type: GttType
    quantity: int
    rules: tuple[Terms, ...]


def placement(body: Mapping[str, Any]) -> Placement:
    kind = _type(body)
    quantity = _quantity(body)
    product = body.get("product")
    if product not in _PRODUCTS:
        raise wrong("UDAPI1054", "The product is invalid", "product", product)
    token = body.get("instrument_token")
    if not token:
        raise wrong("UDAPI1026", "Instrument key is required", "instrument_token", token)
    if not isinstance(token, str) or "|" not in token:
        raise wrong("UDAPI100011", "Invalid Instrument key", "instrument_token", token)
    side = _one_of(Side, body.get("transaction_type"), "UDAPI1057", "transaction_type")
    rules = _rules(body, kind)
    check_sides(rules, side, with_entry=True)
    return Placement(type=kind, quantity=quantity, product=str(product), instrument_token=token, side=side, rules=rules)


def change(body: Mapping[str, Any]) -> Change:
    number = order_id(body)
    kind = _type(body)
    return Change(gtt_order_id=number, type=kind, quantity=_quantity(body), rules=_rules(body, kind))


def order_id(body: Mapping[str, Any]) -> str:
    number = body.get("gtt_order_id")
    if not number:
        raise wrong("UDAPI1134", "The gtt_order_id is required", "gtt_order_id", number)
    if not isinstance(number, str) or not number.startswith(_ID_START) or number == _ID_START:
        raise wrong("UDAPI1135", "The gtt_order_id must start with GTT-", "gtt_order_id", number)
    return number


def check_sides(rules: tuple[Terms, ...], side: Side, *, with_entry: bool) -> None:
    """Profit lies on the side that the position bets on, loss on the other. A filled entry sets no bound any more."""
    price = {each.strategy: each.trigger_price for each in rules if with_entry or each.strategy is not Leg.ENTRY}
    for low, high, code, about in (
        (Leg.ENTRY, Leg.TARGET, "UDAPI1144", Leg.TARGET),
        (Leg.STOPLOSS, Leg.ENTRY, "UDAPI1145", Leg.STOPLOSS),
        (Leg.STOPLOSS, Leg.TARGET, "UDAPI1144", Leg.TARGET),
    ):
        if low in price and high in price and (price[high] - price[low]) * side.sign <= 0:
            place = [each.strategy for each in rules].index(about)
            raise wrong(code, f"{about} is on the wrong side", f"rules[{place}].trigger_price", float(price[about]))


def check_ticks(rules: tuple[Terms, ...], tick: Decimal) -> None:
    for place, each in enumerate(rules):
        if each.trigger_price % tick:
            path = f"rules[{place}].trigger_price"
            raise wrong("UDAPI1138", "Price must be a multiple of the tick size", path, float(each.trigger_price))


def check_open(asked: Change, gtt: Gtt) -> None:
    """With its entry sent, a GTT keeps its type and quantity, and the entry waits for nothing."""
    if asked.type is not gtt.type:
        raise wrong("UDAPI1126", "The type of an open GTT order cannot change", "type", asked.type.value)
    if asked.quantity != gtt.quantity:
        raise wrong("UDAPI1150", "The quantity of an open GTT order cannot change", "quantity", asked.quantity)
    for place, each in enumerate(asked.rules):
        if each.strategy is Leg.ENTRY and each.trigger_type is not TriggerType.IMMEDIATE:
            path = f"rules[{place}].trigger_type"
            raise wrong("UDAPI1150", "Open GTT orders accept only IMMEDIATE for ENTRY", path, each.trigger_type.value)


def wrong(code: str, message: str, path: str, value: object, status: int = 400) -> ApiError:
    return ApiError(status, code, message, path, value)


def _type(body: Mapping[str, Any]) -> GttType:
    return _one_of(GttType, body.get("type"), "UDAPI1126", "type")


def _quantity(body: Mapping[str, Any]) -> int:
    value = body.get("quantity")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _QUANTITY_MAX:
        raise wrong("UDAPI1052", "The quantity must be a whole number above zero", "quantity", value)
    return value


def _rules(body: Mapping[str, Any], kind: GttType) -> tuple[Terms, ...]:
    asked = body.get("rules")
    if not isinstance(asked, list) or not asked or not all(isinstance(each, Mapping) for each in asked):
        raise wrong("UDAPI1127", "Rules are required", "rules", asked)
    if kind is GttType.SINGLE and len(asked) != 1:
        raise wrong("UDAPI1136", "SINGLE requires exactly one rule", "rules", len(asked))
    if kind is GttType.MULTIPLE and len(asked) not in (2, 3):
        raise wrong("UDAPI1137", "MULTIPLE requires two or three rules", "rules", len(asked))
    rules = tuple(_rule(each, f"rules[{place}]") for place, each in enumerate(asked))
    legs = Counter(each.strategy for each in rules)
    if Leg.ENTRY not in legs:
        raise wrong("UDAPI1141", "ENTRY strategy is mandatory", "rules", None)
    if twice := [leg for leg, count in legs.items() if count > 1]:
        raise wrong("UDAPI1142", "A strategy can appear only once", "rules", twice[0].value)
    return rules


def _rule(asked: Mapping[str, Any], path: str) -> Terms:
    strategy = _one_of(Leg, asked.get("strategy"), "UDAPI1129", f"{path}.strategy", missing="UDAPI1128")
    trigger = _one_of(TriggerType, asked.get("trigger_type"), "UDAPI1131", f"{path}.trigger_type", missing="UDAPI1130")
    if strategy is not Leg.ENTRY and trigger is not TriggerType.IMMEDIATE:
        raise wrong("UDAPI1143", f"{strategy} accepts only IMMEDIATE", f"{path}.trigger_type", trigger.value)
    if asked.get("trigger_price") is None:
        raise wrong("UDAPI1132", "The trigger price is required", f"{path}.trigger_price", None)
    price = _positive(asked["trigger_price"], "UDAPI1133", f"{path}.trigger_price")
    gap: Decimal | None = None
    if asked.get("trailing_gap") is not None:
        gap = _positive(asked["trailing_gap"], "UDAPI1139", f"{path}.trailing_gap")
        if strategy is not Leg.STOPLOSS:
            raise wrong("UDAPI1140", "Only a STOPLOSS can trail", f"{path}.trailing_gap", float(gap))
    return Terms(
        strategy=strategy,
        trigger_type=trigger,
        trigger_price=price,
        trailing_gap=gap,
        market_protection=_protection(asked.get("market_protection"), f"{path}.market_protection"),
    )


def _protection(value: object, path: str) -> Decimal | None:
    """Percent: -1 for the venue's table, 0 for none."""
    if value is None:
        return None
    if not _is_number(value):
        raise wrong("UDAPI1177", "The market protection is invalid", path, value)
    percent = Decimal(str(value))
    if percent > _PROTECTION_MAX:
        raise wrong("UDAPI1176", "The market protection cannot exceed 25 percent", path, value)
    if percent < 0 and percent != -1:
        raise wrong("UDAPI1177", "The market protection is invalid", path, value)
    return percent


def _positive(value: object, code: str, path: str) -> Decimal:
    if not _is_number(value) or not 0 < (number := Decimal(str(value))) <= _PRICE_MAX:
        raise wrong(code, "A number above zero is expected", path, value)
    return number


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _one_of(kind: type[E], value: object, code: str, path: str, *, missing: str = "") -> E:
    if isinstance(value, str) and value in kind.__members__.values():
        return kind(value)
    allowed = ", ".join(kind)
    raise wrong(missing if missing and value is None else code, f"One of {allowed} is expected", path, value)
