"""The candles of days that are over, as REST serves them: lived through where the process was there, else generated."""

from collections.abc import Callable
from datetime import date
from typing import Final

from market.instruments import Instrument
from market.sessions import Phase
from sim import auctions
from sim.candles import Row, rows_of
from sim.columns import Columns
from sim.history import History
from sim.hours import midnight_ms

_LIVED_DAYS_MAX: Final = 10

#: The minute candles of one lived day.
Lived = Callable[[Instrument], list[Row]]


class Archive:
    def __init__(self, history: History) -> None:
        self.history = history
        self._lived: dict[date, Lived] = {}

    def keep(self, on: date, lived: Lived) -> None:
        """The live market made this day, and it is over: from now on its own candles are the history."""
        self._lived[on] = lived
        while len(self._lived) > _LIVED_DAYS_MAX:
            del self._lived[min(self._lived)]

    def minutes(self, instrument: Instrument, on: date) -> list[Row]:
        """Oldest first."""
        lived = self._lived.get(on)
        return lived(instrument) if lived else rows_of(self.history.minutes(instrument, on))

    def day(self, instrument: Instrument, on: date) -> list[Row]:
        """The day's own candle: its auctions included, closed at the official price. None without trading."""
        rows = self.minutes(instrument, on)
        if not rows:
            return []
        columns = Columns.of([instrument], on)
        first, high, low = rows[0][1], max(row[2] for row in rows), min(row[3] for row in rows)
        volume = sum(row[5] for row in rows)
        close = float(self.history.closes(columns, on)[0])
        for auction in auctions.of_day(columns, self.history, on):
            first = auction.price if auction.phase is Phase.PRE_OPEN else first
            high, low, volume = max(high, auction.price), min(low, auction.price), volume + auction.quantity
        return [(midnight_ms(on), first, max(high, close), min(low, close), close, volume, rows[-1][6])]
