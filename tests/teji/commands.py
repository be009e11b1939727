"""Runs `teji` as a person does: a process, in a folder of its own, with no environment of ours."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a fresh login has, and where the code is."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"HOME": str(home), "TEJI_HOME": str(home / ".teji"), "PYTHONPATH": str(ROOT), **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "teji", *arguments]


def teji(home: Path, *arguments: str, given: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
    """`teji ARGUMENTS` to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=home,
        env=environment(home, **more),
        input=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def python(code: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, "-c", code, *arguments]
