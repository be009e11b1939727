"""What can be traded: an `Instrument` in neutral units whatever a venue's file says, a `Universe` to find it in."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from math import isfinite
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from market import contracts, sessions
from schemas.errors import Misconfigured, Rejected
from schemas.ticks import SessionClass

OPTIONS: Final = ("CE", "PE")
FUTURE: Final = "FUT"
INDEX: Final = "INDEX"

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_EQUITY_DERIVATIVES: Final = ("NSE_FO", "BSE_FO")
_CASH: Final = ("NSE_EQ", "BSE_EQ")
#: Trading days at the end of a contract month in which the next month's futures have a pre-open too.
_ROLLOVER_DAYS: Final = 5


class BadInstrument(Rejected):
    """A description of an instrument that contradicts itself."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"instrument {key!r}: {reason}")
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Checked when made: what a reader of a venue's file gets here is consistent, or it gets BadInstrument."""

    key: str  # SEGMENT|whatever the venue uses
    segment: str
    exchange: str
    name: str
    trading_symbol: str
    instrument_type: str  # EQ or another series, INDEX, FUT, CE, PE
    lot_size: int
    tick_size: float  # rupees
    freeze_quantity: int = 0  # most units in one order; 0: the venue does not say
    expiry: date | None = None
    strike: float | None = None  # rupees, or index points
    underlying_key: str | None = None
    underlying_symbol: str | None = None
    weekly: bool = False
    cas_eligible: bool = False  # joins the closing auction
    isin: str | None = None
    exchange_token: str | None = None  # reused by the exchange after an expiry: no identity

    def __post_init__(self) -> None:
        reason = self._contradiction()
        if reason:
            raise BadInstrument(self.key, reason)

    def _contradiction(self) -> str:
        if not self.trading_symbol:
            return "no trading symbol"
        segment, bar, rest = self.key.partition("|")
        if not (segment and bar and rest) or segment != self.segment:
            return f"its key does not start with its segment {self.segment!r}"
        if not self.is_index and not (self.lot_size >= 1 and isfinite(self.tick_size) and self.tick_size > 0):
            return f"a lot of {self.lot_size} and a tick of {self.tick_size} rupees"
        if self.is_derivative is (self.expiry is None):
            return f"{self.instrument_type} with the expiry {self.expiry}"
        if self.is_option is (self.strike is None):
            return f"{self.instrument_type} with the strike {self.strike}"
        if self.strike is not None and not (isfinite(self.strike) and self.strike > 0):
            return f"a strike of {self.strike}"
        return ""

    @property
    def is_index(self) -> bool:
        return self.instrument_type == INDEX

    @property
    def is_option(self) -> bool:
        return self.instrument_type in OPTIONS

    @property
    def is_derivative(self) -> bool:
        return self.is_option or self.instrument_type == FUTURE

    @property
    def is_on_index(self) -> bool:
        """Whether this is a contract on an equity index."""
        if not self.is_derivative:
            return False
        if self.underlying_key is not None:
            return sessions.segment_of(self.underlying_key).endswith("_INDEX")
        return self.underlying_symbol in contracts.underlyings()

    @property
    def underlying(self) -> str | None:
        """The underlying's key, or its symbol where the venue gives no key (currency)."""
        return self.underlying_key or self.underlying_symbol


def session_class(instrument: Instrument, on: date) -> SessionClass:
    """Whose hours the instrument has on that day."""
    if instrument.segment in _CASH and instrument.cas_eligible:
        return SessionClass.CLOSING_AUCTION_SHARE
    if instrument.segment in _EQUITY_DERIVATIVES and instrument.expiry == on and instrument.is_on_index:
        return SessionClass.EXPIRING_INDEX_CONTRACT
    return SessionClass.ORDINARY


def class_of(instrument: Instrument | None, on: date, *, always: bool) -> SessionClass:
    """The same where the instrument may be unknown, or the market may never close (`always`: the demo's)."""
    if always:
        return SessionClass.ALWAYS_OPEN
    return session_class(instrument, on) if instrument else SessionClass.ORDINARY


def trading_hours(key: str, instrument: Instrument | None, on: date, *, always: bool) -> tuple[tuple[int, int], ...]:
    """Continuous trading on a day, as `sessions.continuous` has it; the whole day where the calendar does not know."""
    segment = sessions.segment_of(key)
    try:
        return sessions.continuous(segment, class_of(instrument, on, always=always), on)
    except (Rejected, Misconfigured):
        return sessions.continuous(segment, SessionClass.ALWAYS_OPEN, on)


def last_trade_ms(instrument: Instrument) -> int | None:
    """When a contract stops trading for good, UTC epoch ms; None for what does not expire."""
    if instrument.expiry is None:
        return None
    on = instrument.expiry
    return sessions.last_trade_ms(instrument.segment, session_class(instrument, on), on)


def joins_pre_open(instrument: Instrument, on: date) -> bool:
    """Whether the segment's pre-open of that day takes orders for the instrument.

    Every share; of the derivatives the futures of the current month, and those of the next one in the current
    month's last days. Whether a pre-open is held at all is for `sessions.day` to say.
    """
    if instrument.segment in _CASH:
        return True
    if instrument.segment not in _EQUITY_DERIVATIVES or instrument.instrument_type != FUTURE:
        return False
    symbol = instrument.underlying_symbol or ""
    rule = symbol if symbol in contracts.underlyings() else contracts.SHARE
    near = next((expiry for expiry, _ in contracts.expiries(rule, on, 0, 1)), None)
    ahead = _months(instrument.expiry or on) - _months(near or on)
    if near is None:  # past the last expiry that the calendar knows: the current month is the next one
        return ahead == 1
    if ahead == 1:
        days = (on + timedelta(days=n) for n in range((near - on).days + 1))
        return sum(sessions.is_trading_day(instrument.segment, day) for day in days) <= _ROLLOVER_DAYS
    return ahead == 0


class Universe:
    """Every instrument of a venue, indexed. Immutable: a new list is a new Universe.

    Where an underlying is asked for, it is named by `Instrument.underlying`.
    """

    __slots__ = ("_by_key", "_chains", "_futures", "_search")

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_key: dict[str, Instrument] = {}
        self._chains: dict[str, dict[date, dict[float, dict[str, str]]]] = {}
        self._futures: dict[str, list[Instrument]] = {}
        self._search: _SearchIndex | None = None  # made by the first search: most processes never search
        for instrument in instruments:
            self._add(instrument)
        for futures in self._futures.values():
            futures.sort(key=_order)

    def _add(self, instrument: Instrument) -> None:
        known = self._by_key.setdefault(instrument.key, instrument)
        if known is not instrument:
            if known != instrument:
                raise BadInstrument(instrument.key, "two different descriptions of it in one list")
            return
        underlying, expiry, strike = instrument.underlying, instrument.expiry, instrument.strike
        if underlying is None or expiry is None:
            return
        if strike is None:
            self._futures.setdefault(underlying, []).append(instrument)
            return
        sides = self._chains.setdefault(underlying, {}).setdefault(expiry, {}).setdefault(strike, {})
        kind = instrument.instrument_type
        # Two contracts of one strike: the same choice whatever the order of the list.
        sides[kind] = min(instrument.key, sides.get(kind, instrument.key))

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_key.values())

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def get(self, key: str) -> Instrument | None:
        return self._by_key.get(key)

    def underlyings(self) -> list[str]:
        """What has derivatives."""
        return sorted(self._chains.keys() | self._futures.keys())

    def expiries(self, underlying_key: str) -> list[date]:
        """The days on which options of an underlying expire."""
        return sorted(self._chains.get(underlying_key, ()))

    def chain(self, underlying_key: str, expiry: date) -> list[tuple[float, str | None, str | None]]:
        """(strike, key of the call, key of the put), by strike."""
        strikes = self._chains.get(underlying_key, {}).get(expiry, {})
        return [(strike, sides.get("CE"), sides.get("PE")) for strike, sides in sorted(strikes.items())]

    def futures(self, underlying_key: str) -> list[Instrument]:
        """The futures of an underlying, the nearest first."""
        return list(self._futures.get(underlying_key, ()))

    def search(
        self, text: str, segment: str | None = None, kind: str | None = None, limit: int = 50
    ) -> list[Instrument]:
        """Instruments that fit `text`, best first: that very symbol or key, symbols that begin so, then all words.

        A word fits where it begins a word of the symbol, the name, the key, the strike, the type or the expiry; the
        order of the words does not matter.
        `kind` is an instrument type. Equals are ordered: index, share, future, option; then expiry, strike, symbol.
        """
        return self._search_index().find(text, segment, kind, limit)

    def prepare_search(self) -> None:
        """Make the search index now: about a second for 100,000 instruments, which the first search takes otherwise."""
        self._search_index()

    def _search_index(self) -> "_SearchIndex":
        if self._search is None:
            self._search = _SearchIndex.of(self._by_key.values())
        return self._search


@dataclass(frozen=True, slots=True)
class _SearchIndex:
    """An inverted index over word beginnings.

    Positions number the instruments in their final order. `postings` are the positions of every word, the words in
    alphabetical order: all words with one beginning are one slice of it, so a query costs a few array operations.
    """

    instruments: list[Instrument]
    segments: npt.NDArray[np.str_]
    kinds: npt.NDArray[np.str_]
    symbols: list[str]  # sorted
    symbol_positions: npt.NDArray[np.int32]  # beside `symbols`
    words: list[str]  # sorted
    offsets: npt.NDArray[np.int64]  # where each word's slice of `postings` starts; one more for the end
    postings: npt.NDArray[np.int32]

    @classmethod
    def of(cls, instruments: Iterable[Instrument]) -> Self:
        ordered = sorted(instruments, key=_order)
        symbols = sorted((_normal(instrument.trading_symbol), at) for at, instrument in enumerate(ordered))
        found: dict[str, list[int]] = {}
        for at, instrument in enumerate(ordered):
            for word in _words(instrument):
                found.setdefault(word, []).append(at)
        words = sorted(found)
        return cls(
            instruments=ordered,
            segments=np.array([instrument.segment for instrument in ordered], np.str_),
            kinds=np.array([instrument.instrument_type.upper() for instrument in ordered], np.str_),
            symbols=[symbol for symbol, _ in symbols],
            symbol_positions=np.array([at for _, at in symbols], np.int32),
            words=words,
            offsets=np.cumsum([0, *(len(found[word]) for word in words)], dtype=np.int64),
            postings=np.array([at for word in words for at in found[word]], np.int32),
        )

    def find(self, text: str, segment: str | None, kind: str | None, limit: int) -> list[Instrument]:
        allowed = np.ones(len(self.instruments), np.bool_)
        if segment is not None:
            allowed &= self.segments == segment
        if kind is not None:
            allowed &= self.kinds == kind.upper()
        return [self.instruments[at] for at in islice(self._ranked(_normal(text), allowed), max(limit, 0))]

    def _ranked(self, query: str, allowed: npt.NDArray[np.bool_]) -> Iterator[int]:
        for positions in self._candidates(query):
            fitting = np.sort(positions[allowed[positions]])
            allowed[fitting] = False  # what has been found ranks once
            yield from map(int, fitting)

    def _candidates(self, query: str) -> Iterator[npt.NDArray[Any]]:
        if query:
            yield self._with_symbol(query, query + _NEXT)
            if "|" in query:
                yield self._with_word(query, query + _NEXT)
            yield self._with_symbol(query, query + _LAST)
        fitting = np.ones(len(self.instruments), np.bool_)
        for word in query.split():
            mask = np.zeros(len(self.instruments), np.bool_)
            mask[self._with_word(word, word + _LAST)] = True
            fitting &= mask
        yield np.flatnonzero(fitting)

    def _with_symbol(self, first: str, end: str) -> npt.NDArray[np.int32]:
        return self.symbol_positions[bisect_left(self.symbols, first) : bisect_left(self.symbols, end)]

    def _with_word(self, first: str, end: str) -> npt.NDArray[np.int32]:
        start, stop = bisect_left(self.words, first), bisect_left(self.words, end)
        return self.postings[self.offsets[start] : self.offsets[stop]]


#: `text + _NEXT` is the first string after `text`; every string that begins with `text` sorts before `text + _LAST`.
_NEXT: Final = "\0"
_LAST: Final = "\U0010ffff"


def _normal(text: str) -> str:
    return " ".join(text.upper().split())


def _words(instrument: Instrument) -> set[str]:
    texts = [instrument.trading_symbol, instrument.name, instrument.underlying_symbol or ""]
    words = set(" ".join(texts).upper().split())
    for word in [word for word in words if not word.isalnum()]:
        words.update(re.findall(r"\w+", word))  # BAJAJ-AUTO is found by AUTO too
    words |= {instrument.key.upper(), instrument.instrument_type.upper()}
    if instrument.isin:
        words.add(instrument.isin.upper())
    if instrument.strike is not None:
        words.add(f"{instrument.strike:g}" if instrument.strike < 1e5 else f"{instrument.strike:.0f}")
    if instrument.expiry is not None:
        words |= {instrument.expiry.isoformat(), _MONTHS[instrument.expiry.month - 1]}
    return words


def _order(instrument: Instrument) -> tuple[int, date, float, str, str]:
    if instrument.is_index:
        rank = 0
    elif instrument.is_derivative:
        rank = 3 if instrument.is_option else 2
    else:
        rank = 1
    return (rank, instrument.expiry or date.min, instrument.strike or 0.0, instrument.trading_symbol, instrument.key)


def _months(day: date) -> int:
    return day.year * 12 + day.month
