"""Orders as the journal tells them: its facts folded into the state that each order came to. Pure.

The order worker's own book is such a fold too (gtt/book/book.py), of everything and for deciding; this one only shows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from schemas.orders import FINAL, OrderStatus

Fact = Mapping[str, Any]

#: Kinds of facts that say something of an order; the reader asks for these only.
KINDS: Final = (
    "approved", "adopted", "change_asked", "cancel_asked", "sending", "answered", "turned_down", "lost", "seen",
    "filled", "ended",
)  # fmt: skip
_DONE: Final = frozenset(status.value for status in FINAL)


@dataclass
class _Told:
    order: dict[str, Any]
    filled: int = 0
    value: Decimal = Decimal(0)
    trades: set[str] = field(default_factory=set)


def orders(facts: Iterable[Fact]) -> list[dict[str, Any]]:
    """Every order that the facts, oldest first, begin; in the form of schemas.orders.Order."""
    told: dict[str, _Told] = {}
    for fact in facts:
        match fact["kind"]:
            case "approved":
                for order in fact["orders"]:
                    told.setdefault(order["order_id"], _Told(dict(order)))
            case "adopted":
                told.setdefault(fact["order"]["order_id"], _Told(dict(fact["order"])))
            case "filled":
                _fill(told.get(fact["fill"]["order_id"]), fact["fill"], fact["ts"])
            case _:
                if (known := told.get(fact.get("order_id", ""))) is not None:
                    _step(known, fact)
    return [one.order for one in told.values()]


def _fill(known: _Told | None, fill: Fact, ts: int) -> None:
    """A trade counts once, whoever told it."""
    if known is None or fill["trade_id"] in known.trades:
        return
    known.trades.add(fill["trade_id"])
    order = known.order
    known.filled += fill["quantity"]
    known.value += fill["quantity"] * Decimal(str(fill["price"]))
    order["filled_quantity"] = max(known.filled, order["filled_quantity"])
    order["average_price"] = round(float(known.value / known.filled), 8)
    order["charges"] = {
        line: round(order["charges"].get(line, 0.0) + amount, 2) for line, amount in fill["charges"].items()
    }
    order["ts"] = max(order["ts"], ts)
    if order["filled_quantity"] >= order["quantity"]:
        order["status"] = OrderStatus.COMPLETE.value


def _step(known: _Told, fact: Fact) -> None:
    order = known.order
    changes = _changes(order, fact)
    if order["status"] in _DONE:
        changes.pop("status", None)  # whatever comes late: it was over
    if changes:
        order |= changes
        order["ts"] = max(order["ts"], fact["ts"])


def _changes(order: Fact, fact: Fact) -> dict[str, Any]:
    places = fact.get("what") == "place"
    match fact["kind"]:
        case "sending" if places:
            return {"status": OrderStatus.SENDING.value}
        case "answered" if places:
            early = order["status"] in (OrderStatus.CHECKED, OrderStatus.SENDING, OrderStatus.UNKNOWN)
            return {"venue_order_id": fact["venue_id"]} | ({"status": OrderStatus.IN_FLIGHT.value} if early else {})
        case "turned_down" if places:
            words = ": ".join(part for part in (fact["code"], fact["words"]) if part)
            return {"status": OrderStatus.REJECTED.value, "reason": words}
        case "lost" if places:
            return {"status": OrderStatus.UNKNOWN.value, "reason": fact["reason"]}
        case "cancel_asked":
            return {"pending": "cancel"}
        case "change_asked":
            return {"pending": "modify"}
        case "ended":
            return {"status": fact["status"], "reason": fact["reason"], "pending": ""}
        case "seen":
            return _seen(order, fact["state"])
    return {}


def _seen(order: Fact, state: Fact) -> dict[str, Any]:
    changes: dict[str, Any] = {"venue_order_id": state["venue_order_id"], "pending": ""}
    if state["filled_quantity"] < order["filled_quantity"]:
        return changes  # an older state than we know
    changes |= {
        "status": state["status"],
        "filled_quantity": state["filled_quantity"],
        "quantity": state["quantity"],
        "price": float(state["price"]),
        "trigger_price": float(state["trigger_price"]),
        "reason": state["reason"] or order["reason"],
    }
    if state["filled_quantity"]:
        changes["average_price"] = float(state["average_price"])
    return changes
