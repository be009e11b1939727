"""What the vendor's own SDK decodes from the feed is what our ingest puts on the stream."""

import asyncio
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import upstox_client
import websocket
from upstox_client.feeder import market_data_feeder_v3

import ingest.worker
from brokers.upstox.auth import TokenStore
from schemas import streams, ticks
from schemas.streams import instrument_id
from schemas.ticks import KNOWN_SHIFT, Block
from tests.end_to_end.pipeline import Pipeline, pipeline

_GREEKS = ("delta", "theta", "gamma", "vega", "rho")


class Sdk:
    """The vendor's streamer, in its own thread, pointed at the simulator."""

    def __init__(self, line: Pipeline, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        feed_url = line.market.feed_url

        class There(websocket.WebSocketApp):  # type: ignore[misc,unused-ignore]
            def __init__(self, _url: str, **more: Any) -> None:
                super().__init__(feed_url, **more)

        module = SimpleNamespace(WebSocketApp=There, ABNF=websocket.ABNF)
        monkeypatch.setattr(market_data_feeder_v3, "websocket", module)
        configuration = upstox_client.Configuration()
        configuration.access_token = TokenStore(line.settings).current()
        self._client = upstox_client.ApiClient(configuration)
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.streamer = upstox_client.MarketDataStreamerV3(self._client, keys, "full")
        self.streamer.on("message", self.messages.put)
        self.streamer.connect()

    def close(self) -> None:
        self.streamer.auto_reconnect(False)
        self.streamer.disconnect()
        self._client.pool.close()
        self._client.pool.join()

    def updates(self) -> dict[tuple[int, int], dict[str, Any]]:
        found = {}
        while not self.messages.empty():
            message = self.messages.get()
            for key, feed in message.get("feeds", {}).items():
                found[int(message["currentTs"]), instrument_id(key)] = flat(feed)
        return found


def flat(feed: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one update; what proto3 leaves out is zero, what has no message is absent."""
    full = feed["fullFeed"]
    block = full.get("marketFF") or full["indexFF"]
    ltpc = block["ltpc"]
    values: dict[str, Any] = {"ltp": ltpc.get("ltp", 0.0), "cp": ltpc.get("cp", 0.0)}
    values |= {"ltt": int(ltpc.get("ltt", 0)), "ltq": int(ltpc.get("ltq", 0))}
    values |= {name: block[name] for name in ("atp", "oi", "iv", "tbq", "tsq") if name in block}
    if "vtt" in block:
        values["vtt"] = int(block["vtt"])
    if "optionGreeks" in block:
        values |= {name: block["optionGreeks"].get(name, 0.0) for name in _GREEKS}
    if "marketLevel" in block:
        rows = block["marketLevel"]["bidAskQuote"]
        values["depth"] = [
            (int(r.get("bidQ", 0)), r.get("bidP", 0.0), int(r.get("askQ", 0)), r.get("askP", 0.0)) for r in rows
        ]
    return values


async def ours(line: Pipeline) -> dict[tuple[int, int], dict[str, Any]]:
    """The same from the stream: what each record says that its update carried."""
    found = {}
    for _, fields in await line.bus.redis.xrange(streams.ticks(0)):
        batch = ticks.unpack(fields)
        level = 0
        for row in batch.rec:
            depth = batch.depth[level : level + row["levels"]].tolist()
            level += int(row["levels"])
            found[int(row["ts"]), int(row["id"])] = carried(row, depth)
    return found


def carried(row: Any, depth: list[Any]) -> dict[str, Any]:
    flags = Block(int(row["flags"]) & ((1 << KNOWN_SHIFT) - 1))
    names = [name for name in ("atp", "oi", "iv", "tbq", "tsq", "vtt") if Block[name.upper()] in flags]
    names += [*_GREEKS] if Block.GREEKS in flags else []
    values = {name: row[name].item() for name in ("ltp", "cp", "ltt", "ltq", *names)}
    return {**values, "depth": depth} if depth else values


async def test_decoded_values_equal_those_of_the_vendors_own_streamer(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        keys = [instrument.key for instrument in line.market.market.listing.instruments]
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: line.market.hub.connections, "ingest is connected")
        sdk = Sdk(line, keys, monkeypatch)
        try:
            await line.until(lambda: len(line.market.hub.connections) == 2, "the SDK is connected")
            await line.until(lambda: all(c.rows for c in line.market.hub.connections.values()), "both have subscribed")
            await asyncio.to_thread(sdk.messages.get, timeout=10)  # market_info
            await line.market.advance(30_000)
            end = line.market.now_ms() - 1000

            async def arrived() -> bool:
                last = await line.bus.last_entry(streams.ticks(0))
                return last is not None and int(last[1][b"ts"]) >= end

            await line.until(arrived, "everything is published")
            theirs, found = sdk.updates(), await ours(line)
        finally:
            await asyncio.to_thread(sdk.close)
    both = theirs.keys() & found.keys()
    assert len(both) > 1000
    assert {where for where in theirs if where[0] < end} <= found.keys()
    assert {where: found[where] for where in both} == {where: theirs[where] for where in both}
