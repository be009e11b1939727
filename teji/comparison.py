"""Our bars of a day beside the venue's candles: what is equal, what differs and in which field. Pure.

The venue's candles are the yardstick, not always the truth: where the feed conflates, a bar that we saw live in full
and the candle that the venue makes of every trade may differ, and both are right. So nothing is judged here, only
counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from schemas.bars import HistoryBar

FIELDS: Final = ("open", "high", "low", "close", "volume")
_DUST: Final = 1e-9  # of a price: binary fractions of the same decimal number
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Differences up to these are none."""

    price: float = 0.0  # rupees
    volume: int = 0  # units
    oi: float = 0.0  # units


@dataclass(frozen=True, slots=True)
class Stored:
    """A bar of ours, the highest revision."""

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    oi: float | None
    source: str
    complete: bool
    rev: int


class Kind(StrEnum):
    DIFFERS = "differs"
    INCOMPLETE = "incomplete"  # it differs, and we say ourselves that the feed did not cover it
    MISSING = "missing"  # the venue has a candle and we have no bar
    EXTRA = "extra"  # we have a bar and the venue has no candle


@dataclass(frozen=True, slots=True)
class Mismatch:
    kind: Kind
    instrument: str
    ts: int
    ours: dict[str, Any] | None
    theirs: dict[str, Any] | None
    fields: tuple[str, ...] = ()  # which of them differ


@dataclass(slots=True)
class Comparison:
    """Counts of minutes, but for `instruments`; they add up over instruments."""

    instruments: int = 0
    compared: int = 0  # both sides have it
    equal: int = 0
    differing: int = 0
    incomplete: int = 0  # flagged by ourselves, whether it differs or not
    incomplete_differing: int = 0
    missing: int = 0
    missing_before_first: int = 0  # of those: before our first bar of the instrument that day
    before_followed: int = 0  # the venue's, of options, from before they were followed: no mismatches
    extra: int = 0
    by_field: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0))
    oi_compared: int = 0
    oi_differing: int = 0
    outside: int = 0  # candles outside continuous trading: auctions, of which we make prints and no bars
    outside_volume: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return not (self.differing or self.incomplete_differing or self.missing or self.extra)

    def add(
        self,
        instrument: str,
        ours: Mapping[int, Stored],
        theirs: Sequence[HistoryBar],
        in_session: Callable[[int], bool],
        tolerance: Tolerance,
    ) -> None:
        """One instrument's day."""
        self.instruments += 1
        inside = {bar.ts: bar for bar in theirs if in_session(bar.ts)}
        outside = [bar for bar in theirs if bar.ts not in inside]
        self.outside += len(outside)
        self.outside_volume += sum(bar.volume for bar in outside)
        first = min(ours, default=0)
        for ts in sorted(ours.keys() | inside.keys()):
            bar, candle = ours.get(ts), inside.get(ts)
            if bar is not None and candle is not None:
                self._both(instrument, bar, candle, tolerance)
            elif candle is not None:
                self.missing += 1
                self.missing_before_first += ts < first
                self.mismatches.append(Mismatch(Kind.MISSING, instrument, ts, None, _told(candle)))
            elif bar is not None:
                self.extra += 1
                self.incomplete += not bar.complete
                self.mismatches.append(Mismatch(Kind.EXTRA, instrument, ts, _held(bar), None))

    def _both(self, instrument: str, bar: Stored, candle: HistoryBar, tolerance: Tolerance) -> None:
        self.compared += 1
        self.incomplete += not bar.complete
        if bar.oi is not None and candle.oi is not None:
            self.oi_compared += 1
            self.oi_differing += abs(bar.oi - candle.oi) > tolerance.oi
        fields = tuple(name for name in FIELDS if _differs(name, bar, candle, tolerance))
        if not fields:
            self.equal += 1
            return
        for name in fields:
            self.by_field[name] += 1
        if bar.complete:
            self.differing += 1
        else:
            self.incomplete_differing += 1
        kind = Kind.DIFFERS if bar.complete else Kind.INCOMPLETE
        self.mismatches.append(Mismatch(kind, instrument, bar.ts, _held(bar), _told(candle), fields))

    def holes(self) -> dict[tuple[int, int], list[str]]:
        """Spans of minutes that history could fill, and the instruments that lack them."""
        lacking: dict[str, list[int]] = {}
        for each in self.mismatches:
            if each.kind in (Kind.MISSING, Kind.INCOMPLETE):
                lacking.setdefault(each.instrument, []).append(each.ts)
        spans: dict[tuple[int, int], list[str]] = {}
        for instrument, minutes in lacking.items():
            for span in _runs(minutes):
                spans.setdefault(span, []).append(instrument)
        return spans


def _runs(minutes: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending minutes as [from, to) without a break."""
    found: list[tuple[int, int]] = []
    for ts in minutes:
        if found and found[-1][1] == ts:
            found[-1] = (found[-1][0], ts + _MINUTE_MS)
        else:
            found.append((ts, ts + _MINUTE_MS))
    return found


def _differs(name: str, bar: Stored, candle: HistoryBar, tolerance: Tolerance) -> bool:
    mine, theirs = getattr(bar, name), getattr(candle, name)
    if name == "volume":
        return bool(abs(mine - theirs) > tolerance.volume)
    return bool(abs(mine - theirs) > tolerance.price + _DUST * max(1.0, abs(theirs)))


def _held(bar: Stored) -> dict[str, Any]:
    return {name: getattr(bar, name) for name in (*FIELDS, "oi", "source", "complete", "rev")}


def _told(candle: HistoryBar) -> dict[str, Any]:
    return {name: getattr(candle, name) for name in (*FIELDS, "oi")}
