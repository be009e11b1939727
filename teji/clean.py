"""`make clean`: back to a fresh checkout. Standard library only: it runs when the environment is broken, too.

Removes what can be made again (.venv, caches) and the demo's data in .teji; a TEJI_HOME elsewhere is not touched.
"""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import Final

MADE: Final = (".venv", ".teji", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build", "dist")


def clean(root: Path) -> str:
    """Remove everything, or say in one sentence why not."""
    home = root / ".teji"
    if _in_use(home) or _running(home / "redis" / "redis.pid") or _running(home / "postgres" / "postmaster.pid"):
        return "Servers of .teji are running: stop `teji up` and whatever else uses them first."
    for cache in [*root.glob("*/**/__pycache__"), root / "__pycache__"]:
        if ".venv" not in cache.parts:
            shutil.rmtree(cache, ignore_errors=True)
    for name in MADE:
        shutil.rmtree(root / name, ignore_errors=True)
    return ""


def _in_use(home: Path) -> bool:
    """Whether a process counts itself among the users of the servers (bus.embedded holds this lock)."""
    try:
        handle = open(home / "users.lock")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _running(pid_file: Path) -> bool:
    """Whether a server that nobody uses was left running."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text().split()[0]), 0)
        return True
    return False


if __name__ == "__main__":
    sys.exit(clean(Path(__file__).resolve().parents[1]))
