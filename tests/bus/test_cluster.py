"""A real Redis Cluster: commands find their node, wherever it is by now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from bus import cluster
from bus.cluster import key_of, slot_of
from bus.connection import Bus, connect
from schemas import streams
from schemas.errors import Misconfigured, Unavailable
from tests.bus.facts import until
from tests.bus.nodes import Node, Nodes, Watched, sentinels
from tests.bus.nodes import cluster as started
from tests.bus.processes import toy
from tests.bus.toy import undisturbed

KEYS: Final = [f"key {number}" for number in range(40)]


@asynccontextmanager
async def on_a_cluster(folder: Path, replicas: int = 0) -> AsyncIterator[tuple[Nodes, Bus]]:
    with started(folder, replicas=replicas) as nodes:
        async with Bus.open(nodes.url) as bus:
            yield nodes, bus


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("XINFO", "GROUPS", "a"), "a"),
        (("XGROUP", "CREATE", "a", "g", "0"), "a"),
        (("XREAD", "COUNT", 1, "BLOCK", 5, "STREAMS", "a", "b", "0", "0"), "a"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">"), "a"),
        (("EVALSHA", "digest", 2, "a", "b", "argument"), "a"),
        (("EVAL", "text", 0, "argument"), None),
        (("TIME",), None),
        (("CONFIG", "GET", "port"), None),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_command_goes_where_its_key_is(command: tuple[Any, ...], key: str | None) -> None:
    assert key_of(command) == key


def test_what_braces_hold_decides_the_slot() -> None:
    assert slot_of("foo") == 12182  # the cluster specification's own example
    assert slot_of("candles:{3}") == slot_of("state:aggregator:{3}") == slot_of("3")
    assert slot_of("x{}y") != slot_of("")


def helpers(stream: str, shard: int) -> list[str]:
    return [stream, streams.trimmed(stream), streams.outside(stream, "aggregator", shard)]


@pytest.mark.parametrize("stream", ["events", "commands", "orders", "dead:commands", "candles:{3}", "dead:ticks:{2}"])
def test_what_belongs_to_a_stream_shares_its_slot(stream: str) -> None:
    assert len({slot_of(key) for key in helpers(stream, 5)}) == 1


@pytest.mark.parametrize("stream", ["events", "commands", "candles:{3}"])
def test_a_fold_keeps_its_position_beside_its_state(stream: str) -> None:
    state = streams.state("cold", 7)
    assert slot_of(streams.position("cold", stream, state)) == slot_of(state)


@pytest.mark.parametrize(
    "url",
    ["redis+cluster://h:1/3", "redis+cluster://h:port", "redis+sentinel://h:1", "redis+sentinel://h:x/s", "nothing"],
)
def test_an_address_that_cannot_be_one_is_one_sentence_without_the_password(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        connect(url.replace("//", "//me:hunter2@"))
    assert "redis+cluster://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_commands_of_one_packet_reach_all_nodes_and_their_replies_keep_their_order(redis_cluster: Nodes) -> None:
    nodes = redis_cluster
    async with Bus.open(nodes.url) as bus:
        assert await bus.packet(*[("SET", key, key) for key in KEYS]) == [b"OK"] * len(KEYS)
        assert await bus.packet(*[("GET", key) for key in KEYS]) == [key.encode() for key in KEYS]
        sizes = [node.says("DBSIZE") for node in nodes.masters]
        assert all(sizes)
        assert sum(sizes) == len(KEYS)
        assert await bus.redis.get(KEYS[0]) == KEYS[0].encode()
        assert {len(part) > 0 for part in bus.apart(KEYS)} == {True}
        assert sorted(key for part in bus.apart(KEYS) for key in part) == sorted(KEYS)
        assert len(await bus.everywhere("PING")) == 3


async def test_a_script_is_loaded_on_each_node_that_needs_it(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url) as bus:
        for shard in range(9):
            assert await bus.script("renew", [streams.lease("toy", shard)], ["nobody", 1]) == 0


async def test_a_slot_that_has_moved_is_followed(tmp_path: Path) -> None:
    async with on_a_cluster(tmp_path) as (nodes, bus):
        await bus.packet(("SET", "foo", "before"))
        slot = slot_of("foo")
        to = next(node for node in nodes.masters if node is not nodes.owner(slot))
        nodes.begin_moving(slot, to)
        nodes.move_keys(slot, to)
        nodes.end_moving(slot, to)
        assert await bus.packet(("GET", "foo"), ("SET", "foo", "after"), ("GET", "foo")) == [b"before", b"OK", b"after"]
        assert to.says("GET", "foo") == "after"


async def test_while_a_slot_moves_both_nodes_are_asked(tmp_path: Path) -> None:
    async with on_a_cluster(tmp_path) as (nodes, bus):
        await bus.packet(("SET", "{foo}:gone", "there"))
        slot = slot_of("foo")
        to = next(node for node in nodes.masters if node is not nodes.owner(slot))
        nodes.begin_moving(slot, to)
        nodes.move_keys(slot, to)
        got = await bus.packet(("GET", "{foo}:gone"), ("SET", "{foo}:new", 1), ("GET", "{foo}:new"))
        assert got == [b"there", b"OK", b"1"]
        assert nodes.owner(slot).says("CLUSTER", "COUNTKEYSINSLOT", slot) == 0


async def test_a_key_whose_node_is_gone_is_unavailable_and_others_are_not(tmp_path: Path) -> None:
    async with on_a_cluster(tmp_path) as (nodes, bus):
        await bus.packet(*[("SET", key, 1) for key in KEYS])
        nodes.masters[0].kill()
        mine = next(key for key in KEYS if nodes.owner(slot_of(key)) is nodes.masters[0])
        with pytest.raises(Unavailable, match=str(nodes.masters[0].port)):
            await bus.packet(("GET", mine))


async def test_a_replica_that_takes_over_is_found(tmp_path: Path) -> None:
    async with on_a_cluster(tmp_path, replicas=1) as (nodes, bus):
        key = next(key for key in KEYS if nodes.owner(slot_of(key)) is nodes.masters[0])
        await bus.packet(("SET", key, "kept"))

        await until(lambda: nodes.replicas[0].says("DBSIZE"), "the replica has it")
        nodes.masters[0].kill()

        async def answered() -> bool:
            try:
                return await bus.packet(("GET", key)) == [b"kept"]
            except Unavailable:
                return False

        assert await until(answered, "the replica answers for it", 20) < 15


async def test_folds_go_on_when_the_replica_of_a_killed_node_takes_over(tmp_path: Path) -> None:
    """What the replica had not received is gone, entries and folds alike: what is left belongs together."""
    shards = range(3)
    async with on_a_cluster(tmp_path, replicas=3) as (nodes, bus):
        fold = toy(tmp_path / "toy.log", nodes.url, TEJI_SHARDS="3", TEJI_LEASE_S="1")
        try:
            fed = asyncio.create_task(feed(bus, 600))
            await until(lambda: folded(bus, shards, 10), "every shard is folded", 60)
            nodes.owner(slot_of(streams.ticks(0))).kill()
            async with asyncio.timeout(60):
                await fed
            await until(lambda: all_folded(bus, shards), "everything that is left is folded", 30)
            assert fold.alive(), fold.text[-2000:]
        finally:
            fold.kill()
        for shard in shards:
            entries = [fields for _, fields in await bus.redis.xrange(streams.ticks(shard))]
            left = [fields for _, fields in await bus.redis.xrange(streams.candles(shard))]
            assert len(entries) > 150
            assert left == undisturbed(entries)


async def feed(bus: Bus, count: int) -> None:
    """Numbers in turn over the shards; what did not arrive is sent again."""
    for number in range(count):
        sent = False
        while not sent:
            try:
                await bus.packet(("XADD", streams.ticks(number % 3), "*", "key", number % 7, "value", number))
                sent = True
            except Unavailable:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.005)


async def folded(bus: Bus, shards: range, least: int) -> bool:
    return all([await bus.redis.xlen(streams.candles(shard)) >= least for shard in shards])


async def all_folded(bus: Bus, shards: range) -> bool:
    return all(
        [await bus.redis.xlen(streams.candles(shard)) >= await bus.redis.xlen(streams.ticks(shard)) for shard in shards]
    )


async def test_a_single_server_is_not_taken_for_a_cluster_nor_the_reverse(tmp_path: Path, redis_cluster: Nodes) -> None:
    alone = Node(tmp_path)
    try:
        await until(alone.answers, "it answers")
        async with Bus.open(alone.url.replace("redis://", "redis+cluster://")) as bus:
            with pytest.raises(Misconfigured, match="single server"):
                await bus.check()
    finally:
        alone.end()
    async with Bus.open(redis_cluster.masters[1].url) as bus:
        with pytest.raises(Misconfigured, match=r"redis\+cluster://"):
            await bus.check()


async def test_a_cancelled_read_leaves_no_task_and_no_reply_behind(redis_cluster: Nodes) -> None:
    async with Bus.open(redis_cluster.url) as bus:
        waiting = asyncio.create_task(bus.packet(("XREAD", "BLOCK", 5000, "STREAMS", "foo", "$"), ("GET", "bar")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await bus.packet(("SET", "foo2", 1), ("GET", "bar")) == [b"OK", None]


async def test_the_address_of_sentinels_leads_to_the_server_and_later_to_its_replica(tmp_path: Path) -> None:
    with sentinels(tmp_path) as watched:
        await lead_to_the_replica(watched)


async def lead_to_the_replica(watched: Watched) -> None:
    async with Bus.open(watched.url) as bus:
        assert await bus.check()
        await bus.packet(("SET", "foo", "kept"))

        await until(lambda: watched.replica.says("GET", "foo") == "kept", "the replica has it")
        watched.master.kill()

        async def written() -> bool:
            try:
                return await bus.packet(("SET", "bar", 1)) == [b"OK"]
            except Unavailable:
                return False

        await until(written, "the replica has taken over", 30)
        assert watched.replica.says("GET", "bar") == "1"


def test_the_nodes_of_an_address() -> None:
    parts = urlsplit("rediss+cluster://me:pa,ss@a:1,b,[::1]:3?x=y")
    assert cluster.addresses(parts) == [("a", 1), ("b", 6379), ("::1", 3)]
