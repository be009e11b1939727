"""Runs in a peer's own interpreter, see peers.py: implied volatility and Greeks by other people's programs.

Called with the peer's name and a folder of arrays. Each word on the input, `iv` or `all`, is one run over all options;
the answer is options in a second of processor time, and the volatilities lie in the folder. Imports nothing of ours.

Each peer is called the way its own documentation shows for many options at once, or one by one where it has no other.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
Work = Callable[[], Any]
RATE = 0.0675


def opengreeks(given: Arrays) -> dict[str, Work]:
    """Its array functions take one flag for all, so calls and puts go in separately."""
    black = importlib.import_module("opengreeks.black76")
    names = ("price", "forward", "strike", "years")
    halves = [(flag, [np.ascontiguousarray(given[n][m]) for n in names], m) for flag, m in sides(given)]

    def iv() -> Any:
        out = np.full(given["price"].shape, np.nan)
        for flag, (price, forward, strike, years), mask in halves:
            out[mask] = black.implied_volatility_array(price, forward, strike, RATE, years, flag)
        return out

    def everything() -> Any:
        out = np.full(given["price"].shape, np.nan)
        for flag, (price, forward, strike, years), mask in halves:
            vol = black.implied_volatility_array(price, forward, strike, RATE, years, flag)
            for name in ("black", "delta", "gamma", "theta", "vega", "rho"):
                getattr(black, f"{name}_array")(flag, forward, strike, years, RATE, vol)
            out[mask] = vol
        return out

    return {"iv": iv, "all": everything}


def py_vollib(given: Arrays) -> dict[str, Work]:
    solve = importlib.import_module("py_vollib.black.implied_volatility").implied_volatility
    model = importlib.import_module("py_vollib.black").black
    analytical = importlib.import_module("py_vollib.black.greeks.analytical")
    greeks = [getattr(analytical, name) for name in ("delta", "gamma", "theta", "vega", "rho")]
    rows = scalars(given, "c", "p")

    def one(price: float, forward: float, strike: float, years: float, flag: str) -> float:
        try:
            return float(solve(price, forward, strike, RATE, years, flag))
        except (ArithmeticError, ValueError):  # how it says that there is none
            return np.nan

    def everything(price: float, forward: float, strike: float, years: float, flag: str) -> float:
        vol = one(price, forward, strike, years, flag)
        for function in (model, *greeks):
            function(flag, forward, strike, years, RATE, vol)
        return vol

    return {
        "iv": lambda: np.array([one(*row) for row in rows]),
        "all": lambda: np.array([everything(*row) for row in rows]),
    }


def py_vollib_vectorized(given: Arrays) -> dict[str, Work]:
    """Its Greeks are asked for as those of Black-76; some differ from Black-76, which is not counted here."""
    module = importlib.import_module("py_vollib_vectorized")
    price, forward, strike, years = (given[name] for name in ("price", "forward", "strike", "years"))
    flags = np.where(given["is_call"], "c", "p")

    def iv() -> Any:
        return module.vectorized_implied_volatility_black(
            price, forward, strike, RATE, years, flags, return_as="numpy", on_error="ignore"
        )

    def everything() -> Any:
        vol = iv()
        module.vectorized_black(flags, forward, strike, years, RATE, vol, return_as="numpy")
        module.get_all_greeks(flags, forward, strike, years, RATE, vol, model="black", return_as="dict")
        return vol

    return {"iv": iv, "all": everything}


def quantlib(given: Arrays) -> dict[str, Work]:
    ql = importlib.import_module("QuantLib")
    discounts = np.exp(-RATE * given["years"]).tolist()
    roots = np.sqrt(given["years"]).tolist()
    rows = list(zip(scalars(given, ql.Option.Call, ql.Option.Put), discounts, roots, strict=True))

    def deviation(row: tuple[float, float, float, float, int], discount: float) -> float:
        try:
            return float(ql.blackFormulaImpliedStdDev(row[4], row[2], row[1], row[0], discount))
        except RuntimeError:  # how it says that there is none
            return np.nan

    def everything(row: tuple[float, float, float, float, int], discount: float) -> float:
        s = deviation(row, discount)
        if s > 0:
            black = ql.BlackCalculator(ql.PlainVanillaPayoff(row[4], row[2]), row[1], s, discount)
            black.value(), black.deltaForward(), black.gammaForward()
            black.theta(row[1], row[3]), black.vega(row[3]), black.rho(row[3])
        return s

    return {
        "iv": lambda: np.array([deviation(row, discount) / root for row, discount, root in rows]),
        "all": lambda: np.array([everything(row, discount) / root for row, discount, root in rows]),
    }


def sides(given: Arrays) -> list[tuple[str, Any]]:
    return [("c", given["is_call"]), ("p", ~given["is_call"])]


def scalars(given: Arrays, call: Any, put: Any) -> list[tuple[float, float, float, float, Any]]:
    """Price, forward, strike, years and kind of each option as the objects that a Python program has."""
    columns = [given[name].tolist() for name in ("price", "forward", "strike", "years")]
    return list(zip(*columns, (call if one else put for one in given["is_call"].tolist()), strict=True))


PEERS: Mapping[str, Callable[[Arrays], dict[str, Work]]] = {
    "opengreeks": opengreeks,
    "py_vollib": py_vollib,
    "py_vollib_vectorized": py_vollib_vectorized,
    "QuantLib": quantlib,
}


def serve(name: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    given = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    work = PEERS[name](given)
    out = folder / name
    out.mkdir()
    for line in sys.stdin:
        what = line.strip()
        start = process_time()
        vol = work[what]()
        elapsed = process_time() - start
        np.save(out / what, vol)
        print(json.dumps(len(vol) / elapsed), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
