"""What `stream/orders` says: orders, GTTs, fills, positions, refusals; a newcomer is told how all stands. Pure."""

from typing import Any, Final, NamedTuple

from gateway.frames import Fields, Frame, Shown, Wanted, body, field, parsed
from gateway.positions import Position
from schemas.orders import FINAL, EntryKind

#: What is over stays for the day, and no more than so many: REST has all of it.
_OVER_MOST: Final = 500
_IST_MS: Final = 330 * 60_000
_DAY_MS: Final = 86_400_000
_DONE: Final = frozenset(status.value for status in FINAL)

Name = tuple[str, str]  # kind and id

#: Kinds that have a state, in the order of a snapshot. A fill and a refusal are told once.
_STATES: Final = (EntryKind.ORDER.value, EntryKind.GTT.value, EntryKind.POSITION.value)


class _Known(NamedTuple):
    instrument: str
    ts: int
    data: bytes


class Orders:
    """`orders`: the entry's kind names the event."""

    def __init__(self) -> None:
        self._live: dict[Name, _Known] = {}
        self._over: dict[Name, _Known] = {}  # oldest first
        self._day = 0

    def load(self, kind: EntryKind, data: bytes) -> None:
        """A state from the order worker's books, before the first entry is read."""
        self._keep(kind.value, parsed(data), data)

    def remember(self, _: Position, fields: Fields, /) -> None:
        kind, data = field(fields, b"kind").decode(), field(fields, b"data")
        told = parsed(data)
        if kind in _STATES:
            self._keep(kind, told, data)

    def frames(self, fields: Fields, wanted: Wanted) -> list[Frame]:
        kind, data = EntryKind(field(fields, b"kind").decode()), field(fields, b"data")  # its error is a ValueError
        key = _instrument(parsed(data))
        return [Frame(key, body(kind.value, data))] if wanted is None or key in wanted else []

    def snapshot(self, wanted: Wanted) -> list[Shown]:
        shown: list[Shown] = []
        for state in _STATES:
            known = [one for held in (self._over, self._live) for (kind, _), one in held.items() if kind == state]
            known.sort(key=lambda one: one.ts)
            shown += [Shown(body(state, one.data)) for one in known if wanted is None or one.instrument in wanted]
        return shown

    def _keep(self, kind: str, told: dict[str, Any], data: bytes) -> None:
        name, ts = (kind, _identity(kind, told)), told.get("ts")
        if not isinstance(ts, int):
            raise ValueError(f"a state of {kind} without its time")
        known = _Known(_instrument(told), ts, data)
        self._live.pop(name, None)
        self._over.pop(name, None)
        self._turn_to((ts + _IST_MS) // _DAY_MS)
        if _is_live(kind, told):
            self._live[name] = known
            return
        self._over[name] = known
        if len(self._over) > _OVER_MOST:
            del self._over[next(iter(self._over))]

    def _turn_to(self, day: int) -> None:
        """A new day: what ended before it is history."""
        if day <= self._day:
            return
        self._day = day
        start_ms = day * _DAY_MS - _IST_MS
        self._over = {name: known for name, known in self._over.items() if known.ts >= start_ms}


def _identity(kind: str, told: dict[str, Any]) -> str:
    match kind:
        case EntryKind.ORDER:
            return str(told.get("order_id"))
        case EntryKind.GTT:
            return str(told.get("gtt_order_id"))
    return "|".join(str(told.get(name)) for name in ("mode", "instrument", "product"))


def _is_live(kind: str, told: dict[str, Any]) -> bool:
    match kind:
        case EntryKind.ORDER:
            return told.get("status") not in _DONE
        case EntryKind.GTT:
            return bool(told.get("live"))
    return bool(told.get("quantity"))


def _instrument(told: dict[str, Any]) -> str:
    return str(told.get("instrument") or told.get("instrument_token") or "")
