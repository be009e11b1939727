"""The minute's panel and the own Greeks of bars, against an independent reading and textbook formulas."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.bars import BarBuilder, Produced
from aggregator.moments import PanelPart
from schemas.bars import Bar
from schemas.panel import PANEL, Panel
from schemas.streams import shard_of
from schemas.terms import Terms
from schemas.ticks import FeedMark, TickBatch
from tests.aggregator.reference import MINUTE, QUOTED, Reference
from tests.aggregator.test_bars import T0, always, as_batches, update
from tests.aggregator.ticks import entry, mark

RATE: Final = 0.0525
SPOT, FUTURE, CALL, PUT, FAR, OTHER = "NSE_INDEX|Nifty 50", "NSE_FO|9", "NSE_FO|1", "NSE_FO|2", "NSE_FO|3", "NSE_EQ|A"
LAST_TRADE: Final = T0 + 4 * 86_400_000

_CONTRACT: Final = {"underlying": SPOT, "expiry": date(2026, 11, 24), "last_trade_ms": LAST_TRADE, "lot_size": 65}
TERMS: Final[Mapping[str, Mapping[str, Any]]] = {
    SPOT: {"kind": "spot", "underlying": SPOT},
    FUTURE: {"kind": "future", **_CONTRACT},
    CALL: {"kind": "option", **_CONTRACT, "strike": 100.0, "is_call": True},
    PUT: {"kind": "option", **_CONTRACT, "strike": 100.0, "is_call": False},
    FAR: {"kind": "option", **_CONTRACT, "strike": 104.0, "is_call": True},
}


def build(shards: int = 1) -> BarBuilder:
    return BarBuilder(always, asks=True, shards=shards, rate=RATE)


def add(builder: BarBuilder, batch: TickBatch, terms: Mapping[str, Mapping[str, Any]] = TERMS) -> Produced:
    """As the shell does it."""
    produced = builder.add(batch)
    while produced.wanted:
        builder.know({key: Terms(**terms[key]) if key in terms else None for key in produced.wanted}, batch.ts)
        produced = builder.go_on()
    return produced


def bars_of(produced: list[Produced]) -> list[dict[str, Any]]:
    return [orjson.loads(bar.data) for each in produced for bar in each.bars]


def panels_of(produced: list[Produced]) -> list[PanelPart]:
    return [part for each in produced for part in each.panels]


def readable(part: PanelPart | Panel) -> dict[str, Any]:
    """As the independent reading has it."""
    assert part.rec.dtype == PANEL
    found: dict[str, Any] = {"ts": part.ts}
    for key, values in zip(part.keys, part.rec.tolist(), strict=True):
        record = dict(zip(PANEL.names or (), values, strict=True))
        found[key] = {name: None if value != value else value for name, value in record.items() if name != "id"}
    return found


def expected(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Quantities that nobody told are 0."""
    zeros = dict.fromkeys(("bid_qty", "ask_qty"), 0)
    return {
        key: {**each, **{name: each[name] or zero for name, zero in zeros.items()}} if isinstance(each, dict) else each
        for key, each in panel.items()
    }


# Against the independent reading


@st.composite
def option_histories(draw: st.DrawFn) -> list[Any]:
    """Minutes of an index, its future and three options: trades, quotes, gaps of the feed and of time."""
    now, vtt = T0 + draw(st.integers(0, 50_000)), 1000
    steps: list[Any] = []
    with_future = draw(st.booleans())
    keys = [SPOT, CALL, CALL, PUT, PUT, FAR, OTHER, *([FUTURE] if with_future else [])]
    for _ in range(draw(st.integers(1, 50))):
        now += draw(st.sampled_from([0, 1, 300, 999, 7_000, 20_000, 31_000, 61_000, 200_000]))
        kind = draw(st.sampled_from(["trade"] * 4 + ["quote"] * 4 + ["late", "down", "beat"]))
        if kind in ("down", "beat"):
            back = draw(st.sampled_from([0, 0, 1000, 15_000])) if kind == "down" else 0
            steps.append((kind, now - back))
            continue
        key = draw(st.sampled_from(keys))
        u = update(key, now, base=draw(st.integers(0, 15)) == 0, **draw(quotes(key)))
        if kind != "quote":
            u["ltp"] = draw(prices(key))
            u["ltt"] = now - (draw(st.integers(0, 400)) if kind == "trade" else draw(st.integers(0, 100_000)))
            if key != SPOT:
                vtt += draw(st.integers(0, 3)) * 75
        if key != SPOT:
            u["vtt"] = vtt
        steps.append(("update", u))
    return [*steps, ("beat", now + draw(st.sampled_from([61_000, 200_000, 2_000_000])))]


def prices(key: str) -> st.SearchStrategy[float]:
    low, high = (1990, 2030) if key in (SPOT, FUTURE, OTHER) else (1, 120)
    return st.integers(low, high).map(lambda ticks: ticks / 20)


@st.composite
def quotes(draw: st.DrawFn, key: str) -> dict[str, Any]:
    told: dict[str, Any] = {"oi": float(draw(st.integers(1, 9)) * 75), "cp": 99.5}
    if draw(st.integers(0, 4)):
        told["bid"] = draw(prices(key))
        told["ask"] = round(told["bid"] + draw(st.sampled_from([-0.05, 0.0, 0.05, 0.05, 0.1, 5.0])), 2)
        told |= {"bid_qty": draw(st.integers(1, 500)), "ask_qty": draw(st.integers(1, 500))}
    if key in (CALL, PUT, FAR) and draw(st.booleans()):
        told |= {"iv": 0.15, "delta": 0.5, "gamma": 0.01, "theta": -1.0, "vega": 0.2, "rho": 0.1}
    return told


def same_model(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    if ours["flag"] == "undetermined":  # halving finds something: the price is all but its intrinsic value
        return theirs["flag"] in ("ok", "below_intrinsic", "above_bound") and ours["iv"] is ours["delta"] is None
    exact = [name for name in ours if name.endswith("from") or name == "flag"]
    near = [name for name in ours if name not in exact]
    return all(ours[name] == theirs[name] for name in exact) and all(_near(ours[name], theirs[name]) for name in near)


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


@settings(deadline=None, max_examples=80)
@given(option_histories(), st.sampled_from([1, 3, 100]))
def test_panels_and_own_greeks_are_those_of_an_independent_reading(steps: list[Any], coalesced: int) -> None:
    builder, reference = build(), Reference(terms=TERMS, rate=RATE)
    ours = [add(builder, batch) for batch in as_batches(steps, coalesced)]
    for kind, what in steps:
        getattr(reference, {"beat": "heartbeat"}.get(kind, kind))(what)

    assert list(map(readable, panels_of(ours))) == list(map(expected, reference.panels))
    for bar, theirs in zip(bars_of(ours), reference.published, strict=True):
        assert same_model(bar.pop("model"), theirs.pop("model"))
        assert bar == theirs


@settings(deadline=None, max_examples=30)
@given(option_histories(), st.integers(1, 50), st.sampled_from([1, 3]))
def test_a_restart_at_any_entry_changes_no_byte(steps: list[Any], cut: int, shards: int) -> None:
    batches = as_batches(steps, 3)
    whole, first, second = build(shards), build(shards), build(shards)
    expected = told([add(whole, batch) for batch in batches])
    got = [add(first, batch) for batch in batches[:cut]]
    second.restore(first.snapshot())
    got += [add(second, batch) for batch in batches[cut:]]

    assert told(got) == expected
    assert second.snapshot() == whole.snapshot()


def told(produced: list[Produced]) -> list[Any]:
    parts = [(part.to, part.ts, part.keys, part.rec.tobytes()) for part in panels_of(produced)]
    return [*(bar.data for each in produced for bar in each.bars), *parts]


@settings(deadline=None, max_examples=20)
@given(option_histories())
def test_every_shard_of_underlyings_gets_its_part_and_nothing_is_in_two(steps: list[Any]) -> None:
    batches = as_batches(steps, 3)
    one, three = build(1), build(3)
    together = panels_of([add(one, batch) for batch in batches])
    everything = panels_of([add(three, batch) for batch in batches])
    assert [part.to for part in everything] == [0, 1, 2] * (len(everything) // 3)  # empty ones too
    minutes = {part.ts for part in together}
    assert not any(part.keys for part in everything if part.ts not in minutes)  # others wait for a word of us
    apart = [part for part in everything if part.ts in minutes]
    for at, part in enumerate(together):
        its = apart[3 * at : 3 * at + 3]
        assert {each.ts for each in its} == {part.ts}
        assert sorted(key for each in its for key in each.keys) == list(part.keys)
        for each in its:
            assert {shard_of(TERMS[key]["underlying"], 3) for key in each.keys} <= {each.to}


# By name


def quoted(key: str, ts: int, bid: float, ask: float, **more: Any) -> dict[str, Any]:
    return update(key, ts, bid=bid, ask=ask, bid_qty=65, ask_qty=65, **more)


def traded(key: str, ts: int, price: float, vtt: int | None = 100, **more: Any) -> dict[str, Any]:
    return update(key, ts, ltp=price, ltt=ts, vtt=vtt, **more)


def day(*updates: dict[str, Any], end: int = T0 + MINUTE + 2000) -> list[Produced]:
    """All instruments at the beginning, then these updates, then the minute's end."""
    builder = build()
    start = [
        traded(SPOT, T0 - 70_000, 100.0, None, base=True),
        traded(FUTURE, T0 - 70_000, 101.0, base=True),
        traded(CALL, T0 - 70_000, 3.0, base=True),
        traded(PUT, T0 - 70_000, 2.0, base=True),
    ]
    batches = [entry(start), *(entry([each]) for each in updates), mark(end, FeedMark.LIVE)]
    return [add(builder, batch) for batch in batches]


def model(produced: list[Produced], key: str = CALL, minute: int = T0) -> dict[str, Any]:
    (found,) = [bar["model"] for bar in bars_of(produced) if (bar["instrument"], bar["ts"]) == (key, minute)]
    assert isinstance(found, dict)
    return found


def test_the_price_is_the_middle_of_a_sane_quote_and_the_forward_the_future() -> None:
    told = model(
        day(
            quoted(FUTURE, T0 + 1000, 101.0, 101.2),
            traded(CALL, T0 + 2000, 3.0, 175),
            quoted(CALL, T0 + 50_000, 3.0, 3.1, vtt=175),
        )
    )
    assert (told["price"], told["price_from"], told["forward_from"]) == (3.05, "mid", "future")
    assert told["forward"] == pytest.approx(101.1)
    assert told["flag"] == "ok"


@pytest.mark.parametrize(
    ("bid", "ask"), [(0.0, 3.1), (3.0, 9.0), (3.2, 3.1)], ids=["no-bid", "too-far-apart", "crossed"]
)
def test_without_a_sane_quote_the_price_is_the_close(bid: float, ask: float) -> None:
    future = traded(FUTURE, T0 + 1000, 101.0, 175)
    told = model(day(future, traded(CALL, T0 + 2000, 3.4, 175, bid=bid, ask=ask, bid_qty=1, ask_qty=1)))
    assert (told["price"], told["price_from"], told["forward"]) == (3.4, "last", 101.0)


def test_without_a_future_parity_makes_the_forward_and_an_old_trade_makes_none() -> None:
    """The future's trade is of an earlier minute."""
    both = model(day(traded(CALL, T0 + 2000, 3.0, 175), traded(PUT, T0 + 3000, 2.0, 175)))
    assert both["forward_from"] == "parity"
    years = (LAST_TRADE - T0 - MINUTE) / (365 * 86_400_000)
    assert both["forward"] == pytest.approx(100.0 + math.exp(RATE * years), abs=1e-12)
    alone = model(day(traded(CALL, T0 + 2000, 3.0, 175)))
    assert (alone["forward"], alone["forward_from"], alone["flag"]) == (None, "none", "no_forward")
    assert alone["iv"] is alone["delta"] is None


@pytest.mark.parametrize(
    ("price", "flag"), [(0.5, "below_intrinsic"), (150.0, "above_bound")], ids=["below-intrinsic", "above-bound"]
)
def test_a_price_outside_the_bounds_has_a_flag_and_no_number(price: float, flag: str) -> None:
    told = model(day(traded(FUTURE, T0 + 1000, 101.0, 175), traded(CALL, T0 + 2000, price, 175)))
    assert told["flag"] == flag
    assert {told[name] for name in ("iv", "delta", "gamma", "theta", "vega", "rho")} == {None}


def test_what_the_feed_did_not_cover_as_the_minute_ended_is_not_used() -> None:
    updates = [traded(FUTURE, T0 + 1000, 101.0, 175), traded(CALL, T0 + 2000, 3.4, 175)]
    builder = build()
    produced = [add(builder, entry([{**each, "base": True}])) for each in updates]
    produced += [add(builder, mark(T0 + 50_000, FeedMark.DOWN)), add(builder, mark(T0 + 63_000, FeedMark.AWAY))]
    told = model(produced)
    assert (told["flag"], told["price"], told["forward_from"]) == ("unseen", None, "none")
    (panel,) = panels_of(produced)
    assert readable(panel)[CALL]["covered"] == 0


def test_a_late_trade_changes_the_price_where_it_came_from_the_last_trade_and_keeps_the_forward() -> None:
    builder = build()
    start = [traded(FUTURE, T0 - 70_000, 101.0, base=True), traded(CALL, T0 - 70_000, 3.0, base=True)]
    late = traded(CALL, T0 + 59_000, 3.6, 250) | {"ts": T0 + 63_000}
    batches = [
        entry(start),
        entry([traded(FUTURE, T0 + 1000, 101.0, 175), traded(CALL, T0 + 2000, 3.4, 175)]),
        mark(T0 + 62_000, FeedMark.LIVE),
        entry([traded(FUTURE, T0 + 62_500, 105.0, 250), late]),
        mark(T0 + 65_000, FeedMark.LIVE),
    ]
    bars = [
        bar for bar in bars_of([add(builder, each) for each in batches]) if (bar["instrument"], bar["ts"]) == (CALL, T0)
    ]
    assert [(bar["rev"], bar["model"]["price"], bar["model"]["forward"]) for bar in bars] == [
        (0, 3.4, 101.0),
        (1, 3.6, 101.0),
    ]
    assert bars[1]["model"]["iv"] > bars[0]["model"]["iv"]


def test_a_revision_keeps_a_model_that_came_from_a_quote() -> None:
    builder = build()
    start = [traded(FUTURE, T0 - 70_000, 101.0, base=True), traded(CALL, T0 - 70_000, 3.0, base=True)]
    quote = traded(CALL, T0 + 2000, 3.0, 175, bid=3.0, ask=3.1, bid_qty=1, ask_qty=1)
    late = {**quote, "ltp": 3.6, "vtt": 250, "ltt": T0 + 59_000, "ts": T0 + 63_000, "bid": 5.0, "ask": 5.1}
    batches = [
        entry(start),
        entry([traded(FUTURE, T0 + 1000, 101.0, 175), quote]),
        mark(T0 + 62_000, FeedMark.LIVE),
        entry([late]),
        mark(T0 + 65_000, FeedMark.LIVE),
    ]
    first, second = (
        bar for bar in bars_of([add(builder, each) for each in batches]) if (bar["instrument"], bar["ts"]) == (CALL, T0)
    )
    assert (first["close"], second["close"]) == (3.0, 3.6)
    assert first["model"] == second["model"]


def test_history_alone_has_no_model() -> None:
    told = {"open": 3.0, "high": 3.0, "low": 3.0, "close": 3.0, "volume": 75, "oi": None}
    body = orjson.dumps([{"instrument": CALL, "ts": T0 - 10 * MINUTE, **told}])
    builder = build()
    produced = [add(builder, entry([traded(CALL, T0, 3.0, base=True)])), add(builder, mark(T0 + 1, b"", bars=body))]
    (bar,) = bars_of(produced)
    assert (bar["source"], bar["model"]) == ("backfill", None)


def test_bars_are_those_of_the_schema() -> None:
    produced = day(traded(FUTURE, T0 + 1000, 101.0, 175), traded(CALL, T0 + 2000, 3.4, 175))
    for each in produced:
        for bar in each.bars:
            assert orjson.loads(Bar.model_validate_json(bar.data).model_dump_json()) == orjson.loads(bar.data)


def test_silent_minutes_have_panels_and_those_outside_the_session_have_none() -> None:
    closes = T0 + 3 * MINUTE
    builder = BarBuilder(lambda *_: [(T0 - MINUTE, closes)], asks=True, rate=RATE)
    produced = [add(builder, entry([traded(CALL, T0 + 1000, 3.0, base=True)]))]
    produced += [add(builder, mark(T0 + s * 1000, FeedMark.LIVE)) for s in range(2, 400)]
    assert [part.ts - T0 for part in panels_of(produced)] == [0, MINUTE, 2 * MINUTE]
    assert [part.rec["covered"].tolist() for part in panels_of(produced)] == [[0], [1], [1]]
    assert bars_of(produced)[1:] == []  # and nothing is invented


def test_a_shard_that_has_nothing_to_tell_says_so_where_others_wait_for_it() -> None:
    def told(shards: int, *batches: Any) -> list[tuple[int, int, int]]:
        builder = BarBuilder(lambda *_: [(T0, T0 + MINUTE)], asks=True, shards=shards, rate=RATE)
        marks = [mark(T0 + s * 1000, FeedMark.LIVE) for s in range(5, 200)]
        parts = panels_of([add(builder, batch) for batch in (*batches, *marks)])
        return [(part.to, (part.ts - T0) // MINUTE, len(part.keys)) for part in parts]

    assert told(1) == []
    assert told(2) == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0), (1, 2, 0)]
    rests = told(2, entry([traded(CALL, T0 + 1000, 3.0, base=True)]))
    assert sum(keys for _, minute, keys in rests if minute == 0) == 1
    assert [keys for _, minute, keys in rests if minute > 0] == [0, 0, 0, 0]


def test_a_leap_of_venue_time_tells_the_newest_minutes_that_the_feed_covered() -> None:
    builder = build()
    produced = [
        add(builder, entry([traded(CALL, T0, 3.0, base=True)])),
        add(builder, mark(T0 + 5 * MINUTE, FeedMark.LIVE)),
    ]
    assert [part.ts - T0 for part in panels_of(produced)] == [n * MINUTE for n in range(4)]
    produced = [add(builder, mark(T0 + 100 * MINUTE + 2000, FeedMark.LIVE))]
    assert [(part.ts - T0) // MINUTE for part in panels_of(produced)] == [4, 5, *range(85, 100)]
    produced = [add(builder, mark(T0 + 100 * MINUTE + 2000, FeedMark.DOWN))]
    produced += [add(builder, mark(T0 + 105 * MINUTE, FeedMark.AWAY))]
    assert [(part.ts - T0) // MINUTE for part in panels_of(produced)] == [100]


def test_a_contract_that_has_ended_is_in_no_panel_and_its_last_minute_is_expired() -> None:
    ended = {**TERMS, CALL: {**TERMS[CALL], "last_trade_ms": T0 + MINUTE}}
    builder = build()
    batches = [entry([traded(CALL, T0 + 1000, 3.0, base=True), traded(SPOT, T0 + 1000, 100.0, None, base=True)])]
    batches += [mark(T0 + n * MINUTE + 2000, FeedMark.LIVE) for n in (1, 2)]
    produced = [add(builder, each, ended) for each in batches]
    assert [part.keys for part in panels_of(produced)] == [(CALL, SPOT), (SPOT,)]
    assert model(produced)["flag"] == "expired"


def test_what_has_no_terms_has_no_model_and_breaks_nothing() -> None:
    builder = build()
    batches = [entry([traded(CALL, T0 + 1000, 3.0, base=True)]), mark(T0 + 63_000, FeedMark.LIVE)]
    produced = [add(builder, each, {}) for each in batches]
    assert [bar["model"] for bar in bars_of(produced)] == [None]
    assert [len(part.keys) for part in panels_of(produced)] == [0]


def test_terms_are_asked_for_once_an_hour_of_venue_time() -> None:
    hour = T0 // 3_600_000 * 3_600_000
    asked = []
    builder = build()
    for ts in (hour + 1000, hour + 2000, hour + 3_599_999, hour + 3_600_000, hour + 3_700_000):
        produced = builder.add(entry([traded(CALL, ts, 3.0, base=ts == hour + 1000)]))
        asked.append(produced.wanted)
        if produced.wanted:
            builder.know({CALL: Terms(**TERMS[CALL])}, ts)
            builder.go_on()
    assert asked == [(CALL,), (), (), (CALL,), ()]


def test_an_entry_with_an_older_time_than_its_records_asks_once_and_goes_on() -> None:
    builder = build()
    lagging = replace(entry([traded(CALL, T0 + 7_200_000, 3.0, base=True)]), ts=T0)
    assert builder.add(lagging).wanted == (CALL,)
    wanted, ts = builder.due([lagging])
    builder.know(dict.fromkeys(wanted), ts)
    assert builder.go_on().wanted == ()
    assert builder.add(lagging).wanted == ()


def test_a_number_that_was_given_to_another_contract_is_priced_by_the_new_terms() -> None:
    builder = build()
    produced = [add(builder, entry([traded(CALL, T0, 3.0, base=True), traded(FUTURE, T0, 101.0, base=True)]))]
    later = T0 + 20 * 3_600_000
    other = {**TERMS, CALL: {**TERMS[CALL], "strike": 50.0, "is_call": False}}
    batches = [entry([traded(FUTURE, later, 101.0, 200), traded(CALL, later, 0.5, 200)])]
    batches += [mark(later + 63_000, FeedMark.LIVE)]
    produced = [add(builder, each, other) for each in batches]
    assert model(produced, minute=later)["delta"] < 0


def test_options_of_many_expiries_are_priced_as_each_would_be_alone() -> None:
    terms = {key: {**about} for key, about in chains()}
    builder = build()
    prices = [30.0 if of["kind"] == "future" else 0.05 + n * 37 % 300 / 10 for n, of in enumerate(terms.values())]
    updates = [traded(key, T0 + 1000, price, base=True) for key, price in zip(terms, prices, strict=True)]
    batches = [entry(updates), mark(T0 + 62_000, FeedMark.LIVE)]
    reference = Reference(terms=terms, rate=RATE)
    for each in updates:
        reference.update(each)
    reference.heartbeat(T0 + 62_000)
    ours = bars_of([add(builder, each, terms) for each in batches])
    assert len(ours) == len(terms)
    for bar, theirs in zip(ours, reference.published, strict=True):
        assert same_model(bar["model"], theirs["model"]), (bar, theirs)
    assert {bar["model"]["flag"] for bar in ours if bar["model"]} == {"ok", "below_intrinsic"}


def chains() -> Iterator[tuple[str, dict[str, Any]]]:
    """Nine expiries with a future and forty calls each."""
    number = 0
    for underlying in ("NSE_INDEX|A", "NSE_INDEX|B", "NSE_EQ|C"):
        for week in range(3):
            about = {**_CONTRACT, "underlying": underlying, "expiry": date(2026, 12, 1 + week)}
            about["last_trade_ms"] = LAST_TRADE + week * 86_400_000
            for strike in [None, *range(10, 50)]:
                number += 1
                kind = {"kind": "future"} if strike is None else {"kind": "option", "strike": float(strike)}
                yield f"NSE_FO|{number}", {**about, **kind, **({"is_call": True} if strike else {})}


def test_a_quantity_or_greek_that_nobody_told_is_unknown_in_the_panel() -> None:
    produced = day(traded(CALL, T0 + 2000, 3.0, 175), end=T0 + 62_000)
    record = {part.ts: part for part in panels_of(produced)}[T0].rec
    assert np.isnan(record["iv"]).all()
    assert np.isnan(record["bid"]).all()
    assert not record["bid_qty"].any()
    assert set(QUOTED) < set(PANEL.names or ())
