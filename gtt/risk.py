"""The check before every order: a proposal, and where market and account stand, in; an order or a refusal out.

The rules and their order are the table in `gtt/rules.py`. Pure.
"""

from gtt.limits import Limits
from gtt.risk_types import (
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
    """Every rule that is for this order, in order; the first that refuses ends it."""
    raise NotImplementedError


def breach(standing: Standing, limits: Limits) -> str | None:
    """Why the account has to be halted now; None: it has not."""
    raise NotImplementedError
