"""The last state of an instrument: a value in the hash `quotes:{k}`, the REST quote and the SSE `tick` event."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict

from schemas.ticks import KNOWN_SHIFT, TICK, Block


class Quote(BaseModel):
    """Null means: not known. `ts` is venue time, `rx` when we received it."""

    model_config = ConfigDict(frozen=True)

    instrument: str
    ts: int  # epoch ms
    rx: int  # epoch ns
    ltp: float | None
    ltt: int | None  # epoch ms
    ltq: int | None
    cp: float | None
    atp: float | None
    vtt: int | None
    oi: float | None
    iv: float | None
    tbq: float | None
    tsq: float | None
    delta: float | None
    theta: float | None
    gamma: float | None
    vega: float | None
    rho: float | None
    bid: float | None
    bid_qty: int | None
    ask: float | None
    ask_qty: int | None
    iep: float | None
    ieq: int | None
    cas_eligible: bool | None = (
        None  # the venue says that it joins the closing auction; it never says that one does not
    )


_VALUES: Final = TICK.names[TICK.names.index("ts") :] if TICK.names else ()
_NAMES: Final = ("instrument", *_VALUES, "cas_eligible")
assert tuple(Quote.model_fields) == _NAMES, "a quote is a tick record: same names, same order"

_BLOCK_OF: Final[Mapping[str, Block]] = {
    **dict.fromkeys(("ltp", "ltt", "ltq", "cp"), Block.LTPC),
    **dict.fromkeys(("bid", "bid_qty", "ask", "ask_qty"), Block.DEPTH),
    **dict.fromkeys(("delta", "theta", "gamma", "vega", "rho"), Block.GREEKS),
    **{name: Block[name.upper()] for name in ("atp", "vtt", "oi", "iv", "tbq", "tsq", "iep", "ieq")},
}


@cache
def _unknown(known: int) -> tuple[int, ...]:
    """Places in a record's values that are null, by its KNOWN flags."""
    return tuple(place for place, name in enumerate(_VALUES) if name in _BLOCK_OF and not known & _BLOCK_OF[name])


def encode(keys: Iterable[str], rec: npt.NDArray[Any]) -> Iterator[bytes]:
    """The quote of each record as JSON, its instrument's key alongside."""
    known = (rec["flags"] >> KNOWN_SHIFT).tolist()
    for key, flags, record in zip(keys, known, rec.tolist(), strict=True):
        values = list(record[-len(_VALUES) :])
        for place in _unknown(flags):
            values[place] = None
        joins = True if flags & Block.CAS else None
        yield orjson.dumps(dict(zip(_NAMES, (key, *values, joins), strict=True)))
