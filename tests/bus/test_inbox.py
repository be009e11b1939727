"""`Inbox`: what was delivered and never committed comes first, what is gone is said, nothing is passed over."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.connection import Bus
from bus.inbox import Batch, Inbox, Missed, Output, Writer, order
from bus.lease import acquire
from schemas import streams
from schemas.errors import LeaseLost, Unavailable
from tests.bus.facts import until

TICKS = streams.ticks(0)
STATE = streams.state("toy", 0)


@asynccontextmanager
async def opened(bus: Bus, inputs: Sequence[str] = (TICKS,), **more: Any) -> AsyncIterator[Inbox]:
    writer = Writer(bus, await acquire(bus, "toy", 0, 60), streams.RETENTION_MS)
    async with Inbox.open(
        writer, **{"group": "toy", "consumer": "toy", "inputs": inputs, "state_key": STATE, **more}
    ) as inbox:
        yield inbox


async def add(bus: Bus, count: int, stream: str = TICKS) -> list[str]:
    ids = [await bus.redis.xadd(stream, {"n": number}) for number in range(count)]
    return [entry_id.decode() for entry_id in ids]


async def trim(bus: Bus, last_gone: str, stream: str = TICKS) -> None:
    """As `commit.lua` does it."""
    ms, number = order(last_gone)
    await bus.redis.xtrim(stream, minid=f"{ms}-{number + 1}", approximate=False)
    await bus.redis.set(streams.trimmed(stream), last_gone)


def ids_of(batch: Batch) -> list[str]:
    return [entry.id for entry in batch.entries]


async def read_all(inbox: Inbox, count: int = 10) -> Batch:
    whole = Batch()
    while batch := await inbox.read(count=count, block_ms=0):
        whole.entries += batch.entries
        whole.missed += batch.missed
    return whole


# Delivery


async def test_a_new_group_starts_at_the_oldest_entry(bus: Bus) -> None:
    ids = await add(bus, 3)
    async with opened(bus) as inbox:
        assert inbox.snapshot is None
        assert ids_of(await inbox.read(count=10, block_ms=0)) == ids


async def test_an_entry_comes_with_its_stream_its_id_and_its_bytes(bus: Bus) -> None:
    fields = {b"rec": bytes(range(256)), b"ts": b"5", b"": b""}
    entry_id = (await bus.redis.xadd(TICKS, fields)).decode()
    async with opened(bus) as inbox:
        (entry,) = (await inbox.read(count=1, block_ms=0)).entries
    assert (entry.stream, entry.id, entry.fields) == (TICKS, entry_id, fields)


async def test_caught_up_is_an_empty_batch_at_once_or_after_the_wait(bus: Bus) -> None:
    async with opened(bus) as inbox:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert not await inbox.read(count=1, block_ms=0)
        at_once = loop.time()
        assert not await inbox.read(count=1, block_ms=60)
        assert loop.time() - at_once >= 0.055 > at_once - began


async def test_a_waiting_read_wakes_up_for_an_entry(bus: Bus) -> None:
    async with opened(bus) as inbox:
        waiting = asyncio.create_task(inbox.read(count=5, block_ms=5_000))
        await until(lambda: blocked(bus), "the read waits")
        ids = await add(bus, 1)
        assert ids_of(await waiting) == ids


async def blocked(bus: Bus) -> bool:
    return bool((await bus.redis.info("clients"))["blocked_clients"])


async def test_several_streams_are_read_together_each_in_order(bus: Bus) -> None:
    names = [streams.candles(0), streams.chain(0), streams.EVENTS]
    written = {name: await add(bus, 4, name) for name in names}
    async with opened(bus, names) as inbox:
        batch = await read_all(inbox, count=3)
        assert {name: [e.id for e in batch.entries if e.stream == name] for name in names} == written
        await inbox.commit(now_s=0)
    for name in names:
        assert (await bus.redis.xpending(name, "toy"))["pending"] == 0


@pytest.mark.parametrize("count", [1, 3, 100])
async def test_what_was_read_and_not_committed_comes_first_and_in_order(bus: Bus, count: int) -> None:
    names = [TICKS, streams.EVENTS]
    first = {name: await add(bus, 7, name) for name in names}
    async with opened(bus, names) as inbox:
        await inbox.read(count=2, block_ms=0)
        await inbox.commit(now_s=0, snapshot=b"two of each")
        await inbox.read(count=4, block_ms=0)  # and then the power went
    later = {name: await add(bus, 2, name) for name in names}
    async with opened(bus, names) as inbox:
        assert inbox.snapshot == b"two of each"
        batch = await read_all(inbox, count)
        for name in names:
            assert [e.id for e in batch.entries if e.stream == name] == first[name][2:] + later[name]
        assert inbox.uncommitted == 14
        await inbox.commit(now_s=0)
        assert inbox.uncommitted == 0
        assert not await inbox.read(count=10, block_ms=0)


async def test_pending_entries_can_be_committed_page_by_page(bus: Bus) -> None:
    ids = await add(bus, 25)
    async with opened(bus) as inbox:
        await read_all(inbox)
    async with opened(bus) as inbox:
        seen: list[str] = []
        while batch := await inbox.read(count=10, block_ms=0):
            seen += ids_of(batch)
            await inbox.commit(now_s=0)
    assert seen == ids
    assert (await bus.redis.xpending(TICKS, "toy"))["pending"] == 0


async def test_what_was_delivered_to_a_process_of_another_name_is_not_stranded(bus: Bus) -> None:
    ids = await add(bus, 5)
    async with opened(bus, consumer="before the rename") as inbox:
        await inbox.read(count=2, block_ms=0)
    await bus.redis.xreadgroup("toy", "somebody at a terminal", {TICKS: ">"}, count=1)
    async with opened(bus, consumer="today") as inbox:
        assert ids_of(await read_all(inbox)) == ids
        await inbox.commit(now_s=0)
    assert (await bus.redis.xpending(TICKS, "toy"))["pending"] == 0


async def test_who_reads_in_our_group_makes_us_start_over_and_nothing_is_passed_over(bus: Bus) -> None:
    first = await add(bus, 2)
    async with opened(bus) as inbox:
        assert ids_of(await inbox.read(count=10, block_ms=0)) == first
        taken = await add(bus, 1)
        await bus.redis.xreadgroup("toy", "woken from a pause", {TICKS: ">"})
        last = await add(bus, 1)
        await inbox.commit(now_s=0, snapshot=b"two")  # these were ours
        with pytest.raises(Unavailable, match="somebody else"):
            await inbox.read(count=10, block_ms=0)
    async with opened(bus) as inbox:
        assert inbox.snapshot == b"two"
        assert ids_of(await read_all(inbox)) == taken + last


async def test_it_is_noticed_in_a_quiet_stream_too_that_somebody_took_an_entry(bus: Bus) -> None:
    async with opened(bus) as inbox:
        assert not await inbox.read(count=10, block_ms=0)
        await add(bus, 1)
        await bus.redis.xreadgroup("toy", "woken from a pause", {TICKS: ">"})
        with pytest.raises(Unavailable, match="somebody else"):
            await inbox.read(count=10, block_ms=10)


async def test_a_read_that_is_cancelled_loses_nothing(bus: Bus) -> None:
    async with opened(bus) as inbox:
        for _ in range(20):
            waiting = asyncio.create_task(inbox.read(count=5, block_ms=5_000))
            await until(lambda: blocked(bus), "the read waits")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await until(lambda: nobody_blocked(bus), "Redis has noticed")
        ids = await add(bus, 1)
        assert ids_of(await inbox.read(count=5, block_ms=0)) == ids


async def nobody_blocked(bus: Bus) -> bool:
    return not await blocked(bus)


async def test_replies_and_questions_stay_together_however_often_one_is_cancelled(bus: Bus) -> None:
    await bus.redis.mset({f"k{number}": number for number in range(50)})

    async def ask(number: int) -> tuple[int, int]:
        (reply,) = await bus.packet(("GET", f"k{number}"))
        return number, int(reply)

    for turn in range(200):
        tasks = [asyncio.create_task(ask(number)) for number in range(8)]
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        tasks[turn % 8].cancel()
        for answer in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(answer, asyncio.CancelledError):
                assert not isinstance(answer, BaseException)
                assert answer[0] == answer[1]


# The owner and the others


async def test_the_snapshot_is_that_of_the_last_commit(bus: Bus) -> None:
    for number in range(3):
        async with opened(bus) as inbox:
            assert inbox.snapshot == (str(number - 1).encode() if number else None)
            await inbox.commit(now_s=0, snapshot=str(number).encode())
            await inbox.commit(now_s=0)  # without one: it stays


async def test_a_commit_after_the_lease_was_taken_over_leaves_everything_to_the_other(bus: Bus) -> None:
    ids = await add(bus, 3)
    async with opened(bus) as inbox:
        await read_all(inbox)
        async with opened(bus) as other:  # the same instance again: a new token
            with pytest.raises(LeaseLost):
                await inbox.commit([Output(streams.EVENTS, {"kind": "alert"})], now_s=0, snapshot=b"mine")
            assert ids_of(await read_all(other)) == ids
            await other.commit(now_s=0, snapshot=b"other")
    assert await bus.redis.get(STATE) == b"other"
    assert not await bus.redis.exists(streams.EVENTS)


async def test_after_a_flush_the_reader_starts_over_in_a_new_group(bus: Bus) -> None:
    await add(bus, 2)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await bus.redis.flushall()
        with pytest.raises(Unavailable, match="start over"):
            await inbox.read(count=1, block_ms=0)
    ids = await add(bus, 2)
    async with opened(bus) as inbox:
        assert inbox.snapshot is None
        batch = await read_all(inbox)
        assert (ids_of(batch), batch.missed) == (ids, [])


async def test_a_flush_during_the_wait_is_noticed(bus: Bus) -> None:
    async with opened(bus) as inbox:
        waiting = asyncio.create_task(inbox.read(count=1, block_ms=5_000))
        await until(lambda: blocked(bus), "the read waits")
        await bus.redis.flushall()
        await bus.redis.xadd(TICKS, {"n": 1})
        with pytest.raises(Unavailable):
            await waiting


async def test_a_commit_into_a_group_that_is_gone_changes_nothing(bus: Bus) -> None:
    await add(bus, 2)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await bus.redis.xgroup_destroy(TICKS, "toy")
        with pytest.raises(Unavailable, match="start over"):
            await inbox.commit([Output(streams.EVENTS, {"kind": "alert"})], now_s=0, snapshot=b"s")
    assert not await bus.redis.exists(streams.EVENTS, STATE)


# What is gone


async def test_entries_trimmed_before_they_were_read_are_missed_exactly(bus: Bus) -> None:
    read = await add(bus, 2)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await inbox.commit(now_s=0)
        ids = await add(bus, 4)
        await trim(bus, ids[1])
        batch = await inbox.read(count=10, block_ms=0)
        assert batch.missed == [Missed(TICKS, read[1], ids[1])]
        assert ids_of(batch) == ids[2:]
        await inbox.commit(now_s=0)
        assert not await inbox.read(count=10, block_ms=0)


async def test_entries_trimmed_while_they_were_pending_are_missed_exactly(bus: Bus) -> None:
    ids = await add(bus, 6)
    async with opened(bus) as inbox:
        await inbox.read(count=1, block_ms=0)
        await inbox.commit(now_s=0)
        await inbox.read(count=4, block_ms=0)
    await trim(bus, ids[2])
    async with opened(bus) as inbox:
        batch = await read_all(inbox, count=2)
        assert ids_of(batch) == ids[3:]
        ((stream, after, last),) = [(m.stream, m.after, m.last) for m in batch.missed]
        assert (stream, last) == (TICKS, ids[2])
        assert order(ids[0]) <= order(after) < order(ids[1])
        await inbox.commit(now_s=0)
        assert not await inbox.read(count=10, block_ms=0)


async def test_a_stream_that_is_quiet_after_the_loss_says_so_at_once_and_once(bus: Bus) -> None:
    read = await add(bus, 1)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await inbox.commit(now_s=0)
    ids = await add(bus, 3)
    await trim(bus, ids[2])
    async with opened(bus) as inbox:
        batch = await inbox.read(count=10, block_ms=0)
        assert (batch.entries, batch.missed) == ([], [Missed(TICKS, read[0], ids[2])])
        assert not await inbox.read(count=10, block_ms=0)
        await inbox.commit(now_s=0)
    async with opened(bus) as inbox:
        assert not await inbox.read(count=10, block_ms=0)


async def test_a_loss_is_said_again_when_saying_it_was_not_committed(bus: Bus) -> None:
    async with opened(bus) as inbox:
        await inbox.read(count=10, block_ms=0)
    ids = await add(bus, 2)
    await trim(bus, ids[1])
    for _ in range(2):
        async with opened(bus) as inbox:
            assert (await inbox.read(count=10, block_ms=0)).missed == [Missed(TICKS, "0-0", ids[1])]


async def test_a_loss_is_said_again_when_what_came_after_it_was_read_and_not_committed(bus: Bus) -> None:
    ids = await add(bus, 1)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await inbox.commit(now_s=0)
    ids += await add(bus, 4)
    await trim(bus, ids[2])
    for _ in range(3):
        async with opened(bus) as inbox:
            batch = await read_all(inbox, count=1)
            assert (ids_of(batch), batch.missed) == (ids[3:], [Missed(TICKS, ids[0], ids[2])])


async def test_a_group_that_was_deleted_goes_on_where_it_had_committed(bus: Bus) -> None:
    ids = await add(bus, 4)
    async with opened(bus) as inbox:
        await inbox.read(count=2, block_ms=0)
        await inbox.commit(now_s=0)
        await inbox.read(count=1, block_ms=0)
    await bus.redis.xgroup_destroy(TICKS, "toy")
    async with opened(bus) as inbox:
        batch = await read_all(inbox)
        assert (ids_of(batch), batch.missed) == (ids[2:], [])


async def test_what_was_read_before_it_was_trimmed_is_no_loss(bus: Bus) -> None:
    ids = await add(bus, 5)
    async with opened(bus) as inbox:
        await read_all(inbox)
        await inbox.commit(now_s=0)
        await trim(bus, ids[4])
        for _ in range(3):
            assert not await inbox.read(count=10, block_ms=0)
    for _ in range(2):
        async with opened(bus) as inbox:
            assert not await inbox.read(count=10, block_ms=0)
    new = await add(bus, 1)
    async with opened(bus) as inbox:
        batch = await inbox.read(count=10, block_ms=0)
        assert (ids_of(batch), batch.missed) == (new, [])


async def test_what_was_trimmed_before_a_group_existed_it_has_not_missed(bus: Bus) -> None:
    ids = await add(bus, 4)
    await trim(bus, ids[1])
    async with opened(bus) as inbox:
        batch = await inbox.read(count=10, block_ms=0)
        assert (ids_of(batch), batch.missed) == (ids[2:], [])


async def test_a_new_group_that_never_read_misses_what_is_trimmed_from_then_on(bus: Bus) -> None:
    async with opened(bus):
        pass
    ids = await add(bus, 3)
    await trim(bus, ids[1])
    async with opened(bus) as inbox:
        batch = await inbox.read(count=10, block_ms=0)
        assert (ids_of(batch), batch.missed) == (ids[2:], [Missed(TICKS, "0-0", ids[1])])


async def test_only_the_stream_that_lost_something_says_so(bus: Bus) -> None:
    names = [TICKS, streams.EVENTS]
    async with opened(bus, names) as inbox:
        written = {name: await add(bus, 2, name) for name in names}
        await trim(bus, written[TICKS][0])
        batch = await inbox.read(count=10, block_ms=0)
    assert batch.missed == [Missed(TICKS, "0-0", written[TICKS][0])]


async def test_the_trimming_of_a_writer_is_what_a_reader_behind_it_notices(bus: Bus) -> None:
    async with opened(bus) as inbox:
        old = f"{await bus.now_ms() - 20 * 60_000}-0"
        await bus.redis.xadd(TICKS, {"n": 0}, id=old)
        (new,) = await Writer(bus, None, {}).write([Output(TICKS, {"n": 1})], now_s=0)
        batch = await inbox.read(count=10, block_ms=0)
        assert (ids_of(batch), batch.missed) == ([new], [Missed(TICKS, "0-0", old)])


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("trim"), st.integers(0, 5)),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
async def test_every_entry_is_committed_once_or_missed_once_whatever_happens(bus: Bus, actions: list[Any]) -> None:
    await bus.redis.flushall()
    written: list[str] = []
    committed: list[str] = []
    missed: list[Missed] = []
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(opened(bus))
        batch = Batch()

        async def commit() -> None:
            await inbox.commit(now_s=0)
            committed.extend(ids_of(batch))
            missed.extend(batch.missed)

        for action, number in [*actions, ("crash", 0), *[("read", 4)] * 30]:
            if action == "add":
                written += await add(bus, number)
            elif action == "trim":
                entries = await bus.redis.xrange(TICKS)
                if gone := entries[: len(entries) - number]:
                    await trim(bus, gone[-1][0].decode())
            elif action == "read":
                try:
                    more = await inbox.read(count=number, block_ms=0)
                except Unavailable:  # a read of the inbox that crashed was served late: start over, as workers do
                    await stack.aclose()
                    inbox = await stack.enter_async_context(opened(bus))
                    batch = Batch()
                    continue
                batch = Batch(batch.entries + more.entries, batch.missed + more.missed)
            elif action == "commit":
                await commit()
                batch = Batch()
            else:
                await stack.aclose()
                inbox = await stack.enter_async_context(opened(bus))
                batch = Batch()
        await commit()
    told = [i for m in missed for i in written if order(m.after) < order(i) <= order(m.last)]
    assert sorted([*committed, *told], key=order) == written


# Dead letters


async def test_a_dead_letter_is_the_entry_and_why_and_who(bus: Bus) -> None:
    entry_id = (await bus.redis.xadd(streams.COMMANDS, {"id": "the command's own", "data": b"\xff{"})).decode()
    async with opened(bus, [streams.COMMANDS]) as inbox:
        (entry,) = (await inbox.read(count=1, block_ms=0)).entries
        await inbox.commit([inbox.reject(entry, "not JSON")], now_s=0)
    ((_, dead),) = await bus.redis.xrange(streams.dead(streams.COMMANDS))
    assert dead == {
        b"id": b"the command's own",
        b"data": b"\xff{",
        b"entry": entry_id.encode(),
        b"why": b"not JSON",
        b"worker": b"toy",
    }


def test_ids_compare_as_numbers() -> None:
    ids = ["10-10", "1700000000000-0", "9-0", "10-2", "10-0"]
    assert sorted(ids, key=order) == ["9-0", "10-0", "10-2", "10-10", "1700000000000-0"]
    assert order("5") == (5, 0)
