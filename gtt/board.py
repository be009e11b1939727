"""The last price of every instrument, and who waits for which. Ticks come as record batches; one compiled loop
decides that nothing happened, whatever the number of GTTs."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy.typing as npt

from schemas.gtt import Leg


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
    ltt_ms: int
    bid: float | None
    ask: float | None
    cp: float | None
    ts_ms: int  # venue time
    flags: int  # schemas.ticks.Block


class Board:
    def update(self, rec: npt.NDArray[Any]) -> Iterator[Crossing]:
        """Take in a batch. Crossings come in the order of the ticks; what the caller watches anew between two of them
        counts for the ticks that follow. The iterator has to be read to its end."""
        raise NotImplementedError

    def watch(self, gtt_id: str, leg: Leg, key: str, low: Decimal | None, high: Decimal | None) -> Crossing | None:
        """Wait for a trade at or under `low`, or at or above `high`, instead of what was waited for. A crossing where
        the last price is there already."""
        raise NotImplementedError

    def unwatch(self, gtt_id: str, leg: Leg | None = None) -> None:
        """One leg, or all of a GTT. Unknown ones are none."""
        raise NotImplementedError

    def quote(self, key: str) -> Quoted | None:
        raise NotImplementedError
