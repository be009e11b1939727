"""The compiled inner loop: tick records into open bars. Semantics are design 4.3's; `bars.py` says the rest.

The loop runs until something needs Python: a record at or past the next boundary of venue time (bars may have to
leave), an instrument it has no row for or whose terms have to be looked up, a trade on a day whose hours it does not
know, a full list of prints, or a bar that has to leave before its place is taken. It returns how far it came and why,
and is called again.
"""

from typing import Final

import numba
import numpy as np

from aggregator.state import DAY_MS, IST_MS, MINUTE_MS, NEVER, RING, SEEN, Covered, SourceCode, layout
from schemas.ticks import Block, Kind

#: `layout()` of the records that this file was written for: numba's cache notices a change in this file only, and old
#: machine code would go on reading and writing the old layout.
_WRITTEN_FOR: Final = 0xD40E8C38

if layout() != _WRITTEN_FOR:
    raise ImportError(f"the records have changed: adapt {__name__}, then set its _WRITTEN_FOR to 0x{layout():X}")

DONE = 0
BOUNDARY = 1
UNKNOWN = 2
HOURS = 3
FULL = 4
LEAVING = 5

_LTPC = int(Block.LTPC)
_BASE = int(Block.BASE)
_MARKET = int(Kind.MARKET)
_GREEKS = int(Kind.GREEKS)
_YES = Covered.YES
_NO = Covered.NO
_PROVISIONAL = Covered.PROVISIONAL
_OPEN = Covered.OPEN
_LIVE = SourceCode.LIVE
_MIXED = SourceCode.MIXED
_NEVER = NEVER


@numba.njit(cache=True, inline="always")
def find(slots, rows, wanted):  # type: ignore[no-untyped-def]
    """Row of an instrument id, or -1. Open addressing; `slots` has a power of two of entries, -1 is empty."""
    mask = slots.size - 1
    at = (wanted ^ (wanted >> 32)) & mask
    while slots[at] >= 0:
        if rows[slots[at]].id == wanted:
            return slots[at]
        at = (at + 1) & mask
    return -1


@numba.njit(cache=True)
def insert(slots, rows, row):  # type: ignore[no-untyped-def]
    mask = slots.size - 1
    at = (rows[row].id ^ (rows[row].id >> 32)) & mask
    while slots[at] >= 0:
        at = (at + 1) & mask
    slots[at] = row


@numba.njit(cache=True)
def _restart(row, bars, r, ts):  # type: ignore[no-untyped-def]
    """The feed covers the instrument anew from `ts`: what is still undecided is decided by the coverage that ended."""
    ended = row.covered_to if row.covered_to != _NEVER else row.ts
    for s in range(RING):
        bar = bars[r, s]
        if bar.minute >= 0 and bar.covered == _OPEN:
            whole = row.seen != 0 and row.covered_from <= bar.minute and bar.minute + MINUTE_MS <= ended
            bar.covered = _YES if whole else _NO
    if ended - row.covered_from >= MINUTE_MS:  # a shorter stretch covers no minute
        row.was_from = row.covered_from
        row.was_to = ended
    row.covered_from = ts
    row.covered_to = _NEVER


@numba.njit(cache=True)
def _continue(row, bars, r):  # type: ignore[no-untyped-def]
    """A record without a new base: the feed had not been away after all, ingest was only slow to say so.

    It publishes everything, in order, so the bars that were called incomplete meanwhile are not.
    """
    for s in range(RING):
        bar = bars[r, s]
        called = bar.covered == _NO and bar.minute + MINUTE_MS > row.covered_to
        if bar.minute >= 0 and called and bar.minute >= row.covered_from:
            bar.covered = _YES if bar.rev > 0 else _OPEN
            bar.dirty = 1
    row.covered_to = _NEVER


@numba.njit(cache=True, inline="always")
def _has_volume(tick):  # type: ignore[no-untyped-def]
    """Whether this kind of update tells the day's volume at all (where it is absent, it is zero)."""
    return tick.kind == _MARKET or tick.kind == _GREEKS


@numba.njit(cache=True, inline="always")
def _traded(row, tick, base, day):  # type: ignore[no-untyped-def]
    """Is this update a trade, and of which volume? Returns -1 for no trade. Takes over the new last trade."""
    has_vtt = _has_volume(tick)
    volume = np.int64(-1)
    if base:
        fresh = (
            row.seen == 0
            or day > row.day
            or (has_vtt and tick.vtt > row.vtt)
            or (tick.ltt > row.ltt and not (has_vtt and tick.vtt < row.vtt))
        )
        if fresh and tick.ltt // MINUTE_MS == tick.ts // MINUTE_MS:
            volume = np.int64(0)  # what was traded before we looked is not known
        if not fresh:
            return volume
    elif day < row.day:
        return volume
    elif has_vtt and row.vtt_known == 0:
        volume = np.int64(0 if tick.ltt > row.ltt else -1)  # no volume was told before: this sets the base
        row.vtt = tick.vtt
        row.vtt_known = 1
    elif has_vtt and day > row.day:
        volume = tick.vtt  # a new session counts from zero
    elif has_vtt:
        if tick.vtt > row.vtt:
            volume = tick.vtt - row.vtt
        elif tick.vtt == row.vtt and tick.ltt > row.ltt:
            volume = np.int64(0)
    elif day > row.day or tick.ltt > row.ltt or (tick.ltt == row.ltt and tick.ltp != row.ltp):
        volume = np.int64(0)
    if base or volume >= 0:
        row.ltp = tick.ltp
        row.ltt = tick.ltt
        row.day = day
        if has_vtt:
            row.vtt = tick.vtt
            row.vtt_known = 1
    return volume


@numba.njit(cache=True)
def _walls(row, depth, first, levels, scale):  # type: ignore[no-untyped-def]
    """The level with the most quantity on each side; of equals the one nearer the touch. `depth` is as it was sent:
    whole numbers of 1/scale are half the bytes, and only two prices of a book are needed."""
    bid_qty, ask_qty = np.int64(0), np.int64(0)
    for i in range(first, first + levels):
        level = depth[i]
        if level.bid_qty > bid_qty:
            bid_qty = np.int64(level.bid_qty)
            row.bid_wall = level.bid / scale
        if level.ask_qty > ask_qty:
            ask_qty = np.int64(level.ask_qty)
            row.ask_wall = level.ask / scale
    row.bid_wall_qty = bid_qty
    row.ask_wall_qty = ask_qty


@numba.njit(cache=True)
def _see(bar, row, tick):  # type: ignore[no-untyped-def]
    """What the bar tells as last seen."""
    bar.oi = tick.oi
    bar.iv = tick.iv
    bar.delta = tick.delta
    bar.gamma = tick.gamma
    bar.theta = tick.theta
    bar.vega = tick.vega
    bar.rho = tick.rho
    bar.tbq = tick.tbq
    bar.tsq = tick.tsq
    bar.bid_wall = row.bid_wall
    bar.bid_wall_qty = row.bid_wall_qty
    bar.ask_wall = row.ask_wall
    bar.ask_wall_qty = row.ask_wall_qty


@numba.njit(cache=True)
def _see_now(bars, r, row, tick):  # type: ignore[no-untyped-def]
    """News without a trade belong to the minute in which they come, where it has a bar."""
    now = tick.ts - tick.ts % MINUTE_MS
    bar = bars[r, (now // MINUTE_MS) % RING]
    if bar.minute == now:
        _see(bar, row, tick)


@numba.njit(cache=True, inline="always")
def _remember(row, tick):  # type: ignore[no-untyped-def]
    """The newest state of the instrument, for the minute's panel."""
    row.ts = tick.ts
    row.cp = tick.cp
    row.oi = tick.oi
    row.iv = tick.iv
    row.delta = tick.delta
    row.theta = tick.theta
    row.gamma = tick.gamma
    row.vega = tick.vega
    row.rho = tick.rho
    row.bid = tick.bid
    row.bid_qty = tick.bid_qty
    row.ask = tick.ask
    row.ask_qty = tick.ask_qty


@numba.njit(cache=True)
def start_bar(bar, minute, price):  # type: ignore[no-untyped-def]
    bar.minute = minute
    bar.open = price
    bar.high = price
    bar.low = price
    bar.close = price
    bar.volume = 0
    bar.value = 0.0
    bar.ticks = 0
    bar.rev = 0
    bar.source = _LIVE
    bar.covered = _OPEN
    bar.own_flag = 0
    bar.dirty = 0


@numba.njit(cache=True)
def _trade(bar, price, volume):  # type: ignore[no-untyped-def]
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.close = price
    bar.volume += volume
    bar.value += price * volume
    bar.ticks += 1
    bar.dirty = 1


@numba.njit(cache=True, inline="always")
def _in_session(row, ltt):  # type: ignore[no-untyped-def]
    return row.open1 <= ltt < row.close1 or row.open2 <= ltt < row.close2


@numba.njit(cache=True)
def _note(print_, r, tick, volume):  # type: ignore[no-untyped-def]
    print_.row = r
    print_.ltt = tick.ltt
    print_.price = tick.ltp
    print_.volume = volume


@numba.njit(cache=True)
def _book(bar, row, tick, minute, volume, closed_ms, owed_ids, owed, n_owed):  # type: ignore[no-untyped-def]
    """A trade into the bar of its minute, for which an older bar may have to leave the ring. Returns the owed ones."""
    if bar.minute > minute:
        row.late += 1
        return n_owed
    fresh = bar.minute < minute
    if fresh:
        if bar.minute >= 0:
            if bar.minute > row.gone:
                row.gone = bar.minute
                row.gone_oi = bar.oi
            part_seen = bar.covered == _NO or (bar.covered == _PROVISIONAL and bar.source == _MIXED)
            if part_seen and bar.rev > 0:
                owed_ids[n_owed] = row.id
                owed[n_owed] = bar  # history may still complete it
                n_owed += 1
        start_bar(bar, minute, tick.ltp)
    if fresh or (tick.ts >= row.ts and minute >= closed_ms):
        _see(bar, row, tick)
    _trade(bar, tick.ltp, volume)
    return n_owed


@numba.njit(cache=True, inline="always")
def _in_the_way(bar, ltt, closed_ms):  # type: ignore[no-untyped-def]
    """Whether the trade's place in the ring holds an older bar with news that have not left: history came just now."""
    return 0 <= bar.minute < min(ltt - ltt % MINUTE_MS, closed_ms) and bar.dirty == 1


@numba.njit(cache=True)
def fold(rec, first, depth, scale, level, until_ms, closed_ms, slots, rows, bars, prints, owed_ids, owed):  # type: ignore[no-untyped-def]
    """Fold `rec[first:]` while its venue time is below `until_ms`; minutes before `closed_ms` have left already.

    Returns (next record, next level, why, prints made, incomplete bars that left the ring).
    """
    n_prints, n_owed = 0, 0
    for i in range(first, rec.size):
        tick = rec[i]
        if tick.ts >= until_ms:
            return i, level, BOUNDARY, n_prints, n_owed
        r = find(slots, rows, tick.id)
        if r < 0 or tick.ts >= rows[r].ask_from:
            return i, level, UNKNOWN, n_prints, n_owed
        row = rows[r]
        has_trade = (tick.flags & _LTPC) != 0 and tick.ltt > 0 and tick.ltp > 0.0
        if tick.ltt > tick.ts + MINUTE_MS:  # a trade from the future: believing it would close today's minutes
            has_trade = False
        if has_trade and tick.ltt >= row.day_to:
            return i, level, HOURS, n_prints, n_owed
        if n_prints == prints.size or n_owed == owed.size:
            return i, level, FULL, n_prints, n_owed
        if has_trade and _in_the_way(bars[r, (tick.ltt // MINUTE_MS) % RING], tick.ltt, closed_ms):
            return i, level, LEAVING, n_prints, n_owed

        base = (tick.flags & _BASE) != 0 or row.seen != SEEN
        resumed = not base and row.covered_to != _NEVER
        if base:
            _restart(row, bars, r, tick.ts)
        if tick.levels > 0:
            if tick.ts >= row.ts:
                _walls(row, depth, level, tick.levels, scale)
            level += tick.levels

        volume = np.int64(-1)
        if has_trade:
            volume = _traded(row, tick, base, (tick.ltt + IST_MS) // DAY_MS)
        elif (tick.flags & _LTPC) != 0 and tick.ltt == 0 and _has_volume(tick):
            row.vtt_known = 1  # never traded: its volume counts from zero
        row.seen = SEEN
        minute = np.int64(-1)
        if volume >= 0 and tick.ltt >= row.day_from:
            if _in_session(row, tick.ltt):
                minute = tick.ltt - tick.ltt % MINUTE_MS
            elif not base:
                _note(prints[n_prints], r, tick, volume)
                n_prints += 1

        newest = tick.ts >= row.ts
        if newest:
            _remember(row, tick)
        if minute >= 0:
            n_owed = _book(
                bars[r, (minute // MINUTE_MS) % RING], row, tick, minute, volume, closed_ms, owed_ids, owed, n_owed
            )
        elif newest:
            _see_now(bars, r, row, tick)
        if resumed:  # now: a bar that this record pushed out of the ring went as it was published
            _continue(row, bars, r)
    return rec.size, level, DONE, n_prints, n_owed
