"""Several connections: instruments spread over them, moved from a dead one, missing ones found and named."""

from pathlib import Path
from typing import Any

import orjson
import pytest

import brokers.upstox.limits
import ingest.connection
import ingest.worker
from bus import metrics
from schemas import streams
from schemas.commands import FeedSubscribe, Mode
from sim.exchange import Exchange
from sim.faults import FaultRequest
from sim.settings import Caps
from tests.end_to_end.pipeline import Pipeline, pipeline
from tests.ingest import live

QUICK: dict[str, Any] = {"teji_feed_move_s": 0.3, "teji_feed_unseen_s": 0.3, "teji_feed_stale_s": 5.0}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits than a venue would like, and connections that carry little."""
    monkeypatch.setattr(ingest.connection, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(ingest.connection, "_REFUSED_S", 0.05)
    monkeypatch.setattr(ingest.connection, "_WATCH_S", 0.05)
    for caps in (brokers.upstox.limits.ALONE, brokers.upstox.limits.COMBINED):
        monkeypatch.setitem(caps, Mode.FULL, 40)


def keys_of(market: Exchange) -> set[str]:
    return {each.key for each in market.market.listing.instruments}


def carried(line: Pipeline) -> list[int]:
    return sorted(len(each.subscriptions.modes) for each in line.market.hub.connections.values())


async def status(line: Pipeline) -> dict[str, Any]:
    told = await live.events(line, "feed")
    return dict(told[-1]["data"]) if told else {}


async def missing(line: Pipeline) -> dict[str, list[str]]:
    fields = await line.bus.redis.hgetall(streams.missing(0))
    return {name.decode(): orjson.loads(value) for name, value in fields.items()}


async def test_a_dead_connections_instruments_move_and_the_rest_comes_back_when_it_lives(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", **QUICK) as line:
        await live.start(line)
        await line.until(lambda: carried(line) == [20, 40], "spread over two connections")
        (few,) = (n for n, each in line.market.hub.connections.items() if len(each.subscriptions.modes) == 20)
        (many,) = (n for n, each in line.market.hub.connections.items() if len(each.subscriptions.modes) == 40)
        kept = dict(line.market.hub.connections[few].subscriptions.modes)
        moved = metrics.FEED_MOVED._value.get()
        line.market.order_fault(FaultRequest(connections=1, abort=True, only=many))

        async def handed_over() -> bool:
            told = await status(line)
            return bool(carried(line) == [40] and told["no_room"]["count"] == 20 and told["state"] == "live")

        await line.until(handed_over, "the other one carries what it can")
        assert kept.items() <= line.market.hub.connections[few].subscriptions.modes.items()
        assert metrics.FEED_MOVED._value.get() - moved == 20
        told = await status(line)
        assert "no room for 20 instruments: " in told["reason"]
        assert len(told["no_room"]["first"]) == 10
        states = {each["number"]: (each["state"], each["instruments"]) for each in told["sockets"]}
        assert sorted(states.values()) == [("connecting", 0), ("live", 40)]
        assert [metrics.FEED_CONNECTIONS.labels(state)._value.get() for state in ("live", "connecting")] == [1, 1]
        counted = {what: metrics.FEED_INSTRUMENTS.labels(what)._value.get() for what in ("desired", "no_room")}
        assert counted == {"desired": 60, "no_room": 20}
        await line.until(lambda: missing_is(line, "no_room", 20), "the whole list is written down")

        there = dict(line.market.hub.connections[few].subscriptions.modes)
        line.market.order_fault(FaultRequest(connections=0))
        await line.until(lambda: carried(line) == [20, 40], "both are used again")
        await line.until(lambda: missing_is(line, "no_room", 0), "nothing is without room")
        assert line.market.hub.connections[few].subscriptions.modes == there
        assert live.subscribed(line.market).keys() == keys_of(line.market)


async def missing_is(line: Pipeline, what: str, count: int) -> bool:
    return len((await missing(line)).get(what, ["?"])) == count


async def test_an_idle_connection_stands_in_for_one_that_does_not_come_back(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE,NIFTY", **QUICK) as line:
        await live.start(line)
        wanted = live.subscribed(line.market)
        (first,) = line.market.hub.connections
        line.market.order_fault(FaultRequest(mute=True, only=first))
        line.market.order_fault(FaultRequest(refuse_connect=403, times=0, drop=1011))

        async def both_tried() -> bool:
            return len((await status(line)).get("sockets", ())) == 2

        await line.until(both_tried, "the second one is tried too")
        line.market.order_fault(FaultRequest(refuse_connect=0))
        await line.until(lambda: live.subscribed(line.market) == wanted, "one of them carries it")
        await line.until(lambda: live.feed_is(line, "live"), "live")
        await line.until(lambda: len(line.market.hub.connections) == 1, "the other one has gone")


async def test_what_the_venue_passes_over_is_asked_for_again_once_and_then_named(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", **QUICK) as line:
        forgotten, ignored = sorted(keys_of(line.market))[:2]
        line.market.order_fault(FaultRequest(ignore=(forgotten, ignored)))
        await live.start(line)
        line.market.order_fault(FaultRequest(ignore=(ignored,)))
        again = metrics.FEED_ASKED_AGAIN._value.get()
        await line.until(lambda: missing_is(line, "never_seen", 1), "named")
        assert (await missing(line))["never_seen"] == [ignored]
        assert forgotten in live.subscribed(line.market)
        assert metrics.FEED_ASKED_AGAIN._value.get() - again == 2
        await line.until(lambda: live.feed_is(line, "live", f"the venue never sent {ignored}"), "said")

        line.market.order_fault(FaultRequest(ignore=(), abort=True))
        await line.until(lambda: missing_is(line, "never_seen", 0), "it came with the next connection")
        await line.until(lambda: live.subscribed(line.market).keys() == keys_of(line.market), "all of it")
        await line.until(lambda: reason_is(line, ""), "nothing to complain of")


async def reason_is(line: Pipeline, reason: str) -> bool:
    return bool((await status(line))["reason"] == reason)


async def test_thirty_levels_are_refused_without_the_plus_plan_and_carried_with_it(
    redis_url: str, tmp_path: Path
) -> None:
    plus = {"plus_plan": True, "caps": Caps(scope="user")}
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE") as line:
        await live.start(line)
        (key,) = live.subscribed(line.market)
        asked = FeedSubscribe(instruments=[key], mode=Mode.FULL_D30)
        reply = await live.command(line, asked)
        assert (reply["ok"], "TEJI_FEED_PLAN=plus" in reply["message"]) == (False, True)
        assert live.subscribed(line.market) == {key: "full"}
        await line.stop("ingest")
    (tmp_path / "plus").mkdir()
    await line_with_plus(redis_url, tmp_path / "plus", plus, key)


async def line_with_plus(redis_url: str, home: Path, sim: dict[str, Any], key: str) -> None:
    async with pipeline(redis_url, home, sim, teji_instruments="RELIANCE", teji_feed_plan="plus") as line:
        await live.start(line)
        assert (await live.command(line, FeedSubscribe(instruments=[key], mode=Mode.FULL_D30)))["ok"] is True
        await line.until(lambda: live.subscribed(line.market) == {key: "full_d30"}, "the venue has it")
