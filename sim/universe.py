"""What is listed on a given day: indices, shares, index futures and option chains around the money.

Dates, lots, ticks and freeze quantities are the market's own for that day. Names and ISINs of the ten large shares are
public facts; prices are invented. A bigger universe adds strikes, expiries and companies that do not exist.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final

from schemas.ticks import SessionClass
from sim import terms
from sim.fair import CARRY
from sim.paths import Paths, Spec

_EPOCH: Final = date(2020, 1, 1).toordinal()


class Kind(StrEnum):
    """The values are the `instrument_type` of the venue's files."""

    INDEX = "INDEX"
    EQUITY = "EQ"
    FUTURE = "FUT"
    CALL = "CE"
    PUT = "PE"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the exchange. `follows` names the path that moves it."""

    key: str
    kind: Kind
    symbol: str
    name: str
    token: str
    follows: str
    lot: int
    tick: float  # rupees
    freeze: int
    session_class: SessionClass = SessionClass.ORDINARY
    isin: str = ""
    expiry: date | None = None
    strike: float = 0.0
    weekly: bool = False

    @property
    def segment(self) -> str:
        return self.key.partition("|")[0]

    @property
    def exchange(self) -> str:
        return self.segment.partition("_")[0]

    @property
    def is_option(self) -> bool:
        return self.kind in (Kind.CALL, Kind.PUT)


@dataclass(frozen=True)
class Universe:
    on: date
    instruments: tuple[Instrument, ...]

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        return {instrument.key: row for row, instrument in enumerate(self.instruments)}

    def get(self, key: str) -> Instrument | None:
        row = self.row_of.get(key)
        return None if row is None else self.instruments[row]

    def options(self, underlying_key: str) -> Iterator[Instrument]:
        follows = INDEX_PATHS.get(underlying_key)
        return (each for each in self.instruments if each.is_option and each.follows == follows)


@dataclass(frozen=True, slots=True)
class _Share:
    symbol: str
    isin: str
    token: str
    name: str
    spec: Spec


#: Index key -> the path it follows.
INDEX_PATHS: Final[Mapping[str, str]] = {
    "NSE_INDEX|Nifty 50": "NIFTY",
    "NSE_INDEX|Nifty Bank": "BANKNIFTY",
    "BSE_INDEX|SENSEX": "SENSEX",
    "NSE_INDEX|India VIX": "INDIA VIX",
}
INDEX_KEYS: Final[Mapping[str, str]] = {path: key for key, path in INDEX_PATHS.items()}

_INDEX_SPECS: Final[Mapping[str, Spec]] = {
    "NIFTY": Spec(25_900, 1.0, 0.02),
    "BANKNIFTY": Spec(58_600, 1.12, 0.07),
    "SENSEX": Spec(84_700, 0.98, 0.02),
    "INDIA VIX": Spec(13.2, -5.0, 0.55),
}
_INDEX_TOKENS: Final = {"NIFTY": "26000", "BANKNIFTY": "26009", "SENSEX": "1", "INDIA VIX": "26017"}

_SHARES: Final = (
    _Share("RELIANCE", "INE002A01018", "2885", "RELIANCE INDUSTRIES LTD", Spec(1_480, 1.1, 0.17)),
    _Share("TCS", "INE467B01029", "11536", "TATA CONSULTANCY SERV LT", Spec(3_080, 0.8, 0.18)),
    _Share("HDFCBANK", "INE040A01034", "1333", "HDFC BANK LTD", Spec(1_005, 1.0, 0.14)),
    _Share("INFY", "INE009A01021", "1594", "INFOSYS LIMITED", Spec(1_510, 0.9, 0.20)),
    _Share("ICICIBANK", "INE090A01021", "4963", "ICICI BANK LTD.", Spec(1_375, 1.1, 0.15)),
    _Share("HINDUNILVR", "INE030A01027", "1394", "HINDUSTAN UNILEVER LTD.", Spec(2_430, 0.6, 0.17)),
    _Share("SBIN", "INE062A01020", "3045", "STATE BANK OF INDIA", Spec(965, 1.2, 0.18)),
    _Share("BHARTIARTL", "INE397D01024", "10604", "BHARTI AIRTEL LIMITED", Spec(2_090, 0.9, 0.19)),
    _Share("KOTAKBANK", "INE237A01036", "1922", "KOTAK MAHINDRA BANK LTD", Spec(418, 1.0, 0.17)),
    _Share("ITC", "INE154A01025", "1660", "ITC LTD", Spec(402, 0.6, 0.15)),
)
_FUTURES: Final = ("NIFTY", "BANKNIFTY")
_FIXED: Final = len(_INDEX_SPECS) + len(_SHARES) + 3 * len(_FUTURES)


def specs(count: int) -> dict[str, Spec]:
    """Every path that a universe of about `count` instruments needs."""
    shares = (*_SHARES, *(_invented(number) for number in range(_invented_shares(count))))
    return {**_INDEX_SPECS, **{share.symbol: share.spec for share in shares}}


def listed(on: date, count: int, paths: Paths, *, past_expiry: bool = False) -> Universe:
    """The universe of a day. `past_expiry`: leave out what expires today (a demo goes on after its last trade)."""
    shares = (*_SHARES, *(_invented(number) for number in range(_invented_shares(count))))
    spot = {name: float(paths.path(name, on)[0]) for name in specs(count)}
    rows = [_index(name) for name in _INDEX_SPECS]
    rows += [_equity(share, spot[share.symbol], on) for share in shares]
    first_expiry = on + timedelta(days=1) if past_expiry else on
    rows += [future for name in _FUTURES for future in _futures(name, on, first_expiry, spot[name])]
    rows += _options(on, first_expiry, count - len(rows), count, spot)
    return Universe(on, tuple(rows))


def _index(name: str) -> Instrument:
    key = INDEX_KEYS[name]
    return Instrument(key, Kind.INDEX, name, key.partition("|")[2], _INDEX_TOKENS[name], name, 1, 0.01, 0)


def _equity(share: _Share, price: float, on: date) -> Instrument:
    large = share in _SHARES
    return Instrument(
        key=f"NSE_EQ|{share.isin}",
        kind=Kind.EQUITY,
        symbol=share.symbol,
        name=share.name,
        token=share.token,
        follows=share.symbol,
        lot=1,
        tick=terms.share_tick(price, on),
        freeze=100_000,
        session_class=SessionClass.CLOSING_AUCTION_SHARE if large else SessionClass.ORDINARY,
        isin=share.isin,
    )


def _futures(name: str, on: date, first: date, spot: float) -> Iterator[Instrument]:
    tick = terms.future_tick(spot, on)
    for expiry, _ in terms.expiries(name, first, 0, 3):
        yield _contract(name, on, expiry, Kind.FUTURE, 0.0, tick, False)


def _options(on: date, first: date, count: int, universe: int, spot: Mapping[str, float]) -> list[Instrument]:
    """Chains share `count` by how much they trade: the nearest gets the most strikes."""
    big = universe >= 2_000
    chains = [("NIFTY", *each) for each in terms.expiries("NIFTY", first, 4 if big else 3, 3 if big else 2)]
    chains += [("BANKNIFTY", *each) for each in terms.expiries("BANKNIFTY", first, 0, 3 if big else 2)]
    weights = [1.0 / (1.0 + 0.35 * place) for place in range(len(chains))]
    rows: list[Instrument] = []
    for (name, expiry, weekly), weight in zip(chains, weights, strict=True):
        pairs = int(count / 2 * weight / sum(weights))
        money = spot[name] * (1.0 + CARRY * (expiry - on).days / 365)
        tick = terms.option_tick(spot[name], on)
        rows += [
            _contract(name, on, expiry, kind, strike, tick, weekly)
            for strike in _strikes(money, terms.strike_step(name), pairs)
            for kind in (Kind.CALL, Kind.PUT)
        ]
    return rows


def _strikes(money: float, step: float, pairs: int) -> list[float]:
    middle = round(money / step)
    lowest = max(middle - pairs // 2, round(0.3 * middle))
    return [step * (lowest + number) for number in range(pairs)]


def _contract(name: str, on: date, expiry: date, kind: Kind, strike: float, tick: float, weekly: bool) -> Instrument:
    day = expiry.strftime("%d %b %y").upper()
    token = _contract_token(name, expiry, kind, strike)
    symbol = f"{name} FUT {day}" if kind is Kind.FUTURE else f"{name} {strike:g} {kind} {day}"
    last_day = expiry == on
    return Instrument(
        key=f"NSE_FO|{token}",
        kind=kind,
        symbol=symbol,
        name=name,
        token=token,
        follows=name,
        lot=terms.lot_size(name, expiry),
        tick=tick,
        freeze=terms.freeze_quantity(name, on),
        session_class=SessionClass.EXPIRING_INDEX_CONTRACT if last_day else SessionClass.ORDINARY,
        expiry=expiry,
        strike=strike,
        weekly=weekly,
    )


def _contract_token(name: str, expiry: date, kind: Kind, strike: float) -> str:
    """Unlike the exchange's own, a token says what it stands for: it is the same on every day and in every run."""
    steps = round(strike / 50)
    place = (Kind.FUTURE, Kind.CALL, Kind.PUT).index(kind)
    series = (expiry.toordinal() - _EPOCH) * len(_FUTURES) + _FUTURES.index(name)
    return str((series * 4_000 + steps) * 3 + place)


def _invented_shares(count: int) -> int:
    """A third of what exceeds the demo."""
    return max(0, count - 1_000) // 4


def _invented(number: int) -> _Share:
    symbol = f"SIM{number:04d}"
    spread = (number * 2_654_435_761 % 1_000) / 1_000  # Knuth's multiplicative hash: any fixed scatter will do
    spec = Spec(base=20.0 * 200.0**spread, beta=0.5 + 0.9 * spread, own_vol=0.2 + 0.15 * (1 - spread))
    return _Share(symbol, _isin(f"INZ{number:06d}01"), str(90_000 + number), f"SIMULATED COMPANY {number}", spec)


def _isin(body: str) -> str:
    """With the check digit of ISO 6166."""
    digits = "".join(str(int(letter, 36)) for letter in body)
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits)))
    total = sum(value // 10 + value % 10 for value in doubled)
    return f"{body}{-total % 10}"
