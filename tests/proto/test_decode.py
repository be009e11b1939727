"""The compiled decoder against the generated class, and what the class cannot say."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.frames import Mode, frames
from proto import feed_pb2 as pb
from proto.decode import BufferFull, FrameKind, Frames, TickBuffer, market_info
from schemas.errors import BadFrame
from schemas.streams import instrument_id
from schemas.ticks import Block, Kind

Agrees = Callable[..., bool]
Scribbled = Callable[[random.Random], bytes]

RX = 7
KEY = "NSE_FO|61755"

#: The first call loads the compiled code.
compiled = settings(deadline=None, max_examples=300)
seeds = st.integers(0, 2**32).map(random.Random)


def field(number: int, wire: int, payload: bytes = b"") -> bytes:
    """One field; numbers and sizes below 128 and field numbers below 16, so each is a single byte."""
    return bytes([number << 3 | wire]) + (bytes([len(payload)]) if wire == 2 else b"") + payload


def entry(feed: bytes, key: str = KEY) -> bytes:
    return field(2, 2, field(1, 2, key.encode()) + field(2, 2, feed))


def full(market: bytes) -> bytes:
    """A feed of mode full with these bytes as MarketFullFeed."""
    return field(2, 2, field(1, 2, market))


def double(value: float) -> bytes:
    return np.float64(value).tobytes()


def decode(frame: bytes) -> Any:
    buffer = TickBuffer(8, 64)
    buffer.append(frame, RX)
    return buffer.rec


# --- against the generated class -------------------------------------------------------------------------------------


@compiled
@given(rng=seeds)
def test_any_valid_bytes_mean_the_same_to_the_generated_class(
    rng: random.Random, agrees: Agrees, scribbled_frame: Scribbled
) -> None:
    agrees(scribbled_frame(rng))


@compiled
@given(rng=seeds)
def test_a_message_as_the_generated_class_writes_it_is_read_back(
    rng: random.Random, agrees: Agrees, scribbled_frame: Scribbled, vendor_class: Any
) -> None:
    message = pb.FeedResponse.FromString(scribbled_frame(rng))
    message.type = rng.choice((0, 1, 2))  # type: ignore[assignment]
    frame = message.SerializeToString()

    assert agrees(frame, pb.FeedResponse)
    assert agrees(frame, vendor_class)


def _drop_blocks(frame: bytes, rng: random.Random) -> bytes:
    """The frame with some blocks of each update missing, as where only the depth changed."""
    message = pb.FeedResponse.FromString(frame)
    for feed in message.feeds.values():
        body = getattr(feed, feed.WhichOneof("FeedUnion") or "")
        body = body.marketFF if isinstance(body, pb.FullFeed) else body
        for present, _ in body.ListFields():
            if rng.random() < 0.4:
                body.ClearField(present.name)
    return message.SerializeToString()


@compiled
@given(rng=seeds, mode=st.sampled_from(Mode), n=st.sampled_from((1, 2, 20)))
def test_realistic_and_partial_updates_are_read_as_the_vendors_class_reads_them(
    rng: random.Random, mode: Mode, n: int, agrees: Agrees, vendor_class: Any
) -> None:
    (frame,) = frames(mode, 1, n, seed=rng.randrange(1000))

    assert agrees(frame, vendor_class)
    assert agrees(_drop_blocks(frame, rng), vendor_class)


@compiled
@given(key=st.text())
def test_an_id_is_the_hash_of_the_key(key: str) -> None:
    frame = pb.FeedResponse(feeds={key: pb.Feed()}).SerializeToString()
    buffer = TickBuffer(1, 1)
    added = buffer.append(frame, RX)

    assert added.key(frame, 0) == key
    assert buffer.rec["id"][0] == instrument_id(key)


@compiled
@given(key=st.one_of(st.binary(max_size=12), st.text(max_size=3).map(lambda text: text.encode("utf-16-le"))))
def test_a_key_is_taken_exactly_when_it_is_utf8(key: bytes, agrees: Agrees) -> None:
    try:
        key.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False

    assert agrees(field(2, 2, field(1, 2, key))) == valid


def test_surrogates_and_overlong_forms_are_no_utf8(agrees: Agrees) -> None:
    lead = [bytes([one, two]) + tail for one in range(0xC0, 0x100) for two in range(0x70, 0xD0, 8) for tail in TAILS]
    for text in lead:
        agrees(field(2, 2, field(1, 2, text)))


TAILS = (b"", b"\x80", b"\x80\x80", b"\xbf\xbf", b"\x80\x7f", b"\x80\x80\x80")


# --- what was carried ------------------------------------------------------------------------------------------------


def test_a_value_that_was_not_sent_is_unknown_and_not_zero() -> None:
    tick = decode(entry(full(field(6, 0, b"\x05"))))[0]

    assert Block(int(tick["flags"])) == Block.VTT | Block.SNAPSHOT
    assert tick["vtt"] == 5
    assert all(math.isnan(tick[name]) for name in ("ltp", "cp", "atp", "oi", "iv", "tbq", "tsq", "delta", "bid", "iep"))
    assert all(tick[name] == 0 for name in ("ltt", "ltq", "bid_qty", "ask_qty", "ieq", "levels", "session"))


def test_within_a_block_that_was_sent_absence_is_zero() -> None:
    tick = decode(entry(full(field(1, 2) + field(3, 2))))[0]

    assert Block(int(tick["flags"])) == Block.LTPC | Block.GREEKS | Block.SNAPSHOT
    assert [tick[name] for name in ("ltp", "cp", "delta", "theta", "gamma", "vega", "rho")] == [0.0] * 7


def test_a_zero_that_was_sent_was_carried() -> None:
    tick = decode(entry(full(field(6, 0, b"\x00") + field(7, 1, double(0.0)))))[0]

    assert Block(int(tick["flags"])) == Block.VTT | Block.OI | Block.SNAPSHOT
    assert (tick["vtt"], tick["oi"]) == (0, 0.0)


def test_an_indicative_price_of_zero_inside_ltpc_was_carried() -> None:
    tick = decode(entry(full(field(1, 2, field(5, 2)))))[0]

    assert Block(int(tick["flags"])) == Block.LTPC | Block.IEP | Block.SNAPSHOT
    assert tick["iep"] == 0.0


@pytest.mark.parametrize("order", [1, -1])
def test_an_indicative_price_inside_ltpc_counts_before_the_one_beside_it(order: int) -> None:
    inside = field(1, 2, field(5, 2, field(1, 1, double(101.5))))
    beside = field(11, 1, double(99.0))

    assert decode(entry(full(b"".join([inside, beside][::order]))))["iep"][0] == 101.5


def test_a_closing_auction_share_is_flagged_only_where_the_feed_says_so() -> None:
    eligible = pb.FeedResponse(type=pb.Type.live_feed)
    eligible.feeds["A"].fullFeed.marketFF.casEligible = True
    eligible.feeds["B"].fullFeed.marketFF.casEligible = False
    flags = {int(tick["id"]): Block(int(tick["flags"])) for tick in decode(eligible.SerializeToString())}

    assert flags == {instrument_id("A"): Block.CAS, instrument_id("B"): Block(0)}


@pytest.mark.parametrize(
    ("feed", "kind"),
    [
        (pb.Feed(ltpc=pb.LTPC(ltp=1.0)), Kind.LTPC),
        (pb.Feed(fullFeed=pb.FullFeed(marketFF=pb.MarketFullFeed(atp=1.0))), Kind.MARKET),
        (pb.Feed(fullFeed=pb.FullFeed(indexFF=pb.IndexFullFeed())), Kind.INDEX),
        (pb.Feed(firstLevelWithGreeks=pb.FirstLevelWithGreeks(oi=1.0)), Kind.GREEKS),
    ],
)
def test_the_member_of_the_union_decides_the_kind(feed: pb.Feed, kind: Kind) -> None:
    assert decode(pb.FeedResponse(feeds={KEY: feed}).SerializeToString())["kind"][0] == kind


@pytest.mark.parametrize("kind", FrameKind)
def test_only_rows_of_an_initial_frame_are_a_snapshot(kind: FrameKind) -> None:
    message = pb.FeedResponse(type=int(kind), currentTs=1_773_200_700_000)  # type: ignore[arg-type]
    message.feeds[KEY].ltpc.ltp = 5.0
    buffer = TickBuffer()
    added = buffer.append(message.SerializeToString(), RX)

    assert (added.kind, added.ts) == (kind, 1_773_200_700_000)
    assert bool(buffer.rec["flags"][0] & Block.SNAPSHOT) == (kind is FrameKind.INITIAL)


def test_the_first_level_of_mode_option_greeks_is_a_book_of_one_row() -> None:
    message = pb.FeedResponse()
    message.feeds[KEY].firstLevelWithGreeks.firstDepth.CopyFrom(pb.Quote(bidQ=75, bidP=9.95, askQ=150, askP=10.0))
    buffer = TickBuffer()
    buffer.append(message.SerializeToString(), RX)

    assert buffer.rec[["levels", "bid", "bid_qty", "ask", "ask_qty"]][0].item() == (1, 9.95, 75, 10.0, 150)
    assert buffer.depth.tolist() == [(75, 9.95, 150, 10.0)]


def test_an_empty_book_was_carried_and_has_no_best_price() -> None:
    tick = decode(entry(full(field(2, 2))))[0]

    assert tick["flags"] & Block.DEPTH
    assert tick["levels"] == 0
    assert math.isnan(tick["bid"])
    assert math.isnan(tick["ask"])


# --- what only an odd sender does ------------------------------------------------------------------------------------


def test_a_later_entry_replaces_an_earlier_one_of_the_same_key_with_its_depth() -> None:
    def priced(bid: float, levels: int) -> bytes:
        market = pb.MarketFullFeed(marketLevel=pb.MarketLevel(bidAskQuote=[pb.Quote(bidP=bid)] * levels))
        return market.SerializeToString()

    frame = entry(full(priced(1.0, 3))) + entry(full(priced(2.0, 2)), "B") + entry(full(priced(3.0, 1)))
    buffer = TickBuffer()
    buffer.append(entry(full(priced(9.0, 2)), "before"), RX)
    added = buffer.append(frame, RX)

    assert [added.key(frame, row) for row in (1, 2)] == ["B", KEY]
    assert (added.first_row, added.rows, buffer.n_rows, buffer.n_levels) == (1, 2, 3, 5)
    assert buffer.rec["bid"].tolist() == [9.0, 2.0, 3.0]
    assert buffer.depth["bid"].tolist() == [9.0, 9.0, 2.0, 2.0, 3.0]


def test_an_entry_with_a_third_field_is_set_aside_as_the_generated_class_does(agrees: Agrees) -> None:
    odd = field(2, 2, field(1, 2, b"odd") + field(2, 2, full(field(2, 2, field(1, 2)))) + field(3, 0, b"\x01"))

    assert agrees(odd)
    assert len(decode(odd + entry(b""))) == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00",  # ten bytes for a one
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # more than 64 bits: the rest is dropped
        b"\x88\x80\x80\x80\x00\x01",  # a tag of five bytes
        b"\x12\x80\x80\x80\x80\x00",  # a length of five
        b"\x7b\x83\x01\x84\x01\x7c",  # groups within one another
        b"\x08\x01\x08\x00\x18\x05\x18\x06",  # the last one counts
        b"\x0d\x00\x00\x00\x00",  # a known field with another wire type
        b"",
    ],
)
def test_unusual_forms_are_taken(frame: bytes, agrees: Agrees) -> None:
    assert agrees(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x08",
        b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # eleven bytes
        b"\x88\x80\x80\x80\x80\x00\x01",  # a tag of six bytes
        b"\x88\x80\x80\x80\x70\x01",  # a tag beyond 32 bits
        b"\x12\x80\x80\x80\x80\x80\x00",  # a length of six bytes
        b"\x12\xff\xff\xff\xff\x0f",  # four gigabytes
        b"\x12\x05\x0a\x01x",
        b"\x00\x00",  # field number 0
        b"\x0e\x00",  # wire types 6 and 7
        b"\x0f\x00",
        b"\x7c",  # the end of no group
        b"\x7b",  # a group without an end
        b"\x7b\x74",  # another group's end
        b"\x08\x03",  # a frame type of the future
        b"\x12\x03\x0a\x01\xff",  # a key that is not UTF-8
    ],
)
def test_impossible_bytes_are_refused(frame: bytes, agrees: Agrees) -> None:
    assert not agrees(frame)


def test_groups_may_nest_but_not_without_end() -> None:
    assert len(decode(b"\x7b" * 100 + b"\x7c" * 100)) == 0
    with pytest.raises(BadFrame, match="group"):
        decode(b"\x7b" * 101 + b"\x7c" * 101)


# --- the buffer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_frames_follow_one_another_and_keep_their_keys(kind: Callable[[bytes], Any]) -> None:
    buffer = TickBuffer()
    added = [(frame, buffer.append(frame, number)) for number, frame in enumerate(map(kind, frames(Mode.FULL, 3, 2)))]

    for number, (frame, one) in enumerate(added):
        assert (one.first_row, one.rows) == (2 * number, 2)
        for row in range(one.first_row, one.first_row + one.rows):
            assert buffer.rec["rx"][row] == number
            assert buffer.rec["id"][row] == instrument_id(one.key(frame, row))
    assert (buffer.n_rows, buffer.n_levels) == (len(buffer.rec), len(buffer.depth)) == (6, 30)


def test_a_bad_frame_says_why_and_leaves_no_trace() -> None:
    good, bad = frames(Mode.FULL, 2, 3)
    buffer = TickBuffer()
    buffer.append(good, RX)
    before = buffer.rec.tobytes(), buffer.depth.tobytes()

    with pytest.raises(BadFrame, match="a field longer than what is left in a frame of") as refused:
        buffer.append(bad[:-3], RX)

    assert refused.value.frame == bad[:-3]
    assert (buffer.rec.tobytes(), buffer.depth.tobytes()) == before


@pytest.mark.parametrize(("rows", "levels"), [(3, 64), (64, 15)])
def test_a_full_buffer_stays_as_it_was_and_takes_the_frame_once_cleared(rows: int, levels: int) -> None:
    first, second = frames(Mode.FULL, 2, 2)
    buffer = TickBuffer(rows, levels)
    buffer.append(first, RX)
    before = buffer.rec.tobytes(), buffer.depth.tobytes()

    with pytest.raises(BufferFull):
        buffer.append(second, RX)
    assert (buffer.rec.tobytes(), buffer.depth.tobytes()) == before

    buffer.clear()
    assert buffer.append(second, RX).rows == 2


def test_a_frame_larger_than_the_buffer_makes_it_grow(agrees: Agrees) -> None:
    (frame,) = frames(Mode.FULL, 1, 3000)
    buffer = TickBuffer(1, 1)

    assert buffer.append(frame, RX).rows == 3000
    assert buffer.n_levels == 15_000
    assert agrees(frame)


def test_a_frame_beyond_every_bound_is_refused_and_the_buffer_goes_on() -> None:
    buffer = TickBuffer(1, 1)
    with pytest.raises(BadFrame, match="more than 65536 instruments"):
        buffer.append(b"\x12\x00" * (TickBuffer.ROWS_MAX + 1), RX)

    assert buffer.append(b"\x12\x00" * TickBuffer.ROWS_MAX, RX).rows == 1


def test_a_book_deeper_than_a_record_can_count_is_refused() -> None:
    def book(levels: int) -> bytes:
        market = pb.MarketFullFeed(marketLevel=pb.MarketLevel(bidAskQuote=[pb.Quote()] * levels))
        return pb.FeedResponse(feeds={KEY: pb.Feed(fullFeed=pb.FullFeed(marketFF=market))}).SerializeToString()

    assert decode(book(65535))["levels"][0] == 65535
    with pytest.raises(BadFrame, match="levels of depth"):
        decode(book(65536))


def test_a_buffer_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 65536 rows"):
        TickBuffer(0, 1)


def test_phases_of_the_segments_come_from_the_generated_class() -> None:
    info = pb.MarketInfo(segmentStatus={"NSE_FO": pb.MarketStatus.NORMAL_OPEN})
    frame = pb.FeedResponse(type=pb.Type.market_info, marketInfo=info).SerializeToString()

    assert TickBuffer().append(frame, RX).kind is FrameKind.MARKET_INFO
    assert market_info(frame) == info
    with pytest.raises(BadFrame):
        market_info(frame[:-1])


# --- many frames at once ---------------------------------------------------------------------------------------------


def one_by_one(made: list[bytes]) -> tuple[list[tuple[Any, ...]], list[bytes]]:
    """What is told of each frame, and the rows and levels of all; each frame in a buffer of its own."""
    told: list[tuple[Any, ...]] = []
    content: list[bytes] = []
    for number, frame in enumerate(made):
        buffer = TickBuffer()
        try:
            added = buffer.append(frame, number)
        except BadFrame as error:
            told.append((str(error),))
        else:
            told.append((added.kind, added.ts, added.rows))
            content.append(buffer.rec.tobytes() + buffer.depth.tobytes())
    return told, content


@compiled
@given(rng=seeds, n=st.integers(0, 12), rows=st.sampled_from((1, 3, 40)))
def test_frames_decoded_together_mean_what_each_means_alone(
    rng: random.Random, n: int, rows: int, scribbled_frame: Scribbled
) -> None:
    made = [rng.choice((scribbled_frame(rng), frames(Mode.FULL, 1, rng.randint(1, 9), seed=rng.randrange(99))[0],
                        rng.randbytes(rng.randrange(9)))) for _ in range(n)]  # fmt: skip
    buffer, together = TickBuffer(rows, 8 * rows), Frames(made, range(n))
    told: list[tuple[Any, ...]] = []
    content = bytearray()
    done = 0
    while done < n:
        first, done = done, buffer.append_many(together, done)
        assert done > first
        level = 0
        for number in range(first, done):
            if together.status[number] < 0:
                told.append((str(together.error(number)),))
                continue
            kind, ts, row, size = (
                int(x[number]) for x in (together.kind, together.ts, together.first_row, together.rows)
            )
            told.append((kind, ts, size))
            levels = int(buffer.rec["levels"][row : row + size].sum())
            content += buffer.rec[row : row + size].tobytes() + buffer.depth[level : level + levels].tobytes()
            level += levels
        buffer.clear()

    expected, parts = one_by_one(made)
    assert told == expected
    assert bytes(content) == b"".join(parts)
