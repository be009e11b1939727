"""From the venue's socket to the bar, over real sockets, against what the venue itself says it sent."""

from pathlib import Path

import httpx
import pytest

from brokers.upstox.auth import TokenStore
from tests.end_to_end.pipeline import MINUTE, final, pipeline, reference_bars, start_all, unrevised


@pytest.mark.parametrize("seed", [7, 8])
async def test_bars_equal_an_independent_reading_of_the_frames(redis_url: str, tmp_path: Path, seed: int) -> None:
    async with pipeline(redis_url, tmp_path / "home", {"seed": seed}) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await line.market.advance(1000)
        await line.until(line.ticking, "ticks arrive")
        started = line.market.now_ms()
        for _ in range(26):
            await line.market.advance(10_000)
        closed = (line.market.now_ms() - 2000) // MINUTE * MINUTE - MINUTE
        await line.until(lambda: line.minute_closed(closed), "the last minute left")
        await line.until(line.caught_up, "all ticks are folded")

        ours = final(await line.bars())
        theirs = reference_bars(line.market.sent, line.market.now_ms())
        assert unrevised(ours) == unrevised({where: theirs[where] for where in ours})
        assert len({ts for _, ts in ours}) >= 4
        assert {where for where in theirs if where[1] <= closed} == set(ours)
        whole = [bar for bar in ours.values() if bar["complete"]]
        assert whole
        assert all(bar["ts"] >= started // MINUTE * MINUTE for bar in whole)


async def test_complete_bars_equal_the_venues_own_candles(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        for _ in range(20):
            await line.market.advance(10_000)
        closed = (line.market.now_ms() - 2000) // MINUTE * MINUTE - MINUTE
        await line.until(lambda: line.minute_closed(closed), "the last minute left")
        await line.until(line.caught_up, "all ticks are folded")
        bars = [bar for bar in final(await line.bars()).values() if bar["complete"]]
        assert len(bars) > 60

        token = TokenStore(line.settings).current()
        async with httpx.AsyncClient(base_url=line.market.url, headers={"Authorization": f"Bearer {token}"}) as client:
            for bar in bars:
                path = f"/v3/historical-candle/intraday/{bar['instrument'].replace('|', '%7C')}/minutes/1"
                answer = (await client.get(path)).json()["data"]["candles"]
                venue = {row[0]: row[1:6] for row in answer}
                ours = [bar["open"], bar["high"], bar["low"], bar["close"], bar["volume"]]
                assert ours in venue.values(), (bar, answer[:3])
