"""Quotes, candles, options and reference data over HTTP."""

import gzip
import itertools
import json
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from market import sessions
from sim.exchange import Exchange
from sim.settings import RateLimits
from tests.sim.simtools import MINUTE, NIFTY, RELIANCE, VIX, keys_of, served, trader, visitor

HISTORY = "/v3/historical-candle"


def key_of(exchange: Exchange, kind: str, underlying: str | None = None) -> str:
    instruments = exchange.market.listing.instruments
    return next(
        each.key
        for each in instruments
        if each.instrument_type == kind and (underlying is None or each.underlying_key == underlying)
    )


def error(reply: httpx.Response) -> tuple[int, str]:
    body = reply.json()
    assert body["status"] == "error"
    entry = body["errors"][0]
    assert entry["errorCode"] == entry["error_code"]
    assert entry["propertyPath"] == entry["property_path"]
    return reply.status_code, entry["error_code"]


async def data(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    reply = await client.get(path, params=query)
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "success"
    return reply.json()["data"]


async def candles(client: httpx.AsyncClient, key: str, *path: str) -> list[list[Any]]:
    found: list[list[Any]] = (await data(client, "/".join([HISTORY, *path]).replace("KEY", quote(key, safe=""))))[
        "candles"
    ]
    return found


# --- quotes ----------------------------------------------------------------------------------------------------------


async def test_quotes_are_keyed_by_segment_and_symbol() -> None:
    async with served() as exchange, trader(exchange) as client:
        option = key_of(exchange, "CE")
        found = await data(client, "/v3/market-quote/ltp", instrument_key=f"{NIFTY},{RELIANCE},{option},NSE_EQ|NOBODY")
        assert {"NSE_INDEX:Nifty 50", "NSE_EQ:RELIANCE"} < found.keys()
        assert {each["instrument_token"] for each in found.values()} == {NIFTY, RELIANCE, option}
        assert found["NSE_EQ:RELIANCE"].keys() == {"last_price", "instrument_token", "ltq", "volume", "cp"}
        row = exchange.market.listing.row_of[RELIANCE]
        assert found["NSE_EQ:RELIANCE"]["last_price"] == exchange.market.ltp[row]
        assert found["NSE_EQ:RELIANCE"]["volume"] == exchange.market.vtt[row]


@pytest.mark.parametrize("interval", ["1d", "I1", "I30"])
async def test_ohlc_has_the_candle_of_the_moment_and_the_one_before(interval: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        await exchange.advance(3 * MINUTE + 20_000)
        found = await data(client, "/v3/market-quote/ohlc", instrument_key=RELIANCE, interval=interval)
        live, before = found["NSE_EQ:RELIANCE"]["live_ohlc"], found["NSE_EQ:RELIANCE"]["prev_ohlc"]
        assert live["low"] <= live["open"] <= live["high"]
        assert live["close"] == found["NSE_EQ:RELIANCE"]["last_price"]
        assert before["ts"] < live["ts"] <= exchange.now_ms()


async def test_the_candle_before_today_closed_at_the_last_close() -> None:
    async with served() as exchange, trader(exchange) as client:
        ohlc = await data(client, "/v3/market-quote/ohlc", instrument_key=RELIANCE, interval="1d")
        ltp = await data(client, "/v3/market-quote/ltp", instrument_key=RELIANCE)
        assert ohlc["NSE_EQ:RELIANCE"]["prev_ohlc"]["close"] == ltp["NSE_EQ:RELIANCE"]["cp"]


async def test_option_greeks_are_fractions() -> None:
    async with served() as exchange, trader(exchange) as client:
        found = await data(client, "/v3/market-quote/option-greek", instrument_key=key_of(exchange, "CE"))
        (option,) = found.values()
        assert {"iv", "delta", "gamma", "theta", "vega", "oi", "last_price", "cp"} <= option.keys()
        assert 0.04 < option["iv"] < 0.8
        assert 0 < option["delta"] < 1


@pytest.mark.parametrize("path", ["/v2/market-quote/quotes", "/v3/market-quote/quotes"])
async def test_the_full_quote_has_depth_and_limits(path: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        found = (await data(client, path, instrument_key=f"{RELIANCE},{NIFTY}"))["NSE_EQ:RELIANCE"]
        assert len(found["depth"]["buy"]) == len(found["depth"]["sell"]) == 5
        assert found["depth"]["buy"][0]["price"] < found["depth"]["sell"][0]["price"]
        assert found["lower_circuit_limit"] < found["last_price"] < found["upper_circuit_limit"]
        assert found["depth"]["buy"][0]["orders"] >= 1
        assert datetime.fromisoformat(found["timestamp"]).timestamp() * 1_000 == exchange.now_ms()
        assert ("cas_eligible" in found) is path.startswith("/v3")


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/v3/market-quote/ltp", {}, "UDAPI1026"),
        ("/v3/market-quote/ltp", {"instrument_key": "RELIANCE"}, "UDAPI100011"),
        ("/v3/market-quote/ltp", {"instrument_key": ",".join(f"NSE_EQ|{n}" for n in range(501))}, "UDAPI100036"),
        (
            "/v3/market-quote/option-greek",
            {"instrument_key": ",".join(f"NSE_FO|{n}" for n in range(51))},
            "UDAPI100076",
        ),
        ("/v3/market-quote/ohlc", {"instrument_key": RELIANCE, "interval": "5d"}, "UDAPI1147"),
    ],
)
async def test_a_wrong_quote_request_is_refused(path: str, query: dict[str, str], code: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        assert error(await client.get(path, params=query)) == (400, code)


# --- candles ---------------------------------------------------------------------------------------------------------


async def test_intraday_candles_come_newest_first_and_reach_back_to_the_open() -> None:
    async with served() as exchange, visitor(exchange) as client:  # no login needed
        await exchange.advance(MINUTE + 30_000)
        rows = await candles(client, RELIANCE, "intraday", "KEY", "minutes", "1")
        assert rows[0][0] == "2026-11-20T10:31:00+05:30"
        assert rows[-1][0] == "2026-11-20T09:15:00+05:30"
        assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
        assert all(row[3] <= min(row[1], row[4]) <= max(row[1], row[4]) <= row[2] for row in rows)


async def test_the_live_market_goes_on_from_the_candles_before_the_start() -> None:
    async with served() as exchange, visitor(exchange) as client:
        await exchange.advance(3 * MINUTE)
        rows = {row[0][11:16]: row for row in await candles(client, NIFTY, "intraday", "KEY", "minutes", "1")}
        assert rows["10:30"][1] == pytest.approx(rows["10:29"][4], rel=0.001)


@pytest.mark.parametrize(
    ("unit", "count", "first"), [("minutes", "5", "10:25"), ("minutes", "15", "10:15"), ("hours", "1", "10:15")]
)
async def test_wider_candles_are_sums_of_narrow_ones_from_the_open_on(unit: str, count: str, first: str) -> None:
    async with served() as exchange, visitor(exchange) as client:
        narrow = await candles(client, RELIANCE, "intraday", "KEY", "minutes", "1")
        wide = await candles(client, RELIANCE, "intraday", "KEY", unit, count)
        assert wide[0][0][11:16] == first
        covered = [row for row in narrow if row[0] >= wide[0][0]]
        assert wide[0][2] == max(row[2] for row in covered)
        assert wide[0][3] == min(row[3] for row in covered)
        assert (wide[0][1], wide[0][4]) == (covered[-1][1], covered[0][4])
        assert wide[0][5] == sum(row[5] for row in covered)
        assert sum(row[5] for row in wide) == sum(row[5] for row in narrow)


async def test_history_leaves_out_today_and_days_without_trading() -> None:
    async with served() as exchange, visitor(exchange) as client:
        rows = await candles(client, RELIANCE, "KEY", "days", "1", "2026-11-20", "2026-11-05")
        found = [date.fromisoformat(row[0][:10]) for row in rows]
        assert found[0] == date(2026, 11, 19)
        assert date(2026, 11, 10) not in found, "a holiday"
        assert all(sessions.is_trading_day("NSE_EQ", on) for on in found)
        assert all(row[0].endswith("T00:00:00+05:30") for row in rows)


@pytest.mark.parametrize(("key", "count"), [(RELIANCE, 360), (NIFTY, 375)])
async def test_a_day_has_the_minutes_of_its_session(key: str, count: int) -> None:
    """A share of the closing auction stops at 15:15; an index is computed until 15:30."""
    async with served() as exchange, visitor(exchange) as client:
        assert len(await candles(client, key, "KEY", "minutes", "1", "2026-11-19", "2026-11-19")) == count


async def test_a_candle_asked_for_twice_is_the_same() -> None:
    path = ("KEY", "minutes", "1", "2026-11-19", "2026-11-16")
    async with served() as exchange, visitor(exchange) as client:
        first = await candles(client, RELIANCE, *path)
    async with served(start="2026-11-20T14:00") as exchange, visitor(exchange) as client:
        assert await candles(client, RELIANCE, *path) == first


async def test_days_follow_each_other_without_a_jump() -> None:
    async with served() as exchange, visitor(exchange) as client:
        rows = (await candles(client, RELIANCE, "KEY", "days", "1", "2026-11-19", "2026-08-20"))[::-1]
        assert len(rows) > 50
        for before, after in itertools.pairwise(rows):
            assert after[1] == pytest.approx(before[4], rel=0.05)


async def test_weeks_and_months_are_made_of_days() -> None:
    async with served() as exchange, visitor(exchange) as client:
        days = await candles(client, NIFTY, "KEY", "days", "1", "2026-11-19", "2026-10-01")
        (november, october) = await candles(client, NIFTY, "KEY", "months", "1", "2026-11-19", "2026-10-01")
        assert (november[0][:10], october[0][:10]) == ("2026-11-01", "2026-10-01")
        assert november[2] == max(row[2] for row in days if row[0] >= "2026-11")
        weeks = await candles(client, NIFTY, "KEY", "weeks", "1", "2026-11-19", "2026-10-05")
        assert all(date.fromisoformat(row[0][:10]).weekday() == 0 for row in weeks)


async def test_a_contract_has_no_candles_before_it_was_listed() -> None:
    async with served() as exchange, visitor(exchange) as client:
        weekly = next(each for each in exchange.market.listing.instruments if each.weekly and each.expiry)
        assert weekly.expiry is not None
        first = (weekly.expiry - timedelta(days=300)).isoformat()
        rows = await candles(client, weekly.key, "KEY", "days", "1", "2026-11-19", first)
        assert rows
        assert all(date.fromisoformat(row[0][:10]) > weekly.expiry - timedelta(days=60) for row in rows)


async def test_the_demo_has_hours_behind_it_when_it_starts_and_weeks_before() -> None:
    async with served(start="2026-11-22T14:00", always_open=True) as exchange, visitor(exchange) as client:
        today = await candles(client, RELIANCE, "intraday", "KEY", "minutes", "1")
        assert len(today) == 360
        assert today[-1][0] == "2026-11-22T08:00:00+05:30"
        rows = await candles(client, RELIANCE, "KEY", "days", "1", "2026-11-22", "2026-11-01")
        assert rows[0][0][:10] == "2026-11-20"
        assert len(rows) >= 10


async def test_a_day_that_was_lived_through_stays_as_it_was() -> None:
    async with served(start="2026-11-20T15:38") as exchange, visitor(exchange) as client:
        future = key_of(exchange, "FUT")
        await exchange.advance(2 * MINUTE)
        today = await candles(client, future, "intraday", "KEY", "minutes", "1")
        await exchange.advance(64 * 60 * MINUTE)
        assert exchange.market.on == date(2026, 11, 23)
        assert await candles(client, future, "KEY", "minutes", "1", "2026-11-20", "2026-11-20") == today


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/years/1/2026-11-19", "UDAPI1146"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/minutes/301/2026-11-19", "UDAPI1147"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/minutes/x/2026-11-19", "UDAPI1147"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/days/2/2026-11-19", "UDAPI1147"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/days/1/19-11-2026", "UDAPI1022"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/days/1/2026-11-19/yesterday", "UDAPI1015"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/days/1/2026-11-01/2026-11-19", "UDAPI1015"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/minutes/1/2026-11-19/2026-10-17", "UDAPI1148"),
        (f"{HISTORY}/NSE_EQ%7CINE002A01018/minutes/30/2026-11-19/2026-08-01", "UDAPI1148"),
        (f"{HISTORY}/RELIANCE/minutes/1/2026-11-19", "UDAPI1021"),
        (f"{HISTORY}/NSE_EQ%7CNOBODY/minutes/1/2026-11-19", "UDAPI100011"),
        (f"{HISTORY}/intraday/NSE_EQ%7CINE002A01018/weeks/1", "UDAPI1146"),
    ],
)
async def test_a_wrong_candle_request_is_refused(path: str, code: str) -> None:
    async with served() as exchange, visitor(exchange) as client:
        assert error(await client.get(path)) == (400, code)


async def test_thirty_one_days_of_minutes_are_the_most() -> None:
    async with served() as exchange, visitor(exchange) as client:
        key = key_of(exchange, "FUT")
        assert await candles(client, key, "KEY", "minutes", "15", "2026-11-19", "2026-10-20")


# --- options and reference -------------------------------------------------------------------------------------------


async def test_the_chain_has_both_sides_of_every_strike() -> None:
    async with served(instruments=120) as exchange, trader(exchange) as client:
        expiry = min(each.expiry for each in exchange.market.listing.instruments if each.expiry)
        rows = await data(client, "/v2/option/chain", instrument_key=NIFTY, expiry_date=expiry.isoformat())
        assert len(rows) > 5
        assert [row["strike_price"] for row in rows] == sorted(row["strike_price"] for row in rows)
        row = rows[len(rows) // 2]
        assert row["underlying_key"] == NIFTY
        call, put = row["call_options"], row["put_options"]
        assert row["pcr"] == pytest.approx(put["market_data"]["oi"] / call["market_data"]["oi"], abs=1e-4)
        assert 4 < call["option_greeks"]["iv"] < 80, "percent, here only"
        assert 0 <= call["option_greeks"]["pop"] <= 100
        assert call["market_data"].keys() == {
            "ltp", "volume", "oi", "prev_oi", "close_price", "bid_price", "bid_qty", "ask_price", "ask_qty",
        }  # fmt: skip


@pytest.mark.parametrize("word", ["current_week", "next_week", "current_month", "next_month"])
async def test_the_chain_understands_the_words_for_expiries(word: str) -> None:
    async with served(instruments=200) as exchange, trader(exchange) as client:
        rows = await data(client, "/v2/option/chain", instrument_key=NIFTY, expiry_date=word)
        assert rows


async def test_contracts_carry_their_expiry_as_a_date() -> None:
    async with served() as exchange, trader(exchange) as client:
        found = await data(client, "/v2/option/contract", instrument_key=NIFTY)
        assert found
        assert all(date.fromisoformat(each["expiry"]) >= date(2026, 11, 20) for each in found)
        one = await data(client, "/v2/option/contract", instrument_key=NIFTY, expiry_date=found[0]["expiry"])
        assert {each["expiry"] for each in one} == {found[0]["expiry"]}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"instrument_key": NIFTY}, "UDAPI1088"),
        ({"instrument_key": NIFTY, "expiry_date": "soon"}, "UDAPI1088"),
        ({"instrument_key": "MCX_FO|1", "expiry_date": "2026-11-23"}, "UDAPI1088"),
        ({"instrument_key": "NSE_INDEX|Nobody", "expiry_date": "2026-11-23"}, "UDAPI100011"),
        ({"expiry_date": "2026-11-23"}, "UDAPI1026"),
    ],
)
async def test_a_wrong_chain_request_is_refused(query: dict[str, str], code: str) -> None:
    async with served() as exchange, trader(exchange) as client:
        assert error(await client.get("/v2/option/chain", params=query)) == (400, code)


@pytest.mark.parametrize(
    ("start", "name", "status"),
    [
        ("2026-11-20T08:00", "NSE", "NORMAL_CLOSE"),
        ("2026-11-20T09:03", "NSE", "PRE_OPEN_START"),
        ("2026-11-20T09:13", "NSE", "PRE_OPEN_END"),
        ("2026-11-20T10:00", "NSE", "NORMAL_OPEN"),
        ("2026-11-20T15:35", "NSE", "NORMAL_CLOSE"),
        ("2026-11-20T15:35", "NFO", "NORMAL_OPEN"),
        ("2026-11-20T15:55", "NSE", "CLOSING_START"),
        ("2026-11-20T17:00", "NSE", "CLOSING_END"),
        ("2026-11-20T17:00", "MCX", "NORMAL_OPEN"),
        ("2026-11-22T11:00", "BSE", "NORMAL_CLOSE"),
    ],
)
async def test_the_status_of_an_exchange_follows_the_calendar(start: str, name: str, status: str) -> None:
    async with served(start=start, instruments=30) as exchange, trader(exchange) as client:
        found = await data(client, f"/v2/market/status/{name}")
        assert (found["exchange"], found["status"]) == (name, status)
        assert found["last_updated"] <= exchange.now_ms()


async def test_timings_and_holidays_are_the_calendars() -> None:
    async with served() as exchange, visitor(exchange) as client:
        days = await data(client, "/v2/market/holidays")
        kinds = {each["date"]: each["holiday_type"] for each in days}
        assert kinds["2026-11-10"] == "TRADING_HOLIDAY"
        assert kinds["2026-02-01"] == "SPECIAL_TIMING"
        assert kinds["2026-02-19"] == "SETTLEMENT_HOLIDAY"
        assert (await data(client, "/v2/market/holidays/2026-11-10"))[0]["closed_exchanges"]
        assert await data(client, "/v2/market/holidays/2026-11-11") == []
        assert await data(client, "/v2/market/timings/2026-11-22") == []
        nse = next(row for row in await data(client, "/v2/market/timings/2026-11-20") if row["exchange"] == "NSE")
        assert nse["end_time"] - nse["start_time"] == 375 * MINUTE
        assert error(await client.get("/v2/market/timings/today")) == (400, "UDAPI1088")


async def test_search_finds_and_pages() -> None:
    async with served(instruments=200) as exchange, trader(exchange) as client:
        reply = (await client.get("/v2/instruments/search", params={"query": "NIFTY", "records": 10})).json()
        page = reply["meta_data"]["page"]
        assert len(reply["data"]) == page["records"] == 10
        assert page["total_pages"] == -(-page["total_records"] // 10)
        puts = await data(client, "/v2/instruments/search", query="NIFTY", instrument_types="PE", expiry="current_week")
        assert {each["instrument_type"] for each in puts} == {"PE"}
        money = await data(
            client, "/v2/instruments/search", query="NIFTY", instrument_types="CE", expiry="2026-11-23", atm_offset=0
        )
        spot = exchange.market.ltp[exchange.market.listing.row_of[NIFTY]]
        nearest = [each for each in money if each["underlying_key"] == NIFTY]
        assert abs(nearest[0]["strike_price"] - spot) <= 25
        assert error(await client.get("/v2/instruments/search", params={"query": "N", "records": 31})) == (
            400,
            "UDAPI100036",
        )


# --- instrument files and doors --------------------------------------------------------------------------------------


async def test_the_instrument_file_lists_what_trades() -> None:
    async with served() as exchange, visitor(exchange) as client:
        reply = await client.get("/market-quote/instruments/exchange/complete.json.gz")
        rows = {row["instrument_key"]: row for row in json.loads(gzip.decompress(reply.content))}
        assert set(rows) == set(keys_of(exchange))
        assert rows[RELIANCE]["tick_size"] == 10.0, "paise"
        assert rows[RELIANCE]["cas_eligible"] is True
        assert rows[VIX]["instrument_type"] == "INDEX"
        future = rows[key_of(exchange, "FUT")]
        ends = datetime.fromtimestamp(future["expiry"] / 1_000, datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)
        assert (ends.date(), ends.hour, ends.minute, ends.second) == (date(2026, 11, 23), 23, 59, 59)
        assert (future["lot_size"], future["underlying_key"]) == (65, NIFTY)


async def test_each_exchange_has_a_file_of_its_own() -> None:
    async with served() as exchange, visitor(exchange) as client:
        for name in ("NSE", "BSE"):
            reply = await client.get(f"/market-quote/instruments/exchange/{name}.json.gz")
            assert {row["exchange"] for row in json.loads(gzip.decompress(reply.content))} == {name}
        assert (await client.get("/market-quote/instruments/exchange/LSE.json.gz")).status_code == 404


async def test_a_client_without_a_name_gets_no_file() -> None:
    async with served() as exchange, visitor(exchange) as client:
        path = "/market-quote/instruments/exchange/complete.json.gz"
        assert (await client.get(path, headers={"User-Agent": ""})).status_code == 403


async def test_unknown_paths_and_methods_have_the_venues_errors() -> None:
    async with served() as exchange, trader(exchange) as client:
        assert error(await client.get("/v9/nothing")) == (404, "UDAPI100060")
        assert error(await client.post("/v2/user/profile")) == (405, "UDAPI10000")


async def test_calls_over_the_rate_are_refused() -> None:
    limits = RateLimits(per_1_s=3, per_1_min=3, per_30_min=3)
    async with served(rate_limits=limits) as exchange, trader(exchange) as client:
        for _ in range(3):
            await data(client, "/v2/user/profile")
        reply = await client.get("/v2/user/profile")
        assert error(reply) == (429, "UDAPI10005")
        assert "retry-after" not in reply.headers
        await data(client, "/v3/market-quote/ltp", instrument_key=RELIANCE)
