"""Rules about the form of an order: price, tick, lot, freeze quantity, band. Pure."""

from typing import Final

from bus.settings import Freeze
from gtt.risk.exposure import plain
from gtt.risk.rules_case import Case, Outcome, changed, passed, refused, unknown
from gtt.risk.terms import band_of
from schemas.money import ZERO
from schemas.orders import Side

#: Of an entry. A position that got larger than that in some other way may leave in more.
SLICES_MAX: Final = 25


def price(case: Case) -> Outcome:
    """Protection and rounding have been done; here is what came of it."""
    if isinstance(case.shaped, str):
        return refused(case.shaped, price=case.proposal.price, trigger_price=case.proposal.trigger_price)
    return changed(case.shaped.changed) if case.shaped.changed else passed(price=case.shaped.price)


def lot(case: Case) -> Outcome:
    size, quantity = case.instrument.lot_size, case.proposal.quantity
    if quantity > 0 and quantity % size == 0:
        return passed(quantity=quantity, lot=size)
    return refused(f"{quantity} units are no whole lots of {size}", quantity=quantity, lot=size)


def freeze(case: Case) -> Outcome:
    most, parts = case.instrument.freeze_quantity, len(case.slices)
    values = {"quantity": str(case.proposal.quantity), "freeze": str(most) if most else "not known"}
    if not most:
        return unknown(**values)
    if parts == 1:
        return passed(**values)
    if not case.reduces:
        if case.limits.freeze is Freeze.REFUSE:
            words = f"{case.proposal.quantity} units are more than the exchange takes in one order, {most}"
            return refused(words, **values)
        if parts > SLICES_MAX:
            words = (
                f"{case.proposal.quantity} units would be {parts} orders of at most {most}: {SLICES_MAX} are allowed"
            )
            return refused(words, **values)
    return changed({**values, "slices": str(parts)})


def band(case: Case) -> Outcome:
    """The exchange's band on both sides; where we only guess, the side on which a slip costs money."""
    found, terms, side = band_of(case.market, case.instrument), case.terms, case.proposal.side
    values = {
        "price": str(terms.price),
        "low": plain(found.low) if found.low is not None else "not known",
        "high": plain(found.high) if found.high is not None else "not known",
        "source": found.source or "none",
    }
    if terms.price <= 0 or found.low is None or found.high is None:
        return unknown(**values)
    if found.source == "exchange":
        prices = [each for each in (terms.price, terms.trigger_price) if each > ZERO]
        outside = [each for each in prices if not found.low <= each <= found.high]
        if not outside:
            return passed(**values)
        words = f"the exchange takes prices from {found.low} to {found.high} today, not {outside[0]}"
        return refused(words, **values)
    if case.reduces:
        return unknown(**values)
    too_far = terms.price > found.high if side is Side.BUY else terms.price < found.low
    if not too_far:
        return unknown(**values)
    edge = found.high if side is Side.BUY else found.low
    word = "above" if side is Side.BUY else "below"
    return refused(
        f"a {side.value} at {terms.price} is {word} {plain(edge)}, which by the {found.source} looks wrong", **values
    )
