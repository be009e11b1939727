"""From frames to stream entries, with nothing around it: outboxes are read as Redis would be."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import frames
from bus.inbox import Output, Published
from ingest.collector import Collector, Heard
from proto import feed_pb2 as pb
from proto.decode import TickBuffer
from schemas import streams, ticks
from schemas.bars import HistoryBar
from schemas.streams import shard_of
from schemas.ticks import TICK, Block, FeedMark, SessionClass, TickBatch

KEYS = frames.keys(40)
T0 = frames.START_MS
LIMIT = 64 << 20


def collector(
    shards: int = 1, *, owned: Iterable[int] | None = None, follow: list[str] = KEYS, limit: int = LIMIT
) -> Any:
    made = Collector(shards, limit, lambda _: SessionClass.ORDINARY)
    for shard in range(shards) if owned is None else owned:
        made.outbox(shard).resume(Published(0), False, 0.0)
    made.follow(follow)
    return made


def frame(*of: str, ts: int = T0, mode: frames.Mode = frames.Mode.FULL, seed: int = 1) -> bytes:
    return frames.frame(mode, of, ts, random.Random(seed))


def market_info(status: Any = pb.MarketStatus.NORMAL_OPEN, ts: int = T0, **more: Any) -> bytes:
    message = pb.FeedResponse(type=pb.Type.market_info, currentTs=ts)
    for segment, value in {"NSE_FO": status, **more}.items():
        message.marketInfo.segmentStatus[segment] = value
    return message.SerializeToString()


def entries(of: Collector, shard: int = 0, now_s: float = 0.0) -> list[Output]:
    """What the shard publishes now."""
    of.flush()
    box = of.outboxes[shard]
    found: list[Output] = []
    while box:
        found += box.take().outputs
        box.done(now_s)
    of.weigh()
    return found


def batches(of: Collector, shard: int = 0) -> list[TickBatch]:
    return [unpacked(each) for each in entries(of, shard) if each.stream == streams.ticks(shard)]


def unpacked(output: Output) -> TickBatch:
    fields = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in output.fields.items()}
    return ticks.unpack(fields)


def decoded(*of: bytes) -> tuple[Any, Any]:
    """The records and levels of frames, by the decoder alone."""
    buffer = TickBuffer()
    for each in of:
        buffer.append(each, 5)
    return buffer.rec.copy(), buffer.depth.copy()


# Batches


def test_frames_that_gather_share_an_entry_and_its_keys_are_in_order_of_appearance() -> None:
    of = collector()
    of.take(frame(KEYS[3], KEYS[1]), 5, 1.0)
    of.take(frame(KEYS[1], KEYS[2], ts=T0 + 300), 6, 1.3)
    (batch,) = batches(of)

    assert (batch.ts, batch.rx) == (T0 + 300, 6)
    assert set(batch.keys) == {KEYS[1], KEYS[2], KEYS[3]}
    assert [streams.instrument_id(key) for key in batch.keys] == list(dict.fromkeys(batch.rec["id"].tolist()))
    assert len(batch.rec) == 4
    assert len(batch.depth) == 20
    assert batches(of) == []


def test_more_frames_than_the_buffer_holds_lose_nothing() -> None:
    many = frames.keys(900)
    of = collector(follow=many)
    for number in range(20):
        of.take(frame(*many, ts=T0 + number), 5, 1.0)
    assert sum(len(batch.rec) for batch in batches(of)) == 18_000


mixed = st.lists(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12, unique=True), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(mixed, st.sampled_from([2, 3, 4, 7]), st.randoms(use_true_random=False), st.data())
def test_every_shard_gets_its_own_records_with_their_levels_in_their_order(
    chosen: list[list[str]], shards: int, rng: random.Random, data: st.DataObject
) -> None:
    owned = data.draw(st.sets(st.integers(0, shards - 1)))
    modes = [data.draw(st.sampled_from(frames.Mode)) for _ in chosen]
    made = [frames.frame(mode, of, T0 + n, rng) for n, (mode, of) in enumerate(zip(modes, chosen, strict=True))]
    of = collector(shards, owned=owned)
    for each in made:
        of.take(each, 5, 1.0)
    rec, depth = decoded(*made)

    names = ("id", "ts", "ltp", "vtt", "bid", "ask_qty", "levels")
    expected: dict[int, list[tuple[Any, Any]]] = {shard: [] for shard in owned}
    first = 0
    id_of = {streams.instrument_id(key): key for key in KEYS}
    for tick in rec:
        levels = depth[first : first + tick["levels"]]
        first += tick["levels"]
        shard = shard_of(id_of[int(tick["id"])], shards)
        if shard in owned:
            expected[shard].append((plain(tick, names[:2]), levels.tobytes()))
    assert of.outboxes.keys() == owned
    for shard in owned:
        found = []
        for batch in batches(of, shard):
            assert [streams.instrument_id(key) for key in batch.keys] == list(dict.fromkeys(batch.rec["id"].tolist()))
            at = 0
            for tick in batch.rec:
                found.append((plain(tick, names[:2]), batch.depth[at : at + tick["levels"]].tobytes()))
                at += tick["levels"]
        assert found == expected[shard]


def plain(tick: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(tick[name].item() for name in names)


def test_what_nobody_has_asked_for_is_not_published_and_what_surrounds_it_is() -> None:
    of = collector(follow=[KEYS[0], KEYS[2]])
    of.take(frame(KEYS[0], KEYS[1], KEYS[2]), 5, 1.0)
    of.take(frame(KEYS[1], ts=T0 + 1), 5, 1.0)
    (batch,) = batches(of)
    rec, depth = decoded(frame(KEYS[0], KEYS[1], KEYS[2]))
    asked = rec["id"] != streams.instrument_id(KEYS[1])

    assert set(batch.keys) == {KEYS[0], KEYS[2]}
    assert batch.depth.tobytes() == depth[np.repeat(asked, 5)].tobytes()
    assert batch.rec["ltp"].tolist() == rec["ltp"][asked].tolist()
    of.take(frame(KEYS[1]), 5, 1.0)
    assert entries(of) == []


def test_an_instrument_that_is_forgotten_while_its_ticks_wait_is_still_published() -> None:
    of = collector()
    of.take(frame(KEYS[0], KEYS[1]), 5, 1.0)
    of.forget([KEYS[0]])
    of.take(frame(KEYS[0], KEYS[1], ts=T0 + 1), 5, 1.0)

    assert [set(batch.keys) for batch in batches(of)] == [{KEYS[0], KEYS[1]}, {KEYS[1]}]


def test_a_shard_that_was_let_go_gets_nothing_more() -> None:
    of = collector(2)
    of.take(frame(*KEYS), 5, 1.0)
    of.let_go(0)
    of.take(frame(*KEYS, ts=T0 + 1), 5, 1.0)

    assert of.outboxes.keys() == {1}
    assert all(shard_of(key, 2) == 1 for batch in batches(of, 1) for key in batch.keys)


# What belongs to no instrument


def test_market_phases_are_remembered_and_tell_the_time() -> None:
    of = collector()
    of.take(market_info(NSE_EQ=pb.MarketStatus.PRE_OPEN_START, XX=99), 5, 1.0)
    of.take(market_info(pb.MarketStatus.NORMAL_CLOSE, ts=T0 + 9), 5, 2.0)
    of.drain()

    assert of.statuses == {"NSE_FO": "NORMAL_CLOSE", "NSE_EQ": "PRE_OPEN_START", "XX": "99"}
    assert of.clock.at(3.0) == T0 + 9 + 1000
    assert entries(of) == []


def test_a_beat_tells_venue_time_and_whether_the_feed_is_up() -> None:
    of = collector()
    of.beat(0, True, 1.0, 7)
    assert entries(of) == []  # nobody knows the time yet

    of.take(market_info(), 5, 1.0)
    of.beat(0, True, 2.5, 7)
    of.beat(0, False, 3.5, 7)
    assert [(batch.ts, batch.feed) for batch in batches(of)] == [
        (T0 + 1500, FeedMark.LIVE),
        (T0 + 2500, FeedMark.AWAY),
    ]


def test_a_down_mark_comes_after_the_ticks_that_came_before_it_and_names_its_instruments_by_shard() -> None:
    of = collector(2)
    of.take(frame(*KEYS), 5, 1.0)
    of.down(KEYS[:3], T0)
    for shard in (0, 1):
        ticked, mark = batches(of, shard)
        assert len(ticked.rec) > 0
        assert (mark.feed, mark.ts) == (FeedMark.DOWN, T0)
        assert set(mark.keys) == {key for key in KEYS[:3] if shard_of(key, 2) == shard}


def test_history_goes_to_the_shards_of_its_instruments() -> None:
    of = collector(2, owned=[1])
    bar = HistoryBar(instrument="", ts=T0, open=1, high=2, low=1, close=2, volume=5, oi=None)
    bars = [bar.model_copy(update={"instrument": key}) for key in KEYS]
    of.learn(bars, 1.0, 7)
    (mark,) = batches(of, 1)

    assert [each["instrument"] for each in orjson.loads(mark.bars)] == [key for key in KEYS if shard_of(key, 2) == 1]


# What a connection hears


class Ear:
    def __init__(self) -> None:
        self.all: list[Heard] = []

    def heard(self, heard: Heard) -> None:
        self.all.append(heard)


def test_a_connection_hears_of_its_own_frames_what_they_were_about() -> None:
    of, one, other, third = collector(), Ear(), Ear(), Ear()
    of.take(market_info(ts=T0 + 1), 5, 1.0, one)
    of.take(frame(KEYS[0], ts=T0 + 2), 5, 1.0, other)
    of.take(frame(KEYS[1], ts=T0 + 3), 5, 1.0, other)
    of.take(b"\xff\xff\xff", 5, 1.0, third)
    assert one.all == other.all == []
    of.drain()
    of.drain()

    assert one.all == [Heard(T0 + 1, data=False, live=False)]
    assert other.all == [Heard(T0 + 3, data=True, live=True)]
    assert third.all == []


def test_the_state_of_what_was_just_subscribed_is_data_and_not_yet_life() -> None:
    of, ear = collector(), Ear()
    message = pb.FeedResponse.FromString(frame(KEYS[0]))
    message.type = pb.Type.initial_feed
    of.take(message.SerializeToString(), 5, 1.0, ear)
    of.drain()
    assert ear.all == [Heard(T0, data=True, live=False)]


def test_frames_gather_until_somebody_wants_them_or_they_are_many() -> None:
    of, ear = collector(), Ear()
    woken: list[int] = []
    of.wake = lambda: woken.append(1)
    for number in range(2047):
        of.take(frame_of_nothing(T0 + number), 5, 1.0, ear)
    assert (len(woken), ear.all) == (1, [])
    of.take(frame_of_nothing(T0 + 2047), 5, 1.0, ear)
    assert len(ear.all) == 1


def frame_of_nothing(ts: int) -> bytes:
    return pb.FeedResponse(type=pb.Type.live_feed, currentTs=ts).SerializeToString()


# Malformed frames


@pytest.mark.parametrize(
    "bad",
    [b"\xff\xff\xff", frame(KEYS[0])[:-3], frame(KEYS[0], ts=0), frame(KEYS[0], ts=1 << 62)],
    ids=["garbage", "cut", "no time", "an impossible time"],
)
def test_a_malformed_frame_is_set_aside_with_its_bytes_and_nothing_of_it_is_published(bad: bytes) -> None:
    of = collector()
    of.take(frame(KEYS[0]), 5, 1.0)
    of.take(bad, 5, 1.0)
    of.take(frame(KEYS[1], ts=T0 + 1), 5, 1.0)
    found = entries(of)

    (dead,) = [each.fields for each in found if each.stream == "dead:ticks:{0}"]
    assert dead[b"frame"] == bad
    assert dead[b"worker"] == b"ingest"
    assert dead[b"why"]
    published = [unpacked(each).keys for each in found if each.stream == "ticks:{0}"]
    assert published == [(KEYS[0], KEYS[1])]
    assert of.clock.at(1.0) == T0 + 1


def test_a_flood_of_malformed_frames_is_counted_and_only_some_are_kept() -> None:
    of = collector()
    for number in range(1000):
        of.take(b"\xff" * 10, 5, 1.0 + number / 500)
        of.drain()
    assert len(entries(of)) == 40


def test_malformed_frames_fill_the_buffer_no_further_than_its_limit() -> None:
    of = collector(limit=1 << 20)
    for number in range(1000):
        of.take(b"\xff" * 200_000, 5, float(number))
    assert of.outboxes[0].size_bytes < 2 << 20


def test_without_a_shard_of_ours_a_malformed_frame_goes_nowhere() -> None:
    of = collector(2, owned=[])
    assert of.take(b"\xff", 5, 1.0) is None
    assert of.outboxes == {}


# Overflow


def test_an_overflow_is_marked_where_it_began_counted_and_everything_starts_anew() -> None:
    of = collector(limit=20_000)
    spans: list[tuple[int, int]] = []
    of.overflowed = lambda *span: spans.append(span)
    sent = 0
    while not of.full:
        of.take(frame(*KEYS, ts=T0 + sent * 1000), 5, float(sent))
        of.flush()
        sent += 1
    for more in range(3):
        assert of.take(frame(*KEYS, ts=T0 + (sent + more) * 1000), 5, float(sent + more)) is None
    of.take(frame(*KEYS, ts=T0 + (sent + 3) * 1000), 5, float(sent + 3))
    assert of.gaps == []

    before = batches(of)
    last_ts, first_lost = T0 + (sent - 1) * 1000, T0 + (sent + 3) * 1000
    assert [batch.ts for batch in before] == [T0 + n * 1000 for n in range(sent)]
    (mark,) = batches(of)  # put at the first room, before anything new
    assert (mark.feed, mark.ts, mark.keys) == (FeedMark.DOWN, last_ts, ())
    assert of.gaps == [{"frames": 4, "from_ts": last_ts, "to_ts": first_lost}]
    assert spans == [(last_ts, first_lost)]

    of.take(frame(*KEYS, ts=first_lost + 1000), 5, float(sent + 4))
    (after,) = batches(of)
    assert (after.rec["flags"] & Block.BASE).astype(bool).all()
    of.take(frame(*KEYS, ts=first_lost + 2000), 5, float(sent + 5))
    assert not (batches(of)[0].rec["flags"] & Block.BASE).any()
    assert len(of.gaps) == 1


def test_an_overflow_that_ends_in_silence_is_reported_all_the_same() -> None:
    of = collector(limit=1000)
    of.take(frame(*KEYS), 5, 1.0)
    of.flush()
    of.take(frame(*KEYS, ts=T0 + 1), 5, 2.0)
    entries(of)  # Redis is back, and no frame comes any more

    assert [batch.feed for batch in batches(of)] == [FeedMark.DOWN]
    assert len(of.gaps) == 1


# Instruments


def test_instruments_are_unseen_until_they_tick_after_their_base_was_marked() -> None:
    of = collector()
    of.take(frame(*KEYS[:5]), 5, 1.0)
    assert of.unseen(KEYS[:7]) == set(KEYS[5:7])
    of.mark_base(KEYS[:2])
    assert of.unseen(KEYS[:7]) == {*KEYS[:2], *KEYS[5:7]}


def test_marking_what_is_not_followed_is_a_mistake_that_shows() -> None:
    with pytest.raises(KeyError):
        collector(follow=[]).mark_base(["NSE_FO|1"])


def test_the_registry_names_a_shards_instruments_by_their_ids() -> None:
    found = collector(2).registry(1, KEYS)
    assert {int(number): key for number, key in found.items()} == {
        streams.instrument_id(key): key for key in KEYS if shard_of(key, 2) == 1
    }


def test_quotes_hold_the_last_state_of_each_instrument_that_has_changed() -> None:
    of = collector()
    of.take(frame(*KEYS[:3]), 5, 1.0)
    of.take(frame(KEYS[0], ts=T0 + 1, seed=2), 6, 1.0)
    states = of.quotes.due(0, 10.0)
    of.flush()

    assert set(states) == set(KEYS[:3])
    assert states[KEYS[0]]["ts"] == T0 + 1
    assert np.array(list(states.values()), TICK)["id"].tolist() == [streams.instrument_id(key) for key in states]
