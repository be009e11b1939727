"""A stream kept within a number of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from bus.connection import Bus
from bus.inbox import Output, Writer
from bus.sizes import Sizes
from schemas import streams

TICKS = streams.ticks(0)
MB = 1 << 20


@given(st.lists(st.integers(1, 600_000)), st.integers(1, 3_000_000))
def test_what_has_to_go_leaves_less_than_the_limit_and_no_more_than_a_part_too_little(
    sizes: list[int], limit: int
) -> None:
    of = Sizes(limit)
    gone = 0
    for number, size in enumerate(sizes, 1):
        of.add(f"{number}-0", size)
        if newest := of.too_many():
            assert int(newest[:-2]) > gone
            gone = int(newest[:-2])
        left = sizes[gone:number]
        assert sum(left) <= limit or len(left) == 1 or sum(left) <= 256 * 1024
        assert not gone or sum(left) + max(256 * 1024, *sizes[:number]) > limit


async def test_a_stream_stays_within_its_bytes_and_readers_learn_what_went(bus: Bus) -> None:
    writer = Writer(bus, None, streams.RETENTION_MS, trim_every_s=0.0, limits_bytes={"ticks": 4 * MB})
    ids: list[str] = []
    for _ in range(20):
        ids += await writer.write([Output(TICKS, {"rec": bytes(MB)})], now_s=0.0)

    kept = [each.decode() for each, _ in await bus.redis.xrange(TICKS)]
    assert kept == ids[-5:]  # what is too many goes with the next write
    assert await bus.redis.get(streams.trimmed(TICKS)) == ids[-6].encode()


async def test_what_was_there_before_the_writer_counts_as_well(bus: Bus) -> None:
    first = Writer(bus, None, streams.RETENTION_MS)
    old = await first.write([Output(TICKS, {"rec": bytes(MB)}) for _ in range(3)], now_s=0.0)
    writer = Writer(bus, None, streams.RETENTION_MS, trim_every_s=0.0, limits_bytes={"ticks": 4 * MB})
    ids = [*old]
    for _ in range(3):
        ids += await writer.write([Output(TICKS, {"rec": bytes(MB)})], now_s=0.0)
    kept = [each.decode() for each, _ in await bus.redis.xrange(TICKS)]
    assert kept == ids[3:]


async def test_other_streams_have_no_such_limit(bus: Bus) -> None:
    writer = Writer(bus, None, streams.RETENTION_MS, trim_every_s=0.0, limits_bytes={"ticks": 1})
    for _ in range(3):
        await writer.write([Output(streams.candles(0), {"data": bytes(MB)})], now_s=0.0)
    assert await bus.redis.xlen(streams.candles(0)) == 3
