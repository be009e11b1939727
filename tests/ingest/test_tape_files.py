"""The files of a tape: torn at every byte, damaged, too many, and a disk that takes no more."""

import os
import random
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ingest.tape import format as form
from ingest.tape import reader
from ingest.tape.format import Kind, Record
from ingest.tape.reader import DamagedTape, Hole
from ingest.tape.writer import Writer
from schemas.errors import Misconfigured

ABOUT = {"version": "test", "settings": {}}
TODAY = date(2026, 11, 20)


def until(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.001)


def some_records(count: int, seed: int = 1, size: int = 60) -> list[bytes]:
    rng = random.Random(seed)
    return [
        form.pack(Kind.FRAME, rng.randbytes(rng.randrange(size)), rx_ns=1000 + number, now_s=number / 8, connection=1)
        for number in range(count)
    ]


def packed(record: Record) -> bytes:
    return form.pack(
        record.kind, record.payload, record.rx_ns, record.now_s, record.connection, record.shard, record.flags
    )


def written(folder: Path, records: list[bytes], **more: Any) -> Path:
    """A tape of these, closed in order. Returns its first segment."""
    writer = Writer(folder, ABOUT, **more)
    for record in records:
        assert writer.put(record)
    writer.finish()
    writer.join()
    assert not writer.failure
    return folder / "0001.tape"


def read(path: Path, **more: Any) -> list[bytes]:
    found = reader.records(reader.segments_of(path), **more)
    return [packed(record) for record in found if isinstance(record, Record)]


# A power cut


class Watched(Writer):
    """Notes what happens to the files, to be repeated up to any byte."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.done: list[tuple[str, bytes]] = []  # file and what was appended to it; empty: it was emptied
        super().__init__(*args, **more)

    def _append(self, handle: int, data: bytes) -> None:
        super()._append(handle, data)
        self.done.append((Path(os.readlink(f"/proc/self/fd/{handle}")).name, data))

    def _empty_tail(self) -> None:
        self.done.append((self._tail_path.name, b""))
        super()._empty_tail()


def files_at(done: list[tuple[str, bytes]], at: int) -> dict[str, bytes]:
    """The files when so many bytes had been written."""
    files: dict[str, bytes] = {}
    for name, data in done:
        if not data:
            files[name] = b""
            continue
        files[name] = files.get(name, b"") + data[:at]
        if len(data) >= at:
            return files
        at -= len(data)
    return files


def test_torn_at_any_byte_a_tape_lacks_no_more_than_the_record_that_was_being_written(tmp_path: Path) -> None:
    records = some_records(14)
    writer = Watched(tmp_path / "tape", ABOUT, block_bytes=250)
    for number, record in enumerate(records):
        writer.put(record)
        until(lambda number=number: writer.next > number, "written")  # type: ignore[misc]
        if number == 8:
            writer.rotate()
    until(lambda: any(name == "0002.tape" for name, _ in writer.done), "two segments")
    done = list(writer.done)
    writer.finish()
    writer.join()
    lengths = [len(data) for _, data in done]
    assert sum(name.endswith(".tail") and not data for name, data in done) >= 3  # blocks were closed meanwhile
    torn = tmp_path / "torn"
    for at in range(1, sum(lengths) + 1):
        files = files_at(done, at)
        whole, left = 0, at
        for name, data in done:
            if left < len(data):
                break
            left -= len(data)
            whole += name.endswith(".tail") and len(data) > len(form.tail_header(0))
        torn.mkdir(exist_ok=True)
        for old in torn.iterdir():
            old.unlink()
        for name, content in files.items():
            (torn / name).write_bytes(content)
        assert read(torn) == records[:whole], f"after {at} bytes"


@pytest.mark.parametrize("suffix", ["tape", "tail"])
def test_a_file_that_ends_anywhere_gives_what_comes_before(tmp_path: Path, suffix: str) -> None:
    records = some_records(20, size=12)
    path = written(tmp_path / "tape", records, block_bytes=300)
    if suffix == "tail":
        path.write_bytes(form.header({"first": 0}))
        path.with_suffix(".tail").write_bytes(form.tail_header(0) + b"".join(map(form.tailed, records)))
    whole = path.with_suffix(f".{suffix}").read_bytes()
    found = []
    for at in range(len(whole)):
        path.with_suffix(f".{suffix}").write_bytes(whole[:at])
        found.append(read(path))
        assert found[-1] == records[: len(found[-1])]
    assert [len(one) for one in found] == sorted(len(one) for one in found)
    assert len(found[-1]) >= len(records) - (1 if suffix == "tail" else 15)


# Damage


def test_a_damaged_block_is_named_and_the_rest_can_be_read(tmp_path: Path) -> None:
    records = some_records(60)
    path = written(tmp_path / "tape", records, block_bytes=300)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0x20
    path.write_bytes(whole)
    with pytest.raises(DamagedTape, match=r"0001.tape is damaged: .* at byte \d+. `--skip-damaged`"):
        read(path)
    found = list(reader.records([path], skip_damaged=True))
    assert sum(isinstance(one, Hole) for one in found) == 1
    left = [packed(one) for one in found if isinstance(one, Record)]
    assert left[0] == records[0]
    assert left[-1] == records[-1]
    assert len(records) - 15 < len(left) < len(records)


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_makes_up_a_record(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    records = some_records(60, seed)
    path = written(tmp_path / "tape", records, block_bytes=300)
    whole = path.read_bytes()
    _, start = form.read_header(whole)
    for _ in range(150):
        harmed = bytearray(whole)
        for _ in range(rng.choice([1, 1, 5, 40])):
            harmed[rng.randrange(start, len(harmed))] = rng.randrange(256)
        path.write_bytes(harmed)
        left = read(path, skip_damaged=True)
        rest = iter(records)
        assert all(one in rest for one in left)  # in order, nothing doubled, nothing made up


def test_what_is_no_tape_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "0001.tape"
    path.write_bytes(b"certainly not what we write" * 10)
    with pytest.raises(DamagedTape, match="no tape of ours"):
        read(path)
    path.write_bytes(form.header({})[:9] + bytes([9]) + form.header({})[10:])
    with pytest.raises(DamagedTape, match="reads version 1"):
        read(path)
    with pytest.raises(Misconfigured, match="replay --list"):
        read(tmp_path / "nothing")


# Segments


def test_segments_follow_one_another_and_one_can_be_read_from_its_beginning(tmp_path: Path) -> None:
    records = some_records(30)
    writer = Writer(tmp_path / "tape", ABOUT, block_bytes=300)
    for number, record in enumerate(records):
        writer.put(record)
        if number in (9, 19):
            writer.rotate()
    writer.finish()
    writer.join()
    paths = reader.segments_of(tmp_path / "tape")
    assert [path.name for path in paths] == ["0001.tape", "0002.tape", "0003.tape"]
    assert [reader.about(path)["first"] for path in paths] == [0, 10, 20]
    assert read(tmp_path / "tape") == records
    assert read(paths[1]) == records[10:]
    assert not list((tmp_path / "tape").glob("*.tail"))


def test_only_some_kinds_are_unpacked(tmp_path: Path) -> None:
    records = some_records(50)
    records[31] = form.pack(Kind.COMMITTED, b"{}")
    path = written(tmp_path / "tape", records, block_bytes=200)
    assert read(path, kinds={Kind.COMMITTED}) == [records[31]]


def test_tapes_are_listed_with_what_is_known_of_them(tmp_path: Path) -> None:
    written(tmp_path / "2026-11-18" / "a", [*some_records(20), form.pack(Kind.END)])
    open_one = Writer(tmp_path / "2026-11-19" / "b", ABOUT)
    for record in some_records(5):
        open_one.put(record)
    until(lambda: open_one.next == 5, "written")
    first, second = reader.tapes(tmp_path)
    assert (first.session, first.frames, first.from_ns, first.to_ns) == ("2026-11-18", 20, 1000, 1019)
    assert (first.whole, first.recording) == (True, False)
    assert (second.frames, second.whole, second.recording) == (5, False, True)
    open_one.finish()
    open_one.join()
    assert not reader.tapes(tmp_path)[1].recording


# Too many


def test_a_tape_leaves_room_for_the_others_on_the_disk(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tape", ABOUT, leave_free_bytes=1 << 60)
    until(lambda: bool(writer.failure), "it says so")
    assert writer.failure == "less than 1.15292e+09 GB are free"
    assert not writer.put(b"x")
    assert not list((tmp_path / "tape").iterdir())


def test_old_sessions_go_first_and_what_is_written_stays(tmp_path: Path) -> None:
    for day in (10, 13, 18, 19):
        written(tmp_path / f"2026-11-{day}" / "tape", some_records(50, size=2000))
    now = Writer(tmp_path / "2026-11-10" / "now", ABOUT)
    until(lambda: (tmp_path / "2026-11-10" / "now" / "0001.tail").exists(), "begun")
    reader.prune(tmp_path, TODAY, 7, 1 << 40)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["2026-11-10/now", "2026-11-18/tape", "2026-11-19/tape"]
    size = (tmp_path / "2026-11-19" / "tape" / "0001.tape").stat().st_size
    assert reader.prune(tmp_path, TODAY, 7, size + size // 2) == size
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["2026-11-10/now", "2026-11-19/tape"]
    now.finish()
    now.join()


def test_nothing_to_clear_away_is_no_error(tmp_path: Path) -> None:
    assert reader.prune(tmp_path / "none", TODAY, 7, 0) == 0
