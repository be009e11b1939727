"""The last price of every instrument, and who waits for which. Ticks come as record batches; one compiled loop
decides that nothing happened, whatever the number of GTTs. Pure.

Of all that is waited for on an instrument the loop knows the two nearest prices, one on each side. Beyond them the
waiting are kept in order of their prices, so that only those whose price has come are looked at.

A bound is a level, not a moment: a trade at or beyond it is told, the next one too, until somebody watches something
else. What is decided on a crossing (a stop that trails on, an exit that is armed) counts from the very next record of
the same batch on.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gtt.engine import watch_kernel as kernel
from schemas.gtt import Leg
from schemas.streams import instrument_id
from schemas.ticks import Block, nothing

_FIRST_ROWS: Final = 1024
_AWAY: Final = int(Block.BASE | Block.SNAPSHOT)

Who = tuple[str, Leg]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A trade at or beyond a bound."""

    gtt_id: str
    leg: Leg
    instrument: str
    price: Decimal
    ts_ms: int  # venue time
    gap: bool  # the feed was away before it


@dataclass(frozen=True, slots=True)
class Quoted:
    """What is known of an instrument; none where it is not."""

    ltp: float | None
    ltt_ms: int  # 0: no trade known
    bid: float | None
    ask: float | None
    cp: float | None
    ts_ms: int  # venue time
    flags: int  # schemas.ticks.Block, of the newest update

    @property
    def price(self) -> Decimal | None:
        return None if self.ltp is None else exact(self.ltp)


@dataclass(slots=True)
class _Waiting:
    """Of one instrument, by price. The names make each entry unique and the order of equals the same everywhere."""

    key: str
    lows: list[tuple[float, str, Leg]] = field(default_factory=list)
    highs: list[tuple[float, str, Leg]] = field(default_factory=list)

    def at(self, price: float) -> list[Who]:
        """Whose price has come: the nearest first."""
        under = self.lows[bisect_left(self.lows, (price,)) :]
        over = self.highs[: bisect_right(self.highs, (price, _LAST_ID))]
        return [(gtt_id, leg) for _, gtt_id, leg in [*reversed(under), *over]]

    @property
    def low(self) -> float:
        return self.lows[-1][0] if self.lows else -inf

    @property
    def high(self) -> float:
        return self.highs[0][0] if self.highs else inf


_LAST_ID: Final = "\U0010ffff"


class Board:
    def __init__(self) -> None:
        self._rows = np.zeros(_FIRST_ROWS, kernel.ROW)
        self._slots = np.full(2 * _FIRST_ROWS, -1, np.int32)
        self._used = 0
        self._row_of: dict[str, int] = {}  # of keys that were asked for; rows stay where they are
        self._waiting: dict[int, _Waiting] = {}  # by the instrument's id
        self._bounds: dict[Who, tuple[int, float | None, float | None]] = {}
        self._legs: dict[str, set[Leg]] = {}

    def update(self, rec: npt.NDArray[Any]) -> Iterator[Crossing]:
        """Take in a batch. Crossings come in the order of the ticks; what the caller watches anew between two of them
        counts for the ticks that follow. The iterator has to be read to its end."""
        at, why = 0, kernel.FULL
        while why != kernel.DONE:
            at, why, row, self._used = kernel.take(rec, at, self._slots, self._rows, self._used)
            if why == kernel.FULL:
                self._grow()
            elif why == kernel.CROSSED:
                yield from self._crossed(row)

    def seed(self, rec: npt.NDArray[Any]) -> None:
        """The last known states, before the first tick and before anybody waits for anything. Where ticks of before
        are read again, these step aside: what was crossed meanwhile has to be told."""
        if self._bounds:
            raise RuntimeError("prices are known before somebody waits for them, or a crossing is lost")
        for _ in self.update(rec):
            pass
        self._rows["seeded"][: self._used] = 1

    def _crossed(self, row: int) -> Iterator[Crossing]:
        """Who is concerned by the newest trade of an instrument; those who no longer wait by then are not told."""
        record = self._rows[row]
        waiting = self._waiting[int(record["id"])]
        price, ts_ms, gap = float(record["ltp"]), int(record["ts"]), bool(record["flags"] & _AWAY)
        for gtt_id, leg in waiting.at(price):
            bounds = self._bounds.get((gtt_id, leg))
            if bounds is not None and _beyond(price, *bounds[1:]):
                yield Crossing(gtt_id, leg, waiting.key, exact(price), ts_ms, gap)

    def watch(self, gtt_id: str, leg: Leg, key: str, low: Decimal | None, high: Decimal | None) -> Crossing | None:
        """Wait for a trade at or under `low`, or at or above `high`, instead of what was waited for. A crossing where
        the last price is there already."""
        self._forget((gtt_id, leg))
        row = self._row(key)
        identity = int(self._rows[row]["id"])
        waiting = self._waiting.setdefault(identity, _Waiting(key))
        bounds = (None if low is None else float(low), None if high is None else float(high))
        if bounds[0] is not None:
            insort(waiting.lows, (bounds[0], gtt_id, leg))
        if bounds[1] is not None:
            insort(waiting.highs, (bounds[1], gtt_id, leg))
        self._bounds[gtt_id, leg] = (identity, *bounds)
        self._legs.setdefault(gtt_id, set()).add(leg)
        self._tell(row, waiting)
        record = self._rows[row]
        price = float(record["ltp"])
        if not price or not _beyond(price, *bounds):
            return None
        return Crossing(gtt_id, leg, key, exact(price), int(record["ts"]), False)

    def unwatch(self, gtt_id: str, leg: Leg | None = None) -> None:
        """One leg, or all of a GTT. Unknown ones are none."""
        for one in tuple(self._legs.get(gtt_id, ())) if leg is None else (leg,):
            self._forget((gtt_id, one))

    def watched(self, gtt_id: str) -> frozenset[Leg]:
        return frozenset(self._legs.get(gtt_id, ()))

    def quote(self, key: str) -> Quoted | None:
        row = self._found(key)
        if row < 0:
            return None
        _, _, _, ltp, ltt, cp, bid, _, ask, _, ts, flags, _ = self._rows[row].item()
        if not ts:
            return None
        return Quoted(_known(ltp), ltt, _known(bid), _known(ask), _known(cp), ts, flags)

    def ts_ms(self, key: str) -> int:
        """Venue time of the newest update; 0: none."""
        row = self._found(key)
        return int(self._rows["ts"][row]) if row >= 0 else 0

    def _found(self, key: str) -> int:
        row = self._row_of.get(key, -1)
        if row < 0:
            row = int(self._slots[kernel.find(self._slots, self._rows, instrument_id(key))])
            if row >= 0:
                self._row_of[key] = row
        return row

    def _forget(self, who: Who) -> None:
        bounds = self._bounds.pop(who, None)
        if bounds is None:
            return
        identity, low, high = bounds
        waiting = self._waiting[identity]
        for price, side in ((low, waiting.lows), (high, waiting.highs)):
            if price is not None:
                del side[bisect_left(side, (price, *who))]
        self._legs[who[0]].discard(who[1])
        if not self._legs[who[0]]:
            del self._legs[who[0]]
        self._tell(self._row(waiting.key), waiting)

    def _tell(self, row: int, waiting: _Waiting) -> None:
        self._rows[row]["low"], self._rows[row]["high"] = waiting.low, waiting.high

    def _row(self, key: str) -> int:
        row = self._found(key)
        if row >= 0:
            return row
        if self._used == len(self._rows):
            self._grow()
        identity, row = instrument_id(key), self._used
        new = np.zeros((), kernel.ROW)
        new["id"], new["low"], new["high"] = identity, -inf, inf
        self._rows[row] = new
        self._slots[kernel.find(self._slots, self._rows, identity)] = row
        self._row_of[key] = row
        self._used += 1
        return row

    def _grow(self) -> None:
        self._rows = np.concatenate([self._rows, np.zeros(len(self._rows), kernel.ROW)])
        self._slots = np.full(2 * len(self._rows), -1, np.int32)
        kernel.index(self._slots, self._rows, self._used)


def exact(price: float) -> Decimal:
    """The decimal that was meant by a price of the feed."""
    return Decimal(str(price))


def _beyond(price: float, low: float | None, high: float | None) -> bool:
    return (low is not None and price <= low) or (high is not None and price >= high)


def _known(price: float) -> float | None:
    """0 and NaN say that there is none."""
    return price if price > 0 else None


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    board = Board()
    board.watch("GTT-warm", Leg.ENTRY, "NSE_EQ|warm", None, Decimal(1))
    list(board.update(nothing().rec))
    board._grow()
