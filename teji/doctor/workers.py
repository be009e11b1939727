"""The workers: alive, each shard in somebody's hands, not behind; and what was set aside."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bus import lease
from bus.connection import Bus, translated
from bus.embedded import Servers
from bus.inbox import order
from bus.settings import Settings
from schemas import streams
from schemas.errors import Misconfigured
from schemas.events import EventKind
from teji import ports
from teji.doctor import processes, trading
from teji.doctor.findings import Finding, fail, ok, warn
from teji.doctor.processes import Process
from teji.doctor.trading import Desk
from teji.modules import WORKERS
from teji.running import Running

_LAG_WARN_MS: Final = 5_000
_LAG_FAIL_MS: Final = 60_000
_HEALTH_TIMEOUT_S: Final = 5.0
_EVENTS_MAX: Final = 1_000  # the newest, in which the feeds' last words are looked for
_CALLS_PER_MIN: Final = 60  # what the venue allows in the long run, an instrument a call

#: Who holds leases, by worker; the gateway's is that of its writer to Postgres.
_COLD: Final = "cold"
_SHARDED: Final = ("ingest", "aggregator", _COLD)
_ORDERS: Final = "gtt"  # has one, whatever the shards


@dataclass(slots=True)
class Seen:
    """What Redis knows of the workers."""

    alive: dict[str, int] = field(default_factory=dict)  # processes by worker
    owned: dict[str, list[int]] = field(default_factory=dict)  # shards by worker
    lag_ms: dict[str, int] = field(default_factory=dict)  # by group, the worst of its streams
    dead: dict[str, int] = field(default_factory=dict)  # entries by stream
    halted: str = ""
    desk: Desk = field(default_factory=Desk)
    history_waiting: dict[int, int] = field(default_factory=dict)  # instruments by shard, as its feed last said
    processes: list[Process] = field(default_factory=list)  # also those that are silent


async def examine(
    settings: Settings, places: Servers, supervisor: Running | None
) -> tuple[list[Finding], list[Process]]:
    async with Bus.open(places.redis_url) as bus:
        with translated():
            seen = await look(bus, settings.teji_shards)
    page = await _page(settings, supervisor, expected="gateway" in seen.alive)
    return [page, *judged(seen, settings.teji_shards)], seen.processes


async def look(bus: Bus, shards: int) -> Seen:
    seen = Seen()
    for name in await lease.living(bus):
        worker = name.partition(":")[0]
        seen.alive[worker] = seen.alive.get(worker, 0) + 1
    owners: dict[str, dict[int, str]] = {}
    for worker in _SHARDED:
        held = await bus.packet(*[("GET", streams.lease(worker, shard)) for shard in range(shards)])
        owners[worker] = {shard: value.decode().partition(":")[2] for shard, value in enumerate(held) if value}
        seen.owned[worker] = list(owners[worker])
    if held := await bus.redis.get(streams.lease(_ORDERS, 0)):
        owners[_ORDERS] = {0: held.decode().partition(":")[2]}
    everything = [streams.EVENTS, streams.COMMANDS, streams.ORDERS, streams.SIGNALS]
    for shard in range(shards):
        everything += [streams.ticks(shard), streams.candles(shard), streams.chain(shard)]
    seen.processes = await processes.look(bus, owners, everything)
    for stream in everything:
        for group, lag_ms in (await _lags(bus, stream)).items():
            seen.lag_ms[group] = max(lag_ms, seen.lag_ms.get(group, 0))
        if count := await bus.redis.xlen(streams.dead(stream)):
            seen.dead[streams.dead(stream)] = count
    seen.history_waiting = await _history_waiting(bus)
    seen.desk = await trading.look(bus)
    if halted := await bus.redis.get(streams.HALT):
        seen.halted = halted.decode(errors="replace")
    return seen


async def _history_waiting(bus: Bus) -> dict[int, int]:
    found: dict[int, int] = {}
    for _, fields in await bus.redis.xrevrange(streams.EVENTS, count=_EVENTS_MAX):
        if fields.get(b"kind") == EventKind.FEED.encode():
            status = json.loads(fields[b"data"])["data"]
            found.setdefault(int(status["shard"]), int(status.get("history_waiting", 0)))
    return found


async def _lags(bus: Bus, stream: str) -> dict[str, int]:
    """How far each group's last delivered entry is behind the stream's last one."""
    if not await bus.redis.exists(stream):
        return {}
    last: dict[str, Any] = await bus.redis.xinfo_stream(stream)
    end_ms, _ = order(last["last-generated-id"].decode())
    lags = {}
    for group in await bus.redis.xinfo_groups(stream):
        at_ms, _ = order(group["last-delivered-id"].decode())
        lags[group["name"].decode()] = max(0, end_ms - at_ms)
    return lags


def judged(seen: Seen, shards: int) -> list[Finding]:
    found = [_worker(name, seen, shards) for name in WORKERS]
    if seen.alive.get(_COLD):
        found.append(_worker(_COLD, seen, shards))
    found += [_silent(process) for process in seen.processes if process.silent or process.gone]
    found += [_lag(group, lag_ms) for group, lag_ms in sorted(seen.lag_ms.items()) if seen.alive]
    if seen.alive.get("ingest"):
        found.append(_history(sum(seen.history_waiting.values())))
    found += trading.judged(seen.desk, seen.alive.get(_ORDERS, 0))
    if seen.dead:
        shown = ", ".join(f"{count} in {stream}" for stream, count in seen.dead.items())
        first = next(iter(seen.dead))
        found.append(warn("dead letters", shown, f"Look at them: teji tail '{first}' --no-follow"))
    else:
        found.append(ok("dead letters", "none"))
    if seen.halted:
        found.append(warn("trading", f"halted: {_why(seen.halted)}", "`teji resume` ends the halt."))
    return found


def _worker(name: str, seen: Seen, shards: int) -> Finding:
    count = seen.alive.get(name, 0)
    if not count:
        start = f"Start it with `teji run {name}`, or everything with `teji up`."
        return fail(name, "not running, others are", start) if seen.alive else warn(name, "not running", start)
    number = "1 process" if count == 1 else f"{count} processes"
    if name not in _SHARDED:
        return ok(name, number)
    owned = seen.owned.get(name, [])
    if missing := sorted(set(range(shards)) - set(owned)):
        return warn(name, f"{number}, but nobody has shards {missing}", "Wait some seconds; else read its log.")
    return ok(name, f"{number}, shards {processes.ranges(owned)}")


def _silent(process: Process) -> Finding:
    """A process that says nothing. Its leases run out by themselves, but it does not come back by itself."""
    ago = f"no heartbeat for {process.heartbeat_ms / 1000:.0f} s"
    if process.gone:
        return warn(
            process.worker, f"{process.name} is gone, {ago}", "Its shards move on when its leases have run out."
        )
    still = f", and it still owns shards {processes.ranges(process.shards)}" if process.shards else ""
    fix = f"It hangs, or was killed, or lost its way to Redis: look there, end it with kill -9 {process.pid}."
    return fail(process.worker, f"{process.name}: {ago}{still}", fix)


def _history(waiting: int) -> Finding:
    if not waiting:
        return ok("history", "nothing that was missed is still to come")
    minutes = waiting / _CALLS_PER_MIN
    return ok("history", f"{waiting} instruments still wait for minutes that were missed, about {minutes:.0f} min")


def _lag(group: str, lag_ms: int) -> Finding:
    detail = f"{lag_ms / 1000:.1f} s behind"
    fix = f"Start more of what reads as {group}, or give the machine more cores."
    if lag_ms > _LAG_FAIL_MS:
        return fail(f"lag {group}", detail, fix)
    return warn(f"lag {group}", detail, fix) if lag_ms > _LAG_WARN_MS else ok(f"lag {group}", detail)


def _why(value: str) -> str:
    try:
        told = json.loads(value)
        return f"{told['why']} (by {told['by']})"
    except (ValueError, KeyError, TypeError):
        return value  # set by hand


async def _page(settings: Settings, supervisor: Running | None, *, expected: bool) -> Finding:
    """The gateway answers, or its port is there for it."""
    url = supervisor.url if supervisor else f"http://{ports.reachable(settings.teji_host)}:{settings.teji_port}"
    async with httpx.AsyncClient(timeout=_HEALTH_TIMEOUT_S, trust_env=False) as client:
        try:
            health = (await client.get(f"{url}/health")).json()
            status, reasons = str(health["status"]), "; ".join(health["reasons"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            status, reasons = "", ""
    if status == "ok":
        return ok("page", url)
    if status:
        return warn("page", f"{url} is {status}: {reasons}", "Put right what it names; it recovers by itself.")
    if expected:
        return fail("page", f"{url} does not answer, but a gateway runs", "Look at its log, and at TEJI_HOST.")
    return _port(settings)


def _port(settings: Settings) -> Finding:
    host, port = settings.teji_host, settings.teji_port
    try:
        ports.demanded(host, port)
    except Misconfigured as error:
        return fail("port", str(error), "Set TEJI_PORT or use --port.")
    return ok("port", f"{host}:{port} is free")
