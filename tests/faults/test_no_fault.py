"""Silence that is no fault: the feed says so, and stays on the line."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson

from schemas import streams
from tests.faults.scene import STALE_S, Scene, scene
from tests.ingest import live

IST = timezone(timedelta(hours=5, minutes=30))
INDEX, SHARE = "NSE_INDEX|Nifty 50", "NSE_EQ|INE002A01018"


async def left_alone(line: Scene) -> None:
    """Several times as long as a feed may be silent while its market is open, nothing is said and nothing is closed."""
    lines, told = set(line.market.hub.connections), len(await live.states(line))
    began = line.loop.time()
    await line.until(lambda: line.loop.time() - began > 5 * STALE_S, "a while")
    assert set(line.market.hub.connections) == lines
    assert {state for state, _ in (await live.states(line))[told:]} <= {"live"}
    assert await live.feed_is(line, "live")


async def status(line: Scene) -> dict[str, Any]:
    return dict((await live.events(line, "feed"))[-1]["data"])


async def quote(line: Scene, key: str) -> dict[str, Any]:
    found = await line.bus.redis.hget(streams.quotes(0), key)
    return dict(orjson.loads(found)) if found else {}


async def is_called(line: Scene, key: str) -> bool:
    """Its quote tells the auction's price and quantity."""
    told = await quote(line, key)
    return bool(told.get("iep") and told.get("ieq") and told["cas_eligible"])


async def test_closing_auction(redis_url: str, tmp_path: Path) -> None:
    """Shares with derivatives stop at 15:15 and the indices rest with them, while all else trades until 15:30."""
    day = datetime(2026, 11, 18, tzinfo=IST)
    sim = {"start": day.replace(hour=15, minute=13, second=45), "instruments": 30}
    async with scene(redis_url, tmp_path / "home", sim, keys=(INDEX, SHARE)) as line:
        await line.jump(day.replace(hour=15, minute=15, second=3))
        line.order(quiet=(INDEX,))  # the exchange may repeat its value, or not
        await left_alone(line)
        assert (await status(line))["segments"]["NSE_INDEX"] == "NORMAL_OPEN"  # the venue's word alone would mislead
        assert (await status(line))["closing_auction"]["NSE_EQ"]["status"] == "CTS_CLOSE"
        await line.until(lambda: auction_is(line, "closing_auction", "CAS_LM_START"), "the next part is announced")
        await line.comes_right(int(day.replace(hour=15, minute=15).timestamp() * 1000))


async def auction_is(line: Scene, which: str, part: str) -> bool:
    return bool((await status(line))[which].get("NSE_EQ", {}).get("status") == part)


async def test_pre_open(redis_url: str, tmp_path: Path) -> None:
    """An auction: prices without trades, bars from 09:15 on."""
    day = datetime(2026, 11, 18, tzinfo=IST)
    sim = {"start": day.replace(hour=9, minute=0, second=30)}
    async with scene(redis_url, tmp_path / "home", sim, teji_backfill_days=0) as line:
        await line.until(lambda: auction_is(line, "pre_open", "PRE_OPEN_START"), "said so")
        await line.until(lambda: is_called(line, SHARE), "the auction's price")
        await left_alone(line)
        await line.jump(day.replace(hour=9, minute=14, second=50))
        await line.run(60)
        assert (await quote(line, SHARE))["iep"] is None  # it is over
        await line.comes_right()


async def test_holiday(redis_url: str, tmp_path: Path) -> None:
    sim = {"start": datetime(2026, 10, 2, 11, 0, tzinfo=IST)}  # a Friday
    async with scene(redis_url, tmp_path / "home", sim) as line:
        await left_alone(line)
        assert set((await status(line))["segments"].values()) == {"NORMAL_CLOSE"}


async def test_special_session(redis_url: str, tmp_path: Path) -> None:
    """An evening hour on a Sunday: the data clock runs, and not one minute longer."""
    sunday = datetime(2026, 11, 8, 19, 11, 30, tzinfo=IST)
    async with scene(redis_url, tmp_path / "home", {"start": sunday}) as line:
        line.order(mute=True)
        await line.said("stale", "in an open market", within_s=STALE_S)
        line.order(mute=False)
        await line.says("live", within_s=2 * STALE_S)
        await line.comes_right()
        await line.jump(sunday.replace(hour=19, minute=16))
        await left_alone(line)
