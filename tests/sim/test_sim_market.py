"""The market model: deterministic, on the grid, inside the band, and consistent with its own trades."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from sim.exchange import Exchange
from sim.market import Market, Update
from sim.settings import SimSettings
from tests.sim.simtools import MINUTE, settings

DYNAMIC = ("ltp", "ltt", "ltq", "vtt", "turnover", "oi", "bid", "ask", "epoch", "day_open", "day_high", "day_low")


def market(**more: Any) -> Market:
    return Exchange(settings(**more)).market


def steps(found: Market, minutes: float) -> Iterator[Update]:
    return found.advance(found.now_ms + int(minutes * MINUTE))


@dataclass
class Watched:
    """What a minute or two of the market looked like after each interval."""

    updates: list[Update] = field(default_factory=list)
    states: list[dict[str, np.ndarray]] = field(default_factory=list)


@pytest.fixture(scope="module", params=[300, 0, 700], ids=["300 ms", "every event", "700 ms"])
def watched(request: pytest.FixtureRequest) -> tuple[Market, Watched]:
    found, seen = market(conflation_ms=request.param), Watched()
    for update in steps(found, 2.5 if found.conflation_ms else 1.1):
        seen.updates.append(update)
        seen.states.append({name: getattr(found, name).copy() for name in DYNAMIC})
    return found, seen


def test_the_same_seed_gives_the_same_ticks() -> None:
    first, second = market(), market()
    for one, two in zip(steps(first, 1), steps(second, 1), strict=True):
        assert (one.ts, one.rows.tolist()) == (two.ts, two.rows.tolist())
        assert all((getattr(first, name) == getattr(second, name)).all() for name in DYNAMIC)


def test_how_far_each_step_reaches_changes_nothing() -> None:
    whole, halting = market(), market()
    start_ms = whole.now_ms
    list(whole.advance(start_ms + MINUTE))
    for instant_ms in range(start_ms, start_ms + MINUTE + 1, 1_000):
        list(halting.advance(instant_ms))
    assert all((getattr(whole, name) == getattr(halting, name)).all() for name in DYNAMIC)


def test_another_seed_gives_other_ticks() -> None:
    assert market(seed=1).ltp.tolist() != market(seed=2).ltp.tolist()


def test_every_price_is_on_its_grid(watched: tuple[Market, Watched]) -> None:
    found, seen = watched
    for state in seen.states:
        for name in ("ltp", "bid", "ask", "day_high", "day_low"):
            ticks = state[name] / found.columns.tick
            assert np.allclose(ticks, np.rint(ticks), atol=1e-6), name


def test_every_trade_is_inside_the_band(watched: tuple[Market, Watched]) -> None:
    found, seen = watched
    for update in seen.updates:
        trades = update.trades
        assert (trades.price >= found.band_low[trades.row]).all()
        assert (trades.price <= found.band_high[trades.row]).all()


def test_the_bid_is_below_the_ask(watched: tuple[Market, Watched]) -> None:
    found, seen = watched
    quoted = ~found.columns.index
    assert all((state["bid"] < state["ask"])[quoted].all() for state in seen.states)


def test_the_days_volume_never_falls_and_is_the_sum_of_the_trades(watched: tuple[Market, Watched]) -> None:
    found, seen = watched
    before = seen.states[0]["vtt"]
    whole = found.conflation_ms > 0
    for update, state in zip(seen.updates[1:], seen.states[1:], strict=True):
        if whole:
            volume = np.bincount(update.trades.row, update.trades.quantity, len(before))
            assert (state["vtt"] - before == volume).all()
        assert (state["vtt"] >= before).all()
        before = state["vtt"]


def test_trades_happen_inside_their_interval_and_minute(watched: tuple[Market, Watched]) -> None:
    found, seen = watched
    if found.conflation_ms == 0:
        pytest.skip("there an interval is a single trade")
    start_ms = seen.updates[0].ts
    for update in seen.updates[1:]:
        assert start_ms // MINUTE == (update.ts - 1) // MINUTE, "an interval reaches over the end of a minute"
        assert ((start_ms <= update.trades.ts) & (update.trades.ts < update.ts)).all()
        start_ms = update.ts


def test_within_an_interval_an_instrument_trades_at_one_price(watched: tuple[Market, Watched]) -> None:
    _, seen = watched
    for update in seen.updates:
        prices = {(row, price) for row, price in zip(update.trades.row, update.trades.price, strict=True)}
        assert len(prices) == len(set(update.trades.row.tolist()))


def test_what_did_not_change_is_not_reported(watched: tuple[Market, Watched]) -> None:
    _, seen = watched
    before = seen.states[0]
    for update, state in zip(seen.updates[1:], seen.states[1:], strict=True):
        silent = np.setdiff1d(np.arange(len(state["ltp"])), update.rows)
        assert all((state[name][silent] == before[name][silent]).all() for name in ("ltp", "vtt", "bid", "ask", "oi"))
        before = state


def test_busy_contracts_trade_often_and_far_strikes_rarely() -> None:
    found = market(instruments=300)
    trades = np.concatenate([update.trades.row for update in steps(found, 2)])
    counts = np.bincount(trades, minlength=len(found.ltp))
    future = next(row for row, each in enumerate(found.listing.instruments) if each.instrument_type == "FUT")
    options = counts[found.columns.option]
    assert counts[future] > 2 * 60 * 2
    assert options.max() > 2 * 60 * 3
    assert np.median(options) < options.max() / 5
    assert counts[found.columns.index].sum() == 0


def test_quantities_are_whole_lots() -> None:
    found = market()
    for update in steps(found, 1):
        assert (update.trades.quantity % found.columns.lot[update.trades.row] == 0).all()
        assert (update.trades.quantity > 0).all()
    assert (found.oi % found.columns.lot == 0).all()


def test_the_live_market_carries_on_where_history_ends() -> None:
    found = market()
    before = found.ltp.copy()
    for _ in steps(found, 1):
        pass
    liquid = found.columns.base_rate > 2
    moved = np.abs(np.log(found.ltp[liquid] / before[liquid]))
    shares = ~found.columns.option[liquid]
    assert moved[shares].max() < 0.01


def test_options_of_one_strike_keep_their_parity() -> None:
    found = market(instruments=300)
    for _ in steps(found, 1):
        pass
    middle = (found.bid + found.ask) / 2
    spots = found.spots[found.columns.path]
    for call, put in ((row, row + 1) for row in np.flatnonzero(found.columns.call)):
        apart = middle[call] - middle[put] - (spots[call] - found.columns.strike[call])
        assert abs(apart) < 0.02 * spots[call]


def test_the_last_close_of_today_is_the_close_of_yesterday() -> None:
    found = market()
    yesterday = found.hours.previous_trading_day(found.on)
    assert yesterday == date(2026, 11, 19)
    row = found.listing.row_of["NSE_INDEX|Nifty 50"]
    assert found.cp[row] == pytest.approx(found.history.paths.close("NIFTY", yesterday), abs=0.005)


def test_a_closed_market_stands_still() -> None:
    found = market(start="2026-11-21T11:00")  # a Saturday
    before = {name: getattr(found, name).copy() for name in DYNAMIC}
    updates = list(steps(found, 5))
    assert all(len(update.rows) == 0 for update in updates)
    assert all((getattr(found, name) == before[name]).all() for name in DYNAMIC)
    assert found.on == date(2026, 11, 20)
    assert found.vtt.sum() > 0, "the last trading day is what a closed market shows"


def test_a_share_of_the_closing_auction_stops_before_its_index_options() -> None:
    found = market(start="2026-11-20T15:16")
    traded = {int(row) for update in steps(found, 2) for row in update.trades.row}
    kinds = {found.listing.instruments[row].instrument_type for row in traded}
    assert kinds == {"FUT", "CE", "PE"}


def test_the_demo_trades_on_a_sunday_night() -> None:
    found = market(start="2026-11-22T03:00", always_open=True)
    traded = [row for update in steps(found, 0.2) for row in update.trades.row]
    assert len(set(traded)) > 10
    assert found.hours.previous_trading_day(found.on) == date(2026, 11, 20)


def test_the_demo_runs_in_a_year_that_the_calendar_does_not_know() -> None:
    found = market(start="2031-03-05T12:00", always_open=True)
    assert sum(len(update.trades.row) for update in steps(found, 0.1)) > 0
    expiries = {each.expiry for each in found.listing.instruments if each.expiry}
    assert min(expiries) > date(2031, 3, 5)


def test_the_demo_lists_nothing_that_expires_today() -> None:
    expiry = date(2026, 12, 1)  # a weekly one
    noon = f"{expiry.isoformat()}T12:00"
    demo = market(start=noon, always_open=True).listing
    real = market(start=noon).listing
    assert min(each.expiry for each in demo.instruments if each.expiry) > expiry
    assert min(each.expiry for each in real.instruments if each.expiry) == expiry


@pytest.mark.parametrize(("asked", "least"), [(30, 30), (500, 500), (1_501, 1_500)])
def test_the_universe_has_about_the_size_that_was_asked_for(asked: int, least: int) -> None:
    count = len(market(instruments=asked).listing.instruments)
    assert least <= count <= asked


def test_a_contract_keeps_its_key_from_day_to_day() -> None:
    days = [market(start=f"2026-11-{day}T10:00").listing for day in (18, 19)]
    first, second = ({each.trading_symbol: each.key for each in listing.instruments} for listing in days)
    shared = first.keys() & second.keys()
    assert len(shared) > 30
    assert all(first[symbol] == second[symbol] for symbol in shared)


def test_starting_in_a_minute_catches_up_with_its_seconds() -> None:
    found = Exchange(SimSettings(clock="manual", start="2026-11-20T10:30:42.500", instruments=60)).market
    assert 0 <= 42_500 - (found.now_ms % MINUTE) < 300
    assert found.on + timedelta(days=0) == date(2026, 11, 20)
