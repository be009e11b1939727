"""Finds tapes and reads them: every record that is whole, in order, and what is wrong with the rest."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

from ingest.tape import format as form
from ingest.tape.format import Block, Damaged, Kind, Record, Torn
from schemas.errors import Misconfigured, Rejected

_SEARCHED_BYTES: Final = 1 << 20  # at a time, for the next block behind damage


class DamagedTape(Rejected):
    """A file is not what was written."""

    def __init__(self, path: Path, damage: Damaged) -> None:
        super().__init__(
            f"{path} is damaged: {damage}. `--skip-damaged` leaves out what cannot be read and goes on behind it."
        )


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that cannot be read lay here."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What can be told of a tape without unpacking it."""

    folder: Path
    session: str
    segments: int
    frames: int
    raw_bytes: int
    stored_bytes: int
    from_ns: int
    to_ns: int
    whole: bool  # closed in order
    recording: bool  # somebody writes it now


def segments_of(path: Path) -> list[Path]:
    """The segments that a person means with `path`: all of a tape's, or one and those after it."""
    if path.is_dir():
        found = sorted(path.glob("[0-9]*.tape"))
        if not found:
            raise Misconfigured(f"There is no tape in {path}: `teji replay --list` shows the tapes that there are.")
        return found
    if not path.exists():
        raise Misconfigured(f"There is no {path}: `teji replay --list` shows the tapes that there are.")
    return [one for one in sorted(path.parent.glob("[0-9]*.tape")) if one.name >= path.name] or [path]


def about(segment: Path) -> dict[str, Any]:
    """The header of a segment."""
    with segment.open("rb") as file:
        try:
            return form.read_header(file.read(form.HEADER_MAX_BYTES))[0]
        except Damaged as damage:
            raise DamagedTape(segment, damage) from None
        except Torn:
            raise Misconfigured(f"{segment} was never begun: its header is not whole.") from None


def records(
    segments: Collection[Path],
    *,
    kinds: Collection[Kind] | None = None,
    skip_damaged: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Record | Hole]:
    """All records, or only those of some kinds. `progress` hears of bytes read. Raises DamagedTape, unless what is
    damaged is to be skipped: then a Hole stands for it."""
    following: int | None = None  # number of the next record
    for path in segments:
        for first, part, size in _parts(path, kinds, skip_damaged):
            progress(size)
            if isinstance(part, Hole):
                following = None
                yield part
                continue
            if following is not None and first > following:
                yield Hole(path, f"records {following} to {first - 1} are missing")
            known = 0 if following is None else max(0, following - first)  # in the block and in the tail
            yield from (record for record in part[known:] if kinds is None or record.kind in kinds)
            following = max(following or 0, first + len(part))


def _parts(
    path: Path, kinds: Collection[Kind] | None, skip_damaged: bool
) -> Iterator[tuple[int, list[Record] | Hole, int]]:
    """Number of the first record, the records, and how many bytes they take, of each block and of the tail."""
    end = 0
    with path.open("rb") as file:
        try:
            _, at = form.read_header(file.read(form.HEADER_MAX_BYTES))
        except Damaged as damage:
            raise DamagedTape(path, damage) from None
        except Torn:
            at = 0
        while at:
            try:
                found, records_of, after = _block(file, at, kinds)
                yield found.first, records_of, after - at
                at, end = after, found.first + found.records
            except Torn:
                break
            except Damaged as damage:
                if not skip_damaged:
                    raise DamagedTape(path, damage) from None
                yield 0, Hole(path, str(damage)), 0
                at = damage.skip or _next_block(file, damage.at + 1)
    tail = path.with_suffix(".tail")
    if tail.exists():
        data = tail.read_bytes()
        first, rest = form.read_tail(data)
        if rest and first + len(rest) > end:
            yield first, rest, len(data)


def _block(file: IO[bytes], at: int, kinds: Collection[Kind] | None) -> tuple[Block, list[Record], int]:
    """The block at `at`, its records (none are unpacked where it has none of the kinds), and where it ends."""
    file.seek(at)
    found = form.read_block(file.read(form.HEAD_BYTES), at)
    after = at + form.HEAD_BYTES + found.stored_bytes
    if kinds is not None and not found.has(kinds):
        if os.fstat(file.fileno()).st_size < after:
            raise Torn
        return found, [Record(Kind.FRAME)] * found.records, after
    return found, list(form.unblock(found, file.read(found.stored_bytes), at)), after


def _next_block(file: IO[bytes], at: int) -> int:
    """Where the next head of a block stands, 0: nowhere."""
    while True:
        file.seek(at)
        data = file.read(_SEARCHED_BYTES)
        place = data.find(form.BLOCK_MAGIC)
        if place >= 0:
            file.seek(at + place)
            with contextlib.suppress(Damaged, Torn):
                form.read_block(file.read(form.HEAD_BYTES), at + place)
                return at + place
            at += place + 1
        elif len(data) < _SEARCHED_BYTES:
            return 0
        else:
            at += len(data) - len(form.BLOCK_MAGIC) + 1


# All tapes


def tapes(root: Path) -> list[Found]:
    """Oldest first."""
    folders = {path.parent for path in root.glob("*/*/[0-9]*.tape")}
    return [_found(folder) for folder in sorted(folders)]


def _found(folder: Path) -> Found:
    frames = raw = stored = 0
    times: list[int] = []
    whole = recording = False
    paths = segments_of(folder)
    for path in paths:
        stored += path.stat().st_size
        with path.open("rb") as file, contextlib.suppress(Torn, Damaged):
            recording = recording or _is_locked(file)
            _, at = form.read_header(file.read(form.HEADER_MAX_BYTES))
            while True:
                file.seek(at)
                block = form.read_block(file.read(form.HEAD_BYTES), at)
                at += form.HEAD_BYTES + block.stored_bytes
                frames += block.frames
                raw += block.raw_bytes
                times += [block.from_ns, block.to_ns] if block.frames else []
                whole = block.has({Kind.END})
        if path.with_suffix(".tail").exists():
            _, rest = form.read_tail(path.with_suffix(".tail").read_bytes())
            stamps = [record.rx_ns for record in rest if record.kind is Kind.FRAME]
            frames += len(stamps)
            times += stamps
            whole = whole or any(record.kind is Kind.END for record in rest)
    return Found(
        folder, folder.parent.name, len(paths), frames, raw, stored,
        min(times, default=0), max(times, default=0), whole, recording,
    )  # fmt: skip


def _is_locked(file: IO[bytes]) -> bool:
    """A writer holds a shared lock as long as it lives; a reader who tries takes and gives back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def prune(root: Path, today: date, keep_days: int, max_bytes: int) -> int:
    """Clear away segments of sessions that are too old, and the oldest while there are more bytes than may be. What is
    being written stays. Returns how many bytes that freed."""
    segments = sorted(root.glob("*/*/[0-9]*.tape"))
    sizes = {path: path.stat().st_size for path in segments}
    total, freed = sum(sizes.values()), 0
    for path in segments:
        old = _age_days(path, today) >= keep_days
        if not (old or total - freed > max_bytes):
            continue
        with path.open("rb") as file:
            if _is_locked(file):
                continue
            path.with_suffix(".tail").unlink(missing_ok=True)
            path.unlink()
        freed += sizes[path]
        for folder in (path.parent, path.parent.parent):
            with contextlib.suppress(OSError):  # something is left in it
                folder.rmdir()
    return freed


def _age_days(segment: Path, today: date) -> int:
    try:
        return (today - date.fromisoformat(segment.parent.parent.name)).days
    except ValueError:
        return 0
