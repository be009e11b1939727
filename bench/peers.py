"""Other people's programs, each in an environment of its own, made when a bench first asks for it.

Their dependencies must not become ours, some need versions of numpy that nobody else wants, and a number is only worth
something beside one that was measured in the same minute on the same machine. So a peer runs as a process of its own
interpreter, gets the same arrays in files, and measures itself when it is told to: both sides take turns.

An environment lies beside ours (`.venv/peers/NAME`), is made once, and made anew when its pins have changed. A peer
that cannot be had on this machine (no network, no wheel for this Python) is told and left out.
"""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.errors import Unavailable

_INSTALL_S: Final = 600.0
_IMPORT_S: Final = 120.0
_ANSWER_S: Final = 120.0

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Peer:
    """`pins` says for which Pythons, first and last, which packages; the first line that this machine can do counts."""

    name: str
    module: str  # that must be importable
    pins: Sequence[tuple[Version, Version, tuple[str, ...]]]


OPENGREEKS: Final = Peer(
    # Its one wheel says 3.9 and calls a function that CPython has since 3.12.
    "opengreeks", "opengreeks", [((3, 12), (3, 14), ("opengreeks==0.2.0", "numpy==2.4.6"))]
)  # fmt: skip
PY_VOLLIB: Final = Peer(
    "py_vollib", "py_vollib.black", [((3, 11), (3, 14), ("py_vollib==1.0.12", "numpy==2.4.6"))]
)  # fmt: skip
PY_VOLLIB_VECTORIZED: Final = Peer(
    "py_vollib_vectorized",  # the last versions it works with
    "py_vollib_vectorized",
    [
        (
            (3, 11),
            (3, 12),
            (
                *("py_vollib_vectorized==0.1.1", "py_vollib==1.0.1", "py_lets_be_rational==1.0.1"),
                "--no-binary=py_vollib,py_lets_be_rational",  # of that time there is nothing but their source
                *("numba==0.59.1", "numpy==1.26.4", "pandas==2.3.3", "scipy==1.13.1", "setuptools==80.9.0"),
            ),
        )
    ],
)
QUANTLIB: Final = Peer("QuantLib", "QuantLib", [((3, 11), (3, 14), ("QuantLib==1.44", "numpy==2.4.6"))])
NAUTILUS: Final = Peer(
    "nautilus_trader",
    "nautilus_trader.data.aggregation",
    [
        ((3, 12), (3, 14), ("nautilus_trader==1.231.0",)),
        ((3, 11), (3, 11), ("nautilus_trader==1.221.0",)),
    ],
)


class Running:
    """A peer's process. It answers a word on its input with a line of JSON."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self._name = name
        self._process = process

    def ask(self, what: str) -> Any:
        """Raises Unavailable where the peer failed or stays silent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(what.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(f"{self._name} has ended before it was asked for {what!r}") from None
        if not select.select([self._process.stdout], [], [], _ANSWER_S)[0]:
            raise Unavailable(f"{self._name} has not answered {what!r} in {_ANSWER_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"{self._name} has ended at {what!r}; what it wrote above says why")
        return json.loads(line)


@contextmanager
def running(peer: Peer, script: Path, folder: Path) -> Iterator[Running]:
    """The peer's process: `script NAME FOLDER`, in its own interpreter and without our modules in its path."""
    python = environment(peer)
    process = subprocess.Popen(
        [python, "-I", script, peer.name, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_one_core()
    )
    try:
        yield Running(peer.name, process)
    finally:
        process.kill()
        process.communicate()


def environment(peer: Peer) -> Path:
    """The peer's interpreter, with all it needs. Raises Unavailable where this machine cannot have it."""
    python, pins = _choose(peer)
    folder = _home() / peer.name
    made, wanted = folder / "made", json.dumps([python, pins])
    if not (made.exists() and made.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        print(f"Making an environment for {peer.name} ({pins[0]}) ...", file=sys.stderr, flush=True)
        _run(peer, [python, "-m", "venv", str(folder)], _INSTALL_S)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(peer, [*pip, "--only-binary", ":all:", *pins], _INSTALL_S)
        _run(peer, [str(folder / "bin/python"), "-I", "-W", "ignore", "-c", f"import {peer.module}"], _IMPORT_S)
        made.write_text(wanted)
    return folder / "bin/python"


def _choose(peer: Peer) -> tuple[str, tuple[str, ...]]:
    """An interpreter and what to install into its environment."""
    for first, last, pins in peer.pins:
        for minor in range(last[1], first[1] - 1, -1):
            for python in _interpreters(minor):
                if _runs(python, minor):
                    return python, pins
    first, last = peer.pins[0][0], peer.pins[0][1]
    wanted = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    raise Unavailable(f"{peer.name} needs a Python {wanted}: put one on the PATH, or install it with pyenv or uv")


def _interpreters(minor: int) -> Iterator[str]:
    """Where a Python 3.`minor` may be: our own, on the PATH, or where pyenv and uv keep theirs."""
    name = f"python3.{minor}"
    yield str(Path(sys.base_prefix) / "bin" / name)
    if found := shutil.which(name):
        yield found
    for place in (".pyenv/versions", ".local/share/uv/python"):
        yield from map(str, sorted(Path.home().glob(f"{place}/*/bin/{name}")))


def _runs(python: str, minor: int) -> bool:
    """pyenv leaves a program of that name on the PATH that only says that it is another's turn."""
    try:
        asked = [python, "-I", "-c", "import sys, venv, ensurepip; print(sys.version_info[1])"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_IMPORT_S, check=False)
    except OSError:
        return False
    return done.stdout.strip() == str(minor)


def _run(peer: Peer, command: Sequence[str], limit_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{peer.name} was not installed in {limit_s:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise Unavailable(f"{peer.name} cannot be installed: {said[-1].strip() if said else done.returncode}")


def _home() -> Path:
    """Beside our own environment, where we may write there; else with the data."""
    beside = Path(sys.prefix)
    if sys.prefix != sys.base_prefix and os.access(beside, os.W_OK):
        return beside / "peers"
    return Path(os.environ.get("TEJI_HOME", ".teji")) / "peers"


def _one_core() -> Mapping[str, str]:
    """What is measured is a core; libraries that would take more of them are asked not to."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "1")}
