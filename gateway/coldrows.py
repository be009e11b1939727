"""From stream entries to rows of Postgres. Pure: what cannot be a row is named with its reason."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ValidationError

from schemas.bars import Bar, OptionModel, Source
from schemas.chain import Chain
from schemas.events import Event
from schemas.intervals import Interval, LongBar
from schemas.signals import Signal
from schemas.streams import instrument_id

SOURCES: Final = tuple(Source)

_FLOATS: Final = ("oi", "oi_diff", "vwap", "iv", "delta", "gamma", "theta", "vega", "rho")
_PRICES: Final = ("open", "high", "low", "close")
_SIDES: Final = ("bid_wall", "ask_wall")

_MODEL: Final = ("iv", "delta", "gamma", "theta", "vega", "rho", "price", "forward")
_WORDS: Final = {"price_from": 8, "forward_from": 8, "flag": 24}  # name -> width
_WORD: Final = re.compile(r"[a-z0-9_ ]*", re.ASCII)

#: A row of `bars` in a form of fixed width: NaN and an empty text are null, `source` is an index of SOURCES.
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
        *((f"model_{name}", "<f8") for name in _MODEL),
        *((f"model_{name}", f"S{width}") for name, width in _WORDS.items()),
    ]
)

#: Columns that have the name, and the value, of a bar's field.
_SAME: Final = ("ts", *_PRICES, "volume", *_FLOATS, "tbq", "tsq", "ticks", "complete", "rev")
_VALUES: Final = attrgetter(*_SAME)
_MODEL_VALUES: Final = attrgetter(*_MODEL)
_NO_MODEL: Final = (np.nan,) * len(_MODEL)
_NUMBERS: Final = tuple(name for name in BAR.names or () if BAR[name].kind == "f")
_BOUNDS: Final = {"ts": 1 << 53, "volume": 1 << 63, "ticks": 1 << 31, "rev": 1 << 31}
_ID_CACHE_MAX: Final = 1 << 18
#: Bars that exist as objects at one time. Thousands of them keep the garbage collector busy for four times as long
#: as it takes to read them.
_READ_AT_ONCE: Final = 200

Fields = Mapping[bytes, bytes]


class NotARow(ValueError):
    """The entry can never be stored; the message says why."""


class BarReader:
    """Reads entries of `candles:{k}`. Remembers the ids of instruments: hashing a key takes longer than its bar."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def read(self, entries: Sequence[Fields]) -> tuple[npt.NDArray[Any], list[tuple[int, str]]]:
        """The rows, sorted by primary key with the highest revision of each, and (place, reason) of the hopeless."""
        parts = [np.zeros(0, BAR)]
        hopeless: list[tuple[int, str]] = []
        for start in range(0, len(entries), _READ_AT_ONCE):
            rows, bad = self._read_some(entries[start : start + _READ_AT_ONCE])
            parts.append(rows)
            hopeless += [(start + place, why) for place, why in bad]
        return newest(np.concatenate(parts)), hopeless

    def _read_some(self, entries: Sequence[Fields]) -> tuple[npt.NDArray[Any], list[tuple[int, str]]]:
        bars: list[Bar] = []
        places: list[int] = []
        hopeless: list[tuple[int, str]] = []
        for place, fields in enumerate(entries):
            try:
                bars.append(_bar(fields))
                places.append(place)
            except NotARow as error:
                hopeless.append((place, str(error)))
        try:
            return self._checked(bars), hopeless
        except (NotARow, OverflowError):  # some bar has a value that no row can hold: look at each
            good, bad = self._sifted(bars)
        return self.rows(good), sorted([*hopeless, *((places[at], why) for at, why in bad)])

    def _checked(self, bars: Sequence[Bar]) -> npt.NDArray[Any]:
        """Raises NotARow or OverflowError, without saying which bar it is."""
        rows = self.rows(bars)
        for name, bound in _BOUNDS.items():
            if len(rows) and not 0 <= int(rows[name].min()) <= int(rows[name].max()) < bound:
                raise NotARow(f"{name} is outside what a bar can have")
        for name in _NUMBERS:
            # The sum of what is told is finite only where all of it is; NaN stands for what is not told.
            if not np.isfinite(np.nansum(rows[name])):
                raise NotARow(f"{name} is no finite number")
        return rows

    def _sifted(self, bars: Sequence[Bar]) -> tuple[list[Bar], list[tuple[int, str]]]:
        good: list[Bar] = []
        bad: list[tuple[int, str]] = []
        for at, bar in enumerate(bars):
            try:
                self._checked([bar])
                good.append(bar)
            except NotARow as error:
                bad.append((at, str(error)))
            except OverflowError:
                bad.append((at, "a number of more than 64 bits"))
        return good, bad

    def rows(self, bars: Sequence[Bar]) -> npt.NDArray[Any]:
        rows = np.zeros(len(bars), BAR)
        if not bars:
            return rows
        rows["instrument_id"] = [self._id(bar.instrument) for bar in bars]
        rows["source"] = [SOURCES.index(bar.source) for bar in bars]
        for name, column in zip(_SAME, zip(*map(_VALUES, bars), strict=True), strict=True):
            rows[name] = column  # None becomes NaN
        for side in _SIDES:
            walls = [getattr(bar, side) for bar in bars]
            rows[f"{side}_price"] = [wall.price if wall else np.nan for wall in walls]
            rows[f"{side}_qty"] = [wall.qty if wall else 0 for wall in walls]
        models = [bar.model for bar in bars]
        values = [_MODEL_VALUES(model) if model else _NO_MODEL for model in models]
        for name, column in zip(_MODEL, zip(*values, strict=True), strict=True):
            rows[f"model_{name}"] = column
        for name, width in _WORDS.items():
            rows[f"model_{name}"] = [_word(model, name, width) for model in models]
        return rows

    def _id(self, key: str) -> int:
        number = self._ids.get(key)
        if number is None:
            if len(self._ids) >= _ID_CACHE_MAX:
                self._ids.clear()
            number = self._ids[key] = instrument_id(key)
        return number


def _word(model: OptionModel | None, name: str, width: int) -> bytes:
    """Raises NotARow. Filled up with spaces: PostgreSQL has no NUL in texts."""
    word = (getattr(model, name) if model else None) or ""
    if len(word) > width or not _WORD.fullmatch(word):
        raise NotARow(f"model.{name}: {word[:40]!r} is no word of at most {width} small letters")
    return word.ljust(width).encode()


def _bar(fields: Fields) -> Bar:
    try:
        data = fields[b"data"]
        bar = Bar.model_validate_json(data)
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    if b"NaN" in data and any(value != value for value in (*_VALUES(bar), *_prices(bar), *_modelled(bar))):
        raise NotARow("a value that is no number")  # the parser takes NaN, JSON does not
    return bar


def _modelled(bar: Bar) -> tuple[float | None, ...]:
    return _MODEL_VALUES(bar.model) if bar.model else ()


def _prices(bar: Bar) -> list[float]:
    return [wall.price for wall in (bar.bid_wall, bar.ask_wall) if wall]


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


@dataclass(frozen=True, slots=True)
class SignalRow:
    id: str
    ts: int
    strategy: str
    instrument: str
    side: str
    data: str  # JSON


def signal_row(fields: Fields) -> SignalRow:
    """Raises NotARow."""
    try:
        signal = Signal.model_validate_json(fields[b"data"])
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    data = signal.model_dump_json()
    return SignalRow(signal.id, signal.ts, signal.strategy, signal.instrument, signal.side.value, data)


# Chains

#: Columns of `chains` that are fields of a chain, in its order.
CHAIN_VALUES: Final = (
    "spot", "forward", "basis", "synthetic_future", "atm_strike", "atm_iv", "straddle", "expected_move", "one_sigma",
    "call_oi", "put_oi", "call_oi_change", "put_oi_change", "call_volume", "put_volume", "pcr_oi", "pcr_volume",
    "pcr_oi_change", "max_pain", "call_wall", "put_wall", "gex", "gex_zero", "dex", "vanna", "charm", "skew_25d",
    "risk_reversal_25d", "butterfly_25d", "iv_30d", "iv_rank", "iv_percentile",
)  # fmt: skip
_CHAIN_VALUES: Final = attrgetter(*CHAIN_VALUES)


@dataclass(frozen=True, slots=True)
class ChainRow:
    underlying: str
    expiry: date
    ts: int
    rev: int
    complete: bool
    values: tuple[float | None, ...]  # CHAIN_VALUES
    data: str  # JSON

    @property
    def key(self) -> tuple[str, date, int]:
        return self.underlying, self.expiry, self.ts


def chain_row(fields: Fields) -> ChainRow:
    """Raises NotARow."""
    try:
        data = fields[b"data"]
        chain = Chain.model_validate_json(data)
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    if b"NaN" in data or b"Infinity" in data or b"\\u0000" in data or "\x00" in chain.underlying:
        raise NotARow("a value that is no number, or a NUL character in a text")
    for name in ("ts", "rev"):
        if not 0 <= getattr(chain, name) < _BOUNDS[name]:
            raise NotARow(f"{name} {getattr(chain, name)} is outside what a chain can have")
    values = _CHAIN_VALUES(chain)
    if not all(value is None or math.isfinite(value) for value in values):
        raise NotARow("a value that is no finite number")
    return ChainRow(
        chain.underlying, chain.expiry, chain.ts, chain.rev, chain.complete, values, data.decode("utf-8", "strict")
    )


def newest_chains(rows: Sequence[ChainRow]) -> list[ChainRow]:
    """Of each minute only the highest revision."""
    best: dict[tuple[str, date, int], ChainRow] = {}
    for row in rows:
        if row.key not in best or best[row.key].rev <= row.rev:
            best[row.key] = row
    return list(best.values())


# Longer bars

_DAY_MINUTES: Final = 1_440


def length_in_minutes(interval: Interval) -> int:
    """As the table `watched` has it."""
    return _DAY_MINUTES if interval is Interval.DAY else int(interval.value.removesuffix("m"))


@dataclass(frozen=True, slots=True)
class WatchedRow:
    """A longer bar that is complete although it may lack minutes."""

    instrument_id: int
    minutes: int
    ts: int
    rev: int


def watched_row(fields: Fields) -> WatchedRow | None:
    """None for a bar about which its minutes tell everything. Raises NotARow."""
    try:
        bar = LongBar.model_validate_json(fields[b"data"])
    except KeyError:
        raise NotARow("no field 'data'") from None
    except ValidationError as error:
        raise NotARow(_first(error)) from None
    if not (0 <= bar.ts < _BOUNDS["ts"] and 0 <= bar.rev < _BOUNDS["rev"]):
        raise NotARow("ts or rev is outside what a bar can have")
    minutes = length_in_minutes(bar.interval)
    if not bar.complete or bar.minutes == minutes:
        return None
    return WatchedRow(instrument_id(bar.instrument), minutes, bar.ts, bar.rev)


def newest_watched(rows: Sequence[WatchedRow]) -> list[WatchedRow]:
    best: dict[tuple[int, int, int], WatchedRow] = {}
    for row in rows:
        key = (row.instrument_id, row.minutes, row.ts)
        if key not in best or best[key].rev < row.rev:
            best[key] = row
    return list(best.values())
