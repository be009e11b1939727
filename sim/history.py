"""Minutes of any day, generated when somebody asks: pure functions of (seed, instrument, day).

A minute is sampled at its four 15-second points. What trades rarely is sampled less often, and a minute in which it did
not trade at all has no row, as at the venue. The live market samples the same paths more finely.
"""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from market.instruments import Instrument, session_class
from schemas.ticks import SessionClass
from sim import fair
from sim.candles import NO_MINUTES, Minutes
from sim.columns import VIX, Columns
from sim.hours import MINUTE_MS, Hours
from sim.noise import generator, mix, unit
from sim.paths import POINT_MS, POINTS_PER_MINUTE, Paths, activity
from sim.universe import follows

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_WEEKLY_LISTED_DAYS = 40
_MONTHLY_LISTED_DAYS = 100


class History:
    def __init__(self, seed: int, hours: Hours, paths: Paths) -> None:
        self.seed = seed
        self.hours = hours
        self.paths = paths
        self._minutes = lru_cache(maxsize=1_024)(self._compute_minutes)

    def minutes(self, instrument: Instrument, on: date) -> Minutes:
        """The candles of a whole trading day; none before the contract was listed or after it expired."""
        if not _was_listed(instrument, on) or not self.hours.is_trading_day(on):
            return NO_MINUTES
        return self._minutes(instrument, on)

    def closes(self, columns: Columns, on: date) -> F64:
        """The official close of a day, which is the next day's `cp`."""
        spots = np.array([self.paths.close(name, on) for name in columns.paths])
        end_ms = self.hours.bounds(on)[1]
        worth = columns.worth(spots[columns.path], spots[-1], float(end_ms))
        return np.maximum(on_grid(worth, columns.tick), columns.tick)

    def open_interest(self, columns: Columns, on: date, share: float | F64) -> F64:
        """In lots, when a share of the day's trading is over: it moves from yesterday's level to today's."""
        before = self._oi_level(columns, self.hours.previous_trading_day(on))
        return np.asarray(before + (self._oi_level(columns, on) - before) * share)

    def day_share(self, on: date, now_ms: int | I64) -> F64:
        """How much of a day is over, from 0 to 1."""
        start_ms, end_ms = self.hours.bounds(on)
        return np.clip((np.asarray(now_ms) - start_ms) / (end_ms - start_ms), 0.0, 1.0)

    def _oi_level(self, columns: Columns, on: date) -> F64:
        scatter = unit(mix(columns.hash ^ np.uint64(on.toordinal())))
        return np.asarray(columns.base_oi * (0.8 + 0.4 * scatter))

    def _compute_minutes(self, instrument: Instrument, on: date) -> Minutes:
        columns = Columns.of([instrument], on)
        spans = self.hours.continuous(instrument.segment, session_class(instrument, on), on)
        times = self.paths.times(on)
        inside = np.zeros(len(times) - 1, np.bool_)
        for start_ms, end_ms in spans:
            inside |= (times[:-1] >= start_ms) & (times[:-1] < end_ms)
        ends = times[1:][inside]
        worth = columns.worth(
            self._spot(instrument, on)[1:][inside], self.paths.path(VIX, on)[1:][inside], ends.astype(np.float64)
        )
        draw = generator(self.seed, f"minutes:{instrument.key}", on.toordinal())
        starts = ends[::POINTS_PER_MINUTE] - POINT_MS
        rate, counts = self._counts(columns, draw, on, starts)
        lean = np.where(columns.index, 0.0, draw.choice([-1.0, 1.0], len(worth)))
        prices = on_grid(worth + lean * fair.half_spread(worth, columns.tick, rate), columns.tick)
        samples = np.maximum(prices, columns.tick).reshape(-1, POINTS_PER_MINUTE)
        return self._candles(columns, draw, on, starts, samples, counts)

    def _spot(self, instrument: Instrument, on: date) -> F64:
        """An index stands still once its shares have left continuous trading."""
        path = self.paths.path(follows(instrument), on)
        if not instrument.is_index:
            return path
        last = shares_stop_ms(self.hours, on)
        times = self.paths.times(on)
        return path[np.minimum(np.arange(len(path)), np.searchsorted(times, last))]

    def _counts(self, columns: Columns, draw: np.random.Generator, on: date, starts: I64) -> tuple[F64, I64]:
        """Trades a second around the middle of the day, and trades in each minute. An index is not traded; it ticks."""
        if columns.index[0]:
            return np.zeros(1), np.full(len(starts), POINTS_PER_MINUTE)
        path = self.paths.path(columns.paths[0], on)
        vix = self.paths.path(VIX, on)
        middle = len(path) // 2
        moneyness = columns.moneyness(
            path[middle : middle + 1], float(vix[middle]), float(self.paths.times(on)[middle])
        )
        rate = columns.trade_rate(moneyness)
        busy = 1.0 if self.hours.never_closes(on) else activity(np.arange(len(starts)) / len(starts))
        return rate, np.asarray(draw.poisson(rate * busy * 60.0, len(starts)))

    def _candles(
        self, columns: Columns, draw: np.random.Generator, on: date, starts: I64, samples: F64, counts: I64
    ) -> Minutes:
        kept = np.flatnonzero(counts)
        samples, seen = samples[kept], np.minimum(counts[kept], POINTS_PER_MINUTE)
        unseen = np.arange(POINTS_PER_MINUTE)[None, :] >= seen[:, None]
        lots = np.maximum(1, np.rint(counts[kept] * columns.mean_lots[0] * draw.uniform(0.7, 1.3, len(kept))))
        share = self.day_share(on, starts[kept] + MINUTE_MS)
        return Minutes(
            ts=starts[kept],
            open=samples[:, 0],
            high=np.where(unseen, -np.inf, samples).max(axis=1, initial=-np.inf),
            low=np.where(unseen, np.inf, samples).min(axis=1, initial=np.inf),
            close=samples[np.arange(len(kept)), seen - 1],
            volume=np.where(columns.index[0], 0, lots * columns.lot[0]).astype(np.int64),
            oi=(np.rint(self.open_interest(columns, on, share)) * columns.lot[0]).astype(np.int64),
        )


def on_grid(price: F64, tick: F64) -> F64:
    """The nearest price that exists, without the dust of binary fractions."""
    return np.asarray(np.round(np.rint(price / tick) * tick, 2))


def shares_stop_ms(hours: Hours, on: date) -> int:
    """When the shares that make the indices leave continuous trading."""
    return hours.continuous("NSE_EQ", SessionClass.CLOSING_AUCTION_SHARE, on)[-1][1]


def _was_listed(instrument: Instrument, on: date) -> bool:
    if instrument.expiry is None:
        return True
    listed = timedelta(days=_WEEKLY_LISTED_DAYS if instrument.weekly else _MONTHLY_LISTED_DAYS)
    return instrument.expiry - listed <= on <= instrument.expiry
