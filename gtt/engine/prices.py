"""Limits of a GTT's orders, and how a trailing stop follows. Decimals, in whole ticks. Pure."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from gtt.engine.state import WIDEST, Terms
from schemas.gtt import RuleState
from schemas.money import ZERO
from schemas.orders import Side

_AUTO: Final = Decimal(-1)

#: A stop's order that is not filled gets twice the protection so many times, then the widest.
WIDENED_MAX: Final = 4


def down(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value(ROUND_FLOOR) * tick


def up(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value(ROUND_CEILING) * tick


def automatic(price: Decimal, terms: Terms) -> Decimal:
    """Percent. The last row counts where none has a price below which it holds."""
    fits = (band.percent for band in terms.auto if band.below is None or price < band.below)
    return next(fits, terms.auto[-1].percent if terms.auto else WIDEST)


def limit(side: Side, reference: Decimal, percent: Decimal, tick: Decimal) -> Decimal:
    """So much worse than `reference` at most; rounded to the better side, so that it is never more than was said."""
    moved = reference * (100 + side.sign * percent) / 100
    return max(tick, down(moved, tick) if side is Side.BUY else up(moved, tick))


def at_trigger(rule: RuleState, side: Side, terms: Terms) -> tuple[Decimal, Decimal]:
    """Limit and percent of an ENTRY or a TARGET, as the venue has it: from the trigger. Without protection it is it."""
    percent = rule.market_protection or ZERO
    if percent == _AUTO:
        percent = automatic(rule.trigger_price, terms)
    return limit(side, rule.trigger_price, percent, terms.tick), percent


def width(rule: RuleState, price: Decimal, terms: Terms, widened: int) -> Decimal:
    """Percent around the price of now for a STOPLOSS. One that says nothing has the automatic protection: a stop
    whose limit is its trigger is none in a falling market."""
    auto = automatic(price, terms)
    own = rule.market_protection
    if own is None or own == _AUTO:
        own = auto
    if not widened:
        return own
    if widened > WIDENED_MAX:
        return WIDEST
    doubled = auto * Decimal(2) ** (widened - 1) if own < auto else own * Decimal(2) ** widened
    return min(WIDEST, doubled)


def follows(sign: int, stop: Decimal, best: Decimal, gap: Decimal, tick: Decimal) -> Decimal:
    """Where a trailing stop is once the price has been `best`; `sign` is that of the position. It only tightens."""
    if sign > 0:
        return max(stop, down(best - gap, tick))
    return min(stop, up(best + gap, tick))


def next_better(sign: int, stop: Decimal, gap: Decimal, tick: Decimal) -> Decimal:
    """The price that moves a trailing stop on."""
    if sign > 0:
        return down(stop, tick) + tick + gap
    return up(stop, tick) - tick - gap
