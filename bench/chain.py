"""Milliseconds for the measures of an option chain of 400 strikes, volatilities and Greeks included.

The peer computes the same formulas in plain Python, option by option (`plain_chain.py`, the oracle of the tests). Time
is that of the process, not of the clock. The detail has the parts, the JSON on top, smaller chains, and a minute of
many underlyings.
"""

import math
import sys
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from time import process_time
from typing import Any, Final

import numpy as np

from aggregator import chain_json, chain_minute
from aggregator.chain import ChainBuilder
from aggregator.chain_layout import Layout, layout
from aggregator.chain_minute import Minute
from bench import plain_chain
from bench.report import Report, in_turns, run
from market import black76
from schemas.panel import PANEL, Panel
from schemas.streams import instrument_id
from schemas.terms import Terms, TermsKind

STRIKES: Final = 400
_UNDERLYINGS: Final = 50  # of the minute with many: 80 options each
_MINUTE_MS: Final = 60_000
_TS: Final = 1_795_060_800_000
_EXPIRY: Final = date(2026, 11, 24)
_LAST_TRADE_MS: Final = _TS + 4 * 86_400_000
_RATE: Final = 0.065
_FORWARD: Final = 25_010.0
_SEEN: Final = {"rev": 0, "silent_shards": [], "rate": _RATE}
_SHARED: Final = dict.fromkeys(("iv_30d", "iv_rank", "iv_percentile", "rollover_pct"), math.nan) | {"iv_days": 0}
_TURN_S: Final = 0.1


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, "Milliseconds for the measures of a 400-strike chain, against plain Python.")


def measure() -> Report:
    keys, rec, terms = options(STRIKES)
    found = layout(keys, terms)
    plain = rows(keys, rec, terms)
    minute = Minute.of(_TS, keys, rec)
    priced = chain_minute.priced(minute, found.chains, _RATE)
    numbers = chain_minute.measured(minute, priced[0], _RATE)
    _check(found, keys, rec, plain)
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: analytics(found, keys, rec),
        "plain": lambda: plainly(plain),
        "prices": lambda: Minute.of(_TS, keys, rec),
        "volatilities": lambda: chain_minute.priced(minute, found.chains, _RATE),
        "measures": lambda: chain_minute.measured(minute, priced[0], _RATE),
        "JSON": lambda: chain_json.encoded(minute, priced[0], numbers, _SHARED, _SEEN),
        "100 strikes": _of_size(100),
        "40 strikes": _of_size(40),
        "whole fold": _fold(1, STRIKES),
        "many": _fold(_UNDERLYINGS, 40),
    }
    ms = in_turns({name: partial(_cpu_ms, work) for name, work in sides.items()})
    size = len(chain_json.encoded(minute, priced[0], numbers, _SHARED, _SEEN))
    detail = {f"{name}, ms": ms[name] for name in ("prices", "volatilities", "measures", "100 strikes", "40 strikes")}
    detail["JSON on top, ms"] = ms["JSON"]
    detail["JSON, kB"] = size / 1000
    detail["from the panel to the JSON, ms"] = ms["whole fold"]
    detail[f"a minute of {_UNDERLYINGS} chains of 40 strikes to their JSON, ms"] = ms["many"]
    about = f"{STRIKES}-strike chains, ms each"
    return Report.of("chain", ms["ours"], about, "plain Python", ms["plain"], detail, less_is_better=True)


def analytics(found: Layout, keys: Sequence[str], rec: Any) -> Any:
    """All there is to compute of the chain: prices, forward, volatilities, Greeks, measures."""
    minute = Minute.of(_TS, keys, rec)
    (priced,) = chain_minute.priced(minute, found.chains, _RATE)
    return chain_minute.measured(minute, priced, _RATE)


def plainly(strikes: list[dict[str, Any]]) -> dict[str, Any]:
    years = (_LAST_TRADE_MS - _TS - _MINUTE_MS) / black76.YEAR_MS
    plain_chain.solved(strikes, _FORWARD, years, _RATE)
    return plain_chain.measures(strikes, _FORWARD, _FORWARD - 30, years, _RATE)


def options(strikes: int, name: str = "Nifty 50") -> tuple[tuple[str, ...], Any, dict[str, Terms | None]]:
    """A chain as a panel has it, with a smile, its future and its underlying: keys, records, terms."""
    underlying = f"NSE_INDEX|{name}"
    about = {"underlying": underlying, "expiry": _EXPIRY, "last_trade_ms": _LAST_TRADE_MS}
    terms: dict[str, Terms | None] = {underlying: Terms(kind=TermsKind.SPOT, underlying=underlying)}
    terms[f"NSE_FO|{name} FUT"] = Terms(kind=TermsKind.FUTURE, **about)
    prices = {underlying: _FORWARD - 30, f"NSE_FO|{name} FUT": _FORWARD}
    years = (_LAST_TRADE_MS - _TS - _MINUTE_MS) / black76.YEAR_MS
    for n in range(strikes):
        strike = 25_000.0 + 10 * (n - strikes // 2)
        distance = math.log(strike / _FORWARD)
        vol = 0.12 - 0.2 * distance + 4 * distance * distance
        for side in plain_chain.SIDES:
            key = f"NSE_FO|{name} {strike:.0f} {side}"
            terms[key] = Terms(kind=TermsKind.OPTION, strike=strike, is_call=side == "call", **about)
            prices[key] = max(round(plain_chain.value(side, _FORWARD, strike, years, vol, _RATE) / 0.05), 1) * 0.05
    keys = tuple(sorted(terms))
    rec = np.zeros(len(keys), PANEL)
    draw = np.random.default_rng(7)
    for column in ("iv", "delta", "gamma", "theta", "vega", "rho"):
        rec[column] = 0.1
    rec["id"] = [instrument_id(key) for key in keys]
    rec["ts"], rec["ltt"], rec["covered"] = _TS + 59_000, _TS + 58_000, 1
    rec["ltp"] = [prices[key] for key in keys]
    rec["bid"], rec["ask"], rec["cp"] = rec["ltp"], rec["ltp"], rec["ltp"] * 1.1
    rec["bid_qty"] = rec["ask_qty"] = 750
    rec["oi"], rec["vtt"] = 75.0 * draw.integers(1, 40_000, len(keys)), 75 * draw.integers(1, 90_000, len(keys))
    return keys, rec, terms


def rows(keys: Sequence[str], rec: Any, terms: dict[str, Terms | None]) -> list[dict[str, Any]]:
    """The same chain for the plain side."""
    found: dict[float, dict[str, Any]] = {}
    for key, record in zip(keys, rec, strict=True):
        one = terms[key]
        if one is not None and one.strike is not None:
            option = {"price": round(float(record["ltp"]), 5), "oi": float(record["oi"]), "oi_change": None}
            side = "call" if one.is_call else "put"
            row = found.setdefault(one.strike, {"strike": one.strike})
            row[side] = option | {"volume": float(record["vtt"])}
    return [found[strike] for strike in sorted(found)]


def _of_size(strikes: int) -> Callable[[], Any]:
    keys, rec, terms = options(strikes)
    found = layout(keys, terms)
    return lambda: analytics(found, keys, rec)


def _fold(underlyings: int, strikes: int) -> Callable[[], Any]:
    """The fold as it runs, minute after minute: the panel in, the JSON out."""
    parts = [options(strikes, f"{number:03}") for number in range(underlyings)]
    keys = tuple(key for part in parts for key in part[0])
    rec = np.concatenate([part[1] for part in parts])
    terms = {key: one for part in parts for key, one in part[2].items()}
    builder = ChainBuilder(1, _RATE, lambda *_: None)
    ts = [_TS]

    def step() -> Any:
        ts[0] += _MINUTE_MS
        one = Panel(ts[0], 0, keys, rec)
        if builder.wanted(one):
            builder.learn(terms)
        return list(builder.add(one, ts[0]))

    return step


def _cpu_ms(work: Callable[[], Any]) -> float:
    count, start = 0, process_time()
    while (spent := process_time() - start) < _TURN_S:
        work()
        count += 1
    return 1000 * spent / count


def _check(found: Layout, keys: Sequence[str], rec: Any, plain: list[dict[str, Any]]) -> None:
    """Both sides find the same: a bench of wrong answers says nothing."""
    ours, theirs = analytics(found, keys, rec).fields, plainly(plain)
    for name in ("max_pain", "atm_strike", "gex", "skew_25d", "pcr_oi", "dex"):
        assert math.isclose(ours[name], theirs[name], rel_tol=1e-3), (name, ours[name], theirs[name])


if __name__ == "__main__":
    main(sys.argv[1:])
