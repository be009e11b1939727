"""The second stage against a naive reading: whatever is revised, whenever it is killed, the same longer bars remain."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bars import Printed
from aggregator.closed import Closed
from aggregator.intervals import Long, Longer
from aggregator.state import NEVER, ROW, SEEN
from market import intervals, sessions
from market.intervals import LONGER, MINUTE_MS, Print
from schemas.intervals import Interval
from schemas.ticks import SessionClass
from tests.market.naive import bar, naive

KEYS = ("NSE_FO|1", "NSE_FO|2", "NSE_EQ|3")
MUHURAT = date(2025, 10, 21)  # 13:45 to 14:45
HOURS = sessions.continuous("NSE_FO", SessionClass.ORDINARY, MUHURAT)
OPEN, CLOSE = HOURS[0]
MINUTES = range(OPEN, CLOSE, MINUTE_MS)
LATE = CLOSE + 120 * MINUTE_MS


def hours(key: str, session: SessionClass, on: date) -> Sequence[tuple[int, int]]:
    return sessions.continuous(sessions.segment_of(key), session, on)


def phases(key: str, session: SessionClass, on: date) -> Sequence[sessions.Interval]:
    return sessions.day(sessions.segment_of(key), session, on)


def rows(covered_from: int = 0, covered_to: int = NEVER, session: int = 0) -> Any:
    """What the fold of ticks knows of KEYS."""
    found = np.zeros(len(KEYS), ROW)
    found["seen"], found["covered_from"], found["covered_to"] = SEEN, covered_from, covered_to
    found["session"] = session
    return found


def closed(key: str, one: dict[str, Any]) -> Closed:
    return Closed(key, one["ts"], one["rev"], orjson.dumps({"instrument": key, **one}))


@dataclass
class Stage:
    """The stage, and what the streams of its shard hold."""

    known: Any = field(default_factory=rows)
    candles: list[Closed] = field(default_factory=list)
    prints: list[Printed] = field(default_factory=list)
    out: list[Long] = field(default_factory=list)
    closed_ms: int = 0
    longer: Longer = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, until_settled: Sequence[tuple[list[Closed], int]] = ()) -> None:
        """A new process: from the streams alone. `until_settled` is what it is given meanwhile."""
        self.longer = Longer(hours, phases)
        self.longer.know(KEYS, self.known)
        streams = [one.data for one in self.candles], list(self.prints), [one.data for one in self.out]
        for bars, closed_ms in until_settled:
            self.add(bars, [], closed_ms)
        for data in streams[0]:
            self.longer.remember(data)
        for one in streams[1]:
            self.longer.remember_print(one.instrument, Print(one.ltt, one.price, one.volume))
        for data in streams[2]:
            self.longer.told(data)
        for found in self.longer.settle(self.closed_ms):
            self.out += found

    def add(self, bars: list[Closed], prints: list[Printed], closed_ms: int) -> list[Long]:
        self.longer.know(KEYS, self.known)
        found = self.longer.add(bars, prints, closed_ms)
        self.closed_ms = max(self.closed_ms, closed_ms)
        self.candles += bars
        self.prints += prints
        self.out += found
        return found

    def newest(self, interval: Interval, key: str) -> list[dict[str, Any]]:
        """The newest revision of each bar."""
        best: dict[int, Long] = {}
        for one in self.out:
            if (one.instrument, one.interval) == (key, interval) and (one.ts not in best or best[one.ts].rev < one.rev):
                best[one.ts] = one
        return [orjson.loads(one.data) for _, one in sorted(best.items())]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Closed], int]]:
    """Steps of (bars that leave, closed until): each minute once, some again later, in any order."""
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    often, revised = draw(st.sampled_from([0.1, 0.6, 1.0])), draw(st.sampled_from([0.0, 0.1, 0.5]))
    steps: list[tuple[list[Closed], int]] = []
    published: dict[tuple[str, int], dict[str, Any]] = {}

    def made(key: str, ts: int) -> Closed:
        rev = published[key, ts]["rev"] + 1 if (key, ts) in published else 0
        low, volume = chance.randrange(1900, 2000), chance.choice([0, 75, 150])
        oi = chance.choice([None, 75.0, 750.0])
        one = bar(
            ts, low / 20, high=low / 20 + 1, volume=volume, vwap=low / 20 if volume else None, rev=rev, oi=oi,
            oi_diff=None if oi is None else 75.0, ticks=3, source=chance.choice(["live", "mixed"]),
            bid_wall=chance.choice([None, {"price": 9.5, "qty": 75}]), iv=chance.choice([None, 0.25]),
            model=chance.choice([None, model(chance)]), complete=chance.random() < 0.9,
        )  # fmt: skip
        published[key, ts] = one
        return closed(key, one)

    for ts in MINUTES:
        left = [made(key, ts) for key in KEYS if chance.random() < often]
        again = [made(*one) for one in sorted(published) if one[1] < ts and chance.random() < revised / 20]
        late = [made(key, chance.randrange(OPEN, ts + 1, MINUTE_MS)) for key in KEYS if chance.random() < revised / 10]
        steps += [(left, ts + MINUTE_MS), (again, ts + MINUTE_MS), (late, ts + MINUTE_MS)]
    return [step for step in steps if step[0] or chance.random() < 0.5] + [([], LATE)]


def model(chance: random.Random) -> dict[str, Any]:
    numbers = dict.fromkeys(("iv", "delta", "gamma", "theta", "vega", "rho", "price"), chance.choice([None, 0.5]))
    words = chance.choice(
        [("mid", "parity", "ok"), (None, "none", "no forward"), ("last", "future", "below_intrinsic")]
    )
    return {**numbers, "price_from": words[0], "forward": 100.0, "forward_from": words[1], "flag": words[2]}


def final(steps: Sequence[tuple[list[Closed], int]], key: str) -> list[dict[str, Any]]:
    """The minutes of a key as they are in the end."""
    best = {one.ts: orjson.loads(one.data) for bars, _ in steps for one in bars if one.instrument == key}
    return [best[ts] for ts in sorted(best)]


def plain(one: dict[str, Any]) -> dict[str, Any]:
    """Without what the naive reading does not know, floats to twelve digits."""
    rounded = {name: float(f"{value:.12g}") if isinstance(value, float) else value for name, value in one.items()}
    return {name: value for name, value in rounded.items() if name not in ("instrument", "close_from")}


def assert_all_is_there(stage: Stage, steps: Sequence[tuple[list[Closed], int]]) -> None:
    for key in KEYS:
        for interval in LONGER:
            expected = [plain(one) for one in naive(final(steps, key), interval, HOURS)]
            assert [plain(one) for one in stage.newest(interval, key)] == expected


@settings(deadline=None, max_examples=25)
@given(histories())
def test_revisions_in_any_order_come_to_the_definition(steps: list[tuple[list[Closed], int]]) -> None:
    stage = Stage()
    for bars, closed_ms in steps:
        stage.add(bars, [], closed_ms)
    assert_all_is_there(stage, steps)
    times = Counter((one.instrument, one.interval, one.ts, one.rev) for one in stage.out)
    assert not [one for one, count in times.items() if count > 1]


@settings(deadline=None, max_examples=25)
@given(histories(), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 5))
def test_kills_lose_nothing_and_double_nothing(
    steps: list[tuple[list[Closed], int]], kills: list[int], meanwhile: int
) -> None:
    """Killed between any two commits; a new process is given some steps before it has read what was there."""
    stage = Stage()
    rest = list(steps)
    while rest:
        if len(steps) - len(rest) in kills:
            stage.restart(rest[:meanwhile])
            rest = rest[meanwhile:]
        for bars, closed_ms in rest[:1]:
            stage.add(bars, [], closed_ms)
        rest = rest[1:]
    stage.add([], [], LATE)
    assert_all_is_there(stage, steps)
    times = Counter((one.instrument, one.interval, one.ts, one.rev) for one in stage.out)
    assert not [one for one, count in times.items() if count > 1]


@settings(deadline=None, max_examples=10)
@given(histories())
def test_the_same_bars_give_the_same_bytes(steps: list[tuple[list[Closed], int]]) -> None:
    first, second = Stage(), Stage()
    for bars, closed_ms in steps:
        assert first.add(bars, [], closed_ms) == second.add(bars, [], closed_ms)


# When they leave


def test_a_bar_leaves_when_its_last_minute_has_left_though_that_had_no_trade() -> None:
    stage = Stage()
    assert stage.add([closed(KEYS[0], bar(OPEN))], [], OPEN + MINUTE_MS) == []
    assert stage.add([], [], OPEN + 2 * MINUTE_MS) == []
    (left,) = stage.add([], [], OPEN + 3 * MINUTE_MS)
    assert (left.interval, left.ts, left.rev) == (Interval.M3, OPEN, 0)
    assert [one.interval for one in stage.add([], [], OPEN + 15 * MINUTE_MS)] == [Interval.M5, Interval.M15]


def test_bars_that_end_together_leave_by_interval_then_by_key() -> None:
    stage = Stage()
    stage.add([closed(key, bar(OPEN)) for key in KEYS], [], OPEN + MINUTE_MS)
    left = stage.add([], [], CLOSE)
    assert [(one.interval, one.instrument) for one in left] == [
        (interval, key) for interval in (*LONGER[:4], Interval.M60, Interval.DAY) for key in sorted(KEYS)
    ]


def test_a_revision_of_an_early_minute_is_a_revision_of_all_its_bars() -> None:
    stage = Stage()
    stage.add([closed(KEYS[0], bar(OPEN, 100.0))], [], OPEN + MINUTE_MS)
    assert len(stage.add([], [], LATE)) == len(LONGER)
    again = stage.add([closed(KEYS[0], bar(OPEN, 101.0, rev=1))], [], LATE)
    assert [(one.interval, one.rev) for one in again] == [(interval, 1) for interval in LONGER]
    assert stage.add([closed(KEYS[0], bar(OPEN, 101.0, rev=1))], [], LATE) == []


def test_a_market_that_never_closes_ends_its_day_at_midnight_and_begins_another() -> None:
    stage = Stage(rows(session=SessionClass.ALWAYS_OPEN))
    midnight = intervals.midnight(OPEN) + intervals.DAY_MS
    last, first = midnight - MINUTE_MS, midnight
    stage.add([closed(KEYS[0], bar(last - MINUTE_MS))], [], last)
    left = stage.add([closed(KEYS[0], bar(last)), closed(KEYS[0], bar(first))], [], midnight + MINUTE_MS)
    assert [(one.interval, orjson.loads(one.data)["minutes"]) for one in left] == [(each, 2) for each in LONGER]
    (three,) = stage.add([], [], midnight + 3 * MINUTE_MS)
    assert (three.interval, three.ts) == (Interval.M3, midnight)


# Complete


def complete(found: Sequence[Long]) -> dict[Interval, bool]:
    return {one.interval: orjson.loads(one.data)["complete"] for one in found}


def test_a_minute_without_a_trade_that_the_feed_watched_is_no_hole() -> None:
    stage = Stage(rows(covered_from=OPEN))
    for ts in MINUTES:
        stage.add([closed(KEYS[0], bar(ts))] if ts == OPEN else [], [], ts + MINUTE_MS)
    assert complete(stage.out) == dict.fromkeys(LONGER, True)


def test_a_minute_that_nobody_watched_is_a_hole_in_every_bar_around_it() -> None:
    stage = Stage(rows(covered_from=OPEN))
    for ts in MINUTES:
        if ts == OPEN + 7 * MINUTE_MS:
            stage.known["covered_to"] = ts + 20_000
        if ts == OPEN + 9 * MINUTE_MS:
            stage.known["covered_from"], stage.known["covered_to"] = ts, NEVER
        stage.add([closed(KEYS[0], bar(ts))] if ts < OPEN + 7 * MINUTE_MS else [], [], ts + MINUTE_MS)
    found = [orjson.loads(one.data) for one in stage.out]
    holes = {(one["interval"], (one["ts"] - OPEN) // MINUTE_MS) for one in found if not one["complete"]}
    day = (intervals.midnight(OPEN) - OPEN) // MINUTE_MS
    assert holes == {("3m", 6), ("5m", 5), ("15m", 0), ("30m", 0), ("60m", 0), ("1d", day)}
    told = [closed(KEYS[0], bar(OPEN + n * MINUTE_MS, source="backfill")) for n in (7, 8)]
    stage.add(told, [], LATE)
    assert all(one["complete"] for each in LONGER for one in stage.newest(each, KEYS[0]))


def test_what_was_watched_before_a_restart_is_known_after_it() -> None:
    stage = Stage(rows(covered_from=OPEN))
    for ts in MINUTES:
        stage.add([closed(KEYS[0], bar(ts))] if ts == OPEN else [], [], ts + MINUTE_MS)
    stage.known = rows(covered_from=LATE)
    stage.restart()
    again = stage.add([closed(KEYS[0], bar(OPEN, rev=1))], [], LATE)
    assert complete(again) == dict.fromkeys(LONGER, True)


# Days


def trades(*found: tuple[int, float, int]) -> list[Printed]:
    return [Printed(KEYS[2], OPEN + minute * MINUTE_MS, price, volume) for minute, price, volume in found]


def test_a_day_counts_the_prints_and_leaves_again_with_each_that_comes_later() -> None:
    stage = Stage()
    assert stage.add([], trades((-8, 90.0, 7)), OPEN - 6 * MINUTE_MS) == []
    stage.add([closed(KEYS[2], bar(OPEN, 100.0, volume=10, vwap=100.0))], [], OPEN + MINUTE_MS)
    day = next(orjson.loads(one.data) for one in stage.add([], [], CLOSE) if one.interval is Interval.DAY)
    assert (day["ts"], day["open"], day["close"], day["volume"]) == (intervals.midnight(OPEN), 90.0, 100.0, 17)
    assert (day["close_from"], day["rev"], day["minutes"]) == ("continuous", 1, 1)
    (again,) = stage.add([], trades((60, 101.0, 3)), CLOSE + MINUTE_MS)
    assert (again.rev, orjson.loads(again.data)["volume"], orjson.loads(again.data)["close"]) == (2, 20, 101.0)


@pytest.mark.parametrize("settled_first", [False, True])
def test_prints_survive_a_restart(settled_first: bool) -> None:
    stage = Stage()
    stage.add([], trades((-8, 90.0, 7)), OPEN - 6 * MINUTE_MS)
    if settled_first:
        stage.add([], [], CLOSE)
    stage.restart()
    stage.add([], [], CLOSE)
    (day,) = stage.newest(Interval.DAY, KEYS[2])
    assert (day["open"], day["volume"], day["minutes"], day["iv"]) == (90.0, 7, 0, None)
    assert len(stage.out) == 1


# Bounds


def test_an_instrument_is_worth_no_more_memory_than_its_day() -> None:
    stage = Stage()
    for on in range(3):
        for ts in MINUTES:
            shifted = ts + on * intervals.DAY_MS
            stage.add([closed(KEYS[0], bar(shifted))], [], shifted + MINUTE_MS)
    day = stage.longer._days[KEYS[0]]
    assert day.minutes.nbytes + day.ends.nbytes <= 128 * 245


def test_a_bar_of_an_older_day_is_left_to_those_who_fold_history() -> None:
    """A hole of yesterday that history fills today: the rest of yesterday is not here any more."""
    stage = Stage()
    stage.add([closed(KEYS[0], bar(OPEN))], [], OPEN + MINUTE_MS)
    yesterday = OPEN - intervals.DAY_MS
    assert stage.add([closed(key, bar(yesterday)) for key in KEYS], [], LATE) == stage.out
    assert {(one.instrument, one.ts >= intervals.midnight(OPEN)) for one in stage.out} == {(KEYS[0], True)}


def test_a_process_that_starts_leaves_an_older_day_alone() -> None:
    stage = Stage()
    stage.candles = [closed(KEYS[0], bar(OPEN))]
    stage.closed_ms = LATE + intervals.DAY_MS
    stage.restart()
    assert stage.out == stage.add([], [], LATE + intervals.DAY_MS) == []


def test_at_midnight_the_day_is_let_go() -> None:
    stage = Stage()
    stage.add([closed(key, bar(OPEN)) for key in KEYS], [], OPEN + MINUTE_MS)
    assert len(stage.add([], [], intervals.midnight(OPEN) + intervals.DAY_MS)) == len(KEYS) * len(LONGER)
    assert stage.add([], [], intervals.midnight(OPEN) + intervals.DAY_MS + MINUTE_MS) == []
    assert not stage.longer._days
