"""What docs/greeks.md says in numbers is so."""

import re
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from market import black76, forward
from market.black76 import Flag
from tests.market import oracle
from tests.market.oracle import Case

GUIDE: Final = (Path(__file__).resolve().parents[2] / "docs/greeks.md").read_text(encoding="utf-8")
NAMES: Final = ("price", "iv", "delta", "gamma", "theta", "vega", "rho")


def rows() -> list[list[str]]:
    told = re.findall(r"^\| ((?:call|put) \|.*) \|$", GUIDE, re.MULTILINE)
    return [one.split(" | ") for one in told]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[2]} of {row[1]}")
def test_check_values(row: list[str]) -> None:
    kind, *numbers = row
    ahead, strike, days, rate, price, *_ = map(float, numbers)
    told = dict(zip(NAMES, map(float, numbers[4:]), strict=True))
    option = black76.solve(price, ahead, strike, days / 365, kind == "call", rate)
    exact = oracle.greeks(Case(ahead, strike, days / 365, float(option["iv"]), rate, kind == "call"))
    assert option["flag"] == Flag.OK
    for name, value in told.items():
        assert option[name] == pytest.approx(value, rel=1e-9), name
        assert exact.get(name, value) == pytest.approx(value, rel=1e-9), name


def test_there_are_check_values() -> None:
    assert len(rows()) >= 7


def test_every_flag_is_told_in_the_order_in_which_they_are_tested() -> None:
    told = re.findall(r"^\| `([a-z_]+)` \| ", GUIDE.partition("## Flags")[2].partition("**Determined")[0], re.MULTILINE)
    assert sorted(told) == sorted(one.name.lower() for one in Flag if one != Flag.OK)
    nan = np.nan
    #: price, forward, strike, years: each row has the fault of its flag and of all later ones that it can have
    faults = {
        "no_terms": (nan, nan, nan, 0.0),
        "expired": (nan, nan, 100.0, 0.0),
        "no_forward": (nan, nan, 100.0, 1.0),
        "no_price": (nan, 100.0, 100.0, 1.0),
    }
    flags = [Flag(int(black76.solve(*fault, True, 0.0)["flag"])).name.lower() for fault in faults.values()]
    assert flags == list(faults) == told[:4]


def test_the_limits_are_those_of_the_code() -> None:
    assert f"is over **{black76.DETERMINED:.0e}**".replace("e-09", "e-9") in GUIDE
    assert black76.FLOOR_MS == 60_000
    assert "never priced closer to its end than one minute" in GUIDE
    assert (forward.STRIKES_MAX, forward.OUTLIER, forward.RESIDUAL_MAX) == (7, 4.0, 0.01)
    assert "The seven strikes" in GUIDE
    assert "within four median distances" in GUIDE
    assert "more than 1 % of the forward" in GUIDE


def test_the_rate_hardly_matters_on_a_week() -> None:
    prices = black76.value(0.12, 24_000.0, 24_000.0, 7 / 365, True, [0.0525, 0.0])
    assert abs(prices[0] / prices[1] - 1) == pytest.approx(0.001, rel=0.02)
    iv, _ = black76.implied(prices[0], 24_000.0, 24_000.0, 7 / 365, True, [0.0525, 0.0])
    assert abs(iv[0] - iv[1]) < 0.001
