"""A second, independent reading of the bar's definition (design 4.3): dictionaries, one update at a time.

Slow and plain on purpose. It knows nothing of records, rings or kernels, keeps every minute for ever, and speaks of
updates as dictionaries, as a program of somebody else would build them from the venue's frames.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
DAY = 86_400_000
IST = 19_800_000
YEAR = 365 * DAY
SKIPPED = 15
QUOTED = ("cp", "bid", "bid_qty", "ask", "ask_qty", "oi", "iv", "delta", "gamma", "theta", "vega", "rho")


@dataclass
class Known:
    hours: bool = False  # a trade has told the day, and with it the hours
    quote: dict[str, Any] = field(default_factory=dict)
    vtt: int | None = None
    ltt: int = 0
    ltp: float = 0.0
    day: int = -1
    ts: int = -1
    covered: list[list[int | None]] = field(default_factory=list)  # [from, to]; to None while it lasts
    walls: tuple[Any, Any] = (None, None)
    bars: dict[int, dict[str, Any]] = field(default_factory=dict)


class Reference:
    """`terms`: by instrument, with the field names of schemas.terms. Only what is there has panels and Greeks."""

    def __init__(
        self,
        grace: int = 2000,
        sessions: Any = None,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        rate: float = 0.0,
    ) -> None:
        self.terms = terms or {}
        self.rate = rate
        self.moments: dict[int, dict[str, dict[str, Any]]] = {}
        self.panels: list[dict[str, Any]] = []
        self.grace = grace
        self.now = 0
        self.known: dict[str, Known] = {}
        self.published: list[dict[str, Any]] = []
        self.in_session = sessions or (lambda key, ltt: True)

    def update(self, u: dict[str, Any]) -> None:
        self._clock(u["ts"])
        k = self.known.setdefault(u["key"], Known())
        base = u["base"] or k.ts < 0
        resumed = not base and k.covered[-1][1] is not None
        if base:
            self._restart(k, u["ts"])
        if u.get("depth") and u["ts"] >= k.ts:
            k.walls = (_wall(u["depth"], "bid"), _wall(u["depth"], "ask"))
        volume = self._volume(k, u, base)
        k.hours |= bool(u.get("ltp") and u.get("ltt") and u["ltt"] <= u["ts"] + MINUTE)
        newest = u["ts"] >= k.ts
        k.ts = max(k.ts, u["ts"])
        if newest:
            k.quote = {name: u.get(name) for name in QUOTED}
        if volume is not None and self.in_session(u["key"], u["ltt"]):
            minute = u["ltt"] // MINUTE * MINUTE
            bar = k.bars.get(minute)
            fresh = bar is None
            if bar is None:
                bar = k.bars[minute] = _opened(minute, u["ltp"])
            if fresh or (newest and not self._closed(minute)):
                _see(bar, k, u)
            bar["high"], bar["low"] = max(bar["high"], u["ltp"]), min(bar["low"], u["ltp"])
            bar["close"] = u["ltp"]
            bar["volume"] += volume
            bar["value"] += u["ltp"] * volume
            bar["ticks"] += 1
            bar["dirty"] = True
        elif volume is None and newest and (now := u["ts"] // MINUTE * MINUTE) in k.bars:
            _see(k.bars[now], k, u)
        if resumed:
            self._continue(k)

    def _volume(self, k: Known, u: dict[str, Any], base: bool) -> int | None:
        """Volume of the trade that the update is; None where it is none."""
        if u.get("ltt") == 0 and u.get("vtt") is not None and k.vtt is None:
            k.vtt = 0  # never traded: its volume counts from zero
        if not u.get("ltp") or not u.get("ltt") or u["ltt"] > u["ts"] + MINUTE:
            return None
        day, vtt, ltt = (u["ltt"] + IST) // DAY, u.get("vtt"), u["ltt"]
        volume: int | None = None
        if base:
            older = vtt is not None and k.vtt is not None and vtt < k.vtt and day == k.day
            news = day > k.day or (vtt is not None and vtt > (k.vtt or 0)) or (ltt > k.ltt and not older)
            if not news:
                return None
            volume = 0 if ltt // MINUTE == u["ts"] // MINUTE else None
        elif day < k.day:
            return None
        elif vtt is not None:
            if k.vtt is None:
                k.vtt = vtt
                volume = 0 if ltt > k.ltt else None
            elif day > k.day:
                volume = vtt
            elif vtt > k.vtt:
                volume = vtt - k.vtt
            elif vtt == k.vtt and ltt > k.ltt:
                volume = 0
        elif ltt > k.ltt or (ltt == k.ltt and u["ltp"] != k.ltp):
            volume = 0
        if base or volume is not None:
            k.ltt, k.ltp, k.day = ltt, u["ltp"], day
            if vtt is not None:
                k.vtt = vtt
        return volume

    def down(self, ts: int) -> None:
        for k in self.known.values():
            if k.covered and k.covered[-1][1] is None:
                k.covered[-1][1] = ts
                for bar in k.bars.values():
                    if bar["minute"] + MINUTE > ts and bar["complete"] is not False:
                        bar["complete"], bar["dirty"] = False, True

    def _restart(self, k: Known, ts: int) -> None:
        if k.covered and k.covered[-1][1] is None:
            k.covered[-1][1] = k.ts
        for bar in k.bars.values():
            if bar["complete"] is None:
                bar["complete"] = self._whole(k, bar["minute"])
        k.covered.append([ts, None])

    def _continue(self, k: Known) -> None:
        """A false alarm: what was called incomplete meanwhile is not, as far as it is still open to revision."""
        start, end = k.covered[-1]
        assert start is not None
        assert end is not None
        for bar in k.bars.values():
            gone = any(m > bar["minute"] and (m - bar["minute"]) % (4 * MINUTE) == 0 for m in k.bars)
            if bar["complete"] is False and bar["minute"] + MINUTE > end and bar["minute"] >= start and not gone:
                bar["complete"], bar["dirty"] = (True if bar["rev"] else None), True
        k.covered[-1][1] = None

    def _whole(self, k: Known, minute: int) -> bool:
        if not k.covered:
            return False
        start, end = k.covered[-1]
        return start is not None and start <= minute and (end is None or minute + MINUTE <= end)

    def _closed(self, minute: int) -> bool:
        return minute + MINUTE + self.grace <= self.now

    def heartbeat(self, ts: int) -> None:
        self._clock(ts)

    def _clock(self, ts: int) -> None:
        if ts <= self.now:
            return
        due = ts // 1000 > self.now // 1000 or any(
            not self._closed(bar["minute"]) and bar["minute"] + MINUTE + self.grace <= ts
            for k in self.known.values()
            for bar in k.bars.values()
        )
        self._remember(ts)
        self.now = ts
        if due:
            leaving = [
                (bar["minute"], key, k, bar)
                for key, k in self.known.items()
                for bar in k.bars.values()
                if bar["dirty"] and self._closed(bar["minute"])
            ]
            for _, key, k, bar in sorted(leaving, key=lambda item: item[:2]):
                self._publish(key, k, bar)
            for minute in sorted(minute for minute in self.moments if self._closed(minute)):
                self.panels.append({"ts": minute, **self._panel(minute, self.moments.pop(minute))})

    # What was seen as a minute ended

    def _remember(self, ts: int) -> None:
        first, now = self.now // MINUTE * MINUTE, ts // MINUTE * MINUTE
        if not self.now or first == now:
            return
        quiet = [m for m in range(first + MINUTE, now, MINUTE) if m >= now - SKIPPED * MINUTE]
        for minute in [first, *[m for m in quiet if any(_covered(k, m, m + MINUTE) for k in self.known.values())]]:
            if any(k.hours for k in self.known.values()):
                self.moments[minute] = {key: self._state(key) for key in self.known if self._is_told(key, minute)}

    def _is_told(self, key: str, minute: int) -> bool:
        about = self.terms.get(key)
        if about is None or self._is_over(about, minute):
            return False
        family = [other for other, of in self.terms.items() if of["underlying"] == about["underlying"]]
        alive = [other for other in family if other in self.known and not self._is_over(self.terms[other], minute)]
        return any(self.known[other].hours for other in alive)

    def _is_over(self, about: Mapping[str, Any], minute: int) -> bool:
        last = about.get("last_trade_ms")
        return last is not None and last <= minute

    def _state(self, key: str) -> dict[str, Any]:
        k = self.known[key]
        told = {"ts": k.ts, "ltp": k.ltp or None, "ltt": k.ltt, "vtt": k.vtt or 0}
        return {**told, **copy.deepcopy(k.quote)}

    def _panel(self, minute: int, states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        whole = {key: int(_covered(self.known[key], minute, minute + MINUTE)) for key in states}
        return {key: {**states[key], "covered": whole[key]} for key in sorted(states)}

    # Own Greeks

    def _price(self, key: str, bar: dict[str, Any]) -> None:
        about, minute = self.terms.get(key, {}), bar["minute"]
        if about.get("kind") != "option":
            bar["model"] = None
        elif bar["rev"] == 0:
            bar["model"] = self._priced(key, about, bar["close"], minute)
        elif bar["model"]["price_from"] == "last" and bar["model"]["price"] != bar["close"]:
            bar["model"]["price"] = bar["close"]
            bar["model"] |= black(bar["model"], about, minute + MINUTE, self.rate)

    def _priced(self, key: str, about: Mapping[str, Any], close: float, minute: int) -> dict[str, Any]:
        states, end = self.moments.get(minute, {}), minute + MINUTE
        there = {other for other in states if _covered(self.known[other], end, end)}
        if key not in there:
            return {
                "price": None,
                "price_from": None,
                "forward": None,
                "forward_from": "none",
                **UNKNOWN,
                "flag": "unseen",
            }
        mid = _mid(states[key])
        told: dict[str, Any] = {"price": close if mid is None else mid, "price_from": "last" if mid is None else "mid"}
        forward, source = self._forward({other: states[other] for other in there}, about, minute)
        told |= {"forward": forward, "forward_from": source}
        return told | black(told, about, end, self.rate)

    def _forward(self, states: dict[str, Any], about: Mapping[str, Any], minute: int) -> tuple[float | None, str]:
        """Knows one strike with both sides at most: then parity needs no votes."""
        prices: dict[tuple[str, Any, Any], float] = {}
        for key, state in states.items():
            of = self.terms[key]
            recent = state["ltp"] if minute <= state["ltt"] < minute + MINUTE else None
            price = _mid(state) or recent
            if price and (of["underlying"], of.get("expiry")) == (about["underlying"], about["expiry"]):
                prices[of["kind"], of.get("strike"), of.get("is_call")] = price
        if (future := prices.get(("future", None, None))) is not None:
            return future, "future"
        both = [strike for kind, strike, side in prices if side and ("option", strike, False) in prices]
        if not both:
            return None, "none"
        (strike,) = both
        growth = math.exp(self.rate * _years(about, minute + MINUTE))
        return strike + growth * (prices["option", strike, True] - prices["option", strike, False]), "parity"

    def _publish(self, key: str, k: Known, bar: dict[str, Any]) -> None:
        if bar["complete"] is None:
            bar["complete"] = self._whole(k, bar["minute"])
        earlier = [m for m in k.bars if m < bar["minute"]]
        before = k.bars[max(earlier)]["oi"] if earlier else None
        self._price(key, bar)
        shown = {name: copy.copy(value) for name, value in bar.items() if name not in ("minute", "value", "dirty")}
        shown["instrument"], shown["ts"] = key, bar["minute"]
        shown["vwap"] = bar["value"] / bar["volume"] if bar["volume"] else None
        shown["oi_diff"] = bar["oi"] - before if bar["oi"] is not None and before is not None else None
        self.published.append(shown)
        bar["rev"] += 1
        bar["dirty"] = False


def _opened(minute: int, price: float) -> dict[str, Any]:
    return {
        "minute": minute, "open": price, "high": price, "low": price, "close": price, "volume": 0, "value": 0.0,
        "ticks": 0, "rev": 0, "complete": None, "dirty": False, "source": "live",
    }  # fmt: skip


def _see(bar: dict[str, Any], k: Known, u: dict[str, Any]) -> None:
    for name in ("oi", "iv", "delta", "gamma", "theta", "vega", "rho", "tbq", "tsq"):
        bar[name] = u.get(name)
    bar["bid_wall"], bar["ask_wall"] = k.walls


def _wall(depth: list[dict[str, Any]], side: str) -> dict[str, Any] | None:
    best = max(depth, key=lambda level: level[f"{side}_qty"])  # the first of equals is nearer the touch
    return {"price": best[side], "qty": best[f"{side}_qty"]} if best[f"{side}_qty"] > 0 else None


def _covered(k: Known, start: int, end: int) -> bool:
    """A stretch that has ended counts where it was a minute long or longer."""
    *ended, last = [(first or 0, math.inf if to is None else to) for first, to in k.covered]
    long = [(first, to) for first, to in ended if to - first >= MINUTE]
    return any(first <= start and end <= to for first, to in [*long, last])


UNKNOWN = {"iv": None, "delta": None, "gamma": None, "theta": None, "vega": None, "rho": None}


def _mid(state: Mapping[str, Any]) -> float | None:
    bid, ask = state.get("bid") or 0.0, state.get("ask") or 0.0
    mid = round((bid + ask) / 2, 5)
    near = ask - bid <= max(0.25 * mid, 0.15 + 1e-9)
    return mid if bid > 0 and ask >= bid and near else None


def _years(about: Mapping[str, Any], at: int) -> float:
    left: int = about["last_trade_ms"] - at
    return max(left, MINUTE) / YEAR if left > 0 else 0.0


def black(told: Mapping[str, Any], about: Mapping[str, Any], at: int, rate: float) -> dict[str, Any]:
    """IV by halving, and Black-76 written out as in a textbook."""
    price, forward, strike, call = told["price"], told["forward"], about["strike"], about["is_call"]
    years = _years(about, at)
    if years == 0.0:
        return {**UNKNOWN, "flag": "expired"}
    if forward is None or forward <= 0:
        return {**UNKNOWN, "flag": "no_forward"}
    discount = math.exp(-rate * years)
    if price / discount <= (forward - strike if call else strike - forward):
        return {**UNKNOWN, "flag": "below_intrinsic"}
    if price / discount >= (forward if call else strike):
        return {**UNKNOWN, "flag": "above_bound"}
    low, high = 0.0, 1000.0
    while low < (vol := (low + high) / 2) < high:
        low, high = (vol, high) if _worth(forward, strike, years, vol, call) * discount < price else (low, vol)
    root = math.sqrt(years)
    d1 = math.log(forward / strike) / (vol * root) + vol * root / 2
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    return {
        "iv": vol,
        "delta": discount * (_phi(d1) if call else -_phi(-d1)),
        "gamma": discount * density / (forward * vol * root),
        "theta": (rate * price - forward * discount * density * vol / (2 * root)) / 365,
        "vega": discount * forward * density * root / 100,
        "rho": -years * price / 100,
        "flag": "ok",
    }


def _worth(forward: float, strike: float, years: float, vol: float, call: bool) -> float:
    deviation = vol * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    if call:
        return forward * _phi(d1) - strike * _phi(d1 - deviation)
    return strike * _phi(deviation - d1) - forward * _phi(-d1)


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
