"""Call auctions: the pre-open match and the closing auction, as far as a feed shows them. Pure.

Orders are not simulated. Both ends are known: an auction opens at its reference price and ends at the price at which
the day opens or closes anyway. In between the indicative price wanders from one to the other while the quantity grows.
The match is one trade per instrument; it makes no minute candle and counts in the day's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt

from market.instruments import joins_pre_open, session_class
from market.sessions import Interval, Part, Phase, auction_parts
from sim.columns import VIX, Columns
from sim.history import History, on_grid
from sim.noise import generator, mix, unit
from sim.paths import POINT_MS
from sim.universe import follows

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_CLOSING_BAND: Final = 0.03  # of the reference price
_REFERENCE_MS: Final = 15 * 60_000  # the continuous trading before, whose average is the reference
_PRE_OPEN_WORTH_S: Final = 90.0  # a match trades as much as so many seconds of an average minute
_CLOSING_WORTH_S: Final = 300.0
_MATCHING_TAKES_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Auction:
    """One instrument's. From `start_ms` indications are published, at `match_ms` it trades."""

    row: int
    phase: Phase
    start_ms: int
    close_ms: int
    match_ms: int
    reference: float
    price: float
    quantity: int


@dataclass(frozen=True, slots=True)
class Indication:
    """What the feed says while orders are collected."""

    price: F64
    quantity: I64
    imbalance: I64
    market_imbalance: I64


def of_day(columns: Columns, history: History, on: date) -> list[Auction]:
    """Every auction of a day, in order of their matches. The demo, which never closes, has none."""
    if history.hours.never_closes(on) or not history.hours.is_trading_day(on):
        return []
    before = history.closes(columns, history.hours.previous_trading_day(on)).tolist()
    after = history.closes(columns, on).tolist()
    day = _Day(columns, history, on)
    found = [each for row in range(len(before)) for each in day.auctions(row, before[row], after[row])]
    return sorted(found, key=lambda auction: (auction.match_ms, auction.row))


def indication(columns: Columns, auctions: list[Auction], now_ms: int) -> Indication:
    """Of auctions under way, at a moment."""
    rows = np.array([each.row for each in auctions])
    start, close = np.array([(each.start_ms, each.close_ms) for each in auctions]).T
    reference, price = np.array([(each.reference, each.price) for each in auctions]).T
    done = np.clip((now_ms - start) / (close - start), 0.0, 1.0)
    chance = unit(mix(columns.hash[rows] ^ np.uint64(now_ms // 1_000)))
    wander = 0.006 * (chance - 0.5) * (1 - done) * reference
    lots = np.array([each.quantity for each in auctions]) / columns.lot[rows]
    imbalance = np.rint(lots * 0.3 * (chance - 0.5)).astype(np.int64) * columns.lot[rows]
    return Indication(
        price=on_grid(reference + (price - reference) * done + wander, columns.tick[rows]),
        quantity=np.floor(lots * done * (0.9 + 0.1 * chance)).astype(np.int64) * columns.lot[rows],
        imbalance=imbalance,
        market_imbalance=imbalance // (4 * columns.lot[rows]) * columns.lot[rows],
    )


@dataclass(frozen=True, slots=True)
class _Day:
    columns: Columns
    history: History
    on: date

    def auctions(self, row: int, before: float, after: float) -> Iterator[Auction]:
        """Of one instrument, given the official closes of the day before and of this one."""
        instrument = self.columns.instruments[row]
        hours, whose = self.history.hours, session_class(instrument, self.on)
        for interval in hours.day(instrument.segment, whose, self.on):
            if interval.phase is Phase.PRE_OPEN and joins_pre_open(instrument, self.on):
                first_ms = hours.continuous(instrument.segment, whose, self.on)[0][0]
                yield self._auction(row, interval, before, self._worth(row, first_ms))
            elif interval.phase is Phase.CLOSING_AUCTION:
                reference = self._average(row, interval.start_ms)
                low, high = reference * (1 - _CLOSING_BAND), reference * (1 + _CLOSING_BAND)
                yield self._auction(row, interval, reference, self._on_grid(row, min(max(after, low), high)))

    def _auction(self, row: int, interval: Interval, reference: float, price: float) -> Auction:
        phase, columns, parts = interval.phase, self.columns, auction_parts(interval)
        taking = [part for part in parts if part.part in (Part.ENTRY, Part.LIMIT_ONLY)]
        close_ms = int(self._draw(phase).integers(taking[-1].may_end_ms, taking[-1].end_ms + 1))  # one for all
        matching = [part.start_ms for part in parts if part.part is Part.MATCHING]
        worth_s = _PRE_OPEN_WORTH_S if phase is Phase.PRE_OPEN else _CLOSING_WORTH_S
        chance = self._draw(f"{phase}:{columns.instruments[row].key}").uniform(0.6, 1.4)
        lots = columns.base_rate[row] * columns.mean_lots[row] * worth_s * chance
        return Auction(
            row=row,
            phase=phase,
            start_ms=taking[0].start_ms,
            close_ms=close_ms,
            match_ms=matching[0] + _MATCHING_TAKES_MS if matching else close_ms,
            reference=reference,
            price=price,
            quantity=max(1, round(lots)) * int(columns.lot[row]),
        )

    def _draw(self, purpose: str) -> np.random.Generator:
        return generator(self.history.seed, f"auction:{purpose}", self.on.toordinal())

    def _worth(self, row: int, at_ms: int) -> float:
        """The fair price at a moment, on the grid."""
        columns, paths, place = self.columns, self.history.paths, self._place(at_ms)
        rows = np.array([row])
        spots = np.array([paths.path(follows(columns.instruments[row]), self.on)[place]])
        return float(
            on_grid(columns.worth(spots, paths.path(VIX, self.on)[place], float(at_ms), rows), columns.tick[rows])[0]
        )

    def _average(self, row: int, end_ms: int) -> float:
        """Of the continuous trading before the auction."""
        path = self.history.paths.path(follows(self.columns.instruments[row]), self.on)
        end = self._place(end_ms)
        return self._on_grid(row, float(path[end - _REFERENCE_MS // POINT_MS : end + 1].mean()))

    def _place(self, at_ms: int) -> int:
        return (at_ms - int(self.history.paths.times(self.on)[0])) // POINT_MS

    def _on_grid(self, row: int, price: float) -> float:
        return float(on_grid(np.array([price]), self.columns.tick[row])[0])
