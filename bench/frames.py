"""Frames as the venue sends them, made with the generated class: the same seed gives the same bytes on every machine.

Shapes and sizes follow what the feed sends by mode: an option in mode full is about 400 bytes on the wire (five
levels of depth, Greeks, the day's and the minute's candle), one in mode ltpc about 60.
"""

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from proto import feed_pb2 as pb

START_MS: Final = 1_773_200_700_000  # a Wednesday in March 2026, 09:15 in India
FRAME_STEP_MS: Final = 300  # the feed sends an instrument's latest state about three times a second


class Mode(StrEnum):
    FULL = "full"
    LTPC = "ltpc"
    OPTION_GREEKS = "option_greeks"


_REQUEST_MODE: Final = {
    Mode.FULL: pb.RequestMode.full_d5,
    Mode.LTPC: pb.RequestMode.ltpc,
    Mode.OPTION_GREEKS: pb.RequestMode.option_greeks,
}


def keys(n: int, first: int = 40_001) -> list[str]:
    """`n` instrument keys of options, as long as real ones."""
    return [f"NSE_FO|{token}" for token in range(first, first + n)]


def frames(mode: Mode, n_frames: int, keys_per_frame: int, *, n_keys: int = 0, seed: int = 1) -> list[bytes]:
    """`n_frames` live frames, `FRAME_STEP_MS` apart, that walk through `n_keys` instruments in turn."""
    rng = random.Random(seed)
    pool = keys(max(n_keys, keys_per_frame))
    made = []
    for number in range(n_frames):
        start = number * keys_per_frame
        chosen = [pool[(start + i) % len(pool)] for i in range(keys_per_frame)]
        made.append(frame(mode, chosen, START_MS + number * FRAME_STEP_MS, rng))
    return made


def frame(mode: Mode, of: Sequence[str], ts: int, rng: random.Random) -> bytes:
    """One live frame with an update of each instrument."""
    message = pb.FeedResponse(type=pb.Type.live_feed, currentTs=ts)
    for key in of:
        feed = message.feeds[key]
        feed.requestMode = _REQUEST_MODE[mode]
        _FILL[mode](feed, ts, rng)
    return message.SerializeToString()


def _price(rng: random.Random) -> float:
    return round(rng.randrange(400, 10_000) * 0.05, 2)


def _quantity(rng: random.Random) -> int:
    return 75 * rng.randrange(1, 400)


def _fill_ltpc(ltpc: pb.LTPC, ts: int, rng: random.Random) -> None:
    ltpc.ltp = _price(rng)
    ltpc.ltt = ts - rng.randrange(5, 2_000)
    ltpc.ltq = _quantity(rng)
    ltpc.cp = _price(rng)


def _fill_greeks(greeks: pb.OptionGreeks, rng: random.Random) -> None:
    greeks.delta = round(rng.uniform(-1, 1), 4)
    greeks.theta = round(rng.uniform(-30, -1), 4)
    greeks.gamma = round(rng.uniform(0, 0.002), 4)
    greeks.vega = round(rng.uniform(1, 20), 4)
    greeks.rho = round(rng.uniform(-5, 5), 4)


def _fill_quote(quote: pb.Quote, price: float, level: int, rng: random.Random) -> None:
    quote.bidQ = _quantity(rng)
    quote.bidP = round(price - 0.05 * (level + 1), 2)
    quote.askQ = _quantity(rng)
    quote.askP = round(price + 0.05 * level, 2)


def _full(feed: pb.Feed, ts: int, rng: random.Random) -> None:
    market = feed.fullFeed.marketFF
    _fill_ltpc(market.ltpc, ts, rng)
    for level in range(5):
        _fill_quote(market.marketLevel.bidAskQuote.add(), market.ltpc.ltp, level, rng)
    _fill_greeks(market.optionGreeks, rng)
    for interval, start in (("1d", START_MS - 33_300_000), ("I1", ts - ts % 60_000)):
        low, high = sorted((_price(rng), _price(rng)))
        market.marketOHLC.ohlc.add(
            interval=interval, open=low, high=high, low=low, close=high, vol=_quantity(rng) * 100, ts=start
        )
    market.atp = _price(rng)
    market.vtt = 75 * rng.randrange(1_000, 2_000_000)
    market.oi = 75.0 * rng.randrange(1_000, 200_000)
    market.iv = round(rng.uniform(0.08, 0.4), 4)
    market.tbq = 75.0 * rng.randrange(1_000, 20_000)
    market.tsq = 75.0 * rng.randrange(1_000, 20_000)


def _ltpc(feed: pb.Feed, ts: int, rng: random.Random) -> None:
    _fill_ltpc(feed.ltpc, ts, rng)


def _option_greeks(feed: pb.Feed, ts: int, rng: random.Random) -> None:
    first = feed.firstLevelWithGreeks
    _fill_ltpc(first.ltpc, ts, rng)
    _fill_quote(first.firstDepth, first.ltpc.ltp, 0, rng)
    _fill_greeks(first.optionGreeks, rng)
    first.vtt = 75 * rng.randrange(1_000, 2_000_000)
    first.oi = 75.0 * rng.randrange(1_000, 200_000)
    first.iv = round(rng.uniform(0.08, 0.4), 4)


_FILL: Final = {Mode.FULL: _full, Mode.LTPC: _ltpc, Mode.OPTION_GREEKS: _option_greeks}
