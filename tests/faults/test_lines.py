"""Connections that break, hang, or lie."""

from pathlib import Path

import pytest

import brokers.upstox.limits
import ingest.connection
from bus import metrics
from schemas.commands import Mode
from tests.faults.scene import PING_S, STALE_S, Scene, scene
from tests.ingest import live

BACKOFF_S = 0.05  # the first wait, as the fixture sets it


async def broken(line: Scene, cause: str, reason: str, **fault: object) -> None:
    """It breaks in the middle of a minute: said, counted, opened again, and history fills the minute."""
    await line.run(25)
    line.order(**fault)
    await line.said("connecting", reason)
    await line.says("live", within_s=BACKOFF_S)
    assert line.ended(cause) == 1
    await line.comes_right()
    assert await line.incomplete_first()


async def test_close_1000(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await broken(line, "closed_1000", "the venue closed the connection (1000)", drop=1000)


async def test_close_1006(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await broken(line, "broken", "the connection broke", abort=True)


async def test_close_1011(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await broken(line, "closed_1011", "the venue closed the connection (1011)", drop=1011)


async def test_mute_socket_that_still_pongs(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home", teji_feed_ping_s=PING_S) as line:
        await line.run(25)
        line.order(mute=True)
        await line.said("stale", "in an open market", within_s=STALE_S)
        await line.said("connecting", "in an open market", within_s=STALE_S)
        assert line.ended("stale") >= 1
        assert line.ended("no_pong") == 0
        line.order(mute=False)
        await line.says("live", within_s=2 * STALE_S + BACKOFF_S)
        await line.comes_right()


async def test_mute_socket_that_speaks_again(redis_url: str, tmp_path: Path) -> None:
    """Stale, and live again before it is opened anew: what was said meanwhile is lost all the same."""
    stale_s = 1.5
    async with scene(redis_url, tmp_path / "home", teji_feed_stale_s=stale_s) as line:
        await line.run(25)
        (number,) = line.market.hub.connections
        line.order(mute=True)
        await line.said("stale", "in an open market", within_s=stale_s)
        line.order(mute=False)
        await line.says("live")
        assert set(line.market.hub.connections) == {number}
        assert line.ended("stale") == 0
        await line.comes_right()


async def test_half_open_line(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home", teji_feed_ping_s=PING_S, teji_feed_stale_s=30.0) as line:
        await line.run(25)
        line.order(freeze=True)
        await line.said("connecting", "does not answer pings", within_s=2 * PING_S)
        await line.says("live", within_s=BACKOFF_S)
        assert line.ended("no_pong") == 1
        await line.comes_right()
        line.order(freeze=False)


async def test_network_gap_of_3_minutes(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await line.run(25)
        over_ms = line.market.now_ms() + 180_000
        line.market.script("offline for 3m")
        await line.said("connecting", "the venue does not answer")
        await line.until(lambda: line.market.now_ms() > over_ms, "the network is back")
        await line.says("live", within_s=ingest.connection._BACKOFF_MAX_S)
        assert line.ended("broken") == 1
        assert line.ended("unreachable") >= 2
        await line.comes_right()
        filled = [bar for bar in await line.bars() if bar["source"] == "backfill" and bar["rev"] == 0]
        assert {bar["ts"] for bar in filled} >= {over_ms // 60_000 * 60_000 - 60_000 * n for n in (1, 2)}


async def test_connection_that_stays_dead(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for caps in (brokers.upstox.limits.ALONE, brokers.upstox.limits.COMBINED):
        monkeypatch.setitem(caps, Mode.FULL, 6)
    async with scene(redis_url, tmp_path / "home", teji_feed_move_s=0.3) as line:
        moved = metrics.FEED_MOVED._value.get()
        await line.run(25)
        many = max(line.market.hub.connections.values(), key=lambda each: len(each.subscriptions.modes)).number
        line.order(connections=1, abort=True, only=many)
        await line.says("live", "no room for 3 instruments", within_s=0.3)
        assert metrics.FEED_MOVED._value.get() - moved == 3
        line.order(connections=0)
        await line.until(lambda: live.subscribed(line.market).keys() == set(line.keys), "all of it is carried again")
        await line.until(lambda: live.feed_is(line, "live"), "live")
        await line.comes_right()
