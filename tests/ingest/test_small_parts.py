"""Venue time, waiting, reporting, names, quotes: the small pure parts."""

from datetime import date, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.backoff import Backoff
from ingest.clock import VenueClock
from ingest.names import rank, resolve
from ingest.quotes import Quotes, encoded
from ingest.status import Reporter
from market.instruments import Instrument, Universe
from schemas.errors import Misconfigured
from schemas.events import FeedState, FeedStatus
from schemas.streams import instrument_id, shard_of
from schemas.ticks import TICK

# Venue time


def test_without_a_frame_there_is_no_venue_time() -> None:
    assert VenueClock().at(100.0) == 0


def test_venue_time_goes_on_by_the_stopwatch() -> None:
    clock = VenueClock()
    clock.observe(1_000_000, 10.0)
    assert clock.at(12.5) == 1_002_500


@given(st.lists(st.tuples(st.integers(1, 10**13), st.floats(0, 1e6)), min_size=1))
def test_venue_time_is_the_latest_that_was_told(frames: list[tuple[int, float]]) -> None:
    clock = VenueClock()
    for ts, now_s in sorted(frames, key=lambda frame: frame[1]):
        clock.observe(ts, now_s)
    latest = max(frames, key=lambda frame: (frame[0], -frame[1]))
    assert (clock.ts, clock.seen_s) == latest


# Waiting


def test_waits_double_up_to_a_limit_and_are_jittered() -> None:
    backoff = Backoff(Random(1))
    waits = [backoff.next_s(0.25) for _ in range(12)]
    assert all(0.5 * full <= wait <= full for wait, full in zip(waits, (0.25 * 2**n for n in range(8)), strict=False))
    assert all(30.0 <= wait <= 60.0 for wait in waits[8:])


def test_a_limit_of_ones_own_can_be_lower() -> None:
    backoff = Backoff(Random(1))
    waits = [backoff.next_s(0.25, 10.0) for _ in range(12)]
    assert max(waits) <= 10.0
    assert min(waits[8:]) >= 5.0


def test_only_a_connection_that_has_lived_well_ends_the_doubling() -> None:
    backoff = Backoff(Random(1))
    for _ in range(5):
        backoff.next_s(1.0)
    backoff.lived(2.0)
    assert backoff.next_s(1.0) >= 16.0
    backoff.lived(10.0)
    assert backoff.next_s(1.0) <= 1.0


def test_a_refusal_is_answered_with_a_longer_wait_than_an_accident() -> None:
    assert Backoff(Random(1)).next_s(2.0) > Backoff(Random(1)).next_s(0.25)


# Reporting


def status(seen: int = 0, state: FeedState = FeedState.LIVE, **more: Any) -> FeedStatus:
    return FeedStatus(state=state, shard=0, venue="sim", connections=1, desired=9, seen=seen, **more)


def test_a_new_state_is_told_at_once_and_the_same_one_never_again() -> None:
    reporter = Reporter()
    assert reporter.has_news(status(), 0.0)
    reporter.news()
    assert reporter.is_due(0.1)
    assert not reporter.has_news(status(), 0.1)
    assert reporter.has_news(status(state=FeedState.STALE), 0.2)


def test_a_count_that_grows_is_told_less_and_less_often() -> None:
    reporter = Reporter()
    told = [s for s in range(1200) if reporter.is_due(float(s)) and reporter.has_news(status(seen=s), float(s))]
    gaps = [later - earlier for earlier, later in pairwise(told)]
    assert len(told) < 30
    assert gaps[:4] == [1, 2, 4, 8]
    assert max(gaps) == 60


# Names


def instrument(symbol: str, kind: str = "EQ", segment: str = "NSE_EQ", **more: Any) -> Instrument:
    chosen = {"name": symbol, "trading_symbol": symbol, "lot_size": 1, "tick_size": 0.05, **more}
    key = f"{segment}|{more.get('trading_symbol', symbol)}"
    return Instrument(key=key, segment=segment, exchange=segment[:3], instrument_type=kind, **chosen)


def contract(symbol: str, kind: str, expiry: date, strike: float | None = None) -> Instrument:
    called = f"{symbol} {strike} {kind} {expiry}"
    more = {"trading_symbol": called, "expiry": expiry, "strike": strike, "underlying_symbol": symbol}
    return instrument(symbol, kind, "NSE_FO", **more)


ON = date(2026, 11, 18)
INDEX = instrument("Nifty 50", "INDEX", "NSE_INDEX", trading_symbol="NIFTY")
NEAR_CALL = contract("NIFTY", "CE", ON + timedelta(days=6), 26_000.0)
NEAR_FUTURE = contract("NIFTY", "FUT", ON + timedelta(days=40))
FAR_CALL = contract("NIFTY", "CE", ON + timedelta(days=80), 26_000.0)
DEAD_CALL = contract("NIFTY", "CE", ON - timedelta(days=1), 26_000.0)
ON_BSE, ON_NSE = instrument("RELIANCE", segment="BSE_EQ"), instrument("RELIANCE")
UNIVERSE = Universe([INDEX, NEAR_CALL, NEAR_FUTURE, FAR_CALL, DEAD_CALL, ON_BSE, ON_NSE])


def test_an_underlying_means_itself_its_futures_and_the_chains_of_the_next_weeks() -> None:
    assert set(resolve(["NIFTY"], UNIVERSE, ON)) == {INDEX.key, NEAR_CALL.key, NEAR_FUTURE.key}


def test_an_underlying_can_be_named_as_the_venue_displays_it() -> None:
    assert resolve(["nifty 50"], UNIVERSE, ON)[0] == INDEX.key


def test_a_key_or_a_whole_symbol_means_that_instrument_however_far_its_expiry() -> None:
    assert resolve([FAR_CALL.key], UNIVERSE, ON) == [FAR_CALL.key]
    assert resolve([FAR_CALL.trading_symbol.lower()], UNIVERSE, ON) == [FAR_CALL.key]


def test_a_share_that_two_exchanges_list_means_the_one_on_nse() -> None:
    assert resolve(["reliance"], UNIVERSE, ON) == [ON_NSE.key]


def test_the_demo_means_everything_that_has_not_expired() -> None:
    found = resolve(["demo"], UNIVERSE, ON)
    assert DEAD_CALL.key not in found
    assert len(found) == len(UNIVERSE) - 1


def test_a_name_that_is_given_twice_counts_once() -> None:
    assert resolve([ON_NSE.key, "RELIANCE", "demo"], UNIVERSE, ON).count(ON_NSE.key) == 1


def test_a_name_that_means_nothing_is_a_sentence_for_a_person() -> None:
    with pytest.raises(Misconfigured, match="TEJI_INSTRUMENTS names 'NFTY'"):
        resolve(["RELIANCE", "NFTY"], UNIVERSE, ON)


def test_histories_are_ranked_index_then_share_and_future_then_option() -> None:
    assert [rank(each) for each in (INDEX, ON_NSE, NEAR_FUTURE, NEAR_CALL, None)] == [0, 1, 1, 2, 3]


# Quotes


class Merger:
    """Where quotes come from: what has changed since it was last asked."""

    def __init__(self) -> None:
        self.changed: dict[str, float] = {}
        self.asked = 0

    def take(self) -> tuple[list[str], Any]:
        self.asked += 1
        rec = np_rows(self.changed)
        keys, self.changed = list(self.changed), {}
        return keys, rec


def np_rows(values: dict[str, float]) -> Any:
    rec = np.zeros(len(values), TICK)
    rec["id"] = [instrument_id(key) for key in values]
    rec["ltp"] = list(values.values())
    rec["flags"] = 1 << 16
    return rec


def ltp(states: Any) -> dict[str, float]:
    return {key: orjson.loads(body)["ltp"] for key, body in encoded(states).items()}


def test_quotes_are_taken_once_a_second_and_handed_out_in_parts_until_all_are_written() -> None:
    merger = Merger()
    quotes = Quotes(merger.take, 1)
    merger.changed = {f"NSE_FO|{n}": float(n) for n in range(600)}
    found: dict[str, float] = {}
    for part in range(13):
        states = quotes.due(0, 100.0 + part / 100)
        found |= ltp(states)
        quotes.written(0, states)
        assert len(states) <= 50
    assert found == {f"NSE_FO|{n}": float(n) for n in range(600)}
    assert merger.asked == 1


def test_a_quote_whose_write_failed_stays_due() -> None:
    merger = Merger()
    quotes = Quotes(merger.take, 1)
    merger.changed = {"NSE_FO|1": 1.0}
    first = quotes.due(0, 1.0)
    assert ltp(quotes.due(0, 1.1)) == ltp(first) == {"NSE_FO|1": 1.0}


def test_a_newer_state_is_not_lost_to_the_confirmation_of_an_older_one() -> None:
    merger = Merger()
    quotes = Quotes(merger.take, 2)
    key = next(f"NSE_FO|{n}" for n in range(99) if shard_of(f"NSE_FO|{n}", 2) == 0)
    merger.changed = {key: 1.0}
    under_way = quotes.due(0, 1.0)
    merger.changed = {key: 2.0}
    quotes.due(1, 2.0)  # the other shard's turn takes what has changed in all of them
    quotes.written(0, under_way)

    assert ltp(quotes.due(0, 2.1)) == {key: 2.0}


def test_the_quotes_of_a_shard_that_was_let_go_are_not_written_any_more() -> None:
    merger = Merger()
    quotes = Quotes(merger.take, 1)
    merger.changed = {"NSE_FO|1": 1.0}
    quotes.due(0, 1.0)
    quotes.let_go(0)
    assert quotes.due(0, 1.5) == {}
