import asyncio
import io
import json
import os
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bus import lease
from bus import postgres as store
from bus.connection import Bus
from bus.embedded import Servers
from bus.settings import Settings
from schemas import streams
from teji.doctor import machine, processes, run, servers, venue, workers
from teji.doctor.findings import Finding, Level, fail, failed, in_json, in_words, ok, warn
from teji.doctor.trading import Desk
from teji.doctor.workers import Seen
from teji.running import Running
from tests.bus.nodes import Nodes
from tests.conftest import settings_in

NOW_MS = 1_773_200_700_000
ALIVE = {"ingest": 1, "aggregator": 2, "gtt": 1, "gateway": 1}
OWNED = {"ingest": [0, 1], "aggregator": [0, 1]}


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# Forms


def test_only_a_failure_fails() -> None:
    assert not failed([ok("a", ""), warn("b", "", "")])
    assert failed([ok("a", ""), fail("b", "", "")])


def test_words_name_what_to_do_below_what_is_wrong() -> None:
    text = in_words([ok("redis", "6.2"), fail("token", "none", "Log in.")]).plain
    assert text.splitlines() == ["ok    redis  6.2", "fail  token  none", "             Log in."]


def test_json_holds_the_same() -> None:
    body = json.loads(in_json([fail("token", "none", "Log in.")]))
    assert body == {
        "ok": False,
        "checks": [{"name": "token", "level": "fail", "detail": "none", "fix": "Log in."}],
        "processes": [],
    }


# The machine


@pytest.mark.parametrize(("version", "level"), [((3, 11, 0), Level.OK), ((3, 10, 9), Level.FAIL)])
def test_the_interpreter_has_to_be_new_enough(version: tuple[int, ...], level: Level) -> None:
    assert machine.python(version).level is level


def test_a_home_that_is_a_file_fails_with_the_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = machine.home(settings_in(tmp_path / "file"))
    assert finding.level is Level.FAIL
    assert "TEJI_HOME" in finding.fix


# Servers


async def test_a_redis_that_is_away_fails_and_nothing_is_asked_of_the_workers(tmp_path: Path) -> None:
    (finding,) = await servers.redis(Servers("redis://127.0.0.1:1", ""))
    assert finding.level is Level.FAIL


async def test_a_postgres_that_is_away_fails() -> None:
    (finding,) = await servers.postgres(Servers("", "postgresql://teji@127.0.0.1:1/teji"))
    assert finding.level is Level.FAIL


async def test_the_embedded_redis_keeps_its_data_and_the_time(redis_url: str) -> None:
    found = by_name(await servers.redis(Servers(redis_url, "")))
    assert {name: finding.level for name, finding in found.items()} == dict.fromkeys(
        ("redis", "redis data", "clock"), Level.OK
    )


async def test_a_redis_that_evicts_keys_fails_and_one_without_a_log_is_warned_of(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await bus.redis.config_set("appendonly", "no")
        assert by_name(await servers.redis(Servers(redis_url, "")))["redis data"].level is Level.WARN
        await bus.redis.config_set("maxmemory", "1gb")
        await bus.redis.config_set("maxmemory-policy", "allkeys-lru")
        assert by_name(await servers.redis(Servers(redis_url, "")))["redis data"].level is Level.FAIL


async def test_the_schema_is_judged_by_its_migrations(postgres_url: str) -> None:
    assert "none yet" in by_name(await servers.postgres(Servers("", postgres_url)))["schema"].detail
    async with store.open_pool(postgres_url) as pool:
        await store.migrate(pool)
    assert "up to date" in by_name(await servers.postgres(Servers("", postgres_url)))["schema"].detail
    assert servers.schema({1, 9999}).level is Level.FAIL


# The venue


@pytest.mark.parametrize(
    ("date", "level"),
    [
        ("Wed, 11 Mar 2026 03:45:00 GMT", Level.OK),
        ("Wed, 11 Mar 2026 03:45:30 GMT", Level.WARN),
        ("Wed, 11 Mar 2026 03:44:30 GMT", Level.WARN),
        ("not a date", Level.OK),
        ("", Level.OK),
    ],
)
def test_the_clock_is_held_against_the_venues(date: str, level: Level) -> None:
    assert venue.skew("http://venue", date, NOW_MS).level is level


def token(expires_s: int) -> str:
    """A token that says until when it is good."""
    import base64

    body = base64.urlsafe_b64encode(json.dumps({"exp": expires_s}).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("held", "level", "words"),
    [
        (None, Level.FAIL, "none"),
        (token(NOW_MS // 1000 - 1), Level.FAIL, "died"),
        (token(NOW_MS // 1000 + 3600), Level.OK, "good until 11 Mar 10:15 IST"),
        ("opaque", Level.OK, "does not say"),
    ],
)
def test_a_token_is_judged_by_what_it_says_of_itself(
    tmp_path: Path, held: str | None, level: Level, words: str
) -> None:
    settings = settings_in(tmp_path, teji_venue="upstox")
    finding = venue.token_finding(settings, held, NOW_MS)
    assert (finding.level, words in finding.detail) == (level, True)
    assert held is None or held not in repr(finding)


async def test_a_venue_that_does_not_answer_fails(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, teji_venue="upstox", upstox_api_url="http://127.0.0.1:1")
    assert (await venue.examine(settings, None))[0].level is Level.FAIL


async def test_nobody_is_called_for_a_simulated_exchange_that_is_not_there(tmp_path: Path) -> None:
    assert (await venue.examine(settings_in(tmp_path), None))[0].level is Level.OK


# Workers


def test_everybody_alive_and_every_shard_held_is_fine() -> None:
    assert {f.level for f in workers.judged(Seen(alive=ALIVE, owned=OWNED, desk=Desk("x")), 2)} == {Level.OK}


def test_nobody_at_all_is_a_warning_but_one_who_is_missing_a_failure() -> None:
    assert {f.level for f in workers.judged(Seen(), 1) if "not running" in f.detail} == {Level.WARN}
    missing = workers.judged(Seen(alive={"gateway": 1, "aggregator": 1}, owned=OWNED), 2)
    assert by_name(missing)["ingest"].level is Level.FAIL


def test_a_shard_that_nobody_holds_is_named() -> None:
    finding = by_name(workers.judged(Seen(alive=ALIVE, owned=OWNED | {"ingest": [1]}), 2))["ingest"]
    assert finding.level is Level.WARN
    assert "[0]" in finding.detail


@pytest.mark.parametrize(("lag_ms", "level"), [(100, Level.OK), (9_000, Level.WARN), (90_000, Level.FAIL)])
def test_lag_is_judged_by_its_length(lag_ms: int, level: Level) -> None:
    found = workers.judged(Seen(alive=ALIVE, owned=OWNED, lag_ms={"aggregator": lag_ms}), 2)
    assert by_name(found)["lag aggregator"].level is level


async def test_what_redis_knows_of_the_workers_is_read(redis_url: str) -> None:
    async with Bus.open(redis_url, "me") as bus:
        await lease.announce(bus, "aggregator", {})
        assert await lease.acquire(bus, "aggregator", 1, 60.0)
        await bus.redis.xadd("ticks:{0}", {"n": "1"}, id="1000-0")
        await bus.redis.xgroup_create("ticks:{0}", "aggregator", id="0")
        await bus.redis.xreadgroup("aggregator", "c", {"ticks:{0}": ">"})
        await bus.redis.xadd("ticks:{0}", {"n": "1"}, id="8000-0")
        await bus.redis.xadd(streams.dead("ticks:{1}"), {"why": "bad"})
        await bus.redis.set(streams.HALT, '{"by": "me", "why": "lunch"}')
        seen = await workers.look(bus, 2)

    assert seen.alive == {"aggregator": 1}
    assert seen.owned == {"ingest": [], "aggregator": [1], "cold": []}
    assert seen.lag_ms == {"aggregator": 7000}
    assert seen.dead == {"dead:ticks:{1}": 1}
    found = by_name(workers.judged(seen, 2))
    assert "lunch (by me)" in found["trading"].detail
    assert "teji tail 'dead:ticks:{1}'" in found["dead letters"].fix


# Processes


NAME_OF_ANOTHER = "elsewhere-77-abcdef"


async def heard(bus: Bus, worker: str, instance: str, pid: int, ago_ms: int) -> None:
    """A heartbeat of so long ago."""
    body = json.dumps({"pid": pid, "until": await bus.now_ms() + lease.HEARTBEAT_LIFE_MS - ago_ms})
    await bus.redis.hset(lease.WORKERS, f"{worker}:{instance}", body)


async def test_each_process_is_shown_with_its_shards_and_what_it_has_yet_to_read(redis_url: str) -> None:
    host = socket.gethostname()
    mine = f"{host}-{os.getpid()}-abc"
    async with Bus.open(redis_url, mine) as bus, Bus.open(redis_url, NAME_OF_ANOTHER) as other:
        await heard(bus, "aggregator", mine, os.getpid(), 1_000)
        await heard(bus, "aggregator", NAME_OF_ANOTHER, 77, 2_000)
        for shard in (0, 1, 3):
            assert await lease.acquire(bus, "aggregator", shard, 60.0)
        assert await lease.acquire(other, "aggregator", 2, 60.0)
        for shard in range(4):
            await bus.redis.xadd(streams.ticks(shard), {"n": "1"})
            await bus.redis.xgroup_create(streams.ticks(shard), "aggregator", id="0")
        await bus.redis.xreadgroup("aggregator", "c", {streams.ticks(2): ">"})
        seen = await workers.look(bus, 4)

    first, second = sorted(seen.processes, key=lambda one: one.shards)
    assert (first.host, first.pid, first.shards, first.pending) == (host, os.getpid(), [0, 1, 3], 0)
    assert (second.host, second.pid, second.shards, second.pending) == ("elsewhere", 77, [2], 1)
    assert (second.lag_ms, first.lag_ms > 0, first.silent, first.gone) == (0, True, False, False)
    shown = Console(width=120, file=io.StringIO())
    shown.print(processes.table(seen.processes))
    assert isinstance(shown.file, io.StringIO)
    assert "0-1 3" in shown.file.getvalue()
    assert "2 s ago" in shown.file.getvalue()


async def test_a_process_that_hangs_fails_and_says_what_it_still_owns(redis_url: str) -> None:
    async with Bus.open(redis_url, NAME_OF_ANOTHER) as bus:
        await heard(bus, "ingest", NAME_OF_ANOTHER, 77, 34_000)
        assert await lease.acquire(bus, "ingest", 1, 60.0)
        seen = await workers.look(bus, 2)
    (finding,) = [found for found in workers.judged(seen, 2) if "heartbeat" in found.detail]
    assert finding.level is Level.FAIL
    assert "34 s" in finding.detail
    assert "shards 1" in finding.detail
    assert "77" in finding.fix


async def test_a_process_of_this_machine_that_was_killed_is_told_from_one_that_hangs(redis_url: str) -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    instance = f"{socket.gethostname()}-{ended.pid}-abc"
    async with Bus.open(redis_url, instance) as bus:
        await heard(bus, "ingest", instance, ended.pid, 3_000)
        assert (await workers.look(bus, 1)).processes == []
        assert await lease.acquire(bus, "ingest", 0, 60.0)
        seen = await workers.look(bus, 1)
    (finding,) = [found for found in workers.judged(seen, 1) if "gone" in found.detail]
    assert finding.level is Level.WARN


async def test_the_nodes_of_a_cluster_are_judged_by_the_worst(redis_cluster: Nodes) -> None:
    found = await servers.redis(Servers(redis_cluster.url, ""))
    assert "cluster of 3 nodes" in found[0].detail
    assert found[1].level is Level.WARN  # these have no append-only file
    async with Bus.open(redis_cluster.url) as bus:
        assert (await workers.look(bus, 4)).processes == []


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 7], "0-1 5 7")], ids=str
)
def test_shards_are_shown_as_ranges(numbers: list[int], text: str) -> None:
    assert processes.ranges(numbers) == text


async def test_a_gateway_that_runs_and_does_not_answer_fails(settings: Settings) -> None:
    async with Bus.open(settings.redis_url) as bus:
        await lease.announce(bus, "gateway", {})
    supervisor = Running(1, "sim", "paper", "http://127.0.0.1:1", "")
    found, _ = await workers.examine(settings, Servers(settings.redis_url, ""), supervisor)
    assert by_name(found)["page"].level is Level.FAIL


# All of it


def test_a_new_machine_is_told_that_it_may_start(settings: Settings) -> None:
    found = run.examine(settings).findings
    assert not failed(found)
    assert {"python", "home", "packages", "redis", "postgres", "venue", "token", "port"} <= by_name(found).keys()
