"""Randomness that depends on a name and not on a history.

Every draw is a function of (seed, what it is for, which day or minute): two runs, a restart in the middle of a day and
a candle asked for twice agree, and nothing depends on the order in which things were asked for.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MASK: Final = (1 << 64) - 1


def name_hash(name: str) -> int:
    """The 64-bit FNV-1a hash of a name: the same in every process, unlike Python's own."""
    value = _FNV_OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return value


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for one purpose and the numbers (day, minute, instrument) that belong to it."""
    key = name_hash(purpose) ^ ((seed * 0x9E3779B97F4A7C15) & _MASK)
    for number in numbers:
        key = _mixed(key ^ (number & _MASK))
    return np.random.Generator(np.random.Philox(key=key))


def mix(values: U64) -> U64:
    """A bijection that scatters: close numbers come out unrelated (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def unit(values: U64) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) from hashes."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) & _MASK
