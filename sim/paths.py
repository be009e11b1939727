"""Where the underlyings go: indices, shares and India VIX, as pure functions of (seed, name, day).

Two layers. The *level* is a mean-reverting random walk over calendar days; it fixes every day's close. The *path* is
that day's way from the last close to its own, one point every 15 seconds: an overnight gap, then a Brownian bridge
with the day's U-shape of activity. All names share one market factor, so they move together; India VIX is a name like
any other whose share of that factor is negative.

Whatever is finer than 15 seconds is noise around these points (`fine`), pinned to them. So a candle of the past, the
live market and a restart in the middle of the day agree on where the market was, though they sample it differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sim.hours import Hours
from sim.noise import generator

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

POINT_MS: Final = 15_000
POINTS_PER_MINUTE: Final = 60_000 // POINT_MS

_FIRST_DAY: Final = date(2021, 1, 1).toordinal()
_HORIZON_DAYS: Final = 1_000  # levels are computed in blocks of so many days
_REVERSION: Final = 0.99
_FACTOR_VOL: Final = 0.125  # yearly, of the market as a whole
_GAP_SHARE: Final = 0.35  # of a day's return that happens overnight
_POINTS_PER_SESSION: Final = 375 * POINTS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class Spec:
    """How an underlying moves: `beta` of the market factor, plus `own_vol` a year of its own."""

    base: float
    beta: float
    own_vol: float


class Paths:
    """Asking is cheap: what was computed once is remembered, within limits."""

    def __init__(self, seed: int, hours: Hours, specs: Mapping[str, Spec]) -> None:
        self.seed = seed
        self.hours = hours
        self.specs = specs
        self._levels = lru_cache(maxsize=4_096)(self._compute_levels)
        self._path = lru_cache(maxsize=4_096)(self._compute_path)
        self._factor = lru_cache(maxsize=64)(self._compute_factor)
        self._profile = lru_cache(maxsize=64)(self._compute_profile)

    def close(self, name: str, on: date) -> float:
        """The last price of a day."""
        index = on.toordinal() - _FIRST_DAY
        if index < 0:
            raise ValueError(f"the simulated history starts in 2021, not {on.isoformat()}")
        blocks = index // _HORIZON_DAYS + 1
        return float(np.exp(self._levels(name, blocks)[index]))

    def times(self, on: date) -> I64:
        """The instants of a day's points, first and last included."""
        start_ms, end_ms = self.hours.bounds(on)
        return np.arange(start_ms, end_ms + 1, POINT_MS, dtype=np.int64)

    def path(self, name: str, on: date) -> F64:
        """The prices at `times(on)`."""
        return self._path(name, on)

    def _compute_levels(self, name: str, blocks: int) -> F64:
        """Log closes of every calendar day since the first: y[n] = r·y[n-1] + e[n], summed in closed form."""
        days = blocks * _HORIZON_DAYS
        spec = self.specs[name]
        factor = generator(self.seed, "level").standard_normal(days)
        own = generator(self.seed, f"level:{name}").standard_normal(days)
        shock = (spec.beta * _FACTOR_VOL * factor + spec.own_vol * own) / np.sqrt(365)
        powers = _REVERSION ** np.arange(days)
        return np.asarray(np.log(spec.base) + powers * np.cumsum(shock / powers))

    def _compute_path(self, name: str, on: date) -> F64:
        spec = self.specs[name]
        first = np.log(self.close(name, self.hours.previous_trading_day(on)))
        last = np.log(self.close(name, on))
        weights = self._profile(on)
        own = generator(self.seed, f"path:{name}", on.toordinal()).standard_normal(len(weights))
        steps = spec.beta * _FACTOR_VOL * self._factor(on) + spec.own_vol * own
        walk = np.cumsum(steps / np.sqrt(252) * np.sqrt(weights))
        gap = _GAP_SHARE * (last - first)
        travelled = np.cumsum(weights) / weights.sum()
        bridge = walk - travelled * (walk[-1] - (last - first - gap))
        logs = np.concatenate(([first + gap], first + gap + bridge))
        return np.asarray(np.exp(logs))

    def _compute_factor(self, on: date) -> F64:
        return generator(self.seed, "path", on.toordinal()).standard_normal(len(self.times(on)) - 1)

    def _compute_profile(self, on: date) -> F64:
        """The share of a usual day's variance in each point's interval."""
        points = len(self.times(on)) - 1
        if self.hours.never_closes(on):
            return np.full(points, 1.0 / _POINTS_PER_SESSION)
        shape = activity(np.arange(points) / points)
        return np.asarray(shape / shape.sum())


def fine(anchors: F64, offsets_ms: I64, yearly_vol: F64, draw: np.random.Generator) -> F64:
    """Prices inside one minute, at ascending `offsets_ms` in (0, 60000].

    `anchors` has the minute's 5 points (rows) of each underlying (columns). Between two of them a Brownian bridge runs,
    so the result meets the anchors wherever an offset meets their instant.
    """
    knots_ms = np.arange(POINTS_PER_MINUTE + 1) * POINT_MS
    grid_ms = np.union1d(offsets_ms, knots_ms)
    steps = np.diff(grid_ms) / POINT_MS
    noise = np.zeros((len(grid_ms), anchors.shape[1]))
    scale = yearly_vol / np.sqrt(252 * _POINTS_PER_SESSION)
    noise[1:] = np.cumsum(
        draw.standard_normal((len(steps), anchors.shape[1])) * np.sqrt(steps)[:, None] * scale, axis=0
    )
    at_knots = np.searchsorted(grid_ms, knots_ms)
    rows = np.searchsorted(grid_ms, offsets_ms)
    left = np.minimum((offsets_ms - 1) // POINT_MS, POINTS_PER_MINUTE - 1)
    share = ((offsets_ms - knots_ms[left]) / POINT_MS)[:, None]
    pinned = noise[at_knots]
    bridge = noise[rows] - (pinned[left] * (1 - share) + pinned[left + 1] * share)
    logs = np.log(anchors)
    return np.asarray(np.exp(logs[left] * (1 - share) + logs[left + 1] * share + bridge))


def yearly_vol(spec: Spec) -> float:
    return float(np.hypot(spec.beta * _FACTOR_VOL, spec.own_vol))


def activity(passed: F64) -> F64:
    """How busy the market is when a share `passed` of its day is over: a U, 1 on average."""
    return np.asarray(0.72 + 1.9 * np.exp(-passed / 0.06) + 1.5 * np.exp(-(1.0 - passed) / 0.11))
