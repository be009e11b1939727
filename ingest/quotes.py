"""The last state of each instrument on its way to `quotes:{k}`: once a second, a part at a time. Pure."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np

from schemas.quotes import encode
from schemas.streams import shard_of
from schemas.ticks import TICK

_EVERY_S: Final = 1.0
_AT_ONCE: Final = 50  # encoding them holds up the frames for half a millisecond

#: Instrument -> its TICK record.
States = Mapping[str, Any]


class Quotes:
    """`changed` gives the instruments that have changed since it was last called, and their states."""

    def __init__(self, changed: Callable[[], tuple[list[str], Any]], shards: int) -> None:
        self._changed = changed
        self._shards = shards
        self._due: dict[int, dict[str, Any]] = {}  # by shard
        self._taken_s = float("-inf")

    def due(self, shard: int, now_s: float) -> States:
        """Some of the states that have changed and are not written yet; all of them come up in turn.

        A state is due until it was `written`, or a newer one has taken its place.
        """
        if now_s - self._taken_s >= _EVERY_S:
            self._taken_s = now_s
            for key, state in zip(*self._changed(), strict=True):
                self._due.setdefault(shard_of(key, self._shards), {})[key] = state
        return dict(islice(self._due.get(shard, {}).items(), _AT_ONCE))

    def written(self, shard: int, states: States) -> None:
        due = self._due.get(shard, {})
        for key, state in states.items():
            if due.get(key) is state:
                del due[key]

    def let_go(self, shard: int) -> None:
        self._due.pop(shard, None)


def encoded(states: States) -> dict[str, bytes]:
    return dict(zip(states, encode(states, np.array(list(states.values()), TICK)), strict=True))
