"""Reads the tables in market/data: TOML, because a trader can check a row against a circular without reading code.

Every rule has the date from which it holds. A change of the rules is a new row, never an edit of an old one:
a backtest over last year has to see last year's market.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@cache
def table(name: str) -> dict[str, Any]:
    """The parsed file market/data/<name>.toml. Shared: callers do not change it."""
    text = resources.files("market.data").joinpath(f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """A value that changes on known dates."""

    starts: tuple[date, ...]
    values: tuple[T, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[date, T]]) -> "Dated[T]":
        rows = sorted(rows, key=lambda row: row[0])
        return cls(tuple(start for start, _ in rows), tuple(value for _, value in rows))

    def on(self, day: date) -> T | None:
        """The value in force on `day`; None before the first row."""
        index = bisect_right(self.starts, day)
        return self.values[index - 1] if index else None
