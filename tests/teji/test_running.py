from dataclasses import replace
from pathlib import Path

import pytest

from bus.settings import Venue
from schemas.errors import Misconfigured
from teji import running

TOLD = running.Running(pid=1, venue="sim", mode="paper", url="http://127.0.0.1:8000", sim_url="http://127.0.0.1:8100")


def test_what_a_supervisor_tells_is_found_while_it_lives(tmp_path: Path) -> None:
    with running.claimed(tmp_path, Venue.SIM) as claim:
        claim.tell(TOLD)
        assert running.found(tmp_path) == TOLD
        claim.tell(replace(TOLD, pid=2))
        assert running.found(tmp_path) == replace(TOLD, pid=2)
    assert running.found(tmp_path) is None


def test_nothing_is_found_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert running.found(tmp_path / "new") is None


def test_what_a_killed_supervisor_left_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"pid": 1, "venue": "sim", "mode": "paper", "url": "", "sim_url": ""}')
    assert running.found(tmp_path) is None


def test_a_supervisor_that_is_still_starting_tells_nothing(tmp_path: Path) -> None:
    with running.claimed(tmp_path, Venue.SIM):
        assert running.found(tmp_path) is None


def test_a_second_supervisor_is_told_who_the_first_is(tmp_path: Path) -> None:
    with running.claimed(tmp_path, Venue.SIM) as claim:
        claim.tell(TOLD)
        with (
            pytest.raises(Misconfigured, match=r"process 1, http://127\.0\.0\.1:8000"),
            running.claimed(tmp_path, Venue.SIM),
        ):
            pass


def test_made_up_prices_never_stand_beside_real_ones(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running.claimed(home, Venue.SIM):
        pass
    with pytest.raises(Misconfigured, match="home-upstox"), running.claimed(home, Venue.UPSTOX):
        pass
    with running.claimed(home, Venue.SIM):
        pass


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="set TEJI_HOME"), running.claimed(tmp_path / "file", Venue.SIM):
        pass
