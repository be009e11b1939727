"""What waits to be published to one shard: entries in order, bounded in bytes, numbered so that none goes twice. Pure.

Entries leave in writes. A write has a number, and Redis keeps the highest it has taken in the same transaction as the
entries. A write whose reply got lost is simply done again: if Redis has taken it, nothing happens.

What Redis has confirmed is remembered for some seconds all the same. An append-only file that is synced every second,
or a replica that takes over, may know less than the server that confirmed; then those writes are done again, too. And
it knows nothing of ticks: a Redis that crashed gets those back that we remember, under the ids that they had. (Not in a
flood, where some seconds are too much to remember.)
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bus.inbox import Output, Published, order
from schemas import streams

_WRITE_MAX_BYTES: Final = 1024 * 1024  # larger ones cost Redis more per byte
_WRITE_MAX_ENTRIES: Final = 64
_HIGH_WATER_BYTES: Final = 4 * 1024 * 1024
_REMEMBERED_S: Final = 10.0  # an append-only file is behind by two at most, and a reader's last commit by some more
_REMEMBERED_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Write:
    """Entries on their way in one commit, with its number."""

    number: int
    outputs: list[Output]
    size_bytes: int
    ids: Sequence[str] = ()  # which the outputs got, once Redis has confirmed


@dataclass(slots=True)
class Outbox:
    limit_bytes: int
    size_bytes: int = 0  # of everything that has yet to be confirmed
    flowing: bool = False  # the last write succeeded
    _begun: bool = False
    _number: int = 0  # of the last write that was made
    _waiting: deque[tuple[Output, int]] = field(default_factory=deque)
    _again: deque[Write] = field(default_factory=deque)  # writes that Redis has forgotten
    _under_way: Write | None = None
    _confirmed: deque[tuple[float, Write]] = field(default_factory=deque)  # the newest, and when
    _confirmed_bytes: int = 0
    _forgotten: str = "0-0"  # the newest id that we do not remember any more
    _remember_from_s: float = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._waiting or self._again or self._under_way)

    @property
    def congested(self) -> bool:
        """Redis takes less than the feed brings. (While it takes nothing at all, frames gather up to the limit.)"""
        return self.flowing and self.size_bytes > _HIGH_WATER_BYTES

    @property
    def full(self) -> bool:
        return self.size_bytes >= self.limit_bytes

    def put(self, output: Output) -> None:
        """Append. The caller asks `full` before it makes entries of frames; marks and events always fit."""
        size = _size(output.fields)
        self._waiting.append((output, size))
        self.size_bytes += size

    def take(self) -> Write:
        """The write to do now: the one under way, if its fate is unknown, else the oldest entries."""
        if self._under_way is None:
            self._under_way = self._again.popleft() if self._again else self._made()
        return self._under_way

    def _made(self) -> Write:
        outputs: list[Output] = []
        size = 0
        while self._waiting and size < _WRITE_MAX_BYTES and len(outputs) < _WRITE_MAX_ENTRIES:
            output, part = self._waiting.popleft()
            outputs.append(output)
            size += part
        self._number += 1
        return Write(self._number, outputs, size)

    def done(self, now_s: float, ids: Sequence[str] = ()) -> None:
        """Redis has confirmed the write under way; without ids where it had taken it before."""
        self.flowing = True
        if self._under_way is not None:
            self.size_bytes -= self._under_way.size_bytes
            self._remember(replace(self._under_way, ids=ids), now_s)
            self._under_way = None

    def _remember(self, write: Write, now_s: float) -> None:
        """The newest, or none: in a flood they would only drive what is needed out of the processor's cache."""
        if now_s < self._remember_from_s:
            self._forget(write)
            return
        self._confirmed.append((now_s, write))
        self._confirmed_bytes += write.size_bytes
        while self._confirmed and self._confirmed[0][0] < now_s - _REMEMBERED_S:
            self._forget_oldest()
        if self._confirmed_bytes > _REMEMBERED_BYTES:
            while self._confirmed:
                self._forget_oldest()
            self._remember_from_s = now_s + _REMEMBERED_S

    def _forget_oldest(self) -> None:
        _, write = self._confirmed.popleft()
        self._confirmed_bytes -= write.size_bytes
        self._forget(write)

    def _forget(self, write: Write) -> None:
        for its_id, output in zip(write.ids, write.outputs, strict=False):
            if streams.family(output.stream) in streams.NOT_IN_THE_LOG:
                self._forgotten = its_id

    # A stream that Redis has lost

    @property
    def forgotten(self) -> str:
        """No entry up to this id is remembered."""
        return self._forgotten

    def remembered(self, stream: str, after: str) -> list[Output]:
        """The entries of a stream that Redis had confirmed, later than the id `after`; each under its id."""
        after = max(after, self._forgotten, key=order)
        return [replace(output, id=its_id) for its_id, output in self._entries(stream) if order(its_id) > order(after)]

    def _entries(self, stream: str) -> Iterator[tuple[str, Output]]:
        for _, write in self._confirmed:
            for its_id, output in zip(write.ids, write.outputs, strict=False):  # no ids: the reply got lost
                if output.stream == stream:
                    yield its_id, output

    def resume(self, published: Published, ours: bool, now_s: float) -> bool:
        """Continue after a break: `published` is the last write that Redis has, `ours` says that nobody but this
        process has begun to publish since it began.

        False: the stream has a hole before what comes next. Somebody else has published and covered that time, or Redis
        has forgotten more than we remember, or this process is new. What waits here is dropped then.
        """
        if not self._begun or not ours or published.number > self._number:
            return self._start_over(published)
        if self._under_way is not None and self._under_way.number <= published.number:
            self.done(now_s)
            self._forgotten = published.newest  # it is among those whose ids we do not know
        unknown = [write for _, write in self._confirmed if write.number > published.number]
        to_do = [*unknown, *([self._under_way] if self._under_way is not None else ()), *self._again]
        if (to_do[0].number if to_do else self._number + 1) != published.number + 1:
            return self._start_over(published)
        self._again, self._under_way = deque(to_do), None
        self.size_bytes += sum(write.size_bytes for write in unknown)
        self._confirmed = deque(part for part in self._confirmed if part[1].number <= published.number)
        self._confirmed_bytes = sum(write.size_bytes for _, write in self._confirmed)
        return True

    def _start_over(self, published: Published) -> bool:
        self._waiting.clear()
        self._again.clear()
        self._confirmed.clear()
        self._under_way, self.size_bytes, self._confirmed_bytes = None, 0, 0
        self._number, self._begun, self._forgotten = published.number, True, published.newest
        return False


def _size(fields: Mapping[Any, Any]) -> int:
    return sum(len(value) if isinstance(value, bytes | str) else 8 for value in fields.values()) + 64
