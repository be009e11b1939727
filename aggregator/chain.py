"""Fold the panels of a minute into its option chains. Pure: panels in, chains out.

A minute has as many panels as there are shards of instruments. When the last of them is there, its chains leave. Where
a shard stays silent they leave without it, and again with a higher `rev` when it speaks after all. How long a silence
lasts is told by the times at which Redis took the panels (their entry ids), so the same stream gives the same chains,
folded live or after a restart.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator import chain_json, chain_minute
from aggregator.chain_layout import Layout, contract, layout
from aggregator.chain_memory import DayBefore, OpenInterest, Volatility, day_number
from aggregator.chain_minute import Measured, Priced, quietly
from aggregator.state import MINUTE_MS
from schemas.errors import Rejected
from schemas.panel import PANEL, Panel
from schemas.terms import Terms

#: A panel that does not come within this time after the minute's first is waited for no longer.
PATIENCE_MS: Final = 5_000
#: A minute that lacks a panel is kept this long for it, by Redis's time: as long as panels are.
KEEP_MS: Final = 15 * MINUTE_MS
#: And no more than so many minutes are.
MINUTES_MAX: Final = 60

_VERSION: Final = 1
_WHOLE: Final = -1  # stands for whole minutes where others are numbers of shards


@dataclass(frozen=True, slots=True)
class Made:
    """A chain to publish: its JSON, and what the shell needs to file it."""

    underlying: str
    expiry: date
    ts: int
    rev: int
    data: bytes


@dataclass(slots=True)
class _Minute:
    ts: int
    first_ms: int  # when Redis took the first of its panels
    panels: dict[int, Panel] = field(default_factory=dict)  # by shard; empty again when the minute is whole
    is_whole: bool = False
    rev: int = 0  # how often it was published
    due_ms: int | None = None  # then it is published with what there is; None: nothing new


class ChainBuilder:
    """The fold: `add` takes a panel and returns what leaves. `snapshot` and `restore` are its memory.

    Terms are not in it: the shell looks up what `wanted` names and hands it over by `learn` before it adds a panel.
    """

    def __init__(self, shards: int, rate: float, day_before: DayBefore) -> None:
        self._shards = shards
        self._rate = rate
        self._open_interest = OpenInterest(day_before)
        self._volatility = Volatility()
        self._minutes: dict[int, _Minute] = {}
        self._floor_ms = -1  # minutes up to here are over for good
        self._day = 0
        self._terms: dict[str, Terms | None] = {}
        self._terms_version = 0
        self._layouts: dict[int, tuple[Any, Layout]] = {}  # by shard, and of _WHOLE
        self._places: dict[int, tuple[Layout, npt.NDArray[np.int64]]] = {}
        self.late = 0  # panels that came after their minute was over

    # Terms

    def wanted(self, one: Panel) -> list[str]:
        """Instruments of a panel whose terms are to be looked up. On a new date that is all of them."""
        if day_number(one.ts) > self._day:
            self._day = day_number(one.ts)
            self._terms.clear()
            self._open_interest.forget(self._day)
            self._places.clear()
        return [key for key in one.keys if self._terms.get(key) is None]

    def learn(self, terms: Mapping[str, Terms | None]) -> None:
        if any(self._terms.get(key) != found for key, found in terms.items()):
            self._terms_version += 1
        self._terms |= terms

    # Panels

    def add(self, one: Panel, at_ms: int) -> Iterator[Made]:
        """A panel that Redis took at `at_ms`. A repetition changes nothing.

        What leaves is made one by one, so that the caller may do something else in between; it has to take all.
        """
        if not 0 <= one.shard < self._shards:
            raise Rejected(f"a panel of shard {one.shard}, where TEJI_SHARDS is {self._shards}")
        yield from self.due(at_ms)
        if one.ts <= self._floor_ms:
            self.late += 1
            return
        minute = self._minutes.setdefault(one.ts, _Minute(one.ts, at_ms))
        if minute.is_whole or one.shard in minute.panels:
            return
        self._see_open_interest(one)
        minute.panels[one.shard] = one
        if len(minute.panels) == self._shards:
            yield from self._leaving(minute)
            minute.is_whole = True
            minute.panels.clear()
        elif minute.due_ms is None:
            minute.due_ms = at_ms + PATIENCE_MS

    @property
    def next_due_ms(self) -> int | None:
        """When, by Redis's time, something leaves even if nothing more comes."""
        return min((one.due_ms for one in self._minutes.values() if one.due_ms is not None), default=None)

    def due(self, now_ms: int) -> Iterator[Made]:
        """What leaves because Redis's time is `now_ms` and everything that it took before was added. Take all."""
        for ts in sorted(self._minutes):
            minute = self._minutes[ts]
            if minute.due_ms is not None and minute.due_ms <= now_ms:
                yield from self._leaving(minute)
        for ts in sorted(self._minutes):
            if self._minutes[ts].first_ms > now_ms - KEEP_MS and len(self._minutes) <= MINUTES_MAX:
                break
            minute = self._minutes.pop(ts)
            self._floor_ms = ts
            if minute.due_ms is not None:
                yield from self._leaving(minute)

    def pending(self) -> list[Panel]:
        """Panels of minutes that are not whole yet: after `restore` their terms are to be looked up again."""
        return [one for minute in self._minutes.values() for one in minute.panels.values()]

    def seed(self, underlying: str, days: Mapping[int, float]) -> None:
        """Closing 30-day volatilities of days before, by IST day number, from wherever they are kept."""
        self._volatility.seed(underlying, days)

    @quietly
    def _see_open_interest(self, one: Panel) -> None:
        rec = one.rec
        places = self._rows(one.shard, self._layout(one.shard, [one]), rec)
        oi = np.where(chain_minute.is_known(one.ts, rec), rec["oi"], np.nan)
        end_ms = one.ts + MINUTE_MS
        to_ms = np.where(rec["covered"] == 1, end_ms, np.minimum(rec["ts"], end_ms))
        self._open_interest.see(places, one.keys, one.ts, oi, rec["ltp"], to_ms)

    # Chains

    def _leaving(self, minute: _Minute) -> Iterator[Made]:
        panels = [minute.panels[shard] for shard in sorted(minute.panels)]
        of = self._layout(_WHOLE, panels)
        rec = np.concatenate([one.rec for one in panels])
        base = self._open_interest.base(self._rows(_WHOLE, of, rec))
        seen = {
            "rev": minute.rev,
            "silent_shards": [shard for shard in range(self._shards) if shard not in minute.panels],
            "rate": self._rate,
        }
        minute.rev, minute.due_ms = minute.rev + 1, None
        yield from self._chains(chain_minute.Minute.of(minute.ts, of.keys, rec, base), of, seen)

    def _chains(self, minute: chain_minute.Minute, of: Layout, seen: Mapping[str, Any]) -> Iterator[Made]:
        """Of every expiry that still traded when the minute began."""
        trading = [chain for chain in of.chains if chain.last_trade_ms > minute.ts]
        found = [
            (one, chain_minute.measured(minute, one, self._rate))
            for one in chain_minute.priced(minute, trading, self._rate)
        ]
        for underlying, own in groupby(found, lambda pair: pair[0].layout.underlying):
            chains = list(own)
            common = self._common(minute, of, underlying, chains)
            for one, numbers in chains:
                data = chain_json.encoded(minute, one, numbers, common, seen)
                yield Made(underlying, one.layout.expiry, minute.ts, seen["rev"], data)

    def _common(
        self, minute: chain_minute.Minute, of: Layout, underlying: str, chains: list[tuple[Priced, Measured]]
    ) -> dict[str, Any]:
        """What an underlying's chains share; today's volatility is remembered."""
        common = chain_minute.of_underlying(minute, of, underlying, chains)
        self._volatility.see(underlying, minute.ts, common["iv_30d"])
        return chain_minute.with_history(common, self._volatility.before(underlying, minute.ts))

    def _layout(self, number: int, panels: list[Panel]) -> Layout:
        """The one made for the same instruments before, if their terms are still the same."""
        signature = (self._terms_version, *(one.keys for one in panels))
        kept = self._layouts.get(number)
        if kept is None or kept[0] != signature:
            kept = self._layouts[number] = (signature, layout([key for one in panels for key in one.keys], self._terms))
        return kept[1]

    def _rows(self, number: int, of: Layout, rec: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Where the open interest of a layout's instruments is remembered."""
        kept = self._places.get(number)
        if kept is None or kept[0] is not of:
            contracts = [contract(terms) if (terms := self._terms.get(key)) else 0 for key in of.keys]
            kept = self._places[number] = (of, self._open_interest.places(rec["id"].tolist(), contracts))
        return kept[1]

    # Memory

    def snapshot(self) -> bytes:
        minutes = [
            (one.ts, one.first_ms, one.is_whole, one.rev, one.due_ms) for _, one in sorted(self._minutes.items())
        ]
        panels = sorted(self.pending(), key=lambda one: (one.ts, one.shard))
        volatility, days = self._volatility.dump()
        parts = [b"".join(one.rec.tobytes() for one in panels), self._open_interest.dump(), days]
        head = {
            "version": _VERSION,
            "shards": self._shards,
            "floor_ms": self._floor_ms,
            "minutes": minutes,
            "panels": [(one.ts, one.shard, one.keys) for one in panels],
            "volatility": volatility,
            "sizes": [len(part) for part in parts],
        }
        packed = orjson.dumps(head)
        return zlib.compress(b"".join([len(packed).to_bytes(4, "little"), packed, *parts]), level=1)

    def restore(self, snapshot: bytes) -> None:
        """Continue where `snapshot` was taken. Raises ValueError where it is none of ours."""
        try:
            raw = zlib.decompress(snapshot)
        except zlib.error as error:
            raise ValueError(f"not a snapshot of the chain: {error}") from None
        at = 4 + int.from_bytes(raw[:4], "little")
        head = orjson.loads(raw[4:at])
        if head.get("version") != _VERSION:
            raise ValueError(f"a snapshot of version {head.get('version')}, not {_VERSION}")
        parts = []
        for size in head["sizes"]:
            parts.append(raw[at : at + size])
            at += size
        self._open_interest.load(parts[1])
        self._volatility.load(head["volatility"], parts[2])
        self._floor_ms = head["floor_ms"]
        if head["shards"] == self._shards:  # else what belongs together is spread in another way now
            self._restore_minutes(head, np.frombuffer(parts[0], PANEL))

    def _restore_minutes(self, head: Mapping[str, Any], rec: npt.NDArray[Any]) -> None:
        for ts, first_ms, is_whole, rev, due_ms in head["minutes"]:
            self._minutes[ts] = _Minute(ts, first_ms, {}, is_whole, rev, due_ms)
        at = 0
        for ts, shard, keys in head["panels"]:
            self._minutes[ts].panels[shard] = Panel(ts, shard, tuple(keys), rec[at : at + len(keys)])
            at += len(keys)
