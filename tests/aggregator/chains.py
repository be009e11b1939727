"""Panels of small chains, in few words."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import orjson

from aggregator.chain import ChainBuilder, Made
from schemas.chain import Chain
from schemas.panel import PANEL, Panel
from schemas.streams import instrument_id
from schemas.terms import Terms, TermsKind

MINUTE = 60_000
DAY = 86_400_000
RATE = 0.0525
UNDERLYING = "NSE_INDEX|Nifty 50"
ON = date(2026, 11, 18)  # a Wednesday
EXPIRY = date(2026, 11, 23)
OPEN_MS = 1_794_973_500_000  # 09:15 IST of ON
TS = OPEN_MS + 10 * MINUTE
LAST_TRADE_MS = OPEN_MS + 5 * DAY + 385 * MINUTE  # 15:40 IST of EXPIRY

Told = dict[str, Any]


def never(_: str, __: date) -> None:
    """Nobody knows the day before."""


def yesterday(_: str, on: date) -> tuple[date, int]:
    """Every day trades, until 15:40 IST."""
    return on - timedelta(days=1), OPEN_MS + ((on - ON).days - 1) * DAY + 385 * MINUTE


class Market:
    """Instruments with their terms, and the panels that tell of them."""

    def __init__(self) -> None:
        self.terms: dict[str, Terms] = {}
        self.spot()

    def spot(self, key: str = UNDERLYING) -> str:
        self.terms[key] = Terms(kind=TermsKind.SPOT, underlying=key)
        return key

    def future(self, key: str = "NSE_FO|1", expiry: date = EXPIRY, last: int = LAST_TRADE_MS) -> str:
        self.terms[key] = Terms(kind=TermsKind.FUTURE, underlying=UNDERLYING, expiry=expiry, last_trade_ms=last)
        return key

    def option(self, strike: float, side: str, expiry: date = EXPIRY, last: int = LAST_TRADE_MS, **more: Any) -> str:
        key: str = more.pop("key", f"NSE_FO|{expiry:%d%m}{strike:g}{side}")
        about = {"underlying": UNDERLYING, "expiry": expiry, "last_trade_ms": last, "lot_size": 75} | more
        self.terms[key] = Terms(kind=TermsKind.OPTION, strike=strike, is_call=side == "call", **about)
        return key

    def builder(self, shards: int = 1, day_before: Any = never) -> ChainBuilder:
        return ChainBuilder(shards, RATE, day_before)

    def add(self, builder: ChainBuilder, one: Panel, at_ms: int | None = None) -> list[Made]:
        builder.learn({key: self.terms.get(key) for key in builder.wanted(one)})
        return list(builder.add(one, one.ts + 62_000 if at_ms is None else at_ms))

    def chain(self, told: Mapping[str, Told], ts: int = TS) -> Chain:
        """Of one panel, the only chain."""
        (made,) = self.add(self.builder(), panel(told, ts))
        return read(made)


def panel(told: Mapping[str, Told], ts: int = TS, shard: int = 0) -> Panel:
    keys = tuple(sorted(told))
    rec = np.zeros(len(keys), PANEL)
    for name in PANEL.names or ():
        if PANEL[name].kind == "f":
            rec[name] = np.nan
    rec["ts"], rec["ltt"], rec["covered"] = ts + 59_000, ts + 58_000, 1
    for row, key in zip(rec, keys, strict=True):
        row["id"] = instrument_id(key)
        for name, value in told[key].items():
            if value is not None:
                row[name] = value
    return Panel(ts=ts, shard=shard, keys=keys, rec=rec)


def read(made: Made) -> Chain:
    """What left is what the contract says: every field, none besides, in its order."""
    body = orjson.loads(made.data)
    chain = Chain.model_validate(body)
    assert list(body) == list(Chain.model_fields)
    assert (chain.underlying, chain.expiry, chain.ts, chain.rev) == (made.underlying, made.expiry, made.ts, made.rev)
    return chain


def latest(made: Iterable[Made]) -> dict[tuple[date, int], Chain]:
    """The highest revision of each chain."""
    best: dict[tuple[date, int], Chain] = {}
    for one in map(read, made):
        if (one.expiry, one.ts) not in best or one.rev > best[one.expiry, one.ts].rev:
            best[one.expiry, one.ts] = one
    return best
