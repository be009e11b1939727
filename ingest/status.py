"""When to say how the feed is: at once when something happens, less and less often while only a count grows. Pure."""

from dataclasses import dataclass
from typing import Final

from schemas.events import FeedStatus, Some

_FIRST_S: Final = 1.0
_LAST_S: Final = 60.0


@dataclass(slots=True)
class Reporter:
    """Asked in turn: is it time to look, is that news."""

    _told: FeedStatus | None = None
    _wait_s: float = _FIRST_S
    _look_at_s: float = 0.0

    def news(self) -> None:
        """Something has happened: look now."""
        self._look_at_s = 0.0

    def is_due(self, now_s: float) -> bool:
        return now_s >= self._look_at_s

    def has_news(self, status: FeedStatus, now_s: float) -> bool:
        before, self._told = self._told, status
        if before is None or _without_counts(before) != _without_counts(status):
            self._wait_s = _FIRST_S
        self._look_at_s = now_s + self._wait_s
        if before == status:
            return False
        self._wait_s = min(2 * self._wait_s, _LAST_S)
        return True


def _without_counts(status: FeedStatus) -> FeedStatus:
    """What is news at once: not how many, but whether any."""
    some = {name: Some(count=bool(getattr(status, name).count)) for name in ("never_seen", "silent", "no_room")}
    return status.model_copy(update={"seen": 0, "history_waiting": min(status.history_waiting, 1), **some})
