"""Redis goes away under load and comes back: nothing lost that fits the buffer, nothing doubled, nothing hidden."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

import aggregator.worker
import ingest.worker
from bus import embedded
from ingest import outbox
from ingest.desired import Desired
from schemas import streams
from schemas.commands import FeedSubscribe, Mode
from tests.conftest import settings_in
from tests.end_to_end.pipeline import Pipeline, final, pipeline
from tests.ingest import live


@contextlib.contextmanager
def redis_at(home: Path) -> Iterator[str]:
    with embedded.servers(settings_in(home), postgres=False) as servers:
        yield servers.redis_url


@contextlib.asynccontextmanager
async def line_of(url: str, home: Path, **more: Any) -> AsyncIterator[Pipeline]:
    async with pipeline(url, home, **more) as line:
        await live.start(line)
        await live.run_market(line, 3000)
        await line.until(lambda: live.all_published(line), "published")
        yield line
        await line.stop("ingest")


async def nobody_publishes(line: Pipeline) -> None:
    """Frames have begun to gather."""
    for _ in range(20):
        await asyncio.sleep(0.01)


def stop_orderly(_: Path, first_life: contextlib.ExitStack) -> None:
    first_life.close()


def kill(home: Path, _: contextlib.ExitStack) -> None:
    os.kill(int((home / "redis" / "redis.pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("end", [stop_orderly, kill])
async def test_an_outage_that_fits_the_buffer_costs_no_tick_and_doubles_none(
    tmp_path: Path, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_HIGH_WATER_BYTES", 1 << 20)  # what may wait while Redis works; an outage is longer
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(redis_at(home))
        async with line_of(url, home) as line:
            connections = set(line.market.hub.connections)
            await live.run_market(line, 600)
            await asyncio.to_thread(end, home, first_life)
            await live.run_market(line, 90_000)
            await nobody_publishes(line)
            with redis_at(home) as again:
                assert again == url
                await live.run_market(line, 3000)
                await line.until(lambda: live.all_published(line), "everything that gathered is published")
                assert live.by_instrument(await live.published(line)) == live.by_instrument(live.sent(line.market))
                assert set(line.market.hub.connections) == connections  # the feed never noticed
                assert not live.marks(await live.batches(line))
                assert not await live.events(line, "gap")
                await line.stop("ingest")
                line.start("ingest", ingest.worker.run)  # for the one who stops it


async def test_what_redis_has_forgotten_is_written_again(tmp_path: Path) -> None:
    """As an append-only file that lags behind does it: the last entries and everything that went with them are gone."""
    home = tmp_path / "home"
    with redis_at(home) as url:
        async with line_of(url, home) as line:
            redis = line.bus.redis
            before = {key: await redis.dump(key) for key in await redis.keys()}
            await live.run_market(line, 900)
            await line.until(lambda: live.all_published(line), "published")
            await redis.flushall()
            for key, body in before.items():
                await redis.restore(key, 0, body, replace=True)
            await redis.delete(streams.lease("ingest", 0), streams.lease("ingest-socket", 0))
            await live.run_market(line, 900)
            await line.until(lambda: live.all_published(line), "published")
            assert live.by_instrument(await live.published(line)) == live.by_instrument(live.sent(line.market))
            assert not live.marks(await live.batches(line))


async def test_an_emptied_redis_is_filled_again_with_what_was_wished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_REMEMBERED_S", 0.0)
    home = tmp_path / "home"
    with redis_at(home) as url:
        async with line_of(url, home, teji_instruments="RELIANCE") as line:
            share = next(each.key for each in line.market.market.listing.instruments if each.trading_symbol == "TCS")
            await live.command(line, FeedSubscribe(instruments=[share], mode=Mode.LTPC))
            wanted = live.subscribed(line.market) | {share: "ltpc"}
            await line.bus.redis.flushall()

            async def everything_again() -> bool:
                await line.market.advance(300)
                known = await line.bus.redis.hlen(streams.instruments(0))
                quotes = await line.bus.redis.hlen(streams.quotes(0))
                return live.subscribed(line.market) == wanted and known == quotes == 2

            await line.until(everything_again, "registry, quotes and subscriptions are there again")
            assert live.is_part(await live.published(line), live.sent(line.market))


async def test_a_command_whose_commit_was_not_confirmed_holds_all_the_same(tmp_path: Path) -> None:
    """Redis has it, and the reply that says so got lost."""
    home = tmp_path / "home"
    with redis_at(home) as url:
        async with line_of(url, home, teji_instruments="RELIANCE") as line:
            share = next(each.key for each in line.market.market.listing.instruments if each.trading_symbol == "TCS")
            state = streams.state("ingest", 0)
            wish = Desired.load(await line.bus.redis.get(state))
            assert wish is not None
            known = replace(wish, added={share: Mode.LTPC}, changes=wish.changes + 1)
            await line.bus.redis.set(state, known.dump())
            await line.bus.redis.delete(streams.lease("ingest", 0))
            await line.until(lambda: live.subscribed(line.market).get(share) == "ltpc", "it holds")
            assert not live.marks(await live.batches(line))


async def test_an_outage_larger_than_the_buffer_is_counted_marked_and_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(redis_at(home))
        async with line_of(url, home, teji_buffer_mb=1) as line:
            line.start("aggregator", aggregator.worker.run)
            had = len(await live.published(line))
            await asyncio.to_thread(first_life.close)
            await live.run_market(line, 60_000)
            with redis_at(home):
                await line.until(lambda: told_of_the_gap(line), "told of the gap")
                await live.run_market(line, 3000)
                await line.until(lambda: live.all_published(line), "published")
                (gap,) = await live.events(line, "gap")
                published, sent = await live.published(line), live.sent(line.market)
                assert live.is_part(published, sent)
                assert set(published[:had]) == set(sent[:had])
                lost = [update for update in sent if update not in set(published)]
                assert {update[1] for update in lost} <= {update[1] for update in sent[had:]}
                assert gap["data"]["from_ts"] < min(update[1] for update in lost)
                frames = {frame.ts_ms for frame in line.market.sent if frame.ts_ms in {ts for _, ts, _, _ in lost}}
                assert gap["data"]["frames"] == len(frames)

                found = await live.batches(line)
                (down,) = live.marks(found)
                at = found.index(down)
                assert down.ts == max(batch.ts for batch in found[:at] if len(batch.rec)) == gap["data"]["from_ts"]
                assert live.bases(found[at:]) == len({update[0] for update in published})

                minute = max(update[1] for update in lost) // 60_000 * 60_000
                await live.run_market(line, minute + 63_000 - line.market.now_ms())
                await line.until(lambda: line.minute_closed(minute), "the minute of the gap has left")
                torn = [bar for bar in final(await line.bars()).values() if bar["ts"] == minute]
                assert torn
                assert not any(bar["complete"] for bar in torn)
                await line.stop("aggregator")
                await line.stop("ingest")
                line.start("ingest", ingest.worker.run)


async def told_of_the_gap(line: Pipeline) -> bool:
    with contextlib.suppress(RedisError, OSError):
        await line.market.advance(300)
        return bool(await live.events(line, "gap"))
    return False


async def test_a_stop_while_redis_is_away_is_prompt(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(redis_at(home))
        async with pipeline(url, home) as line:
            await live.start(line)
            await asyncio.to_thread(first_life.close)
            await live.run_market(line, 3000)
            async with asyncio.timeout(5):
                await line.stop("ingest")
            await line.until(lambda: not line.market.hub.connections, "hung up")


async def test_quotes_are_written_about_once_a_second_and_hold_the_last_state(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with redis_at(home) as url:
        async with line_of(url, home) as line:
            await live.run_market(line, 3000)
            last = {key: updates[-1] for key, updates in live.by_instrument(live.sent(line.market)).items()}

            async def current() -> bool:
                found = await line.bus.redis.hgetall(streams.quotes(0))
                return {key.decode(): body for key, body in found.items()}.keys() == last.keys() and all(
                    f'"ts":{update[1]},'.encode() in found[key.encode()] for key, update in last.items()
                )

            await line.until(current, "every quote is the last one", 5)
