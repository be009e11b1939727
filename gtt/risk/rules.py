"""The rules that an order has to pass, in order: the table. Pure.

A rule is for entries of some origins, and for exits (orders that only shrink a position) or not. Nothing that limits
risk is for exits: what gets a trader out is never held up by what keeps him from getting in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gtt.risk import rules_gate as gate
from gtt.risk import rules_money as money
from gtt.risk import rules_order as order
from gtt.risk.rules_case import Case, Outcome
from gtt.risk.types import Origin

_ALL: Final = frozenset(Origin)
_NONE: Final[frozenset[Origin]] = frozenset()
_SIGNAL: Final = frozenset({Origin.SIGNAL})
_WAITING: Final = frozenset({Origin.SIGNAL, Origin.MANUAL})


@dataclass(frozen=True, slots=True)
class Row:
    """`entries`, `exits`: the origins whose orders of that sort are checked. `says`: for people."""

    name: str
    test: Callable[[Case], Outcome]
    entries: frozenset[Origin]
    exits: frozenset[Origin]
    says: str

    def is_for(self, case: Case) -> bool:
        return case.proposal.origin in (self.exits if case.reduces else self.entries)


RULES: Final = (
    Row("mode", gate.mode, _ALL, _ALL, "The account's mode is not above `TEJI_MODE`"),
    Row("switch", gate.switch, _ALL, _NONE, "The strategy's own switch allows that mode"),
    Row("opt_in", gate.opt_in, _ALL, _NONE, "Live: the venue is named in the settings, too"),
    Row("egress", gate.egress, _ALL, _NONE, "Live: our address on the internet is the registered one"),
    Row("halt", gate.halt, _ALL, _NONE, "Trading is not halted"),
    Row("reconciling", gate.reconciling, _ALL, _NONE, "Our books are not being compared with the venue's"),
    Row("instrument", gate.instrument, _ALL, _ALL, "It is known, no index, not expired"),
    Row("session", gate.session, _ALL, _ALL, "Its market is open; auctions take limit orders for the day"),
    Row(
        "square_off", gate.square_off, _ALL, _NONE, "The time at which the product's positions are closed has not come"
    ),
    Row("venue", gate.venue, _ALL, _ALL, "The venue takes orders of the segment, that type and validity"),
    Row(
        "product",
        gate.product,
        _ALL,
        _ALL,
        "The venue has the product; shares that are not held are sold for the day only",
    ),
    Row("quote", gate.quote, _ALL, _NONE, "Market orders: the price is not older than `quote_s`"),
    Row("price", order.price, _ALL, _ALL, "Market orders become limits, prices are rounded to ticks; a price is left"),
    Row("lot", order.lot, _ALL, _ALL, "Whole lots"),
    Row(
        "freeze", order.freeze, _ALL, _ALL, "Above the freeze quantity: slices, 25 at most, or refused (`TEJI_FREEZE`)"
    ),
    Row("band", order.band, _ALL, _ALL, "Inside the exchange's band; where that is not known, no slip of the keyboard"),
    Row("exits", money.exits, _NONE, _WAITING, "No more exits on their way than there is to close"),
    Row("duplicate", money.duplicate, _SIGNAL, _NONE, "The strategy does not hold it already (`TEJI_RISK_DUPLICATES`)"),
    Row("position", money.position, _ALL, _NONE, "The position takes no more than `TEJI_RISK_POSITION` of the capital"),
    Row("trade_risk", money.trade_risk, _ALL, _NONE, "It may lose no more than `TEJI_RISK_TRADE` of the capital"),
    Row("day_loss", money.day_loss, _ALL, _NONE, "The loss of the day has not reached `TEJI_RISK_DAY_LOSS`"),
    Row(
        "drawdown",
        money.drawdown,
        _ALL,
        _NONE,
        "The loss since the highest equity has not reached `TEJI_RISK_DRAWDOWN`",
    ),
    Row("trades", money.trades, _ALL, _NONE, "Fewer entries today than `TEJI_RISK_TRADES`"),
    Row("budget", money.budget, _ALL, _NONE, "The limits of order writes let it leave within `TEJI_INTENT_S`"),
    Row("funds", money.funds, _ALL, _NONE, "The margin it needs is available"),
)


def markdown() -> str:
    """The table as docs/risk.md has it."""
    lines = ["| Rule | What it wants | Entries | Exits |", "| --- | --- | --- | --- |"]
    lines += [f"| `{row.name}` | {row.says} | {_whose(row.entries)} | {_whose(row.exits)} |" for row in RULES]
    return "\n".join(lines)


def _whose(origins: frozenset[Origin]) -> str:
    if origins == _ALL:
        return "all"
    return ", ".join(sorted(origin.value for origin in origins)) or "-"
