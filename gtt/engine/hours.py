"""When a GTT may fire and its orders may leave: in continuous trading. Pure."""

from datetime import date, timedelta
from typing import Final

from market import sessions
from market.instruments import Instrument, class_of
from schemas.errors import Misconfigured, Rejected

_DAYS_AHEAD: Final = 12  # no market is closed longer
_LOOK_MS: Final = 3_600_000


def waits_ms(key: str, instrument: Instrument | None, market_ms: int, *, always: bool) -> int:
    """Until the next moment of continuous trading of an instrument; 0: it is now. Where the calendar knows of none to
    come, an hour: then it is looked at again."""
    today = sessions.trading_date(market_ms)
    for days in range(_DAYS_AHEAD):
        for start_ms, end_ms in _continuous(key, instrument, today + timedelta(days), always=always):
            if market_ms < end_ms:
                return max(0, start_ms - market_ms)
    return _LOOK_MS


def _continuous(key: str, instrument: Instrument | None, on: date, *, always: bool) -> tuple[tuple[int, int], ...]:
    """What the calendar does not cover is closed: a wrong `open` sends orders."""
    try:
        return sessions.continuous(sessions.segment_of(key), class_of(instrument, on, always=always), on)
    except (Rejected, Misconfigured):
        return ()
