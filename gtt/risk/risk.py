"""The check before every order: a proposal, and where market and account stand, in; an order or a refusal out.

The rules and their order are the table in `gtt/risk/rules.py`. Pure.
"""

from gtt.risk.limits import Limits
from gtt.risk.rules import RULES
from gtt.risk.rules_case import Case
from gtt.risk.rules_money import drawdown_reached, exposure, loss_reached
from gtt.risk.types import (
    Approved,
    Check,
    Market,
    Origin,
    Proposal,
    Refused,
    Standing,
    Tally,
    Units,
    Verdict,
)

__all__ = [
    "Approved",
    "Check",
    "Market",
    "Origin",
    "Proposal",
    "Refused",
    "Standing",
    "Tally",
    "Units",
    "Verdict",
    "breach",
    "check",
]


def check(proposal: Proposal, market: Market, standing: Standing, limits: Limits) -> Approved | Refused:
    """Every rule that is for this order, in order; the first that refuses ends it.

    An order that says it reduces a position which it would not only reduce is judged as an entry.
    """
    case = Case.of(proposal, market, standing, limits)
    checks = [_nature(case)] if proposal.reduces else []
    for row in RULES:
        if not row.is_for(case):
            checks.append(Check(row.name, Verdict.EXEMPT))
            continue
        outcome = row.test(case)
        checks.append(Check(row.name, outcome.verdict, outcome.values))
        if outcome.verdict is Verdict.REFUSED:
            return Refused(proposal=proposal, rule=row.name, reason=outcome.reason, checks=tuple(checks))
    terms = case.terms
    return Approved(
        proposal=proposal,
        slices=case.slices,
        order_type=terms.order_type,
        price=terms.price,
        trigger_price=terms.trigger_price,
        product=proposal.product,
        validity=proposal.validity,
        protected=terms.protected,
        reduces=case.reduces,
        exposure=exposure(case),
        estimated=case.counted is None or case.counted.estimated,
        checks=tuple(checks),
    )


def _nature(case: Case) -> Check:
    verdict = Verdict.PASSED if case.reduces else Verdict.CHANGED
    return Check("reduces", verdict, {"held": str(case.standing.units.net), "quantity": str(case.proposal.quantity)})


def breach(standing: Standing, limits: Limits) -> str | None:
    """Why the account has to be halted now; None: it has not."""
    return loss_reached(standing.tally, limits.account, standing.capital) or drawdown_reached(
        standing.tally, limits.account
    )
