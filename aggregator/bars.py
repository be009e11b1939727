"""Fold tick entries into one-minute bars. Pure: bytes in, bars out; venue time comes from the entries alone.

Because the only clock is in the stream, the same entries always give the same bars, folded live, after a
restart or from a recording:

- A minute leaves when venue time has passed its end by the grace. All its bars leave together, ordered by key.
- What changes a bar later (a late trade, history, news about what the feed had covered) makes it leave again, with a
  higher `rev`, when venue time reaches its next whole second; several changes within a second leave as one. So does
  what history tells of a minute that is gone, and either leaves sooner where its place in the ring is needed.
- `complete` is decided by coverage: the feed has covered an instrument from its first update after a (re)connection
  until a `down` mark. A minute counts as complete where it lies inside.
- As venue time crosses a minute's end, the state of all instruments with terms is taken (see moments.py). With the bars
  of the minute it leaves as the minute's panel, and the options among the bars get their own IV and Greeks from it.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator import greeks, kernel, moments
from aggregator.closed import Closed, closed
from aggregator.moments import Moment, PanelPart
from aggregator.published import Known, Published
from aggregator.state import (
    ANEW,
    BAR,
    DAY_MS,
    IST_MS,
    MINUTE_MS,
    NEVER,
    PRINT,
    RING,
    ROW,
    SEEN,
    TOLD,
    Covered,
    KindCode,
    SourceCode,
    empty_bars,
)
from market import black76
from schemas.bars import HistoryBar
from schemas.errors import Rejected
from schemas.panel import PANEL
from schemas.streams import instrument_id
from schemas.terms import Terms, TermsKind
from schemas.ticks import FeedMark, SessionClass, TickBatch, nothing

#: The continuous intervals [start, end) of a day, epoch ms. Raises TejiError for a date that nobody knows.
Hours = Callable[[str, SessionClass, date], Sequence[tuple[int, int]]]

__all__ = ["BarBuilder", "Closed", "Drift", "Hours", "Printed", "Produced", "warm"]

Ints = npt.NDArray[np.int64]

_VERSION: Final = 3
_FIRST_ROWS: Final = 256
_SECOND_MS: Final = 1000
_HOUR_MS: Final = 3_600_000
_LIST: Final = 1024  # prints and leavers that the kernel reports per call
_OWED_MAX: Final = 50_000
_OWED_MS: Final = 5 * DAY_MS  # over a long weekend; then history has had its say
_OPEN_TO_HISTORY: Final = (Covered.NO, Covered.PROVISIONAL)
_KINDS: Final = {
    TermsKind.OPTION: KindCode.OPTION,
    TermsKind.FUTURE: KindCode.FUTURE,
    TermsKind.SPOT: KindCode.SPOT,
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A trade outside the continuous session: pre-open match, closing auction, post-close."""

    instrument: str
    ltt: int
    price: float
    volume: int


@dataclass(frozen=True, slots=True)
class Drift:
    """Options that have left, by the flag of their own Greeks, and how far those are from the venue's."""

    flags: dict[str, int]
    iv: npt.NDArray[np.float64]  # absolute differences
    delta: npt.NDArray[np.float64]


@dataclass(slots=True)
class Produced:
    """What an entry makes leave. Minutes that start before `closed_ms` have left then, with or without bars.

    Where `wanted` names instruments, the entry is not folded to its end: their terms are needed first.
    """

    bars: list[Closed] = field(default_factory=list)
    prints: list[Printed] = field(default_factory=list)
    panels: list[PanelPart] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)  # one for each minute whose options have left
    closed_ms: int = 0
    wanted: tuple[str, ...] = ()


class BarBuilder:
    """The fold: `add` takes an entry and returns what leaves. `snapshot` and `restore` are its memory.

    With `asks` it wants to be told the terms of instruments: what they are is data from outside, like the entries.
    Whoever adds an entry answers `Produced.wanted` with `know`, and then calls `go_on` for the rest of what leaves.
    """

    def __init__(
        self, hours: Hours, grace_ms: int = 2000, *, asks: bool = False, shards: int = 1, rate: float = 0.0
    ) -> None:
        self._hours = hours
        self._grace_ms = grace_ms
        self._asks = asks
        self._shards = shards
        self._rate = rate
        self.venue_ms = 0
        self.late = 0
        self._keys: list[str] = []
        self._rows = np.zeros(_FIRST_ROWS, ROW)
        self._bars = empty_bars(_FIRST_ROWS)
        self._published = Published(_FIRST_ROWS)
        self._slots = np.full(4 * _FIRST_ROWS, -1, np.int64)
        self._rank: Ints | None = None  # of each row's key among the keys
        self._owed: dict[tuple[int, int], Any] = {}  # (id, minute) -> bar out of the ring that history may change
        self._moments: dict[int, Moment] = {}  # by minute: those that have not left yet
        self._prints = np.zeros(_LIST, PRINT)
        self._owed_ids = np.zeros(_LIST, np.int64)
        self._owed_bars = np.zeros(_LIST, BAR)
        self._rest: tuple[TickBatch, int, int, Produced] | None = None  # of an entry that waits for terms

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def known(self) -> tuple[Sequence[str], npt.NDArray[Any]]:
        """The instruments, and what is known of each."""
        return self._keys, self._rows[: len(self._keys)]

    @property
    def closed_ms(self) -> int:
        """Minutes that start before this have left."""
        return (self.venue_ms - self._grace_ms) // MINUTE_MS * MINUTE_MS

    # Input

    def add(self, batch: TickBatch) -> Produced:
        out = Produced()
        if len(batch.rec):
            self._fold(batch, 0, 0, out)
        elif batch.feed == FeedMark.DOWN:
            self._uncover(batch.keys, batch.ts)
        else:
            self._advance(batch.ts, out)
        if batch.bars:
            out.bars += self._learn(batch.bars)
        out.closed_ms = self.closed_ms
        return out

    def go_on(self) -> Produced:
        """All that the entry makes leave for whose sake terms were wanted, now that they are known."""
        if self._rest is None:
            return Produced(closed_ms=self.closed_ms)
        batch, at, level, out = self._rest
        self._rest, out.wanted = None, ()
        self._fold(batch, at, level, out)
        out.closed_ms = self.closed_ms
        return out

    def _fold(self, batch: TickBatch, at: int, level: int, out: Produced) -> None:
        rec, (depth, scale) = batch.rec, batch.sent
        while True:
            at, level, why, prints, owed = kernel.fold(
                rec, at, depth, scale, level, self._boundary_ms, self.closed_ms, self._slots, self._rows, self._bars,
                self._prints, self._owed_ids, self._owed_bars,
            )  # fmt: skip
            self._take(prints, owed, out)
            if why == kernel.DONE:
                return
            if why == kernel.BOUNDARY:
                self._advance(int(rec[at]["ts"]), out)
            elif why == kernel.UNKNOWN:
                self._register(batch)
                out.wanted = tuple(self.due([batch])[0])
                if out.wanted:
                    self._rest = batch, at, level, out
                    return
            elif why == kernel.HOURS:
                self._set_hours(int(rec[at]["id"]), int(rec[at]["ltt"]), SessionClass(int(rec[at]["session"])))
            elif why == kernel.LEAVING:
                self._leave(out)

    def _take(self, prints: int, owed: int, out: Produced) -> None:
        for row, ltt, price, volume in self._prints[:prints].tolist():
            out.prints.append(Printed(self._keys[row], ltt, price, volume))
        for i in range(owed):
            bar = self._owed_bars[i].copy()
            self._owed[int(self._owed_ids[i]), int(bar["minute"])] = bar
        while len(self._owed) > _OWED_MAX:
            del self._owed[next(iter(self._owed))]

    def _register(self, batch: TickBatch) -> None:
        """Rows for the instruments of an entry that have none. `keys` names them in order of first appearance."""
        if not _named(batch):
            raise Rejected("a ticks entry whose keys are not those of its records")
        for key in batch.keys:
            self._row(key)

    def _row(self, key: str) -> int:
        wanted = instrument_id(key)
        row = int(kernel.find(self._slots, self._rows, wanted))
        if row >= 0:
            return row
        if len(self._keys) == len(self._rows):
            self._grow()
        row = len(self._keys)
        self._keys.append(key)
        self._rank = None
        self._rows[row] = 0
        self._rows[row]["id"] = wanted
        self._rows[row]["ask_from"] = 0 if self._asks else NEVER
        for name in TOLD:
            self._rows[row][name] = np.nan
        kernel.insert(self._slots, self._rows, row)
        return row

    def _grow(self) -> None:
        more = len(self._rows)
        self._rows = np.concatenate([self._rows, np.zeros(more, ROW)])
        self._bars = np.concatenate([self._bars, empty_bars(more)])
        self._published.grow(len(self._rows))
        self._index()

    def _index(self) -> None:
        self._slots = np.full(4 * len(self._rows), -1, np.int64)
        for row in range(len(self._keys)):
            kernel.insert(self._slots, self._rows, row)

    def _set_hours(self, wanted: int, ltt: int, session: SessionClass) -> None:
        row = int(kernel.find(self._slots, self._rows, wanted))
        on = (datetime.fromtimestamp(ltt / 1000, UTC) + timedelta(milliseconds=IST_MS)).date()
        start = (ltt + IST_MS) // DAY_MS * DAY_MS - IST_MS
        intervals = [*self._hours(self._keys[row], session, on), (0, 0), (0, 0)]
        record = self._rows[row]
        record["session"] = session
        record["day_from"], record["day_to"] = start, start + DAY_MS
        record["open1"], record["close1"] = intervals[0]
        record["open2"], record["close2"] = intervals[1]

    def warm(self) -> None:
        """Run the kernel over nothing."""
        self._row("NSE_EQ|warm")
        for scale in (0, 1):  # both forms of depth
            self._fold(nothing(scale), 0, 0, Produced())

    # Terms

    def due(self, batches: Iterable[TickBatch]) -> tuple[list[str], int]:
        """Of the instruments of these entries, those whose terms have not been told in this hour of venue time, since
        the exchange gives the number of an expired contract to another one; and as of which time."""
        keys: dict[str, None] = {}
        ts = 0
        for batch in batches:
            if self._asks and len(batch.rec):
                keys |= dict.fromkeys(batch.keys)
                ts = max(ts, int(batch.rec["ts"].max()))
        rows = ((key, int(kernel.find(self._slots, self._rows, instrument_id(key)))) for key in keys)
        return [key for key, row in rows if row < 0 or self._rows[row]["ask_from"] <= ts], ts

    def know(self, terms: Mapping[str, Terms | None], ts: int) -> None:
        """The terms of instruments as of venue time `ts`; None for what has none."""
        for key, told in terms.items():
            row = self._row(key)  # which may make room: only then look at the rows
            record = self._rows[row]
            record["ask_from"] = (ts // _HOUR_MS + 1) * _HOUR_MS
            record["kind"] = _KINDS[told.kind] if told else KindCode.NONE
            record["underlying"] = instrument_id(told.underlying) if told else 0
            record["call"] = bool(told and told.is_call)
            record["strike"] = told.strike if told and told.strike is not None else np.nan
            record["last_trade"] = (told and told.last_trade_ms) or 0
            record["expiry"] = told.expiry.toordinal() if told and told.expiry else 0

    # Time

    @property
    def _boundary_ms(self) -> int:
        """Venue time at which something may have to leave: the next whole second, or a minute's end plus grace."""
        second = self.venue_ms // _SECOND_MS * _SECOND_MS + _SECOND_MS
        return min(second, self.closed_ms + MINUTE_MS + self._grace_ms)

    def _advance(self, venue_ms: int, out: Produced) -> None:
        if venue_ms <= self.venue_ms:
            return
        leaving = venue_ms >= self._boundary_ms
        if leaving and self.venue_ms:
            self._remember(venue_ms)
        self.venue_ms = venue_ms
        if leaving:
            self._leave(out)

    def _remember(self, venue_ms: int) -> None:
        """Take the moments of the minutes that venue time leaves."""
        first, now = self.venue_ms // MINUTE_MS * MINUTE_MS, venue_ms // MINUTE_MS * MINUTE_MS
        if first < now:
            for moment in moments.skipped(self._rows[: len(self._keys)], first, now - MINUTE_MS):
                self._moments[moment.minute] = moment
            if self._shards > 1:  # nothing of ours trades, or we have nothing: the others' panels wait for this one
                self._moments.setdefault(first, moments.nothing(first))

    def _leave(self, out: Produced) -> None:
        """Closed bars that were never published or have changed since, by minute and then by key; and the panels."""
        n = len(self._keys)
        bars = self._bars[:n]
        rows, slots = np.nonzero((bars["dirty"] == 1) & (bars["minute"] < self.closed_ms))
        minutes = bars["minute"][rows, slots]
        ended = {minute for minute in self._moments if minute < self.closed_ms}
        if not len(rows) and not ended:
            return
        if self._rank is None:
            self._rank = np.empty(n, np.int64)
            self._rank[np.argsort(np.array(self._keys))] = np.arange(n)
        for minute in sorted(ended.union(minutes.tolist())):
            moment = self._moments.pop(minute, None)
            of = np.flatnonzero(minutes == minute)
            of = of[np.argsort(self._rank[rows[of]])]
            out.bars += self._publish(rows[of], slots[of], minute, moment, out)
            if moment is not None:
                out.panels += moment.parts(self._rows[:n], self._keys, self._rank, self._shards)

    # Output

    def _publish(self, rows: Ints, slots: Ints, minute: int, moment: Moment | None, out: Produced) -> Iterator[Closed]:
        """Bars of one minute, in this order."""
        bars = self._bars[rows, slots]
        covered_from, covered_to = self._rows["covered_from"][rows], self._rows["covered_to"][rows]
        whole = (covered_from <= minute) & (minute + MINUTE_MS <= covered_to)
        decided = np.where(whole, Covered.YES, Covered.NO)
        bars["covered"] = np.where(bars["covered"] == Covered.OPEN, decided, bars["covered"])
        self._price(rows, bars, minute, moment, out)
        before = self._oi_before(rows, minute)
        shown = bars.tolist()
        self._published.mark(rows, minute, bars["rev"], np.isin(bars["covered"], _OPEN_TO_HISTORY))
        bars["rev"] += 1
        bars["dirty"] = 0
        self._bars[rows, slots] = bars
        for row, values, oi in zip(rows.tolist(), shown, before.tolist(), strict=True):
            yield closed(self._keys[row], values, oi)

    def _price(self, rows: Any, bars: Any, minute: int, moment: Moment | None, out: Produced) -> None:
        """Own IV and Greeks of the options among these bars: new for the first publication, else as they were."""
        options = self._rows["kind"][rows] == KindCode.OPTION
        fresh = options & (bars["rev"] == 0) & (bars["source"] != SourceCode.BACKFILL)
        if fresh.any():
            some = bars[fresh]
            greeks.price(some, rows[fresh], moment, self._rows, self._rate)
            bars[fresh] = some
            out.drifts.append(_drift(some))
        again = options & ~fresh & (bars["own_flag"] != greeks.NO_MODEL)
        if again.any():
            some = bars[again]
            greeks.price_again(some, self._rows[rows[again]], minute, self._rate)
            bars[again] = some

    def _publish_old(self, row: int, one: npt.NDArray[Any], told: HistoryBar) -> Closed:
        """A bar that is not in the ring, in an array of its own. It is at a higher revision afterwards."""
        minute, rows = int(one["minute"][0]), np.array([row])
        self._price(rows, one, minute, None, Produced())
        shown, oi = one.tolist()[0], float(self._oi_before(rows, minute)[0])
        self._published.mark(rows, minute, one["rev"], not told.final)
        one["rev"] += 1
        return closed(self._keys[row], shown, told.oi_before if np.isnan(oi) and told.oi_before is not None else oi)

    def _oi_before(self, rows: Ints, minute: int) -> npt.NDArray[np.float64]:
        """Open interest at the end of the newest earlier bar of each row."""
        bars, gone = self._bars[rows], self._rows["gone"][rows]
        earlier = np.where(bars["minute"] < minute, bars["minute"], -1)
        newest = earlier.argmax(axis=1)
        at = np.arange(len(rows))
        in_ring = np.where(earlier[at, newest] >= 0, bars["oi"][at, newest], np.nan)
        older = (gone < minute) & (gone >= earlier[at, newest])
        return np.where(older, self._rows["gone_oi"][rows], in_ring)

    # What the feed covered

    def _uncover(self, keys: Sequence[str], ts: int) -> None:
        """The feed told nothing after `ts`. Bars that left as complete and reach beyond leave again, corrected."""
        n = len(self._keys)
        rows = self._rows[:n]
        hit = np.isin(rows["id"], [instrument_id(key) for key in keys]) if keys else np.ones(n, bool)
        ended = hit & (rows["covered_to"] == NEVER)
        rows["covered_to"][ended] = ts
        bars = self._bars[:n]
        beyond = (
            ended[:, None] & (bars["minute"] >= 0) & (bars["minute"] + MINUTE_MS > ts) & (bars["covered"] != Covered.NO)
        )
        bars["dirty"][beyond] = 1
        bars["covered"][beyond] = Covered.NO

    def lose(self) -> None:
        """Entries are gone that nobody has folded: nothing is known from here until each instrument's next update."""
        self._uncover((), self.venue_ms)
        rows = self._rows[: len(self._keys)]
        rows["seen"][rows["seen"] == SEEN] = ANEW

    # History

    def _learn(self, body: bytes) -> list[Closed]:
        """Minutes from the venue's history: they complete what the feed did not cover, and correct what history itself
        had told before. What the feed covered in full they never change.

        A minute whose bar is still in the ring leaves with the next revisions, an older one at once.
        """
        history = [HistoryBar(**item) for item in orjson.loads(body)]
        history.sort(key=lambda bar: (bar.ts, bar.instrument))
        while self._owed and (oldest := next(iter(self._owed)))[1] < self.venue_ms - _OWED_MS:
            del self._owed[oldest]
        older = (self._learn_bar(bar) for bar in history if bar.ts < self.closed_ms)
        return [bar for bar in older if bar is not None]

    def _learn_bar(self, told: HistoryBar) -> Closed | None:
        row = self._row(told.instrument)
        slot = self._bars[row, told.ts // MINUTE_MS % RING]
        if slot["minute"] == told.ts:
            self._learn_open(row, slot, told)
            return None
        where = (int(self._rows[row]["id"]), told.ts)
        if where in self._owed:
            return self._learn_owed(row, where, told)
        known = self._published.known(row, told.ts)
        if known is Known.OPEN and told.final:
            one = _begun(told)
            one["rev"] = self._published.next_rev(row, told.ts)
            return self._publish_old(row, one, told)
        if told.fills and known in (Known.ABSENT, Known.FORGOTTEN):
            return self._learn_absent(row, told)
        return None

    def _learn_open(self, row: int, bar: Any, told: HistoryBar) -> None:
        """A bar in the ring."""
        source = bar["source"]
        if told.fills and bar["covered"] == Covered.NO and source == SourceCode.LIVE:
            _complete(bar, told)
        elif told.final and bar["covered"] == Covered.PROVISIONAL:
            if not _says(bar, told):
                _complete(bar, told)
                bar["source"] = source
            bar["covered"] = Covered.YES
            self._published.settle(row, told.ts)

    def _learn_owed(self, row: int, where: tuple[int, int], told: HistoryBar) -> Closed | None:
        """A bar of which we have seen a part. It stays owed for as long as history is not sure."""
        owed = self._owed[where]
        if told.final:
            del self._owed[where]
        elif owed["covered"] != Covered.NO:
            return None
        if owed["covered"] == Covered.PROVISIONAL and _says(owed, told):
            self._published.settle(row, told.ts)
            return None
        one = np.array([owed], BAR)
        _complete(one[0], told)
        closed = self._publish_old(row, one, told)
        if not told.final:
            self._owed[where] = one[0]
        return closed

    def _learn_absent(self, row: int, told: HistoryBar) -> Closed | None:
        """A minute of which nobody has seen anything."""
        one, at = _begun(told), told.ts // MINUTE_MS % RING
        there = self._bars[row, at]  # where it has news, history told it just now, and it has yet to leave
        free = there["minute"] < told.ts and there["dirty"] == 0
        if free and told.ts >= self.closed_ms - RING * MINUTE_MS:
            self._bars[row, at] = one[0]
            return None
        closed = self._publish_old(row, one, told)
        self._let_go(row, one[0])
        return closed

    def _let_go(self, row: int, bar: Any) -> None:
        """Remember the open interest of a bar that is not in the ring, for the next bar's difference."""
        if bar["minute"] > self._rows[row]["gone"]:
            self._rows[row]["gone"], self._rows[row]["gone_oi"] = bar["minute"], bar["oi"]

    # Memory

    def snapshot(self) -> bytes:
        n = len(self._keys)
        owed = np.array(list(self._owed.values()), BAR)
        head = orjson.dumps(
            {
                "version": _VERSION,
                "venue_ms": self.venue_ms,
                "keys": self._keys,
                "owed": [wanted for wanted, _ in self._owed],
                "moments": [(minute, len(moment.rows)) for minute, moment in self._moments.items()],
            }
        )
        body = self._rows[:n].tobytes() + self._bars[:n].tobytes() + owed.tobytes()
        for moment in self._moments.values():
            body += moment.rows.tobytes() + moment.seen.tobytes()
        packed = zlib.compress(len(head).to_bytes(4, "little") + head + body, level=1)
        return len(packed).to_bytes(4, "little") + packed + self._published.snapshot(n)

    def restore(self, snapshot: bytes) -> None:
        """Continue where `snapshot` was taken. Raises ValueError where it is none of ours."""
        try:
            first = 4 + int.from_bytes(snapshot[:4], "little")
            raw = zlib.decompress(snapshot[4:first])
        except zlib.error as error:
            raise ValueError(f"not a snapshot of the aggregator: {error}") from None
        end = 4 + int.from_bytes(raw[:4], "little")
        head = orjson.loads(raw[4:end])
        if head.get("version") != _VERSION:
            raise ValueError(f"a snapshot of version {head.get('version')}, not {_VERSION}")
        self._keys, self.venue_ms, self._rank = head["keys"], head["venue_ms"], None
        n = len(self._keys)
        room = max(_FIRST_ROWS, 1 << (n - 1).bit_length() if n else 0)
        rows = np.frombuffer(raw, ROW, n, end)
        bars = np.frombuffer(raw, BAR, n * RING, end + rows.nbytes)
        owed = np.frombuffer(raw, BAR, len(head["owed"]), end + rows.nbytes + bars.nbytes)
        self._rows, self._bars = np.zeros(room, ROW), empty_bars(room)
        self._rows[:n], self._bars[:n] = rows, bars.reshape(n, RING)
        self._owed = {(wanted, int(bar["minute"])): bar.copy() for wanted, bar in zip(head["owed"], owed, strict=True)}
        self._moments, at = {}, end + rows.nbytes + bars.nbytes + owed.nbytes
        for minute, count in head["moments"]:
            of = np.frombuffer(raw, np.int64, count, at)
            seen = np.frombuffer(raw, PANEL, count, at + of.nbytes)
            self._moments[minute] = Moment(minute, of, seen)
            at += of.nbytes + seen.nbytes
        self._published.restore(snapshot[first:], n, room)
        self._index()


def _complete(bar: Any, told: HistoryBar) -> None:
    """Price and volume of the whole minute from history; what was seen live stays."""
    bar["open"], bar["high"], bar["low"], bar["close"] = told.open, told.high, told.low, told.close
    bar["volume"] = told.volume
    bar["value"] = np.nan  # history tells no average price
    if np.isnan(bar["oi"]) and told.oi is not None:
        bar["oi"] = told.oi
    bar["source"], bar["dirty"] = SourceCode.MIXED, 1
    bar["covered"] = Covered.YES if told.final else Covered.PROVISIONAL


def _begun(told: HistoryBar) -> npt.NDArray[Any]:
    """A bar that history alone knows, in an array of its own."""
    one = np.zeros(1, BAR)
    for name in ("oi", "iv", "delta", "gamma", "theta", "vega", "rho", "tbq", "tsq", "bid_wall", "ask_wall"):
        one[name] = np.nan
    one["minute"] = told.ts
    _complete(one[0], told)
    one["source"] = SourceCode.BACKFILL
    return one


def _says(bar: Any, told: HistoryBar) -> bool:
    """Whether history tells what the bar has."""
    mine = (bar["open"], bar["high"], bar["low"], bar["close"], bar["volume"])
    return bool(mine == (told.open, told.high, told.low, told.close, told.volume))


def _named(batch: TickBatch) -> bool:
    """Whether the keys of an entry are those of its records, in order of first appearance."""
    ids, first = np.unique(batch.rec["id"], return_index=True)
    in_order: list[int] = ids[np.argsort(first)].tolist()
    return [instrument_id(key) for key in batch.keys] == in_order


def _drift(options: npt.NDArray[Any]) -> Drift:
    flags, counts = np.unique(options["own_flag"], return_counts=True)
    both = (options["own_flag"] == greeks.OK) & (options["iv"] > 0) & ~np.isnan(options["delta"])
    some = options[both]
    return Drift(
        {greeks.FLAGS[flag]: count for flag, count in zip(flags.tolist(), counts.tolist(), strict=True)},
        np.abs(some["own_iv"] - some["iv"]),
        np.abs(some["own_delta"] - some["delta"]),
    )


def warm() -> None:
    """Compile the kernels, or load them from the cache."""
    BarBuilder(lambda *_: ()).warm()
    black76.warm()
