"""An option chain's measures in plain Python, one option at a time: the other side of `bench/chain.py`, and the oracle
of the tests. It shares no line with the aggregator; only what a field means is the same (docs/chain.md).

An option is a dictionary with `price`, `oi`, `oi_change` and `volume`, a strike one with `strike`, `call` and `put`;
what is not known is None.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Final

Option = dict[str, Any]
Strike = dict[str, Any]

SIDES: Final = ("call", "put")
_STEPS_MAX: Final = 200


# Black-76


def cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def d1_of(forward: float, strike: float, years: float, vol: float) -> float:
    return (math.log(forward / strike) + 0.5 * vol * vol * years) / (vol * math.sqrt(years))


def value(side: str, forward: float, strike: float, years: float, vol: float, rate: float) -> float:
    d1 = d1_of(forward, strike, years, vol)
    d2 = d1 - vol * math.sqrt(years)
    if side == "call":
        return math.exp(-rate * years) * (forward * cdf(d1) - strike * cdf(d2))
    return math.exp(-rate * years) * (strike * cdf(-d2) - forward * cdf(-d1))


def implied(side: str, price: float, forward: float, strike: float, years: float, rate: float) -> float | None:
    """By Newton's steps inside a bracket; None where no volatility makes the price."""
    discount = math.exp(-rate * years)
    gain = forward - strike if side == "call" else strike - forward
    if not max(gain, 0.0) * discount < price < (forward if side == "call" else strike) * discount:
        return None
    low, high, vol = 1e-9, 1000.0, 0.3
    for _ in range(_STEPS_MAX):
        miss = value(side, forward, strike, years, vol, rate) - price
        low, high = (low, vol) if miss > 0 else (vol, high)
        vega = discount * forward * density(d1_of(forward, strike, years, vol)) * math.sqrt(years)
        step = miss / vega if vega > 0 else math.inf
        if abs(step) < 1e-12 * vol:
            break
        vol = vol - step if low < vol - step < high else 0.5 * (low + high)
    return vol


def greeks(side: str, forward: float, strike: float, years: float, vol: float, rate: float) -> dict[str, float]:
    d1, root, discount = d1_of(forward, strike, years, vol), math.sqrt(years), math.exp(-rate * years)
    d2 = d1 - vol * root
    price = value(side, forward, strike, years, vol, rate)
    delta = discount * (cdf(d1) if side == "call" else -cdf(-d1))
    return {
        "delta": delta,
        "gamma": discount * density(d1) / (forward * vol * root),
        "theta": (rate * price - discount * forward * density(d1) * vol / (2 * root)) / 365,
        "vega": discount * forward * density(d1) * root / 100,
        "rho": -years * price / 100,
        "vanna": -discount * density(d1) * d2 / vol,
        "charm": rate * delta + discount * density(d1) * d2 / (2 * years),
    }


# The chain


def solved(strikes: Iterable[Strike], forward: float | None, years: float, rate: float) -> None:
    """Write volatility and Greeks into every option."""
    for row in strikes:
        for side in SIDES:
            option = row[side]
            if option is None:
                continue
            vol = None
            if forward and years > 0 and option["price"]:
                vol = implied(side, option["price"], forward, row["strike"], years, rate)
            option["iv"] = vol
            if vol and forward:
                option.update(greeks(side, forward, row["strike"], years, vol, rate))


def measures(strikes: list[Strike], forward: float | None, spot: float | None, years: float, rate: float) -> Strike:
    """Every aggregate of a chain whose options have volatility and Greeks."""
    at = spot if spot else forward
    return {
        **_open_interest(strikes, forward),
        **_at_the_money(strikes, forward, years, rate),
        **_exposures(strikes, forward, at),
        **_skew(strikes, forward),
        "max_pain": _max_pain(strikes, forward),
        "basis": forward - spot if forward and spot else None,
        "basis_yearly": (forward / spot - 1) / years if forward and spot and years > 0 else None,
    }


def of(row: Strike, side: str, name: str) -> Any:
    return row[side].get(name) if row[side] else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other is not None and other > 0 else None


def _open_interest(strikes: list[Strike], forward: float | None) -> Strike:
    found: Strike = {}
    for name in ("oi", "oi_change", "volume"):
        for side in SIDES:
            found[f"{side}_{name}"] = _sum(of(row, side, name) for row in strikes)
        found[f"pcr_{name}"] = _ratio(found[f"put_{name}"], found[f"call_{name}"])
    for side in SIDES:
        for name, shown in (("oi", f"{side}_wall"), ("oi_change", f"{side}_wall_change")):
            found[shown] = _wall(strikes, side, name, forward)
    return found


def _wall(strikes: list[Strike], side: str, name: str, forward: float | None) -> float | None:
    best: tuple[float, float, float] | None = None
    for row in strikes:
        size, strike = of(row, side, name), row["strike"]
        if forward is None or not size or size <= 0 or (strike < forward if side == "call" else strike > forward):
            continue
        entry = (size, -abs(strike - forward), strike)
        best = entry if best is None or entry > best else best
    return best[2] if best else None


def pain_at(strikes: list[Strike], settled: float) -> float:
    calls = sum((of(row, "call", "oi") or 0) * max(settled - row["strike"], 0) for row in strikes)
    puts = sum((of(row, "put", "oi") or 0) * max(row["strike"] - settled, 0) for row in strikes)
    return float(calls + puts)


def _max_pain(strikes: list[Strike], forward: float | None) -> float | None:
    if not any(of(row, side, "oi") for row in strikes for side in SIDES):
        return None
    pains = [(round(pain_at(strikes, row["strike"]), 4), row["strike"]) for row in strikes]
    least = min(pain for pain, _ in pains)
    equal = [strike for pain, strike in pains if pain == least]
    return float(min(equal, key=lambda strike: (abs(strike - (forward or 0)) if forward else 0, strike)))


def _at_the_money(strikes: list[Strike], forward: float | None, years: float, rate: float) -> Strike:
    names = ("atm_strike", "atm_iv", "straddle", "one_sigma", "synthetic_future")
    if forward is None:
        return dict.fromkeys(names)
    row = min(strikes, key=lambda one: (abs(one["strike"] - forward), one["strike"]))
    vols = [vol for side in SIDES if (vol := of(row, side, "iv"))]
    iv = sum(vols) / len(vols) if vols else None
    call, put = of(row, "call", "price"), of(row, "put", "price")
    both = call is not None and put is not None
    return {
        "atm_strike": row["strike"],
        "atm_iv": iv,
        "straddle": call + put if both else None,
        "one_sigma": forward * iv * math.sqrt(years) if iv else None,
        "synthetic_future": row["strike"] + math.exp(rate * years) * (call - put) if both else None,
    }


def _exposures(strikes: list[Strike], forward: float | None, at: float | None) -> Strike:
    if at is None:
        return dict.fromkeys(("gex", "gex_zero", "dex", "vanna", "charm"))
    sized: dict[str, Callable[[Option], float]] = {
        "gex": lambda option: option["gamma"] * option["oi"] * at * at * 0.01,
        "dex": lambda option: option["delta"] * option["oi"] * at,
        "vanna": lambda option: option["vanna"] * option["oi"] * at * 0.01,
        "charm": lambda option: option["charm"] * option["oi"] * at / 365,
    }
    found: Strike = {}
    by_strike: list[float | None] = []
    for name, size in sized.items():
        nets = []
        for row in strikes:
            counted = [
                sign * size(row[side])
                for side, sign in (("call", 1), ("put", -1))
                if of(row, side, "iv") and of(row, side, "oi") is not None
            ]
            nets.append(_sum(counted))
        found[name] = _sum(nets)
        by_strike = nets if name == "gex" else by_strike
    found["gex_zero"] = _zero([row["strike"] for row in strikes], by_strike, forward)
    return found


def _zero(strikes: list[float], nets: list[float | None], forward: float | None) -> float | None:
    level, last, found = 0.0, None, []
    for strike, net in zip(strikes, nets, strict=True):
        level += net or 0.0
        if level == 0:
            continue
        if last is not None and (last[1] < 0) != (level < 0):
            found.append(last[0] + (strike - last[0]) * last[1] / (last[1] - level))
        last = (strike, level)
    return min(found, key=lambda one: abs(one - forward) if forward else 0) if found else None


def _skew(strikes: list[Strike], forward: float | None) -> Strike:
    call = _iv_at([row for row in strikes if forward and row["strike"] >= forward], "call")
    put = _iv_at([row for row in reversed(strikes) if forward and row["strike"] <= forward], "put")
    return {
        "call_iv_25d": call,
        "put_iv_25d": put,
        "skew_25d": put - call if put and call else None,
        "risk_reversal_25d": call - put if put and call else None,
    }


def _iv_at(outwards: list[Strike], side: str) -> float | None:
    known = [(abs(row[side]["delta"]), row[side]["iv"]) for row in outwards if of(row, side, "iv")]
    for (d1, iv1), (d2, iv2) in pairwise(known):
        if d1 >= 0.25 >= d2:
            return float(iv1 + (iv2 - iv1) * (d1 - 0.25) / (d1 - d2)) if d1 > d2 else float(iv1)
    return None
