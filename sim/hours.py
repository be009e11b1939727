"""When the simulated exchange trades: the market's real calendar, or always (the demo).

In the demo every day from the start on is one long session. The days before it keep their real hours, so that history
looks like history. Plain weekdays stand in for years before the calendar, and in the demo for those after it too, which
must start on any date; otherwise a year that the calendar does not know yet is refused.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from market import sessions
from market.sessions import Interval, Phase, UncoveredDate
from schemas.ticks import SessionClass

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS
IST_MS: Final = 330 * MINUTE_MS

#: Reported in market_info frames. The last two are never traded here, yet the venue lists them.
SEGMENTS: Final = (
    "NSE_EQ", "NSE_FO", "NSE_INDEX", "NSE_COM", "NCD_FO",
    "BSE_EQ", "BSE_FO", "BSE_INDEX", "BCD_FO",
    "MCX_FO", "MCX_INDEX",
)  # fmt: skip

_EPOCH: Final = date(1970, 1, 1).toordinal()
_CALENDAR_SEGMENT: Final = "NSE_FO"
_STAND_IN_OPEN_MINUTE: Final = 9 * 60 + 15
_STAND_IN_CLOSE_MINUTE: Final = 15 * 60 + 30


def midnight_ms(on: date) -> int:
    """00:00 IST of a day."""
    return (on.toordinal() - _EPOCH) * DAY_MS - IST_MS


def day_of(ts_ms: int) -> date:
    """The IST date of an instant."""
    return date.fromordinal(_EPOCH + (ts_ms + IST_MS) // DAY_MS)


@dataclass(frozen=True, slots=True)
class Hours:
    """`open_since_ms`: the instant from which it never closes, in the demo; None follows the calendar for good."""

    open_since_ms: int | None = None

    def day(self, segment: str, session_class: SessionClass, on: date) -> tuple[Interval, ...]:
        """The phases of a day, in order; () when closed."""
        if self.open_since_ms is not None and self.never_closes(on):
            start_ms = max(self.open_since_ms, midnight_ms(on))
            return (Interval(Phase.CONTINUOUS, start_ms, midnight_ms(on) + DAY_MS),)
        try:
            return sessions.day(_known(segment), session_class, on)
        except UncoveredDate:
            if self.open_since_ms is None and on.year > sessions.covered_years()[-1]:
                raise
            return _stand_in(on)

    def never_closes(self, on: date) -> bool:
        return self.open_since_ms is not None and on >= day_of(self.open_since_ms)

    def continuous(self, segment: str, session_class: SessionClass, on: date) -> tuple[tuple[int, int], ...]:
        intervals = self.day(segment, session_class, on)
        return tuple((each.start_ms, each.end_ms) for each in intervals if each.phase is Phase.CONTINUOUS)

    def is_trading_day(self, on: date) -> bool:
        return bool(self.continuous(_CALENDAR_SEGMENT, SessionClass.ORDINARY, on))

    def previous_trading_day(self, on: date) -> date:
        """The last trading day before `on`."""
        on -= timedelta(days=1)
        while not self.is_trading_day(on):
            on -= timedelta(days=1)
        return on

    def bounds(self, on: date) -> tuple[int, int]:
        """[first, last) instant at which anything trades continuously on a trading day. A day of the demo counts whole,
        so that its path does not depend on when the process started."""
        if self.never_closes(on):
            return midnight_ms(on), midnight_ms(on) + DAY_MS
        spans = [
            span for segment in ("NSE_EQ", "NSE_FO") for span in self.continuous(segment, SessionClass.ORDINARY, on)
        ]
        return min(start for start, _ in spans), max(end for _, end in spans)


def _known(segment: str) -> str:
    """A commodity index keeps the hours of its contracts."""
    return "MCX_FO" if segment == "MCX_INDEX" else segment


def _stand_in(on: date) -> tuple[Interval, ...]:
    if on.weekday() >= 5:
        return ()
    start_ms = midnight_ms(on)
    return (
        Interval(
            Phase.CONTINUOUS,
            start_ms + _STAND_IN_OPEN_MINUTE * MINUTE_MS,
            start_ms + _STAND_IN_CLOSE_MINUTE * MINUTE_MS,
        ),
    )
