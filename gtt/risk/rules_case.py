"""What a rule looks at, and what it says. Pure."""

from dataclasses import dataclass
from datetime import date
from typing import Self

from gtt.risk.exposure import Unit, unit
from gtt.risk.limits import Limits
from gtt.risk.terms import Terms, slices_of, terms_of
from gtt.risk.types import Market, Proposal, Standing, Verdict
from market.instruments import Instrument
from market.sessions import trading_date


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    values: dict[str, str]
    reason: str = ""


def passed(**values: object) -> Outcome:
    return Outcome(Verdict.PASSED, _words(values))


def changed(values: dict[str, str]) -> Outcome:
    return Outcome(Verdict.CHANGED, values)


def unknown(**values: object) -> Outcome:
    return Outcome(Verdict.UNKNOWN, _words(values))


def refused(reason: str, **values: object) -> Outcome:
    return Outcome(Verdict.REFUSED, _words(values), reason)


def _words(values: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


class Uncounted(Exception):
    """A rule looked at what an earlier rule refuses to go on without: the table's order is wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """`reduces`: the proposal says so, and the position bears it out."""

    proposal: Proposal
    market: Market
    standing: Standing
    limits: Limits
    on: date
    reduces: bool
    shaped: Terms | str  # or why there are no terms
    slices: tuple[int, ...]
    counted: Unit | None

    @classmethod
    def of(cls, proposal: Proposal, market: Market, standing: Standing, limits: Limits) -> Self:
        on = trading_date(market.now_ms)
        reduces = proposal.reduces and standing.units.closes(proposal.side, proposal.quantity)
        instrument = market.instrument
        shaped: Terms | str = "the instrument is not known"
        slices: tuple[int, ...] = (proposal.quantity,)
        counted = None
        if instrument is not None and not instrument.is_index:
            shaped = terms_of(proposal, market, instrument, limits, standing.capabilities, reduces=reduces)
            slices = slices_of(proposal.quantity, instrument)
            if isinstance(shaped, Terms):
                counted = unit(
                    instrument, proposal.side, shaped.expected, underlying_price=market.underlying_ltp, on=on
                )
        return cls(proposal, market, standing, limits, on, reduces, shaped, slices, counted)

    @property
    def instrument(self) -> Instrument:
        if self.market.instrument is None:
            raise Uncounted
        return self.market.instrument

    @property
    def terms(self) -> Terms:
        if isinstance(self.shaped, str):
            raise Uncounted
        return self.shaped

    @property
    def unit(self) -> Unit:
        if self.counted is None:
            raise Uncounted
        return self.counted
