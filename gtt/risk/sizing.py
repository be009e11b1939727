"""How many units a signal asks for, and where its stop and target are. Pure."""

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from bus.settings import Sizer
from gtt.risk.exposure import Unit, percent_of, plain, rupees, unit
from gtt.risk.limits import Limits
from market.instruments import Instrument
from schemas.money import ZERO
from schemas.orders import Side


@dataclass(frozen=True, slots=True)
class Size:
    """`quantity` 0: `reason` says why. Else `reason` says what it was made from."""

    quantity: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A signal's entry, as the sizers look at it. `capital` is the account's; None: the signal does not say."""

    instrument: Instrument
    side: Side
    price: Decimal  # what a unit is worth now: gtt.risk.terms.market_price, at which the check counts it
    capital: Decimal
    on: date
    stop: Decimal | None = None
    atr: Decimal | None = None
    volatility: float | None = None
    win_rate: float | None = None
    payoff: float | None = None
    underlying_price: Decimal | None = None


def size(limits: Limits, wish: Wish) -> Size:
    """Whole lots by the limits' sizer, never more than the largest position and the risk per trade allow."""
    if wish.price <= 0:
        return Size(0, "no price is known")
    of_one = unit(wish.instrument, wish.side, wish.price, underlying_price=wish.underlying_price, on=wish.on)
    if of_one is None:
        return Size(0, f"nobody tells how many units a lot of {wish.instrument.segment} is")
    distance = _distance(limits, wish)
    if distance is not None and distance <= 0:
        return Size(0, f"the stop at {wish.stop} is on the wrong side of {plain(wish.price)}")
    capital = wish.capital * limits.share
    wanted = _WAYS[limits.sizer](limits, wish, capital, of_one)
    if isinstance(wanted, str):
        return Size(0, wanted)
    units, words = wanted
    for most, why in _caps(limits, wish, capital, of_one):
        if units > most:
            units, words = most, f"{words}, cut to {why}"
    lot = wish.instrument.lot_size
    lots = int(units / lot)
    if lots < 1:
        return Size(0, f"{words}: {plain(units.quantize(Decimal('0.01')))} units are less than a lot of {lot}")
    return Size(lots * lot, words)


_Wanted = tuple[Decimal, str] | str  # units and the words for them, or why there are none


def _caps(limits: Limits, wish: Wish, capital: Decimal, of_one: Unit) -> list[tuple[Decimal, str]]:
    """What the risk check would not let through anyway."""
    most = limits.own.position * capital
    caps = [(most / of_one.exposure, f"the largest position of {rupees(most)}")]
    if distance := _distance(limits, wish):
        risk = limits.own.trade_risk * capital
        caps.append((risk / (distance * of_one.scale), f"the risk of {rupees(risk)} a trade"))
    return caps


def _fixed(limits: Limits, wish: Wish, _capital: Decimal, _of_one: Unit) -> _Wanted:
    return limits.size * wish.instrument.lot_size, f"{plain(limits.size)} {'lot' if limits.size == 1 else 'lots'}"


def _percent(limits: Limits, _wish: Wish, capital: Decimal, of_one: Unit) -> _Wanted:
    return capital * limits.size / 100 / of_one.exposure, f"{plain(limits.size)} % of {rupees(capital)}"


def _atr(limits: Limits, wish: Wish, capital: Decimal, of_one: Unit) -> _Wanted:
    distance = _distance(limits, wish)
    if distance is None:
        return "the atr sizer needs a stop or the ATR, and the signal has neither"
    risk = limits.own.trade_risk * capital
    loss = distance * of_one.scale
    return risk / loss * limits.size, f"{rupees(risk)} at risk, {rupees(loss)} a unit"


def _volatility(limits: Limits, wish: Wish, capital: Decimal, of_one: Unit) -> _Wanted:
    if wish.volatility is None:
        return "the volatility sizer needs the volatility, and the signal does not tell it"
    volatility = Decimal(repr(wish.volatility))
    value = capital * limits.volatility_target / volatility * limits.size
    return value / (
        wish.price * of_one.scale
    ), f"volatility {percent_of(volatility)} for {percent_of(limits.volatility_target)}"


def _kelly(limits: Limits, wish: Wish, capital: Decimal, of_one: Unit) -> _Wanted:
    """The full stake is what the average loss may take of the capital; a part of it, at most the cap, is used."""
    if wish.win_rate is None or wish.payoff is None:
        return "the kelly sizer needs win_rate and payoff, and the signal does not tell them"
    win_rate, payoff = Decimal(repr(wish.win_rate)), Decimal(repr(wish.payoff))
    full = win_rate - (1 - win_rate) / payoff
    if full <= 0:
        return f"winning {percent_of(win_rate)} of the time at a payoff of {plain(payoff)} is worth no stake"
    stake = full * min(limits.size, limits.kelly_cap)
    distance = _distance(limits, wish)
    loss = distance * of_one.scale if distance is not None else of_one.exposure
    return capital * stake / loss, f"a stake of {percent_of(stake.quantize(Decimal('0.0001')))}"


_WAYS: Final = {
    Sizer.FIXED: _fixed,
    Sizer.PERCENT: _percent,
    Sizer.ATR: _atr,
    Sizer.VOLATILITY: _volatility,
    Sizer.KELLY: _kelly,
}


def _distance(limits: Limits, wish: Wish) -> Decimal | None:
    """From the price to the stop; None where nobody knows; not positive where the stop is on the wrong side."""
    if wish.stop is not None:
        return (wish.price - wish.stop) * wish.side.sign
    return limits.stop_atr * wish.atr if wish.atr is not None else None


@dataclass(frozen=True, slots=True)
class Levels:
    """Of a signal: None where nobody knows. `trailing_gap` in rupees."""

    stop: Decimal | None
    target: Decimal | None
    trailing_gap: Decimal | None


def levels(
    limits: Limits,
    *,
    instrument: Instrument,
    side: Side,
    price: Decimal,
    stop: Decimal | None,
    target: Decimal | None,
    atr: Decimal | None,
) -> Levels:
    """A signal's own stop and target, else multiples of its ATR; in ticks, rounded towards the price.

    A stop is a tick away from the price at least, and worth a tick at least. A signal's own level on the wrong side
    stays there: the risk check says so.
    """
    tick = tick_of(instrument)
    if stop is None and atr is not None:
        stop = max(price - side.sign * max(limits.stop_atr * atr, tick), tick)
    if target is None and atr is not None:
        target = max(price + side.sign * max(limits.target_atr * atr, tick), tick)
    stop = None if stop is None else to_tick(stop, tick, up=side is Side.BUY)
    target = None if target is None else to_tick(target, tick, up=side is Side.SELL)
    if stop is not None and stop == price:
        stop -= side.sign * tick
    if target is not None and target == price:
        target += side.sign * tick
    gap = None
    if stop is not None and limits.trail:
        # Never less than the stop's own distance: it locks in profits, and does not tighten what was just decided.
        gap = to_tick(max(limits.trail * price, abs(price - stop), tick), tick, up=True)
    return Levels(stop if stop is None or stop > 0 else None, target if target is None or target > 0 else None, gap)


def tick_of(instrument: Instrument) -> Decimal:
    return Decimal(repr(instrument.tick_size))


def to_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    """The next multiple of the tick in that direction; a price that is one stays."""
    steps = (price / tick).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR)
    return (steps * tick).normalize() + ZERO
