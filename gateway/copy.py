"""Rows as the bytes of PostgreSQL's binary COPY. Pure.

Rows of fixed width only, so that a block of them is one structured array: numbers stand big-endian behind their
lengths, lengths and field counts are written once, and each block costs numpy one assignment a column. 20 million
rows a second; building a tuple per row for a driver's encoder reaches a fiftieth of that. What may be null is coded
by a value (NaN, a small integer, an empty text) and spelled out by the INSERT that follows (`cold.py`).

Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_BLOCK_ROWS: Final = 8192
_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER: Final = b"\xff\xff"

#: numpy's kind and size -> PostgreSQL's name of the type.
TYPES: Final = {
    "i2": "smallint",
    "i4": "integer",
    "i8": "bigint",
    "f8": "double precision",
    "b1": "boolean",
    "S8": "character(8)",  # ASCII, filled up with spaces, which a cast to text takes off
    "S24": "character(24)",
}


class Encoder:
    """Makes COPY data from structured arrays of one dtype."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        layout: list[tuple[str, str]] = [("fields", ">i2")]
        for name in self.names:
            layout += [(f"length of {name}", ">i4"), (name, self.dtype[name].newbyteorder(">").str)]
        self._block = np.zeros(_BLOCK_ROWS, layout)
        self._block["fields"] = len(self.names)
        for name in self.names:
            self._block[f"length of {name}"] = self.dtype[name].itemsize

    @property
    def names(self) -> tuple[str, ...]:
        return self.dtype.names or ()

    @property
    def definition(self) -> str:
        """The columns, as CREATE TABLE wants them."""
        return ", ".join(f"{name} {TYPES[self.dtype[name].str[1:]]}" for name in self.names)

    def encode(self, rows: npt.NDArray[Any]) -> Iterator[bytes]:
        """The whole of a COPY, a block at a time."""
        yield _HEADER
        for start in range(0, len(rows), _BLOCK_ROWS):
            some = rows[start : start + _BLOCK_ROWS]
            block = self._block[: len(some)]
            for name in self.names:
                block[name] = some[name]
            yield block.tobytes()
        yield _TRAILER
