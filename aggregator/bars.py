"""Fold tick entries into one-minute bars. Pure: bytes in, bars out; venue time comes from the entries alone.

Because the only clock is in the stream, the same entries always give the same bars, folded live, after a
restart or from a recording:

- A minute leaves when venue time has passed its end by the grace. All its bars leave together, ordered by key.
- What changes a bar later (a late trade, history, news about what the feed had covered) makes it leave again, with a
  higher `rev`, when venue time reaches its next whole second; several changes within a second leave as one.
- `complete` is decided by coverage: the feed has covered an instrument from its first update after a (re)connection
  until a `down` mark. A minute counts as complete where it lies inside.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator import kernel
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
    Covered,
    SourceCode,
    empty_bars,
)
from schemas.bars import HistoryBar, Source
from schemas.errors import Rejected
from schemas.streams import instrument_id
from schemas.ticks import FeedMark, SessionClass, TickBatch, nothing

#: The continuous intervals [start, end) of a day, epoch ms. Raises TejiError for a date that nobody knows.
Hours = Callable[[str, SessionClass, date], Sequence[tuple[int, int]]]

_VERSION: Final = 1
_FIRST_ROWS: Final = 256
_SECOND_MS: Final = 1000
_LIST: Final = 1024  # prints and leavers that the kernel reports per call
_OWED_MAX: Final = 50_000
_SOURCES: Final = (Source.LIVE, Source.BACKFILL, Source.MIXED)


@dataclass(frozen=True, slots=True)
class Closed:
    """A bar to publish: its JSON, and what the shell needs to file it."""

    instrument: str
    ts: int
    rev: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Printed:
    """A trade outside the continuous session: pre-open match, closing auction, post-close."""

    instrument: str
    ltt: int
    price: float
    volume: int


@dataclass(slots=True)
class Produced:
    bars: list[Closed] = field(default_factory=list)
    prints: list[Printed] = field(default_factory=list)


class BarBuilder:
    """The fold: `add` takes an entry and returns what leaves. `snapshot` and `restore` are its memory."""

    def __init__(self, hours: Hours, grace_ms: int = 2000) -> None:
        self._hours = hours
        self._grace_ms = grace_ms
        self.venue_ms = 0
        self.late = 0
        self._keys: list[str] = []
        self._rows = np.zeros(_FIRST_ROWS, ROW)
        self._bars = empty_bars(_FIRST_ROWS)
        self._slots = np.full(4 * _FIRST_ROWS, -1, np.int64)
        self._rank: npt.NDArray[np.int64] | None = None  # of each row's key among the keys
        self._owed: dict[tuple[int, int], Any] = {}  # (id, minute) -> incomplete bar that has left the ring
        self._prints = np.zeros(_LIST, PRINT)
        self._owed_ids = np.zeros(_LIST, np.int64)
        self._owed_bars = np.zeros(_LIST, BAR)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def closed_ms(self) -> int:
        """Minutes that start before this have left."""
        return (self.venue_ms - self._grace_ms) // MINUTE_MS * MINUTE_MS

    # Input

    def add(self, batch: TickBatch) -> Produced:
        out = Produced()
        if len(batch.rec):
            self._fold(batch, out)
            return out
        if batch.feed == FeedMark.DOWN:
            self._uncover(batch.keys, batch.ts)
        else:
            self._advance(batch.ts, out)
        if batch.bars:
            out.bars += self._learn(batch.bars)
        return out

    def _fold(self, batch: TickBatch, out: Produced) -> None:
        rec, at, level = batch.rec, 0, 0
        while True:
            at, level, why, prints, owed = kernel.fold(
                rec, at, batch.depth, level, self._boundary_ms, self.closed_ms, self._slots, self._rows, self._bars,
                self._prints, self._owed_ids, self._owed_bars,
            )  # fmt: skip
            self._take(prints, owed, out)
            if why == kernel.DONE:
                return
            if why == kernel.BOUNDARY:
                self._advance(int(rec[at]["ts"]), out)
            elif why == kernel.UNKNOWN:
                self._register(batch)
            elif why == kernel.HOURS:
                self._set_hours(int(rec[at]["id"]), int(rec[at]["ltt"]), SessionClass(int(rec[at]["session"])))

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
        ids, first = np.unique(batch.rec["id"], return_index=True)
        in_order = ids[np.argsort(first)].tolist()
        if [instrument_id(key) for key in batch.keys] != in_order:
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
        for name in ("gone_oi", "bid_wall", "ask_wall"):
            self._rows[row][name] = np.nan
        kernel.insert(self._slots, self._rows, row)
        return row

    def _grow(self) -> None:
        more = len(self._rows)
        self._rows = np.concatenate([self._rows, np.zeros(more, ROW)])
        self._bars = np.concatenate([self._bars, empty_bars(more)])
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
        self._fold(nothing(), Produced())

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
        self.venue_ms = venue_ms
        if leaving:
            out.bars += self._leaving()

    def _leaving(self) -> Iterator[Closed]:
        """Closed bars that were never published or have changed since: by minute, then by key."""
        n = len(self._keys)
        bars = self._bars[:n]
        rows, slots = np.nonzero((bars["dirty"] == 1) & (bars["minute"] < self.closed_ms))
        if not len(rows):
            return
        if self._rank is None:
            self._rank = np.empty(n, np.int64)
            self._rank[np.argsort(np.array(self._keys))] = np.arange(n)
        for i in np.lexsort((self._rank[rows], bars["minute"][rows, slots])).tolist():
            yield self._publish(int(rows[i]), bars[rows[i], slots[i]])

    # Output

    def _publish(self, row: int, bar: Any) -> Closed:
        record = self._rows[row]
        minute = int(bar["minute"])
        if bar["covered"] == Covered.OPEN:
            whole = record["covered_from"] <= minute and minute + MINUTE_MS <= record["covered_to"]
            bar["covered"] = Covered.YES if whole else Covered.NO
        before = self._oi_before(row, minute)
        data = _json(self._keys[row], bar, before)
        rev = int(bar["rev"])
        bar["rev"], bar["dirty"] = rev + 1, 0
        _mark(record, minute)
        return Closed(self._keys[row], minute, rev, data)

    def _oi_before(self, row: int, minute: int) -> float:
        """Open interest at the end of the newest earlier bar."""
        newest, oi = -1, np.nan
        if self._rows[row]["gone"] < minute:
            newest, oi = int(self._rows[row]["gone"]), float(self._rows[row]["gone_oi"])
        for bar in self._bars[row]:
            if newest < bar["minute"] < minute:
                newest, oi = int(bar["minute"]), float(bar["oi"])
        return oi

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
        """Minutes from the venue's history: they complete what the feed did not cover, and change nothing else.

        A minute whose bar is still in the ring leaves with the next revisions, an older one at once.
        """
        history = [HistoryBar(**item) for item in orjson.loads(body)]
        history.sort(key=lambda bar: (bar.ts, bar.instrument))
        older = (self._learn_bar(bar) for bar in history if bar.ts < self.closed_ms)
        return [bar for bar in older if bar is not None]

    def _learn_bar(self, told: HistoryBar) -> Closed | None:
        row = self._row(told.instrument)
        slot = self._bars[row, told.ts // MINUTE_MS % RING]
        owed = self._owed.pop((int(self._rows[row]["id"]), told.ts), None)
        if slot["minute"] == told.ts:
            if slot["covered"] == Covered.NO and slot["source"] == SourceCode.LIVE:
                _complete(slot, told)
        elif owed is not None:
            _complete(owed, told)
            return self._publish(row, owed)
        elif not _has(self._rows[row], told.ts):
            bar = np.zeros(1, BAR)[0]
            _begin(bar, told)
            if slot["minute"] < told.ts and told.ts >= self.closed_ms - RING * MINUTE_MS:
                self._bars[row, told.ts // MINUTE_MS % RING] = bar
            else:
                closed = self._publish(row, bar)
                self._let_go(row, bar)
                return closed
        return None

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
            }
        )
        body = self._rows[:n].tobytes() + self._bars[:n].tobytes() + owed.tobytes()
        return zlib.compress(len(head).to_bytes(4, "little") + head + body, level=1)

    def restore(self, snapshot: bytes) -> None:
        """Continue where `snapshot` was taken. Raises ValueError where it is none of ours."""
        try:
            raw = zlib.decompress(snapshot)
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
        self._index()


def _complete(bar: Any, told: HistoryBar) -> None:
    """Price and volume of the whole minute from history; what was seen live stays."""
    bar["open"], bar["high"], bar["low"], bar["close"] = told.open, told.high, told.low, told.close
    bar["volume"] = told.volume
    bar["value"] = np.nan  # history tells no average price
    if np.isnan(bar["oi"]) and told.oi is not None:
        bar["oi"] = told.oi
    bar["source"], bar["covered"], bar["dirty"] = SourceCode.MIXED, Covered.YES, 1


def _begin(bar: Any, told: HistoryBar) -> None:
    """A bar that history alone knows."""
    for name in ("oi", "iv", "delta", "gamma", "theta", "vega", "rho", "tbq", "tsq", "bid_wall", "ask_wall"):
        bar[name] = np.nan
    bar["minute"] = told.ts
    _complete(bar, told)
    bar["source"] = SourceCode.BACKFILL


def _mark(record: Any, minute: int) -> None:
    """Remember that a bar of this minute was published, for the newest day that had one."""
    day, of_day = divmod((minute + IST_MS) // MINUTE_MS, DAY_MS // MINUTE_MS)
    if day > record["have_day"]:
        record["have_day"] = day
        record["have"] = 0
    if day == record["have_day"]:
        record["have"][of_day // 8] |= 1 << (of_day % 8)


def _has(record: Any, minute: int) -> bool:
    """Whether a bar of this minute was published; days before the newest one count as published."""
    day, of_day = divmod((minute + IST_MS) // MINUTE_MS, DAY_MS // MINUTE_MS)
    if day != record["have_day"]:
        return bool(day < record["have_day"])
    return bool(record["have"][of_day // 8] >> (of_day % 8) & 1)


def _wall(price: float, qty: int) -> dict[str, float | int] | None:
    return {"price": price, "qty": qty} if qty > 0 else None


def _json(key: str, bar: Any, oi_before: float) -> bytes:
    """The bar as its readers get it; NaN becomes null."""
    volume, value, oi = int(bar["volume"]), float(bar["value"]), float(bar["oi"])
    return orjson.dumps(
        {
            "instrument": key,
            "ts": int(bar["minute"]),
            "open": float(bar["open"]),
            "high": float(bar["high"]),
            "low": float(bar["low"]),
            "close": float(bar["close"]),
            "volume": volume,
            "oi": oi,
            "oi_diff": oi - oi_before,
            "vwap": value / volume if volume else None,
            "iv": float(bar["iv"]),
            "delta": float(bar["delta"]),
            "gamma": float(bar["gamma"]),
            "theta": float(bar["theta"]),
            "vega": float(bar["vega"]),
            "rho": float(bar["rho"]),
            "bid_wall": _wall(float(bar["bid_wall"]), int(bar["bid_wall_qty"])),
            "ask_wall": _wall(float(bar["ask_wall"]), int(bar["ask_wall_qty"])),
            "tbq": float(bar["tbq"]),
            "tsq": float(bar["tsq"]),
            "ticks": int(bar["ticks"]),
            "source": _SOURCES[bar["source"]].value,
            "complete": bool(bar["covered"] == Covered.YES),
            "rev": int(bar["rev"]),
        }
    )


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    BarBuilder(lambda *_: ()).warm()
