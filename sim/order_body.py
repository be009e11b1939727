"""The bodies of order requests: read, checked, and refused in the venue's codes. Pure."""

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from sim.errors import ApiError
from sim.orders import BUY, DAY, IOC, LIMIT, MARKET, SELL, STOP, STOP_MARKET, ZERO, ModifyBody, PlaceBody
from sim.rules import AUTOMATIC

_PRODUCTS: Final = ("I", "D", "MTF")
_ORDER_TYPES: Final = (MARKET, LIMIT, STOP, STOP_MARKET)
_TAG_MAX: Final = 40
_PROTECTION_MAX: Final = 25
_QUANTITY_MAX: Final = 100_000_000
_PRICE_MAX: Final = Decimal(10_000_000)
_ORDER_ID: Final = re.compile(r"[0-9A-Za-z-]{1,36}")


def placement(body: Mapping[str, Any], default_protection: float) -> PlaceBody:
    key = body.get("instrument_token")
    if not key:
        raise wrong("UDAPI1026", "Instrument key is required", "instrument_token", key)
    if not isinstance(key, str) or "|" not in key:
        raise wrong("UDAPI100011", "Invalid Instrument key", "instrument_token", key)
    order_type, validity = _type(body), _validity(body)
    protection = _protection(body)
    found = PlaceBody(
        instrument_token=key,
        transaction_type=_one_of(body, "transaction_type", (BUY, SELL), "UDAPI1057"),
        quantity=_quantity(body),
        product=_one_of(body, "product", _PRODUCTS, "UDAPI1054"),
        order_type=order_type,
        validity=validity,
        price=_price(body, order_type),
        trigger_price=_trigger_price(body, order_type),
        disclosed_quantity=_whole(body, "disclosed_quantity", 0),
        is_amo=_flag(body, "is_amo"),
        tag=_tag(body),
        slice=_flag(body, "slice"),
        market_protection=Decimal(str(default_protection)) if protection is None else protection,
    )
    check_protected(found.order_type, found.market_protection)
    if found.disclosed_quantity > found.quantity:
        raise wrong("UDAPI100036", "Invalid Input", "disclosed_quantity", found.disclosed_quantity)
    return found


def change(body: Mapping[str, Any]) -> ModifyBody:
    number = order_id(body.get("order_id"))
    order_type = _type(body)
    return ModifyBody(
        order_id=number,
        order_type=order_type,
        validity=_validity(body),
        price=_price(body, order_type),
        trigger_price=_trigger_price(body, order_type),
        quantity=None if body.get("quantity") is None else _quantity(body),
        disclosed_quantity=(None if body.get("disclosed_quantity") is None else _whole(body, "disclosed_quantity", 0)),
        market_protection=_protection(body),
    )


def order_id(value: object) -> str:
    if value is None or value == "":
        raise wrong("UDAPI1023", "The order_id is required", "order_id", value)
    if not isinstance(value, str) or not _ORDER_ID.fullmatch(value):
        raise wrong("UDAPI1010", "The order_id is invalid", "order_id", value)
    return value


def check_protected(order_type: str, protection: Decimal) -> None:
    """A market order without a limit is not for programs."""
    if order_type in (MARKET, STOP_MARKET) and not protection:
        raise wrong("UDAPI1158", f"{order_type} orders need a market protection", "market_protection", 0)


def wrong(code: str, message: str, path: str, value: object) -> ApiError:
    return ApiError(400, code, message, path, value)


def _type(body: Mapping[str, Any]) -> str:
    if not body.get("order_type"):
        raise wrong("UDAPI1004", "A valid order type is required", "order_type", body.get("order_type"))
    return _one_of(body, "order_type", _ORDER_TYPES, "UDAPI1007")


def _validity(body: Mapping[str, Any]) -> str:
    if not body.get("validity"):
        raise wrong("UDAPI1055", "The validity is required", "validity", body.get("validity"))
    return _one_of(body, "validity", (DAY, IOC), "UDAPI1056")


def _one_of(body: Mapping[str, Any], name: str, allowed: tuple[str, ...], code: str) -> str:
    value = body.get(name)
    if value not in allowed:
        raise wrong(code, f"The {name} is invalid: {', '.join(allowed)}", name, value)
    return str(value)


def _quantity(body: Mapping[str, Any]) -> int:
    value = body.get("quantity")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _QUANTITY_MAX:
        raise wrong("UDAPI1052", "The quantity must be a whole number above zero", "quantity", value)
    return value


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _QUANTITY_MAX:
        raise wrong("UDAPI100036", "Invalid Input", name, value)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong("UDAPI100036", "Invalid Input", name, value)
    return bool(value)


def _tag(body: Mapping[str, Any]) -> str | None:
    value = body.get("tag")
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong("UDAPI100036", "Invalid Input", "tag", value)
    if len(value) > _TAG_MAX:
        raise wrong("UDAPI1119", f"The tag has more than {_TAG_MAX} characters", "tag", value)
    return value


def _price(body: Mapping[str, Any], order_type: str) -> Decimal:
    """Only of orders that have one."""
    if order_type not in (LIMIT, STOP):
        return ZERO
    value = _rupees(body, "price")
    if not value:
        raise wrong("UDAPI1043", "The price is required", "price", body.get("price"))
    return value


def _trigger_price(body: Mapping[str, Any], order_type: str) -> Decimal:
    if order_type not in (STOP, STOP_MARKET):
        return ZERO
    value = _rupees(body, "trigger_price")
    if not value:
        raise wrong("UDAPI100036", "The trigger price is required", "trigger_price", body.get("trigger_price"))
    return value


def _rupees(body: Mapping[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    if value is None:
        return None
    number = _number(value)
    if number is None or not ZERO <= number <= _PRICE_MAX:
        raise wrong("UDAPI100036", "Invalid Input", name, value)
    return number


def _protection(body: Mapping[str, Any]) -> Decimal | None:
    value = body.get("market_protection")
    if value is None:
        return None
    number = _number(value)
    if number is None or (number < ZERO and number != AUTOMATIC):
        raise wrong("UDAPI1177", "The market protection is invalid", "market_protection", value)
    if number > _PROTECTION_MAX:
        raise wrong("UDAPI1176", f"The market protection is above {_PROTECTION_MAX}", "market_protection", value)
    return number


def _number(value: object) -> Decimal | None:
    """A decimal keeps what was written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    return Decimal(str(value))
