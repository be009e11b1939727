"""The order that a proposal would become: limits instead of market orders, prices in ticks, slices. Pure.

Prices are rounded here and nowhere else: of a BUY down, of a SELL up, the trigger like the limit. So a limit never
costs more than was said, a stop is triggered a part of a tick sooner and never later, and a limit that was on the right
side of its trigger stays there.
"""

from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat

from brokers.venue import Capabilities
from gtt.risk.limits import Limits
from gtt.risk.protect import AUTOMATIC, limit_price, stop_limit
from gtt.risk.sizing import tick_of, to_tick
from gtt.risk.types import Market, Proposal
from market.instruments import Instrument
from schemas.money import ZERO
from schemas.orders import OrderType, Side

#: Of the exchange's check of option orders: up to this price the range is absolute, above it relative.
_CHEAP, _CHEAP_RANGE, _RANGE = Decimal(50), Decimal(20), Decimal("0.40")
#: What no share and no future is allowed to move away in a day without a pause: the widest fixed band.
_WIDEST_BAND = Decimal("0.20")
_PROTECTION_MAX = Decimal(25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`expected`: at what price it is counted, the one at which it is likely to fill."""

    order_type: OrderType
    price: Decimal
    trigger_price: Decimal
    expected: Decimal
    protected: bool = False
    changed: dict[str, str]  # what is not as the proposal has it


@dataclass(frozen=True, slots=True)
class Band:
    low: Decimal | None
    high: Decimal | None
    source: str  # exchange, option rule, last price; empty: nothing is known


def terms_of(
    proposal: Proposal, market: Market, instrument: Instrument, limits: Limits, can: Capabilities, *, reduces: bool
) -> Terms | str:
    """The terms, or why there are none."""
    tick, side = tick_of(instrument), proposal.side
    asked = limits.protection if proposal.protection is None else proposal.protection
    kind, price, trigger = proposal.order_type, proposal.price, proposal.trigger_price
    protects = kind in (OrderType.MARKET, OrderType.SL_M)
    if protects:
        if asked == 0 and can.market_orders:
            return _plain(proposal, market, instrument)
        usable = asked == AUTOMATIC or 0 < asked <= _PROTECTION_MAX
        if not usable and reduces:
            asked = AUTOMATIC  # a wrong setting must not keep a position open
        elif not usable:
            return f"a {kind.value} order needs a protection of -1, or of more than 0 to 25 percent, not {asked}"
    if kind is OrderType.MARKET:
        found = _protected(market, instrument, side, asked, urgent=reduces)
        if found is None:
            return "no price is known to protect a market order with"
        kind, price, trigger = OrderType.LIMIT, found, ZERO
    elif kind is OrderType.SL_M:
        if trigger <= 0:
            return "an SL-M order needs a trigger_price"
        kind, price = OrderType.SL, _into(_told(market), stop_limit(instrument, side, trigger, asked))
    else:
        trigger = ZERO if kind is OrderType.LIMIT else trigger
        price = _reachable(market, side, price) if reduces else price
    return _rounded(proposal, market, kind, price, trigger, tick, protects)


def protected_price(
    market: Market, instrument: Instrument, side: Side, asked: Decimal, *, urgent: bool
) -> Decimal | None:
    """A market order's limit by the prices of now, inside the band and in ticks; None where no price is known."""
    price = _protected(market, instrument, side, asked, urgent=urgent)
    tick = tick_of(instrument)
    return None if price is None else max(to_tick(price, tick, up=side is Side.SELL), tick)


def _protected(market: Market, instrument: Instrument, side: Side, asked: Decimal, *, urgent: bool) -> Decimal | None:
    found = limit_price(instrument, side, ltp=market.ltp, bid=market.bid, ask=market.ask, asked=asked, urgent=urgent)
    if found is None:
        return None
    # A guess must not keep a position open whose price has run away from the last trade.
    return _into(_told(market) if urgent else band_of(market, instrument), found)


def _plain(proposal: Proposal, market: Market, instrument: Instrument) -> Terms | str:
    """A market order as it is, where the venue takes those and somebody asked for no protection."""
    tick = tick_of(instrument)
    trigger = ZERO
    if proposal.order_type is OrderType.SL_M:
        trigger = to_tick(proposal.trigger_price, tick, up=proposal.side is Side.SELL)
    expected = trigger or market_price(market)
    if expected is None:
        return "no price is known to count a market order at"
    return Terms(order_type=proposal.order_type, price=ZERO, trigger_price=trigger, expected=expected, changed={})


def _rounded(
    proposal: Proposal, market: Market, kind: OrderType, price: Decimal, trigger: Decimal, tick: Decimal, made: bool
) -> Terms | str:
    side = proposal.side
    up = side is Side.SELL
    limit, touched = to_tick(price, tick, up=up), to_tick(trigger, tick, up=up)
    if made:
        limit = max(limit, tick)
    if limit <= 0:
        return f"a price of {price} is less than a tick of {tick}"
    if kind is OrderType.SL:
        if touched <= 0:
            return f"a trigger_price of {trigger} is less than a tick of {tick}"
        if (limit - touched) * side.sign < 0:
            word = "below" if side is Side.BUY else "above"
            return f"the limit of {limit} is {word} the trigger_price of {touched}: it could not fill once triggered"
    changed: dict[str, str] = {}
    if kind is not proposal.order_type:
        changed["order_type"] = f"{proposal.order_type.value} to {kind.value}"
    if made or limit != proposal.price:
        changed["price"] = f"{proposal.price} to {limit}"
    if touched != proposal.trigger_price:
        changed["trigger_price"] = f"{proposal.trigger_price} to {touched}"
    return Terms(
        order_type=kind,
        price=limit,
        trigger_price=touched,
        expected=_expected(proposal, market, kind, limit, touched if made else limit),
        protected=made and kind is OrderType.LIMIT,
        changed=changed,
    )


def _expected(proposal: Proposal, market: Market, kind: OrderType, limit: Decimal, at: Decimal) -> Decimal:
    """At what price it is likely to fill. `at`: a stop order's, which waits for a price that is not there yet."""
    if kind is OrderType.SL:
        return at
    seen = market_price(market)
    if seen is None:
        return limit
    return min(limit, seen) if proposal.side is Side.BUY else max(limit, seen)


def market_price(market: Market) -> Decimal | None:
    """What a unit is worth now: the last price, or the bid where that has risen above it."""
    known = [price for price in (market.ltp, market.bid) if price is not None and price > 0]
    if known and market.ltp is not None:
        return max(known)
    return market.ask if market.ask is not None and market.ask > 0 else max(known, default=None)


def band_of(market: Market, instrument: Instrument) -> Band:
    """Where the exchange takes prices; where that is not told, where it hardly takes others."""
    if market.band is not None:
        return Band(*market.band, "exchange")
    around = market.ltp if market.ltp is not None and market.ltp > 0 else market.cp
    if around is None or around <= 0:
        return Band(None, None, "")
    if not instrument.is_option:
        return Band(around * (1 - _WIDEST_BAND), around * (1 + _WIDEST_BAND), "last price")
    away = _CHEAP_RANGE if around <= _CHEAP else around * _RANGE
    return Band(max(around - away, ZERO), around + away, "option rule")


def _told(market: Market) -> Band:
    """The exchange's own band and no guess."""
    return Band(*market.band, "exchange") if market.band is not None else Band(None, None, "")


def _into(band: Band, price: Decimal) -> Decimal:
    """A price of our own making stays where the exchange takes it."""
    if band.high is not None:
        price = min(price, band.high)
    return max(price, band.low) if band.low is not None else price


def _reachable(market: Market, side: Side, price: Decimal) -> Decimal:
    """An exit that would pay more than the exchange takes pays what it takes."""
    if market.band is None or price <= 0:
        return price
    low, high = market.band
    return min(price, high) if side is Side.BUY else max(price, low)


def slices_of(quantity: int, instrument: Instrument) -> tuple[int, ...]:
    """Parts that the exchange takes in one order, the large ones first; together the quantity."""
    lot = instrument.lot_size
    most = max(instrument.freeze_quantity // lot * lot, lot) if instrument.freeze_quantity else quantity
    whole, left = divmod(quantity, most) if quantity > 0 else (0, 0)
    return (*repeat(most, whole), *((left,) if left else ()))
