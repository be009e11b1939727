"""What stands around the plan: who is urgent, what was told, what a command changes, when a count is news."""

import random
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import frames
from bench.frames import START_MS, frame, keys
from bus import clock
from ingest.collector import Collector
from ingest.desired import Desired, apply
from ingest.names import urgency
from ingest.status import Reporter
from ingest.told import Told
from market.instruments import Instrument
from schemas.bars import HistoryBar
from schemas.commands import FeedBackfill, Mode
from schemas.errors import Rejected
from schemas.events import FeedState, FeedStatus
from schemas.ticks import SessionClass

MINUTE = 60_000
DAY = 1440 * MINUTE
MIDNIGHT = 1_794_940_200_000  # 18 November 2026, IST


def option(strike: float) -> Instrument:
    return Instrument(
        key=f"NSE_FO|{int(strike)}", segment="NSE_FO", exchange="NSE", name="NIFTY", trading_symbol=f"NIFTY {strike}",
        instrument_type="CE", lot_size=75, tick_size=0.05, strike=strike, expiry=date(2026, 11, 24),
        underlying_key="NSE_INDEX|Nifty 50", underlying_symbol="NIFTY",
    )  # fmt: skip


def test_options_are_urgent_by_their_distance_from_the_money() -> None:
    strikes = [20_000.0, 24_000.0, 25_000.0, 25_100.0, 40_000.0, 90_000.0]
    order = sorted(strikes, key=lambda strike: urgency(option(strike), 25_040.0))
    assert order == [25_000.0, 25_100.0, 24_000.0, 20_000.0, 40_000.0, 90_000.0]
    assert all(2 <= urgency(option(strike), 25_040.0) < 3 for strike in strikes)
    assert {urgency(option(strike), spot) for strike in strikes for spot in (0.0, float("nan"))} == {2}
    share = replace(option(1.0), instrument_type="EQ", strike=None, expiry=None)
    assert urgency(share, 25_040.0) == 1
    assert urgency(None, 0.0) == 3


def test_the_price_of_what_has_ticked_is_known_and_of_nothing_else() -> None:
    of = Collector(1, 1 << 30, lambda _: SessionClass.ORDINARY)
    known, other = keys(2)
    of.follow([known, other])
    assert of.price(known) == 0.0
    of.take(frame(frames.Mode.FULL, [known], START_MS, random.Random(1)), 1, clock.monotonic_s())
    of.flush()
    assert of.price(known) > 0
    assert of.price(other) == of.price("NSE_INDEX|nobody") == 0.0


# What was told


def bar(minute: int, **more: float) -> HistoryBar:
    values = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 75, "oi": None, **more}
    return HistoryBar(instrument="NSE_FO|1", ts=MIDNIGHT + minute * MINUTE, **values)


@given(st.sets(st.integers(0, 1439)), st.dictionaries(st.integers(0, 1439), st.sampled_from(["close", "volume", "oi"])))
def test_what_differs_from_what_was_told_is_told_apart(told: set[int], changed: dict[int, str]) -> None:
    of = Told()
    of.note(bar(minute) for minute in told)
    final = {minute: bar(minute, **({changed[minute]: 9} if minute in changed else {})) for minute in range(1440)}
    assert {minute for minute, one in final.items() if of.differs(one)} == told & changed.keys()
    of.settle("NSE_FO|1", [MIDNIGHT])
    assert not any(of.differs(one) for one in final.values())


def test_minutes_before_the_start_of_a_process_that_took_over_may_have_been_told_otherwise() -> None:
    of = Told()
    of.resumed(["NSE_FO|1"])
    of.start("NSE_FO|1", MIDNIGHT + 600 * MINUTE)
    of.start("NSE_FO|1", MIDNIGHT + 700 * MINUTE)  # a reconnection
    assert [minute for minute in (599, 600, 699) if of.differs(bar(minute))] == [599]
    of.note([bar(599)])
    assert not of.differs(bar(599))
    of.drop(["NSE_FO|1"])
    assert not of.differs(bar(10))


# The command


def asked(desired: Desired, from_ms: int, to_ms: int) -> Desired:
    command = FeedBackfill(from_ms=from_ms, to_ms=to_ms)
    wish, _ = apply(desired, {}, command, mine=lambda _: True, known=lambda _: True)
    return wish


def test_minutes_that_lack_since_today_survive_a_crash_and_older_ones_are_found_by_another_audit() -> None:
    desired = Desired(added={"NSE_FO|1": Mode.FULL}, filled_to=MIDNIGHT + 600 * MINUTE, final_to=MIDNIGHT)
    assert asked(desired, MIDNIGHT + 555 * MINUTE, MIDNIGHT + 560 * MINUTE).filled_to == MIDNIGHT + 555 * MINUTE
    assert asked(desired, MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY).filled_to == desired.filled_to
    assert asked(desired, MIDNIGHT + 605 * MINUTE, MIDNIGHT + 606 * MINUTE).filled_to == desired.filled_to
    with pytest.raises(Rejected, match="31 days"):
        asked(desired, MIDNIGHT - 32 * DAY, MIDNIGHT)
    again = Desired.load(desired.dump())
    assert again is not None
    assert (again.filled_to, again.final_to) == (desired.filled_to, desired.final_to)


@pytest.mark.parametrize("span", [(5, 5), (6, 5), (-1, 5), (0, 1 << 62)], ids=["empty", "backwards", "before", "far"])
def test_a_span_that_is_none_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="ms"):
        FeedBackfill(from_ms=span[0], to_ms=span[1])


# The count in the feed's state


def status(waiting: int) -> FeedStatus:
    return FeedStatus(
        state=FeedState.LIVE, shard=0, venue="sim", connections=1, desired=9, seen=9, history_waiting=waiting
    )


def test_that_history_begins_or_ends_to_wait_is_news_at_once_and_how_much_is_not() -> None:
    of, told, now = Reporter(), [], 0.0
    for waiting in [*range(500, 0, -1), 0]:
        now += 0.1
        if waiting == 0:
            of.news()  # somebody noticed
        if of.is_due(now) and of.has_news(status(waiting), now):
            told.append(waiting)
    assert told[0] == 500
    assert told[-1] == 0
    assert len(told) < 10


def test_the_digest_is_small() -> None:
    of = Told()
    of.note(bar(minute) for minute in range(1440))
    (digests,) = vars(of)["_days"].values()
    assert digests.itemsize * len(digests) == 5760
    assert np.count_nonzero(digests) == 1440
