import random
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import contracts, instruments, sessions
from market.instruments import BadInstrument, Instrument, Universe
from schemas.ticks import SessionClass

NIFTY_KEY = "NSE_INDEX|Nifty 50"
NIFTY = Instrument(
    key=NIFTY_KEY,
    segment="NSE_INDEX",
    exchange="NSE",
    name="Nifty 50",
    trading_symbol="NIFTY",
    instrument_type="INDEX",
    lot_size=0,
    tick_size=0.0,
)
RELIANCE = Instrument(
    key="NSE_EQ|INE002A01018",
    segment="NSE_EQ",
    exchange="NSE",
    name="RELIANCE INDUSTRIES LTD",
    trading_symbol="RELIANCE",
    instrument_type="EQ",
    lot_size=1,
    tick_size=0.1,
    cas_eligible=True,
    isin="INE002A01018",
)
BAJAJ = replace(RELIANCE, key="NSE_EQ|INE917I01010", name="BAJAJ AUTO LIMITED", trading_symbol="BAJAJ-AUTO", isin=None)
NIFTYBEES = replace(RELIANCE, key="NSE_EQ|INF204KB14I2", name="NIPPON INDIA ETF", trading_symbol="NIFTYBEES", isin=None)


def contract(token: int, kind: str, expiry: date, strike: float | None = None, on: Instrument = NIFTY) -> Instrument:
    symbol = on.trading_symbol
    return Instrument(
        key=f"NSE_FO|{token}",
        segment="NSE_FO",
        exchange="NSE",
        name=symbol,
        trading_symbol=" ".join(
            filter(None, [symbol, f"{strike:g}" if strike else "", kind, f"{expiry:%d %b %y}".upper()])
        ),
        instrument_type=kind,
        lot_size=65,
        tick_size=0.05,
        freeze_quantity=1800,
        expiry=expiry,
        strike=strike,
        underlying_key=on.key,
        underlying_symbol=symbol,
    )


NEAR, NEXT, FAR = date(2026, 12, 1), date(2026, 12, 29), date(2027, 3, 30)
CALL = contract(1, "CE", NEAR, 24_000.0)
PUT = contract(2, "PE", NEAR, 24_000.0)
LONE_CALL = contract(3, "CE", NEAR, 23_950.0)
FAR_CALL = contract(4, "CE", FAR, 24_000.0)
FUTURE = contract(5, "FUT", NEXT)
FAR_FUTURE = contract(6, "FUT", FAR)
SHARE_FUTURE = contract(7, "FUT", NEXT, on=RELIANCE)
RUPEE = Instrument(
    key="NCD_FO|9",
    segment="NCD_FO",
    exchange="NSE",
    name="USDINR",
    trading_symbol="USDINR FUT 29 DEC 26",
    instrument_type="FUT",
    lot_size=1,
    tick_size=0.0025,
    expiry=NEXT,
    underlying_symbol="USDINR",
)
ALL = [NIFTY, RELIANCE, BAJAJ, NIFTYBEES, CALL, PUT, LONE_CALL, FAR_CALL, FUTURE, FAR_FUTURE, SHARE_FUTURE, RUPEE]


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    when = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int((when - timedelta(hours=5, minutes=30)).timestamp() * 1000)


def symbols(found: list[Instrument]) -> list[str]:
    return [instrument.trading_symbol for instrument in found]


# --- one instrument


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (CALL, {"key": "NSE_EQ|1"}, "does not start with its segment 'NSE_FO'"),
        (CALL, {"key": "NSE_FO"}, "does not start with its segment"),
        (CALL, {"key": "NSE_FO|"}, "does not start with its segment"),
        (CALL, {"trading_symbol": ""}, "no trading symbol"),
        (CALL, {"lot_size": 0}, "a lot of 0"),
        (CALL, {"tick_size": 0.0}, r"a tick of 0\.0 rupees"),
        (CALL, {"tick_size": float("nan")}, "a tick of nan rupees"),
        (CALL, {"expiry": None}, "CE with the expiry None"),
        (CALL, {"strike": None}, "CE with the strike None"),
        (CALL, {"strike": 0.0}, r"a strike of 0\.0"),
        (CALL, {"strike": float("inf")}, "a strike of inf"),
        (FUTURE, {"strike": 24_000.0}, r"FUT with the strike 24000\.0"),
        (FUTURE, {"expiry": None}, "FUT with the expiry None"),
        (RELIANCE, {"expiry": NEAR}, "EQ with the expiry 2026-12-01"),
        (RELIANCE, {"strike": 1.0}, r"EQ with the strike 1\.0"),
    ],
)
def test_an_instrument_that_contradicts_itself_cannot_be_made(base: Any, changes: Any, reason: str) -> None:
    with pytest.raises(BadInstrument, match=reason) as refused:
        replace(base, **changes)

    assert refused.value.key == changes.get("key", base.key)


def test_an_instrument_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RELIANCE.lot_size = 2  # type: ignore[misc]


def test_an_index_needs_neither_lot_nor_tick() -> None:
    assert NIFTY.is_index
    assert not NIFTY.is_derivative


def test_a_contract_is_on_an_index_by_its_underlying_key_or_else_by_its_symbol() -> None:
    assert CALL.is_on_index
    assert not SHARE_FUTURE.is_on_index
    assert not RUPEE.is_on_index
    assert replace(FUTURE, underlying_key=None).is_on_index
    assert not replace(SHARE_FUTURE, underlying_key=None).is_on_index
    assert not replace(RELIANCE, underlying_key=NIFTY_KEY).is_on_index


# --- whose hours


def test_a_share_with_derivatives_has_the_hours_of_the_closing_auction() -> None:
    on = date(2026, 11, 20)

    assert instruments.session_class(RELIANCE, on) is SessionClass.CLOSING_AUCTION_SHARE
    assert instruments.session_class(replace(RELIANCE, cas_eligible=False), on) is SessionClass.ORDINARY


def test_an_index_contract_has_hours_of_its_own_on_its_last_day_only() -> None:
    assert instruments.session_class(CALL, NEAR) is SessionClass.EXPIRING_INDEX_CONTRACT
    assert instruments.session_class(CALL, NEAR - timedelta(days=1)) is SessionClass.ORDINARY


@pytest.mark.parametrize("other", [NIFTY, SHARE_FUTURE, RUPEE])
def test_everything_else_is_ordinary_even_on_its_last_day(other: Instrument) -> None:
    assert instruments.session_class(other, NEXT) is SessionClass.ORDINARY


@pytest.mark.parametrize(
    ("instrument", "end_ms"),
    [
        (replace(CALL, expiry=date(2026, 7, 28)), ms(2026, 7, 28, 15, 30)),
        (replace(CALL, expiry=date(2026, 8, 4)), ms(2026, 8, 4, 15, 40)),
        (replace(CALL, expiry=date(2026, 12, 1)), ms(2026, 12, 1, 15, 40)),
        (replace(CALL, expiry=date(2026, 12, 8)), ms(2026, 12, 8, 15, 30)),
        (replace(SHARE_FUTURE, expiry=date(2026, 11, 23)), ms(2026, 11, 23, 15, 40)),
        (replace(SHARE_FUTURE, expiry=date(2026, 12, 29)), ms(2026, 12, 29, 15, 45)),
        (RUPEE, ms(2026, 12, 29, 12, 30)),
        (FAR_CALL, ms(2027, 3, 30, 15, 30)),  # beyond the calendar: the venue names the day, the rule the hour
        (replace(CALL, expiry=date(2026, 11, 24)), ms(2026, 11, 24, 15, 40)),  # a holiday that came after the listing
        (replace(RUPEE, key="MCX_FO|1", segment="MCX_FO", expiry=date(2026, 12, 31)), ms(2026, 12, 31, 23, 55)),
        (replace(RUPEE, key="MCX_FO|1", segment="MCX_FO", expiry=date(2027, 4, 30)), ms(2027, 4, 30, 23, 30)),
    ],
)
def test_a_contract_trades_for_the_last_time_when_the_rule_of_its_last_day_says(
    instrument: Instrument, end_ms: int
) -> None:
    assert instruments.last_trade_ms(instrument) == end_ms


def test_what_does_not_expire_has_no_last_trade() -> None:
    assert instruments.last_trade_ms(RELIANCE) is None


@given(st.dates(date(2024, 1, 1), date(2026, 12, 31)))
def test_the_last_trade_of_a_regular_day_is_the_end_of_its_continuous_session(on: date) -> None:
    option = replace(CALL, expiry=on)
    if sessions.keeps_regular_hours("NSE_FO", on):
        hours = sessions.continuous("NSE_FO", instruments.session_class(option, on), on)
        assert instruments.last_trade_ms(option) == hours[-1][1]


@pytest.mark.parametrize(
    ("instrument", "on", "joins"),
    [
        (RELIANCE, date(2026, 11, 20), True),
        (replace(FUTURE, expiry=date(2026, 11, 23)), date(2026, 11, 2), True),
        (FUTURE, date(2026, 11, 2), False),  # December in November
        (FUTURE, date(2026, 11, 17), True),  # but 17, 18, 19, 20 and 23 are the last five days of November's contract
        (FUTURE, date(2026, 11, 16), False),
        (FUTURE, date(2026, 11, 24), True),
        (FAR_FUTURE, date(2026, 12, 30), False),
        (replace(FAR_FUTURE, expiry=date(2027, 1, 26)), date(2026, 12, 30), True),
        (SHARE_FUTURE, date(2026, 12, 1), True),
        (CALL, date(2026, 12, 1), False),
        (NIFTY, date(2026, 12, 1), False),
        (RUPEE, date(2026, 12, 1), False),
    ],
)
def test_only_shares_and_near_futures_join_the_pre_open(instrument: Instrument, on: date, joins: bool) -> None:
    assert instruments.joins_pre_open(instrument, on) is joins


# --- the universe


def test_an_instrument_is_found_by_its_key() -> None:
    universe = Universe(ALL)

    assert universe.get("NSE_FO|1") is CALL
    assert universe.get("NSE_FO|404") is None
    assert "NSE_FO|1" in universe
    assert len(universe) == len(ALL)
    assert set(universe) == set(ALL)


def test_a_chain_pairs_calls_and_puts_by_strike() -> None:
    universe = Universe(ALL)

    assert universe.chain(NIFTY_KEY, NEAR) == [(23_950.0, "NSE_FO|3", None), (24_000.0, "NSE_FO|1", "NSE_FO|2")]
    assert universe.chain(NIFTY_KEY, FAR) == [(24_000.0, "NSE_FO|4", None)]
    assert universe.chain(NIFTY_KEY, date(2026, 1, 1)) == []
    assert universe.chain("NSE_EQ|nobody", NEAR) == []


def test_expiries_and_futures_come_nearest_first() -> None:
    universe = Universe(reversed(ALL))

    assert universe.expiries(NIFTY_KEY) == [NEAR, FAR]
    assert universe.futures(NIFTY_KEY) == [FUTURE, FAR_FUTURE]
    assert universe.futures(RELIANCE.key) == [SHARE_FUTURE]
    assert universe.expiries(RELIANCE.key) == []


def test_underlyings_are_what_has_derivatives_by_key_or_else_by_symbol() -> None:
    assert Universe(ALL).underlyings() == [RELIANCE.key, NIFTY_KEY, "USDINR"]
    assert Universe(ALL).futures("USDINR") == [RUPEE]


def test_the_answers_of_a_universe_can_be_changed_without_changing_it() -> None:
    universe = Universe(ALL)
    universe.futures(NIFTY_KEY).clear()
    universe.chain(NIFTY_KEY, NEAR).clear()

    assert universe.futures(NIFTY_KEY) == [FUTURE, FAR_FUTURE]
    assert len(universe.chain(NIFTY_KEY, NEAR)) == 2


def test_a_line_that_is_there_twice_counts_once_and_two_that_differ_are_refused() -> None:
    assert len(Universe([CALL, PUT, replace(CALL)])) == 2
    with pytest.raises(BadInstrument, match="two different descriptions"):
        Universe([CALL, replace(CALL, lot_size=75)])


@given(st.permutations(ALL))
def test_the_order_of_the_list_does_not_matter(shuffled: list[Instrument]) -> None:
    universe, other = Universe(ALL), Universe(shuffled)

    assert universe.search("nifty") == other.search("nifty")
    assert universe.chain(NIFTY_KEY, NEAR) == other.chain(NIFTY_KEY, NEAR)
    assert universe.futures(NIFTY_KEY) == other.futures(NIFTY_KEY)


def test_of_two_contracts_of_one_strike_the_same_is_chosen_in_any_order() -> None:
    twin = replace(CALL, key="NSE_FO|0")

    assert Universe([CALL, twin]).chain(NIFTY_KEY, NEAR) == Universe([twin, CALL]).chain(NIFTY_KEY, NEAR)


# --- search


def test_the_very_symbol_comes_first_then_what_begins_so_then_all_words() -> None:
    assert symbols(Universe(ALL).search("nifty")) == [
        "NIFTY",
        "NIFTYBEES",
        "NIFTY FUT 29 DEC 26",
        "NIFTY FUT 30 MAR 27",
        "NIFTY 23950 CE 01 DEC 26",
        "NIFTY 24000 CE 01 DEC 26",
        "NIFTY 24000 PE 01 DEC 26",
        "NIFTY 24000 CE 30 MAR 27",
    ]


@pytest.mark.parametrize("text", ["nifty 24000 ce dec", "DEC ce 24000 Nifty", "  ce   240 nif  dec "])
def test_words_are_found_in_any_order_and_case(text: str) -> None:
    assert Universe(ALL).search(text) == [CALL]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NSE_FO|1", CALL),
        ("nse_index|nifty 50", NIFTY),
        ("INE002A01018", RELIANCE),
        ("industries", RELIANCE),
        ("auto", BAJAJ),
        ("bajaj-auto", BAJAJ),
        ("2027-03-30 ce", FAR_CALL),
    ],
)
def test_keys_names_numbers_and_dates_find_an_instrument(text: str, expected: Any) -> None:
    assert Universe(ALL).search(text)[0] == expected


def test_a_key_finds_its_instrument_before_longer_keys() -> None:
    many = [contract(token, "CE", NEAR, 20_000.0 + token) for token in range(1, 200)]

    assert Universe(many).search("NSE_FO|19")[0].key == "NSE_FO|19"


def test_a_search_can_be_narrowed_by_segment_and_type() -> None:
    universe = Universe(ALL)

    assert universe.search("nifty", segment="NSE_EQ") == [NIFTYBEES]
    assert universe.search("nifty", kind="fut") == [FUTURE, FAR_FUTURE]
    assert universe.search("nifty", segment="NSE_EQ", kind="CE") == []
    assert universe.search("", segment="NCD_FO") == [RUPEE]


@pytest.mark.parametrize("limit", [0, 1, 3, 100, -1])
def test_a_search_gives_no_more_than_its_limit(limit: int) -> None:
    everything = Universe(ALL).search("", limit=100)

    assert len(everything) == len(ALL)
    assert Universe(ALL).search("", limit=limit) == everything[: max(limit, 0)]


def test_what_is_nowhere_is_not_found() -> None:
    assert Universe(ALL).search("nifty bank") == []
    assert Universe([]).search("nifty") == []
    assert Universe([]).search("") == []


@given(st.text(max_size=20))
def test_no_text_breaks_a_search(text: str) -> None:
    found = Universe(ALL).search(text)

    assert len({instrument.key for instrument in found}) == len(found)


@given(st.sampled_from(ALL), st.randoms(use_true_random=False))
def test_the_words_of_a_symbol_in_any_order_find_it(instrument: Instrument, rng: random.Random) -> None:
    words = instrument.trading_symbol.lower().split()
    rng.shuffle(words)

    assert instrument in Universe(ALL).search(" ".join(words), limit=100)


def test_a_search_in_a_hundred_thousand_instruments_takes_milliseconds() -> None:
    rng = random.Random(7)
    shares = [replace(RELIANCE, key=f"NSE_EQ|{n}", trading_symbol=f"SHARE{n}", isin=None) for n in range(2_000)]
    dates = [expiry for expiry, _ in contracts.expiries("NIFTY", date(2026, 6, 1), 4, 3)]
    listed = [
        contract(n, rng.choice(["CE", "PE"]), dates[n % 7], 50.0 * rng.randint(10, 900), on=shares[n % 200])
        for n in range(98_000)
    ]
    universe = Universe([*shares, *listed])
    universe.prepare_search()

    for text in ("", "2", "s", "share1", "ce share11 24000", "reliance industries", "nowhere", "NSE_FO|77"):
        times = []
        for _ in range(5):
            start = perf_counter()
            universe.search(text)
            times.append(perf_counter() - start)
        assert min(times) < 0.020, text
