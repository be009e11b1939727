"""A real ingest between the simulated exchange and a real Redis, and questions about what it does."""

import itertools
from collections.abc import Iterable
from typing import Any

import orjson

import ingest.worker
from proto import feed_pb2 as pb
from schemas import streams, ticks
from schemas.commands import Command
from schemas.ticks import Block, FeedMark
from sim.exchange import Exchange
from tests.end_to_end.pipeline import Pipeline

_COMMANDS = itertools.count(1)

#: What identifies an update: instrument, time of its frame, price, volume of the day.
Update = tuple[str, int, float, int]


async def start(line: Pipeline) -> None:
    """Ingest, up to the first ticks."""
    line.start("ingest", ingest.worker.run)
    await line.until(lambda: line.market.hub.connections, "connected")
    await line.market.advance(600)
    await line.until(line.ticking, "ticks arrive")


async def run_market(line: Pipeline, ms: int, step_ms: int = 300) -> None:
    for _ in range(ms // step_ms):
        await line.market.advance(step_ms)


async def events(line: Pipeline, kind: str) -> list[dict[str, Any]]:
    found = await line.bus.redis.xrange(streams.EVENTS)
    return [orjson.loads(fields[b"data"]) for _, fields in found if fields[b"kind"].decode() == kind]


async def states(line: Pipeline) -> list[tuple[str, str]]:
    """What was said of the feed: state and reason, one after the other, without counts."""
    said = [(event["data"]["state"], event["data"]["reason"]) for event in await events(line, "feed")]
    return [key for key, _ in itertools.groupby(said)]


async def said(line: Pipeline, state: str, reason: str = "", after: int = 0) -> bool:
    return any(each == state and reason in why for each, why in (await states(line))[after:])


async def feed_is(line: Pipeline, state: str, reason: str = "") -> bool:
    told = await states(line)
    return bool(told) and told[-1][0] == state and reason in told[-1][1]


def subscribed(market: Exchange) -> dict[str, str]:
    """What the venue has accepted, over all connections; no instrument twice."""
    found: dict[str, str] = {}
    for connection in market.hub.connections.values():
        assert not found.keys() & connection.subscriptions.modes.keys()
        found |= connection.subscriptions.modes
    return found


async def command(line: Pipeline, asked: Command) -> dict[str, Any]:
    """Ask for something; the data of the reply, merged over shards."""
    number = f"command-{next(_COMMANDS)}"
    fields = {"id": number, "kind": asked.kind, "by": "test", "data": asked.model_dump_json()}
    await line.bus.redis.xadd(streams.COMMANDS, fields)
    shards = line.settings.teji_shards

    async def replies() -> list[dict[str, Any]]:
        return [event for event in await events(line, "reply") if event["data"]["command"] == number]

    async def answered() -> bool:
        return len(await replies()) == shards

    await line.until(answered, f"a reply to {asked.kind}")
    found = sorted(await replies(), key=lambda event: event["data"]["shard"])
    return {"message": found[0]["message"], "all": [event["data"] for event in found], **found[0]["data"]}


# What was sent and what is in the streams


def sent(market: Exchange, connections: Iterable[int] | None = None) -> list[Update]:
    """Every update in every frame that the venue has sent, by the generated class."""
    found: list[Update] = []
    for frame in market.sent:
        if connections is None or frame.connection in connections:
            message = pb.FeedResponse.FromString(frame.data)
            found += [_update(key, message.currentTs, feed) for key, feed in message.feeds.items()]
    return found


def _update(key: str, ts: int, feed: pb.Feed) -> Update:
    full = feed.fullFeed
    block: Any = feed if feed.HasField("ltpc") else full.indexFF if full.HasField("indexFF") else full.marketFF
    return key, ts, block.ltpc.ltp, getattr(block, "vtt", 0)


async def published(line: Pipeline) -> list[Update]:
    """Every update in the streams of ticks."""
    found: list[Update] = []
    for shard in range(line.settings.teji_shards):
        for batch in await batches(line, shard):
            key_of = {streams.instrument_id(key): key for key in batch.keys}
            columns = (batch.rec[name].tolist() for name in ("id", "ts", "ltp", "vtt"))
            found += [(key_of[i], ts, ltp, vtt) for i, ts, ltp, vtt in zip(*columns, strict=True)]
    return found


async def batches(line: Pipeline, shard: int = 0) -> list[ticks.TickBatch]:
    return [ticks.unpack(fields) for _, fields in await line.bus.redis.xrange(streams.ticks(shard))]


def by_instrument(updates: Iterable[Update]) -> dict[str, list[Update]]:
    found: dict[str, list[Update]] = {}
    for update in updates:
        found.setdefault(update[0], []).append(update)
    return found


async def all_published(line: Pipeline) -> bool:
    newest = max((frame.ts_ms for frame in line.market.sent), default=0)
    told = [batch.ts for shard in range(line.settings.teji_shards) for batch in await batches(line, shard)]
    return bool(told) and max(told) >= newest


def is_part(part: list[Update], whole: list[Update]) -> bool:
    """Whether of each instrument `part` is `whole` with some left out: nothing doubled or made up, the order kept."""
    rest = {key: iter(updates) for key, updates in by_instrument(whole).items()}
    return all(update in rest.get(update[0], iter(())) for update in part)  # `in` uses up what it passes over


def marks(found: list[ticks.TickBatch], feed: bytes = FeedMark.DOWN) -> list[ticks.TickBatch]:
    return [batch for batch in found if batch.feed == feed]


def bases(found: list[ticks.TickBatch]) -> int:
    return sum(int((batch.rec["flags"] & Block.BASE > 0).sum()) for batch in found)
