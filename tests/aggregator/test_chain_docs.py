"""docs/chain.md tells every field, and the numbers that the code has."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from aggregator import analytics, chain, chain_memory, quoted
from market.black76 import Flag
from schemas.chain import Action, Chain, ChainFuture, ChainModel, ChainOption, ChainStrike

TEXT = (Path(__file__).parents[2] / "docs" / "chain.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())
CODE = set(re.findall(r"`([a-z0-9_]+)`", TEXT))


@pytest.mark.parametrize("model", [Chain, ChainStrike, ChainOption, ChainModel, ChainFuture])
def test_every_field_is_told(model: type[BaseModel]) -> None:
    assert set(model.model_fields) - CODE == set()


def test_every_word_that_a_field_may_hold_is_told() -> None:
    assert {action.value for action in Action} - CODE == set()
    assert {flag.name.lower() for flag in Flag} - CODE == set()


def test_numbers_are_those_of_the_code() -> None:
    for told in (
        f"| {analytics.EXPECTED_MOVE_FACTOR}. Usage",
        f"less than {analytics.PRICE_MOVED * 100:g} %",
        f"OI by less than {analytics.OI_MOVED * 100:g} %",
        f"delta of {analytics.SKEW_DELTA}",
        f"{analytics.IV_DAYS_MAX} at most. Below {analytics.IV_DAYS_MIN} rank",
        f"for {chain.PATIENCE_MS // 1000} seconds",
        f"kept for {chain.KEEP_MS // 60_000} minutes ({chain.MINUTES_MAX} minutes' panels at most)",
        f"within {chain_memory.CLOSE_SLACK_MS // 60_000} minutes of that day's end",
        f"not seen for {chain_memory.FORGET_DAYS} days",
        f"{quoted.SPREAD_MAX * 100:g} % of it or {quoted.SPREAD_SMALL} rupees",
    ):
        assert told in FLOWING, told
