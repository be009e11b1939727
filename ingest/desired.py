"""What a shard's feed should carry: the state of ingest's fold over `commands`. Pure.

The settings say what is subscribed at the start (what they mean changes from day to day, as contracts expire and new
ones are listed), commands add to it and take from it. So the state holds what commands have changed, no more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson

from schemas.commands import (
    Command,
    FeedBackfill,
    FeedConnect,
    FeedDisconnect,
    FeedSubscribe,
    FeedUnsubscribe,
    Mode,
)
from schemas.errors import Rejected

_DAY_MS: Final = 86_400_000
_BACKFILL_MAX_MS: Final = 31 * _DAY_MS


@dataclass(frozen=True, slots=True)
class Desired:
    settings: tuple[str, ...] = ()  # that this goes with: other ones start anew
    enabled: bool = True
    added: Mapping[str, Mode] = field(default_factory=dict)  # also: in another mode than the settings'
    removed: frozenset[str] = frozenset()
    filled_to: int = 0  # venue time up to which the bars lack nothing that history could give
    final_to: int = 0  # the first day on which history has not had the last word, its midnight
    publisher: str = ""  # the process that publishes the shard, or did so last
    changes: int = 0  # by commands so far: of two that are known, which is the later one

    def modes(self, base: Mapping[str, Mode]) -> dict[str, Mode]:
        """What is wanted, where `base` is what the settings mean today."""
        return {**{key: mode for key, mode in base.items() if key not in self.removed}, **self.added}

    def carried(self, base: Mapping[str, Mode]) -> dict[str, Mode]:
        return self.modes(base) if self.enabled else {}

    def pruned(self, known: Callable[[str], bool]) -> Self:
        """Without instruments that there are no longer."""
        added = {key: mode for key, mode in self.added.items() if known(key)}
        return replace(self, added=added, removed=frozenset(filter(known, self.removed)))

    def dump(self) -> bytes:
        return orjson.dumps(self, default=sorted)

    @classmethod
    def load(cls, body: bytes) -> Self | None:
        """None for what is no state of ours: then the settings alone hold."""
        try:
            raw = orjson.loads(body)
            added = {str(key): Mode(mode) for key, mode in raw["added"].items()}
            loaded = cls(**{**raw, "settings": tuple(raw["settings"]), "removed": frozenset(raw["removed"])})
            return replace(loaded, added=added)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def apply(
    desired: Desired,
    base: Mapping[str, Mode],
    command: Command,
    *,
    mine: Callable[[str], bool],
    known: Callable[[str], bool],
) -> tuple[Desired, dict[str, Any]]:
    """The new wish and the reply. Raises Rejected, in words for the one who asked, where an instrument is unknown."""
    desired = replace(desired, changes=desired.changes + 1)
    match command:
        case FeedConnect() | FeedDisconnect():
            wish = replace(desired, enabled=isinstance(command, FeedConnect))
            return wish, {"enabled": wish.enabled, "instruments": len(wish.modes(base))}
        case FeedSubscribe():
            _refuse_unknown(command.instruments, known)
            keys = [key for key in dict.fromkeys(command.instruments) if mine(key)]
            asked = {key: command.mode for key in keys if base.get(key) is not command.mode}
            kept = {key: mode for key, mode in desired.added.items() if key not in keys}
            wish = replace(desired, added=kept | asked, removed=desired.removed.difference(keys))
            return wish, {"subscribed": keys, "mode": command.mode.value}
        case FeedUnsubscribe():
            gone = sorted(set(command.instruments) & desired.modes(base).keys())
            kept = {key: mode for key, mode in desired.added.items() if key not in gone}
            wish = replace(desired, added=kept, removed=desired.removed | (base.keys() & set(gone)))
            return wish, {"unsubscribed": gone}
        case FeedBackfill():
            if command.to_ms - command.from_ms > _BACKFILL_MAX_MS:
                raise Rejected(f"at most {_BACKFILL_MAX_MS // _DAY_MS} days of history can be asked for at once")
            # A hole of these days has to survive a crash; an older one is found by another audit.
            recent = command.from_ms > desired.filled_to - _DAY_MS
            return replace(desired, filled_to=min(desired.filled_to, command.from_ms)) if recent else desired, {}


def _refuse_unknown(keys: Iterable[str], known: Callable[[str], bool]) -> None:
    if unknown := [key for key in keys if not known(key)]:
        raise Rejected(f"unknown instrument: {', '.join(unknown[:5])}")
