"""Starting a server process that outlives us, and telling whether one listens."""

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bus import clock
from schemas.errors import Misconfigured

START_S: Final = 30.0
_POLL_S: Final = 0.005
_SOCKET_PATH_MAX: Final = 100  # the kernel allows 107 bytes
_TAIL: Final = 400


def spawn(command: Sequence[str | Path], log: Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a server. It has a session of its own: Ctrl-C is for us, and the server stops after we have committed.

    A thread waits for it, so that it leaves no zombie when somebody else stops it while this process lives on.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            **options,
        )
    threading.Thread(target=process.wait, name=f"wait for {Path(command[0]).name}", daemon=True).start()
    return process


def until(done: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None) -> bool:
    """Wait for `done`. False: not within the deadline, or the process has ended before."""
    deadline_s = clock.monotonic_s() + START_S
    while not done():
        if clock.monotonic_s() > deadline_s or (process is not None and process.returncode is not None):
            return done()
        time.sleep(_POLL_S)
    return True


def listens(path: Path) -> bool:
    """Does a process listen here? It need not answer: one that is stopped or busy is there all the same."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            connection.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # nobody has accepted for a long time
            return True
    return True


def socket_folder(folder: Path, name: str, owner: int) -> Path:
    """Beside the data; in a private temporary folder where that path is longer than a socket's may be, or has a comma,
    which clients of Postgres take for the end of it."""
    if len(os.fsencode(folder / name)) <= _SOCKET_PATH_MAX and "," not in str(folder):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"teji-{owner}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(short, owner, -1, follow_symlinks=False)
    about = short.lstat()
    if about.st_uid != owner or not stat.S_ISDIR(about.st_mode) or about.st_mode & 0o077:
        raise Misconfigured(f"{short} is not ours alone: set TEJI_HOME to a shorter path.")
    return short


def tidy(sockets: Path, folder: Path) -> None:
    """Remove what `socket_folder` has made, once nobody listens there."""
    if sockets != folder:
        shutil.rmtree(sockets, ignore_errors=True)


def end_of(log: Path) -> str:
    """What a server said last, on one line."""
    return " ".join(log.read_text(errors="replace")[-_TAIL:].split()) if log.exists() else ""
