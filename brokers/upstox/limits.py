"""What the venue allows on its feed, as documented by plan. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from bus.settings import FEED_SOCKETS, CapScope, FeedPlan
from schemas.commands import Mode

#: Keys by mode: where only that mode is carried, and where several are.
ALONE: Final[Mapping[Mode, int]] = {Mode.LTPC: 5000, Mode.OPTION_GREEKS: 3000, Mode.FULL: 2000, Mode.FULL_D30: 50}
COMBINED: Final[Mapping[Mode, int]] = {Mode.LTPC: 2000, Mode.OPTION_GREEKS: 2000, Mode.FULL: 1500, Mode.FULL_D30: 50}

KEYS_PER_MESSAGE: Final = 500
FRAME_MAX_BYTES: Final = 16 * 1024 * 1024  # the largest ones that were measured have 160 KB


@dataclass(frozen=True, slots=True)
class Limits:
    """How many instruments may be asked for. `connections` are those of all our processes together.

    What the caps count is a setting. Measured, it is a connection; the documentation can be read as a user.
    """

    plan: FeedPlan = FeedPlan.NORMAL
    scope: CapScope = CapScope.CONNECTION
    connections: int = FEED_SOCKETS[FeedPlan.NORMAL]

    def of_connection(self, modes: Collection[Mode]) -> Mapping[Mode, int]:
        """Keys per connection, by mode, where these modes are carried."""
        caps = ALONE if len(set(modes)) <= 1 else COMBINED
        return caps if self.plan is FeedPlan.PLUS else {**caps, Mode.FULL_D30: 0}

    def of_process(self, modes: Collection[Mode], connections: int) -> Mapping[Mode, int]:
        """Keys over `connections` of the user's. Where the caps count per user, a process has its part of them."""
        caps = self.of_connection(modes)
        if self.scope is CapScope.CONNECTION:
            return {mode: cap * connections for mode, cap in caps.items()}
        return {mode: cap * min(connections, self.connections) // self.connections for mode, cap in caps.items()}
