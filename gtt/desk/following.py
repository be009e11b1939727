"""Which instruments the feed has to carry: those that are held, worked or guarded, and those that an entry names which
waits for a price. An instrument without ticks has no stop that fires and no price that anything could be counted at.

Ingest does what commands say, whoever wrote them; so this reads the same commands. Somebody's unsubscribing is undone
where something depends on the instrument. What stays silent is asked for again now and then: a repetition changes
nothing. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from gtt.book.book import Book
from schemas.commands import Command, FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe, Mode
from schemas.events import Some
from schemas.orders import TradingMode

WAIT_MS: Final = 3_000  # an entry, for the first price of its instrument
_AGAIN_MS: Final = 5_000  # then twice as long each time
_AGAIN_MAX_MS: Final = 60_000
_SILENT_MS: Final = 120_000  # in an open market
_SILENT_MAX_MS: Final = 1_800_000
_BACK_MS: Final = 15_000
_HOPELESS: Final = 4  # asked so often, and no price came
_FORGET_MS: Final = 60_000
KEYS_AT_ONCE: Final = 500


def needed(book: Book, modes: Iterable[TradingMode]) -> set[str]:
    """By what there is: live GTTs, orders that may still be filled, open positions."""
    keys = set(book.guarded())
    for mode in modes:
        keys.update(record.order.instrument for record in book.live(mode))
        keys.update(held.instrument for held in book.account(mode).positions.values() if held.quantity)
    return keys


@dataclass(frozen=True, slots=True)
class Ask:
    """A `feed.subscribe` that is due."""

    mode: Mode
    keys: tuple[str, ...]
    number: int

    @property
    def command_id(self) -> str:
        """The same for the same question, so that a repetition can be told."""
        text = f"{self.mode.value} {self.number} {' '.join(self.keys)}"
        return f"gtt:follow:{sha256(text.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class Told:
    """For people, once."""

    key: str
    message: str


@dataclass(slots=True)
class _Asked:
    tries: int
    again_ms: int  # not before


@dataclass(slots=True)
class _Heard:
    ts: int  # venue time of its newest tick
    at_ms: int  # when we noticed


@dataclass(slots=True)
class Following:
    mode: Mode = Mode.FULL
    seeded: dict[str, int] = field(default_factory=dict)  # venue time of prices that were known before any tick came
    _modes: dict[str, Mode] = field(default_factory=dict)  # as others have asked
    _left: dict[str, None] = field(default_factory=dict)  # unsubscribed since
    _off: bool = False
    _waiting: dict[str, tuple[str, int]] = field(default_factory=dict)  # entry -> instrument, since when
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _heard: dict[str, _Heard] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    # What others do

    def heard(self, command: Command) -> None:
        """A command to the feed, in the order in which ingest reads them."""
        match command:
            case FeedSubscribe():
                for key in command.instruments:
                    self._left.pop(key, None)
                    self._modes.pop(key, None)
                    if command.mode is not self.mode:
                        self._modes[key] = command.mode
            case FeedUnsubscribe():
                for key in command.instruments:
                    self._left[key] = None
                    self._modes.pop(key, None)
                    self._asked.pop(key, None)
            case FeedConnect() | FeedDisconnect():
                self._off = isinstance(command, FeedDisconnect)
                self._told.discard("")

    def interrupted(self, now_ms: int) -> None:
        """The feed was away. Where it is back it tells of every instrument that it carries: who stays silent is not."""
        for heard in self._heard.values():
            heard.at_ms = min(heard.at_ms, now_ms - _SILENT_MS + _BACK_MS)

    # Entries

    def waits(self, name: str, key: str, now_ms: int, ts_ms: int, *, old: bool = False) -> bool:
        """Whether an entry is better decided in a moment. `ts_ms`: of the price that is known, 0: none; `old`: too old
        to be traded at, which counts where no tick has come since we started."""
        known = ts_ms > 0 and key not in self._left
        if known and not (old and ts_ms <= self.seeded.get(key, -1)):
            self._waiting.pop(name, None)
            return False
        _, since_ms = self._waiting.setdefault(name, (key, now_ms))
        return now_ms - since_ms < WAIT_MS

    @property
    def waiting(self) -> set[str]:
        """Instruments of entries that wait, or have just waited in vain."""
        return {key for key, _ in self._waiting.values()}

    # What is to be asked for

    def due(
        self, now_ms: int, wanted: set[str], ts_of: Callable[[str], int], is_open: Callable[[str], bool]
    ) -> tuple[list[Ask], list[Told]]:
        """`wanted`: of the book, all of them the venue's. `ts_of`: venue time of the newest tick, 0: none."""
        waiting, left, hopeless = self._waited(now_ms), [], []
        found: dict[Mode, dict[int, list[str]]] = {}
        for key in sorted(wanted | waiting):
            ts = ts_of(key)
            fresh = self._note(key, ts, now_ms)
            asked = self._asked.get(key)
            if not self._lacks(key, ts, now_ms, key in waiting, fresh, is_open):
                continue
            if asked is not None and now_ms < asked.again_ms:
                continue
            tries = asked.tries if asked is not None else 0
            if key in wanted and key not in self._told:
                if key in self._left:
                    left.append(key)
                elif not ts and tries >= _HOPELESS and is_open(key):
                    hopeless.append(key)
            self._asked[key] = _Asked(tries + 1, now_ms + self._pause_ms(key, ts, tries))
            found.setdefault(self._modes.get(key, self.mode), {}).setdefault(tries, []).append(key)
        self._forget(wanted | waiting)
        asks = [
            Ask(mode, tuple(keys[start : start + KEYS_AT_ONCE]), number)
            for mode, parts in found.items()
            for number, keys in parts.items()
            for start in range(0, len(keys), KEYS_AT_ONCE)
        ]
        return asks, self._words(len(wanted), left, hopeless)

    def _lacks(self, key: str, ts: int, now_ms: int, waits: bool, fresh: bool, is_open: Callable[[str], bool]) -> bool:
        if key in self._left or not ts:
            return True
        if fresh:
            self._asked.pop(key, None)
            return False
        if waits and ts <= self.seeded.get(key, -1):
            return True
        return not self._off and now_ms - self._heard[key].at_ms >= _SILENT_MS and is_open(key)

    def _note(self, key: str, ts: int, now_ms: int) -> bool:
        """Whether something has come of it since the last look."""
        heard = self._heard.get(key)
        if heard is None:
            unheard = ts <= self.seeded.get(key, -1)  # nothing says that anybody follows it
            self._heard[key] = _Heard(ts, now_ms - (_SILENT_MS - _BACK_MS if unheard else 0))
            return False
        if ts == heard.ts:
            return False
        heard.ts, heard.at_ms = ts, now_ms
        return True

    def _pause_ms(self, key: str, ts: int, tries: int) -> int:
        if ts and key not in self._left and key not in self.waiting:
            return min(_SILENT_MS << min(tries, 10), _SILENT_MAX_MS)
        return min(_AGAIN_MS << min(tries, 10), _AGAIN_MAX_MS)

    def _words(self, wanted: int, left: list[str], hopeless: list[str]) -> list[Told]:
        told = []
        if self._off and wanted and "" not in self._told:
            self._told.add("")
            told.append(Told("", f"the feed is switched off: {wanted} instruments that are traded have no prices"))
        for keys, message in (
            (left, "taken out of the feed, though it is traded, and asked for again"),
            (hopeless, "traded, and no price of it comes: nothing that waits for one can fire"),
        ):
            if keys:
                self._told.update(keys)
                told.append(Told(keys[0], f"{message}: {Some.of(keys)}"))
        return told

    def _waited(self, now_ms: int) -> set[str]:
        for name, (_, since_ms) in list(self._waiting.items()):
            if now_ms - since_ms >= _FORGET_MS:
                del self._waiting[name]
        return self.waiting

    def _forget(self, keys: set[str]) -> None:
        for held in (self._asked, self._heard):
            for key in held.keys() - keys:
                del held[key]
        self._told &= keys | {""}
