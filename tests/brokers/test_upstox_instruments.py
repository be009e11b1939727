"""The instrument file: what is read of it, and how long it is kept."""

import contextlib
import gzip
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.upstox.instruments import edition, fetch, parse
from bus import clock
from bus.settings import Settings
from schemas.errors import Unavailable
from tests.brokers.scripted import Answer, Scripted, scripted
from tests.conftest import settings_in

PATH = "/market-quote/instruments/exchange/complete.json.gz"
OPTION: dict[str, Any] = {
    "instrument_key": "NSE_FO|61755", "segment": "NSE_FO", "exchange": "NSE", "name": "NIFTY", "instrument_type": "CE",
    "trading_symbol": "NIFTY 26000 CE 24 NOV 26", "lot_size": 65, "minimum_lot": 65, "freeze_quantity": 1800.0,
    "tick_size": 5.0, "expiry": 1_795_544_999_000, "strike_price": 26000.0, "weekly": True, "exchange_token": "61755",
    "underlying_symbol": "NIFTY", "underlying_key": "NSE_INDEX|Nifty 50",
}  # fmt: skip
INDEX: dict[str, Any] = {
    "instrument_key": "NSE_INDEX|Nifty 50", "segment": "NSE_INDEX", "exchange": "NSE", "name": "Nifty 50",
    "instrument_type": "INDEX", "trading_symbol": "NIFTY", "exchange_token": "26000",
}  # fmt: skip
SHARE: dict[str, Any] = {
    "instrument_key": "NSE_EQ|INE002A01018", "segment": "NSE_EQ", "exchange": "NSE", "instrument_type": "EQ",
    "name": "RELIANCE INDUSTRIES LTD", "trading_symbol": "RELIANCE", "lot_size": 1, "tick_size": 10.0,
    "isin": "INE002A01018", "cas_eligible": True, "freeze_quantity": 100000.0, "exchange_token": "2885",
}  # fmt: skip


def packed(*rows: Any) -> bytes:
    return gzip.compress(orjson.dumps(list(rows)), 1, mtime=0)


def at(day: int, hour: int, minute: int = 0) -> int:
    """IST, as epoch ms."""
    return int(datetime(2026, 11, day, hour, minute, tzinfo=UTC).timestamp() * 1000) - 19_800_000


# Reading


def test_rows_become_neutral_instruments() -> None:
    option, index, share = parse(packed(OPTION, INDEX, SHARE))
    assert (option.key, option.tick_size, option.lot_size, option.freeze_quantity) == ("NSE_FO|61755", 0.05, 65, 1800)
    assert (option.expiry, option.strike, option.weekly) == (date(2026, 11, 24), 26000.0, True)
    assert (option.underlying_key, option.exchange_token) == ("NSE_INDEX|Nifty 50", "61755")
    assert (index.is_index, index.strike, index.expiry) == (True, None, None)
    assert (share.tick_size, share.cas_eligible, share.isin) == (0.1, True, "INE002A01018")


def test_a_file_that_is_not_compressed_is_read_too() -> None:
    assert [each.key for each in parse(orjson.dumps([INDEX]))] == ["NSE_INDEX|Nifty 50"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"instrument_key": None}, {"instrument_key": 5}, {"instrument_key": "NSE_FO|1,2"},
        {"instrument_key": "NSE_FO|"}, {"instrument_key": "BSE_FO|61755"}, {"segment": None}, {"trading_symbol": ""},
        {"lot_size": "many"},
        {"lot_size": -65}, {"tick_size": -5.0}, {"tick_size": 5_000_000}, {"tick_size": "x"},
        {"expiry": None}, {"expiry": 1e300}, {"expiry": "soon"}, {"strike_price": None}, {"strike_price": -1.0},
        {"instrument_type": "FUT"}, {"freeze_quantity": {"a": 1}},
    ],
)  # fmt: skip
def test_a_row_that_contradicts_itself_is_left_out_and_the_others_stay(wrong: dict[str, Any]) -> None:
    row = {**OPTION, **wrong}
    if wrong == {"instrument_type": "FUT"}:
        del row["expiry"]
    assert [each.key for each in parse(packed(row, INDEX))] == ["NSE_INDEX|Nifty 50"]


@pytest.mark.parametrize("row", [None, 5, "x", [], {}, [1, 2]])
def test_a_row_that_is_none_is_left_out(row: Any) -> None:
    assert len(parse(packed(INDEX, row))) == 1


def test_of_a_row_that_comes_twice_the_first_counts() -> None:
    assert [each.lot_size for each in parse(packed(OPTION, {**OPTION, "lot_size": 75}))] == [65]


WHOLE = packed(OPTION, INDEX)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>busy</html>", b"null", b"{}", b"[]", WHOLE[:-9], WHOLE[:40], WHOLE[:30] + b"\xff" * 30, packed({})],
)
def test_a_damaged_or_empty_file_is_no_file(body: bytes) -> None:
    with pytest.raises(Unavailable, match="instrument file"):
        parse(body)


@given(st.binary(max_size=60), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_no_damage_is_anything_but_unavailable(noise: bytes, start: int, end: int) -> None:
    with contextlib.suppress(Unavailable):
        assert parse(WHOLE[:start] + noise + WHOLE[end:])


def test_a_whole_market_is_read_in_seconds() -> None:
    rows = [
        {**OPTION, "instrument_key": f"NSE_FO|{n}", "strike_price": 10_000.0 + n, "exchange_token": str(n)}
        for n in range(80_000)
    ]
    body = packed(*rows)
    began = time.process_time()
    assert len(parse(body)) == 80_000
    assert time.process_time() - began < 8


# Keeping


@pytest.mark.parametrize(
    ("now_ms", "day"),
    [(at(18, 6, 59), 17), (at(18, 7), 18), (at(18, 23, 59), 18), (at(19, 0), 18), (at(19, 7, 1), 19)],
)
def test_a_day_of_instruments_begins_well_after_the_venue_has_renewed_them(now_ms: int, day: int) -> None:
    assert edition(now_ms) == date(2026, 11, day)


def settings_at(home: Path, venue: Scripted) -> Settings:
    return settings_in(home, upstox_assets_url=venue.url)


async def keys(settings: Settings, now_ms: int) -> list[str]:
    return sorted(each.key for each in await fetch(settings, now_ms))


async def test_the_file_is_fetched_once_a_day(tmp_path: Path) -> None:
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)), Answer(body=packed(INDEX, SHARE)))
        settings = settings_at(tmp_path, venue)
        for hour in (7, 12, 23):
            assert await keys(settings, at(18, hour)) == [INDEX["instrument_key"]]
        assert len(venue.requests) == 1
        assert len(await keys(settings, at(19, 7))) == 2
        assert len(venue.requests) == 2
    assert "user-agent" in venue.requests[0].headers


async def test_another_hosts_file_is_not_ours(tmp_path: Path) -> None:
    async with scripted() as one, scripted() as other:
        one.on(PATH, Answer(body=packed(INDEX)))
        other.on(PATH, Answer(body=packed(SHARE)))
        assert await keys(settings_at(tmp_path, one), at(18, 9)) == [INDEX["instrument_key"]]
        assert await keys(settings_at(tmp_path, other), at(18, 9)) == [SHARE["instrument_key"]]


@pytest.mark.parametrize(
    "answer",
    [Answer(403, b"error code: 1010"), Answer(503), Answer(hang_up=True), Answer(body=WHOLE[:-9]), Answer(body=b"[]")],
)
async def test_yesterdays_file_serves_where_the_venue_has_none_and_is_not_taken_for_todays(
    tmp_path: Path, answer: Answer
) -> None:
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)), answer, answer, Answer(body=packed(SHARE)))
        settings = settings_at(tmp_path, venue)
        await fetch(settings, at(18, 9))
        for _ in range(2):
            assert await keys(settings, at(19, 9)) == [INDEX["instrument_key"]]
        assert await keys(settings, at(19, 9)) == [SHARE["instrument_key"]]


async def test_without_any_file_one_has_to_wait(tmp_path: Path) -> None:
    async with scripted() as venue:
        venue.on(PATH, Answer(404), Answer(body=packed(INDEX)))
        settings = settings_at(tmp_path, venue)
        with pytest.raises(Unavailable, match="404"):
            await fetch(settings, at(18, 9))
        assert await keys(settings, at(18, 9)) == [INDEX["instrument_key"]]


async def test_a_file_that_was_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)))
        settings = settings_at(tmp_path, venue)
        await fetch(settings, at(18, 9))
        (tmp_path / "instruments" / "sim.json.gz").write_bytes(WHOLE[:-9])
        assert await keys(settings, at(18, 9)) == [INDEX["instrument_key"]]
        assert len(venue.requests) == 2


async def test_a_file_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "instruments").write_text("in the way")
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)))
        assert await keys(settings_at(tmp_path, venue), at(18, 9)) == [INDEX["instrument_key"]]


async def test_nothing_is_left_behind_but_the_file_and_its_date(tmp_path: Path) -> None:
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)))
        await fetch(settings_at(tmp_path, venue), at(18, 9))
    assert sorted(path.name for path in (tmp_path / "instruments").iterdir()) == ["sim.json.edition", "sim.json.gz"]


async def test_today_is_by_the_machines_clock_unless_somebody_knows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: at(18, 9))
    async with scripted() as venue:
        venue.on(PATH, Answer(body=packed(INDEX)))
        settings = settings_at(tmp_path, venue)
        await fetch(settings)
        await fetch(settings, at(18, 23))
        assert len(venue.requests) == 1
