"""The state of the market as bytes of the feed's frames.

An instrument's block depends on its mode and not on who asked for it. So each (mode, instrument) is encoded at most
once per change, and a frame is a header, the blocks of its keys and a time, put together. Blocks come from the
generated class, one message kept per block and written over in place: building it anew would cost three times as much.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from market.instruments import Instrument
from proto import feed_pb2 as pb
from sim.market import Market
from sim.settings import Mode
from sim.snapshot import Snapshot, snapshot

I64 = npt.NDArray[np.int64]

MODES: Final[tuple[Mode, ...]] = ("ltpc", "option_greeks", "full", "full_d30")

LIVE: Final = b"\x08\x01"  # type = live_feed; initial_feed is 0 and therefore not sent
_FEEDS: Final = b"\x12"  # field 2, once per map entry
_KEY: Final = b"\x0a"  # field 1 of a map entry
_VALUE: Final = b"\x12"  # field 2 of a map entry
_CURRENT_TS: Final = b"\x18"  # field 3
_LEVELS: Final[Mapping[Mode, int]] = {"ltpc": 0, "option_greeks": 1, "full": 5, "full_d30": 30}
_PARTS: Final = ("ltpc", "marketLevel", "optionGreeks", "marketOHLC")

RowsByMode = Mapping[Mode, Sequence[int]]
#: Row -> version of the block that a client got last, in the mode it has for that row.
Versions = dict[int, int]


class Encoder:
    """The blocks of one market day."""

    def __init__(self, market: Market, *, partial: bool = False) -> None:
        self.market = market
        self.partial = partial
        count = len(market.listing.instruments)
        self._fresh = {mode: np.zeros(count, np.bool_) for mode in MODES}
        self._blocks: dict[Mode, dict[int, _Block]] = {mode: {} for mode in MODES}
        self._entries: dict[Mode, list[bytes]] = {mode: [b""] * count for mode in MODES}
        self._changes: dict[Mode, list[bytes]] = {mode: [b""] * count for mode in MODES}  # with `partial` only
        self._versions: dict[Mode, list[int]] = {mode: [0] * count for mode in MODES}

    def set_partial(self, partial: bool) -> None:
        """From now on send whole blocks, or only what changes from now on."""
        if partial == self.partial:
            return
        self.partial = partial
        for mode in MODES:
            self._changes[mode] = [b""] * len(self._changes[mode])
            for block in self._blocks[mode].values():
                block.forget()

    def changed(self, rows: I64) -> None:
        """What was encoded of these rows is out of date."""
        for fresh in self._fresh.values():
            fresh[rows] = False

    def snapshot_frame(self, ts_ms: int, rows: RowsByMode, sent: Versions) -> bytes:
        """An initial_feed with the blocks of all `rows`. `sent` notes what the client has now."""
        return b"".join([*self._blocks_of(rows, sent, again=True), _CURRENT_TS, varint(ts_ms)])

    def live_frame(self, ts_ms: int, rows: RowsByMode, sent: Versions) -> bytes | None:
        """A live_feed with those blocks of `rows` that the client does not have yet; None where it has them all."""
        blocks = self._blocks_of(rows, sent, again=False)
        return b"".join([LIVE, *blocks, _CURRENT_TS, varint(ts_ms)]) if blocks else None

    def _blocks_of(self, rows: RowsByMode, sent: Versions, *, again: bool) -> list[bytes]:
        found = []
        for mode, wanted in rows.items():
            self._refresh(mode, wanted)
            entries, versions = self._entries[mode], self._versions[mode]
            for row in wanted:
                before, sent[row] = sent.get(row), versions[row]
                if again or before is None or (self.partial and before < versions[row] - 1):
                    found.append(entries[row])
                elif before < versions[row]:
                    found.append((self.partial and self._changes[mode][row]) or entries[row])
        return found

    def _refresh(self, mode: Mode, wanted: Sequence[int]) -> None:
        rows = np.asarray(wanted, np.int64)
        rows = rows[~self._fresh[mode][rows]]
        if not len(rows):
            return
        self._fresh[mode][rows] = True
        state = snapshot(self.market, rows, _LEVELS[mode])
        blocks, entries, versions = self._blocks[mode], self._entries[mode], self._versions[mode]
        for place, row in enumerate(rows.tolist()):
            block = blocks.get(row)
            if block is None:
                block = blocks[row] = _BLOCKS[mode](self.market.listing.instruments[row], self.market.day_start_ms)
            entry = block.encoded(state, place)
            if entry != entries[row]:  # a quote may have come back to what it was
                entries[row] = entry
                versions[row] += 1
                if self.partial:
                    self._changes[mode][row] = block.changes()


class _Block:
    """The message of one (mode, instrument), kept and written over."""

    def __init__(self, instrument: Instrument, day_start_ms: int) -> None:
        key = instrument.key.encode()
        self.is_index = instrument.is_index
        self.is_option = instrument.is_option
        self.day_start_ms = day_start_ms
        self.called = False  # whether what was written last was about an auction
        self.feed = pb.Feed()
        self._key = _KEY + varint(len(key)) + key + _VALUE

    def encoded(self, state: Snapshot, place: int) -> bytes:
        self.write(state, place)
        self.called = bool(state.iep[place])
        return self.entry(self.feed)

    def changes(self) -> bytes:
        """What was encoded last without the parts that are as before, where the mode has parts."""
        return self.entry(self.feed)

    def forget(self) -> None:
        """The next changes are all there is."""

    def entry(self, feed: pb.Feed) -> bytes:
        value = feed.SerializeToString()
        entry = self._key + varint(len(value)) + value
        return _FEEDS + varint(len(entry)) + entry

    def write(self, state: Snapshot, place: int) -> None:
        raise NotImplementedError

    def write_ltpc(self, ltpc: pb.LTPC, state: Snapshot, place: int) -> None:
        ltpc.ltp = state.ltp[place]
        ltpc.ltt = state.ltt[place]
        ltpc.ltq = state.ltq[place]
        ltpc.cp = state.cp[place]
        if state.iep[place]:
            ltpc.iep.value = state.iep[place]
        elif self.called:
            ltpc.ClearField("iep")

    def write_greeks(self, found: pb.OptionGreeks, state: Snapshot, place: int) -> None:
        found.delta = state.delta[place]
        found.theta = state.theta[place]
        found.gamma = state.gamma[place]
        found.vega = state.vega[place]
        found.rho = state.rho[place]


class _LtpcBlock(_Block):
    def __init__(self, instrument: Instrument, day_start_ms: int) -> None:
        super().__init__(instrument, day_start_ms)
        self.ltpc = self.feed.ltpc

    def write(self, state: Snapshot, place: int) -> None:
        self.write_ltpc(self.ltpc, state, place)


class _GreeksBlock(_Block):
    """Mode option_greeks. What is no option has neither Greeks nor volatility; an index nothing but its value."""

    def __init__(self, instrument: Instrument, day_start_ms: int) -> None:
        super().__init__(instrument, day_start_ms)
        self.feed.requestMode = pb.RequestMode.option_greeks
        self.body = self.feed.firstLevelWithGreeks

    def write(self, state: Snapshot, place: int) -> None:
        body = self.body
        self.write_ltpc(body.ltpc, state, place)
        if self.is_index:
            return
        touch = body.firstDepth
        touch.bidQ, touch.bidP = state.bid_qty[place][0], state.bid[place][0]
        touch.askQ, touch.askP = state.ask_qty[place][0], state.ask[place][0]
        body.vtt = state.vtt[place]
        body.oi = state.oi[place]
        if self.is_option:
            self.write_greeks(body.optionGreeks, state, place)
            body.iv = state.iv[place]


class _FullBlock(_Block):
    levels = 5
    request_mode = pb.RequestMode.full_d5

    def __init__(self, instrument: Instrument, day_start_ms: int) -> None:
        super().__init__(instrument, day_start_ms)
        self.feed.requestMode = self.request_mode
        self.body = self.feed.fullFeed.indexFF if self.is_index else self.feed.fullFeed.marketFF
        self.ltpc = self.body.ltpc
        self.before = pb.Feed()  # what `changes` compares with
        self.day: pb.OHLC | None = None
        self.minute: pb.OHLC | None = None
        self.depth: list[pb.Quote] = []
        if isinstance(self.body, pb.MarketFullFeed):
            self.body.casEligible = instrument.cas_eligible
            self.depth = [self.body.marketLevel.bidAskQuote.add() for _ in range(self.levels)]

    def write(self, state: Snapshot, place: int) -> None:
        self.write_ltpc(self.ltpc, state, place)
        self.write_candles(state, place)
        body = self.body
        if isinstance(body, pb.IndexFullFeed):
            return
        levels = zip(
            self.depth, state.bid_qty[place], state.bid[place], state.ask_qty[place], state.ask[place], strict=True
        )
        for level, bid_qty, bid, ask_qty, ask in levels:
            level.bidQ = bid_qty
            level.bidP = bid
            level.askQ = ask_qty
            level.askP = ask
        body.atp = state.atp[place]
        body.vtt = state.vtt[place]
        body.oi = state.oi[place]
        body.tbq = state.tbq[place]
        body.tsq = state.tsq[place]
        if state.iep[place] or self.called:
            body.iep = state.iep[place]
            body.rp = state.rp[place]
            body.ieq = state.ieq[place]
            body.iiqTotal = state.iiq[place]
            body.iiqM = state.iiq_market[place]
        if self.is_option:
            self.write_greeks(body.optionGreeks, state, place)
            body.iv = state.iv[place]

    def forget(self) -> None:
        self.before = pb.Feed()

    def changes(self) -> bytes:
        part = pb.Feed()
        part.CopyFrom(self.feed)
        if not self.is_index:
            body, before = part.fullFeed.marketFF, self.before.fullFeed.marketFF
            for name in _PARTS:
                if getattr(body, name) == getattr(before, name):
                    body.ClearField(name)
        self.before.CopyFrom(self.feed)
        return self.entry(part)

    def write_candles(self, state: Snapshot, place: int) -> None:
        """Before the first trade of the day there is no candle to report."""
        if not state.day_open[place]:
            return
        day = self.day
        if day is None:
            day = self.day = self.body.marketOHLC.ohlc.add(interval="1d", ts=self.day_start_ms)
            self.minute = self.body.marketOHLC.ohlc.add(interval="I1")
        day.open = state.day_open[place]
        day.high = state.day_high[place]
        day.low = state.day_low[place]
        day.close = state.ltp[place]
        day.vol = state.vtt[place]
        minute = self.minute
        assert minute is not None
        minute.open = state.minute_open[place]
        minute.high = state.minute_high[place]
        minute.low = state.minute_low[place]
        minute.close = state.minute_close[place]
        minute.vol = state.minute_volume[place]
        minute.ts = state.minute_ts[place]


class _Full30Block(_FullBlock):
    levels = 30
    request_mode = pb.RequestMode.full_d30


_BLOCKS: Final[Mapping[Mode, type[_Block]]] = {
    "ltpc": _LtpcBlock,
    "option_greeks": _GreeksBlock,
    "full": _FullBlock,
    "full_d30": _Full30Block,
}


def varint(value: int) -> bytes:
    """The variable-length integer of protocol buffers, for non-negative numbers."""
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
