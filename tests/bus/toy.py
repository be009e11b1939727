"""The smallest worker there is: running sums per key. `python -m tests.bus.toy` runs it as a process of its own."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from bus import clock
from bus.inbox import Batch, Entry, Inbox, Output, Writer
from bus.lease import Keeper, Lease
from bus.life import Worker, main
from schemas import streams
from schemas.errors import Misconfigured

NAME: Final = "toy"

Sums = dict[str, list[int]]


def fold(sums: Sums, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Add one value; what has become of its key. Raises ValueError for what is no number."""
    key, value = fields[b"key"].decode(), int(fields[b"value"])
    total, count = sums.get(key, (0, 0))
    sums[key] = [total + value, count + 1]
    return {"key": key, "sum": total + value, "count": count + 1}


def undisturbed(entries: Sequence[Mapping[bytes, bytes]]) -> list[dict[bytes, bytes]]:
    """What leaves when nothing ever goes wrong."""
    sums: Sums = {}
    left: list[dict[bytes, bytes]] = []
    for fields in entries:
        try:
            left.append({name.encode(): str(value).encode() for name, value in fold(sums, fields).items()})
        except ValueError:
            continue  # a dead letter
    return left


class Fold:
    """One shard's fold, between `open` and `commit`."""

    def __init__(self, inbox: Inbox, shard: int) -> None:
        self.inbox = inbox
        self._shard = shard
        self._sums: Sums = orjson.loads(inbox.snapshot) if inbox.snapshot else {}

    def outputs(self, batch: Batch) -> list[Output]:
        return [self._one(entry) for entry in batch.entries]

    def _one(self, entry: Entry) -> Output:
        match entry.fields[b"value"]:
            case b"bug":
                raise RuntimeError("a bug, and token=do-not-tell in its text")
            case b"misconfigured":
                raise Misconfigured("Somebody has to set TOY_VALUE to a number.")
        try:
            return Output(streams.candles(self._shard), fold(self._sums, entry.fields))
        except ValueError as error:
            return self.inbox.reject(entry, str(error))

    async def commit(self, outputs: Sequence[Output]) -> None:
        await self.inbox.commit(outputs, snapshot=orjson.dumps(self._sums), now_s=clock.monotonic_s())


def inbox_of(writer: Writer, shard: int) -> Any:
    return Inbox.open(
        writer, group=NAME, consumer=NAME, inputs=[streams.ticks(shard)], state_key=streams.state(NAME, shard)
    )


async def run(worker: Worker, stop: asyncio.Event) -> None:
    async def job(lease: Lease, over: asyncio.Event) -> None:
        async with inbox_of(worker.writer(lease), lease.shard) as inbox:
            toy = Fold(inbox, lease.shard)
            while not over.is_set():
                if batch := await inbox.read(count=7, block_ms=100):
                    await toy.commit(toy.outputs(batch))

    settings = worker.settings
    await Keeper(worker.bus, NAME, settings.teji_shards, settings.teji_lease_s, job).run(stop)


if __name__ == "__main__":
    sys.exit(main(NAME, run))
