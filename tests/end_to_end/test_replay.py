"""A recorded session gives the same bars again, byte for byte, whatever happened to the feed, to Redis, to ingest."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import aggregator.worker
import ingest.worker
from bus import embedded, postgres
from bus.settings import Settings
from gateway import cold
from gateway.coldrows import BarReader
from ingest.tape import reader
from ingest.tape.format import Kind, Record
from ingest.tape.recorder import Recorder
from market import sessions
from schemas import streams
from sim.faults import FaultRequest
from teji.replay import Options, Result, replay
from tests.conftest import settings_in
from tests.end_to_end.pipeline import MINUTE, Pipeline, final, pipeline, start_all
from tests.end_to_end.processes import processes


@contextlib.asynccontextmanager
async def recorded(redis_url: str, home: Path, *, shards: int = 1, **more: Any) -> AsyncIterator[Pipeline]:
    """A pipeline that records; history is asked, too."""
    async with pipeline(redis_url, home, teji_shards=shards, teji_tape=True) as line:
        line.settings = line.settings.model_copy(update={"teji_backfill": True, **more})
        yield line


async def run_market(line: Pipeline, seconds: int) -> None:
    for _ in range(seconds // 5):
        await line.market.advance(5_000)
        await asyncio.sleep(0.01)


async def closed(line: Pipeline, shards: int = 1) -> None:
    """The last whole minute has left."""
    last = (line.market.now_ms() - 2000) // MINUTE * MINUTE - MINUTE

    async def left() -> bool:
        newest = [await line.bus.redis.xrevrange(streams.candles(shard), count=500) for shard in range(shards)]
        return all(any(int(fields[b"ts"]) >= last for _, fields in entries) for entries in newest)

    await line.until(left, "the last minute left")


async def connected(line: Pipeline) -> None:
    await line.until(lambda: line.market.hub.connections, "connected")


def tapes(settings: Settings) -> list[Path]:
    return [one.folder for one in reader.tapes(settings.home / "tape")]


async def verified(settings: Settings, tape: Path, speed: float | None = None, **more: Any) -> Result:
    result = await replay(settings, Options(tape, speed, verify=True, **more))
    assert result.verdict is not None
    said = [one.text() for one in result.verdict.differences], result.verdict.notes, result.missing
    assert result.verdict.equal, said
    if settings.teji_shards == 1:
        assert result.verdict.replay.counts == result.digest.counts, said
    assert result.verdict.replay.counts["candles"] == result.digest.counts["candles"], said
    return result


def kinds(tape: Path) -> list[Kind]:
    return [one.kind for one in reader.records(reader.segments_of(tape)) if isinstance(one, Record)]


async def test_a_session_with_faults_and_history_is_replayed_byte_for_byte(redis_url: str, tmp_path: Path) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        start_all(line)
        await connected(line)
        await run_market(line, 100)
        line.market.order_fault(FaultRequest(abort=True))
        await line.until(lambda: not line.market.hub.connections, "cut")
        await run_market(line, 70)
        await connected(line)
        await run_market(line, 40)
        await line.stop("aggregator")  # its successor goes on from its memory
        await run_market(line, 20)
        line.start("aggregator", aggregator.worker.run)
        line.market.order_fault(FaultRequest(drop=1001))
        await run_market(line, 120)
        await closed(line)
        await line.until(line.caught_up, "all ticks are folded")
        for name in list(line.tasks):
            await line.stop(name)
        (tape,) = tapes(line.settings)
        assert tape.parent.name == "2026-11-18"  # by the venue's date, whatever the machine's
        found = kinds(tape)
        assert {Kind.FRAME, Kind.FOLLOW, Kind.BASE, Kind.DOWN, Kind.LEARN, Kind.CUT, Kind.PRELUDE} <= set(found)
        first = await verified(line.settings, tape)
        assert first.whole
        assert first.digest.counts["candles"] > 150
        assert first.digest.counts["chain"] > 3
        again = await verified(line.settings, tape)
        paced = await verified(line.settings, tape, speed=20.0)
        assert first.digest.text == again.digest.text == paced.digest.text
        await forge(line)
        forged = await replay(line.settings, Options(tape, None, verify=True))
        assert forged.code == 1
        assert forged.verdict is not None
        (one,) = forged.verdict.differences
        assert "volume was 1" in one.text()
        assert forged.verdict.live.text != forged.verdict.replay.text == first.digest.text


async def forge(line: Pipeline) -> None:
    """Somebody changes one number of one bar that was published."""
    entries = await line.bus.redis.xrange(streams.candles(0))
    await line.bus.redis.delete(streams.candles(0))
    for place, (entry_id, fields) in enumerate(entries):
        if place == 7:
            fields[b"data"] = fields[b"data"].replace(b'"volume":', b'"volume":1')
        await line.bus.redis.xadd(streams.candles(0), fields, id=entry_id)


async def test_a_killed_ingest_leaves_a_tape_up_to_its_last_moment(redis_url: str, tmp_path: Path) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        line.start("aggregator", aggregator.worker.run)
        async with processes(environment(line.settings), tmp_path, "ingest") as running:
            await connected(line)
            await run_market(line, 90)
            await closed(line)
            day = sessions.trading_date(line.market.now_ms()).isoformat()
            await line.until(lambda: (line.settings.home / "tape" / day).exists(), "the tape knows its session")
            await asyncio.to_thread(running["ingest"].kill)
            await line.until(lambda: not line.market.hub.connections, "gone")
            await connected(line)
            await run_market(line, 70)
            await closed(line)
        await line.stop("aggregator")
        found = reader.tapes(line.settings.home / "tape")
        assert [one.whole for one in found] == [False, True]
        results = [await verified(line.settings, one.folder) for one in found]
        assert all(result.digest.counts["candles"] > 30 for result in results)


def environment(settings: Settings) -> dict[str, str]:
    names = ("redis_url", "upstox_api_url", "upstox_assets_url", "teji_home", "teji_shards", "teji_lease_s")
    given = {name.upper(): str(getattr(settings, name)) for name in names}
    return {**given, "TEJI_TAPE": "true", "TEJI_METRICS_PORT": "0"}


async def test_what_the_aggregator_said_while_ingest_was_frozen_is_on_the_tape(redis_url: str, tmp_path: Path) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        line.start("aggregator", aggregator.worker.run)
        async with processes({**environment(line.settings), "TEJI_LEASE_S": "30"}, tmp_path, "ingest") as running:
            await connected(line)
            await run_market(line, 80)
            await closed(line)
            process = running["ingest"]
            process.signal(signal.SIGSTOP)
            await line.until(lambda: marked(line), "the aggregator has noticed")
            process.signal(signal.SIGCONT)
            await run_market(line, 100)
            await closed(line)
        await line.stop("aggregator")
        (tape,) = tapes(line.settings)
        assert Kind.FOREIGN in kinds(tape)
        await verified(line.settings, tape)


async def marked(line: Pipeline) -> bool:
    """A mark that was not received from anywhere."""
    newest = await line.bus.redis.xrevrange(streams.ticks(0), count=3)
    return any(fields[b"rx"] == b"0" for _, fields in newest)


async def test_any_segment_is_a_beginning_and_damage_costs_no_more_than_the_rest_of_one(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"segment_bytes": 100_000, "block_bytes": 50_000}
    monkeypatch.setattr(Recorder.__init__, "__kwdefaults__", {**(Recorder.__init__.__kwdefaults__ or {}), **small})
    async with recorded(redis_url, tmp_path / "home") as line:
        start_all(line)
        await connected(line)
        for _ in range(66):
            await line.market.advance(3_000)
            await asyncio.sleep(0.05)  # a segment is full once a second at most
        await closed(line)
        for name in list(line.tasks):
            await line.stop(name)
        (tape,) = tapes(line.settings)
        segments = reader.segments_of(tape)
        assert len(segments) >= 4
        whole = await verified(line.settings, tape)
        for segment in (segments[1], segments[-2]):
            assert (await verified(line.settings, segment)).frames < whole.frames
        harmed = bytearray(segments[2].read_bytes())
        harmed[len(harmed) // 3] ^= 1
        segments[2].write_bytes(harmed)
        with pytest.raises(reader.DamagedTape, match="--skip-damaged"):
            await replay(line.settings, Options(tape, None))
        rest = await replay(line.settings, Options(tape, None, verify=True, skip_damaged=True))
        assert rest.verdict is not None
        assert rest.verdict.equal, [one.text() for one in rest.verdict.differences]
        assert whole.digest.counts["candles"] // 4 < rest.verdict.replay.counts["candles"]
        assert rest.missing == [f"{segments[2].name}: {rest.missing[0].partition(': ')[2]}"]
        assert "checksum" in rest.missing[0]


async def test_a_full_disk_is_told_and_costs_the_bars_nothing(redis_url: str, tmp_path: Path) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        line.start("aggregator", aggregator.worker.run)
        async with processes(environment(line.settings), tmp_path, "ingest") as running:
            await connected(line)
            await run_market(line, 70)
            pid = running["ingest"].pid
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (300_000, most))  # more than its log has
            await run_market(line, 10)
            await line.until(lambda: told(line, "alert", "the tape cannot be written: File too large"), "an alert")
            await run_market(line, 20)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
            await line.until(lambda: told(line, "gap", "the tape lacks"), "the gap is over")
            await run_market(line, 80)
            await closed(line)
        await line.stop("aggregator")
        bars = final([bar for bar in await line.bars() if bar["source"] == "live"])
        assert {where[1] for where in bars if not bars[where]["complete"]} <= {min(ts for _, ts in bars)}
        (tape,) = tapes(line.settings)
        result = await verified(line.settings, tape)
        assert all(gap["frames"] > 0 for gap in result.gaps)  # a new segment holds some, until it is too large
        assert 1 <= len(result.gaps) <= 4


async def told(line: Pipeline, kind: str, text: str) -> bool:
    found = await line.bus.redis.xrange(streams.EVENTS)
    return any(fields[b"kind"].decode() == kind and text.encode() in fields[b"data"] for _, fields in found)


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
async def test_a_restart_of_redis_leaves_no_seam_and_what_a_crash_has_cost_is_said(tmp_path: Path, crash: bool) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as first_life:
        url = first_life.enter_context(embedded.servers(settings_in(home), postgres=False)).redis_url
        async with recorded(url, home) as line:
            start_all(line)
            await connected(line)
            await run_market(line, 90)
            if crash:
                os.kill(int((home / "redis" / "redis.pid").read_text()), signal.SIGKILL)
            await asyncio.to_thread(first_life.close)
            await run_market(line, 30)
            with embedded.servers(settings_in(home), postgres=False):
                await run_market(line, 100)
                await closed(line)
                await line.until(line.caught_up, "all ticks are folded")
                for name in list(line.tasks):
                    await line.stop(name)
                (tape,) = tapes(line.settings)
                result = await replay(line.settings, Options(tape, None, verify=True))
                assert result.verdict is not None
                assert result.verdict.equal, [one.text() for one in result.verdict.differences]
                lost = any("had lost entries" in note for note in result.verdict.notes)
                assert lost or result.verdict.replay.counts == result.digest.counts
                assert crash or kinds(tape).count(Kind.CUT) == 1  # the stretch goes on over the restart
    assert result.digest.counts["candles"] > 100


async def test_two_ingesters_have_a_tape_each_of_their_own_shards(redis_url: str, tmp_path: Path) -> None:
    async with recorded(redis_url, tmp_path / "home", shards=2) as line:
        line.start("aggregator", aggregator.worker.run)
        for name in ("one", "two"):
            line.start("ingest", ingest.worker.run, name)
        await line.until(lambda: len(line.market.hub.connections) == 2, "both are connected")
        await run_market(line, 130)
        await closed(line, 2)
        for name in ("one", "two", "aggregator"):
            await line.stop(name)
        both = tapes(line.settings)
        assert len(both) == 2
        results = [await verified(line.settings, tape) for tape in both]
        in_all = sum([await line.bus.redis.xlen(streams.candles(shard)) for shard in range(2)])
        assert sum(result.digest.counts["candles"] for result in results) >= in_all * 0.9


async def test_a_session_that_the_streams_no_longer_hold_is_compared_with_postgres(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        line.settings = line.settings.model_copy(update={"database_url": SecretStr(postgres_url)})
        start_all(line)
        await connected(line)
        await run_market(line, 150)
        await closed(line)
        for name in list(line.tasks):
            await line.stop(name)
        (tape,) = tapes(line.settings)
        published = [fields for _, fields in await line.bus.redis.xrange(streams.candles(0))]
        rows, hopeless = BarReader().read(published)
        assert not hopeless
        async with postgres.open_pool(postgres_url) as pool:
            await postgres.migrate(pool)
            await cold.store_bars(pool, rows)
            await line.bus.redis.delete(streams.candles(0))
            result = await replay(line.settings, Options(tape, None, verify=True))
            assert result.verdict is not None
            assert result.verdict.equal, [one.text() for one in result.verdict.differences]
            assert result.verdict.compared > 60
            assert "compared with Postgres" in " ".join(result.verdict.notes)
            async with pool.acquire() as connection:
                await connection.execute("UPDATE bars SET high = high + 1 WHERE ts = (SELECT max(ts) FROM bars)")
            result = await replay(line.settings, Options(tape, None, verify=True))
            assert result.code == 1
            assert result.verdict is not None
            assert all("high was" in one.text() for one in result.verdict.differences)


@pytest.mark.parametrize("flag", ["redis", "tape"])
async def test_a_replay_floods_nothing_and_says_what_is_wrong(redis_url: str, tmp_path: Path, flag: str) -> None:
    async with recorded(redis_url, tmp_path / "home") as line:
        line.start("ingest", ingest.worker.run)
        await connected(line)
        await run_market(line, 10)
        await line.stop("ingest")
        (tape,) = tapes(line.settings)
        if flag == "redis":
            with pytest.raises(Exception, match="would flood"):
                await replay(line.settings, Options(tape, None, redis_url=redis_url))
        else:
            with pytest.raises(Exception, match="replay --list"):
                await replay(line.settings, Options(tmp_path / "nowhere", None))
