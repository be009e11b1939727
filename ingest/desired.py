"""What a shard's feed should carry: the state of ingest's fold over `commands`. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import orjson

from schemas.commands import Command, FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe, Mode
from schemas.errors import Rejected


@dataclass(frozen=True, slots=True)
class Desired:
    enabled: bool = True
    modes: Mapping[str, Mode] = field(default_factory=dict)
    settings: tuple[str, ...] = ()  # what the settings asked for when this began
    filled_to: int = 0  # venue time up to which the bars lack nothing that history could give

    @property
    def carried(self) -> Mapping[str, Mode]:
        return self.modes if self.enabled else {}

    def dump(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def load(cls, body: bytes) -> Self:
        raw = orjson.loads(body)
        modes = {key: Mode(mode) for key, mode in raw["modes"].items()}
        return cls(raw["enabled"], modes, tuple(raw["settings"]), raw["filled_to"])

    @classmethod
    def initial(cls, names: Iterable[str], keys: Iterable[str], mode: Mode) -> Self:
        return cls(modes=dict.fromkeys(keys, mode), settings=tuple(names))


def apply(
    desired: Desired, command: Command, *, mine: Callable[[str], bool], known: Callable[[str], bool]
) -> tuple[Desired, dict[str, Any]]:
    """The new wish and the reply. Raises Rejected, in words for the one who asked, where an instrument is unknown."""
    match command:
        case FeedConnect():
            return replace(desired, enabled=True), {"enabled": True, "instruments": len(desired.modes)}
        case FeedDisconnect():
            return replace(desired, enabled=False), {"enabled": False, "instruments": len(desired.modes)}
        case FeedSubscribe():
            if unknown := [key for key in command.instruments if not known(key)]:
                raise Rejected(f"unknown instrument: {', '.join(unknown[:5])}")
            keys = [key for key in command.instruments if mine(key)]
            modes = {**desired.modes, **dict.fromkeys(keys, command.mode)}
            return replace(desired, modes=modes), {"subscribed": keys, "mode": command.mode.value}
        case FeedUnsubscribe():
            gone = set(command.instruments)
            left = {key: mode for key, mode in desired.modes.items() if key not in gone}
            return replace(desired, modes=left), {"unsubscribed": sorted(gone & desired.modes.keys())}
