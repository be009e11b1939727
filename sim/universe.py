"""What is listed on a given day: indices, shares, index futures and option chains around the money.

Dates, lots, ticks and freeze quantities are the market's own for that day. Names and ISINs of the ten large shares are
public facts; prices are invented. A bigger universe adds strikes, expiries and companies that do not exist.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Final

from market.instruments import FUTURE, INDEX, Instrument, Universe
from sim import terms
from sim.fair import CARRY
from sim.paths import Paths, Spec

EQUITY: Final = "EQ"
CALL: Final = "CE"
PUT: Final = "PE"

_EPOCH: Final = date(2020, 1, 1).toordinal()


@dataclass(frozen=True)
class Listing:
    """What is listed on a day. The place of an instrument is its row everywhere else."""

    on: date
    instruments: tuple[Instrument, ...]

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        return {instrument.key: row for row, instrument in enumerate(self.instruments)}

    @cached_property
    def catalogue(self) -> Universe:
        return Universe(self.instruments)

    def get(self, key: str) -> Instrument | None:
        row = self.row_of.get(key)
        return None if row is None else self.instruments[row]


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

_LARGE: Final = (
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


def follows(instrument: Instrument) -> str:
    """The path that moves an instrument."""
    key = instrument.underlying_key or instrument.key
    return INDEX_PATHS.get(key, instrument.trading_symbol)


def specs(count: int) -> dict[str, Spec]:
    """Every path that a listing of about `count` instruments needs."""
    return {**_INDEX_SPECS, **{share.symbol: share.spec for share in _shares(count)}}


def listed(on: date, count: int, paths: Paths, *, past_expiry: bool = False) -> Listing:
    """The instruments of a day. `past_expiry`: leave out what expires today (a demo goes on after its last trade)."""
    spot = {name: float(paths.path(name, on)[0]) for name in specs(count)}
    rows = [_index(name) for name in _INDEX_SPECS]
    rows += [_equity(share, spot[share.symbol], on) for share in _shares(count)]
    first_expiry = on + timedelta(days=1) if past_expiry else on
    rows += [future for name in _FUTURES for future in _futures(name, on, first_expiry, spot[name])]
    rows += _options(on, first_expiry, count - len(rows), count, spot)
    return Listing(on, tuple(rows))


def _index(name: str) -> Instrument:
    key = INDEX_KEYS[name]
    segment, _, display = key.partition("|")
    return Instrument(
        key=key,
        segment=segment,
        exchange=segment.partition("_")[0],
        name=display,
        trading_symbol=name,
        instrument_type=INDEX,
        lot_size=1,
        tick_size=0.01,
        exchange_token=_INDEX_TOKENS[name],
    )


def _equity(share: _Share, price: float, on: date) -> Instrument:
    return Instrument(
        key=f"NSE_EQ|{share.isin}",
        segment="NSE_EQ",
        exchange="NSE",
        name=share.name,
        trading_symbol=share.symbol,
        instrument_type=EQUITY,
        lot_size=1,
        tick_size=terms.share_tick(price, on),
        freeze_quantity=100_000,
        cas_eligible=share in _LARGE,
        isin=share.isin,
        exchange_token=share.token,
    )


def _futures(name: str, on: date, first: date, spot: float) -> Iterator[Instrument]:
    tick = terms.future_tick(spot, on)
    for expiry, _ in terms.expiries(name, first, 0, 3):
        yield _contract(name, on, expiry, FUTURE, None, tick, False)


def _options(on: date, first: date, count: int, universe: int, spot: Mapping[str, float]) -> list[Instrument]:
    """Chains share `count` by how much they trade: the nearest gets the most strikes."""
    big = universe >= 2_000
    chains = [("NIFTY", *each) for each in terms.expiries("NIFTY", first, 4 if big else 3, 3 if big else 2)]
    chains += [("BANKNIFTY", *each) for each in terms.expiries("BANKNIFTY", first, 0, 3 if big else 2)]
    weights = [1.0 / (1.0 + 0.35 * place) for place in range(len(chains))]
    shares = [int(count / 2 * weight / sum(weights)) for weight in weights]
    shares[0] += count // 2 - sum(shares)
    rows: list[Instrument] = []
    for (name, expiry, weekly), pairs in zip(chains, shares, strict=True):
        money = spot[name] * (1.0 + CARRY * (expiry - on).days / 365)
        tick = terms.option_tick(spot[name], on)
        rows += [
            _contract(name, on, expiry, kind, strike, tick, weekly)
            for strike in _strikes(money, terms.strike_step(name), pairs)
            for kind in (CALL, PUT)
        ]
    return rows


def _strikes(money: float, step: float, pairs: int) -> list[float]:
    middle = round(money / step)
    lowest = max(middle - pairs // 2, round(0.3 * middle))
    return [step * (lowest + number) for number in range(pairs)]


def _contract(
    name: str, on: date, expiry: date, kind: str, strike: float | None, tick: float, weekly: bool
) -> Instrument:
    day = expiry.strftime("%d %b %y").upper()
    token = _contract_token(name, expiry, kind, strike or 0.0)
    return Instrument(
        key=f"NSE_FO|{token}",
        segment="NSE_FO",
        exchange="NSE",
        name=name,
        trading_symbol=f"{name} FUT {day}" if strike is None else f"{name} {strike:g} {kind} {day}",
        instrument_type=kind,
        lot_size=terms.lot_size(name, expiry),
        tick_size=tick,
        freeze_quantity=terms.freeze_quantity(name, on),
        expiry=expiry,
        strike=strike,
        underlying_key=INDEX_KEYS[name],
        underlying_symbol=name,
        weekly=weekly,
        exchange_token=token,
    )


def _contract_token(name: str, expiry: date, kind: str, strike: float) -> str:
    """Unlike the exchange's own, a token says what it stands for: it is the same on every day and in every run."""
    steps = round(strike / 50)
    place = (FUTURE, CALL, PUT).index(kind)
    series = (expiry.toordinal() - _EPOCH) * len(_FUTURES) + _FUTURES.index(name)
    return str((series * 4_000 + steps) * 3 + place)


def _shares(count: int) -> tuple[_Share, ...]:
    """The real ones, and a quarter of what exceeds the demo."""
    return (*_LARGE, *(_invented(number) for number in range(max(0, count - 1_000) // 4)))


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
