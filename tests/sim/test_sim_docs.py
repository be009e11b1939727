"""The guide names every setting and every fault."""

from pathlib import Path

import pytest

from sim.faults import FaultRequest
from sim.settings import SimSettings

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "simulator.md").read_text("utf-8")


@pytest.mark.parametrize("name", [*SimSettings.model_fields, *FaultRequest.model_fields])
def test_the_guide_names_it(name: str) -> None:
    assert f"`{name}`" in GUIDE
