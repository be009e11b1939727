import ast
import fcntl
import os
import sys
from pathlib import Path

import pytest

from teji import clean
from tests.teji.commands import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*clean.MADE, "bus/__pycache__", "tests/bus/__pycache__", ".teji/redis", ".teji/postgres"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in ("bus/life.py", ".env", "bus/__pycache__/life.nbc", ".teji/users.lock"):
        (tmp_path / name).touch()
    return tmp_path


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_only_what_a_person_wrote_is_left(checkout: Path) -> None:
    assert clean.clean(checkout) == ""
    assert left(checkout) == {"bus/life.py", ".env"}
    assert not (checkout / ".venv").exists()


def test_it_is_refused_while_somebody_uses_the_servers(checkout: Path) -> None:
    before = left(checkout)
    with open(checkout / ".teji/users.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        assert "stop `teji up`" in clean.clean(checkout)
    assert left(checkout) == before


@pytest.mark.parametrize("name", [".teji/redis/redis.pid", ".teji/postgres/postmaster.pid"])
def test_it_is_refused_while_a_forgotten_server_runs(checkout: Path, name: str) -> None:
    (checkout / name).write_text(f"{os.getpid()}\n/somewhere\n")
    assert clean.clean(checkout)
    assert (checkout / ".venv").exists()


def test_a_server_that_is_long_gone_does_not_matter(checkout: Path) -> None:
    (checkout / ".teji/redis/redis.pid").write_text("999999999\n")
    assert clean.clean(checkout) == ""


def test_it_needs_nothing_that_it_removes() -> None:
    tree = ast.parse((ROOT / "teji/clean.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
