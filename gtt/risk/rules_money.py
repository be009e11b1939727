"""Rules about what an order may cost and lose: position, risk, losses, trades, duplicates, writes, funds. Pure.

At a limit is within it; a loss that has reached its limit has reached it.
"""

from decimal import Decimal
from typing import Final

from gtt.risk.exposure import percent_of, plain, rupees
from gtt.risk.limits import Caps
from gtt.risk.rules_case import Case, Outcome, passed, refused, unknown
from gtt.risk.types import Origin, Tally, Units
from schemas.money import ZERO
from schemas.orders import Side

_WRITES_MAX: Final = 5_000  # looked ahead


def exits(case: Case) -> Outcome:
    """Two exits of one position, both filled, would open another one. Only those who can wait are asked."""
    units, side, quantity = case.standing.units, case.proposal.side, case.proposal.quantity
    waiting = units.buying if side is Side.BUY else units.selling
    held = abs(units.net)
    if not case.reduces or waiting + quantity <= held:
        return passed(held=held, waiting=waiting)
    words = f"{held} units are held, and orders to {side.value} {waiting} of them wait already: cancel those first"
    return refused(words, held=held, waiting=waiting, quantity=quantity)


def duplicate(case: Case) -> Outcome:
    own, side = case.standing.own_units, case.proposal.side
    waiting = own.buying if side is Side.BUY else own.selling
    holds = own.net * side.sign > 0
    if case.limits.duplicates or not (holds or waiting):
        return passed(held=own.net, waiting=waiting)
    what = f"holds {own.net} units of it" if holds else f"has orders for {waiting} units of it on their way"
    return refused(f"the strategy {case.proposal.strategy} {what} already", held=own.net, waiting=waiting)


def trades(case: Case) -> Outcome:
    standing, limits = case.standing, case.limits
    if standing.tally.trades >= limits.account.trades:
        return refused(_enough("", standing.tally, limits.account), trades=standing.tally.trades)
    if standing.own_tally is not None and standing.own_tally.trades >= limits.own.trades:
        words = _enough(f" of the strategy {case.proposal.strategy}", standing.own_tally, limits.own)
        return refused(words, trades=standing.own_tally.trades)
    return passed(trades=standing.tally.trades, most=limits.account.trades)


def _enough(whose: str, tally: Tally, caps: Caps) -> str:
    return f"{tally.trades} entries{whose} today: {caps.trades} are allowed"


def day_loss(case: Case) -> Outcome:
    standing, limits = case.standing, case.limits
    why = loss_reached(standing.tally, limits.account, standing.capital)
    if why is None and standing.own_tally is not None:
        own = loss_reached(standing.own_tally, limits.own, standing.capital * limits.share)
        why = own and f"strategy {case.proposal.strategy}: {own}"
    values = {"day_pnl": str(standing.tally.day_pnl), "limit": plain(limits.account.day_loss * standing.capital)}
    return refused(why, **values) if why else passed(**values)


def drawdown(case: Case) -> Outcome:
    standing, limits = case.standing, case.limits
    why = drawdown_reached(standing.tally, limits.account)
    if why is None and standing.own_tally is not None:
        own = drawdown_reached(standing.own_tally, limits.own)
        why = own and f"strategy {case.proposal.strategy}: {own}"
    values = {"equity": str(standing.tally.equity), "peak": str(standing.tally.peak_equity)}
    return refused(why, **values) if why else passed(**values)


def loss_reached(tally: Tally, caps: Caps, capital: Decimal) -> str | None:
    loss = -tally.day_pnl
    if loss <= 0 or loss < caps.day_loss * capital:
        return None
    part = percent_of(caps.day_loss)
    return f"the loss of the day, {rupees(loss)}, has reached {part} of the capital of {rupees(capital)}"


def drawdown_reached(tally: Tally, caps: Caps) -> str | None:
    drop = tally.peak_equity - tally.equity
    if drop <= 0 or drop < caps.drawdown * tally.peak_equity:
        return None
    part = percent_of(caps.drawdown)
    return f"the equity, {rupees(tally.equity)}, is {part} or more below its highest, {rupees(tally.peak_equity)}"


def position(case: Case) -> Outcome:
    """The account's position in the instrument, and the strategy's own, were all that waits filled."""
    standing, limits = case.standing, case.limits
    if case.counted is None:
        return refused(f"nobody tells how many units a lot of {case.instrument.segment} is")
    kind = "margin (our estimate)" if case.unit.estimated else "value"
    part = max(limits.account.position, limits.own.position)
    whole = _most(case, standing.units, part, standing.capital)
    if isinstance(whole, str):
        return refused(whole, basis=kind)
    if standing.own_tally is not None:
        own = _most(case, standing.own_units, limits.own.position, standing.capital * limits.share)
        if isinstance(own, str):
            return refused(f"strategy {case.proposal.strategy}: {own}", basis=kind)
    return passed(value=plain(whole), limit=plain(part * standing.capital), basis=kind)


def _most(case: Case, units: Units, part: Decimal, capital: Decimal) -> Decimal | str:
    """What the position would take, or why that is too much."""
    after = units.after(case.proposal.side, case.proposal.quantity)
    value = _exposure_of(case, abs(after))
    if value <= part * capital or after * case.proposal.side.sign <= 0:  # still on the other side: it shrinks
        return value
    what = "a position with a margin of about" if case.unit.estimated else "a position of"
    return f"{what} {rupees(value)} would be more than {percent_of(part)} of the capital of {rupees(capital)}"


def exposure(case: Case) -> Decimal:
    """Of this order; 0 where nobody can tell it, which stops entries."""
    return ZERO if case.counted is None else _exposure_of(case, case.proposal.quantity)


def _exposure_of(case: Case, units: int) -> Decimal:
    """By the venue's own margin where it was asked, of what takes one."""
    margin = case.standing.margin
    if case.unit.estimated and margin is not None:
        return units * margin / case.proposal.quantity
    return units * case.unit.exposure


def trade_risk(case: Case) -> Outcome:
    """From the price to the stop; without one to where the ATR would put it; of what is bought at most all of it."""
    limits, standing, proposal = case.limits, case.standing, case.proposal
    expected = case.terms.expected
    if proposal.stop is not None:
        loss, how = (expected - proposal.stop) * proposal.side.sign, f"stop at {proposal.stop}"
        if loss <= 0:
            side = proposal.side.value
            return refused(
                f"the stop at {proposal.stop} is on the wrong side of a {side} at {expected}", stop=proposal.stop
            )
    elif proposal.atr is not None:
        loss, how = limits.stop_atr * proposal.atr, f"{plain(limits.stop_atr)} ATR of {proposal.atr}"
    elif proposal.side is Side.BUY and not _is_future(case):
        loss, how = expected, "no stop, so all of it"
    elif proposal.origin is Origin.SIGNAL:
        return refused("a signal without stop and ATR: nobody knows what it may lose", stop="none")
    else:
        return unknown(stop="none")
    risk, most = loss * case.unit.scale * proposal.quantity, limits.own.trade_risk * standing.capital * limits.share
    values = {"risk": plain(risk), "limit": plain(most), "how": how}
    if risk <= most:
        return passed(**values)
    part, capital = percent_of(limits.own.trade_risk), rupees(standing.capital * limits.share)
    return refused(f"{rupees(risk)} may be lost ({how}), more than {part} of the capital of {capital}", **values)


def _is_future(case: Case) -> bool:
    return case.instrument.is_derivative and not case.instrument.is_option


def budget(case: Case) -> Outcome:
    standing = case.standing
    if standing.budget is None:
        return passed()
    writes = min(standing.queued_writes + len(case.slices), _WRITES_MAX)
    wait_ms = standing.budget.wait_ms(standing.now_ms or case.market.now_ms, reducing=False, writes=writes)
    values = {"writes": writes, "wait_ms": wait_ms}
    if wait_ms <= case.limits.intent_s * 1000:
        return passed(**values)
    words = f"the limits of order writes would hold it back for {wait_ms / 1000:.0f} s, which makes it too old"
    return refused(f"{words} (more than {case.limits.intent_s:g} s)", **values)


def funds(case: Case) -> Outcome:
    standing = case.standing
    asked = standing.margin is not None
    needed = standing.margin if standing.margin is not None else exposure(case)
    basis = "the venue's margin" if asked else "our estimate" if case.unit.estimated else "value"
    if standing.funds is None:
        return unknown(needed=plain(needed), basis=basis)
    values = {"needed": plain(needed), "available": plain(standing.funds), "basis": basis}
    if needed <= standing.funds:
        return passed(**values)
    return refused(f"{rupees(needed)} is needed ({basis}), {rupees(standing.funds)} is available", **values)
