"""The thread that appends records to a segment, so that no disk ever holds up the feed.

The event loop hands over packed records and goes on; the queue between the two is bounded in bytes, and when it is
full the caller is told. The thread looks every twentieth of a second, writes what has come to the tail in one go, and
closes a block when enough has gathered.

What is synced when: the tail once a second, each block before the tail begins anew, a segment at its end. So a process
that is killed loses what came in the last twentieth of a second, a machine that loses power the last second.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import zstandard

from bus import clock
from ingest.tape import format as form
from ingest.tape.format import Kind

_LOOK_S: Final = 0.05
_SYNC_S: Final = 1.0
_AT_ONCE_BYTES: Final = 4 << 20
_LEVEL: Final = 5  # of zstd: the next one takes twice the time for a twentieth less
_END_S: Final = 10.0  # a disk that hangs must not keep a process from ending

QUEUE_MAX_BYTES: Final = 64 << 20
LEAVE_FREE_BYTES: Final = 1_000_000_000  # of the disk, for Redis and Postgres: a tape must not be what stops them


class Writer:
    """One segment after the other in a folder, until `finish` or the first error of the disk."""

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        first: int = 0,
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        block_bytes: int = form.BLOCK_RAW_BYTES,
        leave_free_bytes: int = LEAVE_FREE_BYTES,
    ) -> None:
        self.folder = folder
        self.failure = ""  # why nothing is written any more
        self.raw_bytes = 0  # of records, as they came
        self.stored_bytes = 0  # of the segments on the disk
        self.segment_bytes = 0  # of the present one
        self.next = first  # number of the next record
        self.frames = 0  # written, and when the newest of them had come
        self.newest_ns = 0
        self._about = about
        self._queue_max_bytes = queue_max_bytes
        self._block_bytes = block_bytes
        self._leave_free_bytes = leave_free_bytes
        self._queue: deque[bytes | Path | None] = deque()  # None: a new segment from here on; a path: move there
        self._put_bytes = 0  # the event loop counts what it puts, the thread what it takes: nothing to lock
        self._taken_bytes = 0
        self._stop = threading.Event()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._segment = self._tail = -1
        self._tail_path = folder
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._tail_bytes = 0
        self._synced_s = clock.monotonic_s()
        self._unsynced = False
        self._thread = threading.Thread(target=self._run, name="tape", daemon=True)
        self._thread.start()

    # Called by the event loop

    @property
    def waiting_bytes(self) -> int:
        return self._put_bytes - self._taken_bytes

    @property
    def alive(self) -> bool:
        return not self.failure and self._thread.is_alive()

    def put(self, packed: bytes) -> bool:
        """False: there is no room, the disk is too slow or gone."""
        if self.failure or self.waiting_bytes > self._queue_max_bytes:
            return False
        self._put_bytes += len(packed)
        self._queue.append(packed)
        return True

    def rotate(self) -> None:
        """A new segment for what comes now."""
        self.segment_bytes = 0
        self._queue.append(None)

    def move(self, folder: Path) -> None:
        """The tape belongs into another folder."""
        self._queue.append(folder)

    def finish(self) -> None:
        """Write what is left, then end; who has to know waits for `join`."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join(_END_S)

    # The thread

    def _run(self) -> None:
        try:
            self._open()
            while True:
                stopping = self._stop.wait(_LOOK_S)
                while self._queue:
                    self._write()
                self._sync(stopping)
                if stopping and not self._queue:
                    break
            self._end_segment()
        except OSError as error:
            self.failure = error.strerror or str(error)
            self._queue.clear()
        finally:
            for handle in (self._segment, self._tail):
                if handle >= 0:
                    with contextlib.suppress(OSError):  # it has said so before
                        os.close(handle)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_room()
        number = 1 + max((int(path.stem) for path in self.folder.glob("[0-9]*.tape")), default=0)
        path = self.folder / f"{number:04}.tape"
        self._tail_path = path.with_suffix(".tail")
        self._segment = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._segment, fcntl.LOCK_SH)  # as long as it is held nobody clears the segment away
        self._append(self._segment, form.header({**self._about, "segment": number, "first": self.next}))
        self._tail = os.open(self._tail_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._begin_tail()
        with _opened(self.folder) as folder:
            os.fsync(folder)

    def _write(self) -> None:
        """What has come, into the tail in one go; full blocks into the segment."""
        new: list[bytes] = []
        size = 0
        while self._queue and size < _AT_ONCE_BYTES and self._gathered_bytes + size < self._block_bytes:
            packed = self._queue.popleft()
            if packed is None:
                self._gather(new, size)
                self._end_segment()
                self._open()
                return
            if isinstance(packed, Path):
                self._move(packed)
                continue
            new.append(packed)
            size += len(packed)
        self._gather(new, size)
        if self._gathered_bytes >= self._block_bytes:
            self._end_block()

    def _move(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.rename(folder)
        with contextlib.suppress(OSError):  # other tapes are in it
            self.folder.parent.rmdir()
        self.folder, self._tail_path = folder, folder / self._tail_path.name

    def _gather(self, new: list[bytes], size: int) -> None:
        if not new:
            return
        self._append_to_tail(b"".join(map(form.tailed, new)))
        self._unsynced = True
        for packed in new:
            if packed[0] == Kind.FRAME:
                self.frames += 1
                self.newest_ns = form.stamp(packed)
        self._gathered += new
        self._gathered_bytes += size
        self._taken_bytes += size
        self.raw_bytes += size
        self.next += len(new)

    def _end_block(self) -> None:
        """First the block, synced; then the tail, which had it so far, begins anew."""
        if not self._gathered:
            return
        made = form.block(self._gathered, self.next - len(self._gathered), self._compressor)
        self._append(self._segment, made)
        os.fsync(self._segment)
        self._empty_tail()
        self._gathered, self._gathered_bytes = [], 0
        self.stored_bytes += len(made)
        self.segment_bytes += len(made)

    def _empty_tail(self) -> None:
        os.ftruncate(self._tail, 0)
        self._begin_tail()

    def _begin_tail(self) -> None:
        self._tail_bytes = 0
        self._append_to_tail(form.tail_header(self.next))

    def _append_to_tail(self, data: bytes) -> None:
        """All of it or nothing: what follows on another segment must not be taken for what is there already."""
        try:
            self._append(self._tail, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._tail, self._tail_bytes)
            raise
        self._tail_bytes += len(data)

    def _end_segment(self) -> None:
        self._end_block()
        self._tail_path.unlink()
        for handle in (self._segment, self._tail):
            os.close(handle)
        self._segment = self._tail = -1

    def _sync(self, now: bool) -> None:
        now_s = clock.monotonic_s()
        if self._unsynced and self._tail >= 0 and (now or now_s - self._synced_s >= _SYNC_S):
            os.fdatasync(self._tail)
            self._synced_s, self._unsynced = now_s, False
            self._check_room()

    def _check_room(self) -> None:
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < self._leave_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._leave_free_bytes / 1e9:g} GB are free")

    def _append(self, handle: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]


@contextlib.contextmanager
def _opened(folder: Path) -> Any:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
