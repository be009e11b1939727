"""A venue that refuses to let us in."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import ingest.connection
from tests.end_to_end.pipeline import log_in
from tests.faults.scene import Scene, scene

IST = timezone(timedelta(hours=5, minutes=30))


async def refused(line: Scene, times: int, reason: str, **fault: object) -> None:
    """The connection breaks, and the next tries are refused."""
    await line.run(25)
    line.order(drop=1000, times=times, **fault)
    await line.said("connecting", reason)
    waits_s = sum(ingest.connection._REFUSED_S * 2**n for n in range(times + 1))
    await line.says("live", within_s=waits_s)
    assert line.ended("refused") == times
    await line.comes_right()


async def test_403_burst(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await refused(line, 3, "403", refuse_authorize=403)


async def test_403_of_the_handshake(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await refused(line, 2, "the feed refuses the connection (403)", refuse_connect=403)


async def test_html_403(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await refused(line, 2, "blocked at the edge", refuse_authorize=403, html=True)


async def test_429_on_authorize(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await refused(line, 3, "too many calls", refuse_authorize=429)


async def test_token_dies_at_0330(redis_url: str, tmp_path: Path) -> None:
    night = {"start": datetime(2026, 11, 19, 3, 28, 30, tzinfo=IST)}
    async with scene(redis_url, tmp_path / "home", night, teji_backfill_days=0) as line:
        await line.says("needs_login", "UDAPI100050", within_s=90.0 / 30)
        before = line.market.auth._count
        await line.run(120)
        assert line.ended("needs_login") == 1  # it does not knock: it waits
        assert line.market.auth._count == before
        await log_in(line.settings)
        await line.says("live", within_s=ingest.connection._LOGIN_POLL_S)
        await line.jump(datetime(2026, 11, 19, 9, 14, 30, tzinfo=IST))
        await line.says("live")
        await line.run(60)
        await line.comes_right()
