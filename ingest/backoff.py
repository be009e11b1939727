"""How long to wait before the next try. Pure."""

from dataclasses import dataclass, field
from random import Random
from typing import Final

_MAX_S: Final = 60.0
_LIVED_WELL_S: Final = 10.0


@dataclass(slots=True)
class Backoff:
    """Doubling, with jitter, so that many clients do not come back at once. Only a connection that has brought data
    for a while ends the doubling: one that opens and breaks at once is no success."""

    random: Random = field(default_factory=Random)
    _tries: int = 0

    def next_s(self, first_s: float, most_s: float = _MAX_S) -> float:
        wait_s = min(most_s, first_s * 2.0 ** min(self._tries, 10))
        self._tries += 1
        return wait_s * self.random.uniform(0.5, 1.0)

    def lived(self, data_s: float) -> None:
        """A connection has ended that brought data for so long."""
        if data_s >= _LIVED_WELL_S:
            self._tries = 0
