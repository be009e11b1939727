"""Bars that a client builds from the frames it got, against the candles that the exchange reports."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from proto import feed_pb2 as pb
from sim.exchange import Exchange
from tests.sim.simtools import MINUTE, feed, keys_of, served, trader


@dataclass
class ReferenceBars:
    """Minute bars from frames, as the contract words it, in the plainest way."""

    bars: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    volumes: dict[str, int] = field(default_factory=dict)
    trades: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, frame: pb.FeedResponse) -> None:
        for key, each in frame.feeds.items():
            block = getattr(each.fullFeed, each.fullFeed.WhichOneof("FullFeedUnion"))
            index = each.fullFeed.WhichOneof("FullFeedUnion") == "indexFF"
            self.take(key, block.ltpc, None if index else block.vtt)

    def take(self, key: str, ltpc: pb.LTPC, vtt: int | None) -> None:
        before, volume = self.trades.get(key), 0
        self.trades[key] = (ltpc.ltt, ltpc.ltp)
        if vtt is not None:
            known = self.volumes.get(key)
            self.volumes[key] = vtt
            if known is None or vtt <= known:
                return
            volume = vtt - known
        elif before is None or before == self.trades[key]:
            return
        minute = ltpc.ltt - ltpc.ltt % MINUTE
        bar = self.bars.setdefault((key, minute), [ltpc.ltp, ltpc.ltp, ltpc.ltp, ltpc.ltp, 0])
        bar[1], bar[2] = max(bar[1], ltpc.ltp), min(bar[2], ltpc.ltp)
        bar[3], bar[4] = ltpc.ltp, bar[4] + volume


async def candles(client: httpx.AsyncClient, key: str) -> dict[int, list[float]]:
    path = f"/v3/historical-candle/intraday/{quote(key, safe='')}/minutes/1"
    rows = (await client.get(path)).json()["data"]["candles"]
    return {_epoch_ms(row[0]): row[1:6] for row in rows}


def _epoch_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


async def built_from(exchange: Exchange, client: httpx.AsyncClient, minutes: int) -> ReferenceBars:
    async with feed(client) as opened:
        await opened.subscribe(keys_of(exchange))
        await exchange.advance(minutes * MINUTE)
    reference = ReferenceBars()
    for sent in exchange.sent:
        reference.add(pb.FeedResponse.FromString(sent.data))
    return reference


@pytest.mark.parametrize(("conflation_ms", "instruments"), [(300, 60), (700, 30), (1_000, 30), (0, 30)])
async def test_bars_from_the_feed_equal_the_candles(conflation_ms: int, instruments: int) -> None:
    async with (
        served(conflation_ms=conflation_ms, instruments=instruments) as exchange,
        trader(exchange) as client,
    ):
        since_ms = exchange.now_ms()
        reference = await built_from(exchange, client, 2 if conflation_ms else 1)
        compared = 0
        for key in keys_of(exchange):
            expected = {ts: row for ts, row in (await candles(client, key)).items() if ts >= since_ms}
            built = {ts: bar for (found, ts), bar in reference.bars.items() if found == key and ts >= since_ms}
            assert built == expected, key
            compared += len(built)
        assert compared > 20


async def test_a_client_that_came_in_the_middle_agrees_from_the_next_minute_on() -> None:
    async with served(start="2026-11-20T10:30:25") as exchange, trader(exchange) as client:
        reference = await built_from(exchange, client, 2)
        key = next(each.key for each in exchange.market.listing.instruments if each.instrument_type == "FUT")
        whole_ms = exchange.now_ms() - exchange.now_ms() % MINUTE - MINUTE
        assert reference.bars[key, whole_ms] == (await candles(client, key))[whole_ms]


async def test_two_clients_get_the_same_blocks() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as one, feed(client) as two:
        keys = keys_of(exchange)[:20]
        await asyncio.gather(one.subscribe(keys), two.subscribe(keys))
        await exchange.advance(10_000)
        frames: dict[int, list[bytes]] = {1: [], 2: []}
        for sent in exchange.sent:
            frames[sent.connection].append(sent.data)
        assert frames[1] == frames[2]
        assert len(frames[1]) > 20


async def test_what_was_sent_is_what_arrived() -> None:
    async with served() as exchange, trader(exchange) as client, feed(client) as opened:
        await opened.subscribe(keys_of(exchange))
        await exchange.advance(3_000)
        live: list[Any] = [sent.data for sent in exchange.sent[2:]]
        arrived = [await opened.socket.recv() for _ in live]
        assert arrived == live
