"""The Makefile and the scripts in .ci, without their network: what they decide before and after it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.teji.commands import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")

MADE_FROM = (
    "Makefile",
    ".ci",
    "requirements.txt",
    "requirements-dev.txt",
    "proto",
    "market",
    "ingest",
    "aggregator",
    "gtt",
    "teji",
)
STAMPS = ("teji-runtime", "teji-dev", "teji-kernels")


def make(folder: Path, *arguments: str, path: str = os.defpath) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(shutil.which("make")), *arguments],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the environment is made from, with an environment that looks made."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in MADE_FROM:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    (folder / ".venv/bin").mkdir(parents=True)
    for stamp in STAMPS:
        (folder / ".venv" / f".{stamp}").touch()
    return folder


def script(folder: Path, name: str, content: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{content}\n")
    (folder / name).chmod(0o755)


def older(folder: Path) -> None:
    """Everything is older than the environment, as after a first run."""
    for path in folder.rglob("*"):
        if path.name.startswith(".teji-"):
            continue
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_make_alone_lists_every_target() -> None:
    shown = make(ROOT).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make (\w+)", shown, re.MULTILINE) == phony.group(1).split()


def test_a_second_run_has_nothing_to_do(checkout: Path) -> None:
    older(checkout)
    assert make(checkout, "--question", "warm").returncode == 0


@pytest.mark.parametrize(
    ("changed", "made"),
    [
        ("requirements.txt", ["requirements.txt", "requirements-dev.txt", "teji.warm"]),
        ("requirements-dev.txt", ["requirements-dev.txt"]),
        ("aggregator/kernel.py", ["teji.warm"]),
        ("gtt/engine/watch_kernel.py", ["teji.warm"]),
        ("Makefile", []),
    ],
)
def test_a_change_repeats_only_what_depends_on_it(checkout: Path, changed: str, made: list[str]) -> None:
    older(checkout)
    os.utime(checkout / changed, (4_000_000_000, 4_000_000_000))

    steps = make(checkout, "--dry-run", "test").stdout
    assert re.findall(r"(?:\.ci/environment \S+ |-m )(requirements\S+|teji\.warm)", steps) == made


def test_an_old_python_is_answered_with_what_to_do(tmp_path: Path) -> None:
    script(tmp_path / "bin", "python3", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    answer = environment(tmp_path, path=tmp_path / "bin")
    assert answer.returncode == 1
    assert "Teji needs Python 3.11 or newer; python3 is Python 3.9.2." in answer.stderr


def test_no_python_at_all_is_answered_with_what_to_do(tmp_path: Path) -> None:
    script(tmp_path / "bin", "unrelated", "")
    answer = environment(tmp_path, path=tmp_path / "bin")
    assert answer.returncode == 1
    assert "python3 is not there" in answer.stderr


def test_a_python_without_venv_is_answered_with_what_to_do(tmp_path: Path) -> None:
    script(tmp_path / "bin", "python3", 'case "$*" in *ensurepip*) exit 1;; esac')
    answer = environment(tmp_path, path=tmp_path / "bin")
    assert answer.returncode == 1
    assert "no venv module" in answer.stderr


def environment(tmp_path: Path, path: Path) -> "subprocess.CompletedProcess[str]":
    """`.ci/environment` where only the commands in `path` exist, and the few that a shell script needs."""
    for name in ("rm", "sh"):
        (path / name).symlink_to(str(shutil.which(name)))
    return subprocess.run(
        [str(ROOT / ".ci/environment"), str(tmp_path / "venv"), str(ROOT / "requirements.txt")],
        cwd=tmp_path,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_scripts_are_valid_and_may_be_run() -> None:
    for path in (ROOT / ".ci").iterdir():
        assert os.access(path, os.X_OK), path
        shell = path.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
        assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0
