"""The fold against an independent reading of the same definition, and what it must survive."""

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bars import BarBuilder
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


@settings(deadline=None, max_examples=300)
@given(histories(), st.sampled_from([1, 2, 7, 100]))
def test_bars_are_those_of_an_independent_reading(steps: list[Any], coalesced: int) -> None:
    ours = fold(BarBuilder(always), as_batches(steps, coalesced))
    theirs = as_reference(steps)
    assert ours == theirs


@settings(deadline=None, max_examples=100)
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
