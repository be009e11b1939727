"""What a collector was told comes out of its tape as the same entries; and what a tape does when the disk fails."""

import itertools
import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.bars import BarBuilder
from bench import frames
from bus.inbox import Output, Published
from ingest.collector import Collector
from ingest.tape import reader
from ingest.tape.format import AHEAD, Kind, Record
from ingest.tape.player import Ahead, Begin, End, Player, Publish, Step, Uncertain
from ingest.tape.reader import Hole
from ingest.tape.recorder import Recorder, Stretch
from schemas import streams, ticks
from schemas.bars import HistoryBar
from schemas.events import EventKind
from schemas.streams import shard_of
from schemas.ticks import Block, SessionClass

KEYS = frames.keys(30)
SESSION = date(2026, 11, 20)
T0 = frames.START_MS
MODES = list(frames.Mode)


class Ingest:
    """A collector that records, with everything around it that is needed, and nothing that waits."""

    def __init__(self, root: Path, shards: int = 1, *, seed: int = 1, **more: Any) -> None:
        self.rng = random.Random(seed)
        self.shards = shards
        self.collector = Collector(shards, 1 << 40, self.session_of)
        self.recorder = Recorder(self.collector, root, {"settings": {}}, now_ns=self.now_ns, **more)
        self.published: dict[int, list[Output]] = {shard: [] for shard in range(shards)}
        self.now_s = 100.0
        self.ms = 0

    def session_of(self, _: str) -> SessionClass:
        return SessionClass(self.rng.randrange(4))

    def now_ns(self) -> int:
        return int(self.now_s * 1e9)

    def begin(self) -> None:
        self.recorder.begin(SESSION, "test")

    def own(self, shard: int) -> None:
        self.collector.outbox(shard).resume(Published(), False, 0.0)

    def cut(self, shard: int, commands: list[list[bytes]] | None = None) -> None:
        """As `ingest.tape.shards` does when nothing waits."""
        self.publish(shard)
        number = self.recorder.cut(shard)
        self.recorder.prelude(shard, number, {"candles": f"{number}-0"}, commands or [])
        self.recorder.stretches.setdefault(shard, Stretch(number, "0-0"))

    def publish(self, shard: int) -> None:
        box = self.collector.outboxes.get(shard)
        while box:
            write = box.take()
            if (stretch := self.recorder.stretches.get(shard)) is not None:
                stretch.entries += sum(output.stream == streams.ticks(shard) for output in write.outputs)
                stretch.committed = stretch.entries
                self.published[shard] += write.outputs
            box.done(self.now_s)

    def frame(self) -> bytes:
        if self.rng.random() < 0.03:
            return self.rng.randbytes(20)  # malformed
        of = self.rng.sample(KEYS, self.rng.randrange(1, 9))
        late = self.rng.random() < 0.05
        return frames.frame(self.rng.choice(MODES), of, T0 + self.ms - (5_000 if late else 0), self.rng)

    def step(self) -> None:
        """Something happens."""
        self.now_s += self.rng.random()
        self.ms += self.rng.randrange(400)
        rng, collector = self.rng, self.collector
        some = rng.sample(KEYS, rng.randrange(1, len(KEYS)))
        shard = rng.randrange(self.shards)
        match rng.choices(range(9), (60, 8, 3, 3, 4, 4, 6, 8, 12))[0]:
            case 0:
                collector.take(self.frame(), int(self.now_s * 1e9), self.now_s)
            case 1:
                collector.drain()
            case 2:
                collector.follow(some)
            case 3:
                collector.forget(some)
            case 4:
                collector.follow(some)
                collector.mark_base(some)
            case 5:
                collector.down(some if rng.random() < 0.7 else None, collector.frame_ts)
            case 6:
                collector.beat(shard, rng.random() < 0.5, self.now_s, int(self.now_s * 1e9))
            case 7:
                bar = HistoryBar(instrument="", ts=T0, open=1, high=2, low=1, close=2, volume=5, oi=None)
                collector.learn([bar.model_copy(update={"instrument": key}) for key in some], self.now_s, 7)
            case 8:
                collector.flush()
                self.publish(shard)

    def end(self) -> None:
        self.collector.flush()
        for shard in list(self.collector.outboxes):
            self.publish(shard)
        self.recorder.end()
        self.recorder.join()


def played(root: Path, shards: int = 1, *, skip_damaged: bool = False, **more: Any) -> list[Step]:
    segments = reader.segments_of(root)
    ahead = Ahead.of(reader.records(segments, kinds=AHEAD, skip_damaged=skip_damaged))
    player = Player(shards, ahead, **more)
    steps = [step for one in reader.records(segments, skip_damaged=skip_damaged) for step in player.play(one)]
    return [*steps, *player.finish()]


def entries(steps: list[Step], shard: int) -> list[Output]:
    return [one for step in steps if isinstance(step, Publish) and step.shard == shard for one in step.outputs]


def until(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.001)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shards", [1, 3])
def test_whatever_happens_the_same_entries_come_out(tmp_path: Path, shards: int, seed: int) -> None:
    ingest = Ingest(tmp_path, shards, seed=seed)
    for shard in range(shards):
        ingest.own(shard)
    ingest.collector.follow(KEYS)
    before = ingest.rng.randrange(60)
    for number in range(300):
        if number == before:
            ingest.begin()
        if number == before + 20:
            for shard in range(shards):
                ingest.cut(shard)
        ingest.step()
    ingest.end()
    steps = played(tmp_path / "2026-11-20" / "test", shards)
    for shard in range(shards):
        assert entries(steps, shard) == ingest.published[shard]
        assert len(ingest.published[shard]) > 20
    assert sum(isinstance(step, Begin) for step in steps) == shards


def test_a_replay_can_begin_at_any_segment_and_goes_on_across_them(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path, segment_bytes=1)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    counts = []
    for _ in range(3):
        ingest.cut(0)
        counts.append(len(ingest.published[0]))
        for _ in range(100):
            ingest.step()
        ingest.publish(0)
        until(lambda: ingest.recorder.written[1] > 0, "something is written")
        writer = vars(ingest.recorder)["_writer"]
        writer.rotate()
        vars(ingest.recorder)["_cut"].clear()
        ingest.recorder._checkpoint(goes_on=True)
    ingest.end()
    folder = tmp_path / "2026-11-20" / "test"
    whole = played(folder)
    assert entries(whole, 0) == ingest.published[0]
    assert sum(isinstance(step, Begin) for step in whole) == 1
    for number, segment in enumerate(sorted(folder.glob("*.tape"))[:3]):
        later = played(segment)
        assert entries(later, 0) == ingest.published[0][counts[number] :]


def test_a_player_begins_with_what_redis_held(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path)
    ingest.own(0)
    ingest.begin()
    ingest.cut(0, [[b"SET", b"state:aggregator:{0}", b"\x00\xff"]])
    ingest.end()
    begin, end = played(tmp_path / "2026-11-20" / "test")
    assert begin == Begin(0, [[b"SET", b"state:aggregator:{0}", b"\x00\xff"]], {"candles": "1-0"})
    assert isinstance(end, End)


def test_what_others_had_put_between_two_entries_is_there_again(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    ingest.cut(0)
    for number in range(4):
        ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS[:3], T0 + number, ingest.rng), number, float(number))
        ingest.collector.flush()
        ingest.publish(0)
    foreign = [b"ts", b"5", b"rx", b"0", b"n", b"0", b"feed", b"away"]
    ingest.recorder.foreign(0, ingest.recorder.stretches[0], 2, foreign)
    ingest.end()
    found = entries(played(tmp_path / "2026-11-20" / "test"), 0)
    assert [output.fields[b"rx"] for output in found] == [0, 1, b"0", 2, 3]


def test_only_what_is_known_to_be_published_is_compared(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    ingest.cut(0)
    for number in range(6):
        ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS[:3], T0 + number, ingest.rng), number, float(number))
        ingest.collector.flush()
        if number == 3:
            ingest.publish(0)
            ingest.recorder.tend(0.0, SESSION, "test")
    writer = vars(ingest.recorder)["_writer"]
    ingest.collector.tape = None  # killed: what waits is never published
    writer.finish()
    writer.join()
    folder = tmp_path / "2026-11-20" / "test"
    assert len(entries(played(folder, only_committed=True), 0)) == 4
    assert len(entries(played(folder), 0)) == 6


def test_behind_damage_every_instrument_starts_anew_and_nobody_vouches_for_it(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path, block_bytes=1 << 18)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    ingest.cut(0)
    for number in range(400):
        ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS[:8], T0 + number, ingest.rng), number, float(number))
        if number % 10 == 0:
            ingest.collector.flush()
    ingest.end()
    folder = tmp_path / "2026-11-20" / "test"
    path = folder / "0001.tape"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(reader.DamagedTape):
        played(folder)
    steps = played(folder, skip_damaged=True)
    (lost,) = [at for at, step in enumerate(steps) if isinstance(step, Uncertain)]
    behind = [one for one in entries(steps[lost:], 0) if one.stream == streams.ticks(0)]
    (down,) = [at for at, one in enumerate(behind) if one.fields.get(b"feed") == b"down"]
    behind = behind[down + 1 :]

    first = unpacked(behind[0].fields)
    assert (first.rec["flags"][:8] & Block.BASE > 0).all()
    assert any(one.fields.get(b"feed") == b"down" for one in entries(steps[lost:], 0))


# A disk that does not keep up


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_tape_a_gap_and_the_feed_nothing(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    ingest.cut(0)

    def take(count: int) -> None:
        for _ in range(count):
            ingest.ms += 100
            ingest.now_s += 0.1
            of = frames.frame(frames.Mode.FULL, KEYS, T0 + ingest.ms, ingest.rng)
            ingest.collector.take(of, int(ingest.now_s * 1e9), ingest.now_s)
            ingest.collector.flush()

    writer = vars(ingest.recorder)["_writer"]
    take(5)
    until(lambda: writer.waiting_bytes == 0, "written")
    with no_file_larger_than(100_000):
        take(100)
        until(lambda: bool(writer.failure), "the disk is full")
        take(7)
        ingest.recorder.tend(10.0, SESSION, "test")  # tries again at once, with a new segment
        assert "File too large" in ingest.recorder.losing
        assert [news.kind for news in ingest.recorder.news] == [EventKind.ALERT]
        take(5)
    ingest.recorder.tend(11.0, SESSION, "test")
    assert ingest.recorder.losing == ""
    ingest.cut(0)
    before = len(ingest.published[0])
    take(20)
    ingest.end()
    (_, gap) = ingest.recorder.news
    assert gap.kind is EventKind.GAP
    folder = tmp_path / "2026-11-20" / "test"
    left = sum(isinstance(one, Record) and one.kind is Kind.FRAME for one in reader.records(reader.segments_of(folder)))
    assert 25 <= left == ingest.recorder.written[0]
    assert gap.data["frames"] == 5 + 100 + 7 + 5 + 20 - left
    assert f"the tape lacks {gap.data['frames']} frames" in gap.message
    steps = played(folder)
    ends = [step for step in steps if isinstance(step, End)]
    assert ["File too large" in end.why for end in ends] == [True, False]
    after = steps.index(ends[0])
    assert entries(steps[after:], 0) == ingest.published[0][before:]
    assert sum(output.fields[b"n"] for output in ingest.published[0][-20:]) == 20 * len(KEYS)  # type: ignore[misc]
    assert not any(isinstance(one, Hole) for one in reader.records(reader.segments_of(folder)))


def test_a_disk_that_is_too_slow_is_not_waited_for(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path, queue_max_bytes=50_000)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    writer = vars(ingest.recorder)["_writer"]
    taken = 0
    while not ingest.recorder.losing:  # faster than the thread looks
        taken += 1
        ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS, T0 + taken, ingest.rng), taken, float(taken))
    assert "too slow" in ingest.recorder.losing
    assert writer.waiting_bytes < 100_000
    for more in range(3):
        ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS, T0 + taken + more, ingest.rng), 1, 1.0)
    until(lambda: writer.waiting_bytes == 0, "written after all")
    ingest.recorder.tend(1.0, SESSION, "test")
    ingest.end()
    records = list(reader.records(reader.segments_of(tmp_path / "2026-11-20" / "test")))
    (gap,) = [one.json for one in records if isinstance(one, Record) and one.kind is Kind.GAP]
    assert gap["frames"] == 4
    assert ingest.recorder.written[0] == taken - 1
    assert sum(isinstance(one, Record) and one.kind is Kind.FRAME for one in records) == taken - 1


def test_a_new_session_is_a_new_tape(tmp_path: Path) -> None:
    ingest = Ingest(tmp_path)
    ingest.begin()
    ingest.collector.take(frames.frame(frames.Mode.FULL, KEYS, T0, ingest.rng), 1, 1.0)
    ingest.collector.flush()
    ingest.recorder.tend(1.0, date(2026, 11, 18), "test")  # the venue's date, which nobody knew before
    assert ingest.recorder.folder == tmp_path / "2026-11-18" / "test"
    ingest.recorder.tend(2.0, date(2026, 11, 19), "later")
    ingest.end()
    assert [(one.session, one.folder.name, one.whole) for one in reader.tapes(tmp_path)] == [
        ("2026-11-18", "test", True),
        ("2026-11-19", "later", True),
    ]


def test_keys_of_the_tests_are_in_all_shards() -> None:
    assert {shard_of(key, 3) for key in KEYS} == {0, 1, 2}


# How frames were packed


@pytest.mark.parametrize("seed", range(4))
def test_bars_and_their_revisions_do_not_depend_on_how_frames_were_packed(tmp_path: Path, seed: int) -> None:
    ingest = Ingest(tmp_path, seed=seed)
    ingest.own(0)
    ingest.begin()
    ingest.collector.follow(KEYS)
    ingest.cut(0)
    for _ in range(600):
        ingest.ms += ingest.rng.randrange(1500)
        ingest.step()
    ingest.end()
    found = [one for one in entries(played(tmp_path / "2026-11-20" / "test"), 0) if one.stream == streams.ticks(0)]
    packed = [unpacked(one.fields) for one in found]
    bars = folded(packed)
    assert len(bars) > 50
    assert folded(repacked(packed, lambda: 1)) == bars
    assert folded(repacked(packed, lambda: 1 << 30)) == bars
    assert folded(repacked(packed, lambda: ingest.rng.randrange(1, 12))) == bars


def folded(batches: list[ticks.TickBatch]) -> list[bytes]:
    builder = BarBuilder(lambda *_: [(0, 1 << 62)])
    return [bar.data for batch in batches for bar in builder.add(batch).bars]


def repacked(batches: list[ticks.TickBatch], size: Callable[[], int]) -> list[ticks.TickBatch]:
    """The same records in the same order, so many in an entry; marks stay between those that they were between."""
    made: list[ticks.TickBatch] = []
    for marks, group in itertools.groupby(batches, lambda batch: not len(batch.rec)):
        some = list(group)
        if marks:
            made += some
            continue
        rec, depth = np.concatenate([one.rec for one in some]), np.concatenate([one.depth for one in some])
        key_of = {streams.instrument_id(key): key for one in some for key in one.keys}
        place = level = 0
        while place < len(rec):
            part = rec[place : place + size()]
            levels = int(part["levels"].sum())
            keys = ",".join(key_of[number] for number in dict.fromkeys(part["id"].tolist()))
            made.append(unpacked(ticks.pack(int(part["ts"].max()), 1, keys, part, depth[level : level + levels])))
            place, level = place + len(part), level + levels
    return made


def unpacked(fields: Mapping[Any, Any]) -> ticks.TickBatch:
    return ticks.unpack({name: v if isinstance(v, bytes) else str(v).encode() for name, v in fields.items()})
