"""Rules about whether there may be an order at all: modes and switches, halt, instrument, session, venue. Pure."""

from typing import Final

from gtt.risk.rules_case import Case, Outcome, passed, refused, unknown
from gtt.risk.types import Origin
from market.instruments import joins_pre_open
from market.sessions import Part, Phase
from schemas.orders import OrderType, Product, Side, StrategyMode, TradingMode, Validity

_ORDER: Final = ("off", "paper", "shadow", "live")
_AUCTIONS: Final = (Phase.PRE_OPEN, Phase.CLOSING_AUCTION)
_CLOSED_PARTS: Final = (Part.FROZEN, Part.MATCHING, Part.BUFFER)


def _reaches(mode: TradingMode | StrategyMode, wanted: TradingMode) -> bool:
    return _ORDER.index(mode.value) >= _ORDER.index(wanted.value)


def mode(case: Case) -> Outcome:
    wanted, ceiling = case.proposal.mode, case.standing.ceiling
    if _reaches(ceiling, wanted):
        return passed(mode=wanted.value, ceiling=ceiling.value)
    return refused(
        f"the mode is {ceiling.value}, so no {wanted.value} order may leave: set TEJI_MODE={wanted.value}",
        mode=wanted.value,
        ceiling=ceiling.value,
    )


def switch(case: Case) -> Outcome:
    """A strategy's own. A GTT or an exit of a person has none."""
    own, wanted = case.standing.switch, case.proposal.mode
    if own is None:
        if case.proposal.origin is Origin.SIGNAL:
            return refused("nobody has said in which mode this strategy trades", mode=wanted.value)
        return passed()
    if own is StrategyMode.OFF:
        return refused(f"the strategy {case.proposal.strategy} is switched off", switch=own.value)
    if _reaches(own, wanted):
        return passed(mode=wanted.value, switch=own.value)
    return refused(
        f"the strategy {case.proposal.strategy} trades in {own.value}, not in {wanted.value}",
        mode=wanted.value,
        switch=own.value,
    )


def opt_in(case: Case) -> Outcome:
    """Live takes three words: the venue, the mode, the strategy's switch. The last two have been heard by now."""
    if case.proposal.mode is not TradingMode.LIVE:
        return passed()
    if case.standing.venue_opted_in:
        return passed(venue=case.standing.capabilities.venue)
    return refused("live orders need the venue to be named: set TEJI_VENUE", venue=case.standing.capabilities.venue)


def egress(case: Case) -> Outcome:
    if case.proposal.mode is not TradingMode.LIVE or not case.standing.egress:
        return passed()
    return refused(f"live orders may not leave from here: {case.standing.egress}")


def halt(case: Case) -> Outcome:
    if case.standing.halted is None:
        return passed()
    why = case.standing.halted or "no reason is given"
    return refused(f"trading is halted ({why}): only what reduces risk passes", halt=why)


def reconciling(case: Case) -> Outcome:
    if not case.standing.reconciling:
        return passed()
    return refused("our books are being compared with the venue's: until then only what reduces risk passes")


def instrument(case: Case) -> Outcome:
    found = case.market.instrument
    if found is None:
        return refused(f"{case.proposal.instrument} is not known to the venue")
    if found.is_index:
        return refused(f"{found.trading_symbol} is an index: its futures and options trade, it does not")
    if found.expiry is not None and found.expiry < case.on:
        return refused(f"{found.trading_symbol} expired on {found.expiry}", expiry=found.expiry)
    return passed(symbol=found.trading_symbol)


def session(case: Case) -> Outcome:
    market = case.market
    values = {"phase": market.phase.value, "open": "yes" if market.is_open else "no"}
    if market.phase in _AUCTIONS:
        return _auction(case)
    if market.phase is Phase.CONTINUOUS:
        if market.is_open:
            return passed(**values)
        if case.reduces:  # the two contradict each other, and the exchange decides
            return unknown(**values)
        return refused("the exchange says that the market is not open", **values)
    if market.is_open and case.reduces:
        return unknown(**values)
    if market.phase is Phase.POST_CLOSE:
        return refused("after the close there are trades at the closing price only, which we do not make", **values)
    return refused(f"the market of {case.instrument.segment} is closed", **values)


def _auction(case: Case) -> Outcome:
    """Pre-open and closing auction: limit orders for the day, while the exchange takes them."""
    phase, part = case.market.phase, case.market.part
    name = phase.value.replace("_", " ")
    values = {"phase": phase.value, "part": part.value if part else "not known"}
    if phase is Phase.PRE_OPEN and not joins_pre_open(case.instrument, case.on):
        return refused(f"{case.instrument.trading_symbol} is not part of the {name}", **values)
    if part in _CLOSED_PARTS:
        return refused(f"the {name} takes no orders at this moment", **values)
    if case.proposal.order_type in (OrderType.SL, OrderType.SL_M) or case.proposal.validity is Validity.IOC:
        return refused(f"the {name} takes no stop and no IOC orders", **values)
    return passed(**values)


def square_off(case: Case) -> Outcome:
    """What is closed in a moment is not opened any more."""
    minutes = case.limits.square_off_min.get(case.proposal.product)
    closes_ms = case.market.closes_ms
    if minutes is None or closes_ms is None or case.market.phase is not Phase.CONTINUOUS:
        return passed()
    left_s = (closes_ms - case.market.now_ms) // 1000
    if left_s > minutes * 60:
        return passed(left_s=left_s, square_off_min=minutes)
    return refused(
        f"positions of product {case.proposal.product.value} are closed {minutes} minutes before the end of trading",
        left_s=left_s,
        square_off_min=minutes,
    )


def quote(case: Case) -> Outcome:
    """A market order follows the price; of one that is old nobody knows where it leads."""
    if case.proposal.order_type is not OrderType.MARKET:
        return passed()
    age_ms, most_s = case.market.age_ms, case.limits.quote_s
    if age_ms is None:
        return unknown(most_s=most_s)
    if age_ms <= most_s * 1000:
        return passed(age_ms=age_ms, most_s=most_s)
    return refused(
        f"the last price is {age_ms / 1000:.0f} s old, too old for a market order (more than {most_s:g} s)",
        age_ms=age_ms,
        most_s=most_s,
    )


def venue(case: Case) -> Outcome:
    """Segment, order type and validity. A market order is a limit order by now, SL-M is SL."""
    can, name = case.standing.capabilities, case.standing.capabilities.venue
    segment, kind = case.instrument.segment, case.proposal.order_type
    if segment in can.segments_off:
        return refused(f"{name} takes no orders of {segment} by API", segment=segment)
    if kind in (OrderType.SL, OrderType.SL_M) and not can.stop_orders:
        return refused(f"{name} keeps no stop orders: use a GTT, which we watch ourselves", order_type=kind.value)
    if case.proposal.validity is Validity.IOC and not can.ioc:
        return refused(f"{name} takes no IOC orders", validity=Validity.IOC.value)
    return passed(venue=name)


def product(case: Case) -> Outcome:
    can, wanted, found = case.standing.capabilities, case.proposal.product, case.instrument
    values = {"product": wanted.value}
    if wanted not in can.products:
        known = ", ".join(sorted(each.value for each in can.products))
        return refused(f"{can.venue} has no product {wanted.value}: there are {known}", **values)
    if wanted is Product.MTF and found.is_derivative:
        return refused("MTF is for shares", **values)
    carried = wanted in (Product.DELIVERY, Product.MTF)
    if carried and not found.is_derivative and case.proposal.side is Side.SELL and not case.reduces:
        return refused("shares that are not held can be sold for the day only (product I)", **values)
    return passed(**values)
