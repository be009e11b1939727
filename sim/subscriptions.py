"""What a connection follows, and how much it may: pure.

The venue answers nothing: what it does not accept (unknown keys, keys over the limit, modes that were not paid for) it
ignores in silence, so all of this is decided here and reported to nobody.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from sim.settings import Caps, Mode

_MODES = ("ltpc", "option_greeks", "full", "full_d30")


class Subscriptions:
    """Modes of instrument keys, in order of arrival. An instrument has one mode per connection."""

    def __init__(self, caps: Caps, *, plus_plan: bool, shared: "Usage | None" = None) -> None:
        self.caps = caps
        self.plus_plan = plus_plan
        self.modes: dict[str, Mode] = {}
        self.usage = shared if shared is not None else Usage()
        self._most = 0

    def apply(self, request: Any, known: Iterable[str] | None = None, most: int = 0) -> list[str]:
        """Obey a request; the keys that now need a snapshot. Whatever is no proper request changes nothing.

        With `most`, keys beyond so many are passed over whatever the caps allow.
        """
        self._most = most
        if not isinstance(request, dict) or not isinstance(request.get("data"), dict):
            return []
        data = request["data"]
        keys = data.get("instrumentKeys")
        if not isinstance(keys, list):
            return []
        listed = known if known is not None else keys
        keys = list(dict.fromkeys(key for key in keys if isinstance(key, str) and key in listed))
        match request.get("method"):
            case "sub":
                return self._subscribe(keys, data.get("mode", "ltpc"))
            case "change_mode":
                return self._subscribe([key for key in keys if key in self.modes], data.get("mode"))
            case "unsub":
                self.drop(keys)
        return []

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            mode = self.modes.pop(key, None)
            if mode is not None:
                self.usage.keys[mode] -= 1

    def _subscribe(self, keys: list[str], mode: Any) -> list[str]:
        if mode not in _MODES or (mode == "full_d30" and not self.plus_plan):
            return []
        wanted = cast(Mode, mode)
        return [key for key in keys if self._accept(key, wanted)]

    def _accept(self, key: str, mode: Mode) -> bool:
        before = self.modes.get(key)
        if before == mode:
            return True
        if not self.usage.has_room(mode, self.caps, leaving=before):
            return False
        if before is None and self._most and len(self.modes) >= self._most:
            return False
        if before is not None:
            self.usage.keys[before] -= 1
        self.usage.keys[mode] += 1
        self.modes[key] = mode
        return True


class Usage:
    """Keys in use by mode: of one connection, or of all connections of a user."""

    def __init__(self) -> None:
        self.keys: Counter[Mode] = Counter()

    def has_room(self, mode: Mode, caps: Caps, leaving: Mode | None) -> bool:
        after = self.keys.copy()
        after[mode] += 1
        if leaving is not None:
            after[leaving] -= 1
        alone = all(count == 0 for other, count in after.items() if other != mode)
        limits = caps.alone if alone else caps.mixed
        return after[mode] <= limits[mode]
