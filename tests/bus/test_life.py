"""A worker's life as a process: how it starts, waits, finishes, fails."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bus import embedded, embedded_redis, lease
from bus.connection import Bus
from schemas import streams
from tests.bus.facts import until, until_sync
from tests.bus.processes import ROOT, Process, toy
from tests.bus.test_connection import old_redis, speaking
from tests.bus.toy import NAME, undisturbed
from tests.conftest import settings_in

INPUT, OUTPUT = streams.ticks(0), streams.candles(0)


@contextmanager
def running(folder: Path, redis_url: str, **env: str) -> Iterator[Process]:
    process = toy(folder / "toy.log", redis_url, **env)
    try:
        yield process
    finally:
        if process.alive():
            process.kill()


async def ended(process: Process) -> int:
    return await asyncio.to_thread(process.ended)


async def says(process: Process, words: str) -> None:
    await asyncio.to_thread(process.until_says, words)


def sentence(process: Process) -> str:
    """What it said, when that is one sentence for a person and nothing else."""
    (line,) = [line for line in process.text.splitlines() if not line.startswith("{")]
    return line


async def feed(bus: Bus, *values: object) -> None:
    for value in values:
        await bus.redis.xadd(INPUT, {"key": "a", "value": str(value)})


async def folded(bus: Bus, count: int) -> bool:
    return bool(await bus.redis.xlen(OUTPUT) >= count)


# Finishing


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_batch_finish_and_commit(
    bus: Bus, redis_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    await feed(bus, *range(3_000))
    with running(tmp_path, redis_url) as process:
        await until(lambda: folded(bus, 50), "it works")
        process.send(number)
        assert await ended(process) == 0
    assert "Traceback" not in process.text
    written = [fields for _, fields in await bus.redis.xrange(INPUT)]
    outputs = [fields for _, fields in await bus.redis.xrange(OUTPUT)]
    assert 50 <= len(outputs) < 3_000
    assert outputs == undisturbed(written)[: len(outputs)]
    assert (await bus.redis.xpending(INPUT, NAME))["pending"] == 0
    assert await bus.redis.keys("lease:*") == []
    assert await lease.living(bus) == {}


async def test_a_worker_is_announced_while_it_runs(bus: Bus, redis_url: str, tmp_path: Path) -> None:
    with running(tmp_path, redis_url) as process:
        await says(process, "shard taken")
        ((name, about),) = (await lease.living(bus)).items()
        assert name.startswith(f"{NAME}:")
        assert about["pid"] == process.pid
        assert about["metrics"].startswith("http://127.0.0.1:")


async def test_a_worker_that_waits_for_redis_says_why_and_can_be_stopped(tmp_path: Path) -> None:
    with running(tmp_path, f"unix://{tmp_path}/none.sock") as process:
        await says(process, "Redis does not answer")
        process.send(signal.SIGTERM)
        assert await ended(process) == 0
    assert "Traceback" not in process.text


async def test_redis_may_come_later_and_go_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    with running(tmp_path, f"unix://{folder}/redis.sock") as process:
        await says(process, "Redis does not answer")
        for turn in range(1, 3):
            _, wait = await asyncio.to_thread(embedded_redis.start, folder)
            await asyncio.to_thread(wait)
            try:
                async with Bus.open(f"unix://{folder}/redis.sock") as bus:
                    await feed(bus, turn)
                    await until(lambda count=turn, bus=bus: folded(bus, count), "it works")  # type: ignore[misc]
            finally:
                await asyncio.to_thread(embedded_redis.stop, folder)
        assert process.alive()


def test_a_signal_while_the_servers_start_is_obeyed_without_a_word_of_complaint(tmp_path: Path) -> None:
    with open(tmp_path / "start.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if another process were starting them
        with running(tmp_path, "", TEJI_HOME=str(tmp_path)) as process:
            until_sync(lambda: waits_for_a_lock(process.pid), "it waits for its turn")
            process.send(signal.SIGTERM)
            assert process.ended() == 0
    assert "Traceback" not in process.text


def waits_for_a_lock(pid: int) -> bool:
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_the_last_worker_stops_the_embedded_servers(tmp_path: Path) -> None:
    with running(tmp_path, "", TEJI_HOME=str(tmp_path)) as process:
        process.until_says("shard taken")
        with embedded.servers(settings_in(tmp_path), postgres=False) as servers:
            assert Path(servers.redis_socket).exists()
        assert Path(servers.redis_socket).exists()
        process.send(signal.SIGTERM)
        assert process.ended() == 0
    assert not Path(servers.redis_socket).exists()
    assert not (tmp_path / "postgres").exists()


# Failing


async def test_a_bug_is_a_traceback_without_secrets_and_gives_the_shard_back(
    bus: Bus, redis_url: str, tmp_path: Path
) -> None:
    await feed(bus, 1, "bug")
    with running(tmp_path, redis_url, TEJI_LEASE_S="60") as process:
        assert await ended(process) not in (0, None)
    assert "Traceback" in process.text
    assert "RuntimeError: a bug, and token=***" in process.text
    assert "do-not-tell" not in process.text
    assert await bus.redis.keys("lease:*") == []
    assert await lease.living(bus) == {}


async def test_a_mistake_that_shows_in_the_work_is_one_sentence(bus: Bus, redis_url: str, tmp_path: Path) -> None:
    await feed(bus, "misconfigured")
    with running(tmp_path, redis_url) as process:
        assert await ended(process) == 1
    assert sentence(process) == "teji toy: Somebody has to set TOY_VALUE to a number."


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"TEJI_SHARDS": "none"}, "TEJI_SHARDS"),
        ({"REDIS_URL": "http://h"}, "REDIS_URL is not a Redis address"),
        ({"TEJI_METRICS_HOST": "256.0.0.1"}, "TEJI_METRICS_"),
        ({"TEJI_HOME": "/dev/null/teji", "REDIS_URL": ""}, "TEJI_HOME"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_one(tmp_path: Path, env: dict[str, str], words: str) -> None:
    with running(tmp_path, f"unix://{tmp_path}/none.sock", **env) as process:
        assert process.ended() == 1
    said = sentence(process)
    assert said.startswith("teji toy: ")
    assert words in said


async def test_an_old_redis_is_one_sentence(tmp_path: Path) -> None:
    async with speaking(old_redis("6.0.16")) as url:
        with running(tmp_path, url) as process:
            assert await ended(process) == 1
    assert "6.0.16 is too old" in sentence(process)


async def test_a_taken_port_for_metrics_is_one_sentence(redis_url: str, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with running(tmp_path, redis_url, TEJI_METRICS_PORT=str(port)) as process:
        assert await ended(process) == 1
    server.close()
    assert f"127.0.0.1:{port}" in sentence(process)
    assert "TEJI_METRICS_PORT" in sentence(process)


# The supervisor


SUPERVISOR = """
import os, subprocess, sys
env = {**os.environ, "TEJI_SUPERVISED": str(os.getpid())}
worker = subprocess.Popen([sys.executable, "-m", "tests.bus.toy"], env=env)
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker does not notice")
def test_a_worker_ends_with_its_supervisor(redis_url: str, tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    env = {**os.environ, "REDIS_URL": redis_url, "TEJI_HOME": str(tmp_path), "TEJI_LOG": "json", "TEJI_LEASE_S": "0.5"}
    with log.open("wb") as out:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=out, text=True
        )
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    until_sync(lambda: "shard taken" in log.read_text(), "it works")
    supervisor.kill()
    supervisor.communicate()
    until_sync(lambda: '"event": "stopped"' in log.read_text(), "an orderly end")
    until_sync(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), "gone")


# Metrics


async def test_metrics_tell_what_was_read_written_and_is_left(bus: Bus, redis_url: str, tmp_path: Path) -> None:
    await feed(bus, *range(20), "no number")
    with running(tmp_path, redis_url) as process:
        await until(lambda: folded(bus, 20), "it works")
        started = next(json.loads(line) for line in process.text.splitlines() if '"started"' in line)
        async with httpx.AsyncClient(trust_env=False) as client:

            async def metrics() -> dict[str, float]:
                text = (await client.get(started["metrics"])).text
                rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
                return {name: float(value) for name, value in rows}

            async def lag_is_known() -> bool:
                return f'teji_stream_lag_ms{{group="toy",stream="{INPUT}"}}' in await metrics()

            await until(lag_is_known, "the lag was measured")
            found = await metrics()
    assert found['teji_read_entries_total{group="toy"}'] == 21
    assert found['teji_batch_entries_sum{group="toy"}'] == 21
    assert found['teji_batch_entries_count{group="toy"}'] == found['teji_commits_total{group="toy"}'] >= 3
    assert found[f'teji_written_entries_total{{stream="{OUTPUT}"}}'] == 20
    assert found[f'teji_written_entries_total{{stream="{streams.dead(INPUT)}"}}'] == 1
    assert found[f'teji_dead_entries_total{{stream="{INPUT}"}}'] == 1
    assert found[f'teji_stream_lag_ms{{group="toy",stream="{INPUT}"}}'] == 0
    assert found[f'teji_stream_pending{{group="toy",stream="{INPUT}"}}'] == 0
    assert found['teji_shards_held{worker="toy"}'] == 1
    assert found['teji_lease_changes_total{what="taken",worker="toy"}'] == 1
    assert abs(found['teji_shard_held_since_seconds{shard="0",worker="toy"}'] - time.time()) < 60
