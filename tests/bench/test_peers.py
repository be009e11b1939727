"""Environments of other programs, with real ones that need nothing from the network."""

import sys
from pathlib import Path
from typing import Final

import pytest

from bench import peers
from bench.peers import Peer
from schemas.errors import Unavailable

HERE: Final = sys.version_info[:2]

#: pip is in every environment already, so that this one can be made without a network.
PLAIN: Final = Peer("plain", "pip", [(HERE, HERE, ("pip",))])

SCRIPT: Final = """
import json, sys
for line in sys.stdin:
    what = line.strip()
    if what == "fail":
        sys.exit(1)
    print(json.dumps([sys.prefix, sys.path[0], sys.argv[1:]] if what == "where" else len(what)), flush=True)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "_home", lambda: tmp_path / "peers")
    return tmp_path


def test_a_peer_runs_in_an_environment_of_its_own_that_is_made_once(home: Path) -> None:
    script = home / "answer.py"
    script.write_text(SCRIPT)
    with peers.running(PLAIN, script, home) as peer:
        prefix, first_path, arguments = peer.ask("where")
        assert Path(prefix) == home / "peers/plain"
        assert str(Path(__file__).resolve().parents[2]) not in first_path
        assert arguments == ["plain", str(home)]
        assert peer.ask("twelve chars") == 12
        with pytest.raises(Unavailable, match="plain has ended at 'fail'"):
            peer.ask("fail")

    made = home / "peers/plain/made"
    first = made.stat().st_mtime_ns
    peers.environment(PLAIN)
    assert made.stat().st_mtime_ns == first


def test_a_peer_that_cannot_be_installed_says_why_and_leaves_nothing_that_looks_made(home: Path) -> None:
    nowhere = Peer("nowhere", "nowhere", [(HERE, HERE, ("--no-index", "there-is-no-such-package==1"))])
    with pytest.raises(Unavailable, match=r"nowhere cannot be installed: .*there-is-no-such-package"):
        peers.environment(nowhere)
    assert not (home / "peers/nowhere/made").exists()


def test_a_python_that_nobody_has_is_asked_for_by_its_number(home: Path) -> None:
    ancient = Peer("ancient", "ancient", [((3, 0), (3, 1), ("ancient==1",))])
    with pytest.raises(Unavailable, match=r"ancient needs a Python 3\.0 to 3\.1: put one on the PATH"):
        peers.environment(ancient)
    assert not (home / "peers").exists()
