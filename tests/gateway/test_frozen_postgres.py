"""A Postgres that neither answers nor goes away: the live parts go on, and history says within seconds why not."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from bus import embedded
from tests.conftest import settings_in
from tests.gateway.house import NIFTY, bar, bar_fields, running, universe, until


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """The server and all its children stand still."""
    postmaster = int((folder / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    pids = [postmaster, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_health_and_todays_candles_answer_in_seconds_while_postgres_is_frozen(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with embedded.servers(settings_in(home)) as servers:
        urls = {"redis_url": servers.redis_url, "database_url": servers.postgres_url}
        async with running(settings_in(home, **urls), universe()) as house:

            async def stored() -> bool:
                return bool((await house.http.get("/health")).json()["postgres"]["ok"])

            await until(stored)
            now = time.time_ns() // 1_000_000
            await house.bus.redis.xadd("candles:{0}", bar_fields(bar(NIFTY, now - now % 60_000 - 60_000)))
            query = {"instrument": NIFTY, "from": "2024-01-01"}

            async def whole() -> bool:
                """The tables are there, too."""
                return (await house.http.get("/api/v1/candles", params=query)).json().get("warning", "") is None

            await until(whole)
            with frozen(home / "postgres"):
                for _ in range(2):
                    health = await house.http.get("/health", timeout=8)
                    candles = await house.http.get("/api/v1/candles", params=query, timeout=12)
                hours = await house.http.get("/api/v1/candles", params={**query, "interval": "60m"}, timeout=12)
                assert health.json()["status"] == "degraded"
                assert not health.json()["postgres"]["ok"]
                assert len(candles.json()["candles"]) == 1
                assert candles.json()["warning"]
                assert hours.json()["warning"]
            await until(stored)
