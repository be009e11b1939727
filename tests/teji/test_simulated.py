import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Misconfigured
from sim.__main__ import _settings as as_started
from sim.settings import SimSettings
from teji import simulated

SETTINGS = st.builds(
    SimSettings,
    port=st.integers(0, 65535),
    seed=st.integers(0, 10**9),
    instruments=st.integers(30, 20_000),
    clock=st.sampled_from(["open", "real", "fast"]),
    speed=st.floats(0.5, 1000),
    start=st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
    conflation_ms=st.integers(0, 60_000),
    ping_s=st.floats(0.5, 60),
    plus_plan=st.booleans(),
    auto_approve=st.booleans(),
)


@given(SETTINGS)
def test_the_options_make_the_settings_again(settings: SimSettings) -> None:
    assert as_started(simulated.arguments(settings)) == settings


def test_a_wrong_setting_is_named_with_its_value() -> None:
    with pytest.raises(Misconfigured, match=r"instruments.*it is 3"):
        simulated.checked({"instruments": 3})
