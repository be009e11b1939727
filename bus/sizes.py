"""How large a stream has become, so that it can be kept within a number of bytes. Pure.

Redis trims streams by number of entries or by age; entries of ticks are as large as the load makes them. So who writes
a stream remembers what it wrote: entries, oldest first, until they are more than may stay.
"""

from collections import deque
from typing import Final

_PART_BYTES: Final = 256 * 1024  # what is remembered as one


class Sizes:
    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: deque[tuple[str, int]] = deque()  # the newest id of each, and its size
        self._bytes = 0

    def add(self, entry_id: str, size_bytes: int) -> None:
        """Entries up to this id have been written since the last call."""
        if self._parts and self._parts[-1][1] + size_bytes <= _PART_BYTES:
            self._parts[-1] = (entry_id, self._parts[-1][1] + size_bytes)
        else:
            self._parts.append((entry_id, size_bytes))
        self._bytes += size_bytes

    def too_many(self) -> str:
        """The newest of the entries that have to go; empty where all may stay. They are taken to be gone then."""
        newest = ""
        while self._bytes > self._limit_bytes and len(self._parts) > 1:
            newest, size_bytes = self._parts.popleft()
            self._bytes -= size_bytes
        return newest
