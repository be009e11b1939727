"""The prices that GTTs wait for, as columns: thousands of them are looked at in one go. Pure."""

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.gtt import Leg

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: A GTT's id and one of its legs.
Name = tuple[str, Leg]

#: Prices lie on a grid of paise: less than that is no difference.
_NOTHING: Final = 1e-6
_FIRST_SIZE: Final = 64


class Triggers:
    """One slot per waiting rule. `sign` 1 fires at and above its price, -1 at and below. No `gap`, no trail."""

    def __init__(self) -> None:
        self._slots: dict[Name, int] = {}
        self._names: list[Name | None] = []
        self._free: list[int] = []
        self._rows: I64 = np.full(0, -1, np.int64)  # -1: an empty slot
        self._signs, self._prices, self._gaps = (np.zeros(0) for _ in range(3))

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, name: Name, row: int, sign: int, price: float, gap: float) -> None:
        """Watch a price, or another one than before."""
        slot = self._slots.get(name)
        if slot is None:
            if not self._free:
                self._grow()
            slot = self._slots[name] = self._free.pop()
            self._names[slot] = name
        self._rows[slot], self._signs[slot], self._prices[slot], self._gaps[slot] = row, sign, price, gap

    def drop(self, name: Name) -> None:
        slot = self._slots.pop(name, None)
        if slot is not None:
            self._names[slot] = None
            self._rows[slot] = -1
            self._free.append(slot)

    def met(self, traded: Bools, ltp: F64) -> list[Name]:
        """Whose price the market has reached, in order of their slots. Arrays have an item per instrument."""
        slots, last = self._traded(traded, ltp)
        return self._named(slots[self._signs[slots] * (last - self._prices[slots]) >= -_NOTHING])

    def left_behind(self, traded: Bools, ltp: F64, tick: F64) -> list[Name]:
        """The trailing stops from which the market has gone further away than their gap, by a tick or more."""
        slots, last = self._traded(traded, ltp)
        away = self._signs[slots] * (self._prices[slots] - last) - self._gaps[slots]
        far = (self._gaps[slots] > 0) & (away >= tick[self._rows[slots]] - _NOTHING)
        return self._named(slots[far])

    def _traded(self, traded: Bools, ltp: F64) -> tuple[I64, F64]:
        """The slots whose instrument traded, and its price."""
        slots = np.flatnonzero(self._rows >= 0)
        slots = slots[traded[self._rows[slots]]]
        return slots, ltp[self._rows[slots]]

    def _named(self, slots: I64) -> list[Name]:
        return [name for slot in slots.tolist() if (name := self._names[slot]) is not None]

    def _grow(self) -> None:
        old = len(self._names)
        new = max(2 * old, _FIRST_SIZE)
        self._rows = np.concatenate([self._rows, np.full(new - old, -1, np.int64)])
        self._signs, self._prices, self._gaps = (
            np.concatenate([column, np.zeros(new - old)]) for column in (self._signs, self._prices, self._gaps)
        )
        self._names += [None] * (new - old)
        self._free = list(range(new - 1, old - 1, -1))
