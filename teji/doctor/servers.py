"""Redis and Postgres: there, new enough, kept safe, up to date."""

from typing import Final

from bus import clock
from bus import postgres as store
from bus.connection import Bus
from bus.embedded import Servers
from schemas.errors import Misconfigured, Unavailable
from teji.doctor.findings import Finding, Level, fail, ok, warn

_SKEW_MS: Final = 500


async def redis(places: Servers) -> list[Finding]:
    try:
        async with Bus.open(places.redis_url) as bus:
            version = await bus.check()
            persistence, memory = await bus.told("persistence"), await bus.told("memory")
            times = await bus.everywhere("TIME")
    except (Unavailable, Misconfigured) as error:
        return [fail("redis", str(error), "Start that Redis, or leave REDIS_URL empty for the embedded one.")]
    kind = "embedded" if places.redis_socket else "own" if len(times) == 1 else f"a cluster of {len(times)} nodes"
    now_ms = clock.now_ms()
    ahead_ms = [now_ms - (int(seconds) * 1000 + int(micros) // 1000) for seconds, micros in times.values()]
    judged = [_persistence(persistence[node], memory[node], node) for node in times]
    return [
        ok("redis", f"{version}, {kind}"),
        max(judged, key=lambda finding: [*Level].index(finding.level)),  # of the nodes the one that needs care most
        _clock(max(ahead_ms, key=abs)),
    ]


def _persistence(persistence: dict[str, str], memory: dict[str, str], node: str) -> Finding:
    name = f"redis data {node}".strip()
    if memory.get("maxmemory", "0") != "0" and memory.get("maxmemory_policy") != "noeviction":
        how = f"it throws keys away when full ({memory['maxmemory_policy']})"
        return fail(name, how, "Set its maxmemory-policy to noeviction: streams must not vanish.")
    if persistence.get("aof_enabled") != "1":
        return warn(name, "no append-only file: a restart of Redis loses data", "Set its appendonly to yes.")
    if persistence.get("aof_last_write_status", "ok") != "ok":
        return fail(name, "its append-only file cannot be written", "Look at its log and at its disk.")
    return ok(name, "append-only file, nothing is evicted")


def _clock(ahead_ms: int) -> Finding:
    if abs(ahead_ms) > _SKEW_MS:
        return warn("clock", f"{ahead_ms:+} ms against Redis", "Let both machines keep time by NTP.")
    return ok("clock", f"{ahead_ms:+} ms against Redis")


async def postgres(places: Servers) -> list[Finding]:
    try:
        async with store.open_pool(places.postgres_url, size=1) as pool:
            with store.translated():
                async with pool.acquire() as connection:
                    version = str(await connection.fetchval("SHOW server_version")).split()[0]
                    known = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
                    query = "SELECT number FROM schema_migrations"
                    done = {row["number"] for row in await connection.fetch(query)} if known else set()
    except (Unavailable, Misconfigured) as error:
        return [fail("postgres", str(error), "Start that Postgres, or leave DATABASE_URL empty for the embedded one.")]
    if int(version.partition(".")[0]) < store.OLDEST:
        return [fail("postgres", f"{version} is too old", f"Use Postgres {store.OLDEST} or newer.")]
    return [ok("postgres", version), schema(done)]


def schema(done: set[int]) -> Finding:
    wanted = {number for number, _, _ in store.migrations()}
    if not done:
        return ok("schema", "none yet: the gateway makes it when it first starts")
    if newer := sorted(done - wanted):
        return fail("schema", f"migrations {newer} are of a newer Teji", "Use the newer Teji, or another database.")
    if missing := sorted(wanted - done):
        return warn("schema", f"migrations {missing} are missing", "Restart the gateway: it applies them.")
    return ok("schema", f"up to date, {len(done)} migrations")
