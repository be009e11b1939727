"""Several orders in one request. A line whose form is wrong stops all of them; what fails later stops only itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sim import order_body
from sim.account_api import json_of
from sim.errors import ApiError
from sim.exchange import Exchange
from sim.order_body import wrong
from sim.order_door import order_write, spend
from sim.orders import BUY, PlaceBody
from sim.replies import json_reply
from sim.trading import slices

_ORDERS_MAX: Final = 25  # after slicing
_CORRELATION_MAX: Final = 20  # characters


@dataclass(frozen=True, slots=True)
class Line:
    correlation_id: str
    body: PlaceBody


def routes(exchange: Exchange) -> list[Route]:
    async def place(request: Request) -> Response:
        asked = await json_of(request)
        if not isinstance(asked, list) or not asked:
            raise ApiError(400, "UDAPI100038", "A list of orders is expected")
        lines, errors = _read(asked, exchange.settings.default_protection)
        if errors:
            return _reply([], errors, len(asked), payload_errors=len(errors))
        count = sum(_orders_of(exchange, line) for line in lines)
        if count > _ORDERS_MAX:
            raise ApiError(400, "UDAPI1118", f"At most {_ORDERS_MAX} orders are allowed, slices counted", None, count)
        spend(exchange, request, count - 1)  # the request itself has been counted
        done, errors = _placed(exchange, lines)
        return _reply(done, errors, len(lines))

    return [Route("/v2/order/multi/place", order_write(exchange, place), methods=["POST"])]


def _read(asked: list[Any], default_protection: float) -> tuple[list[Line], list[dict[str, Any]]]:
    """The lines, and what is wrong with their form: at most one error each."""
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    seen: set[object] = set()
    for place, each in enumerate(asked):
        name = each.get("correlation_id") if isinstance(each, Mapping) else None
        try:
            lines.append(_line(each, seen, default_protection))
        except ApiError as error:
            errors.append(_error(error, name, f"[{place}]."))
        if isinstance(name, str):
            seen.add(name)
    return lines, errors


def _line(asked: Any, seen: set[object], default_protection: float) -> Line:
    if not isinstance(asked, Mapping):
        raise ApiError(400, "UDAPI100038", "An order is expected")
    name = asked.get("correlation_id")
    if not isinstance(name, str) or not 1 <= len(name) <= _CORRELATION_MAX:
        message = f"A correlation_id of 1 to {_CORRELATION_MAX} characters is required"
        raise wrong("UDAPI1114", message, "correlation_id", name)
    if name in seen:
        raise wrong("UDAPI1115", "The correlation_id must be unique", "correlation_id", name)
    if not isinstance(asked.get("slice"), bool):
        raise wrong("UDAPI1116", "The slice is required", "slice", asked.get("slice"))
    return Line(name, order_body.placement(asked, default_protection))


def _orders_of(exchange: Exchange, line: Line) -> int:
    """How many orders a line becomes. One that fails by itself counts once."""
    try:
        return len(slices(line.body, exchange.trading.instrument(line.body.instrument_token)))
    except ApiError:
        return 1


def _placed(exchange: Exchange, lines: list[Line]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Purchases go first, so that what they hedge may follow. Told in the order of the request."""
    done: dict[str, list[dict[str, Any]]] = {}
    errors: dict[str, dict[str, Any]] = {}
    for line in sorted(lines, key=lambda each: each.body.transaction_type != BUY):
        name = line.correlation_id
        try:
            placed = exchange.trading.place(line.body, at_ms=exchange.now_ms())
        except ApiError as error:
            errors[name] = _error(error, name)
        else:
            done[name] = [{"correlation_id": name, "order_id": order.order_id} for order in placed]
    names = [line.correlation_id for line in lines]
    return [row for name in names for row in done.get(name, ())], [errors[name] for name in names if name in errors]


def _reply(
    done: list[dict[str, Any]], errors: list[dict[str, Any]], total: int, *, payload_errors: int = 0
) -> Response:
    status, code = ("success", 200) if not errors else ("partial_success", 207) if done else ("error", 400)
    summary = {
        "total": total,
        "success": len({row["correlation_id"] for row in done}),
        "error": 0 if payload_errors else len(errors),
        "payload_error": payload_errors,
    }
    return json_reply({"status": status, "data": done, "errors": errors or None, "summary": summary}, code)


def _error(error: ApiError, name: object, before: str = "") -> dict[str, Any]:
    path = f"{before}{error.property_path}" if error.property_path else None
    return {
        "error_code": error.code,
        "message": error.message,
        "property_path": path,
        "invalid_value": error.invalid_value,
        "correlation_id": name if isinstance(name, str) else None,
        "errorCode": error.code,
        "propertyPath": path,
        "invalidValue": error.invalid_value,
    }
