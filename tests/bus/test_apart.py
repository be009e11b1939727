"""A fold on a real Redis Cluster whose inputs, state and outputs lie in different slots: interrupted anywhere, it
leaves what it leaves undisturbed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from bus.connection import Bus, Word
from bus.inbox import Inbox, Output, Writer, order
from bus.lease import acquire
from bus.outside import digest_of
from bus.reader import Reader
from schemas import streams
from schemas.errors import LeaseLost
from tests.bus.facts import until
from tests.bus.nodes import Nodes

NAME: Final = "toy"
STATE: Final = streams.state(NAME, 0)
HOME: Final = streams.candles(0)
INPUTS: Final = (streams.COMMANDS, streams.ticks(1))
NUMBERS: Final = range(12)


class PowerCut(Exception):
    """The process is gone at this moment."""


class Mortal(Bus):
    """A connection of a process that dies right before, or right after, its commit number `cut`."""

    def __init__(self, bus: Bus, cut: int, *, after: bool) -> None:
        super().__init__(bus.redis, "one of many")
        self._cut = cut
        self._after = after

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        if name not in ("commit", "outside"):
            return await super().script(name, keys, args)
        self._cut -= 1
        if self._cut < 0 and not self._after:
            raise PowerCut
        reply = await super().script(name, keys, args)
        if self._cut < 0:
            raise PowerCut
        return reply


def outputs_of(number: int, total: int) -> list[Output]:
    """Some for the fold's own slot, some for two others; each second one says the same thing twice."""
    event = Output(streams.EVENTS, {"kind": "alert", "data": f"{total}"})
    signal = Output(streams.SIGNALS, {"id": f"signal {number}", "data": f"{number}"})
    return [Output(HOME, {"n": number, "sum": total}), event, *([event] if number % 2 else []), signal]


async def live(bus: Bus, count: int) -> None:
    """Fold until nothing is left to read. In turn over the inputs, so that the order is one that can be repeated."""
    lease = await acquire(bus, NAME, 0, 60)
    assert lease is not None
    writer = Writer(bus, lease, streams.RETENTION_MS, trim_every_s=1e9)
    async with Inbox.open(writer, group=NAME, consumer=NAME, inputs=INPUTS, state_key=STATE) as inbox:
        total = int(inbox.snapshot or 0)
        while batch := await inbox.read(count=count, block_ms=0):
            outputs: list[Output] = []
            for entry in sorted(batch.entries, key=lambda entry: int(entry.fields[b"n"])):
                total += int(entry.fields[b"n"])
                outputs += outputs_of(int(entry.fields[b"n"]), total)
            await inbox.commit(outputs, snapshot=b"%d" % total, now_s=0)


async def all_there_is(bus: Bus) -> dict[str, Any]:
    found: dict[str, Any] = {"state": await bus.get(STATE)}
    for stream in (HOME, streams.EVENTS, streams.SIGNALS):
        found[stream] = [fields for _, fields in await bus.redis.xrange(stream)]
    return found


@asynccontextmanager
async def fed(bus: Bus, inputs: Sequence[str] = INPUTS) -> AsyncIterator[None]:
    """The numbers in turn over the inputs; afterwards an empty cluster again."""
    for number in NUMBERS:
        await bus.packet(("XADD", inputs[number % len(inputs)], f"{number + 1}-0", "n", number))
    yield
    await bus.everywhere("FLUSHALL")


async def test_a_power_cut_at_any_commit_changes_nothing(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        async with fed(bus):
            await live(bus, 1)
            undisturbed = await all_there_is(bus)
        assert [len(found) for name, found in undisturbed.items() if name != "state"] == [12, 18, 12]
        assert undisturbed["state"] == b"%d" % sum(NUMBERS)
        for cut in range(18):
            async with fed(bus):
                for after in (False, True):
                    with pytest.raises(PowerCut):
                        await live(Mortal(bus, cut % 9, after=after), 1)
                await live(bus, 2)
                assert await all_there_is(bus) == undisturbed, f"cut at {cut}"
                pending = [await bus.packet(("XPENDING", stream, NAME)) for stream in INPUTS]
                assert [summary[0] for (summary,) in pending] == [0, 0]


async def test_who_has_lost_its_shard_writes_nothing_where_the_new_owner_has_written(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one") as bus:
        old = Writer(bus, await acquire(bus, NAME, 0, 60), streams.RETENTION_MS)
        await old.write(outputs_of(1, 1), now_s=0)
        await bus.redis.delete(streams.lease(NAME, 0))
        new = Writer(bus, await acquire(Bus(bus.redis, "other"), NAME, 0, 60), streams.RETENTION_MS)
        # Before the new owner has written there, the old one still can; the shard's own slot refuses it.
        with pytest.raises(LeaseLost):
            await old.write(outputs_of(3, 4), now_s=0)
        await new.write(outputs_of(3, 4), now_s=0)
        before = await all_there_is(bus)
        assert [fields[b"n"] for fields in before[HOME]] == [b"1", b"3"]
        assert [fields[b"data"] for fields in before[streams.EVENTS]] == [b"1", b"1", b"4", b"4"]
        with pytest.raises(LeaseLost):
            await old.write(outputs_of(5, 9), now_s=0)
        assert await all_there_is(bus) == before


async def test_what_is_written_elsewhere_has_an_id_by_which_it_can_be_told(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        writer = Writer(bus, await acquire(bus, NAME, 0, 60), streams.RETENTION_MS)
        ids = await writer.write(outputs_of(3, 3), now_s=0)
        found = await all_there_is(bus)
        assert found[streams.SIGNALS][0][b"id"] == b"signal 3"
        for event in found[streams.EVENTS]:
            assert event.pop(b"id").decode() == digest_of(streams.EVENTS, event)
        order_of_writing = (HOME, streams.EVENTS, streams.SIGNALS)
        written = [await bus.redis.xrange(stream) for stream in order_of_writing]
        assert ids == [entry_id.decode() for entries in written for entry_id, _ in entries]
        assert len(ids) == 4  # two of them may be alike: each stream counts for itself


async def test_streams_elsewhere_are_trimmed_and_the_mark_is_left(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        await bus.packet(("XADD", streams.EVENTS, "5-0", "kind", "old"))
        writer = Writer(bus, await acquire(bus, NAME, 0, 60), {streams.EVENTS: 60_000})
        await writer.write(outputs_of(2, 2), now_s=0)
        assert await bus.redis.xlen(streams.EVENTS) == 1
        assert await bus.get(streams.trimmed(streams.EVENTS)) == b"5-0"


async def test_a_number_committed_before_is_not_written_again_on_either_side(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        sequence = (streams.sequence(NAME, 0), 1)
        for expected in (3, 0):
            writer = Writer(bus, await acquire(bus, NAME, 0, 60), streams.RETENTION_MS)
            assert len(await writer.write(outputs_of(2, 2), now_s=0, sequence=sequence)) == expected
        found = await all_there_is(bus)
        assert [len(found[stream]) for stream in (HOME, streams.EVENTS, streams.SIGNALS)] == [1, 1, 1]


async def test_a_reader_of_several_slots_wakes_up_for_each_and_misses_nothing(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        names = [streams.candles(shard) for shard in range(6)]
        places = dict.fromkeys(names, "0-0")
        seen: list[tuple[str, str]] = []
        reader = Reader(bus)

        async def follow() -> None:
            while len(seen) < 60:
                for read in await reader.read(places, count=3, block_ms=2_000):
                    seen.extend((read.stream, entry_id.decode()) for entry_id, _ in read.entries)
                    places[read.stream] = read.entries[-1][0].decode()

        following = asyncio.create_task(follow())
        written: list[tuple[str, str]] = []
        for number in range(60):
            name = names[number * number % 6]
            (entry_id,) = await bus.packet(("XADD", name, "*", "n", number))
            written.append((name, entry_id.decode()))
        async with asyncio.timeout(20):
            await following
        await reader.close()
        assert sorted(seen) == sorted(written)
        for name in names:
            mine = [entry_id for stream, entry_id in seen if stream == name]
            assert mine == sorted(mine, key=order)


async def test_an_inbox_of_several_slots_waits_for_all_of_them_at_once(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url, "one of many") as bus:
        writer = Writer(bus, await acquire(bus, NAME, 0, 60), streams.RETENTION_MS)
        async with Inbox.open(writer, group=NAME, consumer=NAME, inputs=INPUTS, state_key=STATE) as inbox:
            for stream in (*INPUTS, *INPUTS[::-1]):
                reading = asyncio.create_task(inbox.read(count=5, block_ms=4_000))
                await until(lambda: bool(inbox._bell._waiting), "it waits")
                await bus.packet(("XADD", stream, "*", "n", 1))
                async with asyncio.timeout(3):
                    batch = await reading
                assert [entry.stream for entry in batch.entries] == [stream]
                await inbox.commit(now_s=0)
            assert not await inbox.read(count=5, block_ms=10)
