"""Orders, GTTs, fills, positions, refusals and signals as a line each. Pure.

Raises LookupError, TypeError or ValueError for what is not in our form.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Data = Mapping[str, Any]

_KEY_WIDTH: Final = 22


def line(kind: str, data: Data) -> str:
    """An entry of `orders`, without its time."""
    return f"{kind:<8} {_LINES[kind](data)}"


def signal(data: Data) -> str:
    wanted = data.get("quantity")
    parts = [
        f"{data['strategy']:<16} {data['instrument']:<{_KEY_WIDTH}} {data['side']:<4}",
        "" if wanted is None else str(wanted),
        _labelled("@", data.get("price")),
        _labelled("stop", data.get("stop_loss")),
        _labelled("target", data.get("take_profit")),
        _quoted(data.get("reason")),
    ]
    return " ".join(part for part in parts if part)


def _order(data: Data) -> str:
    price = _labelled("@", data["price"] or None)
    trigger = _labelled("trigger", data["trigger_price"] or None)
    filled = f"{data['filled_quantity']}/{data['quantity']}"
    state = data["status"] + (f", {data['pending']} asked" if data.get("pending") else "")
    average = _labelled("average", data["average_price"] or None)
    parts = [
        f"{_head(data)} {data['side']:<4} {filled:>11} {data['product']} {data['order_type']}",
        *(price, trigger, f"{state}", average, _quoted(data.get("reason")), data["order_id"]),
    ]
    return " ".join(part for part in parts if part)


def _gtt(data: Data) -> str:
    rules = ", ".join(_rule(rule) for rule in data["rules"])
    state = "" if data["live"] else " (over)"
    return (
        f"{_head(data)} {data['transaction_type']:<4} {data['quantity']:>11} {data['product']} {data['type']}{state}"
        f" {rules} {data['gtt_order_id']} by {data['engine']}"
    )


def _rule(rule: Data) -> str:
    kind = "" if rule["trigger_type"] == "IMMEDIATE" else f" {rule['trigger_type']}"
    gap = f" trailing {rule['trailing_gap']:g}" if rule.get("trailing_gap") else ""
    return f"{rule['strategy']}{kind} {rule['trigger_price']:.2f}{gap} {rule['status']}"


def _fill(data: Data) -> str:
    return (
        f"{_head(data)} {data['side']:<4} {data['quantity']:>11} {data['product']} @ {data['price']:.2f}"
        f" charges {data['charges']['total']:.2f} {data['order_id']}"
    )


def _position(data: Data) -> str:
    unrealised = data["unrealised"]
    shown = "unrealised ?" if unrealised is None else f"unrealised {unrealised:+.2f}"
    last = _labelled("last", data["last_price"])
    return (
        f"{_head(data)}      {data['quantity']:>11} {data['product']} @ {data['average_price']:.2f}"
        f"{' ' if last else ''}{last} realised {data['realised']:+.2f} {shown} charges {data['charges']:.2f}"
    )


def _refused(data: Data) -> str:
    what = " ".join(str(data[name]) for name in ("side", "quantity") if data.get(name))
    return f"{_head(data)} {what} {data['rule']}: {data['reason']} ({data['intent_id']})"


def _head(data: Data) -> str:
    whose = data.get("strategy") or "-"
    return f"{data.get('mode') or '-':<6} {data.get('instrument') or '-':<{_KEY_WIDTH}} {whose:<12}"


def _labelled(label: str, value: float | None) -> str:
    return "" if value is None else f"{label} {value:.2f}"


def _quoted(text: str | None) -> str:
    return f'"{text}"' if text else ""


_LINES: Final[dict[str, Callable[[Data], str]]] = {
    "order": _order,
    "gtt": _gtt,
    "fill": _fill,
    "position": _position,
    "refused": _refused,
}
