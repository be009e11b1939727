"""Which instruments can tick now: by the venue's word, and by the calendar, for the venue's word may be an old one.

Hours belong to a segment and a class of instruments within it. In the closing auction shares with derivatives are
silent while others and the derivatives trade; the indices, which are computed from those shares, rest with them.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from market import sessions
from market.instruments import Instrument, class_of
from schemas.errors import Misconfigured, Rejected
from schemas.ticks import SessionClass

_OPEN: Final = "NORMAL_OPEN"
_INDEX: Final = "_INDEX"


class Group(NamedTuple):
    """Instruments that trade at the same times."""

    segment: str
    session: SessionClass


class Hours:
    """`statuses` is what the venue said last of each segment, `now_ms` venue time as far as anybody knows it."""

    def __init__(
        self,
        *,
        always: bool,
        get: Callable[[str], Instrument | None],
        statuses: Mapping[str, str],
        now_ms: Callable[[], int],
    ) -> None:
        self._always = always
        self._get = get
        self._statuses = statuses
        self._now_ms = now_ms

    def session_of(self, key: str) -> SessionClass:
        return class_of(self._get(key), sessions.trading_date(self._now_ms()), always=self._always)

    def group_of(self, key: str) -> Group:
        return Group(sessions.segment_of(key), self.session_of(key))

    def is_open(self, group: Group) -> bool:
        """Whether something of it can tick."""
        if self._statuses.get(group.segment) != _OPEN:
            return False
        if self._always:
            return True
        if group.segment.endswith(_INDEX):
            shares = group.segment.removesuffix(_INDEX) + "_EQ"
            return self._trades(group) and self._trades(Group(shares, SessionClass.CLOSING_AUCTION_SHARE))
        return self._trades(group)

    def _trades(self, group: Group) -> bool:
        try:
            phase = sessions.phase_at(group.segment, group.session, self._now_ms())
        except (Rejected, Misconfigured):
            return True  # the calendar knows nothing of it
        return phase is sessions.Phase.CONTINUOUS
