"""A power cut at a chosen commit, on a real Redis."""

from collections.abc import Iterable
from typing import Any

from bus.connection import Bus
from bus.inbox import Writer
from schemas import streams


class PowerCut(Exception):
    """The process is gone."""


class Cut(Writer):
    """Ends the process at a commit: just before it happens, or just after. Streams in `untrimmed` keep everything, for
    tests whose ids are of old."""

    def __init__(self, bus: Bus, at: int, after: bool, untrimmed: Iterable[str] = ()) -> None:
        super().__init__(bus, None, streams.RETENTION_MS)
        self._trimmed_at = dict.fromkeys(untrimmed, 1e9)
        self._left = at
        self._after = after

    async def write(self, *args: Any, **more: Any) -> list[str]:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise PowerCut
        written = await super().write(*args, **more)
        if self._left == 0:
            raise PowerCut
        return written
