"""Where a reader of several streams stands, and how an SSE `id` says it.

A position in one stream is `ms-seq`, the id of the last entry seen, or `ms-seq.i` when only the first `i` events of
that entry were seen (an entry of `ticks:{k}` holds many ticks). A reader of several streams has one position per
stream, joined with commas in the order in which the feed lists its streams; positions at the end that are still `0-0`,
where nothing was ever seen, are left out. So with one shard, and as long as there are no chain entries, an SSE `id` is
simply the id of the stream's entry.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

#: `part` of a position behind all events of its entry. Larger than any index, so that positions compare as tuples.
WHOLE: Final = 1 << 62

_U64: Final = (1 << 64) - 1
_PARTS_MAX: Final = 1_000_000
_ONE: Final = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?(?:\.(\d{1,7}))?", re.ASCII)


class BadPosition(ValueError):
    """The text is no position in these streams; the message says why."""


class Position(NamedTuple):
    """A place in one stream: behind the event number `part` of the entry `ms-seq`."""

    ms: int
    seq: int
    part: int = WHOLE

    @property
    def entry(self) -> str:
        """The entry's id, as Redis writes it."""
        return f"{self.ms}-{self.seq}"

    def __str__(self) -> str:
        return self.entry if self.part == WHOLE else f"{self.entry}.{self.part}"


#: Before the first entry there can be.
ORIGIN: Final = Position(0, 0)

Vector = tuple[Position, ...]


def of_entry(entry_id: bytes | str) -> Position:
    """The position behind an entry, from the id that Redis gives it."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    ms, _, seq = text.partition("-")
    return Position(int(ms), int(seq or 0))


def text_of(vector: Sequence[Position]) -> str:
    """The SSE `id` of a vector."""
    last = len(vector)
    while last > 1 and vector[last - 1] == ORIGIN:
        last -= 1
    return ",".join(map(str, vector[:last]))


def parse(text: str, streams: int) -> Vector:
    """The vector that an SSE `id` means to a feed of so many streams. Raises BadPosition."""
    parts = text.split(",", streams)
    if len(parts) > streams:
        raise BadPosition(f"it has more than the {streams} positions that this feed has")
    vector = tuple(map(_one, parts))
    return vector + (ORIGIN,) * (streams - len(vector))


def _one(text: str) -> Position:
    found = _ONE.fullmatch(text)
    if found is None:
        raise BadPosition(f"{text[:48]!r} is not of the form milliseconds-number or milliseconds-number.event")
    ms, seq, part = int(found[1]), int(found[2] or 0), int(found[3]) if found[3] else WHOLE
    if ms > _U64 or seq > _U64:
        raise BadPosition(f"{text!r} has a number that needs more than 64 bits")
    if part != WHOLE and not 1 <= part <= _PARTS_MAX:
        raise BadPosition(f"{text!r} names an event outside 1 to {_PARTS_MAX}")
    return Position(ms, seq, part)
