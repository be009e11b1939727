"""From the venue's socket to the bar, over real sockets, against what the venue itself says it sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from brokers.upstox.auth import TokenStore
from market.instruments import FUTURE, Instrument, last_trade_ms
from schemas import panel, streams
from schemas.terms import Terms
from tests.aggregator.reference import Reference, black
from tests.aggregator.test_own_greeks import expected, readable, same_model
from tests.end_to_end.pipeline import (
    MINUTE,
    Pipeline,
    final,
    pipeline,
    reference_bars,
    start_all,
    unrevised,
    updates,
)


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


# Panels and own Greeks


def terms_of(line: Pipeline) -> dict[str, dict[str, Any]]:
    """As the exchange lists them; what nothing is written on has none."""
    listed = line.market.market.listing.instruments
    written_on = {each.underlying_key for each in listed}
    return {each.key: _terms(each) for each in listed if each.is_derivative or each.key in written_on}


def _terms(listed: Instrument) -> dict[str, Any]:
    if not listed.is_derivative:
        return {"kind": "spot", "underlying": listed.key}
    about: dict[str, Any] = {"kind": "future" if listed.instrument_type == FUTURE else "option"}
    about |= {"underlying": listed.underlying_key, "expiry": listed.expiry, "last_trade_ms": last_trade_ms(listed)}
    return {**about, "strike": listed.strike, "is_call": listed.instrument_type == "CE" if listed.is_option else None}


class Panels(Reference):
    """Of a whole chain the reading knows the panels; what its parity is worth, it does not say."""

    def _price(self, _key: str, bar: dict[str, Any]) -> None:
        bar["model"] = None


async def panels(line: Pipeline, to: int) -> list[panel.Panel]:
    return [panel.unpack(fields) for _, fields in await line.bus.redis.xrange(streams.panel(to))]


def whole(found: list[panel.Panel], first: int, last: int) -> Iterator[dict[str, Any]]:
    """The minutes put together from what the shards have told, as the independent reading has them."""
    for ts in range(first, last + 1, MINUTE):
        told: dict[str, Any] = {"ts": ts}
        for each in found:
            told |= readable(each) if each.ts == ts else {}
        yield told


@pytest.mark.parametrize("shards", [1, 3])
async def test_panels_and_own_greeks_equal_an_independent_reading(redis_url: str, tmp_path: Path, shards: int) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_shards=shards) as line:
        start_all(line)
        await line.until(lambda: line.market.hub.connections, "connected")
        await line.market.advance(1000)
        await line.until(line.ticking, "ticks arrive")
        first = line.market.now_ms() // MINUTE * MINUTE + MINUTE
        for _ in range(30):
            await line.market.advance(10_000)
        last = (line.market.now_ms() - 2000) // MINUTE * MINUTE - MINUTE

        async def told() -> bool:
            by = [{each.shard for each in await panels(line, to) if each.ts == last} for to in range(shards)]
            return all(each == set(range(shards)) for each in by)

        await line.until(told, "the last minute's panel is there from every shard to every shard")
        terms = terms_of(line)
        reference = Panels(terms=terms, rate=line.settings.teji_rate)
        for each in updates(line.market.sent):
            reference.update(each)
        found = [each for to in range(shards) for each in await panels(line, to)]
        theirs = [expected(each) for each in reference.panels if first <= each["ts"] <= last]
        assert [*whole(found, first, last)] == theirs
        assert {streams.shard_of(terms[key]["underlying"], shards) for key in found[0].keys} <= {0}

        stored = [await line.bus.redis.hgetall(streams.terms(shard)) for shard in range(shards)]
        assert {key.decode() for each in stored for key in each} == terms.keys()
        for body in (body for each in stored for body in each.values()):
            assert Terms.model_validate_json(body)
        bars = [bar for shard in range(shards) for bar in await line.bars(shard) if first <= bar["ts"] <= last]
        await check_models(bars, terms, reference)


async def check_models(bars: list[dict[str, Any]], terms: dict[str, Any], reference: Reference) -> None:
    """IV and Greeks follow from price and forward; price from the panel; and the venue is not far away."""
    seen = {(key, each["ts"]): state for each in reference.panels for key, state in each.items() if key != "ts"}
    distances, sources = [], set()
    for bar in bars:
        about, model = terms.get(bar["instrument"], {}), bar["model"]
        assert (model is not None) is (about.get("kind") == "option")
        if model is None or not bar["complete"]:
            continue
        state = seen[bar["instrument"], bar["ts"]]
        if model["price_from"] == "mid":
            assert model["price"] == pytest.approx((state["bid"] + state["ask"]) / 2, abs=1e-5)
        else:
            assert model["price"] == bar["close"]
        assert same_model(model, {**model, **black(model, about, bar["ts"] + MINUTE, reference.rate)})
        sources.add(model["forward_from"])
        if model["flag"] == "ok" and bar["iv"]:
            distances.append(abs(model["iv"] - bar["iv"]))
    assert len(distances) > 50
    assert sources >= {"future", "parity"}
    assert sorted(distances)[len(distances) // 2] < 0.02  # the venue's own is of a moment within the minute
