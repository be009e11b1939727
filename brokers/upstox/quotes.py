"""Circuit limits and depth of instruments, from the venue's full quotes: for the checks before an order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from brokers.upstox.parse import money
from brokers.upstox.rest import Rest
from schemas.errors import Unavailable

_PATH: Final = "/v2/market-quote/quotes"
_KEYS_AT_ONCE: Final = 500  # the venue's limit


@dataclass(frozen=True, slots=True)
class Level:
    price: Decimal
    quantity: int


@dataclass(frozen=True, slots=True)
class Quoted:
    """An instrument as the venue quotes it now. None: it does not say."""

    instrument: str
    last_price: Decimal | None
    lower: Decimal | None  # circuit limits: no order outside is taken
    upper: Decimal | None
    bids: tuple[Level, ...]  # best first
    asks: tuple[Level, ...]


async def bands(rest: Rest, keys: Sequence[str]) -> Mapping[str, Quoted]:
    """By key. What the venue does not know is missing."""
    wanted = list(dict.fromkeys(keys))
    found: dict[str, Quoted] = {}
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        part = wanted[start : start + _KEYS_AT_ONCE]
        found |= parsed(await rest.get(_PATH, {"instrument_key": ",".join(part)}))
    return {key: found[key] for key in wanted if key in found}


def parsed(data: Any) -> dict[str, Quoted]:
    """The outer keys are of another kind (`NSE_FO:NIFTY...`); the token inside is what was asked for."""
    if not isinstance(data, dict):
        raise Unavailable("quotes that cannot be read: no object")
    rows = [_quoted(row) for row in data.values() if isinstance(row, dict) and row.get("instrument_token")]
    return {row.instrument: row for row in rows}


def _quoted(row: dict[str, Any]) -> Quoted:
    try:
        depth = row.get("depth") or {}
        return Quoted(
            instrument=str(row["instrument_token"]),
            last_price=_above_zero(row.get("last_price")),
            lower=_above_zero(row.get("lower_circuit_limit")),
            upper=_above_zero(row.get("upper_circuit_limit")),
            bids=_levels(depth.get("buy")),
            asks=_levels(depth.get("sell")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"quotes that cannot be read ({type(error).__name__})") from None


def _above_zero(value: Any) -> Decimal | None:
    """An index has no limits: the venue says 0, or nothing."""
    return None if value is None else money(value) or None


def _levels(rows: Any) -> tuple[Level, ...]:
    levels = (Level(money(row["price"]), int(row["quantity"])) for row in rows or ())
    return tuple(level for level in levels if level.quantity > 0)
