"""The live day: a fold over all instruments at once.

`advance(to_ms)` carries the market to an instant and yields what changed, one update per interval. Every draw comes
from a generator of (seed, minute), so the same seed and the same intervals give the same ticks, whatever the wall clock
does and whoever is connected.

Prices are not simulated per instrument. The underlyings follow their paths; what everything else is worth follows from
them; a market maker quotes around that, the sooner the more the instrument trades; trades arrive as a Poisson process
and print at the bid or at the ask.

Within an interval all trades of an instrument print at one price, and an interval ends where a minute ends. Therefore
bars built from the conflated feed equal the candles exactly: open, high, low, close and volume.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from market.instruments import Instrument, session_class
from market.sessions import Phase
from sim import auctions, fair, paths
from sim.auctions import Auction
from sim.candles import LiveMinutes, Row, rows_of
from sim.columns import Columns
from sim.history import History, on_grid, shares_stop_ms
from sim.hours import MINUTE_MS, midnight_ms
from sim.noise import generator
from sim.universe import Listing

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Length of an interval where the feed does not conflate.
EVENT_STEP_MS: Final = 100

_REQUOTES: Final = 4.0  # a second, for what trades most
_BAND: Final = 0.10  # of the last close; options: of the underlying
_LEAN: Final = 0.22  # how much likelier a trade follows the quote than opposes it


@dataclass(frozen=True, slots=True)
class Trades:
    """Every single trade of an interval, in order of instrument and time."""

    row: I64
    ts: I64
    price: F64
    quantity: I64


@dataclass(frozen=True, slots=True)
class Update:
    """An interval ended at `ts`, and these rows are not what they were."""

    ts: int
    rows: I64
    trades: Trades


_NO_ROWS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Minute:
    """What holds for a whole minute, and the underlyings at the end of each of its intervals."""

    start_ms: int
    ends_ms: list[int]
    spots: F64  # intervals x paths
    open: Bools
    auctions: list[Auction]  # under way at some time of it
    trade_rate: F64
    quote_rate: F64
    oi: I64
    draw: np.random.Generator


class Market:
    """The state of one trading day. Arrays have one row per instrument of `listing`."""

    def __init__(self, listing: Listing, history: History, seed: int, now_ms: int, conflation_ms: int) -> None:
        self.listing = listing
        self.history = history
        self.hours = history.hours
        self.seed = seed
        self.on = listing.on
        self.columns = Columns.of(listing.instruments, self.on)
        self.conflation_ms = conflation_ms
        self.now_ms = now_ms - now_ms % MINUTE_MS
        self.since_ms = self.now_ms  # candles before come from history
        self._anchors = np.column_stack([history.paths.path(name, self.on) for name in self.columns.paths])
        self._anchor_ms = int(history.paths.times(self.on)[0])
        self._spans = [self._span(each) for each in listing.instruments]
        self._vols = np.array([paths.yearly_vol(history.paths.specs[name]) for name in self.columns.paths])
        self._shares_stop_ms = shares_stop_ms(self.hours, self.on)
        self._minute: _Minute | None = None
        self.auctions = auctions.of_day(self.columns, history, self.on)
        self._start()

    # --- state at the start ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        columns, count = self.columns, len(self.columns.instruments)
        before = self.hours.previous_trading_day(self.on)
        self.cp = self.history.closes(columns, before)
        self.ltp = self.cp.copy()
        self.ltt = np.full(count, self.hours.bounds(before)[1], np.int64)
        self.ltq = np.where(columns.index, 0, columns.lot)
        self.vtt = np.zeros(count, np.int64)
        self.turnover = np.zeros(count)
        self.oi = self._open_interest(self.now_ms)
        self.oi_before = self._open_interest(self._anchor_ms)  # where the last day ended
        self.oi_high, self.oi_low = self.oi.copy(), self.oi.copy()
        self.day_open, self.day_high, self.day_low = np.zeros(count), np.zeros(count), np.zeros(count)
        self.epoch = np.zeros(count, np.int64)
        self.candles = LiveMinutes(count, self.since_ms)
        self.iep, self.rp = np.zeros(count), np.zeros(count)
        self.ieq, self.iiq = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.iiq_market = np.zeros(count, np.int64)
        self._recall_matches(Phase.PRE_OPEN)
        for row, instrument in enumerate(columns.instruments):
            self._recall(row, instrument)
        self._recall_matches(Phase.CLOSING_AUCTION)
        self.spots = self._anchors[self._anchor_index(self.now_ms)]
        self.bid, self.ask = np.zeros(count), np.zeros(count)
        spot, vix = self.spots[columns.path], float(self.spots[-1])
        rate = columns.trade_rate(columns.moneyness(spot, vix, self.now_ms))
        self.band_low, self.band_high = self._band()
        self._quote(np.flatnonzero(~columns.index), rate)

    def _recall(self, row: int, instrument: Instrument) -> None:
        """The day so far, from history."""
        minutes = self.history.minutes(instrument, self.on).before(self.since_ms)
        if not len(minutes):
            return
        self.ltp[row] = minutes.close[-1]
        self.ltt[row] = minutes.ts[-1] + MINUTE_MS - 1
        self.vtt[row] += minutes.volume.sum()
        self.turnover[row] += (minutes.volume * (minutes.high + minutes.low + minutes.close) / 3).sum()
        self._widen_day(np.array([row]), minutes.open[0], minutes.high.max(), minutes.low.min())
        candles = self.candles
        candles.ts[row], candles.volume[row] = minutes.ts[-1], minutes.volume[-1]
        candles.open[row], candles.high[row] = minutes.open[-1], minutes.high[-1]
        candles.low[row], candles.close[row] = minutes.low[-1], minutes.close[-1]

    def _recall_matches(self, phase: Phase) -> None:
        self._match([each for each in self.auctions if each.phase is phase and each.match_ms < self.since_ms])

    def _band(self) -> tuple[F64, F64]:
        """Prices outside are refused. An option's band follows its underlying's, as a rough copy of the real rule."""
        columns = self.columns
        before = self.hours.previous_trading_day(self.on)
        spot = np.array([self.history.paths.close(name, before) for name in columns.paths])[columns.path]
        reach = _BAND * np.where(columns.option, spot, self.cp)
        low = np.maximum(on_grid(self.cp - reach, columns.tick), columns.tick)
        return low, on_grid(self.cp + reach, columns.tick)

    def _span(self, instrument: Instrument) -> tuple[tuple[int, int], ...]:
        return self.hours.continuous(instrument.segment, session_class(instrument, self.on), self.on)

    # --- time --------------------------------------------------------------------------------------------------------

    def advance(self, to_ms: int) -> Iterator[Update]:
        """Every interval that has ended by `to_ms`."""
        while True:
            minute = self._minute_at(self.now_ms)
            place = int(np.searchsorted(minute.ends_ms, self.now_ms, side="right"))
            if minute.ends_ms[place] > to_ms:
                return
            yield from self._interval(minute, place)

    def next_end_ms(self) -> int:
        """When the interval under way ends."""
        ends = self._minute_at(self.now_ms).ends_ms
        return ends[int(np.searchsorted(ends, self.now_ms, side="right"))]

    def _minute_at(self, now_ms: int) -> _Minute:
        start_ms = now_ms - now_ms % MINUTE_MS
        if self._minute is None or self._minute.start_ms != start_ms:
            self._minute = self._plan(start_ms)
        return self._minute

    def _plan(self, start_ms: int) -> _Minute:
        columns, end_ms = self.columns, start_ms + MINUTE_MS
        is_open = np.array([any(start <= start_ms < end for start, end in span) for span in self._spans])
        called = [each for each in self.auctions if each.start_ms <= end_ms and start_ms <= each.match_ms]
        anchors = self._anchors[
            [self._anchor_index(start_ms + knot) for knot in range(0, MINUTE_MS + 1, paths.POINT_MS)]
        ]
        draw = generator(self.seed, "live", start_ms)
        if not called and not is_open.any():  # one interval: nothing can happen before the minute is over
            idle = np.zeros(len(is_open))
            return _Minute(start_ms, [end_ms], anchors[-1:], is_open, [], idle, idle, self.oi, draw)
        step_ms = self.conflation_ms or EVENT_STEP_MS
        offsets = np.append(np.arange(step_ms, MINUTE_MS, step_ms), MINUTE_MS).astype(np.int64)
        moneyness = columns.moneyness(anchors[0][columns.path], float(anchors[0][-1]), start_ms)
        rate = columns.trade_rate(moneyness) * self._busy(start_ms)
        return _Minute(
            start_ms=start_ms,
            ends_ms=(start_ms + offsets).tolist(),
            spots=paths.fine(anchors, offsets, self._vols, draw),
            open=is_open,
            auctions=called,
            trade_rate=rate,
            quote_rate=0.15 + _REQUOTES * np.sqrt(np.minimum(rate / 14.0, 1.0)),
            oi=self._open_interest(end_ms),
            draw=draw,
        )

    def _anchor_index(self, now_ms: int) -> int:
        return min(max((now_ms - self._anchor_ms) // paths.POINT_MS, 0), len(self._anchors) - 1)

    def _busy(self, now_ms: int) -> float:
        if self.hours.never_closes(self.on):
            return 1.0
        return float(paths.activity(self.history.day_share(self.on, now_ms)))

    def _open_interest(self, now_ms: int) -> I64:
        lots = self.history.open_interest(self.columns, self.on, self.history.day_share(self.on, now_ms))
        return np.rint(lots).astype(np.int64) * self.columns.lot

    # --- one interval ------------------------------------------------------------------------------------------------

    def _interval(self, minute: _Minute, place: int) -> Iterator[Update]:
        start_ms, end_ms = self.now_ms, minute.ends_ms[place]
        seconds = (end_ms - start_ms) / 1_000
        draw, count = minute.draw, len(self.ltp)
        self.spots = minute.spots[place]
        quoting = draw.random(count) < -np.expm1(-minute.quote_rate * seconds)
        requoted = np.flatnonzero(quoting & minute.open & ~self.columns.index)
        self._quote(requoted, minute.trade_rate)
        counts = np.where(minute.open, draw.poisson(minute.trade_rate * seconds), 0)
        trades = self._draw_trades(draw, counts, start_ms, end_ms)
        if self.conflation_ms:
            traded = self._print(minute, trades)
        else:
            yield from self._one_by_one(minute, requoted, trades, start_ms)
            requoted = traded = trades.row[:0]
        ticked = self._tick_indices(minute, end_ms)
        called = self._hold_auctions(minute, start_ms, end_ms)
        self.now_ms = end_ms
        if end_ms == minute.start_ms + MINUTE_MS:
            self.candles.finish(minute.start_ms, self.oi)
        changed = np.zeros(count, np.bool_)
        for rows in (requoted, traded, ticked, called):
            changed[rows] = True
        yield Update(end_ms, np.flatnonzero(changed), trades)

    def _quote(self, rows: I64, trade_rate: F64) -> None:
        columns = self.columns
        worth = columns.worth(self.spots[columns.path[rows]], float(self.spots[-1]), float(self.now_ms), rows)
        tick, low, high = columns.tick[rows], self.band_low[rows], self.band_high[rows]
        half = fair.half_spread(worth, tick, trade_rate[rows])
        bid = np.floor((worth - half) / tick + 1e-9)
        ask = np.maximum(np.ceil((worth + half) / tick - 1e-9), bid + 1)
        bid, ask = np.round(bid * tick, 2), np.round(ask * tick, 2)
        self.bid[rows] = np.where(bid < low, 0.0, np.minimum(bid, np.round(high - tick, 2)))
        self.ask[rows] = np.clip(ask, np.round(low + tick, 2), high)
        self.epoch[rows] += 1

    def _draw_trades(self, draw: np.random.Generator, counts: I64, start_ms: int, end_ms: int) -> Trades:
        columns = self.columns
        traded = np.flatnonzero(counts)
        bid, ask = self.bid[traded], self.ask[traded]
        rising = np.sign((bid + ask) / 2 - self.ltp[traded])
        buys = draw.random(len(traded)) < 0.5 + _LEAN * rising
        price = np.where(buys | (bid == 0), ask, bid)
        row = np.repeat(traded, counts[traded])
        ts = draw.integers(start_ms, end_ms, len(row))
        lots = draw.geometric(1.0 / columns.mean_lots[row])
        order = np.lexsort((ts, row))
        return Trades(row, ts[order], np.repeat(price, counts[traded]), (lots * columns.lot[row]).astype(np.int64))

    def _one_by_one(self, minute: _Minute, requoted: I64, trades: Trades, start_ms: int) -> Iterator[Update]:
        """Every event its own update: the new quotes, then the trades, of which those of a millisecond share one."""
        nothing = slice(0, 0)
        none = Trades(trades.row[nothing], trades.ts[nothing], trades.price[nothing], trades.quantity[nothing])
        yield Update(start_ms, requoted, none)
        for ts in np.unique(trades.ts).tolist():
            now = trades.ts == ts
            part = Trades(trades.row[now], trades.ts[now], trades.price[now], trades.quantity[now])
            yield Update(ts, self._print(minute, part), part)

    def _print(self, minute: _Minute, trades: Trades) -> I64:
        """Let trades happen; the rows that traded."""
        if not len(trades.row):
            return trades.row
        last = np.append(np.flatnonzero(np.diff(trades.row)), len(trades.row) - 1)
        rows, price = trades.row[last], trades.price[last]
        volume = np.add.reduceat(trades.quantity, np.append(0, last[:-1] + 1))
        self.ltp[rows], self.ltt[rows], self.ltq[rows] = price, trades.ts[last], trades.quantity[last]
        self.vtt[rows] += volume
        self.turnover[rows] += price * volume
        self.oi[rows] = minute.oi[rows]
        self.oi_high[rows] = np.maximum(self.oi_high[rows], self.oi[rows])
        self.oi_low[rows] = np.minimum(self.oi_low[rows], self.oi[rows])
        self._mark(minute, rows, price, volume)
        return np.asarray(rows)

    def _tick_indices(self, minute: _Minute, end_ms: int) -> I64:
        """Index values are published, not traded: when they move and every second. They rest once their shares do."""
        columns = self.columns
        resting = minute.start_ms >= self._shares_stop_ms
        spots = self._anchors[self._anchor_index(self._shares_stop_ms)] if resting else self.spots
        rows = np.flatnonzero(columns.index & minute.open)
        value = np.round(spots[columns.path[rows]], 2)
        moved = (value != self.ltp[rows]) | (end_ms // 1_000 != self.now_ms // 1_000)
        rows, value = rows[moved], value[moved]
        self.ltp[rows], self.ltt[rows] = value, end_ms - 1
        self._mark(minute, rows, value, np.zeros(len(rows), np.int64))
        return np.asarray(rows)

    def _mark(self, minute: _Minute, rows: I64, price: F64, volume: I64) -> None:
        """Prices that happened enter the day's and the minute's candle."""
        self._widen_day(rows, price, price, price)
        self.candles.add(minute.start_ms, rows, price, volume)

    def _widen_day(self, rows: I64, first: F64, high: F64, low: F64) -> None:
        fresh = self.day_open[rows] == 0.0
        self.day_open[rows] = np.where(fresh, first, self.day_open[rows])
        self.day_high[rows] = np.maximum(self.day_high[rows], high)
        self.day_low[rows] = np.where(fresh, low, np.minimum(self.day_low[rows], low))

    # --- auctions ----------------------------------------------------------------------------------------------------

    def _hold_auctions(self, minute: _Minute, start_ms: int, end_ms: int) -> I64:
        """Indications once a second while orders are taken, then the match; the rows that changed."""
        now = [each for each in minute.auctions if each.start_ms <= end_ms and start_ms <= each.match_ms]
        if not now:
            return _NO_ROWS
        matched = [each for each in now if each.match_ms < end_ms]
        taking = [each for each in now if end_ms <= each.close_ms] if start_ms // 1_000 != end_ms // 1_000 else []
        self._match(matched)
        if taking:
            rows = np.array([each.row for each in taking])
            told = auctions.indication(self.columns, taking, end_ms)
            self.iep[rows], self.ieq[rows] = told.price, told.quantity
            self.iiq[rows], self.iiq_market[rows] = told.imbalance, told.market_imbalance
            self.rp[rows] = [each.reference for each in taking]
        return np.array([each.row for each in (*matched, *taking)], np.int64)

    def _match(self, matched: list[Auction]) -> None:
        """One trade each, outside of any minute candle; what was indicative is over."""
        for each in matched:
            row = each.row
            self.ltp[row], self.ltt[row], self.ltq[row] = each.price, each.match_ms, each.quantity
            self.vtt[row] += each.quantity
            self.turnover[row] += each.price * each.quantity
            price = np.array([each.price])
            self._widen_day(np.array([row]), price, price, price)
            for column in (self.iep, self.rp, self.ieq, self.iiq, self.iiq_market):
                column[row] = 0

    # --- what others ask ---------------------------------------------------------------------------------------------

    def today(self, row: int) -> list[Row]:
        """Today's minute candles of an instrument, oldest first, the forming one included."""
        return self.lived()(self.listing.instruments[row])

    def lived(self) -> Callable[[Instrument], list[Row]]:
        """The candles of this day for when it is over: without the market itself, which is large."""
        listing, history, candles, since_ms, oi = self.listing, self.history, self.candles, self.since_ms, self.oi

        def candles_of(instrument: Instrument) -> list[Row]:
            row = listing.row_of.get(instrument.key)
            if row is None:
                return []
            before = history.minutes(instrument, listing.on).before(since_ms)
            return rows_of(before) + candles.of(row, int(oi[row]))

        return candles_of

    @property
    def day_start_ms(self) -> int:
        return midnight_ms(self.on)
