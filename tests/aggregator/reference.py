"""A second, independent reading of the bar's definition (design 4.3): dictionaries, one update at a time.

Slow and plain on purpose. It knows nothing of records, rings or kernels, keeps every minute for ever, and speaks of
updates as dictionaries, as a program of somebody else would build them from the venue's frames.
"""

from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
DAY = 86_400_000
IST = 19_800_000


@dataclass
class Known:
    vtt: int | None = None
    ltt: int = 0
    ltp: float = 0.0
    day: int = -1
    ts: int = -1
    covered: list[list[int | None]] = field(default_factory=list)  # [from, to]; to None while it lasts
    walls: tuple[Any, Any] = (None, None)
    bars: dict[int, dict[str, Any]] = field(default_factory=dict)


class Reference:
    def __init__(self, grace: int = 2000, sessions: Any = None) -> None:
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
        newest = u["ts"] >= k.ts
        k.ts = max(k.ts, u["ts"])
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

    def _publish(self, key: str, k: Known, bar: dict[str, Any]) -> None:
        if bar["complete"] is None:
            bar["complete"] = self._whole(k, bar["minute"])
        earlier = [m for m in k.bars if m < bar["minute"]]
        before = k.bars[max(earlier)]["oi"] if earlier else None
        shown = {name: value for name, value in bar.items() if name not in ("minute", "value", "dirty")}
        shown["instrument"], shown["ts"] = key, bar["minute"]
        shown["vwap"] = bar["value"] / bar["volume"] if bar["volume"] else None
        shown["oi_diff"] = bar["oi"] - before if bar["oi"] is not None and before is not None else None
        shown["model"] = None
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
