"""What is known of each instrument, and updates filled up with it: a reader of one record then has the whole state.

The venue may send only what changed, and proto3 leaves zeros out, so absence is not zero. The rules, per instrument:

* A block or number that the update carries counts; one that it does not carry keeps what was known. The low half of
  the flags stays what the update carried, the high half becomes what is known with it.
* A day's volume of 0 never replaces a known one.
* Depth: the best bid and ask are carried forward, LEVEL rows are not; `levels` stays what the update carried.
* The indicative price and quantity of an auction end with the first trade block that comes without them.
* Later is what has a later or the same `ts`. An update older than the last one is filled up from what is known now
  and published like any other, but what is known stays as it is, in all blocks.
  Where it tells of a trade between two that are known, that one is `overtaken`: no reader can tell it from an old one.
* The first update after `mark_base` (or after `register`) gets Block.BASE, whatever its age. What was known before is
  still carried forward: the flags say that it is not new.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from proto.decode import layout
from schemas.errors import Rejected
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, TICK, Block, SessionClass

#: `layout()` of the record that this file was written for: compiled code has it built in.
_WRITTEN_FOR: Final = 0x5F66F30E

if layout() != _WRITTEN_FOR:
    raise ImportError(f"the tick record has changed: adapt {__name__}, then set its _WRITTEN_FOR to 0x{layout():X}")

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast(F, njit(cache=True, nogil=True)(function))


# Plain integers: compiled code reads enum members as objects.
_LTPC: Final = int(Block.LTPC)
_DEPTH: Final = int(Block.DEPTH)
_GREEKS: Final = int(Block.GREEKS)
_ATP: Final = int(Block.ATP)
_VTT: Final = int(Block.VTT)
_OI: Final = int(Block.OI)
_IV: Final = int(Block.IV)
_TBQ: Final = int(Block.TBQ)
_TSQ: Final = int(Block.TSQ)
_IEP: Final = int(Block.IEP)
_IEQ: Final = int(Block.IEQ)
_F_BASE: Final = int(Block.BASE)
_LOW: Final = (1 << KNOWN_SHIFT) - 1
_KNOWABLE: Final = (1 << 12) - 1  # the bits that exist twice

# Columns of the marks.
_BASE: Final = 0  # has not ticked since mark_base
_CHANGED: Final = 1  # has ticked since take_changed
_EMPTY: Final = -1  # a free slot


@_compiled
def _index(last: Any, slots: Any) -> None:
    """Fill the open-addressing table from id to row; it has a power of two of slots, half of them free or more."""
    slots[:] = _EMPTY
    mask = len(slots) - 1
    for row in range(len(last)):
        slot = last[row].id & mask
        while slots[slot] != _EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = row


@_compiled
def _find(identity: int, last: Any, slots: Any) -> int:
    mask = len(slots) - 1
    slot = identity & mask
    while True:
        row: int = slots[slot]
        if row == _EMPTY or last[row].id == identity:
            return row
        slot = (slot + 1) & mask


@_compiled
def _carry_forward(missing: int, state: Any, tick: Any) -> None:
    if missing & _LTPC:
        tick.ltp = state.ltp
        tick.ltt = state.ltt
        tick.ltq = state.ltq
        tick.cp = state.cp
    if missing & _DEPTH:
        tick.bid = state.bid
        tick.bid_qty = state.bid_qty
        tick.ask = state.ask
        tick.ask_qty = state.ask_qty
    if missing & _GREEKS:
        tick.delta = state.delta
        tick.theta = state.theta
        tick.gamma = state.gamma
        tick.vega = state.vega
        tick.rho = state.rho
    if missing & _ATP:
        tick.atp = state.atp
    if missing & _VTT:
        tick.vtt = state.vtt
    if missing & _OI:
        tick.oi = state.oi
    if missing & _IV:
        tick.iv = state.iv
    if missing & _TBQ:
        tick.tbq = state.tbq
    if missing & _TSQ:
        tick.tsq = state.tsq
    if missing & _IEP:
        tick.iep = state.iep
    if missing & _IEQ:
        tick.ieq = state.ieq


@_compiled
def _is_overtaken(carried: int, state: Any, tick: Any) -> bool:
    """Whether an older update, of the same connection, tells of a trade that ours have skipped."""
    if not carried & _LTPC or tick.ltt == 0 or tick.ltt > state.ltt:
        return False
    return bool(tick.vtt < state.vtt if carried & _VTT and tick.vtt else tick.ltt < state.ltt)


@_compiled
def _merge(rec: Any, first: int, rows: int, last: Any, slots: Any, marks: Any, overtaken: Any, whose: Any) -> int:
    """Merge in place; into `whose`, the place of each row's instrument. Returns how many rows have none."""
    n_unknown = 0
    for number in range(first, first + rows):
        tick = rec[number]
        row = _find(tick.id, last, slots)
        whose[number] = row
        if row == _EMPTY:
            n_unknown += 1
            continue
        state = last[row]
        carried = tick.flags & _KNOWABLE
        known = np.int64(state.flags) >> KNOWN_SHIFT  # signed: numba makes a float of both kinds together
        if carried & _LTPC:
            known &= ~(_IEP | _IEQ)
        missing = known & ~carried
        if missing:
            _carry_forward(missing, state, tick)
        if carried & _VTT and tick.vtt == 0:
            tick.vtt = state.vtt
        tick.flags = tick.flags & _LOW | (known | carried) << KNOWN_SHIFT
        tick.session = state.session
        if marks[row, _BASE]:
            marks[row, _BASE] = 0
            tick.flags |= _F_BASE
        if tick.ts >= state.ts:
            last[row] = rec[number]
            last[row].levels = 0
            marks[row, _CHANGED] = 1
        elif not tick.flags & _F_BASE and _is_overtaken(carried, state, tick):
            overtaken[row] = min(tick.ltt, overtaken[row]) if overtaken[row] else tick.ltt
    return n_unknown


@_compiled
def _names(whose: Any, seen: Any, turn: int, text: Any, ends: Any, out: Any) -> int:
    """Copy the text of each place, once and in the order of first appearance; how many bytes that made. What is in
    `seen` is of an earlier turn."""
    size = 0
    for place in whose:
        if seen[place] != turn:
            seen[place] = turn
            for at in range(ends[place], ends[place + 1]):
                out[size] = text[at]
                size += 1
    return size


class KeyCollision(Rejected):
    """Two instrument keys with the same id. The second one cannot be followed."""

    def __init__(self, key: str, known: str) -> None:
        super().__init__(f"{key} has the same instrument id as {known}")
        self.key = key
        self.known = known


class Merger:
    """The last state of every instrument we know, and the compiled merge of updates into it."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._row_of: dict[str, int] = {}
        self._key_of: dict[int, str] = {}
        self._last = np.empty(0, TICK)
        self._marks = np.empty((0, 2), np.uint8)
        self._overtaken = np.zeros(0, np.int64)  # the time of the oldest such trade, 0: none
        self._slots = np.full(2, _EMPTY, np.int32)
        self._turn = 0
        self._seen = self._ends = np.zeros(1, np.int64)  # by place, for `names`
        self._text = self._out = np.empty(0, np.uint8)  # the keys, each with a comma behind it; and room for them

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._keys)

    @property
    def last(self) -> npt.NDArray[Any]:
        """The last state of each instrument, in the order of `keys`: a view, good until instruments come or go.

        Its `levels` are 0 (no LEVEL rows are kept), the low half of its flags is that of the last update.
        """
        return self._last

    def register(self, keys: Iterable[tuple[str, SessionClass]]) -> None:
        """Follow these instruments, or change the session class of one already followed. The first record of a new
        one gets Block.BASE. All or none: raises KeyCollision before anything is changed."""
        wanted = dict(keys)
        ids = {key: instrument_id(key) for key in wanted if key not in self._row_of}
        taken = dict(self._key_of)
        for key, identity in ids.items():
            if taken.setdefault(identity, key) != key:
                raise KeyCollision(key, taken[identity])
        rows = np.zeros(len(ids), TICK)
        for name in TICK.names or ():
            if TICK[name].kind == "f":
                rows[name] = np.nan
        rows["id"] = list(ids.values())
        marks = np.zeros((len(ids), 2), np.uint8)
        marks[:, _BASE] = 1
        self._keep([*self._keys, *ids], np.concatenate([self._last, rows]), np.concatenate([self._marks, marks]))
        for key, session in wanted.items():
            self._last["session"][self._row_of[key]] = session

    def forget(self, keys: Iterable[str]) -> None:
        """Follow these no longer; a key that is not followed is passed over."""
        gone = set(keys)
        kept = [row for row, key in enumerate(self._keys) if key not in gone]
        self._keep([self._keys[row] for row in kept], self._last[kept], self._marks[kept])

    def mark_base(self, keys: Iterable[str]) -> None:
        """The feed starts anew for these: the next record of each gets Block.BASE."""
        self._marks[[self._row_of[key] for key in keys], _BASE] = 1

    def never_seen(self) -> list[str]:
        """The instruments that have not ticked since they were registered or marked last."""
        return [self._keys[row] for row in np.flatnonzero(self._marks[:, _BASE])]

    def merge(self, rec: npt.NDArray[Any], first_row: int, rows: int, whose: npt.NDArray[np.int32]) -> int:
        """Fill up these rows of `rec` in place and remember them. `whose`, as long as `rec`, gets the place of each
        row's instrument among `keys`: -1 where it is not followed, such a row stays as it is. Returns their number."""
        if first_row < 0 or rows < 0 or first_row + rows > min(len(rec), len(whose)):
            raise IndexError(f"rows {first_row} to {first_row + rows} of {len(rec)}")
        return int(_merge(rec, first_row, rows, self._last, self._slots, self._marks, self._overtaken, whose))

    def names(self, whose: npt.NDArray[np.int32]) -> bytes:
        """The keys of these rows' instruments, each once, in the order of first appearance, comma-separated."""
        self._turn += 1
        size = _names(whose, self._seen, self._turn, self._text, self._ends, self._out)
        return self._out[: max(0, size - 1)].tobytes()

    def take_changed(self) -> tuple[list[str], npt.NDArray[Any]]:
        """The instruments that have ticked since the last call, and their states."""
        changed = np.flatnonzero(self._marks[:, _CHANGED])
        self._marks[changed, _CHANGED] = 0
        return [self._keys[row] for row in changed], self._last[changed]

    def take_overtaken(self) -> dict[str, int]:
        """The instruments that were overtaken since the last call, and the time of the oldest trade that was lost."""
        rows = np.flatnonzero(self._overtaken)
        found = {self._keys[row]: int(self._overtaken[row]) for row in rows}
        self._overtaken[rows] = 0
        return found

    def memory(self) -> tuple[list[str], bytes, bytes]:
        """Keys, states and marks."""
        return self._keys, self._last.tobytes(), self._marks.tobytes()

    def recall(self, keys: list[str], states_and_marks: bytes) -> None:
        n = len(keys)
        last = np.frombuffer(states_and_marks, TICK, n).copy()
        marks = np.frombuffer(states_and_marks, np.uint8, 2 * n, last.nbytes).reshape(n, 2).copy()
        self._keep(keys, last, marks)

    def _keep(self, keys: list[str], last: npt.NDArray[Any], marks: npt.NDArray[np.uint8]) -> None:
        """Make these the instruments: states and marks in the order of the keys."""
        overtaken = self.take_overtaken()
        self._keys, self._last, self._marks = keys, last, marks
        self._overtaken = np.array([overtaken.get(key, 0) for key in keys], np.int64)
        self._row_of = {key: row for row, key in enumerate(keys)}
        self._key_of = dict(zip(last["id"].tolist(), keys, strict=True))
        self._seen = np.zeros(len(keys), np.int64)
        parts = [key.encode() + b"," for key in keys]
        self._text = np.frombuffer(b"".join(parts), np.uint8)
        self._ends = np.cumsum([0, *map(len, parts)])
        self._out = np.empty_like(self._text)
        self._slots = np.empty(1 << (2 * len(keys) | 1).bit_length(), np.int32)
        _index(last, self._slots)


def warm() -> None:
    """Compile the merge, or load it from the cache."""
    merger = Merger()
    merger.register([])
    none = np.empty(0, np.int32)
    merger.merge(np.empty(0, TICK), 0, 0, none)
    merger.names(none)
