"""The interpreter, the folder, the packages."""

import importlib
import os
import platform
import shutil
import sys
from typing import Final

from bus.settings import Settings
from teji.doctor.findings import Finding, fail, ok, warn

OLDEST_PYTHON: Final = (3, 11)
#: What holds machine code, and so may be built for another machine than this.
_COMPILED: Final = ("numpy", "numba", "picows", "uvloop", "hiredis", "orjson", "asyncpg", "cryptography.fernet")
_ROOM_LEAST_GB: Final = 2.0


def examine(settings: Settings) -> list[Finding]:
    return [python(sys.version_info[:3]), home(settings), packages()]


def python(version: tuple[int, ...]) -> Finding:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version >= OLDEST_PYTHON:
        return ok("python", text)
    return fail("python", text, "Install Python 3.11 or newer, then make clean and make up.")


def home(settings: Settings) -> Finding:
    folder = settings.home
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"teji")
        probe.unlink()
    except OSError as error:
        return fail("home", f"{folder}: {error.strerror}", "Set TEJI_HOME to a folder that you may write to.")
    room_gb = shutil.disk_usage(folder).free / 1e9
    if room_gb < _ROOM_LEAST_GB:
        return warn("home", f"{folder}, only {room_gb:.1f} GB left", "Make room: ticks and bars grow by the day.")
    return ok("home", f"{folder}, {room_gb:.0f} GB left")


def packages() -> Finding:
    broken = []
    for name in _COMPILED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name}: {error}")
    if broken:
        return fail("packages", "; ".join(broken), "Install again: make clean, then make up.")
    return ok("packages", "all compiled ones load")
