"""`Writer` and `commit.lua`: all or nothing, once, and only for the owner."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import exceptions as redis_errors

from bus.connection import Bus
from bus.inbox import Output, Writer
from bus.lease import acquire
from schemas import streams
from schemas.errors import LeaseLost, Unavailable
from tests.bus.facts import until
from tests.bus.proxy import proxied

STREAM = streams.candles(0)
STATE = streams.state("toy", 0)


async def writer_of(bus: Bus, life_s: float = 60.0, **more: Any) -> Writer:
    lease = await acquire(bus, "toy", 0, life_s)
    assert lease is not None
    return Writer(bus, lease, streams.RETENTION_MS, **more)


async def contents(bus: Bus) -> dict[bytes, Any]:
    """Every key but the lease's, and what it holds."""
    found: dict[bytes, Any] = {}
    for key in sorted(await bus.redis.keys()):
        if key.startswith((b"lease:", b"fence:", b"holder:")):
            continue
        found[key] = await bus.redis.dump(key)
    return found


async def gone(bus: Bus, key: str) -> bool:
    return not await bus.redis.exists(key)


def entry(**fields: Any) -> Output:
    return Output(STREAM, fields or {"data": "x"})


async def test_outputs_state_hashes_and_acknowledgements_happen_together(bus: Bus) -> None:
    writer = await writer_of(bus)
    taken = await bus.redis.xadd("ticks:{0}", {"n": 1})
    await bus.redis.xgroup_create("ticks:{0}", "toy", id="0")
    await bus.redis.xreadgroup("toy", "me", {"ticks:{0}": ">"})
    (written,) = await writer.write(
        [entry(data=b"\x00\xff\r\n", ts=5)],
        now_s=0,
        state=(STATE, b"\x00state"),
        hashes={"quotes:{0}": {"A|1": "{}"}},
        acks=[("ticks:{0}", "toy", [taken.decode()])],
        sequence=("sequence:toy:{0}", 7),
    )
    assert await bus.redis.xrange(STREAM) == [(written.encode(), {b"data": b"\x00\xff\r\n", b"ts": b"5"})]
    assert await bus.redis.get(STATE) == b"\x00state"
    assert await bus.redis.hgetall("quotes:{0}") == {b"A|1": b"{}"}
    assert (await bus.redis.xpending("ticks:{0}", "toy"))["pending"] == 0
    assert await bus.redis.get("sequence:toy:{0}") == b"7"


async def test_an_empty_commit_is_nothing_but_the_check_of_the_lease(bus: Bus) -> None:
    writer = await writer_of(bus)
    assert await writer.write(now_s=0) == []
    assert await contents(bus) == {}
    await bus.redis.delete(streams.lease("toy", 0))
    with pytest.raises(LeaseLost):
        await writer.write(now_s=0)


@pytest.mark.parametrize("how", ["taken over", "expired", "taken again by ourselves"])
async def test_nothing_at_all_happens_without_the_lease(bus: Bus, how: str) -> None:
    writer = await writer_of(bus)
    assert writer.lease is not None
    if how != "taken again by ourselves":
        await bus.redis.delete(writer.lease.key)
    if how != "expired":
        assert await acquire(bus if "ourselves" in how else Bus(bus.redis, "other"), "toy", 0, 60)
    before = await contents(bus)
    with pytest.raises(LeaseLost):
        await writer.write(
            [entry()], now_s=0, state=(STATE, b"s"), hashes={"quotes:{0}": {"a": 1}}, sequence=("sequence:toy:{0}", 1)
        )
    assert await contents(bus) == before


async def test_a_lease_that_runs_out_by_itself_refuses_the_commit(bus: Bus) -> None:
    writer = await writer_of(bus, life_s=0.05)
    await until(lambda: gone(bus, streams.lease("toy", 0)), "the lease has run out")
    with pytest.raises(LeaseLost):
        await writer.write([entry()], now_s=0)
    assert await contents(bus) == {}


async def test_the_same_number_again_does_nothing(bus: Bus) -> None:
    writer = await writer_of(bus)
    sequence = (streams.sequence("toy", 0), 41)
    assert len(await writer.write([entry()], now_s=0, sequence=sequence)) == 1
    before = await contents(bus)
    assert await writer.write([entry()], now_s=9, sequence=sequence, state=(STATE, b"x")) == []
    assert await writer.write([entry()], now_s=9, sequence=(sequence[0], 40)) == []
    assert await contents(bus) == before
    assert len(await writer.write([entry()], now_s=9, sequence=(sequence[0], 42))) == 1


async def test_a_lost_reply_leaves_one_commit_and_its_repetition_none(redis_url: str, bus: Bus) -> None:
    async with proxied(redis_url) as proxy, Bus.open(proxy.url) as shaky:
        lease = await acquire(shaky, "toy", 0, 60)
        writer = Writer(shaky, lease, streams.RETENTION_MS)
        sequence = (streams.sequence("toy", 0), 1)
        await writer.write(now_s=0)  # the script is known now
        proxy.swallow_reply_to(b"EVALSHA")
        with pytest.raises(Unavailable):
            await writer.write([entry(data="once")], now_s=0, sequence=sequence)
        assert await writer.write([entry(data="once")], now_s=0, sequence=sequence) == []
    assert await bus.redis.xlen(STREAM) == 1


async def test_nobody_sends_a_write_again_behind_our_back(redis_url: str, bus: Bus) -> None:
    async with proxied(redis_url) as proxy, Bus.open(proxy.url) as shaky:
        writer = Writer(shaky, None, streams.RETENTION_MS)
        await writer.write(now_s=0)
        proxy.swallow_reply_to(b"EVALSHA")
        with pytest.raises(Unavailable):
            await writer.write([entry(data="once-only")], now_s=0)
        assert proxy.requests.count(b"once-only") == 1
    assert await bus.redis.xlen(STREAM) == 1


async def test_a_server_that_forgot_the_script_is_told_it_again(bus: Bus) -> None:
    writer = await writer_of(bus)
    for number in range(1, 4):
        await bus.redis.script_flush()
        assert len(await writer.write([entry()], now_s=number)) == 1
    assert await bus.redis.xlen(STREAM) == 3


async def test_thousands_of_acknowledgements_fit_into_one_commit(bus: Bus) -> None:
    writer = await writer_of(bus)
    pipe = bus.redis.pipeline(transaction=False)
    for number in range(9_001):
        pipe.xadd("ticks:{0}", {"n": number})
    await pipe.execute()
    await bus.redis.xgroup_create("ticks:{0}", "toy", id="0")
    ((_, read),) = await bus.redis.xreadgroup("toy", "me", {"ticks:{0}": ">"}, count=10_000)
    ids = [entry_id.decode() for entry_id, _ in read]
    await writer.write(now_s=0, acks=[("ticks:{0}", "toy", ids)])
    assert (await bus.redis.xpending("ticks:{0}", "toy"))["pending"] == 0


async def test_a_hash_of_five_thousand_fields_fits_into_one_commit(bus: Bus) -> None:
    writer = await writer_of(bus)
    quotes = {f"NSE_FO|{number}": f'{{"ltp":{number}}}' for number in range(5_000)}
    await writer.write(now_s=0, hashes={"quotes:{0}": quotes})
    stored = await bus.redis.hgetall("quotes:{0}")
    assert {name.decode(): value.decode() for name, value in stored.items()} == quotes


async def test_several_streams_keep_the_order_of_their_outputs(bus: Bus) -> None:
    writer = await writer_of(bus)
    names = ["candles:{0}", "events", "signals", "events", "candles:{0}"]
    ids = await writer.write([Output(name, {"at": at}) for at, name in enumerate(names)], now_s=0)
    for name in set(names):
        found = [(entry_id.decode(), int(fields[b"at"])) for entry_id, fields in await bus.redis.xrange(name)]
        assert found == [(ids[at], at) for at, one in enumerate(names) if one == name]


VALUES = st.one_of(st.binary(max_size=50), st.text(max_size=20), st.integers(), st.floats(allow_nan=False))
FIELDS = st.dictionaries(st.text(min_size=1, max_size=8), VALUES, min_size=1, max_size=6)


def spelled(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(FIELDS, max_size=5), max_size=4), quotes=FIELDS)
async def test_whatever_is_written_is_read_back(bus: Bus, batches: Sequence[Sequence[Any]], quotes: Any) -> None:
    await bus.redis.flushall()
    writer = await writer_of(bus)
    for fields in batches:
        await writer.write([Output(STREAM, one) for one in fields], now_s=0, hashes={"quotes:{0}": quotes})
    written = [{name.encode(): spelled(value) for name, value in one.items()} for fields in batches for one in fields]
    assert [fields for _, fields in await bus.redis.xrange(STREAM)] == written


# What cannot be done is not half done


@pytest.mark.parametrize("broken", ["stream", "hash", "group"])
async def test_a_commit_that_cannot_be_done_changes_nothing(bus: Bus, broken: str) -> None:
    writer = await writer_of(bus)
    acks = [("ticks:{0}", "toy", ["1-1"])] if broken == "group" else []
    if broken == "stream":
        await bus.redis.set("events", "somebody's text")
    if broken == "hash":
        await bus.redis.set("quotes:{0}", "somebody's text")
    before = await contents(bus)
    with pytest.raises(Unavailable if broken == "group" else redis_errors.ResponseError):
        await writer.write(
            [entry(), Output("events", {"kind": "alert"})],
            now_s=0,
            hashes={"quotes:{0}": {"a": 1}},
            state=(STATE, b"s"),
            acks=acks,
            sequence=("sequence:toy:{0}", 1),
        )
    assert await contents(bus) == before


@pytest.mark.parametrize("fields", [{}, {str(number): 1 for number in range(3_501)}])
async def test_an_entry_that_redis_would_choke_on_is_refused_before_anything_is_sent(bus: Bus, fields: Any) -> None:
    writer = await writer_of(bus)
    with pytest.raises(ValueError, match="fields"):
        await writer.write([entry(), Output(STREAM, fields)], now_s=0)
    assert await contents(bus) == {}


async def test_an_entry_as_large_as_allowed_is_written(bus: Bus) -> None:
    writer = await writer_of(bus)
    await writer.write([Output(STREAM, {str(number): 1 for number in range(3_500)})], now_s=0)
    assert len((await bus.redis.xrange(STREAM))[0][1]) == 3_500


@pytest.mark.parametrize("value", [None, True, object(), [1]])
async def test_a_value_that_redis_does_not_know_is_refused_before_anything_is_sent(bus: Bus, value: Any) -> None:
    writer = await writer_of(bus)
    with pytest.raises(TypeError):
        await writer.write([entry(), entry(data=value)], now_s=0)
    assert await contents(bus) == {}


async def test_a_full_redis_is_unavailable_and_takes_nothing_until_there_is_room(bus: Bus) -> None:
    writer = await writer_of(bus)
    await bus.redis.config_set("maxmemory", 1)
    with pytest.raises(Unavailable, match="memory"):
        await writer.write([entry(), entry()], now_s=0, state=(STATE, b"s"), sequence=("sequence:toy:{0}", 1))
    await bus.redis.config_set("maxmemory", 0)
    assert await contents(bus) == {}
    assert len(await writer.write([entry()], now_s=0)) == 1


async def test_a_replica_is_unavailable_until_it_is_promoted(bus: Bus) -> None:
    writer = await writer_of(bus)
    await bus.redis.config_set("replica-serve-stale-data", "yes")
    await bus.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable):
        await writer.write([entry()], now_s=0)
    await bus.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert len(await writer.write([entry()], now_s=0)) == 1


async def test_writes_that_no_replica_would_have_are_unavailable(bus: Bus) -> None:
    writer = await writer_of(bus)
    await bus.redis.config_set("min-replicas-to-write", 1)
    with pytest.raises(Unavailable):
        await writer.write([entry()], now_s=0)


async def test_a_redis_that_is_busy_with_a_script_is_unavailable(bus: Bus, redis_url: str) -> None:
    await bus.redis.config_set("lua-time-limit", 20)
    async with Bus.open(redis_url) as other:
        endless = asyncio.create_task(other.redis.eval("while true do end", 0))
        with pytest.raises(Unavailable, match="BUSY"):
            await until(lambda: Writer(bus, None, {}).write(now_s=0), "busy")
        await bus.redis.script_kill()
        with pytest.raises(redis_errors.ResponseError):
            await endless


# Trimming


async def old_entry(bus: Bus, stream: str, age_ms: int) -> str:
    entry_id = f"{await bus.now_ms() - age_ms}-0"
    await bus.redis.xadd(stream, {"old": 1}, id=entry_id)
    return entry_id


MINUTE_MS = 60_000


@pytest.mark.parametrize(
    "stream", ["ticks:{0}", "candles:{3}", "chain:{0}", "signals", "commands", "orders", "events", "dead:ticks:{0}"]
)
async def test_each_family_is_kept_as_long_as_it_says(bus: Bus, stream: str) -> None:
    keep_ms = streams.retention_ms(stream)
    await old_entry(bus, stream, keep_ms + 2 * MINUTE_MS)
    gone = await old_entry(bus, stream, keep_ms + MINUTE_MS)
    kept = await old_entry(bus, stream, keep_ms - MINUTE_MS)
    (new,) = await Writer(bus, None, streams.RETENTION_MS).write([Output(stream, {"new": 1})], now_s=0)
    assert [entry_id.decode() for entry_id, _ in await bus.redis.xrange(stream)] == [kept, new]
    assert await bus.redis.get(streams.trimmed(stream)) == gone.encode()


async def test_a_retention_of_ones_own_counts_and_the_others_stay(bus: Bus) -> None:
    writer = Writer(bus, None, {"ticks": 1_000})
    for stream in ("ticks:{0}", "events"):
        await old_entry(bus, stream, 5_000)
    await writer.write([Output("ticks:{0}", {"n": 1}), Output("events", {"n": 1})], now_s=0)
    assert [await bus.redis.xlen(stream) for stream in ("ticks:{0}", "events")] == [1, 2]


async def test_where_nothing_is_too_old_nothing_is_trimmed_and_no_mark_is_left(bus: Bus) -> None:
    await old_entry(bus, STREAM, MINUTE_MS)
    await Writer(bus, None, {}).write([entry()], now_s=0)
    assert await bus.redis.xlen(STREAM) == 2
    assert await bus.redis.get(streams.trimmed(STREAM)) is None


async def test_a_stream_is_trimmed_once_in_a_while_and_not_with_every_commit(bus: Bus) -> None:
    writer = Writer(bus, None, {"candles": 1_000}, trim_every_s=10)
    left: list[bool] = []
    for now_s in (0.0, 9.9, 10.0, 19.9, 20.0):
        await bus.redis.delete(STREAM)
        old = await old_entry(bus, STREAM, 5_000)
        await writer.write([entry()], now_s=now_s)
        left.append(bool(await bus.redis.xrange(STREAM, old, old)))
    assert left == [False, True, False, True, False]


async def test_trimming_goes_by_the_clock_of_the_server(bus: Bus) -> None:
    writer = Writer(bus, None, {"candles": 60_000})
    await writer.write([entry()], now_s=1e12)  # our own clock may say what it likes
    await writer.write([entry()], now_s=2e12)
    assert await bus.redis.xlen(STREAM) == 2


async def test_looking_for_old_entries_does_not_walk_the_stream(bus: Bus) -> None:
    writer = Writer(bus, None, {})
    pipe = bus.redis.pipeline(transaction=False)
    for _ in range(20_000):
        pipe.xadd(STREAM, {"n": 1})
    await pipe.execute()
    await bus.redis.config_resetstat()
    await writer.write([entry()], now_s=0)
    assert "cmdstat_xrevrange" not in await bus.redis.info("commandstats")
