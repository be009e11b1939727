"""The last record of each instrument, for orders that come later, at almost no cost per tick; and a record as a view.

Prices are whole ten-thousandths of a rupee in here: comparing them is exact. Pure.
"""

from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, TICK, Block, Kind, TickBatch

SCALE: Final = 10_000
_FIELD: Final = {name: place for place, name in enumerate(TICK.names or ())}
_OLD_MS: Final = 5_000
_LEVELS_MIN: Final = 5  # a side with fewer levels shows all that there is


@dataclass(frozen=True, slots=True)
class View:
    """What the feed says of one instrument at one moment. Levels are (price, units), best first."""

    ts: int  # epoch ms
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    bid_total: int | None  # all that waits to buy, where it is told and more than the levels
    ask_total: int | None
    has_depth: bool  # false: a feed of last prices
    last: int | None
    last_ms: int
    last_units: int
    volume: int | None  # of the day
    close: int | None  # of the day before


class Seen:
    """Holds on to the batches that came last. An old one is let go for a copy of the few records in it that count."""

    def __init__(self) -> None:
        self._at: dict[int, tuple[TickBatch, int]] = {}
        self._round: list[int] = []

    def keep(self, batch: TickBatch, ids: list[int]) -> None:
        self._at.update(zip(ids, zip(repeat(batch), range(len(ids))), strict=False))
        self._tidy(batch.ts)

    def forget(self, ids: list[int] | None = None) -> None:
        """The feed is down: what was shown may be long gone. None: all."""
        if ids is None:
            self._at.clear()
        else:
            for number in ids:
                self._at.pop(number, None)

    def get(self, key: str) -> View | None:
        return self.of_id(instrument_id(key))

    def of_id(self, number: int) -> View | None:
        place = self._at.get(number)
        return view(*place) if place else None

    def last_price(self, key: str) -> Decimal | None:
        seen = self.get(key)
        return None if seen is None or seen.last is None else Decimal(seen.last) / SCALE

    def _tidy(self, now_ms: int) -> None:
        """One instrument a call: a quiet one must not keep a whole batch in memory for the day."""
        if not self._round:
            self._round = list(self._at)
            return
        number = self._round.pop()
        place = self._at.get(number)
        if place and len(place[0].rec) > 1 and place[0].ts < now_ms - _OLD_MS:
            self._at[number] = (_alone(*place), 0)


def _alone(batch: TickBatch, at: int) -> TickBatch:
    sent, _ = batch.sent
    start = int(batch.rec["levels"][:at].sum())
    levels = sent[start : start + int(batch.rec["levels"][at])].tobytes()
    return TickBatch(batch.ts, batch.rx, b"", batch.rec[at : at + 1].copy(), levels, batch.scale)


def view(batch: TickBatch, at: int) -> View:
    record: tuple[Any, ...] = batch.rec[at].item()
    known = record[_FIELD["flags"]] >> KNOWN_SHIFT
    bids, asks = _levels(batch, at, record, known)
    has_depth = bool(known & Block.DEPTH)
    last = units(record[_FIELD["ltp"]]) if known & Block.LTPC else None
    is_volume = bool(known & Block.VTT) and record[_FIELD["kind"]] != Kind.LTPC
    return View(
        ts=record[_FIELD["ts"]],
        bids=bids,
        asks=asks,
        bid_total=_total(record[_FIELD["tbq"]], known & Block.TBQ, bids),
        ask_total=_total(record[_FIELD["tsq"]], known & Block.TSQ, asks),
        has_depth=has_depth,
        last=last,
        last_ms=record[_FIELD["ltt"]],
        last_units=record[_FIELD["ltq"]],
        volume=record[_FIELD["vtt"]] if is_volume else None,
        close=units(record[_FIELD["cp"]]) if known & Block.LTPC else None,
    )


def units(price: float) -> int | None:
    """None for what is no price."""
    return round(price * SCALE) if isfinite(price) and price > 0 else None


_Side = tuple[tuple[int, int], ...]


def _levels(batch: TickBatch, at: int, record: tuple[Any, ...], known: int) -> tuple[_Side, _Side]:
    """The levels that came with the record; else the touch, which is carried forward."""
    count = record[_FIELD["levels"]]
    if count:
        sent, scale = batch.sent
        start = int(batch.rec["levels"][:at].sum())
        rows = sent[start : start + count]
        return _side(rows, "bid", scale), _side(rows, "ask", scale)
    if not known & Block.DEPTH:
        return (), ()
    pairs = ((record[_FIELD[side]], record[_FIELD[f"{side}_qty"]]) for side in ("bid", "ask"))
    bid, ask = (((price, quantity),) if (price := units(told)) and quantity > 0 else () for told, quantity in pairs)
    return bid, ask


def _side(rows: npt.NDArray[Any], name: str, scale: int) -> _Side:
    prices = np.rint(rows[name] * (SCALE / scale)).astype(np.int64).tolist()
    quantities = rows[f"{name}_qty"].tolist()
    return tuple((price, quantity) for price, quantity in zip(prices, quantities, strict=True) if price > 0 < quantity)


def _total(told: float, known: int, levels: _Side) -> int | None:
    if not known or not isfinite(told) or len(levels) < _LEVELS_MIN:
        return None
    return int(told)
