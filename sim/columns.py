"""A universe turned on its side: one array per property, one row per instrument."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt

from market.instruments import FUTURE, INDEX, Instrument, last_trade_ms
from sim import fair
from sim.noise import U64, mix, name_hash, unit
from sim.universe import CALL, EQUITY, PUT, follows

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

VIX: Final = "INDIA VIX"
_BUSIEST: Final = 14.0  # trades a second
_SHARE_RATES: Final = {"RELIANCE": 7.0, "HDFCBANK": 8.0, "ICICIBANK": 6.0, "SBIN": 6.0, "TCS": 4.0, "INFY": 4.5}


@dataclass(frozen=True, slots=True)
class Columns:
    instruments: tuple[Instrument, ...]
    paths: tuple[str, ...]  # the paths needed, India VIX last
    path: I64  # column of its path
    index: Bools
    future: Bools
    option: Bools
    call: Bools
    tick: F64
    lot: I64
    strike: F64
    end_ms: F64  # last trade of a contract; 0 for what never expires
    vol_scale: F64  # volatility of the underlying against India VIX
    base_rate: F64  # trades a second at the money in an average minute
    mean_lots: F64
    base_oi: F64  # lots
    hash: U64

    @classmethod
    def of(cls, instruments: Sequence[Instrument], on: date) -> "Columns":
        moved_by = [follows(each) for each in instruments]
        names = sorted(set(moved_by) - {VIX})
        paths = (*names, VIX)
        place = {name: column for column, name in enumerate(paths)}
        kinds = np.array([each.instrument_type for each in instruments])
        hashes = mix(np.array([name_hash(each.key) for each in instruments], np.uint64))
        return cls(
            instruments=tuple(instruments),
            paths=paths,
            path=np.array([place[name] for name in moved_by], np.int64),
            index=kinds == INDEX,
            future=kinds == FUTURE,
            option=(kinds == CALL) | (kinds == PUT),
            call=kinds == CALL,
            tick=np.array([each.tick_size for each in instruments]),
            lot=np.array([each.lot_size for each in instruments], np.int64),
            strike=np.array([each.strike or 1.0 for each in instruments]),
            end_ms=np.array([last_trade_ms(each) or 0 for each in instruments], np.float64),
            vol_scale=np.array([1.13 if name == "BANKNIFTY" else 1.0 for name in moved_by]),
            base_rate=np.array([_base_rate(each, on) for each in instruments]),
            mean_lots=np.array([_mean_lots(each) for each in instruments]),
            base_oi=_base_oi(instruments, hashes),
            hash=hashes,
        )

    def worth(self, spot: F64, vix: float | F64, now_ms: float | F64, rows: slice | I64 = slice(None)) -> F64:
        """The fair price of `rows`, given each row's spot. Times may be an array where one row is asked for."""
        years = fair.years_to(self.end_ms[rows], now_ms)
        ahead = fair.forward(spot, years)
        value = np.where(self.future[rows], ahead, spot)
        option = self.option[rows]
        if not option.any():
            return value
        at_the_money = np.asarray(vix / 100.0 * self.vol_scale[rows])
        premium = fair.option(ahead, self.strike[rows], years, at_the_money, self.call[rows])
        return np.where(option, premium, value)

    def moneyness(self, spot: F64, vix: float, now_ms: float) -> F64:
        """Distance of the strike from the forward in standard deviations; 0 for what is no option."""
        years = fair.years_to(self.end_ms, now_ms)
        width = vix / 100.0 * self.vol_scale * np.sqrt(np.maximum(years, 1 / 365))
        distance = np.log(self.strike / fair.forward(spot, years)) / width
        return np.where(self.option, distance, 0.0)

    def trade_rate(self, moneyness: F64) -> F64:
        """Trades a second in an average minute: out-of-the-money options trade more than in-the-money ones."""
        out = np.where(self.call, moneyness, -moneyness)
        near = np.exp(-0.5 * ((out - 0.25) / np.where(out > 0.25, 0.9, 0.45)) ** 2)
        return np.where(self.option, self.base_rate * near + 0.0015, self.base_rate)


def _base_rate(each: Instrument, on: date) -> float:
    days = (each.expiry - on).days if each.expiry else 0
    symbol = each.trading_symbol
    match each.instrument_type:
        case "INDEX":
            return 0.0
        case "EQ" if symbol.startswith("SIM"):
            return 0.02 + 0.5 * float((name_hash(symbol) % 97 / 97) ** 3)
        case "EQ":
            return _SHARE_RATES.get(symbol, 3.0)
        case "FUT":
            return (9.0 if each.underlying_symbol == "NIFTY" else 6.0) * float(0.9 ** (days / 3)) + 0.08
        case _:
            busiest = _BUSIEST if each.underlying_symbol == "NIFTY" else 0.6 * _BUSIEST
            return busiest * float(0.5 ** (days / 5)) + 0.35


def _mean_lots(each: Instrument) -> float:
    if each.instrument_type == EQUITY:
        return 45.0
    return 1.6 if each.instrument_type == FUTURE else 3.5


def _base_oi(instruments: Sequence[Instrument], hashes: U64) -> F64:
    """Round strikes hold the most."""
    scatter = 0.5 + unit(mix(hashes ^ np.uint64(0x01)))
    lots = np.zeros(len(instruments))
    for row, each in enumerate(instruments):
        if each.instrument_type == FUTURE:
            lots[row] = 180_000.0 if each.underlying_symbol == "NIFTY" else 70_000.0
        elif each.strike is not None:
            lots[row] = 60_000.0 if each.strike % 500 == 0 else 24_000.0 if each.strike % 100 == 0 else 11_000.0
    return lots * scatter
