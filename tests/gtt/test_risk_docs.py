"""docs/risk.md says what the code does."""

import re
import tomllib
from pathlib import Path

from gtt.risk.limits import Section, Strategies
from gtt.risk.protect import TABLE
from gtt.risk.rules import markdown
from tests.conftest import settings_in

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "risk.md").read_text("utf-8")


def test_the_table_of_rules_is_that_of_the_code() -> None:
    assert markdown() in TEXT


def test_the_table_of_protection_is_that_of_the_code() -> None:
    rows = [
        f"| {kind} | {'any' if row.below is None else row.below} | {row.percent} | "
        f"{'the venue' if row.documented else 'us'} |"
        for kind, bands in TABLE.items()
        for row in bands
    ]
    assert "\n".join(rows) in TEXT


def test_the_example_of_the_strategies_file_is_right_and_names_every_key(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert Strategies(settings_in(tmp_path), example).names == ("orb",)
    assert tomllib.loads(example)["strategy"]["orb"].keys() == Section.model_fields.keys()
