"""Limits by strategy: what overrides what, what is wrong and says so, what a change on disk does."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from bus.settings import Freeze, Leftover, Settings, Sizer
from gtt.risk.limits import Section, Strategies, StrategiesFile, of_settings
from schemas.errors import Misconfigured
from schemas.orders import Product, StrategyMode
from tests.conftest import settings_in

D = Decimal
WHOLE = """
[defaults]
duplicates = true
trades = 20

[strategy.orb]
mode = "live"
capital = 0.25
position = 0.10
risk_per_trade = 0.01
day_loss = 0.03
drawdown = 0.1
trades = 5
duplicates = false
stop_atr = 1.5
target_atr = 3
trail = 0
sizer = "fixed"
size = 2
volatility_target = 0.2
kelly_cap = 0.5
product = "D"
square_off = { I = 20, MTF = 5 }
freeze = "refuse"
protection = 1.5
leftover = "chase"
leftover_s = 4
intent_s = 12.5
quote_s = 3

[strategy.straddle-1]
"""


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def test_without_a_file_the_settings_hold_for_all(own: Settings) -> None:
    found = Strategies(own)
    assert found.of("") == found.of("orb") == found.people == of_settings(own)
    assert found.of("").own.position == D("0.02")
    assert found.of("").account == found.of("").own
    assert found.of("").square_off_min == {Product.INTRADAY: 10}
    assert found.of("orb").mode is StrategyMode.PAPER


def test_every_key_of_a_section_is_taken_over(own: Settings) -> None:
    found = Strategies(own, WHOLE).of("orb")
    assert (found.mode, found.share) == (StrategyMode.LIVE, D("0.25"))
    assert (found.own.position, found.own.trade_risk, found.own.day_loss) == (D("0.10"), D("0.01"), D("0.03"))
    assert (found.own.drawdown, found.own.trades, found.duplicates) == (D("0.1"), 5, False)
    assert (found.stop_atr, found.target_atr, found.trail) == (D("1.5"), D(3), D(0))
    assert (found.sizer, found.size, found.volatility_target) == (Sizer.FIXED, D(2), D("0.2"))
    assert (found.kelly_cap, found.product, found.freeze) == (D("0.5"), Product.DELIVERY, Freeze.REFUSE)
    assert found.square_off_min == {Product.INTRADAY: 20, Product.MTF: 5}
    assert (found.protection, found.leftover, found.leftover_s) == (D("1.5"), Leftover.CHASE, 4.0)
    assert (found.intent_s, found.quote_s) == (12.5, 3.0)


def test_the_example_names_every_key_there_is() -> None:
    assert all(f"\n{key} = " in WHOLE for key in Section.model_fields)


def test_the_accounts_limits_are_nobodys_to_change(own: Settings) -> None:
    assert Strategies(own, WHOLE).of("orb").account == of_settings(own).own


def test_defaults_are_for_strategies_and_not_for_people(own: Settings) -> None:
    found = Strategies(own, WHOLE)
    for name in ("straddle-1", "never heard of"):
        assert (found.of(name).duplicates, found.of(name).own.trades) == (True, 20)
        assert found.of(name).own.position == D("0.02")
    assert (found.of("").duplicates, found.of("").own.trades) == (False, 50)
    assert found.names == ("orb", "straddle-1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[strategy.orb", "is no TOML: Expected ']'"),
        ("[limits]\n", "[limits] is no section; there are [defaults] and [strategy.<name>]"),
        ("strategy = 1", "strategy is a section, [strategy.<name>]"),
        ("defaults = 1", "defaults is a section, [defaults]"),
        ("[strategy]\norb = 1", "strategy.orb is a section, [strategy.orb]"),
        ('[strategy."a b"]', "'a b' is no name of a strategy: letters, digits, _ . and -, at most 64"),
        ("[strategy.orb]\nsizze = 2", "[strategy.orb], sizze: there is no such key; there are mode, capital, position"),
        ("[defaults]\nposition = 0", "[defaults], position: Input should be greater than 0 (it is 0)"),
        ("[defaults]\nposition = 1.01", "position: Input should be less than or equal to 1 (it is 1.01)"),
        ("[defaults]\nposition = nan", "[defaults], position: "),
        ("[defaults]\nposition = true", "[defaults], position: a number is wanted (it is True)"),
        ('[defaults]\nposition = "0.1"', "[defaults], position: a number is wanted (it is '0.1')"),
        ("[defaults]\ntrades = 2.5", "[defaults], trades: a whole number is wanted (it is 2.5)"),
        ("[defaults]\ntrades = 0", "[defaults], trades: Input should be greater than or equal to 1 (it is 0)"),
        ("[defaults]\nduplicates = 1", "[defaults], duplicates: true or false is wanted (it is 1)"),
        ('[defaults]\nmode = "on"', "mode: Input should be 'off', 'paper', 'shadow' or 'live' (it is 'on')"),
        ("[defaults]\nsquare_off = { X = 5 }", "[defaults], square_off.X: Input should be 'I', 'D' or 'MTF'"),
        ("[defaults]\nsquare_off = { I = -1 }", "square_off.I: Input should be greater than or equal to 0 (it is -1)"),
        ("[defaults]\nsquare_off = 10", "[defaults], square_off: "),
        ('[defaults]\nmode = "live"', "[defaults], mode: live is a word for each strategy alone, in [strategy.<name>]"),
        ("[defaults]\ntrail = 1", "[defaults], trail: Input should be less than 1 (it is 1)"),
        ("[defaults]\nprotection = 26", "[defaults], protection: Input should be less than or equal to 25 (it is 26)"),
        ("[defaults]\nprotection = 0", "protection: -1 (the venue's table), or more than 0 is wanted (it is 0)"),
        ("[defaults]\nleftover_s = inf", "[defaults], leftover_s: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_with_file_section_and_key(own: Settings, text: str, words: str) -> None:
    with pytest.raises(Misconfigured) as failure:
        Strategies(own, text, "strategies.toml")
    assert str(failure.value).startswith("strategies.toml")
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def write(path: Path, text: str, number: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(number, number))  # a clock of the file system that is as coarse as it likes


def test_a_changed_file_is_read_when_it_has_settled(own: Settings) -> None:
    path = own.strategies_file
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, "[strategy.orb]\ntrades = 5", 1)
    file = StrategiesFile(own)
    assert file.limits.of("orb").own.trades == 5
    assert file.refresh() is None

    write(path, "[strategy.orb]\ntrades = 6", 2)
    assert file.refresh() is None  # perhaps it is still being written
    assert file.limits.of("orb").own.trades == 5
    assert file.refresh() == f"{path} was read again: orb."
    assert file.limits.of("orb").own.trades == 6
    assert file.refresh() is None


def test_a_wrong_change_leaves_the_limits_and_is_told_once(own: Settings) -> None:
    path = own.strategies_file
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, "[strategy.orb]\ntrades = 5", 1)
    file = StrategiesFile(own)
    write(path, "[strategy.orb]\ntrades = 0", 2)
    told = [file.refresh() for _ in range(4)]
    assert [each is not None for each in told] == [False, True, False, False]
    assert "The limits stay as they were." in (told[1] or "")
    assert "[strategy.orb], trades" in (told[1] or "")
    assert file.limits.of("orb").own.trades == 5

    write(path, "", 3)
    assert [file.refresh() for _ in range(2)] == [None, f"{path} was read again: it names no strategy."]
    path.unlink()
    assert [file.refresh() for _ in range(2)][
        1
    ] == f"{path} is gone: the limits of the settings hold for every strategy."


def test_a_file_that_was_named_and_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="TEJI_STRATEGIES: there is no file"):
        StrategiesFile(settings_in(tmp_path, teji_strategies=str(tmp_path / "mine.toml")))
    assert StrategiesFile(settings_in(tmp_path)).limits.names == ()


def test_a_file_that_is_no_text_is_said(own: Settings) -> None:
    own.strategies_file.parent.mkdir(parents=True, exist_ok=True)
    own.strategies_file.write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="cannot be read"):
        StrategiesFile(own)
