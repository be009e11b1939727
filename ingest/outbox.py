"""What waits to be published to one shard: entries in order, bounded in bytes, numbered so that none goes twice."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bus.inbox import Output

_WRITE_MAX_BYTES: Final = 1024 * 1024  # larger ones cost Redis more per byte
_WRITE_MAX_ENTRIES: Final = 64
_HIGH_WATER_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class Write:
    """Entries on their way in one commit, with its number."""

    number: int
    outputs: list[Output]
    size_bytes: int


@dataclass(slots=True)
class Outbox:
    limit_bytes: int
    size_bytes: int = 0
    number: int = 0  # of the last write that was taken
    waiting: deque[tuple[Output, int]] = field(default_factory=deque)
    under_way: Write | None = None
    flowing: bool = False  # the last write succeeded

    def __bool__(self) -> bool:
        return bool(self.waiting or self.under_way)

    @property
    def congested(self) -> bool:
        """Redis takes less than the feed brings. (While it takes nothing at all, frames gather up to the limit.)"""
        return self.flowing and self.size_bytes > _HIGH_WATER_BYTES

    @property
    def full(self) -> bool:
        return self.size_bytes >= self.limit_bytes

    def put(self, output: Output) -> None:
        """Append. The caller asks `full` before it makes entries of frames; marks and events always fit."""
        size = _size(output.fields)
        self.waiting.append((output, size))
        self.size_bytes += size

    def take(self) -> Write:
        """The write to do now: the one under way, if its fate is unknown, else the oldest entries."""
        if self.under_way is None:
            outputs: list[Output] = []
            size = 0
            while self.waiting and size < _WRITE_MAX_BYTES and len(outputs) < _WRITE_MAX_ENTRIES:
                output, part = self.waiting.popleft()
                outputs.append(output)
                size += part
            self.number += 1
            self.under_way = Write(self.number, outputs, size)
        return self.under_way

    def done(self) -> None:
        self.flowing = True
        if self.under_way is not None:
            self.size_bytes -= self.under_way.size_bytes
            self.under_way = None

    def resume(self, published: int | None) -> bool:
        """Continue after a break, knowing the number of the last write that Redis has.

        False: somebody else has published meanwhile (or this process is new): what waits here is dropped, because
        the other one's connection has covered that time.
        """
        ours = self.number - 1 if self.under_way is not None else self.number
        if published is None and self.number:
            return True  # Redis was emptied; ours are the only numbers
        if self.under_way is not None and published == self.number:
            self.done()
            return True
        if published == ours and self.number:
            return True
        self.waiting.clear()
        self.under_way, self.size_bytes, self.number = None, 0, published or 0
        return False


def _size(fields: Mapping[Any, Any]) -> int:
    return sum(len(value) if isinstance(value, bytes | str) else 8 for value in fields.values()) + 64
