"""The pre-open match and the closing auction, as the feed shows them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from proto import feed_pb2 as pb
from sim.clock import ist
from sim.exchange import Exchange
from sim.hours import Hours
from sim.market import Market
from sim.status import market_info
from tests.sim.simtools import IST, MINUTE, NIFTY, RELIANCE, feed, served, settings, trader

FRIDAY = datetime(2026, 11, 20, tzinfo=IST)


def market(clock: str, **more: Any) -> Market:
    return Exchange(settings(start=f"2026-11-20T{clock}", **more)).market


def moments(found: Market, minutes: int) -> Iterator[str]:
    """The time after each interval."""
    for update in found.advance(found.now_ms + minutes * MINUTE):
        yield ist(update.ts).strftime("%H:%M:%S")


def at(clock: str) -> int:
    moment = datetime.strptime(clock, "%H:%M").replace(tzinfo=IST)
    return int((FRIDAY + timedelta(hours=moment.hour, minutes=moment.minute)).timestamp() * 1_000)


def test_the_pre_open_trades_once_and_makes_no_minute_candle() -> None:
    found = market("08:59")
    share = found.listing.row_of[RELIANCE]
    volumes: list[int] = []
    indicated: set[float] = set()
    for _ in moments(found, 15):
        if found.vtt[share] and not volumes:
            assert found.ltp[share] == found.day_open[share]
            assert ist(int(found.ltt[share])).strftime("%H:%M") == "09:10"
        volumes += [int(found.vtt[share])] if found.vtt[share] else []
        indicated.add(float(found.iep[share]))
    assert len(set(volumes)) == 1
    assert len(indicated) > 50
    assert found.iep[share] == 0, "nothing is indicative any more"
    assert found.today(share) == []


def test_only_shares_and_near_futures_join_the_pre_open() -> None:
    found = market("08:59")
    list(moments(found, 13))
    traded = [each for row, each in enumerate(found.listing.instruments) if found.vtt[row]]
    assert {each.instrument_type for each in traded} == {"EQ", "FUT"}
    futures = [each.expiry for each in traded if each.instrument_type == "FUT"]
    assert max(filter(None, futures)) == datetime(2026, 12, 29, tzinfo=IST).date(), "next month joins near an expiry"


def test_the_day_opens_at_the_price_of_the_match() -> None:
    found = market("09:09")
    share = found.listing.row_of[RELIANCE]
    list(moments(found, 7))
    first = found.today(share)[0]
    assert found.day_open[share] == pytest.approx(first[1], rel=0.002)
    assert ist(first[0]).strftime("%H:%M") == "09:15"


def test_the_closing_auction_collects_matches_and_rests() -> None:
    found = market("15:14")
    share = found.listing.row_of[RELIANCE]
    collecting: list[float] = []
    matched: list[str] = []
    for moment in moments(found, 25):
        if found.iep[share]:
            collecting.append(abs(found.iep[share] / found.rp[share] - 1))
            assert "15:20" <= moment[:5] <= "15:30"
        if found.vtt[share] and ist(int(found.ltt[share])).strftime("%H:%M") >= "15:30" and not matched:
            matched.append(moment)
    assert matched == ["15:30:01"] or matched[0].startswith("15:30")
    assert max(collecting) < 0.03 + 0.006
    assert found.ltp[share] == found.history.closes(found.columns, found.on)[share]
    assert len(found.today(share)) == 360


def test_a_start_after_the_auctions_knows_their_volume() -> None:
    live, late = market("15:29"), market("15:45")
    list(moments(live, 5))
    share = live.listing.row_of[RELIANCE]
    assert late.ltt[share] == live.ltt[share]
    assert late.ltp[share] == live.ltp[share]
    assert late.vtt[share] == pytest.approx(live.vtt[share], rel=0.01)
    assert late.day_open[share] == live.day_open[share]


def test_the_index_rests_while_its_shares_are_auctioned() -> None:
    found = market("15:16")
    index = found.listing.row_of[NIFTY]
    prices = {float(found.ltp[index]) for _ in moments(found, 3)}
    assert len(prices) == 1
    assert len(found.today(index)) == 364, "it is still published, a bar a minute"


async def test_indicative_prices_travel_in_their_own_fields() -> None:
    async with (
        served(start="2026-11-20T09:04") as exchange,
        trader(exchange) as client,
        feed(client) as opened,
    ):
        await opened.subscribe([RELIANCE])
        await exchange.advance(2_000)
        body = (await opened.next()).feeds[RELIANCE].fullFeed.marketFF
        assert body.ltpc.HasField("iep")
        assert body.ltpc.iep.value == body.iep > 0
        assert body.rp == body.ltpc.cp
        assert body.ieq > 0
        await exchange.advance(9 * MINUTE)
        frames = [pb.FeedResponse.FromString(sent.data) for sent in exchange.sent]
        last = [each.feeds[RELIANCE].fullFeed.marketFF for each in frames if RELIANCE in each.feeds][-1]
        assert not last.ltpc.HasField("iep")
        assert (last.iep, last.rp, last.ieq) == (0, 0, 0)
        assert last.vtt == last.ltpc.ltq > 0
        assert last.casEligible


@pytest.mark.parametrize(
    ("clock", "pre_open", "closing"),
    [
        ("08:30", None, None),
        ("09:02", "PRE_OPEN_START", None),
        ("09:06", "PRE_OPEN_M_END", None),
        ("09:11", "PRE_OPEN_END", None),
        ("12:00", "PRE_OPEN_END", None),
        ("15:16", "PRE_OPEN_END", "CTS_CLOSE"),
        ("15:22", "PRE_OPEN_END", "CAS_LM_START"),
        ("15:27", "PRE_OPEN_END", "CAS_M_STOP"),
        ("15:32", "PRE_OPEN_END", "CAS_STOP"),
    ],
)
def test_market_info_names_the_part_of_the_auction(clock: str, pre_open: str | None, closing: str | None) -> None:
    info = market_info(Hours(), at(clock))
    found = (info.preOpenSessionStatus.get("NSE_EQ"), info.casMarketStatus.get("NSE_EQ"))
    assert tuple(each.status if each else None for each in found) == (pre_open, closing)


def test_a_day_without_a_closing_auction_has_none() -> None:
    found = Exchange(settings(start="2026-07-15T15:29")).market
    assert {auction.phase for auction in found.auctions} == {"pre_open"}
    share = found.listing.row_of[RELIANCE]
    list(moments(found, 3))
    assert len(found.today(share)) == 375


def test_the_demo_has_no_auctions() -> None:
    assert market("09:05", always_open=True).auctions == []
