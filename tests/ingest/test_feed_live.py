"""The feed on bad days: what breaks it, what it says of that, and how it comes back."""

import asyncio
import contextlib
import math
import socket
from pathlib import Path
from typing import Any

import pytest

import ingest.catalogue
import ingest.connection
import ingest.worker
from brokers.upstox.auth import TokenStore
from bus.connection import Bus
from schemas.commands import FeedConnect, FeedDisconnect, FeedSubscribe, FeedUnsubscribe, Mode
from sim.exchange import Exchange
from sim.faults import FaultRequest
from tests.end_to_end.pipeline import Pipeline, exchange, log_in, pipeline, settings_for
from tests.ingest import live
from tests.sim.simtools import feed as feed_client
from tests.sim.simtools import trader


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits than a venue would like."""
    monkeypatch.setattr(ingest.connection, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(ingest.connection, "_REFUSED_S", 0.1)
    monkeypatch.setattr(ingest.connection, "_LOGIN_POLL_S", 0.05)
    monkeypatch.setattr(ingest.connection, "_WATCH_S", 0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keys_of(market: Exchange) -> set[str]:
    return {each.key for each in market.market.listing.instruments}


def numbers(line: Pipeline) -> set[int]:
    return set(line.market.hub.connections)


async def live_again(line: Pipeline, before: set[int], after: int) -> None:
    """Another connection carries everything, and the feed says so."""
    await line.until(lambda: numbers(line) and not numbers(line) & before, "another connection")
    await line.until(lambda: live.subscribed(line.market).keys() == keys_of(line.market), "everything is subscribed")
    await line.until(lambda: live.said(line, "live", after=after), "said that it is live")


# Closed


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"drop": 1000}, "(1000): dropped on demand"),
        ({"drop": 1011}, "(1011): dropped on demand"),
        ({"drop": 4001}, "(4001): dropped on demand"),
        ({"abort": True}, "the connection broke"),
    ],
)
async def test_a_feed_that_ends_is_opened_again_says_why_and_starts_every_instrument_anew(
    redis_url: str, tmp_path: Path, fault: dict[str, Any], cause: str
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        await live.start(line)
        await live.run_market(line, 3000)
        await line.until(lambda: live.all_published(line), "all of it is published")
        before, told = numbers(line), len(await live.states(line))
        line.market.order_fault(FaultRequest(**fault))
        await live_again(line, before, told)
        assert await live.said(line, "connecting", cause, after=told)
        await live.run_market(line, 3000)
        await line.until(lambda: live.all_published(line), "all of it is published")

        found = await live.batches(line)
        (down,) = live.marks(found)
        at = found.index(down)
        assert set(down.keys) == keys_of(line.market)
        assert down.ts == max(batch.ts for batch in found[:at] if len(batch.rec))
        assert live.bases(found[:at]) == live.bases(found[at:]) == len(keys_of(line.market))
        assert live.by_instrument(await live.published(line)) == live.by_instrument(live.sent(line.market))


async def test_a_venue_that_is_started_again_is_found_again(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    async with contextlib.AsyncExitStack() as first_life:
        market = await first_life.enter_async_context(exchange(port=port))
        settings = settings_for(market, redis_url, tmp_path / "home")
        await log_in(settings)
        async with Bus.open(redis_url) as bus:
            line = Pipeline(market, settings, bus)
            await live.start(line)
            await first_life.aclose()
            await line.until(lambda: live.said(line, "connecting", "does not answer"), "said that nobody answers")
            async with exchange(port=port) as again:
                line.market = again
                await line.until(lambda: live.subscribed(again).keys() == keys_of(again), "everything is subscribed")
                await line.until(lambda: live.feed_is(line, "live"), "live again")
                await line.stop("ingest")


# Refused


async def test_a_dead_token_is_a_state_and_a_login_ends_it_without_a_restart(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        await live.start(line)
        token = TokenStore(line.settings).current()
        assert token is not None
        before, told = numbers(line), len(await live.states(line))
        line.market.auth.log_out(token)
        line.market.order_fault(FaultRequest(drop=1000))
        await line.until(lambda: live.feed_is(line, "needs_login", "UDAPI100050"), "needs a login")
        asked = len(line.market.hub.connections)
        for _ in range(10):
            await asyncio.sleep(0.02)
        assert asked == len(line.market.hub.connections) == 0

        await log_in(line.settings)
        await live_again(line, before, told)


async def test_a_dead_token_of_the_environment_gives_way_to_a_login(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", upstox_access_token="eyJ.of.yesterday") as line:
        (line.settings.home / "secrets" / "upstox.token").unlink()
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.feed_is(line, "needs_login"), "needs a login")
        await log_in(line.settings)
        await line.until(lambda: live.feed_is(line, "live"), "live")


async def test_without_a_token_it_waits_for_a_login(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        (line.settings.home / "secrets" / "upstox.token").unlink()
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.feed_is(line, "needs_login", "no access token"), "needs a login")
        await log_in(line.settings)
        await line.until(lambda: live.feed_is(line, "live"), "live")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"refuse_authorize": 403}, "403"),
        ({"refuse_authorize": 403, "html": True}, "blocked at the edge"),
        ({"refuse_authorize": 429}, "too many calls"),
        ({"refuse_authorize": 400}, "UDAPI"),
        ({"refuse_authorize": 503}, "503"),
        ({"refuse_connect": 403}, "refuses the connection (403)"),
        ({"refuse_connect": 503}, "handshake failed (503)"),
    ],
)
async def test_a_burst_of_refusals_is_outlasted(
    redis_url: str, tmp_path: Path, fault: dict[str, Any], reason: str
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        await live.start(line)
        before, told = numbers(line), len(await live.states(line))
        line.market.order_fault(FaultRequest(**fault, times=3, drop=1000))
        await live_again(line, before, told)
        assert await live.said(line, "connecting", reason, after=told)
        assert not any(line.market.faults.refusals.values())


async def test_over_the_venues_limit_of_connections_it_waits_for_a_free_one(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", {"connection_limit": 1}) as line:
        async with trader(line.market) as client, feed_client(client):
            line.start("ingest", ingest.worker.run)
            await line.until(lambda: live.feed_is(line, "connecting", "(403)"), "refused")
        await line.until(lambda: live.feed_is(line, "live"), "live when the other has gone")


async def test_no_secret_gets_into_a_log_or_into_redis(
    redis_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        await live.start(line)
        secrets = {str(TokenStore(line.settings).current()), "sim-secret", *vars(line.market.auth)["_feed_codes"]}
        for fault in ({"refuse_authorize": 403}, {"refuse_connect": 403}, {"refuse_connect": 500}, {"drop": 4001}):
            before, told = numbers(line), len(await live.states(line))
            line.market.order_fault(FaultRequest(**{"drop": 1011, **fault}))
            await live_again(line, before, told)
        line.market.auth.log_out(str(TokenStore(line.settings).current()))
        line.market.order_fault(FaultRequest(abort=True))
        await line.until(lambda: live.feed_is(line, "needs_login"), "needs a login")
        told_in_redis = repr([await line.bus.redis.xrange("events"), await line.bus.redis.get("state:ingest:{0}")])
    logged = "".join(capfd.readouterr())
    assert "needs a login" in logged
    assert not any(secret in told for secret in secrets for told in (logged, told_in_redis))


# Silent


async def test_a_mute_feed_is_stale_and_then_opened_again(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_feed_stale_s=0.4) as line:
        await live.start(line)
        before, told = numbers(line), len(await live.states(line))
        line.market.order_fault(FaultRequest(mute=True))
        await line.until(lambda: live.said(line, "stale", "in an open market", after=told), "stale")
        await line.until(lambda: not numbers(line) & before, "hung up")
        line.market.order_fault(FaultRequest(mute=False))
        await live_again(line, before, told)
        assert live.marks(await live.batches(line))


async def test_a_feed_that_is_quiet_by_nature_is_left_alone_longer_and_longer(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_feed_stale_s=0.1) as line:
        line.start("ingest", ingest.worker.run)  # the clock stands still: after a snapshot nothing comes
        loop = asyncio.get_running_loop()
        opened: dict[int, float] = {}
        lives: list[float] = []
        async with asyncio.timeout(20):
            while len(lives) < 4:
                await asyncio.sleep(0.005)
                for number in numbers(line) - opened.keys():
                    opened[number] = loop.time()
                lives += [loop.time() - opened.pop(number) for number in opened.keys() - numbers(line)]
        assert lives[3] > 1.5 * lives[2] > 2 * lives[1] > 2.5 * lives[0]


async def test_outside_the_session_silence_is_no_fault(redis_url: str, tmp_path: Path) -> None:
    night = {"start": "2026-11-18T20:00:00"}
    async with pipeline(redis_url, tmp_path / "home", night, teji_feed_stale_s=0.05) as line:
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.feed_is(line, "live"), "live")
        before = numbers(line)
        for _ in range(20):
            await asyncio.sleep(0.02)
        assert numbers(line) == before
        assert not await live.said(line, "stale")


async def test_a_line_that_is_half_open_is_ended_by_the_missing_pong(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_feed_ping_s=0.2) as line:
        await live.start(line)
        before, told = numbers(line), len(await live.states(line))
        line.market.order_fault(FaultRequest(freeze=True))
        await line.until(lambda: live.said(line, "connecting", "does not answer pings", after=told), "noticed")
        line.market.order_fault(FaultRequest(freeze=False))
        await live_again(line, before, told)


# What is wanted


async def test_subscriptions_are_changed_while_connected_and_replayed_after_a_break(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="NIFTY,RELIANCE") as line:
        await live.start(line)
        at_first = live.subscribed(line.market)
        shares = [key for key in keys_of(line.market) if key.startswith("NSE_EQ|")]
        share, *others = sorted(set(shares) - at_first.keys())
        gone = sorted(at_first)[0]
        connection = numbers(line)
        reply = await live.command(line, FeedSubscribe(instruments=[share, others[0]], mode=Mode.LTPC))
        assert reply["subscribed"] == [share, others[0]]
        reply = await live.command(line, FeedUnsubscribe(instruments=[gone, "NSE_EQ|not subscribed"]))
        assert reply["unsubscribed"] == [gone]
        wanted = {key: mode for key, mode in at_first.items() if key != gone} | {share: "ltpc", others[0]: "ltpc"}
        await line.until(lambda: live.subscribed(line.market) == wanted, "the venue has it")
        assert numbers(line) == connection

        line.market.order_fault(FaultRequest(abort=True))
        await line.until(lambda: not numbers(line) & connection, "broken")
        reply = await live.command(line, FeedSubscribe(instruments=[share], mode=Mode.FULL))
        wanted[share] = "full"
        await line.until(lambda: live.subscribed(line.market) == wanted, "everything is replayed")


async def test_what_a_narrower_mode_does_not_carry_is_not_carried_forward(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE") as line:
        await live.start(line)
        (key,) = live.subscribed(line.market)
        await live.command(line, FeedSubscribe(instruments=[key], mode=Mode.LTPC))
        await line.until(lambda: live.subscribed(line.market) == {key: "ltpc"}, "the venue has it")

        async def last_bid() -> float:
            await line.market.advance(300)
            found = [batch for batch in await live.batches(line) if len(batch.rec)]
            assert found[0].rec["bid"][-1] > 0
            return float(found[-1].rec["bid"][-1])

        async def unknown() -> bool:
            return math.isnan(await last_bid())

        await line.until(unknown, "nobody knows the bid")


async def test_instruments_that_nobody_knows_are_refused_in_the_reply(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE") as line:
        await live.start(line)
        reply = await live.command(line, FeedSubscribe(instruments=["NSE_EQ|INE000000000"]))
        assert (reply["ok"], "INE000000000" in reply["message"]) == (False, True)


async def test_a_command_that_cannot_be_read_is_set_aside_and_the_next_one_is_obeyed(
    redis_url: str, tmp_path: Path
) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE") as line:
        await live.start(line)
        bad = [b'{"instruments": 5}', b"[1]", b"\xff{", b'"x"', b""]
        for number, data in enumerate(bad):
            await line.bus.redis.xadd("commands", {"id": f"bad-{number}", "kind": "feed.subscribe", "data": data})
        await line.bus.redis.xadd("commands", {"id": "x", "kind": b"\xff"})
        await line.bus.redis.xadd("commands", {"id": "x", "kind": "gtt.place", "data": "{}"})
        assert (await live.command(line, FeedDisconnect()))["ok"] is True
        assert await line.bus.redis.xlen("dead:commands") == len(bad)
        replies = [event["data"] for event in await live.events(line, "reply")]
        assert [each["ok"] for each in replies] == [False] * len(bad) + [True]


async def test_a_feed_is_switched_off_and_on_by_command_however_quickly(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home") as line:
        await live.start(line)
        await live.command(line, FeedDisconnect())
        await line.until(lambda: not numbers(line), "hung up")
        await line.until(lambda: live.feed_is(line, "closed", "switched off"), "said so")
        for _ in range(3):
            await live.command(line, FeedConnect())
            await live.command(line, FeedDisconnect())
        reply = await live.command(line, FeedConnect())
        assert reply["instruments"] == len(keys_of(line.market))
        await line.until(lambda: live.subscribed(line.market).keys() == keys_of(line.market), "everything again")
        await line.until(lambda: live.feed_is(line, "live"), "live")
        assert len(numbers(line)) == 1


async def test_what_was_wished_outlives_a_restart_and_new_settings_begin_anew(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_instruments="RELIANCE") as line:
        await live.start(line)
        (reliance,) = live.subscribed(line.market)
        share = next(key for key in keys_of(line.market) if key.startswith("NSE_EQ|") and key != reliance)
        await live.command(line, FeedSubscribe(instruments=[share], mode=Mode.LTPC))
        await line.stop("ingest")
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.subscribed(line.market) == {reliance: "full", share: "ltpc"}, "as before")
        await line.stop("ingest")
        line.settings = line.settings.model_copy(update={"teji_feed_mode": Mode.OPTION_GREEKS})
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.subscribed(line.market) == {reliance: "option_greeks"}, "as the settings say")


# The instruments of the day


async def test_without_an_instrument_file_it_says_so_waits_and_begins_when_there_is_one(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.catalogue, "_RETRY_S", 0.05)
    port = free_port()
    async with pipeline(redis_url, tmp_path / "home") as line:
        line.settings = line.settings.model_copy(update={"upstox_assets_url": f"http://127.0.0.1:{port}"})
        line.start("ingest", ingest.worker.run)
        await line.until(lambda: live.feed_is(line, "connecting", "waiting for the instrument file"), "said so")
        assert not numbers(line)
        reply = asyncio.create_task(live.command(line, FeedConnect()))  # waits its turn
        async with exchange(port=port):
            await line.until(lambda: live.feed_is(line, "live"), "live")
            assert (await reply)["ok"] is True


async def test_in_the_morning_what_has_expired_goes_and_what_is_newly_listed_comes(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.catalogue, "_LOOK_S", 0.05)
    evening = {"start": "2026-11-17T23:59:58"}  # of a Tuesday, on which contracts expire
    async with pipeline(redis_url, tmp_path / "home", evening) as line:
        line.start("ingest", ingest.worker.run)
        before = keys_of(line.market)
        await line.until(lambda: live.subscribed(line.market).keys() == before, "those of the day")
        await live.command(line, FeedSubscribe(instruments=sorted(before)[:1], mode=Mode.LTPC))
        await line.market.advance(7 * 3_600_000 + 3000)
        after = keys_of(line.market)
        assert before - after
        assert after - before
        await line.until(lambda: live.feed_is(line, "needs_login"), "the token died in the night")
        await log_in(line.settings)
        await line.until(lambda: live.subscribed(line.market).keys() == after, "those of the next day")
