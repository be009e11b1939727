"""Redis crashed: it has its append-only file, which holds no ticks. What it gets back, and what readers learn."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus import daemon, embedded
from bus.connection import Bus
from bus.inbox import Inbox, Output, Published, Writer, order
from bus.lease import acquire
from ingest.mending import mend
from ingest.outbox import Outbox
from schemas import streams
from tests.conftest import settings_in

TICKS = streams.ticks(0)
SEQUENCE = streams.sequence("ingest", 0)


@contextlib.contextmanager
def redis_at(home: Path) -> Iterator[str]:
    with embedded.servers(settings_in(home), postgres=False) as servers:
        yield servers.redis_url


@contextlib.asynccontextmanager
async def writer_at(url: str) -> AsyncIterator[Writer]:
    async with Bus.open(url) as bus:
        lease = await acquire(bus, "ingest", 0, 60.0)
        assert lease is not None
        yield Writer(bus, lease, streams.RETENTION_MS)


async def publish(writer: Writer, box: Outbox, texts: str, now_s: float) -> list[str]:
    """Each in a write of its own; the ids they got."""
    ids: list[str] = []
    for text in texts:
        box.put(Output(TICKS, {"text": text}))
        write = box.take()
        box.done(now_s, await writer.write(write.outputs, now_s=now_s, sequence=(SEQUENCE, write.number)))
        ids += await newest_id(writer)
    return ids


async def newest_id(writer: Writer) -> list[str]:
    last = await writer.bus.last_entry(TICKS)
    assert last is not None
    return [last[0]]


async def contents(writer: Writer) -> list[tuple[str, str]]:
    found = await writer.bus.redis.xrange(TICKS)
    return [(its_id.decode(), fields[b"text"].decode()) for its_id, fields in found]


@contextlib.asynccontextmanager
async def reading(writer: Writer) -> AsyncIterator[Inbox]:
    async with Inbox.open(
        writer, group="reader", consumer="reader", inputs=[TICKS], state_key=streams.state("reader", 0)
    ) as inbox:
        yield inbox


def crash(home: Path, url: str) -> None:
    os.kill(int((home / "redis" / "redis.pid").read_text()), signal.SIGKILL)
    socket = Path(url.removeprefix("unix://"))
    assert daemon.until(lambda: not daemon.listens(socket))


async def synced(writer: Writer) -> None:
    """Everything that goes to the append-only file is in it."""
    await writer.bus.redis.config_set("appendfsync", "always")
    await writer.bus.redis.set("synced", 1)


async def after_the_crash(writer: Writer, box: Outbox) -> bool:
    told = Published.load(await writer.bus.get(SEQUENCE))
    assert box.resume(told, True, 100.0)
    return await mend(writer.bus, writer, box, TICKS, told.newest)


async def test_what_is_remembered_comes_back_under_its_ids_and_no_reader_misses_anything(tmp_path: Path) -> None:
    box = Outbox(1 << 20)
    box.resume(Published(), False, 0.0)
    with redis_at(tmp_path) as url:
        async with writer_at(url) as writer:
            ids = await publish(writer, box, "abcdef", 0.0)
            async with reading(writer) as inbox:
                await inbox.read(count=2, block_ms=0)
                await inbox.commit(now_s=0.0)
                await inbox.read(count=2, block_ms=0)  # read, but not committed
            await synced(writer)
            crash(tmp_path, url)
        with redis_at(tmp_path):
            async with Bus.open(url) as bus:
                writer = Writer(bus, None, streams.RETENTION_MS)
                assert await contents(writer) == []
                assert await after_the_crash(writer, box)
                assert await contents(writer) == list(zip(ids, "abcdef", strict=True))
                assert not await after_the_crash(writer, box)
                async with reading(writer) as inbox:
                    batch = await inbox.read(count=10, block_ms=0)
                    assert ([entry.id for entry in batch.entries], batch.missed) == (ids[2:], [])


@pytest.mark.parametrize("remembered", [3, 0])
async def test_what_nobody_remembers_is_marked_as_gone(tmp_path: Path, remembered: int) -> None:
    box = Outbox(1 << 20)
    box.resume(Published(), False, 0.0)
    with redis_at(tmp_path) as url:
        async with writer_at(url) as writer:
            async with reading(writer):
                ids = await publish(writer, box, "abc", 0.0)
            ids += await publish(writer, box, "def"[:remembered], 50.0)
            await synced(writer)
            crash(tmp_path, url)
        with redis_at(tmp_path):
            async with Bus.open(url) as bus:
                writer = Writer(bus, None, streams.RETENTION_MS)
                if not remembered:
                    box = Outbox(1 << 20)  # a new process
                    told = Published.load(await writer.bus.get(SEQUENCE))
                    assert not box.resume(told, False, 0.0)
                    assert await mend(bus, writer, box, TICKS, told.newest)
                else:
                    assert await after_the_crash(writer, box)
                assert [its_id for its_id, _ in await contents(writer)] == ids[3:]
                async with reading(writer) as inbox:
                    batch = await inbox.read(count=10, block_ms=0)
                    assert [entry.id for entry in batch.entries] == ids[3:]
                    assert [missed.last for missed in batch.missed] == [ids[2]]


async def test_where_somebody_has_written_meanwhile_the_lost_ones_are_gone(tmp_path: Path) -> None:
    """The aggregator says that ingest is silent: what came before cannot be put in front of that any more."""
    box = Outbox(1 << 20)
    box.resume(Published(), False, 0.0)
    with redis_at(tmp_path) as url:
        async with writer_at(url) as writer:
            async with reading(writer):
                ids = await publish(writer, box, "abc", 0.0)
            await synced(writer)
            crash(tmp_path, url)
        with redis_at(tmp_path):
            async with Bus.open(url) as bus:
                writer = Writer(bus, None, streams.RETENTION_MS)
                (mark,) = await writer.write([Output(TICKS, {"text": "mark"})], now_s=0.0)
                assert order(mark) > order(ids[-1])
                assert await after_the_crash(writer, box)
                assert await contents(writer) == [(mark, "mark")]
                async with reading(writer) as inbox:
                    batch = await inbox.read(count=10, block_ms=0)
                    assert [missed.last for missed in batch.missed] == [ids[-1]]


async def test_an_intact_stream_is_left_alone(tmp_path: Path) -> None:
    box = Outbox(1 << 20)
    box.resume(Published(), False, 0.0)
    with redis_at(tmp_path) as url:
        async with writer_at(url) as writer:
            assert not await mend(writer.bus, writer, box, TICKS, Published().newest)
            ids = await publish(writer, box, "abc", 0.0)
            assert not await after_the_crash(writer, box)
            assert [its_id for its_id, _ in await contents(writer)] == ids
            assert await writer.bus.get(streams.trimmed(TICKS)) is None
