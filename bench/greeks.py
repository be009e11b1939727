"""Implied volatilities a second of one core, and with price and five Greeks; beside the Python libraries for it.

The options are of every kind (half to twice the forward, a minute to a year, 5 % to 150 %) as long as their double
price determines the volatility to 1e-10, so each side could get every one right. Answers are held against the
volatility that made the price, and ours besides against mpmath. Seconds are processor time, on both sides.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench import peers
from bench.peer_greeks import RATE
from bench.report import Report, in_turns, run
from market import black76
from schemas.errors import Unavailable

Floats = npt.NDArray[np.float64]

_SCRIPT: Final = Path(__file__).with_name("peer_greeks.py")
_PEERS: Final = (peers.OPENGREEKS, peers.PY_VOLLIB, peers.PY_VOLLIB_VECTORIZED, peers.QUANTLIB)
_OPTIONS: Final = 5000
_ROUNDS: Final = 7
_WELL: Final = 1e-10
_TICK: Final = 0.05
_CHAIN: Final = 400
_CHECKED: Final = 200


def options() -> dict[str, npt.NDArray[Any]]:
    """Options whose price determines their volatility, and that volatility as `vol`."""
    chance, n = np.random.default_rng(76), 4 * _OPTIONS
    forward = chance.uniform(15_000.0, 60_000.0, n)
    strike = forward * np.exp(chance.uniform(np.log(0.5), np.log(2.0), n))
    years = np.exp(chance.uniform(np.log(black76.FLOOR_MS / black76.YEAR_MS), 0.0, n))
    vol = np.exp(chance.uniform(np.log(0.05), np.log(1.5), n))
    near = chance.random(n) < 0.5  # as traded: within some deviations of the forward
    strike = np.where(near, forward * np.exp(vol * np.sqrt(years) * chance.normal(0.0, 2.0, n)), strike)
    is_call = chance.random(n) < 0.5
    known = black76.greeks(vol, forward, strike, years, is_call, RATE)
    well = (np.spacing(known["price"]) < _WELL * 100.0 * known["vega"]) & (known["price"] > 1e-280)
    chosen = np.nonzero(well)[0][:_OPTIONS]
    assert len(chosen) == _OPTIONS
    columns = {"price": known["price"], "forward": forward, "strike": strike, "years": years, "is_call": is_call}
    return {name: column[chosen] for name, column in {**columns, "vol": vol}.items()}


def measure() -> Report:
    made = options()
    with tempfile.TemporaryDirectory(prefix="teji-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        for column, values in made.items():
            if column != "vol":
                np.save(folder / column, values)
        sides: dict[str, Callable[[], float]] = {
            "ours iv": lambda: _rate(black76.implied, made),
            "ours all": lambda: _rate(black76.solve, made),
        }
        there = []
        for peer in _PEERS:
            try:
                process = stack.enter_context(peers.running(peer, _SCRIPT, folder))
                for what in ("iv", "all"):
                    process.ask(what)
                    sides[f"{peer.name} {what}"] = partial(process.ask, what)
            except Unavailable as reason:
                print(f"Left out: {reason}", file=sys.stderr)
                sides = {key: side for key, side in sides.items() if not key.startswith(f"{peer.name} ")}
            else:
                there.append(peer.name)
        rates = in_turns(sides, _ROUNDS)
        answers = {peer: np.load(folder / peer / "iv.npy") for peer in there}
    report = _report(made, rates, answers)
    missing = {f"{peer.name}, left out": 1.0 for peer in _PEERS if peer.name not in answers}
    return replace(report, detail={**report.detail, **missing})


def _rate(work: Callable[..., object], made: Mapping[str, Any]) -> float:
    start = process_time()
    work(made["price"], made["forward"], made["strike"], made["years"], made["is_call"], RATE)
    return _OPTIONS / (process_time() - start)


def _report(made: Mapping[str, Any], rates: Mapping[str, float], answers: Mapping[str, Floats]) -> Report:
    ours, _ = black76.implied(made["price"], made["forward"], made["strike"], made["years"], made["is_call"], RATE)
    detail = {"options": float(_OPTIONS), "ours, with price and 5 Greeks, options/s": rates["ours all"]}
    detail |= _errors("ours", ours, made) | {"ours, largest error": float(np.abs(ours - made["vol"]).max())}
    detail |= _checked(made, ours) | {f"ours, a chain of {_CHAIN} strikes, ms": _chain_ms()}
    for name, vol in answers.items():
        detail[f"{name}, IV/s"] = rates[f"{name} iv"]
        detail[f"{name}, with price and 5 Greeks, options/s"] = rates[f"{name} all"]
        detail |= _errors(name, vol, made)
    if not answers:
        return Report("greeks", round(rates["ours iv"]), "IV/s", "no peer could be installed", 0.0, 0.0, detail)
    best = max(answers, key=lambda name: rates[f"{name} iv"])
    most = max(rates[f"{name} all"] for name in answers)
    detail["ratio to the fastest peer, with price and 5 Greeks"] = rates["ours all"] / most
    return Report.of("greeks", rates["ours iv"], "IV/s", best, rates[f"{best} iv"], detail)


def _errors(name: str, vol: Floats, made: Mapping[str, Any]) -> dict[str, float]:
    """What a side got wrong, and how much of that on options that cost a tick at least."""
    none = ~np.isfinite(vol)
    wrong = ~none & ~(np.abs(vol - made["vol"]) <= 1e-6)
    return {
        f"{name}, no answer": float(none.sum()),
        f"{name}, off by more than 1e-6": float(wrong.sum()),
        f"{name}, either at a price of a tick": float(((none | wrong) & (made["price"] >= _TICK)).sum()),
    }


def _checked(made: Mapping[str, Any], vol: Floats) -> dict[str, float]:
    """The distance of the exact price at our volatility from the price given, in volatility, with 50 digits."""
    try:
        import mpmath
    except ImportError:
        print("Not checked with mpmath: it comes with the developers' tools (make bench).", file=sys.stderr)
        return {}
    with mpmath.workdps(50):
        off = 0.0
        for i in range(0, _OPTIONS, _OPTIONS // _CHECKED):
            price, forward, strike, years = (
                mpmath.mpf(float(made[name][i])) for name in ("price", "forward", "strike", "years")
            )
            sign = 1 if made["is_call"][i] else -1
            s = mpmath.mpf(float(vol[i])) * mpmath.sqrt(years)
            d1 = mpmath.log(forward / strike) / s + s / 2
            discount = mpmath.exp(-mpmath.mpf(RATE) * years)
            exact = sign * discount * (forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - s)))
            vega = discount * forward * mpmath.npdf(d1) * mpmath.sqrt(years)
            off = max(off, float(abs(exact - price) / vega))
    return {f"ours, largest error of {_CHECKED} by mpmath": off}


def _chain_ms() -> float:
    """A weekly chain, calls above the forward and puts below, one call of `solve`."""
    strikes = np.linspace(0.8, 1.2, _CHAIN) * 24_000.0
    calls, vols = strikes > 24_000.0, 0.12 + 0.5 * np.log(strikes / 24_000.0) ** 2
    prices = black76.value(vols, 24_000.0, strikes, 0.02, calls, RATE)
    spent = []
    for _ in range(21):
        start = process_time()
        for _ in range(10):
            black76.solve(prices, 24_000.0, strikes, 0.02, calls, RATE)
        spent.append((process_time() - start) / 10)
    return float(np.median(spent)) * 1e3


def main(argv: Sequence[str] = ()) -> Report:
    return run(argv, measure, __doc__ or "")


if __name__ == "__main__":
    main(sys.argv[1:])
