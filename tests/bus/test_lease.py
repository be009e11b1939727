"""Leases, and the Keeper that shares shards out among processes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import embedded_redis, lease
from bus.connection import Bus
from bus.inbox import Output, Writer
from bus.lease import Keeper, Lease, acquire, quota, release, renew
from schemas import streams
from schemas.errors import LeaseLost, Unavailable
from tests.bus.facts import until
from tests.bus.proxy import proxied

LIFE_S = 0.6
NAME = "toy"


def named(bus: Bus, name: str) -> Bus:
    return Bus(bus.redis, name)


# Leases


async def test_fencing_tokens_only_grow(bus: Bus) -> None:
    tokens: list[int] = []
    for number in range(6):
        held = await acquire(named(bus, f"process {number % 2}"), NAME, 3, 60)
        assert held is not None
        tokens.append(held.token)
        if number % 3:
            await release(bus, held)
        else:
            await bus.redis.delete(held.key)
    assert tokens == sorted(set(tokens))


async def test_one_process_holds_a_shard_until_it_gives_it_back(bus: Bus) -> None:
    one, other = named(bus, "one"), named(bus, "other:with a colon")
    held = await acquire(one, NAME, 0, 60)
    assert held is not None
    assert await acquire(other, NAME, 0, 60) is None
    assert await acquire(other, NAME, 1, 60) is not None
    await release(one, held)
    assert await acquire(other, NAME, 0, 60) is not None
    assert not await renew(one, held, 60)
    await release(one, held)  # no longer ours to give
    assert await acquire(one, NAME, 0, 60) is None


async def test_the_holder_gets_a_new_token_and_its_old_one_is_worth_nothing(bus: Bus) -> None:
    old = await acquire(bus, NAME, 0, 60)
    new = await acquire(bus, NAME, 0, 60)
    assert old is not None
    assert new is not None
    assert new.token > old.token
    assert await renew(bus, new, 60)
    assert not await renew(bus, old, 60)


async def test_renewing_prolongs_a_lease_and_does_not_revive_one_that_ran_out(bus: Bus) -> None:
    held = await acquire(bus, NAME, 0, 1)
    assert held is not None
    assert await renew(bus, held, 60)
    assert await bus.redis.pttl(held.key) > 50_000
    await bus.redis.delete(held.key)
    assert not await renew(bus, held, 60)


# Who lives


async def test_a_process_is_among_the_living_until_it_withdraws(bus: Bus) -> None:
    await lease.announce(named(bus, "a"), "ingest", {"pid": 1})
    await lease.announce(named(bus, "b"), "ingest", {"pid": 2})
    await lease.announce(named(bus, "b"), "ingester", {"pid": 3})
    assert {name: about["pid"] for name, about in (await lease.living(bus)).items()} == {
        "ingest:a": 1,
        "ingest:b": 2,
        "ingester:b": 3,
    }
    assert set(await lease.living(bus, "ingest")) == {"ingest:a", "ingest:b"}
    await lease.withdraw(named(bus, "a"), "ingest")
    assert set(await lease.living(bus, "ingest")) == {"ingest:b"}


async def test_who_has_not_been_heard_of_is_swept_out(bus: Bus) -> None:
    await lease.announce(bus, NAME, {})
    now = await bus.now_ms()
    for name, silent_ms in (("toy:silent", 1), ("toy:gone", 400_000)):
        await bus.redis.hset(lease.WORKERS, name, b'{"until": %d}' % (now - silent_ms))
    assert set(await lease.living(bus)) == {f"toy:{bus.instance}"}
    assert set(await lease.heard_of(bus, now)) == {f"toy:{bus.instance}", "toy:silent"}
    assert await bus.redis.hlen(lease.WORKERS) == 2


# Quotas


HELD = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 9), min_size=1, max_size=8)


@given(HELD, st.integers(1, 40))
def test_quotas_add_up_to_the_shards_and_are_even(held: dict[str, int], shards: int) -> None:
    quotas = [quota(held, name, shards) for name in held]
    assert sum(quotas) == shards
    assert max(quotas) - min(quotas) <= 1


@given(st.integers(1, 8), st.integers(1, 40))
def test_who_holds_a_fair_share_keeps_it(members: int, shards: int) -> None:
    held = {f"p{number}": shards // members + (number < shards % members) for number in reversed(range(members))}
    assert {name: quota(held, name, shards) for name in held} == held


def test_a_newcomer_does_not_get_the_only_shard_from_its_holder() -> None:
    assert quota({"z": 1, "a": 0}, "z", 1) == 1
    assert quota({"z": 1, "a": 0}, "a", 1) == 0


# The Keeper


@dataclass
class Kept:
    """A keeper in a task of its own, and what its jobs went through."""

    bus: Bus
    shards: int
    life_s: float = LIFE_S
    jobs: list[Lease] = field(default_factory=list)  # every start of a job
    running: dict[int, Lease] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    behave: Callable[[Lease, asyncio.Event], Awaitable[Any]] | None = None

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.bus, NAME, self.shards, self.life_s, self._job)
        self.task = asyncio.create_task(self.keeper.run(self.stop))

    async def _job(self, held: Lease, over: asyncio.Event) -> None:
        assert held.shard not in self.running, "one job a shard"
        self.jobs.append(held)
        self.running[held.shard] = held
        try:
            await (self.behave(held, over) if self.behave else over.wait())
        finally:
            del self.running[held.shard]

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


@asynccontextmanager
async def keepers(bus: Bus, count: int, shards: int, **more: Any) -> AsyncIterator[list[Kept]]:
    kept = [Kept(named(bus, f"process {number} of {bus.instance}"), shards, **more) for number in range(count)]
    try:
        yield kept
    finally:
        for one in kept:
            one.stop.set()
        await asyncio.gather(*(one.task for one in kept), return_exceptions=True)


def shared_out(kept: Sequence[Kept], *counts: int) -> Callable[[], bool]:
    def true() -> bool:
        shards = [shard for one in kept for shard in one.running]
        return len(set(shards)) == len(shards) and sorted(len(one.running) for one in kept) == sorted(counts)

    return true


@pytest.mark.parametrize(
    ("count", "shards", "counts"), [(1, 4, [4]), (2, 4, [2, 2]), (3, 7, [2, 2, 3]), (3, 2, [0, 1, 1])]
)
async def test_shards_are_spread_evenly(bus: Bus, count: int, shards: int, counts: list[int]) -> None:
    async with keepers(bus, count, shards) as kept:
        await until(shared_out(kept, *counts), "evenly spread")


async def test_shards_are_given_to_who_joins_and_taken_from_who_leaves(bus: Bus) -> None:
    async with keepers(bus, 1, 4) as kept:
        await until(shared_out(kept, 4), "all with the only one")
        joined = Kept(named(bus, "another"), 4)
        kept.append(joined)
        await until(shared_out(kept, 2, 2), "two each")
        await joined.end()
        assert not joined.running
        took_s = await until(shared_out(kept, 4, 0), "all with the one that stayed")
    assert took_s < LIFE_S / 3 + 1.0


async def test_a_newcomer_gets_its_shards_little_by_little(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async with keepers(bus, 1, 16) as kept:
        await until(shared_out(kept, 16), "all with the only one")
        keeper, given = kept[0].keeper, list[int]()
        balance = keeper._balance

        async def watched() -> None:
            before = len(keeper.held)
            await balance()
            given.append(before - len(keeper.held))

        monkeypatch.setattr(keeper, "_balance", watched)
        kept.append(Kept(named(bus, "another"), 16))
        await until(shared_out(kept, 8, 8), "eight each")
        assert max(given) == 4
        assert sum(given) == 8


async def moves(bus: Bus) -> list[dict[str, Any]]:
    entries = await bus.redis.xrange(streams.EVENTS)
    return [orjson.loads(fields[b"data"]) for _, fields in entries if fields[b"kind"] == b"lease"]


async def test_a_shard_that_changes_hands_is_an_event_and_one_that_is_taken_again_is_none(bus: Bus) -> None:
    async def weak(held: Lease, over: asyncio.Event) -> None:
        if held.token < 3:
            raise Unavailable("not now")
        await over.wait()

    async with keepers(bus, 1, 1, behave=weak) as (one,):
        await until(lambda: len(one.jobs) == 3, "taken, and taken again")
        await one.end()
    assert await moves(bus) == []
    async with keepers(named(bus, "the second"), 1, 1) as (other,):
        await until(shared_out([other], 1), "taken")
        (event,) = await moves(bus)
    assert (event["kind"], event["worker"]) == ("lease", NAME)
    assert event["data"] == {"shard": 0, "fence": 4, "instance": other.bus.instance, "before": one.bus.instance}
    assert one.bus.instance in event["message"]


async def test_nothing_moves_without_need(bus: Bus) -> None:
    async with keepers(bus, 1, 3) as kept:
        await until(shared_out(kept, 3), "all taken")
        kept += [Kept(named(bus, "a first name in the alphabet"), 3), Kept(named(bus, "zzz"), 3)]
        await until(shared_out(kept, 1, 1, 1), "one each")
        late = Kept(named(bus, "another"), 3)
        kept.append(late)
        await until(lambda: bool(late.keeper._settled) and is_member(bus, late), "it takes part")
        for _ in range(3):
            assert shared_out(kept, 1, 1, 1, 0)()
            await asyncio.sleep(LIFE_S / 3)
        assert len(kept[0].jobs) == 3


async def is_member(bus: Bus, one: Kept) -> bool:
    return bool(await bus.redis.hexists(streams.members(NAME), one.bus.instance))


async def test_a_clean_stop_gives_everything_back_at_once(bus: Bus) -> None:
    async with keepers(bus, 1, 3, life_s=60) as (one,):
        await until(shared_out([one], 3), "all taken")
        await one.end()
        assert await bus.redis.keys("lease:*") == []
        assert await bus.redis.hlen(streams.members(NAME)) == 0


async def test_a_lease_is_kept_for_as_long_as_the_job_works(bus: Bus) -> None:
    async with keepers(bus, 1, 1) as (one,):
        await until(shared_out([one], 1), "taken")
        (token,) = one.jobs
        await asyncio.sleep(2.5 * LIFE_S)
        assert one.jobs == [token]
        assert await bus.redis.get(token.key) == token.value.encode()


async def test_the_last_commit_of_a_slow_job_is_under_its_lease(bus: Bus) -> None:
    written: list[str] = []

    async def slow(held: Lease, over: asyncio.Event) -> None:
        await over.wait()
        await asyncio.sleep(2 * LIFE_S)  # the batch under way takes its time
        written.extend(await Writer(bus, held, {}).write([Output(streams.EVENTS, {"kind": "alert"})], now_s=0))

    async with keepers(bus, 1, 1, behave=slow) as (one,):
        await until(shared_out([one], 1), "taken")
        await one.end()
    assert len(written) == 1
    assert await bus.redis.keys("lease:*") == []


async def test_a_job_that_cannot_go_on_is_started_again_under_a_new_token(bus: Bus) -> None:
    async def weak(held: Lease, over: asyncio.Event) -> None:
        if held.token < 4:
            raise Unavailable("not now")
        await over.wait()

    async with keepers(bus, 1, 1, behave=weak) as (one,):
        await until(lambda: len(one.jobs) == 4, "four starts")
        assert [held.token for held in one.jobs] == [1, 2, 3, 4]


async def test_a_job_that_lost_its_lease_comes_back_under_a_new_token(bus: Bus) -> None:
    async def losing(held: Lease, over: asyncio.Event) -> None:
        if held.token == 1:
            raise LeaseLost("somebody was faster")
        await over.wait()

    async with keepers(bus, 1, 1, behave=losing) as (one,):
        await until(lambda: [held.token for held in one.jobs] == [1, 2], "started again")


async def test_a_job_whose_lease_is_gone_is_cancelled_before_long(bus: Bus) -> None:
    ends: list[BaseException] = []

    async def busy(held: Lease, over: asyncio.Event) -> None:
        try:
            await over.wait()
        except asyncio.CancelledError as error:
            ends.append(error)
            raise

    async with keepers(bus, 1, 1, behave=busy) as (one,):
        await until(shared_out([one], 1), "taken")
        await bus.redis.set(one.jobs[0].key, "99:thief", px=300)
        took_s = await until(lambda: ends, "the job has ended")
        assert took_s < LIFE_S / 3 + 1.0
        await until(lambda: len(one.jobs) == 2, "and is back when the thief's lease has run out")


async def test_a_bug_in_a_job_ends_the_keeper_at_once_and_lets_the_others_finish(bus: Bus) -> None:
    finished: list[int] = []

    async def job(held: Lease, over: asyncio.Event) -> None:
        if held.shard == 1:
            raise ZeroDivisionError("a bug")
        await over.wait()
        finished.append(held.shard)

    async with keepers(bus, 1, 3, life_s=60, behave=job) as (one,):
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(one.task, 5)
        assert sorted(finished) == [0, 2]
        assert await bus.redis.keys("lease:*") == []


async def test_a_bug_on_the_way_out_is_not_lost(bus: Bus) -> None:
    async def job(held: Lease, over: asyncio.Event) -> None:
        await over.wait()
        raise ZeroDivisionError("a bug")

    async with keepers(bus, 1, 2, behave=job) as (one,):
        await until(shared_out([one], 2), "taken")
        with pytest.raises(ZeroDivisionError):
            await one.end()


async def test_a_keeper_that_is_cancelled_lets_its_jobs_finish_and_gives_back(bus: Bus) -> None:
    async with keepers(bus, 1, 2, life_s=60) as (one,):
        await until(shared_out([one], 2), "taken")
        one.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one.task
        assert not one.running
        assert await bus.redis.keys("lease:*") == []


async def test_a_job_that_ends_by_itself_is_started_again_but_not_in_a_hurry(bus: Bus) -> None:
    async def brief(held: Lease, over: asyncio.Event) -> None:
        return

    async with keepers(bus, 1, 1, behave=brief) as (one,):
        await until(lambda: len(one.jobs) >= 3, "started again")
        assert len(one.jobs) < 10


# Redis away


async def test_after_an_outage_every_shard_is_worked_on_again_by_one(redis_url: str, bus: Bus) -> None:
    async with proxied(redis_url) as proxy, Bus.open(proxy.url) as shaky:

        async def job(held: Lease, over: asyncio.Event) -> None:
            while not over.is_set():
                await Writer(shaky, held, {}).write(now_s=0)
                await asyncio.sleep(0.02)

        async with keepers(shaky, 2, 4, behave=job) as kept:
            await until(shared_out(kept, 2, 2), "two each")
            before = {(held.shard, held.value) for one in kept for held in one.jobs}
            await proxy.refuse()
            await until(lambda: not any(one.running for one in kept), "no job runs")
            await until(lambda: all_gone(bus), "leases and memberships have run out")
            proxy.accept()
            await until(shared_out(kept, 2, 2), "two each again")
            after = {(held.shard, held.value) for one in kept for held in one.running.values()}
    assert not after & before


async def all_gone(bus: Bus) -> bool:
    return not await bus.redis.keys("lease:*")


async def test_a_stop_does_not_wait_for_a_redis_that_says_nothing(redis_url: str) -> None:
    async with proxied(redis_url) as proxy, Bus.open(proxy.url) as shaky, keepers(shaky, 1, 2) as (one,):
        await until(shared_out([one], 2), "taken")
        proxy.hold()
        await asyncio.sleep(LIFE_S / 2)  # somewhere in the middle of its rounds
        began = asyncio.get_running_loop().time()
        await one.end()
        assert asyncio.get_running_loop().time() - began < 3 * LIFE_S + 1.0
        proxy.go_on()


async def test_a_restart_of_redis_on_its_data_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    path, wait = await asyncio.to_thread(embedded_redis.start, folder)
    await asyncio.to_thread(wait)
    try:
        async with Bus.open(f"unix://{path}") as bus:

            async def job(held: Lease, over: asyncio.Event) -> None:
                while not over.is_set():
                    await Writer(bus, held, {}).write([Output(streams.EVENTS, {"token": held.token})], now_s=0)
                    await asyncio.sleep(0.02)

            async with keepers(bus, 1, 1, behave=job) as (one,):
                await until(lambda: written(bus), "it works")
                await asyncio.to_thread(embedded_redis.stop, folder)
                await until(lambda: not one.running, "the job has noticed")
                _, wait = await asyncio.to_thread(embedded_redis.start, folder)
                await asyncio.to_thread(wait)
                before = await bus.redis.xlen(streams.EVENTS)
                assert before
                await until(lambda: more_than(bus, before), "it works again")
                tokens = [int(fields[b"token"]) for _, fields in await bus.redis.xrange(streams.EVENTS)]
                assert tokens == sorted(tokens)
                assert len(set(tokens)) >= 2
    finally:
        await asyncio.to_thread(embedded_redis.stop, folder)


async def written(bus: Bus) -> int:
    return int(await bus.redis.xlen(streams.EVENTS))


async def more_than(bus: Bus, count: int) -> bool:
    return await written(bus) > count


async def test_two_never_write_to_a_shard_in_turns(bus: Bus) -> None:
    """Leases are torn away at random, jobs end at random, keepers come and go: each shard's tokens only grow."""

    async def job(held: Lease, over: asyncio.Event) -> None:
        writer = Writer(bus, held, {})
        for number in range(1_000):
            if over.is_set():
                return
            await writer.write([Output(streams.ticks(held.shard), {"token": held.token})], now_s=0)
            if number == 30 * (held.token % 3 + 1):
                raise Unavailable("a mishap")
            await asyncio.sleep(0.001)

    async with keepers(bus, 3, 4, life_s=0.5, behave=job) as kept:
        await until(lambda: all(one.running for one in kept), "all work")
        for turn in range(25):
            with contextlib.suppress(IndexError):
                await bus.redis.delete(sorted(await bus.redis.keys("lease:*"))[turn % 4])
            if turn % 8 == 5:
                await kept[turn % 3].end()
                kept[turn % 3] = Kept(named(bus, f"new {turn}"), 4, 0.5, behave=job)
            await asyncio.sleep(0.05)
    for shard in range(4):
        tokens = [int(fields[b"token"]) for _, fields in await bus.redis.xrange(streams.ticks(shard))]
        assert tokens
        assert tokens == sorted(tokens)
