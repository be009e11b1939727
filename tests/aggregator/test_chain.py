"""The fold of the chain: which minute leaves when, what it remembers, what it must survive."""

import math
import zlib
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.analytics import IV_DAYS_MIN
from aggregator.chain import KEEP_MS, MINUTES_MAX, PATIENCE_MS, ChainBuilder, Made
from aggregator.chain_memory import CLOSE_SLACK_MS, day_number
from bench import plain_chain
from schemas.chain import Action, Chain, ChainOption, OiChangeFrom
from schemas.errors import Rejected
from schemas.panel import PANEL, Panel
from tests.aggregator.chains import (
    DAY,
    EXPIRY,
    LAST_TRADE_MS,
    MINUTE,
    OPEN_MS,
    RATE,
    TS,
    UNDERLYING,
    Market,
    latest,
    panel,
    read,
    yesterday,
)

CLOSE_MS = OPEN_MS + 385 * MINUTE


def option_of(chain: Chain, strike: float = 100.0, side: str = "call") -> ChainOption:
    (row,) = (row for row in chain.strikes if row.strike == strike)
    option: ChainOption = getattr(row, side)
    return option


def spread_out(shards: int = 3) -> tuple[Market, list[dict[str, dict[str, Any]]]]:
    """A chain whose options live in several shards: what each of them tells."""
    market = Market()
    told: list[dict[str, dict[str, Any]]] = [{} for _ in range(shards)]
    told[0][UNDERLYING] = {"ltp": 100.0}
    for number, strike in enumerate((95.0, 100.0, 105.0)):
        for side in plain_chain.SIDES:
            price = round(plain_chain.value(side, 100.0, strike, 5 / 365, 0.3, RATE), 2)
            key = market.option(strike, side)
            told[number % shards][key] = {"ltp": price, "oi": 750.0 * (number + 1), "vtt": 75}
    return market, told


# Gathering a minute


def test_a_minute_leaves_when_its_last_shard_has_spoken() -> None:
    market, told = spread_out()
    builder = market.builder(3)
    assert market.add(builder, panel(told[0], shard=0), 1000) == []
    assert market.add(builder, panel(told[1], shard=1), 1001) == []
    (made,) = market.add(builder, panel(told[2], shard=2), 1002)
    chain = read(made)
    assert (chain.complete, chain.rev, chain.silent_shards, chain.uncovered) == (True, 0, [], 0)
    assert (chain.underlying, chain.expiry, [row.strike for row in chain.strikes]) == (
        UNDERLYING,
        EXPIRY,
        [95, 100, 105],
    )


@given(st.permutations(range(3)))
def test_the_order_of_the_shards_changes_no_byte(order: list[int]) -> None:
    market, told = spread_out()

    def fold(shards: Any) -> list[bytes]:
        builder = market.builder(3)
        return [made.data for n in shards for made in market.add(builder, panel(told[n], shard=n), 1000 + n)]

    assert fold(order) == fold(range(3))


def test_one_shard_or_three_make_the_same_chain() -> None:
    market, told = spread_out()
    whole = {key: values for part in told for key, values in part.items()}
    (one,) = market.add(market.builder(1), panel(whole))
    three = market.builder(3)
    (other,) = [made for n in range(3) for made in market.add(three, panel(told[n], shard=n))]
    assert one.data == other.data


def test_a_silent_shard_is_waited_for_a_while_then_left_out_then_taken_in() -> None:
    market, told = spread_out()
    builder = market.builder(3)
    for number in (0, 2):
        assert market.add(builder, panel(told[number], shard=number), 1000) == []
    assert builder.next_due_ms == 1000 + PATIENCE_MS
    assert list(builder.due(1000 + PATIENCE_MS - 1)) == []
    (first,) = builder.due(1000 + PATIENCE_MS)
    assert builder.next_due_ms is None
    assert list(builder.due(1000 + 2 * PATIENCE_MS)) == []
    (second,) = market.add(builder, panel(told[1], shard=1), 60_000)

    partial, whole = read(first), read(second)
    assert (partial.rev, partial.complete, partial.silent_shards) == (0, False, [1])
    assert [row.strike for row in partial.strikes] == [95, 105]
    assert (whole.rev, whole.complete, whole.silent_shards) == (1, True, [])
    undisturbed = market.builder(3)
    (expected,) = [made for n in range(3) for made in market.add(undisturbed, panel(told[n], shard=n), 1000)]
    assert whole.model_copy(update={"rev": 0}) == read(expected)


def test_several_late_shards_are_gathered_again() -> None:
    market, told = spread_out()
    builder = market.builder(3)
    market.add(builder, panel(told[0], shard=0), 0)
    (first,) = builder.due(PATIENCE_MS)
    assert market.add(builder, panel(told[1], shard=1), 20_000) == []
    (second,) = builder.due(20_000 + PATIENCE_MS)
    (third,) = market.add(builder, panel(told[2], shard=2), 40_000)
    assert [(read(one).rev, read(one).silent_shards) for one in (first, second, third)] == [
        (0, [1, 2]),
        (1, [2]),
        (2, []),
    ]


def test_what_is_due_leaves_before_the_panel_that_comes_after_it() -> None:
    market, told = spread_out(2)
    builder = market.builder(2)
    market.add(builder, panel(told[0], shard=0), 0)
    made = market.add(builder, panel(told[1], shard=1), PATIENCE_MS)
    assert [(one.rev, read(one).complete) for one in made] == [(0, False), (1, True)]


def test_a_repetition_changes_nothing() -> None:
    market, told = spread_out(2)
    builder = market.builder(2)
    market.add(builder, panel(told[0], shard=0), 0)
    before = builder.snapshot()
    assert market.add(builder, panel(told[0], shard=0), 1) == []
    assert builder.snapshot() == before
    assert len(market.add(builder, panel(told[1], shard=1), 2)) == 1
    for number in (0, 1):
        assert market.add(builder, panel(told[number], shard=number), 3) == []


def test_a_minute_is_over_for_good_when_its_panels_are_gone_from_redis() -> None:
    market, told = spread_out(2)
    builder = market.builder(2)
    market.add(builder, panel(told[0], TS, shard=0), 0)
    assert len(list(builder.due(PATIENCE_MS))) == 1
    assert list(builder.due(KEEP_MS)) == []
    assert market.add(builder, panel(told[1], TS, shard=1), KEEP_MS + 1) == []
    assert builder.late == 1


def test_no_more_minutes_are_waited_for_than_a_limit_and_none_is_lost() -> None:
    market, told = spread_out(2)
    builder = market.builder(2)
    made = []
    for number in range(MINUTES_MAX + 5):  # a replay: an hour in no time
        made += market.add(builder, panel(told[0], TS + number * MINUTE, shard=0), 0)
    made += builder.due(PATIENCE_MS)
    assert [one.ts for one in made] == [TS + number * MINUTE for number in range(MINUTES_MAX + 5)]
    assert len(builder.pending()) <= MINUTES_MAX + 1


def test_a_panel_of_a_shard_that_cannot_be_is_refused() -> None:
    market, told = spread_out()
    with pytest.raises(Rejected, match="TEJI_SHARDS is 2"):
        market.add(market.builder(2), panel(told[2], shard=2))


def test_an_empty_panel_is_heard_and_makes_no_chain_of_its_own() -> None:
    market, told = spread_out(1)
    assert market.add(market.builder(1), panel({})) == []
    builder = market.builder(2)
    market.add(builder, panel({}, shard=1), 0)
    (made,) = market.add(builder, panel(told[0], shard=0), 0)
    assert read(made).complete


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Panel, int]]:
    """Panels of three shards over some minutes: in time, late, twice, never, in any order; and when Redis took them."""
    _, told = spread_out()
    events: list[tuple[int, int, Panel]] = []
    for number in range(draw(st.integers(1, 5))):
        for shard in range(3):
            for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2]))):
                delay = draw(st.sampled_from([0, 3, 800, 4_999, 5_000, 9_000, 70_000, 1_000_000]))
                one = {key: values | {"oi": 75.0 * draw(st.integers(1, 99))} for key, values in told[shard].items()}
                ts = TS + number * MINUTE
                events.append((ts + 62_000 + delay, shard, panel(one, ts, shard)))
    return [(one, at_ms) for at_ms, _, one in sorted(events, key=lambda event: event[:2])]


def everything(builder: ChainBuilder, market: Market, history: list[tuple[Panel, int]]) -> list[Made]:
    return [made for one, at_ms in history for made in market.add(builder, one, at_ms)]


@settings(deadline=None, max_examples=60)
@given(histories(), st.integers(0, 30))
def test_a_restart_at_any_panel_changes_no_byte(history: list[tuple[Panel, int]], cut: int) -> None:
    market, _ = spread_out()
    whole, first, second = (market.builder(3, yesterday) for _ in range(3))
    expected = everything(whole, market, history)
    made = everything(first, market, history[:cut])
    second.restore(first.snapshot())
    for one in second.pending():
        market.add(second, one)  # looks up its terms; a repetition changes nothing else
    made += everything(second, market, history[cut:])
    assert made == expected
    assert second.snapshot() == whole.snapshot()


@settings(deadline=None, max_examples=60)
@given(histories())
def test_revisions_count_up_and_end_with_all_that_was_heard(history: list[tuple[Panel, int]]) -> None:
    market, _ = spread_out()
    builder = market.builder(3)
    made = [*everything(builder, market, history), *builder.due(1 << 60)]
    for ts in {one.ts for one, _ in history}:
        revs = [one.rev for one in made if one.ts == ts]
        assert revs == list(range(len(revs)))
    for (_, ts), chain in latest(made).items():
        heard = {one.shard for one, at_ms in history if one.ts == ts and one.ts + 62_000 + KEEP_MS > at_ms}
        assert {0, 1, 2} - set(chain.silent_shards) >= heard


# Open interest across days


def day_of(market: Market, builder: ChainBuilder, oi: float, ts: int, **more: Any) -> Chain:
    told = {market.option(100.0, "call"): {"ltp": 10.0, "oi": oi, **more}}
    (made,) = market.add(builder, panel(told, ts))
    return read(made)


def test_open_interest_changes_against_the_first_seen_where_the_day_before_is_not_known() -> None:
    market = Market()
    builder = market.builder(day_before=yesterday)
    day_of(market, builder, 1000.0, TS)
    chain = day_of(market, builder, 1100.0, TS + MINUTE, ltp=10.5)
    option = option_of(chain)
    assert (option.oi_change, option.oi_change_from) == (100.0, OiChangeFrom.FIRST_SEEN)
    assert option.action == Action.LONG_BUILDUP
    assert (chain.call_oi_change, chain.put_oi_change, chain.pcr_oi_change) == (100.0, None, None)


def test_open_interest_changes_against_the_end_of_the_day_before() -> None:
    market = Market()
    builder = market.builder(day_before=yesterday)
    day_of(market, builder, 900.0, TS)
    day_of(market, builder, 1000.0, CLOSE_MS - MINUTE)
    option = option_of(day_of(market, builder, 950.0, TS + DAY, ltp=9.0, cp=10.0))
    assert (option.oi_change, option.oi_change_from) == (-50.0, OiChangeFrom.PREVIOUS_DAY)
    assert option.action == Action.LONG_UNWINDING
    late = option_of(day_of(market, builder, 1200.0, TS + DAY + MINUTE, ltp=9.0, cp=10.0))
    assert (late.oi_change, late.action) == (200.0, Action.SHORT_BUILDUP)


@pytest.mark.parametrize(
    "last_seen", [CLOSE_MS - CLOSE_SLACK_MS - 2 * MINUTE, TS - DAY], ids=["stopped before the end", "a day was missed"]
)
def test_open_interest_of_a_day_that_was_not_seen_to_its_end_is_no_base(last_seen: int) -> None:
    market = Market()
    builder = market.builder(day_before=yesterday)
    day_of(market, builder, 1000.0, last_seen)
    option = option_of(day_of(market, builder, 950.0, TS + DAY))
    assert (option.oi_change, option.oi_change_from) == (0.0, OiChangeFrom.FIRST_SEEN)


def test_a_number_that_stands_for_another_contract_begins_anew() -> None:
    market = Market()
    builder = market.builder(day_before=yesterday)
    key = market.option(100.0, "call", key="NSE_FO|7")
    market.add(builder, panel({key: {"ltp": 10.0, "oi": 1000.0}}, CLOSE_MS - MINUTE))
    market.option(105.0, "put", key=key)
    (made,) = market.add(builder, panel({key: {"ltp": 3.0, "oi": 75.0}}, TS + DAY))
    option = option_of(read(made), 105.0, "put")
    assert (option.oi_change, option.oi_change_from) == (0.0, OiChangeFrom.FIRST_SEEN)


def test_contracts_that_are_long_gone_are_forgotten() -> None:
    market = Market()
    builder = market.builder(day_before=yesterday)
    day_of(market, builder, 1000.0, TS)
    size = len(zlib.decompress(builder.snapshot()))
    last = LAST_TRADE_MS + 40 * DAY
    told = {market.option(1.0, "call", EXPIRY + timedelta(40), last): {"ltp": 1.0, "oi": 1.0}}
    market.add(builder, panel(told, TS + 30 * DAY))
    assert len(zlib.decompress(builder.snapshot())) == pytest.approx(size, abs=20)


# What the feed has not told


def test_an_option_that_the_feed_did_not_cover_makes_the_chain_incomplete() -> None:
    market = Market()
    told = {market.option(100.0, "call"): {"ltp": 2.0, "covered": 0}, market.option(100.0, "put"): {"ltp": 2.0}}
    chain = market.chain(told)
    assert (chain.complete, chain.uncovered, chain.silent_shards) == (False, 1, [])
    assert (option_of(chain).covered, option_of(chain, side="put").covered) == (False, True)


def test_a_price_of_yesterday_is_shown_with_its_time_and_not_calculated_with() -> None:
    market = Market()
    old = {"ltp": 2.0, "bid": 1.9, "ask": 2.1, "ts": TS - DAY, "ltt": TS - DAY, "covered": 0}
    chain = market.chain({market.option(100.0, "call"): old, market.future(): {"ltp": 100.0}})
    option = option_of(chain)
    assert (option.ltp, option.ltt) == (2.0, TS - DAY)
    assert (option.model.price, option.model.price_from, option.model.flag) == (None, None, "no_price")
    assert (chain.atm_strike, chain.atm_iv, chain.straddle) == (100.0, None, None)


def test_a_strike_that_nobody_told_anything_of_has_nulls() -> None:
    market = Market()
    told: dict[str, dict[str, Any]] = {market.option(100.0, "call"): {"ltt": 0}, market.future(): {"ltp": 100.0}}
    chain = market.chain(told)
    (row,) = chain.strikes
    assert row.put is None
    shown = row.model_dump(exclude={"strike", "put", "call"}) | option_of(chain).model_dump(
        exclude={"instrument", "covered", "model", "bid_qty", "ask_qty"}
    )
    assert {name for name, value in shown.items() if value is not None} == set()
    assert option_of(chain).model.flag == "no_price"
    aggregates = (
        "pcr_oi",
        "pcr_volume",
        "max_pain",
        "call_wall",
        "gex",
        "gex_zero",
        "dex",
        "vanna",
        "charm",
        "skew_25d",
    )
    assert {name: getattr(chain, name) for name in aggregates} == dict.fromkeys(aggregates)


def test_no_open_interest_at_all_divides_by_nothing() -> None:
    market = Market()
    told = {market.option(100.0, side): {"ltp": 2.0, "oi": 0.0} for side in plain_chain.SIDES}
    chain = market.chain(told | {market.future(): {"ltp": 100.0}, UNDERLYING: {"ltp": 100.0}})
    assert (chain.call_oi, chain.put_oi, chain.call_volume, chain.gex) == (0, 0, 0, 0)
    assert (chain.pcr_oi, chain.pcr_volume, chain.max_pain, chain.gex_zero) == (None, None, None, None)
    assert chain.exposure_oi_pct is None


def test_without_a_spot_price_exposures_are_counted_at_the_forward() -> None:
    market = Market()
    told = {market.option(100.0, side): {"ltp": 2.0, "oi": 75.0} for side in plain_chain.SIDES}
    chain = market.chain(told | {market.future(): {"ltp": 100.0}})
    assert (chain.spot, chain.basis, chain.basis_yearly, chain.exposure_at) == (None, None, None, "forward")
    assert chain.dex is not None


def test_an_instrument_without_terms_is_no_part_of_a_chain_until_it_has_some() -> None:
    market = Market()
    builder = market.builder()
    told = {"NSE_FO|strange": {"ltp": 5.0}, market.option(100.0, "call"): {"ltp": 2.0}}
    (made,) = market.add(builder, panel(told))
    assert [row.strike for row in read(made).strikes] == [100.0]
    market.option(105.0, "call", key="NSE_FO|strange")
    (made,) = market.add(builder, panel(told, TS + MINUTE))
    assert [row.strike for row in read(made).strikes] == [100.0, 105.0]


# The end of a contract


def test_the_last_minutes_of_an_expiry() -> None:
    market = Market()
    told = {market.option(100.0, side): {"ltp": 0.2, "oi": 75.0} for side in plain_chain.SIDES}
    builder = market.builder()

    def at(minutes_before: int) -> list[Chain]:
        one = panel(told | {market.future(): {"ltp": 100.0}}, LAST_TRADE_MS - minutes_before * MINUTE)
        return [read(made) for made in market.add(builder, one)]

    (still,) = at(2)  # a minute is left when it ends
    assert still.years == pytest.approx(1 / (365 * 24 * 60))
    assert option_of(still).model.flag == "ok"
    (last,) = at(1)
    assert (last.years, option_of(last).model.flag, option_of(last).model.iv) == (0.0, "expired", None)
    assert (option_of(last).ltp, last.call_oi, last.max_pain, last.straddle) == (0.2, 75.0, 100.0, 0.4)
    assert (last.basis_yearly, last.gex, last.charm) == (None, None, None)
    assert at(0) == []


# What an underlying's chains have in common


def two_expiries(market: Market, vols: tuple[float, float], ts: int = TS) -> dict[str, dict[str, Any]]:
    """At the money, 20 and 50 days away, each with its future."""
    told: dict[str, dict[str, Any]] = {UNDERLYING: {"ltp": 100.0}}
    for days, vol, oi in ((20, vols[0], 300.0), (50, vols[1], 100.0)):
        expiry, last = EXPIRY + timedelta(days), ts + MINUTE + days * DAY
        told[market.future(f"NSE_FO|F{days}", expiry, last)] = {"ltp": 100.0, "oi": oi}
        for side in plain_chain.SIDES:
            price = plain_chain.value(side, 100.0, 100.0, days / 365, vol, RATE)
            told[market.option(100.0, side, expiry, last)] = {"ltp": price, "oi": 75.0}
    return told


def test_the_chains_of_an_underlying_share_its_thirty_days_and_its_rollover() -> None:
    market = Market()
    near, far = (read(made) for made in market.add(market.builder(), panel(two_expiries(market, (0.3, 0.2)))))
    assert near.expiry < far.expiry
    assert near.atm_iv == pytest.approx(0.3, abs=1e-6)
    assert far.atm_iv == pytest.approx(0.2, abs=1e-6)
    expected = ((0.3**2 * 20 + (0.2**2 * 50 - 0.3**2 * 20) / 3) / 30) ** 0.5
    assert near.iv_30d == far.iv_30d == pytest.approx(expected, abs=2e-6)
    assert (near.rollover_pct, far.rollover_pct) == (25.0, 25.0)
    assert (near.iv_days, near.iv_rank, near.iv_percentile) == (0, None, None)


def test_rank_and_percentile_look_back_on_the_closing_values_of_the_days_before() -> None:
    market = Market()
    builder = market.builder()
    vols = [0.20 + 0.01 * (n % 5) for n in range(IV_DAYS_MIN)]
    for n, vol in enumerate(vols):
        for minute, iv in ((TS, 0.9), (TS + MINUTE, vol)):  # only the last of a day counts
            ts = minute + (n - IV_DAYS_MIN) * DAY
            chain = read(market.add(builder, panel(two_expiries(market, (iv, iv), ts), ts))[0])
            assert (chain.iv_days, chain.iv_rank, chain.iv_percentile) == (n, None, None)
    chain = read(market.add(builder, panel(two_expiries(market, (0.23, 0.23))))[0])
    assert chain.iv_days == IV_DAYS_MIN
    assert chain.iv_rank == pytest.approx(75.0, abs=0.01)
    assert chain.iv_percentile in (60.0, 80.0)  # of four days the value is the same, up to rounding


def test_history_from_elsewhere_counts_like_days_that_were_seen() -> None:
    market = Market()
    builder = market.builder()
    today = day_number(TS)
    builder.seed(UNDERLYING, {today - 40 + n: 0.10 + 0.01 * n for n in range(21)} | {today: 0.9})
    chain = read(market.add(builder, panel(two_expiries(market, (0.155, 0.155))))[0])
    assert chain.iv_days == 21
    assert chain.iv_rank == pytest.approx(27.5, abs=0.01)
    assert chain.iv_percentile == pytest.approx(100 * 6 / 21, abs=1e-3)


# Memory


@pytest.mark.parametrize("body", [b"", b"nothing of ours", zlib.compress(b"\x02\x00\x00\x00{}")])
def test_a_foreign_snapshot_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Market().builder().restore(body)


def test_another_number_of_shards_keeps_what_is_known_and_drops_half_gathered_minutes() -> None:
    market = Market()
    before = market.builder(2, yesterday)
    key = market.option(100.0, "call")
    market.add(before, panel({key: {"ltp": 1.0, "oi": 1000.0}}, CLOSE_MS - MINUTE, shard=0), 0)
    after = market.builder(1, yesterday)
    after.restore(before.snapshot())
    assert after.next_due_ms is None
    (made,) = market.add(after, panel({key: {"ltp": 1.0, "oi": 1100.0}}, TS + DAY))
    assert option_of(read(made)).oi_change == 100.0


def test_the_day_before_is_asked_for_by_segment_and_date() -> None:
    asked: list[tuple[str, date]] = []

    def asking(segment: str, on: date) -> None:
        asked.append((segment, on))

    market = Market()
    builder = market.builder(day_before=asking)
    day_of(market, builder, 1000.0, TS)
    day_of(market, builder, 1000.0, TS + MINUTE)
    assert asked == [("NSE_FO", date(2026, 11, 18))]


NUMBERS = st.one_of(
    st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf, 1e-308, 1.7e308, 0.05]), st.floats(allow_nan=True)
)
WHOLES = st.one_of(
    st.sampled_from([0, -1, TS, TS - DAY, (1 << 63) - 1, -(1 << 63)]), st.integers(-(1 << 63), (1 << 63) - 1)
)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_whatever_a_panel_holds_makes_a_chain_that_can_be_read(data: st.DataObject) -> None:
    market = Market()
    keys = [market.spot(), market.future()]
    for strike in (1e-9, 95.0, 100.0, 1e12):
        keys += [market.option(strike, side) for side in plain_chain.SIDES]
    drawn = {"ltp", "bid", "ask", "oi", "cp", "iv", "delta", "gamma", "ts", "ltt", "vtt", "bid_qty", "covered"}
    kinds = {name: NUMBERS if PANEL[name].kind == "f" else WHOLES for name in sorted(drawn)}
    told = {key: data.draw(st.fixed_dictionaries({}, optional=kinds)) for key in keys}
    builder = market.builder(day_before=yesterday)
    for ts in (TS, TS + MINUTE, TS + DAY):
        (chain,) = (read(made) for made in market.add(builder, panel(told, ts)))
        assert [row.strike for row in chain.strikes] == [1e-9, 95.0, 100.0, 1e12]
