"""The fold against an independent reading of the same definition, and what it must survive."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bars import BarBuilder
from schemas.errors import Rejected
from schemas.ticks import FeedMark
from tests.aggregator.reference import MINUTE, Reference
from tests.aggregator.ticks import entry, mark

T0 = 1_795_000_000_000 // MINUTE * MINUTE
KEYS = ("NSE_FO|1", "NSE_FO|2", "NSE_INDEX|Nifty 50")


def always(*_: object) -> list[tuple[int, int]]:
    return [(0, 1 << 62)]


def update(key: str = KEYS[0], ts: int = T0, **more: Any) -> dict[str, Any]:
    return {"key": key, "ts": ts, "base": False, **more}


def fold(builder: BarBuilder, batches: list[Any]) -> list[dict[str, Any]]:
    return [orjson.loads(bar.data) for batch in batches for bar in builder.add(batch).bars]


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    """A few minutes of a feed: trades, quotes without a trade, late ones, outages, heartbeats."""
    now, vtt = T0 + draw(st.integers(0, 50_000)), dict.fromkeys(KEYS, 1000)
    steps: list[Any] = []
    ltt = dict.fromkeys(KEYS, T0 - 5000)
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, 1, 300, 999, 1000, 7_000, 31_000, 61_000]))
        kind = draw(st.sampled_from(["trade"] * 6 + ["quote", "quote", "late", "old", "down", "beat"]))
        if kind in ("down", "beat"):
            steps.append((kind, now))
            continue
        key = draw(st.sampled_from(KEYS))
        u = update(key, now, base=draw(st.integers(0, 12)) == 0, oi=float(draw(st.integers(1, 9)) * 75))
        if kind != "quote":
            u["ltp"] = draw(st.integers(1990, 2010)) / 20
            back = draw(st.integers(0, 400)) if kind == "trade" else draw(st.integers(0, 100_000))
            u["ltt"] = ltt[key] = max(now - back, ltt[key] if kind == "trade" else 0)
            if not key.startswith("NSE_INDEX"):
                vtt[key] += draw(st.integers(0, 3)) * 75
                u["vtt"] = vtt[key] - (75 if kind == "old" else 0)
        elif not key.startswith("NSE_INDEX"):
            u["vtt"] = vtt[key]
        if draw(st.booleans()):
            u["depth"] = [
                {
                    "bid_qty": draw(st.integers(0, 3)),
                    "bid": 100.0 - i,
                    "ask_qty": draw(st.integers(0, 3)),
                    "ask": 101.0 + i,
                }
                for i in range(3)
            ]
        steps.append(("update", u))
    return [*steps, ("beat", now + 200_000)]


def as_reference(steps: list[Any]) -> list[dict[str, Any]]:
    reference = Reference()
    for kind, what in steps:
        step: Callable[[Any], None] = getattr(reference, {"beat": "heartbeat"}.get(kind, kind))
        step(what)
    return reference.published


def as_batches(steps: list[Any], coalesced: int) -> list[Any]:
    """The same history as stream entries; neighbouring updates share one."""
    batches, waiting = [], []
    for kind, what in [*steps, ("end", 0)]:
        if kind == "update":
            waiting.append(what)
        if waiting and (kind != "update" or len(waiting) == coalesced):
            batches.append(entry(waiting))
            waiting = []
        if kind == "down":
            batches.append(mark(what, FeedMark.DOWN))
        elif kind == "beat":
            batches.append(mark(what, FeedMark.LIVE))
    return batches


@settings(deadline=None, max_examples=120)
@given(histories(), st.sampled_from([1, 2, 7, 100]))
def test_bars_are_those_of_an_independent_reading(steps: list[Any], coalesced: int) -> None:
    ours = fold(BarBuilder(always), as_batches(steps, coalesced))
    theirs = as_reference(steps)
    assert ours == theirs


@settings(deadline=None, max_examples=50)
@given(histories(), st.integers(1, 60))
def test_a_restart_at_any_entry_changes_no_byte(steps: list[Any], cut: int) -> None:
    batches = as_batches(steps, 3)
    whole = BarBuilder(always)
    expected = [bar.data for batch in batches for bar in whole.add(batch).bars]

    first, second = BarBuilder(always), BarBuilder(always)
    got = [bar.data for batch in batches[:cut] for bar in first.add(batch).bars]
    second.restore(first.snapshot())
    got += [bar.data for batch in batches[cut:] for bar in second.add(batch).bars]

    assert got == expected
    assert second.snapshot() == whole.snapshot()


# History, coverage, prints: what the random histories do not reach


def trade(ts: int, price: float, vtt: int, **more: Any) -> dict[str, Any]:
    return update(ts=ts, ltp=price, ltt=ts, vtt=vtt, **more)


def told(ts: int, key: str = KEYS[0], **more: Any) -> dict[str, Any]:
    bar = {"open": 99.0, "high": 111.0, "low": 98.0, "close": 110.0, "volume": 750, "oi": 1500.0}
    return {"instrument": key, "ts": ts, **bar, **more}


def history(now: int, *bars: dict[str, Any]) -> Any:
    return mark(now, b"", bars=orjson.dumps(list(bars)))


def covered_minute(builder: BarBuilder) -> list[dict[str, Any]]:
    """A base before T0, trades in T0's minute, and its end."""
    first = entry([trade(T0 - 30_000, 100.0, 1000, base=True)])
    second = entry([trade(T0 + 1000, 101.0, 1075), trade(T0 + 2000, 103.0, 1150)])
    return fold(builder, [first, second, mark(T0 + 63_000, FeedMark.LIVE)])


def test_a_minute_that_the_feed_covered_is_complete_and_the_first_one_is_not() -> None:
    bars = covered_minute(BarBuilder(always))
    assert [(bar["ts"], bar["complete"], bar["volume"]) for bar in bars] == [
        (T0 - MINUTE, False, 0),
        (T0, True, 150),
    ]


def test_history_does_not_touch_what_the_feed_covered() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    assert fold(builder, [history(T0 + 64_000, told(T0)), mark(T0 + 66_000, FeedMark.LIVE)]) == []


def test_history_completes_what_the_feed_did_not_cover() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    bars = fold(builder, [history(T0 + 64_000, told(T0 - MINUTE)), mark(T0 + 66_000, FeedMark.LIVE)])
    assert [(b["ts"], b["rev"], b["source"], b["complete"], b["high"], b["volume"]) for b in bars] == [
        (T0 - MINUTE, 1, "mixed", True, 111.0, 750)
    ]
    assert bars[0]["vwap"] is None  # history does not tell it
    assert bars[0]["ticks"] == 1


def test_history_completes_an_incomplete_bar_long_after_it_left_the_ring() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    later = [entry([trade(T0 + n * MINUTE, 100.0, 1150 + 75 * n)]) for n in range(1, 9)]
    fold(builder, later)
    again = BarBuilder(always)
    again.restore(builder.snapshot())
    bars = fold(again, [history(T0 + 8 * MINUTE + 1000, told(T0 - MINUTE))])
    assert [(b["ts"], b["rev"], b["source"], b["open"]) for b in bars] == [(T0 - MINUTE, 1, "mixed", 99.0)]


def test_history_fills_minutes_that_nobody_saw_once() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    past = [told(T0 - n * MINUTE) for n in range(20, 10, -1)]
    bars = fold(builder, [history(T0 + 64_000, *past), history(T0 + 65_000, *past), mark(T0 + 70_000, FeedMark.LIVE)])
    assert [b["ts"] for b in bars] == [T0 - n * MINUTE for n in range(20, 10, -1)]
    assert {(b["source"], b["rev"], b["complete"], b["ticks"]) for b in bars} == {("backfill", 0, True, 0)}
    assert [b["oi_diff"] for b in bars] == [None, *[0.0] * 9]


@pytest.mark.parametrize("late_ms", [0, 300, 1000, 2500])
def test_what_history_has_told_leaves_before_its_place_is_taken(late_ms: int) -> None:
    """The ring has a place for four minutes. History tells the oldest just as the first trade of a new one comes."""
    builder = BarBuilder(always)
    covered_minute(builder)  # a bar before T0 that is not whole, one of T0
    at = T0 + 3 * MINUTE
    news = history(at + 100, told(T0 - MINUTE), told(T0 + MINUTE), told(T0 - 2 * MINUTE))
    first = entry([trade(at + 100 + late_ms, 104.0, 1300)])
    bars = fold(builder, [mark(at + 50, FeedMark.LIVE), news, first, mark(at + 9000, FeedMark.LIVE)])
    assert sorted((b["ts"] - T0, b["rev"], b["source"], b["complete"]) for b in bars) == [
        (-2 * MINUTE, 0, "backfill", True),
        (-MINUTE, 1, "mixed", True),
        (MINUTE, 0, "backfill", True),
    ]


def test_history_of_a_minute_under_way_is_not_believed() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    assert fold(builder, [history(T0 + 64_000, told(T0 + MINUTE)), mark(T0 + 66_000, FeedMark.LIVE)]) == []


def test_a_bar_that_left_as_complete_is_corrected_when_the_feed_turns_out_to_have_been_mute() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    bars = fold(builder, [mark(T0 + 50_000, FeedMark.DOWN), mark(T0 + 65_000, FeedMark.AWAY)])
    assert [(b["ts"], b["rev"], b["complete"]) for b in bars] == [(T0, 1, False)]


def test_lost_entries_leave_a_hole_that_the_next_record_does_not_take_back() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    builder.lose()
    after = entry([trade(T0 + 80_000, 102.0, 1900), trade(T0 + 90_000, 103.0, 1975)])
    bars = fold(builder, [after, mark(T0 + 125_000, FeedMark.LIVE)])
    assert [(b["ts"], b["complete"], b["volume"]) for b in bars] == [(T0 + MINUTE, False, 75)]


def test_a_false_alarm_is_taken_back() -> None:
    builder = BarBuilder(always)
    covered_minute(builder)
    alarm = [mark(T0 + 70_000, FeedMark.DOWN), mark(T0 + 125_000, FeedMark.AWAY)]
    fold(builder, [entry([trade(T0 + 65_000, 101.0, 1225)]), *alarm])
    late = entry([trade(T0 + 80_000, 102.0, 1300) | {"ts": T0 + 126_000}])
    bars = fold(builder, [late, mark(T0 + 127_000, FeedMark.LIVE)])
    assert [(b["ts"], b["rev"], b["complete"], b["volume"]) for b in bars] == [(T0 + MINUTE, 1, True, 150)]


def test_a_down_mark_that_names_instruments_leaves_the_others_covered() -> None:
    builder = BarBuilder(always)
    both = [trade(T0 - 1000, 100.0, 10, base=True), trade(T0 - 1000, 50.0, 10, base=True) | {"key": KEYS[1]}]
    more = [trade(T0 + 1000, 100.0, 85), trade(T0 + 1000, 50.0, 85) | {"key": KEYS[1]}]
    down = mark(T0 + 20_000, FeedMark.DOWN, keys=[KEYS[1]])
    bars = fold(builder, [entry(both), entry(more), down, mark(T0 + 63_000, FeedMark.LIVE)])
    assert [(b["instrument"], b["complete"]) for b in bars if b["ts"] == T0] == [(KEYS[0], True), (KEYS[1], False)]


def test_trades_outside_the_session_make_prints_and_no_bar() -> None:
    closes = T0 + 30_000
    builder = BarBuilder(lambda *_: [(T0, closes)])
    first = entry([trade(T0 - 1000, 100.0, 1000, base=True)])
    inside, outside = trade(T0 + 1000, 101.0, 1075), trade(closes, 150.0, 2075)
    out = [builder.add(batch) for batch in (first, entry([inside, outside]), mark(T0 + 90_000, FeedMark.LIVE))]
    assert [(p.price, p.volume) for produced in out for p in produced.prints] == [(150.0, 1000)]
    assert [orjson.loads(b.data)["high"] for produced in out for b in produced.bars] == [101.0]


def test_a_trade_from_the_future_is_not_believed() -> None:
    builder = BarBuilder(always)
    bad = trade(T0 + 3000, 500.0, 1300) | {"ltt": T0 + 86_400_000}
    covered = [entry([trade(T0 - 1000, 100.0, 1000, base=True)]), entry([bad]), entry([trade(T0 + 4000, 101.0, 1375)])]
    bars = fold(builder, [*covered, mark(T0 + 63_000, FeedMark.LIVE)])
    assert [(b["ts"], b["high"], b["volume"]) for b in bars if b["ts"] >= T0] == [(T0, 101.0, 375)]


def first_volume(*before: dict[str, Any]) -> list[int]:
    """Volumes of the bar that two trades make after these updates."""
    after = [trade(T0 + 1000, 100.0, 5075), trade(T0 + 2000, 101.0, 5150)]
    bars = fold(BarBuilder(always), [entry([*before]), entry(after), mark(T0 + 63_000, FeedMark.LIVE)])
    return [bar["volume"] for bar in bars if bar["ts"] == T0]


def test_a_days_volume_is_not_taken_for_a_trades_where_the_first_update_told_none() -> None:
    depth = [{"bid_qty": 1, "bid": 99.0, "ask_qty": 1, "ask": 101.0}]
    assert first_volume(update(ts=T0 - 1000, base=True, depth=depth)) == [75]
    assert first_volume(trade(T0 - 1000, 100.0, 5000, base=True) | {"ltt": T0 + 86_400_000}) == [75]


def test_an_instrument_that_has_never_traded_counts_from_zero() -> None:
    assert first_volume(update(ts=T0 - 1000, base=True, ltt=0, vtt=0)) == [5150]


def test_an_entry_whose_keys_are_not_those_of_its_records_is_refused() -> None:
    good = entry([trade(T0, 100.0, 1000, base=True)])
    with pytest.raises(Rejected):
        BarBuilder(always).add(replace(good, names=KEYS[1].encode()))


def test_thousands_of_instruments_grow_the_state_and_leave_in_the_order_of_their_keys() -> None:
    builder = BarBuilder(always)
    keys = [f"NSE_FO|{number}" for number in range(3000)]
    fold(builder, [entry([trade(T0 - 1000, 100.0, 10, base=True) | {"key": key} for key in keys])])
    bars = fold(builder, [entry([trade(T0 + 1000, 100.0, 85) | {"key": k} for k in keys]), mark(T0 + 63_000, b"live")])
    assert [bar["instrument"] for bar in bars if bar["ts"] == T0] == sorted(keys)


@pytest.mark.parametrize("body", [b"", b"nothing of ours", zlib.compress(b"\x02\x00\x00\x00{}")])
def test_a_foreign_snapshot_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        BarBuilder(always).restore(body)
