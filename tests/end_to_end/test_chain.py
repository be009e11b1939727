"""From the venue's socket to the option chain, over real sockets, against the venue's own chain at that minute."""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from aggregator.chain import ChainBuilder
from aggregator.chain_worker import day_before
from brokers.upstox.auth import TokenStore
from bus.inbox import order
from bus.settings import Calendar
from schemas import panel, streams
from schemas.chain import Chain, ChainOption
from schemas.terms import Terms
from sim import fair
from sim.exchange import Exchange
from tests.end_to_end.pipeline import MINUTE, Pipeline, final, pipeline, start_all
from tests.end_to_end.processes import processes
from tests.end_to_end.test_kill import kill, play, recorded

#: An update is stamped with the end of its interval: the last of a minute ends this much before the minute does.
CONFLATION_MS = 300
IV_SLACK = 0.002  # prices come in ticks of 0.05, and quotes follow what things are worth with a delay

Place = tuple[str, str, int]  # underlying, expiry, start of the minute


async def chains(line: Pipeline, shards: int) -> dict[Place, Chain]:
    """The highest revision of each."""
    best: dict[Place, Chain] = {}
    for shard in range(shards):
        for _, fields in await line.bus.redis.xrange(streams.chain(shard)):
            chain = Chain.model_validate_json(fields[b"data"])
            assert streams.shard_of(chain.underlying, shards) == shard
            where = (chain.underlying, chain.expiry.isoformat(), chain.ts)
            if where not in best or chain.rev > best[where].rev:
                best[where] = chain
    return best


def expiries(market: Exchange) -> set[tuple[str, str]]:
    """Underlying and expiry of everything that the venue lists."""
    options = (each for each in market.market.listing.instruments if each.is_option)
    return {(each.underlying_key or "", each.expiry.isoformat()) for each in options if each.expiry}


async def venues(line: Pipeline, ts: int) -> dict[Place, list[dict[str, Any]]]:
    """The venue's option chains now, as those of a minute."""
    token = TokenStore(line.settings).current()
    found = {}
    async with httpx.AsyncClient(base_url=line.market.url, headers={"Authorization": f"Bearer {token}"}) as client:
        for underlying, expiry in expiries(line.market):
            asked = {"instrument_key": underlying, "expiry_date": expiry}
            answer = await client.get("/v2/option/chain", params=asked)
            found[underlying, expiry, ts] = answer.json()["data"]
    return found


def true_vols(market: Exchange) -> dict[str, float]:
    """The volatility from which the venue makes each option's price."""
    now, columns = market.market, market.market.columns
    rows = np.flatnonzero(columns.option)
    years = fair.years_to(columns.end_ms[rows], float(now.now_ms))
    ahead = fair.forward(now.spots[columns.path[rows]], years)
    at_the_money = now.spots[-1] / 100.0 * columns.vol_scale[rows]
    vols = fair.volatility(ahead, columns.strike[rows], years, at_the_money)
    return {now.listing.instruments[row].key: float(vol) for row, vol in zip(rows, vols, strict=True)}


def shown(option: ChainOption) -> dict[str, Any]:
    return {"ltp": option.ltp, "volume": option.volume, "oi": option.oi, "bid_price": option.bid,
            "ask_price": option.ask}  # fmt: skip


def agree(bars: dict[tuple[str, int], dict[str, Any]], found: dict[Place, Chain]) -> int:
    """A bar and the chain of its minute have the same model, up to the chain's rounding. How many were compared."""
    count = 0
    for chain in found.values():
        for option in (option for row in chain.strikes for option in (row.call, row.put) if option):
            bar = bars.get((option.instrument, chain.ts))
            if bar is None or bar["model"]["flag"] == "unseen":
                continue
            count += 1
            ours = option.model.model_dump(exclude={"flag", "price_from"})
            assert bar["model"]["forward"] == pytest.approx(chain.forward, abs=1e-5)
            assert bar["model"]["price_from"] == option.model.price_from
            assert {name: bar["model"][name] for name in ours} == pytest.approx(ours, abs=1e-5)
    return count


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_chain_is_the_venues_own_at_that_minute(redis_url: str, tmp_path: Path, shards: int) -> None:
    sim = {"instruments": 80, "conflation_ms": CONFLATION_MS}
    more: dict[str, Any] = {"teji_shards": shards, "teji_instruments": ("demo",), "teji_rate": fair.RATE}
    async with pipeline(redis_url, tmp_path / "home", sim, **more) as line:
        start_all(line)
        await line.until(lambda: len(line.market.hub.connections) >= 1, "connected")
        await line.market.advance(1000)
        await line.until(line.ticking, "ticks arrive")
        told: dict[Place, list[dict[str, Any]]] = {}
        vols: dict[tuple[str, int], float] = {}
        for _ in range(3):
            await line.market.advance(MINUTE - line.market.now_ms() % MINUTE - CONFLATION_MS)
            ts = line.market.now_ms() // MINUTE * MINUTE
            told |= await venues(line, ts)
            vols |= {(key, ts): vol for key, vol in true_vols(line.market).items()}
            await line.market.advance(CONFLATION_MS + 3000)
        first = min(ts for _, _, ts in told)  # we connected within it
        wanted = {place for place in told if place[2] > first}

        async def all_left() -> bool:
            return wanted <= {place for place, chain in (await chains(line, shards)).items() if chain.complete}

        await line.until(all_left, "all chains, complete")
        ours = await chains(line, shards)
        bars = {where: bar for shard in range(shards) for where, bar in final(await line.bars(shard)).items()}

    errors = []
    for place in sorted(wanted):
        chain = ours[place]
        assert [row.strike for row in chain.strikes] == [row["strike_price"] for row in told[place]]
        for row, venue in zip(chain.strikes, told[place], strict=True):
            assert row.pcr == pytest.approx(venue["pcr"], abs=1e-4)
            for option, side in ((row.call, "call_options"), (row.put, "put_options")):
                assert option is not None
                assert option.instrument == venue[side]["instrument_key"]
                assert shown(option) == {name: venue[side]["market_data"][name] for name in shown(option)}
                assert option.model.flag == "ok"
                errors.append(abs((option.model.iv or 0) - vols[option.instrument, chain.ts]))
    if shards == 1:  # else a bar's forward comes from the strikes of its own shard
        assert agree(bars, ours) > len(errors) / 10
    assert len(errors) > 100
    assert np.quantile(errors, 0.5) < IV_SLACK / 10
    assert max(errors) < IV_SLACK


async def test_chains_survive_kills_of_the_aggregator_byte_for_byte(redis_url: str, tmp_path: Path) -> None:
    async with pipeline(redis_url, tmp_path / "home", teji_rate=fair.RATE) as line:
        entries = await recorded(line, minutes=4)
        await line.bus.redis.delete(streams.ticks(0))  # the terms stay
        env = {"REDIS_URL": redis_url, "TEJI_HOME": str(tmp_path / "home"), "TEJI_LEASE_S": "0.5"}
        env["TEJI_RATE"] = str(fair.RATE)
        last = int(entries[-1][b"ts"]) // MINUTE * MINUTE - MINUTE
        async with processes(env, tmp_path, "aggregator") as running:
            done = asyncio.Event()
            await asyncio.gather(play(line.bus, entries, done), kill(running["aggregator"], random.Random(3), done))

            async def published() -> bool:
                running["aggregator"].check()
                newest = await line.bus.last_entry(streams.chain(0))
                return newest is not None and int(newest[1][b"ts"]) >= last

            await line.until(published, "the last minute's chains")
        assert running["aggregator"].kills >= 3
        panels = await line.bus.redis.xrange(streams.panel(0))
        left = [fields[b"data"] for _, fields in await line.bus.redis.xrange(streams.chain(0))]
        terms = await line.bus.redis.hgetall(streams.terms(0))

    builder = ChainBuilder(1, fair.RATE, day_before(Calendar.EXCHANGE))
    expected = []
    for entry_id, fields in panels:
        one = panel.unpack(fields)
        builder.learn({key: Terms.model_validate_json(terms[key.encode()]) for key in builder.wanted(one)})
        expected += [made.data for made in builder.add(one, order(entry_id.decode())[0])]
    assert left == expected
    assert len(left) >= 3 * len(expiries(line.market))
