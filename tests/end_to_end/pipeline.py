"""The pipeline inside a test: the simulated exchange on a manual clock, and the real workers over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson

import aggregator.worker
import ingest.worker
from brokers.upstox import auth
from bus.connection import Bus
from bus.embedded import Servers
from bus.inbox import order
from bus.life import Main, Worker
from bus.settings import Settings, load
from proto import feed_pb2
from schemas import streams, ticks
from sim.exchange import Exchange
from sim.feed import SentFrame
from sim.server import running
from sim.settings import SimSettings
from tests.aggregator.reference import Reference

#: A quiet Wednesday inside the closing-auction era, ten minutes after the opening.
START = datetime(2026, 11, 18, 9, 25, tzinfo=timezone(timedelta(hours=5, minutes=30)))
MINUTE = 60_000


@contextlib.asynccontextmanager
async def exchange(**more: Any) -> AsyncIterator[Exchange]:
    chosen = {"port": 0, "instruments": 60, "clock": "manual", "start": START, "record": True, "rate_limits": None}
    async with running(SimSettings(**{**chosen, **more})) as market:
        yield market


def settings_for(market: Exchange, redis_url: str, home: Path, **more: Any) -> Settings:
    more = {"teji_backfill": False, **more}
    return load(
        _env_file=None,
        teji_home=home,
        redis_url=redis_url,
        teji_metrics_port=0,
        upstox_api_url=market.url,
        upstox_assets_url=market.url,
        upstox_api_key="sim-key",
        upstox_api_secret="sim-secret",
        upstox_redirect_uri="http://127.0.0.1:1/callback",
        teji_lease_s=1.0,
        **more,
    )


async def log_in(settings: Settings) -> None:
    """As a person would: the dialog, the code, the token."""
    query = {"client_id": "sim-key", "redirect_uri": settings.upstox_redirect_uri, "response_type": "code"}
    async with httpx.AsyncClient() as client:
        dialog = await client.get(settings.upstox_api_url + auth.DIALOG_PATH, params=query)
        code = parse_qs(urlsplit(dialog.headers["location"]).query)["code"][0]
        auth.TokenStore(settings).save(await auth.exchange_code(client, settings, code))


@dataclass
class Pipeline:
    market: Exchange
    settings: Settings
    bus: Bus
    tasks: dict[str, tuple[asyncio.Future[None], asyncio.Event]] = field(default_factory=dict)

    def start(self, name: str, run: Main, instance: str = "") -> None:
        stop = asyncio.Event()
        bus = Bus(self.bus.redis, f"{name}-{instance or len(self.tasks)}")
        worker = Worker(name, self.settings, bus, Servers(self.settings.redis_url, ""), 0)
        self.tasks[instance or name] = (asyncio.ensure_future(run(worker, stop)), stop)

    async def stop(self, name: str) -> None:
        task, stop = self.tasks.pop(name)
        stop.set()
        await asyncio.wait_for(task, 10)

    async def until(self, true: Callable[[], Any], what: str, seconds: float = 60) -> None:
        """Wait for a fact, with a deadline and a name; a worker that died meanwhile speaks first."""
        try:
            async with asyncio.timeout(seconds):
                while not await self._holds(true):  # noqa: ASYNC110 - facts in Redis have no event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"in {seconds} s not yet: {what}") from None

    async def _holds(self, true: Callable[[], Any]) -> bool:
        for task, _stop in self.tasks.values():
            if task.done():
                task.result()
        found = true()
        return bool(await found if asyncio.iscoroutine(found) else found)

    async def bars(self, shard: int = 0) -> list[dict[str, Any]]:
        entries = await self.bus.redis.xrange(streams.candles(shard))
        return [orjson.loads(fields[b"data"]) for _, fields in entries]

    async def ticking(self) -> bool:
        return bool(await self.bus.redis.hlen(streams.quotes(0)))

    async def minute_closed(self, ts: int) -> bool:
        last = await self.bus.redis.xrevrange(streams.candles(0), count=1)
        return bool(last) and int(last[0][1][b"ts"]) >= ts

    async def caught_up(self) -> bool:
        """Every tick record has been folded and committed."""
        newest = await self.bus.redis.xrevrange(streams.ticks(0), count=50)
        told = [order(entry.decode()) for entry, fields in newest if fields[b"n"] != b"0"]
        if not told:
            return False
        pending = await self.bus.redis.xpending(streams.ticks(0), "aggregator")
        read = [g["last-delivered-id"] for g in await self.bus.redis.xinfo_groups(streams.ticks(0))]
        committed = not pending["min"] or order(pending["min"].decode()) > told[0]
        return committed and bool(read) and order(read[0].decode()) >= told[0]


@contextlib.asynccontextmanager
async def pipeline(
    redis_url: str, home: Path, sim: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Pipeline]:
    async with exchange(**(sim or {})) as market:
        settings = settings_for(market, redis_url, home, **more)
        await log_in(settings)
        async with Bus.open(redis_url) as bus:
            running_pipeline = Pipeline(market, settings, bus)
            try:
                yield running_pipeline
            finally:
                for name in list(running_pipeline.tasks):
                    await running_pipeline.stop(name)


def start_all(line: Pipeline) -> None:
    line.start("ingest", ingest.worker.run)
    line.start("aggregator", aggregator.worker.run)


# What the venue sent, read by the generated class: the other side of every comparison


def updates(frames: list[SentFrame]) -> Iterator[dict[str, Any]]:
    """Every update in every frame, as plain values, with what a reader would carry forward carried forward."""
    seen: dict[str, dict[str, Any]] = {}
    connection_of: dict[str, int] = {}
    for frame in frames:
        message = feed_pb2.FeedResponse.FromString(frame.data)
        for key, feed in message.feeds.items():
            base = connection_of.get(key) != frame.connection
            connection_of[key] = frame.connection
            carried = _values(feed)
            known = seen.setdefault(key, {})
            known.update({name: value for name, value in carried.items() if name != "depth"})
            if carried.get("depth"):
                known.update(carried["depth"][0])  # the touch
            full = {**known, "depth": carried.get("depth")}
            yield {"key": key, "ts": message.currentTs, "base": base, "carried": frozenset(carried), **full}


def _values(feed: feed_pb2.Feed) -> dict[str, Any]:
    union = feed.WhichOneof("FeedUnion")
    if union == "ltpc":
        return _ltpc(feed.ltpc)
    if union == "firstLevelWithGreeks":
        block: Any = feed.firstLevelWithGreeks
        return {**_ltpc(block.ltpc), **_greeks(block), **_numbers(block, ("oi", "iv")), "vtt": block.vtt}
    if feed.fullFeed.WhichOneof("FullFeedUnion") == "indexFF":
        return _ltpc(feed.fullFeed.indexFF.ltpc)
    block = feed.fullFeed.marketFF
    depth = [
        {"bid_qty": q.bidQ, "bid": q.bidP, "ask_qty": q.askQ, "ask": q.askP} for q in block.marketLevel.bidAskQuote
    ]
    values = {**_ltpc(block.ltpc), **_greeks(block), **_numbers(block, ("atp", "oi", "iv", "tbq", "tsq"))}
    return {**values, "vtt": block.vtt, "depth": depth or None}


def _ltpc(block: feed_pb2.LTPC) -> dict[str, Any]:
    return {"ltp": block.ltp, "ltt": block.ltt, "ltq": block.ltq, "cp": block.cp}


def _greeks(block: Any) -> dict[str, Any]:
    if not block.HasField("optionGreeks"):
        return {}
    return {name: getattr(block.optionGreeks, name) for name in ("delta", "theta", "gamma", "vega", "rho")}


def _numbers(block: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(block, name))}


def reference_bars(frames: list[SentFrame], until_ms: int) -> dict[tuple[str, int], dict[str, Any]]:
    reference = Reference()
    for update in updates(frames):
        reference.update(update)
    reference.heartbeat(until_ms)
    return final(reference.published)


def final(bars: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """The highest revision of each bar."""
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for bar in bars:
        where = (bar["instrument"], bar["ts"])
        if where not in best or bar["rev"] >= best[where]["rev"]:
            best[where] = bar
    return best


def unrevised(bars: dict[tuple[str, int], dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Without `rev`: how often a bar left depends on when heartbeats came. And without our own Greeks, which the venue
    does not know: they have tests of their own."""
    return {where: {k: v for k, v in bar.items() if k not in ("rev", "model")} for where, bar in bars.items()}


async def records(bus: Bus) -> list[Any]:
    """Every tick record of the stream, in order."""
    found: list[Any] = []
    for _, fields in await bus.redis.xrange(streams.ticks(0)):
        found += ticks.unpack(fields).rec.tolist()
    return found
