"""What a fact has touched in the book. Pure."""

from typing import Any, NamedTuple


class Touched(NamedTuple):
    """`what`: order, gtt, fill, position, refused, reply, alert, strategy, accounts; gone (`body` says what it was)."""

    what: str
    key: str = ""
    body: Any = None
