"""A chain as its readers get it: the JSON of schemas.chain. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aggregator import analytics
from aggregator.chain_layout import NOBODY
from aggregator.chain_minute import DECIMALS, PRICE, Measured, Minute, Priced, quietly, rounded
from market.black76 import Flag
from schemas.bars import PriceFrom
from schemas.chain import Chain, ChainModel, ChainOption, ChainStrike, OiChangeFrom

Fields = dict[str, Any]
Words = npt.NDArray[np.object_]

_YEARS_DECIMALS: Final = 12

_CHAIN: Final = tuple(Chain.model_fields)
_STRIKE: Final = tuple(ChainStrike.model_fields)
_OPTION: Final = tuple(ChainOption.model_fields)
_MODEL: Final = tuple(ChainModel.model_fields)

_FLAGS: Final[Words] = np.array([flag.name.lower() for flag in sorted(Flag)], object)
_PRICES: Final[Words] = np.array([None, PriceFrom.LAST.value, PriceFrom.MID.value], object)
_CHANGES: Final[Words] = np.array([None, OiChangeFrom.FIRST_SEEN.value, OiChangeFrom.PREVIOUS_DAY.value], object)


@quietly
def encoded(minute: Minute, of: Priced, found: Measured, common: Mapping[str, Any], seen: Mapping[str, Any]) -> bytes:
    """NaN becomes null. `common`: what the underlying's chains share; `seen`: rev, silent shards, rate."""
    layout, fwd = of.layout, of.forward
    options = _options(minute, of)
    uncovered = int(np.count_nonzero((minute.rec["covered"][layout.places] != 1) & (layout.places != NOBODY)))
    count = len(layout.strikes)
    columns = [column.tolist() for column in found.by_strike.values()]
    rows = zip(layout.strikes.tolist(), options[:count], options[count:], *columns, strict=True)
    body = {
        "underlying": layout.underlying,
        "expiry": layout.expiry,
        "ts": minute.ts,
        "rev": seen["rev"],
        "complete": not seen["silent_shards"] and not uncovered,
        "silent_shards": seen["silent_shards"],
        "uncovered": uncovered,
        "last_trade_ms": layout.last_trade_ms,
        "years": rounded(of.years, _YEARS_DECIMALS),
        "rate": seen["rate"],
        "future": _future(minute, layout.future),
        "forward": fwd.value,
        "forward_from": fwd.source,
        "forward_strikes": fwd.strikes,
        "forward_residual": rounded(fwd.residual, PRICE),
        **found.fields,
        **common,
        "strikes": [dict(zip(_STRIKE, row, strict=True)) for row in rows],
    }
    return orjson.dumps({name: body[name] for name in _CHAIN})


def _options(minute: Minute, of: Priced) -> list[Fields | None]:
    """Of each place; none where nobody is."""
    places = of.layout.places
    rec, volume, change = minute.rec[places], minute.volume[places], minute.oi_change[places]
    columns = (
        [minute.keys[place] for place in places.tolist()],
        rec["ltp"].tolist(),
        _whole(rec["ltt"], rec["ltt"] > 0),
        *_touch(rec, "bid"),
        *_touch(rec, "ask"),
        _whole(rec["vtt"], ~np.isnan(volume)),
        rec["oi"].tolist(),
        change.tolist(),
        _CHANGES[np.where(np.isnan(change), 0, 1 + minute.is_before[places])].tolist(),
        analytics.action(rec["ltp"], minute.price_base[places], rec["oi"], minute.oi_base[places]),
        *(rec[name].tolist() for name in DECIMALS),
        _models(of, minute.price[places], minute.is_mid[places]),
        (rec["covered"] == 1).tolist(),
    )
    rows = zip(*columns, strict=True)
    return [None if row[0] is None else dict(zip(_OPTION, row, strict=True)) for row in rows]


def _models(of: Priced, price: npt.NDArray[np.float64], is_mid: npt.NDArray[np.bool_]) -> Sequence[Fields]:
    sources = _PRICES[np.where(np.isnan(price), 0, 1 + is_mid)].tolist()
    flags = _FLAGS[of.flags].tolist()
    return [
        dict(zip(_MODEL, row, strict=True))
        for row in zip(*of.values.tolist(), price.tolist(), sources, flags, strict=True)
    ]


def _touch(rec: npt.NDArray[Any], side: str) -> tuple[list[float], list[int | None]]:
    """Price and quantity of the best level; neither where the side is empty."""
    there = rec[side] > 0
    return np.where(there, rec[side], math.nan).tolist(), _whole(rec[f"{side}_qty"], there)


def _future(minute: Minute, place: int) -> Fields | None:
    key = minute.keys[place]
    if key is None:
        return None
    price = float(minute.price[place])
    source = 0 if math.isnan(price) else 1 + int(minute.is_mid[place])
    return {"instrument": key, "price": price, "price_from": _PRICES[source], "oi": float(minute.oi[place])}


def _whole(values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> list[int | None]:
    return [value if is_known else None for value, is_known in zip(values.tolist(), known.tolist(), strict=True)]
