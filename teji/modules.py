"""How Teji starts its own programs: by the module's name, whatever the folder it is started from holds.

`python -m sim` would look for `sim` in the current folder first, and a strategy author's folder may well have one.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from schemas.errors import Misconfigured

#: The processes that `teji run` starts, in the order of a tick's way. Each is a folder with a `__main__.py`.
WORKERS: Final = ("ingest", "aggregator", "gtt", "gateway")

_RUNNER: Final = Path(__file__).with_name("runner.py")


def command(name: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs a module of ours."""
    if importlib.util.find_spec(f"{name}.__main__") is None:
        raise Misconfigured(f"This installation has no {name}: install Teji again.")
    return [sys.executable, "-P", str(_RUNNER), name, *arguments]


def become(name: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process: signals and the exit code are the module's own."""
    argv = command(name, arguments)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 - our own interpreter, an argument list
