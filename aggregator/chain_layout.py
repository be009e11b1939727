"""Which record of a minute is what: the strikes of each chain, its future, its underlying. Pure.

Made once for a set of instruments and used for every minute that has the same ones. A place is the position of a
record in the minute; one more record follows them all that says nothing, and `NOBODY`, which is -1, is its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.streams import instrument_id
from schemas.terms import Terms, TermsKind

NOBODY: Final = -1

Floats = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ChainLayout:
    underlying: str
    expiry: date
    last_trade_ms: int
    strikes: Floats  # ascending
    calls: I64  # their places
    puts: I64
    places: I64  # of the calls, then of the puts; and of each of these:
    strike_of_place: Floats
    is_call: Bools
    future: int
    spot: int


@dataclass(frozen=True, slots=True)
class Layout:
    keys: tuple[str, ...]
    chains: tuple[ChainLayout, ...]  # by underlying, then by expiry
    futures: Mapping[str, tuple[tuple[int, int], ...]]  # by underlying: last trade and place, the nearest first


def layout(keys: Sequence[str], terms: Mapping[str, Terms | None]) -> Layout:
    chains: dict[tuple[str, date], _Chain] = {}
    futures: dict[str, list[tuple[int, int]]] = {}
    same_expiry: dict[tuple[str, date], int] = {}
    for place, key in enumerate(keys):
        of = terms.get(key)
        if of is None or of.expiry is None or of.last_trade_ms is None:
            continue
        if of.kind is TermsKind.FUTURE:
            futures.setdefault(of.underlying, []).append((of.last_trade_ms, place))
            same_expiry.setdefault((of.underlying, of.expiry), place)
        elif of.kind is TermsKind.OPTION and of.strike is not None and of.is_call is not None:
            chain = chains.setdefault((of.underlying, of.expiry), _Chain(of.last_trade_ms, {}))
            chain.strikes.setdefault(of.strike, [NOBODY, NOBODY])[0 if of.is_call else 1] = place
    places = {key: place for place, key in enumerate(keys)}
    return Layout(
        keys=tuple(keys),
        chains=tuple(
            _chain(underlying, expiry, made, same_expiry.get((underlying, expiry), NOBODY), places)
            for (underlying, expiry), made in sorted(chains.items())
        ),
        futures={underlying: tuple(sorted(found)) for underlying, found in futures.items()},
    )


def contract(of: Terms) -> int:
    """A number for what is traded under a key: the exchange gives the key of an expired contract to another one."""
    return instrument_id(f"{of.kind} {of.underlying} {of.expiry} {of.strike} {of.is_call}")


@dataclass(frozen=True, slots=True)
class _Chain:
    last_trade_ms: int
    strikes: dict[float, list[int]]  # places of the call and of the put


def _chain(underlying: str, expiry: date, made: _Chain, future: int, places: Mapping[str, int]) -> ChainLayout:
    strikes = np.array(sorted(made.strikes), np.float64)
    calls, puts = np.array([made.strikes[strike] for strike in sorted(made.strikes)], np.int64).T
    return ChainLayout(
        underlying=underlying,
        expiry=expiry,
        last_trade_ms=made.last_trade_ms,
        strikes=strikes,
        calls=calls,
        puts=puts,
        places=np.concatenate([calls, puts]),
        strike_of_place=np.tile(strikes, 2),
        is_call=np.repeat([True, False], len(strikes)),
        future=future,
        spot=places.get(underlying, NOBODY),
    )
