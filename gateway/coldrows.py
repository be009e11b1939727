"""From stream entries to rows of Postgres. Pure: what cannot be a row is named with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ValidationError

from schemas.bars import Bar, Source
from schemas.events import Event
from schemas.streams import instrument_id

SOURCES: Final = tuple(Source)

_FLOATS: Final = ("oi", "oi_diff", "vwap", "iv", "delta", "gamma", "theta", "vega", "rho")
_PRICES: Final = ("open", "high", "low", "close")
_SIDES: Final = ("bid_wall", "ask_wall")

#: A row of `bars` in a form of fixed width: NaN is null, `source` is an index of SOURCES.
BAR: Final = np.dtype(
    [
        ("instrument_id", "<i8"),
        ("ts", "<i8"),
        *((name, "<f8") for name in _PRICES),
        ("volume", "<i8"),
        *((name, "<f8") for name in _FLOATS),
        ("bid_wall_price", "<f8"),
        ("bid_wall_qty", "<i8"),
        ("ask_wall_price", "<f8"),
        ("ask_wall_qty", "<i8"),
        ("tbq", "<f8"),
        ("tsq", "<f8"),
        ("ticks", "<i4"),
        ("source", "<i2"),
        ("complete", "?"),
        ("rev", "<i4"),
    ]
)

_BOUNDS: Final = {"ts": 1 << 53, "volume": 1 << 63, "ticks": 1 << 31, "rev": 1 << 31}
_ID_CACHE_MAX: Final = 1 << 18

Fields = Mapping[bytes, bytes]


class NotARow(ValueError):
    """The entry can never be stored; the message says why."""


class BarReader:
    """Reads entries of `candles:{k}`. Remembers the ids of instruments: hashing a key takes longer than its bar."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def read(self, entries: Sequence[Fields]) -> tuple[npt.NDArray[Any], list[tuple[int, str]]]:
        """The rows, sorted by primary key with the highest revision of each, and (place, reason) of the hopeless."""
        bars: list[Bar] = []
        hopeless: list[tuple[int, str]] = []
        for place, fields in enumerate(entries):
            try:
                bars.append(_bar(fields))
            except NotARow as error:
                hopeless.append((place, str(error)))
        return newest(self.rows(bars)), hopeless

    def rows(self, bars: Sequence[Bar]) -> npt.NDArray[Any]:
        rows = np.zeros(len(bars), BAR)
        rows["instrument_id"] = [self._id(bar.instrument) for bar in bars]
        rows["source"] = [SOURCES.index(bar.source) for bar in bars]
        for name in ("ts", *_PRICES, "volume", *_FLOATS, "tbq", "tsq", "ticks", "complete", "rev"):
            rows[name] = [getattr(bar, name) for bar in bars]  # None becomes NaN
        for side in _SIDES:
            walls = [getattr(bar, side) for bar in bars]
            rows[f"{side}_price"] = [wall.price if wall else np.nan for wall in walls]
            rows[f"{side}_qty"] = [wall.qty if wall else 0 for wall in walls]
        return rows

    def _id(self, key: str) -> int:
        number = self._ids.get(key)
        if number is None:
            if len(self._ids) >= _ID_CACHE_MAX:
                self._ids.clear()
            number = self._ids[key] = instrument_id(key)
        return number


def _bar(fields: Fields) -> Bar:
    try:
        bar = Bar.model_validate_json(fields[b"data"])
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    for name, bound in _BOUNDS.items():
        if not 0 <= getattr(bar, name) < bound:
            raise NotARow(f"{name} {getattr(bar, name)} is outside what a bar can have")
    if not all(map(np.isfinite, _numbers(bar))):
        raise NotARow("a value that is no finite number")
    return bar


def _numbers(bar: Bar) -> list[float]:
    walls = [value for wall in (bar.bid_wall, bar.ask_wall) if wall for value in (wall.price, float(wall.qty))]
    values = (getattr(bar, name) for name in (*_PRICES, *_FLOATS, "tbq", "tsq"))
    return walls + [value for value in values if value is not None]


def _first(error: ValidationError) -> str:
    complaint = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, complaint["loc"]))
    return f"{place}: {complaint['msg']}" if place else str(complaint["msg"])


def newest(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sorted by (instrument, minute), of each only the highest revision."""
    rows = rows[np.lexsort((rows["rev"], rows["ts"], rows["instrument_id"]))]
    if len(rows) < 2:
        return rows
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (rows["instrument_id"][1:] != rows["instrument_id"][:-1]) | (rows["ts"][1:] != rows["ts"][:-1])
    return rows[last]


@dataclass(frozen=True, slots=True)
class EventRow:
    id: str
    ts: int
    kind: str
    worker: str
    message: str
    data: str  # JSON


def event_row(entry_id: str, fields: Fields) -> EventRow:
    """Raises NotARow. PostgreSQL has no NUL in texts."""
    try:
        event = Event.model_validate_json(fields[b"data"])
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    if not 0 <= event.ts < _BOUNDS["ts"]:
        raise NotARow(f"ts {event.ts} is outside what an event can have")
    try:
        data = orjson.dumps(event.data).decode()
    except TypeError as error:
        raise NotARow(str(error)) from None
    if "\x00" in event.worker + event.message or "\\u0000" in data:
        raise NotARow("a NUL character in a text")
    return EventRow(entry_id, event.ts, event.kind.value, event.worker, event.message, data)
