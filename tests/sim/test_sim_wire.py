"""Frames are put together by hand from cached blocks: they must be what the generated class would have made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import feed_pb2 as pb
from sim.exchange import Exchange
from sim.settings import Mode
from sim.wire import MODES, Encoder, varint
from tests.sim.simtools import settings


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(settings())


def block(exchange: Exchange, mode: Mode, kind: str) -> tuple[int, pb.Feed]:
    row = next(row for row, each in enumerate(exchange.market.listing.instruments) if each.instrument_type == kind)
    frame = pb.FeedResponse.FromString(Encoder(exchange.market).snapshot_frame(1, {mode: [row]}, {}))
    return row, frame.feeds[exchange.market.listing.instruments[row].key]


@given(st.integers(0, 2**63 - 1))
def test_a_varint_is_the_generated_class_s(value: int) -> None:
    field = pb.Quote(bidQ=value).SerializeToString()
    assert field[1:] == (varint(value) if value else b"")


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_reads_back_as_it_was_meant(exchange: Exchange, mode: Mode) -> None:
    encoder, market = Encoder(exchange.market), exchange.market
    rows = list(range(len(market.listing.instruments)))
    data = encoder.live_frame(1_795_167_023_456, {mode: rows}, {})
    assert data is not None
    frame = pb.FeedResponse.FromString(data)
    assert frame.type == pb.Type.live_feed
    assert frame.currentTs == 1_795_167_023_456
    assert set(frame.feeds) == {each.key for each in market.listing.instruments}
    again = pb.FeedResponse.FromString(frame.SerializeToString())
    assert again == frame


def test_a_frame_of_one_key_is_byte_for_byte_the_generated_class_s(exchange: Exchange) -> None:
    for mode in MODES:
        data = Encoder(exchange.market).live_frame(1_795_167_023_456, {mode: [5]}, {})
        assert data is not None
        assert pb.FeedResponse.FromString(data).SerializeToString() == data


def test_an_initial_frame_does_not_send_its_type(exchange: Exchange) -> None:
    data = Encoder(exchange.market).snapshot_frame(7, {"ltpc": [0]}, {})
    assert pb.FeedResponse.FromString(data).type == pb.Type.initial_feed
    assert data[0] == 0x12


def test_a_block_is_sent_again_only_when_its_row_changed(exchange: Exchange) -> None:
    encoder, market, sent = Encoder(exchange.market), exchange.market, dict[int, int]()
    row = 6
    assert encoder.live_frame(1, {"full": [row]}, sent) is not None
    assert encoder.live_frame(2, {"full": [row]}, sent) is None
    kept = float(market.ltp[row])
    try:
        market.ltp[row] = kept + 1
        assert encoder.live_frame(3, {"full": [row]}, sent) is None, "nobody said that the row changed"
        encoder.changed(np.array([row]))
        assert encoder.live_frame(4, {"full": [row]}, sent) is not None
    finally:
        market.ltp[row] = kept


def test_a_row_that_came_back_to_what_it_was_is_not_sent_again(exchange: Exchange) -> None:
    encoder, sent = Encoder(exchange.market), dict[int, int]()
    encoder.live_frame(1, {"full": [6]}, sent)
    encoder.changed(np.array([6]))
    assert encoder.live_frame(2, {"full": [6]}, sent) is None


def test_an_index_has_neither_depth_nor_volume(exchange: Exchange) -> None:
    _, feed = block(exchange, "full", "INDEX")
    assert feed.requestMode == pb.RequestMode.full_d5
    assert feed.fullFeed.WhichOneof("FullFeedUnion") == "indexFF"
    assert feed.fullFeed.indexFF.ltpc.ltq == 0
    assert [each.interval for each in feed.fullFeed.indexFF.marketOHLC.ohlc] == ["1d", "I1"]


@pytest.mark.parametrize(("mode", "levels"), [("full", 5), ("full_d30", 30)])
def test_a_share_has_depth_and_no_greeks(exchange: Exchange, mode: Mode, levels: int) -> None:
    row, feed = block(exchange, mode, "EQ")
    body = feed.fullFeed.marketFF
    assert len(body.marketLevel.bidAskQuote) == levels
    assert not body.HasField("optionGreeks")
    assert (body.iv, body.oi) == (0, 0)
    assert body.vtt == exchange.market.vtt[row]
    assert body.casEligible
    assert body.tbq > 0
    assert body.tsq > 0
    assert abs(body.atp / body.ltpc.ltp - 1) < 0.05


def test_a_future_has_open_interest(exchange: Exchange) -> None:
    _, feed = block(exchange, "full", "FUT")
    assert feed.fullFeed.marketFF.oi > 0
    assert not feed.fullFeed.marketFF.HasField("optionGreeks")


def test_an_option_has_everything(exchange: Exchange) -> None:
    row, feed = block(exchange, "full", "CE")
    body = feed.fullFeed.marketFF
    assert 0 < body.optionGreeks.delta < 1
    assert body.optionGreeks.theta < 0
    assert body.optionGreeks.vega > 0
    assert 0.04 < body.iv < 0.8
    assert body.oi == exchange.market.oi[row]


def test_depth_is_ordered_and_best_first(exchange: Exchange) -> None:
    row, feed = block(exchange, "full_d30", "EQ")
    levels = feed.fullFeed.marketFF.marketLevel.bidAskQuote
    bids, asks = [each.bidP for each in levels], [each.askP for each in levels]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert (bids[0], asks[0]) == (exchange.market.bid[row], exchange.market.ask[row])
    assert all(each.bidQ > 0 and each.askQ > 0 for each in levels)


def test_round_prices_hold_walls(exchange: Exchange) -> None:
    _, feed = block(exchange, "full_d30", "EQ")
    levels = feed.fullFeed.marketFF.marketLevel.bidAskQuote
    sides = [(each.bidP, each.bidQ) for each in levels] + [(each.askP, each.askQ) for each in levels]
    walls = [quantity for price, quantity in sides if round(price * 100) % 1_000 == 0]
    others = [quantity for price, quantity in sides if round(price * 100) % 1_000]
    if walls:  # thirty levels of ten paise may miss the next ten rupees
        assert max(walls) > 2 * np.mean(others)


def test_greeks_mode_has_one_level_and_the_greeks(exchange: Exchange) -> None:
    row, feed = block(exchange, "option_greeks", "PE")
    body = feed.firstLevelWithGreeks
    assert feed.requestMode == pb.RequestMode.option_greeks
    assert body.optionGreeks.delta < 0
    assert (body.firstDepth.bidP, body.firstDepth.askP) == (exchange.market.bid[row], exchange.market.ask[row])
    assert body.vtt == exchange.market.vtt[row]


def test_the_day_candle_covers_the_minute_candle(exchange: Exchange) -> None:
    _, feed = block(exchange, "full", "EQ")
    day, minute = feed.fullFeed.marketFF.marketOHLC.ohlc
    assert day.low <= minute.low <= minute.high <= day.high
    assert day.vol >= minute.vol
    assert (day.close, day.vol) == (feed.fullFeed.marketFF.ltpc.ltp, feed.fullFeed.marketFF.vtt)


def merged(frames: list[bytes], key: str) -> pb.MarketFullFeed:
    """As a client does it: a part that is missing is as before."""
    found = pb.MarketFullFeed()
    for data in frames:
        body = pb.FeedResponse.FromString(data).feeds[key].fullFeed.marketFF
        for name in ("ltpc", "marketLevel", "optionGreeks", "marketOHLC"):
            if body.HasField(name):
                getattr(found, name).CopyFrom(getattr(body, name))
        found.vtt, found.atp, found.oi = body.vtt, body.atp, body.oi
    return found


def test_partial_blocks_leave_out_what_did_not_change_and_lose_nothing() -> None:
    market = Exchange(settings(instruments=300)).market
    option = next(row for row in np.flatnonzero(market.columns.option) if market.columns.base_rate[row] > 0.2)
    key, encoder, sent = market.listing.instruments[option].key, Encoder(market, partial=True), dict[int, int]()
    rows: dict[Mode, list[int]] = {"full": [int(option)]}
    frames = [encoder.snapshot_frame(0, rows, sent)]
    without_trade = 0
    for update in market.advance(market.now_ms + 30_000):
        encoder.changed(update.rows)
        data = encoder.live_frame(update.ts, rows, sent)
        if data is None:
            continue
        frames.append(data)
        without_trade += not pb.FeedResponse.FromString(data).feeds[key].fullFeed.marketFF.HasField("ltpc")
    whole = pb.FeedResponse.FromString(encoder.snapshot_frame(1, rows, {})).feeds[key].fullFeed.marketFF
    found = merged(frames, key)
    assert without_trade > 3
    assert all(
        getattr(found, name) == getattr(whole, name) for name in ("ltpc", "marketLevel", "optionGreeks", "marketOHLC")
    )
    assert (found.vtt, found.atp, found.oi) == (whole.vtt, whole.atp, whole.oi)


def test_a_client_that_missed_a_change_gets_the_whole_block() -> None:
    market = Exchange(settings()).market
    encoder, current, late = Encoder(market, partial=True), dict[int, int](), dict[int, int]()
    rows: dict[Mode, list[int]] = {"full": [market.listing.row_of["NSE_EQ|INE002A01018"]]}
    encoder.snapshot_frame(0, rows, current)
    encoder.snapshot_frame(0, rows, late)
    for update in market.advance(market.now_ms + 10_000):
        encoder.changed(update.rows)
        encoder.live_frame(update.ts, rows, current)
    caught_up = encoder.live_frame(1, rows, late)
    assert caught_up is not None
    assert pb.FeedResponse.FromString(caught_up) == pb.FeedResponse.FromString(
        b"\x08\x01" + encoder.snapshot_frame(1, rows, {})
    )
