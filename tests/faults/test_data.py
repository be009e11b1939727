"""Connections that live, and frames that are not as they should be."""

from pathlib import Path

import pytest

from bus import metrics
from tests.faults.scene import Scene, scene
from tests.ingest import live
from tests.ingest.test_feed_sockets import missing, missing_is

UNSEEN_S = 1.0  # so much of the market that a minute begins meanwhile


async def unharmed(line: Scene, **fault: object) -> None:
    """The feed stays live and whole: no bar is ever called incomplete but those of the first minute."""
    first = line.venue_minute
    line.order(**fault)
    await line.run(100)
    await line.comes_right()
    assert [state for state, _ in await live.states(line)][-1] == "live"
    assert len(line.market.hub.connections) == 1
    assert await line.incomplete_first() <= {first, first - 60_000}
    assert not await line.gaps()


async def test_partial_blocks(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await unharmed(line, partial_blocks=True)


async def test_duplicates(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await unharmed(line, duplicate=True)


async def test_frames_out_of_order(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await line.run(25)
        overtaken = metrics.FEED_OVERTAKEN._value.get()
        line.order(reorder=True)
        await line.run(100)
        line.order(reorder=False)
        assert metrics.FEED_OVERTAKEN._value.get() > overtaken
        assert await live.feed_is(line, "live")
        await line.comes_right()


@pytest.mark.parametrize("seconds", [5, -5])
async def test_clock_skew_of_5_seconds(redis_url: str, tmp_path: Path, seconds: int) -> None:
    async with scene(redis_url, tmp_path / "home") as line:
        await line.run(30)
        line.order(skew_ms=seconds * 1000)
        await line.run(100)
        assert await live.feed_is(line, "live")
        await line.comes_right()
        line.order(skew_ms=0, abort=True)  # and a hole while the clock goes back
        await line.said("connecting", "the connection broke")
        await line.says("live")
        await line.comes_right()


async def test_subscriptions_accepted_in_part(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home", start=False, teji_feed_unseen_s=UNSEEN_S) as line:
        ignored, forgotten = line.keys[1], line.keys[3]
        line.order(ignore=(ignored, forgotten))
        line.begin()
        await line.until(lambda: len(live.subscribed(line.market)) == len(line.keys) - 2, "accepted in part")
        line.order(ignore=(ignored,))
        await line.says("live", f"the venue never sent {ignored}", within_s=2 * UNSEEN_S)
        assert forgotten in live.subscribed(line.market)  # it was asked for again
        await line.until(lambda: missing_is(line, "never_seen", 1), "the list")
        assert (await missing(line))["never_seen"] == [ignored]
        await line.run(60)
        line.order(ignore=(), abort=True)
        await line.until(lambda: live.subscribed(line.market).keys() == set(line.keys), "all of it")
        await line.until(lambda: missing_is(line, "never_seen", 0), "nothing is missing")
        await line.comes_right()


async def test_more_instruments_than_the_venue_takes(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home", start=False, teji_feed_unseen_s=UNSEEN_S) as line:
        line.order(cap=5)
        line.begin()
        await line.says("live", "the venue never sent", within_s=2 * UNSEEN_S)
        await line.until(lambda: missing_is(line, "never_seen", len(line.keys) - 5), "those over the cap are named")
        await line.run(60)
        line.order(cap=0, drop=1000)
        await line.until(lambda: missing_is(line, "never_seen", 0), "nothing is missing")
        await line.comes_right()


async def test_instrument_that_falls_silent(redis_url: str, tmp_path: Path) -> None:
    async with scene(redis_url, tmp_path / "home", teji_feed_silent_s=30.0, teji_feed_unseen_s=30.0) as line:
        await line.run(120)
        share = line.keys[1]
        line.order(quiet=(share,))
        await line.says("live", f"silent though their peers tick: {share}", within_s=15.0)
        await line.until(lambda: missing_is(line, "silent", 1), "the list")
        assert (await missing(line))["silent"] == [share]
        line.order(quiet=())
        await line.until(lambda: missing_is(line, "silent", 0), "it ticks again")
        await line.comes_right()
