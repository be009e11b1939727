"""The exchange's price limits of the day, by instrument: what is known, and what is to be asked for. Pure.

Limits are of one trading date. Some are widened while the day goes on, so what is traded is asked about again now and
then; until there is an answer the older limits hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

WAIT_MS: Final = 300  # a live entry, for the first limits of its instrument: a refusal by the exchange costs more
KEYS_AT_ONCE: Final = 500
_AGAIN_MS: Final = 300_000
_RETRY_MS: Final = 5_000
_RETRY_MAX_MS: Final = 120_000
_WANTED_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Band:
    on: date
    low: Decimal | None  # none: the venue has none for it
    high: Decimal | None


@dataclass(slots=True)
class Bands:
    _known: dict[str, Band] = field(default_factory=dict)
    _asked_ms: dict[str, int] = field(default_factory=dict)
    _wanted: dict[str, None] = field(default_factory=dict)  # named by entries
    _waiting: dict[str, int] = field(default_factory=dict)  # entry -> since when
    _failed: int = 0  # in a row
    _not_before_ms: int = 0

    def of(self, key: str, on: date) -> tuple[Decimal, Decimal] | None:
        band = self._known.get(key)
        if band is None or band.on != on or band.low is None or band.high is None:
            return None
        return band.low, band.high

    def want(self, key: str) -> None:
        """Somebody is about to trade it."""
        if key not in self._wanted and len(self._wanted) < _WANTED_MAX:
            self._wanted[key] = None

    def waits(self, name: str, key: str, on: date, now_ms: int) -> bool:
        """Whether an entry is better decided in a moment."""
        band = self._known.get(key)
        if (band is not None and band.on == on) or self._failed:
            self._waiting.pop(name, None)
            return False
        self.want(key)
        for other, since_ms in list(self._waiting.items()):
            if now_ms - since_ms > 100 * WAIT_MS:
                del self._waiting[other]
        return now_ms - self._waiting.setdefault(name, now_ms) < WAIT_MS

    def due(self, now_ms: int, on: date, traded: Iterable[str]) -> list[str]:
        """The instruments to ask about now, at most as many as go into one question."""
        if now_ms < self._not_before_ms:
            return []
        found = [key for key in self._wanted if self._is_due(key, on, now_ms)]
        self._wanted.clear()
        found += [key for key in sorted(set(traded).difference(found)) if self._is_due(key, on, now_ms)]
        for key in found[KEYS_AT_ONCE:]:
            self.want(key)
        return found[:KEYS_AT_ONCE]

    def _is_due(self, key: str, on: date, now_ms: int) -> bool:
        band = self._known.get(key)
        if band is None or band.on != on:
            return True
        return now_ms - self._asked_ms.get(key, 0) >= _AGAIN_MS

    def told(self, keys: Iterable[str], found: dict[str, tuple[Decimal, Decimal]], on: date, now_ms: int) -> None:
        """The answer to a question about `keys`."""
        self._failed = self._not_before_ms = 0
        for key in keys:
            low, high = found.get(key, (None, None))
            self._known[key] = Band(on, low, high)
            self._asked_ms[key] = now_ms

    def failed(self, keys: Iterable[str], now_ms: int) -> None:
        """There was none. Entries do not wait for it again until there is one."""
        self._not_before_ms = now_ms + min(_RETRY_MS << min(self._failed, 10), _RETRY_MAX_MS)
        self._failed += 1
        for key in keys:
            self.want(key)
