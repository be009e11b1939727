"""Reads streams from places that the caller keeps: no group, nothing is taken from anybody.

One read waits for all streams. On a cluster that takes one per slot: they wait side by side, and one that has not ended
when another brings something waits on, for the next call. Its answer is as good then.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus.connection import Bus, pairs
from schemas import streams

Entries = list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Read:
    """What came of one stream: the mark of its trimming, where it was asked for, and entries."""

    stream: str
    mark: bytes | None
    entries: Entries


def entries_of(reply: Sequence[Any]) -> Entries:
    """Ids and fields, as a packet's reply has them."""
    return [(entry_id, pairs(flat)) for entry_id, flat in reply]


class Reader:
    """`close` it, or what still waits is left to the garbage collector."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[tuple[str, ...], asyncio.Task[list[Read]]] = {}

    async def read(
        self, places: Mapping[str, str], *, count: int, block_ms: int | None = None, marks: bool = False
    ) -> list[Read]:
        """Entries behind each stream's place, `count` of each at most. Waits for at most `block_ms` until there are
        any; without it asks every stream what it has. With `marks` a stream may be told of for its mark alone.

        Mark and entries are of one moment. On a cluster an answer may be to an earlier call's places: no entry is
        left out, and none comes twice as long as only this reader's answers move them.
        """
        parts = self._bus.apart(list(places))
        if len(parts) == 1:
            return await self._part(parts[0], places, count, block_ms, marks)
        for part in parts:
            key = tuple(part)
            if key not in self._waiting:
                self._waiting[key] = asyncio.create_task(self._part(part, places, count, block_ms, marks))
        when = asyncio.ALL_COMPLETED if block_ms is None else asyncio.FIRST_COMPLETED
        await asyncio.wait(self._waiting.values(), return_when=when)
        ended = [key for key, task in self._waiting.items() if task.done()]
        return [read for task in [self._waiting.pop(key) for key in ended] for read in task.result()]

    async def _part(
        self, names: Sequence[str], places: Mapping[str, str], count: int, block_ms: int | None, marks: bool
    ) -> list[Read]:
        block = () if block_ms is None else ("BLOCK", block_ms)
        wanted = [("GET", streams.trimmed(name)) for name in names] if marks else []
        read: tuple[Any, ...] = ("XREAD", "COUNT", count, *block, "STREAMS", *names, *(places[name] for name in names))
        *found, reply = await self._bus.packet(*wanted, read)
        entries = {name.decode(): entries_of(got) for name, got in reply or ()}
        mark = dict(zip(names, found, strict=bool(marks)))
        return [
            Read(name, mark.get(name), entries.get(name, [])) for name in names if name in entries or mark.get(name)
        ]

    async def close(self) -> None:
        """Nothing waits any more."""
        tasks = list(self._waiting.values())
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
